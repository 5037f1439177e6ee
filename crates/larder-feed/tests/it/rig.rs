//! A server, a feed that follows it, and a client that writes to it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Fence, Moment, Tags};
use larder_core::{Catalog, FeedHealth, relation_tag};
use larder_feed::{Account, FeedConfig, Plugin, Shared};
use larder_sandbox::{PgVersion, Postgres, PostgresBuilder};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

/// Nothing here takes this long; it only keeps a failing test from hanging.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) pg: Postgres,
    pub(crate) shared: Shared,
    pub(crate) feed: JoinHandle<()>,
    pub(crate) client: Client,
}

thread_local! {
    static PGOUTPUT: Cell<bool> = const { Cell::new(false) };
}

/// From here on in this thread (a test has one of its own) feeds read `pgoutput`.
pub(crate) fn use_pgoutput() {
    PGOUTPUT.set(true);
}

pub(crate) fn plugin() -> Plugin {
    if PGOUTPUT.get() {
        Plugin::Pgoutput { publication: "lar'der\"".to_owned() }
    } else {
        Plugin::TestDecoding
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Rig {
    /// A server with these tables, and a feed that has begun.
    pub(crate) async fn start(version: PgVersion, schema: &str) -> Self {
        Self::start_with(Postgres::builder().version(version), schema).await
    }

    pub(crate) async fn start_with(builder: PostgresBuilder, schema: &str) -> Self {
        log();
        let pg = builder
            .setting("wal_level", "logical")
            .setting("max_prepared_transactions", "5")
            .start()
            .unwrap();
        pg.sql("create role larder login replication").unwrap();
        pg.sql(schema).unwrap();
        if plugin() != Plugin::TestDecoding {
            pg.sql("create publication \"lar'der\"\"\" for all tables").unwrap();
        }
        let config = config(&pg, "larder");
        let shared = shared(&config);
        let feed = tokio::spawn(larder_feed::run(config, shared.clone()));
        let client = connect(&pg).await;
        let rig = Self { pg, shared, feed, client };
        rig.covered_from_now().await;
        rig
    }

    pub(crate) fn fence(&self) -> &Fence {
        &self.shared.fence
    }

    /// Waits until the feed covers this moment, as a read barrier does; returns how long it took.
    pub(crate) async fn covered_from_now(&self) -> Duration {
        let now = Moment::now();
        assert!(self.fence().wait_covered(now, LIMIT).await, "not covered: {:?}", self.shared.health.get());
        Moment::now().since(now)
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.shared.catalog.load_full().unwrap()
    }

    /// OID of a relation in schema public, as the server says.
    pub(crate) async fn oid(&self, name: &str) -> u32 {
        let row = self.client.query_one("select $1::text::regclass::oid", &[&name]).await.unwrap();
        row.get(0)
    }

    pub(crate) async fn last_change(&self, name: &str) -> u64 {
        self.shared.tags.get(&relation_tag(self.oid(name).await)).last_change()
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }

    /// Runs SQL and says which of the relations it touched, by their tags.
    pub(crate) async fn touched_by(&self, sql: &str, relations: &[&'static str]) -> Vec<&'static str> {
        let mut before = Vec::new();
        for name in relations {
            before.push(self.last_change(name).await);
        }
        self.run(sql).await;
        self.covered_from_now().await;
        let mut touched = Vec::new();
        for (name, before) in relations.iter().zip(before) {
            if self.last_change(name).await > before {
                touched.push(*name);
            }
        }
        touched
    }

    /// Runs SQL and says by how many epochs it moved the cache, once the feed covers it. `announced`: a session of
    /// Larder saw the statement and asked for a review, as it does for DDL.
    pub(crate) async fn epochs_of(&self, sql: &str, announced: bool) -> u64 {
        let before = self.fence().epoch();
        self.run(sql).await;
        if announced {
            self.fence().request_review();
        }
        self.covered_from_now().await;
        self.fence().epoch() - before
    }

    /// Waits for something that is bound to happen.
    pub(crate) async fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + LIMIT;
        while !done() {
            assert!(tokio::time::Instant::now() < deadline, "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(crate) fn config(pg: &Postgres, user: &str) -> FeedConfig {
    FeedConfig {
        account: Account {
            host: "127.0.0.1".to_owned(),
            port: pg.port(),
            user: user.to_owned(),
            password: None,
            database: "postgres".to_owned(),
            tls: larder_login::OriginTls::default(),
            connect_timeout: Duration::from_secs(5),
        },
        plugin: plugin(),
        max_lag: Duration::from_secs(1),
        ddl_check: Duration::from_millis(250),
        share: true,
    }
}

pub(crate) fn shared(config: &FeedConfig) -> Shared {
    Shared {
        fence: Arc::new(Fence::new(config.max_lag)),
        tags: Arc::new(Tags::default()),
        catalog: Arc::default(),
        health: Arc::new(FeedHealth::default()),
    }
}

/// An ordinary session of the superuser.
pub(crate) async fn connect(pg: &Postgres) -> Client {
    let url = pg.url("postgres", "postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The log of a failing test: RUST_LOG=larder_feed=debug.
fn log() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}
