use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Where the change feed stands. Written by the feed, read by the status pages and the metrics.
#[derive(Debug, Default)]
pub struct FeedHealth {
    state: Mutex<FeedState>,
    /// Times continuity was lost and everything cached died with it.
    pub gaps: AtomicU64,
    /// Bytes of log between the origin's insert position and what has been folded in, at the last sample.
    pub lag_bytes: AtomicU64,
    /// Committed changes by kind, in stream order: insert, update, delete, truncate, catalog-only transactions.
    pub inserts: AtomicU64,
    /// See `inserts`.
    pub updates: AtomicU64,
    /// See `inserts`.
    pub deletes: AtomicU64,
    /// See `inserts`.
    pub truncates: AtomicU64,
    /// See `inserts`.
    pub ddl: AtomicU64,
    /// Tags of relations touched, once for each commit that changed the relation (or one below it).
    pub touched: AtomicU64,
    /// Rows touched in relations of which rows are told apart, once for each commit and part.
    pub touched_rows: AtomicU64,
    /// Epochs begun: everything cached died.
    pub epochs: AtomicU64,
}

/// The state of the feed, with what an operator should do about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum FeedState {
    /// Not started yet.
    #[default]
    Starting,
    /// Changes arrive; answers may come from memory while the lease holds.
    Connected,
    /// No changes arrive: Larder is a plain proxy. The findings say why and how to mend it.
    Disconnected {
        /// What stands in the way, most important first.
        findings: Vec<Finding>,
        /// When the next attempt is made.
        retry_in: Duration,
    },
}

/// One thing that is not as Larder needs it, and the exact SQL or setting that mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// A stable, machine-readable name, e.g. `wal_level`.
    pub code: &'static str,
    /// One sentence: what is wrong.
    pub problem: String,
    /// SQL or a setting to apply, or advice when there is none.
    pub remedy: String,
}

impl FeedHealth {
    /// Replaces the state.
    pub fn set(&self, state: FeedState) {
        *self.state.lock() = state;
    }

    /// A copy of the state.
    pub fn get(&self) -> FeedState {
        self.state.lock().clone()
    }

    /// Whether changes arrive now.
    pub fn is_connected(&self) -> bool {
        matches!(*self.state.lock(), FeedState::Connected)
    }

    /// Adds one to a counter.
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
