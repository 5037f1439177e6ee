//! How many single-row changes a second the feed folds in, beside a consumer of the same stream that throws it away
//! (`pg_recvlogical` to /dev/null), and beside what the origin can produce. In one run, in turns.
//!
//! `cargo run --release -p larder-bench --bin feed`
//!
//! *Drain*: the walsenders are stopped while a procedure commits single-row updates, and let go one after the other; the time until
//! the last commit has arrived is the consumer's. The feed has to fold the same changes once for a relation without parts and once
//! with a part and a tag for each row. *Live*: the same while the origin produces. *Bulk*: one UPDATE of every row.
#![allow(clippy::print_stdout, reason = "it prints its result")]

#[path = "../stats.rs"]
#[allow(dead_code, reason = "another program uses the rest")]
mod stats;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use larder_cache::{Fence, Moment, Tag, Tags};
use larder_core::{FeedHealth, Lsn, RowValue, relation_tag, row_id};
use larder_feed::{Account, FeedConfig, Plugin, Shared};
use larder_login::OriginTls;
use larder_sandbox::{PgVersion, Postgres};
use rustix::process::Signal;
use tokio_postgres::{Client, NoTls};

use crate::stats::Spread;

/// Measures the change feed
#[derive(Debug, Parser)]
struct Cli {
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Single-row changes in each
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    changes: u32,
    /// Rows, each with a tag that is held
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rows: u32,
}

/// A loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(60);
/// With parts, and without.
const TABLES: [&str; 2] = ["parted", "plain"];

/// A server, a feed that follows it, and a session.
struct Rig {
    pg: Postgres,
    client: Client,
    shared: Shared,
    /// What answers would hold.
    _tags: Vec<Arc<Tag>>,
}

#[derive(Default)]
struct Figures {
    produced: Vec<f64>,
    bare: Vec<f64>,
    /// By table.
    folded: [Vec<f64>; 2],
    ratio: [Vec<f64>; 2],
    live: Vec<f64>,
    bulk: [Vec<f64>; 2],
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let load = || std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim_end().to_owned();
    println!("load before: {}", load());
    let mut rig = Rig::start(&cli).await?;
    let mut figures = Figures::default();
    for round in 0..cli.rounds {
        for (at, table) in TABLES.iter().enumerate() {
            // In turns, so that neither always comes first.
            drain(&mut rig, table, at, cli.changes, round % 2 == 0, &mut figures).await?;
        }
        let live = Instant::now();
        rig.produce(TABLES[0], cli.changes).await?;
        rig.caught_up().await?;
        figures.live.push(f64::from(cli.changes) / live.elapsed().as_secs_f64());
        for (table, times) in TABLES.iter().zip(&mut figures.bulk) {
            let bulk = Instant::now();
            rig.client.batch_execute(&format!("update {table} set v = v")).await?;
            rig.caught_up().await?;
            times.push(bulk.elapsed().as_secs_f64());
        }
    }
    println!(
        "PostgreSQL {}, {} rows, {} changes, {} rounds",
        rig.pg.major(),
        cli.rows,
        cli.changes,
        cli.rounds
    );
    show("produced, nobody listening", "/s", &figures.produced);
    show("bare decoding, thrown away", "/s", &figures.bare);
    for ((table, folded), ratio) in TABLES.iter().zip(&figures.folded).zip(&figures.ratio) {
        show(&format!("folded, {table}"), "/s", folded);
        show("  of bare decoding", "", ratio);
    }
    show("produced and folded at once, parted", "/s", &figures.live);
    for (table, times) in TABLES.iter().zip(&figures.bulk) {
        show(&format!("update of every row, {table}"), " s", times);
    }
    println!("load after: {}", load());
    Ok(())
}

fn show(what: &str, unit: &str, values: &[f64]) {
    if let Some(Spread { median, min, max }) = Spread::of(values.iter().copied()) {
        let digits = if median < 100.0 { 2 } else { 0 };
        println!("{what:40} {median:>9.digits$}{unit} [{min:.digits$} to {max:.digits$}]");
    }
}

/// One production, read by two consumers one after the other.
async fn drain(
    rig: &mut Rig,
    table: &str,
    at: usize,
    changes: u32,
    bare_first: bool,
    to: &mut Figures,
) -> Result<()> {
    rig.caught_up().await?;
    rig.client.batch_execute("select pg_create_logical_replication_slot('bare', 'test_decoding')").await?;
    let feed = "select pid from pg_stat_replication where application_name = 'larder feed'";
    let walsender: i32 = rig.client.query_one(feed, &[]).await?.get(0);
    rig.pg.signal(walsender, Signal::STOP)?;
    let began = Instant::now();
    rig.produce(table, changes).await?;
    to.produced.push(f64::from(changes) / began.elapsed().as_secs_f64());
    let end = rig.flushed().await?;
    let mut bare = if bare_first { rig.bare(end)? } else { 0.0 };
    let began = Instant::now();
    rig.pg.signal(walsender, Signal::CONT)?;
    rig.reached(end).await?;
    let folded = began.elapsed().as_secs_f64();
    if !bare_first {
        bare = rig.bare(end)?;
    }
    rig.client.batch_execute("select pg_drop_replication_slot('bare')").await?;
    to.bare.push(f64::from(changes) / bare);
    if let (Some(speed), Some(ratio)) = (to.folded.get_mut(at), to.ratio.get_mut(at)) {
        speed.push(f64::from(changes) / folded);
        ratio.push(bare / folded);
    }
    Ok(())
}

impl Rig {
    async fn start(cli: &Cli) -> Result<Self> {
        let settings = [("wal_level", "logical"), ("synchronous_commit", "off"), ("max_wal_size", "4GB")];
        let builder = Postgres::builder().version(PgVersion::Any);
        let pg =
            settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).start()?;
        let (client, connection) = tokio_postgres::connect(&pg.url("postgres", "postgres"), NoTls).await?;
        tokio::spawn(connection);
        for table in TABLES {
            let rows = cli.rows;
            client
                .batch_execute(&format!(
                    "create table {table} (id int primary key, customer int, v text);
                     insert into {table} select g, g % 1000, md5(g::text) from generate_series(1, {rows}) g;
                     create procedure produce_{table}(changes int) language plpgsql as $$ begin
                       for n in 1..changes loop
                         update {table} set v = md5(n::text) where id = 1 + (n::bigint * 7919) % {rows}; commit;
                       end loop; end $$"
                ))
                .await?;
        }
        let account = Account {
            host: "127.0.0.1".to_owned(),
            port: pg.port(),
            user: "postgres".to_owned(),
            password: None,
            database: "postgres".to_owned(),
            tls: OriginTls::default(),
            connect_timeout: Duration::from_secs(5),
        };
        let (max_lag, ddl_check) = (Duration::from_secs(1), Duration::from_millis(250));
        let shared = Shared {
            fence: Arc::new(Fence::new(max_lag)),
            tags: Arc::new(Tags::default()),
            catalog: Arc::default(),
            health: Arc::new(FeedHealth::default()),
        };
        tokio::spawn(larder_feed::run(
            FeedConfig { account, plugin: Plugin::TestDecoding, max_lag, ddl_check, share: false },
            shared.clone(),
        ));
        let oid: u32 = client.query_one("select 'parted'::regclass::oid", &[]).await?.get(0);
        let part = shared.tags.get(&relation_tag(oid)).part(&["id"]).context("a part")?;
        let tags = (1..=cli.rows).map(|id| part.row(row_id(&[RowValue::Integer(id.into())]))).collect();
        let rig = Self { pg, client, shared, _tags: tags };
        rig.caught_up().await?;
        Ok(rig)
    }

    async fn produce(&self, table: &str, changes: u32) -> Result<()> {
        Ok(self.client.batch_execute(&format!("call produce_{table}({changes})")).await?)
    }

    /// The end of the log, flushed.
    async fn flushed(&self) -> Result<Lsn> {
        self.client
            .batch_execute("set synchronous_commit = on; select txid_current(); reset synchronous_commit")
            .await?;
        let row = self.client.query_one("select pg_current_wal_flush_lsn()::text", &[]).await?;
        row.get::<_, &str>(0).parse().context("a position")
    }

    async fn caught_up(&self) -> Result<()> {
        if !self.shared.fence.wait_covered(Moment::now(), LIMIT).await {
            bail!("the feed does not catch up: {:?}", self.shared.health.get());
        }
        Ok(())
    }

    async fn reached(&self, end: Lsn) -> Result<()> {
        let began = Instant::now();
        while self.shared.fence.applied() < end.0 {
            if began.elapsed() > LIMIT {
                bail!("the feed does not reach {end}: {:?}", self.shared.health.get());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Seconds until a consumer that throws everything away is there.
    fn bare(&self, end: Lsn) -> Result<f64> {
        let began = Instant::now();
        let status = Command::new(self.pg.bin_dir().join("pg_recvlogical"))
            .args(["--slot=bare", "--start", "--file=/dev/null", "--fsync-interval=0", "--no-loop"])
            .args(["-o", "include-xids=1", "-o", "skip-empty-xacts=0"])
            .arg(format!("--endpos={end}"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-d", "postgres", "-p", &self.pg.port().to_string()])
            .stderr(Stdio::inherit())
            .status()?;
        if !status.success() {
            bail!("pg_recvlogical: {status}");
        }
        Ok(began.elapsed().as_secs_f64())
    }
}
