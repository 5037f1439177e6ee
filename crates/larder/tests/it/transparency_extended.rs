//! The extended protocol, in every order in which a driver uses it and in some in which none does.

use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_testkit::frame::{
    bind, bind_formats, close_portal, close_statement, copy_data, copy_done, copy_fail, describe_portal,
    describe_statement, execute, flush, message, parse, query, sync,
};
use larder_testkit::{Frame, RawClient, Script, Step, Until};

use crate::transparency::{RESET, Scripts, VERSIONS, compare_all, pair, q};

const ONE: &str = "select v from fixed where id = 1";
const BY_ID: &str = "select id, v, n, b, f, at from fixed where id = $1";

fn m(messages: &[Bytes]) -> Step {
    Step::messages(messages)
}

/// Parse, Bind, Describe, Execute, Sync without names: PQexecParams.
fn params(sql: &str, parameters: &[Option<&str>]) -> Step {
    Step::extended(sql, parameters)
}

/// One step for each text, without parameters.
fn all(texts: &[&str]) -> Script {
    texts.iter().map(|text| params(text, &[])).collect()
}

/// Bind, Describe, Execute, Sync of a named statement: PQexecPrepared.
fn run_named(name: &str, parameters: &[Option<&str>]) -> Step {
    m(&[bind("", name, parameters), describe_portal(""), execute("", 0), sync()])
}

/// Parse, Describe, Sync: PQprepare with a description, tokio-postgres's prepare.
fn prepare(name: &str, sql: &str) -> Step {
    m(&[parse(name, sql, &[]), describe_statement(name), sync()])
}

/// Parse, Describe, Flush: asyncpg's prepare. The end of the answer is that of the description.
fn prepare_flush(name: &str, sql: &str) -> Step {
    m(&[parse(name, sql, &[]), describe_statement(name), flush()]).until(Until::Tag(b'T'))
}

fn drivers() -> Scripts {
    let binary = |portal: &str, name: &str, id: i32| {
        bind_formats(portal, name, &[1], &[Some(&id.to_be_bytes())], &[1])
    };
    vec![
        (
            "libpq, params",
            3,
            vec![
                params(BY_ID, &[Some("3")]),
                params(BY_ID, &[Some("4")]),
                params(BY_ID, &[Some("3")]),
                params(BY_ID, &[None]),
                params(BY_ID, &[Some("x")]),
                params(BY_ID, &[Some("3")]),
                params("", &[]),
                params(ONE, &[]),
            ],
        ),
        (
            "libpq, prepared",
            3,
            vec![
                m(&[parse("s", BY_ID, &[]), sync()]),
                run_named("s", &[Some("3")]),
                run_named("s", &[Some("4")]),
                run_named("s", &[Some("3")]),
                run_named("s", &[None]),
                m(&[describe_statement("s"), sync()]),
                q("deallocate s"),
                run_named("s", &[Some("3")]),
            ],
        ),
        (
            "libpq, prepared, binary",
            2,
            vec![
                m(&[parse("s", BY_ID, &[23]), sync()]),
                m(&[binary("", "s", 3), describe_portal(""), execute("", 0), sync()]),
                m(&[binary("", "s", 4), describe_portal(""), execute("", 0), sync()]),
                m(&[binary("", "s", 3), describe_portal(""), execute("", 0), sync()]),
            ],
        ),
        (
            "JDBC",
            2,
            vec![
                m(&[
                    parse("", "BEGIN", &[]),
                    bind("", "", &[]),
                    execute("", 0),
                    parse("", BY_ID, &[23]),
                    bind("", "", &[Some("3")]),
                    describe_portal(""),
                    execute("", 0),
                    sync(),
                ]),
                m(&[
                    parse("", BY_ID, &[23]),
                    bind("", "", &[Some("4")]),
                    describe_portal(""),
                    execute("", 0),
                    sync(),
                ]),
                m(&[parse("S_1", "COMMIT", &[]), bind("", "S_1", &[]), execute("", 1), sync()]),
                m(&[
                    parse("S_2", "BEGIN", &[]),
                    bind("", "S_2", &[]),
                    execute("", 0),
                    parse("S_3", BY_ID, &[23]),
                    bind("", "S_3", &[Some("5")]),
                    describe_portal(""),
                    execute("", 0),
                    sync(),
                ]),
                m(&[bind("", "S_1", &[]), execute("", 1), sync()]),
                m(&[
                    bind("", "S_2", &[]),
                    execute("", 0),
                    bind("", "S_3", &[Some("5")]),
                    execute("", 0),
                    sync(),
                ]),
                m(&[bind("", "S_1", &[]), execute("", 1), sync()]),
            ],
        ),
        (
            "asyncpg",
            2,
            vec![
                prepare_flush("__asyncpg_1__", BY_ID),
                m(&[
                    bind_formats("", "__asyncpg_1__", &[1], &[Some(&[0, 0, 0, 3])], &[1]),
                    execute("", 0),
                    sync(),
                ]),
                m(&[binary("", "__asyncpg_1__", 4), execute("", 0), sync()]),
                m(&[close_statement("__asyncpg_1__"), sync()]),
                prepare_flush("__asyncpg_2__", ONE),
                m(&[bind_formats("", "__asyncpg_2__", &[], &[], &[1]), execute("", 0), sync()]),
            ],
        ),
        (
            "tokio-postgres",
            3,
            vec![
                prepare("s0", BY_ID),
                m(&[binary("", "s0", 3), execute("", 0), sync()]),
                m(&[binary("", "s0", 4), execute("", 0), sync()]),
                m(&[close_statement("s0"), sync()]),
                prepare("s1", ONE),
                m(&[bind_formats("", "s1", &[], &[], &[1]), execute("", 0), sync()]),
                m(&[close_statement("s1"), sync()]),
            ],
        ),
        (
            "sqlx",
            2,
            vec![
                m(&[parse("sqlx_s_1", BY_ID, &[23]), describe_statement("sqlx_s_1"), sync()]),
                m(&[binary("", "sqlx_s_1", 3), execute("", 0), close_portal(""), sync()]),
                m(&[binary("", "sqlx_s_1", 3), execute("", 0), close_portal(""), sync()]),
                m(&[parse("", ONE, &[]), describe_statement(""), sync()]),
                m(&[bind("", "", &[]), execute("", 0), close_portal(""), sync()]),
            ],
        ),
        (
            "node pg",
            2,
            vec![
                params(BY_ID, &[Some("3")]),
                params(BY_ID, &[Some("3")]),
                m(&[
                    parse("named", BY_ID, &[]),
                    bind("", "named", &[Some("3")]),
                    describe_portal(""),
                    execute("", 0),
                    sync(),
                ]),
                m(&[bind("", "named", &[Some("3")]), describe_portal(""), execute("", 0), sync()]),
            ],
        ),
        (
            "epgsql",
            0,
            vec![
                m(&[parse("", BY_ID, &[23]), describe_statement(""), flush()]).until(Until::Tag(b'T')),
                m(&[bind("", "", &[Some("3")]), flush()]).until(Until::Tag(b'2')),
                m(&[execute("", 0), flush()]).until(Until::Tag(b'C')),
                m(&[sync()]),
                params(BY_ID, &[Some("3")]),
            ],
        ),
        (
            "libpq pipeline",
            0,
            vec![
                m(&[
                    parse("", BY_ID, &[]),
                    bind("", "", &[Some("1")]),
                    describe_portal(""),
                    execute("", 0),
                    parse("", BY_ID, &[]),
                    bind("", "", &[Some("2")]),
                    describe_portal(""),
                    execute("", 0),
                    sync(),
                    parse("", BY_ID, &[]),
                    bind("", "", &[Some("x")]),
                    describe_portal(""),
                    execute("", 0),
                    parse("", BY_ID, &[]),
                    bind("", "", &[Some("2")]),
                    describe_portal(""),
                    execute("", 0),
                    sync(),
                    parse("", BY_ID, &[]),
                    bind("", "", &[Some("3")]),
                    describe_portal(""),
                    execute("", 0),
                    sync(),
                ]),
                params(ONE, &[]),
            ],
        ),
    ]
}

#[tokio::test]
async fn as_drivers_do() {
    compare_all(drivers).await;
}

#[tokio::test]
async fn statements() {
    compare_all(|| {
        vec![
            (
                "a name taken",
                1,
                vec![
                    prepare("s", ONE),
                    prepare("s", ONE),
                    prepare("s", BY_ID),
                    run_named("s", &[]),
                    m(&[parse("s", "select 2", &[]), bind("", "s", &[]), execute("", 0), sync()]),
                    run_named("s", &[]),
                ],
            ),
            (
                "a name taken twice in one batch",
                0,
                vec![
                    m(&[parse("s", ONE, &[]), sync()]),
                    m(&[close_statement("s"), sync()]),
                    m(&[parse("s", ONE, &[]), parse("s", ONE, &[]), sync()]),
                    run_named("s", &[]),
                ],
            ),
            (
                "unknown names",
                0,
                vec![
                    run_named("nobody", &[]),
                    m(&[describe_statement("nobody"), sync()]),
                    m(&[describe_portal("nobody"), sync()]),
                    m(&[execute("nobody", 0), sync()]),
                    m(&[close_statement("nobody"), sync()]),
                    m(&[close_portal("nobody"), sync()]),
                    run_named("", &[]),
                ],
            ),
            (
                "describe",
                1,
                vec![
                    prepare("s", BY_ID),
                    m(&[describe_statement("s"), sync()]),
                    prepare("w", "insert into moving values ($1, $2)"),
                    m(&[describe_statement("w"), sync()]),
                    prepare("e", ""),
                    m(&[describe_statement("e"), sync()]),
                    prepare("b", "begin"),
                    m(&[describe_statement("b"), sync()]),
                    m(&[bind("", "s", &[Some("1")]), describe_portal(""), sync()]),
                    m(&[
                        bind_formats("", "s", &[], &[Some(b"1")], &[0, 1, 0, 1, 0, 1]),
                        describe_portal(""),
                        execute("", 0),
                        sync(),
                    ]),
                ],
            ),
            (
                "closed",
                2,
                vec![
                    prepare("s", ONE),
                    run_named("s", &[]),
                    m(&[close_statement("s"), sync()]),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    m(&[close_statement("s"), parse("s", BY_ID, &[]), sync()]),
                    run_named("s", &[Some("1")]),
                    m(&[close_statement("s"), bind("", "s", &[Some("1")]), execute("", 0), sync()]),
                    run_named("s", &[Some("1")]),
                ],
            ),
            (
                "deallocated",
                2,
                vec![
                    prepare("s", ONE),
                    prepare("t", ONE),
                    run_named("s", &[]),
                    q("deallocate s"),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    run_named("s", &[]),
                    q("deallocate all"),
                    run_named("s", &[]),
                    run_named("t", &[]),
                    prepare("s", ONE),
                    q("discard all"),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    run_named("s", &[]),
                    q("deallocate nobody"),
                    q("deallocate \"s\""),
                ],
            ),
            (
                "deallocated in the extended protocol",
                0,
                vec![
                    prepare("s", ONE),
                    params("deallocate s", &[]),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    params("deallocate all", &[]),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    params("deallocate nobody", &[]),
                    run_named("s", &[]),
                    prepare("t", ONE),
                    params("discard all", &[]),
                    run_named("t", &[]),
                ],
            ),
            (
                "deallocated among others",
                0,
                vec![
                    prepare("s", ONE),
                    q("select 1; deallocate s"),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    q("select 1; deallocate all; select 2"),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    q("begin; deallocate s; rollback"),
                    run_named("s", &[]),
                    prepare("s", ONE),
                ],
            ),
            (
                "deallocated in a failed transaction",
                0,
                vec![
                    prepare("s", ONE),
                    q("begin"),
                    q("bogus"),
                    q("deallocate s"),
                    q("rollback"),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    q("deallocate s"),
                    run_named("s", &[]),
                ],
            ),
            (
                "prepared in SQL",
                0,
                vec![
                    q("prepare p as select v from fixed where id = 1"),
                    run_named("p", &[]),
                    prepare("p", ONE),
                    m(&[close_statement("p"), sync()]),
                    prepare("p", ONE),
                    q("execute p"),
                    q("prepare p as select 1"),
                    params("execute p", &[]),
                    q("select 1; prepare x as select 2"),
                    prepare("x", ONE),
                    run_named("x", &[]),
                ],
            ),
            (
                "prepared here, executed in SQL",
                0,
                vec![
                    prepare("s", BY_ID),
                    q("execute s(3)"),
                    q("execute s('x')"),
                    prepare("t", ONE),
                    params("execute t", &[]),
                    prepare("u", ONE),
                    prepare("e", "execute u"),
                    run_named("e", &[]),
                    prepare("x", ONE),
                    q("select 1; execute x"),
                    q("set timezone = 'UTC'"),
                    prepare("y", ONE),
                    q("execute y"),
                ],
            ),
            (
                "prepared, then settings change",
                0,
                vec![
                    prepare("s", "select at from fixed where id = 1"),
                    q("set timezone = 'Asia/Tokyo'"),
                    q("execute s"),
                    run_named("s", &[]),
                    q("set search_path = nowhere"),
                    run_named("s", &[]),
                    q("reset search_path"),
                    run_named("s", &[]),
                    q("begin"),
                    q("set local timezone = 'UTC'"),
                    run_named("s", &[]),
                    q("execute s"),
                    q("rollback"),
                    run_named("s", &[]),
                ],
            ),
            (
                "unnamed statement and simple queries",
                2,
                vec![
                    prepare("", ONE),
                    run_named("", &[]),
                    q(ONE),
                    run_named("", &[]),
                    prepare("", ONE),
                    q("select 1"),
                    run_named("", &[]),
                    prepare("", ONE),
                    q("bogus"),
                    run_named("", &[]),
                    prepare("", ONE),
                    q(""),
                    run_named("", &[]),
                    prepare("", BY_ID),
                    q("begin"),
                    run_named("", &[Some("1")]),
                    q("rollback"),
                    prepare("", ONE),
                    m(&[close_statement(""), sync()]),
                    run_named("", &[]),
                ],
            ),
            (
                "unnamed statement, failing",
                0,
                vec![
                    prepare("", ONE),
                    prepare("", "bogus"),
                    run_named("", &[]),
                    prepare("", ONE),
                    m(&[execute("nobody", 0), parse("", "select 5", &[]), sync()]),
                    run_named("", &[]),
                ],
            ),
            (
                "prepared before an error",
                0,
                vec![
                    m(&[execute("nobody", 0), parse("s", ONE, &[]), sync()]),
                    run_named("s", &[]),
                    prepare("s", ONE),
                    run_named("s", &[]),
                    m(&[execute("nobody", 0), close_statement("s"), sync()]),
                    run_named("s", &[]),
                    prepare("s", ONE),
                ],
            ),
            (
                "described behind a skipped parse",
                0,
                vec![
                    prepare("", "select noisy($1)"),
                    m(&[
                        execute("nobody", 0),
                        parse("", "select f from fixed", &[]),
                        sync(),
                        describe_statement(""),
                        sync(),
                    ]),
                    prepare("", "select f from fixed"),
                ],
            ),
            (
                "an older unnamed statement",
                0,
                vec![
                    m(&[parse("", "select n from moving", &[]), bind("", "", &[]), execute("", 0), sync()]),
                    params(ONE, &[]),
                    q(ONE),
                    run_named("", &[]),
                ],
            ),
            (
                "sent ahead behind an error",
                0,
                vec![
                    prepare("s", BY_ID),
                    m(&[execute("nobody", 0), bind("", "s", &[Some("17")]), execute("", 0), sync()]),
                    run_named("s", &[Some("17")]),
                    m(&[describe_statement("s"), sync()]),
                ],
            ),
            (
                "needed in a failed transaction",
                0,
                vec![
                    prepare("s", BY_ID),
                    q("begin"),
                    q("bogus"),
                    run_named("s", &[Some("3")]),
                    q("rollback"),
                    run_named("s", &[Some("3")]),
                    prepare("t", ONE),
                    q("begin"),
                    q("bogus"),
                    q("execute t"),
                    q("deallocate t"),
                    prepare("u", ONE),
                    m(&[close_statement("t"), sync()]),
                    q("rollback"),
                    run_named("t", &[]),
                    run_named("u", &[]),
                ],
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn portals() {
    compare_all(|| {
        vec![
            (
                "executed twice",
                0,
                vec![
                    m(&[parse("", ONE, &[]), bind("", "", &[]), execute("", 0), execute("", 0), sync()]),
                    m(&[parse("", ONE, &[]), bind("", "", &[]), execute("", 0), sync()]),
                    m(&[execute("", 0), sync()]),
                    m(&[
                        parse("", ONE, &[]),
                        bind("", "", &[]),
                        describe_portal(""),
                        execute("", 0),
                        execute("", 0),
                        describe_portal(""),
                        sync(),
                    ]),
                ],
            ),
            (
                "bound and executed apart",
                0,
                vec![
                    m(&[parse("", ONE, &[]), bind("", "", &[]), describe_portal(""), flush()])
                        .until(Until::Tag(b'T')),
                    m(&[execute("", 0), sync()]),
                    m(&[bind("", "", &[]), flush()]).until(Until::Tag(b'2')),
                    m(&[execute("", 0), flush()]).until(Until::Tag(b'C')),
                    m(&[execute("", 0), sync()]),
                    params(ONE, &[]),
                ],
            ),
            (
                "in a transaction",
                1,
                vec![
                    q("begin"),
                    m(&[parse("", ONE, &[]), bind("", "", &[]), describe_portal(""), sync()]),
                    m(&[execute("", 0), sync()]),
                    params(ONE, &[]),
                    q("rollback"),
                    q("begin"),
                    params(ONE, &[]),
                    q("commit"),
                    m(&[execute("", 0), sync()]),
                ],
            ),
            (
                "named",
                1,
                vec![
                    q("begin"),
                    m(&[
                        parse("s", BY_ID, &[]),
                        bind("p", "s", &[Some("1")]),
                        bind("r", "s", &[Some("2")]),
                        sync(),
                    ]),
                    m(&[execute("r", 0), execute("p", 0), describe_portal("p"), sync()]),
                    m(&[bind("p", "s", &[Some("3")]), sync()]),
                    q("rollback"),
                    q("begin"),
                    m(&[
                        bind("p", "s", &[Some("3")]),
                        close_portal("p"),
                        bind("p", "s", &[Some("4")]),
                        execute("p", 0),
                        sync(),
                    ]),
                    params(ONE, &[]),
                    q("commit"),
                    m(&[execute("p", 0), sync()]),
                ],
            ),
            (
                "row limit",
                0,
                vec![
                    m(&[
                        parse("", "select id from fixed order by id", &[]),
                        bind("", "", &[]),
                        execute("", 5),
                        execute("", 5),
                        execute("", 0),
                        sync(),
                    ]),
                    q("begin"),
                    m(&[bind("c", "", &[]), sync()]),
                    m(&[
                        parse("", "select id from fixed order by id", &[]),
                        bind("c", "", &[]),
                        execute("c", 3),
                        sync(),
                    ]),
                    q("rollback"),
                    q("begin"),
                    m(&[
                        parse("s", "select id from fixed order by id", &[]),
                        bind("c", "s", &[]),
                        describe_portal("c"),
                        execute("c", 7),
                        sync(),
                    ]),
                    m(&[execute("c", 7), sync()]),
                    m(&[execute("c", 7), sync()]),
                    m(&[execute("c", 7), close_portal("c"), sync()]),
                    q("commit"),
                    m(&[
                        parse("", "select id from fixed order by id", &[]),
                        bind("", "", &[]),
                        execute("", 21),
                        sync(),
                    ]),
                    m(&[
                        parse("", "select id from fixed order by id", &[]),
                        bind("", "", &[]),
                        execute("", -1),
                        sync(),
                    ]),
                ],
            ),
            (
                "writes",
                0,
                vec![
                    q(RESET),
                    params("update moving set n = n + $1 where id = 2 returning n", &[Some("5")]),
                    params("select sum(n) from moving", &[]),
                    params("delete from moving", &[]),
                    params("select count(*) from moving", &[]),
                    params("insert into moving values ($1, $2, $3)", &[Some("1"), Some("1"), None]),
                    params("select * from moving", &[]),
                ],
            ),
            (
                "own uncommitted writes in a batch",
                0,
                vec![
                    q(RESET),
                    params("select sum(n) from moving", &[]),
                    m(&[
                        parse("", "update moving set n = 0", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        parse("", "select sum(n) from moving", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        parse("", "select 1/0", &[]),
                        bind("", "", &[]),
                        execute("", 0),
                        sync(),
                    ]),
                    params("select sum(n) from moving", &[]),
                ],
            ),
        ]
    })
    .await;
}

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

#[tokio::test]
async fn extended_copy() {
    let d = |text: &str| copy_data(text.as_bytes());
    let start = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)];
    let count = || q("select count(*), min(v) from copied");
    compare_all(|| {
        let into = start("copy copied from stdin");
        let copy = |parts: &[&[Bytes]], until: Until| {
            vec![q(RESET), m(&parts.concat()).until(until), q(ONE), params(ONE, &[]), count()]
        };
        vec![
            (
                "out",
                0,
                vec![
                    params("copy (select v from fixed where id < 3) to stdout", &[]),
                    params("copy missing to stdout", &[]),
                    q(ONE),
                ],
            ),
            (
                "in, at once",
                0,
                copy(&[&into, &[d("1\tone\n"), d("2\ttwo\n"), copy_done(), sync()]], Until::Ready(1)),
            ),
            (
                "in, with a sync before",
                0,
                copy(&[&into, &[sync(), d("1\tone\n"), flush(), copy_done(), sync()]], Until::Ready(1)),
            ),
            (
                "in, after the answer",
                0,
                vec![
                    q(RESET),
                    m(&[&into[..], &[flush()]].concat()).until(Until::Tag(b'G')),
                    m(&[d("1\tone\n"), copy_done(), sync()]),
                    count(),
                ],
            ),
            (
                "in, after the answer to a sync",
                0,
                vec![
                    q(RESET),
                    m(&[&into[..], &[sync()]].concat()).until(Until::Tag(b'G')),
                    m(&[d("1\tone\n"), copy_done(), sync()]),
                    count(),
                    params(ONE, &[]),
                ],
            ),
            (
                "failed by the client",
                0,
                copy(&[&into, &[d("1\tone\n"), copy_fail("no more"), sync()]], Until::Ready(1)),
            ),
            (
                "bad row",
                0,
                copy(&[&into, &[d("x\tone\n"), d("2\ttwo\n"), copy_done(), sync()]], Until::Ready(1)),
            ),
            (
                "bad row, more after",
                0,
                copy(
                    &[
                        &into,
                        &[d("x\tone\n"), copy_done(), close_portal("x"), sync(), query("select 1"), sync()],
                    ],
                    Until::Ready(3),
                ),
            ),
            (
                "into nothing",
                0,
                copy(
                    &[&start("copy missing from stdin"), &[d("1\tone\n"), copy_done(), sync()]],
                    Until::Ready(1),
                ),
            ),
            (
                "in a transaction",
                0,
                vec![
                    q(RESET),
                    q("begin"),
                    m(&[&into[..], &[d("1\tone\n"), copy_done(), sync()]].concat()),
                    count(),
                    q("rollback"),
                    count(),
                ],
            ),
        ]
    })
    .await;
}

/// A statement that only Larder knows, and other columns of its table: the origin would refuse to run it, and so must
/// Larder. Rows of the new columns would be read as if they were of the old.
#[tokio::test]
async fn columns_that_change_under_a_statement() {
    for version in VERSIONS {
        let pair = pair(version).await;
        pair.pg.sql("drop table if exists shape; create table shape as select 1 as a, 2 as b").unwrap();
        for round in 0..3 {
            let mut client = RawClient::superuser(pair.larder.addr()).await.unwrap();
            let named = [bind("", "s", &[]), execute("", 0), sync()];
            client
                .send_all(&[parse("s", "select * from shape", &[]), describe_statement("s"), sync()])
                .await
                .unwrap();
            let told = client.until_ready().await.unwrap();
            let columns = told.iter().find(|frame| frame.tag == b'T').unwrap().body[1];
            pair.pg.sql(&format!("alter table shape add column c{round} int")).unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            loop {
                client.send_all(&named).await.unwrap();
                let frames = client.until_ready_or_closed().await;
                if let Some(error) = frames.iter().find(|frame| frame.tag == b'E') {
                    assert_eq!(error.field(b'C').as_deref(), Some("0A000"), "{error:?}");
                    break;
                }
                let row = frames.iter().find(|frame| frame.tag == b'D').unwrap();
                assert_eq!(row.body[1], columns, "rows of other columns than the client was told of");
                assert!(Instant::now() < deadline, "the change is never noticed");
            }
        }
        pair.covered().await;
    }
}

/// Also ends where the session does.
trait UntilReadyOrClosed {
    async fn until_ready_or_closed(&mut self) -> Vec<Frame>;
}

impl UntilReadyOrClosed for RawClient {
    async fn until_ready_or_closed(&mut self) -> Vec<Frame> {
        let mut frames = vec![];
        while let Some(frame) = self.next().await.unwrap() {
            let ready = frame.tag == b'Z';
            frames.push(frame);
            if ready {
                break;
            }
        }
        frames
    }
}
