//! How values live and loaders run: defaults of a cache, which each request may override.

use std::time::Duration;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) ttl: Duration,
    /// The part of the time to live that chance may take off.
    pub(crate) jitter: f64,
    pub(crate) stale_if_error: Duration,
    pub(crate) negative_ttl: Duration,
    pub(crate) refresh_ahead: Duration,
    pub(crate) soft_timeout: Option<Duration>,
    pub(crate) hard_timeout: Option<Duration>,
    pub(crate) cancel_abandoned: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(60),
            jitter: 0.1,
            stale_if_error: Duration::ZERO,
            negative_ttl: Duration::ZERO,
            refresh_ahead: Duration::ZERO,
            soft_timeout: None,
            hard_timeout: None,
            cancel_abandoned: false,
        }
    }
}

impl Options {
    /// So that what was stored together does not expire together.
    pub(crate) fn jittered(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * fastrand::f64())
    }
}

/// Methods of a request that override, for it alone, what the builder of its cache said.
macro_rules! overrides {
    ($($(#[$more:meta])* $name:ident: $type:ty, see $builder:ident;)+) => {$(
        #[doc = concat!("See [`CacheBuilder::", stringify!($builder), "`](super::CacheBuilder::", stringify!($builder), ").")]
        $(#[$more])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.options.$name = $name.into();
            self
        }
    )+};
}
pub(crate) use overrides;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn jitter_only_shortens_and_never_by_more_than_its_part(seconds in 0..1_000_000_u64, jitter in 0.0..1.0_f64) {
            let ttl = Duration::from_secs(seconds);
            let options = Options { jitter, ..Options::default() };
            let jittered = options.jittered(ttl);
            prop_assert!(jittered <= ttl);
            prop_assert!(jittered + Duration::from_millis(1) >= ttl.mul_f64(1.0 - jitter));
        }
    }
}
