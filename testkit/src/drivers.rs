//! Drivers of other languages, each with a script of application-like behaviour that prints what it was answered.
//!
//! A script makes its own tables first, so it finds the same state whenever it runs and two runs of it print the same,
//! directly or through Larder. `scripts/setup test` installs the drivers into the cache folder.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use larder_sandbox::cache_dir;
use tokio::{process::Command, time::timeout};

/// A run takes some seconds; a hanging one shall not take the whole test run along.
const LIMIT: Duration = Duration::from_secs(120);

/// A driver that has a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// PostgreSQL's own psql, on libpq.
    Psql,
    /// Python's psycopg 3, on libpq.
    Psycopg,
    /// Python's asyncpg.
    Asyncpg,
    /// Node's pg.
    NodePg,
    /// Rust's tokio-postgres.
    TokioPostgres,
    /// Rust's sqlx.
    #[cfg(feature = "sqlx")]
    Sqlx,
}

impl Driver {
    /// All of them; sqlx, which takes long to build, with the feature of that name only.
    pub const ALL: &[Self] = &[
        Self::Psql,
        Self::Psycopg,
        Self::Asyncpg,
        Self::NodePg,
        Self::TokioPostgres,
        #[cfg(feature = "sqlx")]
        Self::Sqlx,
    ];

    /// Runs the script; what it prints is the answer.
    ///
    /// # Errors
    /// The driver is not installed, or the script fails: what it printed is in the error.
    pub async fn run(self, url: &str) -> Result<String> {
        let run = async {
            match self {
                Self::Psql => psql(url).await,
                Self::Psycopg => script("python3", "python", "PYTHONPATH", "psycopg_script.py", url).await,
                Self::Asyncpg => script("python3", "python", "PYTHONPATH", "asyncpg_script.py", url).await,
                Self::NodePg => {
                    script("node", "node/node_modules", "NODE_PATH", "node_pg_script.cjs", url).await
                }
                Self::TokioPostgres => crate::tokio_postgres_script::run(url).await,
                #[cfg(feature = "sqlx")]
                Self::Sqlx => crate::sqlx_script::run(url).await,
            }
        };
        timeout(LIMIT, run).await.with_context(|| format!("{self:?} takes longer than {LIMIT:?}"))?
    }
}

/// The messages and the answers in the order in which they came.
async fn psql(url: &str) -> Result<String> {
    let shell = "exec psql -X -a -f \"$1\" \"$2\" 2>&1";
    let mut command = Command::new("sh");
    command.env("PGAPPNAME", "psql").args(["-c", shell, "sh"]).arg(script_path("psql_script.sql")).arg(url);
    output("psql", &mut command).await
}

async fn script(program: &str, modules: &str, variable: &str, file: &str, url: &str) -> Result<String> {
    let modules = cache_dir().join("drivers").join(modules);
    ensure!(modules.is_dir(), "{} is not there: run `scripts/setup test`", modules.display());
    let mut command = Command::new(program);
    command.env(variable, &modules).env("PYTHONDONTWRITEBYTECODE", "1").arg(script_path(file)).arg(url);
    output(file, &mut command).await
}

fn script_path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("drivers").join(file)
}

async fn output(what: &str, command: &mut Command) -> Result<String> {
    let output = command.kill_on_drop(true).output().await.with_context(|| format!("cannot run {what}"))?;
    let (printed, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{what}: {}\n{printed}\n{errors}", output.status);
    Ok(printed.into_owned())
}
