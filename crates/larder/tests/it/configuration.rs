//! flag > environment > file > default, and errors that say what, where and how to mend it.

use std::fs;

use serde_json::Value;

use crate::{larder, larder_in};

fn value(json: &str, section: &str, key: &str) -> (String, String) {
    let json: Value = serde_json::from_str(json).unwrap();
    let found = &json[section][key];
    (found["value"].as_str().unwrap().to_owned(), found["source"].as_str().unwrap().to_owned())
}

fn pair(value: &str, source: &str) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[test]
fn each_layer_overrides_the_weaker_ones() {
    let folder = tempfile::tempdir().unwrap();
    let max_lag = |arguments: &[&str], environment: &[(&str, &str)]| {
        let ran = larder_in(folder.path(), &[&["config", "--json"], arguments].concat(), environment);
        assert_eq!(ran.code, 0, "{}", ran.err);
        value(&ran.out, "freshness", "max_lag")
    };
    assert_eq!(max_lag(&[], &[]), pair("1s", "default"));
    fs::write(folder.path().join("larder.toml"), "[freshness]\n\nmax_lag = \"2s\"\n").unwrap();
    assert_eq!(max_lag(&[], &[]), pair("2s", "larder.toml:3"));
    let environment = [("LARDER_FRESHNESS_MAX_LAG", "3s")];
    assert_eq!(max_lag(&[], &environment), pair("3s", "environment LARDER_FRESHNESS_MAX_LAG"));
    let set = ["--set", "freshness.max_lag=4s"];
    assert_eq!(max_lag(&set, &environment), pair("4s", "flag --set"));
    assert_eq!(max_lag(&["--max-lag", "5s"], &environment), pair("5s", "flag --max-lag"));
    assert_eq!(max_lag(&["--max-lag", "1500ms"], &[]), pair("1500ms", "flag --max-lag"));
}

#[test]
fn the_file_is_the_one_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("larder.toml"), "[log]\nlevel = \"warn\"\n").unwrap();
    fs::write(folder.path().join("other.toml"), "[log]\nlevel = \"debug\"\n").unwrap();
    let level = |arguments: &[&str], environment: &[(&str, &str)]| {
        let ran = larder_in(folder.path(), &[&["config", "--json"], arguments].concat(), environment);
        value(&ran.out, "log", "level")
    };
    assert_eq!(level(&[], &[]), pair("warn", "larder.toml:2"));
    assert_eq!(level(&["--config", "other.toml"], &[]), pair("debug", "other.toml:2"));
    assert_eq!(level(&[], &[("LARDER_CONFIG", "other.toml")]), pair("debug", "other.toml:2"));
    let ran = larder_in(folder.path(), &["config", "--config", "none.toml"], &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("none.toml cannot be read"), "{}", ran.err);
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("url");
    fs::write(&secret, "postgres://larder:hunter2@db:5432/app\n").unwrap();
    let environment = [("LARDER_ORIGIN_URL_FILE", secret.to_str().unwrap())];
    for arguments in [&["config"][..], &["config", "--json"]] {
        let ran = larder(arguments, &environment);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("postgres://larder:***@db:5432/app"), "{}", ran.out);
        assert!(ran.out.contains("LARDER_ORIGIN_URL_FILE"), "{}", ran.out);
        assert!(!ran.out.contains("hunter2"), "{}", ran.out);
    }
    let both = [environment[0], ("LARDER_ORIGIN_URL", "postgres://db")];
    let ran = larder(&["config"], &both);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("LARDER_ORIGIN_URL and LARDER_ORIGIN_URL_FILE are both set"), "{}", ran.err);
}

#[test]
fn what_is_printed_can_be_used_as_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let printed =
        larder(&["config", "--level", "bounded", "--memory", "1.5GiB", "--origin", "postgres://db"], &[]);
    fs::write(folder.path().join("larder.toml"), &printed.out).unwrap();
    let again = larder_in(folder.path(), &["config", "--json"], &[]);
    assert_eq!(value(&again.out, "freshness", "level").0, "bounded");
    assert_eq!(value(&again.out, "cache", "memory").0, "1536MiB");
    assert_eq!(value(&again.out, "origin", "url").0, "postgres://db:5432");
}

#[test]
fn mistakes_in_a_file_are_named_with_their_line() {
    let text = "[listen]\nadr = \"127.0.0.1:1\"\n[freshnes]\nlevel = \"strict\"\n[cache]\nttl = 5\nmemory = [1]\n\
                [valkey]\nurl = \"x\"\n[[rule]]\ncache = true\n";
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("larder.toml"), text).unwrap();
    let ran = larder_in(folder.path(), &["config"], &[]);
    assert_eq!(ran.code, 2);
    for expected in [
        "larder.toml:2: unknown key \"listen.adr\"\n  -> did you mean \"listen.addr\"?",
        "larder.toml:4: unknown key \"freshnes.level\"\n  -> did you mean \"freshness.level\"?",
        "larder.toml:6: cache.ttl: \"5\" has no unit of time\n  -> write a number and a unit",
        "larder.toml:7: cache.memory: array is not a single value",
        "larder.toml:9: valkey.url: not a URL of Valkey",
        "larder.toml:10: [[rule]] has no match\n  -> write match = { table = \"orders\" }",
    ] {
        assert!(ran.err.contains(expected), "{expected}\n--- in\n{}", ran.err);
    }
    fs::write(folder.path().join("larder.toml"), "[listen]\naddr = \n").unwrap();
    let ran = larder_in(folder.path(), &["serve"], &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("larder.toml:2: "), "{}", ran.err);
}

#[test]
fn mistakes_elsewhere_are_named_with_the_flag_or_variable() {
    for (arguments, environment, expected) in [
        (&["config", "--level", "strickt"][..], &[][..], "flag --level: freshness.level: \"strickt\" is not"),
        (&["config", "--set", "cache.memroy=1"], &[], "flag --set: unknown key \"cache.memroy\""),
        (&["config", "--set", "cache.memory"], &[], "flag --set: \"cache.memory\" has no value"),
        (
            &["config"],
            &[("LARDER_LISTEN_ADDRESS", "x")],
            "environment LARDER_LISTEN_ADDRESS: unknown variable",
        ),
        (&["config"], &[("LARDER_CACHE_TTL", "x")], "environment LARDER_CACHE_TTL: cache.ttl: \"x\" is not"),
        (&["config", "--valkey", "x"], &[], "flag --valkey: valkey.url: not a URL of Valkey"),
        (&["config", "--origin", "postgres://u@h/d?sslmode=maybe"], &[], "sslmode=maybe is not a mode"),
    ] {
        let ran = larder(arguments, environment);
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(ran.err.contains(expected), "{expected}\n--- in\n{}", ran.err);
        assert!(ran.err.contains("\n  -> "), "{}", ran.err);
    }
}

#[test]
fn the_schema_describes_what_the_file_may_hold() {
    let ran = larder(&["config", "--schema"], &[]);
    let schema: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(schema["additionalProperties"], false);
    let level = &schema["properties"]["freshness"]["properties"]["level"];
    assert_eq!(level["enum"], serde_json::json!(["linearizable", "strict", "session", "bounded"]));
    assert_eq!(schema["properties"]["listen"]["properties"]["max_clients"]["default"], 10_000);
}
