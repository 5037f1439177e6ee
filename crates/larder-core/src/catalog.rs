//! What the origin's catalog says, as one immutable snapshot: relations, functions, operators, types.
//!
//! The feed loads it and replaces it when anything in the origin's catalogs changed; the client path judges
//! statements against it. A snapshot never changes: `version` tells two of them apart, and the cache's epoch is
//! bumped whenever a new one is published, so nothing judged against an old one is served.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::ValueType;

/// The place where the feed publishes the newest snapshot; `None` until the first one has been read.
pub type CatalogCell = ArcSwapOption<Catalog>;

/// One snapshot of the catalog of one database.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Strictly increasing within a process.
    pub version: u64,
    /// Name of the database.
    pub database: String,
    /// The server's version as `server_version_num` (150004, 180006, ...).
    pub server_version: u32,
    /// Whether configuration was changed such that new sessions default to another isolation is a session matter;
    /// this is `pg_conf_load_time()` as text: when it changes, every session's settings are unknown again.
    pub config_loaded_at: String,
    /// Relations by OID: tables, views, sequences, ... (not indexes, not TOAST tables).
    pub relations: HashMap<u32, Arc<Relation>>,
    /// OIDs by schema and name.
    pub relation_names: HashMap<String, HashMap<String, u32>>,
    /// Functions by name, one element for each schema that has overloads of that name.
    pub functions: HashMap<String, Vec<FunctionGroup>>,
    /// Schemas that hold operators outside `pg_catalog`, by operator name; without those of extensions whose C
    /// function is immutable, which are as good as built in.
    pub user_operators: HashMap<String, HashSet<String>>,
    /// Types by name (`int4`, `timestamptz`, `mood`), one element for each schema that has one.
    pub types: HashMap<String, Vec<Type>>,
    /// Types by OID, as `(schema, name)`, for parameter types given by number.
    pub type_names: HashMap<u32, (String, String)>,
    /// Source and target type OIDs of user-defined casts. While there is one, casts are judged with suspicion.
    pub has_user_casts: bool,
    /// Custom settings that policies and views read (see [`crate::settings`]), sorted: a session's facts hold their
    /// values.
    pub settings: Arc<[String]>,
}

/// A table, view or the like.
#[derive(Debug, Clone)]
pub struct Relation {
    /// OID in `pg_class`.
    pub oid: u32,
    /// Schema that it lives in.
    pub schema: String,
    /// Name without schema.
    pub name: String,
    /// What it is.
    pub kind: RelationKind,
    /// Whether its changes are in the log.
    pub persistence: Persistence,
    /// `relrowsecurity`: who is subject to it sees only what its policies let through.
    pub row_security: bool,
    /// The expressions of its policies that apply to reading (FOR ALL, FOR SELECT; USING), whoever they are for, every
    /// name in them but those of `pg_catalog` schema-qualified.
    pub policies: Vec<String>,
    /// It has rewrite rules (other than a view's own SELECT rule).
    pub has_rules: bool,
    /// `pg_catalog` or `information_schema` or TOAST.
    pub is_system: bool,
    /// Columns in order, without dropped ones.
    pub columns: Vec<Column>,
    /// REPLICA IDENTITY FULL: of a row that is changed or deleted the log has all old values.
    pub logs_old_rows: bool,
    /// Every partition or inheritance child below it, at any depth (OIDs).
    pub descendants: Vec<u32>,
    /// Every parent above it, at any depth (OIDs).
    pub ancestors: Vec<u32>,
    /// For a view: its query, every name in it schema-qualified.
    pub view_query: Option<String>,
    /// Whether a plain INSERT, UPDATE or DELETE on it can have effects beyond its own rows and its parents':
    /// user triggers, rules, cascading foreign keys, defaults or checks that call user functions, ....
    /// Such a statement may have touched anything.
    pub writes_elsewhere: bool,
}

/// `pg_class.relkind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// Ordinary table.
    Table,
    /// Partitioned table.
    PartitionedTable,
    /// View.
    View,
    /// Materialised view.
    MaterializedView,
    /// Foreign table.
    ForeignTable,
    /// Sequence.
    Sequence,
    /// Anything else.
    Other,
}

/// `pg_class.relpersistence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Logged.
    Permanent,
    /// Not logged.
    Unlogged,
    /// Temporary.
    Temporary,
}

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    /// Name.
    pub name: String,
    /// OID of its type.
    pub type_oid: u32,
    /// How its values are told apart, by its type (of a domain, what it is over) and collation; `None` if that is not certain,
    /// or the column is not in the log (a virtual generated one).
    pub value_type: Option<ValueType>,
    /// Belongs to the table's replica identity (an index that is valid and not deferrable, or all columns). Of a row that is
    /// changed or deleted, the log has its old value, or that is the new one. Of a partitioned table this says nothing about
    /// its partitions.
    pub in_identity: bool,
    /// Its value is computed from other columns of the row.
    pub generated: bool,
}

/// All overloads of one function name in one schema, judged by the worst of them.
#[derive(Debug, Clone)]
pub struct FunctionGroup {
    /// Schema.
    pub schema: String,
    /// Worst volatility of any overload.
    pub volatility: Volatility,
    /// Every overload is shipped with PostgreSQL (`pg_catalog`, language internal or c or sql, OID below 16384).
    pub built_in: bool,
    /// Every overload belongs to an extension and is written in C (or as good as that), or comes with a range type.
    pub extension_c: bool,
    /// At least one overload is an aggregate or window function.
    pub aggregate: bool,
}

/// `pg_proc.provolatile`, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Volatility {
    /// Depends on its arguments only.
    Immutable,
    /// May depend on settings and table contents.
    Stable,
    /// May depend on or do anything.
    Volatile,
}

/// One data type.
#[derive(Debug, Clone)]
pub struct Type {
    /// OID in `pg_type`.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// What it is.
    pub class: TypeClass,
    /// Category letter of `pg_type.typcategory` (`D` for date and time, `S` for strings, ...).
    pub category: char,
    /// For a composite or range type: the types (by OID) that its values consist of, if nothing but their functions
    /// runs when one is read or written.
    pub parts: Option<Vec<u32>>,
}

/// How a type came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TypeClass {
    /// Shipped with PostgreSQL.
    BuiltIn,
    /// A base type of an extension.
    Extension,
    /// Enum.
    Enum,
    /// Domain.
    Domain,
    /// Composite (including tables' row types).
    Composite,
    /// Range or multirange.
    Range,
    /// Array of the type with this OID.
    Array(u32),
    /// Anything else.
    Other,
}

impl Catalog {
    /// The relation a name means: the first schema of `path` that has it, or `schema` if it is given.
    pub fn resolve(&self, schema: Option<&str>, name: &str, path: &[String]) -> Option<&Arc<Relation>> {
        let oid = match schema {
            Some(schema) => self.relation_names.get(schema)?.get(name),
            None => path.iter().find_map(|schema| self.relation_names.get(schema)?.get(name)),
        }?;
        self.relations.get(oid)
    }

    /// The overload groups a function name can mean: all schemas of `path`, or just `schema` if it is given.
    pub fn functions<'a>(
        &'a self,
        schema: Option<&'a str>,
        name: &str,
        path: &'a [String],
    ) -> impl Iterator<Item = &'a FunctionGroup> {
        self.functions.get(name).into_iter().flatten().filter(move |group| match schema {
            Some(schema) => group.schema == schema,
            None => path.contains(&group.schema),
        })
    }

    /// The type a name means: the first schema of `path` that has it, or `schema` if it is given.
    pub fn resolve_type(&self, schema: Option<&str>, name: &str, path: &[String]) -> Option<&Type> {
        let candidates = self.types.get(name)?;
        match schema {
            Some(schema) => candidates.iter().find(|found| found.schema == schema),
            None => path.iter().find_map(|schema| candidates.iter().find(|found| &found.schema == schema)),
        }
    }
}
