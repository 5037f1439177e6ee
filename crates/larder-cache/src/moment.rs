//! One clock for everything that is compared: leases, marks, coverage, times to live.

use std::sync::OnceLock;
use std::time::Duration;

// The standard one, but for tests that pause tokio's clock.
use tokio::time::Instant;

/// An instant of the process's monotonic clock, in nanoseconds since the process's first use of it; 0 = never.
///
/// A plain number, so that it fits in an atomic; 64 bits of nanoseconds last 584 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// Before everything: what has never happened, happened then.
    pub const NEVER: Self = Self(0);

    /// The present; never [`Moment::NEVER`].
    pub fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let elapsed = START.get_or_init(Instant::now).elapsed();
        Self(nanos(elapsed).saturating_add(1))
    }

    /// How long ago `earlier` was, as seen from here; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment that lies `span` ahead, at most the end of time.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }
}

/// Nanoseconds, at most `u64::MAX` (584 years).
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_is_never_never_and_never_goes_back() {
        let mut last = Moment::NEVER;
        for _ in 0..1000 {
            let now = Moment::now();
            assert!(now > Moment::NEVER && now >= last);
            last = now;
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Moment(5).since(Moment(9)), Duration::ZERO);
        assert_eq!(Moment(9).since(Moment(5)), Duration::from_nanos(4));
        assert_eq!(Moment(1).after(Duration::from_nanos(2)), Moment(3));
        assert_eq!(Moment(1).after(Duration::MAX), Moment(u64::MAX));
    }
}
