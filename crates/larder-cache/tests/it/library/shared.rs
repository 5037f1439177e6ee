//! Caches of several processes on a real Valkey. A process is a [`SharedTier`] with its connections and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use larder_cache::tier::valkey::ValkeyConfig;
use larder_cache::{Cache, SharedTier, Source};
use larder_testkit::Faulty;
use larder_testkit::sandbox::{Flavour, Signal, Valkey};
use tokio::task::JoinSet;

use super::{Broken, Gate, Well, secs, settle};

/// Longer than anything takes on a machine that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn server() -> Valkey {
    Valkey::builder().start().unwrap()
}

/// A process's tier, with more time than a test needs, on a machine that is busy with other tests.
pub(super) fn begin(server: &Valkey) -> SharedTier {
    begin_at(&server.url())
}

pub(super) fn begin_at(url: &str) -> SharedTier {
    let mut config = ValkeyConfig::new(url.parse().unwrap());
    (config.timeout, config.connect_timeout) = (secs(5), secs(5));
    let tier = SharedTier::builder(url).secret(b"0123456789abcdef0123456789abcdef");
    tier.connections(config).max_silence(secs(10)).start().unwrap()
}

pub(super) async fn process(server: &Valkey) -> (SharedTier, Cache<str, u64>) {
    let tier = begin(server);
    assert!(tier.ready(PATIENCE).await, "{:?}", tier.valkey().status());
    let cache = Cache::builder().jitter(0.0).default_ttl(secs(600)).shared(&tier, "numbers").build();
    (tier, cache)
}

pub(super) async fn ask(cache: &Cache<str, u64>, well: &Well, key: &str) -> (u64, Source) {
    let well = well.clone();
    let loaded = cache.entry(key).tags(["t"]).or_load(|_| async move { well.draw() }).await.unwrap();
    (*loaded, loaded.source())
}

/// Asks until it comes from there: a put takes a moment to arrive.
pub(super) async fn until(cache: &Cache<str, u64>, well: &Well, key: &str, wanted: Source) -> u64 {
    let asking = async {
        loop {
            let (value, source) = ask(cache, well, key).await;
            if source == wanted {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("it never comes from there")
}

fn client(server: &Valkey) -> redis::Connection {
    redis::Client::open(server.url()).unwrap().get_connection().unwrap()
}

pub(super) fn say<T: redis::FromRedisValue>(server: &Valkey, command: &str) -> T {
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    words.for_each(|word| {
        command.arg(word);
    });
    command.query(&mut client(server)).unwrap()
}

#[tokio::test]
async fn what_one_has_loaded_the_others_find() {
    for flavour in [Flavour::Valkey, Flavour::Redis] {
        let server = Valkey::builder().flavour(flavour).start().unwrap();
        let ((_a, first), (_b, second), well) =
            (process(&server).await, process(&server).await, Well::default());
        assert_eq!(ask(&first, &well, "k").await, (1, Source::Loader));
        // Whoever asks before the record has arrived loads, and leaves the same.
        let found = loop {
            let (_c, fresh) = process(&server).await;
            let found = ask(&fresh, &well, "k").await;
            if found.1 == Source::L2 {
                break found.0;
            }
        };
        assert!(found >= 1);
        assert_eq!(ask(&first, &well, "k").await, (1, Source::L1));
        let drawn = well.drawn();
        let shared = ask(&second, &well, "k").await;
        assert_eq!((shared.1, well.drawn()), (Source::L2, drawn));
        assert_eq!(ask(&second, &well, "k").await, (shared.0, Source::L1), "kept here as well");
    }
}

#[tokio::test]
async fn an_invalidation_reaches_the_memory_of_all() {
    let server = server();
    let ((_a, first), (_b, second), well) = (process(&server).await, process(&server).await, Well::default());
    for round in 0..60 {
        let before = ask(&first, &well, "k").await.0;
        ask(&second, &well, "k").await;
        match round % 3 {
            0 => first.invalidate_tags(["t"]).await.unwrap(),
            1 => first.invalidate("k").await.unwrap(),
            _ => first.invalidate_all().await.unwrap(),
        }
        assert!(second.caught_up(PATIENCE).await);
        let last = well.drawn();
        assert!(ask(&second, &well, "k").await.0 > before, "round {round}");
        assert!(ask(&first, &well, "k").await.0 > before, "round {round}");
        assert!(well.drawn() > last);
    }
    // And does not wait to be asked for.
    let before = ask(&second, &well, "k").await.0;
    first.invalidate_tags(["t"]).await.unwrap();
    let told = async {
        while second.get("k").is_some_and(|value| *value == before) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("never told");
}

/// The promise, under load: who has waited until it has caught up is given nothing of before an invalidation that
/// was acknowledged to its caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_has_caught_up_is_given_the_past() {
    let server = server();
    let (written, known, done) =
        (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let hits = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let mut tiers = Vec::new();
    for _ in 0..3 {
        let (tier, cache) = process(&server).await;
        tiers.push(tier);
        for _ in 0..3 {
            let (cache, written, known, done) = (cache.clone(), written.clone(), known.clone(), done.clone());
            let hits = Arc::clone(&hits);
            tasks.spawn(async move {
                while !done.load(SeqCst) {
                    let least = known.load(SeqCst);
                    assert!(cache.caught_up(PATIENCE).await);
                    for _ in 0..20 {
                        let written = Arc::clone(&written);
                        let load = |_| async move {
                            let value = written.load(SeqCst);
                            tokio::task::yield_now().await;
                            Ok::<_, Broken>(value)
                        };
                        let loaded = cache.entry("k").tags(["t"]).or_load(load).await.unwrap();
                        assert!(
                            *loaded >= least,
                            "{least} was known, {} was given from {:?}",
                            *loaded,
                            loaded.source()
                        );
                        hits.fetch_add(u64::from(loaded.source() != Source::Loader), SeqCst);
                    }
                    tokio::task::yield_now().await;
                }
            });
        }
    }
    let (_tier, writer) = process(&server).await;
    for n in 1..=200 {
        written.store(n, SeqCst);
        match n % 3 {
            0 => writer.invalidate("k").await.unwrap(),
            _ => writer.invalidate_tags(["t"]).await.unwrap(),
        }
        known.store(n, SeqCst);
    }
    done.store(true, SeqCst);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert!(hits.load(SeqCst) > 0, "nothing was shared or kept");
}

#[tokio::test]
async fn after_a_gap_nothing_of_before_is_given() {
    let mut server = server();
    for trouble in ["flushed", "journal lost", "restarted empty"] {
        let ((_tier, cache), well) = (process(&server).await, Well::default());
        let before = until(&cache, &well, trouble, Source::L1).await;
        match trouble {
            "flushed" => say::<()>(&server, "FLUSHALL"),
            "journal lost" => {
                for name in say::<Vec<String>>(&server, "KEYS *") {
                    if say::<String>(&server, &format!("TYPE {name}")) == "stream" {
                        say::<()>(&server, &format!("DEL {name}"));
                    }
                }
            }
            _ => {
                server.stop().unwrap();
                server.start().unwrap();
            }
        }
        assert!(cache.caught_up(PATIENCE).await, "{trouble}");
        assert!(ask(&cache, &well, trouble).await.0 > before, "{trouble}");
    }
}

#[tokio::test]
async fn without_valkey_there_is_only_the_loader() {
    let mut server = server();
    server.stop().unwrap();
    let (tier, well) = (begin(&server), Well::default());
    let cache = Cache::<str, u64>::builder().shared(&tier, "numbers").build();
    for n in 1..=3 {
        assert_eq!(ask(&cache, &well, "k").await, (n, Source::Loader));
    }
    cache.invalidate_tags(["t"]).await.unwrap_err();
    server.start().unwrap();
    assert!(tier.ready(PATIENCE).await);
    until(&cache, &well, "k", Source::L1).await;
    // Frozen: the lease runs out, and whoever asks waits for an answer no longer than it may take.
    let quick = SharedTier::builder(&server.url()).max_silence(Duration::from_millis(200)).start().unwrap();
    assert!(quick.ready(PATIENCE).await);
    let cache = Cache::<str, u64>::builder().shared(&quick, "quick").build();
    until(&cache, &well, "k", Source::L1).await;
    server.signal(Signal::STOP).unwrap();
    let frozen = async {
        while ask(&cache, &well, "k").await.1 != Source::Loader {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, frozen).await.expect("served for ever");
    assert!(cache.get("k").is_none());
    server.signal(Signal::CONT).unwrap();
    until(&cache, &well, "k", Source::L1).await;
}

/// What could not be told is told when that is possible again; and a process that was cut off has missed nothing.
#[tokio::test]
async fn an_invalidation_is_not_lost_with_the_connection() {
    let server = server();
    let between = Faulty::new(server.addr()).await.unwrap();
    let cut_off = begin_at(&format!("redis://{}", between.addr()));
    assert!(cut_off.ready(PATIENCE).await);
    let first = Cache::<str, u64>::builder().shared(&cut_off, "numbers").build();
    let ((_b, second), well) = (process(&server).await, Well::default());
    for cut_off_tells in [true, false] {
        let before = until(&second, &well, "k", Source::L1).await;
        until(&first, &well, "k", Source::L1).await;
        between.refuse(true);
        between.cut();
        let watched = if cut_off_tells {
            first.invalidate_tags(["t"]).await.unwrap_err();
            assert!(second.caught_up(PATIENCE).await);
            assert_eq!(ask(&second, &well, "k").await, (before, Source::L1), "not told yet");
            &second
        } else {
            second.invalidate_tags(["t"]).await.unwrap();
            &first
        };
        between.refuse(false);
        let told = async {
            while watched.get("k").is_some() || !watched.caught_up(secs(1)).await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("never told");
        assert!(watched.get("k").is_none(), "the lease is renewed, and it is not there");
    }
}

#[tokio::test]
async fn who_wishes_serves_alone() {
    let mut server = server();
    let tier = SharedTier::builder(&server.url())
        .max_silence(Duration::from_millis(50))
        .serve_alone(true)
        .start()
        .unwrap();
    let (cache, well) = (Cache::<str, u64>::builder().shared(&tier, "numbers").build(), Well::default());
    assert!(tier.ready(PATIENCE).await);
    let value = until(&cache, &well, "k", Source::L1).await;
    server.stop().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(ask(&cache, &well, "k").await, (value, Source::L1));
}

#[tokio::test]
async fn what_was_tampered_with_is_not_there() {
    let server = server();
    let ((_a, first), well) = (process(&server).await, Well::default());
    for key in ["x", "y"] {
        ask(&first, &well, key).await;
    }
    let records = async || {
        loop {
            let names: Vec<String> = say(&server, "KEYS *");
            let sizes = names.into_iter().map(|name| {
                match say::<String>(&server, &format!("TYPE {name}")).as_str() {
                    "string" => (say::<u64>(&server, &format!("STRLEN {name}")), name),
                    _ => (0, name),
                }
            });
            let records: Vec<String> = sizes.filter(|(size, _)| *size > 16).map(|(_, name)| name).collect();
            if records.len() == 2 {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let records = records().await;
    // One record under the other's key; then garbage.
    say::<()>(&server, &format!("COPY {} {} REPLACE", records[0], records[1]));
    let (_b, second) = process(&server).await;
    let mut found: Vec<_> = vec![ask(&second, &well, "x").await.1, ask(&second, &well, "y").await.1];
    found.sort_unstable_by_key(|source| source.name());
    assert_eq!(found, [Source::L2, Source::Loader]);
    for record in &records {
        say::<u64>(&server, &format!("SETRANGE {record} 6 garbage"));
    }
    let (_c, third) = process(&server).await;
    assert_eq!(ask(&third, &well, "x").await.1, Source::Loader);
    assert_eq!(ask(&third, &well, "y").await.1, Source::Loader);
}

#[tokio::test]
async fn nothing_need_be_kept_in_this_process() {
    let server = server();
    let (tier, well) = (begin(&server), Well::default());
    assert!(tier.ready(PATIENCE).await);
    let cache = Cache::<str, u64>::builder().shared(&tier, "numbers").shared_only().build();
    until(&cache, &well, "k", Source::L2).await;
    assert!(cache.get("k").is_none() && cache.is_empty());
    cache.invalidate("k").await.unwrap();
    assert_eq!(ask(&cache, &well, "k").await.1, Source::Loader);
}

#[tokio::test]
async fn one_process_loads_for_all_if_wanted() {
    let server = server();
    let (well, gate) = (Well::default(), Gate::default());
    let mut tasks = JoinSet::new();
    let mut tiers = Vec::new();
    for _ in 0..4 {
        let tier = begin(&server);
        assert!(tier.ready(PATIENCE).await);
        let builder = Cache::<str, u64>::builder().shared_single_flight(&tier, "numbers", PATIENCE);
        let (cache, well, gate) = (builder.build(), well.clone(), gate.clone());
        tiers.push(tier);
        let load = move |_| async move {
            gate.pass().await;
            well.draw()
        };
        tasks.spawn(async move { *cache.entry("k").tags(["t"]).or_load(load).await.unwrap() });
    }
    gate.begun().await;
    settle().await;
    gate.open();
    assert_eq!(tasks.join_all().await, vec![1; 4]);
    assert_eq!(well.drawn(), 1);
}
