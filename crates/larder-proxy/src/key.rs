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

use crate::facts::{self, Facts};

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

/// The same key as any other process would write it: instead of the id of the facts, what it stands for. `None` if the
/// key is of other facts.
pub(crate) fn shared(local: &[u8], facts: &Facts) -> Option<Vec<u8>> {
    let (kind, rest) = local.split_first()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (common, custom) = facts.identity(u64::from_be_bytes(*id))?;
    let mut key = Vec::with_capacity(32 + common.len() + custom.len() + rest.len());
    key.push(*kind);
    key.extend_from_slice(&facts::layout().to_be_bytes());
    for part in [common, custom] {
        key.extend_from_slice(&(part.len() as u64).to_be_bytes());
        key.extend_from_slice(part);
    }
    key.extend_from_slice(rest);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn facts(user: &str, tenant: &str) -> Arc<Facts> {
        facts::tests::facts(
            "app",
            &["app.tenant"],
            ["{public}", "read committed", "UTF8", "false", user, tenant],
        )
    }

    /// A key, and the same as another process would have made it.
    fn key(facts: &Facts, id: u64, text: &str) -> Vec<u8> {
        shared(&prefix(Protocol::Simple, id, text, b"\0\0"), facts).unwrap()
    }

    #[test]
    fn a_key_tells_its_statement() {
        let prefix = prefix(Protocol::Extended, 7, "select $1", &[0, 1]);
        let mut key = Vec::new();
        extended(&mut key, &prefix, b"bind");
        assert_eq!(text(&key), Some("select $1"));
        assert_eq!(text(&key[..12]), None);
    }

    #[test]
    fn what_is_shared_has_nothing_of_the_process_in_it() {
        let (ann, other) = (facts("ann", "{1}"), facts("ann", "{2}"));
        // As if the other process had met the same session as its first: other ids, same key.
        assert_ne!(ann.id, other.id);
        assert_eq!(key(&ann, ann.common.id, "select 1"), key(&other, other.common.id, "select 1"));
        let ids = [ann.id, ann.common.id].map(u64::to_be_bytes);
        let made = key(&ann, ann.id, "select 1");
        assert!(!made.windows(8).any(|bytes| ids.iter().any(|id| bytes == id)));
    }

    #[test]
    fn every_difference_is_one() {
        let (ann, bob, tenant) = (facts("ann", "{1}"), facts("bob", "{1}"), facts("ann", "{2}"));
        let base = key(&ann, ann.id, "select 1");
        assert_ne!(base, key(&bob, bob.id, "select 1"));
        assert_ne!(base, key(&tenant, tenant.id, "select 1"));
        assert_ne!(base, key(&ann, ann.common.id, "select 1"), "with and without the tenant");
        assert_ne!(base, key(&ann, ann.id, "select 2"));
        let extended = prefix(Protocol::Extended, ann.id, "select 1", b"\0\0");
        assert_ne!(base, shared(&extended, &ann).unwrap());
    }

    #[test]
    fn a_key_of_other_facts_or_of_none_is_not_shared() {
        let (ann, bob) = (facts("ann", "{1}"), facts("bob", "{1}"));
        assert_eq!(shared(&prefix(Protocol::Simple, bob.id, "select 1", b""), &ann), None);
        assert_eq!(shared(&prefix(Protocol::Simple, 0, "select 1", b""), Facts::unknown()), None);
        assert_eq!(shared(b"s123", &ann), None);
    }
}
