//! What the catalog says.

use larder_core::catalog::{Persistence, RelationKind, TypeClass, Volatility};
use larder_sandbox::PgVersion;

use crate::rig::Rig;

crate::on_both! {
    relations_are_described => super::relations;
    columns_are_described => super::columns;
    writes_with_effects_elsewhere_are_known => super::writes_elsewhere;
    functions_operators_types_and_casts => super::functions_and_types;
}

fn public() -> Vec<String> {
    vec!["pg_catalog".to_owned(), "public".to_owned()]
}

async fn relations(version: PgVersion) {
    let schema = "create table t (id int, gone int, v text); alter table t drop column gone;
        create unlogged table u (id int); create view w as select upper(v) as up from t;
        create schema s; create table s.t (id int); alter table s.t enable row level security;
        create policy p on s.t using (id = current_setting('App.tenant')::int);
        create policy q on s.t for select using (exists (select from t where t.id = s.t.id));
        create policy r on s.t for insert with check (current_setting('app.writer', true) = 'x');
        create table forced (id int); alter table forced force row level security;
        create view v as select current_setting('app.viewer', true) as viewer;
        create materialized view m as select 1 as one; create sequence seq;
        create table root (id int) partition by range (id); create table leaf partition of root default;";
    let rig = Rig::start(version, schema).await;
    rig.run("create temp table temporary (id int)").await;
    let catalog = rig.catalog();
    assert_eq!(catalog.database, "postgres");
    assert!(catalog.server_version >= 150_000);
    let find = |schema, name| catalog.resolve(schema, name, &public()).unwrap();
    let t = find(None, "t");
    assert_eq!(
        (t.oid, t.kind, t.persistence),
        (rig.oid("t").await, RelationKind::Table, Persistence::Permanent)
    );
    assert_eq!(
        t.columns.iter().map(|column| (column.name.as_str(), column.type_oid)).collect::<Vec<_>>(),
        [("id", 23), ("v", 25)]
    );
    assert!(!t.row_security && !t.has_rules && !t.is_system && !t.writes_elsewhere && t.view_query.is_none());
    assert_eq!(find(None, "u").persistence, Persistence::Unlogged);
    let guarded = find(Some("s"), "t");
    assert!(guarded.row_security && !find(None, "forced").row_security);
    let mut policies = guarded.policies.clone();
    policies.sort();
    assert_eq!(policies.len(), 2, "{policies:?}");
    assert!(policies[0].contains("FROM public.t"), "{policies:?}");
    assert_eq!(policies[1], "(id = (current_setting('App.tenant'::text))::integer)");
    assert_eq!(*catalog.settings, ["app.tenant", "app.viewer"]);
    let w = find(None, "w");
    assert_eq!(w.kind, RelationKind::View);
    assert!(!w.has_rules && w.writes_elsewhere);
    let query = w.view_query.as_deref().unwrap();
    assert!(query.contains("public.t") && !query.contains(';'), "{query}");
    assert_eq!(find(None, "m").kind, RelationKind::MaterializedView);
    assert_eq!(find(None, "seq").kind, RelationKind::Sequence);
    let (root, leaf) = (find(None, "root"), find(None, "leaf"));
    assert_eq!(root.kind, RelationKind::PartitionedTable);
    assert_eq!((root.descendants.as_slice(), leaf.ancestors.as_slice()), (&[leaf.oid][..], &[root.oid][..]));
    assert!(find(Some("pg_catalog"), "pg_class").is_system);
    assert!(find(Some("information_schema"), "tables").is_system);
    assert!(catalog.resolve(None, "temporary", &public()).is_none());
}

/// By its columns: `*` is in the replica identity, `?` is not told apart.
async fn columns(version: PgVersion) {
    let schema = "create domain d as varchar(9); create domain dd as d; create type e as enum ('a');
        create collation loose (locale = 'C'); update pg_collation set collisdeterministic = false where collname = 'loose';
        create domain ld as text collate loose;
        create table keyed (a int, gone int, b text, c dd, f float8, l text collate loose, ld ld, e e, primary key (b, a) include (c));
        alter table keyed drop column gone;
        create table deferrable_key (a int primary key deferrable, b text);
        create table bare (a int, b int unique);
        create table whole (a int primary key, b text); alter table whole replica identity full;
        create table none (a int primary key, b text); alter table none replica identity nothing;
        create table chosen (a int primary key, b text not null, c int); create unique index by_b on chosen (b) include (c);
        alter table chosen replica identity using index by_b;
        create table lost (a int primary key, b text not null); create unique index gone on lost (b);
        alter table lost replica identity using index gone; drop index gone;
        create table root (a int primary key, b text) partition by range (a); create table leaf partition of root default;
        create table computed (a int primary key, g int generated always as (a + 1) stored);";
    let rig = Rig::start(version, schema).await;
    let catalog = rig.catalog();
    let describe = |table: &str| {
        let relation = catalog.resolve(None, table, &public()).unwrap();
        assert_eq!(relation.logs_old_rows, table == "whole");
        let columns = relation.columns.iter().map(|column| {
            let identity = if column.in_identity { "*" } else { "" };
            let unknown = if column.value_type.is_none() { "?" } else { "" };
            format!("{}{identity}{unknown}", column.name)
        });
        columns.collect::<Vec<_>>().join(" ")
    };
    for (table, expected) in [
        ("keyed", "a* b* c f? l? ld? e"),
        ("deferrable_key", "a b"),
        ("bare", "a b"),
        ("whole", "a* b*"),
        ("none", "a b"),
        ("chosen", "a b* c"),
        ("lost", "a b"),
        ("leaf", "a* b"),
        ("computed", "a* g"),
    ] {
        assert_eq!(describe(table), expected, "{table}");
    }
    if version == PgVersion::V18 {
        rig.run("create table unstored (a int primary key, g int generated always as (a + 1) virtual)").await;
        rig.covered_from_now().await;
        let catalog = rig.catalog();
        assert_eq!(catalog.resolve(None, "unstored", &public()).unwrap().columns[1].value_type, None);
    }
}

async fn writes_elsewhere(version: PgVersion) {
    let schema = "create function trig() returns trigger language plpgsql as 'begin return new; end';
        create function f(int) returns int language plpgsql immutable as 'begin return 1; end';
        create table plain (id int primary key generated always as identity, at timestamptz default now(),
            u uuid default gen_random_uuid(), check (id > 0), low text generated always as (upper(id::text)) stored);
        create index on plain (lower(low));
        create table refers (id int references plain);
        create type mood as enum ('a'); create table enumerated (m mood default 'a', ms mood[]);
        create domain simple as text check (value ~ '@'); create table with_simple (v simple);
        create table triggered (id int); create trigger x after insert on triggered execute function trig();
        create table deferred (id int);
        create constraint trigger x after insert on deferred deferrable initially deferred for each row execute function trig();
        create table ruled (id int); create rule r as on insert to ruled do also delete from plain;
        create table cascades (id int primary key);
        create table cascaded (id int references cascades on delete cascade);
        create table defaulted (id int default f(1)); create table checked (id int check (f(id) > 0));
        create table computed (id int, g int generated always as (f(id)) stored);
        create table indexed (id int); create index on indexed (f(id));
        create table partial (id int); create index on partial (id) where f(id) > 0;
        create table keyed (id int) partition by range (f(id));
        create domain checked_domain as int check (f(value) > 0); create table with_domain (v checked_domain);
        create type pair as (a int, b int); create table with_pair (v pair);
        create table root (id int) partition by range (id); create table leaf partition of root default;
        create trigger x after insert on leaf for each row execute function trig();
        create table quiet (id int) partition by range (id); create table quiet1 partition of quiet default;";
    let rig = Rig::start(version, schema).await;
    let catalog = rig.catalog();
    let names = catalog.relation_names["public"].iter();
    let tables = names.filter(|(_, oid)| {
        matches!(catalog.relations[*oid].kind, RelationKind::Table | RelationKind::PartitionedTable)
    });
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for (name, oid) in tables {
        if catalog.relations[oid].writes_elsewhere {
            with.push(name)
        } else {
            without.push(name)
        };
    }
    with.sort();
    without.sort();
    let expected = [
        "cascades",
        "checked",
        "computed",
        "defaulted",
        "deferred",
        "indexed",
        "keyed",
        "leaf",
        "partial",
        "root",
        "ruled",
        "triggered",
        "with_domain",
        "with_pair",
    ];
    assert_eq!(with, expected);
    let expected = ["cascaded", "enumerated", "plain", "quiet", "quiet1", "refers", "with_simple"];
    assert_eq!(without, expected);
}

async fn functions_and_types(version: PgVersion) {
    let schema =
        "create schema s; create function s.f(int) returns int language sql immutable as 'select $1';
        create function s.f(text) returns int language sql stable as 'select 1';
        create aggregate s.total(int) (sfunc = int4pl, stype = int);
        create operator s.@@@ (leftarg = int, rightarg = int, procedure = int4eq);
        create extension citext; -- defines =, ~ and more, in C, immutable: as good as built in
        create type mood as enum ('a'); create domain d as int; create type pair as (a int, b int);
        create type span as range (subtype = int);";
    let rig = Rig::start(version, schema).await;
    let catalog = rig.catalog();
    let path = public();
    let one = |schema, name| catalog.functions(schema, name, &path).next().unwrap();
    let f = one(Some("s"), "f");
    assert_eq!(
        (f.volatility, f.built_in, f.extension_c, f.aggregate),
        (Volatility::Stable, false, false, false)
    );
    assert!(one(Some("s"), "total").aggregate);
    let now = one(None, "now");
    assert_eq!((now.volatility, now.built_in), (Volatility::Stable, true));
    assert_eq!(one(None, "random").volatility, Volatility::Volatile);
    let count = one(None, "count");
    assert!(count.aggregate && count.built_in && count.volatility == Volatility::Immutable);
    assert_eq!(catalog.user_operators.keys().collect::<Vec<_>>(), ["@@@"]);
    assert!(catalog.user_operators["@@@"].contains("s"));
    let class = |name| catalog.resolve_type(None, name, &path).unwrap().class;
    assert_eq!(class("int4"), TypeClass::BuiltIn);
    assert_eq!(class("_int4"), TypeClass::Array(23));
    assert_eq!(
        (class("mood"), class("d"), class("pair"), class("span")),
        (TypeClass::Enum, TypeClass::Domain, TypeClass::Composite, TypeClass::Range)
    );
    assert_eq!(catalog.resolve_type(None, "timestamptz", &path).unwrap().category, 'D');
    assert_eq!(catalog.type_names[&23], ("pg_catalog".to_owned(), "int4".to_owned()));
    assert!(!catalog.has_user_casts);
    rig.epochs_of("create cast (text as mood) with inout", true).await;
    assert!(rig.catalog().has_user_casts);
}
