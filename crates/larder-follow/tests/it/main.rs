//! A cache that follows real PostgreSQL servers of both supported ends, 15 and 18.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

mod changes;
mod outage;
mod rig;
mod truth;

/// Each test for both versions.
macro_rules! on_both {
    ($($name:ident => $body:path;)+) => {
        mod v15 { $( #[tokio::test] async fn $name() { $body(larder_sandbox::PgVersion::V15).await } )+ }
        mod v18 { $( #[tokio::test] async fn $name() { $body(larder_sandbox::PgVersion::V18).await } )+ }
    };
}
pub(crate) use on_both;
