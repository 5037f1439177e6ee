//! How much of the machine others took while we measured.
//!
//! All processor time spent (the first line of /proc/stat) less what our own process tree and the servers' spent.
//! Processes that ended in between are counted through the parent that reaped them.

use std::collections::HashMap;
use std::fs;
use std::time::Instant;

/// Clock ticks a second (`USER_HZ`, 100 on every Linux that is built today).
const TICKS: f64 = 100.0;

/// A reading; see [`Reading::foreign_share_since`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    at: Instant,
    all: f64,
    ours: f64,
}

impl Reading {
    /// The present; `servers` are process numbers that do not descend from this process.
    pub(crate) fn now(servers: &[u32]) -> Self {
        Self { at: Instant::now(), all: busy_ticks(), ours: tree_ticks(servers) }
    }

    /// The share of all cores (0 to 1) that other programs used since `earlier`.
    pub(crate) fn foreign_share_since(&self, earlier: &Self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        let available = (self.at - earlier.at).as_secs_f64() * cores * TICKS;
        let foreign = (self.all - earlier.all) - (self.ours - earlier.ours);
        if available > 0.0 { (foreign / available).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// Ticks spent by anybody: user, nice, system, irq, softirq and steal; not idle and iowait.
fn busy_ticks() -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_ascii_whitespace().skip(1);
    let idle = [3, 4];
    fields
        .take(8)
        .enumerate()
        .filter(|(at, _)| !idle.contains(at))
        .filter_map(|(_, field)| field.parse::<f64>().ok())
        .sum()
}

/// One line of /proc/*/stat.
struct Process {
    parent: u32,
    /// Its own ticks and those of the children it has reaped.
    ticks: f64,
}

/// Ticks spent by this process, by `servers`, and by everything below them.
fn tree_ticks(servers: &[u32]) -> f64 {
    let processes: HashMap<u32, Process> = fs::read_dir("/proc").map_or_else(
        |_| HashMap::new(),
        |entries| {
            let numbers =
                entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            numbers.filter_map(|pid| Some((pid, process(pid)?))).collect()
        },
    );
    let is_root = |pid: u32| pid == std::process::id() || servers.contains(&pid);
    let is_ours = |mut pid: u32| {
        // Bounded: a tree of processes is never that deep.
        for _ in 0..64 {
            if is_root(pid) {
                return true;
            }
            let Some(process) = processes.get(&pid) else { return false };
            pid = process.parent;
        }
        false
    };
    processes.iter().filter(|(pid, _)| is_ours(**pid)).map(|(_, process)| process.ticks).sum()
}

fn process(pid: u32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name, in parentheses, may itself hold spaces and parentheses; the fields start behind the last one.
fn parse(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // Counted from the state (field 3 of proc(5)): ppid is field 4, utime, stime, cutime, cstime are 14 to 17.
    let parent = fields.get(1)?.parse().ok()?;
    let ticks = fields.get(11..15)?.iter().filter_map(|field| field.parse::<f64>().ok()).sum();
    Some(Process { parent, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_read_even_with_an_odd_name() {
        let line = "42 (a) b) S 7 42 42 0 -1 0 1 2 3 4 10 20 30 40 20 0 1 0";
        let process = parse(line).unwrap();
        assert_eq!((process.parent, process.ticks), (7, 100.0));
        assert!(parse("nonsense").is_none());
    }

    #[test]
    fn our_own_work_is_not_foreign() {
        let before = tree_ticks(&[]);
        let started = Instant::now();
        // Until the kernel has counted some of it; it does so in ticks of 10 ms.
        while tree_ticks(&[]) < before + 2.0 {
            assert!(started.elapsed().as_secs() < 60, "no processor time counted");
        }
    }
}
