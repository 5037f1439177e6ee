//! Judgement on SQL text, without I/O: what a statement is, whether its answer may be cached and on which relations
//! that answer depends, and what the statement may change.
//!
//! Two stages, because their inputs change at different speeds. [`Parsed::parse`] looks at the text alone and is
//! remembered for ever; [`Parsed::judge`] resolves names against one [`Catalog`] snapshot and one search path.

//!
//! Reading order: `parse` (text to statements) hands queries to `collect` (the walk over the tree, with
//! `collect_from`, `expression`, `source` and `json` for its parts and `scope` for what a name can mean), which fills
//! the `facts` that stage one keeps, and everything else to `utility`. Stage two is `judge`, with `types` for
//! conversions and `functions` for the lists of built-ins. `lexer` serves `comments`, `hints` and `digest`.

mod collect;
mod collect_from;
mod comments;
mod conditions;
mod digest;
mod effect;
mod expression;
mod facts;
pub mod functions;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hints;
mod json;
mod judge;
mod lexer;
mod names;
mod parse;
mod relative;
mod rows;
mod scope;
mod source;
mod types;
mod utility;

use std::time::Duration;

use larder_core::{Bypass, Catalog};

pub use crate::comments::strip_comments;
pub use crate::digest::{Digest, Fingerprint, digest};
pub use crate::relative::mentions_relative_time;
pub use crate::rows::{Given, Parameter, RowColumn, RowSet};

use crate::facts::{Hints, Statement};
use crate::judge::Judge;
use crate::types::{TypeUse, Types};

/// What stage one found in a text. Cheap to keep: it holds names, not the parse tree.
#[derive(Debug)]
pub struct Parsed {
    statements: Vec<Statement>,
    hints: Hints,
}

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
    /// Those of them of which any row may matter. Of the others, only these:
    pub whole: Vec<u32>,
    /// the rows that matter, for each time that the statement names a relation. What lies below such a relation (partitions,
    /// children) is meant with it.
    pub rows: Vec<RowSet>,
    /// Names of the custom settings (`app.tenant`) whose values it depends on, in lower case, sorted: read by the
    /// query, by views in it, or by the policies of its relations.
    pub settings: Vec<String>,
    /// OIDs of the views that it reads those through, sorted.
    pub views: Vec<u32>,
    /// PostgreSQL may give another answer to it although nothing has changed: LIMIT takes some of the rows, `array_agg`
    /// takes them in the order in which they come, `sum` of floating-point numbers rounds by it. (Rows in another order
    /// are not another answer.)
    pub varies: bool,
    /// `/* larder: ttl=30s */`.
    pub ttl: Option<Duration>,
}

/// What a statement may change. The default is: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effect {
    /// Rows it may write.
    pub writes: Footprint,
    /// More about [`Footprint::Relations`], if it is known: the rows before and after, as groups of which the columns given here
    /// are known.
    pub rows: Option<Vec<Vec<RowColumn>>>,
    /// Settings of the session that it may change (SET, functions that could call set_config, ...).
    pub settings: Settings,
    /// It may take back what the transaction has changed of the settings: its end, ROLLBACK TO a savepoint.
    pub reverts: bool,
    /// It may change the isolation of the transaction, or begin another one.
    pub isolation: bool,
    /// It may change the catalog (DDL, GRANT, ...).
    pub catalog: bool,
    /// It may make temporary objects.
    pub temporary: bool,
    /// It may have waited for a lock: what the session learnt from being granted it counts as news.
    pub lock: bool,
}

/// Which settings a statement may change, the fewest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Settings {
    /// None that an answer could depend on.
    #[default]
    Nothing,
    /// Only settings with a name of two parts (`app.tenant`): names still mean what they meant.
    Custom,
    /// Any.
    Anything,
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

impl Parsed {
    /// Stage one. Never fails and never panics: a text that the grammar refuses, or a longer one than is analysed,
    /// becomes a bypass with that reason and an unknown effect.
    pub fn parse(sql: &str) -> Self {
        let (statements, hints) = parse::parse(sql);
        Self { statements, hints }
    }

    /// Stage two. `path` is the effective search path, in order, `pg_catalog` included where the session has it.
    pub fn judge(&self, catalog: &Catalog, path: &[String]) -> Judgement {
        let mut effect = Effect::default();
        let mut verdict = Err(Bypass::Empty);
        for statement in &self.statements {
            let (found, changes) = judge_statement(statement, catalog, path);
            effect.add(changes);
            verdict = found;
        }
        if self.statements.len() > 1 {
            verdict = Err(Bypass::MultiStatement);
        }
        if self.hints.bypass {
            verdict = Err(Bypass::Hint);
        }
        let verdict = verdict.map(|plan| ReadPlan { ttl: self.hints.ttl, ..plan });
        Judgement { kind: self.kind(), verdict, effect }
    }

    /// The kind alone, for the time when there is no catalog.
    pub fn kind(&self) -> Kind {
        match self.statements.as_slice() {
            [] => Kind::Empty,
            [statement] => statement.kind.clone(),
            _ => Kind::Other,
        }
    }
}

/// Why a parameter of this type (by OID, as Parse names it) makes a statement uncacheable; `None` if it does not.
///
/// The values themselves are checked with [`mentions_relative_time`]. Type 0 stands for "not specified".
pub fn refused_parameter_type(catalog: &Catalog, oid: u32) -> Option<Bypass> {
    match (Types { catalog, path: &[] }).numbered(oid) {
        TypeUse::Refused { reason, .. } if oid != 0 => Some(reason),
        _ => None,
    }
}

fn judge_statement(
    statement: &Statement,
    catalog: &Catalog,
    path: &[String],
) -> (Result<ReadPlan, Bypass>, Effect) {
    let mut effect = statement.effect.clone();
    if statement.creates {
        effect.temporary |= path.first().is_some_and(|schema| schema.starts_with("pg_temp"));
    }
    let Some(query) = &statement.query else {
        return (Err(statement.refusal.unwrap_or(Bypass::NotASelect)), effect);
    };
    let mut judge = Judge::new(catalog);
    judge.query(query, path);
    let varies = judge.varies();
    let mut changes = judge.effect;
    if statement.plans_only && matches!(changes.writes, Footprint::Relations(_)) {
        // Planning evaluates functions, but writes nothing itself.
        changes.writes = Footprint::Nothing;
        changes.rows = None;
    }
    effect.add(changes);
    match statement.refusal.or(judge.refusal) {
        Some(reason) => (Err(reason), effect),
        None => {
            let views = judge.expanded.difference(&judge.relations).copied().collect();
            let rows = judge.rows.into_iter().filter(|rows| !judge.whole.contains(&rows.relation)).collect();
            let relations = judge.relations.into_iter().collect();
            let whole = judge.whole.into_iter().collect();
            let settings = judge.settings.into_iter().collect();
            (Ok(ReadPlan { relations, whole, rows, settings, views, varies, ttl: None }), effect)
        }
    }
}
