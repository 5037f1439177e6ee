//! What operators decide about caching: DENY and ALLOW while clients are served, and rules of the configuration.

use larder_testkit::{Larder, RawClient, each_version};
use serde_json::{Value, json};

use crate::admin::{QUERY, fingerprint, operator, rows, start};

/// Repeats a statement until it is answered as expected; never by anything that is not allowed meanwhile.
async fn answered(client: &mut RawClient, sql: &str, expected: &str) {
    loop {
        client.rows(sql).await.unwrap();
        let last = client.value("SHOW larder.last").await.unwrap();
        if last.starts_with(expected) {
            break;
        }
        // Hits take a while: the first is a miss, and a lease may be late. Reasons come at once.
        assert!(
            expected == "hit" && !last.contains("denied") && !last.contains("config_rule"),
            "{sql}: {last}"
        );
    }
}

#[tokio::test]
async fn what_is_denied_is_not_cached_until_it_is_allowed_again() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        pg.sql("create view seen as select name from things").unwrap();
        let mut console = RawClient::login(larder.addr(), &operator()).await.unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let fingerprint = fingerprint(&mut console).await;
        let (one, other) = (format!("{QUERY}1"), "select count(*) from things");
        // The view is known, and so is everything else.
        answered(&mut client, "select name from seen", "hit").await;
        answered(&mut client, &one, "hit").await;
        // From the very next statement on, in a session that has a plan for it: by every name of it.
        for (name, what) in [
            (format!("QUERY '{fingerprint}'"), &[&*one][..]),
            ("TABLE things".to_owned(), &[&*one, other, "select name from seen"]),
            ("TABLE public.seen".to_owned(), &["select name from seen"]),
        ] {
            console.query(&format!("DENY {name}")).await.unwrap();
            for sql in what {
                answered(&mut client, sql, "bypass; reason=denied").await;
            }
            let shown = rows(&mut console, "SHOW RULES").await;
            assert_eq!(
                (shown.len(), shown[0][1].as_str(), shown[0][3].as_str()),
                (1, "false", "denied"),
                "{shown:?}"
            );
            if what.len() == 1 {
                answered(&mut client, other, "hit").await;
            }
            console.query(&format!("ALLOW {name}")).await.unwrap();
            for sql in what {
                answered(&mut client, sql, "hit").await;
            }
        }
        assert_eq!(rows(&mut console, "SHOW RULES").await.len(), 0);
        // Prepared statements too.
        let prepared = async |client: &mut RawClient| {
            client.extended(&format!("{QUERY}$1"), &[Some("1")]).await.unwrap();
            client.value("SHOW larder.last").await.unwrap()
        };
        while !prepared(&mut client).await.starts_with("hit") {}
        console.query("DENY TABLE things").await.unwrap();
        assert_eq!(prepared(&mut client).await, "bypass; reason=denied");
        console.query("ALLOW ALL").await.unwrap();
        while !prepared(&mut client).await.starts_with("hit") {}
        for (sql, code) in [
            ("DENY", "42601"),
            ("DENY ALL", "42601"),
            ("DENY TABLE nowhere", "42P01"),
            ("ALLOW QUERY 'x'", "22023"),
        ] {
            let replies = console.query(sql).await.unwrap();
            assert_eq!(replies[0].field(b'C').as_deref(), Some(code), "{sql}: {replies:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_api_denies_and_allows_for_those_with_the_token() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let deny = async |token: &str, body: Value| {
            larder.post("/api/v1/deny", token, &body.to_string()).await.unwrap().0
        };
        assert_eq!(deny("wrong", json!({ "table": "things" })).await, 401);
        assert_eq!(deny("token", json!({ "table": "things", "query": "x" })).await, 400);
        assert_eq!(deny("token", json!({ "query": "'; PURGE ALL" })).await, 400);
        answered(&mut client, &format!("{QUERY}1"), "hit").await;
        assert_eq!(deny("token", json!({ "table": "things", "cache": false })).await, 200);
        answered(&mut client, &format!("{QUERY}1"), "bypass; reason=denied").await;
        let (_, shown) = larder.get("/api/v1/rules").await.unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            (&shown[0]["rule"], &shown[0]["reason"]),
            (&json!("table public.things"), &json!("denied"))
        );
        assert_eq!(deny("token", json!({ "table": "public.things", "cache": true })).await, 200);
        answered(&mut client, &format!("{QUERY}1"), "hit").await;
    })
    .await;
}

#[tokio::test]
async fn the_first_rule_of_the_configuration_that_applies_decides() {
    each_version(async |pg| {
        pg.sql(
            "create table things (id int primary key, name text); insert into things values (1, 'one'); \
             create table other (id int); grant select on things, other to public; create role report login",
        )
        .unwrap();
        // The fingerprint of a statement is the same in every process.
        let exception = fingerprint_of(&pg).await;
        let larder = Larder::builder()
            .binary(env!("CARGO_BIN_EXE_larder"))
            .origin(pg.url("postgres", "postgres"))
            .config(format!(
                "[[rule]]\nmatch = {{ query = \"{exception}\" }}\nttl = \"1m\"\n\
                 [[rule]]\nmatch = {{ table = \"public.things\" }}\ncache = false\n\
                 [[rule]]\nmatch = {{ role = \"report\" }}\ncache = false\n"
            ))
            .start()
            .await
            .unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        answered(&mut client, &format!("{QUERY}1"), "hit").await;
        answered(&mut client, "select id from other", "hit").await;
        answered(&mut client, "select count(*) from things", "bypass; reason=config_rule").await;
        client.query("set role report").await.unwrap();
        answered(&mut client, "select id from other", "bypass; reason=config_rule").await;
        answered(&mut client, &format!("{QUERY}1"), "hit").await;
        let (_, shown) = larder.get("/api/v1/config").await.unwrap();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["rule"][0]["ttl"], "1m", "{shown}");
        assert_eq!(shown["rule"][2]["match"]["role"], "report", "{shown}");
    })
    .await;
}

/// As another Larder tells it.
async fn fingerprint_of(pg: &larder_testkit::Postgres) -> String {
    let larder = Larder::builder()
        .binary(env!("CARGO_BIN_EXE_larder"))
        .origin(pg.url("postgres", "postgres"))
        .start()
        .await
        .unwrap();
    let mut client = RawClient::superuser(larder.addr()).await.unwrap();
    answered(&mut client, &format!("{QUERY}1"), "hit").await;
    let (_, queries) = larder.get("/api/v1/queries").await.unwrap();
    let queries: Value = serde_json::from_str(&queries).unwrap();
    let ours = queries.as_array().unwrap().iter().find(|row| row["query"] == format!("{QUERY}?")).unwrap();
    ours["fingerprint"].as_str().unwrap().to_owned()
}
