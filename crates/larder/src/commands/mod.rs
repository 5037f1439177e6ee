//! The commands that ask one thing, of the origin or of a running Larder, and end.

mod admin;
mod advise;
mod check;
mod check_valkey;
mod explain;
mod health;
mod purge;
mod setup;
mod top;

pub(crate) use advise::advise;
pub(crate) use check::check;
pub(crate) use explain::{explain, explained};
pub(crate) use health::health;
pub(crate) use purge::purge;
pub(crate) use setup::setup;
pub(crate) use top::top;

use anyhow::Context as _;
use larder_core::Finding;
use tokio_postgres::Client;

use crate::config::Config;
use crate::serve::account;

/// The grammar recurses with the nesting of the text, as on the workers of the client path.
const STACK: usize = 32 << 20;

/// Runs a judgement on a thread with a worker's stack.
fn judged_apart<T: Send>(judge: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, judge)?;
        thread
            .join()
            .map_err(|_| anyhow::anyhow!("a statement cannot be judged; please report this as a bug"))
    })
}

/// Connects to the origin with Larder's own account.
async fn connect(config: &Config) -> anyhow::Result<Client> {
    let account = account(config).map_err(|finding| stated(&[finding]))?;
    let connecting = larder_feed::connect(&account, "larder").await;
    connecting
        .map_err(|findings| stated(&findings))
        .with_context(|| format!("cannot connect to {}", config.control()))
}

/// Findings as an error, each with its remedy.
fn stated(findings: &[Finding]) -> anyhow::Error {
    let each = findings.iter().map(|finding| format!("{}\n  -> {}", finding.problem, finding.remedy));
    anyhow::anyhow!(each.collect::<Vec<_>>().join("\n"))
}
