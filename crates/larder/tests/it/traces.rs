//! Traces, as a collector of OpenTelemetry gets them.

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use larder_testkit::{Larder, RawClient, each_version};
use tokio::sync::mpsc;

/// A collector, its address, and what it is sent.
async fn collector() -> (String, mpsc::UnboundedReceiver<Vec<u8>>) {
    let (sender, received) = mpsc::unbounded_channel();
    let take = async move |headers: HeaderMap, body: Bytes| {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        sender.send(body.to_vec()).unwrap();
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (address, received)
}

/// Whether a message holds these bytes; in protobuf a text is its bytes.
fn holds(message: &[u8], bytes: &[u8]) -> bool {
    message.windows(bytes.len()).any(|window| window == bytes)
}

#[tokio::test]
async fn a_collector_sees_where_the_time_goes() {
    each_version(async |pg| {
        pg.sql("CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'secret')")
            .unwrap();
        let (address, mut received) = collector().await;
        let larder =
            Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(pg.url("postgres", "postgres"));
        let config = format!("[trace]\nendpoint = \"{address}\"\nsample = 1.0\n");
        let larder = larder.config(config).start().await.unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let parent = "/*traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'*/";
        let read = format!("SELECT name FROM item WHERE id = 1 {parent}");
        loop {
            client.rows(&read).await.unwrap();
            if client.value("SHOW larder.last").await.unwrap().starts_with("hit") {
                break;
            }
        }
        client.extended("SELECT name FROM item WHERE id = $1::int", &[Some("1")]).await.unwrap();
        client.query("SELECT 1/0").await.unwrap();
        let mut all = Vec::new();
        let trace: Vec<u8> = vec![
            0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c,
        ];
        let wanted: [&[u8]; 14] = [
            b"service.name",
            b"connect",
            b"opening",
            b"login",
            b"SELECT postgres",
            b"memory",
            b"judge",
            b"origin",
            b"reply",
            b"select name from item where id = ?",
            b"larder.fingerprint",
            b"hit",
            &trace,
            &0xb7ad_6b71_6920_3331_u64.to_be_bytes(),
        ];
        for bytes in wanted {
            while !holds(&all, bytes) {
                let more = tokio::time::timeout(std::time::Duration::from_secs(60), received.recv()).await;
                let more = more.unwrap_or_else(|_| panic!("{} never comes", bytes.escape_ascii()));
                all.extend(more.unwrap());
            }
        }
        assert!(!holds(&all, b"secret") && !holds(&all, b"1/0"), "no values");
    })
    .await;
}

#[tokio::test]
async fn an_absent_collector_hurts_nobody() {
    each_version(async |pg| {
        let larder =
            Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(pg.url("postgres", "postgres"));
        let config = "[trace]\nendpoint = \"http://127.0.0.1:1\"\nsample = 1.0\n";
        let larder = larder.config(config).start().await.unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        while !larder.log().contains("the collector does not take them") {
            client.rows("SELECT 1").await.unwrap();
        }
        assert_eq!(larder.log().matches("the collector does not take them").count(), 1, "{}", larder.log());
    })
    .await;
}
