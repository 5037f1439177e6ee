//! Reading the origin's catalog, and noticing that it changed.

pub(crate) mod load;

use larder_core::{Catalog, Lsn};

use crate::fold::Index;

/// A sample and the catalog's fingerprint, in one statement.
pub(crate) const COMPARE: &str = include_str!("compare.sql");

/// A digest of everything in the catalog that can change an answer, its shape, or who may have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint(Box<str>);

impl Fingerprint {
    /// As computed by the origin.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
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
