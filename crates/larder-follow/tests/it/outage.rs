//! While the database cannot be followed there is only the loader; afterwards nothing of before is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use larder_cache::Source;
use larder_follow::{Feed, FeedState, StartError};
use larder_sandbox::PgVersion;

use crate::on_both;
use crate::rig::{LIMIT, Rig};

on_both! {
    without_the_log_the_loader_runs_each_time => super::without_the_log;
}

async fn without_the_log(version: PgVersion) {
    let mut rig = Rig::start(version, "create table t (id int, n int)").await;
    let drawn = Arc::new(AtomicI64::new(0));
    let cache = rig.cache.clone();
    let draw = async || {
        let drawn = Arc::clone(&drawn);
        let load = move |_| async move { Ok::<_, std::io::Error>(drawn.fetch_add(1, SeqCst)) };
        cache.entry("n").tags(["table:public.t"]).or_load(load).await.unwrap()
    };
    draw().await;
    assert_eq!(draw().await.source(), Source::L1);
    rig.pg.stop().unwrap();
    let feed = rig.feed.clone();
    let disconnected = async || {
        while !matches!(feed.state(), FeedState::Disconnected { .. }) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, disconnected()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(draw().await.source(), Source::Loader);
    }
    assert!(cache.get("n").is_none());
    rig.pg.start().unwrap();
    assert!(feed.ready(LIMIT).await, "{:?}", feed.state());
    assert_eq!(draw().await.source(), Source::Loader, "of before nothing is given");
    while draw().await.source() != Source::L1 {
        assert!(cache.caught_up(LIMIT).await);
    }
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    assert!(matches!(Feed::start("nonsense"), Err(StartError::Url(_))));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let feed = Feed::start(&format!("postgres://larder@127.0.0.1:{port}/postgres?sslmode=disable")).unwrap();
    loop {
        if let FeedState::Disconnected { findings, .. } = feed.state() {
            assert!(!findings.is_empty() && !findings[0].remedy.is_empty(), "{findings:?}");
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(!feed.ready(std::time::Duration::ZERO).await);
}
