//! The change feed's thread, its account, and the log lines about its state.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use larder_core::{FeedHealth, FeedState, Finding};
use larder_feed::{Account, FeedConfig};
use tokio::sync::{oneshot, watch};
use tracing::{error, info, warn};

use super::{Shared, security};
use crate::config::{Config, Plugin};
use crate::events::{Events, Kind};

/// A panic in the feed is a bug; how long until it starts anew.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// How often the feed's state is looked at for the log.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Tells the feed of another configuration.
pub(super) type Teller = watch::Sender<FeedConfig>;

/// The running feed. Dropping it stops the thread.
#[derive(Debug)]
pub(super) struct Feed {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Starts the thread; `None` (and a finding in the feed's health) when there is no account to use.
    pub(super) fn start(
        config: &Config,
        shared: larder_feed::Shared,
    ) -> anyhow::Result<Option<(Self, Teller)>> {
        let config = match feed_config(config) {
            Ok(config) => config,
            Err(finding) => {
                shared
                    .health
                    .set(FeedState::Disconnected { findings: vec![finding], retry_in: Duration::MAX });
                return Ok(None);
            }
        };
        let (teller, config) = watch::channel(config);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = supervise(config, shared) => {}
                        _ = stopped => {}
                    }
                });
            })
            .context("cannot start the feed's thread")?;
        Ok(Some((Self { stop: Some(stop), thread: Some(thread) }, teller)))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The connection closes with the runtime, and with it the temporary slot.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Larder's own account, or what is missing for it.
pub(crate) fn account(config: &Config) -> Result<Account, Finding> {
    let missing = |what: &str| Finding {
        code: "account",
        problem: format!("{what}, so Larder has no account of its own for the change feed"),
        remedy: "CREATE ROLE larder LOGIN REPLICATION PASSWORD '...'; then name it: \
                 --control postgres://larder:...@host:5432/database (or LARDER_ORIGIN_CONTROL_URL)"
            .to_owned(),
    };
    let control = config.control();
    let target = control.target().ok_or_else(|| missing("no origin is configured"))?;
    let user = target
        .user
        .clone()
        .ok_or_else(|| missing("neither origin.control_url nor origin.url names a user"))?;
    let of_clients = config.origin.url.target().and_then(|target| target.database.clone());
    Ok(Account {
        host: target.host.clone(),
        port: target.port,
        database: target.database.clone().or(of_clients).unwrap_or_else(|| user.clone()),
        user,
        password: target.password.clone(),
        tls: security::control_tls(config)?,
        connect_timeout: config.origin.connect_timeout.0,
    })
}

/// What the feed is told.
pub(crate) fn feed_config(config: &Config) -> Result<FeedConfig, Finding> {
    Ok(FeedConfig {
        account: account(config)?,
        plugin: match config.freshness.plugin {
            Plugin::TestDecoding => larder_feed::Plugin::TestDecoding,
            Plugin::Pgoutput => {
                larder_feed::Plugin::Pgoutput { publication: config.freshness.publication.0.clone() }
            }
        },
        max_lag: config.freshness.max_lag.0,
        ddl_check: config.freshness.ddl_check.0,
        share: config.shared_tier().is_some(),
    })
}

/// The feed never returns by itself; should it panic, it starts anew (with a new epoch, like after any gap).
async fn supervise(config: watch::Receiver<FeedConfig>, shared: larder_feed::Shared) {
    loop {
        let outcome = tokio::spawn(larder_feed::run_with(config.clone(), shared.clone())).await;
        let problem = match outcome {
            Ok(()) => "the change feed ended".to_owned(),
            Err(error) => format!("the change feed failed: {error}"),
        };
        error!("{problem}; starting it again in {RESTART_AFTER:?}");
        let remedy = "none on your side: please report this as a bug, with the log".to_owned();
        let findings = vec![Finding { code: "feed_stopped", problem, remedy }];
        shared.health.set(FeedState::Disconnected { findings, retry_in: RESTART_AFTER });
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

/// Says in the log what the feed's state is whenever it becomes another one. Never returns.
pub(super) async fn log_changes(shared: Arc<Shared>) {
    let mut said = FeedState::Starting;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let state = shared.health.get();
        if !same(&said, &state) {
            say(&state, &shared.health, &shared.events);
            said = state;
        }
    }
}

/// The time of the next attempt is not news.
fn same(a: &FeedState, b: &FeedState) -> bool {
    match (a, b) {
        (FeedState::Disconnected { findings: a, .. }, FeedState::Disconnected { findings: b, .. }) => a == b,
        _ => a == b,
    }
}

fn say(state: &FeedState, health: &FeedHealth, events: &Events) {
    match state {
        FeedState::Starting => info!("change feed: starting"),
        FeedState::Connected => {
            let gaps = health.gaps.load(std::sync::atomic::Ordering::Relaxed);
            events.note(Kind::Feed, "Change feed connected");
            info!(gaps, "change feed: connected; answers come from memory while they are provably fresh");
        }
        FeedState::Disconnected { findings, .. } => {
            let problems: Vec<_> = findings.iter().map(|finding| finding.problem.as_str()).collect();
            events.warn(Kind::Feed, format!("Change feed lost: {}", problems.join("; ")));
            warn!("change feed: not connected; Larder is a plain proxy until it is");
            for finding in findings {
                warn!(code = finding.code, "{} -> {}", finding.problem, finding.remedy);
            }
        }
    }
}
