//! A server, a feed that follows it, a cache that follows the feed, and a client that the loaders read with.

use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Cache, Loaded, Source};
use larder_follow::Feed;
use larder_sandbox::{PgVersion, Postgres};
use tokio_postgres::{Client, NoTls};

/// Nothing here takes this long; it only keeps a failing test from hanging.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Rig {
    pub(crate) cache: Cache<str, i64>,
    pub(crate) feed: Feed,
    pub(crate) client: Arc<Client>,
    pub(crate) pg: Postgres,
}

impl Rig {
    pub(crate) async fn start(version: PgVersion, schema: &str) -> Self {
        let pg = Postgres::builder().version(version).setting("wal_level", "logical").start().unwrap();
        pg.sql("create role larder login replication").unwrap();
        pg.sql(schema).unwrap();
        let feed = Feed::start(&pg.url("larder", "postgres")).unwrap();
        assert!(feed.ready(LIMIT).await, "{:?}", feed.state());
        let cache =
            Cache::builder().jitter(0.0).default_ttl(Duration::from_secs(3600)).follow(feed.clone()).build();
        Self { cache, feed, client: Arc::new(connect(&pg).await), pg }
    }

    /// The number that the query brings, cached under its text.
    pub(crate) async fn ask(&self, query: &'static str, tags: &[&'static str]) -> Loaded<i64> {
        let client = Arc::clone(&self.client);
        let load = move |_| async move {
            let row = client.query_one(query, &[]).await?;
            Ok::<i64, tokio_postgres::Error>(row.get(0))
        };
        self.cache.entry(query).tags(tags.iter().copied()).or_load(load).await.unwrap()
    }

    /// The same, as it is when everything committed so far is known.
    pub(crate) async fn ask_now(&self, query: &'static str, tags: &[&'static str]) -> (i64, Source) {
        assert!(self.cache.caught_up(LIMIT).await, "{:?}", self.feed.state());
        let loaded = self.ask(query, tags).await;
        (*loaded, loaded.source())
    }

    /// Asks until the answer comes from memory: right after a change the position of a fill may still lie before it.
    pub(crate) async fn warm(&self, query: &'static str, tags: &[&'static str]) -> i64 {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let (value, source) = self.ask_now(query, tags).await;
            if source == Source::L1 {
                return value;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{query} is never kept: {:?}",
                self.cache.metrics()
            );
        }
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.client.batch_execute(sql).await.unwrap();
    }
}

/// An ordinary session of the superuser.
pub(crate) async fn connect(pg: &Postgres) -> Client {
    let (client, connection) = tokio_postgres::connect(&pg.url("postgres", "postgres"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
