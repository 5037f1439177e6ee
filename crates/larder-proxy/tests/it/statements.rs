//! Prepared statements that exist here and not at the origin.

use larder_testkit::{InProcess, Postgres, RawClient, each_version, frame};

use crate::rig;

const SQL: &str = "select name from item where id = $1";

/// Prepares `name` and executes it with `id`; the types of the reply's frames.
async fn execute(client: &mut RawClient, name: &str, id: &str) -> String {
    let messages = [
        frame::parse(name, SQL, &[23]),
        frame::bind("", name, &[Some(id)]),
        frame::describe_portal(""),
        frame::execute("", 0),
        frame::sync(),
    ];
    client.send_all(&messages).await.unwrap();
    client.until_ready().await.unwrap().iter().map(|frame| char::from(frame.tag)).collect()
}

/// A Larder whose workers all know the statement and its answers for 1 to 3.
async fn learnt(origin: &Postgres) -> InProcess {
    let larder = rig(origin).await;
    for _ in 0..4 {
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        for id in ["1", "2", "3", "1", "2", "3"] {
            assert_eq!(execute(&mut client, "", id).await, "12TDCZ");
        }
        // Kept open until the end of the round, so that the next client goes to the other worker.
        let mut second = RawClient::superuser(larder.addr()).await.unwrap();
        for id in ["1", "2", "3"] {
            assert_eq!(execute(&mut second, "", id).await, "12TDCZ");
        }
    }
    larder
}

#[tokio::test]
async fn a_known_statement_needs_the_origin_for_nothing() {
    each_version(async |origin| {
        let larder = learnt(&origin).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        // The first statement of a session reads its settings.
        execute(&mut client, "", "1").await;
        let before = larder.counters();
        assert_eq!(execute(&mut client, "s", "2").await, "12TDCZ");
        client
            .send_all(&[frame::bind("", "s", &[Some("3")]), frame::execute("", 0), frame::sync()])
            .await
            .unwrap();
        let frames = client.until_ready().await.unwrap();
        assert_eq!(frames[1].values(), [Some("name 3".to_owned())]);
        assert_eq!(larder.counters().hits, before.hits + 2);
        // Whoever asks sees what would be there without Larder.
        let sql = "select count(*) from pg_prepared_statements where name = 's'";
        assert_eq!(client.value(sql).await.unwrap(), "1");
    })
    .await;
}

#[tokio::test]
async fn a_statement_is_prepared_at_the_origin_when_it_is_needed_there() {
    each_version(async |origin| {
        let larder = learnt(&origin).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        execute(&mut client, "", "1").await;
        execute(&mut client, "s", "1").await;
        // A miss: bind only, the statement goes ahead of it and its ParseComplete does not come through.
        client
            .send_all(&[frame::bind("", "s", &[Some("999")]), frame::execute("", 0), frame::sync()])
            .await
            .unwrap();
        let tags: String =
            client.until_ready().await.unwrap().iter().map(|frame| char::from(frame.tag)).collect();
        assert_eq!(tags, "2DCZ");
        // The name is taken, and the origin says so.
        let tags = execute(&mut client, "s", "1").await;
        assert_eq!(tags, "EZ");
        // SQL sees it too.
        execute(&mut client, "t", "2").await;
        assert_eq!(client.value("execute t(2)").await.unwrap(), "name 2");
        client.query("deallocate t").await.unwrap();
        client
            .send_all(&[frame::bind("", "t", &[Some("2")]), frame::execute("", 0), frame::sync()])
            .await
            .unwrap();
        let frames = client.until_ready().await.unwrap();
        assert_eq!(frames[0].field(b'C').as_deref(), Some("26000"));
    })
    .await;
}

#[tokio::test]
async fn how_it_was_served_can_be_asked_for_by_a_prepared_statement_at_any_time() {
    each_version(async |origin| {
        // Nothing is known of the origin, so nothing is answered from memory; the origin does not know the setting.
        let larder = InProcess::start_without_feed(&InProcess::config(&origin)).unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        client.send_all(&[frame::parse("last", "SHOW larder.last", &[]), frame::sync()]).await.unwrap();
        client.until_ready().await.unwrap();
        assert_eq!(client.value("select 1").await.unwrap(), "1");
        for _ in 0..2 {
            let messages = [
                frame::bind("", "last", &[]),
                frame::describe_portal(""),
                frame::execute("", 0),
                frame::sync(),
            ];
            client.send_all(&messages).await.unwrap();
            let frames = client.until_ready().await.unwrap();
            assert_eq!(frames.iter().map(|frame| char::from(frame.tag)).collect::<String>(), "2TDCZ");
            assert_eq!(frames[2].values(), [Some("bypass; reason=no_catalog".to_owned())]);
        }
        assert_eq!(client.value("select 2").await.unwrap(), "2");
    })
    .await;
}
