//! Reading the origin's catalog, and noticing that it changed.

pub(crate) mod load;

use larder_core::{Catalog, Lsn};

use crate::index::Index;
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
    /// When this session read the server's settings, in microseconds since 1970.
    pub(crate) settings: i64,
}

impl Fingerprint {
    /// Ids are compared modulo 2^32: half way to where they become ambiguous, a new starting point is due.
    const MAX_AGE: u64 = 1 << 30;

    /// Whether a later look with the same starting point saw something else.
    pub(crate) fn differs(&self, later: &Self) -> bool {
        self.digest != later.digest || self.settings != later.settings
    }

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
    /// What other Larders must have in common with this one, if anything is shared with them.
    pub(crate) meaning: Option<[u8; 32]>,
}

/// A digest of all of the catalog, with no starting point, and of when the server read its settings: equal for all
/// sessions of all accounts that would be told the same. That it is made by the same query is part of it.
pub(crate) fn meaning(digest: &str, settings: i64) -> [u8; 32] {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    for part in [COMPARE.as_bytes(), digest.as_bytes(), &settings.to_be_bytes()] {
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let mut meaning = [0; 32];
    meaning.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
    meaning
}
