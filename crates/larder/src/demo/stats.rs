//! What the demo measures while the load runs. Nothing here is computed ahead or estimated.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::session::Answer;
use super::shop::Shape;

/// A histogram of durations: nanoseconds, three significant digits, up to a minute.
#[derive(Debug)]
pub(super) struct Durations(Mutex<Option<Histogram<u64>>>);

/// p50, p99 and so on of one histogram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) count: u64,
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) max: Duration,
}

impl Default for Durations {
    fn default() -> Self {
        Self(Mutex::new(Histogram::new_with_bounds(1, 60_000_000_000, 3).ok()))
    }
}

impl Durations {
    pub(super) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(histogram) = self.0.lock().as_mut() {
            histogram.saturating_record(nanos);
        }
    }

    /// `None` while there is nothing to summarise.
    pub(super) fn summary(&self) -> Option<Summary> {
        let histogram = self.0.lock();
        let histogram = histogram.as_ref().filter(|histogram| !histogram.is_empty())?;
        let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
        Some(Summary {
            count: histogram.len(),
            p50: at(0.5),
            p99: at(0.99),
            max: Duration::from_nanos(histogram.max()),
        })
    }
}

/// One shape of read.
#[derive(Debug, Default)]
pub(super) struct OfShape {
    /// Through Larder, answered from memory at once.
    pub(super) hits: Durations,
    /// Through Larder, answered from memory after waiting for another client's identical query.
    pub(super) waited: Durations,
    /// Through Larder, answered by the origin.
    pub(super) others: Durations,
    /// Directly on the origin.
    pub(super) direct: Durations,
}

/// A moment's view of one shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct ShapeSummary {
    pub(super) hits: Option<Summary>,
    pub(super) waited: Option<Summary>,
    pub(super) others: Option<Summary>,
    pub(super) direct: Option<Summary>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Stats {
    shapes: [OfShape; Shape::ALL.len()],
    /// Writes acknowledged, by the road they took.
    pub(super) writes_through: AtomicU64,
    pub(super) writes_around: AtomicU64,
    /// Transactions that wrote and were rolled back.
    pub(super) rollbacks: AtomicU64,
    /// From the acknowledgement of a write around Larder to the first answer through Larder that shows it.
    pub(super) delays: Durations,
    /// The first error of a client; it ends that client.
    errors: Mutex<Vec<String>>,
}

impl Stats {
    pub(super) fn read_through(&self, shape: Shape, answer: &Answer) {
        if let Some(of) = self.shapes.get(shape as usize) {
            let durations = match (answer.is_hit(), answer.has_waited()) {
                (true, false) => &of.hits,
                (true, true) => &of.waited,
                (false, _) => &of.others,
            };
            durations.record(answer.elapsed);
        }
    }

    pub(super) fn read_direct(&self, shape: Shape, elapsed: Duration) {
        if let Some(of) = self.shapes.get(shape as usize) {
            of.direct.record(elapsed);
        }
    }

    pub(super) fn failed(&self, what: String) {
        self.errors.lock().push(what);
    }

    pub(super) fn errors(&self) -> Vec<String> {
        self.errors.lock().clone()
    }

    /// Every shape with its summary.
    pub(super) fn shapes(&self) -> Vec<(Shape, ShapeSummary)> {
        let summary = |of: &OfShape| ShapeSummary {
            hits: of.hits.summary(),
            waited: of.waited.summary(),
            others: of.others.summary(),
            direct: of.direct.summary(),
        };
        Shape::ALL.into_iter().zip(self.shapes.iter().map(summary)).collect()
    }

    pub(super) fn writes(&self) -> (u64, u64) {
        (self.writes_through.load(Ordering::Relaxed), self.writes_around.load(Ordering::Relaxed))
    }
}

impl ShapeSummary {
    /// Reads through Larder.
    pub(super) fn reads(&self) -> u64 {
        self.hit_count() + self.others.map_or(0, |summary| summary.count)
    }

    /// Those answered from memory.
    pub(super) fn hit_count(&self) -> u64 {
        [self.hits, self.waited].iter().flatten().map(|summary| summary.count).sum()
    }

    /// How many times faster a hit is than the origin, at the median.
    pub(super) fn speed_up(&self) -> Option<f64> {
        Some(self.direct?.p50.as_secs_f64() / self.hits?.p50.as_secs_f64())
    }
}

/// The part of `whole` in percent.
pub(super) fn percent(part: u64, whole: u64) -> Option<f64> {
    #[allow(clippy::cast_precision_loss)]
    (whole > 0).then(|| part as f64 * 100.0 / whole as f64)
}
