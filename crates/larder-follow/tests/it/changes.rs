//! Whatever changes the rows of a table ends what depends on it, and nothing else does.

use std::sync::atomic::Ordering::Relaxed;

use larder_cache::Source;
use larder_sandbox::PgVersion;

use crate::on_both;
use crate::rig::Rig;

on_both! {
    every_kind_of_change_ends_what_depends_on_it => super::every_kind_of_change;
    changes_of_partitions_are_changes_of_the_whole => super::partitions;
    what_the_log_does_not_show_is_not_kept => super::unprovable;
    a_change_of_meaning_ends_everything => super::meaning;
    what_the_application_has_written_it_reads => super::own_writes;
    the_last_handle_ends_the_feed => super::last_handle;
}

const SUM: &str = "select coalesce(sum(n), 0) from t";
const OTHER: &str = "select count(*) from other";

async fn every_kind_of_change(version: PgVersion) {
    let rig =
        Rig::start(version, "create table t (id int primary key, n int); create table other (id int)").await;
    let (t, other) = (["table:public.t"], ["table:public.other"]);
    rig.warm(OTHER, &other).await;
    let mut expected = vec![];
    let changes = [
        ("insert into t select g, g from generate_series(1, 3) g", 6),
        ("update t set n = n + 1 where id = 1", 7),
        ("delete from t where id = 2", 5),
        ("begin; insert into t values (10, 100); rollback", 5),
        ("copy t from program 'echo 20,20' with (format csv)", 25),
        ("truncate t", 0),
    ];
    for (change, sum) in changes {
        rig.warm(SUM, &t).await;
        rig.run(change).await;
        expected.push((rig.ask_now(SUM, &t).await.0, sum, change));
        assert_eq!(rig.ask(OTHER, &other).await.source(), Source::L1, "untouched by {change}");
    }
    for (found, sum, change) in expected {
        assert_eq!(found, sum, "{change}");
    }
    // A row has no tag of its own yet: any row of the table ends it.
    rig.warm(SUM, &["row:public.t:id=1"]).await;
    rig.run("insert into t values (2, 2)").await;
    assert_eq!(rig.ask_now(SUM, &["row:public.t:id=1"]).await.0, 2);
}

async fn partitions(version: PgVersion) {
    let schema = "create table t (id int, n int) partition by list (id);
        create table t1 partition of t for values in (1);
        create table parent (n int); create table child () inherits (parent)";
    let rig = Rig::start(version, schema).await;
    let family = "select count(*) from parent";
    rig.warm(SUM, &["table:public.t"]).await;
    rig.warm(family, &["table:public.parent"]).await;
    rig.run("insert into t1 values (1, 7); insert into child values (1)").await;
    assert_eq!(rig.ask_now(SUM, &["table:public.t"]).await.0, 7);
    assert_eq!(rig.ask_now(family, &["table:public.parent"]).await.0, 1);
}

async fn unprovable(version: PgVersion) {
    let schema =
        "create table t (id int, n int); create view v as select * from t; create unlogged table u (n int);
        create table parent (n int); create unlogged table child () inherits (parent)";
    let rig = Rig::start(version, schema).await;
    let tags = [
        "table:public.v",
        "table:public.u",
        "table:public.parent",
        "table:public.nowhere",
        "table:pg_catalog.pg_class",
        "table:t",
    ];
    for tag in tags {
        for _ in 0..2 {
            assert_eq!(rig.ask_now(SUM, &["table:public.t", tag]).await.1, Source::Loader, "{tag}");
        }
    }
    assert_eq!(rig.cache.metrics().unprovable.load(Relaxed), 2 * tags.len() as u64);
    // The application's own names are its own affair.
    rig.warm(SUM, &["table:public.t", "sums"]).await;
    rig.cache.invalidate_tags(["sums"]).await.unwrap();
    assert_eq!(rig.ask_now(SUM, &["table:public.t", "sums"]).await.1, Source::Loader);
}

async fn meaning(version: PgVersion) {
    let rig = Rig::start(version, "create table t (id int, n int); create table other (id int)").await;
    rig.run("insert into t values (1, 1)").await;
    rig.warm(SUM, &["table:public.t"]).await;
    rig.warm(OTHER, &["table:public.other"]).await;
    rig.run("begin; alter table t rename to gone; create table t (id int, n int); commit").await;
    assert_eq!(rig.ask_now(SUM, &["table:public.t"]).await.0, 0, "another table by now");
    rig.warm(SUM, &["table:public.t"]).await;
    rig.run("insert into t values (1, 5)").await;
    assert_eq!(rig.ask_now(SUM, &["table:public.t"]).await.0, 5);
}

async fn own_writes(version: PgVersion) {
    let rig = Rig::start(version, "create table t (id int, n int)").await;
    for n in 1..=200 {
        rig.run("insert into t values (1, 1)").await;
        rig.feed.wrote(["table:public.t"]);
        assert_eq!(*rig.ask(SUM, &["table:public.t"]).await, n);
    }
}

async fn last_handle(version: PgVersion) {
    let Rig { cache, feed, client, pg } = Rig::start(version, "").await;
    let slots = async || {
        let row = client.query_one("select count(*) from pg_replication_slots", &[]).await.unwrap();
        row.get::<_, i64>(0)
    };
    drop(feed);
    assert_eq!(slots().await, 1, "the cache still follows it");
    drop(cache);
    while slots().await > 0 {
        tokio::task::yield_now().await;
    }
    drop(pg);
}
