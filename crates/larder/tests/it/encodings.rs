//! Encodings: databases and clients that speak others than UTF-8 get the origin's bytes, also from memory, and never those
//! that were meant for a client of another encoding.

use bytes::Bytes;
use larder_testkit::{
    Larder, Login, Postgres, RawClient, Script, Step, Target, compare, each_version, frame,
};

/// A simple query of any bytes.
fn raw(sql: &[u8]) -> Step {
    Step::messages(&[frame::message(b'Q', &[sql, b"\0"].concat())])
}

/// "été" as the client's encoding writes it.
fn summer(encoding: &str) -> Bytes {
    let utf8 = encoding == "UTF8";
    Bytes::from_static(if utf8 { "été".as_bytes() } else { b"\xe9t\xe9" })
}

fn script(encoding: &str) -> Script {
    let word = summer(encoding);
    let by_word = [b"select id, t from words where t = '", &word[..], b"'"].concat();
    let bind = |value: &[u8]| {
        let length = i32::try_from(value.len()).unwrap().to_be_bytes();
        frame::message(b'B', &[&b"\0\0\0\0\0\x01"[..], &length, value, b"\0\0"].concat())
    };
    let by_parameter = |value: &[u8]| {
        let parse = frame::parse("", "select id, t from words where t = $1", &[]);
        Step::messages(&[
            parse,
            bind(value),
            frame::describe_portal(""),
            frame::execute("", 0),
            frame::sync(),
        ])
    };
    vec![
        Step::query("select id, t from words where id < 4 order by id"),
        Step::query("select id, length(t), octet_length(t) from words where id < 4 order by id"),
        raw(&by_word),
        raw(&[b"select '", &word[..], b"' as \"", &word[..], b"\" from words where id = 1"].concat()),
        by_parameter(&word),
        // What this encoding does not have, what is none, and what no text may hold.
        Step::query("select t from words where id = 4"),
        raw(b"select id from words where t = '\xff\xc3'"),
        by_parameter(b"\xff\xc3"),
        by_parameter(b"a\0b"),
        Step::query("select E'\\xe9' from words where id = 1"),
        Step::query("select U&'\\00e9' from words where id = 1"),
        // The same texts after a change of the encoding mean and give other bytes.
        Step::query("set client_encoding to 'UTF8'"),
        Step::query("select id, t from words where id < 4 order by id"),
        raw(&by_word),
        Step::query("reset client_encoding"),
        raw(&by_word),
    ]
}

async fn check(pg: &Postgres, encoding: &str) {
    let name = format!("in_{}", encoding.to_lowercase());
    pg.sql(&format!(
        "create database {name} encoding '{encoding}' template template0 lc_collate 'C' lc_ctype 'C'"
    ))
    .unwrap();
    let mut client = RawClient::login(pg.addr(), &Login::new("postgres", &name)).await.unwrap();
    let fourth = if encoding == "UTF8" { "U&'\\20ac'" } else { "'last'" };
    for sql in [
        "set client_encoding to 'LATIN1'".to_owned(),
        "create table words (id int primary key, t text)".to_owned(),
        format!("insert into words values (1, 'plain'), (2, 'x'), (4, {fourth})"),
    ] {
        assert_eq!(client.query(&sql).await.unwrap()[0].tag, b'C', "{sql}");
    }
    let insert = [b"insert into words values (3, '", &summer("LATIN1")[..], b"')\0"].concat();
    client.send(frame::message(b'Q', &insert)).await.unwrap();
    assert_eq!(client.until_ready().await.unwrap()[0].tag, b'C');

    let larder = Larder::builder()
        .binary(env!("CARGO_BIN_EXE_larder"))
        .origin(pg.url("postgres", &name))
        .start()
        .await
        .unwrap();
    // Those that the server can convert to.
    let clients: &[&str] = match encoding {
        "LATIN1" => &["UTF8", "LATIN1", "SQL_ASCII"],
        _ => &["UTF8", "LATIN1", "WIN1252", "SQL_ASCII"],
    };
    // Each finds what those before it have left in memory. Bytes that cannot be read as text may be a write: for a moment
    // after them nothing comes from memory.
    for round in 0.. {
        for client in clients {
            let login = Login::new("postgres", &name).parameter("client_encoding", client);
            let direct = Target { addr: pg.addr(), login: login.clone() };
            compare(&script(client), &direct, &Target { addr: larder.addr(), login }).await;
        }
        let (_, status) = larder.get("/api/v1/status").await.unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        if round > 3 && status["queries"]["hits"].as_u64().unwrap() > 20 {
            break;
        }
        assert!(round < 50, "{encoding}: {status}");
    }
}

#[tokio::test]
async fn every_client_gets_its_own_bytes() {
    each_version(async |pg| {
        for encoding in ["UTF8", "LATIN1", "SQL_ASCII"] {
            check(&pg, encoding).await;
        }
    })
    .await;
}
