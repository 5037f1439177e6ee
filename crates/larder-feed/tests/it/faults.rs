//! What happens when something stops, dies, or holds things up.

use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_cache::Moment;
use larder_core::FeedState;
use larder_sandbox::{PgVersion, Postgres, Signal};

use crate::rig::{self, LIMIT, Rig};

crate::on_both! {
    a_commit_that_nobody_sees_yet_is_applied_but_not_visible => super::visibility_guard;
    a_frozen_walsender_stops_coverage => super::frozen;
    a_killed_walsender_is_a_gap => super::killed_walsender;
    a_killed_control_connection_is_a_gap => super::killed_control;
    a_restart_is_another_life => super::restart;
    a_transaction_held_open_delays_the_slot_and_is_named => super::long_transaction;
    log_that_nobody_flushes_does_not_stop_coverage => super::unflushed;
    a_huge_row_and_a_large_transaction_pass => super::large;
    locks_of_others_are_no_deadlock => super::locks;
}

const T: &str = "create table t (id int, v text);";

async fn visibility_guard(version: PgVersion) {
    let rig = Rig::start(version, T).await;
    // A synchronous standby that does not exist: the commit is in the log, and its author waits.
    rig.pg.alter_system("synchronous_standby_names", "nobody").unwrap();
    rig.covered_from_now().await;
    let tag = rig.shared.tags.get(&larder_core::relation_tag(rig.oid("t").await));
    let before = tag.last_change();
    let writer = rig::connect(&rig.pg).await;
    let write = tokio::spawn(async move { writer.batch_execute("insert into t values (1)").await });
    rig.until("the commit to arrive", || tag.last_change() > before).await;
    let commit = tag.last_change();
    rig.until("applied", || rig.fence().applied() >= commit).await;
    // Several snapshots later it is still not visible: here, that is what is to be shown.
    for _ in 0..5 {
        rig.covered_from_now().await;
        assert!(rig.fence().visible() < commit);
    }
    assert_eq!(rig.client.query("select 1 from t", &[]).await.unwrap().len(), 0);
    rig.pg.alter_system("synchronous_standby_names", "").unwrap();
    write.await.unwrap().unwrap();
    rig.until("visible", || rig.fence().visible() >= commit).await;
}

/// Reading a view's definition locks the tables below it, one after the other. Somebody has locked the second and then
/// wants the first: if that is a deadlock, the one who asks last is told so.
async fn locks(version: PgVersion) {
    let schema = "create table a (id int); create table b (id int); create view v as select a.id from a, b";
    let builder = Postgres::builder().version(version).setting("deadlock_timeout", "300ms");
    let rig = Rig::start_with(builder, schema).await;
    let other = rig::connect(&rig.pg).await;
    other.batch_execute("begin; lock table b in access exclusive mode").await.unwrap();
    rig.run("create table c (id int)").await;
    rig.fence().request_review();
    let waits =
        "select from pg_stat_activity where application_name = 'larder control' and wait_event_type = 'Lock'";
    let deadline = tokio::time::Instant::now() + LIMIT;
    while rig.client.query(waits, &[]).await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "the feed does not wait for the lock");
    }
    // Were it still waiting then, it would have looked for a deadlock and found none yet.
    tokio::time::sleep(Duration::from_millis(350)).await;
    other.batch_execute("lock table a in access exclusive mode").await.expect("no deadlock");
    other.batch_execute("rollback").await.unwrap();
    rig.covered_from_now().await;
    assert!(rig.catalog().resolve(None, "c", &["public".to_owned()]).is_some());
}

/// An open transaction has written and nobody commits: the end of the log stays unflushed, unsent and (without a
/// nudge) uncovered until the background writer's next snapshot record, up to 15 s later.
async fn unflushed(version: PgVersion) {
    let rig = Rig::start(version, T).await;
    let writer = rig::connect(&rig.pg).await;
    for round in 0..3 {
        writer
            .batch_execute("begin; insert into t select g, repeat('x', 99) from generate_series(1, 99) g")
            .await
            .unwrap();
        let covered = rig.fence().wait_covered(Moment::now(), Duration::from_secs(4)).await;
        assert!(covered, "round {round}: {:?}", rig.shared.health.get());
        writer.batch_execute("rollback").await.unwrap();
    }
}

async fn frozen(version: PgVersion) {
    let mut rig = Rig::start(version, T).await;
    let walsender = rig.pg.walsenders().unwrap()[0];
    rig.pg.signal(walsender, Signal::STOP).unwrap();
    rig.run("insert into t values (1)").await;
    let now = Moment::now();
    assert!(!rig.fence().wait_covered(now, Duration::from_millis(300)).await);
    rig.until("the end of the lease", || !rig.fence().lease_holds(Moment::now())).await;
    assert!(rig.fence().covered() < now);
    rig.pg.signal(walsender, Signal::CONT).unwrap();
    assert!(rig.fence().wait_covered(now, LIMIT).await);
    assert!(rig.last_change("t").await > 0);
}

/// After `fault` the feed comes back by itself, with a new epoch, and follows.
async fn recovers(rig: &mut Rig, fault: impl FnOnce(&mut Rig)) {
    let (epoch, gaps) = (rig.fence().epoch(), rig.shared.health.gaps.load(Ordering::Relaxed));
    fault(rig);
    rig.until("a new epoch", || rig.fence().epoch() > epoch).await;
    rig.until("the gap", || rig.shared.health.gaps.load(Ordering::Relaxed) > gaps).await;
    rig.client = rig::connect(&rig.pg).await;
    rig.covered_from_now().await;
    assert!(rig.shared.health.is_connected());
    assert_eq!(rig.touched_by("insert into t values (2)", &["t"]).await, ["t"]);
    let position = rig.last_change("t").await;
    rig.until("visible", || rig.fence().visible() >= position).await;
}

async fn killed_walsender(version: PgVersion) {
    let mut rig = Rig::start(version, T).await;
    let sql = "select pg_terminate_backend(pid) from pg_stat_replication";
    recovers(&mut rig, |rig| drop(rig.pg.sql(sql).unwrap())).await;
    assert_eq!(rig.pg.sql("select count(*) from pg_replication_slots").unwrap(), "1");
}

async fn killed_control(version: PgVersion) {
    let mut rig = Rig::start(version, T).await;
    let sql =
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'larder control'";
    recovers(&mut rig, |rig| drop(rig.pg.sql(sql).unwrap())).await;
}

async fn restart(version: PgVersion) {
    let mut rig = Rig::start(version, T).await;
    recovers(&mut rig, |rig| rig.pg.restart().unwrap()).await;
    // A crash: the postmaster ends every session and recovers.
    recovers(&mut rig, |rig| {
        let pid = rig.pg.sql("select pid from pg_stat_activity where application_name = 'larder control'");
        rig.pg.signal(pid.unwrap().parse().unwrap(), Signal::KILL).unwrap();
    })
    .await;
}

async fn long_transaction(version: PgVersion) {
    let rig = Rig::start(version, T).await;
    let holder = rig::connect(&rig.pg).await;
    holder.batch_execute("begin; insert into t values (1)").await.unwrap();
    let config = rig::config(&rig.pg, "larder");
    let shared = rig::shared(&config);
    let second = tokio::spawn(larder_feed::run(config, shared.clone()));
    let code = || match shared.health.get() {
        FeedState::Disconnected { findings, .. } => findings.first().map(|finding| finding.code),
        FeedState::Starting | FeedState::Connected => None,
    };
    rig.until("the finding", || code() == Some("long_transaction")).await;
    holder.batch_execute("commit").await.unwrap();
    rig.until("the connection", || shared.health.is_connected()).await;
    second.abort();
}

async fn large(version: PgVersion) {
    let rig = Rig::start(version, &format!("{T} create table wide (v text);")).await;
    let sql = "insert into wide select string_agg(md5(g::text), '') from generate_series(1, 200000) g";
    assert_eq!(rig.touched_by(sql, &["t", "wide"]).await, ["wide"]);
    let sql = "insert into t select g, 'x' from generate_series(1, 100000) g";
    assert_eq!(rig.touched_by(sql, &["t", "wide"]).await, ["t"]);
    assert_eq!(rig.shared.health.inserts.load(Ordering::Relaxed), 100_001);
    assert_eq!(rig.shared.health.gaps.load(Ordering::Relaxed), 0);
}
