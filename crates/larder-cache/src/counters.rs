//! What the in-memory tier counts. Hits and misses are not here: who looks up knows more about them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Discard;
use crate::shared::Refusal;

/// Events since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Answers kept.
    pub stored: AtomicU64,
    /// Entries that had to make room for others.
    pub evicted: AtomicU64,
    /// Entries found past their time to live, and removed.
    pub expired: AtomicU64,
    /// Entries found invalid (a commit touched a tag, or the epoch is another), and removed.
    pub invalidated: AtomicU64,
    /// Answers not kept because a commit touched a tag on the way ([`Discard::Changed`]).
    pub discarded_changed: AtomicU64,
    /// Answers not kept because the epoch changed on the way ([`Discard::Epoch`]).
    pub discarded_epoch: AtomicU64,
    /// Answers not kept because of their size ([`Discard::TooLarge`]).
    pub discarded_too_large: AtomicU64,
    /// Fills that ended without an answer to keep ([`Discard::Abandoned`]).
    pub discarded_abandoned: AtomicU64,
    /// Answers taken over from other processes.
    pub adopted: AtomicU64,
    /// What was found in the tier and was of no use, in the order of [`Refusal::ALL`].
    pub refused: [AtomicU64; Refusal::ALL.len()],
}

impl Counters {
    /// Answers not kept for that reason.
    pub fn discarded(&self, reason: Discard) -> &AtomicU64 {
        match reason {
            Discard::Changed => &self.discarded_changed,
            Discard::Epoch => &self.discarded_epoch,
            Discard::TooLarge => &self.discarded_too_large,
            Discard::Abandoned => &self.discarded_abandoned,
        }
    }
}

/// Counts one; nothing is ordered by it.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
