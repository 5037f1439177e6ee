//! What a session holds besides its settings (docs/hazards.md, C): transactions, locks, time limits, its connection.

use larder_testkit::{Login, pg};

use crate::freshness::{Client, Protocol, Rig};
use crate::transparency::VERSIONS;

const SCHEMA: &str = "
create table item (id int primary key, name text not null);
insert into item select i, 'name ' || i from generate_series(1, 50) i;
create role careful login; grant select on item to careful;
alter role careful set default_transaction_isolation = 'serializable';
";
const READ: &str = "select name from item where id = 1";

async fn rig(version: larder_testkit::PgVersion) -> Rig {
    let rig = Rig::new(pg(version), &[]).await;
    rig.pg.sql(SCHEMA).unwrap();
    rig.client().await.warm(Protocol::Simple, READ, None).await;
    rig
}

/// The origin process behind a client of Larder.
async fn backend(client: &mut Client) -> String {
    client.value("select pg_backend_pid()").await
}

#[tokio::test]
async fn an_isolation_level_that_a_role_brings_is_heeded() {
    for version in VERSIONS {
        let rig = rig(version).await;
        let login = Login::new("careful", "postgres");
        let mut careful = Client::login(rig.larder.addr(), &login).await.unwrap();
        for how in Protocol::ALL {
            for _ in 0..3 {
                let served = careful.ask_with(how, READ, None).await;
                assert_eq!(served.how, "bypass; reason=transaction_snapshot", "{version} {how:?}");
            }
        }
        // Named in the transaction, the level is no longer the role's.
        careful.run("begin isolation level read committed").await;
        careful.warm(Protocol::Simple, READ, None).await;
        careful.run("commit").await;
    }
}

#[tokio::test]
async fn a_deferred_begin_reaches_the_origin_with_the_first_statement_that_does() {
    for version in VERSIONS {
        let rig = rig(version).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        let pid = backend(&mut client).await;
        let open = format!("select xact_start is not null from pg_stat_activity where pid = {pid}");
        client.warm(Protocol::Simple, READ, None).await;
        client.run("begin").await;
        assert!(client.ask(READ).await.is_hit(), "{version}");
        assert_eq!(direct.value(&open).await, "f", "{version}: the origin knows of no transaction yet");
        let before = direct.value("select clock_timestamp()").await;
        let later = client.value(&format!("select now() >= '{before}'")).await;
        assert_eq!(later, "t", "{version}: the transaction begins when the origin first hears of it");
        assert_eq!(direct.value(&open).await, "t", "{version}");
        let stands =
            client.value("select now() = transaction_timestamp() and now() < clock_timestamp()").await;
        assert_eq!(stands, "t", "{version}");
        client.run("commit").await;
        assert_eq!(direct.value(&open).await, "f", "{version}");
    }
}

#[tokio::test]
async fn who_is_never_served_has_its_transactions_at_the_origin() {
    for version in VERSIONS {
        let rig = rig(version).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        let pid = backend(&mut client).await;
        let open = format!("select xact_start is not null from pg_stat_activity where pid = {pid}");
        for (mode, at_once) in [("bypass", "t"), ("serve", "f")] {
            client.run(&format!("set larder.mode = '{mode}'")).await;
            client.ask(READ).await;
            client.run("begin").await;
            assert_eq!(direct.value(&open).await, at_once, "{version} {mode}");
            client.run("commit").await;
        }
    }
}

/// Documented, not handled: what a hit gives was committed before the lock was taken.
#[tokio::test]
async fn a_hit_waits_for_no_lock_and_no_time_limit() {
    for version in VERSIONS {
        let rig = rig(version).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        client.run("set statement_timeout = '1ms'").await;
        client.warm(Protocol::Simple, READ, None).await;
        direct.run("begin; lock table item in access exclusive mode").await;
        client.warm(Protocol::Simple, READ, None).await;
        // What must be asked of the origin waits there, and the limit applies.
        let other = client.ask("select name from item where id = 2").await;
        assert_eq!(other.rows(), Err("57014".to_owned()), "{version}");
        direct.run("rollback").await;
    }
}

#[tokio::test]
async fn a_session_that_the_origin_ended_gets_no_more_hits() {
    for version in VERSIONS {
        let rig = rig(version).await;
        let (mut client, mut direct) = (rig.client().await, rig.direct().await);
        let pid = backend(&mut client).await;
        client.warm(Protocol::Simple, READ, None).await;
        direct.run(&format!("select pg_terminate_backend({pid})")).await;
        let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
        while direct.value(&gone).await != "0" {
            tokio::task::yield_now().await;
        }
        let answer = client.try_ask(Protocol::Simple, READ, None).await;
        let frames = answer.unwrap_or_default();
        let state = frames.iter().find(|frame| frame.tag == b'E').and_then(|frame| frame.field(b'C'));
        assert!(frames.iter().all(|frame| frame.tag != b'D'), "{version}: rows after the end: {frames:?}");
        assert!(state.is_none_or(|state| state == "57P01"), "{version}: {frames:?}");
        // The others go on.
        rig.client().await.warm(Protocol::Simple, READ, None).await;
    }
}

/// A BEGIN that the origin has not seen ends with the origin's connection: its end is not reported as one.
#[tokio::test]
async fn a_deferred_begin_does_not_outlive_its_origin() {
    for version in VERSIONS {
        let rig = rig(version).await;
        for end in ["rollback", "commit", READ] {
            let (mut client, mut direct) = (rig.client().await, rig.direct().await);
            let pid = backend(&mut client).await;
            client.warm(Protocol::Simple, READ, None).await;
            client.run("begin").await;
            let in_transaction = format!("select state from pg_stat_activity where pid = {pid}");
            assert_eq!(direct.value(&in_transaction).await, "idle", "{version}: the BEGIN was not deferred");
            direct.run(&format!("select pg_terminate_backend({pid})")).await;
            let gone = format!("select count(*) from pg_stat_activity where pid = {pid}");
            while direct.value(&gone).await != "0" {
                tokio::task::yield_now().await;
            }
            // The origin's last words, if the client can still hear them; no tag and no rows.
            let frames = client.try_ask(Protocol::Simple, end, None).await.unwrap_or_default();
            assert!(
                frames.iter().all(|frame| frame.tag == b'E' && frame.field(b'C').as_deref() == Some("57P01")),
                "{version} {end}: {frames:?}"
            );
        }
    }
}

/// A statement that only Larder has seen so far fails in a failed transaction as the origin's would.
#[tokio::test]
async fn a_failed_transaction_refuses_what_would_be_a_hit() {
    for version in VERSIONS {
        let rig = rig(version).await;
        let mut client = rig.client().await;
        for how in Protocol::ALL {
            client.warm(how, READ, None).await;
            client.run("begin").await;
            assert!(client.ask_with(how, READ, None).await.is_hit(), "{version} {how:?}");
            client.try_ask(Protocol::Simple, "select 1 / 0", None).await.unwrap();
            let refused = client.ask_with(how, READ, None).await;
            assert_eq!(refused.rows(), Err("25P02".to_owned()), "{version} {how:?}");
            client.run("rollback").await;
            client.warm(how, READ, None).await;
        }
    }
}

/// The feed follows one database; the others of the same server are relayed, whatever their tables are called.
#[tokio::test]
async fn another_database_of_the_server_is_relayed() {
    for version in VERSIONS {
        let rig = rig(version).await;
        rig.pg.sql("create database other").unwrap();
        let login = Login::new("postgres", "other");
        let mut direct = Client::login(rig.pg.addr(), &login).await.unwrap();
        direct.run("create table item (id int primary key, name text)").await;
        direct.run("insert into item values (1, 'of the other')").await;
        let mut client = Client::login(rig.larder.addr(), &login).await.unwrap();
        for how in Protocol::ALL {
            for _ in 0..3 {
                let served = client.ask_with(how, READ, None).await;
                assert_eq!(served.how, "bypass; reason=database_not_followed", "{version} {how:?}");
                assert_eq!(served.value(), "of the other", "{version} {how:?}");
            }
        }
    }
}
