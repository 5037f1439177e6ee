//! Instances that share a Valkey: what the tests in `shared_*.rs` have in common, and the everyday.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use larder_testkit::{Auth, Larder, Login, Postgres, Valkey, each_version};

use crate::freshness::{Client, LIMIT, Protocol, covered};

pub(crate) const SECRET: &str = "a secret of at least sixteen bytes";

/// An origin, a Valkey, and instances that share it.
pub(crate) struct Fleet {
    pub(crate) pods: Vec<Larder>,
    pub(crate) pg: Postgres,
    pub(crate) valkey: Valkey,
    /// `[valkey] timeout`.
    timeout: &'static str,
}

impl Fleet {
    /// With so many instances, which cover the present. They have the patience for a loaded machine.
    pub(crate) async fn new(pg: Postgres, schema: &str, pods: usize) -> Self {
        Self::with_timeout(pg, schema, pods, "5s").await
    }

    pub(crate) async fn with_timeout(
        mut pg: Postgres,
        schema: &str,
        pods: usize,
        timeout: &'static str,
    ) -> Self {
        pg.create_user("larder", "secret", Auth::Scram).unwrap();
        pg.sql("ALTER ROLE larder REPLICATION").unwrap();
        pg.sql(schema).unwrap();
        pg.sql("CREATE TABLE beside (n int)").unwrap();
        let valkey = Valkey::builder().start().unwrap();
        let mut fleet = Self { pods: Vec::new(), pg, valkey, timeout };
        for _ in 0..pods {
            fleet.grow(&[]).await;
        }
        fleet
    }

    /// One more instance; returns its number.
    pub(crate) async fn grow(&mut self, settings: &[&str]) -> usize {
        let pod = self.start(true, settings).await;
        self.pods.push(pod);
        self.pods.len() - 1
    }

    /// An instance that shares (or does not).
    pub(crate) async fn start(&self, shares: bool, settings: &[&str]) -> Larder {
        let origin = format!("postgres://larder:secret@{}/postgres", self.pg.addr());
        let mut builder = Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(&origin);
        let url = format!("valkey.url={}", self.valkey.url());
        let secret = format!("valkey.secret={SECRET}");
        let timeout = format!("valkey.timeout={}", self.timeout);
        let shared = [url.as_str(), &secret, "valkey.min_origin_time=0.001ms", &timeout];
        let shared = if shares { &shared[..] } else { &[] };
        for setting in shared.iter().chain(settings) {
            builder = builder.arg("--set").arg(*setting);
        }
        let larder = builder.start().await.unwrap();
        covered(&larder).await;
        larder
    }

    pub(crate) async fn client(&self, pod: usize) -> Client {
        Client::of(&self.pods[pod]).await
    }

    pub(crate) async fn direct(&self) -> Client {
        Client::login(self.pg.addr(), &Login::superuser()).await.unwrap()
    }

    /// Writes something beside the point, and waits until every instance has folded it in: what is filled from here on
    /// lies within the history of all of them.
    pub(crate) async fn settle(&self) {
        let mut direct = self.direct().await;
        direct.run("INSERT INTO beside VALUES (1)").await;
        let written = direct.value("SELECT pg_current_wal_insert_lsn()").await;
        let written = position(&written);
        for pod in &self.pods {
            let deadline = Instant::now() + LIMIT;
            loop {
                let status = status(pod).await;
                let applied = position(status["feed"]["applied"].as_str().unwrap());
                if applied >= written
                    && status["lease"]["holds"] == true
                    && status["shared"]["state"] == "sharing"
                {
                    break;
                }
                assert!(Instant::now() < deadline, "never settled: {status}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // What is said of the past; from here on every other key is an answer.
        self.more_than(0).await;
    }

    /// Waits until there are more keys in Valkey than that: nobody waits for a put.
    pub(crate) async fn more_than(&self, keys: usize) {
        let deadline = Instant::now() + LIMIT;
        while self.keys().len() <= keys {
            assert!(Instant::now() < deadline, "no more than {keys} keys in Valkey");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until this instance has learnt what changed before it came.
    pub(crate) async fn learnt(&self, pod: usize) {
        let deadline = Instant::now() + LIMIT;
        while status(&self.pods[pod]).await["shared"]["learnt"].as_u64().unwrap() == 0 {
            assert!(Instant::now() < deadline, "it never learns of the past");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A command to Valkey, and what it says.
    pub(crate) fn valkey(&self, command: &[&[u8]]) -> Reply {
        self.hand().ask(command)
    }

    /// A connection to Valkey.
    pub(crate) fn hand(&self) -> Resp {
        Resp::connect(&self.valkey)
    }

    /// The keys in Valkey.
    pub(crate) fn keys(&self) -> Vec<Vec<u8>> {
        match self.valkey(&[b"KEYS", b"*"]) {
            Reply::List(keys) => keys.into_iter().filter_map(Reply::bytes).collect(),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn position(text: &str) -> u64 {
    let (high, low) = text.split_once('/').unwrap();
    u64::from_str_radix(high, 16).unwrap() << 32 | u64::from_str_radix(low, 16).unwrap()
}

pub(crate) async fn status(pod: &Larder) -> serde_json::Value {
    serde_json::from_str(&pod.get("/api/v1/status").await.unwrap().1).unwrap()
}

/// Statements by outcome and tier, as the metrics say.
pub(crate) async fn queries(pod: &Larder) -> BTreeMap<String, u64> {
    let (_, text) = pod.get("/metrics").await.unwrap();
    let counted = |line: &str| {
        let rest = line.strip_prefix("larder_queries_total{outcome=\"")?;
        let (outcome, rest) = rest.split_once("\",tier=\"")?;
        let (tier, count) = rest.split_once("\"} ")?;
        Some((format!("{outcome} {tier}"), count.parse().unwrap()))
    };
    text.lines().filter_map(counted).collect()
}

/// Statements that the origin answered.
pub(crate) fn at_the_origin(queries: &BTreeMap<String, u64>) -> u64 {
    queries.iter().filter(|(label, _)| label.ends_with(" origin")).map(|(_, count)| count).sum()
}

/// What Valkey answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Text(String),
    Bytes(Option<Vec<u8>>),
    List(Vec<Self>),
}

impl Reply {
    pub(crate) fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }
}

/// A connection to Valkey, as thin as it can be.
pub(crate) struct Resp(std::io::BufReader<TcpStream>);

impl Resp {
    fn connect(valkey: &Valkey) -> Self {
        let stream = TcpStream::connect(valkey.addr()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        Self(std::io::BufReader::new(stream))
    }

    pub(crate) fn ask(&mut self, command: &[&[u8]]) -> Reply {
        let mut out = format!("*{}\r\n", command.len()).into_bytes();
        for part in command {
            out.extend(format!("${}\r\n", part.len()).into_bytes());
            out.extend_from_slice(part);
            out.extend(b"\r\n");
        }
        self.0.get_mut().write_all(&out).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> Reply {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut self.0, &mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "$" => match rest.parse::<i64>().unwrap() {
                -1 => Reply::Bytes(None),
                length => {
                    let mut bytes = vec![0; usize::try_from(length).unwrap() + 2];
                    self.0.read_exact(&mut bytes).unwrap();
                    bytes.truncate(bytes.len() - 2);
                    Reply::Bytes(Some(bytes))
                }
            },
            "*" => Reply::List((0..rest.parse::<usize>().unwrap()).map(|_| self.reply()).collect()),
            _ => Reply::Text(rest.to_owned()),
        }
    }
}

const SCHEMA: &str = "
    CREATE TABLE item (id int PRIMARY KEY, name text, price numeric);
    INSERT INTO item SELECT n, 'item ' || n, n * 1.5 FROM generate_series(0, 199) n;
    CREATE TABLE other (id int PRIMARY KEY, v int); INSERT INTO other VALUES (1, 1);";

#[tokio::test]
async fn what_one_filled_the_other_serves() {
    each_version(filled).await;
}

async fn filled(pg: Postgres) {
    let fleet = Fleet::new(pg, SCHEMA, 2).await;
    fleet.settle().await;
    let (mut one, mut two) = (fleet.client(0).await, fleet.client(1).await);
    let sql = "SELECT * FROM item WHERE id = $1";
    // The origin has to accept the statement once through each instance's worker; what it costs is learnt then, too.
    for how in Protocol::ALL {
        two.ask_with(how, sql, Some("199")).await;
    }
    for how in Protocol::ALL {
        // The extended protocol is one, however it is spoken: other values for each.
        let from = 20 * Protocol::ALL.iter().position(|other| *other == how).unwrap();
        for id in from..from + 20 {
            let (id, keys) = (id.to_string(), fleet.keys().len());
            let first = one.ask_with(how, sql, Some(&id)).await;
            assert!(first.how.starts_with("miss"), "{how:?} {}", first.how);
            let warm = one.warm(how, sql, Some(&id)).await;
            fleet.more_than(keys).await;
            let served = shared(&mut two, how, sql, Some(&id)).await;
            assert_eq!(served.frames, warm.frames, "{how:?} {}", served.how);
            let again = two.ask_with(how, sql, Some(&id)).await;
            assert!(again.how.starts_with("hit; tier=l1"), "{how:?} {}", again.how);
            assert_eq!(again.frames, warm.frames);
        }
    }
    let [first, second] = [queries(&fleet.pods[0]).await, queries(&fleet.pods[1]).await];
    println!("one {first:?}\ntwo {second:?}");
    assert!(second["hit l2"] >= 60, "{second:?}");
    assert_eq!(first["hit l2"], 0, "{first:?}");
    let (_, metrics) = fleet.pods[1].get("/metrics").await.unwrap();
    assert!(metrics.contains("larder_tier_refused_total{tier=\"l2\",reason=\"history\"}"), "{metrics}");
}

/// Asks an instance for what another has handed over.
async fn shared(
    client: &mut Client,
    how: Protocol,
    sql: &str,
    parameter: Option<&str>,
) -> crate::freshness::Served {
    let served = client.ask_with(how, sql, parameter).await;
    assert!(served.how.starts_with("hit; tier=l2"), "{how:?} {sql} {parameter:?}: {}", served.how);
    served
}

#[tokio::test]
async fn what_was_purged_here_does_not_come_back_from_there() {
    each_version(purged).await;
}

async fn purged(pg: Postgres) {
    let mut fleet = Fleet::new(pg, SCHEMA, 1).await;
    let purging = fleet.grow(&["admin.token=token"]).await;
    fleet.settle().await;
    let sql = "SELECT * FROM item WHERE id = $1";
    let mut filler = fleet.client(0).await;
    let mut client = fleet.client(purging).await;
    client.ask_with(Protocol::Simple, sql, Some("199")).await;
    for (n, body) in [r#"{"all":true}"#, r#"{"table":"item"}"#].into_iter().enumerate() {
        // Two answers in Valkey; one of them in memory, too.
        let ids = [2 * n, 2 * n + 1].map(|id| id.to_string());
        for id in &ids {
            let keys = fleet.keys().len();
            filler.warm(Protocol::Simple, sql, Some(id)).await;
            fleet.more_than(keys).await;
        }
        shared(&mut client, Protocol::Simple, sql, Some(&ids[0])).await;
        let (status, said) = fleet.pods[purging].post("/api/v1/purge", "token", body).await.unwrap();
        assert_eq!(status, 200, "{said}");
        for id in &ids {
            let asked = client.ask_with(Protocol::Simple, sql, Some(id)).await;
            assert!(asked.how.starts_with("miss"), "{body} {id}: {}", asked.how);
            // The other instance was not asked to forget anything.
            let kept = filler.ask_with(Protocol::Simple, sql, Some(id)).await;
            assert!(kept.how.starts_with("hit; tier=l1"), "{body} {id}: {}", kept.how);
        }
    }
    // What is filled after a purge is shared as ever.
    let keys = fleet.keys().len();
    filler.warm(Protocol::Simple, sql, Some("100")).await;
    fleet.more_than(keys).await;
    shared(&mut client, Protocol::Simple, sql, Some("100")).await;
}

#[tokio::test]
async fn one_that_comes_later_is_warm() {
    each_version(warm).await;
}

async fn warm(pg: Postgres) {
    const KEYS: usize = 200;
    const ASKED: usize = 1500;
    let mut fleet = Fleet::new(pg, SCHEMA, 2).await;
    fleet.settle().await;
    // Skewed: a few are asked for most of the time.
    let sequence: Vec<String> =
        (0..ASKED).map(|n| (n * n * 7919 % KEYS * ((n * 31) % KEYS) / KEYS).to_string()).collect();
    let mut ratios = Vec::new();
    for pod in 0..2 {
        let before = queries(&fleet.pods[pod]).await;
        ask_all(&fleet.pods[pod], &sequence).await;
        ask_all(&fleet.pods[pod], &sequence).await;
        let after = queries(&fleet.pods[pod]).await;
        ratios.push(ratio(&before, &after));
    }
    // The log goes on while the third one starts: nothing of what was filled is touched by it.
    fleet.settle().await;
    let third = fleet.grow(&[]).await;
    fleet.settle().await;
    fleet.learnt(third).await;
    let alone = fleet.start(false, &[]).await;
    let mut origin = Vec::new();
    let mut late = Vec::new();
    for pod in [&fleet.pods[third], &alone] {
        let before = queries(pod).await;
        ask_all(pod, &sequence).await;
        let after = queries(pod).await;
        origin.push(at_the_origin(&after) - at_the_origin(&before));
        late.push(ratio(&before, &after));
    }
    let [with, without] = origin[..] else { unreachable!() };
    println!(
        "hit ratio of the fleet {ratios:.3?}, of a third one at first {:.3}, without sharing {:.3}; \
         its queries to the origin {with} against {without} ({:.1} %)",
        late[0],
        late[1],
        100.0 * with as f64 / without as f64
    );
    let fleets = ratios.iter().sum::<f64>() / 2.0;
    assert!(late[0] >= 0.9 * fleets, "{late:?} {ratios:?}");
    assert!((with as f64) < 0.05 * without as f64, "{with} {without}");
}

async fn ask_all(pod: &Larder, sequence: &[String]) {
    let mut client = Client::of(pod).await;
    for id in sequence {
        client.try_ask(Protocol::Simple, "SELECT * FROM item WHERE id = $1", Some(id)).await.unwrap();
    }
}

fn ratio(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> f64 {
    let grown = |label: &&String| after[*label] - before[*label];
    let all: u64 = after.keys().map(|label| grown(&label)).sum();
    let origin = at_the_origin(after) - at_the_origin(before);
    1.0 - origin as f64 / all as f64
}

#[tokio::test]
async fn a_write_through_one_ends_what_the_other_shared() {
    each_version(written).await;
}

async fn written(pg: Postgres) {
    let fleet = Fleet::new(pg, SCHEMA, 2).await;
    fleet.settle().await;
    let (mut one, mut two) = (fleet.client(0).await, fleet.client(1).await);
    let mut direct = fleet.direct().await;
    let sql = "SELECT v FROM other WHERE id = 1";
    let mut taken = 0;
    for n in 2..60_i64 {
        // One fills, both have it; then somebody writes.
        one.warm(Protocol::Simple, sql, None).await;
        // Nobody waits for a put; most arrive in this time.
        tokio::time::sleep(Duration::from_millis(10)).await;
        taken += u64::from(two.ask(sql).await.how.contains("tier=l2"));
        let update = format!("UPDATE other SET v = {n}");
        match n % 3 {
            0 => one.run(&update).await,
            1 => two.run(&update).await,
            _ => direct.run(&update).await,
        }
        // Whoever wrote through an instance reads the write there, whatever lies in Valkey.
        match n % 3 {
            0 => assert_eq!(one.ask(sql).await.number(), n),
            1 => assert_eq!(two.ask(sql).await.number(), n),
            _ => {}
        }
        let written = Instant::now();
        for client in [&mut one, &mut two] {
            while client.ask(sql).await.number() != n {
                assert!(written.elapsed() < crate::freshness::MAX_LAG + crate::freshness::SLACK);
            }
        }
    }
    println!("taken over {taken} times");
    assert!(taken > 0, "{taken}");
}

#[tokio::test]
async fn ddl_between_instances() {
    each_version(ddl).await;
}

async fn ddl(pg: Postgres) {
    let fleet = Fleet::new(pg, SCHEMA, 2).await;
    fleet.settle().await;
    let mut direct = fleet.direct().await;
    let sql = "SELECT * FROM other";
    for change in [
        "ALTER TABLE other ADD COLUMN extra int DEFAULT 7",
        "BEGIN; UPDATE other SET extra = 8; ALTER TABLE other RENAME COLUMN extra TO more; COMMIT",
        "CREATE TABLE away (LIKE other); BEGIN; ALTER TABLE other RENAME TO kept; ALTER TABLE away RENAME TO other; COMMIT",
        "BEGIN; ALTER TABLE other RENAME TO away; ALTER TABLE kept RENAME TO other; COMMIT; DROP TABLE away",
        "ALTER TABLE other DROP COLUMN more",
    ] {
        for pod in 0..2 {
            fleet.client(pod).await.warm(Protocol::Simple, sql, None).await;
        }
        direct.run(change).await;
        let (expected, changed) = (direct.raw.query(sql).await.unwrap(), Instant::now());
        // One sees it first, and hands over what it sees; the other must never go back after it has seen it.
        let (mut one, mut two) = (fleet.client(0).await, fleet.client(1).await);
        for client in [&mut one, &mut two] {
            while client.ask(sql).await.frames != expected {
                assert!(changed.elapsed() < crate::freshness::MAX_LAG + crate::freshness::SLACK, "{change}");
            }
        }
        for _ in 0..20 {
            for client in [&mut one, &mut two] {
                assert_eq!(client.ask(sql).await.frames, expected, "{change}");
            }
        }
    }
}

#[tokio::test]
async fn another_life_of_the_origin_shares_nothing_with_the_old_one() {
    each_version(restarted).await;
}

async fn restarted(pg: Postgres) {
    let mut fleet = Fleet::new(pg, SCHEMA, 2).await;
    fleet.settle().await;
    let sql = "SELECT v FROM other";
    let keys = fleet.keys().len();
    fleet.client(0).await.warm(Protocol::Simple, sql, None).await;
    fleet.more_than(keys).await;
    shared(&mut fleet.client(1).await, Protocol::Simple, sql, None).await;
    let before = queries(&fleet.pods[1]).await;
    fleet.pg.restart().unwrap();
    for pod in &fleet.pods {
        covered(pod).await;
    }
    let old = fleet.keys().len();
    fleet.settle().await;
    // What was stored before is of another life, and so is what was said: there will be a new one.
    fleet.more_than(old).await;
    let how = fleet.client(1).await.ask(sql).await.how;
    assert!(how.starts_with("miss"), "{how}");
    assert_eq!(queries(&fleet.pods[1]).await["hit l2"], before["hit l2"]);
    let (keys, mut one) = (fleet.keys().len(), fleet.client(0).await);
    let mut two = fleet.client(1).await;
    two.warm(Protocol::Simple, "SELECT v + 1 FROM other", None).await;
    fleet.more_than(keys).await;
    shared(&mut one, Protocol::Simple, "SELECT v + 1 FROM other", None).await;
}

const TENANTS: &str = "
    CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN;
    CREATE TABLE note (id int, tenant int, text text);
    INSERT INTO note SELECT n, n % 2, 'note ' || n FROM generate_series(0, 9) n;
    ALTER TABLE note ENABLE ROW LEVEL SECURITY;
    CREATE POLICY p ON note USING (tenant = current_setting('app.tenant', true)::int);
    CREATE TABLE free (d date); INSERT INTO free VALUES ('2026-11-23');
    GRANT SELECT ON note, free TO ann, bob;";

#[tokio::test]
async fn nothing_crosses_roles_tenants_or_settings() {
    each_version(apart).await;
}

async fn apart(pg: Postgres) {
    let fleet = Fleet::new(pg, TENANTS, 2).await;
    fleet.settle().await;
    let login = |user: &str| Login::new(user, "postgres");
    let (notes, dates) = ("SELECT id, text FROM note ORDER BY id", "SELECT d FROM free");
    // Everything that one instance may have filled, for each user, tenant and setting; then the other is asked, and the
    // origin, which must agree.
    let mut from_others = 0;
    for round in 0..2 {
        for (user, tenant, style) in [
            ("ann", "0", "ISO"),
            ("ann", "1", "ISO"),
            ("bob", "0", "German"),
            ("ann", "0", "SQL"),
            ("eve", "1", "ISO"),
        ] {
            let mut clients = Vec::new();
            for addr in [fleet.pods[round].addr(), fleet.pods[1 - round].addr(), fleet.pg.addr()] {
                let mut client = Client::login(addr, &login(user)).await.unwrap();
                client.run(&format!("SET app.tenant = '{tenant}'; SET datestyle = '{style}'")).await;
                clients.push(client);
            }
            for sql in [notes, dates] {
                let expected = clients[2].raw.query(sql).await.unwrap();
                for client in &mut clients[..2] {
                    for _ in 0..3 {
                        let served = client.ask(sql).await;
                        assert_eq!(served.frames, expected, "{user} {tenant} {style} {sql}: {}", served.how);
                        from_others += u64::from(served.how.contains("tier=l2"));
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
    println!("{from_others} answers from the other instance");
    assert!(from_others >= 4, "{from_others}");
}

#[tokio::test]
async fn cheap_answers_are_not_worth_the_trip() {
    each_version(cheap).await;
}

async fn cheap(pg: Postgres) {
    let mut fleet = Fleet::new(pg, SCHEMA, 0).await;
    let pod = fleet.grow(&["valkey.min_origin_time=10s"]).await;
    let mut client = fleet.client(pod).await;
    for id in 0..20 {
        client.warm(Protocol::Prepared, "SELECT * FROM item WHERE id = $1", Some(&id.to_string())).await;
    }
    // What is said of the past arrives in time; were there answers, they would have come before.
    fleet.more_than(0).await;
    fleet.settle().await;
    let keys = fleet.keys();
    assert_eq!(keys.len(), 1, "{keys:?}");
}
