//! How long a session lasts where sessions have a longest life (`drain.client_max_age`).
//!
//! Connections that a pool made at once would move to other processes at once, so each is given a life of its own.
//! Towards its end it leaves at the first pause, in which its pool most likely holds it idle and opens another in its place;
//! only a client that makes none is told between two transactions.

use std::time::Duration;

use tokio::time::Instant;

use super::Leave;

/// Share of the longest life after which the first leaves at a pause.
const FIRST: f64 = 0.7;
/// Share of the longest life over which lives are spread.
const SPREAD: f64 = 0.2;
/// Share of the longest life in which a pause is waited for.
const PATIENCE: f64 = 0.1;

/// A session's age and its place among those that began with it.
#[derive(Debug)]
pub(crate) struct Age {
    born: Instant,
    /// From 0 to 1.
    place: f64,
}

impl Age {
    pub(crate) fn new() -> Self {
        Self { born: Instant::now(), place: fastrand::f64() }
    }

    /// What a session of this age does at `now`.
    pub(crate) fn leave(&self, now: Instant, longest: Duration) -> Leave {
        let lived = now.saturating_duration_since(self.born);
        let share = lived.as_secs_f64() / longest.as_secs_f64();
        let pausing = FIRST + SPREAD * self.place;
        if share < pausing {
            Leave::Never
        } else if share < pausing + PATIENCE {
            Leave::WhenPausing
        } else {
            Leave::WhenOld
        }
    }
}

/// How often ages are looked at: often enough that nobody outlives the longest life by more than a little, and that a longest
/// life which comes with a new configuration is noticed.
pub(crate) fn interval(longest: Option<Duration>) -> Duration {
    longest
        .map_or(Duration::MAX, |longest| longest / 50)
        .clamp(Duration::from_millis(10), Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "for tests only")]

    use super::*;

    #[test]
    fn lives_are_spread_and_none_is_longer_than_the_longest() {
        let longest = Duration::from_secs(100);
        let ages: Vec<_> = (0..1000).map(|_| Age::new()).collect();
        let after = |share: f64, leave: Leave| {
            let leaves = |age: &&Age| age.leave(age.born + longest.mul_f64(share), longest) == leave;
            ages.iter().filter(leaves).count()
        };
        assert_eq!(after(0.69, Leave::Never), 1000);
        assert!((300..700).contains(&after(0.8, Leave::Never)));
        assert_eq!(after(0.79, Leave::WhenOld), 0);
        assert!((300..700).contains(&after(0.9, Leave::WhenOld)));
        assert_eq!(after(1.001, Leave::WhenOld), 1000);
    }
}
