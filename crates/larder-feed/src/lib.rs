//! The change feed: follows the origin's log and keeps the fence, the tags and the catalog up to date.
//!
//! ```text
//! stream (replication connection) -> decode -> fold -> tags        "what changed"
//!                                              coverage -> fence   "up to where, and up to when, that is all"
//! control (ordinary connection)   -> samples, comparisons -> coverage
//!                                    catalog -> the client path
//! ```
//!
//! * `stream`, `wire`, `framing`, `auth`: a thin client for streaming replication on a temporary slot;
//! * `decode`, `tuple`, `pgoutput`, `index`, `rows`, `fold`: from what a plugin says to the tags that a commit touches;
//! * `visibility`, `coverage`: the guard and the clock, as pure state machines;
//! * `control`, `catalog`: samples, and the catalog with its fingerprint;
//! * `follow`: the loop that joins them; `check`, `findings`: what stands in the way, and its remedy.

use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Fence, Moment, Tags};
use larder_core::{Catalog, CatalogCell, FeedHealth, FeedState, Finding};
use larder_login::OriginTls;
use tokio::sync::watch;

use crate::error::Failure;
use crate::follow::Follower;
use crate::incarnation::Incarnation;

mod auth;
mod catalog;
mod check;
mod control;
mod coverage;
mod decode;
mod error;
mod findings;
mod fold;
mod follow;
mod framing;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod incarnation;
mod index;
pub mod metrics;
mod pgoutput;
mod rows;
mod session;
mod stream;
mod tuple;
mod visibility;
mod wire;

/// First and longest pause between attempts to connect.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// Larder's own account on the origin: REPLICATION and CONNECT.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Account {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: Option<String>,
    pub database: String,
    pub tls: OriginTls,
    pub connect_timeout: Duration,
}

/// What tells of changes: the output plugin of the slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Plugin {
    /// Part of every PostgreSQL distribution, needs nothing in the database, and shows every transaction.
    #[default]
    TestDecoding,
    /// Built into PostgreSQL; for services that have nothing else. It sends what a publication publishes, which must be
    /// everything. A transaction that changed the catalog and nothing else is not sent: it is noticed by the event triggers of
    /// [`setup_sql`], or by comparing the catalog, which is done every [`FeedConfig::ddl_check`] whether anything commits or not.
    Pgoutput {
        /// Its name. Larder makes none: with one FOR ALL TABLES, PostgreSQL refuses UPDATE and DELETE of tables that have no
        /// replica identity.
        publication: String,
    },
}

impl Plugin {
    /// Whether transactions that changed the catalog and nothing else show.
    pub(crate) fn shows_ddl(&self) -> bool {
        *self == Self::TestDecoding
    }
}

/// What the feed is told.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct FeedConfig {
    pub account: Account,
    pub plugin: Plugin,
    pub max_lag: Duration,
    /// How often the catalog is compared while anything commits.
    pub ddl_check: Duration,
    /// Whether answers are shared with other Larders: then it is found out what they must have in common (see
    /// `larder_cache::shared`), at the cost of a look at the whole catalog and a short connection for each reading of it.
    pub share: bool,
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
pub async fn run(config: FeedConfig, shared: Shared) {
    let (_kept, config) = watch::channel(config);
    run_with(config, shared).await;
}

/// The same by a configuration that may change: the pace at once, the account from the next connection on.
pub async fn run_with(mut changing: watch::Receiver<FeedConfig>, shared: Shared) {
    let mut last: Option<Incarnation> = None;
    let mut pause = RETRY.0;
    loop {
        let config = changing.borrow_and_update().clone();
        let failure = match Follower::begin(&config, &shared).await {
            Ok(mut follower) => {
                greet(&shared, last.as_ref(), &follower.incarnation);
                last = Some(follower.incarnation.clone());
                let began = Moment::now();
                let failure = follower.follow(&mut changing).await;
                // What was proven held for the life of the origin that was followed: a crash takes back commits that
                // were never flushed, and the lease must not outlive it.
                shared.fence.begin_epoch(0, true);
                FeedHealth::count(&shared.health.epochs);
                if Moment::now().since(began) > RETRY.1 {
                    pause = RETRY.0;
                }
                failure
            }
            Err(failure) => failure,
        };
        // Up to a quarter more, so that many pods do not come back in step.
        let retry_in = pause + pause.mul_f64(fastrand::f64() / 4.0);
        disconnect(&config, &shared, &failure, retry_in);
        tokio::select! {
            () = tokio::time::sleep(retry_in) => pause = (pause * 2).min(RETRY.1),
            // Perhaps what was wrong has been mended.
            Ok(()) = changing.changed() => pause = RETRY.0,
        }
    }
}

/// Preflight for `larder check`: everything that stands in the way, with its remedy; empty when nothing does.
pub async fn check(config: &FeedConfig) -> Vec<Finding> {
    check::check(config).await
}

/// The catalog as it is now, for `larder explain`; else what stands in the way, with its remedy.
pub async fn load_catalog(config: &FeedConfig) -> Result<Catalog, Vec<Finding>> {
    let FeedConfig { account, plugin, .. } = config;
    let load = async { control::Control::connect(account).await?.load(0, false, plugin).await };
    load.await.map(|loaded| loaded.catalog).map_err(|failure| failure.findings(account))
}

/// An ordinary connection of this account, over TLS as the account says. Ends when the client is dropped.
///
/// # Errors
/// What stands in the way, with its remedy.
pub async fn connect(
    account: &Account,
    application_name: &str,
) -> Result<tokio_postgres::Client, Vec<Finding>> {
    let mut options = tokio_postgres::Config::new();
    options.application_name(application_name);
    let connected = session::connect(account, &mut options).await;
    let (client, connection) = connected.map_err(|failure| failure.findings(account))?;
    tokio::spawn(connection);
    Ok(client)
}

/// The SQL of `larder setup`: the event triggers that announce DDL with a transactional logical message.
pub fn setup_sql() -> &'static str {
    include_str!("setup.sql")
}

/// The SQL that undoes it.
pub fn drop_sql() -> &'static str {
    include_str!("drop.sql")
}

/// One line in the log for a new stream. A stream after another one is a gap.
fn greet(shared: &Shared, last: Option<&Incarnation>, now: &Incarnation) {
    let Some(last) = last else {
        tracing::info!(incarnation = %now, "change feed connected");
        return;
    };
    FeedHealth::count(&shared.health.gaps);
    if last == now {
        tracing::info!(incarnation = %now, "change feed connected again");
    } else {
        tracing::warn!(%last, %now, "change feed connected again, to another life of the origin");
    }
}

/// The state for the operator. The program logs each change of it with every finding; what failed comes before it.
fn disconnect(config: &FeedConfig, shared: &Shared, failure: &Failure, retry_in: Duration) {
    let findings = failure.findings(&config.account);
    let known = match shared.health.get() {
        FeedState::Disconnected { findings: before, .. } => before == findings,
        FeedState::Starting | FeedState::Connected => false,
    };
    if !known {
        tracing::info!(reason = %failure, "change feed disconnected: every statement goes to the origin");
    }
    shared.health.set(FeedState::Disconnected { findings, retry_in });
}
