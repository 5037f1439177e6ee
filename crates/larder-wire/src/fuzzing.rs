//! What the fuzzers check, one function a target. Built for cargo-fuzz, and for the tests that replay what it found
//! (see `fuzz/README.md`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests only")]

use crate::startup::{MAX_OPENING, Opening, opening, opening_size};
use crate::{HEADER, Peek, backend, frontend, peek};

/// A stream of messages. Each is read as if the client, and as if the origin had sent it, whatever its type.
pub fn messages(stream: &[u8]) {
    let mut rest = stream;
    while let Peek::Frame { total, .. } = peek(rest) {
        for cut in 0..HEADER {
            assert_eq!(peek(&rest[..cut]), Peek::Short, "half a header says nothing");
        }
        assert_eq!(peek(&rest[..HEADER]), peek(rest), "the body changes nothing");
        let Some((frame, after)) = rest.split_at_checked(total) else { break };
        from_client(&frame[HEADER..]);
        from_origin(frame);
        rest = after;
    }
}

/// What is read can be put together again, and comes to the same bytes: nothing is dropped, nothing made up.
fn from_client(body: &[u8]) {
    if let Some(sql) = frontend::query(body) {
        assert_eq!([sql, b"\0"].concat(), body);
    }
    if let Some(parse) = frontend::parse(body) {
        assert_eq!([parse.name, b"\0", parse.sql, b"\0", parse.types].concat(), body);
        assert_eq!(frontend::type_oids(parse.types).count(), count(parse.types));
        assert_eq!(frontend::leading_names(body), Some((parse.name, parse.sql)));
    }
    if let Some(bind) = frontend::bind(body) {
        assert_eq!([bind.portal, b"\0", bind.statement, b"\0", bind.rest].concat(), body);
        let before_formats = bind.rest.strip_suffix(bind.result_formats).unwrap();
        let parameter_formats = before_formats.strip_suffix(bind.parameters).unwrap();
        assert_eq!(parameter_formats.len(), 2 + 2 * count(parameter_formats));
        assert_eq!(bind.result_formats.len(), 2 + 2 * count(bind.result_formats));
        assert_eq!(frontend::parameter_values(bind.parameters).count(), count(bind.parameters));
        assert_eq!(frontend::leading_names(body), Some((bind.portal, bind.statement)));
    }
    if let Some(target) = frontend::target(body) {
        assert_eq!([&[target.kind], target.name, b"\0"].concat(), body);
    }
    if let Some(execute) = frontend::execute(body) {
        assert_eq!([execute.portal, b"\0", &execute.max_rows.to_be_bytes()].concat(), body);
    }
    let _ = frontend::leading_names(body);
}

fn from_origin(frame: &[u8]) {
    let body = &frame[HEADER..];
    let _ = backend::ready_status(body);
    if let Some((name, value)) = backend::parameter_status(body) {
        assert!(body.starts_with(&[name, b"\0", value, b"\0"].concat()));
    }
    for code in *b"SVCMDHP" {
        if let Some(value) = backend::error_field(body, code) {
            let field = [&[code], value, b"\0"].concat();
            assert!(body.windows(field.len()).any(|part| part == field));
        }
    }
    let values: usize = backend::data_row(body).map(|value| 4 + value.map_or(0, <[u8]>::len)).sum();
    assert!(values <= body.len().saturating_sub(2));

    let (text, binary) = (b"\0\0", b"\0\x01\0\x01");
    if let Some(neutral) = backend::with_formats(frame, text) {
        assert_eq!(neutral.len(), frame.len());
        let there = backend::with_formats(&neutral, binary).unwrap();
        assert_eq!(backend::with_formats(&there, text), Some(neutral));
    } else {
        assert_eq!(backend::with_formats(frame, binary), None);
    }
    // Half of the frame as the formats: any count, any codes.
    let _ = backend::with_formats(frame, &frame[frame.len() / 2..]);
}

/// The first bytes of a connection.
pub fn startup(bytes: &[u8]) {
    let size = match opening_size(bytes) {
        None => return assert!(bytes.len() < 4),
        Some(Err(())) => return,
        Some(Ok(size)) => size,
    };
    assert!((8..=MAX_OPENING).contains(&size));
    let Some(message) = bytes.get(..size) else { return };
    let Opening::Startup(startup) = opening(message) else { return };
    let mut parameters = Vec::new();
    for (name, value) in &startup.parameters {
        assert!(!name.is_empty());
        parameters.extend_from_slice(&[*name, b"\0", *value, b"\0"].concat());
    }
    assert!(message[8..].starts_with(&parameters));
    if let Some(database) = startup.database() {
        assert!(startup.get("database") == Some(database) || startup.get("user") == Some(database));
    }
    let _ = startup.is_replication();
}

/// The 16-bit count that stands first.
fn count(list: &[u8]) -> usize {
    usize::from(u16::from_be_bytes(*list.first_chunk().unwrap()))
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn inputs_of_wire_messages() {
        replay("wire_messages", super::messages);
    }

    #[test]
    fn inputs_of_wire_startup() {
        replay("wire_startup", super::startup);
    }
}
