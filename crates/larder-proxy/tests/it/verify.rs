//! Answers in memory beside the origin's: shadow mode, samples of the hits, and what a difference means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use larder_cache::Moment;
use larder_core::{Bypass, relation_tag};
use larder_proxy::{CountersSnapshot, Mode, ProxyConfig, Verify};
use larder_testkit::{Frame, InProcess, Postgres, RawClient, each_version, frame};

use crate::served;

/// Limit of every wait.
const LIMIT: Duration = Duration::from_secs(30);

fn config(origin: &Postgres, mode: Mode, sample: f64) -> ProxyConfig {
    let verify = Verify { sample, settle: Duration::from_millis(50) };
    // One lease is enough for a test whose feed is silent.
    ProxyConfig { mode, verify, max_lag: Duration::from_secs(60), ..InProcess::config(origin) }
}

async fn start(origin: &Postgres, mode: Mode, sample: f64) -> InProcess {
    origin.sql("create table item(id int primary key, name text not null)").unwrap();
    origin.sql("insert into item select g, 'name ' || g from generate_series(1, 100) g").unwrap();
    InProcess::start_with(origin, config(origin, mode, sample)).await.unwrap()
}

/// Asks until an answer in memory has been compared with the origin's.
async fn compared(larder: &InProcess, client: &mut RawClient, sql: &str) {
    let (checks, begin) = (larder.counters().checks, Instant::now());
    while larder.counters().checks == checks {
        assert!(begin.elapsed() < LIMIT, "never compared: {sql}: {}", served(client).await);
        client.rows(sql).await.unwrap();
    }
}

/// The feed proves the present again and again, whether or not it has heard of anything, until `done`.
async fn until(larder: &InProcess, done: impl Fn(&CountersSnapshot) -> bool) -> CountersSnapshot {
    let begin = Instant::now();
    loop {
        let counters = larder.counters();
        if done(&counters) {
            return counters;
        }
        assert!(begin.elapsed() < LIMIT, "{counters:?}");
        larder.fence.set_covered(Moment::now());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn differences(counters: &CountersSnapshot) -> u64 {
    counters.mismatches + counters.changed + counters.varying + counters.unjudged
}

#[tokio::test]
async fn what_the_feed_has_missed_is_found_and_the_statement_is_not_cached_any_more() {
    each_version(async |origin| {
        for mode in [Mode::Serve, Mode::Shadow] {
            origin.sql("drop table if exists item").unwrap();
            let mut larder = start(&origin, mode, 1.0).await;
            let mut client = RawClient::superuser(larder.addr()).await.unwrap();
            let sql = "select name from item where id = 7";
            compared(&larder, &mut client, sql).await;
            assert_eq!(differences(&larder.counters()), 0, "{:?}", larder.counters());

            larder.stop_feed();
            origin.sql("update item set name = 'changed' where id = 7").unwrap();
            assert_eq!(client.value(sql).await.unwrap(), "changed", "the origin's answer is the client's");
            let counters = until(&larder, |counters| differences(counters) > 0).await;
            assert_eq!((counters.mismatches, differences(&counters)), (1, 1), "{counters:?}");

            let queries = larder.proxy.queries();
            let ours = queries.iter().find(|query| query.digest.text.contains("item")).unwrap();
            assert_eq!((ours.mismatches, ours.checks), (1, counters.checks), "{ours:?}");
            let checks = larder.counters().checks;
            assert_eq!(client.value("select name from item where id = 7").await.unwrap(), "changed");
            assert_eq!(served(&mut client).await, "bypass; reason=verify_mismatch");
            assert_eq!(client.value("select name from item where id = 8").await.unwrap(), "name 8");
            assert_eq!(served(&mut client).await, "bypass; reason=verify_mismatch", "whatever its values");
            assert_eq!(larder.counters().checks, checks);
            let denied = larder.proxy.rules().denied();
            assert!(matches!(&denied[..], [denied] if denied.why == Bypass::VerifyMismatch), "{denied:?}");
            assert!(larder.proxy.allow(&denied[0].target));
            larder.fence.set_covered(Moment::now());
            client.value(sql).await.unwrap();
            assert_eq!(served(&mut client).await, "miss; reason=absent", "what was wrong is gone");
        }
    })
    .await;
}

#[tokio::test]
async fn a_change_that_the_feed_tells_of_later_explains_a_difference() {
    each_version(async |origin| {
        let mut larder = start(&origin, Mode::Serve, 1.0).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let sql = "select name from item where id = 7";
        compared(&larder, &mut client, sql).await;
        larder.stop_feed();
        origin.sql("update item set name = 'changed' where id = 7").unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "changed");
        // Nothing is said before the feed has come as far as the answer.
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert_eq!(differences(&larder.counters()), 0, "{:?}", larder.counters());
        let oid = origin.sql("select 'item'::regclass::oid").unwrap().parse().unwrap();
        let tag = larder.tags.find(&relation_tag(oid)).unwrap();
        tag.touch(larder.fence.visible() + 1);
        let counters = until(&larder, |counters| differences(counters) > 0).await;
        assert_eq!((counters.changed, differences(&counters)), (1, 1), "{counters:?}");
        assert!(larder.proxy.rules().denied().is_empty());

        // A change of meaning that is noticed after the rows were covered.
        let other = "select name from item where id = 8";
        larder.fence.set_visible(larder.fence.visible() + 1);
        compared(&larder, &mut client, other).await;
        origin.sql("update item set name = 'changed' where id = 8").unwrap();
        assert_eq!(client.value(other).await.unwrap(), "changed");
        larder.fence.set_covered(Moment::now());
        tokio::time::sleep(Duration::from_millis(5)).await;
        larder.fence.begin_epoch(0, false);
        let counters = until(&larder, |counters| differences(counters) > 1).await;
        assert_eq!((counters.changed, differences(&counters)), (2, 2), "{counters:?}");
    })
    .await;
}

#[tokio::test]
async fn what_postgresql_may_answer_in_several_ways_is_no_mismatch() {
    each_version(async |origin| {
        let mut larder = start(&origin, Mode::Serve, 1.0).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let all = "select id, name from item";
        let some = "select id, name from item limit 3";
        for sql in [all, some] {
            compared(&larder, &mut client, sql).await;
        }
        larder.stop_feed();
        // A new version of the same row, at the end of the table.
        origin.sql("update item set name = name where id = 1").unwrap();
        let checks = larder.counters().checks;
        assert_eq!(client.rows(all).await.unwrap()[99][0].as_deref(), Some("1"));
        assert_eq!(client.rows(some).await.unwrap()[0][0].as_deref(), Some("2"));
        let counters = until(&larder, |counters| differences(counters) > 0).await;
        assert_eq!(counters.checks, checks + 2);
        assert_eq!((counters.varying, differences(&counters)), (1, 1), "{counters:?}");
        // Both once more, by a driver's protocol.
        for sql in [all, some] {
            let (mut tags, begin, checks) = (Vec::new(), Instant::now(), larder.counters().checks);
            while larder.counters().checks == checks && begin.elapsed() < LIMIT {
                let replies = client.extended(sql, &[]).await.unwrap();
                tags = replies.iter().map(|reply| reply.tag).collect();
            }
            assert!(tags.starts_with(b"12") && tags.ends_with(b"CZ"), "{tags:?}");
        }
        assert_eq!(larder.counters().mismatches, 0);
    })
    .await;
}

/// What `sql` and the messages after it are answered with, and what the origin knows of the session.
async fn seen(client: &mut RawClient, messages: &[&[bytes::Bytes]]) -> Vec<Vec<Frame>> {
    let mut all = Vec::new();
    for batch in messages {
        client.send_all(batch).await.unwrap();
        all.push(client.until_ready().await.unwrap());
    }
    all
}

#[tokio::test]
async fn in_shadow_a_client_sees_what_postgresql_shows_and_would_be_hits_are_compared() {
    each_version(async |origin| {
        let larder = start(&origin, Mode::Shadow, 0.0).await;
        let state = "select state, query from pg_stat_activity where pid = pg_backend_pid()";
        let read = "select name from item where id = $1";
        let query = |sql: &str| vec![frame::query(sql)];
        let run = |name: &str, id: &str| {
            let bind = frame::bind("", name, &[Some(id)]);
            vec![bind, frame::describe_portal(""), frame::execute("", 0), frame::sync()]
        };
        let script = [
            query("select name from item where id = 3"),
            query("select name from item where id = 3"),
            query("begin"),
            query("select name from item where id = 3"),
            query("select now() = xact_start, state from pg_stat_activity where pid = pg_backend_pid()"),
            query("commit"),
            vec![frame::parse("s", read, &[]), frame::describe_statement("s"), frame::sync()],
            query("select name, statement from pg_prepared_statements"),
            run("s", "4"),
            run("s", "4"),
            [frame::parse("t", "begin", &[]), frame::bind("", "t", &[]), frame::execute("", 0)]
                .into_iter()
                .chain(run("s", "4"))
                .collect(),
            query("select state from pg_stat_activity where pid = pg_backend_pid()"),
            query("rollback"),
            query(state),
        ];
        let script: Vec<&[bytes::Bytes]> = script.iter().map(Vec::as_slice).collect();
        let mut direct = RawClient::superuser(origin.addr()).await.unwrap();
        let expected = seen(&mut direct, &script).await;
        let begin = Instant::now();
        // The first rounds fill, the others are would-be hits.
        while larder.counters().checks < 12 {
            assert!(begin.elapsed() < LIMIT, "{:?}", larder.counters());
            let mut client = RawClient::superuser(larder.addr()).await.unwrap();
            assert_eq!(seen(&mut client, &script).await, expected);
        }
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        client.value("select name from item where id = 3").await.unwrap();
        assert_eq!(served(&mut client).await, "bypass; reason=shadow");
        let counters = larder.counters();
        assert_eq!((counters.hits, counters.coalesced, differences(&counters)), (0, 0, 0), "{counters:?}");

        // Switched while a session has a transaction that the origin does not know of.
        larder.proxy.set_mode(Mode::Serve);
        client.query("begin").await.unwrap();
        assert_eq!(client.value("select name from item where id = 3").await.unwrap(), "name 3");
        assert_eq!(served(&mut client).await, "hit; tier=l1");
        larder.proxy.set_mode(Mode::Shadow);
        assert_eq!(client.value("select name from item where id = 3").await.unwrap(), "name 3");
        assert_eq!(served(&mut client).await, "bypass; reason=shadow");
        let frames = client.query("commit").await.unwrap();
        assert_eq!(frames.iter().map(|frame| frame.tag).collect::<Vec<_>>(), b"CZ");
    })
    .await;
}

/// `LARDER_TEST_SECONDS=60` runs it for a minute on each version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mismatch_is_found_where_there_is_none_however_much_is_written() {
    let seconds = std::env::var("LARDER_TEST_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    each_version(async |origin| {
        let larder = start(&origin, Mode::Serve, 1.0).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        for (number, addr) in [origin.addr(), larder.addr(), origin.addr()].into_iter().enumerate() {
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                let mut client = RawClient::superuser(addr).await.unwrap();
                let mut n = number;
                while !stop.load(Ordering::Relaxed) {
                    n += 7;
                    let sql = match n % 3 {
                        0 => {
                            format!("begin; update item set name = 'n{n}' where id = {}; commit", n % 100 + 1)
                        }
                        1 => format!("update item set name = name || '.' where id = {}", n % 100 + 1),
                        _ => format!(
                            "insert into item values ({}, 'x') on conflict (id) do update set name = 'y'",
                            n % 120 + 1
                        ),
                    };
                    client.query(&sql).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(n as u64 % 9)).await;
                }
            });
        }
        for reader in 0..6_usize {
            let (stop, addr) = (Arc::clone(&stop), larder.addr());
            tasks.spawn(async move {
                let mut client = RawClient::superuser(addr).await.unwrap();
                let mut n = reader;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let id = n % 5 + 1;
                    match n % 4 {
                        0 => drop(client.query("select count(*), max(name) from item").await.unwrap()),
                        1 => drop(
                            client.query(&format!("select name from item where id = {id}")).await.unwrap(),
                        ),
                        2 => drop(
                            client
                                .extended("select name from item where id = $1", &[Some("9")])
                                .await
                                .unwrap(),
                        ),
                        _ => drop(client.query("select id, name from item").await.unwrap()),
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stop.store(true, Ordering::Relaxed);
        tasks.join_all().await;
        // What was found last is judged after `settle`.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let counters = larder.counters();
        eprintln!("{counters:?}");
        assert!(counters.checks > 20 && counters.hits == 0, "{counters:?}");
        assert_eq!((counters.mismatches, counters.varying), (0, 0), "{counters:?}");
    })
    .await;
}
