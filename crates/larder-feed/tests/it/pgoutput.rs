//! The same with the other plugin, and what is different with it.

use larder_core::catalog::Persistence;
use larder_core::{FeedState, Finding};
use larder_sandbox::PgVersion;

use crate::rig::{self, Rig};
use crate::{meaning, rows, stream};

/// Each test for both versions, with `pgoutput`.
macro_rules! on_both {
    ($($name:ident => $body:path;)+) => {
        mod v15 { $( #[tokio::test] async fn $name() {
            crate::rig::use_pgoutput();
            $body(larder_sandbox::PgVersion::V15).await;
        } )+ }
        mod v18 { $( #[tokio::test] async fn $name() {
            crate::rig::use_pgoutput();
            $body(larder_sandbox::PgVersion::V18).await;
        } )+ }
    };
}

on_both! {
    every_kind_of_change_touches_its_relation => super::stream::every_kind_of_change;
    a_rollback_touches_nothing => super::stream::rollback;
    two_phase_touches_at_its_commit => super::stream::two_phase;
    odd_names => super::stream::odd_names;
    rows_by_replica_identity => super::rows::identities;
    every_kind_of_statement_touches_its_rows => super::rows::statements;
    long_values_that_were_not_changed => super::rows::toast;
    values_are_the_same_in_statements_and_in_the_log => super::rows::values;
    names_and_values_with_quotes => super::rows::odd_names;
    many_rows_are_all_rows => super::rows::bulk;
    ddl_mixed_with_rows_is_seen_at_the_next_check => super::meaning::mixed;
    ddl_mixed_with_rows_is_seen_at_once_if_announced => super::meaning::announced;
    event_triggers_announce_it_too => super::event_triggers;
    partitions_come_under_their_own_names => super::partitions;
    ddl_is_seen_at_the_next_check => super::ddl;
    a_publication_that_leaves_something_out_is_refused => super::publications;
    materialized_views_do_not_show => super::views;
}

async fn partitions(version: PgVersion) {
    let schema = "create table root (id int primary key) partition by range (id);
        create table leaf partition of root for values from (0) to (50);
        create table leaf2 partition of root for values from (50) to (100);
        create table parent (id int primary key); create table child () inherits (parent);";
    let rig = Rig::start(version, schema).await;
    let all = ["root", "leaf", "leaf2", "parent", "child"];
    assert_eq!(rig.touched_by("insert into root values (1)", &all).await, ["root", "leaf"]);
    assert_eq!(rig.touched_by("update root set id = 60", &all).await, ["root", "leaf", "leaf2"]);
    assert_eq!(rig.touched_by("insert into child values (1)", &all).await, ["parent", "child"]);
    assert_eq!(rig.touched_by("truncate root", &all).await, ["root", "leaf", "leaf2"]);
}

/// The stream does not show it, so it is looked for.
async fn ddl(version: PgVersion) {
    let rig = Rig::start(version, meaning::SCHEMA).await;
    for sql in [
        "create table new (id int)",
        "grant select on t to r1",
        "grant select on t to r2; revoke select on t from r2",
        "alter role r1 set work_mem = '5MB'",
        "alter table t replica identity full",
    ] {
        let epoch = rig.fence().epoch();
        rig.run(sql).await;
        rig.until(sql, || rig.fence().epoch() > epoch).await;
    }
    assert_eq!(rig.epochs_of("create table announced (id int)", true).await, 1);
    assert_eq!(rig.epochs_of("insert into t values (7, 'x')", false).await, 0);
}

async fn event_triggers(version: PgVersion) {
    let rig = Rig::start(version, meaning::SCHEMA).await;
    rig.epochs_of(larder_feed::setup_sql(), true).await;
    for sql in [
        "create table alone (id int)",
        meaning::MIXED,
        "begin; insert into t values (4, 'y'); drop view w; commit",
        "begin; insert into t values (5, 'y'); grant select on t to r1; commit",
    ] {
        assert_eq!(rig.epochs_of(sql, false).await, 1, "{sql}");
    }
    assert_eq!(rig.epochs_of("insert into t values (6, 'y')", false).await, 0);
}

fn findings(state: FeedState) -> Vec<Finding> {
    match state {
        FeedState::Disconnected { findings, .. } => findings,
        FeedState::Starting | FeedState::Connected => Vec::new(),
    }
}

async fn publications(version: PgVersion) {
    let rig = Rig::start(version, "create table t (id int primary key)").await;
    let config = rig::config(&rig.pg, "larder");
    assert_eq!(larder_feed::check(&config).await, []);
    let name = r#""lar'der""""#;
    for (sql, code) in [
        (format!("alter publication {name} set (publish = 'insert, update, delete')"), "publication_changes"),
        (
            format!(
                "alter publication {name} set (publish = 'insert, update, delete, truncate', publish_via_partition_root)"
            ),
            "publication_changes",
        ),
        (format!("drop publication {name}"), "publication"),
        (format!("create publication {name} for table t where (id > 5)"), "publication_tables"),
        (
            format!("drop publication {name}; create publication {name} for tables in schema public"),
            "publication_tables",
        ),
    ] {
        rig.run(&sql).await;
        let found = larder_feed::check(&config).await;
        assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), [code], "{sql}");
        rig.until(code, || findings(rig.shared.health.get()).iter().any(|finding| finding.code == code))
            .await;
        assert!(
            !rig.fence().lease_holds(larder_cache::Moment::now()),
            "nothing is served without proof: {sql}"
        );
        // As the finding says.
        let mend = &found[0].remedy;
        assert!(mend.contains("PUBLICATION \"lar'der\"\"\""), "{mend}");
    }
    rig.run(&format!("drop publication {name}; create publication {name} for all tables")).await;
    rig.until("the feed again", || rig.shared.health.is_connected()).await;
    rig.covered_from_now().await;
    assert_eq!(rig.touched_by("insert into t values (1)", &["t"]).await, ["t"]);
}

async fn views(version: PgVersion) {
    let rig = Rig::start(version, "create materialized view m as select 1 as one").await;
    assert_eq!(rig.catalog().relations[&rig.oid("m").await].persistence, Persistence::Unlogged);
}
