//! The workers' counters, added up for the metrics endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_cache::shared::Refusal;
use larder_cache::{Discard, Miss, Store};
use larder_core::Bypass;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::metrics::{BOUNDS, Histogram, WorkerMetrics};
use crate::reply::Answer;
use crate::server::CountersSnapshot;
use crate::verify::Cause;

/// Everything that the client path reports.
#[derive(Debug)]
pub(crate) struct ProxyCollector {
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) store: Arc<Store<Answer>>,
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
                let width = if *bound == f64::MAX { 0.0 } else { bound - lower };
                return Some(lower + width * (wanted - below) / count);
            }
            below += count;
            lower = *bound;
        }
        None
    }
}

type Labels = [(&'static str, &'static str)];

impl ProxyCollector {
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

    fn sum<'a>(&'a self, counter: impl Fn(&'a WorkerMetrics) -> Option<&'a AtomicU64>) -> u64 {
        self.workers
            .iter()
            .filter_map(|worker| counter(worker))
            .map(|value| value.load(Ordering::Relaxed))
            .sum()
    }

    fn histogram(&self, of: impl Fn(&WorkerMetrics) -> &Histogram) -> Added {
        let bounds = BOUNDS.iter().copied().chain([f64::MAX]).enumerate();
        let buckets: Vec<_> =
            bounds.map(|(at, bound)| (bound, self.sum(|worker| of(worker).buckets.get(at)))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let nanoseconds = self.sum(|worker| Some(&of(worker).nanoseconds));
        Added { buckets, count, seconds: nanoseconds as f64 / 1e9 }
    }

    /// Outcome and tier of each histogram, in the order of the contract.
    fn outcomes(&self) -> [([(&'static str, &'static str); 2], Added); 5] {
        [
            ([("outcome", "hit"), ("tier", "l1")], self.histogram(|worker| &worker.hit)),
            ([("outcome", "coalesced"), ("tier", "l1")], self.histogram(|worker| &worker.coalesced)),
            ([("outcome", "hit"), ("tier", "l2")], self.histogram(|worker| &worker.shared)),
            ([("outcome", "miss"), ("tier", "origin")], self.histogram(|worker| &worker.miss)),
            ([("outcome", "bypass"), ("tier", "origin")], self.histogram(|worker| &worker.bypass)),
        ]
    }
}

impl Collector for ProxyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let outcomes = self.outcomes();
        let errors = self.sum(|worker| Some(&worker.errors));
        let queries = outcomes.iter().map(|(labels, added)| (&labels[..], added.count));
        let errors = [(&[("outcome", "error"), ("tier", "origin")][..], errors)];
        counters(
            &mut encoder,
            "larder_queries",
            "Statements by how they were answered",
            queries.chain(errors),
        )?;

        let reasons = Bypass::ALL.iter().enumerate().map(|(at, why)| ([("reason", why.name())], at));
        let reasons: Vec<_> =
            reasons.map(|(label, at)| (label, self.sum(|worker| worker.reasons.get(at)))).collect();
        let reasons = reasons.iter().map(|(label, count)| (&label[..], *count));
        counters(&mut encoder, "larder_bypass", "Statements that were not cacheable, by reason", reasons)?;

        let misses = Miss::ALL.iter().enumerate().map(|(at, why)| ([("reason", why.name())], at));
        let misses: Vec<_> =
            misses.map(|(label, at)| (label, self.sum(|worker| worker.misses.get(at)))).collect();
        let misses = misses.iter().map(|(label, count)| (&label[..], *count));
        counters(
            &mut encoder,
            "larder_miss",
            "Cacheable statements answered by the origin, by reason",
            misses,
        )?;

        let discards = Discard::ALL.iter().enumerate().map(|(at, why)| ([("reason", why.name())], at));
        let discards: Vec<_> =
            discards.map(|(label, at)| (label, self.sum(|worker| worker.discards.get(at)))).collect();
        let discards = discards.iter().map(|(label, count)| (&label[..], *count));
        counters(&mut encoder, "larder_fill_discarded", "Answers that were not kept, by reason", discards)?;

        let help = "Seconds from the arrival of a statement to its answer";
        let mut durations =
            encoder.encode_descriptor("larder_query_duration_seconds", help, None, MetricType::Histogram)?;
        for (labels, added) in &outcomes {
            let mut family = durations.encode_family(labels)?;
            family.encode_histogram::<NoLabelSet>(added.seconds, added.count, &added.buckets, None)?;
        }

        let saved = self.saved() as f64 / 1e9;
        let help = "Seconds that hits would have cost the origin";
        let mut saved_metric =
            encoder.encode_descriptor("larder_origin_seconds_saved", help, None, MetricType::Counter)?;
        saved_metric.encode_counter::<NoLabelSet, _, f64>(&saved, None)?;

        let none = &[][..];
        let checks = self.sum(|worker| Some(&worker.checks));
        let help = "Answers in memory that were compared with the origin's";
        counters(&mut encoder, "larder_verify_checks", help, [(none, checks)])?;
        let differences = Cause::ALL.map(|cause| ([("cause", cause.name())], self.differences(cause)));
        let mismatches = self.differences(Cause::Mismatch);
        let help = "Of those, the ones that differed although nothing had changed: their statements are not cached any more";
        counters(&mut encoder, "larder_verify_mismatches", help, [(none, mismatches)])?;
        let differences = differences.iter().map(|(label, count)| (&label[..], *count));
        counters(
            &mut encoder,
            "larder_verify_differences",
            "Of those, the ones that differed, by cause",
            differences,
        )?;

        let refused = Refusal::ALL.iter().zip(&self.store.counters().refused);
        let refused: Vec<_> = refused
            .map(|(why, count)| ([("tier", "l2"), ("reason", why.name())], count.load(Ordering::Relaxed)))
            .collect();
        let refused = refused.iter().map(|(labels, count)| (&labels[..], *count));
        let help = "Answers found in the shared tier that could not be used, by reason";
        counters(&mut encoder, "larder_tier_refused", help, refused)?;

        let evicted = self.store.counters().evicted.load(Ordering::Relaxed);
        counters(
            &mut encoder,
            "larder_evictions",
            "Answers that made room for others",
            [(&[("tier", "l1"), ("reason", "size")][..], evicted)],
        )
    }
}

/// One counter family. Label sets come as slices because their lengths differ.
fn counters<'a>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (&'a Labels, u64)>,
) -> std::fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        match labels {
            [] => metric.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
            labels => {
                metric.encode_family(&labels.to_vec())?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_bounds() {
        let early = Latencies { counts: vec![(0.001, 10), (0.002, 0), (f64::MAX, 0)] };
        let late = Latencies { counts: vec![(0.001, 10), (0.002, 100), (f64::MAX, 1)] };
        let since = late.since(&early);
        assert_eq!(since.total(), 101);
        assert!((since.quantile(0.5).unwrap() - 0.001_505).abs() < 1e-9, "{:?}", since.quantile(0.5));
        assert_eq!(since.quantile(1.0), Some(0.002), "nothing is known beyond");
        assert_eq!(late.since(&late).quantile(0.5), None);
        assert_eq!(late.since(&Latencies::default()).total(), 111);
    }
}
