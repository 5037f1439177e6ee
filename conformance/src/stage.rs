//! A fresh PostgreSQL for each run, and Larder in front of it or not.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use larder_sandbox::{PgVersion, Postgres};
use larder_testkit::Larder;
use tokio::runtime::Runtime;

use crate::suite::Suite;

/// How a suite reaches PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// Without Larder
    Direct,
    /// Through Larder, with its change feed and its cache
    Serve,
    /// Through Larder as a plain proxy (`mode = "bypass"`)
    Bypass,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// What a suite runs against.
#[derive(Debug)]
pub(crate) struct Stage {
    // Dropped in this order: Larder's feed holds a connection to PostgreSQL.
    larder: Option<Larder>,
    pub(crate) postgres: Postgres,
    runtime: Runtime,
    pub(crate) database: &'static str,
}

impl Stage {
    pub(crate) fn start(side: Side, suite: Suite, larder: &Path) -> Result<Self> {
        let mut builder = Postgres::builder().version(PgVersion::V18);
        for (name, value) in suite.settings() {
            builder = builder.setting(name, value);
        }
        let postgres = builder.start()?;
        let database = suite.database();
        let (first, then) = suite.preparation();
        postgres.sql(first)?;
        postgres.sql_in(database, then)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let larder = match side {
            Side::Direct => None,
            Side::Serve => Some("serve"),
            Side::Bypass => Some("bypass"),
        }
        .map(|mode| {
            let url = postgres.url("postgres", database);
            let builder = Larder::builder().binary(larder).origin(url).arg("--mode").arg(mode);
            runtime.block_on(builder.arg("--log-level").arg("larder_proxy=debug,info").start())
        });
        let larder = larder.transpose().context("cannot start Larder")?;
        Ok(Self { larder, postgres, runtime, database })
    }

    /// Where the suite is to connect, on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.larder.as_ref().map_or_else(|| self.postgres.port(), |larder| larder.addr().port())
    }

    /// Leaves Larder's log and metrics behind. An error if it is no longer there.
    pub(crate) fn finish(self, out: &Path) -> Result<()> {
        let Some(larder) = &self.larder else { return Ok(()) };
        fs::write(out.join("larder.log"), larder.log())?;
        let (status, metrics) = self.runtime.block_on(larder.get("/metrics")).context("Larder has ended")?;
        if status != 200 {
            bail!("Larder's metrics: HTTP status {status}");
        }
        fs::write(out.join("metrics.txt"), metrics)?;
        Ok(())
    }
}
