//! Names as they stand in a statement: up to three parts, already folded and unquoted by the grammar.

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

/// A possibly qualified name of a relation, function, operator or type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// Database, if three parts were given.
    pub(crate) database: Option<Box<str>>,
    /// Schema, if two or three parts were given.
    pub(crate) schema: Option<Box<str>>,
    /// The name itself.
    pub(crate) name: Box<str>,
}

impl Name {
    /// An unqualified name.
    pub(crate) fn plain(name: &str) -> Self {
        Self { database: None, schema: None, name: name.into() }
    }

    /// Of something that PostgreSQL ships.
    pub(crate) fn built_in(name: &str) -> Self {
        Self { schema: Some("pg_catalog".into()), ..Self::plain(name) }
    }

    /// The parts of a list of strings; `None` if it is anything else.
    pub(crate) fn from_list(list: &NodeList) -> Option<Self> {
        Self::from_parts(list.iter().map(Node::as_str))
    }

    /// The name of a type.
    pub(crate) fn from_type(name: &nodes::TypeName) -> Option<Self> {
        Self::from_parts(name.names().iter().map(nodes::String::sval))
    }

    /// The name of a table as FROM, INSERT and the like give it.
    pub(crate) fn from_range(range: &nodes::RangeVar) -> Option<Self> {
        Some(Self {
            database: range.catalogname().map(Into::into),
            schema: range.schemaname().map(Into::into),
            name: range.relname()?.into(),
        })
    }

    /// The schema as `Catalog` wants it.
    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// Whether the name can refer to this database at all.
    pub(crate) fn is_in(&self, database: &str) -> bool {
        self.database.as_deref().is_none_or(|named| named == database)
    }

    fn from_parts<'a>(parts: impl Iterator<Item = Option<&'a str>>) -> Option<Self> {
        let parts: Vec<&str> = parts.collect::<Option<_>>()?;
        let (database, schema, name) = match parts.as_slice() {
            [name] => (None, None, name),
            [schema, name] => (None, Some(schema), name),
            [database, schema, name] => (Some(database), Some(schema), name),
            _ => return None,
        };
        Some(Self {
            database: database.map(|part| (*part).into()),
            schema: schema.map(|part| (*part).into()),
            name: (*name).into(),
        })
    }
}
