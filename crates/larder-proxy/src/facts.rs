//! What a session is, as far as it can change a byte of an answer: part of every key.
//!
//! The facts are read back from the origin on the session's own connection (ADR 0006, ADR 0008), as one row whose bytes
//! are their identity: two sessions with the same row are the same for the cache. A fact dropped from the row leaks:
//!
//! | column | whose answer would be served to whom without it |
//! |---|---|
//! | `current_schemas(true)` | the same text means another schema's table; a temporary table shadows a permanent one |
//! | `session_user`, `current_user`, `role` | rows and columns that a role may not see |
//! | `default_transaction_isolation` | a transaction that holds a snapshot is taken for READ COMMITTED |
//! | `client_encoding` | bytes in another encoding |
//! | `larder.mode` | an answer from memory for a session that asked for none |
//! | `TimeZone`, `DateStyle`, `IntervalStyle` | times of another zone or format |
//! | `extra_float_digits`, `bytea_output`, `xmlbinary`, `xmloption`, `lc_*` | another text form of the same value |
//! | `standard_conforming_strings`, `backslash_quote`, `transform_null_equals`, `array_nulls` | another meaning of the same text |
//! | `default_text_search_config`, `gin_fuzzy_search_limit`, those of extensions | another search |
//! | `row_security` | rows that a policy hides |
//! | custom settings that policies, views or queries read (`app.tenant`) | another tenant's rows |
//! | `default_transaction_*`, `quote_all_identifiers`, `timezone_abbreviations` | rarely anything; they cost nothing |
//!
//! Custom settings come last and apart: an answer that depends on none of them is shared by all their values.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use larder_core::settings::{READING, WRITING};
use larder_wire::backend::data_row;
use larder_wire::encode;
use parking_lot::Mutex;

/// Name of the statement and the portal by which facts are read: neither those without a name nor the client's own
/// are touched.
const NAME: &str = "larder_facts";

/// The query up to the column of custom settings. `current_setting(name, true)` is NULL where there is no such setting.
///
/// `current_schemas()` would make the session's temporary schema if that is where the path begins, and reading must
/// change nothing: the path is then NULL, which is no set of facts.
static HEAD: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT /* by larder: session facts */ case when \
         pg_catalog.oideq(pg_catalog.pg_my_temp_schema(), 0) and pg_catalog.textregexeq(\
         pg_catalog.current_setting('search_path'), '^ *(\"?[$]user\"? *, *)?\"?pg_temp') \
         then null else pg_catalog.current_schemas(true)::pg_catalog.text end, \
         pg_catalog.current_setting('default_transaction_isolation'), \
         pg_catalog.current_setting('client_encoding'), \
         coalesce(pg_catalog.current_setting('larder.mode', true) operator(pg_catalog.=) 'bypass', false)::pg_catalog.text, \
         session_user, current_user, {}, {}, ",
        values_of(READING),
        values_of(WRITING)
    )
});

/// Asks for the facts, with the values of these custom settings: one row of text columns.
pub(crate) fn ask(out: &mut BytesMut, custom: &[String]) {
    let values = if custom.is_empty() { "'{}'".to_owned() } else { values_of(custom) };
    // An earlier one may have failed half way.
    for kind in [b'S', b'P'] {
        encode::close(out, kind, NAME.as_bytes());
    }
    encode::parse(out, NAME, &[&HEAD, values.as_str()].concat());
    encode::bind(out, NAME, NAME);
    encode::execute(out, NAME);
    for kind in [b'P', b'S'] {
        encode::close(out, kind, NAME.as_bytes());
    }
    encode::sync(out);
}

/// A number that tells which facts are asked for and in which order: programs that ask otherwise share no answers.
pub(crate) fn layout() -> u64 {
    static LAYOUT: LazyLock<u64> = LazyLock::new(|| {
        // FNV-1a: the same in every process. Nobody chooses what goes in.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        HEAD.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    });
    *LAYOUT
}

/// An expression for the values of settings whose names need no quoting.
fn values_of(names: &[impl AsRef<str>]) -> String {
    let rows: Vec<String> = names.iter().map(|name| format!("('{}')", name.as_ref())).collect();
    format!(
        "array(select pg_catalog.current_setting(name, true) from (values {}) as settings(name))::pg_catalog.text",
        rows.join(",")
    )
}

/// One set of facts.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Stands for the row in keys; never used twice in a process.
    pub(crate) id: u64,
    /// Everything but the values of custom settings.
    pub(crate) common: Arc<Common>,
    /// The custom settings whose values are among the facts, sorted.
    names: Arc<[String]>,
    /// Their names and values, as bytes.
    custom: Box<[u8]>,
}

/// What sessions have in common that differ in nothing but custom settings.
#[derive(Debug)]
pub(crate) struct Common {
    /// Stands for it in the keys of answers that depend on no custom setting; from the same numbers as [`Facts::id`].
    pub(crate) id: u64,
    /// The effective search path, in order.
    pub(crate) path: Vec<String>,
    /// A plain BEGIN starts a READ COMMITTED transaction.
    pub(crate) read_committed: bool,
    /// The session has a schema for temporary objects.
    pub(crate) has_temporary: bool,
    /// Text is UTF-8, so names in it can be compared with the catalog's.
    pub(crate) utf8: bool,
    /// `larder.mode` is 'bypass': by SET, SET LOCAL, ALTER ROLE, a startup option, ...
    pub(crate) bypass: bool,
    /// The session's user and its current one.
    pub(crate) roles: [String; 2],
    /// The values of [`READING`].
    reading: Box<[u8]>,
    /// What `id` stands for: database and row, without the custom settings.
    identity: Arc<[u8]>,
}

impl Common {
    /// Whether a statement that was analysed by a session like `other` means here what it meant there. (The search path
    /// is not among it: PostgreSQL analyses anew when that has changed.)
    pub(crate) fn reads_like(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || self.reading == other.reading
    }
}

/// Facts by their row. They outlive their sessions: an application that opens a connection for each request has no
/// two sessions at once, and its answers must not become unreachable with each of them.
#[derive(Debug, Default)]
struct Interned {
    /// By database and row, without the custom settings: about 1 KiB each.
    common: HashMap<Arc<[u8]>, Arc<Common>>,
    /// By the id of the common part, names and values: about 200 bytes each.
    facts: HashMap<Vec<u8>, Arc<Facts>>,
}

static INTERNED: LazyLock<Mutex<Interned>> = LazyLock::new(Mutex::default);
/// Common parts and facts kept before those without a session leave (their keys are unreachable then). A tenant has
/// facts of its own.
const KEPT_COMMON: usize = 4096;
const KEPT_FACTS: usize = 65_536;
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Nothing is known: no name resolves, so a judgement with these facts is the most cautious there is.
static UNKNOWN: LazyLock<Arc<Facts>> = LazyLock::new(|| {
    let id = Facts::UNKNOWN_ID;
    let (path, read_committed, has_temporary, utf8, bypass) = (Vec::new(), false, false, false, false);
    let (roles, reading, identity) = (Default::default(), Box::default(), Arc::default());
    let common =
        Arc::new(Common { id, path, read_committed, has_temporary, utf8, bypass, roles, reading, identity });
    Arc::new(Facts { id, common, names: Arc::default(), custom: Box::default() })
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

    /// Whether the values of these custom settings are among the facts.
    pub(crate) fn have(&self, settings: &[String]) -> bool {
        settings.iter().all(|name| self.names.binary_search(name).is_ok())
    }

    /// What this id, of these facts or of their common part, stands for in any process: the second is empty for the
    /// common part.
    pub(crate) fn identity(&self, id: u64) -> Option<(&[u8], &[u8])> {
        let common = &*self.common.identity;
        match id {
            Self::UNKNOWN_ID => None,
            id if id == self.id => Some((common, &self.custom)),
            id if id == self.common.id => Some((common, b"")),
            _ => None,
        }
    }

    /// The facts that the body of the `DataRow` carries that answers [`ask`], or `None` if it is not what was asked for.
    pub(crate) fn intern(database: &str, custom: &Arc<[String]>, row: &[u8]) -> Option<Arc<Self>> {
        let values = data_row(row).last().flatten()?;
        // Without the length before them, too.
        let without = row.get(..row.len().checked_sub(values.len() + 4)?)?;
        let interned = &mut *INTERNED.lock();
        let common = interned.common([database.as_bytes(), b"\0", without].concat().into(), row)?;
        let mut identity = common.id.to_be_bytes().to_vec();
        let mut named = Vec::new();
        for part in custom.iter().map(String::as_bytes).chain([values]) {
            named.extend_from_slice(part);
            named.push(0);
        }
        identity.extend_from_slice(&named);
        if let Some(facts) = interned.facts.get(&identity) {
            return Some(Arc::clone(facts));
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let facts = Arc::new(Self { id, common, names: Arc::clone(custom), custom: named.into() });
        // Only at powers of two, so that the cost per probe is constant on average.
        if interned.facts.len() >= KEPT_FACTS && interned.facts.len().is_power_of_two() {
            interned.sweep();
        }
        interned.facts.insert(identity, Arc::clone(&facts));
        Some(facts)
    }
}

impl Interned {
    fn common(&mut self, identity: Arc<[u8]>, row: &[u8]) -> Option<Arc<Common>> {
        if let Some(common) = self.common.get(&identity) {
            return Some(Arc::clone(common));
        }
        let common = Arc::new(Common { identity: Arc::clone(&identity), ..Common::read(row)? });
        if self.common.len() >= KEPT_COMMON && self.common.len().is_power_of_two() {
            self.sweep();
        }
        self.common.insert(identity, Arc::clone(&common));
        Some(common)
    }

    /// What no session has leaves.
    fn sweep(&mut self) {
        self.facts.retain(|_, facts| Arc::strong_count(facts) > 1);
        self.common.retain(|_, common| Arc::strong_count(common) > 1);
    }
}

impl Common {
    pub(crate) fn read(row: &[u8]) -> Option<Self> {
        let mut columns = data_row(row);
        let mut text = || columns.next()?.and_then(|value| std::str::from_utf8(value).ok());
        let path = text_array(text()?)?;
        let isolation = text()?;
        let encoding = text()?;
        let bypass = text()?;
        let roles = [text()?.to_owned(), text()?.to_owned()];
        let reading = text()?.as_bytes().into();
        Some(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            has_temporary: path.iter().any(|schema| schema.starts_with("pg_temp")),
            path,
            read_committed: matches!(isolation, "read committed" | "read uncommitted"),
            utf8: encoding == "UTF8",
            bypass: bypass == "true",
            roles,
            reading,
            identity: Arc::default(),
        })
    }
}

/// The elements of a one-dimensional array of names in text form: `{pg_catalog,"My Schema"}`.
pub(crate) fn text_array(text: &str) -> Option<Vec<String>> {
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
pub(crate) mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body
    }

    pub(crate) fn facts(database: &str, names: &[&str], values: [&str; 6]) -> Arc<Facts> {
        let [path, isolation, encoding, bypass, user, custom] = values;
        let values = [path, isolation, encoding, bypass, user, user, "{UTC}", "{1}", custom];
        let names: Arc<[String]> = names.iter().map(|name| (*name).to_owned()).collect();
        Facts::intern(database, &names, &row(&values)).unwrap()
    }

    #[test]
    fn equal_rows_are_the_same_facts_and_any_difference_is_another() {
        let ann = ["{pg_catalog,public}", "read committed", "UTF8", "false", "ann", "{}"];
        let bob = ["{pg_catalog,public}", "read committed", "UTF8", "false", "bob", "{}"];
        let one = facts("app", &[], ann);
        assert_eq!(one.id, facts("app", &[], ann).id);
        for other in [facts("app", &[], bob), facts("b", &[], ann)] {
            assert_ne!(one.id, other.id);
            assert_ne!(one.common.id, other.common.id);
        }
    }

    #[test]
    fn custom_settings_part_the_facts_but_not_what_is_common() {
        let with = |name, value| {
            facts("app", &[name], ["{public}", "read committed", "UTF8", "false", "ann", value])
        };
        let one = with("app.tenant", "{1}");
        let others = [with("app.tenant", "{2}"), with("app.tenant", "{NULL}"), with("app.user", "{1}")];
        for other in others {
            assert_ne!(one.id, other.id);
            assert_eq!(one.common.id, other.common.id);
        }
        assert_eq!(one.id, with("app.tenant", "{1}").id);
        assert_ne!(one.id, one.common.id);
        assert!(one.have(&["app.tenant".to_owned()]) && one.have(&[]));
        assert!(!one.have(&["app.user".to_owned()]));
    }

    #[test]
    fn reads_path_isolation_and_temporary_schema() {
        let read = facts(
            "x",
            &[],
            ["{pg_temp_3,pg_catalog,\"My \\\"S\"}", "serializable", "LATIN1", "true", "ann", "{}"],
        );
        let common = &read.common;
        assert_eq!(common.path, ["pg_temp_3", "pg_catalog", "My \"S"]);
        assert!(common.has_temporary && common.bypass && !common.read_committed && !common.utf8);
        assert!(Facts::intern("x", &Arc::default(), &row(&["oops", "a", "b", "c"])).is_none());
    }
}
