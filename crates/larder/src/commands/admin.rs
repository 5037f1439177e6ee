//! Commands that talk to a running Larder, over its admin database.

use std::time::Duration;

use anyhow::Context as _;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::config::Config;

/// Time to connect, and for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session with the admin database of the Larder that this configuration describes.
pub(super) struct AdminClient(Client);

impl AdminClient {
    /// Connects with the user and password of section `[admin]`.
    pub(super) async fn connect(config: &Config) -> anyhow::Result<Self> {
        let password = config.admin.password.get().context(
            "no account for the admin database\n  -> set user and password in section [admin], for the server and here",
        )?;
        let mut addr = config.listen_addr();
        if addr.ip().is_unspecified() {
            addr.set_ip([127, 0, 0, 1].into());
        }
        let mut options = tokio_postgres::Config::new();
        options.host(addr.ip().to_string()).port(addr.port()).dbname(crate::admin::DATABASE);
        options.user(&config.admin.user.0).password(password).connect_timeout(PATIENCE);
        let connected = options.connect(NoTls).await;
        let (client, connection) =
            connected.with_context(|| format!("cannot reach Larder's admin database at {addr}"))?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    /// Names of the columns, rows, and what was done.
    pub(super) async fn run(&self, statement: &str) -> anyhow::Result<Answer> {
        let messages = tokio::time::timeout(PATIENCE, self.0.simple_query(statement)).await;
        let messages =
            messages.context("Larder does not answer")?.map_err(|error| match error.as_db_error() {
                Some(said) => {
                    let hint = said.hint().map(|hint| format!("\n  -> {hint}")).unwrap_or_default();
                    anyhow::anyhow!("{}{hint}", said.message())
                }
                None => error.into(),
            })?;
        let mut answer = Answer::default();
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => {
                    answer.rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
                }
                SimpleQueryMessage::CommandComplete(count) => answer.count = count,
                _ => {}
            }
        }
        Ok(answer)
    }
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// The number in the command tag.
    pub(super) count: u64,
}
