//! Which rows an answer depends on, and which a statement writes: from what judgement knows of the statement, and the
//! parameters of one execution.

use std::sync::Arc;

use larder_cache::{Moment, Part, Tag, TagSet};
use larder_core::{RowValue, ValueType, relation_tag, row_id};
use larder_sql::{Effect, Given, Parameter, ReadPlan, RowColumn};
use larder_wire::frontend;

use crate::Shared;

/// Rows of one relation that an answer may depend on one by one; with more it depends on all.
const MAX_ROWS: usize = 64;

/// `unknown`: as good as not declared.
const UNKNOWN: u32 = 705;

/// What the answers of a statement depend on.
#[derive(Debug)]
pub(crate) struct Dependencies {
    /// All of it, if no rows are told apart.
    whole: TagSet,
    rows: Box<[Rows]>,
}

/// Rows of a relation.
#[derive(Debug)]
struct Rows {
    relation: Arc<Tag>,
    columns: Box<[RowColumn]>,
}

impl Dependencies {
    /// Of a statement with these declared parameter types.
    pub(crate) fn of(plan: &ReadPlan, types: &[u8], shared: &Shared) -> Self {
        let tag = |oid: &u32| shared.tags.get(&relation_tag(*oid));
        let mut whole: Vec<Arc<Tag>> = plan.whole.iter().map(tag).collect();
        let mut rows = Vec::new();
        for set in &plan.rows {
            let columns = told_apart(&set.columns, types);
            match columns.is_empty() {
                // What lies below it is meant with it: its own tag hears of that.
                true => whole.push(tag(&set.relation)),
                false => rows.push(Rows { relation: tag(&set.relation), columns }),
            }
        }
        Self { whole: whole.into(), rows: rows.into() }
    }

    /// The tags of one execution. `bind` is its Bind message after the names; empty in the simple protocol.
    ///
    /// The later they are taken, the more changes of other rows a new one is held to account for; before the query is sent is
    /// best, and any time is right.
    pub(crate) fn tags(&self, bind: &[u8]) -> TagSet {
        if self.rows.is_empty() {
            return Arc::clone(&self.whole);
        }
        let values = frontend::bound_values(bind).unwrap_or_default();
        let mut tags: Vec<Arc<Tag>> = self.whole.to_vec();
        for rows in &self.rows {
            if rows.add_tags(&values, &mut tags).is_none() {
                tags.push(Arc::clone(&rows.relation));
            }
        }
        tags.into()
    }
}

impl Dependencies {
    /// Whether a relation of which rows are told apart has changed since, whatever became of those rows.
    pub(crate) fn have_changed_since(&self, position: u64) -> bool {
        self.rows.iter().any(|rows| rows.relation.last_change() > position)
    }
}

impl Rows {
    /// Adds the tags of the rows; `None` (and none is added) if they are not known, or too many.
    fn add_tags(&self, values: &[frontend::BoundValue<'_>], tags: &mut Vec<Arc<Tag>>) -> Option<()> {
        let given = self.columns.iter().map(|column| given_values(column, values));
        let ids = ids(&given.collect::<Option<Vec<_>>>()?)?;
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let part = self.relation.part(&names)?;
        tags.push(Arc::clone(part.all()));
        tags.extend(ids.into_iter().map(|id| part.row(id)));
        Some(())
    }
}

/// The columns whose values can be read, given how the parameters are declared. (That what they are compared with holds is
/// true of each alone.)
fn told_apart(columns: &[RowColumn], types: &[u8]) -> Box<[RowColumn]> {
    let declared: Vec<u32> = frontend::type_oids(types).collect();
    let readable = |column: &&RowColumn| {
        column.any_of.iter().all(|given| match given {
            Given::Value(_) => true,
            Given::Parameter(parameter) => is_readable(*parameter, column, &declared, ValueType::of_oid),
            Given::Elements(parameter) => is_readable(*parameter, column, &declared, ValueType::of_array_oid),
        })
    };
    columns.iter().filter(readable).cloned().collect()
}

fn is_readable(
    Parameter { number, clear }: Parameter,
    column: &RowColumn,
    declared: &[u32],
    of_oid: fn(u32) -> Option<ValueType>,
) -> bool {
    let declared = number.checked_sub(1).and_then(|at| declared.get(at)).copied().unwrap_or_default();
    match declared {
        0 | UNKNOWN => clear,
        _ => of_oid(declared) == Some(column.value_type),
    }
}

/// The values that a column can have. NULL is none: nothing is equal to it.
fn given_values(column: &RowColumn, bound: &[frontend::BoundValue<'_>]) -> Option<Vec<RowValue>> {
    let mut values = Vec::new();
    for given in &column.any_of {
        match given {
            Given::Value(value) => values.push(value.clone()),
            Given::Parameter(parameter) => match bound.get(parameter.number.checked_sub(1)?)? {
                (_, None) => {}
                (0, Some(text)) => values.push(column.value_type.read_text(text)?),
                (_, Some(bytes)) => values.push(column.value_type.read_binary(bytes)?),
            },
            Given::Elements(parameter) => match bound.get(parameter.number.checked_sub(1)?)? {
                (_, None) => {}
                (0, Some(text)) => values.extend(column.value_type.read_array_text(text)?),
                (_, Some(bytes)) => values.extend(column.value_type.read_array_binary(bytes)?),
            },
        }
        if values.len() > MAX_ROWS {
            return None;
        }
    }
    Some(values)
}

/// The rows that have one of these values in each column.
fn ids(columns: &[impl AsRef<[RowValue]>]) -> Option<Vec<u64>> {
    let mut rows: Vec<Vec<&RowValue>> = vec![Vec::new()];
    for values in columns {
        let values = values.as_ref();
        if rows.len() * values.len() > MAX_ROWS {
            return None;
        }
        let longer = rows
            .iter()
            .flat_map(|row| values.iter().map(move |value| row.iter().copied().chain([value]).collect()));
        rows = longer.collect();
    }
    let mut ids: Vec<u64> = rows.into_iter().map(row_id).collect();
    ids.sort_unstable();
    ids.dedup();
    Some(ids)
}

/// The rows that a statement writes.
#[derive(Debug)]
pub(crate) struct RowWrites {
    /// Its target, with what is above and below it.
    pub(crate) relations: TagSet,
    groups: Box<[Box<[RowColumn]>]>,
}

/// The rows that one execution wrote, as the marks to be set when it is acknowledged.
#[derive(Debug)]
pub(crate) struct RowMarks {
    relations: TagSet,
    /// Before and after: what is known of the columns of a row in each group.
    groups: Vec<Vec<(Box<str>, Vec<RowValue>)>>,
}

impl RowWrites {
    /// Of a statement with these declared parameter types; `None` if nothing is known of its rows.
    pub(crate) fn of(effect: &Effect, types: &[u8], relations: TagSet) -> Option<Self> {
        let groups = effect.rows.as_ref()?;
        let groups: Box<[_]> = groups.iter().map(|columns| told_apart(columns, types)).collect();
        groups.iter().all(|columns| !columns.is_empty()).then_some(Self { relations, groups })
    }

    /// Those of one execution. `bind`: see [`Dependencies::tags`].
    pub(crate) fn marks(&self, bind: &[u8]) -> RowMarks {
        let bound = frontend::bound_values(bind).unwrap_or_default();
        let known = |column: &RowColumn| {
            let values = given_values(column, &bound)?;
            // Blanks at the end of what is too long for its column are cut off when it is stored.
            let cut = |value: &RowValue| matches!(value, RowValue::Bytes(text) if text.ends_with(b" "));
            (!values.iter().any(cut)).then(|| (column.name.as_str().into(), values))
        };
        let groups = self.groups.iter().map(|columns| columns.iter().filter_map(known).collect()).collect();
        RowMarks { relations: Arc::clone(&self.relations), groups }
    }
}

impl RowMarks {
    /// Marks the rows, of each part of the relations whose columns are known; else the whole part.
    pub(crate) fn mark(&self, now: Moment) {
        for relation in &*self.relations {
            relation.mark_whole(now);
            for part in &*relation.parts() {
                match self.rows(part) {
                    Some(rows) => rows.into_iter().for_each(|row| part.mark_row(row, now)),
                    None => part.all().mark(now),
                }
            }
        }
    }

    fn rows(&self, part: &Part) -> Option<Vec<u64>> {
        let mut rows = Vec::new();
        for group in &self.groups {
            let values =
                |column: &str| group.iter().find(|(known, _)| **known == *column).map(|(_, values)| values);
            let columns: Vec<&Vec<RowValue>> = part.columns().map(values).collect::<Option<_>>()?;
            rows.extend(ids(&columns)?);
        }
        Some(rows)
    }
}
