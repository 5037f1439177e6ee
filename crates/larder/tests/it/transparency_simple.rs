//! The simple protocol: queries in every state of a transaction, errors, notices, COPY, notifications, functions.

use larder_testkit::{Step, Until, frame};

use crate::transparency::{RESET, compare_all, q, queries};

#[tokio::test]
async fn simple_queries() {
    compare_all(|| {
        vec![
            (
                "reads",
                6,
                queries(&[
                    "select * from fixed order by id",
                    "select v from fixed where id = 7",
                    "select count(*), sum(n), avg(f) from fixed",
                    "select b, at, f from fixed where id in (1, 0)",
                    "SELECT v FROM fixed WHERE id = 7; ",
                    "/* a comment */ select v from fixed where id = 7 -- end",
                ]),
            ),
            (
                "empty and nothing",
                0,
                queries(&["", ";", " ; ;", "-- comment", "/* */", "select", "select 1 where false"]),
            ),
            (
                "several statements",
                1,
                queries(&[
                    "select 1; select v from fixed where id = 1; select 2",
                    "select v from fixed where id = 1",
                    "select 1; selekt 2; select 3",
                    "select 1; select 1/0; select 3",
                    "begin; select 1",
                    "select 2; commit",
                    "select 1;;select 2;",
                    "begin; select 1; rollback; select 2",
                ]),
            ),
            (
                "errors",
                2,
                queries(&[
                    "selekt 1",
                    "select * from missing",
                    "select nope from fixed",
                    "select 1/0",
                    "select v from fixed where id = 3",
                    "select v from fixed where id = 3",
                    "insert into moving values (null, 1)",
                    "select 'a'::int",
                    "select n from fixed where id = 'x'",
                    "select * from fixed where id = 3 limit -1",
                ]),
            ),
            (
                "notices",
                0,
                queries(&[
                    "select noisy(3)",
                    "select noisy(id) from fixed where id < 4",
                    "select failing()",
                    "do $$ begin raise warning 'careful'; end $$",
                    "drop table if exists never_there",
                    "commit",
                    "rollback",
                    "select v from fixed where id = 1",
                ]),
            ),
            (
                "writes",
                0,
                queries(&[
                    RESET,
                    "select * from moving order by id",
                    "update moving set n = n + 1 where id = 2",
                    "select * from moving order by id",
                    "delete from moving where id = 1 returning *",
                    "select * from moving order by id",
                    "insert into moving values (9, 9, 'nine') returning id, v",
                    "select count(*) from moving",
                ]),
            ),
            (
                "settings",
                1,
                queries(&[
                    "set timezone = 'Asia/Tokyo'",
                    "select at from fixed where id = 1",
                    "set datestyle = 'German'",
                    "select at from fixed where id = 1",
                    "set application_name = 'me'",
                    "set client_encoding = 'LATIN1'",
                    "select v from fixed where id = 1",
                    "reset client_encoding",
                    "show timezone",
                    "set extra_float_digits = -5",
                    "select f from fixed where id = 1",
                    "set bytea_output = 'escape'",
                    "select b from fixed where id = 1",
                    "set standard_conforming_strings = off",
                    "select 'a\\nb'",
                    "discard all",
                    "select at, f, b from fixed where id = 1",
                    "set nonsense = 1",
                    "set search_path = nowhere",
                    "select v from fixed where id = 1",
                ]),
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn simple_transactions() {
    compare_all(|| {
        vec![
            (
                "read only",
                2,
                queries(&[
                    "begin",
                    "select v from fixed where id = 1",
                    "select v from fixed where id = 2",
                    "commit",
                ]),
            ),
            (
                "rolled back",
                1,
                queries(&["begin", "select v from fixed where id = 1", "rollback", "select 1"]),
            ),
            (
                "empty",
                0,
                queries(&["begin", "commit", "begin", "rollback", "begin", "end", "begin", "abort"]),
            ),
            (
                "error after a deferred begin",
                1,
                queries(&[
                    "begin",
                    "select v from fixed where id = 1",
                    "selekt",
                    "select 1",
                    "select v from fixed where id = 1",
                    "begin",
                    "commit",
                    "select v from fixed where id = 1",
                ]),
            ),
            (
                "error at once",
                0,
                queries(&["begin", "select 1/0", "savepoint a", "rollback", "begin", "bogus", "commit"]),
            ),
            ("begin in begin", 0, queries(&["begin", "begin", "commit", "commit", "rollback"])),
            (
                "variants",
                3,
                queries(&[
                    "start transaction",
                    "select v from fixed where id = 1",
                    "commit",
                    "begin work",
                    "select v from fixed where id = 1",
                    "commit work",
                    "begin transaction read only",
                    "select v from fixed where id = 1",
                    "insert into moving values (77, 1)",
                    "rollback transaction",
                    "begin isolation level serializable",
                    "select v from fixed where id = 1",
                    "commit",
                    "begin isolation level repeatable read, read only",
                    "select v from fixed where id = 1",
                    "end",
                    "begin isolation level read committed",
                    "select v from fixed where id = 1",
                    "commit and chain",
                    "select v from fixed where id = 1",
                    "rollback and chain",
                    "rollback",
                    "begin read write deferrable",
                    "abort",
                    "start transaction isolation level read uncommitted",
                    "select 1",
                    "show transaction_isolation",
                    "commit",
                ]),
            ),
            (
                "savepoints",
                1,
                queries(&[
                    RESET,
                    "begin",
                    "select v from fixed where id = 1",
                    "savepoint a",
                    "update moving set n = 0",
                    "select sum(n) from moving",
                    "rollback to a",
                    "select sum(n) from moving",
                    "release a",
                    "savepoint b",
                    "select 1/0",
                    "rollback to b",
                    "select sum(n) from moving",
                    "commit",
                    "select sum(n) from moving",
                ]),
            ),
            (
                "set transaction",
                0,
                queries(&[
                    "begin",
                    "set transaction isolation level repeatable read",
                    "select v from fixed where id = 1",
                    "commit",
                    "begin",
                    "select v from fixed where id = 1",
                    "set transaction isolation level serializable",
                    "rollback",
                    "set transaction read only",
                    "set session characteristics as transaction isolation level serializable",
                    "begin",
                    "select v from fixed where id = 1",
                    "show transaction_isolation",
                    "commit",
                ]),
            ),
            (
                "set local",
                0,
                queries(&[
                    "begin",
                    "set local timezone = 'Asia/Tokyo'",
                    "select at from fixed where id = 1",
                    "commit",
                    "select at from fixed where id = 1",
                    "begin",
                    "set timezone = 'Asia/Tokyo'",
                    "select at from fixed where id = 1",
                    "rollback",
                    "select at from fixed where id = 1",
                ]),
            ),
            (
                "own writes",
                0,
                queries(&[
                    RESET,
                    "begin",
                    "select sum(n) from moving",
                    "update moving set n = 1",
                    "select sum(n) from moving",
                    "rollback",
                    "select sum(n) from moving",
                ]),
            ),
            (
                "cursors",
                0,
                queries(&[
                    "begin",
                    "declare c cursor for select id from fixed order by id",
                    "fetch 3 from c",
                    "move 2 in c",
                    "fetch 1 from c",
                    "close c",
                    "fetch 1 from c",
                    "rollback",
                    "fetch 1 from c",
                ]),
            ),
            (
                "set transaction after reads",
                1,
                queries(&[
                    "begin",
                    "select v from fixed where id = 1",
                    "set transaction isolation level serializable",
                    "rollback",
                    "begin",
                    "select v from fixed where id = 1",
                    "savepoint a",
                    "set transaction isolation level serializable",
                    "commit",
                    "begin",
                    "select v from fixed where id = 1",
                    "commit",
                    "begin",
                    "set transaction isolation level serializable",
                    "show transaction_isolation",
                    "select v from fixed where id = 1",
                    "commit",
                ]),
            ),
            (
                "prepared transaction",
                0,
                queries(&[
                    "begin",
                    "prepare transaction 'x'",
                    "rollback prepared 'x'",
                    "select v from fixed where id = 1",
                    "rollback prepared 'x'",
                ]),
            ),
            (
                "only a sync",
                0,
                vec![
                    q("begin"),
                    Step::messages(&[frame::sync()]),
                    q("select 1"),
                    q("commit"),
                    Step::messages(&[frame::sync()]),
                    Step::messages(&[frame::sync(), frame::sync()]),
                ],
            ),
            (
                "pipelined queries",
                3,
                vec![
                    Step::messages(
                        &[
                            "begin",
                            "select v from fixed where id = 1",
                            "select 1/0",
                            "select v from fixed where id = 1",
                            "rollback",
                            "select v from fixed where id = 1",
                            "select v from fixed where id = 2",
                        ]
                        .map(frame::query),
                    ),
                    Step::messages(
                        &[
                            "select v from fixed where id = 1",
                            "select v from fixed where id = 2",
                            "select v from fixed where id = 3",
                        ]
                        .map(frame::query),
                    ),
                ],
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn sql_level_prepared_statements() {
    compare_all(|| {
        vec![
            (
                "prepare and execute",
                0,
                queries(&[
                    "prepare a (int) as select v from fixed where id = $1",
                    "execute a(3)",
                    "execute a(4)",
                    "prepare a as select 1",
                    "execute b",
                    "execute a",
                    "deallocate a",
                    "execute a(3)",
                    "deallocate a",
                    "prepare a as select 1",
                    "deallocate all",
                    "execute a",
                    "prepare a as select 2",
                    "discard all",
                    "execute a",
                    "select v from fixed where id = 1",
                ]),
            ),
            (
                "in a transaction",
                0,
                queries(&["begin", "prepare a as select 1", "rollback", "execute a", "deallocate prepare a"]),
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn simple_copy() {
    let d = |text: &str| frame::copy_data(text.as_bytes());
    let into = || frame::query("copy copied from stdin");
    let count = || q("select count(*), min(v) from copied");
    compare_all(|| {
        let ask_then_send = |messages: &[bytes::Bytes]| {
            vec![
                q(RESET),
                Step::messages(&[into()]).until(Until::Tag(b'G')),
                Step::messages(messages).until(Until::Ready(1)),
                count(),
            ]
        };
        vec![
            (
                "out",
                1,
                queries(&[
                    "copy fixed to stdout",
                    "copy (select v from fixed where id = 1) to stdout (format csv)",
                    "copy missing to stdout",
                    "copy (select 1/0) to stdout",
                    "select v from fixed where id = 1",
                    "select v from fixed where id = 1",
                    "copy fixed to stdout; select 1",
                ]),
            ),
            ("in", 0, ask_then_send(&[d("1\tone\n"), d("2\ttwo\n3\t"), d("three\n"), frame::copy_done()])),
            ("in, then a read at once", 0, {
                let mut script = ask_then_send(&[d("1\tone\n"), frame::copy_done()]);
                script.push(Step::messages(&[
                    into(),
                    d("7\tx\n"),
                    frame::copy_done(),
                    frame::query("select count(*) from copied"),
                ]));
                script.push(
                    Step::messages(&[into(), d("7\tx\n"), frame::copy_done(), frame::sync(), frame::sync()])
                        .until(Until::Ready(3)),
                );
                script.extend([q("select v from fixed where id = 1"), count()]);
                script
            }),
            ("failed by the client", 0, ask_then_send(&[d("1\tone\n"), frame::copy_fail("no more")])),
            (
                "bad row",
                0,
                ask_then_send(&[d("1\tone\n"), d("two\ttwo\n"), d("3\tthree\n"), frame::copy_done()]),
            ),
            ("bad row and another query", 0, {
                let mut script = ask_then_send(&[d("x\tone\n"), d("two\ttwo\n"), frame::copy_done()]);
                script.extend([
                    q("select v from fixed where id = 1"),
                    q("select v from fixed where id = 1"),
                    Step::messages(&[d("stray")]),
                    Step::messages(&[frame::copy_done()]),
                    q("select 5"),
                ]);
                script
            }),
            (
                "into nothing",
                0,
                vec![
                    Step::messages(&[frame::query("copy missing from stdin"), d("1\n"), frame::copy_done()]),
                    q("select v from fixed where id = 1"),
                ],
            ),
            (
                "another query in the middle",
                0,
                vec![
                    q(RESET),
                    Step::messages(&[into()]).until(Until::Tag(b'G')),
                    Step::messages(&[d("1\tone\n"), frame::query("select 1")]).until(Until::Closed),
                ],
            ),
            (
                "flush and sync in the middle",
                0,
                ask_then_send(&[
                    d("1\tone\n"),
                    frame::flush(),
                    frame::sync(),
                    d("2\ttwo\n"),
                    frame::copy_done(),
                ]),
            ),
            (
                "in a transaction",
                0,
                vec![
                    q(RESET),
                    q("begin"),
                    Step::messages(&[into()]).until(Until::Tag(b'G')),
                    Step::messages(&[d("1\tone\n"), frame::copy_done()]).until(Until::Ready(1)),
                    count(),
                    q("rollback"),
                    count(),
                ],
            ),
            (
                "two copies in one query",
                0,
                vec![
                    q(RESET),
                    Step::messages(&[
                        frame::query("copy copied from stdin; copy copied from stdin; select 3"),
                        d("1\ta\n"),
                        frame::copy_done(),
                        d("2\tb\n"),
                        frame::copy_done(),
                    ])
                    .until(Until::Ready(1)),
                    count(),
                    count(),
                ],
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn notifications_and_function_calls() {
    compare_all(|| {
        vec![
            (
                "listen and notify oneself",
                0,
                queries(&[
                    "listen news",
                    "notify news, 'one'",
                    "select v from fixed where id = 1",
                    "begin",
                    "notify news, 'two'",
                    "select v from fixed where id = 1",
                    "commit",
                    "select pg_notify('news', 'three')",
                    "unlisten *",
                    "notify news",
                    "select v from fixed where id = 1",
                ]),
            ),
            // 1263 is int4abs... by number, as the fast path wants it: 2167 = ceil(numeric) and 1397 = abs(int4).
            (
                "function calls",
                0,
                vec![
                    Step::messages(&[frame::function_call(1397, &[Some("-5")])]),
                    q("select v from fixed where id = 1"),
                    Step::messages(&[frame::function_call(1397, &[None])]),
                    Step::messages(&[frame::function_call(1397, &[Some("x")])]),
                    Step::messages(&[frame::function_call(999_999, &[])]),
                    q("begin"),
                    Step::messages(&[frame::function_call(1397, &[Some("1")])]),
                    Step::messages(&[frame::function_call(1397, &[Some("x")])]),
                    q("select 1"),
                    q("rollback"),
                    q("select v from fixed where id = 1"),
                ],
            ),
        ]
    })
    .await;
}
