//! Privileges: an answer filled by one role is never given to a role that could not have asked for it.

use larder_testkit::{PgVersion, each_version, pg};

use crate::freshness::{Client, Protocol};
use crate::twins::{Change, ROLES, Twins, login, rig, take_effect};

const SCHEMA: &str = "
    CREATE TABLE t (id int, v text, secret text); INSERT INTO t VALUES (1, 'v', 'hidden');
    CREATE TABLE open (id int); INSERT INTO open VALUES (1); GRANT SELECT ON open TO public;
    CREATE TABLE columns (id int, v text, secret text); INSERT INTO columns VALUES (1, 'v', 'hidden');
    GRANT SELECT (id, v) ON columns TO ann, staff;
    CREATE TABLE for_staff (id int); INSERT INTO for_staff VALUES (7); GRANT SELECT ON for_staff TO staff;
    CREATE ROLE boss NOINHERIT LOGIN; GRANT staff TO ann, boss;
    CREATE VIEW of_owner AS SELECT id, secret FROM t; GRANT SELECT ON of_owner TO ann;
    CREATE VIEW of_invoker WITH (security_invoker) AS SELECT id, secret FROM t; GRANT SELECT ON of_invoker TO public;
    CREATE SCHEMA inner1; CREATE TABLE inner1.t (id int, v text, secret text); INSERT INTO inner1.t VALUES (9, 'inner', 'too');
    GRANT SELECT ON inner1.t TO public; GRANT USAGE ON SCHEMA inner1 TO bob;
    CREATE TABLE owned (id int); INSERT INTO owned VALUES (3); ALTER TABLE owned OWNER TO owner;
    CREATE ROLE reader LOGIN; GRANT pg_read_all_data TO reader;
    CREATE TABLE part (id int) PARTITION BY RANGE (id); CREATE TABLE part1 PARTITION OF part DEFAULT;
    INSERT INTO part VALUES (1); GRANT SELECT ON part TO ann;";

const READS: &[&str] = &[
    "SELECT id, v, secret FROM t",
    "SELECT id FROM open",
    "SELECT id, v FROM columns",
    "SELECT * FROM columns",
    "SELECT secret FROM columns",
    "SELECT count(*) FROM columns",
    "SELECT id FROM columns WHERE secret IS NOT NULL",
    "SELECT columns FROM columns",
    "SELECT * FROM for_staff",
    "SELECT * FROM of_owner",
    "SELECT * FROM of_invoker",
    "SELECT * FROM inner1.t",
    "SELECT * FROM owned",
    "SELECT * FROM part",
    "SELECT * FROM part1",
    "SELECT o.id FROM open o WHERE EXISTS (SELECT FROM t)",
];

/// Who reads, and what each does first.
const SESSIONS: &[(&str, &str)] = &[
    ("postgres", "SELECT 1"),
    ("ann", "SELECT 1"),
    ("bob", "SELECT 1"),
    ("boss", "SELECT 1"),
    ("boss", "SET ROLE staff"),
    ("ann", "SET ROLE staff"),
    ("postgres", "SET ROLE bob"),
    ("postgres", "SET SESSION AUTHORIZATION ann"),
    ("owner", "SELECT 1"),
    ("reader", "SELECT 1"),
    ("guru", "SELECT 1"),
    ("bob", "SET search_path = inner1, public"),
    ("ann", "SET search_path = inner1, public"),
    ("postgres", "SELECT set_config('role', 'bob', false)"),
    ("postgres", "DO $$ BEGIN SET ROLE bob; END $$"),
];

#[tokio::test]
async fn no_role_gets_an_answer_that_it_could_not_ask_for() {
    each_version(async |pg| {
        let rig = rig(pg, &format!("{ROLES} {SCHEMA}")).await;
        // There and back: each finds what all the others have left.
        for (user, first) in SESSIONS.iter().chain(SESSIONS.iter().rev()) {
            let mut twins = Twins::new(&rig, &login(user)).await;
            twins.run(first).await;
            for read in READS {
                for how in Protocol::ALL {
                    if twins.ask(how, read).await.rows().is_ok() {
                        twins.hit(how, read).await;
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_role_set_in_a_transaction_ends_with_it() {
    each_version(async |pg| {
        let rig = rig(pg, &format!("{ROLES} {SCHEMA}")).await;
        let read = "SELECT id, v, secret FROM t";
        let mut other = rig.client().await;
        for how in Protocol::ALL {
            other.warm(how, read, None).await;
        }
        for steps in [
            &["BEGIN", "SET LOCAL ROLE bob"][..],
            &["BEGIN", "SELECT set_config('role', 'bob', true)"],
            &["BEGIN", "SET LOCAL SESSION AUTHORIZATION bob"],
            &["BEGIN", "SAVEPOINT a", "SET LOCAL ROLE bob", "ROLLBACK TO a"],
            &["BEGIN", "SET LOCAL ROLE bob", "COMMIT"],
            &["BEGIN", "SET ROLE bob", "ROLLBACK"],
            &["BEGIN", "SET ROLE bob", "COMMIT"],
            &["BEGIN", "SET LOCAL ROLE bob", "SELECT id FROM open", "COMMIT"],
            &["BEGIN", "SET LOCAL ROLE bob", "SELECT id FROM open", "RESET ROLE"],
            &["SET ROLE bob", "RESET ALL"],
            &["SET ROLE bob", "DISCARD ALL"],
            &["SET SESSION AUTHORIZATION bob", "RESET SESSION AUTHORIZATION"],
        ] {
            let mut twins = Twins::new(&rig, &login("postgres")).await;
            for step in steps {
                twins.run(step).await;
            }
            let served = twins.ask(Protocol::Simple, read).await;
            if served.rows().is_ok() {
                twins.hit_by_all(read).await;
            }
            twins.run("ROLLBACK").await;
        }
    })
    .await;
}

const CHANGES: &[Change] = &[
    ("GRANT SELECT ON t TO bob", "REVOKE SELECT ON t FROM bob", "bob", "SELECT v FROM t"),
    ("GRANT SELECT ON t TO public", "REVOKE SELECT ON t FROM public", "bob", "SELECT v FROM t"),
    ("REVOKE SELECT ON open FROM public", "GRANT SELECT ON open TO public", "bob", "SELECT id FROM open"),
    ("GRANT SELECT (v) ON t TO bob", "REVOKE SELECT (v) ON t FROM bob", "bob", "SELECT v FROM t"),
    (
        "REVOKE SELECT (v) ON columns FROM ann, staff",
        "GRANT SELECT (v) ON columns TO ann",
        "ann",
        "SELECT v FROM columns",
    ),
    ("REVOKE staff FROM ann", "GRANT staff TO ann", "ann", "SELECT id FROM for_staff"),
    ("GRANT staff TO bob", "REVOKE staff FROM bob", "bob", "SELECT id FROM for_staff"),
    ("GRANT pg_read_all_data TO bob", "REVOKE pg_read_all_data FROM bob", "bob", "SELECT v FROM t"),
    ("ALTER ROLE bob SUPERUSER", "ALTER ROLE bob NOSUPERUSER", "bob", "SELECT v FROM t"),
    ("ALTER TABLE t OWNER TO bob", "ALTER TABLE t OWNER TO postgres", "bob", "SELECT v FROM t"),
    (
        "REVOKE USAGE ON SCHEMA inner1 FROM bob",
        "GRANT USAGE ON SCHEMA inner1 TO bob",
        "bob",
        "SELECT v FROM inner1.t",
    ),
    (
        "GRANT USAGE ON SCHEMA inner1 TO ann",
        "REVOKE USAGE ON SCHEMA inner1 FROM ann",
        "ann",
        "SELECT v FROM inner1.t",
    ),
    (
        "ALTER VIEW of_owner OWNER TO bob",
        "ALTER VIEW of_owner OWNER TO postgres",
        "ann",
        "SELECT * FROM of_owner",
    ),
    (
        "ALTER VIEW of_owner SET (security_invoker = true)",
        "ALTER VIEW of_owner RESET (security_invoker)",
        "ann",
        "SELECT * FROM of_owner",
    ),
    ("REVOKE SELECT ON part FROM ann", "GRANT SELECT ON part TO ann", "ann", "SELECT * FROM part"),
];

#[tokio::test]
async fn grants_revokes_and_memberships_take_effect() {
    each_version(async |pg| {
        let rig = rig(pg, &format!("{ROLES} {SCHEMA}")).await;
        take_effect(&rig, "SELECT 1", CHANGES).await;
    })
    .await;
}

/// A grant of the schema's use moves an unqualified name to another table.
#[tokio::test]
async fn a_grant_can_change_what_a_name_means() {
    each_version(async |pg| {
        let rig = rig(pg, &format!("{ROLES} {SCHEMA} GRANT SELECT ON t TO ann;")).await;
        let change: Change = (
            "GRANT USAGE ON SCHEMA inner1 TO ann",
            "REVOKE USAGE ON SCHEMA inner1 FROM ann",
            "ann",
            "SELECT id, v FROM t",
        );
        take_effect(&rig, "SET search_path = inner1, public", &[change]).await;
    })
    .await;
}

/// ALTER ROLE and ALTER DATABASE ... SET are for sessions to come.
#[tokio::test]
async fn settings_of_roles_and_databases_reach_the_next_session() {
    each_version(async |pg| {
        let schema = "CREATE TABLE event (id int, at timestamptz); INSERT INTO event VALUES (1, '2024-01-02 03:04:05+00');
            CREATE SCHEMA s1; CREATE TABLE s1.event (id int, at timestamptz); INSERT INTO s1.event VALUES (2, '2024-05-05 00:00+00');
            GRANT USAGE ON SCHEMA s1 TO public; GRANT SELECT ON ALL TABLES IN SCHEMA public, s1 TO public;";
        let rig = rig(pg, &format!("{ROLES} {schema}")).await;
        let read = "SELECT id, at FROM event";
        let mut admin = rig.client().await;
        let mut around = rig.direct().await;
        for (number, change) in [
            "ALTER ROLE ann SET timezone = 'Asia/Tokyo'",
            "ALTER ROLE ann IN DATABASE postgres SET datestyle = 'German'",
            "ALTER DATABASE postgres SET timezone = 'America/Lima'",
            "ALTER ROLE ann SET search_path = s1, public",
            "ALTER ROLE ALL SET extra_float_digits = 0",
            "ALTER ROLE ann RESET ALL",
            "ALTER ROLE ann IN DATABASE postgres RESET ALL",
            "ALTER ROLE ann SET role = 'ann'",
            "ALTER ROLE ann SET default_transaction_isolation = 'serializable'",
            "ALTER ROLE ann RESET ALL",
            "ALTER DATABASE postgres RESET ALL",
        ]
        .iter()
        .enumerate()
        {
            let mut old = Twins::new(&rig, &login("ann")).await;
            old.ask(Protocol::Simple, read).await;
            if number % 2 == 0 { admin.run(change).await } else { around.run(change).await }
            // What is open goes on as it was; what is new has the new settings.
            let mut new = Twins::new(&rig, &login("ann")).await;
            for twins in [&mut old, &mut new] {
                for how in Protocol::ALL {
                    twins.ask(how, read).await;
                    twins.ask(how, read).await;
                }
            }
        }
        new_hits(&rig, read).await;
    })
    .await;
}

async fn new_hits(rig: &crate::freshness::Rig, read: &str) {
    let mut ann = Client::login(rig.larder.addr(), &login("ann")).await.unwrap();
    ann.warm(Protocol::Simple, read, None).await;
}

/// From version 16 on a membership need not be inherited, and that can change.
#[tokio::test]
async fn a_membership_that_is_not_inherited_any_more() {
    let rig = rig(pg(PgVersion::V18), &format!("{ROLES} {SCHEMA}")).await;
    let changes: &[Change] = &[(
        "GRANT staff TO ann WITH INHERIT FALSE",
        "GRANT staff TO ann WITH INHERIT TRUE",
        "ann",
        "SELECT id FROM for_staff",
    )];
    take_effect(&rig, "SELECT 1", changes).await;
}
