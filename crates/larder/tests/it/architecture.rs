//! Dependencies between the crates point one way (docs/ARCHITECTURE.md). An edge that is not listed here needs a reason,
//! written down in docs/adr.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Which crates of the workspace each crate may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("larder-core", &[]),
    ("larder-wire", &[]),
    ("larder-cache", &[]),
    ("larder-login", &[]),
    ("larder-sandbox", &[]),
    ("larder-sql", &["larder-core"]),
    ("larder-feed", &["larder-core", "larder-cache", "larder-login", "larder-wire"]),
    ("larder-follow", &["larder-core", "larder-cache", "larder-feed", "larder-login"]),
    ("larder-proxy", &["larder-core", "larder-cache", "larder-login", "larder-wire", "larder-sql"]),
    (
        "larder",
        &[
            "larder-core",
            "larder-wire",
            "larder-cache",
            "larder-login",
            "larder-sandbox",
            "larder-sql",
            "larder-feed",
            "larder-proxy",
        ],
    ),
    (
        "larder-testkit",
        &["larder-cache", "larder-core", "larder-feed", "larder-login", "larder-proxy", "larder-sandbox"],
    ),
    ("larder-example-axum-sqlx", &["larder-cache", "larder-follow"]),
    ("larder-example-pools", &[]),
    (
        "larder-bench",
        &["larder-cache", "larder-core", "larder-feed", "larder-login", "larder-sandbox", "larder-testkit"],
    ),
    ("larder-conformance", &["larder-sandbox", "larder-testkit"]),
];

/// Tests of any crate may use these besides: the test kit, and the throw-away servers that it hands on.
const FOR_TESTS: [&str; 2] = ["larder-testkit", "larder-sandbox"];

#[test]
fn dependencies_point_one_way() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = MetadataCommand::new();
    command.manifest_path(manifest).no_deps().other_options(["--offline".to_owned()]);
    let metadata = command.exec().unwrap();
    let members: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.to_string()).collect();
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let listed: BTreeSet<_> = allowed.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(members, listed, "every crate of the workspace has its line in ALLOWED");

    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let may_use = allowed[package.name.as_str()];
        for dependency in package.dependencies.iter().filter(|dependency| members.contains(&dependency.name))
        {
            let for_tests = dependency.kind == DependencyKind::Development
                && FOR_TESTS.contains(&dependency.name.as_str());
            if !for_tests && !may_use.contains(&dependency.name.as_str()) {
                wrong.push(format!("{} -> {} ({:?})", package.name, dependency.name, dependency.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed: {wrong:#?}");
}
