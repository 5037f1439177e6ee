//! Servers that are slow, frozen, gone, cut off, or no servers at all.

use std::time::Instant;

use larder_testkit::{Faulty, Signal, Towards};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::logs::Logs;
use super::*;

/// Nothing of this takes long; the bound only has to be below what "for ever" would be.
const SOON: Duration = Duration::from_secs(20);

async fn gets_nothing(connection: &Connection, times: usize) {
    for _ in 0..times {
        let asked = Instant::now();
        assert_eq!(connection.get(&key(1), false).await, None);
        assert!(asked.elapsed() < TIMEOUT + SOON);
    }
}

#[test]
fn starts_without_a_server_and_finds_it_when_it_comes() {
    for flavour in flavours() {
        let mut server = start(flavour);
        server.stop().unwrap();
        on_one_thread(async {
            let (logs, _guard) = Logs::listen();
            let (valkey, connection) = tier(&server.url());
            gets_nothing(&connection, 3).await;
            until_trouble(&valkey, TroubleKind::Unreachable).await;
            connection.put(&key(1), "lost".into(), TTL);
            gets_nothing(&connection, 3).await;
            assert!(count(&valkey, Op::Get, OpResult::Skipped) == 6 && valkey.breaker_is_open());
            assert_eq!(count(&valkey, Op::Put, OpResult::Skipped), 1);
            server.start().unwrap();
            stored(&connection, &key(1), b"value").await;
            assert_eq!(logs.lines(), ["valkey_unreachable", "ready"]);
        });
    }
}

#[test]
fn a_frozen_server_is_not_waited_for_again_and_again() {
    for flavour in flavours() {
        let mut server = start(flavour);
        on_one_thread(async {
            let (logs, _guard) = Logs::listen();
            let (valkey, connection) = ready(&server.url()).await;
            stored(&connection, &key(1), b"value").await;
            server.signal(Signal::STOP).unwrap();
            while !valkey.breaker_is_open() {
                gets_nothing(&connection, 1).await;
            }
            let waited = count(&valkey, Op::Get, OpResult::Timeout);
            gets_nothing(&connection, 1000).await;
            assert_eq!(count(&valkey, Op::Get, OpResult::Timeout), waited, "nobody waits while it is open");
            assert!(!connection.available() && !connection.accepts(1));
            server.signal(Signal::CONT).unwrap();
            until_got(&connection, &key(1), Some(b"value")).await;
            assert!(!valkey.breaker_is_open());
            assert_eq!(logs.lines(), ["ready", "valkey_timed_out", "ready"]);
        });
    }
}

#[test]
fn an_idle_tier_notices_too() {
    let mut server = start(Flavour::Valkey);
    on_one_thread(async {
        let (valkey, _connection) = ready(&server.url()).await;
        server.signal(Signal::STOP).unwrap();
        until_trouble(&valkey, TroubleKind::TimedOut).await;
        server.signal(Signal::CONT).unwrap();
        until("it is ready", || matches!(valkey.status().state, State::Ready)).await;
    });
}

#[test]
fn a_server_that_dies_and_comes_back_is_found_again() {
    for flavour in flavours() {
        let mut server = start(flavour);
        on_one_thread(async {
            let (logs, _guard) = Logs::listen();
            let (valkey, connection) = ready(&server.url()).await;
            for signal in [Signal::KILL, Signal::TERM] {
                stored(&connection, &key(1), b"value").await;
                server.signal(signal).unwrap();
                until_trouble(&valkey, TroubleKind::Unreachable).await;
                gets_nothing(&connection, 100).await;
                server.stop().unwrap();
                server.start().unwrap();
                until("it is ready", || matches!(valkey.status().state, State::Ready)).await;
            }
            assert_eq!(logs.lines(), ["ready", "valkey_unreachable", "ready", "valkey_unreachable", "ready"]);
        });
    }
}

#[test]
fn one_of_many_connections_closes_the_breaker_for_all() {
    let mut server = start(Flavour::Valkey);
    on_one_thread(async {
        let (valkey, first) = ready(&server.url()).await;
        let mut connections = vec![first];
        connections.extend((0..4).map(|_| valkey.connection()));
        for connection in &connections {
            until("it is connected", || connection.available()).await;
        }
        server.stop().unwrap();
        until("the breaker is open", || valkey.breaker_is_open()).await;
        // Those that probe may go away: the others take their turns.
        connections.drain(..2);
        server.start().unwrap();
        for connection in &connections {
            stored(connection, &key(1), b"value").await;
        }
    });
}

#[test]
fn a_connection_that_is_cut_is_made_anew() {
    let server = start(Flavour::Valkey);
    on_one_thread(async {
        let proxy = Faulty::new(server.addr()).await.unwrap();
        let (valkey, connection) = ready(&format!("redis://{}", proxy.addr())).await;
        let large = vec![5; 300_000];
        stored(&connection, &key(1), &large).await;
        for _ in 0..3 {
            proxy.cut();
            until_got(&connection, &key(1), Some(&large)).await;
            proxy.reset();
            until_got(&connection, &key(1), Some(&large)).await;
            // In the middle of an answer: what came is no value.
            proxy.cut_after(Towards::Client, 100_000);
            let got = connection.get(&key(1), true).await;
            assert!(got.is_none_or(|got| got == large));
            until_got(&connection, &key(1), Some(&large)).await;
        }
        assert!(count(&valkey, Op::Connect, OpResult::Ok) > 3);
    });
}

#[test]
fn a_slow_way_opens_the_breaker_and_a_quick_one_closes_it() {
    let server = start(Flavour::Valkey);
    on_one_thread(async {
        let proxy = Faulty::new(server.addr()).await.unwrap();
        let (logs, _guard) = Logs::listen();
        let (valkey, connection) = ready(&format!("redis://{}", proxy.addr())).await;
        stored(&connection, &key(1), b"value").await;
        proxy.delay(TIMEOUT * 2);
        while !valkey.breaker_is_open() {
            gets_nothing(&connection, 1).await;
        }
        proxy.delay(Duration::ZERO);
        until_got(&connection, &key(1), Some(b"value")).await;
        assert_eq!(logs.lines(), ["ready", "valkey_timed_out", "ready"]);
    });
}

#[test]
fn large_values_on_their_way_do_not_hold_up_small_ones() {
    let server = start(Flavour::Valkey);
    on_one_thread(async {
        let (valkey, connection) = ready(&server.url()).await;
        let large = vec![9; 1 << 20];
        stored(&connection, &key(1), &large).await;
        stored(&connection, &key(2), b"small").await;
        // The answers to these fill every buffer on the way before the small one is asked for.
        let (small, large) = (key(2), key(1));
        let many = futures_util::future::join_all((0..16).map(|_| connection.get(&large, true)));
        let (_, got) = tokio::join!(many, connection.get(&small, false));
        assert_eq!(got.as_deref(), Some(b"small".as_slice()));
        assert!(!valkey.breaker_is_open());
    });
}

#[test]
fn puts_that_find_no_room_are_dropped_and_never_wait() {
    let server = start(Flavour::Valkey);
    on_one_thread(async {
        let proxy = Faulty::new(server.addr()).await.unwrap();
        let (valkey, connection) = ready(&format!("redis://{}", proxy.addr())).await;
        proxy.stall(Towards::Server);
        // No await between them: the line cannot move meanwhile.
        for number in 0..100 {
            connection.put(&key(number), vec![1; 1 << 20].into(), TTL);
        }
        assert_eq!(count(&valkey, Op::Put, OpResult::Dropped), 84, "16 MiB fit in the line");
        proxy.resume();
        stored(&connection, &key(200), b"value").await;
    });
}

#[test]
fn what_is_no_valkey_is_called_so() {
    on_one_thread(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let web_server = async {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    tokio::io::AsyncReadExt::read_to_end(&mut client, &mut all).await
                });
            }
        };
        let (logs, _guard) = Logs::listen();
        let (valkey, connection) = tier(&url);
        tokio::select! {
            () = web_server => unreachable!(),
            () = until_trouble(&valkey, TroubleKind::Garbled) => {}
        }
        gets_nothing(&connection, 10).await;
        assert_eq!(logs.lines(), ["valkey_garbled"]);
    });
}
