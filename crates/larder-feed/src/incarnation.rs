//! One life of the origin: positions and transaction ids compare only within one.

use std::fmt;

/// What tells two lives of an origin apart.
///
/// The postmaster's start time is part of it because a crash can take back asynchronous commits that readers saw,
/// with the same system identifier and timeline, and use their transaction ids again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Incarnation {
    /// System identifier, made by initdb.
    pub(crate) system: String,
    /// Timeline: a promotion starts a new one.
    pub(crate) timeline: String,
    /// When the postmaster started, in microseconds since 1970.
    pub(crate) started: i64,
    /// OID of the database.
    pub(crate) database: u32,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { system, timeline, started, database } = self;
        write!(f, "{system}/{timeline}/{started}/{database}")
    }
}
