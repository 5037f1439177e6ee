//! Which rows of a relation's parts (see [`larder_cache::Part`]) a change concerns: the one that there was and the one that there
//! is now, by the values of the columns that tell the part's rows apart. What is not certain concerns all rows of the part.
//!
//! | | new row | old row |
//! |---|---|---|
//! | INSERT | printed | there was none |
//! | UPDATE | printed | `old-key:`; without it, the columns of the replica identity are what they were |
//! | DELETE | there is none | printed, as far as it belongs to the identity |
//!
//! A transaction's rows are kept until it commits, up to a number; beyond that they concern all, and values are not read any more:
//! a bulk change costs what it cost without parts.

use std::sync::Arc;

use larder_cache::{Part, Tag};
use larder_core::catalog::Relation;
use larder_core::{RowValue, ValueType, row_id};

use crate::decode::Kind;
use crate::index::Named;
use crate::tuple::{Change, Printed, Tuple};

/// Different rows of one part that a transaction keeps apart, about.
const ROWS_MAX: usize = 4096;
/// Rows of all parts together.
const ROWS_IN_ALL: usize = 65_536;

/// The parts of one tag.
pub(crate) type List = Arc<[Arc<Part>]>;

/// How the rows of a relation are read for the parts that it and its ancestors have.
#[derive(Debug)]
pub(crate) struct Reader {
    relation: Arc<Relation>,
    /// One for each tag.
    lists: Box<[List]>,
    wanted: Box<[Wanted]>,
    /// Of all lists, one after the other.
    parts: Box<[Columns]>,
}

/// A column whose values are needed.
#[derive(Debug)]
struct Wanted {
    spelled: Box<[u8]>,
    value_type: ValueType,
    in_identity: bool,
}

/// Those of one part, as positions in `wanted`; `None` if there is one whose values are not understood.
type Columns = Option<Box<[usize]>>;

/// What a row has in a column.
#[derive(Debug, Clone)]
enum Cell {
    /// Nothing is printed.
    Absent,
    /// The change has left it as it was, and that is not printed.
    Unchanged,
    /// Something that is not understood.
    Unknown,
    Known(RowValue),
}

/// The rows of a relation that a transaction has changed.
#[derive(Debug)]
pub(crate) struct Changed {
    reader: Arc<Reader>,
    /// For each part; `None`: any row.
    rows: Box<[Option<Vec<u64>>]>,
}

/// What a transaction may still keep, and room to work in.
#[derive(Debug)]
pub(crate) struct Budget {
    rows: usize,
    old: Vec<Cell>,
    new: Vec<Cell>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { rows: ROWS_IN_ALL, old: Vec::new(), new: Vec::new() }
    }
}

/// Whether no part has come or gone.
pub(crate) fn same_lists<'a>(known: impl Iterator<Item = &'a List>, now: impl Iterator<Item = List>) -> bool {
    known.zip(now).all(|(known, now)| Arc::ptr_eq(known, &now) || (known.is_empty() && now.is_empty()))
}

impl Reader {
    pub(crate) fn new(named: &Named, lists: Box<[List]>) -> Self {
        let mut wanted: Vec<Wanted> = Vec::new();
        let mut parts = Vec::new();
        for part in lists.iter().flat_map(|parts| parts.iter()) {
            let columns = part.columns().map(|name| {
                let (spelled, column) = named.columns().find(|(_, column)| column.name == name)?;
                let value_type = column.value_type?;
                let known = wanted.iter().position(|wanted| *wanted.spelled == *spelled);
                Some(known.unwrap_or_else(|| {
                    wanted.push(Wanted {
                        spelled: spelled.into(),
                        value_type,
                        in_identity: column.in_identity,
                    });
                    wanted.len() - 1
                }))
            });
            parts.push(columns.collect());
        }
        let relation = Arc::clone(named.relation());
        Self { relation, lists, wanted: wanted.into(), parts: parts.into() }
    }

    /// The lists of parts that this is for.
    pub(crate) fn lists(&self) -> &[List] {
        &self.lists
    }

    /// Reads the wanted columns; `all`: goes on to the end, to what is behind it. `None` if the row is not understood.
    fn read(&self, tuple: &mut Tuple<'_>, all: bool, cells: &mut Vec<Cell>) -> Option<()> {
        cells.clear();
        cells.resize(self.wanted.len(), Cell::Absent);
        let mut missing = self.wanted.len();
        while all || missing > 0 {
            let Some(column) = tuple.next() else { break };
            let (name, printed) = column?;
            let found = self.wanted.iter().zip(cells.iter_mut()).find(|(wanted, _)| *wanted.spelled == *name);
            let Some((wanted, cell)) = found else { continue };
            missing = missing.saturating_sub(1);
            *cell = match printed {
                Printed::Null => Cell::Known(RowValue::Null),
                Printed::Unchanged => Cell::Unchanged,
                Printed::Text(text) => wanted.value_type.read_log(&text).map_or(Cell::Unknown, Cell::Known),
            };
        }
        Some(())
    }

    /// The old row: what is not printed of all old values is NULL.
    fn read_old(&self, tuple: &mut Tuple<'_>, all: bool, cells: &mut Vec<Cell>) -> Option<()> {
        self.read(tuple, all, cells)?;
        if self.relation.logs_old_rows && tuple.leaves_out_nulls() {
            for cell in cells.iter_mut().filter(|cell| matches!(cell, Cell::Absent)) {
                *cell = Cell::Known(RowValue::Null);
            }
        }
        Some(())
    }

    /// Fills in the rows before and after; returns which of the two there are.
    fn rows(
        &self,
        kind: Kind,
        change: Change<'_>,
        old: &mut Vec<Cell>,
        new: &mut Vec<Cell>,
    ) -> Option<(bool, bool)> {
        let (has_old, mut tuple) = change.first()?;
        match kind {
            Kind::Insert => {
                self.read(&mut tuple, false, new)?;
                return Some((false, true));
            }
            Kind::Delete => {
                self.read_old(&mut tuple, false, old)?;
                return Some((true, false));
            }
            Kind::Update => {}
        }
        if has_old {
            self.read_old(&mut tuple, true, old)?;
            self.read(&mut tuple.behind_old()?, false, new)?;
            for (new, old) in new.iter_mut().zip(old.iter()).filter(|(new, _)| matches!(new, Cell::Unchanged))
            {
                new.clone_from(old);
            }
        } else {
            self.read(&mut tuple, false, new)?;
            old.clone_from(new);
            // With all old values in the log there should have been some.
            let known = |wanted: &Wanted| wanted.in_identity && !self.relation.logs_old_rows;
            for (_, cell) in self.wanted.iter().zip(old.iter_mut()).filter(|(wanted, _)| !known(wanted)) {
                *cell = Cell::Unknown;
            }
        }
        Some((true, true))
    }
}

impl Changed {
    pub(crate) fn new(reader: Arc<Reader>) -> Self {
        let rows = reader.parts.iter().map(|columns| columns.is_some().then(Vec::new)).collect();
        Self { reader, rows }
    }

    /// Adds the rows of a change.
    pub(crate) fn add(&mut self, kind: Kind, change: Change<'_>, budget: &mut Budget) {
        if self.rows.iter().all(Option::is_none) {
            return;
        }
        let Budget { rows: left, old, new } = budget;
        let Some((was, is)) = self.reader.rows(kind, change, old, new) else { return self.forget() };
        for (columns, rows) in self.reader.parts.iter().zip(&mut self.rows) {
            let (Some(columns), Some(kept)) = (columns, rows.as_mut()) else { continue };
            let before = was.then(|| id(columns, old));
            let after = is.then(|| id(columns, new));
            let known =
                [before, after].into_iter().flatten().all(|id| id.is_some_and(|id| keep(kept, id, left)));
            if !known {
                *left += kept.len();
                *rows = None;
            }
        }
    }

    /// Any row may have changed.
    pub(crate) fn forget(&mut self) {
        self.rows.fill(None);
    }

    /// Whether it was read by what the catalog says of this relation still.
    pub(crate) fn is_of(&self, relation: &Arc<Relation>) -> bool {
        Arc::ptr_eq(&self.reader.relation, relation)
    }

    /// Touches what the `at`th tag's parts are now, as far as they were changed. Parts that have come meanwhile are touched whole.
    /// Returns the number of rows.
    pub(crate) fn touch(&self, at: usize, tag: &Tag, position: u64) -> usize {
        let lists = &self.reader.lists;
        let (mut touched, now) = (0, tag.parts());
        let first: usize = lists.iter().take(at).map(|parts| parts.len()).sum();
        let known = lists.get(at).map(|parts| &**parts).unwrap_or_default();
        for part in &*now {
            let place = known.iter().position(|known| Arc::ptr_eq(known, part));
            match place.and_then(|place| self.rows.get(first + place)?.as_ref()) {
                Some(rows) => {
                    rows.iter().for_each(|row| part.touch_row(*row, position));
                    touched += rows.len();
                }
                None => part.all().touch_whole(position),
            }
        }
        touched
    }
}

/// What the row is known by; `None` if that is not certain.
fn id(columns: &[usize], cells: &[Cell]) -> Option<u64> {
    let value = |at: &usize| match cells.get(*at) {
        Some(Cell::Known(value)) => Some(value),
        _ => None,
    };
    if columns.iter().any(|at| value(at).is_none()) {
        return None;
    }
    Some(row_id(columns.iter().filter_map(value)))
}

/// Keeps a row; `false` if there are too many.
fn keep(rows: &mut Vec<u64>, row: u64, left: &mut usize) -> bool {
    if rows.last() == Some(&row) {
        return true;
    }
    if rows.len() >= ROWS_MAX {
        let before = rows.len();
        rows.sort_unstable();
        rows.dedup();
        *left += before - rows.len();
        if rows.len() > ROWS_MAX / 2 {
            return false;
        }
    }
    if *left == 0 {
        return false;
    }
    *left -= 1;
    rows.push(row);
    true
}

#[cfg(test)]
mod tests;
