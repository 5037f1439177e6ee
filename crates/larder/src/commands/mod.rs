//! The commands that ask the origin one thing and end.

mod check;
mod explain;
mod setup;

pub(crate) use check::check;
pub(crate) use explain::explain;
pub(crate) use setup::setup;

use anyhow::Context as _;
use larder_core::Finding;
use tokio_postgres::{Client, NoTls};

use crate::config::Config;
use crate::serve::account;

/// Connects to the origin with Larder's own account.
async fn connect(config: &Config) -> anyhow::Result<Client> {
    let account = account(config).map_err(|finding| stated(&[finding]))?;
    let mut options = tokio_postgres::Config::new();
    options.host(&account.host).port(account.port).user(&account.user).dbname(&account.database);
    options.connect_timeout(account.connect_timeout).application_name("larder");
    if let Some(password) = &account.password {
        options.password(password);
    }
    let connecting = options.connect(NoTls);
    let (client, connection) =
        connecting.await.with_context(|| format!("cannot connect to {}", config.control()))?;
    tokio::spawn(connection);
    Ok(client)
}

/// Findings as an error, each with its remedy.
fn stated(findings: &[Finding]) -> anyhow::Error {
    let each = findings.iter().map(|finding| format!("{}\n  -> {}", finding.problem, finding.remedy));
    anyhow::anyhow!(each.collect::<Vec<_>>().join("\n"))
}
