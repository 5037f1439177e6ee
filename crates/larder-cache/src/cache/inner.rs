//! What all handles of a cache share, and the lookup.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::error::AnyError;
use super::flights::Flights;
use super::invalidations::Invalidations;
use super::item::{Item, Kept, Loaded, Source};
use super::key::Key;
use super::log::{ChangeLog, Resolved};
use super::metrics::{CacheMetrics, count};
use super::options::Options;
use super::remote::Remote;
use crate::{Fence, Moment, Reader, Store, TagSet};

/// Of the cache's memory, the part that remembered failures may take at most, besides.
const FOR_FAILURES: usize = 16;

pub(crate) type Weigher<V> = Box<dyn Fn(&V) -> usize + Send + Sync>;
pub(crate) type TtlOf<V> = Box<dyn Fn(&V) -> Option<Duration> + Send + Sync>;

/// What all handles share.
pub(crate) struct Inner<V> {
    pub(crate) values: Arc<Store<Item<V>>>,
    pub(crate) failures: OnceLock<Arc<Store<Item<AnyError>>>>,
    pub(crate) flights: Arc<Flights<V>>,
    pub(crate) invalidations: Arc<Invalidations>,
    pub(crate) fence: Arc<Fence>,
    pub(crate) log: Option<Arc<dyn ChangeLog>>,
    pub(crate) remote: Option<Arc<dyn Remote<V>>>,
    /// Values are kept in this process.
    pub(crate) local: bool,
    pub(crate) max_bytes: usize,
    pub(crate) options: Options,
    pub(crate) weigher: Option<Weigher<V>>,
    pub(crate) ttl_of: Option<TtlOf<V>>,
    pub(crate) metrics: Arc<CacheMetrics>,
}

/// What a lookup found.
pub(crate) enum Look<V> {
    Fresh(Kept<V>),
    /// True as far as is known, but past its time to live.
    Stale(Kept<V>),
    Nothing,
}

impl<V: Send + Sync + 'static> Inner<V> {
    /// The value, if this process has it and it is good.
    pub(crate) fn hit<Q: Key + ?Sized>(&self, key: &Q, now: Moment) -> Option<Loaded<V>> {
        match key.with_bytes(|key| self.look(key, now)) {
            Look::Fresh(item) => {
                count(&self.metrics.l1_hits);
                Some(Loaded::new(item, Source::L1, false))
            }
            Look::Stale(_) | Look::Nothing => None,
        }
    }

    /// What is kept in this process, if it may be given now.
    pub(crate) fn look(&self, key: &[u8], now: Moment) -> Look<V> {
        let reader = Reader { now, heed_marks: true, covered_past: Moment::NEVER };
        match self.values.get(key, &reader) {
            Ok(entry) if !entry.value.is_current(&self.invalidations) => Look::Nothing,
            Ok(entry) if now < entry.value.fresh_until => Look::Fresh(entry),
            Ok(entry) => Look::Stale(entry),
            Err(_) => Look::Nothing,
        }
    }

    /// What may be given in place of an error: kept for that purpose, and asked for by this caller.
    pub(crate) fn look_stale(&self, key: &[u8], options: &Options) -> Option<(Kept<V>, bool)> {
        let now = Moment::now();
        match self.look(key, now) {
            Look::Fresh(item) => Some((item, false)),
            Look::Stale(item) if now < item.value.fresh_until.after(options.stale_if_error) => {
                Some((item, true))
            }
            Look::Stale(_) | Look::Nothing => None,
        }
    }

    /// An error that is remembered.
    pub(crate) fn look_failure(&self, key: &[u8], now: Moment) -> Option<AnyError> {
        let reader = Reader { now, heed_marks: true, covered_past: Moment::NEVER };
        let entry = self.failures.get()?.get(key, &reader).ok()?;
        let good = entry.value.is_current(&self.invalidations) && now < entry.value.fresh_until;
        good.then(|| Arc::clone(&entry.value.value))
    }

    /// A value that has landed, for somebody who arrived after its load had begun.
    pub(crate) fn prove_landed(&self, key: &[u8], item: &Kept<V>) -> Option<Kept<V>> {
        match self.look(key, Moment::now()) {
            Look::Fresh(found) => Some(found),
            // Not kept, because it was too large, say. Where nothing is proven by a fence, its tags tell all.
            Look::Stale(_) | Look::Nothing => {
                let timed = self.log.is_none() && self.remote.is_none();
                (timed && item.value.is_current(&self.invalidations)).then(|| Arc::clone(item))
            }
        }
    }

    /// What is kept for this key is given to nobody any more.
    pub(crate) fn revoke(&self, key: &[u8]) {
        self.flights.doom(key);
        // As a reader for whom the lease always holds: what cannot be given now may be given again when it holds.
        let reader = Reader { now: self.fence.covered(), heed_marks: false, covered_past: Moment::NEVER };
        if let Ok(entry) = self.values.get(key, &reader) {
            entry.value.revoke();
        }
        if let Some(entry) = self.failures.get().and_then(|failures| failures.get(key, &reader).ok()) {
            entry.value.revoke();
        }
    }

    /// What the followed log calls these tags; `None`: one of them is nothing that it shows the changes of.
    pub(crate) fn prove(&self, tags: &[Arc<str>]) -> Option<TagSet> {
        let Some(log) = &self.log else { return Some(TagSet::default()) };
        let mut proof = Vec::new();
        for tag in tags {
            match log.resolve(tag) {
                Resolved::Unknown => {}
                Resolved::Tags(found) => proof.extend(found),
                Resolved::Unprovable(_) => {
                    count(&self.metrics.unprovable);
                    return None;
                }
            }
        }
        Some(proof.into())
    }

    pub(crate) fn failures(&self) -> &Arc<Store<Item<AnyError>>> {
        self.failures.get_or_init(|| {
            let bytes = self.max_bytes / FOR_FAILURES;
            Store::new(Arc::clone(&self.fence), bytes, bytes)
        })
    }

    pub(crate) fn weigh(&self, value: &V) -> usize {
        self.weigher.as_ref().map_or(0, |weigher| weigher(value))
    }

    pub(crate) fn ttl_of(&self, value: &V) -> Option<Duration> {
        self.ttl_of.as_ref().and_then(|ttl_of| ttl_of(value))
    }
}
