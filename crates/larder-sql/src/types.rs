//! What a conversion to a type means, and what kind of value a [`Source`] is.

use larder_core::Bypass;
use larder_core::catalog::{Catalog, Type, TypeClass};

use crate::facts::{Source, SourceId};
use crate::functions::{RETURNS_ARGUMENT, RETURNS_OTHER, RETURNS_TIMESTAMP};
use crate::names::Name;

/// What a conversion to a type can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TypeUse {
    /// The result depends on the value and on settings in the key.
    Plain(Value),
    /// Text is read with 'now' and the like understood.
    DateTime(Value),
    /// Not cacheable; `runs_code` if user code can run during the conversion.
    Refused { reason: Bypass, runs_code: bool },
}

/// What is known about a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    /// It is not text that could become 'now': a literal, a parameter, a number, a date, ....
    pub(crate) safe: bool,
    /// If it is used as a date or time, it is a date or timestamp (and not a time of day).
    pub(crate) timestamp: bool,
}

impl Value {
    const UNKNOWN: Self = Self { safe: false, timestamp: false };
    const OTHER: Self = Self { safe: true, timestamp: false };
    const TIMESTAMP: Self = Self { safe: true, timestamp: true };

    fn and(self, other: Self) -> Self {
        Self { safe: self.safe && other.safe, timestamp: self.timestamp && other.timestamp }
    }
}

/// Types whose input reads the system catalogs; text search configurations are left out (to_tsvector is immutable
/// for PostgreSQL itself).
const READS_CATALOG: [&str; 11] = [
    "aclitem",
    "regclass",
    "regcollation",
    "regdatabase",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// Ranges and multiranges of dates and timestamps.
const DATE_RANGES: [&str; 6] =
    ["datemultirange", "daterange", "tsmultirange", "tsrange", "tstzmultirange", "tstzrange"];

/// How deep types may be made of others: arrays of composites of ranges.
const MAX_DEPTH: usize = 4;

/// Names resolved against one catalog and path.
#[derive(Clone, Copy)]
pub(crate) struct Types<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) path: &'a [String],
}

impl<'a> Types<'a> {
    /// What a conversion to the named type can do.
    pub(crate) fn named(self, name: &Name) -> TypeUse {
        self.find(name).map_or(TypeUse::Refused { reason: Bypass::UserType, runs_code: true }, |found| {
            self.judge(&name.name, found, MAX_DEPTH)
        })
    }

    /// Whether the name means a type.
    pub(crate) fn find(self, name: &Name) -> Option<&'a Type> {
        self.catalog
            .resolve_type(name.schema(), &name.name, self.path)
            .filter(|_| name.is_in(&self.catalog.database))
    }

    /// The same by number, for columns and parameters.
    pub(crate) fn numbered(self, oid: u32) -> TypeUse {
        self.numbered_within(oid, MAX_DEPTH)
    }

    fn numbered_within(self, oid: u32, depth: usize) -> TypeUse {
        let unknown = TypeUse::Refused { reason: Bypass::UserType, runs_code: true };
        let Some((schema, name)) = self.catalog.type_names.get(&oid) else { return unknown };
        let candidates = self.catalog.types.get(name).into_iter().flatten();
        let found = candidates.into_iter().find(|found| &found.schema == schema);
        found.map_or(unknown, |found| self.judge(name, found, depth))
    }

    fn judge(self, name: &str, found: &Type, depth: usize) -> TypeUse {
        let user = TypeUse::Refused { reason: Bypass::UserType, runs_code: true };
        let system = found.schema == "pg_catalog";
        match found.class {
            TypeClass::Array(element) => {
                depth.checked_sub(1).map_or(user, |depth| self.numbered_within(element, depth))
            }
            TypeClass::BuiltIn => built_in(name, found.category),
            TypeClass::Range if system => built_in(name, 'R'),
            // Whether it understands 'now' is not known.
            TypeClass::Extension if found.category == 'D' => TypeUse::DateTime(Value::OTHER),
            TypeClass::Enum | TypeClass::Extension => TypeUse::Plain(Value::UNKNOWN),
            TypeClass::Range | TypeClass::Composite => match (&found.parts, depth.checked_sub(1)) {
                (Some(parts), Some(depth)) => self.made_of(parts, depth),
                _ => user,
            },
            TypeClass::Domain | TypeClass::Other => user,
        }
    }

    /// A value that consists of values of these types.
    fn made_of(self, parts: &[u32], depth: usize) -> TypeUse {
        let mut whole = TypeUse::Plain(Value::UNKNOWN);
        for part in parts {
            match self.numbered_within(*part, depth) {
                refused @ TypeUse::Refused { .. } => return refused,
                TypeUse::DateTime(_) => whole = TypeUse::DateTime(Value::UNKNOWN),
                TypeUse::Plain(_) => {}
            }
        }
        whole
    }

    /// Classifies every source; each refers only to ones before it.
    pub(crate) fn values(self, sources: &[Source], relations: &[Name]) -> Vec<Value> {
        let mut values = Vec::with_capacity(sources.len());
        for source in sources {
            let value = self.value(source, &values, relations);
            values.push(value);
        }
        values
    }

    fn value(self, source: &Source, known: &[Value], relations: &[Name]) -> Value {
        let get = |id: &SourceId| known.get(*id).copied().unwrap_or(Value::UNKNOWN);
        let all = |ids: &[SourceId]| ids.iter().map(get).reduce(Value::and).unwrap_or(Value::UNKNOWN);
        match source {
            Source::Opaque => Value::UNKNOWN,
            // An untyped literal becomes a timestamp where a function could take that or a time of day.
            Source::Literal => Value::TIMESTAMP,
            Source::Parameter => Value::OTHER,
            Source::Any(ids) => all(ids),
            Source::Cast(target) => match self.named(target) {
                TypeUse::Plain(value) | TypeUse::DateTime(value) => value,
                TypeUse::Refused { .. } => Value::UNKNOWN,
            },
            Source::Arithmetic(left, right) => {
                let (left, right) = (get(left), get(right));
                let safe = left.safe && right.safe;
                // A timestamp on one side makes a timestamp, or an interval.
                Value { safe, timestamp: safe && (left.timestamp || right.timestamp) }
            }
            Source::Call { name, args } => self.call(name, all(args)),
            Source::Column { name, relations: ids, outputs } => {
                let columns = ids.iter().filter_map(|id| self.column(relations.get(*id)?, name));
                columns.chain(outputs.iter().map(get)).reduce(Value::and).unwrap_or(Value::UNKNOWN)
            }
        }
    }

    /// The value of a column, if the relation has it. A relation that is not known has unknown columns.
    fn column(self, relation: &Name, name: &str) -> Option<Value> {
        let Some(relation) = self.catalog.resolve(relation.schema(), &relation.name, self.path) else {
            return Some(Value::UNKNOWN);
        };
        let column = relation.columns.iter().find(|column| column.name == name)?;
        Some(match self.numbered(column.type_oid) {
            TypeUse::Plain(value) | TypeUse::DateTime(value) => value,
            TypeUse::Refused { .. } => Value::UNKNOWN,
        })
    }

    fn call(self, name: &Name, args: Value) -> Value {
        let mut groups = self.catalog.functions(name.schema(), &name.name, self.path).peekable();
        let known = groups.peek().is_some() && groups.all(|group| group.built_in);
        match &*name.name {
            _ if !known => Value::UNKNOWN,
            name if RETURNS_TIMESTAMP.contains(&name) => Value::TIMESTAMP,
            name if RETURNS_OTHER.contains(&name) => Value::OTHER,
            name if RETURNS_ARGUMENT.contains(&name) => args,
            _ => Value::UNKNOWN,
        }
    }
}

fn built_in(name: &str, category: char) -> TypeUse {
    match name {
        // Without an offset, and from a time of day, it takes the offset of the current date.
        "timetz" => TypeUse::Refused { reason: Bypass::Clock, runs_code: false },
        "date" | "timestamp" | "timestamptz" => TypeUse::DateTime(Value::TIMESTAMP),
        "xml" => TypeUse::Refused { reason: Bypass::UnsupportedSyntax, runs_code: false },
        name if READS_CATALOG.contains(&name) => {
            TypeUse::Refused { reason: Bypass::StableFunction, runs_code: false }
        }
        _ => match category {
            'D' => TypeUse::DateTime(Value::OTHER),
            'R' if DATE_RANGES.contains(&name) => TypeUse::DateTime(Value::OTHER),
            'R' => TypeUse::Plain(Value::OTHER),
            'N' | 'T' | 'B' => TypeUse::Plain(Value::OTHER),
            _ => TypeUse::Plain(Value::UNKNOWN),
        },
    }
}
