//! What the stream's names stand for: relations, the tags that their changes touch, and their columns.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use larder_cache::{Tag, Tags};
use larder_core::catalog::{Column, Relation};
use larder_core::relation_tag;
use parking_lot::Mutex;

use crate::decode::Name;
use crate::rows::{Reader, same_lists};

/// Relations by what the stream calls them: see [`Index::key`]; or by OID, big-endian.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_name: HashMap<Box<[u8]>, Named>,
}

/// A relation of the stream.
#[derive(Debug)]
pub(crate) struct Named {
    relation: Arc<Relation>,
    /// Its columns' names as the stream spells them, if any differs from what the catalog has (which is in UTF-8).
    spelled: Option<Box<[Box<[u8]>]>>,
    tags: OnceLock<Box<[Arc<Tag>]>>,
    reader: Mutex<Option<Arc<Reader>>>,
}

impl Index {
    /// A relation, its name and its columns' names in the stream. Its changes are its own and its ancestors'.
    pub(crate) fn insert(&mut self, key: Box<[u8]>, relation: Arc<Relation>, spelled: Vec<Vec<u8>>) {
        let differ = spelled
            .iter()
            .map(Vec::as_slice)
            .ne(relation.columns.iter().map(|column| column.name.as_bytes()));
        let spelled = differ.then(|| spelled.into_iter().map(Vec::into_boxed_slice).collect());
        let named = Named { relation, spelled, tags: OnceLock::new(), reader: Mutex::default() };
        self.by_name.insert(key, named);
    }

    /// Schema and name in the database's encoding, with a NUL between them, which no name can hold: see [`Name::spell`].
    pub(crate) fn key(schema: &[u8], relation: &[u8]) -> Box<[u8]> {
        [schema, b"\0", relation].concat().into()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Named> {
        self.by_name.get(key)
    }
}

impl Name<'_> {
    /// Whether that is its key in an index.
    pub(crate) fn is(&self, key: &[u8]) -> bool {
        match self {
            Self::Qualified { schema, relation } => {
                let rest = key.strip_prefix(&**schema).and_then(|rest| rest.strip_prefix(b"\0"));
                rest == Some(&**relation)
            }
            Self::Oid(oid) => key == oid.to_be_bytes(),
        }
    }

    /// Makes that its key.
    pub(crate) fn spell(&self, key: &mut Vec<u8>) {
        key.clear();
        match self {
            Self::Qualified { schema, relation } => {
                key.extend_from_slice(schema);
                key.push(0);
                key.extend_from_slice(relation);
            }
            Self::Oid(oid) => key.extend_from_slice(&oid.to_be_bytes()),
        }
    }
}

impl Named {
    pub(crate) fn relation(&self) -> &Arc<Relation> {
        &self.relation
    }

    /// Its own tag, and its ancestors'. Asked for when it changes, and not before: they stay for ever.
    pub(crate) fn tags(&self, tags: &Tags) -> &[Arc<Tag>] {
        self.tags.get_or_init(|| {
            let oids = std::iter::once(self.relation.oid).chain(self.relation.ancestors.iter().copied());
            oids.map(|oid| tags.get(&relation_tag(oid))).collect()
        })
    }

    /// What reads its rows for the parts that there are now; `None` if there are none.
    pub(crate) fn reader(&self, tags: &Tags) -> Option<Arc<Reader>> {
        let lists = self.tags(tags).iter().map(|tag| tag.parts());
        let mut known = self.reader.lock();
        if let Some(reader) = known.as_ref()
            && same_lists(reader.lists().iter(), lists.clone())
        {
            return Some(Arc::clone(reader));
        }
        let lists: Box<[_]> = lists.collect();
        *known = lists.iter().any(|parts| !parts.is_empty()).then(|| Arc::new(Reader::new(self, lists)));
        known.clone()
    }

    /// Its columns, with their names in the stream.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&[u8], &Column)> {
        let spelled = self.spelled.as_deref();
        self.relation.columns.iter().enumerate().map(move |(at, column)| {
            let own =
                spelled.map_or(Some(column.name.as_bytes()), |spelled| spelled.get(at).map(|name| &**name));
            (own.unwrap_or_default(), column)
        })
    }
}

/// A table for tests: columns as `name:type`, those of the replica identity marked `*`. REPLICA IDENTITY FULL: a `*` alone.
#[cfg(any(test, fuzzing))]
pub(crate) fn table(oid: u32, ancestors: &[u32], columns: &str) -> (Arc<Relation>, Vec<Vec<u8>>) {
    use larder_core::ValueType;
    use larder_core::catalog::{Persistence, RelationKind};
    let full = columns.starts_with("* ");
    let column = |column: &str| {
        let (name, kind) = column.split_once(':')?;
        let type_oid = match kind.trim_end_matches('*') {
            "int" => 23,
            "uuid" => 2950,
            "float" => 701,
            _ => 25,
        };
        let (value_type, in_identity) = (ValueType::of_oid(type_oid), full || kind.ends_with('*'));
        Some(Column { name: name.to_owned(), type_oid, value_type, in_identity, generated: false })
    };
    let columns: Vec<_> = columns.split_whitespace().filter_map(column).collect();
    let spelled = columns.iter().map(|column| column.name.clone().into_bytes()).collect();
    let relation = Relation {
        oid,
        schema: "public".to_owned(),
        name: oid.to_string(),
        kind: RelationKind::Table,
        persistence: Persistence::Permanent,
        row_security: false,
        policies: Vec::new(),
        has_rules: false,
        is_system: false,
        columns,
        logs_old_rows: full,
        descendants: Vec::new(),
        ancestors: ancestors.to_vec(),
        view_query: None,
        writes_elsewhere: false,
    };
    (Arc::new(relation), spelled)
}
