//! What clients and origins do wrong harms nobody else: stalls, kills, garbage, lengths that cannot be, an origin that
//! is away or dies, too many clients, the end of Larder itself; and what many who ask the same cost the origin.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use larder_testkit::frame;
use larder_testkit::{Faulty, Larder, Login, PgVersion, Postgres, RawClient, Signal, Towards, pg18};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::secure::until_hit;
use crate::transparency::{metric, pair, serve};
use crate::transparency_login::wait_active;

/// How long an answer may take that is not held up by anything, on a loaded machine.
const PROMPT: Duration = Duration::from_secs(2);

/// Resident memory in MiB.
fn memory(larder: &Larder) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", larder.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

/// Another client is answered at once, from the origin and from memory.
async fn others_are_served(addr: SocketAddr) {
    let asking = async {
        let mut client = RawClient::superuser(addr).await.unwrap();
        assert_eq!(client.value("select v from fixed where id = 1").await.unwrap(), "value 1");
        assert_eq!(client.value("select 1 + pg_backend_pid() * 0").await.unwrap(), "1");
    };
    timeout(PROMPT, asking).await.expect("another client waits");
}

#[tokio::test]
async fn clients_that_stop_reading_cost_little() {
    let pair = pair(PgVersion::V18).await;
    let addr = pair.larder.addr();
    others_are_served(addr).await;
    let before = memory(&pair.larder);
    let mut stalled = vec![];
    for number in 0..20 {
        let mut client = RawClient::superuser(addr).await.unwrap();
        // 100 MB: as many rows, as one row, from a table that could be kept.
        let sql = match number % 3 {
            0 => "select repeat('x', 1000) from generate_series(1, 100000)",
            1 => "select repeat('x', 100000000)",
            _ => "select repeat(v, 100000) from fixed f, generate_series(1, 7) where f.id > 0",
        };
        if number % 2 == 0 {
            client.send(frame::query(sql)).await.unwrap();
        } else {
            client
                .send_all(&[
                    frame::parse("", sql, &[]),
                    frame::bind("", "", &[]),
                    frame::execute("", 0),
                    frame::sync(),
                ])
                .await
                .unwrap();
        }
        stalled.push(client);
        others_are_served(addr).await;
    }
    // All have sent what they can when Larder's memory stands still.
    let mut most = memory(&pair.larder);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        most = most.max(memory(&pair.larder));
    }
    eprintln!("20 stalled clients: {before} MiB before, {most} MiB with them");
    assert!(most < before + 60, "{before} MiB before, {most} MiB with stalled clients");
    others_are_served(addr).await;
    // One goes on reading, and gets everything.
    let mut client = stalled.swap_remove(1);
    client.set_limit(Duration::from_secs(30));
    let frames = client.until_ready().await.unwrap();
    assert_eq!(frames.iter().map(|frame| frame.body.len()).max(), Some(100_000_006));
    drop(stalled);
    others_are_served(addr).await;
}

#[tokio::test]
async fn a_stopped_psql_harms_nobody() {
    let pair = pair(PgVersion::V18).await;
    let addr = pair.larder.addr();
    let mut psql = std::process::Command::new(pair.pg.bin_dir().join("psql"))
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &addr.port().to_string(),
            "-U",
            "postgres",
            "-c",
            "\\copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout",
            "postgres",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_active_like(&pair.pg, "%1000000%").await;
    let pid = rustix::process::Pid::from_child(&psql);
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    for _ in 0..5 {
        others_are_served(addr).await;
    }
    psql.kill().unwrap();
    psql.wait().unwrap();
    others_are_served(addr).await;
}

async fn wait_active_like(pg: &Postgres, pattern: &str) {
    let mut client = RawClient::superuser(pg.addr()).await.unwrap();
    let ask = format!(
        "select count(*) from pg_stat_activity where pid <> pg_backend_pid() and query ilike '{pattern}'"
    );
    for _ in 0..1000 {
        if client.value(&ask).await.unwrap() != "0" {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("nothing like {pattern} runs");
}

/// A writer that does not read until it cannot write any more: its queries and its answers fill every buffer.
#[tokio::test]
async fn full_buffers_on_both_sides_drain() {
    let pair = pair(PgVersion::V18).await;
    for text in ["select v from fixed where id = 1", "select repeat('x', 2000)", "select 1"] {
        let mut client = RawClient::superuser(pair.larder.addr()).await.unwrap();
        let padded = format!("{text} /* {} */", "-".repeat(4000));
        let one = frame::query(&padded);
        let count = 12_000; // 48 MB
        let (mut reading, mut writing) = client.stream().split();
        let write = async {
            for _ in 0..count {
                tokio::io::AsyncWriteExt::write_all(&mut writing, &one).await.unwrap();
            }
        };
        let read = async {
            // Only when the other half is stuck.
            tokio::time::sleep(Duration::from_millis(300)).await;
            let (mut seen, mut buffer) = (bytes::BytesMut::new(), vec![0; 1 << 20]);
            let mut ready = 0;
            while ready < count {
                let got = tokio::io::AsyncReadExt::read(&mut reading, &mut buffer).await.unwrap();
                assert!(got > 0, "closed after {ready}");
                seen.extend_from_slice(&buffer[..got]);
                while let Some(frame) = larder_testkit::Frame::take(&mut seen) {
                    assert_ne!(frame.tag, b'E', "{frame:?}");
                    ready += usize::from(frame.tag == b'Z');
                }
            }
        };
        timeout(Duration::from_secs(60), async { tokio::join!(write, read) }).await.expect("it hangs");
        others_are_served(pair.larder.addr()).await;
    }
}

#[tokio::test]
async fn garbage_and_impossible_lengths() {
    let pair = pair(PgVersion::V18).await;
    let addr = pair.larder.addr();
    let before = memory(&pair.larder);
    let mut random = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = (0..50_000).map(|_| random.u8(..)).collect();
    let length = |tag: u8, length: i32| [&[tag][..], &length.to_be_bytes(), &noise[..1000]].concat();
    let startup = frame::startup(frame::PROTOCOL_3_0, &Login::superuser().parameters).to_vec();
    let first = [
        noise.clone(),
        vec![0; 8],
        vec![0x7f; 100],
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        startup[..9].to_vec(),
        [startup.clone(), noise.clone()].concat(),
    ];
    for bytes in &first {
        let mut client = RawClient::open(addr).await.unwrap();
        let _ = client.send(bytes).await;
        drop(client);
        others_are_served(addr).await;
    }
    let inside = [
        noise.clone(),
        length(b'Q', 0),
        length(b'Q', 3),
        length(b'Q', -1),
        length(b'P', i32::MAX),
        length(b'Q', i32::MAX),
        length(b'B', 1 << 30),
        length(b'd', i32::MAX),
        length(b'S', 100_000),
        length(b'y', 8),
        length(b'p', 70_000),
        frame::query("select 1")[..7].to_vec(),
    ];
    let mut open = vec![];
    for bytes in &inside {
        let mut client = RawClient::superuser(addr).await.unwrap();
        let _ = client.send(bytes).await;
        open.push(client);
        others_are_served(addr).await;
    }
    // Before its login, a client may send for ever; nobody has to keep that.
    let mut flood = RawClient::open(addr).await.unwrap();
    flood.set_limit(Duration::from_millis(500));
    let _ = flood.send([&startup[..], &length(b'p', i32::MAX)].concat()).await;
    let _ = flood.send(vec![b'x'; 80 << 20]).await;
    let after = memory(&pair.larder);
    eprintln!("garbage: {before} MiB before, {after} MiB after");
    assert!(after < before + 20, "{before} MiB before, {after} MiB after");
    drop(open);
    others_are_served(addr).await;
}

#[tokio::test]
async fn half_closed_and_killed_clients() {
    let pair = pair(PgVersion::V18).await;
    let addr = pair.larder.addr();
    // As `echo ... | nc` does: everything is sent, then the end; the answers still come, as from the origin.
    for target in [pair.pg.addr(), addr] {
        let mut client = RawClient::superuser(target).await.unwrap();
        client
            .send_all(
                &["select 1", "select pg_sleep(0.1)", "select v from fixed where id = 1"].map(frame::query),
            )
            .await
            .unwrap();
        client.half_close().await.unwrap();
        let tags: String =
            client.until_closed().await.unwrap().iter().map(|frame| char::from(frame.tag)).collect();
        assert_eq!(tags, "TDCZTDCZTDCZ", "{target}");
    }
    for target in [pair.pg.addr(), addr] {
        let mut client = RawClient::superuser(target).await.unwrap();
        client
            .send_all(&[frame::query("select 1"), frame::query("select 2"), frame::terminate()])
            .await
            .unwrap();
        let tags: String =
            client.until_closed().await.unwrap().iter().map(|frame| char::from(frame.tag)).collect();
        assert_eq!(tags, "TDCZTDCZ", "{target}");
    }
    // Gone in the middle of a message, of an answer, of a transaction: the origin's sessions go too.
    for sql in [
        "select 1",
        "select repeat('x', 1000) from generate_series(1, 100000)",
        "begin; lock table fixed in exclusive mode",
    ] {
        let mut client = RawClient::superuser(addr).await.unwrap();
        client.send(frame::query(sql)).await.unwrap();
        client.frame().await.unwrap();
        client.send(&frame::query("select 'cut off'")[..9]).await.unwrap();
    }
    let mut client = RawClient::superuser(pair.pg.addr()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while client
        .value("select count(*) from pg_locks where mode = 'ExclusiveLock' and relation = 'fixed'::regclass")
        .await
        .unwrap()
        != "0"
    {
        assert!(Instant::now() < deadline, "the transaction of a client that is gone still holds its lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    others_are_served(addr).await;
}

#[tokio::test]
async fn large_messages_pass() {
    let pair = pair(PgVersion::V18).await;
    let mut direct = RawClient::superuser(pair.pg.addr()).await.unwrap();
    let mut through = RawClient::superuser(pair.larder.addr()).await.unwrap();
    for client in [&mut direct, &mut through] {
        client.set_limit(Duration::from_secs(30));
    }
    let long = "x".repeat(1 << 20);
    for sql in [
        "select repeat('x', 50000000)",
        "select repeat(md5(i::text), 30) from generate_series(1, 50000) i",
        &format!("select length('{long}')"),
        "select v from fixed where id = 1",
        &format!("select v from fixed where id = 1 or v = '{long}'"),
    ] {
        let shown = &sql[..sql.len().min(60)];
        assert_eq!(direct.query(sql).await.unwrap(), through.query(sql).await.unwrap(), "{shown}");
        assert_eq!(
            direct.extended(sql, &[]).await.unwrap(),
            through.extended(sql, &[]).await.unwrap(),
            "{shown}"
        );
    }
    let huge = "y".repeat(20 << 20);
    for parameter in [&huge, "short", &huge] {
        let sql = "select length($1), md5($1)";
        assert_eq!(
            direct.extended(sql, &[Some(parameter)]).await.unwrap(),
            through.extended(sql, &[Some(parameter)]).await.unwrap()
        );
    }
}

#[tokio::test]
async fn many_who_ask_the_same_cost_one_query() {
    let pair = pair(PgVersion::V18).await;
    let addr = pair.larder.addr();
    let count = |label: &str| format!("larder_queries_total{{outcome=\"{label}\",tier=");
    let origin = async || metric(&pair.larder, &(count("miss") + "\"origin\"} ")).await;
    for kill_the_leader in [false, true] {
        let sql = format!(
            "select count(*), sum(a.n * b.n), {} from fixed a, fixed b, fixed c, fixed d, fixed e where a.id > 0",
            u8::from(kill_the_leader)
        );
        let mut clients = vec![];
        for _ in 0..50 {
            let mut client = RawClient::superuser(addr).await.unwrap();
            client.value("select count(*) from fixed").await.unwrap(); // reads the session's facts
            clients.push(client);
        }
        pair.covered().await;
        let before = origin().await;
        let mut leader = clients.pop().unwrap();
        leader.send(frame::query(&sql)).await.unwrap();
        wait_active(&pair.pg, &sql).await;
        let mut asking = JoinSet::new();
        for mut client in clients {
            let sql = sql.clone();
            asking.spawn(async move { client.value_of_first(&sql).await });
        }
        if kill_the_leader {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(leader);
        } else {
            assert!(leader.until_ready().await.unwrap().iter().any(|frame| frame.tag == b'D'));
        }
        let answers = asking.join_all().await;
        assert_eq!(answers.len(), 49);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        let asked = origin().await - before;
        eprintln!("50 clients, leader killed: {kill_the_leader}: {asked} queries at the origin");
        assert!(asked <= if kill_the_leader { 2 } else { 1 }, "{asked} queries at the origin");
    }
}

/// The first value of the first row.
trait First {
    async fn value_of_first(&mut self, sql: &str) -> String;
}

impl First for RawClient {
    async fn value_of_first(&mut self, sql: &str) -> String {
        self.rows(sql).await.unwrap()[0][0].clone().unwrap()
    }
}

#[tokio::test]
async fn idle_connections_are_small() {
    const CLIENTS: usize = 200;
    let pg = Postgres::builder().setting("max_connections", "250").start().unwrap();
    pg.sql("create table fixed (v int); insert into fixed values (1)").unwrap();
    let larder = serve(&pg.url("postgres", "postgres")).start().await.unwrap();
    let mut clients = vec![RawClient::superuser(larder.addr()).await.unwrap()];
    // What the feed needs, the catalog above all, is there by then and belongs to no client.
    until_hit(&mut clients[0], "select v from fixed").await;
    let before = memory(&larder);
    for _ in 0..CLIENTS {
        clients.push(RawClient::superuser(larder.addr()).await.unwrap());
    }
    let after = memory(&larder);
    eprintln!("{CLIENTS} idle clients: {} KiB each", (after - before) * 1024 / CLIENTS);
    assert!((after - before) * 1024 / CLIENTS < 64);
}

#[tokio::test]
async fn an_origin_that_is_away_or_dies() {
    let mut pg = pg18();
    let faulty = Faulty::new(pg.addr()).await.unwrap();
    let larder = serve(&format!("postgres://postgres@{}/postgres", faulty.addr())).start().await.unwrap();
    let code = |frames: &[larder_testkit::Frame]| {
        frames
            .iter()
            .filter(|f| f.tag == b'E')
            .map(|f| (f.field(b'S').unwrap(), f.field(b'C').unwrap()))
            .collect::<Vec<_>>()
    };
    let fatal = |state: &str| vec![("FATAL".to_owned(), state.to_owned())];

    // Terminated by the administrator: the origin's own words, and nothing after them.
    let mut client = RawClient::superuser(larder.addr()).await.unwrap();
    let pid = client.value("select pg_backend_pid()").await.unwrap();
    pg.sql(&format!("select pg_terminate_backend({pid})")).unwrap();
    assert_eq!(code(&client.until_closed().await.unwrap()), fatal("57P01"));

    // The connection breaks: idle, in a query.
    for query in ["", "select pg_sleep(60)"] {
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        if !query.is_empty() {
            client.send(frame::query(query)).await.unwrap();
            wait_active(&pg, query).await;
        }
        faulty.cut();
        let frames = client.until_closed().await.unwrap();
        assert_eq!(code(&frames), fatal("08006"), "{query}");
    }

    // Nobody listens there.
    pg.stop().unwrap();
    drop(faulty);
    let mut client = RawClient::open(larder.addr()).await.unwrap();
    client.send(frame::startup(frame::PROTOCOL_3_0, &Login::superuser().parameters)).await.unwrap();
    let frames = client.until_closed().await.unwrap();
    assert_eq!(code(&frames), fatal("08001"));
    assert!(
        frames[0].field(b'M').unwrap().contains("could not connect to the PostgreSQL server at 127.0.0.1"),
        "{frames:?}"
    );
}

/// The connection to the origin breaks while Larder waits for what it asked itself, and in the middle of a frame.
#[tokio::test]
async fn an_origin_that_breaks_off() {
    let pg = pg18();
    for mode in ["serve", "bypass"] {
        let faulty = Faulty::new(pg.addr()).await.unwrap();
        let through = format!("postgres://{}", faulty.addr());
        let builder = serve(&through).arg("--control").arg(pg.url("postgres", "postgres"));
        let larder = builder.arg("--mode").arg(mode).start().await.unwrap();
        // The session's first statement: in mode serve its settings are read first, and that is what cuts.
        for (towards, bytes) in [(Towards::Server, 1), (Towards::Client, 500)] {
            let mut client = RawClient::superuser(larder.addr()).await.unwrap();
            if towards == Towards::Client {
                client.query("select 1").await.unwrap();
            }
            faulty.cut_after(towards, bytes);
            client.send(frame::query("select repeat('x', 1000)")).await.unwrap();
            let mut last = None;
            while let Ok(Some(frame)) = client.next().await {
                last = Some(frame);
            }
            // A plain proxy passes on what it has of a frame, and can say nothing in the middle of it.
            let half = mode == "bypass" && towards == Towards::Client;
            let expected = if half { (b'T', None) } else { (b'E', Some("08006".to_owned())) };
            let last = last.unwrap();
            assert_eq!((last.tag, last.field(b'C').filter(|_| !half)), expected, "{mode} {towards:?}");
        }
    }
}

#[tokio::test]
async fn too_many_clients_and_the_end() {
    let pg = pg18();
    let mut larder = serve(&pg.url("postgres", "postgres"))
        .config("[listen]\nmax_clients = 3\n[drain]\ngrace = \"20s\"\n")
        .start()
        .await
        .unwrap();
    let addr = larder.addr();
    let mut busy = RawClient::superuser(addr).await.unwrap();
    let mut deferred = RawClient::superuser(addr).await.unwrap();
    let mut idle = RawClient::superuser(addr).await.unwrap();
    let refusal = format!("{:#}", RawClient::superuser(addr).await.unwrap_err());
    assert!(refusal.contains("53300") && refusal.contains("too many clients"), "{refusal}");
    assert_eq!(idle.value("select 1").await.unwrap(), "1");

    busy.rows("begin; create table kept (i int)").await.unwrap();
    deferred.rows("begin").await.unwrap();
    larder.signal(Signal::TERM).unwrap();
    let frames = idle.until_closed().await.unwrap();
    assert_eq!(frames[0].field(b'C').as_deref(), Some("57P01"), "{frames:?}");
    // The listener is another thread's to close.
    let deadline = Instant::now() + Duration::from_secs(10);
    while RawClient::open(addr).await.is_ok() {
        assert!(Instant::now() < deadline, "a draining Larder accepts connections");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Those in a transaction may finish.
    busy.rows("insert into kept values (1)").await.unwrap();
    busy.rows("commit").await.unwrap();
    assert_eq!(busy.until_closed().await.unwrap()[0].field(b'C').as_deref(), Some("57P01"));
    assert_eq!(deferred.value("select count(*) from kept").await.unwrap(), "1");
    deferred.rows("commit").await.unwrap();
    assert_eq!(deferred.until_closed().await.unwrap()[0].field(b'C').as_deref(), Some("57P01"));
    assert_eq!(larder.ended(Duration::from_secs(10)).await.unwrap().code(), Some(0));
    assert_eq!(pg.sql("select count(*) from kept").unwrap().trim(), "1");
}
