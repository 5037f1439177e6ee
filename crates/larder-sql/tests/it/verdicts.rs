//! Which answers may be cached: a statement, and the relations it depends on or the reason why not.

use larder_core::Bypass;
use larder_sql::Parsed;

use crate::catalog;

/// `= a b` stands for a plan with these relations (by OID, which is the order of their making).
fn check(cases: &[(&str, &str)]) {
    let catalog = catalog::catalog();
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let found = match Parsed::parse(sql).judge(&catalog, &catalog::path()).verdict {
            Ok(plan) => format!("= {}", catalog::names(&catalog, &plan.relations)),
            Err(reason) => reason.name().to_owned(),
        };
        if found.trim() != *expected {
            wrong.push(format!("{sql}\n    expected {expected}, found {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn plain_reads_are_cached_with_every_relation_they_touch() {
    check(&[
        ("SELECT 1", "="),
        ("VALUES (1, 'a'), (2, 'b')", "="),
        ("TABLE users", "= users"),
        ("SELECT * FROM users WHERE id = $1", "= users"),
        ("select U.ID from Public.Users as U", "= users"),
        ("SELECT * FROM shop.public.users", "= users"),
        ("SELECT * FROM other_db.public.users", "unknown_relation"),
        ("SELECT * FROM s1.users", "= users"),
        ("SELECT * FROM ONLY users", "= users"),
        ("SELECT * FROM users u JOIN orders o ON o.user_id = u.id", "= users orders"),
        ("SELECT * FROM users LEFT JOIN orders USING (id)", "= users orders"),
        ("SELECT * FROM users NATURAL FULL JOIN orders", "= users orders"),
        (
            "SELECT * FROM users, LATERAL (SELECT total FROM orders WHERE user_id = users.id LIMIT 1) x",
            "= users orders",
        ),
        ("SELECT (SELECT count(*) FROM orders) FROM users", "= users orders"),
        ("SELECT 1 FROM users WHERE EXISTS (SELECT FROM orders WHERE user_id = users.id)", "= users orders"),
        ("SELECT 1 FROM users WHERE id IN (SELECT user_id FROM orders)", "= users orders"),
        ("SELECT 1 FROM users WHERE id = ANY (ARRAY(SELECT user_id FROM orders))", "= users orders"),
        ("SELECT 1 FROM users ORDER BY (SELECT max(id) FROM orders)", "= users orders"),
        ("SELECT 1 FROM users LIMIT (SELECT count(*) FROM orders)", "= users orders"),
        ("SELECT 1 FROM users OFFSET (SELECT count(*) FROM orders)", "= users orders"),
        ("SELECT count(*) FILTER (WHERE id > (SELECT 1 FROM orders)) FROM users", "= users orders"),
        ("SELECT sum(id) OVER (PARTITION BY (SELECT 1 FROM orders)) FROM users", "= users orders"),
        ("SELECT sum(id) OVER w FROM users WINDOW w AS (ORDER BY (SELECT 1 FROM orders))", "= users orders"),
        ("SELECT 1 FROM users GROUP BY GROUPING SETS ((id), ROLLUP(name), ())", "= users"),
        ("SELECT name, GROUPING(name) FROM users GROUP BY CUBE(name) HAVING count(*) > 1", "= users"),
        ("SELECT DISTINCT ON (name) * FROM users ORDER BY name, id DESC NULLS LAST", "= users"),
        ("SELECT 1 FROM users UNION ALL SELECT 1 FROM orders", "= users orders"),
        (
            "(SELECT id FROM users EXCEPT SELECT id FROM orders) INTERSECT SELECT id FROM sales_a",
            "= users orders sales_a",
        ),
        ("SELECT CASE WHEN EXISTS (SELECT FROM orders) THEN 1 ELSE 2 END FROM users", "= users orders"),
        (
            "SELECT coalesce((SELECT 1 FROM orders), 2), greatest(1, 2), nullif(1, 2) FROM users",
            "= users orders",
        ),
        ("SELECT ROW(1, 2) = ROW((SELECT 1 FROM orders), 2), ARRAY[[1],[id]] FROM users", "= users orders"),
        ("SELECT (ARRAY[1,2])[1:(SELECT 1 FROM orders)], tags[1] FROM orders", "= orders"),
        ("SELECT 1 WHERE false AND EXISTS (SELECT FROM users)", "= users"),
        ("SELECT u, u.* FROM users u", "= users"),
        ("SELECT name COLLATE \"C\" FROM users WHERE name LIKE 'a%' ESCAPE '!' OR name ILIKE $1", "= users"),
        ("SELECT name SIMILAR TO 'a|b', name ~ '^\\d+$', name || 'x' FROM users", "= users"),
        (
            "SELECT id BETWEEN 1 AND 2, id NOT IN (1,2), id IS DISTINCT FROM 3, active IS NOT TRUE FROM users",
            "= users",
        ),
        ("SELECT data->'a'->>'b', data @> '{}', data ? 'k' FROM users", "= users"),
        ("SELECT 'abc'::text, 1::int8, '1'::varchar(10), 1.5::numeric(10,2), '{1}'::int[]", "="),
        ("SELECT DATE '2020-01-01', TIMESTAMP WITH TIME ZONE '2020-01-01 00:00', INTERVAL '1' DAY", "="),
        ("SELECT 'happy'::mood, 'X'::citext", "="),
        ("SELECT * FROM users TABLESAMPLE system (1)", "tablesample"),
    ]);
}

#[test]
fn partitions_and_views_are_followed_to_their_tables() {
    check(&[
        ("SELECT * FROM sales", "= sales sales_a sales_b"),
        ("SELECT * FROM sales_a", "= sales_a"),
        ("SELECT * FROM far", "foreign_table"),
        ("SELECT * FROM loose", "unlogged_table"),
        ("SELECT * FROM brief", "temporary_table"),
        ("SELECT * FROM adults", "= users"),
        ("SELECT * FROM adult_orders x JOIN sales_b ON true", "= users orders sales_b"),
        ("SELECT * FROM adults a, adults b", "= users"),
        ("SELECT * FROM fresh", "stable_function"),
        ("SELECT * FROM taxed", "user_function"),
        ("SELECT * FROM hidden", "row_security"),
        ("SELECT * FROM today", "clock"),
        ("SELECT * FROM broken", "opaque_view"),
        ("SELECT * FROM opaque", "opaque_view"),
        // It cannot exist, but must not recurse for ever.
        ("SELECT * FROM loop", "="),
    ]);
}

#[test]
fn other_relations_are_refused_by_name() {
    check(&[
        ("SELECT * FROM nowhere", "unknown_relation"),
        ("SELECT * FROM nowhere.users", "unknown_relation"),
        ("SELECT * FROM pg_temp.users", "temporary_table"),
        ("SELECT * FROM scratch", "unlogged_table"),
        ("SELECT * FROM remote", "foreign_table"),
        ("SELECT last_value FROM users_id_seq", "sequence"),
        ("SELECT * FROM report", "= report"),
        ("SELECT * FROM secret", "row_security"),
        ("SELECT * FROM guarded", "row_security"),
        ("SELECT * FROM fading", "row_security"),
        ("SELECT * FROM timed", "row_security"),
        ("SELECT * FROM settled", "row_security"),
        ("SELECT * FROM linked", "row_security"),
        ("SELECT * FROM users WHERE EXISTS (SELECT FROM secret)", "row_security"),
        ("SELECT random() FROM secret", "row_security"),
        ("SELECT * FROM ruled", "rule"),
        ("SELECT * FROM audited", "= audited"),
        ("SELECT * FROM pg_class", "system_catalog"),
        ("SELECT * FROM information_schema.tables", "system_catalog"),
        ("SELECT xmin FROM users", "system_column"),
        ("SELECT u.ctid FROM users u", "system_column"),
        ("SELECT tableoid FROM users", "= users"),
        ("SELECT * FROM users WHERE id = (SELECT 1 FROM scratch)", "unlogged_table"),
    ]);
}

#[test]
fn common_table_expressions_hide_tables_only_where_they_are_in_scope() {
    check(&[
        ("WITH users AS (SELECT 1) SELECT * FROM users", "="),
        ("WITH users AS (SELECT * FROM users) SELECT * FROM users", "= users"),
        ("WITH users AS (SELECT 1) SELECT * FROM public.users", "= users"),
        ("WITH scratch AS (SELECT 1) SELECT * FROM users, scratch", "= users"),
        ("WITH a AS (SELECT * FROM users), b AS (SELECT * FROM a) SELECT * FROM b", "= users"),
        // Without RECURSIVE, a table expression does not see later ones.
        ("WITH a AS (SELECT * FROM orders), orders AS (SELECT 1) SELECT * FROM a, orders", "= orders"),
        ("WITH RECURSIVE a AS (SELECT * FROM orders), orders AS (SELECT 1) SELECT * FROM a, orders", "="),
        (
            "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t",
            "=",
        ),
        ("WITH RECURSIVE t(n) AS (SELECT id FROM users UNION SELECT n FROM t) SELECT * FROM t", "= users"),
        // The inner one ends with its subquery.
        ("SELECT * FROM (WITH users AS (SELECT 1) SELECT * FROM users) x, users", "= users"),
        ("SELECT (WITH orders AS (SELECT 1) SELECT count(*) FROM orders) FROM orders", "= orders"),
        ("WITH orders AS (SELECT 1) SELECT (SELECT count(*) FROM orders) FROM users", "= users"),
        (
            "WITH a AS (SELECT 1) (WITH b AS (SELECT * FROM a) SELECT * FROM b) UNION SELECT * FROM a, users",
            "= users",
        ),
        ("WITH a AS MATERIALIZED (SELECT * FROM users) SELECT * FROM a", "= users"),
        (
            "WITH RECURSIVE t AS (SELECT id FROM users UNION ALL SELECT id FROM t) \
             SEARCH DEPTH FIRST BY id SET o CYCLE id SET c USING p SELECT * FROM t",
            "= users",
        ),
        ("WITH x AS (INSERT INTO users VALUES (1) RETURNING id) SELECT * FROM x", "data_modifying_cte"),
        ("WITH x AS (DELETE FROM users) SELECT 1", "data_modifying_cte"),
        ("WITH x AS (UPDATE users SET id = 1 RETURNING *) SELECT * FROM x", "data_modifying_cte"),
        ("WITH x AS (SELECT now()) SELECT * FROM x", "stable_function"),
    ]);
}

#[test]
fn functions_are_judged_by_their_worst_overload() {
    check(&[
        (
            "SELECT count(*), max(id), string_agg(name, ',' ORDER BY id), lower(name) FROM users GROUP BY name",
            "= users",
        ),
        ("SELECT row_number() OVER (), lag(id) OVER (ORDER BY id) FROM users", "= users"),
        ("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM users", "= users"),
        ("SELECT now()", "stable_function"),
        ("SELECT pg_catalog.now()", "stable_function"),
        ("SELECT random()", "volatile_function"),
        ("SELECT * FROM users WHERE id = (random() * 3)::int", "volatile_function"),
        ("SELECT * FROM users ORDER BY random()", "volatile_function"),
        ("SELECT name FROM users GROUP BY name HAVING random() > 0.5", "volatile_function"),
        ("SELECT * FROM users LIMIT random()::int", "volatile_function"),
        ("SELECT count(*) FILTER (WHERE random() > 0.5) FROM users", "volatile_function"),
        ("SELECT sum(id) OVER (ORDER BY random()) FROM users", "volatile_function"),
        ("SELECT sum(id) OVER w FROM users WINDOW w AS (PARTITION BY random())", "volatile_function"),
        ("SELECT sum(id ORDER BY random()) FROM users", "volatile_function"),
        ("SELECT * FROM users JOIN orders ON random() > 0.5", "volatile_function"),
        ("SELECT DISTINCT ON (random()) * FROM users", "volatile_function"),
        ("VALUES (random())", "volatile_function"),
        ("SELECT ARRAY[random()], ROW(1, 2)", "volatile_function"),
        ("SELECT CASE random() WHEN 1 THEN 2 END", "volatile_function"),
        ("SELECT (ARRAY[1,2])[random()::int]", "volatile_function"),
        ("SELECT * FROM generate_series(1, random()::int)", "volatile_function"),
        ("SELECT nextval('users_id_seq')", "volatile_function"),
        ("SELECT currval('users_id_seq')", "volatile_function"),
        ("SELECT txid_current()", "stable_function"),
        ("SELECT clock_timestamp()", "volatile_function"),
        ("SELECT pg_try_advisory_lock(1)", "volatile_function"),
        ("SELECT set_config('a.b', 'c', false)", "volatile_function"),
        ("SELECT current_setting($1)", "stable_function"),
        ("SELECT current_setting('app.' || name) FROM users", "stable_function"),
        ("SELECT current_setting('transaction_isolation')", "stable_function"),
        ("SELECT current_setting('port')", "stable_function"),
        // No policy and no view reads it, so its value is not among the session's facts.
        ("SELECT current_setting('app.other')", "stable_function"),
        ("SELECT current_setting('app.t''x')", "stable_function"),
        ("SELECT current_setting('app.tenant'::name)", "stable_function"),
        ("SELECT current_setting('TimeZone'), current_setting('search_path', true)", "="),
        ("SELECT current_setting('app.tenant')::date", "computed_datetime_cast"),
        ("SELECT has_table_privilege('users', 'select')", "stable_function"),
        ("SELECT to_regclass('users')", "stable_function"),
        ("SELECT tax(total) FROM orders", "user_function"),
        ("SELECT public.tax(1)", "user_function"),
        ("SELECT nothing_like_it(1)", "unknown_function"),
        ("SELECT nowhere.lower('x')", "unknown_function"),
        ("SELECT other_db.pg_catalog.lower('x')", "unknown_function"),
        ("SELECT similarity('a', 'b')", "="),
        ("SELECT set_limit(0.5)", "volatile_function"),
        ("SELECT show_limit()", "stable_function"),
        // public.repeat could be meant; other.lower is not in the path.
        ("SELECT repeat('a', 2)", "user_function"),
        ("SELECT pg_catalog.repeat('a', 2)", "="),
        ("SELECT other.lower('a')", "user_function"),
        ("SELECT pg_partition_root('sales')", "stable_function"),
        ("SELECT age('2020-01-01'::timestamp, '2019-01-01'::timestamp)", "="),
        ("SELECT age('2020-01-01'::timestamp)", "stable_function"),
        (
            "SELECT date_trunc('day', created), extract(epoch FROM created), date_part('year', created) FROM users",
            "= users",
        ),
        (
            "SELECT to_char(created, 'YYYY'), format('%s', id), concat(id, name), to_jsonb(u) FROM users u",
            "= users",
        ),
        (
            "SELECT substring(name FROM 1 FOR 2), position('a' IN name), trim(name), overlay(name PLACING 'x' FROM 1) FROM users",
            "= users",
        ),
        (
            "SELECT json_build_object('a', 1), json_agg(u), array_to_string(tags, ',') FROM users u, orders",
            "= users orders",
        ),
        (
            "SELECT to_tsvector('english', name) @@ to_tsquery('a & b'), to_tsvector(name) FROM users",
            "= users",
        ),
        ("SELECT COLLATION FOR (name) FROM users", "stable_function"),
        ("SELECT jsonb_path_query_tz(data, '$') FROM users", "stable_function"),
        (
            "SELECT (date '2020-01-01', date '2020-02-01') OVERLAPS (date '2020-01-15', date '2020-03-01')",
            "=",
        ),
        (
            "SELECT * FROM ROWS FROM (unnest(ARRAY[1]), generate_series(1, 2)) WITH ORDINALITY AS t(a, b, n)",
            "=",
        ),
        ("SELECT * FROM unnest(ARRAY[1,2]) u, jsonb_array_elements('[]') e", "="),
        ("SELECT name FROM users WHERE left(name, length(name)) = $1", "= users"),
    ]);
}

#[test]
fn clocks_and_identities_of_the_grammar() {
    check(&[
        ("SELECT CURRENT_DATE", "clock"),
        ("SELECT CURRENT_TIMESTAMP(3)", "clock"),
        ("SELECT LOCALTIME, LOCALTIMESTAMP", "clock"),
        ("SELECT * FROM users WHERE created > CURRENT_TIMESTAMP - interval '1 day'", "clock"),
        ("SELECT CURRENT_USER, SESSION_USER, USER, CURRENT_ROLE, CURRENT_CATALOG, CURRENT_SCHEMA", "="),
        ("SELECT current_schema(), current_database(), version()", "="),
        ("SELECT SYSTEM_USER", "unknown_function"),
    ]);
}

#[test]
fn relative_times_and_conversions_to_dates() {
    check(&[
        ("SELECT 'now'", "relative_time_literal"),
        ("SELECT * FROM users WHERE created > 'yesterday'", "relative_time_literal"),
        ("SELECT timestamptz ' Today '", "relative_time_literal"),
        ("SELECT E'\\x6eow'::date", "relative_time_literal"),
        ("SELECT U&'\\006eow'::date", "relative_time_literal"),
        ("SELECT $$tomorrow$$::date", "relative_time_literal"),
        // With standard_conforming_strings = off this is 'now'.
        ("SELECT '\\156ow'::date", "relative_time_literal"),
        ("SELECT 'n\\ow'::date", "relative_time_literal"),
        ("SELECT '\\d+'", "="),
        ("SELECT '[today,)'::daterange", "relative_time_literal"),
        ("SELECT '[n\"o\"w,)'::tstzrange", "relative_time_literal"),
        ("SELECT $${n\\ow}$$::date[]", "relative_time_literal"),
        ("SELECT '[1,2)'::int4range, '[2020-01-01,)'::daterange", "="),
        ("SELECT 'acknowledged'", "relative_time_literal"),
        ("SELECT $1::date, $2::timestamptz", "="),
        ("SELECT ('n' || 'ow')::date", "computed_datetime_cast"),
        ("SELECT name::date FROM users", "computed_datetime_cast"),
        ("SELECT CAST(name AS timestamp) FROM users", "computed_datetime_cast"),
        ("SELECT name::timestamptz[] FROM users", "computed_datetime_cast"),
        ("SELECT tags::date[] FROM orders", "computed_datetime_cast"),
        ("SELECT days::timestamptz[] FROM orders", "= orders"),
        ("SELECT name::tstzrange FROM users", "computed_datetime_cast"),
        ("SELECT (data->>'at')::timestamptz FROM users", "computed_datetime_cast"),
        ("SELECT data::text::date FROM users", "computed_datetime_cast"),
        ("SELECT lower(name)::date FROM users", "computed_datetime_cast"),
        ("SELECT date(name) FROM users", "computed_datetime_cast"),
        ("SELECT timestamptz(name) FROM users", "computed_datetime_cast"),
        ("SELECT coalesce(name, '2020-01-01')::date FROM users", "computed_datetime_cast"),
        ("SELECT max(name)::date FROM users", "computed_datetime_cast"),
        ("SELECT (CASE WHEN true THEN name END)::date FROM users", "computed_datetime_cast"),
        ("SELECT (SELECT name FROM users)::date", "computed_datetime_cast"),
        ("SELECT x::date FROM (SELECT name AS x FROM users) s", "computed_datetime_cast"),
        ("SELECT x::date FROM (SELECT lower(name) AS x FROM users) s", "computed_datetime_cast"),
        ("SELECT created::date FROM (SELECT name AS created FROM users) s", "computed_datetime_cast"),
        ("WITH s(created) AS (SELECT name FROM users) SELECT created::date FROM s", "computed_datetime_cast"),
        ("SELECT x::date FROM (VALUES ('2020-01-01'), (lower('A'))) v(x)", "computed_datetime_cast"),
        (
            "SELECT x::date FROM (SELECT created FROM users UNION SELECT name FROM users) s(x)",
            "computed_datetime_cast",
        ),
        ("SELECT u::date FROM unnest(tags) u, orders", "computed_datetime_cast"),
        ("SELECT e::date FROM jsonb_array_elements_text('[]') e", "computed_datetime_cast"),
        ("SELECT x::date FROM users u(x)", "computed_datetime_cast"),
        ("SELECT created::date, birthday::timestamptz, id::numeric FROM users", "= users"),
        ("SELECT date(created), timestamptz(birthday) FROM users", "= users"),
        ("SELECT u.created::date, o.placed::date FROM users u JOIN orders o ON true", "= users orders"),
        ("SELECT (created + interval '1 day')::date, date_trunc('day', created)::date FROM users", "= users"),
        ("SELECT coalesce(created, '2020-01-01')::date, max(created)::date FROM users GROUP BY 1", "= users"),
        ("SELECT created::date FROM (SELECT * FROM users) s", "= users"),
        ("SELECT s.created::date FROM (SELECT created FROM users) s", "= users"),
        ("WITH s AS (SELECT created FROM users) SELECT created::date FROM s", "= users"),
        (
            "SELECT x::date FROM (SELECT created FROM users UNION SELECT placed FROM orders) s(x)",
            "= users orders",
        ),
        ("SELECT d::date FROM generate_series('2020-01-01'::date, '2020-02-01', '1 day') d", "="),
        ("SELECT d.d::date FROM generate_series('2020-01-01'::date, '2020-02-01', '1 day') AS d(d)", "="),
        ("SELECT x::date FROM (VALUES ('2020-01-01'), ('2020-01-02')) v(x)", "="),
        ("SELECT ARRAY['2020-01-01', $1]::date[]", "="),
        ("SELECT to_timestamp(id)::date FROM users", "= users"),
        ("SELECT to_date(name, 'YYYY') FROM users", "= users"),
    ]);
}

#[test]
fn times_of_day_with_a_zone_read_the_current_date() {
    check(&[
        ("SELECT created AT TIME ZONE 'UTC' FROM users", "= users"),
        ("SELECT placed AT TIME ZONE 'UTC' AT TIME ZONE 'CET' FROM orders", "= orders"),
        ("SELECT timezone('UTC', created) FROM users", "= users"),
        ("SELECT '2020-01-01 00:00' AT TIME ZONE 'UTC'", "="),
        ("SELECT date_trunc('day', created AT TIME ZONE $1) FROM users", "= users"),
        ("SELECT starts AT TIME ZONE 'CET' FROM shifts", "clock"),
        ("SELECT time '12:00' AT TIME ZONE 'CET'", "clock"),
        ("SELECT $1 AT TIME ZONE 'CET'", "clock"),
        ("SELECT starts::timetz FROM shifts", "clock"),
        ("SELECT timetz '12:00 CET'", "clock"),
        ("SELECT timetz(starts) FROM shifts", "clock"),
        ("SELECT timetz_larger('12:00', '13:00')", "clock"),
        ("SELECT id FROM zones", "clock"),
        ("SELECT starts FROM shifts", "= shifts"),
    ]);
}

#[test]
fn types_and_operators() {
    check(&[
        ("SELECT 'a@b'::email", "user_type"),
        ("SELECT 'a@b'::public.email", "user_type"),
        ("SELECT email('a@b')", "user_type"),
        ("SELECT '(a)'::address", "user_type"),
        ("SELECT '{}'::address[]", "user_type"),
        ("SELECT '[1,2]'::hours", "user_type"),
        ("SELECT '[1,2]'::span, '(1,a)'::pair, ROW(1, name)::pair FROM users", "= users"),
        ("SELECT '(\"(1,a)\",\"[1,2]\")'::nested", "="),
        ("SELECT '[2020-01-01,)'::days, '(a,2020-01-01)'::stamped", "="),
        ("SELECT name::days FROM users", "computed_datetime_cast"),
        ("SELECT ROW(name, note)::stamped FROM users, orders", "computed_datetime_cast"),
        ("SELECT '(1,a@b)'::mailed", "user_type"),
        ("SELECT 'x'::nowhere", "user_type"),
        ("SELECT 'users'::regclass", "stable_function"),
        ("SELECT * FROM users WHERE tableoid = 'users'::regclass", "stable_function"),
        ("SELECT to_tsvector('english'::regconfig, name) FROM users", "= users"),
        ("SELECT '<a/>'::xml", "unsupported_syntax"),
        ("SELECT '1'::money, '{}'::json, '\\x00'::bytea", "="),
        ("SELECT 1 === 2", "user_function"),
        ("SELECT 1 OPERATOR(public.===) 2", "user_function"),
        ("SELECT 1 OPERATOR(pg_catalog.=) 2", "="),
        ("SELECT * FROM users ORDER BY name USING ===", "user_function"),
        ("SELECT 1 === ANY (SELECT 2)", "user_function"),
        // That operator lives outside the path.
        ("SELECT 1 <-> 2", "="),
        ("SELECT 1 OPERATOR(other.<->) 2", "user_function"),
    ]);
}

#[test]
fn a_field_may_be_a_function() {
    check(&[
        ("SELECT u.nickname FROM users u", "user_function"),
        ("SELECT users.nickname FROM users", "user_function"),
        ("SELECT (u).nickname FROM users u", "user_function"),
        ("SELECT s.nickname FROM (SELECT 1 AS nickname) s", "="),
        ("SELECT s.nickname FROM (SELECT 1) s", "user_function"),
        ("SELECT u.name, u.email, u.created FROM users u", "= users"),
        ("SELECT u.pg_typeof FROM users u", "stable_function"),
        ("SELECT nickname(u) FROM users u", "user_function"),
    ]);
}

#[test]
fn json_and_xml() {
    check(&[
        (
            "SELECT JSON_OBJECT('a': id), JSON_ARRAY(1, id), JSON_ARRAYAGG(id ORDER BY id) FROM users",
            "= users",
        ),
        (
            "SELECT JSON_OBJECTAGG(name: id RETURNING jsonb), JSON_ARRAY(SELECT id FROM orders) FROM users",
            "= users orders",
        ),
        (
            "SELECT data IS JSON OBJECT, JSON_SCALAR(1), JSON_SERIALIZE('{}'), JSON('{}') FROM users",
            "= users",
        ),
        ("SELECT JSON_OBJECT('a': random())", "volatile_function"),
        ("SELECT JSON_ARRAY(1 RETURNING email)", "user_type"),
        ("SELECT json_object('{a,1}')", "="),
        ("SELECT JSON_VALUE(data, '$.a') FROM users", "unsupported_syntax"),
        ("SELECT * FROM JSON_TABLE('[]', '$' COLUMNS (a int PATH '$'))", "unsupported_syntax"),
        ("SELECT xmlelement(name a)", "unsupported_syntax"),
        ("SELECT * FROM XMLTABLE('/a' PASSING '<a/>' COLUMNS b int)", "unsupported_syntax"),
        ("SELECT * FROM json_to_recordset('[]') AS t(a int)", "unknown_function"),
        ("SELECT * FROM jsonb_to_recordset('[]') AS t(a int)", "stable_function"),
    ]);
}

#[test]
fn statements_that_are_not_plain_reads() {
    check(&[
        ("", "empty"),
        (" ; -- nothing\n", "empty"),
        ("SELECT 1; SELECT 2", "multi_statement"),
        ("SELECT * FROM users FOR UPDATE", "locking"),
        ("SELECT * FROM users FOR SHARE OF users SKIP LOCKED", "locking"),
        ("SELECT * FROM (SELECT * FROM users FOR KEY SHARE) x", "locking"),
        ("SELECT * INTO x FROM users", "select_into"),
        ("INSERT INTO users VALUES (1)", "not_a_select"),
        ("EXPLAIN SELECT 1", "not_a_select"),
        ("COPY users TO STDOUT", "not_a_select"),
        ("SHOW timezone", "not_a_select"),
        ("SELEC 1", "syntax_error"),
        ("SELECT 'open", "syntax_error"),
        ("SELECT 1\0", "syntax_error"),
        ("SELECT 'a\\' || now() || '", "unsupported_syntax"),
    ]);
}

#[test]
fn hints_in_comments() {
    check(&[
        ("/* larder: bypass */ SELECT 1", "hint"),
        ("SELECT 1 -- larder: bypass", "hint"),
        ("SELECT 1 -- larder: bypass\n+ 1", "hint"),
        ("/*larder:ttl=5s,bypass*/ SELECT 1", "hint"),
        ("SELECT '/* larder: bypass */'", "="),
        ("/* not larder: bypass */ SELECT 1", "="),
        ("/* larder: unknown */ SELECT 1", "="),
    ]);
    let catalog = catalog::catalog();
    for (sql, millis) in [
        ("/* larder: ttl=30s */ SELECT 1", Some(30_000)),
        ("SELECT 1 /* larder: ttl = 250ms */", Some(250)),
        ("SELECT /*+ larder: ttl=2m */ 1", Some(120_000)),
        ("-- larder: ttl=1h\nSELECT 1", Some(3_600_000)),
        ("/* larder: ttl=99999999999999999999h */ SELECT 1", None),
        ("/* larder: ttl=x */ SELECT 1", None),
        ("SELECT 1", None),
    ] {
        let plan = Parsed::parse(sql).judge(&catalog, &catalog::path()).verdict.unwrap();
        assert_eq!(plan.ttl.map(|ttl| ttl.as_millis()), millis, "{sql}");
    }
}

#[test]
fn a_grammar_newer_than_the_server_is_not_trusted() {
    let mut catalog = catalog::catalog();
    catalog.server_version = 150_000;
    let judgement = Parsed::parse("SELECT JSON_ARRAY(1)").judge(&catalog, &catalog::path());
    assert_eq!(judgement.verdict, Err(Bypass::UnsupportedSyntax));
    assert_eq!(judgement.effect, larder_sql::Effect::unknown());
}

#[test]
fn a_user_defined_cast_casts_doubt_on_everything_that_converts() {
    let mut catalog = catalog::catalog();
    catalog.has_user_casts = true;
    for (sql, expected) in [
        ("SELECT 1", None),
        ("SELECT id FROM users", Some(Bypass::UserFunction)),
        ("SELECT 1 + 1", Some(Bypass::UserFunction)),
    ] {
        let verdict = Parsed::parse(sql).judge(&catalog, &catalog::path()).verdict;
        assert_eq!(verdict.err(), expected, "{sql}");
    }
}

#[test]
fn parameter_types() {
    let catalog = catalog::catalog();
    let refused = |name: &str| {
        let found = catalog.type_names.iter().find(|(_, (_, named))| named == name).unwrap();
        larder_sql::refused_parameter_type(&catalog, *found.0)
    };
    for fine in ["int4", "text", "timestamptz", "_timestamptz", "mood", "citext", "jsonb", "tstzrange"] {
        assert_eq!(refused(fine), None, "{fine}");
    }
    assert_eq!(refused("email"), Some(Bypass::UserType));
    assert_eq!(refused("address"), Some(Bypass::UserType));
    assert_eq!(refused("_address"), Some(Bypass::UserType));
    assert_eq!(refused("regclass"), Some(Bypass::StableFunction));
    assert_eq!(refused("timetz"), Some(Bypass::Clock));
    assert_eq!(larder_sql::refused_parameter_type(&catalog, 0), None);
    assert_eq!(larder_sql::refused_parameter_type(&catalog, 99_999), Some(Bypass::UserType));
}

#[test]
fn settings_and_policies_are_followed() {
    let catalog = catalog::catalog();
    for (sql, relations, settings) in [
        ("SELECT 1", "", ""),
        ("SELECT current_setting('App.Tenant', true)::uuid", "", "app.tenant"),
        (
            "SELECT current_setting('app.user'::text), pg_catalog.current_setting('app.name')",
            "",
            "app.name app.user",
        ),
        ("SELECT current_setting('app.name', true)::json ->> 'sub'", "", "app.name"),
        ("SELECT current_setting('TimeZone')", "", ""),
        ("SELECT * FROM closed", "closed", ""),
        ("SELECT * FROM docs", "docs", "app.tenant"),
        ("SELECT * FROM docs d JOIN docs e USING (id)", "docs", "app.tenant"),
        ("SELECT * FROM users WHERE id IN (SELECT id FROM notes)", "users notes", "app.tenant app.user"),
        ("SELECT * FROM members", "members", ""),
        ("SELECT * FROM projects", "members projects", ""),
        ("SELECT * FROM projects, docs", "docs members projects", "app.tenant"),
        ("SELECT * FROM circle", "circle", ""),
        ("SELECT * FROM own_docs", "docs", "app.tenant"),
        ("SELECT * FROM of_tenant", "users", "app.name"),
    ] {
        let verdict = Parsed::parse(sql).judge(&catalog, &catalog::path()).verdict;
        let plan = verdict.unwrap_or_else(|why| panic!("{sql}: {why}"));
        assert_eq!(catalog::names(&catalog, &plan.relations), relations, "{sql}");
        assert_eq!(plan.settings.join(" "), settings, "{sql}");
    }
}

#[test]
fn names_resolve_along_the_path() {
    let catalog = catalog::catalog();
    let path = ["pg_catalog", "s1", "public"].map(str::to_owned);
    let plan = Parsed::parse("SELECT * FROM users").judge(&catalog, &path).verdict.unwrap();
    assert_eq!(plan.relations, [catalog.relation_names["s1"]["users"]]);
    assert_ne!(plan.relations, [catalog::oid(&catalog, "users")]);
}

#[test]
fn answers_that_postgresql_may_give_otherwise_another_time_are_known() {
    let catalog = catalog::catalog();
    let varies = |sql: &str| {
        let plan = Parsed::parse(sql).judge(&catalog, &catalog::path()).verdict;
        plan.unwrap_or_else(|why| panic!("{sql}: {why}")).varies
    };
    for sql in [
        "SELECT id FROM users LIMIT 5",
        "SELECT id FROM users ORDER BY name OFFSET 5",
        "SELECT id FROM users ORDER BY name FETCH FIRST 2 ROWS ONLY",
        "SELECT DISTINCT ON (name) id FROM users",
        "SELECT row_number() OVER (ORDER BY name) FROM users",
        "SELECT array_agg(id) FROM users",
        "SELECT string_agg(name, ',') FROM users",
        "SELECT ARRAY(SELECT id FROM users)",
        "SELECT sum(id::float8) FROM users",
        "SELECT * FROM (SELECT id FROM users LIMIT 1) u JOIN orders ON user_id = u.id",
    ] {
        assert!(varies(sql), "{sql}");
    }
    for sql in [
        "SELECT id FROM users",
        "SELECT DISTINCT name FROM users ORDER BY name",
        "SELECT name, count(*), max(id) FROM users GROUP BY name",
        "SELECT sum(id), avg(id) FROM users",
        "SELECT id::float8 FROM users",
        "SELECT id FROM users UNION SELECT id FROM orders",
        "SELECT 1 FROM users WHERE EXISTS (SELECT FROM orders WHERE user_id = users.id)",
    ] {
        assert!(!varies(sql), "{sql}");
    }
}
