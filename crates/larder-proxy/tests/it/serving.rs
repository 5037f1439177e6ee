//! Hits, misses and writes.

use larder_testkit::{RawClient, each_version};

use crate::{rig, served, warm};

#[tokio::test]
async fn a_repeated_read_comes_from_memory_and_a_write_ends_it() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        let mut reader = RawClient::superuser(larder.addr()).await.unwrap();
        let mut writer = RawClient::superuser(larder.addr()).await.unwrap();
        let sql = "select name from item where id = 7";
        assert_eq!(warm(&mut reader, sql).await, [[Some("name 7".to_owned())]]);

        writer.query("update item set name = 'other' where id = 7").await.unwrap();
        assert_eq!(reader.value(sql).await.unwrap(), "other");
        assert!(served(&mut reader).await.starts_with("miss"));
        assert_eq!(warm(&mut reader, sql).await, [[Some("other".to_owned())]]);

        // Another session with the same facts shares the answer, a comment does not part it.
        assert_eq!(writer.value(&format!("/* trace=1 */ {sql}")).await.unwrap(), "other");
        assert_eq!(served(&mut writer).await, "hit; tier=l1");
        let counters = larder.counters();
        assert!(counters.hits >= 2 && counters.misses >= 2, "{counters:?}");
    })
    .await;
}

#[tokio::test]
async fn reads_in_a_deferred_transaction_hit_until_it_writes() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let sql = "select name from item where id = 8";
        warm(&mut client, sql).await;

        client.query("begin").await.unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "name 8");
        assert_eq!(served(&mut client).await, "hit; tier=l1");
        let idle =
            "select state from pg_stat_activity where pid <> pg_backend_pid() and state like 'idle in%'";
        assert_eq!(origin.sql(idle).unwrap(), "", "the origin has not heard of the transaction");

        client.query("update item set name = 'mine' where id = 8").await.unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "mine");
        assert_eq!(served(&mut client).await, "bypass; reason=transaction_wrote");
        client.query("rollback").await.unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "name 8");
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_holds_a_snapshot_is_never_served() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let sql = "select name from item where id = 9";
        warm(&mut client, sql).await;
        for begin in [
            "begin isolation level repeatable read",
            "begin isolation level serializable",
            "start transaction isolation level repeatable read",
        ] {
            client.query(begin).await.unwrap();
            client.value(sql).await.unwrap();
            assert_eq!(served(&mut client).await, "bypass; reason=transaction_snapshot", "{begin}");
            client.query("commit").await.unwrap();
        }
        client.query("set default_transaction_isolation = 'serializable'").await.unwrap();
        client.query("begin").await.unwrap();
        client.value(sql).await.unwrap();
        assert_eq!(served(&mut client).await, "bypass; reason=transaction_snapshot");
        client.query("commit").await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_answer_over_the_limit_is_relayed_and_not_kept() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let sql = "select repeat('x', 2000000), id from item where id = 1";
        for _ in 0..3 {
            assert_eq!(client.rows(sql).await.unwrap()[0][0].as_ref().unwrap().len(), 2_000_000);
        }
        assert_eq!(served(&mut client).await, "bypass; reason=result_too_large");
        assert!(larder.proxy.tier().1 < 1 << 20);
    })
    .await;
}

/// PostgreSQL keeps notifications back while a transaction is open.
#[tokio::test]
async fn a_session_that_listens_has_its_transactions_at_the_origin() {
    each_version(async |origin| {
        let larder = rig(&origin).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let sql = "select name from item where id = 9";
        client.query("listen news").await.unwrap();
        warm(&mut client, sql).await;
        client.query("begin").await.unwrap();
        assert_eq!(client.value(sql).await.unwrap(), "name 9");
        assert_eq!(served(&mut client).await, "hit; tier=l1");
        let open = "select count(*) from pg_stat_activity where state = 'idle in transaction'";
        assert_eq!(origin.sql(open).unwrap(), "1");
        origin.sql("notify news, 'good'").unwrap();
        let tags =
            |frames: Vec<larder_testkit::Frame>| frames.iter().map(|frame| frame.tag).collect::<Vec<_>>();
        assert_eq!(tags(client.query("select 1").await.unwrap()), *b"TDCZ");
        client.query("commit").await.unwrap();
    })
    .await;
}
