//! What the client path reports: its description, and the workers' counters added up when somebody scrapes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_cache::shared::Refusal;
use larder_cache::{Discard, Miss, Store};
use larder_core::{Bypass, Family, Sample};

use crate::clients::Clients;
use crate::metrics::{BOUNDS, Histogram, WorkerMetrics};
use crate::reply::Answer;
use crate::server::CountersSnapshot;
use crate::verify::Cause;

larder_core::metrics! {
    /// Statements by how they were answered: from memory (`hit`; `coalesced`: after waiting for another client's identical query), by the origin and perhaps kept (`miss`), by the origin and not kept (`bypass`). `error`: errors that the origin reported, beside the others.
    QUERIES: Counter = "larder_queries_total" { outcome: ["hit", "coalesced", "miss", "bypass", "error"], tier: ["l1", "l2", "origin"] }
    /// Time from the arrival of a statement to its answer.
    DURATION: Histogram = "larder_query_duration_seconds" { outcome: ["hit", "coalesced", "miss", "bypass"], tier: ["l1", "l2", "origin"] }
    /// Time that the hits would have cost the origin, each by what its answer cost when it was fetched.
    SAVED: Counter = "larder_origin_seconds_saved_total" {}
    /// Statements that were not cacheable, by reason; the reasons are explained in hazards.md.
    BYPASSES: Counter = "larder_bypass_total" { reason: (names(Bypass::ALL, |why| why.name())) }
    /// Time that clients waited for those.
    BYPASS_TIME: Counter = "larder_bypass_seconds_total" { reason: (names(Bypass::ALL, |why| why.name())) }
    /// Cacheable statements that the origin answered, by reason.
    MISSES: Counter = "larder_miss_total" { reason: (names(&Miss::ALL, |why| why.name())) }
    /// Answers to cacheable statements that were not kept, by reason.
    DISCARDS: Counter = "larder_fill_discarded_total" { reason: (names(&Discard::ALL, |why| why.name())) }
    /// Answers found in the shared tier that could not be used, by reason.
    REFUSED: Counter = "larder_tier_refused_total" { tier: ["l2"], reason: (names(&Refusal::ALL, |why| why.name())) }
    /// Answers in memory that were compared with the origin's: all in mode `shadow`, else the sample.
    CHECKS: Counter = "larder_verify_checks_total" {}
    /// Of those, the ones that differed although nothing had changed: their statements are not cached any more.
    MISMATCHES: Counter = "larder_verify_mismatches_total" {}
    /// Of those, all that differed, by cause.
    DIFFERENCES: Counter = "larder_verify_differences_total" { cause: (names(&Cause::ALL, |cause| cause.name())) }
    /// Answers removed from memory: they made room for others (`size`), a commit had ended them (`invalidated`), their time was over (`expired`). The last two are found out when somebody asks for them.
    EVICTIONS: Counter = "larder_evictions_total" { tier: ["l1"], reason: ["size", "invalidated", "expired"] }
    /// Answers kept in this process. (What Valkey keeps is Valkey's to report.)
    ENTRIES: Gauge = "larder_tier_entries" { tier: ["l1"] }
    /// Memory that they take.
    BYTES: Gauge = "larder_tier_bytes" { tier: ["l1"] }
    /// Memory that they may take: `[cache] memory`.
    MAX_BYTES: Gauge = "larder_tier_max_bytes" { tier: ["l1"] }
    /// Clients: waiting for the origin (`active`), for another client's identical query, the shared tier or the read barrier (`waiting`), in a transaction with nothing under way, or with nothing under way at all (`idle`: answers from memory are given at once). `login`: on their way in, or at the admin database.
    CLIENTS: Gauge = "larder_clients" { state: ["login", "active", "waiting", "idle_in_transaction", "idle"] }
    /// Clients that are served at once at most: `[listen] max_clients`.
    MAX_CLIENTS: Gauge = "larder_clients_max" {}
    /// Connections to the origin, one for each client that has logged in, by what the origin does on it.
    CONNECTIONS: Gauge = "larder_origin_connections" { state: ["active", "idle_in_transaction", "idle"] }
}

fn names<T: Copy>(all: &[T], name: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|one| name(*one)).collect()
}

/// Everything that the client path counts.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) clients: Vec<Arc<Clients>>,
    pub(crate) store: Arc<Store<Answer>>,
    pub(crate) memory: usize,
    pub(crate) max_clients: usize,
}

/// One latency histogram, added up.
struct Added {
    buckets: Vec<(f64, u64)>,
    count: u64,
    seconds: f64,
}

/// How long statements took, since the start: how many were at most that slow, by bound.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// Upper bound in seconds, and how many were at most that slow and slower than the bound before. The last is
    /// without a bound.
    pub counts: Vec<(f64, u64)>,
}

impl Latencies {
    /// Those that have come since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.counts.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        let counts = self.counts.iter().zip(before);
        Self { counts: counts.map(|((bound, now), before)| (*bound, now.saturating_sub(before))).collect() }
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The time that `share` of them did not exceed, as far as the bounds tell. `None`: there are none.
    #[allow(clippy::cast_precision_loss)]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = self.total() as f64 * share;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, count) in self.counts.iter().filter(|_| wanted > 0.0) {
            let count = *count as f64;
            if below + count >= wanted {
                // Beyond the last bound nothing more is known.
                let width = if *bound == f64::INFINITY { 0.0 } else { bound - lower };
                return Some(lower + width * (wanted - below) / count);
            }
            below += count;
            lower = *bound;
        }
        None
    }
}

impl Collector {
    pub(crate) fn counters(&self) -> CountersSnapshot {
        CountersSnapshot {
            hits: self.histogram(|worker| &worker.hit).count,
            misses: self.histogram(|worker| &worker.miss).count,
            coalesced: self.histogram(|worker| &worker.coalesced).count,
            shared: self.histogram(|worker| &worker.shared).count,
            bypassed: self.histogram(|worker| &worker.bypass).count,
            errors: self.sum(|worker| Some(&worker.errors)),
            checks: self.sum(|worker| Some(&worker.checks)),
            mismatches: self.differences(Cause::Mismatch),
            changed: self.differences(Cause::Changed),
            varying: self.differences(Cause::Varies),
            unjudged: self.differences(Cause::Unjudged),
        }
    }

    pub(crate) fn latencies(&self, of: impl Fn(&WorkerMetrics) -> &Histogram) -> Latencies {
        Latencies { counts: self.histogram(of).buckets }
    }

    pub(crate) fn saved(&self) -> u64 {
        self.sum(|worker| Some(&worker.saved_nanoseconds))
    }

    fn differences(&self, cause: Cause) -> u64 {
        let at = Cause::ALL.iter().position(|known| *known == cause);
        self.sum(|worker| worker.differences.get(at?))
    }

    /// Of all metrics the present values.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut families = self.statements();
        families.extend(self.verified());
        families.extend(self.tier());
        families.extend(self.clients());
        families
    }

    fn statements(&self) -> Vec<Family> {
        let outcomes = self.outcomes();
        let errors = self.sum(|worker| Some(&worker.errors));
        let counts = outcomes.iter().map(|(labels, added)| (*labels, added.count.into()));
        let queries = QUERIES.of(counts.chain([(["error", "origin"], errors.into())]));
        let reasons = |at: usize| self.sum(|worker| worker.reasons.get(at)).into();
        let times = |at: usize| seconds(self.sum(|worker| worker.reason_nanoseconds.get(at)));
        let misses = |at: usize| self.sum(|worker| worker.misses.get(at)).into();
        let discards = |at: usize| self.sum(|worker| worker.discards.get(at)).into();
        vec![
            queries,
            DURATION.of(outcomes.into_iter().map(|(labels, added)| (labels, added.into()))),
            SAVED.is(seconds(self.saved())),
            BYPASSES.by(numbered(Bypass::ALL, Bypass::name, reasons)),
            BYPASS_TIME.by(numbered(Bypass::ALL, Bypass::name, times)),
            MISSES.by(numbered(&Miss::ALL, Miss::name, misses)),
            DISCARDS.by(numbered(&Discard::ALL, Discard::name, discards)),
        ]
    }

    fn verified(&self) -> [Family; 3] {
        [
            CHECKS.is(self.sum(|worker| Some(&worker.checks)).into()),
            MISMATCHES.is(self.differences(Cause::Mismatch).into()),
            DIFFERENCES.by(Cause::ALL.map(|cause| (cause.name(), self.differences(cause).into()))),
        ]
    }

    fn tier(&self) -> [Family; 5] {
        let counters = self.store.counters();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed).into();
        let refused = Refusal::ALL.iter().zip(&counters.refused);
        [
            REFUSED.of(refused.map(|(why, count)| (["l2", why.name()], read(count)))),
            EVICTIONS.of([
                (["l1", "size"], read(&counters.evicted)),
                (["l1", "invalidated"], read(&counters.invalidated)),
                (["l1", "expired"], read(&counters.expired)),
            ]),
            ENTRIES.by([("l1", (self.store.entries() as u64).into())]),
            BYTES.by([("l1", (self.store.bytes() as u64).into())]),
            MAX_BYTES.by([("l1", (self.memory as u64).into())]),
        ]
    }

    fn clients(&self) -> [Family; 3] {
        let mut sums = [0; 4];
        for worker in &self.clients {
            sums.iter_mut().zip(worker.count()).for_each(|(sum, one)| *sum += one);
        }
        let [idle, in_transaction, active, waiting] = sums;
        let all: usize = self.workers.iter().map(|worker| worker.clients.load(Ordering::Relaxed)).sum();
        let login = (all as u64).saturating_sub(idle + in_transaction + active + waiting);
        [
            CLIENTS.by([
                ("login", login.into()),
                ("active", active.into()),
                ("waiting", waiting.into()),
                ("idle_in_transaction", in_transaction.into()),
                ("idle", idle.into()),
            ]),
            MAX_CLIENTS.is((self.max_clients as u64).into()),
            CONNECTIONS.by([
                ("active", active.into()),
                ("idle_in_transaction", in_transaction.into()),
                ("idle", (idle + waiting).into()),
            ]),
        ]
    }

    fn sum<'a>(&'a self, counter: impl Fn(&'a WorkerMetrics) -> Option<&'a AtomicU64>) -> u64 {
        self.workers
            .iter()
            .filter_map(|worker| counter(worker))
            .map(|value| value.load(Ordering::Relaxed))
            .sum()
    }

    fn histogram(&self, of: impl Fn(&WorkerMetrics) -> &Histogram) -> Added {
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]).enumerate();
        let buckets: Vec<_> =
            bounds.map(|(at, bound)| (bound, self.sum(|worker| of(worker).buckets.get(at)))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let nanoseconds = self.sum(|worker| Some(&of(worker).nanoseconds));
        Added { buckets, count, seconds: nanoseconds as f64 / 1e9 }
    }

    /// Outcome and tier of each histogram.
    fn outcomes(&self) -> [([&'static str; 2], Added); 5] {
        [
            (["hit", "l1"], self.histogram(|worker| &worker.hit)),
            (["coalesced", "l1"], self.histogram(|worker| &worker.coalesced)),
            (["hit", "l2"], self.histogram(|worker| &worker.shared)),
            (["miss", "origin"], self.histogram(|worker| &worker.miss)),
            (["bypass", "origin"], self.histogram(|worker| &worker.bypass)),
        ]
    }
}

impl From<Added> for Sample {
    fn from(added: Added) -> Self {
        Self::Histogram { buckets: added.buckets, sum: added.seconds }
    }
}

/// The name of each, and its value by its place in the list.
fn numbered<T: Copy>(
    all: &'static [T],
    name: fn(T) -> &'static str,
    value: impl Fn(usize) -> Sample,
) -> impl Iterator<Item = (&'static str, Sample)> {
    all.iter().enumerate().map(move |(at, one)| (name(*one), value(at)))
}

fn seconds(nanoseconds: u64) -> Sample {
    Sample::Real(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let early = Latencies { counts: vec![(0.001, 10), (0.002, 0), (f64::INFINITY, 0)] };
        let late = Latencies { counts: vec![(0.001, 10), (0.002, 100), (f64::INFINITY, 1)] };
        let since = late.since(&early);
        assert_eq!(since.total(), 101);
        assert!((since.quantile(0.5).unwrap() - 0.001_505).abs() < 1e-9, "{:?}", since.quantile(0.5));
        assert_eq!(since.quantile(1.0), Some(0.002), "nothing is known beyond");
        assert_eq!(late.since(&late).quantile(0.5), None);
        assert_eq!(late.since(&Latencies::default()).total(), 111);
    }
}
