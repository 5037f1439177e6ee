//! What the tests of all crates share: real clusters, a PostgreSQL client that can send anything, Larder as a child
//! process, a faulty network, and the comparison of an answer through Larder with the origin's own.
//!
//! For tests only: what cannot be set up panics, with the reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

mod certificates;
mod client;
mod clusters;
mod compare;
mod drivers;
mod faulty;
pub mod frame;
mod in_process;
mod larder;
#[cfg(feature = "sqlx")]
mod sqlx_script;
mod tokio_postgres_script;
mod transcript;

pub use certificates::{Authority, Identity, Tls, write};
pub use client::{Binding, CancelKey, Login, RawClient};
pub use clusters::{each_version, pg, pg15, pg18};
pub use compare::{Script, Step, Target, Until, assert_same, compare, run};
pub use drivers::Driver;
pub use faulty::{Faulty, Towards};
pub use frame::Frame;
pub use in_process::InProcess;
pub use larder::{Larder, LarderBuilder, Wait};
pub use larder_sandbox::{self as sandbox, Auth, Flavour, PgVersion, Postgres, Signal, Valkey};
pub use transcript::Transcript;
