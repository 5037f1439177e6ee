//! A circuit breaker: after so many failures in a row nobody asks any more, but for one probe at a time.
//!
//! ```text
//!   closed --(threshold failures in a row)--> open --(wait, with jitter)--> one probes --(success)--> closed
//!                                               ^-------(failure: wait twice as long)-------'
//! ```
//!
//! A breaker that opens again soon after it closed goes on with the wait it had, so that a server which comes and goes
//! is not tried ten times a second. The present is a parameter: nothing here reads a clock but a probe that is given up.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

/// When to open, and how long to stay so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Failures in a row that open it.
    pub(super) threshold: u32,
    /// The first wait; each failed probe doubles it.
    pub(super) first: Duration,
    pub(super) longest: Duration,
    /// Closed for so long, it begins with the first wait again.
    pub(super) calm: Duration,
}

#[derive(Debug)]
pub(super) struct Breaker {
    pace: Pace,
    /// A copy of the phase, for those who only ask.
    open: AtomicBool,
    failures: AtomicU32,
    openings: AtomicU64,
    state: Mutex<State>,
    turned: watch::Sender<()>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    wait: Duration,
    closed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant },
    Probing,
}

/// What somebody who wants to ask gets.
#[derive(Debug)]
pub(super) enum Admission<'a> {
    /// It is closed.
    Pass,
    /// It is open, and the one who asks is to find out whether it may close.
    Probe(Probe<'a>),
    /// It is open.
    No,
}

/// The right to find out whether it may close. Given up without a word, it is a failure.
#[derive(Debug)]
#[must_use]
pub(super) struct Probe<'a>(Option<&'a Breaker>);

impl Breaker {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            open: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            openings: AtomicU64::new(0),
            state: Mutex::new(State { phase: Phase::Closed, wait: pace.first, closed: None }),
            turned: watch::Sender::new(()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// How often it has opened: what was connected before the last time is suspect.
    pub(super) fn openings(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }

    /// Wakes whenever it has opened or closed, or a probe has ended.
    pub(super) fn turns(&self) -> watch::Receiver<()> {
        self.turned.subscribe()
    }

    /// Somebody was answered.
    pub(super) fn succeeded(&self) {
        // A load is cheaper than a store to a line that all workers read.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Somebody was not; true if that opened it.
    pub(super) fn failed(&self, now: Instant) -> bool {
        if self.is_open() {
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        failures >= self.pace.threshold && self.open(now)
    }

    /// Passes while closed; while open one at a time, when it is time.
    pub(super) fn admit(&self, now: Instant) -> Admission<'_> {
        if !self.is_open() {
            return Admission::Pass;
        }
        self.probe(now).map_or(Admission::No, Admission::Probe)
    }

    /// Whether [`admit`](Self::admit) would let somebody in.
    pub(super) fn would_admit(&self, now: Instant) -> bool {
        !self.is_open() || self.next_probe().is_some_and(|at| at <= now)
    }

    /// The right to probe, if it is open and it is time.
    pub(super) fn probe(&self, now: Instant) -> Option<Probe<'_>> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Open { until } if until <= now => {
                state.phase = Phase::Probing;
                Some(Probe(Some(self)))
            }
            _ => None,
        }
    }

    /// When somebody may probe; `None` while it is closed or probed.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        match self.state.lock().phase {
            Phase::Open { until } => Some(until),
            Phase::Closed | Phase::Probing => None,
        }
    }

    fn open(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        if !matches!(state.phase, Phase::Closed) {
            return false;
        }
        let relapse = state.closed.is_some_and(|closed| now.duration_since(closed) < self.pace.calm);
        state.wait = if relapse { self.longer(state.wait) } else { self.pace.first };
        self.openings.fetch_add(1, Ordering::AcqRel);
        self.wait(&mut state, now);
        true
    }

    fn wait(&self, state: &mut State, now: Instant) {
        state.phase = Phase::Open { until: now + jittered(state.wait) };
        self.open.store(true, Ordering::Release);
        self.turned.send_replace(());
    }

    fn longer(&self, wait: Duration) -> Duration {
        wait.saturating_mul(2).min(self.pace.longest)
    }
}

impl Probe<'_> {
    /// It may close.
    pub(super) fn succeed(mut self, now: Instant) {
        if let Some(breaker) = self.0.take() {
            let mut state = breaker.state.lock();
            (state.phase, state.closed) = (Phase::Closed, Some(now));
            breaker.failures.store(0, Ordering::Relaxed);
            breaker.open.store(false, Ordering::Release);
            breaker.turned.send_replace(());
        }
    }

    /// It stays open, for longer than the last time.
    pub(super) fn fail(mut self, now: Instant) {
        if let Some(breaker) = self.0.take() {
            breaker.probe_failed(now);
        }
    }
}

impl Breaker {
    fn probe_failed(&self, now: Instant) {
        let mut state = self.state.lock();
        state.wait = self.longer(state.wait);
        self.wait(&mut state, now);
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.probe_failed(Instant::now());
        }
    }
}

/// From half of it to all of it: processes that lost a server together do not come back together.
pub(super) fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        threshold: 3,
        first: Duration::from_millis(100),
        longest: Duration::from_secs(5),
        calm: Duration::from_secs(10),
    };
    const MS: Duration = Duration::from_millis(1);

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker::new(PACE);
        for failure in 1..=3 {
            assert_eq!(breaker.failed(now), failure == 3);
        }
        breaker
    }

    /// Waits until a probe is due, and takes it.
    fn probe<'a>(breaker: &'a Breaker, now: &mut Instant) -> Probe<'a> {
        *now = breaker.next_probe().unwrap();
        breaker.probe(*now).unwrap()
    }

    #[test]
    fn opens_after_failures_in_a_row_only() {
        let (now, breaker) = (Instant::now(), Breaker::new(PACE));
        for _ in 0..100 {
            assert!(!breaker.failed(now) && !breaker.failed(now));
            breaker.succeeded();
        }
        assert!(!breaker.is_open() && matches!(breaker.admit(now), Admission::Pass));
        assert!(!breaker.failed(now) && !breaker.failed(now) && breaker.failed(now));
        assert!(breaker.is_open() && breaker.openings() == 1);
        assert!(!breaker.failed(now), "answers that come late open nothing");
    }

    #[test]
    fn lets_one_probe_at_a_time_and_only_when_it_is_due() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(matches!(breaker.admit(now + 49 * MS), Admission::No), "half of the wait at least");
        assert!(!breaker.would_admit(now + 49 * MS) && breaker.would_admit(now + 100 * MS));
        let Admission::Probe(probe) = breaker.admit(now + 100 * MS) else { panic!("the wait is over") };
        assert!(matches!(breaker.admit(now + 200 * MS), Admission::No), "one probes already");
        assert!(!breaker.would_admit(now + 200 * MS) && breaker.is_open());
        probe.succeed(now + 200 * MS);
        assert!(!breaker.is_open() && matches!(breaker.admit(now), Admission::Pass));
    }

    #[test]
    fn waits_twice_as_long_after_each_failed_probe_up_to_a_bound() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for wait in [200, 400, 800, 1600, 3200, 5000, 5000] {
            probe(&breaker, &mut now).fail(now);
            let next = breaker.next_probe().unwrap() - now;
            assert!(wait * MS / 2 <= next && next <= wait * MS, "{wait}: {next:?}");
        }
        assert_eq!(breaker.openings(), 1);
    }

    #[test]
    fn a_probe_that_is_given_up_leaves_the_right_to_others() {
        let mut now = Instant::now();
        let breaker = opened(now);
        let turns = breaker.turns();
        drop(probe(&breaker, &mut now));
        assert!(turns.has_changed().unwrap() && breaker.is_open());
        probe(&breaker, &mut now).succeed(now);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_relapse_goes_on_with_the_wait_and_a_calm_time_ends_that() {
        let mut now = Instant::now();
        let breaker = opened(now);
        let wait_after = |breaker: &Breaker, now: Instant| {
            assert_eq!([0; 3].map(|_| breaker.failed(now)), [false, false, true]);
            breaker.next_probe().unwrap() - now
        };
        probe(&breaker, &mut now).succeed(now);
        assert!(wait_after(&breaker, now + MS) >= 100 * MS);
        probe(&breaker, &mut now).succeed(now);
        assert!(wait_after(&breaker, now + MS) >= 200 * MS);
        probe(&breaker, &mut now).succeed(now);
        assert!(wait_after(&breaker, now + PACE.calm) <= PACE.first);
    }
}
