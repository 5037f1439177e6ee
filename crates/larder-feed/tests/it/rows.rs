//! Which rows of a part a committed change touches.

use std::sync::Arc;

use larder_cache::{Part, Tag};
use larder_core::catalog::Column;
use larder_core::{RowValue, relation_tag, row_id};
use larder_feed::Plugin;
use larder_sandbox::{PgVersion, Postgres};

use crate::rig::{self, Rig};

crate::on_both! {
    rows_by_replica_identity => super::identities;
    every_kind_of_statement_touches_its_rows => super::statements;
    long_values_that_were_not_changed => super::toast;
    rows_of_partitions_and_children_are_those_of_their_parents => super::relatives;
    values_are_the_same_in_statements_and_in_the_log => super::values;
    generated_columns => super::generated;
    names_and_values_with_quotes => super::odd_names;
    columns_in_another_encoding => super::latin1;
    many_rows_are_all_rows => super::bulk;
}

const NULL: &str = "NULL";

/// A part of a table, and some of its rows, as an answer would hold them.
struct Watch {
    part: Arc<Part>,
    rows: Vec<(&'static str, Arc<Tag>)>,
}

impl Watch {
    /// Rows are spelled as in a statement, with a `|` between the columns.
    fn new(rig: &Rig, table: &str, columns: &[&str], rows: &[&'static str]) -> Self {
        let catalog = rig.catalog();
        let relation = catalog.resolve(None, table, &["public".to_owned()]).unwrap();
        let part = rig.shared.tags.get(&relation_tag(relation.oid)).part(columns).unwrap();
        let find = |name: &&str| relation.columns.iter().find(|column| column.name == **name).unwrap();
        let found: Vec<&Column> = columns.iter().map(find).collect();
        let tag = |row: &&'static str| {
            let values = row.split('|').zip(&found).map(|(text, column)| match text {
                NULL => RowValue::Null,
                text => column.value_type.and_then(|of| of.read_text(text.as_bytes())).unwrap(),
            });
            (*row, part.row(row_id(&values.collect::<Vec<_>>())))
        };
        Self { rows: rows.iter().map(tag).collect(), part }
    }

    fn changes(&self) -> Vec<u64> {
        self.rows.iter().map(|(_, tag)| tag.last_change()).chain([self.part.all().last_change()]).collect()
    }

    /// Runs SQL, and says which rows it touched: `all`, or by name.
    async fn touched_by(&self, rig: &Rig, sql: &str) -> String {
        let before = self.changes();
        rig.run(sql).await;
        rig.covered_from_now().await;
        let names = self.rows.iter().map(|(name, _)| *name).chain(["all"]);
        let touched = names.zip(before).zip(self.changes()).filter(|((_, before), after)| after > before);
        touched.map(|((name, _), _)| name).collect::<Vec<_>>().join(" ")
    }
}

pub(crate) async fn identities(version: PgVersion) {
    let schema = "create table d (id int primary key, code text not null, v text);
        create table f (id int primary key, code text not null, v text); alter table f replica identity full;
        create table u (id int primary key, code text not null, v text); create unique index code on u (code) include (v);
        alter table u replica identity using index code;
        create table n (id int primary key, code text not null, v text); alter table n replica identity nothing;
        create table late (id int primary key deferrable initially deferred, code text not null, v text);
        create table bare (id int, code text not null, v text);";
    let rig = Rig::start(version, schema).await;
    for (table, by_id, by_code) in [
        ("d", ["1", "1", "1 2", "2"], ["a", "all", "all", "all"]),
        ("f", ["1", "1", "1 2", "2"], ["a", "a", "a", "a b"]),
        ("u", ["1", "all", "all", "all"], ["a", "a", "a", "a b"]),
        ("n", ["1", "all", "all", "all"], ["a", "all", "all", "all"]),
        ("late", ["1", "all", "all", "all"], ["a", "all", "all", "all"]),
        ("bare", ["1", "all", "all", "all"], ["a", "all", "all", "all"]),
    ] {
        if rig::plugin() != Plugin::TestDecoding && ["n", "late", "bare"].contains(&table) {
            // The publication forbids what the log could not tell.
            let sql = format!("insert into {table} values (1, 'a'); update {table} set v = 'y'");
            assert!(rig.client.batch_execute(&sql).await.is_err());
            continue;
        }
        let ids = Watch::new(&rig, table, &["id"], &["1", "2", "3"]);
        let codes = Watch::new(&rig, table, &["code"], &["a", "b", "c"]);
        let steps = [
            format!("insert into {table} values (1, 'a', 'x')"),
            format!("update {table} set v = 'y'"),
            format!("update {table} set id = 2"),
            format!("update {table} set code = 'b'"),
        ];
        let inserted = Watch::new(&rig, table, &["id", "code"], &["1|a", "1|b"]);
        for ((sql, id), code) in steps.iter().zip(by_id).zip(by_code) {
            let before = codes.changes();
            let first = inserted.changes();
            assert_eq!(ids.touched_by(&rig, sql).await, id, "{sql}");
            let after = codes.changes();
            let names = ["a", "b", "c", "all"].iter().zip(before.iter().zip(&after));
            let touched: Vec<_> =
                names.filter(|(_, (before, after))| after > before).map(|(name, _)| *name).collect();
            assert_eq!(touched.join(" "), code, "{sql}");
            if sql.starts_with("insert") {
                let grew: Vec<_> = first.iter().zip(inserted.changes()).map(|(a, b)| b > *a).collect();
                assert_eq!(grew, [true, false, false], "{sql}");
            }
        }
        let sql = format!("delete from {table}");
        let deleted = match table {
            "d" => "2",
            "f" => "2",
            _ => "all",
        };
        // Without an identity UPDATE and DELETE are still allowed: no publication asks for one.
        assert_eq!(ids.touched_by(&rig, &sql).await, deleted, "{sql}");
    }
}

pub(crate) async fn statements(version: PgVersion) {
    let rig = Rig::start(version, "create table t (id int primary key, v text)").await;
    let rows = Watch::new(&rig, "t", &["id"], &["1", "2", "3"]);
    for (sql, expected) in [
        ("insert into t values (1, 'x'), (2, 'y')", "1 2"),
        ("update t set v = 'z' where id = 2", "2"),
        ("insert into t values (1, 'a'), (3, 'b') on conflict (id) do update set v = excluded.v", "1 3"),
        (
            "begin; savepoint a; delete from t where id = 1; rollback to a; delete from t where id = 3; commit",
            "3",
        ),
        ("begin; delete from t; rollback", ""),
        ("update t set id = id + 1 where id = 2", "2 3"),
        (
            "merge into t using (values (1), (2)) as s (id) on t.id = s.id when matched then delete
             when not matched then insert values (s.id, 'm')",
            "1 2",
        ),
        ("do $$ begin update t set v = 'f' where id = 3; end $$", "3"),
        ("begin; update t set v = 'f' where id = 3; truncate t; commit", "all"),
        ("begin; insert into t values (1); truncate t; insert into t values (2); commit", "all"),
        ("begin; insert into t values (3); prepare transaction 'g'", ""),
        ("commit prepared 'g'", "3"),
        ("select * from t for update", ""),
        ("vacuum full t", ""),
    ] {
        assert_eq!(rows.touched_by(&rig, sql).await, expected, "{sql}");
    }
    let before = rows.changes();
    rig.pg.sql("copy t (id) from stdin;\n1\n10\n\\.\n").unwrap();
    rig.covered_from_now().await;
    let grew: Vec<_> = before.iter().zip(rows.changes()).map(|(before, after)| after > *before).collect();
    assert_eq!(grew, [true, false, false, false]);
    assert_eq!(rig.shared.health.touched_rows.load(std::sync::atomic::Ordering::Relaxed), 14);
}

pub(crate) async fn toast(version: PgVersion) {
    let schema =
        "create table t (id int primary key, big text, v text); alter table t alter big set storage external;
        create table f (big text, id int primary key, v text); alter table f alter big set storage external;
        alter table f replica identity full;
        insert into t values (1, repeat('x', 9000), 'a'); insert into f values (repeat('x', 9000), 1, 'a');";
    let rig = Rig::start(version, schema).await;
    let long: &'static str = "x".repeat(9000).leak();
    for (table, by_big) in [("t", "all"), ("f", long)] {
        let ids = Watch::new(&rig, table, &["id"], &["1", "2"]);
        assert_eq!(ids.touched_by(&rig, &format!("update {table} set v = 'b'")).await, "1", "{table}");
        let bigs = Watch::new(&rig, table, &["big"], &[long, "y"]);
        assert_eq!(bigs.touched_by(&rig, &format!("update {table} set v = 'c'")).await, by_big, "{table}");
    }
}

async fn relatives(version: PgVersion) {
    let schema = "create table root (a int, b text, primary key (a, b)) partition by list (a);
        create table one (junk int, b text not null, a int not null); alter table one drop column junk;
        alter table root attach partition one for values in (1);
        create table two partition of root for values in (2); alter table two replica identity full;
        create table three (b text not null, a int not null); alter table root attach partition three for values in (3);
        alter table three replica identity nothing;
        create table parent (id int primary key, v text); create table child (extra int, primary key (id)) inherits (parent);
        create table orphan () inherits (parent);";
    let rig = Rig::start(version, schema).await;
    let root = Watch::new(&rig, "root", &["a"], &["1", "2", "3"]);
    let one = Watch::new(&rig, "one", &["b"], &["x", "y"]);
    for (sql, expected) in [
        ("insert into root values (1, 'x'), (2, 'x')", "1 2"),
        ("update root set b = 'y' where a = 1", "1"),
        ("update root set a = 2 where a = 1", "1 2"),
        ("update two set a = 2", "2"),
        ("insert into three values ('x', 3)", "3"),
        ("update three set b = 'y'", "all"),
        ("truncate two", "all"),
    ] {
        assert_eq!(root.touched_by(&rig, sql).await, expected, "{sql}");
    }
    assert_eq!(one.touched_by(&rig, "insert into root values (1, 'x')").await, "x");
    assert_eq!(one.touched_by(&rig, "update root set b = 'y' where a = 1").await, "x y");
    assert_eq!(one.touched_by(&rig, "insert into root values (2, 'x')").await, "");
    let parent = Watch::new(&rig, "parent", &["id"], &["1", "2"]);
    for (sql, expected) in [
        ("insert into child values (1, 'x', 5)", "1"),
        ("update parent set v = 'y'", "1"),
        ("insert into orphan values (2, 'x')", "2"),
        ("update orphan set v = 'y'", "all"),
        ("update parent set id = 1 where id = 1", "1"),
    ] {
        assert_eq!(parent.touched_by(&rig, sql).await, expected, "{sql}");
    }
}

/// Types, values as statements spell them, and what sends them in binary format.
const VALUES: &[(&str, &str, &str)] = &[
    ("smallint", "-7", "int2send"),
    ("integer", "2147483647", "int4send"),
    ("bigint", "-9223372036854775808", "int8send"),
    ("numeric", "1.50", "numeric_send"),
    ("numeric(10,4)", "12345.5", "numeric_send"),
    ("numeric", "-0.000012", "numeric_send"),
    ("numeric", "100000000", "numeric_send"),
    ("text", "it's \\ \"quoted\" null", "textsend"),
    ("text", "null", "textsend"),
    ("text", "unchanged-toast-datum", "textsend"),
    ("text", "", "textsend"),
    ("varchar(20)", " padded ", "varcharsend"),
    ("char(9)", "padded", "bpcharsend"),
    ("bytea", "\\x00ff5c27", "byteasend"),
    ("uuid", "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "uuid_send"),
    ("boolean", "t", "boolsend"),
    ("boolean", "false", "boolsend"),
    ("date", "2024-02-29", "date_send"),
    ("date", "0001-01-01", "date_send"),
    ("time", "03:04:05.678", "time_send"),
    ("timestamp", "1999-12-31 23:59:59.999999", "timestamp_send"),
    ("timestamp(0)", "2026-11-24T03:04:05", "timestamp_send"),
    ("timestamptz", "2026-11-24 03:04:05.5+01", "timestamptz_send"),
    ("timestamptz", "1890-01-01 00:00:00Z", "timestamptz_send"),
    ("mood", "so 'so'", "enum_send"),
    ("counted", "5", "int4send"),
    ("again", "7", "int4send"),
];

pub(crate) async fn values(version: PgVersion) {
    let mut schema = "create type mood as enum ('sad', 'so ''so'''); create domain counted as int check (value > 0);
        create domain again as counted; create table id (id int);
        create collation loose (locale = 'C'); update pg_collation set collisdeterministic = false where collname = 'loose';
        create table others (f float8, j jsonb, c text collate loose, a int[], i interval, x \"char\", p point, b bit(3));
        alter role larder set datestyle = 'German'; alter role larder set timezone = 'Asia/Kathmandu';
        alter role larder set bytea_output = 'escape'; alter role larder set quote_all_identifiers = on;"
        .to_owned();
    for (n, (kind, _, _)) in VALUES.iter().enumerate() {
        schema += &format!("create table t{n} (v {kind});");
    }
    let rig = Rig::start(version, &schema).await;
    for (n, (kind, text, send)) in VALUES.iter().enumerate() {
        let table = format!("t{n}");
        let rows = Watch::new(&rig, &table, &["v"], &[text, NULL]);
        let sql = format!("insert into {table} values ('{}')", text.replace('\'', "''"));
        assert_eq!(rows.touched_by(&rig, &sql).await, *text, "{kind}");
        let sql = format!("insert into {table} values (null)");
        assert_eq!(rows.touched_by(&rig, &sql).await, NULL, "{kind}");
        let sql = format!("select {send}(v) from {table} where v is not null");
        let binary: Vec<u8> = rig.client.query_one(&sql, &[]).await.unwrap().get(0);
        let of = rig.catalog().relations[&rig.oid(&table).await].columns[0].value_type.unwrap();
        assert_eq!(of.read_binary(&binary), of.read_text(text.as_bytes()), "{kind} {text}");
    }
    let others = Arc::clone(&rig.catalog().relations[&rig.oid("others").await]);
    for column in &others.columns {
        assert_eq!(column.value_type, None, "{}", column.name);
        let part = Watch::new(&rig, "others", &[&column.name], &[]);
        assert_eq!(
            part.touched_by(&rig, "insert into others (f) values (1)").await,
            "all",
            "{}",
            column.name
        );
    }
}

async fn generated(version: PgVersion) {
    let schema = "create table t (id int primary key, g int generated always as (id + 10) stored);";
    let rig = Rig::start(version, schema).await;
    let rows = Watch::new(&rig, "t", &["g"], &["11", "12"]);
    assert_eq!(rows.touched_by(&rig, "insert into t values (1)").await, "11");
    assert_eq!(rows.touched_by(&rig, "update t set id = 2").await, "all");
    if version == PgVersion::V18 {
        rig.run("create table v (id int primary key, g int generated always as (id + 10) virtual)").await;
        rig.covered_from_now().await;
        let rows = Watch::new(&rig, "v", &["g"], &[]);
        assert_eq!(rows.touched_by(&rig, "insert into v values (1)").await, "all");
    }
}

pub(crate) async fn odd_names(version: PgVersion) {
    let schema = r#"create type "odd ]: ""type""" as enum ('a', 'b''[x]:'); create schema s; create type s."t[" as enum ('q');
        create table "t: INSERT: " (" ""a]:'" s."t[", "b c" "odd ]: ""type""", "old-key:" text, "SELECT" int primary key);"#;
    let rig = Rig::start(version, schema).await;
    let table = "t: INSERT: ";
    let keys = Watch::new(&rig, table, &["SELECT"], &["1", "2"]);
    let kinds = Watch::new(&rig, table, &["b c", " \"a]:'"], &["a|q", "b'[x]:|q", "NULL|q"]);
    let insert = r#"insert into "t: INSERT: " values ('q', 'b''[x]:', ' new-tuple: "SELECT"[integer]:2', 1)"#;
    assert_eq!(kinds.touched_by(&rig, insert).await, "b'[x]:|q");
    let update = r#"update "t: INSERT: " set "old-key:" = ' (no-tuple-data)', "SELECT" = 2"#;
    assert_eq!(keys.touched_by(&rig, update).await, "1 2");
    assert_eq!(keys.touched_by(&rig, r#"update "t: INSERT: " set "b c" = null"#).await, "2");
}

/// Columns are found by the names that they have in the database's encoding.
async fn latin1(version: PgVersion) {
    let pg = Postgres::builder().version(version).setting("wal_level", "logical").start().unwrap();
    pg.sql("create role larder login replication").unwrap();
    pg.sql("create database latin template template0 encoding 'LATIN1' lc_collate 'C' lc_ctype 'C'").unwrap();
    pg.sql_in("latin", "set client_encoding = 'UTF8'; create table t (é int, Ã© int, v text)").unwrap();
    let mut config = rig::config(&pg, "larder");
    config.account.database = "latin".to_owned();
    let shared = rig::shared(&config);
    let feed = tokio::spawn(larder_feed::run(config, shared.clone()));
    let covered = || shared.fence.wait_covered(larder_cache::Moment::now(), rig::LIMIT);
    assert!(covered().await);
    let oid = shared.catalog.load_full().unwrap().relation_names["public"]["t"];
    let whole = shared.tags.get(&relation_tag(oid));
    let (right, other, text) =
        (whole.part(&["é"]).unwrap(), whole.part(&["Ã©"]).unwrap(), whole.part(&["v"]).unwrap());
    pg.sql_in("latin", "set client_encoding = 'UTF8'; insert into t values (1, 2, 'é')").unwrap();
    assert!(covered().await);
    let touched = |part: &Part, value: i64| part.row(row_id(&[RowValue::Integer(value)])).last_change() > 0;
    assert!(touched(&right, 1) && !touched(&right, 2) && touched(&other, 2) && !touched(&other, 1));
    let value = RowValue::Bytes([0xe9].into());
    assert!(text.row(row_id(&[value])).last_change() > 0);
    assert!([right, other, text].iter().all(|part| part.all().last_change() == 0));
    feed.abort();
}

pub(crate) async fn bulk(version: PgVersion) {
    let rig = Rig::start(version, "create table t (id int primary key, v text)").await;
    let rows = Watch::new(&rig, "t", &["id"], &["1", "2", "2000"]);
    let many = "insert into t select g, 'x' from generate_series(1, 1000) g";
    assert_eq!(rows.touched_by(&rig, many).await, "1 2");
    let too_many = "insert into t select g, 'x' from generate_series(1001, 100000) g";
    assert_eq!(rows.touched_by(&rig, too_many).await, "all");
    assert_eq!(rows.touched_by(&rig, "update t set v = 'y'").await, "all");
    assert_eq!(rows.touched_by(&rig, "update t set v = 'z' where id = 2").await, "2");
    assert!(rows.part.len() < 10_000, "{}", rows.part.len());
}
