//! `make bench`: Larder against the origin itself, PgBouncer and the floor, as ratios within one run.
//!
//! A *floor server* answers every query with a constant row, in Larder's runtime shape: no cache can show pgbench more.
//! Every side of a case is measured in every round, in alternating order; ratios are taken within a round, and what is
//! reported is their median. docs/benchmarks.md explains how to read the result.

mod cases;
mod cpu;
mod floor;
mod machine;
mod measure;
mod metrics;
mod pgbench;
mod report;
mod sides;
mod stats;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};

use crate::machine::Machine;
use crate::report::Report;
use crate::sides::Sides;

/// Compares Larder with the origin, PgBouncer and the floor
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// The release binary to measure
    #[arg(long, value_name = "FILE", default_value = "target/release/larder")]
    larder: PathBuf,
    /// Where to write the result as JSON
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
    /// Also 1 and 64 clients, and mixes with writes (about 20 minutes)
    #[arg(long)]
    full: bool,
    /// Rounds per case
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds per side and round
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only Larder, beside the same with these settings (admin.statistics=false): what does a setting cost?
    #[arg(long, value_name = "SECTION.KEY=VALUE", conflicts_with = "without_larder")]
    against: Vec<String>,
    /// Leave Larder out: the floor, the origin and PgBouncer alone
    #[arg(long)]
    without_larder: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The floor server alone
    Floor {
        /// Address to listen on
        #[arg(long, value_name = "ADDR")]
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("larder-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    if let Some(Command::Floor { listen }) = cli.command {
        return floor::serve(listen).context("the floor server");
    }
    let mut cases = cases::all(cli.full);
    if let Some(text) = &cli.only {
        cases.retain(|case| case.name().contains(text.as_str()));
    }
    if cases.is_empty() {
        bail!("no case has that in its name");
    }
    let larder = (!cli.without_larder).then_some(cli.larder.as_path());
    let sides = Sides::start(larder, &cli.against)?;
    let plan = measure::Plan { rounds: cli.rounds, seconds: cli.seconds };
    eprintln!("==> {} cases, about {} s", cases.len(), plan.estimate(&cases, &sides));

    let mut machine = Machine::describe(&sides, larder);
    let results = cases.iter().map(|case| measure::case(case, &sides, plan)).collect::<Result<Vec<_>>>()?;
    machine.finish();

    let report = Report::new(machine, plan, results);
    print!("{}", report.table());
    report.write_json(&cli.json)?;
    println!("\nall figures: {}", cli.json.display());
    Ok(())
}
