//! Instances that share a Valkey, while everything happens to it and to them: no query fails, and no answer is older
//! than what is promised. Within one instance: nothing older than what was acknowledged through it before the read began. For what
//! was acknowledged elsewhere (through the other, or by the origin itself): nothing older than `max_lag`.
//!
//! `LARDER_TEST_CLIENTS` (20) and `LARDER_TEST_FAULT_SECONDS` (1, of each fault) make the run longer and heavier.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_testkit::{Login, Postgres, Signal, each_version};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::freshness::{Client, LIMIT, MAX_LAG, Protocol, covered, load_time, number, rows};
use crate::shared::{Fleet, Reply, queries, status};

const REGISTERS: usize = 12;
/// Through neither.
const DIRECT: usize = 2;

/// Clients that read; each register has one that writes.
fn readers() -> usize {
    let clients = number("LARDER_TEST_CLIENTS").map_or(20, |clients| usize::try_from(clients).unwrap());
    clients.checked_sub(REGISTERS).filter(|readers| *readers >= 2).expect("LARDER_TEST_CLIENTS: at least 14")
}

/// How long each fault lasts, the time to get over it included.
fn fault_time() -> Duration {
    number("LARDER_TEST_FAULT_SECONDS").map_or(Duration::from_millis(1200), Duration::from_secs)
}

const SCHEMA: &str = "
    CREATE TABLE r0 (id int PRIMARY KEY, v bigint NOT NULL); INSERT INTO r0 SELECT n, 0 FROM generate_series(0, 3) n;
    CREATE TABLE r1 (id int PRIMARY KEY, v bigint NOT NULL); INSERT INTO r1 SELECT n, 0 FROM generate_series(4, 7) n;
    CREATE TABLE r2 (id int PRIMARY KEY, v bigint NOT NULL); INSERT INTO r2 SELECT n, 0 FROM generate_series(8, 11) n;
    CREATE VIEW register AS SELECT * FROM r0 UNION ALL SELECT * FROM r1 UNION ALL SELECT * FROM r2;";

/// What is read. Every row is a register and its version.
const READS: [&str; 4] = [
    "SELECT id, v FROM register WHERE id = $1",
    "SELECT id, v FROM r0 WHERE id <= $1 ORDER BY id",
    "SELECT id, v FROM r1 WHERE id <= $1 ORDER BY id",
    "SELECT id, v FROM register WHERE id >= $1 ORDER BY id",
];

/// A write that was acknowledged, and through whom.
#[derive(Debug, Clone, Copy)]
struct Ack {
    version: i64,
    pod: usize,
    at: Instant,
}

#[derive(Default)]
struct Load {
    acks: [Mutex<Vec<Ack>>; REGISTERS],
    issued: [AtomicI64; REGISTERS],
    over: AtomicBool,
    reads: AtomicU64,
    misses: Mutex<Vec<Duration>>,
}

impl Load {
    /// The versions that a read through this instance, which begins now, must not fall short of.
    fn due(&self, pod: usize) -> [i64; REGISTERS] {
        let now = Instant::now();
        let counts = |ack: &&Ack| ack.pod == pod || now.duration_since(ack.at) > MAX_LAG;
        std::array::from_fn(|register| {
            self.acks[register].lock().iter().rev().find(counts).map_or(0, |ack| ack.version)
        })
    }

    fn running(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Reads until it is over (or the instance is gone, if it may go).
    async fn read(self: Arc<Self>, pod: usize, addr: SocketAddr, seed: usize, may_go: bool) {
        let mut client = Client::login(addr, &Login::superuser()).await.unwrap();
        let mut n = seed;
        while self.running() {
            n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (sql, id) = (READS[(n >> 33) % READS.len()], ((n >> 40) % REGISTERS).to_string());
            let how = Protocol::ALL[(n >> 50) % 3];
            let (due, began) = (self.due(pod), Instant::now());
            let answer = match client.try_ask(how, sql, Some(&id)).await {
                Ok(frames) => rows(&frames),
                Err(_) if may_go => return,
                Err(error) => panic!("{sql} {id}: {error:#}"),
            };
            let took = began.elapsed();
            let answer = match answer {
                Ok(rows) => rows,
                Err(code) if may_go && code.starts_with("57P") => return,
                Err(code) => panic!("{sql} {id}: {code}"),
            };
            for row in &answer {
                let [id, version] =
                    [0, 1].map(|column| row[column].as_ref().unwrap().parse::<i64>().unwrap());
                let id = usize::try_from(id).unwrap();
                assert!(
                    version >= due[id],
                    "stale: register {id} is {version}, due {} ({sql}, pod {pod})",
                    due[id]
                );
                assert!(
                    version <= self.issued[id].load(Ordering::SeqCst),
                    "register {id}: {version} was never written"
                );
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
            let last = client.raw.value("SHOW larder.last").await;
            match last {
                Ok(last) if last.starts_with("miss") => self.misses.lock().push(took),
                Ok(_) => {}
                Err(_) if may_go => return,
                Err(error) => panic!("{error:#}"),
            }
        }
    }

    /// Writes one register, through each of these in turn.
    async fn write(self: Arc<Self>, register: usize, ways: Vec<(usize, SocketAddr)>) {
        let mut clients = Vec::new();
        for (pod, addr) in ways {
            clients.push((pod, Client::login(addr, &Login::superuser()).await.unwrap()));
        }
        for version in 1.. {
            if !self.running() {
                return;
            }
            let turn = usize::try_from(version).unwrap() % clients.len();
            let (pod, client) = &mut clients[turn];
            self.issued[register].store(version, Ordering::SeqCst);
            client.run(&format!("UPDATE r{} SET v = {version} WHERE id = {register}", register / 4)).await;
            let ack = Ack { version, pod: *pod, at: Instant::now() };
            self.acks[register].lock().push(ack);
            // Long enough for answers to be shared in between.
            tokio::time::sleep(Duration::from_millis(250 + 47 * register as u64)).await;
        }
    }

    fn quantile(&self, q: f64) -> Duration {
        let mut all = self.misses.lock().clone();
        all.sort_unstable();
        let last = all.len().saturating_sub(1);
        all.get((last as f64 * q).round() as usize).copied().unwrap_or_default()
    }
}

/// Two instances under load.
struct Running {
    fleet: Fleet,
    load: Arc<Load>,
    tasks: JoinSet<()>,
}

impl Running {
    async fn new(pg: Postgres) -> Self {
        let fleet = Fleet::with_timeout(pg, SCHEMA, 2, "100ms").await;
        fleet.settle().await;
        let (load, mut tasks) = (Arc::new(Load::default()), JoinSet::new());
        for reader in 0..readers() {
            let pod = reader % 2;
            tasks.spawn(load.clone().read(pod, fleet.pods[pod].addr(), reader * 7919 + 1, false));
        }
        let ways: Vec<_> =
            [(0, fleet.pods[0].addr()), (1, fleet.pods[1].addr()), (DIRECT, fleet.pg.addr())].into();
        for register in 0..REGISTERS {
            tasks.spawn(load.clone().write(register, ways.clone()));
        }
        Self { fleet, load, tasks }
    }

    /// Goes on for so long; whoever fails ends the test.
    async fn go_on(&mut self, span: Duration) {
        let ended = tokio::time::timeout(span, self.tasks.join_next()).await;
        if let Ok(Some(ended)) = ended {
            ended.unwrap();
            panic!("somebody stopped");
        }
    }

    async fn end(&mut self) {
        self.load.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }

    /// Goes on until something more is shared than before.
    async fn share_something(&mut self) {
        let (before, deadline) = (self.shared_hits().await, Instant::now() + LIMIT);
        while self.shared_hits().await <= before {
            assert!(Instant::now() < deadline, "nothing is shared");
            self.go_on(Duration::from_millis(100)).await;
        }
    }

    async fn shared_hits(&self) -> u64 {
        let mut sum = 0;
        for pod in &self.fleet.pods {
            sum += queries(pod).await["hit l2"];
        }
        sum
    }
}

#[tokio::test]
async fn no_read_through_one_of_two_is_older_than_promised() {
    each_version(async |pg: Postgres| {
        let mut running = Running::new(pg).await;
        running.go_on(load_time()).await;
        running.share_something().await;
        running.end().await;
        let (reads, shared) = (running.load.reads.load(Ordering::Relaxed), running.shared_hits().await);
        println!("{reads} reads, {shared} answers from the other instance");
        assert!(reads > 0 && shared > 0, "{reads} {shared}");
    })
    .await;
}

/// What happens to Valkey.
const FAULTS: [&str; 17] = [
    "none",
    "stop",
    "kill",
    "slow",
    "cut",
    "full",
    "replica",
    "password",
    "flush",
    "garbage",
    "flip",
    "truncate",
    "exchange",
    "replay",
    "wrong type",
    "evict some",
    "none",
];

#[tokio::test]
async fn whatever_happens_to_valkey_nobody_notices() {
    each_version(async |pg: Postgres| {
        let mut running = Running::new(pg).await;
        running.share_something().await;
        let mut old = contents(&running.fleet);
        println!("{} values, {} clients, {:?} each", old.len(), readers() + REGISTERS, fault_time());
        for fault in FAULTS {
            running.load.misses.lock().clear();
            let reads = running.load.reads.load(Ordering::Relaxed);
            suffer(&mut running, fault, &old).await;
            let (reads, p99) =
                (running.load.reads.load(Ordering::Relaxed) - reads, running.load.quantile(0.99));
            let misses = running.load.misses.lock().len();
            let p50 = running.load.quantile(0.5);
            println!("{fault}: {reads} reads, {misses} misses: p50 {p50:?}, p99 {p99:?}");
            assert!(reads > 0, "{fault}");
            if old.len() < 1000 {
                old.extend(contents(&running.fleet));
            }
        }
        // And it is used again.
        running.share_something().await;
        running.end().await;
    })
    .await;
}

async fn suffer(running: &mut Running, fault: &str, old: &[(Vec<u8>, Vec<u8>)]) {
    let span = fault_time() / 2;
    match fault {
        "none" => running.go_on(span).await,
        "stop" => {
            running.fleet.valkey.signal(Signal::STOP).unwrap();
            running.go_on(span).await;
            running.fleet.valkey.signal(Signal::CONT).unwrap();
        }
        "kill" => {
            running.fleet.valkey.signal(Signal::KILL).unwrap();
            running.go_on(span).await;
            running.fleet.valkey.stop().unwrap();
            running.fleet.valkey.start().unwrap();
        }
        "flush" => {
            running.fleet.valkey(&[b"FLUSHALL"]);
        }
        "full" | "replica" | "password" => {
            // Opened before: no other gets in after a changed password.
            let mut hand = running.fleet.hand();
            let (done, undone): (&[&str], &[&str]) = match fault {
                "full" => (
                    &["CONFIG SET maxmemory-policy noeviction", "CONFIG SET maxmemory 1"],
                    &["CONFIG SET maxmemory 0"],
                ),
                "replica" => (&["REPLICAOF 127.0.0.1 1"], &["REPLICAOF NO ONE"]),
                _ => (
                    &["ACL SETUSER default resetpass >other", "CLIENT KILL TYPE normal"],
                    &["ACL SETUSER default nopass"],
                ),
            };
            for (commands, then) in [(done, true), (undone, false)] {
                for command in commands {
                    hand.ask(&command.split(' ').map(str::as_bytes).collect::<Vec<_>>());
                }
                if then {
                    running.go_on(span).await;
                }
            }
        }
        "slow" | "cut" => {
            let until = Instant::now() + span;
            let mut hand = running.fleet.hand();
            while Instant::now() < until {
                match fault {
                    // Some answers come in time, some do not.
                    "slow" => hand.ask(&[b"CLIENT", b"PAUSE", b"150", b"ALL"]),
                    _ => hand.ask(&[b"CLIENT", b"KILL", b"TYPE", b"normal"]),
                };
                running.go_on(Duration::from_millis(300)).await;
            }
        }
        _ => {
            let until = Instant::now() + span;
            let mut n = 0;
            while Instant::now() < until {
                n += 1;
                spoil(&running.fleet, fault, old, n);
                running.go_on(Duration::from_millis(20)).await;
            }
            running.fleet.valkey(&[b"FLUSHALL"]);
        }
    }
    running.go_on(span).await;
}

/// Does it to what is there now.
fn spoil(fleet: &Fleet, fault: &str, old: &[(Vec<u8>, Vec<u8>)], n: usize) {
    let mut hand = fleet.hand();
    if fault == "replay" {
        for (key, value) in old {
            hand.ask(&[b"SET", key, value]);
        }
        return;
    }
    let now = contents(fleet);
    for (at, (key, value)) in now.iter().enumerate() {
        let reply = match fault {
            "garbage" => hand.ask(&[b"SET", key, &vec![n as u8; n * 37 % 300]]),
            "flip" => {
                let mut bytes = value.clone();
                if let Some(byte) = bytes.get_mut((n * 31 + at) % value.len().max(1)) {
                    *byte ^= 1 << (n % 8);
                }
                hand.ask(&[b"SET", key, &bytes])
            }
            "truncate" => hand.ask(&[b"SET", key, &value[..n * 31 % value.len().max(1)]]),
            "exchange" => hand.ask(&[b"SET", key, &now[(at + 1) % now.len()].1]),
            "wrong type" => {
                hand.ask(&[b"DEL", key]);
                hand.ask(&[b"LPUSH", key, b"x"])
            }
            _ if at % 2 == 0 => hand.ask(&[b"DEL", key]),
            _ => continue,
        };
        assert!(!matches!(reply, Reply::List(_)), "{reply:?}");
    }
}

/// All keys and values.
fn contents(fleet: &Fleet) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut hand = fleet.hand();
    let value = |key: Vec<u8>| match hand.ask(&[b"GET", &key]) {
        Reply::Bytes(Some(value)) => Some((key, value)),
        _ => None,
    };
    fleet.keys().into_iter().filter_map(value).collect()
}

/// Instances die at any moment, also while they write to Valkey, and others come and learn of the past.
#[tokio::test]
async fn instances_die_and_come_and_learn() {
    each_version(async |pg: Postgres| {
        let mut running = Running::new(pg).await;
        let mut learnt = 0;
        for generation in 0..4 {
            let old = contents(&running.fleet);
            let mut pod = running.fleet.start(true, &[]).await;
            covered(&pod).await;
            let (load, mut readers) = (running.load.clone(), JoinSet::new());
            for reader in 0..4 {
                readers.spawn(load.clone().read(
                    10 + generation,
                    pod.addr(),
                    generation * 100 + reader,
                    true,
                ));
            }
            if generation % 2 == 1 {
                // What was said long ago is said again.
                for (key, value) in &old {
                    running.fleet.valkey(&[b"SET", key, value]);
                }
            }
            running.go_on(Duration::from_millis(1500)).await;
            learnt += u64::from(status(&pod).await["shared"]["learnt"].as_u64().unwrap() > 0);
            pod.signal(Signal::KILL).unwrap();
            while let Some(ended) = readers.join_next().await {
                ended.unwrap();
            }
        }
        running.end().await;
        println!("{learnt} of 4 learnt of the past");
        assert!(learnt >= 2, "{learnt}");
    })
    .await;
}
