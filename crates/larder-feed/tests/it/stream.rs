//! Which tags a committed change touches.

use larder_core::relation_tag;
use larder_sandbox::{PgVersion, Postgres};

use crate::rig::{self, Rig};

crate::on_both! {
    every_kind_of_change_touches_its_relation => super::every_kind_of_change;
    relatives_are_touched_too => super::relatives;
    a_rollback_touches_nothing => super::rollback;
    two_phase_touches_at_its_commit => super::two_phase;
    odd_names => super::odd_names;
    names_in_another_encoding => super::latin1;
}

const T: &str = "create table t (id int primary key, v text); create table other (id int);";

pub(crate) async fn every_kind_of_change(version: PgVersion) {
    let rig = Rig::start(version, T).await;
    for sql in [
        "insert into t values (1, 'x')",
        "update t set v = 'y'",
        "insert into t values (1, 'z') on conflict (id) do update set v = excluded.v",
        "delete from t",
        "truncate t",
        "begin; savepoint a; insert into t values (2); rollback to a; insert into t values (3); commit",
        "with gone as (delete from t returning 1) select * from gone",
        "do $$ begin insert into t values (4); end $$",
    ] {
        assert_eq!(rig.touched_by(sql, &["t", "other"]).await, ["t"], "{sql}");
    }
    assert_eq!(rig.touched_by("select 1", &["t", "other"]).await, [""; 0]);
    rig.pg.sql("copy t (id) from stdin;\n10\n11\n\\.\n").unwrap();
    rig.covered_from_now().await;
    let change = rig.last_change("t").await;
    assert!(change <= rig.fence().applied() && change > rig.last_change("other").await);
}

async fn relatives(version: PgVersion) {
    let schema = "create table root (id int) partition by range (id);
        create table middle partition of root for values from (0) to (100) partition by range (id);
        create table leaf partition of middle for values from (0) to (50);
        create table leaf2 partition of middle for values from (50) to (100);
        create table parent (id int); create table child () inherits (parent);";
    let rig = Rig::start(version, schema).await;
    let all = ["root", "middle", "leaf", "leaf2", "parent", "child"];
    assert_eq!(rig.touched_by("insert into root values (1)", &all).await, ["root", "middle", "leaf"]);
    assert_eq!(rig.touched_by("insert into leaf2 values (60)", &all).await, ["root", "middle", "leaf2"]);
    assert_eq!(rig.touched_by("insert into child values (1)", &all).await, ["parent", "child"]);
    assert_eq!(rig.touched_by("insert into parent values (1)", &all).await, ["parent"]);
    assert_eq!(rig.touched_by("truncate middle", &all).await, ["root", "middle", "leaf", "leaf2"]);
}

pub(crate) async fn rollback(version: PgVersion) {
    let rig = Rig::start(version, T).await;
    let touched = rig.touched_by("begin; insert into t values (1); rollback", &["t", "other"]).await;
    assert_eq!(touched, [""; 0]);
    let sql =
        "begin; insert into other values (1); savepoint a; insert into t values (1); rollback to a; commit";
    assert_eq!(rig.touched_by(sql, &["t", "other"]).await, ["other"]);
}

pub(crate) async fn two_phase(version: PgVersion) {
    let rig = Rig::start(version, T).await;
    let prepare = "begin; insert into t values (1); prepare transaction 'g'";
    assert_eq!(rig.touched_by(prepare, &["t", "other"]).await, [""; 0]);
    assert_eq!(rig.touched_by("insert into other values (1)", &["t", "other"]).await, ["other"]);
    assert_eq!(rig.touched_by("commit prepared 'g'", &["t", "other"]).await, ["t"]);
    rig.run("begin; insert into t values (2); prepare transaction 'g'").await;
    assert_eq!(rig.touched_by("rollback prepared 'g'", &["t", "other"]).await, [""; 0]);
}

pub(crate) async fn odd_names(version: PgVersion) {
    let schema = r#"create table "a.b: INSERT: c" (id int); create table ", ""x"" é" (id int); create table "SELECT" (id int);"#;
    let rig = Rig::start(version, schema).await;
    let all = [r#""a.b: INSERT: c""#, r#"", ""x"" é""#, r#""SELECT""#];
    for name in all {
        assert_eq!(rig.touched_by(&format!("insert into {name} values (1)"), &all).await, [name]);
    }
    let sql = format!("truncate {}, {}", all[0], all[1]);
    assert_eq!(rig.touched_by(&sql, &all).await, &all[..2]);
}

/// The stream is in the database's encoding, whatever the client's: one name's UTF-8 bytes are another one's LATIN1.
async fn latin1(version: PgVersion) {
    let pg = Postgres::builder().version(version).setting("wal_level", "logical").start().unwrap();
    pg.sql("create role larder login replication").unwrap();
    pg.sql("create database latin template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'").unwrap();
    let tables = "set client_encoding = 'UTF8'; create table é (id int); create table Ã© (id int);";
    pg.sql_in("latin", tables).unwrap();
    let mut config = rig::config(&pg, "larder");
    config.account.database = "latin".to_owned();
    let shared = rig::shared(&config);
    let feed = tokio::spawn(larder_feed::run(config, shared.clone()));
    let covered = || shared.fence.wait_covered(larder_cache::Moment::now(), rig::LIMIT);
    assert!(covered().await);
    let names = shared.catalog.load_full().unwrap().relation_names["public"].clone();
    let change = |name| shared.tags.get(&relation_tag(names[name])).last_change();
    let epoch = shared.fence.epoch();
    pg.sql_in("latin", "set client_encoding = 'UTF8'; insert into é values (1)").unwrap();
    assert!(covered().await);
    assert!(change("é") > 0 && change("Ã©") == 0);
    pg.sql_in("latin", "set client_encoding = 'UTF8'; insert into Ã© values (1)").unwrap();
    assert!(covered().await);
    assert!(change("Ã©") > change("é"));
    assert_eq!(shared.fence.epoch(), epoch, "both names are known");
    feed.abort();
}
