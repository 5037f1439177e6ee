//! What the lists of built-ins say, against what real servers say.

use std::collections::{BTreeMap, BTreeSet};

use larder_core::Catalog;
use larder_core::catalog::{Type, TypeClass};
use larder_sql::{Parsed, functions};
use larder_testkit::{PgVersion, Postgres, pg};

/// Both servers, started once for all tests of this module: they only read.
fn servers() -> &'static [Postgres] {
    static SERVERS: std::sync::OnceLock<Vec<Postgres>> = std::sync::OnceLock::new();
    SERVERS.get_or_init(|| vec![pg(PgVersion::V15), pg(PgVersion::V18)])
}

/// The lines of an answer, columns by column.
fn rows(server: &Postgres, sql: &str) -> Vec<Vec<String>> {
    let text = server.sql(sql).unwrap();
    text.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// Worst volatility of each built-in function name, on each server.
fn volatilities() -> Vec<BTreeMap<String, String>> {
    let sql = "select proname, max(case provolatile when 'i' then '0i' when 's' then '1s' else '2v' end) from pg_proc
                where pronamespace = 'pg_catalog'::regnamespace group by 1";
    let read = |server| rows(server, sql).into_iter().map(|row| (row[0].clone(), row[1][1..].to_owned()));
    servers().iter().map(|server| read(server).collect()).collect()
}

/// Every name has this volatility on at least one server, and is no worse on any.
fn assert_volatility<'a>(names: impl IntoIterator<Item = &'a str>, expected: &str) {
    let known = volatilities();
    for name in names {
        let found: Vec<&str> =
            known.iter().filter_map(|server| server.get(name)).map(String::as_str).collect();
        assert!(found.contains(&expected), "{name} is {found:?}");
        // In the order of the alphabet: i(mmutable), s(table), v(olatile).
        assert!(found.iter().all(|found| *found <= expected), "{name} is {found:?}");
    }
}

#[test]
fn the_lists_name_functions_of_the_right_volatility() {
    assert_volatility(functions::STABLE_ALLOWED.iter().map(|(name, _)| *name), "s");
    assert_volatility(functions::STABLE_HARMFUL.iter().copied(), "s");
    assert_volatility(functions::IMMUTABLE_REFUSED.iter().copied(), "i");
    for list in [functions::VOLATILE_HARMLESS, functions::VOLATILE_LOCKING, functions::VOLATILE_SETTING] {
        assert_volatility(list.iter().copied(), "v");
    }
}

#[test]
fn no_allowed_function_reads_a_relation_or_takes_a_name_of_one() {
    for server in servers() {
        let sql = "select proname, pronargs, pg_get_function_identity_arguments(oid) from pg_proc
                    where provolatile <> 'i' and exists (select from unnest(proargtypes) a join pg_type t on t.oid = a
                                  where t.typname ~ '^reg' and t.typname not in ('regconfig', 'regdictionary'))";
        for row in rows(server, sql) {
            assert!(!functions::stable_allowed(&row[0], row[1].parse().unwrap()), "{}({})", row[0], row[2]);
        }
    }
}

#[test]
fn results_of_functions_are_of_the_kinds_that_the_lists_claim() {
    let categories = |names: &[&str]| -> BTreeMap<String, BTreeSet<String>> {
        let names = names.join("','");
        let sql = format!(
            "select proname, t.typname from pg_proc p join pg_type t on t.oid = p.prorettype
              where pronamespace = 'pg_catalog'::regnamespace and proname in ('{names}')"
        );
        let mut found = BTreeMap::<_, BTreeSet<_>>::new();
        for row in servers().iter().flat_map(|server| rows(server, &sql)) {
            found.entry(row[0].clone()).or_default().insert(row[1].clone());
        }
        found
    };
    for (name, types) in categories(functions::RETURNS_TIMESTAMP) {
        for found in types {
            let fine = matches!(&*found, "date" | "timestamp" | "timestamptz" | "interval");
            // timezone(zone, timetz) is kept away by what its argument must be.
            assert!(fine || (name == "timezone" && found == "timetz"), "{name} returns {found}");
        }
    }
    let numbers = ["int2", "int4", "int8", "float4", "float8", "numeric", "money", "interval", "time", "xid"];
    // macaddr cannot be converted to a date at all.
    let harmless = ["macaddr", "macaddr8"];
    for (name, types) in categories(functions::RETURNS_OTHER) {
        for found in types {
            assert!(numbers.contains(&&*found) || harmless.contains(&&*found), "{name} returns {found}");
        }
    }
}

#[test]
fn results_of_the_type_of_an_argument() {
    for server in servers() {
        let names = functions::RETURNS_ARGUMENT.join("','");
        let sql = format!(
            "select proname, pg_get_function_identity_arguments(oid) from pg_proc
              where pronamespace = 'pg_catalog'::regnamespace and proname in ('{names}')
                and prorettype <> all (proargtypes::oid[])
                and prorettype not in (select oid from pg_type where typtype = 'p')"
        );
        assert_eq!(rows(server, &sql), Vec::<Vec<String>>::new());
    }
}

#[test]
fn operators_read_neither_the_clock_nor_tables() {
    // Stable for the sake of TimeZone, of output functions, and of default_text_search_config: all in the key.
    let known = |function: &str| {
        ["_timestamptz", "timestamptz_"].iter().any(|part| function.contains(part))
            || ["anytextcat", "textanycat", "ts_match_tq", "ts_match_tt"].contains(&function)
    };
    for server in servers() {
        let sql = "select p.proname, p.provolatile from pg_operator o join pg_proc p on p.oid = o.oprcode
                    where p.provolatile <> 'i'";
        for row in rows(server, sql) {
            assert!(row[1] == "s" && known(&row[0]), "{row:?}");
        }
    }
}

#[test]
fn conversions_between_built_in_types_are_known() {
    // money: lc_monetary. The others: TimeZone. To timetz from a time of day: the current date, and refused.
    let known = "money>numeric numeric>money int4>money int8>money text>regclass varchar>regclass date>timestamptz \
                 time>timetz timestamp>timestamptz timestamptz>date timestamptz>time timestamptz>timestamp \
                 timestamptz>timetz text>xml varchar>xml bpchar>xml";
    let known: BTreeSet<&str> = known.split_whitespace().collect();
    for server in servers() {
        let sql = "select s.typname || '>' || t.typname from pg_cast c join pg_proc p on p.oid = c.castfunc
                     join pg_type s on s.oid = c.castsource join pg_type t on t.oid = c.casttarget
                    where p.provolatile <> 'i'";
        for row in rows(server, sql) {
            assert!(known.contains(&*row[0]), "{row:?}");
        }
    }
}

#[test]
fn fields_that_could_be_functions_are_listed() {
    for server in servers() {
        let sql = "select proname from pg_proc
                    where pronargs > 0 and pronargs - pronargdefaults <= 1 and prokind = 'f' and provolatile <> 'i'
                      and exists (select from pg_type t where t.oid = proargtypes[0] and t.typname in
                          ('any', 'anyelement', 'anynonarray', 'record', 'anycompatible', 'anycompatiblenonarray'))";
        for row in rows(server, sql) {
            let name = &*row[0];
            let listed = functions::TAKES_ANY_ROW.contains(&name);
            assert!(listed || functions::stable_allowed(name, 1), "{name}");
        }
    }
}

/// Names, element types and categories of the built-in types, as the feed reads them.
fn types(server: &Postgres) -> Catalog {
    let sql = "select t.oid, t.typname, t.typtype, t.typcategory, coalesce(e.oid, 0) from pg_type t
                 left join pg_type e on e.oid = t.typelem and e.typarray = t.oid where t.typnamespace = 11";
    let mut catalog = Catalog { database: "postgres".into(), server_version: 180_000, ..Catalog::default() };
    for row in rows(server, sql) {
        let (oid, element): (u32, u32) = (row[0].parse().unwrap(), row[4].parse().unwrap());
        let class = match &*row[2] {
            _ if element != 0 => TypeClass::Array(element),
            "c" => TypeClass::Composite,
            _ => TypeClass::BuiltIn,
        };
        let category = row[3].chars().next().unwrap();
        catalog.type_names.insert(oid, ("pg_catalog".into(), row[1].clone()));
        let found = Type { oid, schema: "pg_catalog".into(), class, category, parts: None };
        catalog.types.entry(row[1].clone()).or_default().push(found);
    }
    catalog
}

/// For every type, every way to write 'now' in it: whether the value moved between two transactions.
const MOVES: &str = r#"
    create temp table seen (type text, input text, first text);
    create function pg_temp.read(type text, input text) returns text language plpgsql as $$
      declare result text;
      begin
        execute format('select (%L::%s)::text', input, type) into result;
        return result;
      exception when others then return null;
      end $$;
    insert into seen
      select format_type(t.oid, null), input, pg_temp.read(format_type(t.oid, null), input)
        from pg_type t, unnest(array['now', '{now}', '[now,)', '{[now,)}', '{n\ow}', '{"[now,)"}']) input
       where t.typnamespace = 11 and t.typtype in ('b', 'r', 'm');
    select pg_sleep(0.01);
    select format('%s', t.typname) from pg_type t join seen on seen.type = format_type(t.oid, null)
     where t.typnamespace = 11 and first is distinct from pg_temp.read(seen.type, input) group by 1 order by 1;
"#;

#[test]
fn every_type_that_understands_now_is_refused_for_computed_text() {
    for server in servers() {
        let catalog = types(server);
        let moving: Vec<String> =
            rows(server, MOVES).into_iter().flatten().filter(|name| !name.is_empty()).collect();
        for expected in
            ["timestamptz", "timestamp", "time", "timetz", "tstzrange", "_timestamptz", "tstzmultirange"]
        {
            assert!(moving.iter().any(|name| name == expected), "{expected} is not among {moving:?}");
        }
        // Where only the date matters, nothing moves within a test.
        for name in moving.iter().map(String::as_str).chain(["date", "_date", "daterange", "datemultirange"])
        {
            let sql = format!("SELECT ($1 || $2)::{name}");
            let verdict = Parsed::parse(&sql).judge(&catalog, &["pg_catalog".to_owned()]).verdict;
            assert!(verdict.is_err(), "{sql}");
        }
    }
}

#[test]
fn an_untyped_literal_at_a_time_zone_is_a_timestamp() {
    for server in servers() {
        let sql = "select pg_typeof('2020-01-01 12:00' at time zone 'UTC'), pg_typeof(time '12:00' at time zone 'UTC')";
        let found = rows(server, sql);
        assert_eq!(found, [["timestamp without time zone", "time with time zone"]]);
    }
}
