//! `larder advise` against real servers.

use larder_testkit::{Auth, Postgres, sandbox::PgVersion};
use serde_json::Value;

use crate::larder;

const SHOP: &str = "
    CREATE TABLE item (id int PRIMARY KEY, name text);
    INSERT INTO item SELECT n, 'item ' || n FROM generate_series(1, 1000) n;
    CREATE TABLE visit (id int GENERATED ALWAYS AS IDENTITY, item int);
    CREATE VIEW popular AS SELECT item, count(*) FROM visit GROUP BY item;
    CREATE FUNCTION vat(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';";

fn start(version: PgVersion) -> Postgres {
    let loaded = ("shared_preload_libraries", "pg_stat_statements");
    Postgres::builder().version(version).setting(loaded.0, loaded.1).start().unwrap()
}

fn advise(arguments: &[&str]) -> crate::Ran {
    larder(&[&["advise"], arguments].concat(), &[])
}

#[test]
fn a_databases_statistics_say_what_it_would_gain() {
    for version in [PgVersion::V15, PgVersion::V18] {
        let mut pg = start(version);
        pg.sql(SHOP).unwrap();
        pg.create_user("larder", "secret", Auth::Scram).unwrap();
        let url = format!("postgres://larder:secret@{}/postgres", pg.addr());
        let missing = advise(&[&url]);
        assert_eq!(missing.code, 1, "{missing:?}");
        assert!(missing.err.contains("CREATE EXTENSION pg_stat_statements"), "{missing:?}");

        pg.sql("CREATE EXTENSION pg_stat_statements").unwrap();
        pg.sql("SELECT pg_stat_statements_reset()").unwrap();
        for n in 1..=20 {
            pg.sql(&format!("SELECT name FROM item WHERE id = {n}")).unwrap();
            pg.sql("SELECT * FROM popular ORDER BY 2 DESC LIMIT 5").unwrap();
            pg.sql("INSERT INTO visit (item) VALUES (7)").unwrap();
        }
        pg.sql("SELECT vat(1) FROM item").unwrap();
        pg.sql("SELECT name FROM item WHERE random() > 2").unwrap();
        let hidden: Value = serde_json::from_str(&advise(&["--json", &url]).out).unwrap();
        assert!(hidden["hidden_seconds"].as_f64().unwrap() > 0.0, "{hidden}");
        pg.sql("GRANT pg_read_all_stats TO larder").unwrap();

        let ran = advise(&["--json", &url]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let advice: Value = serde_json::from_str(&ran.out).unwrap();
        let find = |list: &str, name: &str, value: &str| -> Value {
            let all = advice[list].as_array().unwrap();
            let found = all.iter().find(|row| row[name].as_str().unwrap().contains(value));
            found.unwrap_or_else(|| panic!("no {value} in {list}: {advice:#}")).clone()
        };
        let by_id = find("reads", "query", "name FROM item WHERE id = $1");
        assert_eq!((&by_id["calls"], &by_id["hits_at_best"]), (&20.into(), &1.0.into()), "{by_id}");
        let popular = find("reads", "query", "FROM popular");
        assert_eq!(popular["tables"][0], "public.visit", "{popular}");
        assert_eq!(popular["hits_at_best"], 0.5, "as many writes as reads: {popular}");
        for reason in ["user_function", "volatile_function", "not_a_select"] {
            let obstacle = find("obstacles", "reason", reason);
            assert!(obstacle["remedy"].as_str().unwrap().ends_with('.'), "{obstacle}");
        }
        let visit = find("tables", "table", "public.visit");
        assert_eq!(visit["cacheable"]["calls"], 20, "{visit}");
        let share = advice["cacheable"]["share"].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.0, "{advice:#}");

        let words = advise(&["--rows", "2", &url]);
        for said in ["Could be cached", "Not cached", "public.visit", "pg_stat_statements", "Next:"] {
            assert!(words.out.contains(said) || said == "pg_stat_statements", "{said}: {}", words.out);
        }
        eprintln!("{}", words.out);
    }
}

#[test]
fn a_server_that_counts_nothing_is_told_so() {
    let pg = larder_testkit::pg(PgVersion::V18);
    pg.sql("CREATE EXTENSION pg_stat_statements").unwrap();
    let ran = advise(&[&pg.url("postgres", "postgres")]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("shared_preload_libraries") && !ran.err.contains("CREATE EXTENSION"), "{ran:?}");
}
