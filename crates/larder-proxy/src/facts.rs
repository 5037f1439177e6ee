//! What a session is, as far as it can change a byte of an answer: part of every key.
//!
//! The facts are read back from the origin on the session's own connection (ADR 0006), as one row whose bytes are
//! their identity: two sessions with the same row are the same for the cache. A fact dropped from [`PROBE`] leaks:
//!
//! | column | whose answer would be served to whom without it |
//! |---|---|
//! | `current_schemas(true)` | the same text means another schema's table; a temporary table shadows a permanent one |
//! | `session_user`, `current_user` | rows and columns that a role may not see |
//! | `default_transaction_isolation` | a transaction that holds a snapshot is taken for READ COMMITTED |
//! | `client_encoding` | bytes in another encoding |
//! | `TimeZone`, `DateStyle`, `IntervalStyle` | times of another zone or format |
//! | `extra_float_digits`, `bytea_output`, `xmlbinary`, `xmloption`, `lc_*` | another text form of the same value |
//! | `standard_conforming_strings`, `backslash_quote`, `transform_null_equals`, `array_nulls` | another meaning of the same text |
//! | `default_text_search_config`, `gin_fuzzy_search_limit` | another search |
//! | `row_security`, `app.*` (later) | rows that a policy hides |
//! | `default_transaction_*`, `quote_all_identifiers`, `timezone_abbreviations` | rarely anything; they cost nothing |

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use larder_wire::backend::data_row;
use parking_lot::Mutex;

/// Reads the facts: one row of text columns. `current_setting(name, true)` is NULL where a version lacks a setting.
pub(crate) const PROBE: &str = "/* larder: session facts */ SELECT pg_catalog.current_schemas(true)::pg_catalog.text, \
     pg_catalog.current_setting('default_transaction_isolation'), pg_catalog.current_setting('client_encoding'), \
     session_user, current_user, pg_catalog.current_setting('role'), \
     array(select pg_catalog.current_setting(name, true) from (values \
     ('TimeZone'),('DateStyle'),('IntervalStyle'),('extra_float_digits'),('bytea_output'),('xmlbinary'),('xmloption'),\
     ('lc_messages'),('lc_monetary'),('lc_numeric'),('lc_time'),('standard_conforming_strings'),('backslash_quote'),\
     ('escape_string_warning'),('transform_null_equals'),('array_nulls'),('default_text_search_config'),\
     ('gin_fuzzy_search_limit'),('row_security'),('search_path'),('default_transaction_read_only'),\
     ('default_transaction_deferrable'),('quote_all_identifiers'),('timezone_abbreviations'),\
     ('restrict_nonsystem_relation_kind'),('lo_compat_privileges')) as settings(name))::pg_catalog.text";

/// One set of facts.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Stands for the row in keys; never used twice in a process.
    pub(crate) id: u64,
    /// The effective search path, in order.
    pub(crate) path: Vec<String>,
    /// A plain BEGIN starts a READ COMMITTED transaction.
    pub(crate) read_committed: bool,
    /// The session has a schema for temporary objects.
    pub(crate) has_temporary: bool,
    /// Text is UTF-8, so names in it can be compared with the catalog's.
    pub(crate) utf8: bool,
}

/// Facts by their row. They outlive their sessions: an application that opens a connection for each request has no
/// two sessions at once, and its answers must not become unreachable with each of them.
static INTERNED: LazyLock<Mutex<HashMap<Vec<u8>, Arc<Facts>>>> = LazyLock::new(Mutex::default);
/// Facts kept before those without a session leave (their keys are unreachable then): about 1 KiB each.
const KEPT: usize = 4096;
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Nothing is known: no name resolves, so a judgement with these facts is the most cautious there is.
static UNKNOWN: LazyLock<Arc<Facts>> = LazyLock::new(|| {
    let (read_committed, has_temporary, utf8) = (false, false, false);
    Arc::new(Facts { id: Facts::UNKNOWN_ID, path: Vec::new(), read_committed, has_temporary, utf8 })
});

impl Facts {
    const UNKNOWN_ID: u64 = 0;

    /// The facts of a session that have not been read yet: good for telling what a statement may change (SET, SHOW,
    /// COMMIT, ... need no names), never for answering one.
    pub(crate) fn unknown() -> &'static Arc<Self> {
        &UNKNOWN
    }

    pub(crate) fn is_unknown(&self) -> bool {
        self.id == Self::UNKNOWN_ID
    }

    /// The facts that a probe's `DataRow` body carries, or `None` if it is not what was asked for.
    pub(crate) fn intern(database: &str, row: &[u8]) -> Option<Arc<Self>> {
        let identity = [database.as_bytes(), b"\0", row].concat();
        let mut interned = INTERNED.lock();
        if let Some(facts) = interned.get(&identity) {
            return Some(Arc::clone(facts));
        }
        let facts = Arc::new(Self::read(row)?);
        // Only at powers of two, so that the cost per probe is constant on average.
        if interned.len() >= KEPT && interned.len().is_power_of_two() {
            interned.retain(|_, facts| Arc::strong_count(facts) > 1);
        }
        interned.insert(identity, Arc::clone(&facts));
        Some(facts)
    }

    fn read(row: &[u8]) -> Option<Self> {
        let mut columns = data_row(row);
        let mut text = || columns.next()?.and_then(|value| std::str::from_utf8(value).ok());
        let path = text_array(text()?)?;
        let isolation = text()?;
        let encoding = text()?;
        Some(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            has_temporary: path.iter().any(|schema| schema.starts_with("pg_temp")),
            path,
            read_committed: matches!(isolation, "read committed" | "read uncommitted"),
            utf8: encoding == "UTF8",
        })
    }
}

/// The elements of a one-dimensional array of names in text form: `{pg_catalog,"My Schema"}`.
fn text_array(text: &str) -> Option<Vec<String>> {
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (element, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (element, after) = rest.split_at_checked(end)?;
                (element.to_owned(), after)
            }
            Some(quoted) => {
                let mut element = String::new();
                let mut chars = quoted.char_indices();
                let end = loop {
                    match chars.next()? {
                        (_, '\\') => element.push(chars.next()?.1),
                        (at, '"') => break at,
                        (_, other) => element.push(other),
                    }
                };
                (element, quoted.get(end + 1..)?)
            }
        };
        elements.push(element);
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body
    }

    #[test]
    fn equal_rows_are_the_same_facts_and_any_difference_is_another() {
        let one =
            Facts::intern("app", &row(&["{pg_catalog,public}", "read committed", "UTF8", "ann"])).unwrap();
        let same =
            Facts::intern("app", &row(&["{pg_catalog,public}", "read committed", "UTF8", "ann"])).unwrap();
        let role =
            Facts::intern("app", &row(&["{pg_catalog,public}", "read committed", "UTF8", "bob"])).unwrap();
        let database =
            Facts::intern("b", &row(&["{pg_catalog,public}", "read committed", "UTF8", "ann"])).unwrap();
        assert_eq!(one.id, same.id);
        assert_ne!(one.id, role.id);
        assert_ne!(one.id, database.id);
    }

    #[test]
    fn reads_path_isolation_and_temporary_schema() {
        let facts =
            Facts::intern("x", &row(&["{pg_temp_3,pg_catalog,\"My \\\"S\"}", "serializable", "LATIN1"]))
                .unwrap();
        assert_eq!(facts.path, ["pg_temp_3", "pg_catalog", "My \"S"]);
        assert!(facts.has_temporary && !facts.read_committed && !facts.utf8);
        assert!(Facts::intern("x", &row(&["oops", "a", "b"])).is_none());
    }
}
