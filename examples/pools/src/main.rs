//! Clients with an ordinary sqlx pool, as applications have: what they notice while Larders behind a balancer come and go.
//!
//! `pool.py` is the same for psycopg_pool. Both work until their standard input ends. On standard output, one JSON object a
//! line: `ready` when every client has been served, `failed` for each piece of work that failed, `gap` where a client was
//! not served for long, and at the end what was done. `deploy/tests/rolling.py` reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde_json::{Value, json};
use sqlx::postgres::{PgPool, PgPoolOptions};

/// A client that is not served for longer says so.
const GAP: Duration = Duration::from_millis(250);
/// Rows of the table `t`, whose `v` is ten times its `id`.
const ROWS: i32 = 100;

/// What the clients are to do.
#[derive(Debug, Parser)]
struct Arguments {
    /// Where the balancer is.
    #[arg(long)]
    url: String,
    /// Clients, and connections of the pool.
    #[arg(long, default_value_t = 25)]
    clients: u32,
    /// Seconds after which the pool replaces a connection; 0: never.
    #[arg(long, default_value_t = 0.0)]
    max_lifetime: f64,
    /// Mean time between two pieces of work of a client, in milliseconds.
    #[arg(long, default_value_t = 25)]
    think: u64,
}

/// What all clients together did.
#[derive(Debug, Default)]
struct Tally {
    reads: AtomicU64,
    transactions: AtomicU64,
    failed: AtomicU64,
    served: AtomicU64,
    longest_gap: AtomicU64,
    stop: AtomicBool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let lifetime = Some(arguments.max_lifetime).filter(|seconds| *seconds > 0.0);
    let pool = PgPoolOptions::new()
        .max_connections(arguments.clients)
        .max_lifetime(lifetime.map(Duration::from_secs_f64))
        // The default: a connection is tried before it is handed out.
        .test_before_acquire(true)
        .acquire_timeout(Duration::from_secs(30))
        .connect(&arguments.url)
        .await
        .context("cannot connect")?;
    let tally = Arc::new(Tally::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..arguments.clients {
        clients.spawn(client(pool.clone(), Arc::clone(&tally), arguments.think));
    }
    while tally.served.load(Ordering::Relaxed) < u64::from(arguments.clients) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    say(&json!({ "ready": arguments.clients }));
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    tally.stop.store(true, Ordering::Relaxed);
    while clients.join_next().await.transpose()?.is_some() {}
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    say(&json!({
        "reads": count(&tally.reads),
        "transactions": count(&tally.transactions),
        "failed": count(&tally.failed),
        "longest_gap_ms": count(&tally.longest_gap),
    }));
    Ok(())
}

async fn client(pool: PgPool, tally: Arc<Tally>, think: u64) {
    let mut last: Option<Instant> = None;
    while !tally.stop.load(Ordering::Relaxed) {
        let (id, writes, started) = (fastrand::i32(0..ROWS), fastrand::u8(0..5) == 0, now());
        let mut begun = false;
        let done = if writes { transact(&pool, id, &mut begun).await } else { read(&pool, id).await };
        match done {
            Ok(()) => {
                let counter = if writes { &tally.transactions } else { &tally.reads };
                counter.fetch_add(1, Ordering::Relaxed);
                match last {
                    None => _ = tally.served.fetch_add(1, Ordering::Relaxed),
                    Some(last) => note_gap(last.elapsed(), &tally),
                }
                last = Some(Instant::now());
            }
            Err(error) => {
                tally.failed.fetch_add(1, Ordering::Relaxed);
                say(&json!({ "failed": format!("{error:#}"), "from": started, "to": now(), "begun": begun }));
            }
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=2 * think))).await;
    }
}

async fn read(pool: &PgPool, id: i32) -> Result<()> {
    let value: i32 = sqlx::query_scalar("SELECT v FROM t WHERE id = $1").bind(id).fetch_one(pool).await?;
    anyhow::ensure!(value == id * 10, "wrong: {value} for {id}");
    Ok(())
}

/// `begun`: something of it had been done.
async fn transact(pool: &PgPool, id: i32, begun: &mut bool) -> Result<()> {
    let mut transaction = pool.begin().await?;
    *begun = true;
    sqlx::query("INSERT INTO log VALUES ($1)").bind(id).execute(&mut *transaction).await?;
    let query = sqlx::query_scalar("SELECT v FROM t WHERE id = $1").bind(id);
    let value: i32 = query.fetch_one(&mut *transaction).await?;
    anyhow::ensure!(value == id * 10, "wrong: {value} for {id}");
    transaction.commit().await?;
    Ok(())
}

fn note_gap(gap: Duration, tally: &Tally) {
    let millis = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
    tally.longest_gap.fetch_max(millis, Ordering::Relaxed);
    if gap > GAP {
        say(&json!({ "gap_ms": millis, "to": now() }));
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn say(what: &Value) {
    println!("{what}");
}
