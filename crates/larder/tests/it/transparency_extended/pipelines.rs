//! Errors in the middle, pipelines, Flush without Sync.

use bytes::Bytes;
use larder_testkit::frame::{
    bind, bind_formats, close_statement, describe_portal, describe_statement, execute, flush, message, parse,
    query, sync,
};
use larder_testkit::{Step, Until};

use super::{BY_ID, ONE, all, m, params, prepare, run_named};
use crate::transparency::{compare_all, q};

#[tokio::test]
async fn errors_and_pipelines() {
    compare_all(|| {
        let one =
            [parse("", ONE, &[]), bind("", "", &[]), describe_portal(""), execute("", 0), sync()].concat();
        let long = "select v from fixed where id = 1 and v <> '".to_owned() + &"x".repeat(100_000) + "'";
        vec![
            (
                "wrong parameters",
                1,
                vec![
                    prepare("s", BY_ID),
                    run_named("s", &[]),
                    run_named("s", &[Some("1"), Some("2")]),
                    run_named("s", &[Some("1")]),
                    m(&[bind_formats("", "s", &[0, 1], &[Some(b"1")], &[]), sync()]),
                    m(&[bind_formats("", "s", &[], &[Some(b"1")], &[0, 1]), execute("", 0), sync()]),
                    m(&[bind_formats("", "s", &[1], &[Some(b"1")], &[]), sync()]),
                    m(&[bind_formats("", "s", &[7], &[Some(b"1")], &[]), sync()]),
                    m(&[bind_formats("", "s", &[], &[Some(b"1")], &[7]), execute("", 0), sync()]),
                    run_named("s", &[Some("1")]),
                    prepare("b", "begin"),
                    run_named("b", &[Some("1")]),
                    run_named("b", &[]),
                    run_named("b", &[]),
                    q("rollback"),
                ],
            ),
            (
                "errors and what is skipped",
                1,
                vec![
                    m(&[parse("", "bogus", &[]), bind("", "", &[]), execute("", 0), sync()]),
                    params(ONE, &[]),
                    m(&[
                        parse("", ONE, &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        parse("", "select 1/0", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        parse("", ONE, &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ]),
                    params(ONE, &[]),
                    m(&[parse("", "bogus", &[]), flush()]).until(Until::Tag(b'E')),
                    m(&[parse("", ONE, &[]), bind("", "", &[]), execute("", 0), flush()]),
                    m(&[query("select 1")]).until(Until::Later),
                    m(&[close_statement("x"), sync()]),
                    params(ONE, &[]),
                ],
            ),
            (
                "errors in a transaction",
                1,
                vec![
                    q("begin"),
                    params(ONE, &[]),
                    params("bogus", &[]),
                    params(ONE, &[]),
                    q(ONE),
                    params("rollback", &[]),
                    params(ONE, &[]),
                    params("begin", &[]),
                    params(ONE, &[]),
                    params("select 1/0", &[]),
                    params("commit", &[]),
                    params(ONE, &[]),
                ],
            ),
            (
                "transactions in the extended protocol",
                3,
                all(&[
                    "begin",
                    ONE,
                    "commit",
                    "start transaction read only",
                    ONE,
                    "rollback",
                    "begin isolation level serializable",
                    ONE,
                    "commit",
                    "begin",
                    "begin",
                    ONE,
                    "commit",
                    "commit",
                    "begin",
                    "savepoint a",
                    ONE,
                    "rollback to a",
                    "release a",
                    "end",
                    ONE,
                ]),
            ),
            (
                "several batches in one write",
                2,
                vec![
                    Step { send: Bytes::from(one.repeat(5)), until: Until::Ready(5) },
                    Step {
                        send: Bytes::from(
                            [one.repeat(3), query("select 1").to_vec(), one.repeat(2), query(ONE).to_vec()]
                                .concat(),
                        ),
                        until: Until::Ready(7),
                    },
                    m(&[sync(), sync(), flush(), sync()]),
                    m(&[flush()]),
                    params(ONE, &[]),
                ],
            ),
            (
                "long texts",
                0,
                vec![
                    q(&long),
                    params(&long, &[]),
                    prepare("s", &long),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    prepare("", &long),
                    run_named("", &[]),
                    m(&[close_statement("s"), sync()]),
                    run_named("s", &[]),
                    prepare("t", "select length($1::text)"),
                    run_named("t", &[Some(&long)]),
                    run_named("t", &[Some("short")]),
                    params(ONE, &[]),
                    params("select length($1)", &[Some(&long)]),
                ],
            ),
            (
                "a long unnamed statement first",
                0,
                vec![
                    m(&[parse("", &long, &[]), sync()]),
                    m(&[bind("", "", &[]), execute("", 0), sync()]),
                    q(ONE),
                ],
            ),
            (
                "a long unnamed statement, flushed",
                0,
                vec![
                    m(&[parse("", &long, &[]), describe_statement(""), flush()]).until(Until::Tag(b'T')),
                    m(&[bind("", "", &[]), execute("", 0), sync()]),
                    q(ONE),
                ],
            ),
            (
                "a taken name and a long text",
                0,
                vec![
                    prepare("s", ONE),
                    prepare("s", &long),
                    run_named("s", &[]),
                    prepare("l", &long),
                    prepare("l", ONE),
                    run_named("l", &[]),
                ],
            ),
            (
                "malformed",
                0,
                vec![
                    prepare("s", ONE),
                    m(&[message(b'B', b"\0s\0"), sync()]),
                    run_named("s", &[]),
                    m(&[message(b'D', b"Xs\0"), sync()]),
                    run_named("s", &[]),
                    m(&[message(b'Q', b"select 1")]),
                    run_named("s", &[]),
                    m(&[message(b'E', b"\0"), sync()]),
                    run_named("s", &[]),
                    q(ONE),
                ],
            ),
            (
                "errors and notices before any Sync",
                0,
                vec![
                    params(ONE, &[]),
                    m(&[parse("", "select 1/0", &[]), bind("", "", &[]), execute("", 0)])
                        .until(Until::Tag(b'E')),
                    m(&[parse("", ONE, &[]), sync()]),
                    m(&[parse("", "select noisy(3)", &[]), bind("", "", &[]), execute("", 0)])
                        .until(Until::Tag(b'N')),
                    m(&[sync()]),
                    params(ONE, &[]),
                ],
            ),
            (
                "notices",
                0,
                vec![
                    params("select noisy($1)", &[Some("3")]),
                    params("select failing()", &[]),
                    prepare("n", "select noisy(id) from fixed where id < 3"),
                    run_named("n", &[]),
                    params(ONE, &[]),
                ],
            ),
        ]
    })
    .await;
}
