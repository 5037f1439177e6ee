//! The example does what its README says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::process::Stdio;
use std::time::Duration;

use larder_sandbox::Postgres;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Only keeps a failing test from hanging.
const LIMIT: Duration = Duration::from_secs(60);

struct Service {
    address: String,
    _child: Child,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    cache: Option<String>,
    body: String,
}

impl Service {
    async fn start(pg: &Postgres) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_larder-example-axum-sqlx"))
            .env("DATABASE_URL", pg.url("postgres", "postgres"))
            .env("FEED_URL", pg.url("larder", "postgres"))
            .env("LISTEN", "127.0.0.1:0")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().unwrap();
        let address = line.strip_prefix("listening on ").unwrap().to_owned();
        Self { address, _child: child }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let cache = head.lines().find_map(|line| line.strip_prefix("x-cache: ")).map(str::to_owned);
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), cache, body: body.to_owned() }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// Asks until the answer is like that.
    async fn until(&self, path: &str, like: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if like(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("{path} is never like that"))
    }
}

fn from_memory(answer: &Answer) -> bool {
    answer.cache.as_deref() == Some("l1")
}

#[tokio::test]
async fn answers_come_from_memory_until_somebody_changes_them() {
    let pg = Postgres::builder().setting("wal_level", "logical").start().unwrap();
    pg.sql("create role larder login replication").unwrap();
    pg.sql("create table users (id bigint primary key, name text not null, team bigint not null)").unwrap();
    pg.sql("insert into users select n, 'user ' || n, n % 10 from generate_series(1, 100) n").unwrap();
    let service = Service::start(&pg).await;

    let answer = service.until("/users/42", from_memory).await;
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, body), (200, json!({"id": 42, "name": "user 42", "team": 2})));
    service.until("/teams/2", from_memory).await;

    // By somebody who knows nothing of the service.
    pg.sql("update users set name = 'Ada' where id = 42").unwrap();
    service.until("/users/42", |answer| answer.body.contains("Ada")).await;
    service.until("/teams/2", |answer| answer.body.contains("Ada")).await;
    service.until("/users/42", from_memory).await;

    // By the service itself: what it has written it reads at once.
    for n in 0..50 {
        let name = format!("Grace {n}");
        assert_eq!(service.ask("PUT", "/users/42", &name).await.status, 204);
        assert!(service.get("/users/42").await.body.contains(&name));
        assert!(service.get("/teams/2").await.body.contains(&name));
    }

    // What is not there is cached as well, until it is.
    let missing = service.until("/users/1000", from_memory).await;
    assert_eq!(missing.status, 404);
    pg.sql("insert into users values (1000, 'new', 1)").unwrap();
    service.until("/users/1000", |answer| answer.status == 200).await;
    assert!(service.get("/metrics").await.body.contains("users_cache_l1_hits_total"));
}
