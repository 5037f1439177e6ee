//! PostgreSQL's own regression and isolation tests, run by its own pg_regress.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use larder_sandbox::{Owner, Postgres};
use tempfile::TempDir;

use crate::program;
use crate::results::Results;
use crate::stage::Stage;
use crate::suite::Suite;

/// Ten times what it takes.
const LIMIT: Duration = Duration::from_secs(900);

/// pg_regress would make the database as this does, but drop it first: Larder's feed is in it.
pub(crate) const DATABASE: &str = "create database regression template = template0; \
     alter database regression set lc_messages to 'C'; alter database regression set lc_monetary to 'C'; \
     alter database regression set lc_numeric to 'C'; alter database regression set lc_time to 'C'; \
     alter database regression set bytea_output to 'hex'; \
     alter database regression set timezone_abbreviations to 'Default'";

/// The same for the isolation tests.
pub(crate) const ISOLATION_DATABASE: &str = "create database isolation_regression template = template0; \
     alter database isolation_regression set lc_messages to 'C'; \
     alter database isolation_regression set lc_monetary to 'C'; \
     alter database isolation_regression set lc_numeric to 'C'; \
     alter database isolation_regression set lc_time to 'C'; \
     alter database isolation_regression set bytea_output to 'hex'; \
     alter database isolation_regression set timezone_abbreviations to 'Default'";

/// The regression tests.
pub(crate) fn regress(stage: &Stage, only: &[String], out: &Path) -> Result<Results> {
    let tests = Tests::new(stage, Suite::Regress, "regress/pg_regress")?;
    let libraries = tests.libraries(&stage.postgres)?;
    let mut command = tests.command(stage, "parallel_schedule", only);
    command.arg("--max-concurrent-tests=20").arg(format!("--dlpath={}", libraries.display()));
    tests.run(&mut command, out)
}

/// The isolation tests.
pub(crate) fn isolation(stage: &Stage, only: &[String], out: &Path) -> Result<Results> {
    let tests = Tests::new(stage, Suite::Isolation, "isolation/pg_isolation_regress")?;
    tests.run(&mut tests.command(stage, "isolation_schedule", only), out)
}

/// One of the two, ready to run.
struct Tests {
    program: PathBuf,
    source: PathBuf,
    /// What the tests and the server write.
    work: TempDir,
}

impl Tests {
    fn new(stage: &Stage, suite: Suite, program: &str) -> Result<Self> {
        let program = library_dir(&stage.postgres)?.join("pgxs/src/test").join(program);
        if !program.is_file() {
            bail!("{} is not there: this PostgreSQL came without its test programs", program.display());
        }
        let source = suite.folder()?.join("source/src/test").join(suite.to_string());
        let work = tempfile::Builder::new()
            .prefix("larder-conformance-")
            .permissions(Permissions::from_mode(0o755))
            .tempdir()?;
        Owner::unprivileged().give(work.path())?;
        Ok(Self { program, source, work })
    }

    fn command(&self, stage: &Stage, schedule: &str, only: &[String]) -> Command {
        let mut command = program::command(&self.program);
        command.current_dir(self.work.path()).args(["--use-existing", "--host=127.0.0.1", "--user=postgres"]);
        command.arg(format!("--port={}", stage.port())).arg(format!("--dbname={}", stage.database));
        command.arg(format!("--inputdir={}", self.source.display()));
        command.arg(format!("--outputdir={}", self.work.path().display()));
        command.arg(format!("--bindir={}", stage.postgres.bin_dir().display()));
        if only.is_empty() {
            command.arg(format!("--schedule={}", self.source.join(schedule).display()));
        } else {
            command.args(only);
        }
        command
    }

    fn run(&self, command: &mut Command, out: &Path) -> Result<Results> {
        let log = out.join("log");
        let _ = fs::remove_file(&log); // of the run before, if any
        program::run(command, &log, LIMIT)?;
        let mut results = Results::default();
        results.add_tap("", &fs::read_to_string(&log)?);
        for name in ["regression.diffs", "output_iso/regression.diffs"] {
            let diffs = out.join("regression.diffs");
            if let Ok(text) = fs::read(self.work.path().join(name)) {
                fs::write(&diffs, text)?;
                break;
            }
            let _ = fs::remove_file(&diffs);
        }
        Ok(results)
    }

    /// The C functions that the regression tests call: one library of their own, and some of contrib.
    fn libraries(&self, postgres: &Postgres) -> Result<PathBuf> {
        let folder = self.work.path().join("lib");
        fs::create_dir(&folder)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-w", "-D_GNU_SOURCE"]);
        compiler.arg(format!("-I{}", pg_config(postgres, "--includedir-server")?));
        compiler.arg(self.source.join("regress.c")).arg("-o").arg(folder.join("regress.so"));
        if !compiler.status().context("cannot run cc")?.success() {
            bail!("regress.c cannot be compiled");
        }
        for name in ["autoinc.so", "refint.so"] {
            symlink(library_dir(postgres)?.join(name), folder.join(name))?;
        }
        Ok(folder)
    }
}

fn library_dir(postgres: &Postgres) -> Result<PathBuf> {
    Ok(PathBuf::from(pg_config(postgres, "--pkglibdir")?))
}

fn pg_config(postgres: &Postgres, what: &str) -> Result<String> {
    let program = postgres.bin_dir().join("pg_config");
    let output = Command::new(&program).arg(what).output().with_context(|| program.display().to_string())?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
