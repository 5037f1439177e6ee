//! The start of a session: authentication, refusals, options, requests that are no session; and its end.

use std::time::Duration;

use larder_testkit::frame::{self, GSS_REQUEST, PROTOCOL_3_0, SSL_REQUEST, untagged};
use larder_testkit::{Auth, CancelKey, Frame, Login, RawClient, Target, Transcript, pg, run};

use crate::transparency::{VERSIONS, pair, q, serve};

/// The login and what follows, with what differs from login to login taken out: keys, salts, nonces, proofs.
async fn login(target: &Target) -> String {
    match run(
        &[q("select current_user, current_database(), current_setting('timezone')"), q("show work_mem")],
        target,
    )
    .await
    {
        Ok(transcripts) => {
            let frames = transcripts.iter().flat_map(Transcript::frames).map(masked);
            frames.collect::<Vec<_>>().join("\n")
        }
        Err(error) => format!("{error:#}"),
    }
}

fn masked(frame: &Frame) -> String {
    match frame.body.first_chunk() {
        // AuthenticationMD5Password, SASLContinue, SASLFinal carry random bytes.
        Some([0, 0, 0, kind @ (5 | 11 | 12)]) if frame.tag == b'R' => format!("R {kind}"),
        _ => format!("{frame:?}"),
    }
}

#[tokio::test]
async fn logins_are_the_origins() {
    for version in VERSIONS {
        let mut pg = pg(version);
        for (name, auth) in [("clear", Auth::Password), ("digest", Auth::Md5), ("scrammed", Auth::Scram)] {
            pg.create_user(name, "secret", auth).unwrap();
        }
        pg.sql("create role trusted login; alter role trusted set timezone = 'Asia/Tokyo'; create role locked nologin").unwrap();
        let larder = serve(&pg.url("postgres", "postgres")).start().await.unwrap();
        let mut logins = vec![
            Login::superuser(),
            Login::new("trusted", "postgres"),
            Login::new("locked", "postgres"),
            Login::new("nobody", "postgres"),
            Login::new("postgres", "nowhere"),
            Login::new("postgres", ""),
            Login::new("postgres", "postgres").parameter("options", "-c work_mem=7MB -c timezone=Asia/Tokyo"),
            Login::new("postgres", "postgres")
                .parameter("timezone", "Asia/Tokyo")
                .parameter("application_name", "me"),
            Login::new("postgres", "postgres").parameter("options", "-c nonsense=1"),
            Login::new("postgres", "postgres").parameter("nonsense", "1"),
            Login::new("postgres", "postgres").parameter("_pq_.nonsense", "1"),
            Login::new("postgres", "postgres").parameter("client_encoding", "LATIN1"),
            Login::new("postgres", "postgres").version(3 << 16 | 2),
            Login::new("postgres", "postgres").version(3 << 16 | 99),
            Login::new("postgres", "postgres").version(2 << 16),
            Login::new("postgres", "postgres").version(4 << 16),
            Login::new("", "postgres"),
        ];
        for name in ["clear", "digest", "scrammed"] {
            logins.extend(
                ["secret", "wrong", ""].map(|password| Login::new(name, "postgres").password(password)),
            );
        }
        for login_as in logins {
            let direct = login(&Target { addr: pg.addr(), login: login_as.clone() }).await;
            let through = login(&Target { addr: larder.addr(), login: login_as.clone() }).await;
            assert_eq!(direct, through, "{login_as:?} on {version}");
        }
    }
}

/// What comes back for some first bytes, until the server closes.
async fn first_bytes(addr: std::net::SocketAddr, bytes: &[u8], single: usize) -> String {
    let mut client = RawClient::open(addr).await.unwrap();
    client.set_limit(Duration::from_secs(10));
    client.send(bytes).await.unwrap();
    let mut answer = String::new();
    for _ in 0..single {
        match client.byte().await {
            Ok(byte) => answer.push(byte.into()),
            Err(_) => return answer + " closed",
        }
    }
    client.half_close().await.unwrap();
    format!("{answer} {:?}", client.until_closed().await)
}

#[tokio::test]
async fn first_messages() {
    let startup = frame::startup(PROTOCOL_3_0, &Login::superuser().parameters);
    let (ssl, gss) = (untagged(SSL_REQUEST, b""), untagged(GSS_REQUEST, b""));
    let cases: [(&str, Vec<u8>, usize); 5] = [
        ("nothing", vec![], 0),
        ("TLS and nothing", ssl.to_vec(), 1),
        ("cut off", startup[..20].to_vec(), 0),
        ("cancel of nobody", frame::cancel(1, &[1, 2, 3, 4]).to_vec(), 0),
        ("a negative length", vec![0xff; 8], 0),
    ];
    for version in VERSIONS {
        let pair = pair(version).await;
        for (name, bytes, single) in &cases {
            let direct = first_bytes(pair.pg.addr(), bytes, *single).await;
            let through = first_bytes(pair.larder.addr(), bytes, *single).await;
            assert_eq!(direct, through, "{name} on {version}");
        }
        // As libpq does: TLS asked for, refused, and then a session.
        let mut client = RawClient::open(pair.larder.addr()).await.unwrap();
        for request in [&gss, &ssl] {
            client.send(request).await.unwrap();
            assert_eq!(client.byte().await.unwrap(), b'N');
        }
        client.send(&startup).await.unwrap();
        assert_eq!(client.until_ready().await.unwrap()[0].tag, b'R');
    }
}

#[tokio::test]
async fn replication_connections_pass() {
    for version in VERSIONS {
        let pair = pair(version).await;
        let script = ["identify_system", "show wal_segment_size", "bogus", "select 1"].map(q);
        for value in ["database", "true"] {
            let target = |addr| Target { addr, login: Login::superuser().parameter("replication", value) };
            let direct = run(&script, &target(pair.pg.addr())).await.unwrap();
            let through = run(&script, &target(pair.larder.addr())).await.unwrap();
            // IDENTIFY_SYSTEM tells the position of the log, which moves.
            assert_eq!(direct[2..], through[2..], "{version}");
            assert_eq!(direct[1].tags(), through[1].tags());
        }
    }
}

#[tokio::test]
async fn cancel_requests() {
    for version in VERSIONS {
        let pair = pair(version).await;
        let addr = pair.larder.addr();
        let mut client = RawClient::superuser(addr).await.unwrap();
        let mut other = RawClient::superuser(addr).await.unwrap();
        let key = client.cancel_key().unwrap();
        client.send(frame::query("select pg_sleep(30)")).await.unwrap();
        other.send(frame::query("select pg_sleep(0.5)")).await.unwrap();
        wait_active(&pair.pg, "select pg_sleep(30)").await;
        RawClient::cancel(addr, &key).await.unwrap();
        let frames = client.until_ready().await.unwrap();
        let error = frames.iter().find(|frame| frame.tag == b'E').expect("no error");
        assert_eq!(error.field(b'C').as_deref(), Some("57014"), "{frames:?}");
        assert_eq!(other.until_ready().await.unwrap().len(), 4, "another session's query was cancelled");
        // A late one finds nothing to do, and neither does one with a wrong key.
        RawClient::cancel(addr, &key).await.unwrap();
        let wrong = CancelKey { pid: key.pid, secret: key.secret.iter().map(|byte| !byte).collect() };
        client.send(frame::query("select pg_sleep(0.2)")).await.unwrap();
        RawClient::cancel(addr, &wrong).await.unwrap();
        let frames = client.until_ready().await.unwrap();
        assert!(frames.iter().all(|frame| frame.tag != b'E'), "{frames:?}");
    }
}

/// Waits until a session of the origin runs this.
pub(crate) async fn wait_active(pg: &larder_testkit::Postgres, text: &str) {
    let mut client = RawClient::superuser(pg.addr()).await.unwrap();
    let ask = format!(
        "select count(*) from pg_stat_activity where state = 'active' and query = '{}'",
        text.replace('\'', "''")
    );
    for _ in 0..1000 {
        if client.value(&ask).await.unwrap() != "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{text} does not run");
}
