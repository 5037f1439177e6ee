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
        pg.sql("CREATE TABLE rated (id int PRIMARY KEY, item int, stars int); INSERT INTO rated VALUES (7, 7, 5)").unwrap();
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
            pg.sql("SELECT count(*) FROM rated WHERE item = 7").unwrap();
            pg.sql("SELECT stars FROM rated WHERE id = 7").unwrap();
        }
        pg.sql("UPDATE rated SET stars = 4").unwrap();
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
        assert_eq!(visit["replica_identity_full"], serde_json::json!([]), "{visit}");
        let rated = find("tables", "table", "public.rated");
        assert_eq!(rated["replica_identity_full"], serde_json::json!(["public.rated"]), "{rated}");
        assert_eq!(rated["by_other_columns"]["statements"], 1, "{rated}");
        let share = advice["cacheable"]["share"].as_f64().unwrap();
        assert!(share > 0.0 && share < 1.0, "{advice:#}");

        assert_eq!(advice["search_path"], serde_json::json!(["pg_catalog", "public"]), "{advice}");
        pg.sql("CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO larder; CREATE TABLE other.elsewhere (id int)").unwrap();
        pg.sql("SET search_path = other; SELECT id FROM elsewhere").unwrap();
        for (path, cacheable) in [("public", false), ("other, public", true)] {
            let advice: Value =
                serde_json::from_str(&advise(&["--json", "--search-path", path, &url]).out).unwrap();
            let reads = advice["reads"].as_array().unwrap();
            let found = reads.iter().any(|read| read["query"].as_str().unwrap().contains("elsewhere"));
            assert_eq!(found, cacheable, "{path}: {advice:#}");
        }

        let words = advise(&["--rows", "2", &url]);
        for said in [
            "Could be cached",
            "REPLICA IDENTITY FULL",
            "Not cached",
            "public.visit",
            "pg_stat_statements",
            "Next:",
        ] {
            assert!(words.out.contains(said) || said == "pg_stat_statements", "{said}: {}", words.out);
        }
        eprintln!("{}", words.out);
    }
}

#[tokio::test]
async fn what_larder_itself_asks_is_not_counted() {
    for version in [PgVersion::V15, PgVersion::V18] {
        let pg = start(version);
        pg.sql("CREATE EXTENSION pg_stat_statements; CREATE TABLE item AS SELECT 1 AS id").unwrap();
        let url = pg.url("postgres", "postgres");
        pg.sql("SELECT pg_stat_statements_reset()").unwrap();
        let binary = env!("CARGO_BIN_EXE_larder");
        let larder = larder_testkit::Larder::builder().binary(binary).origin(&url).start().await.unwrap();
        let mut client = larder_testkit::RawClient::superuser(larder.addr()).await.unwrap();
        // By then the catalog has been read, and this session's settings; then it is compared again.
        let asked = async |client: &mut larder_testkit::RawClient| {
            loop {
                client.rows("SELECT id FROM item").await.unwrap();
                if client.value("SHOW larder.last").await.unwrap().starts_with("hit") {
                    return;
                }
            }
        };
        asked(&mut client).await;
        client.rows("CREATE TABLE another (id int)").await.unwrap();
        asked(&mut client).await;
        drop(larder);

        let ran = tokio::task::spawn_blocking(move || advise(&["--json", &url])).await.unwrap();
        let advice: Value = serde_json::from_str(&ran.out).unwrap();
        let texts = |list: &str, name: &str| -> Vec<String> {
            advice[list]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row[name].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(texts("reads", "query"), ["SELECT id FROM item"], "{advice:#}");
        // What the drivers of Larder and of this test ask besides is little: nothing of the catalog.
        let all = advice["all"]["statements"].as_u64().unwrap();
        assert!(all <= 6, "{all}: {advice:#}");
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
