//! Shadow mode and samples of the hits in the running program: what they find, and where an operator sees it.

use std::time::{Duration, Instant};

use larder_testkit::{Larder, LarderBuilder, Login, Postgres, RawClient, each_version};

const LIMIT: Duration = Duration::from_secs(60);

fn builder(pg: &Postgres) -> LarderBuilder {
    Larder::builder()
        .binary(env!("CARGO_BIN_EXE_larder"))
        .origin(pg.url("postgres", "postgres"))
        .env("LARDER_ADMIN_USER", "operator")
        .env("LARDER_ADMIN_PASSWORD", "secret")
}

async fn metric(larder: &Larder, name: &str) -> f64 {
    let (_, text) = larder.get("/metrics").await.unwrap();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).unwrap_or_else(|| panic!("no {name}: {text}"))
}

/// Asks until a metric is as large as that.
async fn ask_until(larder: &Larder, client: &mut RawClient, sql: &str, name: &str, least: f64) {
    let begin = Instant::now();
    while metric(larder, name).await < least {
        assert!(begin.elapsed() < LIMIT, "{name}: {}", larder.log());
        client.rows(sql).await.unwrap();
    }
}

/// A function that reads a table, is declared IMMUTABLE, and belongs to an extension whose functions are trusted: the
/// one way to lie to Larder without changing PostgreSQL's own catalog.
const LIE: &str = "
    CREATE TABLE setting (value text); INSERT INTO setting VALUES ('sesame');
    CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1), (2);
    CREATE EXTENSION citext;
    CREATE FUNCTION looked_up(int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT value || $1 FROM public.setting';
    ALTER EXTENSION citext ADD FUNCTION looked_up(int);";

#[tokio::test]
async fn a_function_that_is_not_what_it_is_declared_to_be_is_found_out() {
    each_version(async |pg| {
        pg.sql(LIE).unwrap();
        for settings in [&["--mode", "shadow"][..], &["--set", "verify.sample=1"]] {
            pg.sql("UPDATE setting SET value = 'sesame'").unwrap();
            let larder = settings.iter().fold(builder(&pg), |builder, word| builder.arg(*word));
            let larder = larder.start().await.unwrap();
            let mut client = RawClient::superuser(larder.addr()).await.unwrap();
            let sql = "SELECT looked_up(id) FROM item WHERE id = 1";
            ask_until(&larder, &mut client, sql, "larder_verify_checks_total", 1.0).await;
            let honest = "SELECT id FROM item WHERE id = 1";
            let checks = metric(&larder, "larder_verify_checks_total").await;
            ask_until(&larder, &mut client, honest, "larder_verify_checks_total", checks + 1.0).await;
            assert_eq!(metric(&larder, "larder_verify_mismatches_total").await, 0.0);

            pg.sql("UPDATE setting SET value = 'xyzzy'").unwrap();
            assert_eq!(client.value(sql).await.unwrap(), "xyzzy1", "the origin answers what is compared");
            ask_until(&larder, &mut client, honest, "larder_verify_mismatches_total", 1.0).await;

            let mut operator =
                RawClient::login(larder.addr(), &Login::new("operator", "larder").password("secret"))
                    .await
                    .unwrap();
            let queries = operator.rows("SHOW QUERIES").await.unwrap();
            let wrong: Vec<_> = queries.iter().filter(|row| row[13].as_deref() != Some("0")).collect();
            assert!(
                matches!(&wrong[..], [row] if row[15].as_deref().unwrap().contains("looked_up")),
                "{queries:?}"
            );
            let fingerprint = wrong[0][0].clone().unwrap();
            client.rows(sql).await.unwrap();
            let last = client.value("SHOW larder.last").await.unwrap();
            assert_eq!(last, "bypass; reason=verify_mismatch");
            let rules = format!("{:?}", operator.rows("SHOW RULES").await.unwrap());
            assert!(rules.contains(&fingerprint) && rules.contains("verify_mismatch"), "{rules}");

            let differed = async || {
                let (_, body) = larder.get("/api/v1/queries?by=mismatches").await.unwrap();
                let rows: Vec<serde_json::Value> = serde_json::from_str(&body).unwrap();
                assert_eq!(rows.len(), 1, "{body}");
                rows[0].clone()
            };
            let row = differed().await;
            assert_eq!(
                (&row["fingerprint"], &row["switched_off"]),
                (&fingerprint.clone().into(), &"verify_mismatch".into())
            );

            let begin = Instant::now();
            while !format!("{:?}", operator.rows("SHOW EVENTS").await.unwrap()).contains("\"verify\"") {
                assert!(begin.elapsed() < LIMIT, "no event");
            }
            let log = larder.log();
            let said: Vec<_> = log.lines().filter(|line| line.contains(&fingerprint)).collect();
            assert_eq!(said.len(), 1, "{log}");
            assert!(!log.contains("sesame") && !log.contains("xyzzy") && !log.contains("looked_up"), "{log}");

            // What is honest is cached as before, and the other again when an operator says so.
            let checks = metric(&larder, "larder_verify_checks_total").await;
            ask_until(&larder, &mut client, honest, "larder_verify_checks_total", checks + 1.0).await;
            operator.rows(&format!("ALLOW QUERY '{fingerprint}'")).await.unwrap();
            assert!(
                differed().await["switched_off"].is_null(),
                "it is still told that it differed, and cached again"
            );
            client.rows(sql).await.unwrap();
            let last = client.value("SHOW larder.last").await.unwrap();
            assert!(last.starts_with("miss"), "{last}");
        }
    })
    .await;
}

#[tokio::test]
async fn modes_are_switched_at_run_time_and_a_plain_proxy_stays_one() {
    each_version(async |pg| {
        pg.sql("CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item VALUES (1), (2)").unwrap();
        let larder = builder(&pg).start().await.unwrap();
        let login = Login::new("operator", "larder").password("secret");
        let mut operator = RawClient::login(larder.addr(), &login).await.unwrap();
        let mut client = RawClient::superuser(larder.addr()).await.unwrap();
        let sql = "SELECT id FROM item WHERE id = 2";
        for (mode, expected) in
            [("shadow", "bypass; reason=shadow"), ("bypass", "bypass; reason=mode_bypass"), ("serve", "hit;")]
        {
            operator.rows(&format!("SET MODE = '{mode}'")).await.unwrap();
            let status: serde_json::Value =
                serde_json::from_str(&larder.get("/api/v1/status").await.unwrap().1).unwrap();
            assert_eq!(status["mode"], mode, "{status}");
            let begin = Instant::now();
            loop {
                client.rows(sql).await.unwrap();
                let last = client.value("SHOW larder.last").await.unwrap();
                if last.starts_with(expected) {
                    break;
                }
                assert!(begin.elapsed() < LIMIT, "{mode}: {last}");
            }
        }
        let plain = builder(&pg).arg("--mode").arg("bypass").start().await.unwrap();
        let mut operator = RawClient::login(plain.addr(), &login).await.unwrap();
        let replies = operator.query("SET MODE = 'shadow'").await.unwrap();
        assert_eq!(replies[0].field(b'C').as_deref(), Some("55000"), "{replies:?}");
    })
    .await;
}
