//! One PostgreSQL client of the demo, connected through Larder or directly, that can ask every [`Ask`].

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, NoTls, Row, SimpleQueryMessage, Statement};

use super::ledger::Versions;
use super::shop::{Ask, DASHBOARD, LIST, ORM, POINT};

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    through_larder: bool,
    point: Statement,
    list: Statement,
    orm: Statement,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// From sending the first byte to having the last row (for a transaction: BEGIN to COMMIT).
    pub(super) elapsed: Duration,
    /// When the last row was there.
    pub(super) arrived: Instant,
    /// The counters, row by row; for the dashboard their sum.
    pub(super) versions: Vec<Versions>,
    /// What `SHOW larder.last` said; empty for direct connections.
    pub(super) served: String,
    /// Every value of every row, as sent.
    pub(super) bytes: Vec<Vec<Option<Vec<u8>>>>,
}

impl Answer {
    /// Whether it came from memory.
    pub(super) fn is_hit(&self) -> bool {
        self.served.starts_with("hit")
    }

    /// Whether it waited for somebody else's identical query.
    pub(super) fn has_waited(&self) -> bool {
        self.served.contains("coalesced")
    }
}

impl Session {
    /// Connects and prepares.
    pub(super) async fn connect(
        options: &tokio_postgres::Config,
        through_larder: bool,
    ) -> anyhow::Result<Self> {
        let (client, connection) = options.connect(NoTls).await.context("cannot connect")?;
        tokio::spawn(connection);
        let point = client.prepare(POINT).await?;
        let list = client.prepare(LIST).await?;
        let orm = client.prepare(ORM).await?;
        Ok(Self { client, through_larder, point, list, orm })
    }

    /// Asks, measures, and notes how it was served.
    pub(super) async fn ask(&self, ask: Ask) -> anyhow::Result<Answer> {
        let start = Instant::now();
        match ask {
            Ask::Point(id) => self.prepared(start, &self.point, id).await,
            Ask::List(id) => self.prepared(start, &self.list, id).await,
            Ask::Orm(id) => {
                self.client.batch_execute("BEGIN").await?;
                let mut answer = self.prepared(start, &self.orm, id).await?;
                let resumed = Instant::now();
                self.client.batch_execute("COMMIT").await?;
                answer.elapsed += resumed.elapsed();
                Ok(answer)
            }
            Ask::Dashboard => {
                let messages = self.client.simple_query(DASHBOARD).await?;
                let (elapsed, arrived) = (start.elapsed(), Instant::now());
                let (versions, bytes) = sum_rows(&messages);
                Ok(Answer { elapsed, arrived, versions: vec![versions], served: self.last().await?, bytes })
            }
        }
    }

    async fn prepared(&self, start: Instant, statement: &Statement, id: i32) -> anyhow::Result<Answer> {
        let rows = self.client.query(statement, &[&id]).await?;
        let (elapsed, arrived) = (start.elapsed(), Instant::now());
        let versions = rows.iter().map(versions_of).collect::<Result<_, _>>()?;
        let bytes = rows.iter().map(raw_values).collect::<Result<_, _>>()?;
        Ok(Answer { elapsed, arrived, versions, served: self.last().await?, bytes })
    }

    /// How the previous statement was served.
    async fn last(&self) -> anyhow::Result<String> {
        if !self.through_larder {
            return Ok(String::new());
        }
        let messages = self.client.simple_query("SHOW larder.last").await?;
        let value = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.try_get(0).ok().flatten().map(str::to_owned),
            _ => None,
        });
        value.context("SHOW larder.last was not answered")
    }
}

fn versions_of(row: &Row) -> Result<Versions, tokio_postgres::Error> {
    let version: i32 = row.try_get("version")?;
    let side_version: i32 = row.try_get("side_version")?;
    Ok(Versions { version: version.into(), side_version: side_version.into() })
}

fn raw_values(row: &Row) -> Result<Vec<Option<Vec<u8>>>, tokio_postgres::Error> {
    (0..row.len()).map(|column| Ok(row.try_get::<_, Option<Raw>>(column)?.map(|raw| raw.0))).collect()
}

/// A value as it was sent, whatever its type.
struct Raw(Vec<u8>);

impl FromSql<'_> for Raw {
    fn from_sql(_: &Type, raw: &[u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn sum_rows(messages: &[SimpleQueryMessage]) -> (Versions, Vec<Vec<Option<Vec<u8>>>>) {
    let (mut sum, mut bytes) = (Versions::default(), Vec::new());
    for message in messages {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let number = |name| row.try_get(name).ok().flatten().and_then(|text: &str| text.parse::<i64>().ok());
        sum.version += number("version").unwrap_or_default();
        sum.side_version += number("side_version").unwrap_or_default();
        let value = |column| row.try_get(column).ok().flatten().map(|text: &str| text.as_bytes().to_vec());
        bytes.push((0..row.len()).map(value).collect());
    }
    (sum, bytes)
}
