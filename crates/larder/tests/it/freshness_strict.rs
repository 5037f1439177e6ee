//! `strict`: no read that starts after a write was acknowledged through Larder returns an older state.

use std::ops::Range;
use std::time::{Duration, Instant};

use larder_testkit::{Postgres, each_version};

use crate::freshness::{Client, LIMIT, Protocol, Rig, Spread, asked_rounds, rounds};

const SCHEMA: &str = "
    CREATE TABLE register (id int PRIMARY KEY, v bigint NOT NULL);
    INSERT INTO register VALUES (1, 0);
    CREATE FUNCTION write_register(new bigint) RETURNS bigint LANGUAGE sql AS
      'UPDATE register SET v = new WHERE id = 1 RETURNING v';
    CREATE TABLE source (id int PRIMARY KEY, v bigint NOT NULL);
    INSERT INTO source VALUES (1, 0);
    CREATE FUNCTION copy_to_register() RETURNS trigger LANGUAGE plpgsql AS
      'BEGIN UPDATE register SET v = new.v WHERE id = 1; RETURN NULL; END';
    CREATE TRIGGER copy AFTER UPDATE ON source FOR EACH ROW EXECUTE FUNCTION copy_to_register();";
/// One in so many rounds calls a function, unless a number of rounds was asked for.
const FUNCTION_SHARE: u64 = 10;
const READ: &str = "SELECT v FROM register WHERE id = 1";

/// Writes through one connection and reads through the same (`reader` = 0) or another (1), and reads on until the
/// answer comes from memory, so that the next write finds something that could be served too long. Returns how many
/// reads came in between, and how many of those right after the write were hits.
async fn write_then_read(
    clients: &mut [Client],
    reader: usize,
    how: Protocol,
    write: &[&str],
    numbers: Range<i64>,
) -> (u64, u64) {
    let (mut reads, mut at_once) = (0, 0);
    for n in numbers {
        for statement in write {
            clients[0].run(&statement.replace("$n", &n.to_string())).await;
        }
        let written = Instant::now();
        for attempt in 0.. {
            let served = clients[reader].ask_with(how, READ, None).await;
            assert_eq!(
                served.number(),
                n,
                "stale after {write:?} ({how:?}, reader {reader}): {}",
                served.how
            );
            if served.is_hit() {
                at_once += u64::from(attempt == 0);
                break;
            }
            assert!(written.elapsed() < LIMIT, "no hit: {}", served.how);
            reads += 1;
        }
    }
    (reads, at_once)
}

#[tokio::test]
async fn strict_no_read_is_older_than_an_acknowledged_write() {
    no_read_is_older_than_an_acknowledged_write("", &[]).await;
}

/// The same from a publication, without which Larder is a plain proxy and says why.
#[tokio::test]
async fn strict_holds_with_pgoutput() {
    let settings = ["freshness.plugin=pgoutput", "freshness.publication=larder"];
    no_read_is_older_than_an_acknowledged_write("CREATE PUBLICATION larder FOR ALL TABLES", &settings).await;
}

async fn no_read_is_older_than_an_acknowledged_write(publication: &str, settings: &[&str]) {
    each_version(async |pg: Postgres| {
        pg.sql(&format!("{SCHEMA} {publication}")).unwrap();
        let rig = Rig::new(pg, settings).await;
        let mut clients = [rig.client().await, rig.client().await];
        // After a call of a function the whole catalog is compared before anything is served again.
        let ways: [(&str, u64, &[&str]); 5] = [
            ("UPDATE", 1, &["UPDATE register SET v = $n WHERE id = 1"]),
            ("transaction", 1, &["BEGIN", "UPDATE register SET v = $n WHERE id = 1", "COMMIT"]),
            ("function", FUNCTION_SHARE, &["SELECT write_register($n)"]),
            ("trigger", 1, &["UPDATE source SET v = $n WHERE id = 1"]),
            ("several", FUNCTION_SHARE, &["BEGIN; DELETE FROM register; INSERT INTO register VALUES (1, $n); COMMIT"]),
        ];
        let (mut from, mut turn) = (1, 0);
        for (name, share, write) in ways {
            for reader in [0, 1] {
                let rounds = if asked_rounds().is_some() { rounds() } else { (rounds() / share).max(10) };
                let how = Protocol::ALL[turn % 3];
                let start = Instant::now();
                let numbers = from..from + rounds as i64;
                (from, turn) = (numbers.end, turn + 1);
                let (reads, at_once) = write_then_read(&mut clients, reader, how, write, numbers).await;
                let took = start.elapsed();
                eprintln!(
                    "{name}, reader {reader}, {how:?}: {rounds} rounds, 0 stale, {reads} misses, {rounds} hits, \
                     {at_once} of them at once, {took:.1?}",
                );
            }
        }
    })
    .await;
}

/// Direct writes, continuous reading: how long until a read shows them.
#[tokio::test]
async fn strict_direct_writes_are_seen_soon() {
    each_version(async |pg: Postgres| {
        pg.sql(SCHEMA).unwrap();
        let rig = Rig::new(pg, &[]).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        let (mut delays, mut old_hits) = (Spread::default(), 0);
        for n in 1..=rounds() as i64 {
            client.warm(Protocol::Simple, READ, None).await;
            direct.run(&format!("UPDATE register SET v = {n} WHERE id = 1")).await;
            let written = Instant::now();
            loop {
                let started = Instant::now();
                if client.number(READ).await == n {
                    delays.add(started.saturating_duration_since(written));
                    break;
                }
                old_hits += 1;
            }
        }
        eprintln!("direct write until seen: {}, {old_hits} older answers on the way", delays.summary());
        assert!(delays.quantile(0.99) < Duration::from_millis(500), "{}", delays.summary());
        assert!(delays.quantile(1.0) < crate::freshness::MAX_LAG + crate::freshness::SLACK);
    })
    .await;
}

/// Three transactions that PostgreSQL does not let commit together (the read-only anomaly of snapshot isolation): it
/// can tell only if it sees every read.
#[tokio::test]
async fn strict_serializable_sessions_are_not_served() {
    each_version(async |pg: Postgres| {
        pg.sql(
            "CREATE TABLE account (name text PRIMARY KEY, balance int); INSERT INTO account VALUES ('x', 0), ('y', 0);
             CREATE ROLE careful SUPERUSER LOGIN; ALTER ROLE careful SET default_transaction_isolation = serializable",
        )
        .unwrap();
        let rig = Rig::new(pg, &[]).await;
        let login = larder_testkit::Login::new("careful", "postgres");
        let mut sessions = Vec::new();
        for _ in 0..3 {
            sessions.push(Client::login(rig.larder.addr(), &login).await.unwrap());
        }
        let [withdrawal, deposit, report] = &mut sessions[..] else { unreachable!() };
        let read = "SELECT name, balance FROM account ORDER BY name";
        withdrawal.run("BEGIN").await;
        withdrawal.run(read).await;
        deposit.run("UPDATE account SET balance = 20 WHERE name = 'y'").await;
        // In memory, if it may be there at all.
        let limit = Instant::now() + Duration::from_millis(500);
        while !report.ask(read).await.is_hit() && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let served = report.ask(read).await;
        assert!(!served.is_hit(), "a hit in a session whose every statement is a serializable transaction");
        let failed = async |client: &mut Client, sql: &str| {
            let frames = client.try_ask(Protocol::Simple, sql, None).await.unwrap();
            crate::freshness::rows(&frames).err()
        };
        let update = failed(withdrawal, "UPDATE account SET balance = -11 WHERE name = 'x'").await;
        let commit = failed(withdrawal, "COMMIT").await;
        assert_eq!(update.or(commit), Some("40001".to_owned()));
    })
    .await;
}
