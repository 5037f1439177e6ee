//! The program against PostgreSQL itself: it works until its input ends, and says what it did.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests only")]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use larder_sandbox::Postgres;
use serde_json::Value;

#[test]
fn clients_work_until_the_input_ends() {
    let postgres = Postgres::builder().start().unwrap();
    postgres.sql("CREATE TABLE log (id int)").unwrap();
    postgres.sql("CREATE TABLE t AS SELECT i AS id, i * 10 AS v FROM generate_series(0, 99) i").unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_larder-example-pools"))
        .args(["--url", &postgres.url("postgres", "postgres"), "--clients", "5", "--think", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let mut hear = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(hear()["ready"], 5);
    drop(program.stdin.take());
    let done = loop {
        let said = hear();
        if said.get("reads").is_some() {
            break said;
        }
        assert!(said.get("failed").is_none(), "{said}");
    };
    assert_eq!(done["failed"], 0, "{done}");
    let written: u64 = postgres.sql("SELECT count(*) FROM log").unwrap().parse().unwrap();
    assert_eq!(done["transactions"], written, "{done}");
    assert!(program.wait().unwrap().success());
}
