//! Counters of the client path. One set per worker, written with relaxed stores by that worker only, added up when
//! somebody looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use larder_cache::{Discard, Miss, Moment};
use larder_core::Bypass;

use crate::verify::Cause;

/// How a statement was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// From memory.
    Hit {
        /// How long ago the answer was stored.
        age: Duration,
    },
    /// From memory, after waiting for another session's identical query.
    Coalesced {
        /// How long ago the answer was stored.
        age: Duration,
    },
    /// From the shared tier: another process had stored it.
    Shared {
        /// How long ago the answer was stored.
        age: Duration,
    },
    /// By the origin; the answer may be kept.
    Miss(Miss),
    /// By the origin, and not kept.
    Bypass(Bypass),
}

impl Outcome {
    /// The values of the labels `outcome` and `tier`.
    pub(crate) fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Hit { .. } => ("hit", "l1"),
            Self::Coalesced { .. } => ("coalesced", "l1"),
            Self::Shared { .. } => ("hit", "l2"),
            Self::Miss(_) => ("miss", "origin"),
            Self::Bypass(_) => ("bypass", "origin"),
        }
    }

    /// Why not from memory.
    pub(crate) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Miss(why) => Some(why.name()),
            Self::Bypass(why) => Some(why.name()),
            Self::Hit { .. } | Self::Coalesced { .. } | Self::Shared { .. } => None,
        }
    }
}

/// Upper bounds of the latency histogram, in seconds: hits take tens of microseconds, misses up to many seconds.
pub(crate) const BOUNDS: [f64; 21] = [
    0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02,
    0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
];

/// A latency histogram.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// One count per bound, and one for everything above.
    pub(crate) buckets: [AtomicU64; BOUNDS.len() + 1],
    pub(crate) nanoseconds: AtomicU64,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            add(bucket, 1);
        }
        add(&self.nanoseconds, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// One worker's counters.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    pub(crate) hit: Histogram,
    pub(crate) coalesced: Histogram,
    pub(crate) shared: Histogram,
    pub(crate) miss: Histogram,
    pub(crate) bypass: Histogram,
    pub(crate) errors: AtomicU64,
    /// By [`Bypass`], in the order of `Bypass::ALL`.
    pub(crate) reasons: Vec<AtomicU64>,
    /// The time that those took.
    pub(crate) reason_nanoseconds: Vec<AtomicU64>,
    /// By [`Miss::ALL`].
    pub(crate) misses: Vec<AtomicU64>,
    /// By [`Discard::ALL`].
    pub(crate) discards: Vec<AtomicU64>,
    pub(crate) saved_nanoseconds: AtomicU64,
    /// Answers in memory that were compared with the origin's.
    pub(crate) checks: AtomicU64,
    /// Those that differed, by [`Cause::ALL`].
    pub(crate) differences: Vec<AtomicU64>,
    /// Taken by the acceptor, given back by the worker.
    pub(crate) clients: AtomicUsize,
}

impl WorkerMetrics {
    pub(crate) fn new() -> Arc<Self> {
        let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            hit: Histogram::default(),
            coalesced: Histogram::default(),
            shared: Histogram::default(),
            miss: Histogram::default(),
            bypass: Histogram::default(),
            errors: AtomicU64::new(0),
            reasons: zeros(Bypass::ALL.len()),
            reason_nanoseconds: zeros(Bypass::ALL.len()),
            misses: zeros(Miss::ALL.len()),
            discards: zeros(Discard::ALL.len()),
            saved_nanoseconds: AtomicU64::new(0),
            checks: AtomicU64::new(0),
            differences: zeros(Cause::ALL.len()),
            clients: AtomicUsize::new(0),
        })
    }

    /// A statement that began at `started` has been answered. Returns how long it took.
    pub(crate) fn answered(&self, outcome: Outcome, started: Moment) -> Duration {
        let elapsed = Duration::from_nanos(Moment::now().0.saturating_sub(started.0));
        match outcome {
            Outcome::Hit { .. } => self.hit.observe(elapsed),
            Outcome::Coalesced { .. } => self.coalesced.observe(elapsed),
            Outcome::Shared { .. } => self.shared.observe(elapsed),
            Outcome::Miss(why) => {
                self.miss.observe(elapsed);
                count(&self.misses, Miss::ALL.iter().position(|known| *known == why));
            }
            Outcome::Bypass(why) => {
                self.bypass.observe(elapsed);
                let position = Bypass::ALL.iter().position(|known| *known == why);
                count(&self.reasons, position);
                if let Some(time) = position.and_then(|at| self.reason_nanoseconds.get(at)) {
                    add(time, u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
                }
            }
        }
        elapsed
    }

    /// What a hit would have cost the origin.
    pub(crate) fn saved(&self, cost: Duration) {
        add(&self.saved_nanoseconds, u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn discarded(&self, why: Discard) {
        count(&self.discards, Discard::ALL.iter().position(|known| *known == why));
    }

    pub(crate) fn checked(&self) {
        add(&self.checks, 1);
    }

    pub(crate) fn differed(&self, cause: Cause) {
        count(&self.differences, Cause::ALL.iter().position(|known| *known == cause));
    }

    pub(crate) fn failed(&self) {
        add(&self.errors, 1);
    }
}

fn count(counters: &[AtomicU64], at: Option<usize>) {
    if let Some(counter) = at.and_then(|at| counters.get(at)) {
        add(counter, 1);
    }
}

/// Only the owning worker writes, so a load and a store do; no locked instruction on the hit path.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}
