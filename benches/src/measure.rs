//! Rounds: every side of a case once, in alternating order, with a watch on who else used the machine.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cases::Case;
use crate::cpu::Reading;
use crate::metrics::Queries;
use crate::pgbench::{Outcome, Run};
use crate::sides::{DATABASE, Side, SideName, Sides};
use crate::stats::Spread;

/// A round in which others used more of the machine than this is measured again.
pub(crate) const FOREIGN_LIMIT: f64 = 0.2;

/// Seconds that each side runs before counting starts: the 1,000 keys are asked for many times over.
const WARM_UP: u32 = 1;

/// Seconds that starting and ending a run takes, roughly.
const OVERHEAD: f64 = 0.2;

/// How long and how often.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
}

impl Plan {
    /// Seconds that all of it takes on a quiet machine.
    pub(crate) fn estimate(self, cases: &[Case], sides: &Sides) -> u32 {
        let runs: usize = cases.iter().map(|case| sides.pick(case.sides()).len()).sum();
        let each = f64::from(self.rounds * self.seconds + WARM_UP) + OVERHEAD * f64::from(self.rounds + 1);
        (runs as f64 * each) as u32
    }
}

/// One run of one side.
#[derive(Debug, Clone)]
struct Sample {
    outcome: Outcome,
    /// What Larder counted meanwhile.
    queries: Option<Queries>,
    foreign: f64,
}

/// What one side showed over all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SideResult {
    pub(crate) side: SideName,
    pub(crate) tps: Spread,
    /// Medians over the rounds, in microseconds.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// The lowest share of hits of any round, by Larder's own metrics.
    pub(crate) hit_ratio: Option<f64>,
    /// Why Larder did not answer from memory, with the number of statements of all rounds.
    pub(crate) reasons: BTreeMap<String, f64>,
    /// Throughput of each round, in the order of the rounds: ratios are taken within a round.
    pub(crate) rounds: Vec<f64>,
}

/// What a case showed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CaseResult {
    pub(crate) case: Case,
    pub(crate) name: String,
    pub(crate) sides: Vec<SideResult>,
    /// The share of the machine that other programs used, over all runs that count.
    pub(crate) foreign: Option<Spread>,
    /// There were not enough rounds without foreign load, so disturbed ones count too.
    pub(crate) disturbed: bool,
}

impl CaseResult {
    /// Median and spread of the ratio between two sides, taken within each round.
    pub(crate) fn ratio(&self, of: SideName, to: SideName) -> Option<Spread> {
        let rounds = |name| self.side(name).map(|side| &side.rounds);
        Spread::of(rounds(of)?.iter().zip(rounds(to)?).map(|(of, to)| of / to))
    }

    pub(crate) fn side(&self, name: SideName) -> Option<&SideResult> {
        self.sides.iter().find(|side| side.side == name)
    }

    pub(crate) fn hit_ratio(&self) -> Option<f64> {
        self.side(SideName::Larder)?.hit_ratio
    }
}

/// Measures one case.
pub(crate) fn case(case: &Case, sides: &Sides, plan: Plan) -> Result<CaseResult> {
    let mut order = sides.pick(case.sides());
    eprintln!("==> {}: {} rounds of {} s a side", case.name(), plan.rounds, plan.seconds);
    for side in &order {
        run(case, side, sides, WARM_UP)?;
    }
    let mut rounds: Vec<Vec<(SideName, Sample)>> = Vec::new();
    let calm = |round: &[(SideName, Sample)]| round.iter().all(|(_, sample)| sample.foreign <= FOREIGN_LIMIT);
    while rounds.iter().filter(|round| calm(round)).count() < plan.rounds as usize {
        if rounds.len() == plan.rounds as usize * 2 {
            break;
        }
        // Forwards, backwards, forwards, ...: what drifts with time does not favour a side.
        order.reverse();
        let round = order.iter().map(|side| Ok((side.name, run(case, side, sides, plan.seconds)?)));
        rounds.push(round.collect::<Result<_>>()?);
    }
    let disturbed = rounds.iter().filter(|round| calm(round)).count() < plan.rounds as usize;
    if !disturbed {
        rounds.retain(|round| calm(round));
    }
    let results = case.sides().iter().filter_map(|name| side_result(*name, &rounds)).collect();
    let foreign = Spread::of(rounds.iter().flatten().map(|(_, sample)| sample.foreign));
    Ok(CaseResult { case: *case, name: case.name(), sides: results, foreign, disturbed })
}

fn run(case: &Case, side: &Side, sides: &Sides, seconds: u32) -> Result<Sample> {
    let queries = || side.admin.map(Queries::scrape).transpose();
    let servers = sides.servers();
    let (earlier, started) = (queries()?, Reading::now(&servers));
    let outcome = Run {
        program: &sides.pgbench,
        folder: sides.folder(),
        port: side.port,
        database: DATABASE,
        script: &case.script(),
        protocol: case.protocol,
        clients: case.clients,
        seconds,
        sampling: case.sampling(),
    }
    .run()
    .with_context(|| format!("{}, {}", case.name(), side.name.label()))?;
    let foreign = Reading::now(&servers).foreign_share_since(&started);
    let queries = queries()?.zip(earlier).map(|(later, earlier)| later.since(&earlier));
    Ok(Sample { outcome, queries, foreign })
}

fn side_result(name: SideName, rounds: &[Vec<(SideName, Sample)>]) -> Option<SideResult> {
    let samples: Vec<&Sample> =
        rounds.iter().flatten().filter(|(side, _)| *side == name).map(|(_, sample)| sample).collect();
    let queries = || samples.iter().filter_map(|sample| sample.queries.as_ref());
    let mut reasons = BTreeMap::new();
    for (reason, count) in queries().flat_map(|queries| queries.clone().into_reasons()) {
        *reasons.entry(reason).or_default() += count;
    }
    let microseconds = |pick: fn(&Outcome) -> Option<u32>| {
        Some(Spread::of(samples.iter().filter_map(|sample| pick(&sample.outcome)).map(f64::from))?.median)
    };
    Some(SideResult {
        side: name,
        tps: Spread::of(samples.iter().map(|sample| sample.outcome.tps))?,
        p50_us: microseconds(|outcome| outcome.p50_us),
        p99_us: microseconds(|outcome| outcome.p99_us),
        hit_ratio: Spread::of(queries().filter_map(Queries::hit_ratio)).map(|ratios| ratios.min),
        reasons,
        rounds: samples.iter().map(|sample| sample.outcome.tps).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let sample = |tps| Sample {
            outcome: Outcome { tps, p50_us: Some(10), p99_us: None },
            queries: None,
            foreign: 0.0,
        };
        // The machine is twice as fast in the second round; the ratio is 2 in both.
        let rounds = vec![
            vec![(SideName::Direct, sample(100.0)), (SideName::Larder, sample(200.0))],
            vec![(SideName::Larder, sample(400.0)), (SideName::Direct, sample(200.0))],
        ];
        let [case, ..] = crate::cases::all(false).try_into().unwrap_or_else(|all: Vec<_>| [all[0]]);
        let sides =
            [SideName::Direct, SideName::Larder].map(|name| side_result(name, &rounds).unwrap()).to_vec();
        let result = CaseResult { case, name: case.name(), sides, foreign: None, disturbed: false };
        let ratio = result.ratio(SideName::Larder, SideName::Direct).unwrap();
        assert_eq!(ratio, Spread { median: 2.0, min: 2.0, max: 2.0 });
        assert_eq!(result.ratio(SideName::Floor, SideName::Direct), None);
    }
}
