//! The way in: PROXY headers, logins that take too long, protocol 3.2, and cancel requests for sessions that wait here.

use std::time::Duration;

use larder_testkit::frame::{self, PROTOCOL_3_0, untagged};
use larder_testkit::{
    CancelKey, Frame, LarderBuilder, Login, PgVersion, Postgres, RawClient, Tls, each_version, pg18,
};
use tokio::io::AsyncWriteExt as _;

use crate::secure::{Libpq, Papers, before, conninfo, populate, set, until_hit};

const PROTOCOL_3_2: i32 = 3 << 16 | 2;

fn logged(pg: &Postgres) -> LarderBuilder {
    before(pg).arg("--log-level").arg("larder_proxy=debug,info")
}

fn v2(address: [u8; 4], port: u16) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(address);
    header.extend([127, 0, 0, 1]);
    header.extend(port.to_be_bytes());
    header.extend([0x19, 0x21]);
    header
}

#[tokio::test]
async fn a_listed_peer_says_who_the_client_is() {
    let papers = Papers::new();
    let pg = papers.postgres(PgVersion::V18);
    let builder = set(papers.listen(logged(&pg)), "listen.proxy_protocol_from", "10.0.0.0/8,127.0.0.1");
    let larder = builder.start().await.unwrap();
    let headers = [
        b"PROXY TCP4 192.0.2.7 127.0.0.1 5001 6433\r\n".to_vec(),
        v2([192, 0, 2, 8], 5002),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ];
    for header in &headers {
        // In the clear, with TLS, with TLS from the first byte on: each right behind the header.
        let mut client = RawClient::open(larder.addr()).await.unwrap();
        client.send(header).await.unwrap();
        client.log_in(&Login::superuser()).await.unwrap();
        assert_eq!(client.value("select 1").await.unwrap(), "1");
        let mut client = RawClient::open(larder.addr()).await.unwrap();
        let startup = frame::startup(PROTOCOL_3_0, &Login::superuser().parameters);
        client.send([&header[..], &startup].concat()).await.unwrap();
        client.until_ready().await.unwrap();
        let mut client = RawClient::open(larder.addr()).await.unwrap();
        client.send([&header[..], &untagged(frame::SSL_REQUEST, b"")].concat()).await.unwrap();
        assert_eq!(client.byte().await.unwrap(), b'S');
        client.secure(&papers.client()).await.unwrap().log_in(&Login::superuser()).await.unwrap();
        let mut client = RawClient::open(larder.addr()).await.unwrap();
        client.send(header).await.unwrap();
        let tls: Tls = papers.client().direct();
        client.secure(&tls).await.unwrap().log_in(&Login::superuser()).await.unwrap();
    }
    for address in ["192.0.2.7:5001", "192.0.2.8:5002", "127.0.0.1:"] {
        assert!(larder.log().contains(&format!("client={address}")), "{address}: {}", larder.log());
    }
    // None at all: the client hears why, whatever it begins with that is no TLS.
    let said = format!("{:#}", RawClient::superuser(larder.addr()).await.unwrap_err());
    assert!(said.contains("08P01") && said.contains("no PROXY protocol header"), "{said}");
    assert!(larder.log().contains("sends no PROXY header"), "{}", larder.log());
    // Byte by byte.
    let mut client = RawClient::open(larder.addr()).await.unwrap();
    for byte in &headers[1] {
        client.stream().write_all(&[*byte]).await.unwrap();
    }
    client.log_in(&Login::superuser()).await.unwrap();
}

#[tokio::test]
async fn from_others_a_header_is_garbage() {
    let pg = pg18();
    for listed in ["", "10.0.0.0/8"] {
        let larder = set(before(&pg), "listen.proxy_protocol_from", listed).start().await.unwrap();
        for header in [b"PROXY TCP4 192.0.2.7 127.0.0.1 5001 6433\r\n".to_vec(), v2([192, 0, 2, 8], 5002)] {
            let mut client = RawClient::open(larder.addr()).await.unwrap();
            client.send(&header).await.unwrap();
            assert!(client.until_closed().await.is_ok_and(|frames| frames.is_empty()));
        }
        RawClient::superuser(larder.addr()).await.unwrap();
    }
}

#[tokio::test]
async fn logins_that_take_too_long_are_ended() {
    let papers = Papers::new();
    let pg = papers.postgres(PgVersion::V18);
    for auth in ["relay", "verify"] {
        let builder = set(papers.listen(before(&pg)), "listen.login_timeout", "1s");
        let builder = set(set(builder, "listen.auth", auth), "listen.proxy_protocol_from", "10.0.0.0/8");
        let larder = builder.start().await.unwrap();
        let startup = frame::startup(PROTOCOL_3_0, &Login::new("scrammed", "postgres").parameters);
        let ssl = untagged(frame::SSL_REQUEST, b"");
        let cases: [(&str, &[u8]); 5] = [
            ("nothing", b""),
            ("half a message", &startup[..10]),
            ("TLS, and no handshake", &ssl),
            ("half a handshake", b"\x16\x03\x01\x02\0\x01\0\x01\xfc"),
            ("no password", &startup),
        ];
        let mut clients = vec![];
        for (name, bytes) in cases {
            let mut client = RawClient::open(larder.addr()).await.unwrap();
            client.send(bytes).await.unwrap();
            clients.push((name, client));
        }
        for (name, client) in &mut clients {
            // Whatever was said before the end; it must come, and that in time.
            let end =
                tokio::time::timeout(Duration::from_secs(30), async { while client.byte().await.is_ok() {} });
            assert!(end.await.is_ok(), "{name}, {auth}");
        }
        // Nobody of them holds a place any more, and a session that has begun stays.
        let mut client = RawClient::superuser(larder.addr()).await;
        if auth == "verify" {
            let login = Login::new("scrammed", "postgres").password("secret");
            client = RawClient::login(larder.addr(), &login).await;
        }
        let mut client = client.unwrap();
        client.value("select pg_sleep(1.5)").await.unwrap();
        assert_eq!(client.value("select 1").await.unwrap(), "1");
    }
}

#[tokio::test]
async fn protocol_3_2_and_its_long_keys() {
    each_version(async |mut pg| {
        populate(&mut pg);
        for auth in ["relay", "verify"] {
            let larder = set(before(&pg), "listen.auth", auth).start().await.unwrap();
            for version in [PROTOCOL_3_2, 3 << 16 | 99] {
                let login = Login::new("scrammed", "postgres").password("secret").version(version);
                let direct = RawClient::login(pg.addr(), &login).await.unwrap();
                let mut through = RawClient::login(larder.addr(), &login).await.unwrap();
                let shape = |client: &RawClient| {
                    let frames =
                        client.greeting().iter().filter(|frame| matches!(frame.tag, b'v' | b'K' | b'Z'));
                    let shape = |frame: &Frame| (frame.tag, frame.body.len());
                    frames.map(shape).collect::<Vec<_>>()
                };
                assert_eq!(shape(&direct), shape(&through), "{auth}");
                let key = through.cancel_key().unwrap();
                let long = pg.major() >= 18;
                assert_eq!(key.secret.len(), if long { 32 } else { 4 });
                cancels(&pg, larder.addr(), &mut through, &key).await;
            }
            for libpq in Libpq::ALL {
                let more = if libpq == Libpq::V18 { "max_protocol_version=3.2" } else { "" };
                let said = libpq.run(&conninfo(&larder, "scrammed", more), "select 1").await;
                assert_eq!(said.as_deref(), Ok("1"), "{libpq:?} {auth}");
            }
        }
    })
    .await;
}

async fn cancels(pg: &Postgres, larder: std::net::SocketAddr, client: &mut RawClient, key: &CancelKey) {
    client.send(frame::query("select pg_sleep(60)")).await.unwrap();
    crate::transparency_login::wait_active(pg, "select pg_sleep(60)").await;
    RawClient::cancel(larder, key).await.unwrap();
    let frames = client.until_ready().await.unwrap();
    let error = frames.iter().find(|frame| frame.tag == b'E').expect("no error");
    assert_eq!(error.field(b'C').as_deref(), Some("57014"));
}

const READ: &str = "select v from fixed where id = 5";

/// Sends cancel requests until there is an answer. While the session does not wait yet, nothing runs that one could end.
async fn cancelled(addr: std::net::SocketAddr, client: &mut RawClient) -> Vec<Frame> {
    let key = client.cancel_key().unwrap();
    let requests = async {
        loop {
            RawClient::cancel(addr, &key).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        frames = client.until_ready() => frames.unwrap(),
        () = requests => unreachable!(),
    }
}

/// The SQLSTATE of the error, if there is one, and the status at the end.
fn outcome(frames: &[Frame]) -> (Option<String>, u8) {
    let error = frames.iter().find(|frame| frame.tag == b'E');
    let status = frames.last().map_or(b'?', |frame| frame.body[0]);
    (error.and_then(|frame| frame.field(b'C')), status)
}

#[tokio::test]
async fn a_wait_for_anothers_identical_query_can_be_cancelled() {
    each_version(async |mut pg| {
        populate(&mut pg);
        let larder = before(&pg).start().await.unwrap();
        let mut follower = RawClient::superuser(larder.addr()).await.unwrap();
        let mut leader = RawClient::superuser(larder.addr()).await.unwrap();
        for client in [&mut follower, &mut leader] {
            until_hit(client, "select v from fixed where id = 6").await;
        }
        // The leader's query hangs at the origin; who asks the same waits for it here.
        let mut locker = RawClient::superuser(pg.addr()).await.unwrap();
        locker.rows("begin; lock table fixed in access exclusive mode").await.unwrap();
        leader.send(frame::query(READ)).await.unwrap();
        crate::transparency_login::wait_active(&pg, READ).await;

        follower.send(frame::query(READ)).await.unwrap();
        let frames = cancelled(larder.addr(), &mut follower).await;
        assert_eq!(outcome(&frames), (Some("57014".to_owned()), b'I'), "{frames:?}");
        assert_eq!(frames.len(), 2);
        // It goes on as if the origin had said it.
        assert_eq!(follower.value("select 1 + pg_backend_pid() * 0").await.unwrap(), "1");

        // The extended protocol: here, or at the origin if that has not prepared the statement yet.
        let batch =
            [frame::parse("", READ, &[]), frame::bind("", "", &[]), frame::execute("", 0), frame::sync()];
        follower.send_all(&batch).await.unwrap();
        let frames = cancelled(larder.addr(), &mut follower).await;
        assert_eq!(outcome(&frames), (Some("57014".to_owned()), b'I'), "{frames:?}");

        // In a transaction whose BEGIN the origin has not seen: it has failed all the same.
        follower.rows("begin").await.unwrap();
        follower.send(frame::query(READ)).await.unwrap();
        let frames = cancelled(larder.addr(), &mut follower).await;
        assert_eq!(outcome(&frames), (Some("57014".to_owned()), b'E'), "{frames:?}");
        let frames = follower.query("select 1").await.unwrap();
        assert_eq!(outcome(&frames), (Some("25P02".to_owned()), b'E'), "{frames:?}");
        let frames = follower.query("rollback").await.unwrap();
        assert_eq!(outcome(&frames), (None, b'I'), "{frames:?}");

        // The leader was not disturbed, and neither is anybody by a key of nobody.
        let key = follower.cancel_key().unwrap();
        let wrong = CancelKey { pid: key.pid, secret: key.secret.iter().map(|byte| !byte).collect() };
        RawClient::cancel(larder.addr(), &wrong).await.unwrap();
        locker.rows("commit").await.unwrap();
        let frames = leader.until_ready().await.unwrap();
        assert_eq!(frames[1].values(), [Some("value 5".to_owned())]);
        until_hit(&mut follower, READ).await;
    })
    .await;
}
