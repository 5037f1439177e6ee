//! The result as a table for people and as JSON for programs, and which targets it meets.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cases::{Protocol, Work};
use crate::machine::Machine;
use crate::measure::{CaseResult, FOREIGN_LIMIT, Plan};
use crate::sides::SideName;
use crate::stats::Spread;

/// A case in which everything should be a hit proves nothing about hits below this share.
const PROOF: f64 = 0.99;

/// An aggregate that the origin answers faster than this, in microseconds, is not the one that the target is about.
const SLOW_US: f64 = 20_000.0;

/// A ratio that Larder is meant to reach.
#[derive(Debug, Serialize)]
struct Target {
    name: String,
    at_least: f64,
    reached: Option<Spread>,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Pass,
    Miss,
    /// One of the two sides, or the case, was not measured.
    NotMeasured,
    /// The answers did not come from memory, or the origin was not slow enough: the figure does not mean what it says.
    NotProven,
}

/// Everything that was found out.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    plan: Plan,
    targets: Vec<Target>,
    cases: Vec<CaseResult>,
}

impl Report {
    pub(crate) fn new(machine: Machine, plan: Plan, cases: Vec<CaseResult>) -> Self {
        use SideName::{Bypass, Direct, Floor, Larder, PgBouncer};
        let find = |work, protocol| {
            // In a full run a case comes with several numbers of clients; targets are for 8 (aggregate: 1).
            let fits = |found: &&CaseResult| {
                found.case.work == work
                    && found.case.protocol == protocol
                    && (work == Work::Aggregate || found.case.clients == 8)
            };
            cases.iter().find(fits)
        };
        let target = |name: &str, work, protocol, of, to, at_least| {
            let case = find(work, protocol);
            let reached = case.and_then(|case| case.ratio(of, to));
            let hits =
                of != Larder || case.and_then(CaseResult::hit_ratio).is_some_and(|ratio| ratio >= PROOF);
            let origin = case.and_then(|case| case.side(Direct)?.p50_us);
            let proven = hits && (work != Work::Aggregate || origin.is_some_and(|p50| p50 >= SLOW_US));
            let verdict = match reached {
                None => Verdict::NotMeasured,
                Some(_) if !proven => Verdict::NotProven,
                Some(ratio) if ratio.median >= at_least => Verdict::Pass,
                Some(_) => Verdict::Miss,
            };
            Target { name: name.to_owned(), at_least, reached, verdict }
        };
        let (select, prepared) = (Work::PointSelect, Protocol::Prepared);
        let mut targets = vec![
            target("hits, prepared, 8 clients: share of the floor", select, prepared, Larder, Floor, 0.7),
            target("hits, prepared, 8 clients: times the origin", select, prepared, Larder, Direct, 1.5),
            target(
                "aggregate of 20 ms or more: times the origin",
                Work::Aggregate,
                prepared,
                Larder,
                Direct,
                100.0,
            ),
        ];
        for protocol in Protocol::ALL {
            let name = format!("bypass, {}, 8 clients: times PgBouncer", protocol.name());
            targets.push(target(&name, select, protocol, Bypass, PgBouncer, 1.0));
        }
        Self { machine, plan, targets, cases }
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_table(&mut text);
        text
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let machine = &self.machine;
        writeln!(out, "\n{} cores of {}, Linux {}", machine.cores, machine.processor, machine.kernel)?;
        let [before, after] = &machine.load;
        writeln!(out, "load average {before} before, {after} after")?;
        writeln!(out, "{}\n{}; {}", machine.postgres, machine.pgbench, machine.pgbouncer)?;
        writeln!(out, "{}, commit {}", machine.larder, machine.commit)?;
        let Plan { rounds, seconds } = self.plan;
        writeln!(
            out,
            "medians of {rounds} rounds (disturbed cases: more) of {seconds} s, sides alternating; ratios are taken within a round"
        )?;
        for case in &self.cases {
            write_case(out, case)?;
        }
        writeln!(out, "\nTargets")?;
        for target in &self.targets {
            let verdict = match target.verdict {
                Verdict::Pass => "pass",
                Verdict::Miss => "MISS",
                Verdict::NotMeasured => "not measured",
                Verdict::NotProven => "NOT PROVEN (see the case above)",
            };
            let reached =
                target.reached.map_or_else(|| "-".to_owned(), |ratio| format!("{:.2}", ratio.median));
            writeln!(
                out,
                "  {:<52} at least {:>6.2}   {reached:>8}   {verdict}",
                target.name, target.at_least
            )?;
        }
        Ok(())
    }
}

fn write_case(out: &mut String, case: &CaseResult) -> std::fmt::Result {
    writeln!(out, "\n{}", case.name)?;
    writeln!(
        out,
        "  {:<25}{:>10}  {:<22}{:>10}{:>10}{:>10}{:>10}{:>9}",
        "", "tps", "[least to greatest]", "x origin", "x floor", "p50 us", "p99 us", "hits"
    )?;
    for side in &case.sides {
        let tps = side.tps;
        let ratio = |to| match case.ratio(side.side, to) {
            Some(ratio) if ratio.median < 100.0 => format!("{:.2}", ratio.median),
            Some(ratio) => format!("{:.0}", ratio.median),
            None => String::new(),
        };
        let number = |value: Option<f64>| value.map(|value| format!("{value:.0}")).unwrap_or_default();
        writeln!(
            out,
            "  {:<25}{:>10.0}  {:<22}{:>10}{:>10}{:>10}{:>10}{:>9}",
            side.side.label(),
            tps.median,
            format!("[{:.0} to {:.0}]", tps.min, tps.max),
            ratio(SideName::Direct),
            ratio(SideName::Floor),
            number(side.p50_us),
            number(side.p99_us),
            side.hit_ratio.map(|ratio| format!("{:.1} %", ratio * 100.0)).unwrap_or_default(),
        )?;
    }
    if let Some(ratio) = case.ratio(SideName::Larder, SideName::Against) {
        let share = |ratio: f64| format!("{:.1} %", ratio * 100.0);
        writeln!(
            out,
            "  Larder has {} of the throughput that it has with the other settings [{} to {}]",
            share(ratio.median),
            share(ratio.min),
            share(ratio.max)
        )?;
    }
    if case.case.all_hits() && case.hit_ratio().is_some_and(|ratio| ratio < PROOF) {
        writeln!(out, "  ! Not every answer came from memory: this is not a measurement of hits.")?;
    }
    if let Some(larder) = case.side(SideName::Larder).filter(|side| !side.reasons.is_empty()) {
        let mut reasons: Vec<_> = larder.reasons.iter().collect();
        reasons.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let reasons = reasons.iter().take(4).map(|(reason, count)| format!("{reason} {count}"));
        writeln!(out, "  not from memory: {}", reasons.collect::<Vec<_>>().join(", "))?;
    }
    if let Some(foreign) = case.foreign.filter(|_| case.disturbed) {
        let (median, max) = (foreign.median * 100.0, foreign.max * 100.0);
        let limit = FOREIGN_LIMIT * 100.0;
        writeln!(
            out,
            "  ! Disturbed: other programs used {median:.0} % of the machine (at most {max:.0} %; the limit is {limit:.0} %)."
        )?;
    }
    Ok(())
}
