//! Larder: a transparent, provably fresh read cache for PostgreSQL.
//!
//! This crate is the program: command line, configuration, wiring of the change feed and the client path, the admin
//! HTTP server, and the demo. What the words mean is in `docs/freshness.md`; who does what in `docs/ARCHITECTURE.md`.

mod admin;
mod cli;
mod commands;
mod config;
mod demo;
mod events;
mod logging;
mod serve;

use std::process::ExitCode;

// Many small replies of many sizes are kept and dropped: mimalloc's per-thread pages suit that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Of this program.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Of the source it was built from, when the build says so.
pub(crate) const REVISION: &str = match option_env!("LARDER_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

fn main() -> ExitCode {
    cli::run()
}
