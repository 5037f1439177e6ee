//! Exit status: 0 done, 1 the run failed, 2 bad usage or configuration.

use crate::larder;

#[test]
fn without_a_command_and_an_origin_it_explains_itself() {
    let ran = larder(&[], &[]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("Usage: larder"), "{}", ran.err);
    assert!(ran.err.contains("larder demo"), "{}", ran.err);
    assert_eq!(larder(&["--help"], &[]).code, 0);
    assert_eq!(larder(&["--version"], &[]).code, 0);
}

#[test]
fn bad_usage_is_status_2() {
    for arguments in [
        &["sreve"][..],
        &["serve", "--no-such-flag"],
        &["explain"],
        &["demo", "--duration", "20"],
        &["config", "--json", "--schema"],
        &["--set"],
    ] {
        let ran = larder(arguments, &[]);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(!ran.err.is_empty() && ran.out.is_empty());
    }
}

#[test]
fn commands_that_need_an_origin_say_how_to_name_it() {
    for command in ["serve", "check", "setup"] {
        let ran = larder(&[command], &[]);
        assert_eq!(ran.code, 2, "{command}: {}", ran.err);
        assert!(ran.err.contains("no origin is configured"), "{}", ran.err);
        assert!(ran.err.contains("--origin postgres://"), "{}", ran.err);
    }
}

#[test]
fn health_where_nothing_runs_is_status_1_and_says_where_it_asked() {
    for (listen, asked) in
        [("127.0.0.1:1", "http://127.0.0.1:1/readyz"), ("0.0.0.0:1", "http://127.0.0.1:1/readyz")]
    {
        let ran = larder(&["health"], &[("LARDER_ADMIN_ADDR", listen)]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(ran.err.contains(asked) && ran.out.is_empty(), "{ran:?}");
    }
}

#[test]
fn an_origin_that_is_not_there_fails_the_run() {
    // Port 1 is never PostgreSQL's; nothing listens there.
    let origin = "postgres://larder:secret@127.0.0.1:1/app";
    for arguments in [&["check"][..], &["setup"], &["explain", "select 1"]] {
        let ran = larder(&[arguments, &["--origin", origin]].concat(), &[]);
        assert_eq!(ran.code, 1, "{arguments:?}: {ran:?}");
        assert!(!ran.out.contains("secret") && !ran.err.contains("secret"), "{ran:?}");
    }
    let ran = larder(&["check", "--json", "--origin", origin], &[]);
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["ok"], false);
    assert!(json["findings"][0]["remedy"].is_string(), "{json}");
}

#[test]
fn the_sql_of_setup_can_be_read_without_an_origin() {
    let install = larder(&["setup", "--print"], &[]);
    assert_eq!(install.code, 0);
    assert!(install.out.to_uppercase().contains("CREATE EVENT TRIGGER"), "{}", install.out);
    let remove = larder(&["setup", "--print", "--drop"], &[]);
    assert!(remove.out.to_uppercase().contains("DROP EVENT TRIGGER"), "{}", remove.out);
}
