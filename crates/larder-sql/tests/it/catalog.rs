//! A small catalog made by hand: a few tables of each kind, and the built-ins that the cases use.

use std::sync::Arc;

use larder_core::catalog::{
    Column, FunctionGroup, Persistence, Relation, RelationKind, Type, TypeClass, Volatility,
};
use larder_core::{Catalog, ValueType};

/// The path of every case.
pub(crate) fn path() -> Vec<String> {
    vec!["pg_catalog".into(), "public".into()]
}

/// The relation's OID.
pub(crate) fn oid(catalog: &Catalog, name: &str) -> u32 {
    catalog.relation_names.get("public").and_then(|names| names.get(name)).copied().expect(name)
}

/// Names of relations of `public`, in the order of the OIDs.
pub(crate) fn names(catalog: &Catalog, oids: &[u32]) -> String {
    let names: Vec<&str> = oids.iter().map(|oid| catalog.relations[oid].name.as_str()).collect();
    names.join(" ")
}

/// Version 18, without user-defined casts.
pub(crate) fn catalog() -> Catalog {
    let mut catalog =
        Catalog { version: 1, database: "shop".into(), server_version: 180_000, ..Catalog::default() };
    add_types(&mut catalog);
    add_functions(&mut catalog);
    add_tables(&mut catalog);
    add_views(&mut catalog);
    catalog.settings = ["app.name", "app.since", "app.tenant", "app.user"].map(str::to_owned).into();
    catalog.user_operators.insert("===".into(), ["public".to_owned()].into());
    catalog.user_operators.insert("<->".into(), ["other".to_owned()].into());
    catalog
}

const BUILT_IN_TYPES: &[(&str, char)] = &[
    ("bool", 'B'),
    ("bytea", 'U'),
    ("date", 'D'),
    ("float8", 'N'),
    ("int4", 'N'),
    ("int8", 'N'),
    ("interval", 'T'),
    ("json", 'U'),
    ("jsonb", 'U'),
    ("money", 'N'),
    ("name", 'S'),
    ("numeric", 'N'),
    ("oid", 'N'),
    ("bpchar", 'S'),
    ("regclass", 'N'),
    ("regconfig", 'N'),
    ("regtype", 'N'),
    ("text", 'S'),
    ("time", 'D'),
    ("timestamp", 'D'),
    ("timestamptz", 'D'),
    ("timetz", 'D'),
    ("uuid", 'U'),
    ("varchar", 'S'),
    ("xml", 'U'),
];

/// OIDs by which [`ValueType`] knows types.
const REAL_OIDS: [(&str, u32); 8] = [
    ("bool", 16),
    ("int8", 20),
    ("int4", 23),
    ("text", 25),
    ("varchar", 1043),
    ("date", 1082),
    ("numeric", 1700),
    ("uuid", 2950),
];

fn add_type(catalog: &mut Catalog, schema: &str, name: &str, class: TypeClass, category: char) -> u32 {
    let real = REAL_OIDS.iter().find(|(known, _)| *known == name).map(|(_, oid)| *oid);
    let oid = real.unwrap_or(20_000 + u32::try_from(catalog.type_names.len()).unwrap());
    catalog.type_names.insert(oid, (schema.into(), name.into()));
    let entry = Type { oid, schema: schema.into(), class, category, parts: None };
    catalog.types.entry(name.into()).or_default().push(entry);
    oid
}

fn add_types(catalog: &mut Catalog) {
    for (name, category) in BUILT_IN_TYPES {
        let element = add_type(catalog, "pg_catalog", name, TypeClass::BuiltIn, *category);
        add_type(catalog, "pg_catalog", &format!("_{name}"), TypeClass::Array(element), 'A');
    }
    for name in ["int4range", "tsrange", "tstzrange", "daterange", "tstzmultirange"] {
        add_type(catalog, "pg_catalog", name, TypeClass::BuiltIn, 'R');
    }
    add_type(catalog, "public", "mood", TypeClass::Enum, 'E');
    add_type(catalog, "public", "email", TypeClass::Domain, 'S');
    let address = add_type(catalog, "public", "address", TypeClass::Composite, 'C');
    add_type(catalog, "public", "_address", TypeClass::Array(address), 'A');
    add_type(catalog, "public", "hours", TypeClass::Range, 'R');
    for (name, class, parts) in [
        ("span", TypeClass::Range, &["int4"][..]),
        ("days", TypeClass::Range, &["date"]),
        ("pair", TypeClass::Composite, &["int4", "text"]),
        ("stamped", TypeClass::Composite, &["text", "timestamptz"]),
        ("mailed", TypeClass::Composite, &["int4", "email"]),
        ("nested", TypeClass::Composite, &["pair", "span"]),
    ] {
        let number =
            |wanted: &&str| *catalog.type_names.iter().find(|(_, (_, name))| name == wanted).unwrap().0;
        let parts = parts.iter().map(number).collect();
        add_type(catalog, "public", name, class, 'U');
        catalog.types.get_mut(name).unwrap()[0].parts = Some(parts);
    }
    add_type(catalog, "public", "citext", TypeClass::Extension, 'S');
}

/// Built-ins by worst volatility over their overloads, as PostgreSQL 18 has them.
const IMMUTABLE: &str = "abs array_agg array_length avg btrim ceil coalesce count date_bin dense_rank floor int4 \
    jsonb_array_elements jsonb_array_elements_text jsonb_each json_object lag left length lower make_date max md5 min \
    nullif octet_length overlay percentile_cont pg_partition_root position rank regexp_replace repeat replace round \
    row_number similar_to_escape like_escape split_part string_agg substring sum sqrt starts_with strpos text timetz_larger trunc \
    unnest upper jsonb_build hashtext";
const STABLE: &str = "age array_to_string array_to_json concat concat_ws current_database current_schema current_setting \
    date date_part date_trunc extract format generate_series has_table_privilege inet_client_addr json_agg \
    json_build_object jsonb_agg jsonb_build_object jsonb_path_query_tz json_populate_record now numeric obj_description \
    overlaps pg_backend_pid pg_collation_for pg_column_size pg_typeof quote_literal row_to_json statement_timestamp \
    table_to_xml time timestamp timestamptz timetz timezone to_char to_date to_json to_jsonb to_number to_regclass \
    to_timestamp to_tsquery to_tsvector ts_headline txid_current version jsonb_to_recordset";
const VOLATILE: &str = "clock_timestamp currval gen_random_uuid lo_unlink nextval pg_advisory_lock pg_advisory_unlock \
    pg_notify pg_relation_size pg_sleep pg_try_advisory_lock query_to_xml random set_config setval ts_stat";

fn group(schema: &str, volatility: Volatility, built_in: bool, extension_c: bool) -> FunctionGroup {
    FunctionGroup { schema: schema.into(), volatility, built_in, extension_c, aggregate: false }
}

fn add_functions(catalog: &mut Catalog) {
    use Volatility::{Immutable, Stable, Volatile};
    for (names, volatility) in [(IMMUTABLE, Immutable), (STABLE, Stable), (VOLATILE, Volatile)] {
        for name in names.split_whitespace() {
            let groups = catalog.functions.entry(name.into()).or_default();
            groups.push(group("pg_catalog", volatility, true, false));
        }
    }
    for (schema, name, volatility, extension_c) in [
        ("public", "tax", Immutable, false),
        ("public", "similarity", Immutable, true),
        ("public", "set_limit", Volatile, true),
        ("public", "show_limit", Stable, true),
        ("public", "uuid_generate_v4", Volatile, true),
        ("public", "nickname", Stable, false),
        // An overload of a built-in in the path, and one outside it.
        ("public", "repeat", Immutable, false),
        ("other", "lower", Volatile, false),
    ] {
        let groups = catalog.functions.entry(name.into()).or_default();
        groups.push(group(schema, volatility, false, extension_c));
    }
}

fn add_relation(catalog: &mut Catalog, schema: &str, name: &str, kind: RelationKind, columns: &str) -> u32 {
    let oid = 1000 + u32::try_from(catalog.relations.len()).unwrap();
    let columns = columns.split_whitespace().map(|column| {
        let (name, kind) = column.split_once(':').unwrap();
        let found = catalog.type_names.iter().find(|(_, (_, named))| named == kind);
        let type_oid = *found.expect(kind).0;
        let (value_type, in_identity) = (ValueType::of_oid(type_oid), name == "id");
        Column { name: name.into(), type_oid, value_type, in_identity, generated: name == "made" }
    });
    let relation = Relation {
        oid,
        schema: schema.into(),
        name: name.into(),
        kind,
        persistence: Persistence::Permanent,
        row_security: false,
        policies: Vec::new(),
        has_rules: false,
        is_system: matches!(schema, "pg_catalog" | "information_schema"),
        columns: columns.collect(),
        logs_old_rows: false,
        descendants: Vec::new(),
        ancestors: Vec::new(),
        view_query: None,
        writes_elsewhere: false,
    };
    catalog.relations.insert(oid, Arc::new(relation));
    catalog.relation_names.entry(schema.into()).or_default().insert(name.into(), oid);
    oid
}

fn change(catalog: &mut Catalog, oid: u32, with: impl FnOnce(&mut Relation)) {
    with(Arc::make_mut(catalog.relations.get_mut(&oid).unwrap()));
}

fn parent_of(catalog: &mut Catalog, parent: u32, children: &[u32]) {
    change(catalog, parent, |parent| parent.descendants = children.to_vec());
    for child in children {
        change(catalog, *child, |child| child.ancestors.push(parent));
    }
}

fn add_tables(catalog: &mut Catalog) {
    use RelationKind::{ForeignTable, MaterializedView, PartitionedTable, Sequence, Table, View};
    let users =
        "id:int4 name:text email:text created:timestamptz birthday:date data:jsonb mood:mood active:bool";
    add_relation(catalog, "public", "users", Table, users);
    let orders =
        "id:int4 user_id:int4 total:numeric placed:timestamp note:text due:date tags:_text days:_date";
    add_relation(catalog, "public", "orders", Table, orders);
    add_relation(catalog, "s1", "users", Table, users);

    let sales = add_relation(catalog, "public", "sales", PartitionedTable, "id:int4 day:date amount:numeric");
    let children = ["sales_a", "sales_b"]
        .map(|name| add_relation(catalog, "public", name, Table, "id:int4 day:date amount:numeric"));
    parent_of(catalog, sales, &children);
    for (parent, child, kind, persistence) in [
        ("far", "far_child", ForeignTable, Persistence::Permanent),
        ("loose", "loose_child", Table, Persistence::Unlogged),
        ("brief", "brief_child", Table, Persistence::Temporary),
    ] {
        let parent = add_relation(catalog, "public", parent, PartitionedTable, "id:int4");
        let child = add_relation(catalog, "public", child, kind, "id:int4");
        change(catalog, child, |relation| relation.persistence = persistence);
        parent_of(catalog, parent, &[child]);
    }

    let scratch = add_relation(catalog, "public", "scratch", Table, "id:int4");
    change(catalog, scratch, |relation| relation.persistence = Persistence::Unlogged);
    add_relation(catalog, "public", "remote", ForeignTable, "id:int4");
    add_relation(catalog, "public", "users_id_seq", Sequence, "last_value:int8");
    add_relation(catalog, "public", "report", MaterializedView, "id:int4");
    add_guarded(catalog);
    let ruled = add_relation(catalog, "public", "ruled", Table, "id:int4");
    change(catalog, ruled, |relation| relation.has_rules = true);
    let audited = add_relation(catalog, "public", "audited", Table, "id:int4");
    change(catalog, audited, |relation| relation.writes_elsewhere = true);
    let family = add_relation(catalog, "public", "family", PartitionedTable, "id:int4");
    let noisy = add_relation(catalog, "public", "noisy_child", Table, "id:int4");
    change(catalog, noisy, |relation| relation.writes_elsewhere = true);
    parent_of(catalog, family, &[noisy]);
    add_relation(catalog, "public", "shifts", Table, "id:int4 starts:time");
    add_relation(catalog, "public", "zones", Table, "id:int4 at:timetz");
    add_relation(catalog, "pg_catalog", "pg_class", Table, "oid:oid relname:name");
    add_relation(catalog, "information_schema", "tables", View, "table_name:name");
}

/// Relations with row-level security, by their policies as PostgreSQL prints them.
fn add_guarded(catalog: &mut Catalog) {
    let tenant = "(tenant = (current_setting('App.tenant'::text))::integer)";
    let member = "(EXISTS ( SELECT 1\n   FROM public.members m\n  WHERE ((m.project = projects.id) AND (m.login = CURRENT_USER))))";
    for (name, policies) in [
        ("closed", &[][..]),
        ("docs", &[tenant]),
        (
            "notes",
            &[tenant, "(author = (NULLIF(current_setting('app.user'::text, true), ''::text))::integer)"],
        ),
        ("members", &["(login = CURRENT_USER)"]),
        ("projects", &[member]),
        ("secret", &["((id)::text = current_setting(kind))"]),
        ("guarded", &["public.tax(id)"]),
        ("fading", &["(at > now())"]),
        ("circle", &["(EXISTS ( SELECT 1 FROM public.circle c WHERE (c.id = circle.id)))"]),
        ("timed", &["(at > (current_setting('app.since'::text))::timestamp with time zone)"]),
        (
            "settled",
            &["((id)::text = current_setting('TimeZone'::text))", "(kind = current_setting('port'::text))"],
        ),
        ("linked", &["(EXISTS ( SELECT 1 FROM public.scratch s WHERE (s.id = linked.id)))"]),
    ] {
        let columns = "id:int4 tenant:int4 author:int4 project:int4 login:text kind:text at:timestamptz";
        let oid = add_relation(catalog, "public", name, RelationKind::Table, columns);
        change(catalog, oid, |relation| {
            relation.row_security = true;
            relation.writes_elsewhere = name == "guarded";
            relation.policies = policies.iter().map(|policy| (*policy).to_owned()).collect();
        });
    }
}

fn add_views(catalog: &mut Catalog) {
    for (name, text) in [
        (
            "adults",
            "SELECT users.id, users.name FROM public.users WHERE users.birthday < '2000-01-01'::date;",
        ),
        (
            "adult_orders",
            "SELECT o.id, a.name FROM (public.adults a JOIN public.orders o ON ((o.user_id = a.id)));",
        ),
        (
            "fresh",
            "SELECT users.id FROM public.users WHERE (users.created > (now() - '01:00:00'::interval));",
        ),
        ("taxed", "SELECT public.tax(orders.total) AS tax FROM public.orders;"),
        ("hidden", "SELECT secret.id FROM public.secret;"),
        ("own_docs", "SELECT docs.id FROM public.docs;"),
        (
            "of_tenant",
            "SELECT users.id FROM public.users WHERE (users.name = current_setting('app.name'::text));",
        ),
        ("today", "SELECT CURRENT_DATE AS day;"),
        ("broken", "SELECT FROM WHERE"),
        ("loop", "SELECT loop.id FROM public.loop;"),
    ] {
        let oid = add_relation(catalog, "public", name, RelationKind::View, "id:int4");
        change(catalog, oid, |relation| relation.view_query = Some(text.into()));
    }
    add_relation(catalog, "public", "opaque", RelationKind::View, "id:int4");
}
