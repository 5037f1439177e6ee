//! `larder demo`: it checks every answer itself; here only that it does so, and that it leaves nothing behind.

use serde_json::Value;

#[test]
fn a_short_demo_finds_every_answer_fresh() {
    // Ports of their own: the usual ones may be in use on the machine.
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let ran = crate::larder(&[&["demo", "--duration", "5s", "--json"], &ports[..]].concat(), &[]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["ok"], true, "{json:#}");
    assert_eq!(json["errors"], serde_json::json!([]));
    assert_eq!(json["freshness"]["violations"], 0);
    assert!(json["freshness"]["checks"].as_u64().unwrap() > 100, "{json:#}");
    assert!(json["writes"]["through_larder"].as_u64().unwrap() > 0, "{json:#}");
    assert!(json["freshness"]["around_larder_delay"]["count"].as_u64().unwrap() > 0, "{json:#}");
    assert_eq!(json["at_rest"]["different"], 0);
    // On a loaded machine the lease can run out for a moment: not every statement need come from memory.
    let count = |name: &str| json["at_rest"][name].as_u64().unwrap();
    assert!(count("from_memory") * 2 > count("statements"), "{json:#}");
    let shapes = json["shapes"].as_array().unwrap();
    assert!(shapes.iter().any(|shape| shape["hits"].as_u64().unwrap() > 0), "{json:#}");
    assert!(shapes.iter().all(|shape| shape["direct"]["count"].as_u64().unwrap() > 0), "{json:#}");
}

#[test]
fn a_second_larder_of_the_demo_has_its_answers_from_valkey() {
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let arguments = [&["demo", "--valkey", "--duration", "3s", "--json"], &ports[..]].concat();
    // On a loaded machine an answer from Valkey may take longer than a query is willing to wait.
    let ran = crate::larder(&[&arguments[..], &["--set", "valkey.timeout=1s"]].concat(), &[]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let second = &json["second"];
    assert_eq!(second["different"], 0, "{second:#}");
    let count = |name: &str| second[name].as_u64().unwrap();
    assert!(count("from_valkey") * 2 > count("statements"), "{second:#}");
}

#[test]
fn only_the_demo_starts_a_valkey_by_itself() {
    let ran = crate::larder(&["serve", "--origin", "postgres://h", "--valkey"], &[]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("--valkey does not say where"), "{ran:?}");
}
