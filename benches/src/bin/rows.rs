//! How often reads of single rows hit while other rows are written: beside a cache that forgets exactly what a write changes, and
//! beside answers that depend on the whole relation.
//!
//! `cargo run --release -p larder-bench --bin rows -- --larder target/release/larder`
//!
//! Every row is read once, so that all are in memory. Then each client draws rows evenly and reads or updates one of them, through
//! Larder. The ideal is counted along the way: a read hits if the row was read since it was last written.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it prints its result")]

#[path = "../metrics.rs"]
#[allow(dead_code, reason = "another program uses the rest")]
mod metrics;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use larder_sandbox::{PgVersion, Postgres};
use tokio::task::{JoinSet, LocalSet};
use tokio_postgres::{Client, NoTls};

use crate::metrics::Queries;

/// Measures the hit ratio of single rows under writes
#[derive(Debug, Parser)]
struct Cli {
    /// The release binary to measure
    #[arg(long, value_name = "FILE", default_value = "target/release/larder")]
    larder: PathBuf,
    /// Rows, all of them hot
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rows: u64,
    /// Statements in each case, over all clients
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    statements: u64,
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 8)]
    clients: u64,
}

const BY_ROW: &str = "SELECT v FROM hot WHERE id = $1";
/// The same answer, of which Larder cannot tell the rows.
const BY_RELATION: &str = "SELECT v FROM hot WHERE id + 0 = $1";
const WRITE: &str = "UPDATE hot SET v = v + 1 WHERE id = $1";
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
    let postgres = Postgres::builder().version(PgVersion::V18).setting("wal_level", "logical").start()?;
    postgres.sql(&format!(
        "CREATE TABLE hot (id int PRIMARY KEY, v int); INSERT INTO hot SELECT i, 0 FROM generate_series(0, {}) i;
         CREATE INDEX ON hot ((id + 0)); VACUUM ANALYZE hot",
        cli.rows - 1
    ))?;
    println!(
        "{:>8} {:>7} | {:>7} {:>7} {:>8} | {:>9} | why not",
        "writes", "tags", "ideal", "hits", "points", "a second"
    );
    for percent in [10, 50] {
        for (name, read) in [("rows", BY_ROW), ("whole", BY_RELATION)] {
            let larder = Running::start(&cli.larder, &postgres)?;
            let case = Case::new(cli, larder.port, percent, read);
            let done = case.measure(larder.admin).await.with_context(|| format!("{percent} %, {name}"))?;
            println!(
                "{percent:>6} % {name:>7} | {:>5.1} % {:>5.1} % {:>+8.1} | {:>9.0} | {}",
                done.ideal * 100.0,
                done.hits * 100.0,
                (done.hits - done.ideal) * 100.0,
                done.rate,
                done.reasons
            );
        }
    }
    println!("load after: {}", load());
    Ok(())
}

/// A Larder, killed when it goes out of scope.
struct Running {
    child: Child,
    port: u16,
    admin: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(larder: &Path, postgres: &Postgres) -> Result<Self> {
        let free =
            || Ok::<_, std::io::Error>(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
        let (port, admin) = (free()?, free()?);
        let child = Command::new(larder)
            .args(["serve", "--log-level", "error"])
            .args(["--origin", &postgres.url("postgres", "postgres")])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")])
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", larder.display()))?;
        let running = Self { child, port, admin };
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

/// What all clients share.
struct Case {
    port: u16,
    percent: u64,
    read: &'static str,
    clients: u64,
    each: u64,
    /// Whether a row was read since it was last written.
    known: Vec<AtomicBool>,
    reads: AtomicU64,
    ideal: AtomicU64,
}

struct Done {
    ideal: f64,
    hits: f64,
    rate: f64,
    reasons: String,
}

impl Case {
    fn new(cli: &Cli, port: u16, percent: u64, read: &'static str) -> Rc<Self> {
        let known = (0..cli.rows).map(|_| AtomicBool::new(false)).collect();
        let each = cli.statements / cli.clients;
        let (reads, ideal) = (AtomicU64::new(0), AtomicU64::new(0));
        Rc::new(Self { port, percent, read, clients: cli.clients, each, known, reads, ideal })
    }

    async fn measure(self: Rc<Self>, admin: u16) -> Result<Done> {
        self.everyone(Self::warm).await?;
        let before = Queries::scrape(admin)?;
        let begun = Instant::now();
        self.everyone(Self::mix).await?;
        let rate = (self.each * self.clients) as f64 / begun.elapsed().as_secs_f64();
        let done = Queries::scrape(admin)?.since(&before);
        let reads = self.reads.load(Ordering::Relaxed) as f64;
        let hits = done.hits() / reads;
        // Every write is a bypass, too.
        let reasons = done.into_reasons().into_iter().filter(|(reason, _)| !reason.contains("not_a_select"));
        let reasons = reasons.filter(|(_, count)| count / reads > 0.0005);
        let reasons = reasons.map(|(reason, count)| format!("{reason} {:.1} %", count / reads * 100.0));
        let ideal = self.ideal.load(Ordering::Relaxed) as f64 / reads;
        Ok(Done { ideal, hits, rate, reasons: reasons.collect::<Vec<_>>().join(", ") })
    }

    async fn everyone<F: Future<Output = Result<()>> + 'static>(
        self: &Rc<Self>,
        work: impl Fn(Rc<Self>, Client, u64) -> F,
    ) -> Result<()> {
        let mut all = JoinSet::new();
        for client in 0..self.clients {
            let settings = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
            let (connected, connection) = tokio_postgres::connect(&settings, NoTls).await?;
            tokio::task::spawn_local(connection);
            all.spawn_local(work(Rc::clone(self), connected, client));
        }
        while let Some(done) = all.join_next().await {
            done??;
        }
        Ok(())
    }

    /// Reads every row.
    async fn warm(self: Rc<Self>, client: Client, number: u64) -> Result<()> {
        let read = client.prepare(self.read).await?;
        for row in (number..self.known.len() as u64).step_by(usize::try_from(self.clients)?) {
            client.query_one(&read, &[&i32::try_from(row)?]).await?;
            self.row(row)?.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn mix(self: Rc<Self>, client: Client, number: u64) -> Result<()> {
        let (read, write) = (client.prepare(self.read).await?, client.prepare(WRITE).await?);
        let mut random = Random(number.wrapping_add(0x9E37_79B9_7F4A_7C15));
        for _ in 0..self.each {
            let row = random.below(self.known.len() as u64);
            let id = i32::try_from(row)?;
            if random.below(100) < self.percent {
                client.execute(&write, &[&id]).await?;
                self.row(row)?.store(false, Ordering::Relaxed);
            } else {
                let known = self.row(row)?.swap(true, Ordering::Relaxed);
                self.reads.fetch_add(1, Ordering::Relaxed);
                self.ideal.fetch_add(u64::from(known), Ordering::Relaxed);
                client.query_one(&read, &[&id]).await?;
            }
        }
        Ok(())
    }

    fn row(&self, row: u64) -> Result<&AtomicBool> {
        self.known.get(usize::try_from(row)?).context("no such row")
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): the same rows in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
