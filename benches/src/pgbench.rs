//! Runs pgbench and reads what it says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cases::Protocol;
use crate::stats::percentile;

/// Threads of pgbench itself (`-j`).
const THREADS: u32 = 2;

/// Where and what to run.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) program: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) script: &'a str,
    pub(crate) protocol: Protocol,
    pub(crate) clients: u32,
    pub(crate) seconds: u32,
    /// The share of transactions whose latency is logged.
    pub(crate) sampling: f64,
}

/// What came out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Transactions a second, the time to connect not counted.
    pub(crate) tps: f64,
    /// Latency that half of the transactions stay within, in microseconds.
    pub(crate) p50_us: Option<u32>,
    /// The same for 99 of 100.
    pub(crate) p99_us: Option<u32>,
}

impl Run<'_> {
    pub(crate) fn run(&self) -> Result<Outcome> {
        let script = self.folder.join("script.sql");
        fs::write(&script, self.script).with_context(|| format!("cannot write {}", script.display()))?;
        let logs = self.folder.join("latency");
        let output = Command::new(self.program)
            .current_dir(self.folder)
            .env("PGGSSENCMODE", "disable")
            .env("PGSSLMODE", "disable")
            .env("PGAPPNAME", "larder-bench")
            .args(["-n", "-h", "127.0.0.1", "-U", "postgres", "-M", self.protocol.name()])
            .arg("-p")
            .arg(self.port.to_string())
            .args(["-c", &self.clients.to_string(), "-j", &THREADS.min(self.clients).to_string()])
            .args(["-T", &self.seconds.to_string(), "--log", "--sampling-rate", &self.sampling.to_string()])
            .arg("--log-prefix")
            .arg(&logs)
            .arg("-f")
            .arg(&script)
            .arg(self.database)
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (tps, failed) = (figure(&text, "tps = "), figure(&text, "number of failed transactions: "));
        let latencies = take_latencies(&logs)?;
        match tps {
            Some(tps) if output.status.success() && failed.unwrap_or(0.0) == 0.0 => {
                Ok(Outcome { tps, p50_us: percentile(&latencies, 0.5), p99_us: percentile(&latencies, 0.99) })
            }
            _ => bail!("pgbench failed:\n{text}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// The number behind a label of pgbench's summary.
fn figure(text: &str, label: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split([' ', '\t']).next()?.parse().ok()
}

/// Reads and removes the logs (one for each thread), whose third column is the latency in microseconds.
fn take_latencies(prefix: &Path) -> Result<Vec<u32>> {
    let (Some(folder), Some(prefix)) = (prefix.parent(), prefix.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(Vec::new());
    };
    let mut latencies = Vec::new();
    for entry in fs::read_dir(folder).context("cannot list the latency logs")? {
        let path: PathBuf = entry?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix)) {
            let text =
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            latencies.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok()));
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    latencies.sort_unstable();
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_read() {
        let text = "number of failed transactions: 0 (0.000%)\nlatency average = 0.1 ms\n\
                    tps = 74323.120000 (without initial connection time)\n";
        assert_eq!(figure(text, "tps = "), Some(74323.12));
        assert_eq!(figure(text, "number of failed transactions: "), Some(0.0));
        assert_eq!(figure(text, "nothing of the kind "), None);
    }

    #[test]
    fn latencies_of_all_threads_are_merged_and_the_logs_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("latency.1"), "0 1 300 0 1 2\n1 1 100 0 1 2\n").unwrap();
        fs::write(folder.path().join("latency.1.1"), "0 2 200 0 1 2\n").unwrap();
        fs::write(folder.path().join("script.sql"), "").unwrap();
        assert_eq!(take_latencies(&folder.path().join("latency")).unwrap(), [100, 200, 300]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
