//! The control connection: samples, comparisons, the catalog. An ordinary session of Larder's account.

use std::time::Duration;

use larder_core::Lsn;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::{Client, Row, Statement};

use crate::catalog::load::{Queries, Rows};
use crate::catalog::{self, Fingerprint, Loaded};
use crate::coverage::Sampled;
use crate::error::{Failure, within};
use crate::session;
use crate::stream::Slot;
use crate::visibility::Snapshot;
use crate::{Account, Plugin, findings};

/// For an answer to an ordinary query. A frozen origin is noticed after this time.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);
/// For reading the whole catalog, also of a database with 100,000 tables.
const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// `FrozenTransactionId`: older than every other.
const ALL_IDS: u32 = 2;
/// Objects can be dropped while their definition is read: a storm of DDL must pass, or be caught between two gusts.
const LOAD_ATTEMPTS: u32 = 10;
/// After the first of them; after the next twice that, and so on.
const LOAD_PAUSE: Duration = Duration::from_millis(10);
/// SQLSTATE: `lock_timeout` has passed.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// Between two attempts to lock what is locked: whoever waits for what this one had locked gets it first.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(crate) struct Control {
    client: Client,
    sample: Statement,
    compare: Statement,
    catalog: Queries,
    driver: JoinHandle<()>,
    account: Account,
}

/// What the preflight query shows.
#[derive(Debug, Clone)]
pub(crate) struct Preflight {
    pub(crate) server_version: i32,
    pub(crate) in_recovery: bool,
    pub(crate) wal_level: String,
    pub(crate) replication: bool,
    pub(crate) slots_max: i64,
    pub(crate) slots_used: i64,
    pub(crate) senders_max: i64,
    pub(crate) senders_used: i64,
    pub(crate) database: u32,
    pub(crate) started: i64,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Control {
    /// Connects, logs in, and prepares the statements that are needed often.
    pub(crate) async fn connect(account: &Account) -> Result<Self, Failure> {
        let mut config = tokio_postgres::Config::new();
        config.application_name("larder control");
        // Whatever ALTER ROLE or ALTER DATABASE say: names come out qualified, and nothing here can write or linger. Who
        // waits for a lock no longer than this is given up before PostgreSQL looks for deadlocks (`deadlock_timeout`, one
        // second), and so never is why somebody else's transaction is.
        config.options(
            "-c search_path= -c quote_all_identifiers=off -c default_transaction_isolation=read\\ committed \
             -c default_transaction_read_only=on -c statement_timeout=60s -c lock_timeout=200ms -c idle_session_timeout=0 -c jit=off \
             -c idle_in_transaction_session_timeout=60s -c datestyle=ISO -c extra_float_digits=1 -c bytea_output=hex",
        );
        let (client, connection) = session::connect(account, &mut config).await?;
        let driver = tokio::spawn(async move {
            // What ends the connection fails the query in flight, and is told there.
            let _ = connection.await;
        });
        let prepared = within(QUERY_TIMEOUT, "preparing", async {
            let sample = client.prepare(include_str!("sql/sample.sql")).await?;
            let compare = client.prepare(catalog::COMPARE).await?;
            Ok::<_, tokio_postgres::Error>((sample, compare, Queries::prepare(&client).await?))
        });
        match prepared.await {
            Ok((sample, compare, catalog)) => {
                Ok(Self { client, sample, compare, catalog, driver, account: account.clone() })
            }
            Err(failure) => {
                driver.abort();
                Err(failure)
            }
        }
    }

    /// What stands in the way, and who this is.
    pub(crate) async fn preflight(&self) -> Result<Preflight, Failure> {
        let row = within(
            QUERY_TIMEOUT,
            "the preflight query",
            self.client.query_one(include_str!("sql/preflight.sql"), &[]),
        )
        .await?;
        Ok(Preflight {
            server_version: row.try_get(0)?,
            in_recovery: row.try_get(1)?,
            wal_level: row.try_get(2)?,
            replication: row.try_get::<_, Option<bool>>(3)?.unwrap_or(false),
            slots_max: row.try_get(4)?,
            slots_used: row.try_get(5)?,
            senders_max: row.try_get(6)?,
            senders_used: row.try_get(7)?,
            database: row.try_get(8)?,
            started: row.try_get(9)?,
        })
    }

    /// Whether this connection sees the slot: its name is random, so then both lead to the same server.
    pub(crate) async fn sees(&self, slot: &Slot) -> Result<bool, Failure> {
        let sql = "select /* by larder */ 1 from pg_replication_slots where slot_name = $1::text";
        let rows = within(QUERY_TIMEOUT, "the slot", self.client.query(sql, &[&slot.name])).await?;
        Ok(!rows.is_empty())
    }

    /// Whether the plugin is told of every change: its publication, if it has one, leaves nothing out.
    pub(crate) async fn publishes(&self, plugin: &Plugin) -> Result<(), Failure> {
        let Plugin::Pgoutput { publication } = plugin else { return Ok(()) };
        let sql = "select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate, pubviaroot
                     from pg_catalog.pg_publication where pubname = $1::text";
        let row =
            within(QUERY_TIMEOUT, "the publication", self.client.query_opt(sql, &[publication])).await?;
        let finding = match row {
            None => Some(findings::no_publication(publication)),
            Some(row) => {
                let (tables, kinds, via_root) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get::<_, bool>(2)?);
                findings::publication(publication, tables, kinds && !via_root)
            }
        };
        finding.map_or(Ok(()), |finding| Err(Failure::Preflight(vec![finding])))
    }

    /// Takes a sample.
    pub(crate) async fn sample(&self) -> Result<Sampled, Failure> {
        let row = within(QUERY_TIMEOUT, "a sample", self.client.query_one(&self.sample, &[])).await?;
        sampled(&row)
    }

    /// Takes a sample, and the catalog's fingerprint with the same starting point as another one.
    pub(crate) async fn compare(&self, since: u32) -> Result<(Sampled, Fingerprint), Failure> {
        let text = since.to_string();
        let row =
            within(QUERY_TIMEOUT, "a comparison", self.client.query_one(&self.compare, &[&text])).await?;
        let (digest, versions, settings) = (row.try_get(2)?, row.try_get(4)?, row.try_get(5)?);
        Ok((sampled(&row)?, Fingerprint { since, digest, versions, settings }))
    }

    /// Has the origin flush what it has written: at once from version 17 on, else when its WAL writer comes round. The
    /// message that does it is a few dozen bytes of log, belongs to no transaction, and changes nothing.
    pub(crate) async fn nudge(&self, server_version: i32) {
        let sql = if server_version >= 170_000 {
            "select /* by larder */ pg_logical_emit_message(false, 'larder-flush', '', true)"
        } else {
            "select /* by larder */ pg_logical_emit_message(false, 'larder-flush', '')"
        };
        // Without the privilege coverage waits until something else is flushed.
        if let Err(failure) = within(QUERY_TIMEOUT, "a nudge", self.client.batch_execute(sql)).await {
            tracing::debug!(%failure, "the origin could not be asked to flush its log");
        }
    }

    /// Reads the catalog, the fingerprint that belongs to it, and then the position from which on answers were given
    /// by this catalog or a newer one. `share`: also what tells other Larders whether they judge alike.
    pub(crate) async fn load(&self, version: u64, share: bool, plugin: &Plugin) -> Result<Loaded, Failure> {
        let (mut attempt, started) = (1, Instant::now());
        loop {
            match within(LOAD_TIMEOUT, "reading the catalog", self.try_load(version, share, plugin)).await {
                Err(Failure::Server(error))
                    if error.code == LOCK_NOT_AVAILABLE && started.elapsed() < LOAD_TIMEOUT =>
                {
                    tracing::debug!(%error, "a table below a view is locked");
                    tokio::time::sleep(LOCK_PAUSE).await;
                }
                Err(Failure::Server(error)) if attempt < LOAD_ATTEMPTS => {
                    tracing::debug!(%error, "catalog changed while it was read");
                    tokio::time::sleep(LOAD_PAUSE * 2_u32.pow((attempt - 1).min(6))).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn try_load(&self, version: u64, share: bool, plugin: &Plugin) -> Result<Loaded, Failure> {
        let since = self.sample().await?.snapshot.horizon();
        self.client
            .batch_execute("begin /* by larder */ transaction isolation level repeatable read, read only")
            .await?;
        // All of it is sent at once, and the end of the transaction (however it stands) right behind: while it is open
        // VACUUM keeps what it could remove, and tables below views are locked.
        let (fetched, ended) =
            tokio::join!(self.fetch(since, share), self.client.batch_execute("rollback /* by larder */"));
        let (fingerprint, whole, rows) = fetched?;
        ended?;
        let (catalog, index) = catalog::load::build(&rows, version, plugin)?;
        let meaning = match whole {
            Some(digest) => self.settings_read().await.and_then(|read| {
                // This session had read them by then, so what it was told holds for them.
                (read <= fingerprint.settings).then(|| catalog::meaning(&digest, read))
            }),
            None => None,
        };
        let floor = self.sample().await?.position;
        Ok(Loaded { catalog, index, fingerprint, floor, meaning })
    }

    /// When the server read its settings last, as a new session inherits it: the same for all that come after. (One that
    /// was there sees its own time of reading them.) `None` if there can be no new session now: then nothing is shared.
    async fn settings_read(&self) -> Option<i64> {
        let mut config = tokio_postgres::Config::new();
        config.application_name("larder control");
        let (client, connection) = session::connect(&self.account, &mut config).await.ok()?;
        let driver = tokio::spawn(connection);
        let sql = "select /* by larder */ (extract(epoch from pg_conf_load_time()) * 1000000)::int8";
        let row = within(QUERY_TIMEOUT, "the age of the settings", client.query_one(sql, &[])).await;
        driver.abort();
        row.ok()?.try_get(0).ok()
    }

    /// The fingerprint first: what changes after it is noticed as a difference from it, so the catalog need not be of
    /// one moment (`pg_get_viewdef()` looks at the newest state whatever the transaction's snapshot).
    async fn fetch(&self, since: u32, share: bool) -> Result<(Fingerprint, Option<String>, Rows), Failure> {
        let whole = async { if share { Ok(Some(self.compare(ALL_IDS).await?.1.digest)) } else { Ok(None) } };
        let rows = async { Ok(self.catalog.fetch(&self.client).await?) };
        let ((_, fingerprint), whole, rows) = tokio::try_join!(self.compare(since), whole, rows)?;
        Ok((fingerprint, whole, rows))
    }
}

fn sampled(row: &Row) -> Result<Sampled, Failure> {
    let snapshot = Snapshot::parse(row.try_get(0)?);
    let position = row.try_get::<_, &str>(1)?.parse::<Lsn>();
    let flushed = row.try_get::<_, &str>(3)?.parse::<Lsn>();
    match (snapshot, position, flushed) {
        (Some(snapshot), Ok(position), Ok(flushed)) => {
            Ok(Sampled { snapshot, position: position.before_page_header(), flushed })
        }
        _ => Err(Failure::Protocol("a sample that cannot be read".to_owned())),
    }
}
