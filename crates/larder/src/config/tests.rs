use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn flags(pairs: &[(&str, &str)]) -> Given {
    let flag = |(path, text): &(&str, &str)| Flag {
        path: (*path).into(),
        value: Some((*text).into()),
        name: "--set",
    };
    let flags = pairs.iter().map(flag).collect();
    Given { file: Some(PathBuf::from("/dev/null")), flags, environment: Vec::new() }
}

fn environment(pairs: &[(&str, &str)]) -> Given {
    let environment = pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
    Given { file: Some(PathBuf::from("/dev/null")), flags: Vec::new(), environment }
}

fn complaint(given: &Given) -> String {
    load(given).unwrap_err().to_string()
}

#[test]
fn every_default_is_valid_and_survives_being_printed() {
    let defaults = load(&flags(&[])).unwrap();
    assert!(defaults.sources.iter().all(|source| *source == Source::Default));
    let printed: ::toml::Table = toml(&defaults).parse().unwrap();
    for key in KEYS {
        let value = printed[key.section][key.name].to_string();
        assert_eq!(value.trim_matches('"'), key.default, "{}", key.path());
    }
}

/// What the chart's values let through to larder.toml, beside the values that have names of their own.
#[test]
fn the_chart_knows_every_section() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/larder/values.schema.json");
    let schema: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let patterns = schema["properties"]["config"]["patternProperties"].as_object().unwrap();
    let [pattern] = patterns.keys().collect::<Vec<_>>()[..] else { panic!("{patterns:?}") };
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    sections.sort_unstable();
    sections.dedup();
    assert_eq!(*pattern, format!("^({})$", sections.join("|")));
}

#[test]
fn durations_and_sizes_have_units() {
    let good =
        [("5s", 5_000), ("250ms", 250), ("1h", 3_600_000), ("1m", 60_000), ("1.5s", 1_500), ("2 s", 2_000)];
    for (text, millis) in good {
        assert_eq!(Span::parse(text).unwrap().0.as_millis(), millis, "{text}");
    }
    for text in ["", "5", "s", "-1s", "5 seconds", "0s", "1e3s", "99999999h", "١s", "1.2.3s"] {
        assert!(Span::parse(text).is_err(), "{text}");
    }
    let good =
        [("4096", 4096), ("256MiB", 256 << 20), ("1MB", 1_000_000), ("64kb", 64_000), ("1.5GiB", 3 << 29)];
    for (text, bytes) in good {
        assert_eq!(Size::parse(text).unwrap().0, bytes, "{text}");
    }
    for text in ["", "0", "-1", "1TB", "MiB", "1 2MB", "99999999999999GiB"] {
        assert!(Size::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_length_of_time_may_be_none_where_that_means_something() {
    let age = |text| MaybeSpan::parse(text).unwrap().0;
    assert_eq!((age("0s"), age("0ms"), age("30m")), (None, None, Some(Duration::from_secs(1800))));
    for text in ["0", "", "-1s", "never"] {
        assert!(MaybeSpan::parse(text).is_err(), "{text}");
    }
}

#[test]
fn an_origin_url_is_taken_apart() {
    let url = OriginUrl::parse("postgres://l%40r:p%3Aw@[::1]:5433/my%20db?sslmode=prefer").unwrap();
    let target = url.target().unwrap();
    assert_eq!((target.host.as_str(), target.port), ("::1", 5433));
    assert_eq!(target.user.as_deref(), Some("l@r"));
    assert_eq!(target.password.as_deref(), Some("p:w"));
    assert_eq!(target.database.as_deref(), Some("my db"));
    assert_eq!(url.to_string(), "postgres://l%40r:***@[::1]:5433/my%20db?sslmode=prefer");

    let url = OriginUrl::parse("postgresql://db").unwrap();
    let target = url.target().unwrap();
    assert_eq!(
        (target.host.as_str(), target.port, &target.user, &target.database),
        ("db", 5432, &None, &None)
    );
}

#[test]
fn an_origin_url_that_cannot_work_is_refused_without_repeating_its_password() {
    for (bad, expected) in [
        ("mysql://u:hunter2@h/d", "not a PostgreSQL URL"),
        ("h:5432/hunter2", "not a PostgreSQL URL"),
        ("postgres://u:hunter2@/d", "host"),
        ("postgres://u:hunter2@h:70000/d", "port"),
        ("postgres://u:hunter2@h/d?sslmode=maybe", "is not a mode"),
        ("postgres://u:hunter2@h/d?options=-c", "\"options\" is not understood"),
        ("postgres://u:hunter2@a,b/d", "several hosts"),
        ("postgres://u:hunter2@%2Ftmp/d", "Unix-domain"),
    ] {
        let said = complaint(&flags(&[("origin.url", bad)]));
        assert!(said.contains(expected), "{bad}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert!(said.starts_with("flag --set: origin.url: "), "{said}");
    }
}

#[test]
fn all_problems_are_reported_together_with_their_place() {
    let given = flags(&[("cache.ttl", "5"), ("cache.mode", "serv"), ("listen.addr", "localhost")]);
    let said = complaint(&given);
    for expected in [
        "cache.ttl: \"5\" has no unit of time",
        "did you mean \"serve\"? (choices: serve, shadow, bypass)",
        "listen.addr: \"localhost\" is not an address",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn what_comes_later_is_refused_by_name() {
    for (given, expected) in [
        (flags(&[("rule.cache", "true")]), "rules are written in the file"),
        (flags(&[("cache.mode", "shade")]), "did you mean \"shadow\"?"),
        (environment(&[("LARDER_CACHE_ADMIT_AFTER_FILE", "x")]), "cache.admit_after is not supported"),
    ] {
        let said = complaint(&given);
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn a_publication_goes_with_its_plugin() {
    let named = ("freshness.publication", "p");
    let pgoutput = ("freshness.plugin", "pgoutput");
    for (given, expected) in [
        (flags(&[pgoutput]), "CREATE PUBLICATION larder FOR ALL TABLES"),
        (flags(&[named]), "freshness.publication: \"test_decoding\" reads no publication"),
        (
            flags(&[pgoutput, named, ("freshness.level", "linearizable")]),
            "\"linearizable\" cannot be promised",
        ),
    ] {
        let said = complaint(&given);
        assert!(said.contains(expected), "{said}");
    }
    assert!(load(&flags(&[pgoutput, named])).is_ok());
}

#[test]
fn the_shared_tier_is_described_in_several_ways() {
    let tier = |pairs: &[(&str, &str)]| {
        let url = load(&flags(pairs)).unwrap().config.shared_tier().unwrap().url;
        format!("{url} {:?}", url.topology)
    };
    assert!(load(&flags(&[])).unwrap().config.shared_tier().is_none());
    assert_eq!(tier(&[("valkey.url", "valkey://:pw@h/2")]), "redis://:***@h:6379/2 Single");
    assert_eq!(
        tier(&[("valkey.url", "redis://h"), ("valkey.cluster", "true")]),
        "redis-cluster://h:6379 Cluster"
    );
    let by_key = [("valkey.url", "redis://a:26379,b:26379"), ("valkey.sentinel_master", "m")];
    assert_eq!(tier(&by_key), "redis-sentinel://a:26379,b:26379?master=m Sentinel(m)");
    let by_url = [("valkey.url", "redis-sentinel://a,b?master=m"), ("valkey.sentinel_password", "pw")];
    assert_eq!(tier(&by_url), tier(&by_key));

    let secret = "0123456789abcdef";
    let shown = toml(&load(&flags(&[("valkey.secret", secret), ("valkey.encrypt", "true")])).unwrap());
    assert!(shown.contains("secret = \"***\"") && shown.contains("encrypt = true"), "{shown}");
    for (pairs, expected) in [
        (&[("valkey.url", "http://s3cret")][..], "valkey.url: not a URL of Valkey: its scheme is none of"),
        (&[("valkey.secret", "s3cret")], "valkey.secret: shorter than 16 bytes"),
        (&[("valkey.encrypt", "true")], "valkey.encrypt: there is no secret"),
        (&[("valkey.encrypt", "s")], "\"s\" is neither true nor false"),
        (&[("valkey.prefix", "a b")], "\"a b\" cannot begin a key"),
        (
            &[("valkey.url", "redis://h"), ("valkey.tls_ca", "f")],
            "valkey.tls_ca: the connection is not encrypted",
        ),
        (
            &[("valkey.url", "rediss://h"), ("valkey.tls_key", "f")],
            "valkey.tls_key: a certificate and its key",
        ),
        (
            &[("valkey.url", "redis-sentinel://h?master=m"), ("valkey.cluster", "true")],
            "a cluster has no Sentinels",
        ),
    ] {
        let said = complaint(&flags(pairs));
        assert!(said.contains(expected) && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn the_url_may_say_how_it_wants_tls() {
    let mode = |pairs: &[(&str, &str)]| {
        let config = load(&flags(pairs)).unwrap().config;
        (config.origin_tls().name(), config.control_tls().name())
    };
    assert_eq!(mode(&[("origin.url", "postgres://h")]), ("prefer", "prefer"));
    assert_eq!(mode(&[("origin.url", "postgres://h"), ("origin.tls", "require")]), ("require", "require"));
    let url = ("origin.url", "postgres://h?sslmode=verify-full");
    assert_eq!(mode(&[url, ("origin.tls", "require")]), ("verify-full", "verify-full"));
    let control = ("origin.control_url", "postgres://h?sslmode=allow");
    assert_eq!(mode(&[url, control]), ("verify-full", "prefer"));
}

#[test]
fn keys_that_do_not_go_together_are_refused_with_what_to_do() {
    for (pairs, expected) in [
        (&[("listen.tls_cert", "c")][..], "set both tls_cert and tls_key, or neither"),
        (&[("listen.tls_key", "k")], "listen.tls_key: a certificate and its key belong together"),
        (&[("listen.tls_client_ca", "c")], "clients can show certificates over TLS only"),
        (&[("listen.tls_client_crl", "c")], "clients are asked for certificates with an authority only"),
        (&[("listen.tls", "require")], "TLS is required and there is no certificate"),
        (&[("listen.auth", "cert")], "needs an authority to judge certificates by"),
        (&[("listen.auth", "verify"), ("listen.auth_query", "")], "has nothing to check passwords with"),
        (&[("origin.tls_ca", "c")], "no certificate is checked with tls = \"prefer\""),
        (&[("listen.proxy_protocol_from", "10.0.0.0/33")], "\"10.0.0.0/33\" is not a network"),
        (&[("listen.auth", "scram")], "\"scram\" is not one of the choices"),
    ] {
        let said = complaint(&flags(pairs));
        assert!(said.starts_with("flag --set: ") && said.contains(expected), "{said}");
    }
    let good = [
        ("origin.tls_ca", "c"),
        ("origin.tls", "verify-ca"),
        ("listen.tls_cert", "c"),
        ("listen.tls_key", "k"),
    ];
    assert!(load(&flags(&good)).is_ok());
}

#[test]
fn networks_are_a_list_or_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("larder.toml");
    std::fs::write(&path, "[listen]\nproxy_protocol_from = [\"10.0.0.0/8\", \"::1\"]\n").unwrap();
    let given = Given { file: Some(path), flags: Vec::new(), environment: Vec::new() };
    let listed = load(&given).unwrap();
    assert!(toml(&listed).contains("proxy_protocol_from = \"10.0.0.0/8, ::1/128\""), "{}", toml(&listed));
    let said = environment(&[("LARDER_LISTEN_PROXY_PROTOCOL_FROM", "10.0.0.0/8,::1")]);
    assert_eq!(
        load(&said).unwrap().config.listen.proxy_protocol_from.0,
        listed.config.listen.proxy_protocol_from.0
    );
}

#[test]
fn unknown_variables_are_errors_and_service_links_of_kubernetes_are_not() {
    let said = complaint(&environment(&[("LARDER_CACHE_MEMORI", "1MB")]));
    assert!(said.contains("environment LARDER_CACHE_MEMORI: unknown variable"), "{said}");
    assert!(said.contains("did you mean LARDER_CACHE_MEMORY?"), "{said}");
    let links = [
        ("LARDER_SERVICE_HOST", "10.0.0.1"),
        ("LARDER_SERVICE_PORT_PG", "6433"),
        ("LARDER_PORT", "tcp://10.0.0.1:6433"),
        ("LARDER_PORT_6433_TCP", "tcp://10.0.0.1:6433"),
        ("LARDER_PORT_6433_TCP_ADDR", "10.0.0.1"),
        ("LARDER_ADMIN_PORT", "tcp://10.0.0.2:6434"),
        ("LARDER_CACHE_DIR", "/var/cache/larder"),
    ];
    assert!(load(&environment(&links)).is_ok());
    assert!(load(&environment(&[("LARDER_PORT", "6433")])).is_err());
}

#[test]
fn rules_are_read_in_order_and_printed_as_they_would_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("larder.toml");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        load(&Given { file: Some(path.clone()), flags: Vec::new(), environment: Vec::new() })
    };
    let text = "[[rule]]\nmatch = { table = \"orders\" }\ncache = false\n\n\
                [[rule]]\nmatch = { query = \"00000000000000ff\" }\nttl = \"1m\"\n";
    let rules = read(text).unwrap().rules();
    assert_eq!((rules[0].cache, rules[1].cache), (false, true));
    assert_eq!(rules[1].ttl.map(|ttl| ttl.as_secs()), Some(60));
    assert_eq!(
        rules.iter().map(|rule| rule.when.to_string()).collect::<Vec<_>>(),
        ["table orders", "query 00000000000000ff"]
    );
    let printed = toml(&read(text).unwrap());
    assert_eq!(read(&printed).unwrap().rules(), rules, "{printed}");
    for (rule, expected) in [
        ("cache = false", "[[rule]] has no match"),
        ("match = { table = \"t\" }", "[[rule]] decides nothing"),
        ("match = { table = \"t\" }\ncache = false\nttl = \"1s\"", "a ttl for what is not cached"),
        ("match = { tabel = \"t\" }\ncache = false", "did you mean \"table\"?"),
        ("match = { table = \"t\", role = \"r\" }\ncache = false", "rule.match has not one condition"),
        ("match = { query = \"t\" }\ncache = false", "rule.match.query: \"t\" is not a fingerprint"),
        ("match = { role = 1 }\ncache = false", "rule.match.role is not a name"),
        ("match = \"t\"\ncache = false", "rule.match: string is not a condition"),
        ("match = { table = \"t\" }\ncache = \"no\"", "rule.cache is neither true nor false"),
        ("match = { table = \"t\" }\nttl = \"1\"", "rule.ttl: \"1\" has no unit of time"),
        ("match = { table = \"t\" }\ncahce = false", "did you mean \"cache\"?"),
    ] {
        let said = read(&format!("[cache]\n[[rule]]\n{rule}\n")).unwrap_err().to_string();
        assert!(said.contains(expected) && said.contains("larder.toml:2: "), "{rule}: {said}");
    }
}

#[test]
fn the_schema_knows_every_key() {
    let schema = schema();
    for key in KEYS {
        let property = &schema["properties"][key.section]["properties"][key.name];
        assert_eq!(property["description"], key.doc);
        assert!(!property["default"].is_null(), "{}", key.path());
    }
}

#[test]
fn flags_of_the_table_exist_on_the_command_line() {
    use clap::CommandFactory as _;
    let command = crate::cli::Cli::command();
    for flag in KEYS.iter().map(|key| key.flag).filter(|flag| !flag.is_empty()) {
        assert!(command.get_arguments().any(|arg| arg.get_long() == Some(flag)), "--{flag}");
    }
}
