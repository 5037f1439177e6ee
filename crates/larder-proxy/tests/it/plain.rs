//! `mode = "bypass"`: bytes pass, nothing else happens, and leaving still waits for what is under way.

use std::time::Duration;

use larder_testkit::{InProcess, Postgres, RawClient, Step, Target, compare, each_version, frame};

fn plain(origin: &Postgres) -> InProcess {
    let config = larder_proxy::ProxyConfig { mode: larder_proxy::Mode::Bypass, ..InProcess::config(origin) };
    InProcess::start_without_feed(&config).unwrap()
}

#[tokio::test]
async fn every_byte_is_the_origins() {
    each_version(async |origin| {
        let larder = plain(&origin);
        origin.sql("create table t(id int, v text)").unwrap();
        let script = [
            Step::query("select 1; select 2"),
            Step::query("selec 1"),
            Step::extended("select $1::int + 1", &[Some("41")]),
            Step::extended("select 1/$1::int", &[Some("0")]),
            Step::query("begin"),
            Step::query("insert into t values (1, 'x')"),
            Step::query("rollback"),
            Step::query("copy (select generate_series(1, 1000)) to stdout"),
            Step::query("select repeat('x', 3000000)"),
            Step::query("select g, repeat('y', 100) from generate_series(1, 20000) g"),
        ];
        let (direct, through) = (Target::superuser(origin.addr()), Target::superuser(larder.addr()));
        compare(&script, &direct, &through).await;
        let counters = larder.counters();
        assert_eq!((counters.bypassed, counters.hits, counters.misses), (10, 0, 0));
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_in_one_breath_is_answered_in_order() {
    each_version(async |origin| {
        let larder = plain(&origin);
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let messages =
            [frame::query("show larder.last"), frame::query("select 'a'"), frame::query("select 'b'")];
        client.send_all(&messages).await.unwrap();
        for expected in ["none", "a", "b"] {
            let frames = client.until_ready().await.unwrap();
            assert_eq!(frames[1].values(), [Some(expected.to_owned())]);
        }
        assert_eq!(client.value("show larder.last").await.unwrap(), "bypass; reason=mode_bypass");
    })
    .await;
}

#[tokio::test]
async fn a_copy_from_the_client_passes() {
    each_version(async |origin| {
        let larder = plain(&origin);
        origin.sql("create table t(id int)").unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        client.send(&frame::query("copy t from stdin")).await.unwrap();
        client.until(b'G').await.unwrap();
        for id in 0..20_000 {
            client.send(&frame::copy_data(format!("{id}\n").as_bytes())).await.unwrap();
        }
        client.send(&frame::copy_done()).await.unwrap();
        client.until_ready().await.unwrap();
        assert_eq!(client.value("select count(*) from t").await.unwrap(), "20000");
    })
    .await;
}

#[tokio::test]
async fn draining_waits_for_the_transaction() {
    each_version(async |origin| {
        let larder = plain(&origin);
        let mut busy = RawClient::superuser(larder.addr()).await.unwrap();
        let mut idle = RawClient::superuser(larder.addr()).await.unwrap();
        busy.query("begin").await.unwrap();
        idle.query("select 1").await.unwrap();
        let drained = larder.proxy.drain(Duration::from_secs(30));
        let finish = async {
            let frames = idle.until_closed().await.unwrap();
            assert_eq!(frames[0].field(b'C').as_deref(), Some("57P01"));
            assert_eq!(busy.value("select 2").await.unwrap(), "2");
            busy.query("commit").await.unwrap();
            let frames = busy.until_closed().await.unwrap();
            assert_eq!(frames[0].field(b'C').as_deref(), Some("57P01"));
        };
        tokio::join!(drained, finish);
    })
    .await;
}
