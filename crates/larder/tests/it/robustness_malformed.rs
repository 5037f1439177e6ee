//! What is not a message, or not the one it says it is: Larder's answer is the origin's own, and the connection ends,
//! or goes on, as it would there. Every case is sent directly and through Larder, in one write and byte by byte.

use std::time::Duration;

use bytes::Bytes;
use larder_testkit::frame::{
    self, PROTOCOL_3_0, bind, execute, message, parse, query, startup, sync, untagged,
};
use larder_testkit::{Frame, PgVersion, RawClient, Target, Tls};
use tokio::task::JoinSet;

use crate::secure::Papers;
use crate::transparency::{VERSIONS, pair, serve};

/// How long an answer may take, on a loaded machine.
const LIMIT: Duration = Duration::from_secs(10);

/// What happens after the bytes of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// A Sync and a ROLLBACK, which is answered in any state of a session that goes on.
    Ask,
    /// Nothing more comes from the client, and it waits.
    Wait,
    /// Nothing more comes from the client, and it says so.
    Leave,
}

#[derive(Clone, Copy, Debug)]
enum Pace {
    AtOnce,
    ByteByByte,
}

/// Bytes, and what follows them.
type Case = (&'static str, Bytes, Then);

/// What came back, and how it ended.
async fn outcome(client: &mut RawClient, bytes: &Bytes, then: Then, pace: Pace) -> String {
    client.set_limit(LIMIT);
    let sent = match pace {
        Pace::AtOnce => client.send(bytes).await,
        Pace::ByteByByte => byte_by_byte(client, bytes).await,
    };
    // Who is refused in the middle may not be able to send the rest.
    let _ = sent;
    let _ = match then {
        Then::Ask => client.send_all(&[sync(), query("rollback")]).await,
        Then::Leave => client.half_close().await,
        Then::Wait => Ok(()),
    };
    let mut lines = vec![];
    let end = loop {
        match client.next().await {
            Ok(Some(frame)) => {
                let answered = frame.tag == b'C' && frame.body == "ROLLBACK\0";
                lines.push(shown(&frame));
                if answered {
                    break "goes on".to_owned();
                }
            }
            Ok(None) => break "closed".to_owned(),
            // A peer that closes with our bytes unread resets the connection.
            Err(error) if format!("{error:#}").contains("reset") => break "closed".to_owned(),
            Err(error) => break format!("{error:#}"),
        }
    };
    lines.push(end);
    lines.join("\n")
}

async fn byte_by_byte(client: &mut RawClient, bytes: &Bytes) -> anyhow::Result<()> {
    for byte in bytes.iter() {
        client.send([*byte]).await?;
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// An error as its fields; what the server's parameters are is another test's business.
fn shown(frame: &Frame) -> String {
    match frame.tag {
        b'E' | b'N' => {
            let fields = frame.fields().map(|(code, text)| format!("{}={text}", char::from(code)));
            format!("{} {}", char::from(frame.tag), fields.collect::<Vec<_>>().join(" "))
        }
        b'K' => "K".to_owned(),
        _ => format!("{frame:?}"),
    }
}

/// A header that promises `length`, and some of it.
fn promised(tag: u8, length: i32, some: &[u8]) -> Bytes {
    [&[tag][..], &length.to_be_bytes(), some].concat().into()
}

/// Messages of a session that do not make sense.
fn messages() -> Vec<Case> {
    use Then::{Ask, Leave, Wait};
    let mut cases = vec![
        ("an unknown type", message(b'y', b"abcd"), Wait),
        ("an unknown type, nothing more", Bytes::from_static(b"y"), Wait),
        ("a password, long after login", message(b'p', b"secret\0"), Wait),
        ("a backend's message", message(b'Z', b"I"), Wait),
        ("length 0", promised(b'Q', 0, b""), Wait),
        ("length 3", promised(b'Q', 3, b""), Wait),
        ("length -1", promised(b'P', -1, b"abc"), Wait),
        ("a Sync of 100 kB", promised(b'S', 100_000, b"x"), Wait),
        ("a Describe of 20 kB", promised(b'D', 20_000, b"Sx"), Wait),
        ("an Execute of 10,001 bytes", promised(b'E', 10_001, b""), Wait),
        ("a Query of 1 GiB that never comes", promised(b'Q', 1 << 30, b"select 1"), Leave),
        ("a Parse of 2 GiB that never comes", promised(b'P', i32::MAX, b"a\0select 1"), Leave),
        ("a Bind of 1 GB that never comes", promised(b'B', (1 << 30) - 2, b"\0\0\0"), Leave),
        ("CopyData of 1 GB that never comes", promised(b'd', 1_000_000_000, b"x"), Leave),
        ("half a header", Bytes::from_static(b"Q\0\0"), Leave),
        ("half a query", query("select 'cut off'").slice(..12), Leave),
        ("half a batch", parse("", "select 1", &[]), Leave),
        ("a Query without its NUL", message(b'Q', b"select 1"), Ask),
        ("a Query without anything", message(b'Q', b""), Ask),
        ("a Query with something behind it", message(b'Q', b"select 1\0select 2\0"), Ask),
        ("a Query that is not UTF-8", message(b'Q', b"select '\xff'\0"), Ask),
        ("a Sync with a body", message(b'S', b"abcd"), Ask),
        ("a Flush with a body", message(b'H', b"abcd"), Ask),
        ("a Parse without anything", message(b'P', b""), Ask),
        ("a Parse without its types", message(b'P', b"\0select 1\0"), Ask),
        ("a Parse with fewer types than it says", message(b'P', b"\0select 1\0\0\x02\0\0\0\x17"), Ask),
        ("a Parse with something behind it", message(b'P', b"\0select 1\0\0\0x"), Ask),
        ("a Parse of no such type", parse("", "select $1", &[4_000_000_000]), Ask),
        ("a Describe of something else", message(b'D', b"Xa\0"), Ask),
        ("a Describe of nothing", message(b'D', b""), Ask),
        ("a Describe of no such statement", message(b'D', b"Snone\0"), Ask),
        ("a Describe of no such portal", message(b'D', b"Pnone\0"), Ask),
        ("a Close of something else", message(b'C', b"Xa\0"), Ask),
        ("a Close without its NUL", message(b'C', b"Sa"), Ask),
        ("an Execute of no such portal", execute("none", 0), Ask),
        ("an Execute without its limit", message(b'E', b"\0"), Ask),
        ("an Execute with half a limit", message(b'E', b"\0\0\0"), Ask),
        ("a Bind to no such statement", bind("", "none", &[]), Ask),
        ("a function call without anything", message(b'F', b""), Ask),
        ("a call of no such function", frame::function_call(4_000_000_000, &[]), Ask),
        ("CopyData outside of COPY", message(b'd', b"1\n"), Ask),
        ("CopyDone outside of COPY", message(b'c', b""), Ask),
        ("CopyFail outside of COPY, without its NUL", message(b'f', b"x"), Ask),
        ("a Terminate with a body", message(b'X', b"abcd"), Wait),
    ];
    // After a Parse that is well, so that what is wrong is the Bind.
    let wrong_binds: [(&'static str, &'static [u8]); 8] = [
        ("a Bind without anything", b""),
        ("a Bind without counts", b"\0\0"),
        ("a Bind with too many parameters", b"\0\0\0\0\0\x02\0\0\0\x011\0\0\0\x012\0\0"),
        ("a Bind with too few", b"\0\0\0\0\0\0\0\0"),
        ("a Bind with formats for two", b"\0\0\0\x02\0\0\0\0\0\x01\0\0\0\x011\0\0"),
        ("a Bind with a length that cannot be", b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        ("a Bind with a format that is none", b"\0\0\0\x01\0\x07\0\x01\0\0\0\x011\0\0"),
        ("a Bind with something behind it", b"\0\0\0\0\0\x01\0\0\0\x011\0\0x"),
    ];
    for (name, body) in wrong_binds {
        let bytes =
            [parse("", "select v from fixed where id = $1", &[23]), message(b'B', body), execute("", 0)];
        cases.push((name, bytes.concat().into(), Ask));
    }
    let more = [message(b'E', b"\0"), query("select 2"), bind("", "none", &[]), parse("", "select 1", &[])];
    cases.push(("several things wrong in one batch", more.concat().into(), Ask));
    let behind = [query("select v from fixed where id = 1"), message(b'y', b"")];
    cases.push(("an unknown type behind a query", behind.concat().into(), Wait));
    cases
}

/// What the session has done before: nothing; a warm read; an open transaction; one that failed; a batch without end.
fn openings() -> [(&'static str, Vec<Bytes>); 5] {
    let warm = query("select v from fixed where id = 1");
    [
        ("fresh", vec![]),
        ("warm", vec![warm.clone(), warm]),
        ("in a transaction", vec![query("begin")]),
        ("in a failed one", vec![query("begin"), query("select 1/0")]),
        ("prepared", vec![[parse("a", "select v from fixed where id = 1", &[]), sync()].concat().into()]),
    ]
}

/// Where a client goes, and how.
#[derive(Clone)]
struct Door {
    target: Target,
    tls: Option<Tls>,
}

impl Door {
    fn plain(target: Target) -> Self {
        Self { target, tls: None }
    }

    async fn enter(&self) -> RawClient {
        let (addr, login) = (self.target.addr, &self.target.login);
        match &self.tls {
            None => RawClient::login(addr, login).await.unwrap(),
            Some(tls) => RawClient::login_tls(addr, tls, login).await.unwrap(),
        }
    }
}

async fn in_a_session(door: &Door, opening: &[Bytes], case: &Case, pace: Pace) -> String {
    let mut client = door.enter().await;
    for step in opening {
        client.send(step).await.unwrap();
        client.until_ready().await.unwrap();
    }
    outcome(&mut client, &case.1, case.2, pace).await
}

#[tokio::test]
async fn malformed_messages() {
    let mut problems = vec![];
    for version in VERSIONS {
        let pair = pair(version).await;
        let door = ("serve", Door::plain(pair.through()));
        problems.extend(through_all(version, &Door::plain(pair.direct()), &[door]).await);
    }
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n\n"));
}

/// A plain proxy, and clients that come over TLS.
#[tokio::test]
async fn malformed_messages_to_a_plain_proxy_and_over_tls() {
    let papers = Papers::new();
    let mut problems = vec![];
    for version in VERSIONS {
        let pair = pair(version).await;
        let origin = pair.pg.url("postgres", "postgres");
        let plain = serve(&origin).arg("--mode").arg("bypass").start().await.unwrap();
        let tls = papers.listen(serve(&origin)).start().await.unwrap();
        let doors = [
            ("bypass", Door::plain(Target::superuser(plain.addr()))),
            ("TLS", Door { target: Target::superuser(tls.addr()), tls: Some(papers.client()) }),
        ];
        problems.extend(through_all(version, &Door::plain(pair.direct()), &doors).await);
    }
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n\n"));
}

async fn through_all(version: PgVersion, direct: &Door, doors: &[(&'static str, Door)]) -> Vec<String> {
    let mut states = JoinSet::new();
    for (state, opening) in openings() {
        let (direct, doors) = (direct.clone(), doors.to_vec());
        states.spawn(async move { in_a_state(version, state, &opening, &direct, &doors).await });
    }
    let problems = states.join_all().await.concat();
    for (_, door) in doors {
        let mut client = door.enter().await;
        assert_eq!(client.value("select v from fixed where id = 1").await.unwrap(), "value 1");
    }
    problems
}

async fn in_a_state(
    version: PgVersion,
    state: &str,
    opening: &[Bytes],
    direct: &Door,
    doors: &[(&'static str, Door)],
) -> Vec<String> {
    let mut problems = vec![];
    for case in messages() {
        let expected = in_a_session(direct, opening, &case, Pace::AtOnce).await;
        for (mode, door) in doors {
            for pace in [Pace::AtOnce, Pace::ByteByByte] {
                let larder = in_a_session(door, opening, &case, pace).await;
                let what = format!("{mode}, {state}: {} ({pace:?})", case.0);
                compare(&mut problems, version, &what, &expected, &larder);
            }
        }
    }
    problems
}

/// First messages that do not make sense.
fn first_messages(version: PgVersion) -> Vec<Case> {
    use Then::{Leave, Wait};
    let parameters = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    };
    let session = |pairs: &[(&str, &str)]| startup(PROTOCOL_3_0, &parameters(pairs));
    // So many bytes in all, length included.
    let long = |size: usize| {
        let name = "application_name";
        let fixed = session(&[("user", "postgres"), (name, "")]).len();
        session(&[("user", "postgres"), (name, &"x".repeat(size - fixed))])
    };
    let user = b"user\0postgres\0";
    let mut cases = vec![
        ("length 0", Bytes::from_static(&[0, 0, 0, 0]), Wait),
        ("length 7", Bytes::from_static(&[0, 0, 0, 7, 0, 3, 0]), Wait),
        ("length -1", Bytes::from_static(&[0xff; 4]), Wait),
        ("length 10,005", long(10_005), Wait),
        ("1 GiB", (1_i32 << 30).to_be_bytes().to_vec().into(), Wait),
        ("HTTP", Bytes::from_static(b"GET / HTTP/1.1\r\nHost: larder\r\n\r\n"), Wait),
        ("half a length", Bytes::from_static(&[0, 0]), Leave),
        ("half a message", session(&[("user", "postgres")]).slice(..12), Leave),
        ("nothing", Bytes::new(), Leave),
        ("no user", session(&[("database", "postgres")]), Wait),
        ("no parameters", session(&[]), Wait),
        ("no terminator", untagged(PROTOCOL_3_0, b""), Wait),
        ("an unterminated name", untagged(PROTOCOL_3_0, b"user"), Wait),
        ("a name without a value", untagged(PROTOCOL_3_0, b"user\0"), Wait),
        ("an unterminated value", untagged(PROTOCOL_3_0, b"user\0postgres"), Wait),
        ("no last NUL", untagged(PROTOCOL_3_0, user), Wait),
        ("something behind it", untagged(PROTOCOL_3_0, b"user\0postgres\0\0garbage"), Wait),
        ("an empty user", session(&[("user", "")]), Wait),
        ("an unknown user", session(&[("user", "nobody at all")]), Wait),
        ("an unknown database", session(&[("user", "postgres"), ("database", "none")]), Wait),
        ("an unknown parameter", session(&[("user", "postgres"), ("no_such_thing", "1")]), Wait),
        ("options that make no sense", session(&[("user", "postgres"), ("options", "-c")]), Wait),
        ("replication that is neither", session(&[("user", "postgres"), ("replication", "maybe")]), Wait),
        ("a name of 100 bytes", session(&[("user", &"u".repeat(100))]), Wait),
        ("version 1.0", startup(1 << 16, &parameters(&[("user", "postgres")])), Wait),
        ("version 2.0", startup(2 << 16, &parameters(&[("user", "postgres")])), Wait),
        ("version 4.0", startup(4 << 16, &parameters(&[("user", "postgres")])), Wait),
        ("version 0.0", startup(0, &parameters(&[("user", "postgres")])), Wait),
        ("version 100.0", startup(100 << 16, &parameters(&[("user", "postgres")])), Wait),
        ("a request of another number", untagged(1234 << 16 | 5677, b""), Wait),
        ("a cancel request without a key", untagged(frame::CANCEL_REQUEST, b""), Wait),
        ("a cancel request with half a key", untagged(frame::CANCEL_REQUEST, &[0; 6]), Wait),
        ("a cancel request with a wrong key", frame::cancel(1, &[7; 4]), Wait),
    ];
    if version == PgVersion::V18 {
        cases.push(("a cancel request with a key of 1,000 bytes", frame::cancel(1, &[7; 1000]), Wait));
    }
    cases
}

#[tokio::test]
async fn malformed_first_messages() {
    let mut problems = vec![];
    for version in VERSIONS {
        let pair = pair(version).await;
        for case in first_messages(version) {
            let mut outcomes = vec![];
            for (target, pace) in [
                (pair.direct(), Pace::AtOnce),
                (pair.through(), Pace::AtOnce),
                (pair.through(), Pace::ByteByByte),
            ] {
                let mut client = RawClient::open(target.addr).await.unwrap();
                let found = if old_version(&case) {
                    old_outcome(&mut client, &case.1).await
                } else {
                    outcome(&mut client, &case.1, case.2, pace).await
                };
                outcomes.push(found);
            }
            for larder in &outcomes[1..] {
                compare(&mut problems, version, case.0, &outcomes[0], larder);
            }
        }
        // The largest that PostgreSQL takes.
        for target in [pair.direct(), pair.through()] {
            let login = |filler| target.login.clone().parameter("application_name", &"x".repeat(filler));
            let least = startup(PROTOCOL_3_0, &login(0).parameters).len();
            RawClient::login(target.addr, &login(10_004 - least)).await.unwrap();
        }
        others_are_served(&pair.through()).await;
    }
    assert!(problems.is_empty(), "{} differ:\n{}", problems.len(), problems.join("\n\n"));
}

/// Before version 3, errors were not framed.
fn old_version(case: &Case) -> bool {
    matches!(case.1.get(4..6), Some([0, 0..3]))
}

async fn old_outcome(client: &mut RawClient, bytes: &Bytes) -> String {
    client.send(bytes).await.unwrap();
    let mut answer = vec![];
    let read = tokio::io::AsyncReadExt::read_to_end(client.stream(), &mut answer);
    let end = tokio::time::timeout(LIMIT, read).await.map(|_| "closed");
    format!("{} {end:?}", answer.escape_ascii())
}

fn compare(problems: &mut Vec<String>, version: PgVersion, what: &str, direct: &str, larder: &str) {
    if direct != larder {
        problems.push(format!("{what}, on {version}\n  directly:\n{direct}\n  through Larder:\n{larder}"));
    }
}

async fn others_are_served(target: &Target) {
    let mut client = RawClient::login(target.addr, &target.login).await.unwrap();
    assert_eq!(client.value("select v from fixed where id = 1").await.unwrap(), "value 1");
}
