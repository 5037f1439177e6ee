//! On what, with what and when a figure was measured: a figure without this says nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::sides::Sides;

/// Everything that a reader needs to judge the figures.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Load averages at the start and at the end.
    pub(crate) load: [String; 2],
    pub(crate) postgres: String,
    pub(crate) pgbench: String,
    pub(crate) pgbouncer: String,
    pub(crate) larder: String,
    pub(crate) commit: String,
    pub(crate) command: String,
    /// Seconds since 1970.
    pub(crate) started: u64,
    pub(crate) finished: u64,
}

impl Machine {
    pub(crate) fn describe(sides: &Sides, larder: Option<&Path>) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo");
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let absent = || "not measured".to_owned();
        Self {
            processor: processor
                .map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: [load_average(), String::new()],
            postgres: sides.postgres_version(),
            pgbench: first_line(&sides.pgbench, &["--version"]),
            pgbouncer: sides
                .pgbouncer
                .as_deref()
                .map_or_else(absent, |program| first_line(program, &["--version"])),
            larder: larder.map_or_else(absent, |program| first_line(program, &["--version"])),
            commit: commit(),
            command: std::env::args().collect::<Vec<_>>().join(" "),
            started: now(),
            finished: 0,
        }
    }

    /// To be called when the last figure is there.
    pub(crate) fn finish(&mut self) {
        let [_, end] = &mut self.load;
        *end = load_average();
        self.finished = now();
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

fn commit() -> String {
    let commit = first_line(Path::new("git"), &["rev-parse", "--short=10", "HEAD"]);
    let changed = first_line(Path::new("git"), &["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_empty() { commit } else { format!("{commit} with changes") }
}

/// The first line that a program prints, or nothing if it cannot be run.
fn first_line(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}
