//! Settings that change bytes, changed in every way there is, before a cache warmed by sessions with other settings.

use larder_testkit::{Login, each_version};

use crate::freshness::{Client, Protocol, Rig};
use crate::twins::{ROLES, Twins, login, rig};

const SCHEMA: &str = "
    CREATE TABLE event (id int, at timestamptz, day date, span interval, raw bytea, f float8, r float4, v text);
    INSERT INTO event VALUES (1, '2024-02-03 04:05:06.7+00', '2024-02-03', '1 year 2 days 03:00', '\\x01ff', 0.1, 1.1, NULL),
        (2, '2024-08-03 04:05:06.7+00', '2024-08-09', '-1 day', '\\x', 1e20, 3.3, 'The quick foxes');
    CREATE SCHEMA s1; CREATE TABLE s1.event AS SELECT id + 10 AS id, at, day, span, raw, f, r, v FROM event;
    GRANT USAGE ON SCHEMA s1 TO public; GRANT SELECT ON ALL TABLES IN SCHEMA public, s1 TO public;
    CREATE FUNCTION set_it(n text, v text, l bool) RETURNS text LANGUAGE plpgsql AS
        'BEGIN RETURN set_config(n, v, l); END';
    CREATE PROCEDURE set_by_call(n text, v text) LANGUAGE plpgsql AS
        'BEGIN PERFORM set_config(n, v, false); COMMIT; END';
    CREATE FUNCTION quiet() RETURNS int LANGUAGE sql SET timezone = 'Asia/Kolkata' AS 'SELECT 1';";

/// A setting, a value that is not the default, and what reads differently with it.
const SETTINGS: &[(&str, &str, &str)] = &[
    (
        "TimeZone",
        "Asia/Tokyo",
        "SELECT at, to_char(at, 'HH24 TZ'), date_trunc('day', at) FROM event ORDER BY id",
    ),
    ("DateStyle", "German, DMY", "SELECT at, day, day::text FROM event ORDER BY id"),
    ("IntervalStyle", "iso_8601", "SELECT span FROM event ORDER BY id"),
    ("extra_float_digits", "-3", "SELECT f, r, f::text FROM event ORDER BY id"),
    ("bytea_output", "escape", "SELECT raw FROM event ORDER BY id"),
    ("search_path", "s1", "SELECT id FROM event ORDER BY id"),
    ("transform_null_equals", "on", "SELECT id FROM event WHERE v = NULL"),
    ("default_text_search_config", "pg_catalog.simple", "SELECT to_tsvector(v) FROM event ORDER BY id"),
    ("array_nulls", "off", "SELECT '{NULL}'::text[], id FROM event ORDER BY id"),
    ("client_encoding", "LATIN1", "SELECT chr(233), id FROM event ORDER BY id"),
    ("role", "bob", "SELECT current_user, id FROM event ORDER BY id"),
    (
        "quote_all_identifiers",
        "on",
        "SELECT current_setting('quote_all_identifiers'), quote_ident(coalesce(v, 'a')) FROM event ORDER BY id",
    ),
    ("lc_monetary", "C", "SELECT 1.5::numeric::money, current_setting('lc_monetary') FROM event"),
    ("row_security", "off", "SELECT current_setting('row_security') FROM event"),
];

/// Ways to change a setting ($n to $v): the steps; READ stands for reading it in between.
const WAYS: &[&[&str]] = &[
    &["SET $n = $v"],
    &["SELECT set_config('$n', '$s', false)"],
    &["SELECT pg_catalog.set_config('$n'::text, '$s', $$f$$::bool)"],
    &["DO $do$ BEGIN PERFORM set_config('$n', '$s', false); END $do$"],
    &["SELECT set_it('$n', '$s', false)"],
    &["CALL set_by_call('$n', '$s')"],
    &["SELECT 1; SET $n = $v"],
    &["READ", "SET $n = $v", "READ", "RESET $n"],
    &["SET $n = $v", "READ", "RESET ALL"],
    &["SET $n = $v", "READ", "DISCARD ALL"],
    &["SET $n = $v", "READ", "SET $n TO DEFAULT"],
    &["SET LOCAL $n = $v"],
    &["BEGIN", "SET LOCAL $n = $v"],
    &["BEGIN", "READ", "SET LOCAL $n = $v"],
    &["BEGIN", "SET LOCAL $n = $v", "READ", "COMMIT"],
    &["BEGIN", "SET LOCAL $n = $v", "READ", "ROLLBACK"],
    &["BEGIN", "SET $n = $v", "READ", "COMMIT"],
    &["BEGIN", "SET $n = $v", "READ", "ROLLBACK"],
    &["BEGIN", "SET $n = $v", "READ", "SELECT 1/0", "ROLLBACK"],
    &["BEGIN", "SAVEPOINT a", "SET $n = $v", "READ", "ROLLBACK TO a"],
    &["BEGIN", "SAVEPOINT a", "SET LOCAL $n = $v", "READ", "RELEASE a"],
    &["BEGIN", "SAVEPOINT a", "SET LOCAL $n = $v", "SELECT 1/0", "ROLLBACK TO a", "READ", "COMMIT"],
    &["BEGIN", "SELECT set_it('$n', '$s', true)", "READ", "COMMIT"],
    &["BEGIN", "SELECT set_config('$n', '$s', true)", "READ", "COMMIT AND CHAIN"],
    &["SELECT quiet()"],
];

/// The text in the middle of the test of a way.
fn step(text: &str, name: &str, value: &str, read: &str) -> String {
    // A list is given without quotes.
    let quoted = if name == "search_path" { value.to_owned() } else { format!("'{value}'") };
    match text {
        "READ" => read.to_owned(),
        _ => text.replace("$n", name).replace("$v", &quoted).replace("$s", value),
    }
}

/// Sessions with the default and with the other value fill the cache.
async fn warm(rig: &Rig, user: &str) -> Vec<Client> {
    let mut others = vec![];
    for (name, value, read) in SETTINGS {
        for before in ["SELECT 1", &step("SET $n = $v", name, value, read)] {
            let mut other = Client::login(rig.larder.addr(), &login(user)).await.unwrap();
            other.run(before).await;
            for how in Protocol::ALL {
                other.warm(how, read, None).await;
            }
            others.push(other);
        }
    }
    others
}

#[tokio::test]
async fn a_setting_is_noticed_however_it_was_changed() {
    each_version(async |pg| {
        let rig = rig(pg, &format!("{ROLES} GRANT bob TO ann; {SCHEMA}")).await;
        let _others = warm(&rig, "ann").await;
        let mut ann = Twins::new(&rig, &login("ann")).await;
        for (name, value, read) in SETTINGS {
            for way in WAYS {
                for text in *way {
                    ann.run(&step(text, name, value, read)).await;
                }
                for how in Protocol::ALL {
                    ann.ask(how, read).await;
                }
                ann.run("ROLLBACK").await;
                for how in [Protocol::Simple, Protocol::Unnamed] {
                    ann.hit(how, read).await;
                }
                // It goes on as it was analysed, which the origin knows best.
                ann.ask(Protocol::Prepared, read).await;
                ann.run("DISCARD ALL").await;
                ann.forget();
            }
        }
    })
    .await;
}

/// A literal in a prepared statement means what it meant when the statement was prepared.
#[tokio::test]
async fn literals_of_prepared_statements_stay_as_they_were_read() {
    each_version(async |pg| {
        let rig = rig(pg, SCHEMA).await;
        let reads = [
            ("SELECT id, date '02/03/2024' FROM event ORDER BY id", "SET datestyle = 'SQL, DMY'"),
            ("SELECT id FROM event WHERE at < '2024-02-03 06:00' ORDER BY id", "SET timezone = 'Asia/Tokyo'"),
            ("SELECT id FROM event WHERE v = NULL", "SET transform_null_equals = on"),
            ("SELECT id, interval '-1 2:00' FROM event", "SET intervalstyle = sql_standard"),
        ];
        for (read, set) in reads {
            // Others ask the same under either setting.
            let mut plain = Twins::new(&rig, &Login::superuser()).await;
            plain.hit_by_all(read).await;
            let mut other = Twins::new(&rig, &Login::superuser()).await;
            other.run(set).await;
            other.hit_by_all(read).await;
            // Prepared under one, executed under the other.
            plain.run(set).await;
            for _ in 0..3 {
                plain.ask(Protocol::Prepared, read).await;
            }
            // Nothing of that was kept for those who mean what they ask.
            other.hit_by_all(read).await;
            plain.run("RESET ALL").await;
            plain.hit(Protocol::Prepared, read).await;
        }
    })
    .await;
}

#[tokio::test]
async fn settings_of_the_startup_message_count() {
    each_version(async |pg| {
        let rig = rig(pg, &format!("{ROLES} GRANT bob TO ann; {SCHEMA}")).await;
        let _others = warm(&rig, "ann").await;
        for (name, value, read) in SETTINGS {
            let escaped = value.replace(' ', "\\ ");
            let logins: [Login; 3] = [
                login("ann").parameter("options", &format!("-c {name}={escaped}")),
                login("ann").parameter("options", &format!("--{}={escaped}", name.replace('_', "-"))),
                login("ann").parameter(name, value),
            ];
            for login in logins {
                let mut twins = Twins::new(&rig, &login).await;
                twins.hit_by_all(read).await;
                twins.run(&format!("RESET {name}")).await;
                twins.hit_by_all(read).await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn settings_that_change_no_answer_cost_nothing() {
    each_version(async |pg| {
        let rig = rig(pg, SCHEMA).await;
        let read = "SELECT id, at FROM event ORDER BY id";
        let mut client = rig.client().await;
        client.warm(Protocol::Simple, read, None).await;
        for change in [
            "SET statement_timeout = '1min'",
            "SET application_name = 'other'",
            "BEGIN; SET LOCAL lock_timeout = '1s'; COMMIT",
            "SELECT set_config('work_mem', '8MB', false)",
        ] {
            client.run(change).await;
            assert!(client.ask(read).await.is_hit(), "{change}");
        }
        client.run("BEGIN").await;
        client.run("SET LOCAL statement_timeout = '1min'").await;
        assert!(client.ask(read).await.is_hit());
        client.run("COMMIT").await;
    })
    .await;
}

/// A setting that a view reads is part of the key like one that a policy reads; one that nothing reads is not known.
#[tokio::test]
async fn settings_that_queries_and_views_read() {
    each_version(async |pg| {
        let schema = "CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b');
            CREATE VIEW mine AS SELECT id FROM t WHERE v = current_setting('app.v', true);";
        let rig = rig(pg, schema).await;
        let mut one = Twins::new(&rig, &Login::superuser()).await;
        let mut two = Twins::new(&rig, &Login::superuser()).await;
        two.run("SET app.v = 'b'").await;
        for twins in [&mut one, &mut two] {
            twins.hit_by_all("SELECT * FROM mine").await;
            twins
                .hit_by_all("SELECT current_setting('app.v', true), current_setting('App.V', true) IS NULL")
                .await;
            twins.hit_by_all("SELECT current_setting('TimeZone'), current_setting('search_path')").await;
            twins.bypassed("SELECT current_setting('app.other', true)", "stable_function").await;
            twins.bypassed("SELECT current_setting('server_version')", "stable_function").await;
            twins.bypassed("SELECT current_setting('transaction_isolation')", "stable_function").await;
            twins.bypassed("SELECT current_setting(v, true) FROM t WHERE id = 0", "stable_function").await;
        }
        // Never set, and set to nothing: not the same.
        one.run("SET app.v = 'a'").await;
        one.run("RESET app.v").await;
        one.hit_by_all("SELECT current_setting('app.v', true), current_setting('App.V', true) IS NULL").await;
    })
    .await;
}
