//! COPY by the extended protocol.

use bytes::Bytes;
use larder_testkit::Until;
use larder_testkit::frame::{
    bind, close_portal, copy_data, copy_done, copy_fail, execute, flush, parse, query, sync,
};

use super::{ONE, m, params};
use crate::transparency::{RESET, compare_all, q};

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
