//! The shared tier as `larder check`, status and metrics see it.

use larder_testkit::{Auth, Larder, Valkey, pg18};
use serde_json::Value;

fn codes(check: &Value) -> Vec<&str> {
    check["notes"].as_array().unwrap().iter().map(|note| note["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn check_and_status_know_the_shared_tier() {
    let mut pg = pg18();
    pg.create_user("larder", "secret", Auth::Scram).unwrap();
    pg.sql("ALTER ROLE larder REPLICATION").unwrap();
    let origin = format!("postgres://larder:secret@{}/postgres", pg.addr());
    let mut valkey = Valkey::builder().setting("requirepass", "hunter2").start().unwrap();
    let url = valkey.url().replace("://", "://:hunter2@");
    let check = |url: &str, more: &[&str]| {
        let patient = ["--set", "valkey.timeout=5s"];
        let arguments = [&["check", "--origin", &origin, "--valkey", url], &patient[..], more].concat();
        let ran = crate::larder(&arguments, &[("LARDER_VALKEY_SECRET", "0123456789abcdef")]);
        assert!(!ran.out.contains("hunter2") && !ran.out.contains("0123456789"), "{ran:?}");
        // Larder needs no shared tier to serve fresh answers.
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out
    };
    let json = |url: &str| serde_json::from_str::<Value>(&check(url, &["--json"])).unwrap();

    let found = json(&url);
    assert!(found["valkey"].as_str().unwrap().starts_with("valkey 9"), "{found}");
    assert_eq!(codes(&found), [""; 0]);
    assert!(check(&url, &[]).contains("\nshared tier: valkey 9"));
    assert_eq!(codes(&json(&valkey.url())), ["valkey_password_wanted"]);
    assert_eq!(codes(&json(&url.replace("hunter2", "wrong"))), ["valkey_wrong_password"]);

    let larder = Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(&origin);
    let larder = larder.arg("--valkey").arg(&url).start().await.unwrap();
    let (_, status) = larder.get("/api/v1/status").await.unwrap();
    let status: Value = serde_json::from_str(&status).unwrap();
    let tier = &status["tiers"]["l2"];
    assert_eq!(tier["url"], valkey.url().replace("://", "://:***@"), "{status}");
    assert_eq!(tier["breaker_open"], false);
    let (_, metrics) = larder.get("/metrics").await.unwrap();
    for line in [
        "larder_valkey_operations_total{op=\"get\",result=\"hit\"} ",
        "larder_valkey_duration_seconds_count{op=\"get\"} ",
        "larder_valkey_breaker_open 0\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }

    valkey.stop().unwrap();
    assert_eq!(codes(&json(&url)), ["valkey_unreachable"]);
    let without = crate::larder(&["check", "--json", "--origin", &origin, "--valkey", &url], &[]);
    let without = serde_json::from_str::<Value>(&without.out).unwrap();
    assert_eq!(codes(&without), ["valkey_unreachable", "valkey_secret"]);
}

#[test]
fn certificates_that_cannot_be_used_end_the_start() {
    let arguments =
        ["serve", "--origin", "postgres://h", "--valkey", "rediss://h", "--listen", "127.0.0.1:0"];
    let arguments =
        [&arguments[..], &["--admin", "127.0.0.1:0", "--set", "valkey.tls_ca=/nowhere/ca.pem"]].concat();
    let ran = crate::larder(&arguments, &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err.contains("/nowhere/ca.pem cannot be read") && ran.err.contains("-> mend [valkey]"),
        "{ran:?}"
    );
}
