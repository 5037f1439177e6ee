//! `larder serve`: the client path, the change feed and the admin server, wired together.
//!
//! Threads: the client path has its own workers ([`Proxy`]), the feed its own thread, so that neither a burst of
//! clients nor a huge transaction delays the other; admin HTTP, signals and the probe share this one.

mod feed;
mod notify;
mod observe;
mod probe;
mod reload;
mod secrets;
mod security;
mod sharing;
#[cfg(feature = "otlp")]
mod traces;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use larder_cache::{Fence, Tags};
use larder_core::{CatalogCell, FeedHealth, Finding};
use larder_login::scram::Verifier;
use larder_login::{OriginTls, Secret};
use larder_proxy::{Access, ConsoleAccess, Proxy, ProxyConfig, Rules, Tracing, Verify};
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub(crate) use feed::{account, feed_config};
pub(crate) use secrets::Question;
pub(crate) use security::{access, notes, origin_tls};
pub(crate) use sharing::SharedTier;

use crate::admin::{self, Admin, AdminConsole, History, Shutdown};
use crate::config::{Config, ConfigErrors, Effective, Mode};
use crate::events::{Events, Kind};

/// What the parts of a running Larder share with the admin server.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) proxy: Proxy,
    pub(crate) fence: Arc<Fence>,
    pub(crate) tags: Arc<Tags>,
    pub(crate) catalog: Arc<CatalogCell>,
    pub(crate) health: Arc<FeedHealth>,
    /// The configuration in force, and whom to tell when another one is.
    settings: reload::Settings,
    /// The tier that this Larder shares with others, if one is configured.
    pub(crate) shared_tier: Option<SharedTier>,
    pub(crate) mode: Mode,
    /// Bytes of the tier in memory, at most.
    pub(crate) memory: usize,
    pub(crate) events: Events,
    pub(crate) history: History,
    /// `host:port`.
    pub(crate) origin: String,
    /// Whether there is a feed at all (not in mode bypass).
    pub(crate) feed_wanted: bool,
    pub(crate) started: Instant,
    draining: AtomicBool,
    origin_state: Mutex<OriginState>,
    /// Somebody with the right to it has asked to stop.
    stop: watch::Sender<Option<Shutdown>>,
}

/// What the probe last saw.
#[derive(Debug, Clone, Default)]
enum OriginState {
    #[default]
    NotProbed,
    Reachable,
    Unreachable(String),
}

/// Why traffic should not be sent here; empty when it should.
#[derive(Debug)]
pub(crate) struct Readiness {
    pub(crate) reasons: Vec<String>,
}

impl Shared {
    /// For `/readyz`.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut reasons = Vec::new();
        if self.is_draining() {
            reasons.push("draining".to_owned());
        }
        match &*self.origin_state.lock() {
            OriginState::NotProbed => reasons.push("starting".to_owned()),
            OriginState::Reachable => {}
            OriginState::Unreachable(why) => reasons.push(format!("origin unreachable: {why}")),
        }
        Readiness { reasons }
    }

    /// Why the origin cannot be reached, if it cannot.
    pub(crate) fn origin_problem(&self) -> Option<String> {
        match &*self.origin_state.lock() {
            OriginState::Unreachable(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether it is on its way out.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The relation of a name, with or without its schema.
    pub(crate) fn relation(&self, name: &str) -> Option<u32> {
        let catalog = self.catalog.load_full()?;
        let (schema, name) = name.split_once('.').map_or((None, name), |(schema, name)| (Some(schema), name));
        let path = ["public".to_owned(), "pg_catalog".to_owned()];
        catalog.resolve(schema, name, &path).map(|relation| relation.oid)
    }

    /// Its name with its schema.
    pub(crate) fn relation_name(&self, name: &str) -> Option<String> {
        let oid = self.relation(name)?;
        let catalog = self.catalog.load_full()?;
        catalog.relations.get(&oid).map(|found| format!("{}.{}", found.schema, found.name))
    }

    /// Switches where answers come from.
    pub(crate) fn set_mode(&self, mode: larder_proxy::Mode) -> Result<(), String> {
        if self.mode == Mode::Bypass {
            return Err("there is no cache: Larder was started as a plain proxy".to_owned());
        }
        if self.proxy.mode() != mode {
            info!(mode = mode.name(), "mode switched by an operator");
            self.events.note(Kind::Mode, format!("Mode {}, by an operator", mode.name()));
        }
        self.proxy.set_mode(mode);
        Ok(())
    }

    /// Asks the program to stop.
    pub(crate) fn shut_down(&self, how: Shutdown) {
        self.stop.send_replace(Some(how));
    }

    /// Committed changes seen, by kind.
    pub(crate) fn changes(&self) -> [(&'static str, u64); 5] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let health = &self.health;
        [
            ("insert", read(&health.inserts)),
            ("update", read(&health.updates)),
            ("delete", read(&health.deletes)),
            ("truncate", read(&health.truncates)),
            ("ddl", read(&health.ddl)),
        ]
    }
}

/// A running Larder. Dropping it stops the feed and the admin server.
#[derive(Debug)]
pub(crate) struct Larder {
    pub(crate) shared: Arc<Shared>,
    pub(crate) admin_addr: SocketAddr,
    _feed: Option<feed::Feed>,
    _keeper: Option<sharing::Thread>,
    tasks: Vec<JoinHandle<()>>,
}

impl Larder {
    /// Starts everything; clients are served when it returns.
    pub(crate) async fn start(effective: &Effective) -> anyhow::Result<Self> {
        let config = &effective.config;
        let target = config.origin.url.target().context("no origin is configured")?;
        let admin_listener = admin::bind(config.admin.addr.0).await?;
        let admin_addr = admin_listener.local_addr()?;
        let fence = Arc::new(Fence::new(config.freshness.max_lag.0));
        let (tags, catalog) = (Arc::new(Tags::default()), Arc::new(CatalogCell::default()));
        let health = Arc::new(FeedHealth::default());
        // A plain proxy shares nothing.
        let shared_tier = if config.cache.mode != Mode::Bypass { SharedTier::new(config)? } else { None };
        let proxy_shared = larder_proxy::Shared {
            fence: fence.clone(),
            tags: tags.clone(),
            catalog: catalog.clone(),
            sharing: shared_tier.as_ref().map(SharedTier::sharing),
            rules: Arc::new(Rules::new(effective.rules())),
        };
        let listen = config.listen_addr();
        let tls = origin_tls(config).map_err(unusable)?;
        let access = access(config).map_err(unusable)?;
        let console = Arc::new(AdminConsole::default());
        let admin_database = admin_database(config, &access.seed, &console);
        let (tracing, exporting) = tracing(config)?;
        let proxy_config =
            ProxyConfig { console: admin_database, tracing, ..proxy_config(config, tls, access) };
        let proxy = Proxy::start(proxy_config, proxy_shared).map_err(|error| {
            anyhow::anyhow!(
                "cannot listen on {listen} for clients: {error}\n  -> choose another address: --listen ADDR"
            )
        })?;
        let shared = Arc::new(Shared {
            proxy,
            fence: fence.clone(),
            tags: tags.clone(),
            catalog: catalog.clone(),
            health: health.clone(),
            settings: reload::Settings::new(effective, console.clone()),
            shared_tier,
            mode: config.cache.mode,
            memory: config.cache.memory.0,
            events: Events::default(),
            history: History::default(),
            origin: format!("{}:{}", target.host, target.port),
            feed_wanted: config.cache.mode != Mode::Bypass,
            started: Instant::now(),
            draining: AtomicBool::new(false),
            origin_state: Mutex::default(),
            stop: watch::Sender::default(),
        });
        console.attach(&shared);
        let keeper = match &shared.shared_tier {
            Some(tier) => Some(tier.keep(fence.clone(), tags.clone(), config)?),
            None => None,
        };
        let feed_shared = larder_feed::Shared { fence, tags, catalog, health };
        let feed = if shared.feed_wanted { feed::Feed::start(config, feed_shared)? } else { None };
        let feed = feed.map(|(feed, teller)| {
            shared.settings.tell(teller);
            feed
        });
        let admin = Admin::new(shared.clone(), console);
        let tasks = vec![
            tokio::spawn(exporting),
            tokio::spawn(async move {
                if let Err(error) = admin.serve(admin_listener).await {
                    warn!(%error, "admin HTTP stopped");
                }
            }),
            tokio::spawn(probe::run(shared.clone())),
            tokio::spawn(feed::log_changes(shared.clone())),
            tokio::spawn(observe::run(shared.clone())),
        ];
        Ok(Self { shared, admin_addr, _feed: feed, _keeper: keeper, tasks })
    }

    /// Turns unready, lets transactions finish for at most `grace`, closes what is left.
    pub(crate) async fn drain(&self, grace: Duration) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.shared.events.note(Kind::Drain, format!("Draining: transactions may finish for {grace:?}"));
        self.shared.proxy.drain(grace).await;
    }
}

impl Drop for Larder {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Runs until a signal asks to stop.
pub(crate) fn run(effective: &Effective) -> anyhow::Result<ExitCode> {
    effective.require_origin()?;
    crate::logging::init(&effective.config.log);
    block_on(serve(effective))
}

/// Runs a future on a runtime of this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start a runtime")?
        .block_on(future)
}

async fn serve(effective: &Effective) -> anyhow::Result<ExitCode> {
    let config = &effective.config;
    let mut signals = Signals::new()?;
    let mut hangups = signal(SignalKind::hangup())?;
    let larder = Larder::start(effective).await?;
    banner(config, &larder);
    notify::notify("READY=1");
    let mut stop = larder.shared.stop.subscribe();
    let shared = &larder.shared;
    let reloading = async {
        while hangups.recv().await.is_some() {
            // What came of it is in the log.
            let _ = shared.reload("SIGHUP");
        }
        std::future::pending().await
    };
    let name = tokio::select! {
        name = signals.next() => name,
        name = reloading => name,
        Ok(how) = stop.wait_for(Option::is_some) => {
            if *how == Some(Shutdown::Now) {
                info!(clients = larder.shared.proxy.clients(), "SHUTDOWN: stopping at once");
                return Ok(ExitCode::SUCCESS);
            }
            "SHUTDOWN WAIT_FOR_CLIENTS"
        }
    };
    let grace = shared.grace();
    notify::notify("STOPPING=1");
    info!(clients = shared.proxy.clients(), ?grace, "{name}: draining");
    tokio::select! {
        () = larder.drain(grace) => {
            info!("stopped");
            Ok(ExitCode::SUCCESS)
        }
        name = signals.next() => {
            warn!(clients = larder.shared.proxy.clients(), "{name} again: stopping at once");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn banner(config: &Config, larder: &Larder) {
    info!("larder {}: clients connect to {}", crate::VERSION, larder.shared.proxy.local_addr());
    info!("origin {}, tls {}", config.origin.url, config.origin_tls().name());
    for note in notes(config) {
        warn!(code = note.code, "{} -> {}", note.problem, note.remedy);
    }
    match config.cache.mode {
        Mode::Bypass => info!("mode bypass: a plain proxy"),
        mode => info!(
            "mode {}, level {}, max lag {:?}, memory {}",
            mode.name(),
            config.freshness.level,
            config.freshness.max_lag.0,
            config.cache.memory
        ),
    }
    info!("admin http://{}", larder.admin_addr);
}

/// Who is told of traces, and what sends them.
#[cfg(feature = "otlp")]
fn tracing(config: &Config) -> anyhow::Result<(Option<Arc<Tracing>>, Exporting)> {
    let Some(url) = config.trace.endpoint.url() else { return Ok((None, Box::pin(std::future::ready(())))) };
    let traces = traces::Traces::new(url, config.trace.sample.0)?;
    Ok((Some(traces.tracing.clone()), Box::pin(traces.send())))
}

#[cfg(not(feature = "otlp"))]
fn tracing(config: &Config) -> anyhow::Result<(Option<Arc<Tracing>>, Exporting)> {
    anyhow::ensure!(
        config.trace.endpoint.url().is_none(),
        "[trace] endpoint: this larder was built without traces\n  -> build it with the feature otlp, or take the key away"
    );
    Ok((None, Box::pin(std::future::ready(()))))
}

type Exporting = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A file that the configuration names cannot be used: that is a configuration to mend.
fn unusable(finding: Finding) -> anyhow::Error {
    ConfigErrors::file(finding.problem, finding.remedy).into()
}

/// The database of the administrator, if there is one.
fn admin_database(config: &Config, seed: &[u8; 32], console: &Arc<AdminConsole>) -> Option<ConsoleAccess> {
    let password = config.admin.password.get()?;
    let user = config.admin.user.0.clone();
    let verifier = match Secret::parse(password, &user, seed) {
        Secret::Scram(verifier) | Secret::Password { verifier, .. } => verifier,
        // It looks like one, and is a password here.
        Secret::Md5(text) => Verifier::of_password(&text, seed, &user),
    };
    Some(ConsoleAccess { database: admin::DATABASE.to_owned(), user, verifier, console: console.clone() })
}

fn proxy_config(config: &Config, origin_tls: OriginTls, access: Access) -> ProxyConfig {
    let target = config.origin.url.target();
    ProxyConfig {
        listen: config.listen_addr(),
        max_clients: config.listen.max_clients.0,
        origin_host: target.map(|target| target.host.clone()).unwrap_or_default(),
        origin_port: target.map(|target| target.port).unwrap_or_default(),
        origin_tls,
        access,
        connect_timeout: config.origin.connect_timeout.0,
        mode: match config.cache.mode {
            Mode::Serve => larder_proxy::Mode::Serve,
            Mode::Shadow => larder_proxy::Mode::Shadow,
            Mode::Bypass => larder_proxy::Mode::Bypass,
        },
        tracing: None,
        statistics: config.admin.statistics.0,
        verify: Verify { sample: config.verify.sample.0, settle: settle(config.freshness.ddl_check.0) },
        level: config.freshness.level,
        max_lag: config.freshness.max_lag.0,
        memory: config.cache.memory.0,
        max_result: config.cache.max_result.0,
        ttl: config.cache.ttl.0,
        ttl_jitter: config.cache.ttl_jitter.0,
        max_inflight_fills: config.origin.max_inflight_fills.0,
        client_max_age: config.drain.client_max_age.0,
        console: None,
        workers: 0,
    }
}

/// The catalog is compared once in `ddl_check` while anything commits, and once a second for what is changed elsewhere.
/// Twice that, as a comparison may just have begun.
fn settle(ddl_check: Duration) -> Duration {
    2 * ddl_check.max(Duration::from_secs(1))
}

/// SIGTERM and SIGINT.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
