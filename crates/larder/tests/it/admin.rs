//! The admin database, the API and the commands that go with them: what an operator sees and can do.

use larder_testkit::{Larder, Login, Postgres, RawClient, each_version, frame};
use serde_json::{Value, json};

use crate::larder;

pub(crate) const QUERY: &str = "select id, name from things where id = ";

pub(crate) async fn start(pg: &Postgres) -> Larder {
    pg.sql("create table things (id int primary key, name text); insert into things values (1, 'one'), (2, 'two')")
        .unwrap();
    let larder = Larder::builder()
        .binary(env!("CARGO_BIN_EXE_larder"))
        .origin(pg.url("postgres", "postgres"))
        .env("LARDER_ADMIN_USER", "operator")
        .env("LARDER_ADMIN_PASSWORD", "it's secret")
        .env("LARDER_ADMIN_TOKEN", "token")
        .start()
        .await
        .unwrap();
    // Two values of one statement: each a miss and then a hit.
    let mut client = RawClient::superuser(larder.addr()).await.unwrap();
    for id in ["1", "2", "1", "2"] {
        loop {
            client.rows(&format!("{QUERY}{id}")).await.unwrap();
            let last = client.value("SHOW larder.last").await.unwrap();
            if last.starts_with("hit") {
                break;
            }
        }
    }
    client.rows("select now()").await.unwrap();
    larder
}

pub(crate) fn operator() -> Login {
    Login::new("operator", "larder").password("it's secret")
}

pub(crate) async fn rows(client: &mut RawClient, sql: &str) -> Vec<Vec<String>> {
    let rows = client.rows(sql).await.unwrap();
    rows.into_iter().map(|row| row.into_iter().map(|value| value.unwrap_or_default()).collect()).collect()
}

pub(crate) async fn fingerprint(client: &mut RawClient) -> String {
    let queries = rows(client, "SHOW QUERIES").await;
    let ours = queries.iter().find(|row| row[15] == format!("{QUERY}?")).unwrap();
    assert!(ours[2].parse::<u64>().unwrap() >= 4 && ours[8].parse::<f64>().unwrap() > 0.0, "{ours:?}");
    let clock = queries.iter().find(|row| row[15] == "select now()").unwrap();
    assert_eq!((clock[2].as_str(), clock[7].as_str()), ("0", "stable_function"), "{clock:?}");
    ours[0].clone()
}

async fn entries(client: &mut RawClient) -> u64 {
    rows(client, "SHOW TIERS").await[0][1].parse().unwrap()
}

#[tokio::test]
async fn the_admin_database_shows_everything_and_forgets_on_demand() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let mut client = RawClient::login(larder.addr(), &operator()).await.unwrap();
        let fingerprint = fingerprint(&mut client).await;
        let _somebody = RawClient::superuser(larder.addr()).await.unwrap();
        for view in
            ["STATUS", "STATS", "REASONS", "TABLES", "CLIENTS", "FEED", "TIERS", "CONFIG", "VERSION", "HELP"]
        {
            assert!(!rows(&mut client, &format!("show {view};")).await.is_empty(), "{view}");
        }
        let config = rows(&mut client, "SHOW CONFIG").await;
        assert!(!format!("{config:?}").contains("it's secret"), "{config:?}");
        assert_eq!(rows(&mut client, "SHOW TABLES").await[0][0], "public.things");
        let explained = rows(&mut client, &format!("EXPLAIN CACHE {QUERY}7;")).await;
        assert!(explained.contains(&vec!["verdict".to_owned(), "cacheable".to_owned()]), "{explained:?}");
        assert!(explained.contains(&vec!["fingerprint".to_owned(), fingerprint.clone()]), "{explained:?}");

        assert_eq!(entries(&mut client).await, 2);
        rows(&mut client, "PURGE TABLE pg_catalog.pg_class").await;
        rows(&mut client, "PURGE QUERY '0000000000000000'").await;
        assert_eq!(entries(&mut client).await, 2, "others' answers stay");
        rows(&mut client, &format!("PURGE QUERY '{fingerprint}'")).await;
        assert_eq!(entries(&mut client).await, 0);
    })
    .await;
}

#[tokio::test]
async fn drivers_of_every_kind_can_ask_and_mistakes_are_explained() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let mut client = RawClient::login(larder.addr(), &operator()).await.unwrap();
        // The extended protocol, as drivers use it for everything.
        let replies = client.extended("SHOW VERSION", &[]).await.unwrap();
        let tags: Vec<_> = replies.iter().map(|reply| char::from(reply.tag)).collect();
        assert!(tags.ends_with(&['T', 'D', 'C', 'Z']), "{tags:?}");
        for (sql, code) in [
            ("SELECT 1", "42601"),
            ("SHOW NOTHING", "42601"),
            ("PURGE TABLE nowhere", "42P01"),
            ("PURGE QUERY 'x'", "22023"),
            ("SET MODE = 'shade'", "42601"),
        ] {
            let replies = client.query(sql).await.unwrap();
            assert_eq!(replies[0].field(b'C').as_deref(), Some(code), "{sql}: {replies:?}");
            assert!(replies[0].field(b'H').is_some(), "{sql}: {replies:?}");
        }
        // An error in a batch skips the rest of it and no more.
        client
            .send_all(&[
                frame::parse("", "nonsense", &[]),
                frame::bind("", "", &[]),
                frame::execute("", 0),
                frame::sync(),
            ])
            .await
            .unwrap();
        let tags: Vec<_> =
            client.until_ready().await.unwrap().iter().map(|reply| char::from(reply.tag)).collect();
        assert_eq!(tags, ['1', '2', 'E', 'Z']);

        for login in [
            Login::new("operator", "larder").password("wrong"),
            Login::new("somebody", "larder").password("it's secret"),
        ] {
            let error = RawClient::login(larder.addr(), &login).await.unwrap_err();
            assert!(format!("{error:?}").contains("password authentication failed"), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn modes_are_switched_while_clients_are_served() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let mut operator = RawClient::login(larder.addr(), &operator()).await.unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        for (switch, expected) in [("SET MODE = 'bypass'", "bypass"), ("RESUME", "hit"), ("PAUSE", "bypass")]
        {
            operator.query(switch).await.unwrap();
            // What went by unread may have been a write: hits begin when the feed has covered it.
            loop {
                client.rows(&format!("{QUERY}1")).await.unwrap();
                let last = client.value("SHOW larder.last").await.unwrap();
                match last.split(';').next() {
                    Some(found) if found == expected => break,
                    found => assert!(expected == "hit" && found != Some("hit"), "{switch}: {last}"),
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn the_api_tells_the_same_and_acts_for_those_with_the_token_only() {
    each_version(async |pg| {
        let larder = start(&pg).await;
        let get = async |path: &str| -> Value {
            let (code, body) = larder.get(path).await.unwrap();
            assert_eq!(code, 200, "{path}");
            serde_json::from_str(&body).unwrap()
        };
        let queries = get("/api/v1/queries").await;
        let ours =
            queries.as_array().unwrap().iter().find(|row| row["query"] == format!("{QUERY}?")).unwrap();
        assert!(ours["hits"].as_u64().unwrap() >= 4, "{ours}");
        assert_eq!(get("/api/v1/tables").await[0]["relation"], "public.things");
        assert!(
            get("/api/v1/reasons")
                .await
                .as_array()
                .unwrap()
                .iter()
                .any(|row| row["reason"] == "stable_function")
        );
        assert_eq!(get("/api/v1/config").await["admin"]["password"]["value"], "***");

        let post = async |token: &str, path: &str, body: Value| {
            larder.post(path, token, &body.to_string()).await.unwrap().0
        };
        assert_eq!(post("wrong", "/api/v1/purge", json!({ "all": true })).await, 401);
        assert_eq!(post("token", "/api/v1/purge", json!({ "all": true, "tag": "x" })).await, 400);
        assert_eq!(get("/api/v1/status").await["tiers"]["l1"]["entries"], 2);
        assert_eq!(post("token", "/api/v1/purge", json!({ "table": "things" })).await, 200);
        assert_eq!(get("/api/v1/status").await["tiers"]["l1"]["entries"], 0);
        assert_eq!(post("token", "/api/v1/mode", json!({ "mode": "bypass" })).await, 200);
        assert_eq!(get("/api/v1/status").await["mode"], "bypass");
    })
    .await;
}

#[tokio::test]
async fn top_and_purge_work_from_the_command_line_and_shutdown_from_sql() {
    each_version(async |pg| {
        let mut larder_ = start(&pg).await;
        let listen = larder_.addr().to_string();
        let own = [
            ("LARDER_ADMIN_USER", "operator"),
            ("LARDER_ADMIN_PASSWORD", "it's secret"),
            ("LARDER_LISTEN_ADDR", &*listen),
        ];
        let top = larder(&["top", "--times", "1"], &own);
        assert!(top.out.contains(QUERY) && top.out.contains("feed connected"), "{top:?}");
        let purged = larder(&["purge", "--table", "public.things"], &own);
        assert_eq!(purged.out, "2 answers forgotten\n", "{purged:?}");
        let nothing = larder(&["purge", "--query", "x"], &own);
        assert!(
            nothing.err.contains("is not a fingerprint") && nothing.err.contains("SHOW QUERIES"),
            "{nothing:?}"
        );
        let without = larder(&["top"], &[]);
        assert!(without.err.contains("section [admin]"), "{without:?}");

        let mut operator = RawClient::login(larder_.addr(), &operator()).await.unwrap();
        let replies = operator.query("SHUTDOWN WAIT_FOR_CLIENTS").await.unwrap();
        assert_eq!(replies[0].tag, b'C');
        assert!(larder_.ended(std::time::Duration::from_secs(30)).await.unwrap().success());
    })
    .await;
}
