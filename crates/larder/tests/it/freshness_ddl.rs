//! DDL: at once when it passes through Larder; when done directly, as soon as the log shows it, and where the log does
//! not (mixed with row changes in one transaction), within the comparison's interval.

use std::time::{Duration, Instant};

use larder_testkit::{Frame, Login, Postgres, Signal, each_version, frame};

use crate::freshness::{Client, LIMIT, MAX_LAG, Protocol, Rig, Spread};

/// `$k` is another number each time a case is played.
struct Case {
    name: &'static str,
    setup: &'static str,
    /// Statements of one transaction.
    ddl: &'static [&'static str],
    read: &'static str,
    /// Who reads: the startup parameters beside the database.
    reader: &'static [(&'static str, &'static str)],
}

const SUPERUSER: &[(&str, &str)] = &[("user", "postgres")];
const ANN: &[(&str, &str)] = &[("user", "ann")];
const TABLE: &str =
    "CREATE TABLE t$k (id int PRIMARY KEY, v text); INSERT INTO t$k VALUES (1, 'a'), (2, 'bb')";
const TABLE_FOR_ANN: &str = "CREATE TABLE t$k (id int PRIMARY KEY, v text);
    INSERT INTO t$k VALUES (1, 'a'), (2, 'bb'); GRANT SELECT ON t$k TO ann";
const READ: &str = "SELECT * FROM t$k ORDER BY 1";

const CASES: &[Case] = &[
    Case {
        name: "ADD COLUMN",
        setup: TABLE,
        ddl: &["ALTER TABLE t$k ADD COLUMN x int DEFAULT 7"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "DROP COLUMN",
        setup: TABLE,
        ddl: &["ALTER TABLE t$k DROP COLUMN v"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "RENAME COLUMN",
        setup: TABLE,
        ddl: &["ALTER TABLE t$k RENAME COLUMN v TO w"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "ALTER COLUMN TYPE",
        setup: TABLE,
        ddl: &["ALTER TABLE t$k ALTER COLUMN v TYPE int USING length(v)"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "TRUNCATE",
        setup: TABLE,
        ddl: &["TRUNCATE t$k"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "DROP TABLE",
        setup: TABLE,
        ddl: &["DROP TABLE t$k"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "DROP and CREATE TABLE",
        setup: TABLE,
        ddl: &["DROP TABLE t$k", "CREATE TABLE t$k AS SELECT 3 AS id"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "swap by RENAME",
        setup: "CREATE TABLE t$k (id int, v text); INSERT INTO t$k VALUES (1, 'old');
            CREATE TABLE u$k (id int, v text); INSERT INTO u$k VALUES (1, 'new')",
        ddl: &[
            "ALTER TABLE t$k RENAME TO w$k",
            "ALTER TABLE u$k RENAME TO t$k",
            "ALTER TABLE w$k RENAME TO u$k",
        ],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "swap by RENAME, and a write to the new one",
        setup: "CREATE TABLE t$k (id int, v text); INSERT INTO t$k VALUES (1, 'old');
            CREATE TABLE u$k (id int, v text); INSERT INTO u$k VALUES (1, 'new');
            CREATE VIEW s$k AS SELECT * FROM u$k",
        ddl: &[
            "ALTER TABLE t$k RENAME TO w$k",
            "ALTER TABLE u$k RENAME TO t$k",
            "ALTER TABLE w$k RENAME TO u$k",
            "UPDATE t$k SET v = 'newer'",
        ],
        read: "SELECT * FROM s$k ORDER BY 1",
        reader: SUPERUSER,
    },
    Case {
        name: "SET SCHEMA",
        setup: "CREATE TABLE t$k (id int); CREATE SCHEMA s$k; CREATE TABLE s$k.t$k (id int, v int)",
        ddl: &["ALTER TABLE t$k RENAME TO u$k", "ALTER TABLE s$k.t$k SET SCHEMA public"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "CREATE OR REPLACE VIEW",
        setup: "CREATE TABLE t$k (id int, v text); INSERT INTO t$k VALUES (1, 'a');
            CREATE VIEW s$k AS SELECT id, v FROM t$k",
        ddl: &["CREATE OR REPLACE VIEW s$k AS SELECT id + 1 AS id, upper(v) AS v FROM t$k"],
        read: "SELECT * FROM s$k ORDER BY 1",
        reader: SUPERUSER,
    },
    Case {
        name: "a view over a view",
        setup: "CREATE TABLE t$k (id int, v text); INSERT INTO t$k VALUES (1, 'a');
            CREATE TABLE u$k (id int, v text); INSERT INTO u$k VALUES (2, 'u');
            CREATE VIEW r$k AS SELECT id, v FROM t$k; CREATE VIEW s$k AS SELECT id, v FROM r$k",
        ddl: &["CREATE OR REPLACE VIEW r$k AS SELECT id, v FROM u$k"],
        read: "SELECT * FROM s$k ORDER BY 1",
        reader: SUPERUSER,
    },
    Case {
        name: "REVOKE",
        setup: TABLE_FOR_ANN,
        ddl: &["REVOKE SELECT ON t$k FROM ann"],
        read: READ,
        reader: ANN,
    },
    Case {
        name: "REVOKE and GRANT of a column",
        setup: TABLE_FOR_ANN,
        ddl: &["REVOKE SELECT ON t$k FROM ann", "GRANT SELECT (id) ON t$k TO ann"],
        read: READ,
        reader: ANN,
    },
    Case {
        name: "REVOKE of membership",
        setup: "CREATE TABLE t$k (id int); CREATE ROLE g$k; GRANT SELECT ON t$k TO g$k; GRANT g$k TO ann",
        ddl: &["REVOKE g$k FROM ann"],
        read: READ,
        reader: ANN,
    },
    Case {
        name: "row-level security",
        setup: TABLE_FOR_ANN,
        ddl: &["CREATE POLICY p ON t$k USING (id = 1)", "ALTER TABLE t$k ENABLE ROW LEVEL SECURITY"],
        read: READ,
        reader: ANN,
    },
    Case {
        name: "shadowed along the search path",
        setup: "CREATE TABLE t$k (v text); INSERT INTO t$k VALUES ('public'); CREATE SCHEMA IF NOT EXISTS first",
        ddl: &["CREATE TABLE first.t$k AS SELECT 'first'::text AS v"],
        read: READ,
        reader: &[("user", "postgres"), ("options", "-c search_path=first,public")],
    },
    Case {
        name: "a schema of the search path comes into view",
        setup: "CREATE TABLE t$k (v text); INSERT INTO t$k VALUES ('public'); GRANT SELECT ON t$k TO ann;
            CREATE SCHEMA s$k; CREATE TABLE s$k.t$k AS SELECT 'hidden'::text AS v; GRANT SELECT ON s$k.t$k TO ann",
        ddl: &["GRANT USAGE ON SCHEMA s$k TO ann"],
        read: READ,
        reader: &[("user", "ann"), ("options", "-c search_path=s$k,public")],
    },
    Case {
        name: "ATTACH PARTITION",
        setup: "CREATE TABLE t$k (id int, v text) PARTITION BY RANGE (id);
            CREATE TABLE p$k PARTITION OF t$k FOR VALUES FROM (0) TO (10); INSERT INTO t$k VALUES (1, 'a');
            CREATE TABLE q$k (id int, v text); INSERT INTO q$k VALUES (11, 'q')",
        ddl: &["ALTER TABLE t$k ATTACH PARTITION q$k FOR VALUES FROM (10) TO (20)"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "DETACH PARTITION",
        setup: "CREATE TABLE t$k (id int, v text) PARTITION BY RANGE (id);
            CREATE TABLE p$k PARTITION OF t$k FOR VALUES FROM (0) TO (10); INSERT INTO t$k VALUES (1, 'a')",
        ddl: &["ALTER TABLE t$k DETACH PARTITION p$k"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "a child is born",
        setup: TABLE,
        ddl: &["CREATE TABLE c$k () INHERITS (t$k)", "INSERT INTO c$k VALUES (3, 'child')"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "ALTER TYPE RENAME VALUE",
        setup: "CREATE TYPE e$k AS ENUM ('a', 'b'); CREATE TABLE t$k (v e$k); INSERT INTO t$k VALUES ('a')",
        ddl: &["ALTER TYPE e$k RENAME VALUE 'a' TO 'z'"],
        read: READ,
        reader: SUPERUSER,
    },
    Case {
        name: "CREATE INDEX",
        setup: TABLE,
        ddl: &["CREATE INDEX ON t$k (v)", "UPDATE t$k SET v = 'c' WHERE id = 1"],
        read: READ,
        reader: SUPERUSER,
    },
];

/// Who does the DDL, and whether rows change in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Through,
    ThroughMixed,
    Direct,
    DirectMixed,
}

impl Way {
    /// Two of the four for a case on one version, the others on the next.
    fn two(turn: usize) -> [Self; 2] {
        if turn.is_multiple_of(2) {
            [Self::Through, Self::DirectMixed]
        } else {
            [Self::ThroughMixed, Self::Direct]
        }
    }

    fn is_direct(self) -> bool {
        matches!(self, Self::Direct | Self::DirectMixed)
    }

    fn is_mixed(self) -> bool {
        matches!(self, Self::ThroughMixed | Self::DirectMixed)
    }
}

/// Readers on several of Larder's threads.
const READERS: usize = 2;

impl Case {
    /// Then the log shows it as the change of rows that it also is.
    fn changes_rows(&self) -> bool {
        self.ddl.iter().any(|statement| statement.starts_with("UPDATE"))
    }

    async fn play(&self, rig: &Rig, direct: &mut Client, way: Way, k: u32) -> Option<Duration> {
        let numbered = |text: &str| text.replace("$k", &k.to_string());
        let context = format!("{} ({way:?})", self.name);
        direct.run(&numbered(self.setup)).await;
        let read = numbered(self.read);
        let login = self.reader.iter().fold(Login::new("", "postgres"), |mut login, (name, value)| {
            login.parameters.retain(|(known, _)| known != name);
            login.parameter(name, &numbered(value))
        });
        let mut witness = Client::login(rig.pg.addr(), &login).await.unwrap();
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(Client::login(rig.larder.addr(), &login).await.unwrap());
        }
        let before = both(&mut witness, &read).await;
        for reader in &mut readers {
            for (how, expected) in PROTOCOLS.iter().zip(&before) {
                assert_eq!(&reader.warm(*how, &read, None).await.frames, expected, "{context}");
            }
        }

        let mut statements = vec!["BEGIN".to_owned()];
        if way.is_mixed() {
            statements.push("UPDATE counter SET n = n + 1".to_owned());
        }
        statements.extend(self.ddl.iter().map(|statement| numbered(statement)));
        statements.push("COMMIT".to_owned());
        let mut through = rig.client().await;
        let client = if way.is_direct() { direct } else { &mut through };
        for statement in &statements {
            client.run(statement).await;
        }
        let done = Instant::now();
        let after = both(&mut witness, &read).await;
        assert_ne!(before, after, "{context} changes nothing");

        // Until every reader has had the new answer; each answer is the old one or the new one, and through Larder
        // only the new one.
        let mut seen = None;
        while seen.is_none() {
            let started = Instant::now();
            let mut old = 0;
            for reader in &mut readers {
                for (number, how) in PROTOCOLS.iter().enumerate() {
                    let asked = Instant::now();
                    let served = reader.ask_with(*how, &read, None).await;
                    let is_old = served.frames == before[number];
                    assert!(
                        is_old || served.frames == after[number],
                        "{context}: neither the old nor the new answer ({how:?}, {}):\n{:?}\nold {:?}\nnew {:?}",
                        served.how,
                        served.frames,
                        before[number],
                        after[number]
                    );
                    // The log shows it: then the lease bounds how long an old answer is given, however busy the machine.
                    // Where only the next comparison does, its clock is tested without one (`coverage`).
                    let allowed = match way {
                        Way::Through | Way::ThroughMixed => false,
                        Way::Direct if !self.changes_rows() => {
                            asked.saturating_duration_since(done) <= MAX_LAG
                        }
                        Way::Direct | Way::DirectMixed => true,
                    };
                    assert!(!is_old || allowed, "{context}: stale ({how:?}): {}", served.how);
                    old += u32::from(is_old);
                }
            }
            if old == 0 {
                seen = Some(started.saturating_duration_since(done));
            }
            assert!(done.elapsed() < LIMIT || old == 0, "{context}: still not seen");
        }
        if after[0].iter().all(|frame| frame.tag != b'E') && self.name != "row-level security" {
            for reader in &mut readers {
                for (how, expected) in PROTOCOLS.iter().zip(&after) {
                    assert_eq!(
                        &reader.warm(*how, &read, None).await.frames,
                        expected,
                        "{context}, afterwards"
                    );
                }
            }
        }
        seen.filter(|_| way.is_direct())
    }
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Simple, Protocol::Unnamed];

async fn both(client: &mut Client, sql: &str) -> [Vec<Frame>; 2] {
    [
        client.try_ask(PROTOCOLS[0], sql, None).await.unwrap(),
        client.try_ask(PROTOCOLS[1], sql, None).await.unwrap(),
    ]
}

#[tokio::test]
async fn ddl_is_seen() {
    each_version(async |pg: Postgres| {
        pg.sql("CREATE TABLE counter (n int); INSERT INTO counter VALUES (0); CREATE ROLE ann LOGIN")
            .unwrap();
        let rig = Rig::new(pg, &[]).await;
        let mut direct = rig.direct().await;
        let mut delays = [Spread::default(), Spread::default()];
        for (number, case) in CASES.iter().enumerate() {
            for (way, k) in Way::two(number + rig.pg.major() as usize % 2).into_iter().zip(1..) {
                let k = u32::try_from(number).unwrap() * 10 + k;
                if let Some(delay) = case.play(&rig, &mut direct, way, k).await {
                    eprintln!("{} ({way:?}): seen by all after {delay:.1?}", case.name);
                    delays[usize::from(way.is_mixed())].add(delay);
                }
            }
        }
        let [alone, mixed] = &mut delays;
        eprintln!("DDL on the origin until seen, alone: {}", alone.summary());
        eprintln!("DDL on the origin until seen, mixed: {}", mixed.summary());
    })
    .await;
}

/// A client that prepared `SELECT *` before a column was added gets the origin's own error, not rows of another shape.
#[tokio::test]
async fn ddl_a_prepared_statement_of_another_shape_is_the_origins_to_refuse() {
    each_version(async |pg: Postgres| {
        pg.sql("CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a')").unwrap();
        let rig = Rig::new(pg, &[]).await;
        let (mut old, mut new) = (rig.client().await, rig.client().await);
        let read = "SELECT * FROM t";
        old.warm(Protocol::Prepared, read, None).await;
        new.run("ALTER TABLE t ADD COLUMN x int DEFAULT 7").await;
        let deadline = Instant::now() + LIMIT;
        // Another client fills the cache with the new shape.
        while !new.warm(Protocol::Prepared, read, None).await.is_hit() {
            assert!(Instant::now() < deadline);
        }
        let served = old.ask_with(Protocol::Prepared, read, None).await;
        assert_eq!(served.rows(), Err("0A000".to_owned()), "{}", served.how);
    })
    .await;
}

/// A statement that waits for DDL runs by the new catalog: what it may have written is not what was planned when it was
/// sent.
#[tokio::test]
async fn ddl_a_write_that_waited_for_a_trigger_is_seen() {
    each_version(async |pg: Postgres| {
        pg.sql(
            "CREATE TABLE noise (n int); CREATE TABLE source (v int); CREATE TABLE log (n int); INSERT INTO log VALUES (0);
             CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
               'BEGIN PERFORM pg_advisory_lock(1); UPDATE log SET n = new.v; RETURN NULL; END'",
        )
        .unwrap();
        let mut rig = Rig::new(pg, &["freshness.max_lag=30s"]).await;
        let read = "SELECT n FROM log";
        let (mut definer, mut writer, mut reader) = (rig.client().await, rig.client().await, rig.client().await);
        let mut direct = rig.direct().await;
        reader.warm(Protocol::Simple, read, None).await;
        // Known: source is a plain table.
        writer.run("INSERT INTO source VALUES (0)").await;
        // The trigger is through when this is given back.
        direct.run("SELECT pg_advisory_lock(1)").await;
        definer.run("BEGIN").await;
        definer.run("CREATE TRIGGER note AFTER INSERT ON source FOR EACH ROW EXECUTE FUNCTION note()").await;
        writer.raw.send(frame::query("INSERT INTO source VALUES (1)")).await.unwrap();
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        while rig.pg.sql(waits).unwrap() == "0" {}
        definer.run("COMMIT").await;
        // In the new epoch, and before the trigger is through. (Each commit has the log flushed, which lets the feed
        // come as far as what the writer has written.)
        loop {
            direct.run("INSERT INTO noise VALUES (1)").await;
            let served = reader.ask(read).await;
            assert_eq!(served.number(), 0);
            if served.is_hit() {
                break;
            }
        }
        let walsender = rig.pg.walsenders().unwrap()[0];
        rig.pg.signal(walsender, Signal::STOP).unwrap();
        direct.run("SELECT pg_advisory_unlock(1)").await;
        writer.raw.until_ready().await.unwrap();
        let served = reader.ask(read).await;
        assert_eq!(served.number(), 1, "{}", served.how);
        rig.pg.signal(walsender, Signal::CONT).unwrap();
        assert_eq!(reader.warm(Protocol::Simple, read, None).await.number(), 1);
    })
    .await;
}
