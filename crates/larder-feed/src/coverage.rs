//! What the feed has proven, and what it has to do next to prove more. Pure: no clock, no I/O; the caller says what
//! time it is, feeds in what happened, and does what [`Coverage::next`] asks for.
//!
//! # Samples
//! A sample asks the origin for its insert position and a snapshot, in one statement. Its start `t` is read before it
//! is sent. When everything up to that position has been applied, the feed covers everything that had committed by
//! `t`. One sample is in flight at a time; whoever wants one meanwhile is served by the next (ReadIndex batching).
//!
//! # Nudges
//! The origin sends only log that it has flushed, and it flushes for commits. What an open transaction has written, or
//! pruning, can lie behind the insert position unflushed for up to 15 s on a quiet server. When a sample waits for such
//! a position, the origin is nudged to flush. (The flush position would not do as the sample's: a commit with
//! `synchronous_commit = off` is acknowledged before it is flushed.)
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

/// While commits wait to become visible, ask again after this time; then after twice that, and so on: with a slow
/// synchronous standby they wait long.
const CONFIRM_EVERY: Duration = Duration::from_millis(1);
const CONFIRM_MAX: Duration = Duration::from_millis(16);
/// While a position is waited for: a walsender can sleep with flushed commits unsent.
const PING_EVERY: Duration = Duration::from_millis(5);
/// Otherwise: a sign of life, and leave for the origin to recycle its log.
const PING_IDLE: Duration = Duration::from_secs(1);
/// Settings and roles can be changed from another database, where no stream shows it.
const COMPARE_IDLE: Duration = Duration::from_secs(1);
/// Comparisons on demand rest for this time in between, or for three times what the last one took if that is more: a
/// stream of DDL (temporary tables!) shall not cost the origin a core. At most for the second of the two.
const COMPARE_REST: Duration = Duration::from_millis(2);
const COMPARE_REST_MAX: Duration = Duration::from_millis(100);
/// A position that is not flushed by itself in this time is nudged, then again at this interval: an origin older than
/// 17 flushes on a nudge within two rounds of its WAL writer (`wal_writer_delay`, 200 ms).
const NUDGE_AFTER: Duration = Duration::from_millis(5);
const NUDGE_EVERY: Duration = Duration::from_millis(200);
/// Samples that wait for their position. More are not kept: only the oldest and the newest matter.
const WAITING_MAX: usize = 64;

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Take a sample: see [`Coverage::begin_sample`].
    Sample,
    /// Report the applied position and ask for a keepalive.
    Ping,
    /// Have the origin flush its log.
    Nudge,
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
    /// `pg_current_wal_flush_lsn()`, read after the position.
    pub(crate) flushed: Lsn,
}

#[derive(Debug)]
struct Waiting {
    position: Lsn,
    start: Moment,
    answered: Moment,
    compared: bool,
}

#[derive(Debug)]
struct InFlight {
    start: Moment,
    compares: bool,
    /// A review was due when it was sent.
    asked: bool,
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
    /// The stream shows transactions that changed the catalog and nothing else.
    shown_ddl: bool,
    last_sample: Moment,
    last_compare: Moment,
    compare_rest: Duration,
    confirm_after: Duration,
    last_ping: Moment,
    flushed: Lsn,
    last_nudge: Moment,
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
            shown_ddl: true,
            last_sample: now,
            last_compare: now,
            compare_rest: COMPARE_REST,
            confirm_after: CONFIRM_EVERY,
            last_ping: now,
            flushed: Lsn(0),
            last_nudge: Moment::NEVER,
        }
    }

    /// Without, the catalog is compared whether anything commits or not: something may have committed that does not show.
    pub(crate) fn shown_ddl(self, shown: bool) -> Self {
        Self { shown_ddl: shown, ..self }
    }

    /// From now on at this pace.
    pub(crate) fn set_pace(&mut self, max_lag: Duration, ddl_check: Duration) {
        self.ddl_check = ddl_check;
        self.sample_every = max_lag / 4;
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
        self.confirm_after = CONFIRM_EVERY;
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
        let compares = self.comparison_at() <= start;
        let asked = self.review_due;
        if compares {
            // Whatever asks from now on needs a later one.
            self.review_due = false;
            self.last_compare = start;
        }
        self.in_flight = Some(InFlight { start, compares, asked });
        self.wanted = false;
        self.last_sample = start;
        compares
    }

    /// Whether a review was awaited that the comparison in flight, which saw this, satisfies.
    pub(crate) fn reviews(&self, seen: &Snapshot) -> bool {
        let asked = self.in_flight.as_ref().is_some_and(|sample| sample.asked);
        asked || self.to_review.iter().any(|xid| seen.sees(*xid))
    }

    /// The sample in flight came back at `answered`, and if the catalog had changed, the consequences have been taken.
    /// `review` was read from the fence just now.
    pub(crate) fn end_sample(&mut self, sampled: Sampled, review: bool, answered: Moment) {
        if review {
            self.request_review();
        }
        self.unconfirmed.confirm(&sampled.snapshot);
        self.flushed = self.flushed.max(sampled.flushed);
        self.confirm_after = (self.confirm_after * 2).min(CONFIRM_MAX);
        let Some(InFlight { start, compares, .. }) = self.in_flight.take() else { return };
        if compares {
            self.to_review.retain(|xid| !sampled.snapshot.sees(*xid));
            self.dirty = !self.unconfirmed.is_empty();
            self.compare_rest = (answered.since(start) * 3).clamp(COMPARE_REST, COMPARE_REST_MAX);
            self.last_compare = answered;
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
        self.waiting.push_back(Waiting { position: sampled.position, start, answered, compared: compares });
        self.settle(self.applied);
    }

    /// A ping was sent.
    pub(crate) fn pinged(&mut self, now: Moment) {
        self.last_ping = now;
    }

    /// The origin was asked to flush.
    pub(crate) fn nudged(&mut self, now: Moment) {
        self.last_nudge = now;
    }

    /// What to do next.
    pub(crate) fn next(&self, now: Moment) -> Step {
        let ping = self.last_ping.after(if self.waiting.is_empty() { PING_IDLE } else { PING_EVERY });
        let (sample, nudge) = (self.sample_at(), self.nudge_at());
        if sample.is_some_and(|at| at <= now) {
            Step::Sample
        } else if nudge.is_some_and(|at| at <= now) {
            Step::Nudge
        } else if ping <= now {
            Step::Ping
        } else {
            Step::Wait([sample, nudge].into_iter().flatten().fold(ping, Moment::min))
        }
    }

    /// When the next nudge is due; `None` while nothing waits for log that is not flushed.
    fn nudge_at(&self) -> Option<Moment> {
        let first = self.waiting.front().filter(|sample| sample.position > self.flushed)?;
        let again =
            if self.last_nudge == Moment::NEVER { Moment::NEVER } else { self.last_nudge.after(NUDGE_EVERY) };
        Some(first.answered.after(NUDGE_AFTER).max(again))
    }

    /// When the next sample is due; `None` while one is in flight.
    fn sample_at(&self) -> Option<Moment> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut at = self.comparison_at().min(self.last_sample.after(self.sample_every));
        if !self.unconfirmed.is_empty() {
            at = at.min(self.last_sample.after(self.confirm_after));
        }
        // While a review is pending, only a comparison can serve whoever wants a sample.
        if self.wanted && !self.review_pending() {
            at = Moment::NEVER;
        }
        Some(at)
    }

    /// When the next comparison is due.
    fn comparison_at(&self) -> Moment {
        let timer = if self.dirty || !self.shown_ddl { self.ddl_check } else { COMPARE_IDLE };
        let wait = if self.review_pending() { self.compare_rest } else { timer.max(self.compare_rest) };
        self.last_compare.after(wait)
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
mod tests;
