//! `larder demo`: a throw-away PostgreSQL, Larder in front of it, a mixed load, and proof while you watch.

mod ledger;
mod load;
mod panel;
mod report;
mod second;
mod session;
mod shop;
mod stats;
mod terminal;

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use larder_cache::Moment;
use larder_core::FeedState;
use larder_sandbox::{Auth, Postgres, Valkey};
use tokio_postgres::NoTls;

use crate::cli::print_text;
use crate::config::{self, Effective, Flag, Given, Source};
use crate::serve::{Larder, Signals, block_on};
use load::Load;
use report::AtRest;
use second::Second;
use terminal::{Paint, Terminal};

/// Name, and here also the password, of the role that the load uses. The server is gone in a minute.
const APP: &str = "app";
/// The same for Larder's own account.
const OWN: &str = "larder";
const DATABASE: &str = "shop";
/// Everything on one machine is cheap: `[valkey] min_origin_time` for the demo.
const WORTH_SHARING: &str = "50us";
/// The feed makes its slot when every transaction of that moment has ended; the demo has none that lasts.
const FEED_LIMIT: Duration = Duration::from_secs(30);
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Of the load; zero: until a signal.
    pub(crate) duration: Duration,
    /// A JSON document on stdout.
    pub(crate) json: bool,
    /// Keep the servers running afterwards, until a signal.
    pub(crate) keep: bool,
}

/// Runs the demo; status 1 if anything was not as promised.
pub(crate) fn run(given: Given, options: Options) -> anyhow::Result<ExitCode> {
    block_on(async {
        let mut signals = Signals::new()?;
        let mut terminal = Terminal::detect(options.json);
        let stage = tokio::select! {
            stage = Stage::prepare(given, &mut terminal) => stage?,
            name = signals.next() => anyhow::bail!("{name} during the preparation; everything is cleaned up"),
        };
        let code = stage.perform(options, &mut terminal, &mut signals).await?;
        stage.larder.drain(DRAIN_LIMIT).await;
        Ok(code)
    })
}

/// Everything that runs. Dropping it stops Larder, then PostgreSQL, and removes its folder.
#[derive(Debug)]
struct Stage {
    larder: Larder,
    load: Arc<Load>,
    postgres: Postgres,
    /// The one that was asked for with a bare `--valkey`.
    _valkey: Option<Valkey>,
    config: Effective,
}

impl Stage {
    async fn prepare(mut given: Given, terminal: &mut Terminal) -> anyhow::Result<Self> {
        terminal.line(&format!("\n  {}\n", terminal.paint(Paint::Bold, "larder demo")));
        let flags = given.flags.len();
        given.flags.retain(|flag| !flag.is_bare_valkey());
        let starts_valkey = given.flags.len() < flags;
        // Mistakes are reported before anything is started.
        let config = configure(given, "postgres://127.0.0.1")?;
        crate::logging::init(&config.1.config.log);
        let mut given = config.0;
        let postgres = step(terminal, "starting a throw-away PostgreSQL", start_postgres()).await?;
        step(terminal, "filling a shop", fill_shop(&postgres)).await?;
        let valkey = if starts_valkey {
            let valkey = step(terminal, "starting a throw-away Valkey", start_valkey()).await?;
            let url = valkey.url();
            for (path, value) in [("valkey.url", url.as_str()), ("valkey.min_origin_time", WORTH_SHARING)] {
                set(&mut given, path, value);
            }
            Some(valkey)
        } else {
            None
        };
        let url = format!("postgres://{OWN}:{OWN}@{}/{DATABASE}", postgres.addr());
        let (_, effective) = configure(given, &url)?;
        let config = &effective.config;
        let larder = step(terminal, "starting Larder in front of it", start_larder(&effective)).await?;
        step(terminal, "waiting for the change feed", wait_for_feed(&larder)).await?;
        let through = client_options(reachable(larder.shared.proxy.local_addr()), APP, DATABASE);
        let direct = client_options(postgres.addr(), APP, DATABASE);
        let load = Arc::new(Load::new(through, direct, config.freshness.level, config.freshness.max_lag.0));
        Ok(Self { larder, load, postgres, _valkey: valkey, config: effective })
    }

    async fn perform(
        &self,
        options: Options,
        terminal: &mut Terminal,
        signals: &mut Signals,
    ) -> anyhow::Result<ExitCode> {
        let start = Instant::now();
        self.run_load(options, terminal, signals).await?;
        let elapsed = start.elapsed();
        let rest = tokio::select! {
            rest = report::compare_at_rest(&self.load) => rest,
            name = signals.next() => anyhow::bail!("{name} during the comparison at rest; everything is cleaned up"),
        };
        let rest = rest.unwrap_or_else(|error| {
            self.load.stats.failed(format!("comparison at rest: {error:#}"));
            AtRest::default()
        });
        let second = self.second(terminal).await;
        for line in report::table(*terminal, &self.load, rest, second) {
            terminal.line(&line);
        }
        if options.json {
            print_text(&format!("{:#}\n", report::json(&self.load, rest, second, elapsed)))?;
        }
        self.farewell(options, terminal, signals).await;
        Ok(if report::passed(&self.load, rest, second) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// With a shared tier: what a second Larder that starts now has from the first one.
    async fn second(&self, terminal: &mut Terminal) -> Option<Second> {
        self.larder.shared.shared_tier.as_ref()?;
        let work = async {
            let second = second::ask(&self.config, &self.load.origin).await?;
            Ok((second, format!("{} of {} answers from Valkey", second.shared, second.statements)))
        };
        match step(terminal, "asking a second Larder that has just started", work).await {
            Ok(second) => Some(second),
            Err(error) => {
                self.load.stats.failed(format!("{error:#}"));
                None
            }
        }
    }

    /// The load has a thread of its own, so that drawing does not disturb what it measures.
    async fn run_load(
        &self,
        options: Options,
        terminal: &mut Terminal,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (load, (ended, mut end)) = (self.load.clone(), tokio::sync::oneshot::channel());
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            runtime.block_on(load::run(load));
            let _ = ended.send(());
        })?;
        let total = Some(options.duration).filter(|duration| !duration.is_zero());
        tokio::select! {
            () = panel::show(terminal, &self.load, &self.larder.shared, total) => {}
            () = tokio::time::sleep(total.unwrap_or(Duration::MAX)) => {}
            _ = signals.next() => {}
            // Every client has failed.
            _ = &mut end => {}
        }
        self.load.stop();
        while !thread.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        anyhow::ensure!(thread.join().is_ok(), "the load failed; this is a bug in the demo");
        terminal.erase();
        Ok(())
    }

    async fn farewell(&self, options: Options, terminal: &mut Terminal, signals: &mut Signals) {
        if options.keep {
            let listen = reachable(self.larder.shared.proxy.local_addr());
            let admin = self.larder.admin_addr;
            terminal.line("\n  still running, until Ctrl-C:");
            terminal.line(&format!("    through Larder   psql postgres://{APP}:{APP}@{listen}/{DATABASE}"));
            terminal.line(&format!("    directly         psql {}", self.postgres.url(APP, DATABASE)));
            terminal.line(&format!("    metrics          http://{admin}/metrics"));
            terminal.line(&format!("    status           http://{admin}/api/v1/status"));
            terminal.line("    how was that served?   SHOW larder.last;");
            signals.next().await;
        } else {
            terminal.line("\n  to look around afterwards:  larder demo --keep");
        }
        terminal.line("  in front of your database:  larder serve --origin postgres://larder:secret@host:5432/database\n");
    }
}

/// Runs one step of the preparation and says what came of it and how long it took.
async fn step<T>(
    terminal: &mut Terminal,
    name: &str,
    work: impl Future<Output = anyhow::Result<(T, String)>>,
) -> anyhow::Result<T> {
    let start = Instant::now();
    if terminal.redraws {
        terminal.redraw(&[format!("  … {name}")]);
    }
    let outcome = work.await.with_context(|| format!("{name} failed"));
    terminal.erase();
    let (value, said) = outcome?;
    let mark = terminal.paint(Paint::Good, "✓");
    let seconds = format!("{:.1} s", start.elapsed().as_secs_f64());
    terminal
        .line(&format!("  {mark} {name}: {said} {}", terminal.paint(Paint::Dim, &format!("({seconds})"))));
    Ok(value)
}

/// Loads the configuration as `serve` would, with the demo's origin, and with other ports where the usual ones are
/// taken and none was asked for.
fn configure(mut given: Given, url: &str) -> anyhow::Result<(Given, Effective)> {
    set(&mut given, "origin.url", url);
    set(&mut given, "origin.control_url", "");
    let effective = config::load(&given)?;
    let by_default = |path: &str| {
        let mut sources = config::KEYS.iter().zip(&effective.sources);
        sources.any(|(key, source)| key.path() == path && *source == Source::Default)
    };
    let wanted =
        [("listen.addr", effective.config.listen.addr.0), ("admin.addr", effective.config.admin.addr.0)];
    for (path, addr) in wanted {
        if by_default(path) && TcpListener::bind(addr).is_err() {
            set(&mut given, path, "127.0.0.1:0");
        }
    }
    if by_default("log.level") {
        // What an operator wants to read would tear the panel apart.
        set(&mut given, "log.level", "error");
    }
    let effective = config::load(&given)?;
    Ok((given, effective))
}

fn set(given: &mut Given, path: &str, value: &str) {
    given.flags.push(Flag { path: path.to_owned(), value: Some(value.to_owned()), name: "larder demo" });
}

async fn start_valkey() -> anyhow::Result<(Valkey, String)> {
    let valkey = tokio::task::spawn_blocking(|| Valkey::builder().start()).await??;
    let said = format!("on {}", valkey.addr());
    Ok((valkey, said))
}

async fn start_postgres() -> anyhow::Result<(Postgres, String)> {
    let postgres = tokio::task::spawn_blocking(|| {
        let mut postgres = Postgres::builder().start()?;
        postgres.create_user(APP, APP, Auth::Scram)?;
        postgres.create_user(OWN, OWN, Auth::Scram)?;
        // All that Larder needs.
        postgres.sql(&format!("ALTER ROLE {OWN} REPLICATION"))?;
        postgres.sql(&format!("CREATE DATABASE {DATABASE}"))?;
        Ok::<_, larder_sandbox::Error>(postgres)
    });
    let postgres = postgres.await??;
    let said = format!("PostgreSQL {} on {}", postgres.major(), postgres.addr());
    Ok((postgres, said))
}

async fn fill_shop(postgres: &Postgres) -> anyhow::Result<((), String)> {
    let (client, connection) = client_options(postgres.addr(), "postgres", DATABASE).connect(NoTls).await?;
    tokio::spawn(connection);
    shop::seed(&client).await?;
    let number = |count: i32| terminal::number(u64::from(count.unsigned_abs()));
    let (orders, customers, products) =
        (number(shop::ORDERS), number(shop::CUSTOMERS), number(shop::PRODUCTS));
    Ok(((), format!("{orders} orders, {customers} customers, {products} products")))
}

async fn start_larder(effective: &Effective) -> anyhow::Result<(Larder, String)> {
    let larder = Larder::start(effective).await?;
    let said = format!(
        "clients on {}, admin on http://{}, level {}",
        larder.shared.proxy.local_addr(),
        larder.admin_addr,
        effective.config.freshness.level
    );
    Ok((larder, said))
}

async fn wait_for_feed(larder: &Larder) -> anyhow::Result<((), String)> {
    let shared = &larder.shared;
    if !shared.feed_wanted {
        return Ok(((), "not in mode bypass".to_owned()));
    }
    let deadline = Instant::now() + FEED_LIMIT;
    while !shared.fence.lease_holds(Moment::now()) {
        if Instant::now() > deadline {
            let findings = match shared.health.get() {
                FeedState::Disconnected { findings, .. } => findings,
                _ => Vec::new(),
            };
            let text: String = findings.iter().map(|f| format!("\n{} -> {}", f.problem, f.remedy)).collect();
            anyhow::bail!("no lease within {FEED_LIMIT:?}{text}");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(((), "it covers the present; nothing was installed in the database".to_owned()))
}

fn client_options(addr: SocketAddr, user: &str, database: &str) -> tokio_postgres::Config {
    let mut options = tokio_postgres::Config::new();
    options.host(addr.ip().to_string()).port(addr.port()).user(user).password(user).dbname(database);
    options.application_name("larder demo");
    options
}

/// Where to connect to something that listens there.
fn reachable(addr: SocketAddr) -> SocketAddr {
    if addr.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], addr.port())) } else { addr }
}
