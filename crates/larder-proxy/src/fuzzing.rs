//! What the fuzzers check, one function a target. Built for cargo-fuzz, and for the tests that replay what it found
//! (see `fuzz/README.md`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests only")]

use std::rc::Rc;

use larder_wire::{Peek, peek};

use crate::facts::{Common, text_array};
use crate::reply::Answer;
use crate::session::rig;

/// The row with a session's facts, and arrays as such.
pub fn facts(row: &[u8]) {
    if let Some(facts) = Common::read(row) {
        check_array(&facts.path);
        assert_eq!(facts.has_temporary, facts.path.iter().any(|schema| schema.starts_with("pg_temp")));
    }
    if let Some(elements) = std::str::from_utf8(row).ok().and_then(text_array) {
        check_array(&elements);
    }
}

/// As PostgreSQL spells them, the elements are read as they are.
fn check_array(elements: &[String]) {
    let quoted = elements.iter().map(|one| format!("\"{}\"", one.replace('\\', "\\\\").replace('"', "\\\"")));
    let text = format!("{{{}}}", quoted.collect::<Vec<_>>().join(","));
    assert_eq!(text_array(&text).as_deref(), Some(elements), "{text}");
}

/// What the shared tier holds for an answer: one whole result that a client may be given, or nothing.
pub fn answer(input: &[u8]) {
    let Some(answer) = Answer::decode(bytes::Bytes::copy_from_slice(input)) else { return };
    assert_eq!(answer.encode(), input);
    let mut rest = &answer.frames[..];
    while let Peek::Frame { tag, total } = peek(rest) {
        // Nothing that would end a request, or begin another kind of answer.
        assert!(matches!(tag, b'T' | b'D' | b'C'), "{tag}");
        rest = &rest[total..];
        assert_eq!(tag == b'C', rest.is_empty(), "the end is the end");
    }
    assert!(rest.is_empty());
}

/// Two who say anything to a session that may answer nothing itself: each hears what the other said, to the byte, in
/// whatever pieces it was said.
///
/// The input is a list of pieces: a byte with who speaks (its highest bit) and the length, then what is said.
pub fn session(input: &[u8]) {
    let (runtime, worker) = (rig::runtime(), Rc::new(rig::worker(larder_core::Level::Strict)));
    // The one statement that Larder answers without any knowledge.
    if input.to_ascii_lowercase().windows(6).any(|part| part == b"larder") {
        return;
    }
    runtime.block_on(async {
        let (mut session, mut ends) = rig::session(&worker, "app");
        let mut said = [Vec::new(), Vec::new()];
        let drive = async {
            let mut rest = input;
            while let Some((first, after)) = rest.split_first() {
                let client = first & 0x80 == 0;
                let (piece, after) = after.split_at(usize::from(first & 0x7f).min(after.len()));
                said[usize::from(client)].extend_from_slice(piece);
                ends.say(client, piece).await;
                rest = after;
            }
            ends.settle().await;
            let [by_origin, by_client] = said;
            assert!(by_client.starts_with(&ends.origin.heard), "the origin heard something else");
            let heard = &ends.client.heard;
            assert!(by_origin.starts_with(heard), "the client heard something else");
        };
        rig::serve(&mut session, drive).await;
    });
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn inputs_of_proxy_facts() {
        replay("proxy_facts", super::facts);
    }

    #[test]
    fn inputs_of_tier_answer() {
        replay("tier_answer", super::answer);
    }

    #[test]
    fn inputs_of_proxy_session() {
        let big = std::thread::Builder::new().stack_size(32 << 20);
        big.spawn(|| replay("proxy_session", super::session)).unwrap().join().unwrap();
    }
}
