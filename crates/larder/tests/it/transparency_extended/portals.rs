//! Portals: named, fetched in parts, described, closed.

use larder_testkit::Until;
use larder_testkit::frame::{
    bind, close_portal, close_statement, describe_portal, execute, flush, parse, sync,
};

use super::{BY_ID, ONE, m, params};
use crate::transparency::{RESET, compare_all, q};

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
                "used again after its answer came from memory",
                3,
                vec![
                    q("begin"),
                    params(ONE, &[]),
                    m(&[describe_portal(""), execute("", 0), sync()]),
                    m(&[execute("", 3), sync()]),
                    m(&[close_portal(""), execute("", 0), sync()]),
                    q("rollback"),
                    m(&[parse("s", BY_ID, &[]), sync()]),
                    m(&[parse("", "begin", &[]), bind("", "", &[]), execute("", 0), sync()]),
                    m(&[bind("", "s", &[Some("2")]), execute("", 0), sync()]),
                    m(&[close_statement("s"), parse("s", "select 1/0", &[]), sync()]),
                    m(&[execute("", 0), sync()]),
                    m(&[bind("", "s", &[]), sync()]),
                    q("rollback"),
                    m(&[parse("", "begin", &[]), bind("", "", &[]), execute("", 0), sync()]),
                    m(&[execute("", 0), sync()]),
                    q("rollback"),
                    q("begin"),
                    params(ONE, &[]),
                    q(ONE),
                    m(&[execute("", 0), sync()]),
                    q("rollback"),
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
