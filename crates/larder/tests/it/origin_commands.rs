//! `larder explain` and `larder setup` against real servers.

use larder_testkit::{Auth, PgVersion, Postgres, pg};
use serde_json::{Value, json};

use crate::larder;

const SHOP: &str = "
    CREATE TABLE customers (id int PRIMARY KEY, name text);
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int REFERENCES customers ON DELETE CASCADE, placed date);
    CREATE VIEW open_orders AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer_id;
    CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.things (id int);";

fn explain(origin: &str, sql: &str) -> Value {
    let ran = larder(&["explain", "--json", "--origin", origin, sql], &[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.out).unwrap()
}

fn names(explained: &Value) -> Vec<&str> {
    let relations = explained["relations"].as_array().unwrap();
    relations.iter().map(|relation| relation["name"].as_str().unwrap()).collect()
}

#[test]
fn explain_names_what_an_answer_depends_on_or_why_it_is_not_kept() {
    for version in [PgVersion::V15, PgVersion::V18] {
        let mut pg = pg(version);
        pg.sql(SHOP).unwrap();
        // An account without any privilege on the tables: the catalog is enough.
        pg.create_user("larder", "secret", Auth::Scram).unwrap();
        let origin = format!("postgres://larder:secret@{}/postgres", pg.addr());

        let view = explain(&origin, "SELECT * FROM open_orders WHERE id = $1 /* larder: ttl=30s */");
        assert_eq!(view["cacheable"], true, "{view}");
        assert_eq!(names(&view), ["public.customers", "public.orders"], "{view}");
        assert_eq!(view["ttl_seconds"], 30.0);
        assert_eq!(view["may_change"], json!(["nothing"]));

        for (sql, reason) in [
            ("SELECT now()", "stable_function"),
            ("SELECT random() FROM orders", "volatile_function"),
            ("SELECT * FROM things", "unknown_relation"),
            ("SELECT relname FROM pg_class", "system_catalog"),
            ("SELECT id FROM orders FOR UPDATE", "locking"),
            ("SELECT 1; SELECT 2", "multi_statement"),
            ("SELEC 1", "syntax_error"),
        ] {
            let refused = explain(&origin, sql);
            assert_eq!(
                (&refused["cacheable"], &refused["reason"]),
                (&json!(false), &json!(reason)),
                "{sql}: {refused}"
            );
            assert!(refused["explanation"].as_str().unwrap().ends_with('.'), "{refused}");
        }
        let update = explain(&origin, "UPDATE orders SET placed = '2025-01-01' WHERE id = 1");
        assert_eq!(update["may_change"], json!(["rows of public.orders"]), "{update}");

        let words = larder(&["explain", "--origin", &origin, "SELECT name FROM customers"], &[]);
        assert!(words.out.contains("cacheable\n") && words.out.contains("public.customers"), "{words:?}");
        let words = larder(&["explain", "--origin", &origin, "SELECT clock_timestamp()"], &[]);
        assert!(words.out.contains("not cacheable: volatile_function"), "{words:?}");
    }
}

#[test]
fn setup_installs_and_removes_the_event_triggers() {
    for version in [PgVersion::V15, PgVersion::V18] {
        let mut pg = pg(version);
        let triggers = |pg: &Postgres| pg.sql("SELECT count(*) FROM pg_event_trigger").unwrap();
        let origin = pg.url("postgres", "postgres");
        let ran = larder(&["setup", "--origin", &origin], &[]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_ne!(triggers(&pg), "0");
        // Twice does no harm.
        assert_eq!(larder(&["setup", "--origin", &origin], &[]).code, 0);
        assert_eq!(larder(&["setup", "--drop", "--origin", &origin], &[]).code, 0);
        assert_eq!(triggers(&pg), "0");

        pg.create_user("larder", "secret", Auth::Scram).unwrap();
        let plain = format!("postgres://larder:secret@{}/postgres", pg.addr());
        let ran = larder(&["setup", "--origin", &plain], &[]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains("larder setup --print | psql"), "{ran:?}");
        assert!(ran.err.contains("permission denied"), "{ran:?}");
        assert_eq!(triggers(&pg), "0");
    }
}
