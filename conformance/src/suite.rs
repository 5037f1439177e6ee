//! The suites, and what each needs of the server before it starts.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::results::Results;
use crate::stage::{FromMemory, Stage};
use crate::{node_postgres, pg_regress, pytest};

/// A test suite of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// PostgreSQL's regression tests (src/test/regress, the parallel schedule)
    Regress,
    /// PostgreSQL's isolation tests (src/test/isolation)
    Isolation,
    /// The tests of the Python driver asyncpg
    Asyncpg,
    /// The tests of the Python driver psycopg 3
    Psycopg,
    /// The tests of the Node driver pg, with pg-cursor and pg-pool
    NodePostgres,
    /// The backend tests of the Python ORM SQLAlchemy, on psycopg 3
    Sqlalchemy,
    /// The same, on asyncpg
    SqlalchemyAsyncpg,
}

/// What came of one run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) results: Results,
    pub(crate) seconds: u64,
    /// Of all rounds; known when Larder was there and has ended.
    pub(crate) from_memory: Option<FromMemory>,
}

impl Suite {
    /// The database that the tests use, and that Larder follows.
    pub(crate) fn database(self) -> &'static str {
        match self {
            Self::Regress => "regression",
            Self::Isolation => "isolation_regression",
            Self::Asyncpg => "postgres",
            Self::Psycopg => "psycopg_test",
            Self::NodePostgres => "node_postgres",
            Self::Sqlalchemy | Self::SqlalchemyAsyncpg => "test",
        }
    }

    /// SQL for the maintenance database, and then for the suite's own.
    pub(crate) fn preparation(self) -> (&'static str, &'static str) {
        match self {
            Self::Regress => (pg_regress::DATABASE, ""),
            Self::Isolation => (pg_regress::ISOLATION_DATABASE, ""),
            Self::Asyncpg => ("", ""),
            Self::Psycopg => ("create database psycopg_test", "create extension hstore"),
            Self::NodePostgres => ("create database node_postgres", ""),
            Self::Sqlalchemy | Self::SqlalchemyAsyncpg => (
                "create database test",
                "create extension hstore; create extension citext; create schema test_schema; \
                 create schema test_schema_2; alter database test set default_text_search_config = 'pg_catalog.english'",
            ),
        }
    }

    /// Whether it cleans up after itself, so that it can run again on the same server.
    pub(crate) fn can_repeat(self) -> bool {
        self != Self::Regress
    }

    /// Settings that the suite wants of the server.
    pub(crate) fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Sqlalchemy | Self::SqlalchemyAsyncpg => {
                &[("max_prepared_transactions", "100"), ("max_connections", "300")]
            }
            _ => &[],
        }
    }

    /// Where `scripts/fetch-suites` has put it.
    pub(crate) fn folder(self) -> Result<PathBuf> {
        let name = match self {
            Self::Regress | Self::Isolation => "postgresql",
            Self::Asyncpg => "asyncpg",
            Self::Psycopg => "psycopg",
            Self::NodePostgres => "node-postgres",
            Self::Sqlalchemy | Self::SqlalchemyAsyncpg => "sqlalchemy",
        };
        let folder = larder_sandbox::cache_dir().join("suites").join(name);
        if !folder.join("source").is_dir() {
            bail!("{} is not there: run `scripts/fetch-suites {self}` first", folder.display());
        }
        Ok(folder)
    }

    /// Runs it, or only the tests with these names.
    pub(crate) fn run(self, stage: &Stage, only: &[String], out: &Path) -> Result<Outcome> {
        std::fs::create_dir_all(out)?;
        let started = Instant::now();
        let results = match self {
            Self::Regress => pg_regress::regress(stage, only, out)?,
            Self::Isolation => pg_regress::isolation(stage, only, out)?,
            Self::NodePostgres => node_postgres::run(stage, only, out)?,
            _ => pytest::run(self, stage, only, out)?,
        };
        if results.tests().next().is_none() {
            bail!("{self}: no test ran; see {}", out.join("log").display());
        }
        Ok(Outcome { results, seconds: started.elapsed().as_secs(), from_memory: None })
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}
