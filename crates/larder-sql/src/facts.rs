//! What stage one keeps of a statement: names, and where values that are converted to dates come from.
//!
//! A [`Query`] describes one SELECT, INSERT, UPDATE, DELETE or MERGE with everything nested in it, as flat sets of
//! names. Scopes are already resolved: `relations` holds no name of a common table expression.
//!
//! `sources` is an arena of value origins. It answers one question of stage two: can this expression be text that
//! PostgreSQL would read as a date at run time (and so could be 'now')? An element refers only to elements before
//! it, so stage two classifies all of them in one pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use larder_core::Bypass;

use crate::names::Name;
use crate::{Effect, Kind};

/// One statement of a text.
#[derive(Debug)]
pub(crate) struct Statement {
    /// What the client path has to know.
    pub(crate) kind: Kind,
    /// The reason given when the statement is no candidate for the cache; `None` for a SELECT.
    pub(crate) refusal: Option<Bypass>,
    /// What it may change whatever the catalog says.
    pub(crate) effect: Effect,
    /// It creates something that becomes temporary when the first schema of the path is a temporary one.
    pub(crate) creates: bool,
    /// It plans the query without running it (EXPLAIN).
    pub(crate) plans_only: bool,
    /// The query in it, which stage two judges.
    pub(crate) query: Option<Box<Query>>,
}

/// Comments addressed to Larder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    /// `/* larder: bypass */`.
    pub(crate) bypass: bool,
    /// `/* larder: ttl=30s */`.
    pub(crate) ttl: Option<Duration>,
}

/// The names in one SELECT or data-modifying statement. The sets are ordered, so that the same text is always refused
/// for the same reason.
#[derive(Debug, Default)]
pub(crate) struct Query {
    /// Relations read, in order of appearance, with repetitions ([`Source::Column`] refers to positions).
    pub(crate) relations: Vec<Name>,
    /// Relations written.
    pub(crate) targets: Vec<Name>,
    /// Functions called.
    pub(crate) calls: BTreeSet<Call>,
    /// Operators applied.
    pub(crate) operators: BTreeSet<Name>,
    /// Explicit conversions.
    pub(crate) casts: BTreeSet<Cast>,
    /// `a.b` references that could be the call `b(a)`.
    pub(crate) fields: BTreeSet<Field>,
    /// Where values come from.
    pub(crate) sources: Vec<Source>,
    /// The branch of FROM that each of `relations` stands in; `None` if nothing can be said about its rows.
    places: Vec<Option<BranchId>>,
    /// The branches, each with the one around it.
    branches: Vec<Option<BranchId>>,
    /// What is said about the rows.
    pub(crate) conditions: Vec<Condition>,
    /// What it does to the rows of its only target.
    pub(crate) change: Option<Change>,
    /// How often each parameter is used.
    pub(crate) parameters: BTreeMap<usize, usize>,
    /// The first reason found in the text alone.
    pub(crate) refusal: Option<Bypass>,
    /// It holds a construct that was not understood, so its effect is not known either.
    pub(crate) opaque: bool,
    /// It locks rows.
    pub(crate) locks: bool,
    /// Which rows it gives, or what becomes of them, depends on an order that may be PostgreSQL's own choice.
    pub(crate) varies: bool,
    /// The oldest server (as `server_version_num`) whose grammar reads the statement as ours does.
    pub(crate) min_version: u32,
}

/// A function call.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    /// Name of the function.
    pub(crate) name: Name,
    /// Number of arguments given.
    pub(crate) args: usize,
    /// The last argument, where stage two needs to know what it is: a one-argument call can be a conversion in
    /// function notation, and `AT TIME ZONE` reads the clock for some types.
    pub(crate) subject: Option<SourceId>,
    /// The setting that `current_setting()` or `set_config()` names literally, in lower case.
    pub(crate) setting: Option<Box<str>>,
}

/// An explicit conversion.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cast {
    /// Type converted to; for an array its element type.
    pub(crate) target: Name,
    /// Value converted.
    pub(crate) source: SourceId,
}

/// A qualified column reference.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Field {
    /// Its last part.
    pub(crate) name: Box<str>,
    /// Positions in `relations` of which every one must have a column of that name for the reference to be a
    /// column for certain; `None` if it cannot be proven.
    pub(crate) proof: Option<Vec<usize>>,
}

/// Position in [`Query::branches`].
pub(crate) type BranchId = usize;

/// An equality that holds in a branch: see [`crate::conditions`].
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) branch: BranchId,
    pub(crate) column: ColumnUse,
    pub(crate) equals: Operand,
}

/// A column: of the only one of these relations (positions in [`Query::relations`]) that has it.
#[derive(Debug)]
pub(crate) struct ColumnUse {
    pub(crate) name: Box<str>,
    pub(crate) relations: Vec<usize>,
}

/// What a column is equal to.
#[derive(Debug)]
pub(crate) enum Operand {
    /// Another column.
    Column(ColumnUse),
    /// One of these.
    AnyOf(Vec<Constant>),
}

/// What a statement does to rows.
#[derive(Debug)]
pub(crate) struct Change {
    /// Of which relation, by its position in [`Query::relations`].
    pub(crate) target: usize,
    pub(crate) kind: ChangeKind,
}

/// See [`Change`].
#[derive(Debug)]
pub(crate) enum ChangeKind {
    Delete,
    Update(Vec<Assigned>),
    Insert(Vec<Vec<Assigned>>),
}

/// A column's new value, if the text gives it.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) column: Box<str>,
    pub(crate) value: Option<Constant>,
}

/// A value, as the text gives it.
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    pub(crate) spelling: Spelling,
    /// What it is converted to, or its elements are.
    pub(crate) cast: Option<Name>,
}

/// See [`Constant`].
#[derive(Debug, Clone)]
pub(crate) enum Spelling {
    /// As it stands there, quotes taken off.
    Text(Box<str>),
    /// `$1`.
    Parameter(usize),
    /// Each element of the array `$1`.
    Elements(usize),
    /// Each element of an array, spelt like [`Spelling::Text`].
    Array(Box<str>),
}

/// Position in [`Query::sources`].
pub(crate) type SourceId = usize;

/// Where a value comes from.
#[derive(Debug, PartialEq)]
pub(crate) enum Source {
    /// Something whose type stays unknown.
    Opaque,
    /// A constant; strings among them do not mention relative times.
    Literal,
    /// `$1`; its value is checked when it arrives.
    Parameter,
    /// A column: of any of these relations that has it, or any of these outputs of subqueries.
    Column { name: Box<str>, relations: Vec<usize>, outputs: Vec<SourceId> },
    /// A function's result, with the arguments.
    Call { name: Name, args: Vec<SourceId> },
    /// A conversion's result; the element type for an array.
    Cast(Name),
    /// `+`, `-`, `*` or `/`.
    Arithmetic(SourceId, SourceId),
    /// One of several: CASE, COALESCE, VALUES, UNION, array elements.
    Any(Vec<SourceId>),
}

impl Query {
    /// Remembers the first reason.
    pub(crate) fn refuse(&mut self, reason: Bypass) {
        self.refusal.get_or_insert(reason);
    }

    /// A construct outside the list of understood ones.
    pub(crate) fn give_up(&mut self) {
        self.refuse(Bypass::UnsupportedSyntax);
        self.opaque = true;
    }

    /// Whether there is nothing in it that an implicit conversion could apply to.
    pub(crate) fn coerces_nothing(&self) -> bool {
        self.relations.is_empty()
            && self.calls.is_empty()
            && self.operators.is_empty()
            && self.casts.is_empty()
    }

    /// The statement reads the same only from this server version on.
    pub(crate) fn needs_version(&mut self, version: u32) {
        self.min_version = self.min_version.max(version);
    }

    /// Adds a branch of a FROM clause, within another one or not.
    pub(crate) fn add_branch(&mut self, within: Option<BranchId>) -> BranchId {
        self.branches.push(within);
        self.branches.len() - 1
    }

    /// Adds a relation that is read, and returns its position.
    pub(crate) fn add_relation(&mut self, name: Name, branch: BranchId) -> usize {
        self.relations.push(name);
        self.places.push(Some(branch));
        self.relations.len() - 1
    }

    /// Its name means something else from here on.
    pub(crate) fn hide(&mut self, relation: usize) {
        if let Some(place) = self.places.get_mut(relation) {
            *place = None;
        }
    }

    /// Where a relation stands.
    pub(crate) fn branch_of(&self, relation: usize) -> Option<BranchId> {
        self.places.get(relation).copied().flatten()
    }

    /// A branch and those around it, from the inside.
    pub(crate) fn around(&self, branch: BranchId) -> impl Iterator<Item = BranchId> + '_ {
        std::iter::successors(Some(branch), |inner| self.branches.get(*inner).copied().flatten())
    }

    /// Adds to the arena.
    pub(crate) fn add_source(&mut self, source: Source) -> SourceId {
        self.sources.push(source);
        self.sources.len() - 1
    }
}
