//! What a hit costs in the cache module, beside moka's and beside a GET of Valkey, in one run.
//!
//! `cargo run --release -p larder-bench --bin library`: nanoseconds per hit, the median of rounds that take turns, and the
//! ratio to moka's.
#![allow(clippy::print_stdout, reason = "it prints its result")]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use larder_cache::Cache;
use larder_sandbox::Valkey;
use redis::AsyncCommands as _;

const KEYS: usize = 100_000;
const ROUNDS: usize = 15;
const PER_ROUND: usize = 400_000;
const VALUE: usize = 200;
/// Round trips are slower by orders of magnitude.
const GETS: usize = 4_000;

type Value = std::sync::Arc<Vec<u8>>;

/// Keys in an order that no prefetcher can guess, the same for all.
fn order() -> Vec<usize> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % KEYS as u64).unwrap_or(0)
    };
    (0..PER_ROUND).map(|_| next()).collect()
}

fn per_hit(elapsed: Duration, hits: usize) -> f64 {
    elapsed.as_secs_f64() * 1e9 / hits as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let keys: Vec<String> = (0..KEYS).map(|n| format!("user:{n:08}")).collect();
    let order = order();
    let value = || Value::new(vec![7_u8; VALUE]);

    let ours =
        Cache::<String, Value>::builder().max_bytes(1 << 30).default_ttl(Duration::from_secs(3600)).build();
    let tagged =
        Cache::<String, Value>::builder().max_bytes(1 << 30).default_ttl(Duration::from_secs(3600)).build();
    let moka = moka::sync::Cache::<String, Value>::builder()
        .max_capacity(10 * KEYS as u64)
        .time_to_live(Duration::from_secs(3600))
        .build();
    let moka_future = moka::future::Cache::<String, Value>::builder()
        .max_capacity(10 * KEYS as u64)
        .time_to_live(Duration::from_secs(3600))
        .build();
    let mut map = HashMap::new();
    for key in &keys {
        ours.get_or_load(key, move || async move { Ok::<_, std::io::Error>(value()) }).await?;
        let entry = tagged.entry(key).tags(["table:public.users", "team:7"]);
        entry.or_load(move |_| async move { Ok::<_, std::io::Error>(value()) }).await?;
        moka.insert(key.clone(), value());
        moka_future.insert(key.clone(), value()).await;
        map.insert(key.clone(), value());
    }
    moka.run_pending_tasks();
    moka_future.run_pending_tasks().await;

    let mut found: HashMap<&str, Vec<f64>> = HashMap::new();
    macro_rules! time {
        ($name:literal, $hits:expr, |$key:ident| $body:expr) => {{
            let began = Instant::now();
            for &at in order.iter().take($hits) {
                let Some($key) = keys.get(at) else { continue };
                black_box($body);
            }
            found.entry($name).or_default().push(per_hit(began.elapsed(), $hits));
        }};
    }
    let server = Valkey::builder().start().context("no Valkey to compare with")?;
    let mut valkey = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
    for key in &keys {
        valkey.set::<_, _, ()>(key, &value()[..]).await?;
    }
    for _ in 0..ROUNDS {
        time!("HashMap get (no cache)", PER_ROUND, |key| map.get(key.as_str()).cloned());
        time!("larder get", PER_ROUND, |key| ours.get(key.as_str()));
        time!("moka sync get", PER_ROUND, |key| moka.get(key.as_str()));
        time!("larder get_or_load", PER_ROUND, |key| {
            ours.get_or_load(key.as_str(), || async { Err::<Value, _>(std::io::Error::other("a miss")) })
                .await?
        });
        time!("larder entry, two tags", PER_ROUND, |key| {
            let entry = tagged.entry(key.as_str()).tags(["table:public.users", "team:7"]);
            entry.or_load(|_| async { Err::<Value, _>(std::io::Error::other("a miss")) }).await?
        });
        time!("moka future get", PER_ROUND, |key| moka_future.get(key.as_str()).await);
        time!("Valkey GET", GETS, |key| valkey.get::<_, Vec<u8>>(key.as_str()).await?);
    }
    let mut rows: Vec<_> = found.into_iter().map(|(name, times)| (name, median(times))).collect();
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    let moka = rows.iter().find(|(name, _)| *name == "moka sync get").map_or(f64::NAN, |(_, time)| *time);
    println!(
        "{KEYS} keys, values of {VALUE} bytes, {ROUNDS} rounds of {PER_ROUND} hits ({GETS} for Valkey), one thread"
    );
    for (name, time) in rows {
        println!("{name:<26} {time:>10.0} ns   {:>8.2} x moka's get", time / moka);
    }
    Ok(())
}
