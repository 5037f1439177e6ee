//! Reads the catalog in a few set-based queries and builds the snapshot that statements are judged by.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use larder_core::catalog::{
    Column, FunctionGroup, Persistence, Relation, RelationKind, Type, TypeClass, Volatility,
};
use larder_core::{Catalog, ValueType, settings};
use tokio_postgres::{Client, Error, Row, Statement};

use crate::Plugin;
use crate::index::Index;

/// The queries, prepared, so that all of them can be sent at once.
#[derive(Debug)]
pub(crate) struct Queries {
    header: Statement,
    inherits: Statement,
    functions: Statement,
    operators: Statement,
    types: Statement,
    relations: Statement,
}

/// What the origin answered.
#[derive(Debug)]
pub(crate) struct Rows {
    header: Row,
    inherits: Vec<Row>,
    functions: Vec<Row>,
    operators: Vec<Row>,
    types: Vec<Row>,
    relations: Vec<Row>,
}

impl Queries {
    pub(crate) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            header: client.prepare(include_str!("header.sql")).await?,
            inherits: client.prepare(include_str!("inherits.sql")).await?,
            functions: client.prepare(include_str!("functions.sql")).await?,
            operators: client.prepare(include_str!("operators.sql")).await?,
            types: client.prepare(include_str!("types.sql")).await?,
            relations: client.prepare(include_str!("relations.sql")).await?,
        })
    }

    /// Reads everything, inside whatever transaction is open. What is sent next follows without a pause.
    ///
    /// Relations come last: `pg_get_viewdef()` locks the tables below a view until the transaction ends.
    pub(crate) async fn fetch(&self, client: &Client) -> Result<Rows, Error> {
        let (header, inherits, functions, operators, types, relations) = tokio::try_join!(
            client.query_one(&self.header, &[]),
            client.query(&self.inherits, &[]),
            client.query(&self.functions, &[]),
            client.query(&self.operators, &[]),
            client.query(&self.types, &[]),
            client.query(&self.relations, &[]),
        )?;
        Ok(Rows { header, inherits, functions, operators, types, relations })
    }
}

/// Makes the snapshot of it.
pub(crate) fn build(rows: &Rows, version: u64, plugin: &Plugin) -> Result<(Catalog, Index), Error> {
    let header = &rows.header;
    let mut catalog = Catalog {
        version,
        database: header.try_get(0)?,
        server_version: u32::try_from(header.try_get::<_, i32>(1)?).unwrap_or_default(),
        config_loaded_at: header.try_get(2)?,
        has_user_casts: header.try_get(3)?,
        ..Catalog::default()
    };
    let edges = rows.inherits.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let family = Family::new(edges.collect::<Result<_, Error>>()?);
    let index = relations(&mut catalog, rows, &family, plugin)?;
    catalog.settings = settings_read(&catalog);
    for row in &rows.functions {
        let (name, group) = function(row)?;
        catalog.functions.entry(name).or_default().push(group);
    }
    for row in &rows.operators {
        catalog.user_operators.entry(row.try_get(1)?).or_default().insert(row.try_get(0)?);
    }
    for row in &rows.types {
        let (name, found) = data_type(row)?;
        catalog.type_names.insert(found.oid, (found.schema.clone(), name.clone()));
        catalog.types.entry(name).or_default().push(found);
    }
    Ok((catalog, index))
}

fn relations(catalog: &mut Catalog, rows: &Rows, family: &Family, plugin: &Plugin) -> Result<Index, Error> {
    let mut index = Index::default();
    let mut found = HashMap::with_capacity(rows.relations.len());
    let mut spelled = Vec::with_capacity(rows.relations.len());
    let equality = Equality::new(&rows.types)?;
    for row in &rows.relations {
        let mut relation = relation(row, family, &equality)?;
        if *plugin != Plugin::TestDecoding && relation.kind == RelationKind::MaterializedView {
            // Never published: REFRESH CONCURRENTLY changes its rows, and does not show.
            relation.persistence = Persistence::Unlogged;
        }
        let columns = row.try_get::<_, Option<Vec<Vec<u8>>>>(15)?.unwrap_or_default();
        let key = match plugin {
            Plugin::TestDecoding => Index::key(row.try_get(3)?, row.try_get(4)?),
            Plugin::Pgoutput { .. } => relation.oid.to_be_bytes().into(),
        };
        spelled.push((relation.oid, key, columns));
        found.insert(relation.oid, relation);
    }
    // A write to a parent writes its children.
    let elsewhere: BTreeSet<u32> =
        found.values().filter(|relation| relation.writes_elsewhere).map(|relation| relation.oid).collect();
    for mut relation in found.into_values() {
        relation.writes_elsewhere |= relation.descendants.iter().any(|oid| elsewhere.contains(oid));
        let names = catalog.relation_names.entry(relation.schema.clone()).or_default();
        names.insert(relation.name.clone(), relation.oid);
        catalog.relations.insert(relation.oid, Arc::new(relation));
    }
    for (oid, key, columns) in spelled {
        if let Some(relation) = catalog.relations.get(&oid) {
            index.insert(key, Arc::clone(relation), columns);
        }
    }
    Ok(index)
}

/// The custom settings that policies and views read. Should there be too many, the rest is not: who reads those is not
/// cached.
fn settings_read(catalog: &Catalog) -> Arc<[String]> {
    let relations = catalog.relations.values();
    let definitions = relations.flat_map(|relation| relation.policies.iter().chain(&relation.view_query));
    let names: BTreeSet<String> = definitions.flat_map(|text| settings::custom_in(text)).collect();
    names.into_iter().take(settings::MAX_CUSTOM).collect()
}

fn relation(row: &Row, family: &Family, equality: &Equality) -> Result<Relation, Error> {
    let oid = row.try_get(0)?;
    let query: Option<String> = row.try_get(11)?;
    Ok(Relation {
        oid,
        schema: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: match letter(row, 5)? {
            'r' => RelationKind::Table,
            'p' => RelationKind::PartitionedTable,
            'v' => RelationKind::View,
            'm' => RelationKind::MaterializedView,
            'f' => RelationKind::ForeignTable,
            'S' => RelationKind::Sequence,
            _ => RelationKind::Other,
        },
        persistence: match letter(row, 6)? {
            'p' => Persistence::Permanent,
            'u' => Persistence::Unlogged,
            _ => Persistence::Temporary,
        },
        row_security: row.try_get(7)?,
        policies: row.try_get::<_, Option<_>>(14)?.unwrap_or_default(),
        has_rules: row.try_get(8)?,
        is_system: row.try_get(9)?,
        writes_elsewhere: row.try_get(10)?,
        view_query: query.map(|text| text.trim_end().trim_end_matches(';').to_owned()),
        columns: columns(row, equality)?,
        logs_old_rows: row.try_get(18)?,
        descendants: Family::all(&family.children, oid),
        ancestors: Family::all(&family.parents, oid),
    })
}

fn columns(row: &Row, equality: &Equality) -> Result<Vec<Column>, Error> {
    let names = row.try_get::<_, Option<Vec<String>>>(12)?.unwrap_or_default();
    let types = row.try_get::<_, Option<Vec<u32>>>(13)?.unwrap_or_default();
    let told_apart = row.try_get::<_, Option<Vec<bool>>>(16)?.unwrap_or_default();
    let in_identity = row.try_get::<_, Option<Vec<bool>>>(17)?.unwrap_or_default();
    let generated = row.try_get::<_, Option<Vec<bool>>>(19)?.unwrap_or_default();
    let flags = told_apart.into_iter().zip(in_identity).zip(generated);
    let columns = names.into_iter().zip(types).zip(flags);
    let columns = columns.map(|((name, type_oid), ((told_apart, in_identity), generated))| {
        let value_type = equality.of(type_oid).filter(|_| told_apart);
        Column { name, type_oid, value_type, in_identity, generated }
    });
    Ok(columns.collect())
}

fn function(row: &Row) -> Result<(String, FunctionGroup), Error> {
    let volatility = match row.try_get::<_, i32>(2)? {
        0 => Volatility::Immutable,
        1 => Volatility::Stable,
        _ => Volatility::Volatile,
    };
    let group = FunctionGroup {
        schema: row.try_get(0)?,
        volatility,
        built_in: row.try_get(3)?,
        extension_c: row.try_get(4)?,
        aggregate: row.try_get(5)?,
    };
    Ok((row.try_get(1)?, group))
}

fn data_type(row: &Row) -> Result<(String, Type), Error> {
    let oid: u32 = row.try_get(0)?;
    let element: u32 = row.try_get(5)?;
    let extension: bool = row.try_get(6)?;
    let class = match letter(row, 3)? {
        _ if element != 0 => TypeClass::Array(element),
        'c' => TypeClass::Composite,
        'd' => TypeClass::Domain,
        'e' => TypeClass::Enum,
        // First object id of a user: FirstNormalObjectId.
        _ if oid < 16384 => TypeClass::BuiltIn,
        'r' | 'm' => TypeClass::Range,
        'b' if extension => TypeClass::Extension,
        _ => TypeClass::Other,
    };
    let (schema, category, parts) = (row.try_get(1)?, letter(row, 4)?, row.try_get(7)?);
    Ok((row.try_get(2)?, Type { oid, schema, class, category, parts }))
}

/// A value of type `"char"`.
fn letter(row: &Row, column: usize) -> Result<char, Error> {
    Ok(char::from(row.try_get::<_, i8>(column)?.cast_unsigned()))
}

/// How values of types are told apart.
struct Equality {
    /// What domains are over.
    domains: HashMap<u32, u32>,
    enums: HashSet<u32>,
}

impl Equality {
    /// Domains over domains, at most.
    const DEPTH: usize = 32;

    fn new(types: &[Row]) -> Result<Self, Error> {
        let mut found = Self { domains: HashMap::new(), enums: HashSet::new() };
        for row in types {
            let oid = row.try_get(0)?;
            match letter(row, 3)? {
                'd' => drop(found.domains.insert(oid, row.try_get(8)?)),
                'e' => drop(found.enums.insert(oid)),
                _ => {}
            }
        }
        Ok(found)
    }

    fn of(&self, oid: u32) -> Option<ValueType> {
        let over = std::iter::successors(Some(oid), |oid| self.domains.get(oid).copied());
        let base = over.take(Self::DEPTH).last()?;
        if self.enums.contains(&base) { Some(ValueType::Text) } else { ValueType::of_oid(base) }
    }
}

/// Who inherits from whom, both ways.
struct Family {
    parents: HashMap<u32, Vec<u32>>,
    children: HashMap<u32, Vec<u32>>,
}

impl Family {
    /// From `(child, parent)` pairs.
    fn new(edges: Vec<(u32, u32)>) -> Self {
        let mut family = Self { parents: HashMap::new(), children: HashMap::new() };
        for (child, parent) in edges {
            family.parents.entry(child).or_default().push(parent);
            family.children.entry(parent).or_default().push(child);
        }
        family
    }

    /// Everything reachable from `start`, without `start`.
    fn all(edges: &HashMap<u32, Vec<u32>>, start: u32) -> Vec<u32> {
        let mut seen = BTreeSet::new();
        let mut open = vec![start];
        while let Some(next) = open.pop() {
            open.extend(edges.get(&next).into_iter().flatten().filter(|oid| seen.insert(**oid)));
        }
        seen.remove(&start);
        seen.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_reach_every_generation_once() {
        // A diamond: 4 inherits from 2 and 3, which inherit from 1.
        let family = Family::new(vec![(2, 1), (3, 1), (4, 2), (4, 3)]);
        assert_eq!(Family::all(&family.parents, 4), [1, 2, 3]);
        assert_eq!(Family::all(&family.children, 1), [2, 3, 4]);
        assert!(Family::all(&family.children, 4).is_empty());
    }

    #[test]
    fn a_circle_ends() {
        let family = Family::new(vec![(2, 1), (1, 2)]);
        assert_eq!(Family::all(&family.parents, 1), [2]);
    }
}
