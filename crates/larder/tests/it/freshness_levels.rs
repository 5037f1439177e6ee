//! The other levels: what each promises, and that it is not kept by never hitting.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use larder_testkit::{Postgres, Signal, each_version};

use crate::freshness::{Client, LIMIT, MAX_LAG, Protocol, Rig, SLACK, Spread, rounds};

const SCHEMA: &str = "CREATE TABLE register (id int PRIMARY KEY, v bigint NOT NULL); INSERT INTO register VALUES (1, 0), (2, 0)";
const READ: &str = "SELECT v FROM register WHERE id = 1";

fn write(n: i64) -> String {
    format!("UPDATE register SET v = {n} WHERE id = 1")
}

/// How long hits take on a warm cache.
async fn latency_of_hits(client: &mut Client) -> Spread {
    client.warm(Protocol::Prepared, READ, None).await;
    let mut spread = Spread::default();
    for _ in 0..rounds() {
        let start = Instant::now();
        let frames = client.try_ask(Protocol::Prepared, READ, None).await.unwrap();
        let took = start.elapsed();
        assert!(frames.iter().any(|frame| frame.tag == b'D'));
        if client.value("SHOW larder.last").await.starts_with("hit") {
            spread.add(took);
        }
    }
    spread
}

#[tokio::test]
async fn linearizable_no_read_is_older_than_any_write_done_before_it() {
    each_version(async |pg: Postgres| {
        pg.sql(SCHEMA).unwrap();
        let rig = Rig::new(pg, &["freshness.level=linearizable"]).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        let mut misses = 0;
        for n in 1..=rounds() as i64 {
            direct.run(&write(n)).await;
            let written = Instant::now();
            loop {
                let served = client.ask_with(Protocol::ALL[n as usize % 3], READ, None).await;
                assert_eq!(served.number(), n, "stale: {}", served.how);
                if served.is_hit() {
                    break;
                }
                misses += 1;
                assert!(written.elapsed() < LIMIT, "no hit: {}", served.how);
            }
        }
        eprintln!("direct writes: {} rounds, 0 stale, {misses} misses, {} hits", rounds(), rounds());

        let mut hits = latency_of_hits(&mut client).await;
        let strict = rig.another(&[]).await;
        let mut strict = latency_of_hits(&mut Client::of(&strict).await).await;
        let mut origin = Spread::default();
        for _ in 0..rounds() {
            let start = Instant::now();
            direct.try_ask(Protocol::Prepared, READ, None).await.unwrap();
            origin.add(start.elapsed());
        }
        eprintln!("hit, linearizable: {}", hits.summary());
        eprintln!("hit, strict:       {}", strict.summary());
        eprintln!("direct:            {}", origin.summary());
    })
    .await;
}

#[tokio::test]
async fn session_sees_its_own_writes_at_once_and_others_within_max_lag() {
    each_version(async |pg: Postgres| {
        pg.sql(SCHEMA).unwrap();
        let rig = Rig::new(pg, &["freshness.level=session"]).await;
        let (mut client, mut other) = (rig.client().await, rig.client().await);
        let mut older = 0;
        let mut delays = Spread::default();
        for n in 1..=rounds() as i64 {
            other.warm(Protocol::Simple, READ, None).await;
            client.warm(Protocol::Simple, READ, None).await;
            client.run(&write(n)).await;
            let written = Instant::now();
            for turn in 0.. {
                let started = Instant::now();
                if other.number(READ).await == n {
                    delays.add(started.saturating_duration_since(written));
                    break;
                }
                older += 1;
                if turn % 4 == 0 {
                    let served = client.ask(READ).await;
                    assert_eq!(served.number(), n, "its own write: {}", served.how);
                }
            }
            let served = client.ask(READ).await;
            assert_eq!(served.number(), n, "its own write: {}", served.how);
        }
        eprintln!("another session's write until seen: {}, {older} older answers", delays.summary());
        assert!(delays.quantile(1.0) < MAX_LAG + SLACK);
    })
    .await;
}

/// With a frozen walsender, so that the promise is put to the test: an answer is as old as it may get.
#[tokio::test]
async fn bounded_is_never_older_than_max_lag() {
    each_version(async |pg: Postgres| {
        pg.sql(SCHEMA).unwrap();
        let mut rig = Rig::new(pg, &["freshness.level=bounded"]).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        client.warm(Protocol::Simple, READ, None).await;
        let walsender = rig.pg.walsenders().unwrap()[0];
        rig.pg.signal(walsender, Signal::STOP).unwrap();
        let end = Instant::now() + MAX_LAG + Duration::from_secs(1);
        // Writes that are not older than `max_lag`, with when they were acknowledged.
        let mut recent = VecDeque::new();
        let (mut n, mut bound, mut older_hits, mut oldest) = (0, 0, 0, Duration::ZERO);
        while Instant::now() < end {
            n += 1;
            if n % 2 == 0 {
                client.run(&write(n)).await
            } else {
                direct.run(&write(n)).await
            }
            recent.push_back((Instant::now(), n));
            let started = Instant::now();
            let served = client.ask(READ).await;
            while let Some((acknowledged, written)) = recent.front().copied() {
                if started.duration_since(acknowledged) <= MAX_LAG {
                    break;
                }
                bound = written;
                recent.pop_front();
            }
            let found = served.number();
            assert!(found >= bound, "{found} is more than max_lag old, {bound} is due: {}", served.how);
            if found < n {
                assert!(served.is_hit(), "{}", served.how);
                older_hits += 1;
                let overwritten = recent.iter().find(|(_, written)| *written > found).unwrap().0;
                oldest = oldest.max(started.duration_since(overwritten));
            }
        }
        assert!(older_hits > 0, "nothing was put to the test");
        assert_eq!(client.ask(READ).await.number(), n);
        eprintln!("{n} writes, {older_hits} older answers, the oldest outdated for {oldest:.1?}");
        rig.pg.signal(walsender, Signal::CONT).unwrap();
        let deadline = Instant::now() + LIMIT;
        while client.warm(Protocol::Simple, READ, None).await.number() != n {
            assert!(Instant::now() < deadline);
        }
    })
    .await;
}
