//! What a cluster is like.

use larder_sandbox::{PgVersion, Postgres, Signal};

fn each_version(test: impl Fn(Postgres)) {
    for version in [PgVersion::V15, PgVersion::V18] {
        test(Postgres::builder().version(version).start().unwrap());
    }
}

#[test]
fn settings_are_those_of_a_cluster_with_a_change_feed() {
    each_version(|pg| {
        let shown = pg
            .sql(
                "show wal_level; show max_connections; show fsync; show server_encoding; show timezone;
                 select datcollate from pg_database where datname = 'postgres'; show synchronous_commit;",
            )
            .unwrap();
        assert_eq!(shown, "logical\n300\noff\nUTF8\nUTC\nC.UTF-8\non");
        assert!(pg.sql("select version()").unwrap().starts_with(&format!("PostgreSQL {}.", pg.major())));
        let slot = "select slot_name from pg_create_logical_replication_slot('s', 'test_decoding')";
        assert_eq!(pg.sql(slot).unwrap(), "s");
    });
}

#[test]
fn what_the_builder_is_told_wins() {
    let pg = Postgres::builder().setting("work_mem", "7MB").setting("wal_level", "replica").durable(true);
    let pg = pg.setting("application_name", "it's").start().unwrap();
    let shown = pg.sql("show work_mem; show wal_level; show fsync;").unwrap();
    assert_eq!(shown, "7MB\nreplica\non");
    pg.alter_system("work_mem", "9MB").unwrap();
    assert_eq!(pg.sql("show work_mem").unwrap(), "9MB");
}

#[test]
fn a_wrong_setting_fails_with_the_servers_own_words() {
    let error = Postgres::builder().setting("no_such_setting", "1").start().unwrap_err().to_string();
    assert!(error.contains("unrecognized configuration parameter \"no_such_setting\""), "{error}");
}

#[test]
fn failing_sql_fails_with_the_servers_own_words() {
    let pg = Postgres::builder().start().unwrap();
    let error = pg.sql("select 1; selekt 2;").unwrap_err().to_string();
    assert!(error.contains("syntax error at or near \"selekt\""), "{error}");
}

#[test]
fn clusters_run_side_by_side_and_apart() {
    let (a, b) = (Postgres::builder().start().unwrap(), Postgres::builder().start().unwrap());
    assert_ne!(a.port(), b.port());
    a.sql("create table t ()").unwrap();
    assert!(b.sql("table t").is_err());
}

#[test]
fn data_survives_a_restart_and_a_crash() {
    each_version(|mut pg| {
        let port = pg.port();
        pg.sql("create table t (i int); insert into t values (1)").unwrap();
        pg.restart().unwrap();
        pg.sql("insert into t values (2)").unwrap();
        pg.kill(Signal::KILL).unwrap();
        assert!(pg.sql("select 1").is_err() && pg.pid().is_none());
        pg.start().unwrap();
        assert_eq!((pg.sql("table t").unwrap().as_str(), pg.port()), ("1\n2", port));
    });
}
