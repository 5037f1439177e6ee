//! Pods are replaced under load: two Larders behind a TCP balancer, and clients that reconnect as pools do.
//!
//! What Kubernetes does to a pod, in its order: a new one is ready; the old one gets no new connections, but still serves
//! (the pause of `preStop`); SIGTERM; the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder_testkit::{Larder, Postgres, Signal, pg18};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// A loaded machine is slow.
const LIMIT: Duration = Duration::from_secs(60);
const CLIENTS: usize = 20;
/// After so many turns a connection is old, where connections have a longest life.
const LIFE: u64 = 30;
const ROWS: u64 = 100;

// ---- the balancer ----------------------------------------------------------------------------------------------------

/// Passes each new connection to one of the Larders; open ones stay where they are, as behind a Service.
struct Balancer {
    addr: SocketAddr,
    behind: Arc<parking_lot::Mutex<Vec<SocketAddr>>>,
    _acceptor: JoinSet<()>,
}

impl Balancer {
    async fn new(larders: &[Larder]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let behind = Arc::new(parking_lot::Mutex::new(larders.iter().map(Larder::addr).collect::<Vec<_>>()));
        let (known, turn) = (Arc::clone(&behind), AtomicUsize::new(0));
        let mut acceptor = JoinSet::new();
        acceptor.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let server = {
                    let known = known.lock();
                    known[turn.fetch_add(1, Ordering::Relaxed) % known.len()]
                };
                connections.spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(server).await {
                        let _ = client.set_nodelay(true);
                        let _ = server.set_nodelay(true);
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { addr, behind, _acceptor: acceptor }
    }

    fn replace(&self, old: SocketAddr, new: SocketAddr) {
        let mut behind = self.behind.lock();
        behind.push(new);
        behind.retain(|addr| *addr != old);
    }
}

// ---- the clients -----------------------------------------------------------------------------------------------------

/// How a pool treats its connections.
#[derive(Clone, Copy)]
enum Pool {
    /// Gives up a connection that is old.
    Renewing,
    /// Keeps each as long as it lives; when the server says goodbye instead of doing the first thing it was asked, asks again
    /// on a new connection.
    Retrying,
}

/// What all clients together went through.
#[derive(Default)]
struct Tally {
    turns: AtomicU64,
    connections: AtomicU64,
    /// Asked again, for the application unseen.
    retried: AtomicU64,
    failures: parking_lot::Mutex<Vec<String>>,
    stop: AtomicBool,
}

async fn connect(addr: SocketAddr, tally: &Tally) -> Client {
    let config = format!("host={} port={} user=postgres dbname=postgres", addr.ip(), addr.port());
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    tally.connections.fetch_add(1, Ordering::Relaxed);
    client
}

async fn client(addr: SocketAddr, pool: Pool, seed: u64, tally: Arc<Tally>) {
    let mut connection = connect(addr, &tally).await;
    let mut turn = seed;
    while !tally.stop.load(Ordering::Relaxed) {
        turn += 1;
        let old = matches!(pool, Pool::Renewing) && turn.is_multiple_of(LIFE);
        if old || (matches!(pool, Pool::Retrying) && connection.is_closed()) {
            connection = connect(addr, &tally).await;
        }
        while let Err((error, begun)) = work(&connection, turn).await {
            if begun || matches!(pool, Pool::Renewing) || !is_goodbye(&error) {
                tally.failures.lock().push(format!("begun: {begun}, {error}: {:?}", error.as_db_error()));
                break;
            }
            tally.retried.fetch_add(1, Ordering::Relaxed);
            connection = connect(addr, &tally).await;
        }
        tally.turns.fetch_add(1, Ordering::Relaxed);
    }
}

/// A read, or a transaction with a write in it. The error says whether something had been done before.
async fn work(client: &Client, turn: u64) -> Result<(), (tokio_postgres::Error, bool)> {
    let id = turn % ROWS;
    let read = format!("SELECT v FROM t WHERE id = {id}");
    if !turn.is_multiple_of(5) {
        let rows = client.simple_query(&read).await.map_err(|error| (error, false))?;
        assert_eq!(value(&rows), (id * 10).to_string());
        return Ok(());
    }
    client.simple_query("BEGIN").await.map_err(|error| (error, false))?;
    for sql in [&*format!("INSERT INTO log VALUES ({id})"), &read, "COMMIT"] {
        client.simple_query(sql).await.map_err(|error| (error, true))?;
    }
    Ok(())
}

fn value(messages: &[SimpleQueryMessage]) -> String {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    row.unwrap().to_owned()
}

/// The connection went away while it was idle, so nothing was done.
fn is_goodbye(error: &tokio_postgres::Error) -> bool {
    error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN) || {
        let cause =
            std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
        cause.is_some()
    }
}

// ---- what is tried ---------------------------------------------------------------------------------------------------

fn shop() -> Postgres {
    let pg = pg18();
    pg.sql("CREATE TABLE log (id int)").unwrap();
    pg.sql(&format!("CREATE TABLE t AS SELECT i AS id, i * 10 AS v FROM generate_series(0, {}) i", ROWS - 1))
        .unwrap();
    pg.sql("ALTER TABLE t ADD PRIMARY KEY (id)").unwrap();
    pg
}

async fn pod(pg: &Postgres) -> Larder {
    pod_with(pg, "0s").await
}

async fn pod_with(pg: &Postgres, client_max_age: &str) -> Larder {
    let builder = Larder::builder().binary(env!("CARGO_BIN_EXE_larder"));
    let builder = builder.arg("--set").arg(format!("drain.client_max_age={client_max_age}"));
    builder.origin(pg.url("postgres", "postgres")).start().await.unwrap()
}

async fn clients_of(larder: &Larder) -> u64 {
    let (_, body) = larder.get("/api/v1/status").await.unwrap();
    serde_json::from_str::<serde_json::Value>(&body).unwrap()["clients"].as_u64().unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// More turns than there are clients: each has been served since.
async fn all_go_on(tally: &Tally) {
    let before = tally.turns.load(Ordering::Relaxed);
    until("clients are served", async || tally.turns.load(Ordering::Relaxed) > before + 10 * CLIENTS as u64)
        .await;
}

/// Replaces each of two pods `rounds` times while the clients work.
async fn replace_all(pool: Pool, rounds: usize) -> Arc<Tally> {
    let pg = shop();
    let mut pods = vec![pod(&pg).await, pod(&pg).await];
    let balancer = Balancer::new(&pods).await;
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS as u64 {
        clients.spawn(client(balancer.addr, pool, seed, Arc::clone(&tally)));
    }
    let mut drains = vec![];
    for _ in 0..2 * rounds {
        all_go_on(&tally).await;
        let new = pod(&pg).await;
        let mut old = pods.remove(0);
        balancer.replace(old.addr(), new.addr());
        pods.push(new);
        if matches!(pool, Pool::Renewing) {
            // The pause is longer than a connection lives.
            until("connections have moved", async || clients_of(&old).await == 0).await;
        }
        old.signal(Signal::TERM).unwrap();
        let since = Instant::now();
        assert_eq!(old.ended(LIMIT).await.unwrap().code(), Some(0), "{}", old.log());
        drains.push(since.elapsed().as_millis());
    }
    all_go_on(&tally).await;
    tally.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    drains.sort_unstable();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{} turns, {} connections, {} asked again; drains: {drains:?} ms",
        count(&tally.turns),
        count(&tally.connections),
        count(&tally.retried)
    );
    tally
}

#[tokio::test]
async fn pools_that_renew_their_connections_do_not_notice_an_update() {
    let tally = replace_all(Pool::Renewing, 3).await;
    assert_eq!(*tally.failures.lock(), Vec::<String>::new());
    assert_eq!(tally.retried.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn pools_that_keep_their_connections_need_one_more_try_and_lose_no_transaction() {
    let tally = replace_all(Pool::Retrying, 3).await;
    assert_eq!(*tally.failures.lock(), Vec::<String>::new());
    // Every client had to move at each of the first four updates, at least.
    assert!(tally.connections.load(Ordering::Relaxed) > 2 * CLIENTS as u64);
}

#[tokio::test]
async fn where_connections_grow_old_clients_move_to_a_new_pod() {
    let pg = shop();
    let first = pod_with(&pg, "2s").await;
    let balancer = Balancer::new(std::slice::from_ref(&first)).await;
    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for seed in 0..CLIENTS as u64 {
        clients.spawn(client(balancer.addr, Pool::Retrying, seed, Arc::clone(&tally)));
    }
    all_go_on(&tally).await;
    assert_eq!(clients_of(&first).await, CLIENTS as u64);
    let second = pod_with(&pg, "2s").await;
    balancer.behind.lock().push(second.addr());
    until("clients have moved", async || clients_of(&second).await >= CLIENTS as u64 / 3).await;
    all_go_on(&tally).await;
    tally.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    assert_eq!(*tally.failures.lock(), Vec::<String>::new());
}

#[tokio::test]
async fn a_pod_that_is_killed_takes_only_its_own_connections_along() {
    let pg = shop();
    let (mut doomed, other) = (pod(&pg).await, pod(&pg).await);
    let tally = Tally::default();
    let (here, there) = (connect(doomed.addr(), &tally).await, connect(other.addr(), &tally).await);
    for client in [&here, &there] {
        work(client, 5).await.map_err(|(error, _)| error).unwrap();
    }
    there.simple_query("BEGIN; INSERT INTO log VALUES (777)").await.unwrap();
    doomed.signal(Signal::KILL).unwrap();
    doomed.ended(LIMIT).await.unwrap();
    until("its connection is closed", async || here.is_closed()).await;
    there.simple_query("COMMIT").await.unwrap();
    assert_eq!(pg.sql("SELECT count(*) FROM log WHERE id = 777").unwrap(), "1");
    // Its slot was temporary: nothing holds back the origin's log.
    until("its slot is gone", async || pg.sql("SELECT count(*) FROM pg_replication_slots").unwrap() == "1")
        .await;
}
