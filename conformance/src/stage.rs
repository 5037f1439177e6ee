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

    /// Leaves Larder's log and metrics behind, and says what it answered from memory. An error if it is no longer there.
    pub(crate) fn finish(self, out: &Path) -> Result<Option<FromMemory>> {
        let Some(larder) = &self.larder else { return Ok(None) };
        fs::write(out.join("larder.log"), larder.log())?;
        let (status, metrics) = self.runtime.block_on(larder.get("/metrics")).context("Larder has ended")?;
        if status != 200 {
            bail!("Larder's metrics: HTTP status {status}");
        }
        fs::write(out.join("metrics.txt"), &metrics)?;
        Ok(Some(FromMemory::in_metrics(&metrics)))
    }
}

/// What Larder's own counters say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FromMemory {
    pub(crate) hits: u64,
    pub(crate) statements: u64,
}

impl FromMemory {
    /// Adds up `larder_queries_total{outcome="...",...}`.
    fn in_metrics(text: &str) -> Self {
        let mut sum = Self::default();
        for line in text.lines().filter_map(|line| line.strip_prefix("larder_queries_total{")) {
            let count =
                line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
            sum.statements += count;
            if ["outcome=\"hit\"", "outcome=\"coalesced\""].iter().any(|served| line.contains(served)) {
                sum.hits += count;
            }
        }
        sum
    }
}

impl std::fmt::Display for FromMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} statements from memory", self.hits, self.statements)
    }
}

#[cfg(test)]
mod tests {
    use super::FromMemory;

    #[test]
    fn counts_what_came_from_memory() {
        let metrics = "# TYPE larder_queries_total counter\n\
                       larder_queries_total{outcome=\"hit\",tier=\"l1\"} 7\n\
                       larder_queries_total{outcome=\"miss\",tier=\"\"} 2\n\
                       larder_queries_total{outcome=\"coalesced\",tier=\"l1\"} 1\n\
                       larder_entries 12\n";
        assert_eq!(FromMemory::in_metrics(metrics), FromMemory { hits: 8, statements: 10 });
    }
}
