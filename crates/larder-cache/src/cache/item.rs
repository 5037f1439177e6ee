//! What is kept of a value, and what callers are given of it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::invalidations::{Hold, Invalidations};
use crate::{Entry, Moment, Weigh};

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// The memory of this process.
    L1,
    /// The tier that several processes share.
    L2,
    /// The loader: this caller's, or that of another who asked for the same at the same time.
    Loader,
}

impl Source {
    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Loader => "loader",
        }
    }
}

/// A value, and where it came from. Dereferences to the value; cheap to clone.
pub struct Loaded<V> {
    item: Kept<V>,
    source: Source,
    stale: bool,
}

impl<V> Loaded<V> {
    pub(crate) fn new(item: Kept<V>, source: Source, stale: bool) -> Self {
        Self { item, source, stale }
    }

    /// Whether this caller is the one to refresh it.
    pub(crate) fn claim_refresh(&self, now: Moment, ahead: Duration) -> bool {
        self.item.value.claim_refresh(now, ahead)
    }

    /// Where it came from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// How long ago a loader, here or in another process, brought it.
    pub fn age(&self) -> Duration {
        Moment::now().since(self.item.value.loaded)
    }

    /// It has outlived its time to live, and is given because the loader failed or was slow. Nothing that is known to
    /// have been invalidated is ever given.
    pub fn is_stale(&self) -> bool {
        self.stale
    }
}

impl<V> Deref for Loaded<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.item.value.value
    }
}

impl<V> AsRef<V> for Loaded<V> {
    fn as_ref(&self) -> &V {
        &self.item.value.value
    }
}

impl<V> Clone for Loaded<V> {
    fn clone(&self) -> Self {
        Self { item: Arc::clone(&self.item), source: self.source, stale: self.stale }
    }
}

impl<V: fmt::Debug> fmt::Debug for Loaded<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Loaded");
        debug.field("value", &self.item.value.value).field("source", &self.source);
        debug.field("age", &self.age()).field("stale", &self.stale).finish()
    }
}

/// One allocation and one count, from the store to the caller.
pub(crate) type Kept<T> = Arc<Entry<Item<T>>>;

/// A value as it is kept, or a failure that is remembered. What every lookup reads comes first.
pub(crate) struct Item<T> {
    /// What it depends on, by name.
    pub(crate) hold: Hold,
    /// The end of its time to live.
    pub(crate) fresh_until: Moment,
    revoked: AtomicBool,
    pub(crate) value: T,
    /// Until then nobody else begins a refresh.
    refreshing_until: AtomicU64,
    /// When the loader brought it.
    pub(crate) loaded: Moment,
    /// The end of the time in which it may be given in place of an error.
    pub(crate) usable_until: Moment,
    /// Of the value, in bytes, as the weigher says.
    weight: usize,
}

impl<T> Item<T> {
    pub(crate) fn new(value: T, weight: usize, hold: Hold, loaded: Moment, life: Life) -> Self {
        let fresh_until = life.from.after(life.ttl);
        Self {
            value,
            weight,
            hold,
            loaded,
            fresh_until,
            usable_until: fresh_until.after(life.grace),
            revoked: AtomicBool::new(false),
            refreshing_until: AtomicU64::new(0),
        }
    }

    /// Nothing has been invalidated by hand that it depends on.
    pub(crate) fn is_current(&self, invalidations: &Invalidations) -> bool {
        !self.revoked.load(Ordering::Acquire) && self.hold.is_current(invalidations)
    }

    /// This very value is to be given to nobody any more.
    pub(crate) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
    }

    /// Whether this caller is the one to refresh it: it has `ahead` or less to live, and nobody is at it. One that fails
    /// is tried again after a quarter of that time.
    fn claim_refresh(&self, now: Moment, ahead: Duration) -> bool {
        if ahead.is_zero() || now.after(ahead) < self.fresh_until {
            return false;
        }
        let claimed = self.refreshing_until.load(Ordering::Relaxed);
        let until = now.after((ahead / 4).max(Duration::from_millis(10))).0;
        claimed <= now.0
            && self
                .refreshing_until
                .compare_exchange(claimed, until, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

/// How long something is good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) from: Moment,
    pub(crate) ttl: Duration,
    /// Beyond that, in place of an error.
    pub(crate) grace: Duration,
}

impl<T> Weigh for Item<T> {
    fn weight(&self) -> usize {
        let tags = self.hold.tags.len().saturating_mul(size_of::<usize>());
        self.weight.saturating_add(size_of::<Item<T>>()).saturating_add(tags)
    }
}
