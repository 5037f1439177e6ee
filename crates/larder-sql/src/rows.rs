//! Stage two of [`crate::conditions`]: which columns of which relations have which values.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use larder_core::catalog::{Catalog, Column, Relation, RelationKind};
use larder_core::{RowValue, ValueType};

use crate::facts::{Assigned, BranchId, Change, ChangeKind, ColumnUse, Constant, Operand, Query, Spelling};
use crate::names::Name;

/// A query's equalities that are looked at: each once for every column that it may lead to.
const MAX_CONDITIONS: usize = 64;

/// The rows of a relation that have certain values in certain columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    /// OID of the relation.
    pub relation: u32,
    /// The columns, sorted by name.
    pub columns: Vec<RowColumn>,
}

/// What is known of one column of [`RowSet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowColumn {
    /// Its name.
    pub name: String,
    /// How its values are told apart.
    pub value_type: ValueType,
    /// OID of its type.
    pub type_oid: u32,
    /// It has one of these values.
    pub any_of: Vec<Given>,
}

/// A value that the statement gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// In its text.
    Value(RowValue),
    /// As a parameter.
    Parameter(Parameter),
    /// As the elements of an array, in a parameter.
    Elements(Parameter),
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its number, from 1.
    pub number: usize,
    /// Where its type is not declared, PostgreSQL takes the one that its uses ask for: all of them ask for one of this
    /// [`ValueType`].
    pub clear: bool,
}

impl fmt::Display for RowSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, column) in self.columns.iter().enumerate() {
            let values: Vec<String> = column.any_of.iter().map(Given::to_string).collect();
            let and = if at == 0 { "" } else { " and " };
            write!(out, "{and}{}={}", column.name, values.join("|"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Given {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => write!(out, "{value}"),
            Self::Parameter(parameter) => write!(out, "${}", parameter.number),
            Self::Elements(parameter) => write!(out, "each of ${}", parameter.number),
        }
    }
}

/// The equalities of one query, resolved.
pub(crate) struct Rows<'a> {
    query: &'a Query,
    catalog: &'a Catalog,
    path: &'a [String],
    relations: Vec<Option<Arc<Relation>>>,
    conditions: Vec<Resolved<'a>>,
}

/// A column, by the positions of its relation in [`Query::relations`] and of itself in that.
type At = (usize, usize);

struct Resolved<'a> {
    branch: BranchId,
    column: At,
    equals: Equals<'a>,
}

enum Equals<'a> {
    Column(At),
    AnyOf(&'a [Constant]),
}

impl<'a> Rows<'a> {
    pub(crate) fn new(query: &'a Query, catalog: &'a Catalog, path: &'a [String]) -> Self {
        let resolve = |name: &Name| catalog.resolve(name.schema(), &name.name, path).map(Arc::clone);
        // Where nothing is said there is nothing to resolve.
        let something = !query.conditions.is_empty() || query.change.is_some();
        let names = query.relations.iter().filter(|_| something);
        let relations: Vec<_> = names.map(resolve).collect();
        let conditions = query.conditions.iter().take(MAX_CONDITIONS).filter_map(|condition| {
            let equals = match &condition.equals {
                Operand::Column(other) => Equals::Column(column(&relations, other)?),
                Operand::AnyOf(constants) => Equals::AnyOf(constants),
            };
            Some(Resolved {
                branch: condition.branch,
                column: column(&relations, &condition.column)?,
                equals,
            })
        });
        let conditions = conditions.collect();
        Self { query, catalog, path, relations, conditions }
    }

    /// The rows of the relation at that position which the query can see; `None` if that may be any.
    ///
    /// Those columns count whose old values the log always has, if there is one among them, else all: the fewer unknown
    /// values there are in the log, the fewer answers end for nothing.
    pub(crate) fn of(&self, position: usize) -> Option<RowSet> {
        let relation = self.relations.get(position)?.as_ref()?;
        let known = self.known(position)?;
        let logged = known.iter().any(|(in_identity, _)| *in_identity);
        let chosen = known.into_iter().filter(|(in_identity, _)| *in_identity || !logged);
        let mut columns: Vec<RowColumn> = chosen.map(|(_, column)| column).collect();
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        (!columns.is_empty()).then_some(RowSet { relation: relation.oid, columns })
    }

    /// What is known of the rows before and after a change of them, each time with all columns of which anything is. A group of
    /// rows of which nothing is known is empty.
    pub(crate) fn changed(&self, change: &Change) -> Option<Vec<Vec<RowColumn>>> {
        let of_target = || {
            let known = self.known(change.target).unwrap_or_default();
            known.into_iter().map(|(_, column)| column).collect::<Vec<_>>()
        };
        Some(match &change.kind {
            ChangeKind::Delete => vec![of_target()],
            ChangeKind::Insert(rows) => rows.iter().map(|row| self.assigned(change, row)).collect(),
            ChangeKind::Update(assigned) => {
                let (before, mut after) = (of_target(), of_target());
                let columns = &self.relations.get(change.target)?.as_ref()?.columns;
                let generated =
                    |name: &str| columns.iter().any(|column| column.generated && column.name == name);
                after.retain(|known| {
                    !generated(&known.name)
                        && !assigned.iter().any(|assigned| *assigned.column == *known.name)
                });
                after.extend(self.assigned(change, assigned));
                vec![before, after]
            }
        })
    }

    /// Columns of the target with the values that they are given.
    fn assigned(&self, change: &Change, row: &[Assigned]) -> Vec<RowColumn> {
        let known = row.iter().filter_map(|assigned| {
            let column = self.target_column(change, &assigned.column)?;
            let value_type = column.value_type.filter(|value_type| value_type.is_stored_as_given())?;
            let given = self.given(assigned.value.as_ref()?, value_type)?;
            let (name, type_oid) = (column.name.clone(), column.type_oid);
            Some(RowColumn { name, value_type, type_oid, any_of: given })
        });
        known.collect()
    }

    fn target_column(&self, change: &Change, name: &str) -> Option<&Column> {
        self.relations.get(change.target)?.as_ref()?.columns.iter().find(|column| column.name == *name)
    }

    /// The columns of a relation of which something is known, and whether each belongs to the replica identity.
    fn known(&self, position: usize) -> Option<Vec<(bool, RowColumn)>> {
        let relation = self.relations.get(position)?.as_ref()?;
        let table = matches!(relation.kind, RelationKind::Table | RelationKind::PartitionedTable);
        let branch = self.query.branch_of(position).filter(|_| table)?;
        let around: BTreeSet<BranchId> = self.query.around(branch).collect();
        let conditions = self.conditions.iter().filter(|known| around.contains(&known.branch));
        let conditions: Vec<&Resolved<'_>> = conditions.collect();
        let known = conditions.iter().flat_map(|condition| match condition.equals {
            Equals::Column(other) => vec![condition.column, other],
            Equals::AnyOf(_) => vec![condition.column],
        });
        let known: BTreeSet<At> = known.filter(|(relation, _)| *relation == position).collect();
        Some(known.into_iter().filter_map(|at| self.row_column(at, &conditions)).collect())
    }

    /// What is known of a column, and whether it belongs to the replica identity.
    fn row_column(&self, at: At, conditions: &[&Resolved<'a>]) -> Option<(bool, RowColumn)> {
        let column = self.get(at)?;
        let value_type = column.value_type?;
        let any_of = self.values(at, value_type, conditions)?;
        let (name, type_oid) = (column.name.clone(), column.type_oid);
        Some((column.in_identity, RowColumn { name, value_type, type_oid, any_of }))
    }

    /// The values that a column can have: its own, or those of another that is equal to it.
    fn values(&self, from: At, value_type: ValueType, conditions: &[&Resolved<'a>]) -> Option<Vec<Given>> {
        let mut reached = vec![from];
        let mut next = 0;
        while let Some(here) = reached.get(next).copied() {
            next += 1;
            for condition in conditions {
                match condition.equals {
                    Equals::AnyOf(constants) if condition.column == here => {
                        let given = |constant| self.given(constant, value_type);
                        if let Some(values) = constants.iter().map(given).collect::<Option<Vec<_>>>() {
                            return Some(values.concat());
                        }
                    }
                    Equals::Column(other) if condition.column == here || other == here => {
                        let there = if other == here { condition.column } else { other };
                        if self.is(there, value_type) && !reached.contains(&there) {
                            reached.push(there);
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }

    fn get(&self, (relation, column): At) -> Option<&Column> {
        self.relations.get(relation)?.as_ref()?.columns.get(column)
    }

    fn is(&self, at: At, value_type: ValueType) -> bool {
        self.get(at).is_some_and(|column| column.value_type == Some(value_type))
    }

    fn given(&self, constant: &Constant, value_type: ValueType) -> Option<Vec<Given>> {
        if !self.converts(constant, value_type) {
            return None;
        }
        let parameter = |number: usize| {
            let all = self.query.parameters.get(&number).copied().unwrap_or_default();
            Parameter { number, clear: all == self.clear_uses(number, value_type) }
        };
        Some(match &constant.spelling {
            Spelling::Text(text) => vec![Given::Value(value_type.read_text(text.as_bytes())?)],
            Spelling::Parameter(number) => vec![Given::Parameter(parameter(*number))],
            Spelling::Elements(number) => vec![Given::Elements(parameter(*number))],
            Spelling::Array(text) => {
                value_type.read_array_text(text.as_bytes())?.into_iter().map(Given::Value).collect()
            }
        })
    }

    /// Whether a conversion, if there is one, is to a type of that kind.
    fn converts(&self, constant: &Constant, value_type: ValueType) -> bool {
        constant.cast.as_ref().is_none_or(|cast| {
            let found = self.catalog.resolve_type(cast.schema(), &cast.name, self.path);
            found.is_some_and(|found| ValueType::of_oid(found.oid) == Some(value_type))
        })
    }

    /// How often a parameter is compared with a column of that kind, or assigned to one.
    fn clear_uses(&self, wanted: usize, value_type: ValueType) -> usize {
        let compared = self.conditions.iter().filter(|condition| self.is(condition.column, value_type));
        let compared = compared.flat_map(|condition| match condition.equals {
            Equals::AnyOf(constants) => constants,
            Equals::Column(_) => &[],
        });
        let change = self.query.change.as_ref();
        let rows: Vec<&Vec<Assigned>> = change.map_or_else(Vec::new, |change| match &change.kind {
            ChangeKind::Delete => Vec::new(),
            ChangeKind::Update(row) => vec![row],
            ChangeKind::Insert(rows) => rows.iter().collect(),
        });
        let of_type = |assigned: &&Assigned| {
            let column = change.and_then(|change| self.target_column(change, &assigned.column));
            column.is_some_and(|column| column.value_type == Some(value_type))
        };
        let assigned =
            rows.into_iter().flatten().filter(of_type).filter_map(|assigned| assigned.value.as_ref());
        let uses = compared.chain(assigned).filter(|constant| match constant.spelling {
            Spelling::Parameter(number) | Spelling::Elements(number) => number == wanted,
            Spelling::Text(_) | Spelling::Array(_) => false,
        });
        uses.filter(|constant| self.converts(constant, value_type)).count()
    }
}

/// The column that a reference means: where two relations have one of that name PostgreSQL refuses the statement, or they
/// were merged by USING.
fn column(relations: &[Option<Arc<Relation>>], used: &ColumnUse) -> Option<At> {
    let mut found = None;
    for position in &used.relations {
        let columns = &relations.get(*position)?.as_ref()?.columns;
        if let Some(column) = columns.iter().position(|column| column.name == *used.name)
            && found.replace((*position, column)).is_some()
        {
            return None;
        }
    }
    found
}
