//! What a statement may change.

use larder_core::Catalog;
use larder_sql::{Effect, Footprint, Parsed, Settings};

use crate::catalog;

const UNKNOWN: &str = "all settings reverts isolation catalog temporary lock";
const DDL: &str = "all settings catalog lock";
const TEMPORARY: &str = "all settings catalog temporary lock";
const TRIGGERS: &str = "all settings temporary";

/// The effect in words: the relations or `all`, then the flags.
fn words(catalog: &Catalog, effect: &Effect) -> String {
    let mut words = match &effect.writes {
        Footprint::Nothing => Vec::new(),
        Footprint::Everything => vec!["all".to_owned()],
        Footprint::Relations(oids) => {
            assert!(oids.is_sorted_by(|a, b| a < b), "{oids:?}");
            vec![catalog::names(catalog, oids)]
        }
    };
    words.extend(match effect.settings {
        Settings::Nothing => None,
        Settings::Custom => Some("custom".to_owned()),
        Settings::Anything => Some("settings".to_owned()),
    });
    for (name, set) in [
        ("reverts", effect.reverts),
        ("isolation", effect.isolation),
        ("catalog", effect.catalog),
        ("temporary", effect.temporary),
        ("lock", effect.lock),
    ] {
        words.extend(set.then(|| name.to_owned()));
    }
    words.join(" ")
}

fn check(cases: &[(&str, &str)]) {
    let catalog = catalog::catalog();
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let found = words(&catalog, &Parsed::parse(sql).judge(&catalog, &catalog::path()).effect);
        if found != *expected {
            wrong.push(format!("{sql}\n    expected {expected}, found {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn reads() {
    check(&[
        ("SELECT * FROM users", ""),
        ("SELECT now(), random(), clock_timestamp(), gen_random_uuid() FROM users", ""),
        ("SELECT nextval('users_id_seq'), setval('users_id_seq', 1)", ""),
        ("SELECT pg_notify('a', 'b'), pg_sleep(1), pg_relation_size('users')", ""),
        ("SELECT pg_advisory_lock(1)", "lock"),
        ("SELECT pg_try_advisory_lock(1)", "lock"),
        ("SELECT pg_advisory_unlock(1)", ""),
        ("SELECT * FROM users FOR UPDATE", "lock"),
        ("SELECT set_config('a.b', 'c', true)", "custom"),
        ("SELECT set_config('a.b', $1, false)", "custom"),
        ("SELECT set_config('a.b'::text, $1, false)", "custom"),
        ("SELECT set_config('TimeZone', 'UTC', true)", "settings"),
        ("SELECT set_config('a.b', 'c', true), set_config('role', 'x', true)", "settings"),
        ("SELECT set_config('Statement_Timeout', '1s', true)", ""),
        ("SELECT set_config($1, 'c', true)", "settings"),
        ("SELECT set_config('a.' || name, 'c', true) FROM users", "settings"),
        ("SELECT set_config('a.b', 'c', true), pg_advisory_lock(1)", "custom lock"),
        // Policies are judged as the queries that they are part of.
        ("SELECT * FROM docs, projects, fading, timed", ""),
        ("SELECT tax(1)", UNKNOWN),
        ("SELECT nothing_like_it(1)", UNKNOWN),
        ("SELECT query_to_xml('DELETE FROM users', true, true, '')", UNKNOWN),
        ("SELECT ts_stat('SELECT tax(1)')", UNKNOWN),
        ("SELECT table_to_xml('taxed', true, true, '')", UNKNOWN),
        ("SELECT lo_unlink(1)", UNKNOWN),
        ("SELECT json_populate_record(NULL::users, '{}')", UNKNOWN),
        ("SELECT set_limit(0.3)", UNKNOWN),
        ("SELECT uuid_generate_v4(), show_limit(), similarity('a', 'b')", ""),
        ("SELECT * FROM nowhere", UNKNOWN),
        ("SELECT * FROM pg_class, information_schema.tables", ""),
        ("SELECT * FROM report, scratch, remote, users_id_seq", ""),
        ("SELECT * FROM adults", ""),
        ("SELECT * FROM fresh", ""),
        ("SELECT * FROM taxed", UNKNOWN),
        ("SELECT * FROM opaque", UNKNOWN),
        ("SELECT * FROM secret, hidden", ""),
        ("SELECT * FROM guarded", UNKNOWN),
        ("SELECT 'a'::email", UNKNOWN),
        ("SELECT 1 === 2", UNKNOWN),
        ("SELECT u.nickname FROM users u", UNKNOWN),
        ("SELECT * FROM users TABLESAMPLE bernoulli (1)", ""),
        ("SELECT * FROM users TABLESAMPLE odd (1)", UNKNOWN),
        ("SELECT JSON_VALUE('{}', '$'), xmlelement(name a)", ""),
        ("SELECT xmlelement(name a, tax(1))", UNKNOWN),
        ("SELECT * INTO copied FROM users", UNKNOWN),
        ("WITH x AS (INSERT INTO users VALUES (1) RETURNING id) SELECT * FROM x", "users"),
        ("WITH x AS (DELETE FROM users), y AS (DELETE FROM orders) SELECT 1", "users orders"),
    ]);
}

#[test]
fn writes() {
    check(&[
        ("INSERT INTO users VALUES (1)", "users"),
        ("INSERT INTO users DEFAULT VALUES", "users"),
        ("INSERT INTO users SELECT * FROM users RETURNING id, now()", "users"),
        (
            "INSERT INTO users (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *",
            "users",
        ),
        ("INSERT INTO users VALUES (tax(1))", UNKNOWN),
        ("INSERT INTO users VALUES (1) ON CONFLICT (id) DO UPDATE SET name = tax(1)", UNKNOWN),
        ("INSERT INTO users VALUES (1) RETURNING tax(1)", UNKNOWN),
        ("INSERT INTO users SELECT 1 FROM taxed", UNKNOWN),
        ("WITH x AS (DELETE FROM orders RETURNING id) INSERT INTO users SELECT id FROM x", "users orders"),
        // The target is the table, whatever WITH says.
        ("WITH users AS (SELECT 1) INSERT INTO users SELECT * FROM users", "users"),
        ("UPDATE users SET name = 'x', created = now() WHERE id = $1", "users"),
        ("UPDATE users u SET name = o.note FROM orders o WHERE o.user_id = u.id", "users"),
        ("UPDATE users SET (name, email) = (SELECT note, note FROM orders LIMIT 1)", "users"),
        ("UPDATE users SET name = tax(1)", UNKNOWN),
        ("UPDATE users SET id = 1 WHERE CURRENT OF c", "users"),
        ("DELETE FROM users USING orders WHERE orders.user_id = users.id", "users"),
        ("DELETE FROM sales", "sales sales_a sales_b"),
        ("DELETE FROM sales_a", "sales sales_a"),
        (
            "MERGE INTO users u USING orders o ON o.user_id = u.id WHEN MATCHED THEN UPDATE SET name = o.note \
          WHEN NOT MATCHED THEN INSERT (id) VALUES (o.user_id) RETURNING merge_action(), u.id",
            "users",
        ),
        ("MERGE INTO users u USING (SELECT tax(1) AS t) s ON true WHEN MATCHED THEN DELETE", UNKNOWN),
        ("INSERT INTO audited VALUES (1)", TRIGGERS),
        ("INSERT INTO family VALUES (1)", TRIGGERS),
        ("INSERT INTO noisy_child VALUES (1)", TRIGGERS),
        ("INSERT INTO adults VALUES (1)", TRIGGERS),
        ("INSERT INTO ruled VALUES (1)", TRIGGERS),
        ("INSERT INTO far VALUES (1)", TRIGGERS),
        ("INSERT INTO pg_class VALUES (1)", TRIGGERS),
        ("INSERT INTO scratch VALUES (1)", "scratch"),
        ("INSERT INTO nowhere VALUES (1)", UNKNOWN),
        ("INSERT INTO secret VALUES (1)", "secret"),
        ("INSERT INTO guarded VALUES (1)", UNKNOWN),
        ("TRUNCATE users, orders", "users orders"),
        ("TRUNCATE ONLY sales RESTART IDENTITY", "sales sales_a sales_b"),
        ("TRUNCATE users CASCADE", TRIGGERS),
        ("TRUNCATE audited", TRIGGERS),
        ("TRUNCATE nowhere", TRIGGERS),
        ("COPY users FROM STDIN", "users"),
        ("COPY users (id, name) FROM '/tmp/x' WITH (FORMAT csv) WHERE id > 1", "users"),
        ("COPY users FROM STDIN WHERE tax(1) > 0", UNKNOWN),
        ("COPY users FROM PROGRAM 'true'", UNKNOWN),
        ("COPY users TO PROGRAM 'true'", UNKNOWN),
        ("COPY users TO STDOUT", ""),
        ("COPY (SELECT * FROM users) TO STDOUT", ""),
        ("COPY (SELECT tax(1)) TO STDOUT", UNKNOWN),
        ("COPY (DELETE FROM users RETURNING id) TO STDOUT", "users"),
        ("COPY guarded TO STDOUT", UNKNOWN),
    ]);
}

#[test]
fn everything_else() {
    check(&[
        ("CREATE TABLE a (id int)", DDL),
        ("CREATE TEMP TABLE a (id int)", TEMPORARY),
        ("CREATE TABLE pg_temp.a (id int)", TEMPORARY),
        ("CREATE TABLE U&\"pg\\005ftem\\0070\".a (id int)", TEMPORARY),
        ("CREATE TEMPORARY VIEW a AS SELECT 1", TEMPORARY),
        ("CREATE VIEW a AS SELECT 1", DDL),
        ("CREATE TABLE a AS SELECT 1", DDL),
        ("ALTER TABLE users ADD x int", DDL),
        ("DROP TABLE users", DDL),
        ("GRANT SELECT ON users TO public", DDL),
        ("ALTER ROLE x SET search_path = y", DDL),
        ("REFRESH MATERIALIZED VIEW report", DDL),
        ("COMMENT ON TABLE users IS 'x'", DDL),
        ("ALTER SYSTEM SET work_mem = 1", DDL),
        ("CREATE EXTENSION pg_trgm", DDL),
        ("REASSIGN OWNED BY a TO b", DDL),
        ("SECURITY LABEL ON TABLE users IS 'x'", DDL),
        ("SET timezone = 'UTC'", "settings"),
        ("SET LOCAL timezone = 'UTC'", "settings"),
        ("SET app.tenant = '7'", "custom"),
        ("SET LOCAL \"App\".tenant TO DEFAULT", "custom"),
        ("RESET app.tenant", "custom"),
        ("SET statement_timeout = '5s'", ""),
        ("SET LOCAL \"Lock_Timeout\" = 0", ""),
        ("SET transaction_timeout = 0", ""),
        ("SET application_name = 'x'", ""),
        ("RESET ALL", "settings"),
        ("SET ROLE x", "settings"),
        ("SET SESSION AUTHORIZATION x", "settings"),
        ("SET TRANSACTION READ ONLY", "settings isolation"),
        ("SET transaction_isolation = 'serializable'", "settings isolation"),
        ("SET \"TRANSACTION_ISOLATION\" = 'serializable'", "settings isolation"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "settings isolation"),
        ("DISCARD ALL", "settings"),
        ("DISCARD TEMP", "settings"),
        ("DISCARD PLANS", ""),
        ("SHOW ALL", ""),
        ("EXPLAIN SELECT * FROM users", ""),
        ("EXPLAIN INSERT INTO users VALUES (1)", ""),
        ("EXPLAIN ANALYZE INSERT INTO users VALUES (1)", "users"),
        ("EXPLAIN (ANALYZE, BUFFERS) SELECT tax(1)", UNKNOWN),
        // Planning evaluates functions of constants.
        ("EXPLAIN SELECT tax(1)", UNKNOWN),
        ("EXPLAIN EXECUTE a", UNKNOWN),
        ("LISTEN a", ""),
        ("UNLISTEN *", ""),
        ("NOTIFY a, 'b'", ""),
        ("LOCK TABLE users", "lock"),
        ("DECLARE c CURSOR FOR SELECT 1", UNKNOWN),
        ("FETCH c", UNKNOWN),
        ("MOVE c", UNKNOWN),
        ("CLOSE c", ""),
        ("CALL x()", UNKNOWN),
        ("DO $$ BEGIN END $$", UNKNOWN),
        ("PREPARE a AS SELECT 1", ""),
        ("EXECUTE a", UNKNOWN),
        ("DEALLOCATE a", ""),
        ("LOAD 'x'", UNKNOWN),
        ("BEGIN", "isolation"),
        ("COMMIT", "reverts"),
        ("ROLLBACK", "reverts"),
        ("SAVEPOINT a", ""),
        ("RELEASE a", ""),
        ("ROLLBACK TO a", "reverts"),
        ("COMMIT AND CHAIN", "reverts"),
        ("ROLLBACK AND CHAIN", "reverts"),
        ("PREPARE TRANSACTION 'a'", "reverts"),
        ("COMMIT; BEGIN ISOLATION LEVEL SERIALIZABLE", "reverts isolation"),
        ("COMMIT PREPARED 'a'", "all catalog"),
        ("ROLLBACK PREPARED 'a'", ""),
        ("SET CONSTRAINTS ALL IMMEDIATE", UNKNOWN),
        ("VACUUM users", "catalog"),
        ("ANALYZE", "catalog"),
        ("REINDEX TABLE users", "catalog"),
        ("CHECKPOINT", ""),
        ("", ""),
        ("SELECT 1; INSERT INTO users VALUES (1); DELETE FROM orders", "users orders"),
        ("BEGIN; SET LOCAL a.b = 1; UPDATE users SET id = 1; COMMIT", "users custom reverts isolation"),
        ("SELECT 1; CREATE TABLE a (id int)", DDL),
        ("SELECT 1; SELEC", UNKNOWN),
        ("SELEC", UNKNOWN),
        ("SELECT 'a\\' || now() || '", UNKNOWN),
        ("SET larder.mode = 'bypass'", "custom"),
        ("SHOW larder.last", ""),
    ]);
}

#[test]
fn a_path_that_starts_with_the_temporary_schema_makes_new_objects_temporary() {
    let catalog = catalog::catalog();
    let path = ["pg_temp_3", "pg_catalog", "public"].map(str::to_owned);
    let effect = |sql: &str| Parsed::parse(sql).judge(&catalog, &path).effect;
    assert!(effect("CREATE TABLE a (id int)").temporary);
    assert!(effect("SELECT * INTO a FROM users").temporary);
    assert!(!effect("SELECT * FROM users").temporary);
}
