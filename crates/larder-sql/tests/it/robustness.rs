//! No text makes the judgement panic, overflow the stack or take for ever.

use std::time::{Duration, Instant};

use larder_core::Bypass;
use larder_sql::{Effect, Kind, Parsed, mentions_relative_time, strip_comments};
use proptest::prelude::*;

use crate::catalog;

/// The stack of the threads that parse, in bytes.
const STACK: usize = 32 << 20;

fn on_big_stack(test: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(STACK).spawn(test).unwrap().join().unwrap();
}

fn judge(sql: &str) -> larder_sql::Judgement {
    Parsed::parse(sql).judge(&catalog::catalog(), &catalog::path())
}

#[test]
fn deep_nesting_is_refused_without_harm() {
    on_big_stack(|| {
        let nest = |open: &str, close: &str, times: usize| {
            format!("SELECT {}1{}", open.repeat(times), close.repeat(times))
        };
        for (sql, expected) in [
            (nest("(", ")", 9_000), Bypass::UnsupportedSyntax),
            (nest("ARRAY[", "]", 4_000), Bypass::UnsupportedSyntax),
            (nest("(SELECT ", ")", 3_000), Bypass::UnsupportedSyntax),
            (nest("@ ", "", 9_000), Bypass::UnsupportedSyntax),
            (nest("NOT ", "", 8_000), Bypass::UnsupportedSyntax),
            (nest("", " + 1", 8_000), Bypass::UnsupportedSyntax),
            (nest("", "::int", 6_000), Bypass::UnsupportedSyntax),
            (nest("CASE WHEN true THEN ", " END", 1_300), Bypass::UnsupportedSyntax),
            (nest("", " UNION SELECT 1", 2_000), Bypass::UnsupportedSyntax),
        ] {
            let start = sql.get(..20).unwrap();
            assert!(sql.len() <= 32 << 10, "{start}: {} bytes", sql.len());
            let judgement = judge(&sql);
            assert_eq!(judgement.verdict, Err(expected), "{start}");
            assert_eq!(judgement.effect, Effect::unknown(), "{start}");
        }
    });
}

#[test]
fn moderate_nesting_is_fine() {
    on_big_stack(|| {
        for sql in [
            format!("SELECT {}1{}", "(".repeat(900), ")".repeat(900)),
            format!("SELECT {}1{}", "(SELECT ".repeat(100), ")".repeat(100)),
            format!("SELECT 1{}", " + 1".repeat(400)),
            format!("SELECT id FROM users WHERE id = 1{}", " OR id = 2".repeat(2_000)),
            format!("SELECT id FROM users WHERE id IN (1{})", ",2".repeat(9_000)),
        ] {
            assert!(judge(&sql).verdict.is_ok(), "{}", sql.get(..60).unwrap());
        }
    });
}

#[test]
fn long_texts_are_not_analysed() {
    let long = format!("SELECT 1 /*{}*/", "x".repeat(32 << 10));
    let judgement = judge(&long);
    assert_eq!(judgement.verdict, Err(Bypass::TooLong));
    assert_eq!(judgement.effect, Effect::unknown());
    assert_eq!(judgement.kind, Kind::Other);
}

#[test]
fn star_chains_do_not_explode() {
    let chain = (1..200).fold("WITH t0 AS (SELECT * FROM users)".to_owned(), |text, n| {
        text + &format!(", t{n} AS (SELECT * FROM t{m} a, t{m} b)", m = n - 1)
    });
    let start = Instant::now();
    let judgement = judge(&format!("{chain} SELECT created::date FROM t199"));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(judgement.verdict, Err(Bypass::ComputedDatetimeCast));
}

#[test]
fn strings_that_are_not_utf8() {
    for sql in ["SELECT E'\\xff'", "SELECT E'\\377\\376'", "SELECT E'\\xc3' || 'x'"] {
        let judgement = judge(sql);
        assert!(judgement.verdict.is_err(), "{sql}");
    }
    let name = "ä".repeat(40);
    assert_eq!(judge(&format!("SELECT 1 AS {name}")).verdict.map(|plan| plan.relations), Ok(vec![]));
}

/// Pieces that tend to end up next to each other in SQL.
const PIECES: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "users",
    "orders",
    "u",
    ".",
    ",",
    "(",
    ")",
    "[",
    "]",
    "*",
    "id",
    "name",
    "created",
    "1",
    "'a'",
    "'now'",
    "$1",
    "::",
    "date",
    "timestamptz",
    "AS",
    "JOIN",
    "ON",
    "=",
    "+",
    "AND",
    "NOT",
    "EXISTS",
    "WITH",
    "RECURSIVE",
    "UNION",
    "ALL",
    "VALUES",
    "ORDER BY",
    "LIMIT",
    "GROUP BY",
    "now()",
    "random()",
    "tax(",
    "count(*)",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "INSERT INTO",
    "UPDATE",
    "SET",
    "DELETE FROM",
    "RETURNING",
    "ON CONFLICT DO NOTHING",
    ";",
    "--",
    "\n",
    "/*",
    "*/",
    "'",
    "\"",
    "E'\\",
    "$$",
    "LATERAL",
    "FOR UPDATE",
    "OVER",
    "JSON_OBJECT(",
    "COPY",
    "CREATE TABLE",
    "BEGIN",
    "COMMIT",
    "IN",
    "ARRAY[",
    "ROW(",
    "CAST(",
    "CURRENT_DATE",
    "larder: bypass",
    "\u{e4}",
];

/// Statements to mutate.
const SEEDS: &[&str] = &[
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n::date, sum(n) OVER (w) FROM t",
    "SELECT u.name, (SELECT max(o.total) FROM orders o WHERE o.user_id = u.id) FROM users AS u WHERE data->>'a' = E'\\x41'",
    "INSERT INTO users (id, name) VALUES ($1, 'it''s') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING *",
    "SELECT /* larder: ttl=3s */ created AT TIME ZONE 'UTC' FROM ONLY users TABLESAMPLE system (3) -- end",
    "MERGE INTO users u USING orders o ON true WHEN MATCHED AND u.id > 1 THEN DO NOTHING WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a int PATH '$.a', NESTED PATH '$.b' COLUMNS (c date))) j",
    "SELECT JSON_OBJECT('a': 1 ABSENT ON NULL RETURNING jsonb), GROUPING(id) FROM users GROUP BY CUBE (id, name)",
    "EXPLAIN (ANALYZE) UPDATE users SET (a, b[1].c) = ROW(1, DEFAULT) FROM generate_series(1, 2) WITH ORDINALITY AS g(x, y)",
];

fn all_of_it(sql: &str) {
    let catalog = catalog::catalog();
    let parsed = Parsed::parse(sql);
    let judgement = parsed.judge(&catalog, &catalog::path());
    assert_eq!(judgement.kind, parsed.kind());
    mentions_relative_time(sql.as_bytes());
    let stripped = strip_comments(sql);
    if let Ok(tree) = pg_raw_parse::parse(sql) {
        let after = pg_raw_parse::parse(&stripped)
            .unwrap_or_else(|error| panic!("{sql:?} became {stripped:?}, which is refused: {error}"));
        let shape = |tree: &pg_raw_parse::ParseResult| {
            tree.stmts()
                .map(|node| pg_raw_parse::deparse(node).unwrap().as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(shape(&tree), shape(&after), "{sql:?} became {stripped:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_text(sql in ".{0,200}") {
        all_of_it(&sql);
    }

    #[test]
    fn any_pieces(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        all_of_it(&pieces.join(" "));
        all_of_it(&pieces.concat());
    }

    #[test]
    fn any_mutation(
        seed in prop::sample::select(SEEDS),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..8, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = seed.chars().collect();
        for (at, length, piece) in edits {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        all_of_it(&text.into_iter().collect::<String>());
    }
}
