//! Rows as tags against an oracle: random statements and random changes, and after each change what comes from memory is
//! what the origin says. Misses that no change asked for are counted by the statement's shape.
//!
//! `LARDER_TEST_CHANGES` changes (of each kind of run), from `LARDER_TEST_SEED` on.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;
use larder_testkit::{Postgres, each_version};

use crate::freshness::{Client, Protocol, Rig, number};

/// Values of columns are drawn from so many: most changes concern something that is in memory.
const VALUES: i64 = 12;
/// Statements asked after each change.
const READS: usize = 6;

const SCHEMA: &str = "
    CREATE TABLE a (id int PRIMARY KEY, k bigint NOT NULL, t text, u uuid, v int);
    CREATE INDEX ON a (k);
    CREATE TABLE b (id bigint PRIMARY KEY, a_id int, kind varchar(8), n numeric, d date, flag bool);
    CREATE TABLE pair (x int, y text, v int, PRIMARY KEY (x, y));
    CREATE TABLE p (v int, id int NOT NULL, part int NOT NULL) PARTITION BY LIST (part);
    CREATE TABLE p0 PARTITION OF p FOR VALUES IN (0);
    CREATE TABLE p1 (part int NOT NULL, id int NOT NULL, v int);
    ALTER TABLE p ATTACH PARTITION p1 FOR VALUES IN (1);";

/// The tables whose replica identity varies, with an index that could be one.
const TABLES: [(&str, &str); 5] = [
    ("a", "CREATE UNIQUE INDEX a_other ON a (id, k)"),
    ("b", "CREATE UNIQUE INDEX b_other ON b (id)"),
    ("pair", "CREATE UNIQUE INDEX pair_other ON pair (y, x)"),
    ("p0", "CREATE UNIQUE INDEX p0_other ON p0 (id)"),
    ("p1", "CREATE UNIQUE INDEX p1_other ON p1 (id)"),
];

/// Statements; `{i}` is an integer, `{t}` a text, `{u}` a uuid, `{n}` a numeric, `{d}` a date, `{b}` a boolean, `{a}` an array.
/// With each: what shows every row that the statement names, and whether it was written (empty: any row may matter to it).
const SHAPES: &[(&str, &str)] = &[
    ("SELECT * FROM a WHERE id = {i}", "SELECT xmin, ctid, * FROM a WHERE id = {1}"),
    ("SELECT id, v FROM a WHERE k = {i} ORDER BY id", "SELECT xmin, ctid, * FROM a WHERE k = {1}"),
    ("SELECT count(*), sum(v) FROM a WHERE t = {t}", "SELECT xmin, ctid, * FROM a WHERE t = {1}"),
    ("SELECT id FROM a WHERE u = {u} ORDER BY id", "SELECT xmin, ctid, * FROM a WHERE u = {1}"),
    (
        "SELECT * FROM a WHERE id IN ({i}, {i}) ORDER BY id",
        "SELECT xmin, ctid, * FROM a WHERE id IN ({1}, {2})",
    ),
    ("SELECT * FROM a WHERE id = ANY({a}) ORDER BY id", "SELECT xmin, ctid, * FROM a WHERE id = ANY({1})"),
    (
        "SELECT id FROM a WHERE k = {i} AND v > 4 ORDER BY v, id LIMIT 2",
        "SELECT xmin, ctid, * FROM a WHERE k = {1}",
    ),
    (
        "SELECT * FROM b WHERE a_id = {i} AND kind = {t} ORDER BY id",
        "SELECT xmin, ctid, * FROM b WHERE a_id = {1} AND kind = {2}",
    ),
    ("SELECT id FROM b WHERE n = {n} ORDER BY id", "SELECT xmin, ctid, * FROM b WHERE n = {1}"),
    ("SELECT id FROM b WHERE d = {d} ORDER BY id", "SELECT xmin, ctid, * FROM b WHERE d = {1}"),
    (
        "SELECT count(*) FROM b WHERE flag = {b} AND a_id = {i}",
        "SELECT xmin, ctid, * FROM b WHERE flag = {1} AND a_id = {2}",
    ),
    (
        "SELECT a.id, a.v, b.id FROM a JOIN b ON b.a_id = a.id WHERE a.id = {i} ORDER BY 1, 3",
        "SELECT xmin, ctid, * FROM a WHERE id = {1}; SELECT xmin, ctid, * FROM b WHERE a_id = {1}",
    ),
    (
        "SELECT a.id, b.n FROM a LEFT JOIN b ON b.a_id = a.id AND b.kind = {t} WHERE a.id = {i} ORDER BY 1, 2",
        "SELECT xmin, ctid, * FROM a WHERE id = {2}; SELECT xmin, ctid, * FROM b WHERE a_id = {2} AND kind = {1}",
    ),
    (
        "SELECT b.id, b.n FROM a RIGHT JOIN b ON b.a_id = a.id AND a.k = {i} WHERE b.id = {i} ORDER BY 1, 2",
        "SELECT xmin, ctid, * FROM a WHERE k = {1}; SELECT xmin, ctid, * FROM b WHERE id = {2}",
    ),
    ("SELECT a.id, b.id FROM a FULL JOIN b ON b.a_id = a.id WHERE a.id = {i} ORDER BY 1, 2", ""),
    (
        "SELECT * FROM pair WHERE x = {i} AND y = {t}",
        "SELECT xmin, ctid, * FROM pair WHERE x = {1} AND y = {2}",
    ),
    ("SELECT sum(v) FROM pair WHERE y = {t}", "SELECT xmin, ctid, * FROM pair WHERE y = {1}"),
    ("SELECT v, part FROM p WHERE id = {i} ORDER BY 1, 2", "SELECT xmin, ctid, * FROM p WHERE id = {1}"),
    (
        "SELECT count(*) FROM p WHERE part = 1 AND id = {i}",
        "SELECT xmin, ctid, * FROM p WHERE part = 1 AND id = {1}",
    ),
    ("SELECT count(*) FROM p1 WHERE v = {i}", "SELECT xmin, ctid, * FROM p1 WHERE v = {1}"),
    (
        "SELECT 1 FROM a WHERE id = {i} AND EXISTS (SELECT 1 FROM b WHERE a_id = {i})",
        "SELECT xmin, ctid, * FROM a WHERE id = {1}; SELECT xmin, ctid, * FROM b WHERE a_id = {2}",
    ),
    (
        "SELECT id FROM a WHERE id = {i} UNION SELECT id FROM b WHERE id = {i} ORDER BY 1",
        "SELECT xmin, ctid, * FROM a WHERE id = {1}; SELECT xmin, ctid, * FROM b WHERE id = {2}",
    ),
    ("SELECT count(*) FROM a WHERE v > {i}", ""),
    ("SELECT count(*) FROM a WHERE id = {i} OR k = {i}", ""),
    ("SELECT count(*) FROM b WHERE a_id IS NULL", ""),
];

const CHANGES: &[&str] = &[
    "INSERT INTO a VALUES ({i}, {i}, {t?}, {u?}, {i?}) ON CONFLICT DO NOTHING",
    "INSERT INTO a (id, k, t) VALUES ({i}, {i}, {t}) ON CONFLICT (id) DO UPDATE SET k = excluded.k, v = {i}",
    "UPDATE a SET v = {i} WHERE id = {i}",
    "UPDATE a SET v = {i} WHERE id = {i}",
    "UPDATE a SET k = {i} WHERE id = {i}",
    "UPDATE a SET k = k + 1 WHERE k = {i}",
    "UPDATE a SET t = {t?}, u = {u?} WHERE k = {i}",
    "UPDATE a SET id = {i} WHERE id = {i} AND NOT EXISTS (SELECT FROM a WHERE id = {i})",
    "DELETE FROM a WHERE id = {i}",
    "INSERT INTO b VALUES ({i}, {i?}, {t?}, {n?}, {d?}, {b?}) ON CONFLICT DO NOTHING",
    "INSERT INTO b (id, a_id) VALUES ({i}, {i}), ({i}, {i}) ON CONFLICT DO NOTHING",
    "UPDATE b SET n = {n} WHERE id = {i}",
    "UPDATE b SET a_id = {i?}, kind = {t} WHERE id = {i}",
    "UPDATE b SET d = {d}, flag = {b} WHERE a_id = {i}",
    "UPDATE b SET kind = 'x' || kind WHERE length(kind) < 3 AND id = {i}",
    "DELETE FROM b WHERE a_id = {i}",
    "INSERT INTO pair VALUES ({i}, {t}, {i}) ON CONFLICT (x, y) DO UPDATE SET v = excluded.v",
    "UPDATE pair SET v = {i} WHERE x = {i} AND y = {t}",
    "UPDATE pair SET v = v + 1 WHERE y = {t}",
    "DELETE FROM pair WHERE x = {i}",
    "INSERT INTO p (id, part, v) VALUES ({i}, {i} % 2, {i})",
    "INSERT INTO p1 (id, part, v) VALUES ({i}, 1, {i})",
    "UPDATE p SET v = {i} WHERE id = {i}",
    "UPDATE p SET part = 1 - part WHERE id = {i}",
    "UPDATE p0 SET id = {i} WHERE id = {i}",
    "DELETE FROM p WHERE id = {i}",
    "BEGIN; UPDATE a SET v = {i} WHERE id = {i}; SAVEPOINT s; DELETE FROM a WHERE k = {i}; ROLLBACK TO s; COMMIT",
    "BEGIN; UPDATE a SET v = {i} WHERE id = {i}; ROLLBACK",
];
/// Every row, once in a while.
const TRUNCATE: &str = "TRUNCATE p1";

/// Values for the holes of a text.
fn values(random: &mut Rng, text: &str) -> Vec<Value> {
    let holes = text.split('{').skip(1).map(|part| part.split_once('}').unwrap().0);
    holes.map(|hole| Value::new(random, hole)).collect()
}

struct Value {
    plain: String,
    literal: String,
}

impl Value {
    fn new(random: &mut Rng, hole: &str) -> Self {
        let integer = random.i64(0..VALUES);
        let plain = match hole.trim_end_matches('?') {
            "i" => integer.to_string(),
            "t" => ["a", "b", "x'y", "it, [is]", " "][integer as usize % 5].to_owned(),
            "u" => format!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a{integer:02}"),
            "n" => ["1", "1.0", "2.50", "2.5", "-3"][integer as usize % 5].to_owned(),
            "d" => format!("2026-01-{:02}", integer + 1),
            "b" => (integer % 2 == 0).to_string(),
            "a" => format!("{{{integer},{}}}", random.i64(0..VALUES)),
            other => panic!("{other}"),
        };
        let literal = match hole {
            _ if hole.ends_with('?') && random.u8(0..6) == 0 => "NULL".to_owned(),
            "i" | "i?" | "n" | "n?" | "b" | "b?" => plain.clone(),
            _ => format!("'{}'", plain.replace('\'', "''")),
        };
        Self { plain, literal }
    }
}

/// The text with its holes filled, one after the other or by their numbers.
fn filled(text: &str, values: &[String]) -> String {
    let mut parts = text.split('{');
    let mut filled = parts.next().unwrap().to_owned();
    for (at, part) in parts.enumerate() {
        let (hole, after) = part.split_once('}').unwrap();
        let at = hole.parse::<usize>().map_or(at, |number| number - 1);
        filled.push_str(&values[at]);
        filled.push_str(after);
    }
    filled
}

/// One statement, as it is asked again and again.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    shape: usize,
    text: String,
    /// Parameters.
    values: Vec<String>,
    /// See [`SHAPES`].
    witness: String,
}

impl Question {
    fn new(random: &mut Rng) -> Self {
        let shape = random.usize(0..SHAPES.len());
        let (text, witness) = SHAPES[shape];
        let values = values(random, text);
        let literals: Vec<String> = values.iter().map(|value| value.literal.clone()).collect();
        let witness = filled(witness, &literals);
        if random.bool() {
            return Self { shape, text: filled(text, &literals), values: Vec::new(), witness };
        }
        let numbers: Vec<String> = (1..=values.len()).map(|number| format!("${number}")).collect();
        let values = values.into_iter().map(|value| value.plain).collect();
        Self { shape, text: filled(text, &numbers), values, witness }
    }

    async fn ask(&self, client: &mut Client) -> Result<Rows, String> {
        let values: Vec<Option<&str>> = self.values.iter().map(|value| Some(value.as_str())).collect();
        let frames = if values.is_empty() {
            client.try_ask(Protocol::Simple, &self.text, None).await
        } else {
            client.raw.extended(&self.text, &values).await
        };
        crate::freshness::rows(&frames.unwrap())
    }

    /// The rows that the statement names, as they are now.
    async fn look(&self, client: &mut Client) -> Rows {
        crate::freshness::rows(&client.raw.query(&self.witness).await.unwrap()).unwrap()
    }
}

type Rows = Vec<Vec<Option<String>>>;

#[derive(Default)]
struct Tally {
    hits: u64,
    /// Entries that ended after the rows that the statement names were written, whether that changed the answer or not.
    needed: u64,
    /// Others that ended.
    unnecessary: u64,
    /// Other misses: a write on its way, an answer that was not kept.
    other: u64,
}

/// Random replica identities, or one for all tables: LARDER_TEST_IDENTITY.
fn identities(pg: &Postgres, random: &mut Rng) -> String {
    let (mut chosen, wanted) = (Vec::new(), std::env::var("LARDER_TEST_IDENTITY").ok());
    for (table, index) in TABLES {
        pg.sql(index).unwrap();
        let identity = match random.u8(0..4) {
            _ if wanted.is_some() => wanted.clone().unwrap(),
            0 => "DEFAULT".to_owned(),
            1 => "FULL".to_owned(),
            2 => "NOTHING".to_owned(),
            _ => format!("USING INDEX {table}_other"),
        };
        pg.sql(&format!("ALTER TABLE {table} REPLICA IDENTITY {identity}")).unwrap();
        chosen.push(format!("{table} {identity}"));
    }
    chosen.join(", ")
}

/// `through`: changes go through Larder, whose level is `strict`; else directly to the origin, and the level is
/// `linearizable`.
async fn compare(pg: Postgres, seed: u64, through: bool) {
    let mut random = Rng::with_seed(seed);
    pg.sql(SCHEMA).unwrap();
    let identities = identities(&pg, &mut random);
    let level = if through { "freshness.level=strict" } else { "freshness.level=linearizable" };
    let rig = Rig::new(pg, &[level]).await;
    let (mut writer, mut reader) = (rig.client().await, rig.client().await);
    let mut direct = rig.direct().await;
    let questions: Vec<Question> = (0..200).map(|_| Question::new(&mut random)).collect();
    let mut last: HashMap<Question, Rows> = HashMap::new();
    let mut tallies: BTreeMap<usize, Tally> = BTreeMap::new();
    for change in 0..number("LARDER_TEST_CHANGES").unwrap_or(150) {
        let change_text = if random.u16(0..500) == 0 { TRUNCATE } else { random.choice(CHANGES).unwrap() };
        let values: Vec<String> =
            values(&mut random, change_text).into_iter().map(|value| value.literal).collect();
        let text = filled(change_text, &values);
        let changer = if through { &mut writer } else { &mut direct };
        // Some violate a constraint, and then change nothing.
        let _ = changer.raw.query(&text).await.unwrap();
        for _ in 0..READS {
            let question = random.choice(&questions).unwrap();
            let cached = question.ask(&mut reader).await;
            let how = reader.value("SHOW larder.last").await;
            let truth = question.ask(&mut direct).await;
            let shown = format!("{} {:?}", question.text, question.values);
            assert_eq!(cached, truth, "seed {seed}, change {change} ({text}), {identities}: {shown}: {how}");
            assert!(truth.is_ok(), "{shown}: {truth:?}");
            let rows = question.look(&mut direct).await;
            let tally = tallies.entry(question.shape).or_default();
            let known = last.insert(question.clone(), rows.clone());
            match known {
                _ if how.starts_with("hit") => tally.hits += 1,
                Some(known) if how.contains("invalid") && known == rows => tally.unnecessary += 1,
                Some(_) if how.contains("invalid") => tally.needed += 1,
                Some(_) => tally.other += 1,
                None => {}
            }
        }
    }
    report(&tallies, seed, &identities);
}

fn report(tallies: &BTreeMap<usize, Tally>, seed: u64, identities: &str) {
    println!("seed {seed}: {identities}\n{:>8} {:>8} {:>11} {:>8}", "hits", "needed", "unnecessary", "other");
    let line = |tally: &Tally, text: &str| {
        let Tally { hits, needed, unnecessary, other } = tally;
        println!("{hits:>8} {needed:>8} {unnecessary:>11} {other:>8}  {text}");
    };
    let mut all = Tally::default();
    for (shape, tally) in tallies {
        line(tally, SHAPES[*shape].0);
        if !SHAPES[*shape].1.is_empty() {
            all.hits += tally.hits;
            all.needed += tally.needed;
            all.unnecessary += tally.unnecessary;
            all.other += tally.other;
        }
    }
    let share = all.unnecessary as f64 / (all.needed + all.unnecessary).max(1) as f64 * 100.0;
    line(
        &all,
        &format!("all whose rows are told apart: {share:.1} % of those that ended did so for nothing"),
    );
    assert!(all.hits > 0, "a test that never hits proves nothing");
}

fn seed() -> u64 {
    number("LARDER_TEST_SEED").unwrap_or_else(|| fastrand::u64(0..1_000_000))
}

#[tokio::test]
async fn rows_oracle_for_changes_through_larder() {
    each_version(async |pg| compare(pg, seed(), true).await).await;
}

#[tokio::test]
async fn rows_oracle_for_changes_at_the_origin() {
    each_version(async |pg| compare(pg, seed(), false).await).await;
}
