//! Figures, not checks: `cargo test -p larder-feed --test it measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use larder_sandbox::PgVersion;

use crate::rig::Rig;

#[tokio::test]
#[ignore = "figures"]
async fn v15() {
    measure(PgVersion::V15).await;
}

#[tokio::test]
#[ignore = "figures"]
async fn v18() {
    measure(PgVersion::V18).await;
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 1000];
    println!(
        "{what}: p50 {:?} p99 {:?} max {:?} ({})",
        at(500),
        at(990),
        times[times.len() - 1],
        times.len()
    );
}

async fn measure(version: PgVersion) {
    let columns: Vec<String> = (1..20).map(|n| format!("c{n} text")).collect();
    let columns = columns.join(", ");
    let tables = format!(
        "do $$ begin for n in 1..1000 loop execute 'create table t' || n || ' (id int primary key, {columns})'; end loop; end $$;
         create table t (id int);"
    );
    println!("--- {version}, 1,000 tables of 20 columns");
    let rig = Rig::start(version, &tables).await;
    let tag = rig.shared.tags.get(&larder_core::relation_tag(rig.oid("t").await));
    let insert = rig.client.prepare("insert into t values (1)").await.unwrap();
    let (mut folded, mut covered, mut visible) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..2000 {
        let before = tag.last_change();
        rig.client.execute(&insert, &[]).await.unwrap();
        let acknowledged = Instant::now();
        while tag.last_change() == before {
            tokio::task::yield_now().await;
        }
        folded.push(acknowledged.elapsed());
        while rig.fence().visible() < tag.last_change() {
            tokio::task::yield_now().await;
        }
        visible.push(acknowledged.elapsed());
    }
    for _ in 0..2000 {
        rig.client.execute(&insert, &[]).await.unwrap();
        covered.push(rig.covered_from_now().await);
    }
    report("acknowledged -> folded in", folded);
    report("acknowledged -> visible", visible);
    report("sample wanted -> covered, after a write", covered);
    let (mut idle, mut review) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        idle.push(rig.covered_from_now().await);
    }
    report("sample wanted -> covered, idle", idle);
    for _ in 0..50 {
        rig.fence().request_review();
        review.push(rig.covered_from_now().await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report("review wanted -> covered (a comparison)", review);
    let mut reload = Vec::new();
    for n in 0..10 {
        rig.run(&format!("alter table t add column n{n} int")).await;
        rig.fence().request_review();
        reload.push(rig.covered_from_now().await);
    }
    report("review wanted -> covered (comparison and reload)", reload);
}
