//! `larder serve` in front of real servers: health, metrics, what it says when something is missing, how it stops.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use larder_testkit::{Auth, Larder, LarderBuilder, Postgres, RawClient, Signal, Wait, each_version, pg18};
use serde_json::Value;
use tokio::net::UnixDatagram;

/// A loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(30);

fn serve(origin: &str) -> LarderBuilder {
    Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(origin)
}

/// Larder's own account: REPLICATION and nothing else.
fn own_account(pg: &mut Postgres) -> String {
    pg.create_user("larder", "secret", Auth::Scram).unwrap();
    pg.sql("ALTER ROLE larder REPLICATION").unwrap();
    format!("postgres://larder:secret@{}/postgres", pg.addr())
}

async fn status(larder: &Larder) -> Value {
    let (code, body) = larder.get("/api/v1/status").await.unwrap();
    assert_eq!(code, 200);
    serde_json::from_str(&body).unwrap()
}

async fn readyz(larder: &Larder) -> (u16, Value) {
    let (code, body) = larder.get("/readyz").await.unwrap();
    (code, serde_json::from_str(&body).unwrap())
}

/// Asks until the answer is as wanted.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> T, wanted: impl Fn(&T) -> bool) -> T
where
    T: std::fmt::Debug,
{
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn feed_connected(larder: &Larder) -> Value {
    let lease = |status: &Value| status["feed"]["state"] == "connected" && status["lease"]["holds"] == true;
    until("the feed covers the present", async || status(larder).await, lease).await
}

/// `larder health`: its status, and whether it says "draining".
fn health(larder: &Larder, arguments: &[&str]) -> (i32, bool) {
    let admin = larder.admin().to_string();
    let ran = crate::larder(&[&["health", "--admin", &admin], arguments].concat(), &[]);
    (ran.code, ran.out.contains("draining"))
}

async fn value(addr: SocketAddr, sql: &str) -> String {
    RawClient::superuser(addr).await.unwrap().value(sql).await.unwrap()
}

#[tokio::test]
async fn it_serves_and_says_how_it_is() {
    each_version(async |mut pg: Postgres| {
        let origin = own_account(&mut pg);
        let larder = serve(&origin).start().await.unwrap();
        assert_eq!(larder.get("/livez").await.unwrap().0, 200);
        until("ready", async || health(&larder, &[]), |health| *health == (0, false)).await;
        let connected = feed_connected(&larder).await;
        assert_eq!(connected["mode"], "serve");
        assert_eq!(connected["level"], "strict");
        assert_eq!(connected["feed"]["findings"], serde_json::json!([]));

        pg.sql("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 10)").unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let hit = async || {
            assert_eq!(client.value("SELECT v FROM t WHERE id = 1").await.unwrap(), "10");
            client.value("SHOW larder.last").await.unwrap()
        };
        until("a hit", hit, |last| last.starts_with("hit")).await;

        let json = status(&larder).await;
        assert_eq!(json["clients"], 1);
        assert!(json["tiers"]["l1"]["entries"].as_u64().unwrap() >= 1, "{json}");
        assert!(json["queries"]["hits"].as_u64().unwrap() >= 1, "{json}");
        let (_, metrics) = larder.get("/metrics").await.unwrap();
        for name in [
            "larder_build_info{version=",
            "larder_feed_connected 1",
            "larder_feed_lag_seconds ",
            "larder_feed_lag_bytes ",
            "larder_feed_gaps_total ",
            "larder_lease_remaining_seconds ",
            "larder_changes_total{kind=\"insert\"} 1",
            "larder_tier_entries{tier=\"l1\"} ",
            "larder_tier_bytes{tier=\"l1\"} ",
            "larder_clients{state=",
            "larder_queries_total{outcome=\"hit\",tier=\"l1\"} ",
            "larder_bypass_total{reason=",
            "process_resident_memory_bytes ",
        ] {
            assert!(metrics.contains(name), "{name}\n--- in\n{metrics}");
        }
        assert!(metrics.ends_with("# EOF\n"));
    })
    .await;
}

/// Larder in front of a server that lacks something: it serves as a plain proxy and says what is missing, in the log,
/// in `/readyz` and in `larder check`, with the remedy.
async fn says_what_is_missing(pg: &Postgres, origin: &str, code: &str, remedy: &str) {
    let larder = serve(origin).start().await.unwrap();
    let disconnected = |status: &Value| status["feed"]["state"] == "disconnected";
    let status = until("the feed gives up", async || status(&larder).await, disconnected).await;
    let found = &status["feed"]["findings"][0];
    assert_eq!(found["code"], code, "{status}");
    assert!(found["remedy"].as_str().unwrap().contains(remedy), "{status}");
    let (ready, body) = readyz(&larder).await;
    assert_eq!(ready, 200, "{body}");
    assert_eq!(body["info"]["findings"][0]["code"], code);
    until("the log says it", async || larder.log(), |log| log.contains(remedy)).await;

    assert_eq!(value(larder.addr(), "SELECT 40 + 2").await, "42");
    assert_eq!(
        pg.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'larder%'").unwrap(),
        "0"
    );

    let check = crate::larder(&["check", "--origin", origin], &[]);
    assert_eq!(check.code, 1, "{check:?}");
    assert!(check.out.contains(remedy), "{check:?}");
    assert!(!check.out.contains("secret"), "{check:?}");
}

#[tokio::test]
async fn without_logical_decoding_it_is_a_plain_proxy() {
    let mut pg = Postgres::builder().setting("wal_level", "replica").start().unwrap();
    let origin = own_account(&mut pg);
    says_what_is_missing(&pg, &origin, "wal_level", "ALTER SYSTEM SET wal_level = 'logical'").await;
}

#[tokio::test]
async fn without_the_replication_privilege_it_is_a_plain_proxy() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    pg.sql("ALTER ROLE larder NOREPLICATION").unwrap();
    says_what_is_missing(&pg, &origin, "replication_privilege", "ALTER ROLE \"larder\" REPLICATION").await;
}

#[tokio::test]
async fn without_a_free_slot_it_is_a_plain_proxy() {
    let mut pg = Postgres::builder().setting("max_replication_slots", "1").start().unwrap();
    let origin = own_account(&mut pg);
    pg.sql("SELECT pg_create_physical_replication_slot('taken')").unwrap();
    says_what_is_missing(&pg, &origin, "slots", "max_replication_slots").await;
}

#[tokio::test]
async fn without_an_account_it_is_a_plain_proxy() {
    let pg = pg18();
    let origin = format!("postgres://{}", pg.addr());
    says_what_is_missing(&pg, &origin, "account", "CREATE ROLE larder LOGIN REPLICATION").await;
}

#[tokio::test]
async fn check_is_content_when_nothing_is_missing() {
    each_version(async |mut pg: Postgres| {
        let origin = own_account(&mut pg);
        let check = crate::larder(&["check", "--origin", &origin], &[]);
        assert_eq!((check.code, check.out.starts_with("ok: ")), (0, true), "{check:?}");
        let json = crate::larder(&["check", "--json", "--origin", &origin], &[]);
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(json["ok"], true);
    })
    .await;
}

#[tokio::test]
async fn readiness_follows_the_origin() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    pg.stop().unwrap();
    let larder = serve(&origin).wait(Wait::Live).start().await.unwrap();
    let (_, body) = until(
        "unready",
        async || readyz(&larder).await,
        |(code, body)| *code == 503 && body["reasons"][0].as_str().unwrap().starts_with("origin unreachable"),
    )
    .await;
    assert_eq!(body["ready"], false);
    pg.start().unwrap();
    until("ready", async || readyz(&larder).await.0, |code| *code == 200).await;
    feed_connected(&larder).await;
    pg.stop().unwrap();
    until("unready again", async || readyz(&larder).await.0, |code| *code == 503).await;
}

#[tokio::test]
async fn mode_bypass_is_a_plain_proxy_without_a_feed() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    let larder = serve(&origin).arg("--mode").arg("bypass").start().await.unwrap();
    assert_eq!(value(larder.addr(), "SELECT 1").await, "1");
    assert_eq!(value(larder.addr(), "SELECT count(*) FROM pg_replication_slots").await, "0");
    assert_eq!(status(&larder).await["feed"]["state"], "off");
}

#[tokio::test]
async fn sigterm_lets_transactions_finish() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    let mut larder = serve(&origin).start().await.unwrap();
    pg.sql("CREATE TABLE t (id int)").unwrap();
    let mut client = RawClient::superuser(larder.addr()).await.unwrap();
    client.query("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();

    larder.signal(Signal::TERM).unwrap();
    let draining = |(code, body): &(u16, Value)| *code == 503 && body["reasons"][0] == "draining";
    until("draining", async || readyz(&larder).await, draining).await;
    assert_eq!(health(&larder, &[]), (1, true));
    assert_eq!(health(&larder, &["--live"]), (0, false));
    until("refusing", async || RawClient::superuser(larder.addr()).await.is_err(), |refused| *refused).await;
    client.query("COMMIT").await.unwrap();
    let ended = larder.ended(LIMIT).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{}", larder.log());
    assert_eq!(pg.sql("SELECT count(*) FROM t").unwrap(), "1");
    let slots = async || pg.sql("SELECT count(*) FROM pg_replication_slots").unwrap();
    until("the slot is gone", slots, |count| count == "0").await;
}

#[tokio::test]
async fn a_service_manager_is_told_when_clients_are_served_and_when_no_longer() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut larder = serve(&origin).env("NOTIFY_SOCKET", path.to_str().unwrap()).start().await.unwrap();
    let hear = async || {
        let mut text = [0; 64];
        let length = tokio::time::timeout(LIMIT, manager.recv(&mut text)).await.unwrap().unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert_eq!(hear().await, "READY=1");
    assert_eq!(value(larder.addr(), "SELECT 1").await, "1");
    larder.signal(Signal::TERM).unwrap();
    assert_eq!(hear().await, "STOPPING=1");
    assert_eq!(larder.ended(LIMIT).await.unwrap().code(), Some(0), "{}", larder.log());
}

#[tokio::test]
async fn a_transaction_that_outlasts_the_grace_is_closed() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    let mut larder = serve(&origin).arg("--set").arg("drain.grace=300ms").start().await.unwrap();
    let mut client = RawClient::superuser(larder.addr()).await.unwrap();
    client.query("BEGIN").await.unwrap();
    client.query("CREATE TABLE never (id int)").await.unwrap();
    larder.signal(Signal::TERM).unwrap();
    assert_eq!(larder.ended(LIMIT).await.unwrap().code(), Some(0), "{}", larder.log());
    assert!(client.query("COMMIT").await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    let mut larder = serve(&origin).start().await.unwrap();
    let mut client = RawClient::superuser(larder.addr()).await.unwrap();
    client.query("BEGIN").await.unwrap();
    client.query("SELECT txid_current()").await.unwrap();
    larder.signal(Signal::TERM).unwrap();
    until("draining", async || readyz(&larder).await.0, |code| *code == 503).await;
    larder.signal(Signal::TERM).unwrap();
    // The grace is 25 s.
    assert_eq!(larder.ended(Duration::from_secs(10)).await.unwrap().code(), Some(1), "{}", larder.log());
}

#[test]
fn an_address_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (flag, other) in [("--listen", "--admin"), ("--admin", "--listen")] {
        let arguments = ["serve", "--origin", "postgres://127.0.0.1:1", flag, &taken, other, "127.0.0.1:0"];
        let ran = crate::larder(&arguments, &[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(&taken) && ran.err.contains(flag), "{ran:?}");
    }
}

#[tokio::test]
async fn json_logs_are_json_and_hold_no_secret() {
    let mut pg = pg18();
    let origin = own_account(&mut pg);
    let larder = serve(&origin).arg("--log-format").arg("json").start().await.unwrap();
    feed_connected(&larder).await;
    let log = larder.log();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["level"].is_string() && line["timestamp"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    assert!(!log.contains("secret"), "{log}");
}
