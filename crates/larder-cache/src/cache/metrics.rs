//! What a cache counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $field:ident,)+) => {
        /// Events since the start. Made by the application, handed to one cache or to several, and read whenever it likes.
        ///
        /// ```
        /// # use larder_cache::{Cache, CacheMetrics};
        /// # use std::sync::Arc;
        /// let metrics = Arc::new(CacheMetrics::default());
        /// let users = Cache::<u64, String>::builder().metrics(Arc::clone(&metrics)).build();
        /// metrics.each(|name, help, value| println!("# HELP {name} {help}\n{name} {value}"));
        /// ```
        #[derive(Debug, Default)]
        #[non_exhaustive]
        pub struct CacheMetrics { $($(#[doc = $doc])+ pub $field: AtomicU64,)+ }

        impl CacheMetrics {
            /// Every counter: name, help, value.
            pub fn each(&self, mut with: impl FnMut(&'static str, &'static str, u64)) {
                $(with(
                    stringify!($field),
                    concat!($($doc),+).trim_ascii(),
                    self.$field.load(Ordering::Relaxed),
                );)+
            }
        }
    };
}

metrics! {
    /// Values given from the memory of this process.
    l1_hits,
    /// Values found in the shared tier and given from there.
    l2_hits,
    /// Requests that found nothing good in this process.
    misses,
    /// Requests that waited for the load of another.
    coalesced,
    /// Runs of a loader, refreshes included.
    loads,
    /// Runs of a loader that a value about to expire set off.
    refreshes,
    /// Loaders that returned an error.
    failures,
    /// Loaders that panicked.
    panics,
    /// Loaders that took longer than the hard timeout.
    timeouts,
    /// Expired values given because the loader failed or was slow.
    stale_served,
    /// Errors given from memory, without asking the loader again.
    negative_hits,
    /// Values that could not be kept because one of their tags names something whose changes the followed log does not show.
    unprovable,
    /// Invalidations that could not be told to the shared tier at once.
    not_propagated,
}

/// Counts one; nothing is ordered by it.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
