//! What a value from the shared tier is judged by: each rule has a test here or in `shared.rs` that fails without it.

use std::collections::BTreeSet;
use std::time::Duration;

use larder_cache::{Cache, ChangeLog as _, Source};
use larder_testkit::sandbox::Valkey;
use larder_testkit::{Faulty, Towards};

use super::followed::Log;
use super::shared::{PATIENCE, ask, begin, begin_at, process, say, server, until};
use super::{Broken, Gate, Well, secs};

/// Names of the records, whose values are longer than a tag's version.
fn records(server: &Valkey) -> BTreeSet<String> {
    let names: Vec<String> = say(server, "KEYS *");
    let is_record = |name: &String| {
        say::<String>(server, &format!("TYPE {name}")) == "string"
            && say::<u64>(server, &format!("STRLEN {name}")) > 16
    };
    names.into_iter().filter(is_record).collect()
}

/// Waits for a record that was not there before.
async fn another(server: &Valkey, before: &BTreeSet<String>) {
    let waiting = async {
        while records(server).is_subset(before) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("nothing is left in the tier");
}

#[tokio::test]
async fn an_invalidation_elsewhere_during_a_load_wins() {
    let server = server();
    let ((_a, first), (_b, second), well) = (process(&server).await, process(&server).await, Well::default());
    let gate = Gate::default();
    let loading = tokio::spawn({
        let (first, gate, well) = (first.clone(), gate.clone(), well.clone());
        let load = |_| async move {
            let value = well.draw();
            gate.pass().await;
            value
        };
        async move { *first.entry("k").tags(["t"]).or_load(load).await.unwrap() }
    });
    gate.begun().await;
    second.invalidate_tags(["t"]).await.unwrap();
    let before = records(&server);
    gate.open();
    assert_eq!(loading.await.unwrap(), 1, "who asked before is given it");
    another(&server, &before).await;
    // It lies there, and is good for nobody: neither for a third process nor for the one that brought it.
    let (_c, third) = process(&server).await;
    assert_eq!(ask(&third, &well, "k").await, (2, Source::Loader));
    assert!(first.caught_up(PATIENCE).await);
    assert!(ask(&first, &well, "k").await.0 > 1);
}

/// The versions of tags would not tell them apart: the two keys belong to the same part of all keys.
#[tokio::test]
async fn a_record_under_the_name_of_another_key_is_not_there() {
    let server = server();
    let ((_a, first), (_b, second), well) = (process(&server).await, process(&server).await, Well::default());
    let mut left: Vec<String> = Vec::new();
    loop {
        let (before, size) = (records(&server), say::<u64>(&server, "DBSIZE"));
        ask(&first, &well, &left.len().to_string()).await;
        another(&server, &before).await;
        left.extend(records(&server).difference(&before).cloned());
        // A part that has a version already.
        if say::<u64>(&server, "DBSIZE") == size + 1 {
            break;
        }
    }
    let last = left.pop().unwrap();
    for (key, name) in left.iter().enumerate() {
        say::<()>(&server, &format!("COPY {last} {name} REPLACE"));
        assert_eq!(ask(&second, &well, &key.to_string()).await.1, Source::Loader, "{key} of {}", left.len());
    }
}

#[tokio::test]
async fn other_tags_are_another_promise() {
    let server = server();
    let ((_a, first), (_b, second), well) = (process(&server).await, process(&server).await, Well::default());
    let before = records(&server);
    ask(&first, &well, "k").await;
    another(&server, &before).await;
    // Who says that it depends on more must hear of more.
    let load = |_| async move { well.draw() };
    let loaded = second.entry("k").tags(["t", "u"]).or_load(load).await.unwrap();
    assert_eq!((*loaded, loaded.source()), (2, Source::Loader));
}

#[tokio::test]
async fn names_part_what_is_shared() {
    let server = server();
    let (tier, well) = (begin(&server), Well::default());
    assert!(tier.ready(PATIENCE).await);
    let named = |name: &str| Cache::<str, u64>::builder().default_ttl(secs(600)).shared(&tier, name).build();
    let (numbers, same, others) = (named("numbers"), named("numbers"), named("others"));
    let before = records(&server);
    assert_eq!(ask(&numbers, &well, "k").await, (1, Source::Loader));
    another(&server, &before).await;
    assert_eq!(ask(&others, &well, "k").await, (2, Source::Loader));
    assert_eq!(ask(&same, &well, "k").await, (1, Source::L2));
    // An invalidation under one name is none under the other.
    others.invalidate_all().await.unwrap();
    assert_eq!(ask(&numbers, &well, "k").await, (1, Source::L1));
    // In the same process it reaches all of that name at once.
    numbers.invalidate_tags(["t"]).await.unwrap();
    assert_eq!(ask(&same, &well, "k").await, (3, Source::Loader));
}

#[tokio::test]
async fn what_is_left_there_lives_no_longer_than_it_was_given() {
    let server = server();
    let (tier, well) = (begin(&server), Well::default());
    assert!(tier.ready(PATIENCE).await);
    let only = Cache::<str, u64>::builder().shared(&tier, "numbers").shared_only().jitter(0.0);
    let cache = only.default_ttl(Duration::from_millis(1500)).build();
    let value = until(&cache, &well, "k", Source::L2).await;
    // Valkey itself is told to keep it: its record has to know.
    for name in records(&server) {
        say::<()>(&server, &format!("PERSIST {name}"));
    }
    let expired = async {
        while ask(&cache, &well, "k").await.0 == value {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, expired).await.expect("it lives for ever");
}

#[tokio::test]
async fn what_a_log_proves_is_not_shared() {
    let server = server();
    let (tier, well) = (begin(&server), Well::default());
    assert!(tier.ready(PATIENCE).await);
    let build = || {
        let log = Log::new();
        log.fence().set_max_lag(Duration::MAX);
        Cache::<str, u64>::builder().default_ttl(secs(600)).follow(log).shared(&tier, "numbers").build()
    };
    let (first, second) = (build(), build());
    let by_log = async |cache: &Cache<str, u64>| {
        let well = well.clone();
        cache.entry("k").tags(["table:t"]).or_load(|_| async move { well.draw() }).await.unwrap().source()
    };
    let before = records(&server);
    assert_eq!(by_log(&first).await, Source::Loader);
    // What is left afterwards is there, so what was left before it would be.
    assert_eq!(ask(&first, &well, "by hand").await.1, Source::Loader);
    another(&server, &before).await;
    assert_eq!(records(&server).len(), before.len() + 1);
    assert_eq!(by_log(&second).await, Source::Loader);
    assert_eq!(ask(&second, &well, "by hand").await.1, Source::L2);
}

#[tokio::test]
async fn a_journal_that_was_cut_short_is_a_gap() {
    let server = server();
    let between = Faulty::new(server.addr()).await.unwrap();
    let tier = begin_at(&format!("redis://{}", between.addr()));
    assert!(tier.ready(PATIENCE).await);
    let cache = Cache::<str, u64>::builder().default_ttl(secs(600)).shared(&tier, "numbers").build();
    let ((_b, other), well) = (process(&server).await, Well::default());
    let before = until(&cache, &well, "k", Source::L1).await;
    between.refuse(true);
    between.cut();
    // What it missed is not there any more, and something later is.
    other.invalidate_tags(["t"]).await.unwrap();
    other.invalidate_tags(["something else"]).await.unwrap();
    for name in say::<Vec<String>>(&server, "KEYS *") {
        if say::<String>(&server, &format!("TYPE {name}")) == "stream" {
            say::<u64>(&server, &format!("XTRIM {name} MAXLEN = 1"));
        }
    }
    between.refuse(false);
    assert!(cache.caught_up(PATIENCE).await);
    assert!(ask(&cache, &well, "k").await.0 > before);
}

#[tokio::test]
async fn what_was_read_covers_only_what_was_invalidated_before() {
    let server = server();
    let between = Faulty::new(server.addr()).await.unwrap();
    let tier = begin_at(&format!("redis://{}", between.addr()));
    assert!(tier.ready(PATIENCE).await);
    let cache = Cache::<str, u64>::builder().default_ttl(secs(600)).shared(&tier, "numbers").build();
    let ((_b, other), well) = (process(&server).await, Well::default());
    until(&cache, &well, "k", Source::L1).await;
    // A read of the journal whose answer is on its way while something is invalidated.
    between.stall(Towards::Client);
    let asked = between.relayed(Towards::Server);
    let catch_up = || {
        let cache = cache.clone();
        tokio::spawn(async move { cache.caught_up(PATIENCE).await })
    };
    let early = catch_up();
    while between.relayed(Towards::Server) == asked {
        tokio::task::yield_now().await;
    }
    assert_eq!(say::<String>(&server, "PING"), "PONG");
    other.invalidate_tags(["t"]).await.unwrap();
    let late = catch_up();
    tokio::task::yield_now().await;
    between.resume();
    assert!(late.await.unwrap() && cache.get("k").is_none());
    assert!(early.await.unwrap());
}

#[tokio::test]
async fn a_load_that_fails_lets_the_next_process_try() {
    let server = server();
    let tiers = [begin(&server), begin(&server)];
    let mut caches = Vec::new();
    for tier in &tiers {
        assert!(tier.ready(PATIENCE).await);
        // Longer than this test waits for anything.
        caches
            .push(Cache::<str, u64>::builder().shared_single_flight(tier, "numbers", PATIENCE * 10).build());
    }
    let failed = caches[0].entry("k").or_load(|_| async { Err::<u64, _>(Broken("x")) }).await;
    assert!(failed.is_err());
    let second = caches[1].entry("k").or_load(|_| async { Ok::<_, Broken>(7) });
    assert_eq!(*tokio::time::timeout(PATIENCE, second).await.expect("it waits for nobody").unwrap(), 7);
}
