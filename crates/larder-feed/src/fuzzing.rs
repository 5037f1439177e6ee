//! What the fuzzers check, one function a target. Built for cargo-fuzz, and for the tests that replay what it found
//! (see `fuzz/README.md`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests only")]

use std::sync::atomic::Ordering;

use larder_cache::Tags;
use larder_core::{FeedHealth, Lsn, relation_tag};

use crate::Plugin;
use crate::decode::{Decoder, Event, Name, decode};
use crate::fold::{Fold, Folded};
use crate::framing::{Framer, KEEP};
use crate::index::{Index, table};
use crate::{stream, wire};

/// What the server sends, in pieces: the first byte says how large they are, the rest is the stream. The frames are
/// those of the stream in one piece, and what is held in memory is bounded.
pub fn stream(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(frames(bytes, usize::from(*first) + 1), whole);
    for (tag, body) in &whole {
        match tag {
            b'd' => {
                if let Ok(stream::Message::Data { text, .. }) = stream::message(&body.clone().into()) {
                    event(&text);
                }
            }
            b'D' => drop(wire::data_row(body)),
            b'E' => drop(wire::server_error(body)),
            _ => {}
        }
    }
}

/// The frames of a stream that arrives `size` bytes at a time, up to the first that is impossible.
fn frames(stream: &[u8], size: usize) -> Vec<(u8, Vec<u8>)> {
    let (mut framer, mut frames) = (Framer::default(), Vec::new());
    for piece in stream.chunks(size) {
        framer.buffer.extend_from_slice(piece);
        loop {
            match framer.next() {
                Ok(Some(frame)) => frames.push((frame.tag, frame.body.to_vec())),
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
        assert!(framer.buffer.len() <= KEEP + 5 + size);
    }
    frames
}

/// Messages of the plugin, one a line, as one connection's worth. Nothing that names a relation goes unnoticed, in none of the
/// parts of what is named, if there is a 'p' before the first line.
pub fn text(input: &[u8]) {
    let mut index = Index::default();
    let (t, spelled) = table(1, &[], "id:int* v:text");
    index.insert(Index::key(b"public", b"t"), t, spelled);
    let (t1, spelled) = table(2, &[1], "v:text id:int*");
    index.insert(Index::key(b"public", b"t1"), t1, spelled);
    let (tags, health, mut fold) = (Tags::default(), FeedHealth::default(), Fold::default());
    let (parted, input) = input.strip_prefix(b"p").map_or((false, input), |rest| (true, rest));
    let part = parted.then(|| tags.get(&relation_tag(1)).part(&["v"]).unwrap());
    let (mut named, mut open) = ([false; 2], false);
    for (line, text) in input.split(|byte| *byte == b'\n').enumerate() {
        event(text);
        let position = Lsn(1 + line as u64);
        named[0] |= text.starts_with(b"table public.t: ");
        named[1] |= text.starts_with(b"table public.t1: ");
        match fold.take(text, position, &index, &tags, &health) {
            Folded::Nothing => {
                let begins = !open && text.starts_with(b"BEGIN ");
                assert!(open || begins || text.starts_with(b"message: "), "lost, outside a transaction");
                if begins {
                    (open, named) = (true, [false; 2]);
                }
            }
            Folded::Commit(commit) => {
                let changed = |oid| tags.get(&relation_tag(oid)).last_change() == position.0;
                assert!(commit.unknown || !named[0] || changed(1));
                assert!(commit.unknown || !named[1] || (changed(1) && changed(2)));
                let of_rows = health.touched_rows.swap(0, Ordering::Relaxed) > 0;
                if let Some(part) = part.as_ref().filter(|_| !commit.unknown && named != [false; 2]) {
                    assert!(of_rows || part.all().last_change() == position.0);
                }
                (open, named) = (false, [false; 2]);
            }
            Folded::Unknown => assert!(!open),
        }
    }
}

/// Messages of `pgoutput`, each behind its length in two bytes. Nothing panics, and no row of a described relation goes unnoticed.
pub fn pgoutput(mut input: &[u8]) {
    let mut index = Index::default();
    let (t, spelled) = table(1, &[], "id:int* v:text");
    index.insert(1_u32.to_be_bytes().into(), t, spelled);
    let (tags, health) = (Tags::default(), FeedHealth::default());
    let part = tags.get(&relation_tag(1)).part(&["v"]).unwrap();
    let mut fold = Fold::new(Decoder::of(&Plugin::Pgoutput { publication: String::new() }));
    for position in 1.. {
        let Some((length, rest)) = input.split_first_chunk::<2>() else { return };
        let (message, rest) = rest.split_at(rest.len().min(u16::from_be_bytes(*length).into()));
        input = rest;
        let changes =
            [&health.inserts, &health.updates, &health.deletes].map(|count| count.load(Ordering::Relaxed));
        if let Folded::Commit(commit) = fold.take(message, Lsn(position), &index, &tags, &health) {
            let now = [&health.inserts, &health.updates, &health.deletes]
                .map(|count| count.load(Ordering::Relaxed));
            let of_rows = health.touched_rows.swap(0, Ordering::Relaxed) > 0;
            assert!(commit.unknown || changes == now || of_rows || part.all().last_change() == position);
        }
    }
}

/// What is read of one message can be spelled again, and reads the same.
fn event(text: &[u8]) {
    let relations = match decode(text) {
        Some(Event::Change { relation, .. }) => vec![relation],
        Some(Event::Truncate { relations }) => relations,
        _ => return,
    };
    for name in relations {
        let Name::Qualified { schema, relation } = &name else { panic!("{name:?}") };
        assert!(!schema.is_empty() && !relation.is_empty());
        let spelled = [b"table ", &quoted(schema)[..], b".", &quoted(relation), b": DELETE: "];
        match decode(&spelled.concat()) {
            Some(Event::Change { relation, .. }) => assert_eq!(relation, name),
            other => panic!("{name:?} became {other:?}"),
        }
    }
}

fn quoted(name: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for byte in name {
        quoted.extend_from_slice(if *byte == b'"' { b"\"\"" } else { std::slice::from_ref(byte) });
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn inputs_of_feed_stream() {
        replay("feed_stream", super::stream);
    }

    #[test]
    fn inputs_of_feed_pgoutput() {
        replay("feed_pgoutput", super::pgoutput);
    }

    #[test]
    fn inputs_of_feed_text() {
        replay("feed_text", super::text);
    }
}
