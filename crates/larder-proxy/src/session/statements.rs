//! The session's prepared statements, as the client sees them.
//!
//! A statement that the client prepared may not exist at the origin: `Parse` of a text that the origin is known to
//! accept is answered locally, and sent only when something needs the statement there (Bind of a miss, Describe,
//! SQL-level EXECUTE). The unnamed statement is the entry with an empty name.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::facts::{Common, Facts};
use crate::plan::Plan;

/// One prepared statement.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) name: Bytes,
    /// The client's whole `Parse` frame; `None` if it was too large to keep (then it is at the origin).
    pub(crate) frame: Option<Bytes>,
    /// It has been sent to the origin.
    pub(crate) upstream: Cell<bool>,
    /// The origin has said ParseComplete. Until then an error before it may make the origin skip it, and what comes
    /// after may be about another statement of that name.
    pub(crate) confirmed: Cell<bool>,
    /// Something may have removed it at the origin: never answered locally again.
    pub(crate) uncertain: Cell<bool>,
    /// The columns that the client was told of, once it has asked: `RowDescription` with all formats zero. The origin
    /// holds a prepared statement to them; so does an answer from memory.
    pub(crate) told: RefCell<Option<Bytes>>,
    /// It was sent to the origin for another statement's sake, and whether its columns are still those is not known.
    pub(crate) unchecked: Cell<bool>,
    /// What was known of the session when the client prepared it: see [`Common::reads_like`].
    pub(crate) analysed: Option<Arc<Common>>,
    /// Its place among those that the client prepared: the origin gets them in that order.
    pub(crate) order: Cell<u64>,
    /// The plan made last. It may be of an old epoch or of other facts: see [`Prepared::text`].
    pub(crate) plan: RefCell<Option<(u64, Rc<Plan>)>>,
}

impl Prepared {
    /// One whose `Parse` is not kept: it must be at the origin.
    pub(crate) fn too_large(name: &[u8]) -> Self {
        Self {
            name: Bytes::copy_from_slice(name),
            frame: None,
            upstream: Cell::new(true),
            confirmed: Cell::new(false),
            uncertain: Cell::new(false),
            told: RefCell::new(None),
            unchecked: Cell::new(false),
            analysed: None,
            order: Cell::new(0),
            plan: RefCell::new(None),
        }
    }

    /// Whether rows of these columns are what the client expects. Unknown columns are not, if it was told of any.
    pub(crate) fn expects(&self, columns: Option<&Bytes>) -> bool {
        let told = self.told.borrow();
        let same =
            |told: &Bytes| columns.is_some_and(|columns| larder_wire::backend::same_columns(told, columns));
        told.as_ref().is_none_or(same)
    }

    /// Whether it means to a session with these facts what the text means there.
    pub(crate) fn means_the_same(&self, facts: &Facts) -> bool {
        self.analysed.as_ref().is_some_and(|common| common.reads_like(&facts.common))
    }

    /// SQL text and declared types.
    pub(crate) fn text(&self) -> Option<(&[u8], &[u8])> {
        let parse = larder_wire::frontend::parse(self.frame.as_ref()?.get(larder_wire::HEADER..)?)?;
        Some((parse.sql, parse.types))
    }
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    by_name: HashMap<Bytes, Rc<Prepared>, foldhash::quality::RandomState>,
    /// The origin has others, prepared in SQL: a name that is not here may be taken there.
    pub(crate) others: bool,
    /// Statements prepared so far.
    count: u64,
}

impl Statements {
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Rc<Prepared>> {
        self.by_name.get(name)
    }

    /// Returns the one that had the name.
    pub(crate) fn insert(&mut self, prepared: Rc<Prepared>) -> Option<Rc<Prepared>> {
        self.count += 1;
        prepared.order.set(self.count);
        self.by_name.insert(prepared.name.clone(), prepared)
    }

    /// Enters a statement again that the origin still has.
    pub(crate) fn put_back(&mut self, prepared: Rc<Prepared>) {
        // A later Parse of the name, still on its way, will be refused: who had it must not be forgotten then.
        self.others |= self.by_name.contains_key(&prepared.name);
        self.by_name.entry(prepared.name.clone()).or_insert(prepared);
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Option<Rc<Prepared>> {
        self.by_name.remove(name)
    }

    /// Removes exactly this one, not a successor of the same name.
    pub(crate) fn remove_if_same(&mut self, prepared: &Rc<Prepared>) {
        if self.by_name.get(&prepared.name).is_some_and(|found| Rc::ptr_eq(found, prepared)) {
            self.by_name.remove(&prepared.name);
        }
    }

    pub(crate) fn clear_named(&mut self) {
        self.by_name.retain(|name, _| name.is_empty());
        self.others = false;
    }

    pub(crate) fn doubt_all(&self) {
        for prepared in self.by_name.values() {
            prepared.uncertain.set(true);
        }
    }

    pub(crate) fn any_missing_upstream(&self) -> bool {
        self.by_name.values().any(|prepared| !prepared.name.is_empty() && !prepared.upstream.get())
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Rc<Prepared>> {
        self.by_name.values()
    }

    /// Named statements that the origin does not have yet, in the order in which they were prepared.
    pub(crate) fn missing_upstream(&self) -> Vec<Rc<Prepared>> {
        let named = |prepared: &&Rc<Prepared>| !prepared.name.is_empty() && !prepared.upstream.get();
        let mut missing: Vec<_> = self.by_name.values().filter(named).cloned().collect();
        missing.sort_unstable_by_key(|prepared| prepared.order.get());
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_gets_statements_in_the_order_in_which_they_were_prepared() {
        let mut statements = Statements::default();
        let names = ["c", "a", "b", "e", "d"];
        for name in names {
            let prepared = Prepared::too_large(name.as_bytes());
            prepared.upstream.set(false);
            statements.insert(Rc::new(prepared));
        }
        let missing: Vec<_> = statements.missing_upstream().iter().map(|found| found.name.clone()).collect();
        assert_eq!(missing, names.map(str::as_bytes));
    }
}
