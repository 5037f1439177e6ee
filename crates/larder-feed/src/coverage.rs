//! What the feed has proven, and what it has to do next to prove more. Pure: no clock, no I/O; the caller says what
//! time it is, feeds in what happened, and does what [`Coverage::next`] asks for.
//!
//! # Samples
//! A sample asks the origin for its insert position and a snapshot, in one statement. Its start `t` is read before it
//! is sent. When everything up to that position has been applied, the feed covers everything that had committed by
//! `t`. One sample is in flight at a time; whoever wants one meanwhile is served by the next (ReadIndex batching).
//!
//! # Reviews
//! Some transactions may have changed the meaning of answers (DDL, GRANT, ...). Coverage must not pass such a
//! transaction before the catalog has been compared by a statement that sees it. A *comparison* is a sample that also
//! computes the fingerprint of the catalog. Its snapshot is taken after `t`, so it sees everything acknowledged by `t`:
//! a comparison is sound whatever else is due. A plain sample is sound only while no review is due, and forgotten when
//! one becomes due before its position is reached.

use std::collections::VecDeque;
use std::time::Duration;

use larder_cache::Moment;
use larder_core::Lsn;

use crate::visibility::{Snapshot, Unconfirmed};

/// While commits wait to become visible, ask again after this time.
const CONFIRM_EVERY: Duration = Duration::from_millis(1);
/// While a position is waited for: a walsender can sleep with flushed commits unsent.
const PING_EVERY: Duration = Duration::from_millis(5);
/// Otherwise: a sign of life, and leave for the origin to recycle its log.
const PING_IDLE: Duration = Duration::from_secs(1);
/// Settings and roles can be changed from another database, where no stream shows it.
const COMPARE_IDLE: Duration = Duration::from_secs(1);
/// Comparisons on demand rest for this time in between, and for three times what the last one took, so that a
/// stream of DDL (temporary tables!) costs the origin a quarter of one core at most.
const COMPARE_REST: Duration = Duration::from_millis(2);
/// Samples that wait for their position. More are not kept: only the oldest and the newest matter.
const WAITING_MAX: usize = 64;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take a sample: see [`Coverage::begin_sample`].
    Sample,
    /// Report the applied position and ask for a keepalive.
    Ping,
    /// Nothing before that moment.
    Wait(Moment),
}

/// What the origin answered.
#[derive(Debug, Clone)]
pub(crate) struct Sampled {
    /// `pg_current_snapshot()`.
    pub(crate) snapshot: Snapshot,
    /// `pg_current_wal_insert_lsn()`, normalised.
    pub(crate) position: Lsn,
}

#[derive(Debug)]
struct Waiting {
    position: Lsn,
    start: Moment,
    compared: bool,
}

#[derive(Debug)]
struct InFlight {
    start: Moment,
    compares: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Coverage {
    ddl_check: Duration,
    sample_every: Duration,
    applied: Lsn,
    covered: Moment,
    unconfirmed: Unconfirmed,
    /// Samples in the order of their positions.
    waiting: VecDeque<Waiting>,
    in_flight: Option<InFlight>,
    wanted: bool,
    /// A review that any comparison satisfies that starts from now on.
    review_due: bool,
    /// Transactions to review: a comparison must see them.
    to_review: Vec<u32>,
    /// What the last comparison saw.
    compared: Option<Snapshot>,
    /// Something committed that the last comparison may not have seen.
    dirty: bool,
    last_sample: Moment,
    last_compare: Moment,
    compare_cost: Duration,
    last_ping: Moment,
}

impl Coverage {
    /// A new stream, from `start`. `before` is a snapshot taken after the slot was made: a transaction that was in
    /// progress then may have written its commit record before `start` and so never be sent. While one of them is not
    /// seen to have ended, nothing is visible for sure.
    pub(crate) fn new(
        max_lag: Duration,
        ddl_check: Duration,
        start: Lsn,
        before: &Snapshot,
        now: Moment,
    ) -> Self {
        let mut unconfirmed = Unconfirmed::default();
        for xid in before.in_progress() {
            unconfirmed.push(xid, Lsn(0));
        }
        Self {
            ddl_check,
            sample_every: max_lag / 4,
            applied: start,
            covered: Moment::NEVER,
            unconfirmed,
            waiting: VecDeque::new(),
            in_flight: None,
            wanted: true,
            review_due: false,
            to_review: Vec::new(),
            compared: None,
            dirty: false,
            last_sample: now,
            last_compare: now,
            compare_cost: Duration::ZERO,
            last_ping: now,
        }
    }

    /// Every commit at or before it has been folded into the tags.
    pub(crate) fn applied(&self) -> Lsn {
        self.applied
    }

    /// Every applied commit up to it is visible to new snapshots.
    pub(crate) fn visible(&self) -> Lsn {
        self.unconfirmed.visible(self.applied)
    }

    /// Everything that had committed by then has been folded in; [`Moment::NEVER`] until the first proof.
    pub(crate) fn covered(&self) -> Moment {
        self.covered
    }

    /// Whether a comparison is awaited.
    pub(crate) fn review_pending(&self) -> bool {
        self.review_due || !self.to_review.is_empty()
    }

    /// The stream has shown a commit, and its changes are in the tags. `review`: it may have changed the catalog.
    /// Returns whether a review is due for it.
    pub(crate) fn commit(&mut self, xid: u32, position: Lsn, review: bool) -> bool {
        // Commits come in the order of their positions: whatever waited for less than this one has been reached
        // without it, so this one's review does not concern it.
        self.settle(Lsn(position.0.saturating_sub(1)));
        self.unconfirmed.push(xid, position);
        self.dirty = true;
        let review = review && !self.compared.as_ref().is_some_and(|seen| seen.sees(xid));
        if review {
            self.to_review.push(xid);
            self.forget_plain_samples();
        }
        self.reach(position);
        review
    }

    /// The stream has shown that every commit at or before `position` was sent.
    pub(crate) fn reach(&mut self, position: Lsn) {
        self.applied = self.applied.max(position);
        self.settle(self.applied);
    }

    /// Somebody wants a sample that starts from now on.
    pub(crate) fn request(&mut self) {
        self.wanted = true;
    }

    /// The meaning of answers may have changed, and whoever did it has been told so: a comparison that starts from
    /// now on sees it.
    pub(crate) fn request_review(&mut self) {
        self.review_due = true;
        self.forget_plain_samples();
    }

    /// A sample starts: `start` was read from the clock before this call, and before `review` was read from the fence.
    /// Returns whether it must compare the catalog.
    pub(crate) fn begin_sample(&mut self, start: Moment, review: bool) -> bool {
        if review {
            self.request_review();
        }
        let compares = self.comparison_at().is_some_and(|at| at <= start);
        if compares {
            // Whatever asks from now on needs a later one.
            self.review_due = false;
            self.last_compare = start;
        }
        self.in_flight = Some(InFlight { start, compares });
        self.wanted = false;
        self.last_sample = start;
        compares
    }

    /// The sample in flight came back, and if the catalog had changed, the consequences have been taken. `review` was
    /// read from the fence just now.
    pub(crate) fn end_sample(&mut self, sampled: Sampled, review: bool, now: Moment) {
        if review {
            self.request_review();
        }
        self.unconfirmed.confirm(&sampled.snapshot);
        let Some(InFlight { start, compares }) = self.in_flight.take() else { return };
        if compares {
            self.to_review.retain(|xid| !sampled.snapshot.sees(*xid));
            self.dirty = !self.unconfirmed.is_empty();
            self.compare_cost = now.since(start);
            self.last_compare = now;
            self.compared = Some(sampled.snapshot);
        } else if self.review_pending() {
            return;
        }
        if self.waiting.len() >= WAITING_MAX {
            self.waiting.pop_back();
        }
        if sampled.position > self.applied {
            // Ping at once.
            self.last_ping = Moment::NEVER;
        }
        self.waiting.push_back(Waiting { position: sampled.position, start, compared: compares });
        self.settle(self.applied);
    }

    /// A ping was sent.
    pub(crate) fn pinged(&mut self, now: Moment) {
        self.last_ping = now;
    }

    /// What to do next.
    pub(crate) fn next(&self, now: Moment) -> Step {
        let ping = self.last_ping.after(if self.waiting.is_empty() { PING_IDLE } else { PING_EVERY });
        let sample = self.sample_at();
        match sample {
            Some(at) if at <= now => Step::Sample,
            _ if ping <= now => Step::Ping,
            Some(at) => Step::Wait(at.min(ping)),
            None => Step::Wait(ping),
        }
    }

    /// When the next sample is due; `None` while one is in flight.
    fn sample_at(&self) -> Option<Moment> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut at = self.last_sample.after(self.sample_every);
        if let Some(comparison) = self.comparison_at() {
            at = at.min(comparison);
        }
        if !self.unconfirmed.is_empty() {
            at = at.min(self.last_sample.after(CONFIRM_EVERY));
        }
        // While a review is pending, only a comparison can serve whoever wants a sample.
        if self.wanted && !self.review_pending() {
            at = Moment::NEVER;
        }
        Some(at)
    }

    /// When the next comparison is due.
    fn comparison_at(&self) -> Option<Moment> {
        let rest = COMPARE_REST.max(self.compare_cost * 3);
        let timer = if self.dirty { self.ddl_check } else { COMPARE_IDLE };
        let wait = if self.review_pending() { rest } else { timer.max(rest) };
        Some(self.last_compare.after(wait))
    }

    fn forget_plain_samples(&mut self) {
        self.waiting.retain(|sample| sample.compared);
    }

    /// Everything at or before `position` has been folded in.
    fn settle(&mut self, position: Lsn) {
        while let Some(sample) = self.waiting.pop_front_if(|sample| sample.position <= position) {
            self.covered = self.covered.max(sample.start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;
    const MAX_LAG: Duration = Duration::from_secs(1);
    const DDL_CHECK: Duration = Duration::from_millis(250);

    fn at(ms: u64) -> Moment {
        Moment(1 + ms * MS)
    }

    fn idle() -> Coverage {
        let before = Snapshot::parse("50:50:").unwrap();
        let mut coverage = Coverage::new(MAX_LAG, DDL_CHECK, Lsn(100), &before, at(0));
        coverage.wanted = false;
        coverage
    }

    fn sampled(snapshot: &str, position: u64) -> Sampled {
        Sampled { snapshot: Snapshot::parse(snapshot).unwrap(), position: Lsn(position) }
    }

    /// Takes a sample from `ms` to `ms + 1`.
    fn sample(coverage: &mut Coverage, ms: u64, snapshot: &str, position: u64) -> bool {
        let compares = coverage.begin_sample(at(ms), false);
        coverage.end_sample(sampled(snapshot, position), false, at(ms + 1));
        compares
    }

    #[test]
    fn covered_is_the_start_of_a_sample_whose_position_is_reached() {
        let mut coverage = idle();
        sample(&mut coverage, 10, "60:60:", 200);
        assert_eq!(coverage.covered(), Moment::NEVER);
        assert_eq!(coverage.next(at(11)), Step::Ping, "at once");
        coverage.pinged(at(11));
        assert_eq!(coverage.next(at(12)), Step::Wait(at(16)), "then every 5 ms");
        coverage.reach(Lsn(199));
        assert_eq!(coverage.covered(), Moment::NEVER);
        coverage.reach(Lsn(200));
        assert_eq!((coverage.covered(), coverage.applied()), (at(10), Lsn(200)));
        sample(&mut coverage, 20, "60:60:", 200);
        assert_eq!(coverage.covered(), at(20), "nothing to wait for");
    }

    #[test]
    fn one_sample_in_flight_serves_all_that_queue_behind_it() {
        let mut coverage = idle();
        coverage.request();
        assert_eq!(coverage.next(at(1)), Step::Sample);
        coverage.begin_sample(at(1), false);
        coverage.request();
        coverage.request();
        assert!(matches!(coverage.next(at(2)), Step::Wait(_)), "not while one is in flight");
        coverage.end_sample(sampled("60:60:", 100), false, at(3));
        assert_eq!(coverage.next(at(3)), Step::Sample, "one right after it");
        sample(&mut coverage, 3, "60:60:", 100);
        assert!(matches!(coverage.next(at(4)), Step::Wait(_)));
    }

    #[test]
    fn samples_are_taken_for_the_lease_and_to_confirm_commits() {
        let mut coverage = idle();
        coverage.pinged(at(0));
        assert_eq!(coverage.next(at(1)), Step::Wait(at(250)), "a quarter of max_lag");
        coverage.commit(60, Lsn(150), false);
        assert_eq!((coverage.applied(), coverage.visible()), (Lsn(150), Lsn(149)));
        assert_eq!(coverage.next(at(1)), Step::Sample);
        sample(&mut coverage, 1, "60:61:60", 150);
        assert_eq!(coverage.visible(), Lsn(149), "committed, and still in progress for the snapshot");
        assert_eq!(coverage.next(at(1)), Step::Wait(at(2)));
        sample(&mut coverage, 2, "61:61:", 150);
        assert_eq!(coverage.visible(), Lsn(150));
    }

    #[test]
    fn whoever_ran_when_the_slot_was_made_holds_visibility_back() {
        let before = Snapshot::parse("50:60:50,55").unwrap();
        let mut coverage = Coverage::new(MAX_LAG, DDL_CHECK, Lsn(100), &before, at(0));
        assert_eq!(coverage.visible(), Lsn(0));
        sample(&mut coverage, 1, "55:60:55", 100);
        assert_eq!(coverage.visible(), Lsn(0));
        sample(&mut coverage, 2, "60:60:", 100);
        assert_eq!(coverage.visible(), Lsn(100));
    }

    #[test]
    fn coverage_does_not_pass_a_catalog_change_before_a_comparison_sees_it() {
        let mut coverage = idle();
        assert!(!sample(&mut coverage, 10, "60:61:60", 200), "a plain one");
        assert!(coverage.commit(60, Lsn(150), true));
        coverage.reach(Lsn(300));
        assert_eq!(coverage.covered(), Moment::NEVER, "forgotten: it began before the review");
        assert_eq!(coverage.next(at(11)), Step::Sample);
        assert!(sample(&mut coverage, 11, "60:61:60", 300));
        assert!(coverage.review_pending(), "the comparison did not see it");
        assert_eq!(coverage.covered(), at(11), "but all that was acknowledged before it began");
        assert!(!sample(&mut coverage, 12, "61:61:", 300), "too soon after the last comparison");
        assert_eq!(coverage.covered(), at(11), "a plain sample proves nothing now");
        assert!(sample(&mut coverage, 20, "61:61:", 300));
        assert!(!coverage.review_pending());
        assert_eq!(coverage.covered(), at(20));
    }

    #[test]
    fn a_sample_reached_before_the_catalog_change_stands() {
        let mut coverage = idle();
        sample(&mut coverage, 10, "60:60:", 149);
        coverage.commit(60, Lsn(150), true);
        assert_eq!(coverage.covered(), at(10));
    }

    #[test]
    fn what_the_last_comparison_saw_needs_no_other() {
        let mut coverage = idle();
        coverage.request_review();
        sample(&mut coverage, 10, "61:61:", 300);
        assert!(!coverage.review_pending());
        assert!(!coverage.commit(60, Lsn(150), true), "it had committed before");
        assert!(coverage.commit(61, Lsn(160), true));
    }

    #[test]
    fn a_request_for_review_outlasts_a_comparison_in_flight() {
        let mut coverage = idle();
        coverage.request_review();
        assert!(coverage.begin_sample(at(10), false));
        coverage.end_sample(sampled("61:61:", 100), true, at(11));
        assert!(coverage.review_pending());
        assert!(sample(&mut coverage, 20, "61:61:", 100));
        assert!(!coverage.review_pending());
    }

    #[test]
    fn a_request_during_a_plain_sample_voids_it() {
        let mut coverage = idle();
        assert!(!coverage.begin_sample(at(10), false));
        coverage.end_sample(sampled("61:61:", 100), true, at(11));
        assert_eq!(coverage.covered(), Moment::NEVER);
        assert_eq!(coverage.next(at(11)), Step::Sample, "the comparison");
    }

    #[test]
    fn the_catalog_is_compared_on_a_timer() {
        let mut coverage = idle();
        assert!(!sample(&mut coverage, 999, "60:60:", 100));
        assert!(sample(&mut coverage, 1000, "60:60:", 100), "once a second when idle");
        coverage.commit(60, Lsn(150), false);
        assert!(!sample(&mut coverage, 1250, "60:61:60", 150), "last_compare is 1001");
        assert!(sample(&mut coverage, 1251, "60:61:60", 150), "every ddl_check after a commit");
        assert!(sample(&mut coverage, 1502, "61:61:", 150), "again: that commit was not visible to it");
        assert!(!sample(&mut coverage, 1900, "61:61:", 150));
    }

    #[test]
    fn comparisons_rest_in_proportion_to_their_cost() {
        let mut coverage = idle();
        coverage.request_review();
        assert!(coverage.begin_sample(at(100), false));
        coverage.end_sample(sampled("60:60:", 100), false, at(140));
        coverage.request_review();
        coverage.pinged(at(140));
        assert_eq!(coverage.next(at(141)), Step::Wait(at(260)), "three times 40 ms after 140");
        assert_eq!(coverage.next(at(260)), Step::Sample);
    }

    #[test]
    fn the_queue_of_samples_is_bounded() {
        let mut coverage = idle();
        for n in 0..1000 {
            sample(&mut coverage, n, "60:60:", 200 + n);
        }
        assert!(coverage.waiting.len() <= WAITING_MAX);
        coverage.reach(Lsn(5000));
        assert_eq!(coverage.covered(), at(999));
    }

    proptest! {
        /// Commits with random acknowledgement times against samples at random times: whenever `covered` is past the
        /// time at which a commit was acknowledged, its position has been applied and, if it changed the catalog, a
        /// comparison has seen it.
        #[test]
        fn covered_never_claims_too_much(steps in proptest::collection::vec((0..5_u8, any::<bool>()), 1..120)) {
            let mut coverage = idle();
            // Commits on the origin: (xid, position, acknowledged at, changes the catalog); all visible at once.
            let mut origin: Vec<(u32, u64, u64, bool)> = Vec::new();
            let (mut sent, mut now, mut reviewed) = (0, 10, 0_usize);
            let mut in_flight: Option<(usize, bool)> = None;
            for (step, flag) in steps {
                now += 1;
                match step {
                    0 => {
                        let n = origin.len() as u64;
                        origin.push((60 + origin.len() as u32, 200 + 10 * n, now, flag));
                    }
                    1 if sent < origin.len() => {
                        let (xid, position, _, review) = origin[sent];
                        coverage.commit(xid, Lsn(position), review);
                        sent += 1;
                    }
                    2 if in_flight.is_none() => {
                        let compares = coverage.begin_sample(at(now), false);
                        in_flight = Some((origin.len(), compares));
                    }
                    3 => if let Some((seen, compares)) = in_flight.take() {
                        let xmax = 60 + seen;
                        let position = 190 + 10 * seen as u64;
                        coverage.end_sample(sampled(&format!("{xmax}:{xmax}:"), position), false, at(now));
                        if compares { reviewed = reviewed.max(seen); }
                    },
                    _ => now += 3,
                }
                for (index, (_, position, acknowledged, review)) in origin.iter().enumerate() {
                    if coverage.covered() > at(*acknowledged) {
                        prop_assert!(coverage.applied() >= Lsn(*position));
                        prop_assert!(!review || index < reviewed, "commit {index} was not reviewed");
                    }
                }
            }
        }
    }
}
