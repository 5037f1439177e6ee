//! Stage two: what a query means in one catalog, for one search path.
//!
//! One pass over the names answers both questions: may the answer be cached (the first reason against it wins), and
//! what may the statement change. Everything that is not known to be harmless counts as the worst.

use std::collections::BTreeSet;
use std::sync::Arc;

use larder_core::catalog::{Catalog, FunctionGroup, Persistence, Relation, RelationKind, Volatility};
use larder_core::{Bypass, settings};

use crate::facts::{Call, Cast, Field, Query};
use crate::functions::{
    ADDS_UP, EXTENSION_HARMLESS, IMMUTABLE_REFUSED, IN_ORDER_OF_ARRIVAL, READS_DATE_MARK, STABLE_HARMFUL,
    SUBJECT_IS_TIMESTAMP, TAKES_ANY_ROW, VOLATILE_HARMLESS, VOLATILE_LOCKING, VOLATILE_SETTING,
    stable_allowed,
};
use crate::names::Name;
use crate::rows::{RowSet, Rows};
use crate::types::{TypeUse, Types, Value};
use crate::{Effect, Footprint, Kind, Settings, parse};

/// How many views and policies may stand on each other.
const MAX_VIEW_DEPTH: usize = 16;

/// Floating-point types, as the grammar names them, and their OIDs.
const FLOATS: [&str; 2] = ["float4", "float8"];
const FLOAT_OIDS: [u32; 2] = [700, 701];

/// The state of one judgement, views included.
pub(crate) struct Judge<'a> {
    catalog: &'a Catalog,
    /// Relations that the answer depends on.
    pub(crate) relations: BTreeSet<u32>,
    /// Those of them of which any row may matter, and the rows of the others.
    pub(crate) whole: BTreeSet<u32>,
    pub(crate) rows: Vec<RowSet>,
    /// Custom settings that the answer depends on.
    pub(crate) settings: BTreeSet<String>,
    /// Views, and relations with policies, that were seen: each is expanded once.
    pub(crate) expanded: BTreeSet<u32>,
    /// The first reason against caching.
    pub(crate) refusal: Option<Bypass>,
    /// See [`crate::ReadPlan::varies`].
    varies: bool,
    /// It reads floating-point numbers, and it adds something up.
    floats: bool,
    adds_up: bool,
    /// What it may change.
    pub(crate) effect: Effect,
}

/// How much of a relation a query can see.
enum Seen {
    /// Any row.
    Whole,
    /// These.
    Rows(RowSet),
    /// What was accounted for elsewhere.
    Elsewhere,
}

/// One query with the path that its names are resolved along.
struct Scope<'a> {
    query: &'a Query,
    types: Types<'a>,
    values: Vec<Value>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            relations: BTreeSet::new(),
            whole: BTreeSet::new(),
            rows: Vec::new(),
            settings: BTreeSet::new(),
            expanded: BTreeSet::new(),
            refusal: None,
            varies: false,
            floats: false,
            adds_up: false,
            effect: Effect::default(),
        }
    }

    /// See [`crate::ReadPlan::varies`].
    pub(crate) fn varies(&self) -> bool {
        self.varies || (self.floats && self.adds_up)
    }

    /// Judges a query and everything that it refers to.
    pub(crate) fn query(&mut self, query: &Query, path: &[String]) {
        self.query_within(query, path, MAX_VIEW_DEPTH, None);
    }

    /// `stand_in` is the position of a relation that stands for rows which were accounted for already.
    fn query_within(&mut self, query: &Query, path: &[String], depth: usize, stand_in: Option<usize>) {
        if let Some(reason) = query.refusal {
            self.refuse(reason);
        }
        if query.opaque || query.min_version > self.catalog.server_version {
            self.danger(Bypass::UnsupportedSyntax);
        }
        self.effect.lock |= query.locks;
        let calls = |list: &[&str]| query.calls.iter().any(|call| list.contains(&&*call.name.name));
        self.varies |= query.varies || calls(IN_ORDER_OF_ARRIVAL);
        self.adds_up |= calls(ADDS_UP);
        self.floats |= query.casts.iter().any(|cast| FLOATS.contains(&&*cast.target.name));
        let types = Types { catalog: self.catalog, path };
        let scope = Scope { query, types, values: types.values(&query.sources, &query.relations) };
        if self.catalog.has_user_casts && !query.coerces_nothing() {
            // Which values an implicit conversion applies to is not known.
            self.danger(Bypass::UserFunction);
        }
        let rows = Rows::new(query, self.catalog, path);
        for (position, relation) in query.relations.iter().enumerate() {
            self.relation(relation, path, depth, || match stand_in {
                Some(known) if known == position => Seen::Elsewhere,
                _ => rows.of(position).map_or(Seen::Whole, Seen::Rows),
            });
        }
        query.calls.iter().for_each(|call| self.call(&scope, call));
        query.operators.iter().for_each(|operator| self.operator(operator, path));
        query.casts.iter().for_each(|cast| self.cast(&scope, cast));
        query.fields.iter().for_each(|field| self.field(&scope, field));
        query.targets.iter().for_each(|target| self.target(target, path));
        let only = query.change.as_ref().filter(|_| query.targets.len() == 1);
        if let (Some(change), Footprint::Relations(_)) = (only, &self.effect.writes) {
            self.effect.rows = rows.changed(change);
        }
    }

    fn refuse(&mut self, reason: Bypass) {
        self.refusal.get_or_insert(reason);
    }

    /// A reason against caching that also means that anything may run.
    fn danger(&mut self, reason: Bypass) {
        self.refuse(reason);
        self.effect = Effect::unknown();
    }

    fn relation(&mut self, name: &Name, path: &[String], depth: usize, seen: impl FnOnce() -> Seen) {
        if name.schema().is_some_and(|schema| schema.starts_with("pg_temp")) {
            self.danger(Bypass::TemporaryTable);
            return;
        }
        let found = self.catalog.resolve(name.schema(), &name.name, path).cloned();
        match found.filter(|_| name.is_in(&self.catalog.database)) {
            Some(relation) if relation.kind == RelationKind::View => self.view(&relation, depth),
            Some(relation) => {
                match seen() {
                    Seen::Elsewhere => {}
                    Seen::Rows(rows) => self.rows.push(rows),
                    Seen::Whole => {
                        self.whole.insert(relation.oid);
                        self.whole.extend(&relation.descendants);
                    }
                }
                self.base(&relation, depth);
                for descendant in &relation.descendants {
                    match self.catalog.relations.get(descendant).cloned() {
                        Some(descendant) => self.base(&descendant, depth),
                        None => self.refuse(Bypass::UnknownRelation),
                    }
                }
            }
            // It may be a view that calls anything.
            None => self.danger(Bypass::UnknownRelation),
        }
    }

    fn base(&mut self, relation: &Arc<Relation>, depth: usize) {
        if let Some(reason) = refused_relation(relation) {
            self.refuse(reason);
        }
        if relation.row_security && self.expanded.insert(relation.oid) {
            self.policies(relation, depth);
        }
        let types = Types { catalog: self.catalog, path: &[] };
        let clock = TypeUse::Refused { reason: Bypass::Clock, runs_code: false };
        if relation.columns.iter().any(|column| types.numbered(column.type_oid) == clock) {
            // Compared with a time of day, a time with time zone reads the current date.
            self.refuse(Bypass::Clock);
        }
        self.floats |= relation.columns.iter().any(|column| FLOAT_OIDS.contains(&column.type_oid));
        self.relations.insert(relation.oid);
    }

    /// Which policies apply depends on the role, its attributes and memberships, and `row_security`: in the key, or of
    /// the epoch. So the answer depends on what any of them reads.
    fn policies(&mut self, relation: &Relation, depth: usize) {
        let before = self.refusal;
        for policy in &relation.policies {
            let (schema, name) = (quoted(&relation.schema), quoted(&relation.name));
            let text = format!("SELECT FROM {schema}.{name} WHERE {policy}");
            self.definition(&text, depth, Bypass::RowSecurity, Some(0));
        }
        if self.refusal != before {
            self.refusal = Some(Bypass::RowSecurity);
        }
    }

    fn view(&mut self, view: &Relation, depth: usize) {
        if view.is_system {
            self.refuse(Bypass::SystemCatalog);
            return;
        }
        if view.has_rules {
            self.refuse(Bypass::Rule);
        }
        if !self.expanded.insert(view.oid) {
            return;
        }
        match &view.view_query {
            Some(text) => self.definition(text, depth, Bypass::OpaqueView, None),
            None => self.danger(Bypass::OpaqueView),
        }
    }

    /// A query that the catalog holds; `opaque` is the reason if it is not understood.
    fn definition(&mut self, text: &str, depth: usize, opaque: Bypass, stand_in: Option<usize>) {
        let (statements, _) = parse::parse(text);
        let query = match statements.as_slice() {
            [statement] if statement.kind == Kind::Select => statement.query.as_deref(),
            _ => None,
        };
        match (query, depth.checked_sub(1)) {
            // It names everything but pg_catalog in full.
            (Some(query), Some(depth)) => {
                self.query_within(query, &["pg_catalog".to_owned()], depth, stand_in);
            }
            _ => self.danger(opaque),
        }
    }

    fn call(&mut self, scope: &Scope<'_>, call: &Call) {
        let Types { catalog, path } = scope.types;
        let name = &call.name;
        let mut groups = catalog.functions(name.schema(), &name.name, path).peekable();
        let value = call.subject.and_then(|subject| scope.values.get(subject).copied());
        // date(x) is the conversion if there is no such function for the type of x.
        let conversion = call.args == 1 && scope.types.find(name).is_some();
        if conversion && let Some(value) = value {
            self.conversion(scope.types.named(name), value);
        }
        if !name.is_in(&catalog.database) || (groups.peek().is_none() && !conversion) {
            self.danger(Bypass::UnknownFunction);
        }
        for group in groups {
            self.group(group, call);
        }
        let timestamp =
            !SUBJECT_IS_TIMESTAMP.contains(&&*name.name) || value.is_some_and(|value| value.timestamp);
        if !timestamp || name.name.contains(READS_DATE_MARK) {
            self.refuse(Bypass::Clock);
        }
    }

    fn group(&mut self, group: &FunctionGroup, call: &Call) {
        let name = &*call.name.name;
        match group.volatility {
            Volatility::Immutable if group.extension_c => {}
            Volatility::Stable if group.extension_c => self.refuse(Bypass::StableFunction),
            Volatility::Volatile if group.extension_c && EXTENSION_HARMLESS.contains(&name) => {
                self.refuse(Bypass::VolatileFunction);
            }
            Volatility::Volatile if group.extension_c => self.danger(Bypass::VolatileFunction),
            _ if !group.built_in => self.danger(Bypass::UserFunction),
            Volatility::Immutable if !IMMUTABLE_REFUSED.contains(&name) => {}
            Volatility::Immutable => self.refuse(Bypass::StableFunction),
            Volatility::Stable if STABLE_HARMFUL.contains(&name) => self.danger(Bypass::StableFunction),
            Volatility::Stable if stable_allowed(name, call.args) => {}
            Volatility::Stable if name == "current_setting" => self.setting(call.setting.as_deref()),
            Volatility::Stable => self.refuse(Bypass::StableFunction),
            Volatility::Volatile => self.volatile(name, call),
        }
    }

    /// `current_setting()`: handled where the text names the setting and its value is part of the key.
    fn setting(&mut self, name: Option<&str>) {
        match name {
            Some(name) if settings::is_keyed(name) => {}
            Some(name) if self.catalog.settings.iter().any(|known| known == name) => {
                self.settings.insert(name.to_owned());
            }
            _ => self.refuse(Bypass::StableFunction),
        }
    }

    fn volatile(&mut self, name: &str, call: &Call) {
        self.refuse(Bypass::VolatileFunction);
        if VOLATILE_LOCKING.contains(&name) {
            self.effect.lock = true;
        } else if VOLATILE_SETTING.contains(&name) {
            let changes = call.setting.as_deref().map_or(Settings::Anything, Settings::changed_by);
            self.effect.settings = self.effect.settings.max(changes);
        } else if !VOLATILE_HARMLESS.contains(&name) {
            self.danger(Bypass::VolatileFunction);
        }
    }

    fn operator(&mut self, operator: &Name, path: &[String]) {
        let Some(schemas) = self.catalog.user_operators.get(&*operator.name) else { return };
        let found = match operator.schema() {
            Some(schema) => schemas.contains(schema),
            None => path.iter().any(|schema| schemas.contains(schema)),
        };
        if found {
            self.danger(Bypass::UserFunction);
        }
    }

    fn cast(&mut self, scope: &Scope<'_>, cast: &Cast) {
        if let Some(value) = scope.values.get(cast.source) {
            self.conversion(scope.types.named(&cast.target), *value);
        }
    }

    fn conversion(&mut self, target: TypeUse, value: Value) {
        match target {
            TypeUse::Refused { reason, runs_code: true } => self.danger(reason),
            TypeUse::Refused { reason, runs_code: false } => self.refuse(reason),
            TypeUse::DateTime(_) if !value.safe => self.refuse(Bypass::ComputedDatetimeCast),
            TypeUse::DateTime(_) | TypeUse::Plain(_) => {}
        }
    }

    /// `a.b` is the call b(a) if `a` has no column `b`.
    fn field(&mut self, scope: &Scope<'_>, field: &Field) {
        let Types { catalog, path } = scope.types;
        let mut groups = catalog.functions(None, &field.name, path).peekable();
        if groups.peek().is_none() || proven(scope, field) {
            return;
        }
        if !groups.all(|group| group.built_in) {
            self.danger(Bypass::UserFunction);
        } else if TAKES_ANY_ROW.contains(&&*field.name) {
            self.refuse(Bypass::StableFunction);
        }
    }

    /// The effect of writing to a relation.
    fn target(&mut self, name: &Name, path: &[String]) {
        let found = self.catalog.resolve(name.schema(), &name.name, path);
        let Some(written) = found.and_then(|relation| plain_target(self.catalog, relation)) else {
            // Triggers, rules and views run functions, which can do anything a session can.
            self.effect.writes = Footprint::Everything;
            self.effect.settings = Settings::Anything;
            self.effect.temporary = true;
            return;
        };
        self.effect.writes.add(Footprint::Relations(written));
    }
}

/// Why a relation that is not a view cannot be read from the cache.
fn refused_relation(relation: &Relation) -> Option<Bypass> {
    if relation.is_system {
        return Some(Bypass::SystemCatalog);
    }
    match relation.kind {
        // A refresh of a materialised view is seen: as a change in the catalog, or as changes of its rows.
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView => {}
        RelationKind::View => return Some(Bypass::OpaqueView),
        RelationKind::ForeignTable => return Some(Bypass::ForeignTable),
        RelationKind::Sequence => return Some(Bypass::Sequence),
        RelationKind::Other => return Some(Bypass::UnsupportedSyntax),
    }
    match relation.persistence {
        Persistence::Permanent => {}
        Persistence::Unlogged => return Some(Bypass::UnloggedTable),
        Persistence::Temporary => return Some(Bypass::TemporaryTable),
    }
    relation.has_rules.then_some(Bypass::Rule)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Everything that a write to the relation can touch, or `None` if that is not known.
fn plain_target(catalog: &Catalog, relation: &Relation) -> Option<Vec<u32>> {
    let family = relation.descendants.iter().chain(&relation.ancestors);
    let mut written = vec![relation.oid];
    for oid in family {
        let member = catalog.relations.get(oid)?;
        if !is_plain(member) {
            return None;
        }
        written.push(*oid);
    }
    is_plain(relation).then_some(written)
}

fn is_plain(relation: &Relation) -> bool {
    let table = matches!(relation.kind, RelationKind::Table | RelationKind::PartitionedTable);
    table && !relation.is_system && !relation.writes_elsewhere && !relation.has_rules
}

/// Whether a qualified reference is a column for certain.
fn proven(scope: &Scope<'_>, field: &Field) -> bool {
    let Types { catalog, path } = scope.types;
    let has_column = |position: &usize| {
        let name = scope.query.relations.get(*position)?;
        let relation = catalog.resolve(name.schema(), &name.name, path)?;
        Some(relation.columns.iter().any(|column| column.name == *field.name))
    };
    field.proof.as_ref().is_some_and(|proof| proof.iter().all(|position| has_column(position) == Some(true)))
}
