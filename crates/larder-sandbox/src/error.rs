//! What can go wrong, in sentences that say what to do.

use std::{io, path::PathBuf};

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a server could not be started or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The programs are not on this machine.
    #[error("no {what} found; looked in {}.\n{remedy}", list(.looked))]
    NotFound {
        /// What was looked for.
        what: String,
        /// Where.
        looked: Vec<PathBuf>,
        /// How to get it.
        remedy: &'static str,
    },
    /// A program ran and failed.
    #[error("{what} failed ({status})\n{output}")]
    Failed {
        /// What was run.
        what: String,
        /// Its exit status.
        status: String,
        /// What it printed, or the end of its log.
        output: String,
    },
    /// A server did not become ready, or did not stop, in time.
    #[error("{what} within {seconds} s\n{log}")]
    TimedOut {
        /// What did not happen.
        what: String,
        /// The limit.
        seconds: u64,
        /// The end of its log.
        log: String,
    },
    /// The operating system said no.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A wheel could not be unpacked.
    #[error("cannot unpack {}: {source}", .path.display())]
    Wheel {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: zip::result::ZipError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// Adds what was being tried to an I/O error.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Io { what: what(), source: e.into() })
    }
}
