//! The feed freezes, breaks, or comes back to another life of the origin: hits stop, nothing stale is served, hits
//! come back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_testkit::{Login, Postgres, Signal, each_version};
use tokio::task::JoinSet;

use crate::freshness::{Client, LIMIT, MAX_LAG, Protocol, Rig, SLACK};

const READ: &str = "SELECT v FROM register WHERE id = $1";

fn read(id: usize) -> String {
    READ.replace("$1", &id.to_string())
}

fn write(id: usize, n: i64) -> String {
    format!("UPDATE register SET v = {n} WHERE id = {id}")
}

#[tokio::test]
async fn faults_a_frozen_walsender_ends_hits_within_max_lag() {
    each_version(async |pg: Postgres| {
        // A write makes every answer from its table wait: so each register has a table of its own.
        for id in 1..=3 {
            pg.sql(&schema(1).replace("register", &format!("register{id}"))).unwrap();
        }
        let read = |id: i32| format!("SELECT v FROM register{id}");
        let write = |id: i32, n: i64| format!("UPDATE register{id} SET v = {n}");
        let mut rig = Rig::new(pg, &[]).await;
        let (mut client, mut other, mut direct) =
            (rig.client().await, rig.client().await, rig.direct().await);
        for n in 1..=2 {
            for id in 1..=3 {
                client.warm(Protocol::Simple, &read(id), None).await;
            }
            let walsender = rig.pg.walsenders().unwrap()[0];
            rig.pg.signal(walsender, Signal::STOP).unwrap();
            let frozen = Instant::now();
            direct.run(&write(1, n)).await;
            client.run(&write(2, n)).await;
            // Register 1 was written directly, 2 through Larder, 3 by nobody.
            let (mut last_hit, mut hits, mut old) = (Duration::ZERO, 0, 0);
            while frozen.elapsed() < MAX_LAG + 2 * SLACK {
                assert_eq!(other.ask(&read(2)).await.number(), n, "a write through Larder");
                for id in [1, 3] {
                    let started = frozen.elapsed();
                    let served = other.ask(&read(id)).await;
                    if served.is_hit() {
                        (last_hit, hits) = (started, hits + 1);
                    }
                    let outdated = id == 1 && served.number() != n;
                    assert!(!outdated || started <= MAX_LAG, "{started:?}: {}", served.how);
                    old += u32::from(outdated);
                }
            }
            eprintln!(
                "frozen: {hits} hits, the last after {last_hit:.1?}, {old} of them outdated by a direct write"
            );
            assert!(hits > 0 && last_hit <= MAX_LAG, "{hits} hits, the last after {last_hit:?}");
            assert_eq!(other.ask(&read(1)).await.number(), n);
            rig.pg.signal(walsender, Signal::CONT).unwrap();
            let thawed = Instant::now();
            for id in 1..=3 {
                let expected = direct.number(&read(id)).await;
                assert_eq!(other.warm(Protocol::Simple, &read(id), None).await.number(), expected);
            }
            eprintln!("thawed: hits after {:.1?}", thawed.elapsed());
        }
    })
    .await;
}

const REGISTERS: usize = 12;
const WRITERS: usize = 3;
const READERS: usize = 6;

fn schema(registers: usize) -> String {
    format!(
        "CREATE TABLE register (id int PRIMARY KEY, v bigint NOT NULL);
         INSERT INTO register SELECT n, 0 FROM generate_series(1, {registers}) n"
    )
}

/// Clients that write and read registers through Larder, whatever happens to the origin. Versions only grow, so a read
/// that starts after a write was acknowledged must find that version or a later one.
struct Load {
    acknowledged: [AtomicI64; REGISTERS],
    stop: AtomicBool,
    writes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Load {
    fn start(rig: &Rig) -> (Arc<Self>, JoinSet<()>) {
        let load = Arc::new(Self {
            acknowledged: [const { AtomicI64::new(0) }; REGISTERS],
            stop: AtomicBool::new(false),
            writes: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        let addr = rig.larder.addr();
        for number in 0..WRITERS + READERS {
            let load = Arc::clone(&load);
            tasks.spawn(async move {
                // Each writer has registers of its own: 0, 3, 6, ... are the first one's.
                let mut n = 0;
                while !load.stop.load(Ordering::SeqCst) {
                    let outcome = match Client::login(addr, &Login::superuser()).await {
                        Ok(mut client) if number < WRITERS => load.write(&mut client, number, &mut n).await,
                        Ok(mut client) => load.read(&mut client).await,
                        Err(error) => Err(error),
                    };
                    if outcome.is_err() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            });
        }
        (load, tasks)
    }

    async fn write(&self, client: &mut Client, number: usize, n: &mut i64) -> anyhow::Result<()> {
        while !self.stop.load(Ordering::SeqCst) {
            *n += 1;
            let id = fastrand::usize(0..REGISTERS / WRITERS) * WRITERS + number;
            client.raw.rows(&write(id + 1, *n)).await?;
            self.acknowledged[id].store(*n, Ordering::SeqCst);
            self.writes.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..20))).await;
        }
        Ok(())
    }

    async fn read(&self, client: &mut Client) -> anyhow::Result<()> {
        while !self.stop.load(Ordering::SeqCst) {
            let id = fastrand::usize(0..REGISTERS);
            let due = self.acknowledged[id].load(Ordering::SeqCst);
            let found: i64 = client.raw.value(&read(id + 1)).await?.parse()?;
            let how = client.raw.value("SHOW larder.last").await?;
            assert!(found >= due, "register {id} is {found}, {due} was acknowledged before: {how}");
            let counter = if how.starts_with("hit") { &self.hits } else { &self.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns when so many more reads have been hits.
    async fn hits(&self, more: u64) {
        let (wanted, deadline) = (self.hits.load(Ordering::Relaxed) + more, Instant::now() + LIMIT);
        while self.hits.load(Ordering::Relaxed) < wanted {
            assert!(Instant::now() < deadline, "no hits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(&self, tasks: JoinSet<()>) {
        self.stop.store(true, Ordering::SeqCst);
        tasks.join_all().await;
    }
}

#[tokio::test]
async fn faults_gaps_in_the_feed_leave_nothing_stale() {
    each_version(async |pg: Postgres| {
        pg.sql(&schema(REGISTERS)).unwrap();
        let mut rig = Rig::new(pg, &[]).await;
        let (load, tasks) = Load::start(&rig);
        for fault in ["terminate", "restart", "crash", "kill"] {
            load.hits(200).await;
            let start = Instant::now();
            match fault {
                "terminate" => {
                    let walsender = rig.pg.walsenders().unwrap()[0];
                    rig.pg.sql(&format!("SELECT pg_terminate_backend({walsender})")).unwrap();
                }
                "restart" => rig.pg.restart().unwrap(),
                "crash" => {
                    rig.pg.kill(Signal::QUIT).unwrap();
                    rig.pg.start().unwrap();
                }
                _ => {
                    rig.pg.kill(Signal::KILL).unwrap();
                    rig.pg.start().unwrap();
                }
            }
            let back = start.elapsed();
            rig.covered().await;
            load.hits(200).await;
            eprintln!(
                "{fault}: the origin was back after {back:.1?}, 200 more hits after {:.1?}",
                start.elapsed()
            );
        }
        load.end(tasks).await;
        let [writes, hits, misses] =
            [&load.writes, &load.hits, &load.misses].map(|counter| counter.load(Ordering::Relaxed));
        eprintln!("{writes} writes, {hits} hits, {misses} other reads, 0 stale");

        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        let mut served = HashMap::new();
        for id in 1..=REGISTERS {
            let found = client.warm(Protocol::Simple, &read(id), None).await;
            assert_eq!(found.number(), direct.number(&read(id)).await, "register {id}");
            served.insert(id, found.number());
        }
        assert!(served.values().all(|n| *n > 0));
    })
    .await;
}

/// A crash may take back commits made with `synchronous_commit = off`, which readers saw: nobody who connects to the new
/// life of the origin may be given the old one's answers.
#[tokio::test]
async fn faults_what_a_crash_took_back_is_not_served() {
    each_version(async |pg: Postgres| {
        pg.sql(&schema(1)).unwrap();
        // What is committed is not flushed soon, and the lease is long.
        pg.alter_system("wal_writer_delay", "10s").unwrap();
        let mut rig = Rig::new(pg, &["freshness.max_lag=20s"]).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        assert_eq!(client.warm(Protocol::Simple, "SELECT v + 0 FROM register", None).await.number(), 0);
        direct.run("SET synchronous_commit = off").await;
        direct.run(&write(1, 1)).await;
        assert_eq!(client.warm(Protocol::Simple, &read(1), None).await.number(), 1);
        rig.pg.kill(Signal::KILL).unwrap();
        rig.pg.start().unwrap();
        let truth = rig.direct().await.number(&read(1)).await;
        let mut again = rig.client().await;
        for _ in 0..50 {
            let served = again.ask(&read(1)).await;
            assert_eq!(served.number(), truth, "{}", served.how);
        }
        eprintln!("after the crash the origin says {truth}");
        assert_eq!(again.warm(Protocol::Simple, &read(1), None).await.number(), truth);
    })
    .await;
}

/// A transaction that has written and waits has unflushed log behind it, which no walsender sends.
#[tokio::test]
async fn faults_a_writer_that_idles_does_not_end_hits() {
    each_version(async |pg: Postgres| {
        pg.sql("CREATE TABLE a (v int); CREATE TABLE b (v int); INSERT INTO b VALUES (1)").unwrap();
        let rig = Rig::new(pg, &[]).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        client.warm(Protocol::Simple, "SELECT v FROM b", None).await;
        direct.run("BEGIN").await;
        direct.run("INSERT INTO a VALUES (1)").await;
        let (start, mut hits, mut others) = (Instant::now(), 0, 0);
        while start.elapsed() < 3 * MAX_LAG {
            if client.ask("SELECT v FROM b").await.is_hit() {
                hits += 1
            } else {
                others += 1
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        eprintln!("while a writer idles: {hits} hits, {others} others");
        assert!(others * 10 < hits, "{hits} hits, {others} others");
    })
    .await;
}
