//! A hundred clients do everything at once, through Larder and around it. While they do, no read returns a version
//! older than one acknowledged before it; at rest, every answer from memory is the origin's, byte for byte.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_testkit::{Frame, Login, Postgres, each_version, frame};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::freshness::{Client, LIMIT, MAX_LAG, Protocol, Rig, load_time, rows};

const CLIENTS: usize = 94;
/// Clients of the origin itself.
const DIRECT: usize = 6;
/// Each client of Larder writes one of its own; there are that many more that are written directly.
const REGISTERS: usize = CLIENTS;
/// Hits once nobody writes any more: by then the cache is full.
const QUIET_HITS: u64 = 1000;

const SCHEMA: &str = "
    CREATE TABLE register (id int PRIMARY KEY, v bigint NOT NULL);
    INSERT INTO register SELECT n, 0 FROM generate_series(0, 93) n;
    CREATE TABLE mirror (id int PRIMARY KEY, v bigint NOT NULL);
    INSERT INTO mirror SELECT n, 0 FROM generate_series(0, 5) n;
    CREATE TABLE customer (id int PRIMARY KEY, name text);
    INSERT INTO customer SELECT n, 'customer ' || n FROM generate_series(0, 9) n;
    CREATE TABLE item (id int PRIMARY KEY, name text, price numeric);
    INSERT INTO item SELECT n, 'item ' || n, n * 1.5 FROM generate_series(0, 9) n;
    CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int, item int, qty int);
    INSERT INTO orders (customer, item, qty) SELECT n % 10, n / 10, n FROM generate_series(0, 99) n;
    CREATE TABLE event (id int GENERATED ALWAYS AS IDENTITY, kind int, note text);
    CREATE VIEW register_view AS SELECT id, v FROM register WHERE id % 2 = 0;
    CREATE VIEW busy AS SELECT i.id, i.name, sum(o.qty) AS qty FROM item i JOIN orders o ON o.item = i.id
      GROUP BY i.id, i.name;";

/// What is read: the text, how many values the parameter takes, and whether rows are (register, version).
const READS: [(&str, usize, Option<Registers>); 11] = [
    ("SELECT id, v FROM register WHERE id = $1", REGISTERS, Some(Registers::Through)),
    ("SELECT id, v FROM register WHERE id IN ($1, 3, 7, 11) ORDER BY id", 20, Some(Registers::Through)),
    ("SELECT id, v FROM register_view WHERE id < $1 ORDER BY id", 10, Some(Registers::Through)),
    ("SELECT id, v FROM mirror WHERE id = $1", DIRECT, Some(Registers::Direct)),
    ("SELECT * FROM customer WHERE id = $1", 10, None),
    ("SELECT * FROM item WHERE id = $1", 10, None),
    (
        "SELECT o.id, o.qty, i.name, i.price FROM orders o JOIN item i ON i.id = o.item WHERE o.customer = $1 ORDER BY o.id",
        10,
        None,
    ),
    (
        "SELECT item, count(*), sum(qty) FROM orders WHERE customer <= $1 GROUP BY item ORDER BY item",
        10,
        None,
    ),
    ("SELECT * FROM busy WHERE id = $1", 10, None),
    ("SELECT kind, count(*) FROM event WHERE kind = $1 GROUP BY kind", 5, None),
    (
        "SELECT c.name, (SELECT count(*) FROM orders o WHERE o.customer = c.id) FROM customer c WHERE c.id >= $1 ORDER BY c.id",
        10,
        None,
    ),
];

const DDL: [&str; 9] = [
    "ALTER TABLE item ADD COLUMN extra int DEFAULT 7",
    "CREATE OR REPLACE VIEW busy AS SELECT i.id, i.name, sum(o.qty) + 1 AS qty FROM item i JOIN orders o ON o.item = i.id GROUP BY i.id, i.name",
    "CREATE INDEX by_customer ON orders (customer)",
    "BEGIN; UPDATE item SET extra = 8 WHERE id = 3; ALTER TABLE item DROP COLUMN extra; COMMIT",
    "CREATE OR REPLACE VIEW busy AS SELECT i.id, i.name, sum(o.qty) AS qty FROM item i JOIN orders o ON o.item = i.id GROUP BY i.id, i.name",
    "DROP INDEX by_customer",
    "BEGIN; ALTER TABLE event RENAME TO gone; CREATE TABLE event (LIKE gone INCLUDING ALL); INSERT INTO event (kind, note) VALUES (1, 'new'); DROP TABLE gone; COMMIT",
    "GRANT SELECT ON item TO PUBLIC",
    "REVOKE SELECT ON item FROM PUBLIC",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registers {
    /// A version acknowledged before the read began is due.
    Through,
    /// One acknowledged more than `max_lag` before is.
    Direct,
}

/// A register that is written directly: when which version was acknowledged, and the last one that has long been.
type Mirrored = (VecDeque<(Instant, i64)>, i64);

/// What everybody knows.
struct Load {
    acknowledged: [AtomicI64; REGISTERS],
    mirrored: [Mutex<Mirrored>; DIRECT],
    writing: AtomicBool,
    running: AtomicBool,
    hits: AtomicU64,
    /// Other reads, by how they were served.
    others: Mutex<BTreeMap<String, u64>>,
    writes: AtomicU64,
    ddl: AtomicU64,
    /// Errors that a client must expect: deadlocks, plans that DDL has invalidated.
    expected_errors: AtomicU64,
    sessions_ended: AtomicU64,
}

/// The SQLSTATE of a failed statement, or that the session is over.
type Outcome = Result<(), String>;
const GONE: &str = "gone";

impl Load {
    fn due(&self, kind: Registers) -> Vec<i64> {
        match kind {
            Registers::Through => self.acknowledged.iter().map(|v| v.load(Ordering::SeqCst)).collect(),
            Registers::Direct => {
                let settled = |mirrored: &Mutex<Mirrored>| {
                    let (recent, settled) = &mut *mirrored.lock();
                    while recent.front().is_some_and(|(acknowledged, _)| acknowledged.elapsed() > MAX_LAG) {
                        *settled = recent.pop_front().unwrap().1;
                    }
                    *settled
                };
                self.mirrored.iter().map(settled).collect()
            }
        }
    }

    async fn read(&self, client: &mut Client) -> Outcome {
        let (sql, values, registers) = READS[fastrand::usize(0..READS.len())];
        let how = Protocol::ALL[fastrand::usize(0..3)];
        let parameter = fastrand::usize(0..values).to_string();
        let due = registers.map(|kind| self.due(kind));
        let frames = self.ask(client, how, sql, Some(&parameter)).await?;
        let served = client.value("SHOW larder.last").await;
        let found = match rows(&frames) {
            Ok(found) => found,
            Err(code) if code == "0A000" && how == Protocol::Prepared => {
                client.forget(sql).await;
                return Err(code);
            }
            Err(code) => return Err(code),
        };
        for row in due.iter().flat_map(|_| &found) {
            let [id, version] = [0, 1].map(|column| row[column].as_ref().unwrap().parse::<i64>().unwrap());
            let due = due.as_ref().unwrap()[id as usize];
            assert!(
                version >= due,
                "{sql} [{parameter}] {how:?}: register {id} is {version}, {due} is due: {served}"
            );
        }
        if served.starts_with("hit") {
            self.hits.fetch_add(1, Ordering::Relaxed);
        } else {
            *self.others.lock().entry(served).or_default() += 1;
        }
        Ok(())
    }

    async fn run(&self, client: &mut Client, sql: &str) -> Outcome {
        let how = if sql.contains(';') { Protocol::Simple } else { Protocol::ALL[fastrand::usize(0..2)] };
        rows(&self.ask(client, how, sql, None).await?).map(drop)
    }

    async fn ask(
        &self,
        client: &mut Client,
        how: Protocol,
        sql: &str,
        parameter: Option<&str>,
    ) -> Result<Vec<Frame>, String> {
        match client.try_ask(how, sql, parameter).await {
            Ok(frames) => Ok(frames),
            // Larder ends a session whose prepared statement DDL has changed before the origin had it.
            Err(error) if format!("{error:#}").contains("C0A000") => {
                self.sessions_ended.fetch_add(1, Ordering::Relaxed);
                Err(GONE.to_owned())
            }
            Err(error) => panic!("{sql}: {error:#}"),
        }
    }

    async fn write(&self, client: &mut Client, own: usize, n: i64) -> Outcome {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let (small, table) = (fastrand::usize(0..10), if own < REGISTERS { "register" } else { "mirror" });
        let id = own % REGISTERS;
        let sql = match fastrand::u8(0..20) {
            0..12 => format!("UPDATE {table} SET v = {n} WHERE id = {id}"),
            12 | 13 => format!("INSERT INTO orders (customer, item, qty) VALUES ({small}, {}, {n})", n % 10),
            14 => format!("DELETE FROM orders WHERE customer = {small} AND id % 7 = {}", n % 7),
            15..18 => format!("INSERT INTO event (kind, note) VALUES ({}, 'note {n}')", n % 5),
            18 => format!("UPDATE customer SET name = 'customer {n}' WHERE id = {small}"),
            _ => "TRUNCATE event".to_owned(),
        };
        self.run(client, &sql).await
    }

    /// Whatever is written to registers here is `n`.
    async fn act(&self, client: &mut Client, own: usize, n: i64) -> Outcome {
        if own >= REGISTERS {
            return self.write(client, own, n).await;
        }
        if !self.writing.load(Ordering::SeqCst) || fastrand::u8(0..100) < 88 {
            return self.read(client).await;
        }
        match fastrand::u8(0..8) {
            0..3 => self.write(client, own, n).await,
            3 => {
                self.run(client, "BEGIN").await?;
                self.read(client).await?;
                self.read(client).await?;
                self.run(client, "COMMIT").await
            }
            4 | 5 => {
                self.run(client, "BEGIN").await?;
                self.read(client).await?;
                self.write(client, own, n).await?;
                self.read(client).await?;
                self.run(client, "COMMIT").await
            }
            6 => {
                self.run(client, "START TRANSACTION").await?;
                // Not a register: a version that was taken back must not be taken for acknowledged.
                self.run(client, "UPDATE item SET name = 'never' WHERE id = 5").await?;
                self.read(client).await?;
                self.run(client, "ROLLBACK").await
            }
            _ => {
                self.run(client, "BEGIN").await?;
                self.write(client, own, n).await?;
                self.run(client, "SAVEPOINT here").await?;
                self.run(client, "UPDATE item SET name = 'never' WHERE id = 6").await?;
                self.run(client, "ROLLBACK TO here").await?;
                self.read(client).await?;
                self.run(client, "COMMIT").await
            }
        }
    }

    /// The version that a client's own register has, for sure.
    async fn acknowledge(&self, client: &mut Client, own: usize) {
        if own >= REGISTERS {
            let id = own - REGISTERS;
            let n = client.number(&format!("SELECT v FROM mirror WHERE id = {id}")).await;
            self.mirrored[id].lock().0.push_back((Instant::now(), n));
        } else {
            // From the origin, so that what counts as acknowledged does not depend on what is tested.
            let n =
                client.number(&format!("/* larder: bypass */ SELECT v FROM register WHERE id = {own}")).await;
            self.acknowledged[own].store(n, Ordering::SeqCst);
        }
    }

    async fn client(self: Arc<Self>, mut client: Client, own: usize, larder: SocketAddr) {
        let mut n = 0;
        while self.running.load(Ordering::SeqCst) {
            n += 1;
            let before = self.writes.load(Ordering::Relaxed);
            if own >= REGISTERS && !self.writing.load(Ordering::SeqCst) {
                return;
            }
            let outcome = self.act(&mut client, own, n).await;
            if outcome.as_ref().is_err_and(|code| code == GONE) {
                client = Client::login(larder, &Login::superuser()).await.unwrap();
            } else if let Err(code) = outcome {
                assert!(["40P01", "0A000", "25P02"].contains(&&*code), "{code}");
                self.expected_errors.fetch_add(1, Ordering::Relaxed);
                client.run("ROLLBACK").await;
            }
            if before != self.writes.load(Ordering::Relaxed) {
                self.acknowledge(&mut client, own).await;
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..40))).await;
        }
    }

    async fn define(self: Arc<Self>, mut clients: [Client; 2]) {
        for (turn, sql) in (0..).zip(DDL.iter().cycle()) {
            if !self.writing.load(Ordering::SeqCst) && turn % DDL.len() == 0 {
                return;
            }
            // Each in turn through Larder and directly.
            while let Err(code) = self.run(&mut clients[turn % 2], sql).await {
                assert!(["40P01", "25P02"].contains(&&*code), "{code}: {sql}");
                clients[turn % 2].run("ROLLBACK").await;
            }
            self.ddl.fetch_add(1, Ordering::Relaxed);
            if self.writing.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(0..1500))).await;
            }
        }
    }
}

#[tokio::test]
async fn mix_at_rest_every_cached_answer_is_the_origins() {
    each_version(async |pg: Postgres| {
        let seed = fastrand::get_seed();
        eprintln!("seed {seed}");
        pg.sql(SCHEMA).unwrap();
        let rig = Rig::new(pg, &[]).await;
        let load = Arc::new(Load {
            acknowledged: [const { AtomicI64::new(0) }; REGISTERS],
            mirrored: std::array::from_fn(|_| Mutex::default()),
            writing: AtomicBool::new(true),
            running: AtomicBool::new(true),
            hits: AtomicU64::new(0),
            others: Mutex::default(),
            writes: AtomicU64::new(0),
            ddl: AtomicU64::new(0),
            expected_errors: AtomicU64::new(0),
            sessions_ended: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for own in 0..CLIENTS + DIRECT {
            let client = if own < CLIENTS { rig.client().await } else { rig.direct().await };
            tasks.spawn(Arc::clone(&load).client(client, own, rig.larder.addr()));
        }
        let ddl = tokio::spawn(Arc::clone(&load).define([rig.client().await, rig.direct().await]));
        let end = Instant::now() + load_time();
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
            while let Some(ended) = tasks.try_join_next() {
                ended.unwrap();
            }
        }
        load.writing.store(false, Ordering::SeqCst);
        ddl.await.unwrap();
        let (enough, limit) = (load.hits.load(Ordering::Relaxed) + QUIET_HITS, Instant::now() + LIMIT);
        while load.hits.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < limit, "no hits");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        load.running.store(false, Ordering::SeqCst);
        tasks.join_all().await;
        let [hits, writes, ddl, errors, ended] =
            [&load.hits, &load.writes, &load.ddl, &load.expected_errors, &load.sessions_ended]
                .map(|counter| counter.load(Ordering::Relaxed));
        eprintln!(
            "{hits} hits, {writes} writes, {ddl} definitions, {errors} expected errors, {ended} sessions ended"
        );
        eprintln!("other reads: {:?}", load.others.lock());
        compare(&rig).await;
    })
    .await;
}

/// Every query, parameter and protocol, twice.
async fn compare(rig: &Rig) {
    let (mut client, mut direct) = (rig.client().await, rig.direct().await);
    let mut hits = [0, 0];
    let mut asked = 0;
    for (sql, values, _) in READS {
        for parameter in 0..values {
            let parameter = parameter.to_string();
            for how in Protocol::ALL {
                let expected: Vec<Frame> = direct.try_ask(how, sql, Some(&parameter)).await.unwrap();
                let again = (how == Protocol::Prepared).then(|| direct.try_ask(how, sql, Some(&parameter)));
                let again = match again {
                    Some(ask) => ask.await.unwrap(),
                    None => expected.clone(),
                };
                for (hits, expected) in hits.iter_mut().zip([expected, again]) {
                    let served = client.ask_with(how, sql, Some(&parameter)).await;
                    assert_eq!(served.frames, expected, "{sql} [{parameter}] {how:?}: {}", served.how);
                    *hits += u32::from(served.is_hit());
                }
                asked += 1;
            }
        }
    }
    eprintln!(
        "at rest: {asked} answers compared, {} hits at first, {} then, 0 differences",
        hits[0], hits[1]
    );
    assert!(hits[0] * 2 > asked, "the cache is nearly empty");
    assert!(hits[1] * 10 > asked * 9);
}

impl Client {
    /// Closes a prepared statement, to prepare it again when it is next needed.
    async fn forget(&mut self, sql: &str) {
        self.unprepare(sql);
        self.raw.send_all(&[frame::close_statement(sql), frame::sync()]).await.unwrap();
        self.raw.until_ready().await.unwrap();
    }
}
