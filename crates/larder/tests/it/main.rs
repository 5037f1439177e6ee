//! The program from outside: its command line, its configuration, its signals, its HTTP, and the crates it is made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

mod admin;
mod admin_page;
mod admin_rules;
mod advise;
mod architecture;
mod arrivals;
mod auth;
mod command_line;
mod configuration;
mod demo;
mod drivers;
mod encodings;
mod freshness;
mod freshness_ddl;
mod freshness_faults;
mod freshness_levels;
mod freshness_mix;
mod freshness_strict;
mod hazards;
mod hazards_objects;
mod hazards_reads;
mod hazards_refresh;
mod hazards_roles;
mod hazards_secrets;
mod hazards_sessions;
mod hazards_settings;
mod hazards_tenants;
mod hazards_torture;
mod metrics;
mod origin_commands;
mod reload;
mod robustness;
mod robustness_huge;
mod robustness_malformed;
mod rolling;
mod rows_oracle;
mod secure;
mod serve;
mod shared;
mod shared_faults;
mod shared_tier;
mod tls_clients;
mod tls_origin;
mod traces;
mod transparency;
mod transparency_extended;
mod transparency_login;
mod transparency_random;
mod transparency_simple;
mod twins;
mod verify;

use std::process::{Command, Output};

/// `larder` with these arguments, in an empty folder, with no settings from the environment but those named.
fn larder(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    larder_in(folder.path(), arguments, environment)
}

/// The same, in a folder of the test's choice.
fn larder_in(folder: &std::path::Path, arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LARDER_")) {
        command.env_remove(name);
    }
    let output =
        command.args(arguments).envs(environment.iter().copied()).current_dir(folder).output().unwrap();
    Ran::from(output)
}

/// What it did.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}
