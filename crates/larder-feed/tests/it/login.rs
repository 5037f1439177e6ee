//! Logging in, and what is said when something is missing.

use larder_core::{FeedState, Finding};
use larder_feed::FeedConfig;
use larder_sandbox::{Auth, PgVersion, Postgres};

use crate::rig;

crate::on_both! {
    every_password_method_works => super::passwords;
    what_is_missing_is_named_with_its_remedy => super::missing;
    a_server_without_logical_decoding_or_slots => super::server_settings;
    a_standby_is_never_followed_until_it_is_promoted => super::standby;
    the_feed_connects_once_the_role_may => super::heals;
    check_leaves_nothing_behind => super::check;
}

fn logical(version: PgVersion) -> Postgres {
    Postgres::builder().version(version).setting("wal_level", "logical").start().unwrap()
}

async fn only(config: &FeedConfig) -> Finding {
    let mut findings = larder_feed::check(config).await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    findings.remove(0)
}

async fn passwords(version: PgVersion) {
    let mut pg = logical(version);
    for (name, auth) in
        [("plain", Auth::Password), ("hashed", Auth::Md5), ("scram", Auth::Scram), ("trusted", Auth::Trust)]
    {
        pg.create_user(name, "s3cret ü'\"", auth).unwrap();
        pg.sql(&format!("alter role {name} replication")).unwrap();
        let mut config = rig::config(&pg, name);
        config.account.password = Some("s3cret ü'\"".to_owned());
        assert_eq!(larder_feed::check(&config).await, [], "{name}");
        if auth != Auth::Trust {
            config.account.password = Some("wrong".to_owned());
            let finding = only(&config).await;
            assert!(finding.code == "password" && !finding.problem.contains("wrong"), "{finding:?}");
            config.account.password = None;
            assert_eq!(only(&config).await.code, "authentication");
        }
    }
}

async fn missing(version: PgVersion) {
    let pg = logical(version);
    pg.sql("create role \"Weak\" login; create role larder login replication").unwrap();
    let finding = only(&rig::config(&pg, "Weak")).await;
    assert_eq!(
        (finding.code, finding.remedy.as_str()),
        ("replication_privilege", "ALTER ROLE \"Weak\" REPLICATION;")
    );
    // What the role of Amazon's services is for is the server's own to say.
    pg.sql("create role rds_replication; grant rds_replication to \"Weak\"").unwrap();
    assert_eq!(only(&rig::config(&pg, "Weak")).await.code, "replication_privilege");
    let mut config = rig::config(&pg, "larder");
    config.account.database = "nowhere".to_owned();
    assert_eq!(only(&config).await.code, "database");
    assert_eq!(only(&rig::config(&pg, "nobody")).await.code, "authentication");
    let mut config = rig::config(&pg, "larder");
    config.account.port = 1;
    assert_eq!(only(&config).await.code, "unreachable");
}

async fn server_settings(version: PgVersion) {
    let pg = Postgres::builder()
        .version(version)
        .setting("wal_level", "replica")
        .setting("max_replication_slots", "0")
        .setting("max_wal_senders", "0")
        .start()
        .unwrap();
    pg.sql("create role larder login replication").unwrap();
    let findings = larder_feed::check(&rig::config(&pg, "larder")).await;
    let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, ["wal_level", "slots", "wal_senders"]);
    assert!(findings[0].remedy.contains("ALTER SYSTEM SET wal_level = 'logical'"));
}

async fn standby(version: PgVersion) {
    let mut pg = logical(version);
    pg.sql("create role larder login replication").unwrap();
    pg.stop().unwrap();
    std::fs::write(pg.data_dir().join("standby.signal"), "").unwrap();
    pg.start().unwrap();
    let config = rig::config(&pg, "larder");
    assert_eq!(only(&config).await.code, "standby");
    let shared = rig::shared(&config);
    let feed = tokio::spawn(larder_feed::run(config, shared.clone()));
    while !matches!(shared.health.get(), FeedState::Disconnected { .. }) {
        tokio::task::yield_now().await;
    }
    assert!(shared.catalog.load().is_none() && shared.fence.epoch() == 0);
    pg.sql("select pg_promote()").unwrap();
    assert!(shared.fence.wait_covered(larder_cache::Moment::now(), rig::LIMIT).await);
    feed.abort();
}

async fn heals(version: PgVersion) {
    let pg = logical(version);
    pg.sql("create role larder login").unwrap();
    let config = rig::config(&pg, "larder");
    let shared = rig::shared(&config);
    let feed = tokio::spawn(larder_feed::run(config, shared.clone()));
    while !matches!(shared.health.get(), FeedState::Disconnected { .. }) {
        tokio::task::yield_now().await;
    }
    let FeedState::Disconnected { findings, retry_in } = shared.health.get() else { panic!() };
    assert_eq!(findings[0].code, "replication_privilege");
    assert!(retry_in >= std::time::Duration::from_millis(250));
    pg.sql(&findings[0].remedy).unwrap();
    assert!(shared.fence.wait_covered(larder_cache::Moment::now(), rig::LIMIT).await);
    assert!(shared.health.is_connected());
    feed.abort();
}

async fn check(version: PgVersion) {
    let pg = logical(version);
    pg.sql("create role larder login replication").unwrap();
    assert_eq!(larder_feed::check(&rig::config(&pg, "larder")).await, []);
    let left = "select count(*) from pg_replication_slots where not temporary";
    assert_eq!(pg.sql(left).unwrap(), "0");
}
