//! Kinds of object: which are answered from memory, with the same bytes by every protocol and in both formats, and
//! which never are, whoever has warmed the cache.

use larder_testkit::{PgVersion, Postgres, each_version, frame, pg};

use crate::freshness::{Client, Protocol, Rig, Served};
use crate::twins::{ROLES, Twins, login, rig};

/// Extensions of which both servers have all.
const EXTENSIONS: &[&str] = &[
    "citext",
    "hstore",
    "ltree",
    "pg_trgm",
    "intarray",
    "cube",
    "seg",
    "isn",
    "unaccent",
    "fuzzystrmatch",
    "btree_gin",
    "tablefunc",
    "earthdistance",
];

const SCHEMA: &str = r#"
    CREATE TABLE plain (id int PRIMARY KEY, v text, n numeric, day date);
    INSERT INTO plain SELECT i, 'value ' || i, i * 1.25, date '2024-01-01' + i FROM generate_series(1, 20) i;
    CREATE VIEW simple AS SELECT id, upper(v) AS up FROM plain WHERE id < 5;
    CREATE VIEW over_view AS SELECT count(*) AS n FROM simple;
    CREATE VIEW with_cte AS WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < 5) SELECT * FROM r;
    CREATE VIEW checked WITH (security_barrier) AS SELECT * FROM plain WHERE n > 2 WITH CHECK OPTION;
    CREATE MATERIALIZED VIEW report AS SELECT id, v FROM plain WHERE id < 8; CREATE UNIQUE INDEX ON report (id);
    CREATE VIEW over_report AS SELECT count(*) AS n FROM report;
    CREATE TABLE by_range (id int, day date) PARTITION BY RANGE (id);
    CREATE TABLE by_range_1 PARTITION OF by_range FOR VALUES FROM (0) TO (10) PARTITION BY LIST (day);
    CREATE TABLE by_range_1_all PARTITION OF by_range_1 DEFAULT;
    CREATE TABLE by_range_2 PARTITION OF by_range FOR VALUES FROM (10) TO (100);
    INSERT INTO by_range SELECT id, day FROM plain;
    CREATE TABLE by_hash (id int) PARTITION BY HASH (id);
    CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    INSERT INTO by_hash SELECT id FROM plain;
    CREATE TABLE parent (id int, v text); CREATE TABLE child (extra int) INHERITS (parent);
    CREATE TABLE grandchild () INHERITS (child);
    INSERT INTO parent VALUES (1, 'p'); INSERT INTO child VALUES (2, 'c', 3); INSERT INTO grandchild VALUES (4, 'g', 5);
    CREATE TABLE computed (id int, twice int GENERATED ALWAYS AS (id * 2) STORED, label text GENERATED ALWAYS AS ('n' || id) STORED);
    INSERT INTO computed SELECT i FROM generate_series(1, 3) i;
    CREATE TABLE identified (id int GENERATED ALWAYS AS IDENTITY, v text DEFAULT 'd'); INSERT INTO identified DEFAULT VALUES;
    CREATE DOMAIN email AS text CHECK (VALUE ~ '@'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN work_email AS email NOT NULL; CREATE DOMAIN birthday AS date;
    CREATE TABLE person (id positive, mail email, work work_email, mails email[], born birthday);
    INSERT INTO person VALUES (1, 'a@b', 'w@b', '{x@y,y@z}', '2000-02-03'), (2, 'c@d', 'v@b', NULL, NULL);
    CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TABLE feeling (id int, m mood, ms mood[]); INSERT INTO feeling VALUES (1, 'ok', '{sad,happy}'), (2, 'happy', '{}');
    CREATE TYPE address AS (street text, number int, since date);
    CREATE TABLE house (id int, a address, others address[]);
    INSERT INTO house VALUES (1, ROW('Main "St"', 5, '2001-01-01'), ARRAY[ROW('x', 1, NULL)::address]), (2, NULL, NULL);
    CREATE TYPE span AS RANGE (subtype = int); CREATE TYPE stretch AS RANGE (subtype = float8, subtype_diff = float8mi);
    CREATE TABLE stay (id int, r int4range, d daterange, t tstzrange, m nummultirange, s span, f stretch, ss span[]);
    INSERT INTO stay VALUES (1, '[1,5)', '[2024-01-01,2024-02-01)', '[2024-01-01 00:00+00,)', '{[1,2],[5,6]}', '[1,9)', '[1.5,2.5]', '{"[1,2)"}');
    CREATE TABLE kinds (b bool, c "char", s2 int2, s8 int8, r float4, d float8, n numeric, m money, t text, v varchar(9), ch char(4),
        by bytea, ts timestamp, tz timestamptz, da date, ti time, iv interval, u uuid, i inet, ci cidr, ma macaddr, bi bit(3), vb varbit,
        p point, l line, bx box, pa path, po polygon, ce circle, tv tsvector, tq tsquery, ls pg_lsn, o oid, na name, j json, jb jsonb, jp jsonpath);
    INSERT INTO kinds VALUES (true, 'x', 1, 2, 1.1, 2.2, 3.30, 4.40, 'text é', 'vary', 'ch', '\x00ff', '2024-01-02 03:04:05.6', '2024-01-02 03:04:05.6+00',
        '2024-01-02', '03:04:05', '1 year 2 days 03:00', '6bc74f43-13a0-4fc5-9d57-b1ac9b1d3c63', '10.0.0.1/8', '10.0.0.0/8', '08:00:2b:01:02:03', '101', '10',
        '(1,2)', '{1,2,3}', '(1,2),(3,4)', '((1,2),(3,4))', '((0,0),(1,1),(1,0))', '<(1,2),3>', 'a:1 b:2', 'a & b', '16/B374D848', 7, 'name',
        '{"a": [1, {"b": null}]}', '{"a": [1, {"b": 2}], "c": "d"}', '$.a[*]');
    CREATE TABLE lists (id int, ns int[], ts text[][], js jsonb[]); INSERT INTO lists VALUES (1, '{1,NULL,3}', '{{a,"b c"},{d,NULL}}', ARRAY['{"k": 1}'::jsonb]);
    GRANT SELECT ON ALL TABLES IN SCHEMA public TO public;
"#;

/// What must be cached.
const CACHED: &[&str] = &[
    "SELECT * FROM simple ORDER BY id",
    "SELECT * FROM over_view",
    "SELECT * FROM with_cte",
    "SELECT * FROM checked ORDER BY id",
    "SELECT * FROM report ORDER BY id",
    "SELECT * FROM over_report",
    "SELECT * FROM by_range ORDER BY id",
    "SELECT count(*) FROM by_range_1",
    "SELECT * FROM by_range WHERE id = 15",
    "SELECT tableoid::int8 > 0, * FROM by_hash ORDER BY id",
    "SELECT * FROM parent ORDER BY id",
    "SELECT * FROM ONLY parent",
    "SELECT * FROM child ORDER BY id",
    "SELECT * FROM computed ORDER BY id",
    "SELECT * FROM identified",
    "SELECT * FROM person ORDER BY id",
    "SELECT mail::text, mails[1], upper(mail), id + 1 FROM person WHERE mail = 'a@b'",
    "SELECT born + 1, work || 'x' FROM person ORDER BY id",
    "SELECT * FROM feeling ORDER BY m",
    "SELECT m::text, 'sad'::mood < m, ms || 'ok'::mood FROM feeling WHERE m > 'sad' ORDER BY id",
    "SELECT max(m), array_agg(m ORDER BY m), enum_range(NULL::mood), enum_first(NULL::mood), enum_last('ok'::mood) FROM feeling",
    "SELECT * FROM house ORDER BY id",
    "SELECT id, (a).street, (a).number + 1, others[1], (others[1]).street FROM house ORDER BY id",
    "SELECT ROW('s', 1, '2024-01-01')::address, '(s,2,)'::address, a = ROW('s', 1, NULL)::address FROM house ORDER BY id",
    "SELECT (a).* FROM house WHERE a IS NOT NULL",
    "SELECT * FROM stay",
    "SELECT lower(r), upper(d), r @> 3, d && '[2024-01-05,2024-01-06]', m + '{[7,8]}', s * '[2,3)', f @> 2::float8 FROM stay",
    "SELECT '[1,3)'::span, '[1.5,2)'::stretch, span(1, 4), int4range(1, 4), '{[1,2)}'::int4multirange, '[2024-01-01,)'::daterange",
    "SELECT range_agg(r), unnest(m) FROM stay GROUP BY m",
    "SELECT * FROM kinds",
    "SELECT by || '\\x01'::bytea, ts + iv, tz - iv, da + 1, age(tz, ts), i << '11.0.0.0/8', p <-> '(0,0)', tv @@ tq, o::int8, na::text FROM kinds",
    "SELECT * FROM lists",
    "SELECT ns[1], ts[1:1], ns || 4, array_length(ts, 1), unnest(ns), 3 = ANY (ns), array_to_string(ns, ','), js[1] FROM lists",
    "SELECT j -> 'a', j #>> '{a,1,b}', jb @> '{\"c\": \"d\"}', jb - 'a', jsonb_set(jb, '{c}', '1'), jb #> '{a,0}', jb @? '$.a', jsonb_path_query_array(jb, jp) FROM kinds",
    "SELECT key, value FROM kinds, jsonb_each_text(jb) ORDER BY key",
    "SELECT jsonb_agg(id ORDER BY id), json_build_object('a', max(v)), to_jsonb(array_agg(day ORDER BY id)), row_to_json(ROW(1, max(v))) FROM plain WHERE id < 3",
    "SELECT jsonb_pretty(jb), jb['a'][0], json_typeof(j), jsonb_array_length(jb -> 'a') FROM kinds",
];

const WITH_EXTENSIONS: &[&str] = &[
    "SELECT 'Ab'::citext = 'aB', 'Ab'::citext LIKE 'a%', lower('Ab'::citext), max(c), count(DISTINCT c) FROM ext",
    "SELECT c, h, p FROM ext WHERE c = 'ALPHA'",
    "SELECT h -> 'a', h ? 'b', h || 'c=>3', akeys(h), hstore_to_jsonb(h), hstore('x', 'y') FROM ext ORDER BY c",
    "SELECT p ~ 'top.*', p <@ 'top', nlevel(p), subpath(p, 0, 1), p || 'x' FROM ext ORDER BY c",
    "SELECT similarity(v, 'value one'), v <-> 'value', show_trgm('abc') FROM plain ORDER BY id",
    "SELECT v FROM plain WHERE v % 'value 1' ORDER BY id",
    "SELECT id % 7, word_similarity('value', v) FROM plain WHERE id % 2 = 0 ORDER BY id",
    "SELECT '{1,2,3}'::int[] & '{2,3}', '{3,1}'::int[] @> '{1}', sort('{3,1,2}'), idx('{5,6}', 6), '{1,2}'::int[] + 4 FROM lists",
    "SELECT cube(1, 2), '(1,2)'::cube @> '(1,2)', '1 .. 2'::seg && '1.5'::seg, '978-0-393-04002-9'::isbn13",
    "SELECT soundex(v), levenshtein(v, 'value'), metaphone(v, 4) FROM plain ORDER BY id",
    "SELECT earth_distance(ll_to_earth(1, 2), ll_to_earth(3, 4))",
    "SELECT replace(v, 'value', 'x'), split_part(v, ' ', 2), regexp_replace(v, 'v', 'w'), strpos(v, 'a'), translate(v, 'a', 'b') FROM plain ORDER BY id",
];

const EXTENDED_SCHEMA: &str = "CREATE TABLE ext (c citext, h hstore, p ltree);
    INSERT INTO ext VALUES ('Alpha', 'a=>1,b=>NULL', 'top.science'), ('beta', '', 'top');";

async fn serve(pg: Postgres, more: &str) -> Rig {
    rig(pg, &format!("{ROLES} {SCHEMA} {more} GRANT SELECT ON ALL TABLES IN SCHEMA public TO public;")).await
}

/// The answer in binary, and how it was served.
async fn binary(client: &mut Client, sql: &str) -> Vec<larder_testkit::Frame> {
    let messages = [
        frame::parse("", sql, &[]),
        frame::bind_formats("", "", &[], &[], &[1]),
        frame::describe_portal(""),
        frame::execute("", 0),
        frame::sync(),
    ];
    client.raw.send_all(&messages).await.unwrap();
    client.raw.until_ready().await.unwrap()
}

/// By every protocol and format: the origin's bytes, cold and from memory. Returns what is wrong.
async fn cached(twins: &mut Twins, sql: &str) -> Result<(), String> {
    for how in Protocol::ALL {
        let served = twins.ask(how, sql).await;
        served.rows().map_err(|state| format!("{sql}: {state} {:?}", served.frames))?;
        if served.how.starts_with("bypass") && !served.is_hit() {
            return Err(format!("{sql}: {how:?}: {}", served.how));
        }
        twins.hit(how, sql).await;
    }
    let expected = binary(&mut twins.direct, sql).await;
    for round in 0.. {
        let found = binary(&mut twins.larder, sql).await;
        assert_eq!(found, expected, "{sql}, binary, round {round}");
        let how = twins.larder.value("SHOW larder.last").await;
        if (Served { frames: found, how }).is_hit() {
            return Ok(());
        }
        if round > 200 {
            return Err(format!("{sql}: never a hit in binary"));
        }
    }
    Ok(())
}

async fn all_cached(rig: &Rig, reads: &[&str]) -> Vec<String> {
    let mut wrong = vec![];
    // Somebody else first.
    for user in ["postgres", "ann"] {
        let mut twins = Twins::new(rig, &login(user)).await;
        for read in reads {
            wrong.extend(cached(&mut twins, read).await.err());
        }
    }
    wrong
}

#[tokio::test]
async fn objects_and_types_of_every_kind_are_cached() {
    let mut wrong = vec![];
    for version in [PgVersion::V15, PgVersion::V18] {
        let mut reads = CACHED.to_vec();
        let mut more = "";
        if version == PgVersion::V18 {
            more = "CREATE TABLE virtual (id int, twice int GENERATED ALWAYS AS (id * 2) VIRTUAL, low text GENERATED ALWAYS AS (lower('V' || id)));
                INSERT INTO virtual VALUES (1), (2);";
            reads.push("SELECT * FROM virtual WHERE twice > 2");
        }
        let rig = serve(pg(version), more).await;
        wrong.extend(all_cached(&rig, &reads).await.into_iter().map(|what| format!("{version}: {what}")));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn extensions_are_as_good_as_built_in() {
    each_version(async |pg| {
        let mut wrong = vec![];
        let extensions: String =
            EXTENSIONS.iter().map(|name| format!("CREATE EXTENSION \"{name}\";")).collect();
        let rig = serve(pg, &format!("{extensions} {EXTENDED_SCHEMA}")).await;
        wrong.extend(all_cached(&rig, WITH_EXTENSIONS).await);
        // The other statements stay what they were: an extension's operators have the names of common ones.
        wrong.extend(all_cached(&rig, CACHED).await);
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    })
    .await;
}

/// A conversion to a domain runs its checks, which can be anything.
#[tokio::test]
async fn conversions_to_domains_are_left_to_the_origin() {
    each_version(async |pg| {
        let rig = serve(pg, "").await;
        let mut twins = Twins::new(&rig, &login("ann")).await;
        for read in [
            "SELECT 'x@y'::email, '{a@b}'::email[]",
            "SELECT v::email FROM (VALUES ('a@b')) x(v)",
            "SELECT '2024-05-06'::birthday FROM person",
            "SELECT NULL::work_email",
        ] {
            twins.bypassed(read, "user_type").await;
        }
    })
    .await;
}
