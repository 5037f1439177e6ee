//! Which answers may be kept at all (docs/hazards.md, A): each kind of statement that peers were seen to freeze, asked
//! again and again by one session and then by another, with a memory as warm as it gets.

use crate::freshness::{Client, Protocol, Rig};
use crate::transparency::VERSIONS;
use larder_testkit::pg;

/// What the statements read.
const SCHEMA: &str = "
create table item (id int primary key, name text not null, at timestamptz not null default now());
insert into item select i, 'name ' || i, '2024-02-03 04:05:06+00' from generate_series(1, 50) i;
create table logbook (n int);
create function reads_item(int) returns text language plpgsql immutable as
    $$ declare found_name text; begin execute 'select name from item where id = $1' into found_name using $1; return found_name; end $$;
create function plus_one(int) returns int language sql immutable as 'select $1 + 1';
create function same_text(text, text) returns boolean language plpgsql immutable as
    $$ begin return $1 = (select name from item where id = 1) or $1 = $2; end $$;
create operator === (leftarg = text, rightarg = text, function = same_text);
create sequence counter;
create table ruled (id int);
create rule no_delete as on delete to ruled do instead nothing;
";

/// Asks from two sessions, and says how the second one was served the last time.
async fn served_when_warm(first: &mut Client, second: &mut Client, how: Protocol, sql: &str) -> String {
    for _ in 0..3 {
        first.try_ask(how, sql, None).await.unwrap();
    }
    let mut served = String::new();
    for _ in 0..3 {
        served = second.ask_with(how, sql, None).await.how;
    }
    served
}

/// Every statement is refused for the reason named, in every protocol, on both versions, however warm the memory is.
async fn refused(cases: &[(&str, &str)]) {
    refused_in(&Protocol::ALL, cases).await;
}

async fn refused_in(protocols: &[Protocol], cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for version in VERSIONS {
        let rig = Rig::new(pg(version), &[]).await;
        rig.pg.sql(SCHEMA).unwrap();
        let (mut first, mut second) = (rig.client().await, rig.client().await);
        for (sql, reason) in cases {
            // The memory works while these are refused: a test whose cache is off proves nothing.
            second.warm(Protocol::Simple, "select name from item where id = 1", None).await;
            for &how in protocols {
                let served = served_when_warm(&mut first, &mut second, how, sql).await;
                if served != format!("bypass; reason={reason}") {
                    wrong.push(format!("{version}, {how:?}: {sql}: {served}, not {reason}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn volatile_functions_are_never_frozen() {
    refused(&[
        ("select random()", "volatile_function"),
        ("select name from item where random() < 2 and id = 1", "volatile_function"),
        ("select name from item order by random() limit 1", "volatile_function"),
        ("select count(*) from item having random() < 2", "volatile_function"),
        ("select name from item limit (1 + random())::int", "volatile_function"),
        ("select clock_timestamp()", "volatile_function"),
        ("select nextval('counter')", "volatile_function"),
        ("select pg_try_advisory_lock(1)", "volatile_function"),
        ("select set_config('app.tenant', '1', false)", "volatile_function"),
        ("select gen_random_uuid()", "volatile_function"),
        ("select lo_get(loid) from pg_largeobject", "system_catalog"),
        ("select lo_get(1)", "volatile_function"),
        ("select pg_backend_pid()", "stable_function"),
    ])
    .await;
}

#[tokio::test]
async fn clocks_and_stable_functions_are_never_frozen() {
    refused(&[
        ("select now()", "stable_function"),
        ("select id from item where at < now() - interval '1 day'", "stable_function"),
        ("select statement_timestamp()", "stable_function"),
        ("select txid_current()", "stable_function"),
        ("select pg_postmaster_start_time()", "stable_function"),
        ("select age(at) from item where id = 1", "stable_function"),
        ("select current_setting('app.tenant', true)", "stable_function"),
        ("select current_date", "clock"),
        ("select current_timestamp, localtime", "clock"),
        ("select id from item where at < current_timestamp", "clock"),
        ("select 'now'::timestamptz", "relative_time_literal"),
        ("select timestamp ' ToDay '", "relative_time_literal"),
        ("select id from item where at < 'tomorrow'", "relative_time_literal"),
        ("select id from item where at > 'yesterday 12:00'", "relative_time_literal"),
        ("select ('n' || 'ow')::timestamptz", "computed_datetime_cast"),
    ])
    .await;
}

/// A bound value can be 'now' too, and a plan that has served other values must not serve this one.
#[tokio::test]
async fn a_bound_now_is_never_frozen() {
    for version in VERSIONS {
        let rig = Rig::new(pg(version), &[]).await;
        rig.pg.sql(SCHEMA).unwrap();
        let mut client = rig.client().await;
        let sql = "select $1::timestamptz";
        for how in [Protocol::Unnamed, Protocol::Prepared] {
            client.warm(how, sql, Some("2024-01-01 00:00:00+00")).await;
            let mut seen = Vec::new();
            for _ in 0..3 {
                let served = client.ask_with(how, sql, Some(" Now ")).await;
                assert_eq!(served.how, "bypass; reason=relative_time_literal", "{version} {how:?}");
                seen.push(served.value());
            }
            seen.dedup();
            assert_eq!(seen.len(), 3, "{version} {how:?}: time stood still: {seen:?}");
        }
    }
}

#[tokio::test]
async fn functions_and_operators_of_users_are_not_trusted() {
    refused(&[
        ("select reads_item(1)", "user_function"),
        ("select plus_one(id) from item where id = 1", "user_function"),
        ("select id from item where plus_one(id) = 2", "user_function"),
        ("select id from item order by plus_one(id) limit 1", "user_function"),
        ("select name === 'x' from item where id = 1", "user_function"),
        ("select no_such_function(1) from item", "unknown_function"),
    ])
    .await;
}

#[tokio::test]
async fn statements_that_do_more_than_read_are_relayed() {
    refused(&[
        ("select name from item tablesample bernoulli (50) where id < 9", "tablesample"),
        ("select name from item where id = 1 for update", "locking"),
        ("select name from item where id = 1 for share", "locking"),
        ("with gone as (delete from logbook returning n) select * from gone", "data_modifying_cte"),
        ("explain analyze select name from item", "not_a_select"),
        ("explain select name from item", "not_a_select"),
        ("delete from logbook", "not_a_select"),
        ("fetch all from nowhere", "not_a_select"),
        ("show work_mem", "not_a_select"),
    ])
    .await;
}

#[tokio::test]
async fn what_the_log_is_silent_on_is_relayed() {
    refused(&[
        ("select relname from pg_class where oid = 'item'::regclass", "system_catalog"),
        ("select count(*) from information_schema.tables", "system_catalog"),
        ("select xmin from item where id = 1", "system_column"),
        ("select ctid from item where id = 1", "system_column"),
        ("select last_value from counter", "sequence"),
        ("select * from ruled", "rule"),
    ])
    .await;
}

/// Text that cannot be analysed, or not cheaply.
#[tokio::test]
async fn texts_beyond_analysis_are_relayed() {
    let long = format!("select name from item where id = 1 and name <> '{}'", "x".repeat(40_000));
    let deep = format!("select {}1{}", "(".repeat(3_000), ")".repeat(3_000));
    // Prepared statements are named by their text here, and PostgreSQL takes no such name.
    let protocols = [Protocol::Simple, Protocol::Unnamed];
    refused_in(&protocols, &[(&long, "too_long"), (&deep, "unsupported_syntax")]).await;
}

/// An answer that came with a notice, or is too large, is the origin's each time.
#[tokio::test]
async fn answers_with_notices_errors_or_too_many_bytes_are_not_kept() {
    for version in VERSIONS {
        let rig = Rig::new(pg(version), &["cache.max_result=4KiB"]).await;
        rig.pg.sql(SCHEMA).unwrap();
        let mut client = rig.client().await;
        client.warm(Protocol::Simple, "select name from item where id = 1", None).await;
        // PostgreSQL truncates the name and says so, each time it parses the text.
        let noisy = format!("select 1 as {}", "a".repeat(70));
        let large = "select repeat('x', 5000) from item where id = 1";
        for how in Protocol::ALL {
            for round in 0..3 {
                // A new session: it has to parse everything anew.
                let mut other = rig.client().await;
                let served = other.ask_with(how, &noisy, None).await;
                let notices = served.frames.iter().filter(|frame| frame.tag == b'N').count();
                assert_eq!(notices, 1, "{version} {how:?} {round}: {}", served.how);
                let failed = client.ask_with(how, "select 1 / (id - 1) from item where id = 1", None).await;
                assert!(!failed.is_hit() && failed.rows().is_err(), "{version} {how:?} {}", failed.how);
                let large = client.ask_with(how, large, None).await;
                assert!(!large.is_hit(), "{version} {how:?} {}", large.how);
            }
            let large = client.ask_with(how, large, None).await;
            assert_eq!(large.how, "bypass; reason=result_too_large", "{version} {how:?}");
        }
    }
}

/// Pruning hides relations from a plan; they count all the same.
#[tokio::test]
async fn relations_that_a_plan_hides_are_followed() {
    for version in VERSIONS {
        let rig = Rig::new(pg(version), &[]).await;
        rig.pg.sql(SCHEMA).unwrap();
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        // With an empty table PostgreSQL plans `false`; the answer changes all the same when a row comes.
        let reads = [
            "select count(*) from item where exists (select from logbook where n = 1)",
            "select count(*) from item left join logbook on false where id < 9",
            "select count(*) from (select 1 from item where id in (select n from logbook) union all select 1 where false) x",
        ];
        for sql in reads {
            client.run("delete from logbook").await;
            client.warm(Protocol::Simple, sql, None).await;
            client.run("insert into logbook values (1)").await;
            let served = client.ask(sql).await;
            assert!(!served.is_hit(), "{version}: {sql}: a write to a relation below it was not heeded");
            assert_eq!(Ok(served.value()), direct.raw.value(sql).await.map_err(|error| error.to_string()));
        }
    }
}

/// Tracing comments neither split the memory nor get lost on their way to the origin.
#[tokio::test]
async fn comments_are_left_out_of_the_key() {
    for version in VERSIONS {
        let rig = Rig::new(pg(version), &[]).await;
        rig.pg.sql(SCHEMA).unwrap();
        let mut client = rig.client().await;
        client.warm(Protocol::Simple, "/* trace 1 */ select name from item where id = 2", None).await;
        for trace in 2..5 {
            let sql = format!("/* trace {trace} */ select name from item where id = 2 -- end");
            let served = client.ask(&sql).await;
            assert!(served.is_hit(), "{version}: {}", served.how);
        }
        // The origin's own view of the text.
        let seen = client
            .ask("/* traced */ select count(*) > 0 from pg_stat_activity where query like '/* traced */%'")
            .await;
        assert_eq!(seen.value(), "t", "{version}");
        let hint = client.ask("/* larder: bypass */ select name from item where id = 2").await;
        assert_eq!(hint.how, "bypass; reason=hint", "{version}");
        client.run("set larder.mode = 'bypass'").await;
        let asked = client.ask("select name from item where id = 2").await;
        assert_eq!(asked.how, "bypass; reason=session_bypass", "{version}");
        client.run("set larder.mode = 'serve'").await;
        client.warm(Protocol::Simple, "select name from item where id = 2", None).await;
    }
}
