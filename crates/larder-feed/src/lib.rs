//! The change feed. (Interface skeleton.)

use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Fence, Tags};
use larder_core::{CatalogCell, FeedHealth, Finding};

/// Larder's own account on the origin: REPLICATION and CONNECT.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Account {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub connect_timeout: Duration,
}

/// What the feed is told.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct FeedConfig {
    pub account: Account,
    pub max_lag: Duration,
    /// How often the catalog is compared while anything commits.
    pub ddl_check: Duration,
}

/// What the feed writes to.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Shared {
    pub fence: Arc<Fence>,
    pub tags: Arc<Tags>,
    pub catalog: Arc<CatalogCell>,
    pub health: Arc<FeedHealth>,
}

/// Follows the origin until the future is dropped: connects, streams, and after any loss starts again with back-off
/// and a new epoch. Never returns; everything that goes wrong is in `Shared::health`.
pub async fn run(_config: FeedConfig, _shared: Shared) {}

/// Preflight for `larder check`: everything that stands in the way, with its remedy; empty when nothing does.
pub async fn check(_config: &FeedConfig) -> Vec<Finding> {
    Vec::new()
}

/// The SQL of `larder setup`: the event triggers that announce DDL with a transactional logical message.
pub fn setup_sql() -> &'static str {
    ""
}

/// The SQL that undoes it.
pub fn drop_sql() -> &'static str {
    ""
}
