//! Servers that answer, and say no.

use super::logs::Logs;
use super::*;

#[test]
fn a_full_server_is_read_and_not_written_until_it_has_room() {
    for flavour in flavours() {
        let server = start(flavour);
        let mut hand = Hand::of(&server);
        on_one_thread(async {
            let (logs, _guard) = Logs::listen();
            let (valkey, connection) = ready(&server.url()).await;
            stored(&connection, &key(1), b"before").await;
            hand.ask::<()>("CONFIG SET maxmemory 1");
            connection.put(&key(2), "refused".into(), TTL);
            until_trouble(&valkey, TroubleKind::Full).await;
            assert!(matches!(valkey.status().state, State::Refusing(_)) && !valkey.breaker_is_open());
            for _ in 0..50 {
                connection.put(&key(2), "refused".into(), TTL);
                assert_eq!(connection.get(&key(1), false).await.as_deref(), Some(b"before".as_slice()));
            }
            assert!(count(&valkey, Op::Put, OpResult::Skipped) >= 40, "few are tried");
            hand.ask::<()>("CONFIG SET maxmemory 0");
            stored(&connection, &key(2), b"after").await;
            until("it is ready", || matches!(valkey.status().state, State::Ready)).await;
            assert_eq!(logs.lines(), ["ready", "valkey_full", "ready"]);
        });
    }
}

#[test]
fn a_replica_is_read_and_not_written_until_it_is_promoted() {
    let (primary, replica) = (start(Flavour::Valkey), start(Flavour::Valkey));
    Hand::of(&primary).ask::<()>(&format!("SET {} value", name(1)));
    let mut hand = Hand::of(&replica);
    hand.ask::<()>(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
    on_one_thread(async {
        let (logs, _guard) = Logs::listen();
        let (valkey, connection) = ready(&replica.url()).await;
        until_got(&connection, &key(1), Some(b"value")).await;
        connection.put(&key(2), "refused".into(), TTL);
        until_trouble(&valkey, TroubleKind::ReadOnly).await;
        assert_eq!(connection.get(&key(1), false).await.as_deref(), Some(b"value".as_slice()));
        hand.ask::<()>("REPLICAOF NO ONE");
        stored(&connection, &key(2), b"after").await;
        until("it is ready", || matches!(valkey.status().state, State::Ready)).await;
        assert_eq!(logs.lines(), ["ready", "valkey_read_only", "ready"]);
    });
}

#[test]
fn passwords_that_are_missing_or_wrong_are_told_apart() {
    for flavour in flavours() {
        let server =
            sandbox::Valkey::builder().flavour(flavour).setting("requirepass", "right").start().unwrap();
        let with = |account: &str| server.url().replace("://", &format!("://{account}"));
        on_one_thread(async {
            for (account, kind) in [
                ("", TroubleKind::PasswordWanted),
                (":wrong@", TroubleKind::WrongPassword),
                ("nobody:right@", TroubleKind::WrongPassword),
            ] {
                let (logs, _guard) = Logs::listen();
                let (valkey, connection) = tier(&with(account));
                until_trouble(&valkey, kind).await;
                assert!(valkey.breaker_is_open() && !connection.available());
                assert_eq!(connection.get(&key(1), false).await, None);
                assert_eq!(logs.lines(), [kind.code()]);
            }
            let (_, connection) = ready(&with(":right@")).await;
            stored(&connection, &key(1), b"value").await;
        });
    }
}

#[test]
fn a_user_needs_few_permissions_and_misses_are_named() {
    for flavour in flavours() {
        let server = start(flavour);
        let mut hand = Hand::of(&server);
        hand.ask::<()>("ACL SETUSER enough on >pw ~larder:* +getrange +set");
        hand.ask::<()>("ACL SETUSER reader on >pw ~larder:* +getrange");
        hand.ask::<()>("ACL SETUSER stranger on >pw ~other:* +getrange +set");
        let url = |user: &str| server.url().replace("://", &format!("://{user}:pw@"));
        on_one_thread(async {
            let (_, connection) = ready(&url("enough")).await;
            stored(&connection, &key(1), b"value").await;

            let (valkey, connection) = ready(&url("reader")).await;
            until_got(&connection, &key(1), Some(b"value")).await;
            connection.put(&key(2), "refused".into(), TTL);
            until_trouble(&valkey, TroubleKind::NoPermission).await;
            assert!(!valkey.breaker_is_open());

            let (logs, _guard) = Logs::listen();
            let (valkey, connection) = tier(&url("stranger"));
            until_trouble(&valkey, TroubleKind::NoPermission).await;
            assert!(valkey.breaker_is_open());
            assert_eq!(connection.get(&key(1), false).await, None);
            assert_eq!(logs.lines(), ["valkey_no_permission"]);
        });
    }
}

#[test]
fn a_command_that_is_refused_does_not_keep_values_from_being_read() {
    let server = start(Flavour::Valkey);
    let mut hand = Hand::of(&server);
    hand.ask::<()>("ACL SETUSER plain on >pw ~* +getrange +set +info");
    let url = server.url().replace("://", "://plain:pw@");
    on_one_thread(async {
        // The journal of a shared cache is a stream, which this user may not read; it tries again and again.
        let tier = larder_cache::SharedTier::builder(&url)
            .connections(config(&url))
            .secret([7; 32])
            .start()
            .unwrap();
        let valkey = tier.valkey();
        until("it is ready", || matches!(valkey.status().state, State::Ready)).await;
        let refusals = |hand: &mut Hand| {
            let stats: String = hand.ask("INFO errorstats");
            let count = stats.split("errorstat_NOPERM:count=").nth(1).and_then(|rest| rest.lines().next());
            count.map_or(0, |count| count.trim().parse::<u64>().unwrap())
        };
        until("it was refused often", || refusals(&mut hand) >= 20).await;
        assert!(matches!(valkey.status().state, State::Ready) && !valkey.breaker_is_open());
    });
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let server = start(Flavour::Valkey);
    on_one_thread(async {
        let (valkey, connection) = tier(&format!("{}/99", server.url()));
        until_trouble(&valkey, TroubleKind::NoDatabase).await;
        assert_eq!(connection.get(&key(1), false).await, None);
    });
}

#[test]
fn a_key_of_another_type_is_a_miss_and_is_replaced() {
    for flavour in flavours() {
        let server = start(flavour);
        let mut hand = Hand::of(&server);
        hand.ask::<()>(&format!("LPUSH {} x", name(1)));
        hand.ask::<()>(&format!("SADD {} x", name(2)));
        on_one_thread(async {
            let (logs, _guard) = Logs::listen();
            let (valkey, connection) = ready(&server.url()).await;
            for number in [1, 2, 1, 2, 1, 2, 1, 2] {
                assert_eq!(connection.get(&key(number), false).await, None);
            }
            assert!(!valkey.breaker_is_open() && matches!(valkey.status().state, State::Ready));
            stored(&connection, &key(1), b"value").await;
            assert_eq!(logs.lines(), ["ready", "valkey_wrong_type"]);
        });
    }
}
