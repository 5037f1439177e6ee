//! The feed against real PostgreSQL servers of both supported ends, 15 and 18.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod alike;
mod catalog;
mod faults;
mod login;
mod meaning;
mod measure;
mod pgoutput;
mod rig;
mod rows;
mod stream;

/// Each test for both versions.
macro_rules! on_both {
    ($($name:ident => $body:path;)+) => {
        mod v15 { $( #[tokio::test] async fn $name() { $body(larder_sandbox::PgVersion::V15).await } )+ }
        mod v18 { $( #[tokio::test] async fn $name() { $body(larder_sandbox::PgVersion::V18).await } )+ }
    };
}
pub(crate) use on_both;
