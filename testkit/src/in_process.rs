//! Larder inside the test's own process: the client path and the change feed, wired as the program wires them, with
//! their state in the test's hands.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use larder_cache::{Fence, Moment, Tags};
use larder_core::{CatalogCell, FeedHealth, Level};
use larder_feed::{Account, FeedConfig};
use larder_login::OriginTls;
use larder_proxy::{Access, CountersSnapshot, Mode, Proxy, ProxyConfig, Verify};
use larder_sandbox::Postgres;
use tokio::sync::oneshot;

/// How long a new feed may take to prove its first moment.
const FIRST_LEASE: Duration = Duration::from_secs(30);

/// A Larder in this process. Dropping it closes its clients and ends its feed.
#[derive(Debug)]
pub struct InProcess {
    /// The client path.
    pub proxy: Proxy,
    /// What the feed has proven.
    pub fence: Arc<Fence>,
    /// What answers depend on.
    pub tags: Arc<Tags>,
    /// The catalog that statements are judged by.
    pub catalog: Arc<CatalogCell>,
    /// How the feed is doing.
    pub health: Arc<FeedHealth>,
    feed: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl InProcess {
    /// A configuration for tests in front of `origin`: everything on, small, and on a free port.
    pub fn config(origin: &Postgres) -> ProxyConfig {
        ProxyConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            max_clients: 1000,
            origin_host: Ipv4Addr::LOCALHOST.to_string(),
            origin_port: origin.port(),
            origin_tls: OriginTls::default(),
            access: Access::default(),
            connect_timeout: Duration::from_secs(5),
            mode: Mode::Serve,
            verify: Verify { sample: 0.0, settle: Duration::from_secs(2) },
            tracing: None,
            statistics: true,
            level: Level::Strict,
            max_lag: Duration::from_secs(1),
            memory: 64 << 20,
            max_result: 1 << 20,
            ttl: Duration::from_secs(3600),
            ttl_jitter: 0.0,
            max_inflight_fills: 64,
            client_max_age: None,
            console: None,
            workers: 2,
        }
    }

    /// Starts it and waits until answers may come from memory.
    pub async fn start(origin: &Postgres) -> Result<Self> {
        Self::start_with(origin, Self::config(origin)).await
    }

    /// The same with a configuration of the test's own.
    pub async fn start_with(origin: &Postgres, config: ProxyConfig) -> Result<Self> {
        let mut larder = Self::start_without_feed(&config)?;
        larder.feed = Some(larder.spawn_feed(origin, config.max_lag)?);
        let deadline = Instant::now() + FIRST_LEASE;
        while !larder.fence.lease_holds(Moment::now()) {
            if Instant::now() > deadline {
                bail!("no lease after {FIRST_LEASE:?}: {:?}", larder.health.get());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(larder)
    }

    /// The client path alone: a plain proxy.
    pub fn start_without_feed(config: &ProxyConfig) -> Result<Self> {
        let fence = Arc::new(Fence::new(config.max_lag));
        let (tags, catalog) = (Arc::new(Tags::default()), Arc::new(CatalogCell::default()));
        let shared = larder_proxy::Shared {
            fence: Arc::clone(&fence),
            tags: Arc::clone(&tags),
            catalog: Arc::clone(&catalog),
            sharing: None,
            rules: Arc::default(),
        };
        let proxy = Proxy::start(config.clone(), shared)?;
        Ok(Self { proxy, fence, tags, catalog, health: Arc::default(), feed: None })
    }

    fn spawn_feed(
        &self,
        origin: &Postgres,
        max_lag: Duration,
    ) -> Result<(oneshot::Sender<()>, JoinHandle<()>)> {
        let config = FeedConfig {
            plugin: larder_feed::Plugin::TestDecoding,
            account: Account {
                host: Ipv4Addr::LOCALHOST.to_string(),
                port: origin.port(),
                user: "postgres".to_owned(),
                password: None,
                database: "postgres".to_owned(),
                tls: OriginTls::default(),
                connect_timeout: Duration::from_secs(5),
            },
            max_lag,
            ddl_check: Duration::from_millis(250),
            share: false,
        };
        let shared = larder_feed::Shared {
            fence: Arc::clone(&self.fence),
            tags: Arc::clone(&self.tags),
            catalog: Arc::clone(&self.catalog),
            health: Arc::clone(&self.health),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = larder_feed::run(config, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok((stop, thread))
    }

    /// From now on nothing is heard of the origin's changes. What is proven is the test's to say ([`Fence::set_covered`]).
    pub fn stop_feed(&mut self) {
        if let Some((stop, thread)) = self.feed.take() {
            drop(stop);
            let _ = thread.join();
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.proxy.local_addr()
    }

    /// Statements by how they were answered, since the start.
    pub fn counters(&self) -> CountersSnapshot {
        self.proxy.counters()
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.stop_feed();
    }
}
