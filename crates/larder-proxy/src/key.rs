//! Keys: everything that can change a byte of the answer, as bytes, compared in full.
//!
//! | part | what would leak without it |
//! |---|---|
//! | protocol | a client of the extended protocol would get a RowDescription it did not ask for |
//! | id of the session's facts (see [`crate::facts`]) | another role's, database's or setting's answer |
//! | statement text without comments | another statement's answer |
//! | declared parameter types | `$1` as text and as integer mean different things |
//! | parameter formats and values, result formats (`Bind` after its names) | another parameter's answer, or binary for text |
//!
//! The epoch is not in the key: it is part of the entry, so that an entry of an old epoch makes room when looked up.

/// Longest `Bind` that takes part, in bytes: beyond it the answer is hardly asked for again.
pub(crate) const MAX_BIND: usize = 8 * 1024;

/// Which protocol the answer is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Protocol {
    Simple,
    Extended,
}

/// The part of a key that belongs to the session (by the id of its facts) and the statement.
pub(crate) fn prefix(protocol: Protocol, facts: u64, text: &str, types: &[u8]) -> Box<[u8]> {
    let kind = match protocol {
        Protocol::Simple => b's',
        Protocol::Extended => b'x',
    };
    let length = (text.len() as u64).to_be_bytes();
    [&[kind], &facts.to_be_bytes()[..], &length, text.as_bytes(), types].concat().into()
}

/// The statement of a key.
pub(crate) fn text(key: &[u8]) -> Option<&str> {
    let (length, rest) = key.get(1 + size_of::<u64>()..)?.split_first_chunk()?;
    std::str::from_utf8(rest.get(..usize::try_from(u64::from_be_bytes(*length)).ok()?)?).ok()
}

/// The key of one execution in the extended protocol: `bind` is the Bind message after its two names.
pub(crate) fn extended(key: &mut Vec<u8>, prefix: &[u8], bind: &[u8]) {
    key.clear();
    key.extend_from_slice(prefix);
    key.extend_from_slice(bind);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_statement() {
        let prefix = prefix(Protocol::Extended, 7, "select $1", &[0, 1]);
        let mut key = Vec::new();
        extended(&mut key, &prefix, b"bind");
        assert_eq!(text(&key), Some("select $1"));
        assert_eq!(text(&key[..12]), None);
    }
}
