//! Row-level security and the settings that policies read: the multi-tenant pattern.

use larder_testkit::{Frame, each_version, frame};

use crate::freshness::{Client, Protocol, Rig, rows};
use crate::twins::{Change, ROLES, Twins, login, rig, take_effect};

/// Documents of three tenants. Who is neither superuser nor BYPASSRLS sees those of `app.tenant`.
const DOCS: &str = "
    CREATE TABLE doc (id int PRIMARY KEY, tenant text NOT NULL, author text, body text);
    INSERT INTO doc SELECT i, 't' || i % 3, CASE i % 2 WHEN 0 THEN 'ann' ELSE 'bob' END, 'body ' || i
        FROM generate_series(1, 30) i;
    ALTER TABLE doc ENABLE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON doc USING (tenant = current_setting('app.tenant', true));
    CREATE TABLE country (id int, name text); INSERT INTO country VALUES (1, 'all see this');
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO public;";
const READ: &str = "SELECT id, tenant, body FROM doc ORDER BY id";

async fn tenants(pg: larder_testkit::Postgres) -> Rig {
    rig(pg, &format!("{ROLES} {DOCS}")).await
}

/// Other sessions fill the cache, as each tenant, by every protocol.
async fn warm_all(rig: &Rig, sql: &str) -> Vec<Client> {
    let mut others = vec![];
    for user in ["ann", "bob"] {
        let mut other = Client::login(rig.larder.addr(), &login(user)).await.unwrap();
        for tenant in ["t0", "t1", "t2", ""] {
            other.run(&format!("SET app.tenant = '{tenant}'")).await;
            for how in Protocol::ALL {
                other.warm(how, sql, None).await;
            }
        }
        others.push(other);
    }
    others
}

/// Statements, and the tenant whose rows are seen after them.
const WAYS: &[(&[&str], &str)] = &[
    (&[], ""),
    (&["SET app.tenant = 't1'"], "t1"),
    (&["SET SESSION \"App\".Tenant TO 't2'"], "t2"),
    (&["SELECT set_config('app.tenant', 't1', false)"], "t1"),
    (&["SELECT set_config('app.' || 'tenant', 't2', false)"], "t2"),
    (&["SET app.tenant = 't1'", "SET app.tenant = 't2'"], "t2"),
    (&["SET app.tenant = 't1'", "RESET app.tenant"], ""),
    (&["SET app.tenant = 't1'", "RESET ALL"], ""),
    (&["SET app.tenant = 't1'", "DISCARD ALL"], ""),
    (&["SET app.tenant = 't1'", "SET app.tenant TO DEFAULT"], ""),
    (&["SET app.tenant = 't1'; SET app.tenant = 't2'"], "t2"),
    (&["DO $$ BEGIN PERFORM set_config('app.tenant', 't1', false); END $$"], "t1"),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'"], "t1"),
    (&["BEGIN", "SELECT set_config('app.tenant', 't2', true)"], "t2"),
    (&["SET app.tenant = 't2'", "BEGIN", "SET LOCAL app.tenant = 't1'"], "t1"),
    (&["SET app.tenant = 't2'", "BEGIN", "SET LOCAL app.tenant = 't1'", "COMMIT"], "t2"),
    (&["SET app.tenant = 't2'", "BEGIN", "SET LOCAL app.tenant = 't1'", "ROLLBACK"], "t2"),
    (&["SET app.tenant = 't2'", "BEGIN", "SET app.tenant = 't1'", "COMMIT"], "t1"),
    (&["SET app.tenant = 't2'", "BEGIN", "SET app.tenant = 't1'", "ROLLBACK"], "t2"),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'", "READ", "COMMIT"], ""),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'", "READ", "SET LOCAL app.tenant = 't2'"], "t2"),
    (
        &["BEGIN", "SET LOCAL app.tenant = 't1'", "READ", "COMMIT", "BEGIN", "SET LOCAL app.tenant = 't2'"],
        "t2",
    ),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'", "READ", "COMMIT AND CHAIN"], ""),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'", "READ", "ROLLBACK AND CHAIN"], ""),
    (&["BEGIN", "SET app.tenant = 't1'", "READ", "COMMIT AND CHAIN"], "t1"),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'", "SAVEPOINT a", "SET LOCAL app.tenant = 't2'", "READ"], "t2"),
    (
        &[
            "BEGIN",
            "SET LOCAL app.tenant = 't1'",
            "SAVEPOINT a",
            "SET LOCAL app.tenant = 't2'",
            "READ",
            "ROLLBACK TO a",
        ],
        "t1",
    ),
    (
        &[
            "BEGIN",
            "SET LOCAL app.tenant = 't1'",
            "SAVEPOINT a",
            "SET LOCAL app.tenant = 't2'",
            "READ",
            "RELEASE a",
        ],
        "t2",
    ),
    (&["BEGIN", "SAVEPOINT a", "SET app.tenant = 't2'", "READ", "ROLLBACK TO a", "COMMIT"], ""),
    (
        &[
            "BEGIN",
            "SET LOCAL app.tenant = 't1'",
            "READ",
            "SAVEPOINT a",
            "SELECT 1/0",
            "ROLLBACK TO SAVEPOINT a",
        ],
        "t1",
    ),
    (&["BEGIN", "SET app.tenant = 't1'", "READ", "SELECT 1/0", "COMMIT"], ""),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'", "READ", "SELECT 1/0", "ROLLBACK"], ""),
    (&["BEGIN", "SET LOCAL TIMEZONE = 'Asia/Tokyo'", "SET LOCAL app.tenant = 't1'"], "t1"),
    (&["BEGIN", "SET LOCAL app.tenant = 't1'", "SET LOCAL statement_timeout = '1min'"], "t1"),
    (&["BEGIN READ ONLY", "SET LOCAL app.tenant = 't1'"], "t1"),
    (&["START TRANSACTION ISOLATION LEVEL READ COMMITTED", "SET LOCAL app.tenant = 't1'"], "t1"),
];

#[tokio::test]
async fn a_tenant_sees_its_own_rows_however_it_was_set() {
    each_version(async |pg| {
        let rig = tenants(pg).await;
        let _others = warm_all(&rig, READ).await;
        for (steps, tenant) in WAYS {
            let mut bob = Twins::new(&rig, &login("bob")).await;
            for step in *steps {
                bob.run(if *step == "READ" { READ } else { step }).await;
            }
            for how in Protocol::ALL {
                let served = bob.hit(how, READ).await;
                let seen = served.rows().unwrap();
                assert_eq!(seen.len(), if tenant.is_empty() { 0 } else { 10 }, "{steps:?}");
                assert!(seen.iter().all(|row| row[1].as_deref() == Some(*tenant)), "{steps:?} {seen:?}");
            }
            bob.run("ROLLBACK").await;
        }
    })
    .await;
}

#[tokio::test]
async fn transactions_of_unclear_isolation_are_left_to_the_origin() {
    each_version(async |pg| {
        let rig = tenants(pg).await;
        let _others = warm_all(&rig, READ).await;
        for steps in [
            &["BEGIN; SET LOCAL app.tenant = 't1'"][..],
            &["BEGIN", "SET LOCAL app.tenant = 't1'", READ, "COMMIT; BEGIN"],
            &["BEGIN", "SET LOCAL app.tenant = 't1'", READ, "COMMIT; BEGIN ISOLATION LEVEL SERIALIZABLE"],
            &["BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SET LOCAL app.tenant = 't1'"],
            &["BEGIN", "SET \"TRANSACTION_ISOLATION\" = 'serializable'", "SET LOCAL app.tenant = 't1'"],
            &["BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "SET LOCAL app.tenant = 't1'"],
            &["BEGIN ISOLATION LEVEL REPEATABLE READ", "SET LOCAL app.tenant = 't1'"],
            &["SET default_transaction_isolation = serializable", "BEGIN", "SET LOCAL app.tenant = 't1'"],
            // A query that Larder sent must not take the choice away.
            &[
                "BEGIN",
                "SET LOCAL app.tenant = 't1'",
                "SHOW app.tenant",
                "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            ],
            &["BEGIN", "SET LOCAL app.tenant = 't1'", READ, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"],
        ] {
            let mut bob = Twins::new(&rig, &login("bob")).await;
            for step in steps {
                bob.run(step).await;
            }
            for how in Protocol::ALL {
                for _ in 0..2 {
                    let served = bob.ask(how, READ).await;
                    assert!(served.how.starts_with("bypass"), "{steps:?}: {}", served.how);
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn set_by_the_extended_protocol_and_in_pipelines() {
    each_version(async |pg| {
        let rig = tenants(pg).await;
        let _others = warm_all(&rig, READ).await;
        let set = |value: &str, local: &str| {
            vec![
                frame::parse("", "SELECT set_config('app.tenant', $1, $2)", &[]),
                frame::bind("", "", &[Some(value), Some(local)]),
                frame::execute("", 0),
            ]
        };
        let read = || vec![frame::parse("", READ, &[]), frame::bind("", "", &[]), frame::execute("", 0)];
        let simple = |sql: &str| vec![frame::query(sql)];
        let sync = || vec![frame::sync()];
        // Several messages in one write, answered by so many ReadyForQuery.
        let bursts: Vec<(Vec<_>, usize)> = vec![
            ([set("t1", "false"), sync()].concat(), 1),
            ([read(), sync()].concat(), 1),
            ([set("t2", "true"), read(), sync()].concat(), 1),
            ([read(), sync()].concat(), 1),
            ([set("t2", "false"), sync(), read(), sync()].concat(), 2),
            ([read(), sync()].concat(), 1),
            ([simple("BEGIN"), set("t1", "true"), sync()].concat(), 2),
            ([read(), sync()].concat(), 1),
            ([read(), sync(), read(), sync()].concat(), 2),
            ([simple("COMMIT"), read(), sync()].concat(), 2),
            ([read(), sync()].concat(), 1),
            (
                [simple("BEGIN"), set("t0", "true"), read(), sync(), simple("ROLLBACK"), simple(READ)]
                    .concat(),
                4,
            ),
            (simple(READ), 1),
        ];
        let mut bob = Twins::new(&rig, &login("bob")).await;
        for round in 0..5 {
            for (number, (messages, ready)) in bursts.iter().enumerate() {
                let mut answers = vec![];
                for client in [&mut bob.direct, &mut bob.larder] {
                    client.raw.send_all(messages).await.unwrap();
                    let mut frames: Vec<Frame> = vec![];
                    for _ in 0..*ready {
                        frames.extend(client.raw.until_ready().await.unwrap());
                    }
                    answers.push(frames);
                }
                assert_eq!(answers[0], answers[1], "round {round}, burst {number}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_usual_transaction_asks_the_origin_for_nothing_but_the_setting() {
    each_version(async |pg| {
        let rig = tenants(pg).await;
        let _others = warm_all(&rig, READ).await;
        let mut bob = Twins::new(&rig, &login("bob")).await;
        for round in 0..20 {
            let tenant = format!("t{}", round % 3);
            bob.run("BEGIN").await;
            if round % 2 == 0 {
                bob.run(&format!("SET LOCAL app.tenant = '{tenant}'")).await;
            } else {
                bob.run(&format!("SELECT set_config('app.tenant', '{tenant}', true)")).await;
                // A second setting before anything is read.
                bob.run("SELECT set_config('app.other', 'x', true)").await;
            }
            for how in Protocol::ALL {
                // Prepared statements are described once: on a connection of its own the origin has to see them.
                let served = bob.ask(how, READ).await;
                assert!(served.is_hit() || (how != Protocol::Simple && round < 3), "{how:?}: {}", served.how);
            }
            bob.run("COMMIT").await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_no_policy_guards_is_shared_by_all_tenants() {
    each_version(async |pg| {
        let rig = tenants(pg).await;
        let read = "SELECT name FROM country";
        let mut first = Client::login(rig.larder.addr(), &login("ann")).await.unwrap();
        first.run("SET app.tenant = 't1'").await;
        first.warm(Protocol::Simple, read, None).await;
        let mut second = Client::login(rig.larder.addr(), &login("ann")).await.unwrap();
        second.run("SET app.tenant = 't2'").await;
        assert!(second.ask(read).await.is_hit());
        // The same statement in another tenant's name, where there is a policy, is another question.
        first.warm(Protocol::Simple, READ, None).await;
        assert!(!second.ask(READ).await.is_hit());
    })
    .await;
}

/// What the policies are like, and their SQL. The table is `t`, in a schema of its own.
const POLICIES: &[(&str, &str)] = &[
    ("current_user", "CREATE POLICY p ON t USING (owner = current_user)"),
    ("session_user", "CREATE POLICY p ON t USING (owner = session_user)"),
    ("no policy", ""),
    ("restrictive", "CREATE POLICY p ON t USING (true); CREATE POLICY q ON t AS RESTRICTIVE USING (id > 1)"),
    ("for a role", "CREATE POLICY p ON t TO ann USING (true); CREATE POLICY q ON t TO bob USING (id = 2)"),
    ("for members", "GRANT staff TO ann; CREATE POLICY p ON t TO staff USING (true)"),
    (
        "of its owner, forced",
        "ALTER TABLE t OWNER TO ann; ALTER TABLE t FORCE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id = 3)",
    ),
    ("of its owner", "ALTER TABLE t OWNER TO ann; CREATE POLICY p ON t USING (id = 3)"),
    (
        "by another table",
        "CREATE TABLE member (login text, team int); INSERT INTO member VALUES ('ann', 1), ('bob', 2);
         GRANT SELECT ON member TO public;
         CREATE POLICY p ON t USING (EXISTS (SELECT FROM member m WHERE m.login = current_user AND m.team = t.id))",
    ),
    (
        "by another table with a policy",
        "CREATE TABLE member (login text, team int); INSERT INTO member VALUES ('ann', 1), ('bob', 2);
         GRANT SELECT ON member TO public; ALTER TABLE member ENABLE ROW LEVEL SECURITY;
         CREATE POLICY m ON member USING (login = current_user);
         CREATE POLICY p ON t USING (id IN (SELECT team FROM member))",
    ),
    ("a setting as a number", "CREATE POLICY p ON t USING (id = NULLIF(current_setting('app.id', true), '')::int)"),
    (
        "a setting as JSON",
        "CREATE POLICY p ON t USING (owner = NULLIF(current_setting('request.claims', true), '')::json ->> 'sub')",
    ),
    ("a setting in a subquery", "CREATE POLICY p ON t USING (owner = (SELECT current_setting('app.owner', true)))"),
    ("membership", "GRANT staff TO ann; CREATE POLICY p ON t USING (pg_has_role(current_user, 'staff', 'member'))"),
    ("only for writers", "CREATE POLICY p ON t FOR UPDATE USING (true); CREATE POLICY q ON t FOR SELECT USING (id < 3)"),
];

/// What each session sets before it reads.
const BEFORE: &[&[&str]] = &[
    &[],
    &["SET app.id = '2'", "SET request.claims = '{\"sub\": \"ann\"}'", "SET app.owner = 'bob'"],
    &["SET app.id = '3'", "SET request.claims = '{\"sub\": \"bob\"}'", "SET app.owner = 'ann'"],
    &["SET row_security = off"],
    &["SET ROLE staff"],
];

const USERS: [&str; 5] = ["postgres", "ann", "bob", "guru", "owner"];

#[tokio::test]
async fn policies_of_every_shape_are_followed() {
    each_version(async |pg| {
        let mut schema = format!("{ROLES} GRANT staff TO ann, bob;");
        for (number, (_, policy)) in POLICIES.iter().enumerate() {
            schema += &format!(
                "CREATE SCHEMA s{number}; GRANT USAGE ON SCHEMA s{number} TO public; SET search_path = s{number};
                 GRANT CREATE ON SCHEMA s{number} TO ann;
                 CREATE TABLE t (id int, owner text); GRANT SELECT ON t TO public;
                 INSERT INTO t VALUES (1, 'ann'), (2, 'bob'), (3, 'guru'), (4, 'owner');
                 ALTER TABLE t ENABLE ROW LEVEL SECURITY; {policy}; RESET search_path;"
            );
        }
        let rig = rig(pg, &schema).await;
        // Each user finds what those before it have left in the cache.
        for user in USERS.iter().chain(USERS.iter().rev()) {
            let mut twins = Twins::new(&rig, &login(user)).await;
            for (number, (name, _)) in POLICIES.iter().enumerate() {
                let read = format!("SELECT * FROM s{number}.t ORDER BY id");
                for before in BEFORE {
                    for step in *before {
                        twins.run(step).await;
                    }
                    for how in Protocol::ALL {
                        let served = twins.ask(how, &read).await;
                        assert!(!served.how.starts_with("bypass"), "{name}, {user}: {}", served.how);
                        if served.rows().is_ok() {
                            twins.hit(how, &read).await;
                        }
                    }
                    twins.run("RESET ALL").await;
                    twins.run("RESET ROLE").await;
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn policies_that_cannot_be_seen_through_are_left_to_the_origin() {
    let policies = [
        "CREATE FUNCTION mine(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 = current_user';
         CREATE POLICY p ON t USING (mine(owner))",
        "CREATE POLICY p ON t USING (made < now())",
        "CREATE POLICY p ON t USING (random() < 2)",
        "CREATE POLICY p ON t USING (current_setting(setting, true) = 'x')",
        "CREATE POLICY p ON t USING (current_setting('app.' || 'tenant', true) = owner)",
        "CREATE POLICY p ON t USING (made < current_setting('app.now', true)::timestamptz)",
        "CREATE UNLOGGED TABLE u (login text); GRANT SELECT ON u TO public;
         CREATE POLICY p ON t USING (owner IN (SELECT login FROM u))",
        "CREATE POLICY p ON t USING (pg_catalog.set_config('app.seen', owner, false) <> '')",
    ];
    each_version(async |pg| {
        let mut schema = ROLES.to_owned();
        for (number, policy) in policies.iter().enumerate() {
            schema += &format!(
                "CREATE SCHEMA s{number}; GRANT USAGE ON SCHEMA s{number} TO public; SET search_path = s{number};
                 CREATE TABLE t (id int, owner text, setting text, made timestamptz); GRANT SELECT ON t TO public;
                 INSERT INTO t VALUES (1, 'ann', 'app.a', '2020-01-01'), (2, 'bob', 'app.b', '2020-01-01');
                 ALTER TABLE t ENABLE ROW LEVEL SECURITY; {policy}; RESET search_path;"
            );
        }
        let rig = rig(pg, &schema).await;
        let mut ann = Twins::new(&rig, &login("ann")).await;
        ann.run("SET app.a = 'x'").await;
        for number in 0..policies.len() {
            ann.bypassed(&format!("SELECT id FROM s{number}.t ORDER BY id"), "row_security").await;
            ann.bypassed(&format!("SELECT count(*) FROM (SELECT FROM s{number}.t) x"), "row_security").await;
        }
    })
    .await;
}

#[tokio::test]
async fn views_partitions_and_children_over_policies() {
    let schema = format!(
        "{ROLES} {DOCS}
        CREATE VIEW definer AS SELECT id, tenant FROM doc;
        CREATE VIEW invoker WITH (security_invoker) AS SELECT id, tenant FROM doc;
        CREATE VIEW barrier WITH (security_barrier, security_invoker) AS SELECT id, tenant FROM doc WHERE id > 5;
        CREATE VIEW owned WITH (security_barrier) AS SELECT id, tenant FROM doc; ALTER VIEW owned OWNER TO owner;
        CREATE VIEW over_view AS SELECT id FROM invoker; CREATE VIEW by_setting AS
            SELECT id, tenant, current_setting('app.tenant', true) AS mine FROM doc WHERE tenant = current_setting('app.tenant', true);
        CREATE MATERIALIZED VIEW copied AS SELECT id, tenant FROM doc;
        CREATE TABLE part (id int, tenant text) PARTITION BY LIST (tenant);
        CREATE TABLE part1 PARTITION OF part FOR VALUES IN ('t1'); CREATE TABLE part2 PARTITION OF part DEFAULT;
        INSERT INTO part SELECT id, tenant FROM doc;
        ALTER TABLE part ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON part USING (tenant = current_setting('app.tenant', true));
        CREATE TABLE parent (id int, tenant text); CREATE TABLE child () INHERITS (parent);
        INSERT INTO parent SELECT id, tenant FROM doc; INSERT INTO child SELECT id + 100, tenant FROM doc;
        ALTER TABLE child ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant ON child USING (tenant = current_setting('app.tenant', true));
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO public;"
    );
    let relations = [
        "definer",
        "invoker",
        "barrier",
        "owned",
        "over_view",
        "by_setting",
        "copied",
        "part",
        "part1",
        "part2",
        "parent",
        "child",
        "ONLY parent",
    ];
    each_version(async |pg| {
        let rig = rig(pg, &schema).await;
        for user in USERS {
            let mut twins = Twins::new(&rig, &login(user)).await;
            for tenant in ["t0", "t1", "t2"] {
                twins.run(&format!("SET app.tenant = '{tenant}'")).await;
                for relation in relations {
                    twins.hit_by_all(&format!("SELECT * FROM {relation} ORDER BY 1")).await;
                }
            }
        }
    })
    .await;
}

/// The table is that of [`DOCS`].
const CHANGES: &[Change] = &[
    (
        "ALTER POLICY tenant ON doc USING (id < 5)",
        "ALTER POLICY tenant ON doc USING (tenant = 't2')",
        "ann",
        READ,
    ),
    ("CREATE POLICY second ON doc USING (id = 7)", "DROP POLICY second ON doc", "ann", READ),
    (
        "CREATE POLICY second ON doc AS RESTRICTIVE USING (current_setting('app.second', true) IS NULL)",
        "DROP POLICY second ON doc",
        "ann",
        READ,
    ),
    ("ALTER TABLE doc DISABLE ROW LEVEL SECURITY", "ALTER TABLE doc ENABLE ROW LEVEL SECURITY", "ann", READ),
    ("ALTER TABLE doc OWNER TO ann", "ALTER TABLE doc OWNER TO owner", "ann", READ),
    (
        "ALTER TABLE doc FORCE ROW LEVEL SECURITY",
        "ALTER TABLE doc NO FORCE ROW LEVEL SECURITY",
        "owner",
        READ,
    ),
    ("ALTER ROLE ann BYPASSRLS", "ALTER ROLE ann NOBYPASSRLS", "ann", READ),
    ("ALTER POLICY tenant ON doc TO staff", "GRANT staff TO ann", "ann", READ),
    ("REVOKE staff FROM ann", "ALTER POLICY tenant ON doc TO public", "ann", READ),
];

#[tokio::test]
async fn changed_policies_take_effect() {
    each_version(async |pg| {
        let rig = tenants(pg).await;
        rig.pg.sql("ALTER TABLE doc OWNER TO owner").unwrap();
        take_effect(&rig, "SET app.tenant = 't1'", CHANGES).await;
    })
    .await;
}

#[tokio::test]
async fn a_cancel_that_meets_the_read_back_cancels_the_statement() {
    each_version(async |pg| {
        let rig = tenants(pg).await;
        let mut client = Client::login(rig.larder.addr(), &login("ann")).await.unwrap();
        let key = client.raw.cancel_key().unwrap();
        for round in 0..60 {
            client.run("BEGIN").await;
            client.run(&format!("SET LOCAL app.tenant = 't{}'", round % 3)).await;
            client.raw.send(frame::query(READ)).await.unwrap();
            larder_testkit::RawClient::cancel(rig.larder.addr(), &key).await.unwrap();
            let answer = rows(&client.raw.until_ready().await.unwrap());
            match &answer {
                Ok(rows) => assert_eq!(rows.len(), 10),
                Err(state) => assert_eq!(state, "57014"),
            }
            // The cancel may come late, and meet this one.
            let _ = client.raw.query("ROLLBACK").await.unwrap();
            let _ = client.raw.query("ROLLBACK").await.unwrap();
        }
    })
    .await;
}
