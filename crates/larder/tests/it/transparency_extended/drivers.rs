//! The messages that drivers send.

use larder_testkit::Until;
use larder_testkit::frame::{
    bind, bind_formats, close_portal, close_statement, describe_portal, describe_statement, execute, flush,
    parse, sync,
};

use super::{BY_ID, ONE, m, params, prepare, prepare_flush, run_named};
use crate::transparency::{Scripts, compare_all, q};

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
