//! `make conformance`: test suites that others wrote, run against PostgreSQL directly and through Larder.
//!
//! A suite's tests need not all pass: what counts is that each ends through Larder as it ends without. A test that does
//! not is a difference, and an error unless `expected.toml` lists it with its reason. docs/conformance.md has the results.

mod expected;
mod node_postgres;
mod pg_regress;
mod program;
mod pytest;
mod report;
mod results;
mod stage;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum as _};

use crate::expected::Expected;
use crate::report::Report;
use crate::stage::{Side, Stage};
use crate::suite::Suite;

/// Runs test suites against PostgreSQL directly and through Larder, and compares
#[derive(Debug, Parser)]
struct Cli {
    /// Suites to run; all of them if not said
    #[arg(value_enum)]
    suites: Vec<Suite>,
    /// How to reach PostgreSQL; the first one is what the others are compared with
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Side::Direct, Side::Serve])]
    sides: Vec<Side>,
    /// The program to test
    #[arg(long, value_name = "FILE", default_value = "target/debug/larder")]
    larder: PathBuf,
    /// Where to leave logs and the outcome of every test
    #[arg(long, value_name = "FOLDER", default_value = "target/conformance")]
    out: PathBuf,
    /// Only these tests, by the suite's own names
    #[arg(long, value_name = "TESTS", value_delimiter = ',')]
    only: Vec<String>,
    /// How often a suite runs against the same server and the same Larder; the last time counts
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("larder-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `true`: nothing differs that is not expected to.
fn run(cli: &Cli) -> Result<bool> {
    let suites = if cli.suites.is_empty() { Suite::value_variants() } else { &cli.suites[..] };
    if let Some(suite) = suites.iter().find(|suite| cli.rounds > 1 && !suite.can_repeat()) {
        bail!("{suite} leaves objects behind and cannot run twice on one server: leave --rounds out");
    }
    let larder = cli.larder.canonicalize().with_context(|| cli.larder.display().to_string())?;
    let mut report = Report::new(Expected::read()?, cli.only.is_empty());
    for &suite in suites {
        let mut sides = Vec::new();
        for &side in &cli.sides {
            let stage = Stage::start(side, suite, &larder)?;
            let out = cli.out.join(format!("{suite}-{side}"));
            let mut outcome = None;
            for round in 1..=cli.rounds {
                eprintln!("==> {suite}, {side}, round {round} of {}", cli.rounds);
                outcome = Some(suite.run(&stage, &cli.only, &out)?);
            }
            let Some(mut outcome) = outcome else { continue };
            outcome.results.write(&out.join("outcomes.txt"))?;
            outcome.from_memory = stage.finish(&out)?;
            eprintln!("    {} ({} s)", outcome.results, outcome.seconds);
            sides.push((side, outcome));
        }
        report.add(suite, &sides);
    }
    print!("{report}");
    Ok(report.is_as_expected())
}
