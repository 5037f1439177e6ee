//! Every fault, seen from a client of a real server.

use std::time::{Duration, Instant};

use larder_testkit::{Faulty, Postgres, RawClient, Towards, pg15};

async fn connected() -> (Postgres, Faulty, RawClient) {
    let pg = pg15();
    let faulty = Faulty::new(pg.addr()).await.unwrap();
    let client = RawClient::superuser(faulty.addr()).await.unwrap();
    (pg, faulty, client)
}

#[tokio::test]
async fn relays_faithfully_and_large_answers_too() {
    let (_pg, faulty, mut client) = connected().await;
    let before = faulty.relayed(Towards::Client);
    assert_eq!(client.value("select repeat('x', 3000000)").await.unwrap().len(), 3_000_000);
    assert!(faulty.relayed(Towards::Client) - before > 3_000_000);
}

#[tokio::test]
async fn delays_each_direction() {
    let (_pg, faulty, mut client) = connected().await;
    faulty.delay(Duration::from_millis(60));
    let start = Instant::now();
    client.value("select 1").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
}

#[tokio::test]
async fn stalls_and_resumes_without_loss() {
    let (_pg, faulty, mut client) = connected().await;
    faulty.stall(Towards::Client);
    client.set_limit(Duration::from_millis(100));
    assert!(client.query("select 1").await.is_err());
    faulty.resume();
    client.set_limit(Duration::from_secs(20));
    assert_eq!(client.until_ready().await.unwrap()[1].values(), [Some("1".to_owned())]);
}

#[tokio::test]
async fn cuts_resets_and_refuses() {
    let (_pg, faulty, mut client) = connected().await;
    faulty.cut();
    assert!(client.next().await.unwrap().is_none());
    let mut client = RawClient::superuser(faulty.addr()).await.unwrap();
    faulty.reset();
    let error = client.next().await.unwrap_err();
    assert!(format!("{error:#}").contains("reset"), "{error:#}");
    faulty.refuse(true);
    assert!(RawClient::superuser(faulty.addr()).await.is_err());
    faulty.refuse(false);
    RawClient::superuser(faulty.addr()).await.unwrap();
}

#[tokio::test]
async fn cuts_inside_a_message() {
    let (_pg, faulty, mut client) = connected().await;
    faulty.cut_after(Towards::Client, 1000);
    let error = client.query("select repeat('x', 100000)").await.unwrap_err();
    assert!(format!("{error:#}").contains("closed inside a frame"), "{error:#}");
    RawClient::superuser(faulty.addr()).await.unwrap();
}

#[tokio::test]
async fn closes_one_direction_only() {
    let (_pg, faulty, mut client) = connected().await;
    let before = faulty.relayed(Towards::Server);
    client.send(larder_testkit::frame::query("select pg_sleep(0.2), 7")).await.unwrap();
    while faulty.relayed(Towards::Server) == before {
        tokio::task::yield_now().await;
    }
    faulty.half_close(Towards::Server);
    // The server still answers what it had been asked before it sees the end of its input.
    let frames = client.until_closed().await.unwrap();
    assert_eq!(frames.iter().map(|f| char::from(f.tag)).collect::<String>(), "TDCZ");
}
