//! What the tier counts and measures, for whoever exports it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

macro_rules! labels {
    ($(#[doc = $doc:literal])+ $Name:ident { $($(#[doc = $vdoc:literal])+ $Variant:ident = $label:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $Name { $($(#[doc = $vdoc])+ $Variant,)+ }

        impl $Name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$Variant),+];

            /// The value of the label.
            pub fn label(self) -> &'static str {
                match self { $(Self::$Variant => $label,)+ }
            }
        }
    };
}

labels! {
    /// What is asked of the server.
    Op {
        /// A value.
        Get = "get",
        /// To keep one.
        Put = "put",
        /// Whether it is there.
        Ping = "ping",
        /// A connection.
        Connect = "connect",
    }
}

labels! {
    /// What became of it.
    OpResult {
        /// A value came back.
        Hit = "hit",
        /// Nothing is kept under that key.
        Miss = "miss",
        /// Done (of those that give nothing back).
        Ok = "ok",
        /// No answer in time.
        Timeout = "timeout",
        /// The server refused, or the connection broke.
        Error = "error",
        /// Not asked: the breaker is open, or there is no connection yet.
        Skipped = "skipped",
        /// Not asked: too much was under way already.
        Dropped = "dropped",
        /// The value is larger than `max_value`.
        TooLarge = "too_large",
    }
}

/// Counts and durations since the start, of all connections together.
#[derive(Debug, Default)]
pub struct ValkeyCounters {
    operations: [[AtomicU64; OpResult::ALL.len()]; Op::ALL.len()],
    durations: [ValkeyLatency; Op::ALL.len()],
}

/// A histogram of how long something took.
#[derive(Debug, Default)]
pub struct ValkeyLatency {
    buckets: [AtomicU64; ValkeyLatency::BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl ValkeyLatency {
    /// Upper bounds in seconds: from a server on the same machine to a connection that has to be made.
    pub const BOUNDS: [f64; 14] =
        [0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0];

    fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = Self::BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(Self::BOUNDS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// How many fell below each bound and above the one before; the last: above all.
    pub fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|at| self.buckets.get(at).map_or(0, |bucket| bucket.load(Ordering::Relaxed)))
    }

    /// All of them together, in seconds.
    pub fn sum(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }
}

impl ValkeyCounters {
    /// How often `op` had this result.
    pub fn operations(&self, op: Op, result: OpResult) -> u64 {
        self.cell(op, result).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// How long the answers to `op` took; what was not asked is not in it.
    pub fn duration(&self, op: Op) -> Option<&ValkeyLatency> {
        self.durations.get(op as usize)
    }

    pub(super) fn count(&self, op: Op, result: OpResult) {
        if let Some(count) = self.cell(op, result) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn took(&self, op: Op, result: OpResult, took: Duration) {
        self.count(op, result);
        if let Some(latency) = self.durations.get(op as usize) {
            latency.observe(took);
        }
    }

    fn cell(&self, op: Op, result: OpResult) -> Option<&AtomicU64> {
        self.operations.get(op as usize)?.get(result as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_has_its_own_place() {
        let counters = ValkeyCounters::default();
        for op in Op::ALL {
            for result in OpResult::ALL {
                assert_eq!(counters.operations(*op, *result), 0, "{} {}", op.label(), result.label());
                counters.count(*op, *result);
                assert_eq!(counters.operations(*op, *result), 1);
            }
        }
        counters.took(Op::Get, OpResult::Hit, Duration::from_micros(150));
        counters.took(Op::Get, OpResult::Timeout, Duration::from_secs(9));
        let latency = counters.duration(Op::Get).unwrap();
        assert_eq!(latency.counts(), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!((latency.sum() - 9.000_15).abs() < 1e-9);
    }
}
