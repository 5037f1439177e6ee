//! Where the session stands in its transaction, and which of its writes are still to be acknowledged.

use larder_cache::{Moment, TagSet};
use larder_core::Bypass;
use larder_sql::Settings;

use super::Session;
use super::portal::Unnamed;
use crate::plan::{PlannedEffect, Writes};
use crate::rows::RowMarks;

/// The transaction at the origin.
#[derive(Debug)]
pub(crate) struct Transaction {
    /// As in the last ReadyForQuery: `I` idle, `T` in a transaction, `E` failed.
    pub(crate) status: u8,
    /// It was begun in a way known to be READ COMMITTED, so every statement sees a new snapshot.
    pub(crate) plain: bool,
    /// It may have written.
    pub(crate) wrote: bool,
    /// A statement that may end it has been forwarded.
    pub(crate) may_end: bool,
    /// A read inside it was answered from memory: the origin knows of no query.
    pub(crate) read_here: bool,
    /// Settings that were changed in it, as far as that can be told: its end may take that back.
    pub(crate) settings: Settings,
}

impl Default for Transaction {
    fn default() -> Self {
        Self {
            status: b'I',
            plain: false,
            wrote: false,
            may_end: false,
            read_here: false,
            settings: Settings::Nothing,
        }
    }
}

impl Transaction {
    /// Why a read inside it cannot be answered from memory.
    pub(crate) fn refusal(&self) -> Option<Bypass> {
        match self.status {
            b'I' => None,
            b'E' => Some(Bypass::TransactionFailed),
            _ if self.wrote => Some(Bypass::TransactionWrote),
            _ if !self.plain => Some(Bypass::TransactionSnapshot),
            _ => None,
        }
    }
}

/// A BEGIN that the client was told had succeeded and that the origin has not seen.
#[derive(Debug)]
pub(crate) struct Deferred {
    /// The client's own text.
    pub(crate) text: String,
}

/// Writes of rows that are told apart in one transaction; what comes after is taken for a write of the whole relation.
const MAX_ROW_WRITES: usize = 256;

/// What the statements under way may have changed, until they are acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    tags: Vec<TagSet>,
    rows: Vec<RowMarks>,
    everything: bool,
    catalog: bool,
    lock: bool,
    /// The epoch that the first of them was planned in.
    epoch: Option<u64>,
}

impl Pending {
    fn add(&mut self, effect: &PlannedEffect, bind: Option<&[u8]>) {
        self.epoch.get_or_insert(effect.epoch);
        match (&effect.writes, bind) {
            (Writes::Nothing, _) => {}
            (Writes::Rows(rows), Some(bind)) if self.rows.len() < MAX_ROW_WRITES => {
                if !self.everything {
                    self.rows.push(rows.marks(bind));
                }
            }
            (Writes::Rows(rows), _) => self.relations(&rows.relations),
            (Writes::Tags(tags), _) => self.relations(tags),
            (Writes::Everything, _) => self.everything(),
        }
        self.catalog |= effect.catalog;
        self.lock |= effect.lock;
    }

    fn relations(&mut self, tags: &TagSet) {
        // A transaction repeats itself; one entry per statement plan is enough.
        if !self.everything && !self.tags.iter().any(|known| std::sync::Arc::ptr_eq(known, tags)) {
            self.tags.push(std::sync::Arc::clone(tags));
        }
    }

    pub(crate) fn everything(&mut self) {
        self.everything = true;
        self.tags.clear();
        self.rows.clear();
    }

    fn writes(&self) -> bool {
        self.everything || !self.tags.is_empty() || !self.rows.is_empty()
    }
}

impl Session {
    /// A statement with this effect is about to be sent. With its parameters, if they are known (the Bind message after the
    /// names; empty in the simple protocol), it is known which rows it writes.
    pub(crate) fn expect_effect(&mut self, effect: &PlannedEffect, bind: Option<&[u8]>) {
        self.pending.add(effect, bind);
        if !matches!(effect.writes, Writes::Nothing) {
            self.transaction.wrote = true;
        }
        if matches!(effect.writes, Writes::Everything) {
            self.transaction.may_end = true;
        }
        if effect.isolation {
            self.transaction.plain = false;
        }
        if effect.reverts {
            self.knowledge.changed(self.transaction.settings);
        }
        self.knowledge.changed(effect.settings);
        self.transaction.settings = self.transaction.settings.max(effect.settings);
    }

    /// The origin said that something is done, and the client has not heard it yet: from here on nobody who is
    /// entitled to see the write may be given an older answer.
    ///
    /// Inside a transaction block nothing is visible to others until a statement that may end it was sent.
    pub(crate) fn acknowledge(&mut self) {
        if self.transaction.status == b'I' || self.transaction.may_end {
            self.acknowledge_pending();
        } else if self.pending.lock {
            self.news = Moment::now();
        }
    }

    pub(crate) fn acknowledge_pending(&mut self) {
        if !self.is_followed() {
            return;
        }
        let fence = &self.worker.shared.fence;
        // The review first: the moments kept below must lie after it.
        if self.pending.catalog {
            fence.request_review();
        }
        let now = Moment::now();
        // A statement that waited for DDL ran by another catalog than it was planned by: with a new trigger, say.
        let outdated = self.pending.writes() && self.pending.epoch != Some(fence.epoch());
        if self.pending.everything || outdated {
            fence.mark_all(now);
        }
        for tag in self.pending.tags.iter().flat_map(|tags| tags.iter()) {
            tag.mark(now);
        }
        self.pending.rows.iter().for_each(|rows| rows.mark(now));
        if self.pending.lock {
            self.news = now;
        }
        // Marks come first: a sample that starts after them covers the write.
        if self.pending.writes() {
            self.wrote = now;
            fence.request_sample();
        }
    }

    /// Whether answers from this session's database may be in memory at all: writes to others mark nothing.
    pub(crate) fn is_followed(&self) -> bool {
        self.worker.config().has_cache()
            && self
                .worker
                .shared
                .catalog
                .load()
                .as_ref()
                .is_none_or(|catalog| catalog.database == self.database)
    }

    /// ReadyForQuery with nothing more on its way and no transaction: the slate is clean.
    pub(crate) fn settled(&mut self) {
        self.pending = Pending::default();
        self.transaction = Transaction::default();
        self.unnamed = Unnamed::Same;
        if !self.portals.is_empty() {
            self.portals.clear();
        }
    }
}
