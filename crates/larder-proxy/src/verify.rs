//! Whether what memory says is what the origin says: which hits are compared, and what a difference means.
//!
//! A hit that is to be compared goes to the origin instead; its answer is the client's, and is compared byte by byte
//! with the entry (`session::check`). A difference alone proves nothing: a commit may have come between, of which the
//! feed has not told yet. So it is judged later:
//!
//! 1. Once the feed has covered the moment at which the origin's answer was complete, everything that the answer can
//!    have seen is in the tags. If one of the entry's tags has moved past its position by then, or its epoch has ended,
//!    the difference is **explained**. If not, no commit that the feed knows of lies between the two answers.
//! 2. DDL mixed with row changes may be noticed only at the next comparison of the catalog. So the epoch must still be
//!    the same after [`Verify::settle`], in which that has happened, with the feed covering all that time.
//!
//! What is left is a **mismatch**: caching of the statement is switched off until somebody allows it again.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Moment, Validity};
use larder_core::Bypass;
use larder_sql::Fingerprint;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::queries::QueryCounters;
use crate::rules::Target;
use crate::worker::Worker;

/// Longest wait for the feed to cover a moment; past it nothing can be said.
const PATIENCE: Duration = Duration::from_secs(10);
/// Differences of one worker that wait to be judged.
pub(crate) const MAX_DOUBTS: usize = 256;
/// Comparisons of a worker's sample take at most this share of its time at the origin: one part in so many.
const SHARE: u32 = 20;
/// The same statement is reported once in that time.
const QUIET: Duration = Duration::from_secs(60);
/// Statements whose last report is remembered.
const MAX_REPORTED: usize = 1_000;

/// How hits are compared with the origin.
#[derive(Debug, Clone, Copy)]
pub struct Verify {
    /// The share of hits that is drawn, 0 to 1.
    pub sample: f64,
    /// Time in which every change of the catalog is noticed, however it was made.
    pub settle: Duration,
}

/// What became of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing explains it.
    Mismatch,
    /// What the answer depends on has changed.
    Changed,
    /// PostgreSQL itself may answer the statement in several ways.
    Varies,
    /// The feed did not cover the moment in time, or too many were waiting.
    Unjudged,
}

impl Cause {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Mismatch, Self::Changed, Self::Varies, Self::Unjudged];

    /// The name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Mismatch => "mismatch",
            Self::Changed => "changed",
            Self::Varies => "varies",
            Self::Unjudged => "unjudged",
        }
    }
}

/// Draws the hits of one worker that are compared.
#[derive(Debug, Default)]
pub(crate) struct Sampler {
    /// No other comparison before: the last one has used up the share of time until then.
    next: Cell<Moment>,
}

impl Sampler {
    /// Whether to compare a hit that costs the origin so much, at this rate. All of them are, if all are asked for.
    pub(crate) fn draws(&self, rate: f64, now: Moment, cost: Duration) -> bool {
        if rate <= 0.0 || (rate < 1.0 && fastrand::f64() >= rate) {
            return false;
        }
        if rate < 1.0 {
            if now < self.next.get() {
                return false;
            }
            self.next.set(now.after(cost.saturating_mul(SHARE)));
        }
        true
    }
}

/// A difference that is to be judged.
#[derive(Debug)]
pub(crate) struct Doubt {
    pub(crate) validity: Validity,
    /// When the origin's answer was complete.
    pub(crate) complete: Moment,
    /// How long before that the entry was stored.
    pub(crate) age: Duration,
    pub(crate) query: Arc<QueryCounters>,
}

/// When a mismatch of a statement was last reported, over all workers.
#[derive(Debug, Default)]
pub(crate) struct Reports(Mutex<HashMap<Fingerprint, Moment>>);

impl Reports {
    /// Whether to report one now.
    fn is_due(&self, statement: Fingerprint, now: Moment) -> bool {
        let mut last = self.0.lock();
        if last.get(&statement).is_some_and(|then| now.since(*then) < QUIET) {
            return false;
        }
        if last.len() >= MAX_REPORTED {
            last.clear();
        }
        last.insert(statement, now);
        true
    }
}

/// Judges a worker's differences as they come, until the worker ends. To be run among its tasks.
pub(crate) async fn judge(worker: Rc<Worker>, mut doubts: mpsc::Receiver<Doubt>) {
    let waiting = Rc::new(());
    while let Some(doubt) = doubts.recv().await {
        if Rc::strong_count(&waiting) > MAX_DOUBTS {
            worker.metrics.differed(Cause::Unjudged);
            continue;
        }
        let (worker, place) = (Rc::clone(&worker), Rc::clone(&waiting));
        tokio::task::spawn_local(async move {
            let cause = cause(&worker, &doubt).await;
            worker.metrics.differed(cause);
            if cause == Cause::Mismatch {
                report(&worker, &doubt);
            }
            drop(place);
        });
    }
}

async fn cause(worker: &Worker, doubt: &Doubt) -> Cause {
    let fence = &worker.shared.fence;
    if !fence.wait_covered(doubt.complete, PATIENCE).await {
        return Cause::Unjudged;
    }
    if doubt.validity.holds(fence).is_err() {
        return Cause::Changed;
    }
    tokio::time::sleep(worker.config().verify.settle).await;
    if !fence.wait_covered(Moment::now(), PATIENCE).await {
        return Cause::Unjudged;
    }
    if doubt.validity.is_of_this_epoch(fence) { Cause::Mismatch } else { Cause::Changed }
}

/// Switches caching of the statement off, and says so: which statement it is, and nothing that is in it.
fn report(worker: &Worker, doubt: &Doubt) {
    doubt.query.mismatched();
    let fingerprint = doubt.query.fingerprint();
    let denied = worker.shared.rules.deny(Target::Query(fingerprint), Bypass::VerifyMismatch);
    if worker.reports.is_due(fingerprint, Moment::now()) {
        tracing::warn!(
            %fingerprint,
            age = ?doubt.age,
            switched_off = denied.is_ok(),
            "an answer in memory differs from the origin's, and no change explains it: this statement is not cached any \
             more -> SHOW QUERIES has it, docs/guides/prove-it.md says what to look for; then ALLOW QUERY"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_leaves_the_origin_nearly_all_of_its_time() {
        let sampler = Sampler::default();
        let cost = Duration::from_millis(10);
        let drawn =
            (0..1_000_u64).filter(|n| sampler.draws(0.999_999, Moment(1 + n * 1_000_000), cost)).count();
        // A second of a hit each millisecond, of which each comparison takes 10 ms: a twentieth is five.
        assert!((4..=5).contains(&drawn), "{drawn}");
    }

    #[test]
    fn none_and_all_are_exact() {
        let sampler = Sampler::default();
        let hour = Duration::from_secs(3600);
        assert!(
            (0..1_000).all(|n| sampler.draws(1.0, Moment(n), hour) && !sampler.draws(0.0, Moment(n), hour))
        );
    }

    #[test]
    fn a_statement_is_reported_once_a_minute() {
        let reports = Reports::default();
        let at = |seconds: u64| Moment(1 + seconds * 1_000_000_000);
        let (one, other) = (Fingerprint(1), Fingerprint(2));
        assert!(reports.is_due(one, at(0)) && reports.is_due(other, at(1)));
        assert!(!reports.is_due(one, at(59)));
        assert!(reports.is_due(one, at(61)));
        (3..3_000).for_each(|n| assert!(reports.is_due(Fingerprint(n), at(61))));
        assert!(reports.0.lock().len() <= MAX_REPORTED);
    }
}
