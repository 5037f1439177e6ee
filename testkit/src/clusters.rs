//! Fresh clusters for tests.

use larder_sandbox::{PgVersion, Postgres};

/// A fresh cluster of this version with the sandbox's defaults.
///
/// # Panics
/// If it does not start.
#[must_use]
pub fn pg(version: PgVersion) -> Postgres {
    Postgres::builder().version(version).start().unwrap_or_else(|e| panic!("{e}"))
}

/// A fresh PostgreSQL 15.
#[must_use]
pub fn pg15() -> Postgres {
    pg(PgVersion::V15)
}

/// A fresh PostgreSQL 18.
#[must_use]
pub fn pg18() -> Postgres {
    pg(PgVersion::V18)
}

/// Runs a test on a fresh cluster of each supported version, one after the other.
pub async fn each_version<T>(test: impl AsyncFn(Postgres) -> T) {
    for version in [PgVersion::V15, PgVersion::V18] {
        eprintln!("on {version}"); // shown if the test fails
        test(pg(version)).await;
    }
}
