//! Several Larders before one origin: whether they can tell that they judge alike, and what they say of the past.

use std::sync::Arc;

use larder_cache::shared::{Scope, Statement};
use larder_cache::{Fence, Moment};
use larder_feed::Shared;
use larder_sandbox::PgVersion;
use tokio::task::JoinHandle;

use crate::rig::{LIMIT, Rig, config, shared};

crate::on_both! {
    all_that_judge_alike_say_so => super::alike;
    a_pod_that_comes_later_learns_of_the_past => super::past;
    ddl_ends_what_is_said => super::ended;
    a_restart_is_another_life => super::restart;
}

const SCHEMA: &str = "create table t (id int primary key, v text); create table u (id int); create role r1;
    create role other login replication; alter role other set timezone = 'Asia/Tokyo';
    alter role other set datestyle = 'SQL, DMY'; alter role other set extra_float_digits = -5;
    create type mood as enum ('sad'); create view w as select * from t;
    create table part (id int) partition by range (id); create table p1 partition of part for values from (0) to (10);";

/// One more Larder, of that account.
struct Pod {
    shared: Shared,
    feed: JoinHandle<()>,
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl Pod {
    async fn new(rig: &Rig, user: &str) -> Self {
        let config = config(&rig.pg, user);
        let shared = shared(&config);
        let feed = tokio::spawn(larder_feed::run(config, shared.clone()));
        let pod = Self { shared, feed };
        covered(&pod.shared.fence).await;
        pod
    }

    fn scope(&self) -> Arc<Scope> {
        scope(&self.shared)
    }
}

async fn covered(fence: &Fence) {
    assert!(fence.wait_covered(Moment::now(), LIMIT).await, "not covered");
}

fn scope(shared: &Shared) -> Arc<Scope> {
    shared.fence.scope().expect("nothing is shared")
}

fn same(a: &Scope, b: &Scope) -> bool {
    (&a.life, a.meaning) == (&b.life, b.meaning)
}

/// What one says, once it is settled up to where it has applied by now.
async fn says(rig: &Rig, shared: &Shared) -> Statement {
    covered(&shared.fence).await;
    let applied = shared.fence.applied();
    let mut said = None;
    rig.until("a comparison", || {
        said = Statement::collect(&shared.fence, &shared.tags);
        said.as_ref().is_some_and(|said| said.to >= applied)
    })
    .await;
    said.unwrap()
}

async fn alike(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    // So that the two have other transaction ids to start from, and row versions of other ages.
    for n in 0..20 {
        rig.run(&format!("insert into t values ({n}); create temp table a{n} (id serial, v mood)")).await;
    }
    for sql in [
        "vacuum freeze pg_class",
        "vacuum freeze pg_attribute",
        "vacuum freeze pg_proc",
        "analyze",
        "truncate u",
    ] {
        rig.run(sql).await;
    }
    let (young, foreign) = (Pod::new(&rig, "larder").await, Pod::new(&rig, "other").await);
    let first = scope(&rig.shared);
    assert!(same(&first, &young.scope()) && same(&first, &foreign.scope()));
    assert!(rig.fence().epoch() == first.epoch && !first.life.is_empty());

    // A change of meaning is one for all, and they agree again.
    rig.run("alter table t add column c int").await;
    let changed = agree(&rig, &[&young, &foreign], &first).await;
    // Settings that are read again: each session reads them for itself.
    rig.pg.alter_system("datestyle", "German").unwrap();
    let reloaded = agree(&rig, &[&young, &foreign], &changed).await;
    let late = Pod::new(&rig, "other").await;
    assert!(same(&reloaded, &late.scope()));
}

/// Waits until all of them have one meaning, and another one than before.
async fn agree(rig: &Rig, pods: &[&Pod], before: &Scope) -> Arc<Scope> {
    let mut found = None;
    rig.until("agreement", || {
        let all = pods.iter().map(|pod| &pod.shared).chain([&rig.shared]);
        let scopes: Option<Vec<_>> = all.map(|shared| shared.fence.scope()).collect();
        found = scopes.filter(|all| all.iter().all(|scope| same(scope, &all[0]) && !same(scope, before)));
        found.is_some()
    })
    .await;
    Arc::clone(&found.unwrap()[0])
}

async fn past(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    let begun = rig.fence().history().unwrap();
    rig.run("insert into t values (1)").await;
    rig.run("insert into p1 values (1)").await;
    rig.covered_from_now().await;
    let pod = Pod::new(&rig, "other").await;
    let late = pod.shared.fence.history().unwrap();
    assert!(late > rig.last_change("part").await, "it begins after the changes");
    // Something more goes by, so that what is said joins what the new one knows.
    rig.run("insert into u values (1)").await;
    let said = says(&rig, &rig.shared).await;
    assert!(said.from == begun && said.to >= late, "{said:?} {late}");
    assert!(said.learn(&pod.shared.fence, &pod.shared.tags));
    assert_eq!(pod.shared.fence.history(), Some(begun));
    for table in ["t", "u", "part", "p1", "w"] {
        covered(&pod.shared.fence).await;
        let key = larder_core::relation_tag(rig.oid(table).await);
        assert_eq!(pod.shared.tags.get(&key).last_change(), rig.last_change(table).await, "{table}");
    }
}

async fn ended(version: PgVersion) {
    let rig = Rig::start(version, SCHEMA).await;
    rig.run("insert into t values (1)").await;
    let (said, before) = (says(&rig, &rig.shared).await, scope(&rig.shared));
    // There and back: all is as it was, but what was said does not span it.
    rig.run("grant select on t to r1; revoke select on t from r1").await;
    rig.until("an epoch", || rig.fence().epoch() > before.epoch && rig.fence().scope().is_some()).await;
    let after = says(&rig, &rig.shared).await;
    assert!(after.from > said.to, "{said:?} {after:?}");
    assert!(!said.learn(&rig.shared.fence, &rig.shared.tags));
}

async fn restart(version: PgVersion) {
    let mut rig = Rig::start(version, SCHEMA).await;
    let before = scope(&rig.shared);
    rig.pg.restart().unwrap();
    rig.until("another life", || rig.fence().scope().is_some_and(|scope| scope.life != before.life)).await;
    assert_ne!(scope(&rig.shared).meaning, before.meaning, "the digest holds the start, too");
}
