//! The client path in one process with a real origin and a real feed: what is answered from memory, what is not and
//! why, and that one session's trouble stays its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

mod age;
mod plain;
mod serving;
mod settings;
mod statements;
mod verify;

use larder_testkit::{InProcess, Postgres, RawClient};

/// An origin with a table of a thousand rows, and a Larder in front of it.
async fn rig(origin: &Postgres) -> InProcess {
    origin.sql("create table item(id int primary key, name text not null)").unwrap();
    origin.sql("insert into item select g, 'name ' || g from generate_series(1, 1000) g").unwrap();
    InProcess::start(origin).await.unwrap()
}

/// How the previous statement of this client was served, without its age: `hit; tier=l1`, `miss; reason=absent`.
async fn served(client: &mut RawClient) -> String {
    let value = client.value("SHOW larder.last").await.unwrap();
    value.split("; age=").next().unwrap_or_default().to_owned()
}

/// Asks until the statement is answered from memory; the answer.
async fn warm(client: &mut RawClient, sql: &str) -> Vec<Vec<Option<String>>> {
    for _ in 0..200 {
        let rows = client.rows(sql).await.unwrap();
        if served(client).await.starts_with("hit") {
            return rows;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("never a hit: {sql}: {}", served(client).await);
}
