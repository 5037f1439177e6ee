//! The two-tenant torture: pooled connections whose role, tenant, search path and formats are switched at random, by
//! every statement that can do it, in and out of transactions, before a warm cache that all share. Every answer is
//! compared with the origin's for the same state.
//!
//! `LARDER_TEST_ANSWERS` sets how many answers (per version), `LARDER_TEST_SEED` the seed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use larder_testkit::{Frame, PgVersion, RawClient, frame, pg};

use crate::freshness::Rig;
use crate::transparency::metric;
use crate::twins;

const ANSWERS: u64 = 30_000;
const CONNECTIONS: u64 = 8;
/// One question in so many is sent piece by piece.
const SLOW: u32 = 50;
/// Of so many answers one in five at least comes from memory, or the test proves little.
const LEAST_HITS: f64 = 0.2;

const SCHEMA: &str = "
    CREATE ROLE one LOGIN; CREATE ROLE two LOGIN; CREATE ROLE viewer; CREATE ROLE guru BYPASSRLS;
    GRANT viewer, guru TO one, two;
    CREATE SCHEMA s1; CREATE SCHEMA s2; GRANT USAGE ON SCHEMA s1, s2 TO public;
    CREATE TABLE public.item (id int, name text); INSERT INTO public.item VALUES (1, 'of public'), (2, 'also');
    CREATE TABLE s1.item (id int, name text); INSERT INTO s1.item VALUES (1, 'of s1'), (3, 'also');
    CREATE TABLE s2.item (id int, name text); INSERT INTO s2.item VALUES (1, 'of s2'), (4, 'also');
    CREATE TABLE doc (id int PRIMARY KEY, tenant text, body text);
    INSERT INTO doc SELECT i, 't' || i % 3, 'body ' || i FROM generate_series(1, 12) i;
    ALTER TABLE doc ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON doc USING (tenant = current_setting('app.tenant', true));
    CREATE TABLE note (id int PRIMARY KEY, tenant text, author text);
    INSERT INTO note SELECT i, 't' || i % 3, CASE i % 2 WHEN 0 THEN 'one' ELSE 'two' END FROM generate_series(1, 12) i;
    ALTER TABLE note ENABLE ROW LEVEL SECURITY;
    CREATE POLICY author ON note TO one, two USING (author = session_user);
    CREATE POLICY tenant ON note AS RESTRICTIVE USING
        (EXISTS (SELECT FROM doc WHERE doc.tenant = note.tenant) OR current_setting('app.tenant', true) = '');
    CREATE TABLE event (id int, at timestamptz, day date, f float8);
    INSERT INTO event SELECT i, '2024-02-03 04:05:06+00'::timestamptz + i * interval '5 hours', '2024-02-03'::date + i, i / 3.0
        FROM generate_series(1, 4) i;
    CREATE TABLE secret (id int, v text); INSERT INTO secret VALUES (1, 'for one only');
    CREATE TABLE country (id int, name text); INSERT INTO country VALUES (1, 'for all');
    CREATE VIEW doc_of_definer AS SELECT id, body FROM doc;
    CREATE VIEW doc_of_invoker WITH (security_invoker) AS SELECT id, body FROM doc;
    GRANT SELECT ON ALL TABLES IN SCHEMA public, s1, s2 TO public; REVOKE ALL ON secret FROM public; GRANT SELECT ON secret TO one;";

const QUERIES: &[&str] = &[
    "SELECT id, tenant, body FROM doc ORDER BY id",
    "SELECT body FROM doc WHERE id = 4",
    "SELECT count(*), min(tenant), max(tenant) FROM doc",
    "SELECT * FROM note ORDER BY id",
    "SELECT * FROM item ORDER BY id",
    "SELECT i.name, d.body FROM item i JOIN doc d USING (id) ORDER BY 1, 2",
    "SELECT id, at, day, f FROM event ORDER BY id",
    "SELECT to_char(at, 'YYYY-MM-DD HH24:MI TZ'), at::text, day::text FROM event ORDER BY id",
    "SELECT current_user, session_user, coalesce(current_setting('app.tenant', true), ''), current_setting('TimeZone')",
    "SELECT current_schema(), current_setting('DateStyle')",
    "SELECT * FROM secret",
    "SELECT name FROM country",
    "SELECT * FROM doc_of_definer ORDER BY id",
    "SELECT * FROM doc_of_invoker ORDER BY id",
];

/// A setting and its values; the first is what a connection starts with.
const SETTINGS: &[(&str, &[&str])] = &[
    ("role", &["none", "viewer", "guru"]),
    ("app.tenant", &["", "t0", "t1", "t2"]),
    ("search_path", &["public", "s1, public", "s2, public"]),
    ("TimeZone", &["UTC", "Asia/Tokyo"]),
    ("DateStyle", &["ISO, MDY", "German, DMY"]),
    ("row_security", &["on", "off"]),
];
const ROLE: usize = 0;
/// How many values of each a run of less than [`WIDE`] answers uses.
const NARROW: [usize; SETTINGS.len()] = [2, 3, 2, 2, 1, 2];
const WIDE: u64 = 300_000;

/// The value of each setting, by position in [`SETTINGS`].
type Values = [usize; SETTINGS.len()];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum How {
    Simple,
    Unnamed,
    Prepared,
    Binary,
}

const HOWS: [How; 4] = [How::Simple, How::Unnamed, How::Prepared, How::Binary];

/// What is kept of an answer: columns if they were told, rows, tag or error.
#[derive(Clone, Debug)]
struct Answer {
    columns: Option<Frame>,
    rest: Vec<Frame>,
}

impl Answer {
    fn of(frames: &[Frame]) -> Self {
        let columns = frames.iter().find(|frame| frame.tag == b'T').cloned();
        let rest = frames.iter().filter(|frame| matches!(frame.tag, b'D' | b'C' | b'E' | b'N')).cloned();
        Self { columns, rest: rest.collect() }
    }

    fn is(&self, other: &Self) -> bool {
        let told = self.columns.is_none() || other.columns.is_none() || self.columns == other.columns;
        told && self.rest == other.rest
    }
}

/// The origin's answers, by user, state, query and protocol.
type Truth = Arc<Mutex<HashMap<(bool, Values, usize, How), Answer>>>;

/// PostgreSQL's rules for settings, as far as they are used here.
#[derive(Clone, Debug)]
struct Model {
    now: Values,
    /// What COMMIT leaves.
    session: Values,
    /// What RESET leaves.
    initial: Values,
    /// As they were at BEGIN, and at each savepoint.
    marks: Vec<(Values, Values)>,
    failed: bool,
}

impl Model {
    fn new(initial: Values) -> Self {
        Self { now: initial, session: initial, initial, marks: vec![], failed: false }
    }

    fn in_transaction(&self) -> bool {
        !self.marks.is_empty()
    }

    fn set(&mut self, setting: usize, value: usize, local: bool) {
        if local && !self.in_transaction() {
            return;
        }
        self.now[setting] = value;
        if !local {
            self.session[setting] = value;
        }
    }

    fn end(&mut self, commit: bool) {
        match self.marks.first().copied() {
            Some((now, session)) if !commit || self.failed => (self.now, self.session) = (now, session),
            _ => self.now = self.session,
        }
        (self.marks, self.failed) = (vec![], false);
    }
}

/// One pooled connection.
struct Pooled {
    client: RawClient,
    direct: RawClient,
    /// The user is `one`.
    one: bool,
    addr: std::net::SocketAddr,
    model: Model,
    prepared: Vec<bool>,
    wide: bool,
    random: fastrand::Rng,
    truth: Truth,
    steps: Vec<String>,
}

impl Pooled {
    async fn connect(rig: &Rig, one: bool, wide: bool, seed: u64, truth: Truth) -> Self {
        let user = if one { "one" } else { "two" };
        let addr = rig.larder.addr();
        let client = RawClient::login(addr, &twins::login(user)).await.unwrap();
        let mut direct = RawClient::login(rig.pg.addr(), &twins::login(user)).await.unwrap();
        direct.rows("SET search_path = public").await.unwrap();
        let random = fastrand::Rng::with_seed(seed);
        let model = Model::new([0; SETTINGS.len()]);
        let prepared = vec![false; QUERIES.len()];
        let mut pooled =
            Self { client, direct, one, addr, model, prepared, wide, random, truth, steps: vec![] };
        pooled.reconnect().await;
        pooled
    }

    /// A new connection, with settings in its startup message.
    async fn reconnect(&mut self) {
        let mut initial = [0; SETTINGS.len()];
        let mut options = String::new();
        for (setting, (name, values)) in SETTINGS.iter().enumerate().skip(1) {
            initial[setting] = self.value(setting);
            let value = values[initial[setting]].replace(' ', "\\ ");
            options += &format!("-c {name}={value} ");
        }
        let login = twins::login(if self.one { "one" } else { "two" }).parameter("options", &options);
        self.client = RawClient::login(self.addr, &login).await.unwrap();
        self.model = Model::new(initial);
        self.prepared.fill(false);
        self.steps = vec![format!("connect with {options}")];
    }

    /// Some values are common, others rare: as among customers.
    fn value(&mut self, setting: usize) -> usize {
        let values = SETTINGS[setting].1.len();
        // A short run does not come round to all states often enough for hits.
        let values = if self.wide { values } else { values.min(NARROW[setting]) };
        match self.random.u32(..10) {
            0..7 => usize::from(setting == 1),
            _ => self.random.usize(..values),
        }
    }

    async fn run(&mut self, sql: &str) -> Vec<Frame> {
        self.steps.push(sql.to_owned());
        self.client.query(sql).await.unwrap_or_else(|error| panic!("{error:#} after {:?}", self.steps))
    }

    /// A statement that changes the state.
    async fn switch(&mut self) {
        if self.model.failed {
            return self.recover().await;
        }
        match self.random.u32(..40) {
            0..22 => self.set().await,
            22..29 if !self.model.in_transaction() => {
                self.model.marks.push((self.model.now, self.model.session));
                let begins = [
                    "BEGIN",
                    "BEGIN READ ONLY",
                    "START TRANSACTION",
                    "BEGIN ISOLATION LEVEL REPEATABLE READ",
                ];
                let begin = begins[self.random.usize(..20).saturating_sub(16)];
                self.run(begin).await;
            }
            22..27 => {
                let commit = self.random.u32(..3) > 0;
                self.model.end(commit);
                self.run(if commit { "COMMIT" } else { "ROLLBACK" }).await;
            }
            27..29 => {
                let depth = self.model.marks.len();
                self.model.marks.push((self.model.now, self.model.session));
                self.run(&format!("SAVEPOINT s{depth}")).await;
            }
            29..31 if self.model.marks.len() > 1 => self.back().await,
            31 if self.model.marks.len() > 1 => {
                self.model.marks.pop();
                let depth = self.model.marks.len();
                self.run(&format!("RELEASE s{depth}")).await;
            }
            32..34 => {
                // RESET ALL leaves the role alone.
                let role = (self.model.now[ROLE], self.model.session[ROLE]);
                (self.model.now, self.model.session) = (self.model.initial, self.model.initial);
                (self.model.now[ROLE], self.model.session[ROLE]) = role;
                self.run("RESET ALL").await;
            }
            34 if !self.model.in_transaction() => {
                (self.model.now, self.model.session) = (self.model.initial, self.model.initial);
                self.prepared.fill(false);
                self.run("DISCARD ALL").await;
            }
            35 if self.model.in_transaction() => {
                self.model.failed = true;
                self.run("SELECT 1/0").await;
            }
            36 if !self.model.in_transaction() && self.random.u32(..10) == 0 => self.reconnect().await,
            37 if self.model.in_transaction() => {
                self.model.end(true);
                self.model.marks.push((self.model.now, self.model.session));
                self.run("COMMIT AND CHAIN").await;
            }
            _ => {}
        }
    }

    /// Out of a failed transaction.
    async fn recover(&mut self) {
        if self.model.marks.len() > 1 && self.random.bool() {
            return self.back().await;
        }
        let commit = self.random.bool();
        self.model.end(commit);
        self.run(if commit { "COMMIT" } else { "ROLLBACK" }).await;
    }

    /// ROLLBACK TO a savepoint.
    async fn back(&mut self) {
        let mark = self.random.usize(1..self.model.marks.len());
        (self.model.now, self.model.session) = self.model.marks[mark];
        self.model.marks.truncate(mark + 1);
        self.model.failed = false;
        self.run(&format!("ROLLBACK TO s{mark}")).await;
    }

    async fn set(&mut self) {
        let setting = [0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5][self.random.usize(..15)];
        let value = self.value(setting);
        let (name, values) = SETTINGS[setting];
        let local = self.random.bool();
        let scope = if local { "LOCAL" } else { "SESSION" };
        let text = values[value];
        match self.random.u32(..100) {
            0..40 => {
                self.model.set(setting, value, local);
                let quoted = if setting == 2 { text.to_owned() } else { format!("'{text}'") };
                self.run(&format!("SET {scope} {name} = {quoted}")).await;
            }
            40..52 => {
                self.model.set(setting, value, local);
                self.run(&format!("SELECT set_config('{name}', '{text}', {local})")).await;
            }
            52..75 => {
                self.model.set(setting, value, local);
                self.steps.push(format!("set_config({name}, {text}, {local})"));
                let local = if local { "true" } else { "false" };
                let sql = "SELECT set_config($1, $2, $3)";
                self.client.extended(sql, &[Some(name), Some(text), Some(local)]).await.unwrap();
            }
            75 => {
                // It may have done anything: for a moment nobody hits.
                self.model.set(setting, value, local);
                self.run(&format!("DO $$ BEGIN PERFORM set_config('{name}', '{text}', {local}); END $$"))
                    .await;
            }
            76..88 => {
                self.model.set(setting, self.model.initial[setting], false);
                self.run(&format!("RESET {name}")).await;
            }
            _ => {
                // One simple query is one transaction, and SET LOCAL in it lasts as long.
                self.model.set(setting, value, false);
                self.run(&format!("SELECT 1; SELECT set_config('{name}', '{text}', false)")).await;
            }
        }
    }

    async fn check(&mut self) {
        let query = self.random.usize(..QUERIES.len());
        let how = HOWS[self.random.usize(..HOWS.len())];
        let slow = (self.random.u32(..SLOW) == 0).then_some(&mut self.random);
        let frames = ask(&mut self.client, how, query, self.prepared[query], slow).await;
        let parsed = frames.iter().any(|frame| frame.tag == b'1');
        self.prepared[query] |= how == How::Prepared && parsed;
        let found = Answer::of(&frames);
        let expected = if self.model.failed {
            assert_eq!(found.rest[0].field(b'C').as_deref(), Some("25P02"), "after {:?}", self.steps);
            return;
        } else {
            self.expected(query, how).await
        };
        assert!(
            found.is(&expected),
            "{how:?} {}: found {found:?}, expected {expected:?}, in {:?}, after {:?}",
            QUERIES[query],
            self.model,
            self.steps
        );
        // A failed statement fails its transaction.
        self.model.failed = self.model.in_transaction() && found.rest.iter().any(|frame| frame.tag == b'E');
        if self.steps.len() > 40 && !self.model.in_transaction() {
            self.steps.clear();
        }
    }

    /// What the origin says in this state, asked once on a connection that does not pass through Larder.
    async fn expected(&mut self, query: usize, how: How) -> Answer {
        let key = (self.one, self.model.now, query, how);
        if let Some(known) = self.truth.lock().unwrap().get(&key) {
            return known.clone();
        }
        let settings = SETTINGS.iter().zip(self.model.now);
        let calls: Vec<_> = settings
            .map(|((name, values), value)| format!("set_config('{name}', '{}', false)", values[value]))
            .collect();
        self.direct.rows(&format!("SELECT {}", calls.join(", "))).await.unwrap();
        let answer = Answer::of(&ask(&mut self.direct, how, query, false, None).await);
        if how == How::Prepared {
            self.direct.rows("DEALLOCATE ALL").await.unwrap();
        }
        self.truth.lock().unwrap().insert(key, answer.clone());
        answer
    }
}

/// `slow`: the messages come in pieces, cut anywhere, with time in between; others are served meanwhile.
async fn ask(
    client: &mut RawClient,
    how: How,
    query: usize,
    prepared: bool,
    slow: Option<&mut fastrand::Rng>,
) -> Vec<Frame> {
    let (sql, name) = (QUERIES[query], format!("q{query}"));
    let end = || [frame::execute("", 0), frame::sync()];
    let messages = match how {
        How::Simple => vec![frame::query(sql)],
        How::Unnamed => [
            vec![frame::parse("", sql, &[]), frame::bind("", "", &[]), frame::describe_portal("")],
            end().to_vec(),
        ]
        .concat(),
        How::Binary => [
            vec![
                frame::parse("", sql, &[]),
                frame::bind_formats("", "", &[], &[], &[1]),
                frame::describe_portal(""),
            ],
            end().to_vec(),
        ]
        .concat(),
        How::Prepared => {
            let parse = [frame::parse(&name, sql, &[]), frame::describe_statement(&name)];
            let parse = if prepared { vec![] } else { parse.to_vec() };
            [parse, vec![frame::bind("", &name, &[])], end().to_vec()].concat()
        }
    };
    match slow {
        None => client.send_all(&messages).await.unwrap(),
        Some(random) => send_slowly(client, &messages.concat(), random).await,
    }
    client.until_ready().await.unwrap()
}

async fn send_slowly(client: &mut RawClient, mut bytes: &[u8], random: &mut fastrand::Rng) {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(random.usize(1..=bytes.len()));
        client.send(piece).await.unwrap();
        // The last pause is a client that is slow to read.
        tokio::time::sleep(std::time::Duration::from_micros(random.u64(..2000))).await;
        bytes = rest;
    }
}

async fn torture(version: PgVersion, answers: u64, seed: u64) {
    let rig = Arc::new(twins::rig(pg(version), SCHEMA).await);
    let truth = Truth::default();
    let hit = "larder_queries_total{outcome=\"hit\",tier=\"l1\"} ";
    let before = metric(&rig.larder, hit).await;
    let start = std::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        let (rig, truth) = (Arc::clone(&rig), Arc::clone(&truth));
        tasks.spawn(async move {
            let mut pooled =
                Pooled::connect(&rig, number % 2 == 0, answers >= WIDE, seed + number, truth).await;
            for _ in 0..answers / CONNECTIONS {
                while pooled.random.u32(..4) == 0 {
                    pooled.switch().await;
                }
                pooled.check().await;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    let hits = metric(&rig.larder, hit).await - before;
    let states = truth.lock().unwrap().len();
    eprintln!(
        "{version}: {answers} answers to {states} different questions in {:.0?}, {hits} from memory, seed {seed}",
        start.elapsed()
    );
    let (_, metrics) = rig.larder.get("/metrics").await.unwrap();
    for line in metrics.lines() {
        let told = [
            "larder_bypass_total",
            "larder_miss_total",
            "larder_fill_discarded_total",
            "larder_queries_total",
        ];
        if told.iter().any(|name| line.starts_with(name)) && !line.ends_with(" 0") {
            eprintln!("{line}");
        }
    }
    assert!(hits as f64 > answers as f64 * LEAST_HITS, "{hits} hits in {answers} answers prove little");
}

#[tokio::test]
async fn two_tenants_never_see_each_others_answers_on_15() {
    tortured(PgVersion::V15).await;
}

#[tokio::test]
async fn two_tenants_never_see_each_others_answers_on_18() {
    tortured(PgVersion::V18).await;
}

async fn tortured(version: PgVersion) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let answers = number("LARDER_TEST_ANSWERS").unwrap_or(ANSWERS);
    let seed = number("LARDER_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    torture(version, answers, seed).await;
}
