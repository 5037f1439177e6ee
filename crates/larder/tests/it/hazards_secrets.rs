//! What people put into statements is nobody else's affair; and what Larder leaves behind at the origin.

use larder_testkit::{Login, Postgres, RawClient, each_version};

use crate::admin::{operator, rows, start};
use crate::freshness::{Client, Protocol};

/// In a literal, in a parameter, and in what is wrong.
const MARKS: [&str; 4] = ["literalmark", "parametermark", "mistakemark", "commentmark"];

#[tokio::test]
async fn values_of_statements_are_in_no_log_metric_or_page() {
    each_version(async |pg: Postgres| {
        let larder = start(&pg).await;
        let login = || Login::superuser();
        let mut client = Client::login(larder.addr(), &login()).await.unwrap();
        for _ in 0..3 {
            client.ask("select id from things where name = 'literalmark' /* commentmark */").await;
            client
                .ask_with(Protocol::Unnamed, "select id from things where name = $1", Some("parametermark"))
                .await;
        }
        client.run("update things set name = 'literalmark' where id = 2").await;
        for wrong in [
            "select 'mistakemark'::int",
            "selec 'mistakemark'",
            "select * from things where id = 'mistakemark'",
        ] {
            assert!(client.raw.rows(wrong).await.is_err(), "{wrong}");
        }
        let mut said = vec![("log".to_owned(), larder.log())];
        for page in
            ["/", "/metrics", "/api/v1/status", "/api/v1/queries", "/api/v1/tables", "/api/v1/reasons"]
        {
            said.push((page.to_owned(), larder.get(page).await.unwrap().1));
        }
        for page in ["config", "history", "clients", "events", "rules"] {
            said.push((page.to_owned(), larder.get(&format!("/api/v1/{page}")).await.unwrap().1));
        }
        let mut operator = RawClient::login(larder.addr(), &operator()).await.unwrap();
        for view in [
            "STATUS", "STATS", "QUERIES", "REASONS", "TABLES", "CLIENTS", "EVENTS", "FEED", "TIERS", "CONFIG",
        ] {
            said.push((view.to_owned(), format!("{:?}", rows(&mut operator, &format!("SHOW {view}")).await)));
        }
        for (place, text) in &said {
            for mark in MARKS {
                assert!(!text.contains(mark), "{mark} is in {place}: {text}");
            }
            assert!(!text.contains("it's secret"), "{place}");
        }
        // They were looked at: the statements themselves are there.
        let queries = &said.iter().find(|(place, _)| place == "QUERIES").unwrap().1;
        assert!(queries.contains("select id from things where name = "), "{queries}");
    })
    .await;
}

#[tokio::test]
async fn nothing_is_left_at_the_origin_by_a_larder_that_was_killed() {
    each_version(async |pg: Postgres| {
        let mut larder = start(&pg).await;
        let slots = "select count(*) filter (where temporary), count(*) from pg_replication_slots";
        assert_eq!(pg.sql(slots).unwrap().trim(), "1|1");
        larder.signal(larder_testkit::Signal::KILL).unwrap();
        let deadline = std::time::Instant::now() + crate::freshness::LIMIT;
        while pg.sql(slots).unwrap().trim() != "0|0" {
            assert!(std::time::Instant::now() < deadline, "a slot holds back the origin's log");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}
