//! The client path. (Interface skeleton.)

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Fence, Tags};
use larder_core::{CatalogCell, Level};

/// What the client path is told.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct ProxyConfig {
    pub listen: SocketAddr,
    pub max_clients: usize,
    pub origin_host: String,
    pub origin_port: u16,
    pub connect_timeout: Duration,
    /// `mode = "serve"`; false: plain proxy.
    pub serve: bool,
    pub level: Level,
    pub max_lag: Duration,
    /// Bytes of the in-memory tier, and of the largest answer kept.
    pub memory: usize,
    pub max_result: usize,
    pub ttl: Duration,
    pub ttl_jitter: f64,
    pub max_inflight_fills: usize,
    /// Worker threads; 0 = one per core.
    pub workers: usize,
}

/// What the client path reads from (the feed writes it).
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Shared {
    pub fence: Arc<Fence>,
    pub tags: Arc<Tags>,
    pub catalog: Arc<CatalogCell>,
}

/// A running proxy: its worker threads and its listener.
#[derive(Debug)]
pub struct Proxy {}

#[allow(missing_docs, clippy::unused_self, clippy::unused_async)]
impl Proxy {
    /// Binds and starts the worker threads; clients are served when it returns.
    pub fn start(_config: ProxyConfig, _shared: Shared) -> std::io::Result<Self> {
        Ok(Self {})
    }
    pub fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }
    /// Clients connected now.
    pub fn clients(&self) -> usize {
        0
    }
    /// Whether the last attempt to reach the origin worked (true before the first one).
    pub fn origin_reachable(&self) -> bool {
        true
    }
    /// Entries and bytes of the in-memory tier.
    pub fn tier(&self) -> (usize, usize) {
        (0, 0)
    }
    /// Registers the client path's metrics.
    pub fn register(&self, _registry: &mut prometheus_client::registry::Registry) {}
    /// Stops accepting, lets transactions finish for at most `grace`, then closes what is left.
    pub async fn drain(&self, _grace: Duration) {}
}
