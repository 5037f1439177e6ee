//! What an answer from the shared tier costs: beside a bare GET of as many bytes from the same Valkey, and beside the origin
//! for statements that cost it 1, 10 and 100 ms. In one run, in turns.
//!
//! `cargo run --release -p larder-bench --bin shared -- --larder target/release/larder`
//!
//! Two Larders share a Valkey. The first fills; the second, started anew in each round, is asked for every key once: each is
//! a hit of the shared tier, and then of its own memory. `SHOW larder.last` says whether it was.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its result")]

#[path = "../metrics.rs"]
#[allow(dead_code, reason = "another program uses the rest")]
mod metrics;
#[path = "../stats.rs"]
#[allow(dead_code, reason = "another program uses the rest")]
mod stats;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use larder_sandbox::{PgVersion, Postgres, Valkey};
use redis::AsyncCommands as _;
use tokio::task::{JoinSet, LocalSet};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::stats::Spread;

/// Measures hits of the shared tier
#[derive(Debug, Parser)]
struct Cli {
    /// The release binary to measure
    #[arg(long, value_name = "FILE", default_value = "target/release/larder")]
    larder: PathBuf,
    /// Rounds per case
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
}

/// What is asked: cost at the origin in milliseconds, bytes of the answer, how many different ones.
const CASES: [(u32, usize, usize); 6] =
    [(1, 100, 400), (1, 1_000, 400), (1, 10_000, 400), (1, 100_000, 200), (10, 1_000, 160), (100, 1_000, 32)];
/// Connections at once, for throughput.
const AT_ONCE: usize = 8;
/// Answers that are spent on finding out whether a Larder has learnt of the past, and for how long that may take.
const ATTEMPTS: usize = 40;
const PATIENCE: Duration = Duration::from_secs(20);
/// A loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(60);

fn main() -> Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(LocalSet::new().run_until(run(&cli)))
}

async fn run(cli: &Cli) -> Result<()> {
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim_end().to_owned();
    println!("load before: {}", load());
    let postgres = Postgres::builder()
        .version(PgVersion::V18)
        .setting("wal_level", "logical")
        .setting("max_parallel_workers_per_gather", "0")
        .setting("jit", "off")
        .setting("shared_buffers", "512MB")
        .start()?;
    let valkey = Valkey::builder().start()?;
    prepare(&postgres).await?;
    let stage = Stage { larder: &cli.larder, postgres: &postgres, valkey: &valkey };
    let first = stage.start()?;
    println!(
        "{:>7} {:>8} | {:>11} {:>11} {:>11} {:>11} | {:>10} {:>11} | {:>10} {:>10} {:>9}",
        "origin",
        "bytes",
        "origin p50",
        "l2 p50",
        "GET p50",
        "l1 p50",
        "l2 / GET",
        "origin / l2",
        "l2 /s",
        "GET /s",
        "ratio"
    );
    for case in CASES {
        let mut rounds = Vec::new();
        for round in 0..cli.rounds {
            rounds.push(measure(&stage, &first, case, round).await.with_context(|| format!("{case:?}"))?);
        }
        report(case, &rounds)?;
    }
    println!("load after: {}", load());
    Ok(())
}

// ---- the stage -------------------------------------------------------------------------------------------------------

struct Stage<'a> {
    larder: &'a Path,
    postgres: &'a Postgres,
    valkey: &'a Valkey,
}

/// A Larder, killed when it goes out of scope.
struct Running {
    child: Child,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stage<'_> {
    /// With a shared tier, and following the origin's log.
    fn start(&self) -> Result<Running> {
        let free =
            || Ok::<_, std::io::Error>(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
        let (port, admin) = (free()?, free()?);
        let mut command = Command::new(self.larder);
        command
            .args(["serve", "--log-level", "warn", "--valkey", &self.valkey.url()])
            .args(["--origin", &self.postgres.url("postgres", "postgres")])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")])
            // Its own patience is not what is measured.
            .args(["--set", "valkey.timeout=1s", "--set", "valkey.min_origin_time=0.1ms"])
            .args(["--set", "valkey.secret=0123456789abcdef0123456789abcdef"])
            .stdin(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {}", self.larder.display()))?;
        let running = Running { child, port };
        let deadline = Instant::now() + LIMIT;
        loop {
            let text = metrics::get(admin, "/metrics").unwrap_or_default();
            if metrics::gauge(&text, "larder_lease_remaining_seconds").is_some_and(|seconds| seconds > 0.0) {
                return Ok(running);
            }
            if Instant::now() > deadline {
                bail!("Larder does not follow the origin's log");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Tables that take 1, 10 and 100 ms to add up, and texts of each size.
async fn prepare(postgres: &Postgres) -> Result<()> {
    postgres.sql("CREATE TABLE probe AS SELECT i FROM generate_series(1, 200000) i; VACUUM ANALYZE probe")?;
    let direct = connect(postgres.port()).await?;
    let mut times = Vec::new();
    for key in 0..20 {
        let begun = Instant::now();
        direct.simple_query(&format!("SELECT sum(i) FROM probe WHERE i <> -{key}")).await?;
        times.push(begun.elapsed().as_secs_f64());
    }
    let each = Spread::of(times).context("no probe")?.min / 200_000.0;
    for cost in [1, 10, 100] {
        let rows = (f64::from(cost) / 1000.0 / each) as u64;
        postgres.sql(&format!(
            "CREATE TABLE cost_{cost} AS SELECT i FROM generate_series(1, {rows}) i; VACUUM ANALYZE cost_{cost}"
        ))?;
    }
    // Digits of random bytes: nothing to compress.
    postgres.sql(
        "CREATE TABLE texts AS SELECT size, left(string_agg(md5(size::text || n), ''), size) AS body
         FROM unnest(array[100, 1000, 10000, 100000]) size, generate_series(1, size / 32 + 1) n GROUP BY size;
         VACUUM ANALYZE texts; CHECKPOINT",
    )?;
    Ok(())
}

fn statement((cost, size, _): (u32, usize, usize), round: usize, key: usize) -> String {
    let key = round * 100_000 + key;
    format!("SELECT body, (SELECT sum(i) FROM cost_{cost} WHERE i <> -{key}) FROM texts WHERE size = {size}")
}

async fn connect(port: u16) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(&format!("host=127.0.0.1 port={port} user=postgres dbname=postgres"), NoTls)
            .await?;
    tokio::task::spawn_local(connection);
    Ok(client)
}

// ---- measuring -------------------------------------------------------------------------------------------------------

/// Medians in seconds, and answers a second.
struct Round {
    origin: f64,
    l2: f64,
    get: f64,
    l1: f64,
    l2_rate: f64,
    get_rate: f64,
}

async fn measure(
    stage: &Stage<'_>,
    first: &Running,
    case: (u32, usize, usize),
    round: usize,
) -> Result<Round> {
    let (_, size, keys) = case;
    let ask = |key| statement(case, round, key);
    // Half of the keys for latency, half for throughput.
    let half = keys / 2;
    let filler = connect(first.port).await?;
    for key in 0..keys + ATTEMPTS {
        filler.simple_query(&ask(key)).await?;
    }
    let second = stage.start()?;
    let client = connect(second.port).await?;
    // It is warm as soon as it has learnt of the past: as it gives an answer from before it was started.
    let mut attempts = keys..keys + ATTEMPTS;
    loop {
        let Some(attempt) = attempts.next() else { bail!("nothing is shared") };
        tokio::time::sleep(PATIENCE / ATTEMPTS as u32).await;
        if last(&client, &ask(attempt)).await?.contains("tier=l2") {
            break;
        }
    }
    let (mut l2, mut shared) = (Vec::new(), 0);
    for key in 0..half {
        l2.push(timed(&client, &ask(key)).await?);
        shared += usize::from(said(&client).await?.contains("tier=l2"));
    }
    if shared * 20 < half * 19 {
        bail!("only {shared} of {half} came from the shared tier");
    }
    let (mut l1, mut origin) = (Vec::new(), Vec::new());
    for key in 0..half {
        l1.push(timed(&client, &ask(key)).await?);
    }
    let direct = connect(stage.postgres.port()).await?;
    for key in 0..half.min(60) {
        origin.push(timed(&direct, &ask(key)).await?);
    }
    let mut jobs = Vec::new();
    for worker in 0..AT_ONCE {
        jobs.push((
            connect(second.port).await?,
            (half + worker..keys).step_by(AT_ONCE).map(ask).collect::<Vec<_>>(),
        ));
    }
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for (client, statements) in jobs {
        all.spawn_local(async move {
            for statement in statements {
                client.simple_query(&statement).await?;
            }
            Ok::<_, tokio_postgres::Error>(())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    let l2_rate = (keys - half) as f64 / begun.elapsed().as_secs_f64();
    let (get, get_rate) = gets(stage.valkey, size, keys).await?;
    let middle = |times: Vec<f64>| Spread::of(times).map(|spread| spread.median).context("nothing measured");
    Ok(Round { origin: middle(origin)?, l2: middle(l2)?, get, l1: middle(l1)?, l2_rate, get_rate })
}

/// The same for bare GETs of values of that size.
async fn gets(valkey: &Valkey, size: usize, keys: usize) -> Result<(f64, f64)> {
    let open = redis::Client::open(valkey.url())?;
    let mut connections = Vec::new();
    for _ in 0..AT_ONCE {
        connections.push(open.get_multiplexed_async_connection().await?);
    }
    let mut connection = connections.first().cloned().context("no connection")?;
    for key in 0..keys {
        let _: () = connection.set(format!("raw:{key}"), vec![b'x'; size]).await?;
    }
    let mut times = Vec::new();
    for key in 0..keys {
        let begun = Instant::now();
        let _: Vec<u8> = connection.get(format!("raw:{key}")).await?;
        times.push(begun.elapsed().as_secs_f64());
    }
    let begun = Instant::now();
    let mut all = JoinSet::new();
    for (worker, mut connection) in connections.into_iter().enumerate() {
        all.spawn_local(async move {
            for key in (worker..keys).step_by(AT_ONCE) {
                let _: Vec<u8> = connection.get(format!("raw:{key}")).await?;
            }
            Ok::<_, redis::RedisError>(())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    let rate = keys as f64 / begun.elapsed().as_secs_f64();
    Ok((Spread::of(times).context("nothing measured")?.median, rate))
}

async fn timed(client: &Client, statement: &str) -> Result<f64> {
    let begun = Instant::now();
    client.simple_query(statement).await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// How the statement was served.
async fn last(client: &Client, statement: &str) -> Result<String> {
    client.simple_query(statement).await?;
    said(client).await
}

async fn said(client: &Client) -> Result<String> {
    let rows = client.simple_query("SHOW larder.last").await?;
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(row.unwrap_or_default().to_owned())
}

fn report((cost, size, _): (u32, usize, usize), rounds: &[Round]) -> Result<()> {
    let spread = |of: &dyn Fn(&Round) -> f64| Spread::of(rounds.iter().map(of)).context("no round");
    let micros = |of: &dyn Fn(&Round) -> f64| spread(of).map(|spread| spread.median * 1e6);
    println!(
        "{cost:>4} ms {size:>8} | {:>8.0} us {:>8.0} us {:>8.0} us {:>8.0} us | {:>10.1} {:>11.1} | {:>10.0} {:>10.0} {:>9.2}",
        micros(&|round| round.origin)?,
        micros(&|round| round.l2)?,
        micros(&|round| round.get)?,
        micros(&|round| round.l1)?,
        spread(&|round| round.l2 / round.get)?.median,
        spread(&|round| round.origin / round.l2)?.median,
        spread(&|round| round.l2_rate)?.median,
        spread(&|round| round.get_rate)?.median,
        spread(&|round| round.l2_rate / round.get_rate)?.median,
    );
    Ok(())
}
