//! Reading the origin's catalog, and noticing that it changed.

pub(crate) mod load;

use larder_core::{Catalog, Lsn};

use crate::fold::Index;
use crate::visibility::Snapshot;

/// A sample and the catalog's fingerprint, in one statement.
pub(crate) const COMPARE: &str = include_str!("compare.sql");

/// A digest of everything in the catalog that can change an answer, its shape, or who may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// The digest is over row versions made by this transaction id or later, and counts of all rows.
    pub(crate) since: u32,
    /// As computed by the origin.
    pub(crate) digest: String,
    /// A digest of row versions that rewriting a table changes, too: it tells that something was changed and changed
    /// back.
    pub(crate) versions: String,
}

impl Fingerprint {
    /// Ids are compared modulo 2^32: half way to where they become ambiguous, a new starting point is due.
    const MAX_AGE: u64 = 1 << 30;

    /// Whether the starting point is too long ago.
    pub(crate) fn outlived(&self, now: &Snapshot) -> bool {
        now.age(self.since) > Self::MAX_AGE
    }
}

/// What one reading brings.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// For the client path.
    pub(crate) catalog: Catalog,
    /// For the stream.
    pub(crate) index: Index,
    /// To notice the next change.
    pub(crate) fingerprint: Fingerprint,
    /// The origin's position after the reading.
    pub(crate) floor: Lsn,
}
