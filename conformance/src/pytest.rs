//! Suites of Python packages, run by pytest. A small plugin says what becomes of each test.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::program;
use crate::results::{Results, Status};
use crate::stage::Stage;
use crate::suite::Suite;

/// Several times what the longest takes.
const LIMIT: Duration = Duration::from_secs(5400);
/// For one test, with what it sets up: one that waits for ever fails, and the others still run.
const TEST_LIMIT: &str = "--timeout=120";

/// Runs the suite, or the tests whose names contain one of `only`.
pub(crate) fn run(suite: Suite, stage: &Stage, only: &[String], out: &Path) -> Result<Results> {
    let folder = suite.folder()?;
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let outcomes = out.join("pytest.txt");
    let log = out.join("log");
    for old in [&outcomes, &log] {
        let _ = fs::remove_file(old);
    }
    let work = tempfile::Builder::new().prefix("larder-conformance-").tempdir()?;
    let mut command = Command::new("python3");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let libraries = folder.join("libraries");
    command.current_dir(folder.join("source"));
    command.env("PYTHONPATH", std::env::join_paths([libraries.as_path(), plugins.as_path()])?);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("TMPDIR", work.path());
    command.env("LARDER_OUTCOMES", fs::canonicalize(out)?.join("pytest.txt"));
    command.args(["-m", "pytest", "-p", "larder_outcomes", "--no-header", TEST_LIMIT, "-o"]);
    command.arg(format!("cache_dir={}", work.path().display()));
    arguments(suite, stage, &mut command);
    if !only.is_empty() {
        command.args(["-k", &only.join(" or ")]);
    }
    program::run(&mut command, &log, LIMIT)?;
    let text =
        fs::read_to_string(&outcomes).with_context(|| format!("no test ran: see {}", log.display()))?;
    let mut results = Results::default();
    for (status, test) in text.lines().filter_map(|line| line.split_once('\t')) {
        let status = match status {
            "passed" => Status::Passed,
            "skipped" => Status::Skipped,
            _ => Status::Failed,
        };
        results.add(test, status);
    }
    Ok(results)
}

/// Where the server is, and which tests are about one.
fn arguments(suite: Suite, stage: &Stage, command: &mut Command) {
    let (port, database) = (stage.port(), stage.database);
    match suite {
        Suite::Psycopg => {
            // By its own marks: tests that measure time, count references, or check types of the sources.
            command.args([
                "-m",
                "not slow and not timing and not refcount and not flakey and not mypy and not subprocess",
            ]);
            command.arg(format!("--test-dsn=host=127.0.0.1 port={port} user=postgres dbname={database}"));
        }
        Suite::Sqlalchemy | Suite::SqlalchemyAsyncpg => {
            let driver = if suite == Suite::Sqlalchemy { "psycopg" } else { "asyncpg" };
            let uri = format!("postgresql+{driver}://postgres@127.0.0.1:{port}/{database}");
            command.args(["--backend-only", "--maxfail=10000", "-q", "--dburi", &uri]);
            // As in its own continuous integration: not those that measure memory, time or garbage.
            command.args(["-m", "not memory_intensive and not timing_intensive and not gc_intensive"]);
        }
        _ => {
            command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string()).env("PGUSER", "postgres");
            command.env("PGDATABASE", database);
        }
    }
}
