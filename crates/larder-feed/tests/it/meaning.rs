//! What changes the meaning of answers begins a new epoch, and what does not, does not.

use std::time::Duration;

use larder_sandbox::PgVersion;

use crate::rig::Rig;

crate::on_both! {
    ddl_begins_an_epoch_before_coverage_passes_it => super::ddl;
    what_was_changed_and_changed_back_begins_one_too => super::there_and_back;
    everyday_statements_do_not => super::everyday;
    ddl_mixed_with_rows_is_seen_at_the_next_check => super::mixed;
    ddl_mixed_with_rows_is_seen_at_once_if_announced => super::announced;
    event_triggers_announce_it_too => super::event_triggers;
    settings_and_roles_from_elsewhere_are_seen => super::elsewhere;
}

pub(crate) const SCHEMA: &str = "create table t (id int primary key, v text); insert into t values (1, 'x');
    create table part (id int) partition by range (id); create table p1 (id int, v text);
    create view w as select * from t; create materialized view m as select * from t;
    create role r1; create role r2; create type mood as enum ('sad');
    create function f(int) returns int language sql immutable as 'select $1';
    create function trig() returns trigger language plpgsql as 'begin return new; end';";

async fn ddl(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    for sql in [
        "create table new (id int)",
        "alter table t add column extra int default 5",
        "alter table t rename column extra to more",
        "alter table p1 alter column v type varchar(20)",
        "alter table p1 alter column v type varchar(40)",
        "alter table t drop column more",
        "alter table t alter column v set default 'a'",
        "create index on t (lower(v))",
        "alter table p1 drop column v",
        "alter table part attach partition p1 for values from (0) to (10)",
        "alter table part detach partition p1",
        "create or replace view w as select id, v from t where id > 0",
        "alter view w set (security_barrier = true)",
        "refresh materialized view m",
        "create or replace function f(int) returns int language sql volatile as 'select $1 + 1'",
        "create trigger trig before insert on t for each row execute function trig()",
        "create rule r as on update to p1 do also delete from t",
        "alter table t enable row level security",
        "create policy p on t using (id > 0)",
        "drop policy p on t",
        "grant select on t to r1",
        "grant select (v) on t to r2",
        "revoke select on t from r1",
        "revoke execute on function pg_catalog.upper(text) from public",
        "grant r1 to r2",
        "revoke r1 from r2",
        "alter role r1 set work_mem = '5MB'",
        "alter role r1 bypassrls",
        "alter database postgres set datestyle = 'SQL'",
        "alter type mood add value 'happy'",
        "alter table t replica identity full",
        "alter table t replica identity nothing",
        "create unique index by_v on t (v); alter table t alter v set not null; alter table t replica identity using index by_v",
        "alter table t replica identity default",
        "alter table t drop constraint t_pkey",
        "alter table t add primary key (id)",
        "create domain d as int check (value > 0)",
        "create operator === (leftarg = int, rightarg = int, procedure = int4eq)",
        "create cast (text as mood) with inout",
        "create schema s",
        "alter table p1 set schema s",
        "drop table s.p1",
        "begin; create table twice (id int); insert into twice values (1); commit",
    ] {
        assert!(rig.epochs_of(sql, false).await >= 1, "{sql}");
    }
}

/// What is changed and changed back before anybody looks has been there all the same: answers may be from in between.
async fn there_and_back(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    rig.epochs_of("grant select on t to r1; revoke select on t from r1", false).await;
    for sql in [
        "grant select on t to r1; revoke select on t from r1",
        "alter table t rename to t9; alter table t9 rename to t",
        "alter table t enable row level security; alter table t disable row level security",
        "alter table t owner to r1; alter table t owner to postgres",
        "alter table t replica identity full; alter table t replica identity default",
    ] {
        assert!(rig.epochs_of(sql, false).await >= 1, "{sql}");
    }
}

async fn everyday(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    for sql in [
        "insert into t values (2, 'y'); update t set v = 'z'; delete from t where id = 2",
        "select * from t for update",
        "insert into t select g, 'x' from generate_series(10, 1000) g",
        "analyze",
        "vacuum t",
        "vacuum freeze t",
        "vacuum pg_class",
        "create index plain on t (v)",
        "reindex index plain",
        "create temp table mine (id serial primary key, v text default 'a' check (v <> ''))",
        "insert into mine (v) values ('b'); create temp view seen as select * from mine",
        "create index on mine (lower(v))",
        "alter table mine add column more mood",
        "drop table mine cascade",
        "begin; create temp table brief on commit drop as select * from t; commit",
        "create function pg_temp.g() returns int language sql as 'select 1'",
        "begin; create table gone (id int); rollback",
        "set search_path = public; select set_config('a.b', 'c', false)",
        "checkpoint",
    ] {
        assert_eq!(rig.epochs_of(sql, true).await, 0, "{sql}");
    }
    // Its row versions are those of DDL, but the stream says what it is.
    assert_eq!(rig.epochs_of("truncate t", false).await, 0);
}

pub(crate) const MIXED: &str =
    "begin; insert into t values (3, 'y'); alter table t add column c3 int; commit";

pub(crate) async fn mixed(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    let epoch = rig.fence().epoch();
    rig.run(MIXED).await;
    let start = std::time::Instant::now();
    rig.until("a comparison", || rig.fence().epoch() > epoch).await;
    // ddl_check is 250 ms; the rest is for a loaded machine.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

pub(crate) async fn announced(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    assert_eq!(rig.epochs_of(MIXED, true).await, 1);
    assert_eq!(rig.catalog().relations[&rig.oid("t").await].columns.len(), 3);
}

async fn event_triggers(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    assert!(rig.epochs_of(larder_feed::setup_sql(), false).await >= 1);
    assert!(rig.epochs_of(larder_feed::setup_sql(), false).await >= 1, "twice does no harm");
    assert_eq!(rig.epochs_of(MIXED, false).await, 1);
    let sql = "begin; insert into t values (4, 'y'); drop view w; commit";
    assert_eq!(rig.epochs_of(sql, false).await, 1);
    let sql = "begin; insert into t values (5, 'y'); grant select on t to r1; commit";
    assert_eq!(rig.epochs_of(sql, false).await, 1);
    assert_eq!(rig.epochs_of("insert into t values (6, 'y')", false).await, 0);
    rig.run(larder_feed::drop_sql()).await;
    let left = "select count(*) from pg_namespace n, pg_event_trigger where nspname = 'larder' or evtname ~ 'larder'";
    assert_eq!(rig.pg.sql(left).unwrap(), "0");
}

async fn elsewhere(version: PgVersion) {
    let rig = Rig::start(version, &format!("create database other; {SCHEMA}")).await;
    for sql in ["alter role r1 set datestyle = 'SQL'", "grant r1 to r2", "alter role r2 superuser"] {
        let epoch = rig.fence().epoch();
        rig.pg.sql_in("other", sql).unwrap();
        rig.until(sql, || rig.fence().epoch() > epoch).await;
    }
    let (epoch, loaded) = (rig.fence().epoch(), rig.catalog().config_loaded_at.clone());
    rig.pg.alter_system("datestyle", "German").unwrap();
    rig.until("the reload", || rig.fence().epoch() > epoch).await;
    rig.until("its time", || rig.catalog().config_loaded_at != loaded).await;
}
