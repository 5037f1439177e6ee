//! Which rows an answer depends on.

use larder_core::RowValue;
use larder_sql::{Given, Parsed, RowColumn, RowSet};

use crate::catalog;

/// Relations of which any row may matter, then the rows: `users(id=1|$2)`; `?` after a parameter whose type is not clear.
fn words(sql: &str) -> String {
    let catalog = catalog::catalog();
    let plan = Parsed::parse(sql)
        .judge(&catalog, &catalog::path())
        .verdict
        .unwrap_or_else(|why| panic!("{sql}: {why:?}"));
    let mut words: Vec<String> = plan.whole.iter().map(|oid| catalog::names(&catalog, &[*oid])).collect();
    words.extend(
        plan.rows
            .iter()
            .map(|rows| format!("{}({})", catalog::names(&catalog, &[rows.relation]), columns(rows))),
    );
    words.join(" ")
}

fn columns(rows: &RowSet) -> String {
    rows.columns.iter().map(column).collect::<Vec<_>>().join(",")
}

fn column(column: &RowColumn) -> String {
    let values: Vec<String> = column.any_of.iter().map(given).collect();
    format!("{}={}", column.name, values.join("|"))
}

fn given(given: &Given) -> String {
    let unclear = |clear: bool| if clear { "" } else { "?" };
    match given {
        Given::Value(RowValue::Integer(number)) => number.to_string(),
        Given::Value(RowValue::Bytes(bytes)) => format!("'{}'", String::from_utf8_lossy(bytes)),
        Given::Value(other) => format!("{other:?}"),
        Given::Parameter(parameter) => format!("${}{}", parameter.number, unclear(parameter.clear)),
        Given::Elements(parameter) => format!("each ${}{}", parameter.number, unclear(parameter.clear)),
    }
}

fn check(cases: &[(&str, &str)]) {
    let found = cases.iter().map(|(sql, expected)| (sql, words(sql), *expected));
    let wrong: Vec<String> = found
        .filter(|(_, found, expected)| found != expected)
        .map(|(sql, found, expected)| format!("{sql}\n    expected {expected}, found {found}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn equalities_tell_rows_apart() {
    check(&[
        ("SELECT * FROM users WHERE id = 5", "users(id=5)"),
        ("SELECT * FROM users WHERE -5 = users.id", "users(id=-5)"),
        ("SELECT * FROM users u WHERE u.id = $1 AND u.name LIKE 'a%'", "users(id=$1)"),
        ("SELECT name FROM users WHERE id = $1::int", "users(id=$1)"),
        ("SELECT name FROM users WHERE id IN (1, $2, 3)", "users(id=1|$2|3)"),
        ("SELECT name FROM users WHERE id = ANY($1)", "users(id=each $1)"),
        ("SELECT name FROM users WHERE id = ANY($1::int4[])", "users(id=each $1)"),
        ("SELECT name FROM users WHERE id = ANY(ARRAY[1, 2])", "users(id=1|2)"),
        ("SELECT name FROM users WHERE id = ANY('{1,2}')", "users(id=1|2)"),
        ("SELECT name FROM users WHERE id = ANY('{1,2}'::int4[])", "users(id=1|2)"),
        ("SELECT count(*) FROM orders WHERE user_id = 5 AND total > 3", "orders(user_id=5)"),
        ("SELECT 1 FROM orders WHERE note = 'x' AND user_id = 5", "orders(note='x',user_id=5)"),
        ("SELECT 1 FROM orders WHERE user_id = 5 AND (id = 7 AND note = $1)", "orders(id=7)"),
        ("SELECT 1 FROM users WHERE active = true", "users(active=Boolean(true))"),
        ("SELECT 1 FROM sales WHERE id = 1", "sales(id=1)"),
        ("SELECT 1 FROM ONLY sales WHERE id = 1", "sales(id=1)"),
    ]);
}

#[test]
fn anything_else_is_the_whole_relation() {
    check(&[
        ("SELECT * FROM users", "users"),
        ("SELECT * FROM users WHERE id > 5", "users"),
        ("SELECT * FROM users WHERE id = 5 OR name = 'x'", "users"),
        ("SELECT * FROM users WHERE NOT (id = 5)", "users"),
        ("SELECT * FROM users WHERE id <> 5 AND id IS NOT NULL", "users"),
        ("SELECT * FROM users WHERE id NOT IN (5)", "users"),
        ("SELECT * FROM users WHERE id <> ALL($1)", "users"),
        ("SELECT * FROM users WHERE id + 0 = 5", "users"),
        ("SELECT * FROM users WHERE id = 5.5", "users"),
        ("SELECT * FROM users WHERE id = '5 '", "users"),
        ("SELECT * FROM users WHERE id = NULL", "users"),
        ("SELECT * FROM users WHERE name = 'é'", "users"),
        ("SELECT * FROM users WHERE name = 'abc'::varchar(2)", "users"),
        ("SELECT * FROM users WHERE mood = 'sad'", "users"),
        ("SELECT * FROM users WHERE id = (SELECT 5)", "users"),
        ("SELECT (SELECT id = 5 FROM users)", "users"),
        ("SELECT id = 5 FROM users", "users"),
        ("SELECT id FROM users GROUP BY id HAVING id = 5", "users"),
        ("SELECT id FROM users ORDER BY id = 5 LIMIT 1", "users"),
    ]);
}

#[test]
fn joins_carry_equalities_where_they_hold() {
    check(&[
        (
            "SELECT 1 FROM users u, orders o WHERE o.user_id = u.id AND u.id = $1",
            "users(id=$1) orders(user_id=$1)",
        ),
        (
            "SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id WHERE o.user_id = 3",
            "users(id=3) orders(user_id=3)",
        ),
        (
            "SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id AND u.id = 3",
            "users(id=3) orders(user_id=3)",
        ),
        (
            "SELECT 1 FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.id = 3",
            "users(id=3) orders(user_id=3)",
        ),
        (
            "SELECT 1 FROM users u LEFT JOIN orders o ON o.user_id = u.id AND u.id = 3",
            "users orders(user_id=3)",
        ),
        (
            "SELECT 1 FROM orders o RIGHT JOIN users u ON o.user_id = u.id AND u.id = 3",
            "users orders(user_id=3)",
        ),
        (
            "SELECT 1 FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE o.user_id = 3",
            "users orders(user_id=3)",
        ),
        (
            "SELECT 1 FROM users u FULL JOIN orders o ON o.user_id = u.id AND o.id = 1 WHERE u.id = 3",
            "orders users(id=3)",
        ),
        (
            "SELECT 1 FROM users u LEFT JOIN (orders o JOIN sales s ON s.id = o.id AND o.id = 1) ON u.id = o.id",
            "users orders(id=1) sales(id=1)",
        ),
        ("SELECT 1 FROM users u JOIN orders o USING (id) WHERE u.id = 3", "orders users(id=3)"),
        ("SELECT 1 FROM users u JOIN orders o USING (id) WHERE id = 3", "users orders"),
        ("SELECT 1 FROM users u JOIN orders o ON u.id = o.id WHERE user_id = 3", "users orders(user_id=3)"),
        (
            "SELECT 1 FROM users u JOIN orders o ON u.name = o.note AND u.id = 1 WHERE total = 5",
            "users(id=1) orders(total='5.')",
        ),
        ("SELECT 1 FROM users a, users b WHERE a.id = 1 AND b.id = 2", "users(id=1) users(id=2)"),
        ("SELECT 1 FROM users a, users b WHERE a.id = 1", "users"),
    ]);
}

#[test]
fn each_query_level_speaks_for_itself() {
    check(&[
        (
            "SELECT 1 FROM users WHERE id = 1 UNION SELECT 1 FROM users WHERE id = 2",
            "users(id=1) users(id=2)",
        ),
        ("WITH u AS (SELECT * FROM users WHERE id = 1) SELECT * FROM u WHERE u.id = 2", "users(id=1)"),
        (
            "SELECT 1 FROM users WHERE id = 1 AND EXISTS (SELECT 1 FROM orders WHERE user_id = users.id)",
            "orders users(id=1)",
        ),
        (
            "SELECT 1 FROM users WHERE id = 1 AND EXISTS (SELECT 1 FROM orders WHERE user_id = 1)",
            "users(id=1) orders(user_id=1)",
        ),
        ("SELECT (SELECT max(id) FROM orders o WHERE u.id = 1) FROM users u", "users orders"),
        // Inside, o is the relation of the level; outside, of the other one.
        (
            "SELECT (SELECT 1 FROM (orders o JOIN shifts s ON o.id = s.id) j WHERE o.id = 1) FROM users o",
            "users orders shifts",
        ),
        ("SELECT 1 FROM (SELECT * FROM users WHERE id = 1) users WHERE users.id = 2", "users(id=1)"),
    ]);
}

#[test]
fn parameters_must_have_a_type_that_is_clear() {
    check(&[
        (
            "SELECT 1 FROM users u, orders o WHERE u.id = $1 AND o.user_id = $1",
            "users(id=$1) orders(user_id=$1)",
        ),
        ("SELECT $1 FROM users WHERE id = $1", "users(id=$1?)"),
        ("SELECT 1 FROM users WHERE id = $1 AND name = $1", "users(id=$1?)"),
        ("SELECT 1 FROM users WHERE id = $1 AND $1 > 3", "users(id=$1?)"),
    ]);
}

#[test]
fn policies_narrow_what_is_seen_anyway() {
    check(&[("SELECT 1 FROM docs WHERE id = 1", "docs(id=1)")]);
}

/// What is known of the rows that a statement writes: before and after.
fn written(sql: &str) -> String {
    let catalog = catalog::catalog();
    let effect = Parsed::parse(sql).judge(&catalog, &catalog::path()).effect;
    let Some(groups) = effect.rows else { return "unknown".to_owned() };
    let one = |columns: &Vec<RowColumn>| columns.iter().map(column).collect::<Vec<_>>().join(",");
    groups.iter().map(one).collect::<Vec<_>>().join(" -> ")
}

#[test]
fn writes_say_which_rows() {
    let cases = [
        ("DELETE FROM users WHERE id = $1", "id=$1"),
        ("DELETE FROM users", ""),
        ("UPDATE users SET name = 'x' WHERE id = 5", "id=5 -> id=5,name='x'"),
        ("UPDATE users SET id = 6, active = true WHERE id = 5", "id=5 -> id=6,active=Boolean(true)"),
        ("UPDATE users SET id = id + 1 WHERE id = 5", "id=5 -> "),
        ("UPDATE users SET id = DEFAULT WHERE id = 5 AND name = $1", "id=5,name=$1 -> name=$1"),
        (
            "UPDATE users u SET name = $2 FROM orders o WHERE o.user_id = u.id AND o.user_id = 7",
            "id=7 -> id=7,name=$2",
        ),
        ("UPDATE orders SET total = 1.005 WHERE id = 5", "id=5 -> id=5"),
        ("UPDATE users SET name = true WHERE id = 5", "id=5 -> id=5"),
        ("INSERT INTO users (id, name) VALUES ($1, 'a'), (2, lower('B'))", "id=$1,name='a' -> id=2"),
        ("INSERT INTO users (id, name) VALUES ($1, $1)", "id=$1?,name=$1?"),
        ("INSERT INTO users (id) VALUES (1) ON CONFLICT DO NOTHING", "id=1"),
        ("INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x'", "unknown"),
        ("INSERT INTO users (id) OVERRIDING USER VALUE VALUES (1)", "unknown"),
        ("INSERT INTO users VALUES (1)", "unknown"),
        ("INSERT INTO users (id) SELECT 1", "unknown"),
        ("INSERT INTO users DEFAULT VALUES", "unknown"),
        ("WITH o AS (DELETE FROM orders WHERE id = 1) DELETE FROM users WHERE id = 1", "unknown"),
        ("WITH o AS (DELETE FROM orders WHERE id = 1) SELECT 1", "unknown"),
        ("DELETE FROM users WHERE id = 1; DELETE FROM users WHERE id = 2", "unknown"),
        ("BEGIN; DELETE FROM users WHERE id = 1; COMMIT", "id=1"),
        ("EXPLAIN DELETE FROM users WHERE id = 1", "unknown"),
        ("DELETE FROM audited WHERE id = 1", "unknown"),
    ];
    let found = cases.iter().map(|(sql, expected)| (*sql, written(sql), *expected));
    let wrong: Vec<_> = found.filter(|(_, found, expected)| found != expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
