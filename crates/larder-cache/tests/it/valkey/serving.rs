//! What the tier does when all is well.

use super::*;

#[test]
fn what_one_puts_another_gets() {
    for flavour in flavours() {
        let server = start(flavour);
        on_one_thread(async {
            let (valkey, one) = ready(&server.url()).await;
            let (_, two) = ready(&server.url()).await;
            stored(&one, &key(1), b"value").await;
            assert_eq!(two.get(&key(1), false).await.as_deref(), Some(b"value".as_slice()));
            assert_eq!(two.get(&key(1), true).await.as_deref(), Some(b"value".as_slice()));
            assert_eq!(two.get(&key(2), false).await, None);
            let large = vec![7; valkey_max() - 1];
            stored(&one, &key(3), &large).await;
            until_got(&two, &key(3), Some(&large)).await;
            stored(&one, &key(1), b"another").await;
            assert_eq!(two.get(&key(1), false).await.as_deref(), Some(b"another".as_slice()));
            assert!(count(&valkey, Op::Put, OpResult::Ok) >= 3);
            let status = valkey.status();
            let server = status.server.unwrap();
            let expected = if flavour == Flavour::Redis { "redis 7." } else { "valkey 9." };
            assert!(
                server.version.starts_with(expected) && server.role.as_deref() == Some("master"),
                "{server:?}"
            );
            assert!(status.latency.is_some() && one.available() && one.accepts(100));
        });
        let mut hand = Hand::of(&server);
        let left: i64 = hand.ask(&format!("PTTL {}", name(1)));
        assert!(0 < left && left <= 600_000, "{left}");
    }
}

fn valkey_max() -> usize {
    ValkeyConfig::new("redis://x".parse().unwrap()).max_value
}

#[test]
fn values_that_are_too_large_are_neither_stored_nor_fetched() {
    let server = start(Flavour::Valkey);
    Hand::of(&server).ask::<()>(&format!("SETRANGE {} {} x", name(1), valkey_max()));
    on_one_thread(async {
        let (valkey, connection) = ready(&server.url()).await;
        assert_eq!(connection.get(&key(1), true).await, None);
        assert_eq!(count(&valkey, Op::Get, OpResult::TooLarge), 1);
        connection.put(&key(2), vec![0; valkey_max() + 1].into(), TTL);
        assert_eq!(count(&valkey, Op::Put, OpResult::TooLarge), 1);
        assert!(!connection.accepts(valkey_max() + 1) && connection.accepts(valkey_max()));
    });
}

#[test]
fn a_database_of_its_own_and_a_prefix() {
    let server = start(Flavour::Valkey);
    on_one_thread(async {
        let mut config = config(&format!("{}/3", server.url()));
        config.prefix = "mine".to_owned();
        let valkey = Valkey::new(config).unwrap();
        stored(&valkey.connection(), &key(1), b"value").await;
    });
    let mut hand = Hand::of(&server);
    assert_eq!(hand.ask::<i64>("DBSIZE"), 0);
    hand.ask::<()>("SELECT 3");
    assert_eq!(hand.ask::<Vec<String>>("KEYS *"), [format!("mine:{}", key(1))]);
}

#[test]
fn an_inspection_says_what_there_is_and_what_is_missing() {
    for flavour in flavours() {
        let server = start(flavour);
        let mut hand = Hand::of(&server);
        let look = || on_one_thread(Valkey::new(config(&server.url())).unwrap().inspect()).unwrap();
        assert!(look().troubles.is_empty() && look().server.is_some());
        hand.ask::<()>("CONFIG SET maxmemory 1gb maxmemory-policy noeviction");
        let kinds: Vec<_> = look().troubles.iter().map(|trouble| trouble.kind).collect();
        assert_eq!(kinds, [TroubleKind::WillFill]);
        hand.ask::<()>("CONFIG SET maxmemory 1");
        let kinds: Vec<_> = look().troubles.iter().map(|trouble| trouble.kind).collect();
        assert_eq!(kinds, [TroubleKind::Full]);
        hand.ask::<()>("CONFIG SET maxmemory 0");
        hand.ask::<()>("ACL SETUSER reader on >pw ~larder:* +getrange");
        let url = server.url().replace("://", "://reader:pw@");
        let look = on_one_thread(Valkey::new(config(&url)).unwrap().inspect()).unwrap();
        let kinds: Vec<_> = look.troubles.iter().map(|trouble| trouble.kind).collect();
        assert!(kinds == [TroubleKind::NoPermission] && look.server.is_none(), "{look:?}");
    }
}
