//! What the web page is made of: its policy, and the JSON that no other view shows.

use larder_testkit::{Larder, Login, RawClient, each_version};
use serde_json::Value;

use crate::admin::{QUERY, operator, rows, start};

async fn get(larder: &Larder, path: &str) -> Value {
    let (code, body) = larder.get(path).await.unwrap();
    assert_eq!(code, 200, "{path}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn clients_are_listed_with_what_they_do() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let login = Login::superuser().parameter("application_name", "<b>shop</b>");
        let mut client = RawClient::login(larder.addr(), &login).await.unwrap();
        client.query("begin").await.unwrap();
        client.rows(&format!("{QUERY}1")).await.unwrap();
        // What is answered here is no state of the origin's, and shows all the same.
        let listed = get(&larder, "/api/v1/clients").await;
        let mut clients = listed.as_array().unwrap().iter();
        let ours = clients.find(|row| row["application_name"] == "<b>shop</b>").expect("ours is listed");
        assert_eq!(
            (&ours["user"], &ours["state"], &ours["tls"]),
            (&"postgres".into(), &"idle in transaction".into(), &false.into()),
            "{ours}"
        );
        client.query("commit").await.unwrap();
        let pid = client.value("select pg_backend_pid()").await.unwrap();
        let mut console = RawClient::login(larder.addr(), &operator()).await.unwrap();
        let shown = rows(&mut console, "SHOW CLIENTS").await;
        let ours = shown.iter().find(|row| row[0] == pid).expect("by its process number");
        assert_eq!((ours[4].as_str(), ours[7].as_str()), ("<b>shop</b>", "idle"), "{shown:?}");
        assert!(ours[10].parse::<u64>().unwrap() >= 2, "{shown:?}");
        drop(client);
        while !get(&larder, "/api/v1/clients").await.as_array().unwrap().is_empty() {}
    })
    .await;
}

#[tokio::test]
async fn clients_go_by_the_name_that_the_origin_knows() {
    each_version(async |pg| {
        pg.sql("CREATE ROLE worker LOGIN; ALTER ROLE worker SET application_name = 'jobs'").unwrap();
        let plain =
            Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(pg.url("postgres", "postgres"));
        let plain = plain.arg("--mode").arg("bypass").start().await.unwrap();
        for larder in [start(&pg).await, plain] {
            let mut client =
                RawClient::login(larder.addr(), &Login::new("worker", "postgres")).await.unwrap();
            let name = async || get(&larder, "/api/v1/clients").await[0]["application_name"].clone();
            assert_eq!(name().await, "jobs");
            for (change, expected) in [
                ("set application_name = 'reports'", "reports"),
                ("begin; set local application_name = 'one report'", "one report"),
                ("rollback", "reports"),
                ("select set_config('application_name', 'by a function', false)", "by a function"),
                ("reset application_name", "jobs"),
            ] {
                client.query(change).await.unwrap();
                assert_eq!(name().await, expected, "{change}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn events_and_history_tell_what_happened_before_anybody_looked() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let mut console = RawClient::login(larder.addr(), &operator()).await.unwrap();
        for statement in ["PAUSE", "RESUME", "PURGE ALL", "DENY TABLE things", "ALLOW ALL"] {
            console.query(statement).await.unwrap();
        }
        let events = get(&larder, "/api/v1/events").await;
        let kinds = events.as_array().unwrap().iter().map(|event| event["kind"].clone());
        let kinds: Vec<_> =
            kinds.filter(|kind| ["rules", "purge", "mode"].iter().any(|own| kind == own)).collect();
        assert_eq!(kinds, ["rules", "rules", "purge", "mode", "mode"], "{events}");
        // What is watched is looked at now and then.
        for kind in ["start", "feed", "lease"] {
            while !rows(&mut console, "SHOW EVENTS").await.iter().any(|row| row[2] == kind) {}
        }
        let history = loop {
            let history = get(&larder, "/api/v1/history").await;
            if history["samples"].as_array().unwrap().len() >= 2 {
                break history;
            }
        };
        let (columns, samples) =
            (history["columns"].as_array().unwrap(), history["samples"].as_array().unwrap());
        assert!(samples.iter().all(|sample| sample.as_array().unwrap().len() == columns.len()), "{history}");
        let first = samples[0][0].as_u64().unwrap();
        let later = get(&larder, &format!("/api/v1/history?after={first}")).await;
        assert!(later["samples"][0][0].as_u64().unwrap() > first, "{later}");
    })
    .await;
}

#[tokio::test]
async fn queries_come_in_the_order_that_is_asked_for() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let saved = get(&larder, "/api/v1/queries?by=saved&limit=1").await;
        assert_eq!((saved.as_array().unwrap().len(), &saved[0]["query"]), (1, &format!("{QUERY}?").into()));
        let uncached = get(&larder, "/api/v1/queries?by=uncached").await;
        assert!(
            uncached.as_array().unwrap().iter().all(|row| row["bypassed"].as_u64() > Some(0)),
            "{uncached}"
        );
        assert_eq!(larder.get("/api/v1/queries?by=luck").await.unwrap().0, 400);
        let reasons = get(&larder, "/api/v1/reasons").await;
        assert!(reasons[0]["remedy"].as_str().unwrap().ends_with('.'), "{reasons}");
        let status = get(&larder, "/api/v1/status").await;
        assert_eq!(status["admin"]["token"], true, "{status}");
        assert!(status["modes"].as_array().unwrap().contains(&"bypass".into()), "{status}");
        let (code, page) = larder.get("/").await.unwrap();
        assert!(code == 200 && page.starts_with("<!doctype html>"), "{page}");
    })
    .await;
}
