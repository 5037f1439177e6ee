//! The last minutes, a sample a second, so that a page opened now shows what happened before.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use larder_cache::Moment;
use larder_proxy::{CountersSnapshot, Latencies};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

use super::metrics::seconds_between;
use crate::serve::Shared;

/// Samples kept: a quarter of an hour, about 100 KiB.
const KEPT: usize = 900;

/// The samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    samples: VecDeque<Sample>,
    last: Option<Totals>,
}

/// What counts up, when it was last looked at.
#[derive(Debug)]
struct Totals {
    at: Instant,
    counters: CountersSnapshot,
    hit: Latencies,
    miss: Latencies,
    saved: Duration,
}

/// One interval. Rates are per second, times in seconds.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Milliseconds since 1970, at its end.
    at: u64,
    hits: f64,
    misses: f64,
    bypassed: f64,
    errors: f64,
    saved: f64,
    /// Median and 99 of 100; none if there were none.
    hit: (Option<f64>, Option<f64>),
    miss: (Option<f64>, Option<f64>),
    lag: f64,
    clients: usize,
}

/// Names of a sample's values, in order.
const COLUMNS: [&str; 12] = [
    "at", "hits", "misses", "bypassed", "errors", "saved", "hit_p50", "hit_p99", "miss_p50", "miss_p99",
    "lag", "clients",
];

impl History {
    /// Takes one more.
    pub(crate) fn sample(&self, shared: &Shared) {
        let totals = Totals {
            at: Instant::now(),
            counters: shared.proxy.counters(),
            hit: shared.proxy.hit_latencies(),
            miss: shared.proxy.miss_latencies(),
            saved: shared.proxy.saved(),
        };
        let lag = seconds_between(shared.fence.covered(), Moment::now());
        let mut ring = self.0.lock();
        if let Some(last) = &ring.last {
            let sample = Sample { lag, clients: shared.proxy.clients(), ..totals.since(last) };
            if ring.samples.len() >= KEPT {
                ring.samples.pop_front();
            }
            ring.samples.push_back(sample);
        }
        ring.last = Some(totals);
    }

    /// Those after a time, as lists of values without their names.
    pub(super) fn json(&self, after: u64) -> Json {
        let ring = self.0.lock();
        let samples: Vec<_> =
            ring.samples.iter().filter(|sample| sample.at > after).map(Sample::values).collect();
        json!({ "interval_seconds": 1, "kept": KEPT, "columns": COLUMNS, "samples": samples })
    }
}

impl Totals {
    #[allow(clippy::cast_precision_loss)]
    fn since(&self, last: &Self) -> Sample {
        let seconds = self.at.duration_since(last.at).as_secs_f64().max(1e-3);
        let rate = |of: fn(&CountersSnapshot) -> u64| {
            of(&self.counters).saturating_sub(of(&last.counters)) as f64 / seconds
        };
        let quantiles = |now: &Latencies, before: &Latencies| {
            let since = now.since(before);
            (since.quantile(0.5), since.quantile(0.99))
        };
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Sample {
            at: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            hits: rate(|counters| counters.hits + counters.coalesced + counters.shared),
            misses: rate(|counters| counters.misses),
            bypassed: rate(|counters| counters.bypassed),
            errors: rate(|counters| counters.errors),
            saved: self.saved.saturating_sub(last.saved).as_secs_f64() / seconds,
            hit: quantiles(&self.hit, &last.hit),
            miss: quantiles(&self.miss, &last.miss),
            lag: 0.0,
            clients: 0,
        }
    }
}

impl Sample {
    /// In the order of [`COLUMNS`].
    fn values(&self) -> Json {
        let rate = |value: f64| json!((value * 10.0).round() / 10.0);
        let time = |value: f64| json!((value * 1e7).round() / 1e7);
        let maybe = |value: Option<f64>| value.map(time);
        json!([
            self.at,
            rate(self.hits),
            rate(self.misses),
            rate(self.bypassed),
            rate(self.errors),
            time(self.saved),
            maybe(self.hit.0),
            maybe(self.hit.1),
            maybe(self.miss.0),
            maybe(self.miss.1),
            time(self.lag),
            self.clients,
        ])
    }
}
