//! The columns of a row in the text of `test_decoding`. Pure.
//!
//! ```text
//!  id[integer]:1 "Odd ]"[public."a[b]"]:null v[character varying]:'it''s' big[text]:unchanged-toast-datum
//!  (no-tuple-data)
//!  old-key: id[integer]:1 new-tuple: id[integer]:2
//! ```
//!
//! Names and types are quoted as in SQL, values by their types: numbers bare, everything else in quotes, with quotes doubled. So
//! nothing that a name or a value holds can be taken for something else.

use std::borrow::Cow;

use crate::decode::identifier;
use crate::pgoutput::Sent;

const NEW: &[u8] = b" new-tuple:";

/// A value as it is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Printed<'a> {
    /// NULL. (Of old rows, NULLs are left out.)
    Null,
    /// A long value that the change has left as it was.
    Unchanged,
    /// Its text.
    Text(Cow<'a, [u8]>),
}

/// The rows of a change: as `test_decoding` prints what is behind the kind, or as `pgoutput` sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// Text.
    Printed(&'a [u8]),
    /// The old row (or its key) and the new one.
    Sent { old: Option<Sent<'a>>, new: Option<Sent<'a>> },
}

/// Columns that are not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tuple<'a> {
    /// See [`Change::Printed`].
    Printed(&'a [u8]),
    /// And what is behind it, if it is an old row.
    Sent(Sent<'a>, Option<Sent<'a>>),
}

impl<'a> Change<'a> {
    /// The old row (or its key) and, behind it, the new one, if there is an old one: see [`Tuple::behind_old`]. Else the only
    /// one; `None` if there is none.
    pub(crate) fn first(self) -> Option<(bool, Tuple<'a>)> {
        match self {
            // A value that ends so has a quote behind it.
            Self::Printed(text) if text.ends_with(b" (no-tuple-data)") => None,
            Self::Printed(text) => Some(match text.strip_prefix(b" old-key:") {
                Some(old) => (true, Tuple::Printed(old)),
                None => (false, Tuple::Printed(text)),
            }),
            Self::Sent { old: Some(old), new } => Some((true, Tuple::Sent(old, new))),
            Self::Sent { old: None, new } => new.map(|new| (false, Tuple::Sent(new, None))),
        }
    }
}

impl<'a> Tuple<'a> {
    /// The new row, once all of the old one has been read.
    pub(crate) fn behind_old(self) -> Option<Self> {
        match self {
            Self::Printed(text) => text.strip_prefix(NEW).map(Self::Printed),
            Self::Sent(_, new) => new.map(|new| Self::Sent(new, None)),
        }
    }

    /// Whether what is missing of an old row is NULL, if all of it was logged.
    pub(crate) fn leaves_out_nulls(&self) -> bool {
        matches!(self, Self::Printed(_))
    }

    /// The next column and its value; `None` at the end, `Some(None)` if it is not understood, and then nothing more is.
    pub(crate) fn next(&mut self) -> Option<Option<(Cow<'a, [u8]>, Printed<'a>)>> {
        let text = match self {
            Self::Printed(text) => text,
            Self::Sent(sent, _) => return sent.next(),
        };
        if text.is_empty() || text.starts_with(NEW) {
            return None;
        }
        let column = column(text);
        if column.is_none() {
            *text = &[];
        }
        Some(column)
    }
}

/// The first column; what is left is what is behind it.
fn column<'a>(text: &mut &'a [u8]) -> Option<(Cow<'a, [u8]>, Printed<'a>)> {
    let (name, rest) = identifier(text.strip_prefix(b" ")?)?;
    let rest = after_type(rest.strip_prefix(b"[")?)?.strip_prefix(b":")?;
    // B'0101' is a string of bits.
    let (value, rest) = match rest.strip_prefix(b"B'").or_else(|| rest.strip_prefix(b"'")) {
        Some(quoted) => {
            let (text, rest) = literal(quoted)?;
            (Printed::Text(text), rest)
        }
        None => {
            let end = memchr::memchr(b' ', rest).unwrap_or(rest.len());
            let (bare, rest) = rest.split_at_checked(end)?;
            let value = match bare {
                b"" => return None,
                b"null" => Printed::Null,
                b"unchanged-toast-datum" => Printed::Unchanged,
                _ => Printed::Text(Cow::Borrowed(bare)),
            };
            (value, rest)
        }
    };
    *text = rest;
    Some((name, value))
}

/// What follows the name of a type and its closing bracket. Arrays have brackets of their own.
fn after_type(mut text: &[u8]) -> Option<&[u8]> {
    let mut open = 1_u32;
    loop {
        let at = memchr::memchr3(b'[', b']', b'"', text)?;
        let (found, rest) = text.get(at..)?.split_first()?;
        text = match found {
            b'"' => rest.get(memchr::memchr(b'"', rest)? + 1..)?,
            b'[' => {
                open += 1;
                rest
            }
            _ => {
                open -= 1;
                if open == 0 {
                    return Some(rest);
                }
                rest
            }
        };
    }
}

/// A literal behind its first quote, and what follows it.
fn literal(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let mut unescaped = Vec::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_at_checked(memchr::memchr(b'\'', rest)?)?;
        let after = after.strip_prefix(b"'")?;
        match after.strip_prefix(b"'") {
            Some(more) => {
                unescaped.extend_from_slice(before);
                unescaped.push(b'\'');
                rest = more;
            }
            None if unescaped.is_empty() => return Some((Cow::Borrowed(before), after)),
            None => {
                unescaped.extend_from_slice(before);
                return Some((Cow::Owned(unescaped), after));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Column = (Vec<u8>, Printed<'static>);

    /// All columns, if all are understood.
    fn columns(tuple: &mut Tuple<'_>) -> Option<Vec<Column>> {
        let mut found = Vec::new();
        while let Some(column) = tuple.next() {
            let (name, value) = column?;
            let value = match value {
                Printed::Text(text) => Printed::Text(Cow::Owned(text.into_owned())),
                Printed::Null => Printed::Null,
                Printed::Unchanged => Printed::Unchanged,
            };
            found.push((name.into_owned(), value));
        }
        Some(found)
    }

    fn text(text: &str) -> Printed<'static> {
        Printed::Text(Cow::Owned(text.as_bytes().to_vec()))
    }

    fn rows(change: &str) -> Option<(Option<Vec<Column>>, Vec<Column>)> {
        let (has_old, mut tuple) = Change::Printed(change.as_bytes()).first()?;
        let mut old = None;
        if has_old {
            old = Some(columns(&mut tuple)?);
            tuple = tuple.behind_old()?;
        }
        Some((old, columns(&mut tuple)?))
    }

    #[test]
    fn rows_as_postgresql_spells_them() {
        let line = r#" id[integer]:-1 "Odd ]"[public."a[]""b"]:null v[character varying]:'it''s ''' a[integer[]]:'{1,2}' big[text]:unchanged-toast-datum b[bit varying]:B'01' t[boolean]:true n[text]:'null'"#;
        let expected = [
            ("id", text("-1")),
            ("Odd ]", Printed::Null),
            ("v", text("it's '")),
            ("a", text("{1,2}")),
            ("big", Printed::Unchanged),
            ("b", text("01")),
            ("t", text("true")),
            ("n", text("null")),
        ];
        let expected = expected.map(|(name, value)| (name.as_bytes().to_vec(), value)).to_vec();
        assert_eq!(rows(line), Some((None, expected.clone())));
        let change = format!(" old-key: id[integer]:2 new-tuple:{line}");
        assert_eq!(rows(&change), Some((Some(vec![(b"id".to_vec(), text("2"))]), expected)));
        assert_eq!(rows(""), Some((None, vec![])), "a table without columns");
    }

    #[test]
    fn what_is_not_printed_or_not_understood_is_nothing() {
        for line in [
            " (no-tuple-data)",
            " old-key: id[integer]:2 new-tuple: (no-tuple-data)",
            " old-key: id[integer]:2",
            " old-key: id[integer]:'2 new-tuple: id[integer]:2",
            "id[integer]:1",
            " id[integer:1",
            " id[integer] 1",
            " id[integer]:",
            " id[integer]: x[text]:'a'",
            " v[text]:'a",
            " v[text]:'a'b",
            r#" "v[text]:'a'"#,
            r#" v["text]:'a'"#,
        ] {
            assert_eq!(rows(line), None, "{line}");
        }
    }

    fn quoted(name: &str, mark: char) -> String {
        format!("{mark}{}{mark}", name.replace(mark, &format!("{mark}{mark}")))
    }

    /// What `tuple_to_stringinfo()` prints.
    fn printed(columns: &[(String, String, Option<String>)]) -> (String, Vec<Column>) {
        let (mut line, mut expected) = (String::new(), Vec::new());
        for (name, kind, value) in columns {
            let value_text = value.as_ref().map_or("null".to_owned(), |value| quoted(value, '\''));
            line += &format!(" {}[{}]:{value_text}", quoted(name, '"'), quoted(kind, '"'));
            expected.push((name.clone().into_bytes(), value.as_deref().map_or(Printed::Null, text)));
        }
        (line, expected)
    }

    fn any_columns() -> impl Strategy<Value = Vec<(String, String, Option<String>)>> {
        let name = r#"[a-z"'\[\]: ]{1,8}"#;
        proptest::collection::vec((name, name, proptest::option::of(r#"[a-z'"\[\]:\\ é-]{0,12}"#)), 0..5)
    }

    proptest! {
        #[test]
        fn any_row_survives(old in any_columns(), new in any_columns()) {
            let ((old_line, old), (line, new)) = (printed(&old), printed(&new));
            prop_assert_eq!(rows(&line), Some((None, new.clone())));
            let change = format!(" old-key:{old_line} new-tuple:{line}");
            prop_assert_eq!(rows(&change), Some((Some(old), new)));
        }

        #[test]
        fn nothing_panics(near in r#"( old-key:| new-tuple:)?[ a-b\[\]:'"]{0,30}( new-tuple:)?[ a\[\]:'"]{0,9}"#) {
            let _ = rows(&near);
        }
    }
}
