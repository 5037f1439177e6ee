//! The text of `test_decoding`, one event a message. Pure: bytes in, an event out.
//!
//! ```text
//! BEGIN 739
//! table public.t: INSERT: id[integer]:1 v[text]:'x'
//! table public.t, public."a.b: INSERT:": TRUNCATE: (no-flags)
//! message: transactional: 1 prefix: larder, sz: 12 content:CREATE TABLE
//! COMMIT 739
//! ```
//!
//! Reading stops at the kind: most relations need no more. What is behind it, [`crate::tuple`] reads. The text is in the
//! database's encoding, which need not be UTF-8, so names are bytes here.

use std::borrow::Cow;

use crate::Plugin;
use crate::pgoutput::Relations;
use crate::tuple::Change;

/// The prefix of Larder's own logical messages.
pub(crate) const MESSAGE_PREFIX: &[u8] = b"larder";

/// One message of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A transaction's changes follow.
    Begin {
        /// Its 32-bit transaction id.
        xid: u32,
    },
    /// The transaction's changes are complete.
    Commit {
        /// Its 32-bit transaction id.
        xid: u32,
    },
    /// A row of one relation changed.
    Change {
        /// Which relation.
        relation: Name<'a>,
        /// How.
        kind: Kind,
        /// What is behind that: see [`crate::tuple`].
        row: Change<'a>,
    },
    /// Relations were emptied.
    Truncate {
        /// Which relations.
        relations: Vec<Name<'a>>,
    },
    /// Larder's own event trigger says that the current transaction contains DDL.
    DdlAnnounced,
    /// Somebody else's logical message, or one outside any transaction.
    OtherMessage,
    /// Something that helps to understand what follows.
    Nothing,
}

/// How a row changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// INSERT, also COPY.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

/// What a relation is called.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name<'a> {
    /// By its qualified name, quotes taken off, in the database's encoding.
    Qualified {
        /// Schema.
        schema: Cow<'a, [u8]>,
        /// Relation.
        relation: Cow<'a, [u8]>,
    },
    /// By its OID.
    Oid(u32),
}

/// Reads what a plugin says.
#[derive(Debug, Default)]
pub(crate) enum Decoder {
    /// See the module.
    #[default]
    TestDecoding,
    /// See [`crate::pgoutput`].
    Pgoutput(Relations),
}

impl Decoder {
    /// For a new stream.
    pub(crate) fn of(plugin: &Plugin) -> Self {
        match plugin {
            Plugin::TestDecoding => Self::TestDecoding,
            Plugin::Pgoutput { .. } => Self::Pgoutput(Relations::default()),
        }
    }

    /// The event that a message stands for, or `None` if it is not understood: then anything may have happened.
    pub(crate) fn decode<'a>(&'a mut self, message: &'a [u8]) -> Option<Event<'a>> {
        match self {
            Self::TestDecoding => decode(message),
            Self::Pgoutput(relations) => relations.decode(message),
        }
    }
}

/// The event that a message spells, or `None` if it is not understood: then anything may have happened.
pub(crate) fn decode(text: &[u8]) -> Option<Event<'_>> {
    if let Some(rest) = text.strip_prefix(b"table ") {
        table(rest)
    } else if let Some(rest) = text.strip_prefix(b"BEGIN ") {
        Some(Event::Begin { xid: xid(rest)? })
    } else if let Some(rest) = text.strip_prefix(b"COMMIT ") {
        Some(Event::Commit { xid: xid(rest)? })
    } else {
        message(text.strip_prefix(b"message: transactional: ")?)
    }
}

fn table(text: &[u8]) -> Option<Event<'_>> {
    let (first, mut rest) = name(text)?;
    let mut others = Vec::new();
    while let Some(more) = rest.strip_prefix(b", ") {
        let (next, after) = name(more)?;
        others.push(next);
        rest = after;
    }
    let kind = rest.strip_prefix(b": ")?;
    if kind.starts_with(b"TRUNCATE: ") {
        others.push(first);
        return Some(Event::Truncate { relations: others });
    }
    if !others.is_empty() {
        return None;
    }
    let (kind, row) = kind.split_at_checked(b"INSERT:".len())?;
    let kind = match kind {
        b"INSERT:" => Kind::Insert,
        b"UPDATE:" => Kind::Update,
        b"DELETE:" => Kind::Delete,
        _ => return None,
    };
    // Nothing at all: a table without columns.
    (row.is_empty() || row.starts_with(b" ")).then_some(Event::Change {
        relation: first,
        kind,
        row: Change::Printed(row),
    })
}

/// `schema.relation`, and what follows it.
fn name(text: &[u8]) -> Option<(Name<'_>, &[u8])> {
    let (schema, rest) = identifier(text)?;
    let (relation, rest) = identifier(rest.strip_prefix(b".")?)?;
    Some((Name::Qualified { schema, relation }, rest))
}

/// An identifier as `quote_identifier()` spells it: bare, or in double quotes with inner quotes doubled.
pub(crate) fn identifier(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let end = text.iter().position(|byte| matches!(byte, b'.' | b':' | b',' | b' ' | b'[' | b'"'))?;
        let (bare, rest) = text.split_at_checked(end)?;
        return (!bare.is_empty()).then_some((Cow::Borrowed(bare), rest));
    };
    let mut unescaped = Vec::new();
    let mut rest = quoted;
    loop {
        let (before, after) = rest.split_at_checked(rest.iter().position(|byte| *byte == b'"')?)?;
        let after = after.strip_prefix(b"\"")?;
        match after.strip_prefix(b"\"") {
            Some(more) => {
                unescaped.extend_from_slice(before);
                unescaped.push(b'"');
                rest = more;
            }
            None if unescaped.is_empty() => {
                return (!before.is_empty()).then_some((Cow::Borrowed(before), after));
            }
            None => {
                unescaped.extend_from_slice(before);
                return Some((Cow::Owned(unescaped), after));
            }
        }
    }
}

fn message(text: &[u8]) -> Option<Event<'_>> {
    let transactional = match text.first()? {
        b'0' => false,
        b'1' => true,
        _ => return None,
    };
    let prefix = text.get(1..)?.strip_prefix(b" prefix: ")?;
    let ours = prefix.strip_prefix(MESSAGE_PREFIX).is_some_and(|rest| rest.starts_with(b", sz: "));
    Some(if transactional && ours { Event::DdlAnnounced } else { Event::OtherMessage })
}

fn xid(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain<'a>(schema: &'a str, relation: &'a str) -> Name<'a> {
        Name::Qualified {
            schema: Cow::Borrowed(schema.as_bytes()),
            relation: Cow::Borrowed(relation.as_bytes()),
        }
    }

    fn change<'a>(schema: &'a str, relation: &'a str, kind: Kind, row: &'a str) -> Option<Event<'a>> {
        Some(Event::Change { relation: plain(schema, relation), kind, row: Change::Printed(row.as_bytes()) })
    }

    #[test]
    fn events_as_postgresql_spells_them() {
        assert_eq!(decode(b"BEGIN 739"), Some(Event::Begin { xid: 739 }));
        assert_eq!(decode(b"COMMIT 4294967295"), Some(Event::Commit { xid: u32::MAX }));
        assert_eq!(
            decode(b"table public.t: INSERT: id[integer]:1 v[text]:': UPDATE: '"),
            change("public", "t", Kind::Insert, " id[integer]:1 v[text]:': UPDATE: '")
        );
        assert_eq!(
            decode(b"table public.t: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2"),
            change("public", "t", Kind::Update, " old-key: id[integer]:1 new-tuple: id[integer]:2")
        );
        assert_eq!(
            decode(b"table public.t: DELETE: (no-tuple-data)"),
            change("public", "t", Kind::Delete, " (no-tuple-data)")
        );
        assert_eq!(
            decode(b"message: transactional: 1 prefix: larder, sz: 12 content:CREATE TABLE"),
            Some(Event::DdlAnnounced)
        );
        for other in [
            &b"message: transactional: 0 prefix: larder, sz: 5 content:nontx"[..],
            b"message: transactional: 1 prefix: larder2, sz: 5 content:xxxxx",
            b"message: transactional: 1 prefix: x prefix: larder, sz: 5 content:xxxxx",
        ] {
            assert_eq!(decode(other), Some(Event::OtherMessage));
        }
    }

    #[test]
    fn quoted_names_may_hold_anything() {
        assert_eq!(
            decode(br#"table "a.b"."c: INSERT:": DELETE: id[integer]:1"#),
            change("a.b", "c: INSERT:", Kind::Delete, " id[integer]:1")
        );
        assert_eq!(
            decode(br#"table s."x""y""": INSERT: a[i]:1"#),
            change("s", "x\"y\"", Kind::Insert, " a[i]:1")
        );
        assert_eq!(
            decode(br#"table public.t, s.", """, "A"."b": TRUNCATE: restart_seqs cascade"#),
            Some(Event::Truncate {
                relations: vec![plain("s", ", \""), plain("A", "b"), plain("public", "t")]
            })
        );
    }

    #[test]
    fn what_is_not_understood_is_nothing() {
        for text in [
            "",
            "BEGIN",
            "BEGIN x",
            "BEGIN -1",
            "BEGIN 4294967296",
            "COMMIT 1 (at 2026-01-01)",
            "PREPARE TRANSACTION 'g', txid 5",
            "table public.t",
            "table public.t:",
            "table public.t: MERGE: id",
            "table t: INSERT: id",
            "table \"public.t: INSERT: id",
            "table public.\"\": INSERT: id",
            "table a.b, c.d: INSERT: id",
            "message: transactional: 2 prefix: larder, sz: 1",
            "message: ",
            "opening a streamed block for transaction",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }

    fn quote(name: &str) -> String {
        let bare = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if bare { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
    }

    proptest! {
        #[test]
        fn any_name_survives(schema in r#"[a-z"., :é]{1,12}"#, relation in r#"[a-z"., :TRUNCAE]{1,12}"#) {
            let text = format!("table {}.{}: UPDATE: id[integer]:1", quote(&schema), quote(&relation));
            prop_assert_eq!(decode(text.as_bytes()), change(&schema, &relation, Kind::Update, " id[integer]:1"));
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode(&bytes);
            let _ = decode(&[b"table ".as_slice(), bytes.as_slice()].concat());
            let _ = decode(&[b"message: transactional: ".as_slice(), bytes.as_slice()].concat());
        }

        #[test]
        fn nothing_panics_near_the_truth(text in r#"(table |BEGIN |COMMIT |message: )?[a-b".,: \x00ITU0-9]{0,40}(: INSERT: |: TRUNCATE: )?"#) {
            let _ = decode(text.as_bytes());
        }
    }
}
