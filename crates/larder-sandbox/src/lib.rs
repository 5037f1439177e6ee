//! Throw-away PostgreSQL and Valkey servers: real ones, started in a moment, gone on every exit path.
//!
//! ```no_run
//! use larder_sandbox::{PgVersion, Postgres};
//! let pg = Postgres::builder().version(PgVersion::V18).setting("work_mem", "8MB").start()?;
//! assert_eq!(pg.sql("select 1")?, "1");
//! println!("{}", pg.url("postgres", "postgres"));
//! # Ok::<(), larder_sandbox::Error>(())
//! ```
//!
//! How it works, in the order things happen:
//! * [`mod@locate`] finds the programs: those of the distribution, or a wheel that `scripts/fetch-servers` left
//!   in the [cache folder](cache_dir) and that is unpacked there once;
//! * `template` runs `initdb` once for each set of programs; each cluster is a copy of that template;
//! * [`Owner`] picks the account the server runs as (PostgreSQL refuses to run as root);
//! * `rundir` makes the server's own folder and sweeps those which dead owners left behind;
//! * [`Guarded`] starts the server, and beside it a watcher that stops it and removes its folder if this process
//!   dies without doing so.

mod cache;
mod error;
mod guard;
pub mod locate;
mod owner;
mod port;
mod postgres;
mod rundir;
mod template;
mod valkey;

pub use cache::cache_dir;
pub use error::{Error, Result};
pub use guard::Guarded;
pub use owner::Owner;
pub use postgres::{Auth, Postgres, PostgresBuilder};
pub use rustix::process::Signal;
pub use valkey::{Flavour, Valkey, ValkeyBuilder};

/// Which PostgreSQL to start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PgVersion {
    /// PostgreSQL 15.
    V15,
    /// PostgreSQL 18.
    V18,
    /// Whatever is there, the newest first; at least 14.
    #[default]
    Any,
}

impl PgVersion {
    /// True if a server of this major version is wanted.
    #[must_use]
    pub fn accepts(self, major: u32) -> bool {
        match self {
            Self::V15 => major == 15,
            Self::V18 => major == 18,
            Self::Any => major >= 14,
        }
    }
}

impl std::fmt::Display for PgVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V15 => "PostgreSQL 15",
            Self::V18 => "PostgreSQL 18",
            Self::Any => "PostgreSQL 14 or newer",
        })
    }
}
