//! The commands that ask one thing, of the origin or of a running Larder, and end.

mod admin;
mod check;
mod check_valkey;
mod explain;
mod health;
mod purge;
mod setup;
mod top;

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
