//! TLS, Sentinel and clusters.

use std::net::TcpListener;

use larder_cache::tier::valkey::TlsFiles;
use larder_testkit::{Authority, sandbox::ValkeyBuilder, write};

use super::logs::Logs;
use super::*;

/// Redis, because Valkey's wheel is built without TLS. The certificate is for these names, and clients must have one.
fn with_tls(
    server: ValkeyBuilder,
    folder: &std::path::Path,
    authority: &Authority,
    names: &[&str],
) -> (ValkeyBuilder, u16) {
    let identity = authority.server(names);
    // Its server may run under another account.
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = |name: &str, text: &str| write(folder, name, text).unwrap().to_string_lossy().into_owned();
    let port = free_port();
    let server = server
        .setting("tls-port", &port.to_string())
        .setting("tls-cert-file", &file("server.crt", &identity.certificate))
        .setting("tls-key-file", &file("server.key", &identity.key))
        .setting("tls-ca-cert-file", &file("ca.crt", &authority.pem()))
        .setting("tls-auth-clients", "yes");
    (server, port)
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn tls_checks_the_server_and_shows_its_own_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Larder's tests");
    let server = sandbox::Valkey::builder().flavour(Flavour::Redis);
    let (server, port) = with_tls(server, folder.path(), &authority, &["localhost"]);
    let _server = server.start().unwrap();
    let ours = authority.client("larder");
    let ca = Some(write(folder.path(), "our-ca.crt", &authority.pem()).unwrap());
    let identity = Some(ours.write(folder.path(), "ours").unwrap());
    let with = |url: String, tls: TlsFiles| Valkey::new(ValkeyConfig { tls, ..config(&url) }).unwrap();
    let url = || format!("rediss://localhost:{port}");
    on_one_thread(async {
        let valkey = with(url(), TlsFiles { ca: ca.clone(), identity: identity.clone() });
        stored(&valkey.connection(), &key(1), b"value").await;

        let (logs, _guard) = Logs::listen();
        let unknown = with(url(), TlsFiles { ca: None, identity: identity.clone() });
        let connection = unknown.connection();
        until_trouble(&unknown, TroubleKind::Tls).await;
        assert_eq!(connection.get(&key(1), false).await, None);
        drop(connection);

        let wrong_name = with(format!("rediss://127.0.0.1:{port}"), TlsFiles { ca: ca.clone(), identity });
        let _connection = wrong_name.connection();
        until_trouble(&wrong_name, TroubleKind::Tls).await;
        assert_eq!(logs.lines(), ["valkey_tls", "valkey_tls"]);

        let nameless = with(url(), TlsFiles { ca, identity: None });
        let _connection = nameless.connection();
        until("it is refused", || nameless.status().state.trouble().is_some()).await;
    });
}

#[test]
fn certificates_that_cannot_be_used_are_errors_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let empty = write(folder.path(), "empty.crt", "nothing here").unwrap();
    let with =
        |ca| Valkey::new(ValkeyConfig { tls: TlsFiles { ca, identity: None }, ..config("rediss://x") });
    assert!(with(Some(empty)).unwrap_err().to_string().contains("holds no certificate"));
    let said = with(Some("/nowhere/ca.crt".into())).unwrap_err().to_string();
    assert!(said.contains("/nowhere/ca.crt cannot be read"), "{said}");
}

#[test]
fn sentinel_leads_to_the_primary_and_after_a_failover_to_the_next() {
    for flavour in flavours() {
        let (mut primary, replica) = (start(flavour), start(flavour));
        Hand::of(&replica).ask::<()>(&format!("REPLICAOF 127.0.0.1 {}", primary.port()));
        let mut at_primary = Hand::of(&primary);
        while !at_primary.ask::<String>("INFO replication").contains("state=online") {}
        let lines = format!(
            "sentinel monitor cache 127.0.0.1 {} 1\nsentinel down-after-milliseconds cache 1000\n\
             sentinel failover-timeout cache 10000\n",
            primary.port()
        );
        let sentinel = sandbox::Valkey::builder().flavour(flavour).sentinel(&lines).start().unwrap();
        let mut at_sentinel = Hand::of(&sentinel);
        // It learns of replicas by asking the primary, every ten seconds.
        while at_sentinel.ask::<Vec<redis::Value>>("SENTINEL REPLICAS cache").is_empty() {}
        on_one_thread(async {
            // A Sentinel that is not there is passed over.
            let nobody = free_port();
            let sentinels = format!("127.0.0.1:{nobody},127.0.0.1:{}", sentinel.port());
            let (logs, _guard) = Logs::listen();
            let (valkey, connection) = ready(&format!("redis-sentinel://{sentinels}/?master=cache")).await;
            stored(&connection, &key(1), b"before").await;
            primary.stop().unwrap();
            stored(&connection, &key(2), b"after").await;
            assert_eq!(Hand::of(&replica).ask::<String>(&format!("GET {}", name(2))), "after");
            let lines = logs.lines();
            assert!(lines.first().unwrap() == "ready" && lines.last().unwrap() == "ready", "{lines:?}");
            assert!(matches!(valkey.status().state, State::Ready));

            let (unknown, _connection) = tier(&format!("redis-sentinel://{sentinels}?master=other"));
            until_trouble(&unknown, TroubleKind::NoPrimary).await;
        });
    }
}

/// Three nodes with all slots.
fn cluster(flavour: Flavour) -> Vec<sandbox::Valkey> {
    cluster_of(|| sandbox::Valkey::builder().flavour(flavour))
}

fn cluster_of(mut node: impl FnMut() -> ValkeyBuilder) -> Vec<sandbox::Valkey> {
    let mut start = |_| {
        let bus = free_port().to_string();
        let node = node().setting("cluster-enabled", "yes").setting("cluster-port", &bus);
        (node.setting("cluster-require-full-coverage", "no").start().unwrap(), bus)
    };
    let nodes: Vec<_> = (0..3).map(&mut start).collect();
    let mut hands: Vec<_> = nodes.iter().map(|(node, _)| Hand::of(node)).collect();
    for (hand, slots) in hands.iter_mut().zip(["0 5460", "5461 10922", "10923 16383"]) {
        hand.ask::<()>(&format!("CLUSTER ADDSLOTSRANGE {slots}"));
    }
    for (node, bus) in &nodes[1..] {
        hands[0].ask::<()>(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.port()));
    }
    for hand in &mut hands {
        let info = |hand: &mut Hand| hand.ask::<String>("CLUSTER INFO");
        while !["cluster_state:ok", "cluster_slots_ok:16384"].iter().all(|sign| info(hand).contains(sign)) {}
        while hand.ask::<Vec<redis::Value>>("CLUSTER SLOTS").len() < 3 {}
    }
    nodes.into_iter().map(|(node, _)| node).collect()
}

#[test]
fn a_cluster_holds_values_on_all_nodes_and_loses_one_without_the_others() {
    for flavour in flavours() {
        let mut nodes = cluster(flavour);
        on_one_thread(async {
            let (valkey, connection) = ready(&format!("redis-cluster://127.0.0.1:{}", nodes[0].port())).await;
            for number in 0..30 {
                stored(&connection, &key(number), b"value").await;
            }
            for node in &nodes {
                assert!(Hand::of(node).ask::<i64>("DBSIZE") > 0, "{flavour:?}");
            }
            // It had some of them; the others are found as before, by whoever asks, and nothing is asked in vain for ever.
            let lost = nodes.pop().unwrap();
            let there = Hand::of(&lost).ask::<i64>("DBSIZE");
            drop(lost);
            let found = async |connection: &Connection| {
                let mut found = 0;
                for number in 0..30 {
                    found += i64::from(connection.get(&key(number), false).await.is_some());
                }
                found
            };
            let looking = async { while found(&connection).await != 30 - there {} };
            tokio::time::timeout(PATIENCE, looking).await.expect("the nodes that are left answer");
            assert!(matches!(valkey.status().state, State::Ready));
            // Who comes now finds them, too.
            let (_, late) = ready(&format!("redis-cluster://127.0.0.1:{}", nodes[0].port())).await;
            let looking = async { while found(&late).await != 30 - there {} };
            tokio::time::timeout(PATIENCE, looking).await.expect("the nodes that are left answer");
        });
    }
}

#[test]
fn every_node_of_a_cluster_is_asked_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("Larder's tests");
    let (ours, mut ports) = (authority.client("larder"), Vec::new());
    let (certificate, key_file) = ours.write(folder.path(), "ours").unwrap();
    let identity = Some((certificate.clone(), key_file.clone()));
    std::fs::set_permissions(&key_file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let nodes = cluster_of(|| {
        // Nodes name each other by address, and are each other's clients.
        let node = sandbox::Valkey::builder().flavour(Flavour::Redis).setting("tls-cluster", "yes");
        let (node, port) = with_tls(node, folder.path(), &authority, &["localhost", "127.0.0.1"]);
        ports.push(port);
        node.setting("tls-client-cert-file", &certificate.to_string_lossy())
            .setting("tls-client-key-file", &key_file.to_string_lossy())
    });
    let ca = Some(write(folder.path(), "our-ca.crt", &authority.pem()).unwrap());
    let url = format!("rediss-cluster://localhost:{}", ports[0]);
    let with = |tls| Valkey::new(ValkeyConfig { tls, ..config(&url) }).unwrap();
    on_one_thread(async {
        let valkey = with(TlsFiles { ca: ca.clone(), identity });
        let connection = valkey.connection();
        for number in 0..30 {
            stored(&connection, &key(number), b"value").await;
        }
        for node in &nodes {
            assert!(Hand::of(node).ask::<i64>("DBSIZE") > 0);
        }
        // In the clear there was only this test's own hand.
        for node in &nodes {
            let clients = Hand::of(node).ask::<String>("CLIENT LIST TYPE normal");
            let plain = format!("laddr=127.0.0.1:{}", node.port());
            assert_eq!(clients.lines().filter(|client| client.contains(&plain)).count(), 1, "{clients}");
        }
        for tls in [TlsFiles { ca, identity: None }, TlsFiles::default()] {
            let refused = with(tls);
            let connection = refused.connection();
            until("it is refused", || refused.status().state.trouble().is_some()).await;
            assert_eq!(connection.get(&key(1), false).await, None);
        }
    });
}

#[test]
fn a_node_of_a_cluster_is_not_taken_for_a_server_that_stands_alone() {
    let nodes = cluster(Flavour::Valkey);
    on_one_thread(async {
        let (logs, _guard) = Logs::listen();
        let (valkey, connection) = tier(&nodes[0].url());
        until_trouble(&valkey, TroubleKind::Clustered).await;
        assert_eq!(connection.get(&key(1), false).await, None);
        assert_eq!(logs.lines(), ["valkey_clustered"]);
    });
}
