//! The tests of node-postgres: of pg each file is a program, pg-cursor and pg-pool use mocha.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::program;
use crate::results::{Results, Status};
use crate::stage::Stage;
use crate::suite::Suite;

/// For one file of pg's tests, or all of another package's.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs the tests, or those whose file names contain one of `only`.
pub(crate) fn run(stage: &Stage, only: &[String], out: &Path) -> Result<Results> {
    let folder = Suite::NodePostgres.folder()?;
    let packages = folder.join("source/packages");
    let node = |package: &str| {
        let mut command = Command::new("node");
        command.process_group(0).current_dir(packages.join(package));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", stage.port().to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", stage.database);
        command
    };
    let log = out.join("log");
    let _ = fs::remove_file(&log);
    if program::run(node("pg").args(["script/create-test-tables.js", "postgres://"]), &log, LIMIT)?
        != Some(true)
    {
        bail!("the tables of the tests cannot be made: see {}", log.display());
    }
    let mut results = Results::default();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let mut files = Vec::new();
    tests_in(&packages.join("pg/test/integration"), &mut files)?;
    for file in files {
        let name = file.strip_prefix(packages.join("pg/test")).unwrap_or(&file).display().to_string();
        if wanted(&name) {
            let passed = program::run(node("pg").arg(&file).arg("postgres://"), &log, LIMIT)? == Some(true);
            results.add(format!("pg/{name}"), if passed { Status::Passed } else { Status::Failed });
        }
    }
    for package in ["pg-cursor", "pg-pool"].into_iter().filter(|name| wanted(name)) {
        let output = out.join(format!("{package}.tap"));
        let _ = fs::remove_file(&output);
        let mocha = folder.join("node_modules/mocha/bin/mocha.js");
        program::run(node(package).arg(mocha).args(["--exit", "--reporter", "tap"]), &output, LIMIT)?;
        results.add_tap(&format!("{package}: "), &fs::read_to_string(&output)?);
    }
    Ok(results)
}

/// Every `*-tests.js` below a folder, in order.
fn tests_in(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            tests_in(&path, found)?;
        } else if path.to_string_lossy().ends_with("-tests.js") {
            found.push(path);
        }
    }
    Ok(())
}
