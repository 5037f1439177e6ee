//! Judgement on SQL text, without I/O: what a statement is, whether its answer may be cached and on which relations
//! that answer depends, and what the statement may change.
//!
//! Two stages, because their inputs change at different speeds. [`Parsed::parse`] looks at the text alone and is
//! remembered for ever; [`Parsed::judge`] resolves names against one [`Catalog`] snapshot and one search path.

use std::time::Duration;

use larder_core::{Bypass, Catalog};

/// What stage one found in a text. Cheap to keep: it holds names, not the parse tree.
#[derive(Debug)]
pub struct Parsed {}

/// The outcome of stage two.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// What the client path has to do with the statement.
    pub kind: Kind,
    /// The plan for answering it from memory, or the reason why not.
    pub verdict: Result<ReadPlan, Bypass>,
    /// What may be different after the origin has executed it.
    pub effect: Effect,
}

/// What the client path has to distinguish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A single SELECT (also VALUES and TABLE), cacheable or not.
    Select,
    /// BEGIN or START TRANSACTION.
    Begin(Begin),
    /// COMMIT or END without options.
    Commit,
    /// ROLLBACK or ABORT of the whole transaction without options.
    Rollback,
    /// SAVEPOINT, ROLLBACK TO, RELEASE, COMMIT AND CHAIN, PREPARE TRANSACTION, SET TRANSACTION ...
    TransactionControl,
    /// PREPARE, EXECUTE, DEALLOCATE, DISCARD: needs or changes the session's prepared statements.
    PreparedStatements,
    /// `SET larder.mode = 'bypass' | 'serve'`; `true` means bypass. Still sent to the origin.
    SetMode(bool),
    /// `SHOW larder.last`: answered by Larder itself.
    ShowLast,
    /// No statement at all.
    Empty,
    /// Anything else, several statements included.
    Other,
}

/// A transaction start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// Plain, or with READ WRITE, READ ONLY or ISOLATION LEVEL READ COMMITTED only: may be deferred when the
    /// session's default isolation (or the one named here) is READ COMMITTED.
    pub deferrable: bool,
    /// It names ISOLATION LEVEL READ COMMITTED itself, so the session's default does not matter.
    pub names_read_committed: bool,
    /// The command tag of the origin's reply: `BEGIN` or `START TRANSACTION`.
    pub tag: &'static str,
}

/// How to answer a SELECT from memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPlan {
    /// OIDs of every relation that the answer depends on, views expanded, sorted, without duplicates.
    pub relations: Vec<u32>,
    /// `/* larder: ttl=30s */`.
    pub ttl: Option<Duration>,
}

/// What a statement may change. The default is: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Rows it may write.
    pub writes: Footprint,
    /// It may change a setting of the session (SET, functions that could call set_config, ...).
    pub settings: bool,
    /// It may change the catalog (DDL, GRANT, ...).
    pub catalog: bool,
    /// It may make temporary objects.
    pub temporary: bool,
    /// It may have waited for a lock: what the session learnt from being granted it counts as news.
    pub lock: bool,
}

/// Which rows a statement may write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Footprint {
    /// None.
    #[default]
    Nothing,
    /// Rows of these relations (with every parent and child of each), by OID.
    Relations(Vec<u32>),
    /// Anything.
    Everything,
}

impl Effect {
    /// Nothing is known: anything may be different.
    pub fn unknown() -> Self {
        Self { writes: Footprint::Everything, settings: true, catalog: true, temporary: true, lock: true }
    }
}

impl Parsed {
    /// Stage one. Never fails and never panics: a text that the grammar refuses, or a longer one than is analysed,
    /// becomes a bypass with that reason and an unknown effect.
    pub fn parse(_sql: &str) -> Self {
        Self {}
    }

    /// Stage two. `path` is the effective search path, in order, `pg_catalog` included where the session has it.
    pub fn judge(&self, _catalog: &Catalog, _path: &[String]) -> Judgement {
        Judgement { kind: Kind::Other, verdict: Err(Bypass::NotASelect), effect: Effect::unknown() }
    }

    /// The kind alone, for the time when there is no catalog.
    pub fn kind(&self) -> Kind {
        Kind::Other
    }
}

/// The text with every comment replaced by one space (a line comment by a newline): what goes into the key.
pub fn strip_comments(sql: &str) -> std::borrow::Cow<'_, str> {
    sql.into()
}

/// Whether a parameter value contains `now`, `today`, `tomorrow` or `yesterday` in any case, anywhere: as input of a
/// date or time type it would mean another instant each time.
pub fn mentions_relative_time(_value: &[u8]) -> bool {
    true
}
