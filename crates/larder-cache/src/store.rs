//! The in-memory tier: a size-bounded map from the full key to an entry or to the memory of one that was too large.
//!
//! Underneath is `quick_cache` (S3-FIFO family: scan-resistant, a hit takes a read lock on one shard and no write).
//! Keys are compared in full; the hash only finds them, and its seed is drawn per process. Nothing is deleted when the
//! data changes: each lookup judges what it finds, and what can never be true again is removed on the way.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::quality::RandomState;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use crate::counters::{Counters, count};
use crate::entry::{Discard, Entry, Miss, Reader};
use crate::fence::{Fence, FillPoint};
use crate::flight::{Flights, Follower, Ticket};
use crate::shared::wall_clock;
use crate::{Moment, Tag, TagSet};

/// How long it is remembered that an answer was too large. Long enough that a hot large answer is not held back and
/// buffered time and again, short enough that one that has shrunk is soon kept.
pub const TOO_LARGE_FOR: Duration = Duration::from_secs(10);

/// What an entry costs beside the bytes of its key and value: 88 bytes of `Entry` and its `Arc`'s counts, 16 of the
/// key's, 53 of the cache's slot and index, twice that where tables have just grown, 32 lost to the allocator's size
/// classes; rounded up. A test holds the first numbers.
const OVERHEAD: usize = 256;

/// Entries are taken to weigh this much when the number of shards and of remembered evictions is chosen; an order of
/// magnitude is enough for that.
const TYPICAL_WEIGHT: usize = 1024;

/// A shard (of the cache's memory) holds at least so many of the largest values.
const LARGEST_PER_SHARD: usize = 8;

/// More shards than that only fragment the memory.
const MAX_SHARDS: usize = 256;

type Memory<V> = Cache<Arc<[u8]>, Slot<V>, ByBytes, RandomState, CountEvictions>;

/// What a value weighs, in bytes.
pub trait Weigh {
    /// Bytes of memory that it holds.
    fn weight(&self) -> usize;
}

/// The in-memory tier.
pub struct Store<V> {
    fence: Arc<Fence>,
    cache: Memory<V>,
    flights: Arc<Flights>,
    counters: Arc<Counters>,
    max_value: usize,
    /// When everything was last dropped on purpose, by the wall clock: what others stored before stays away, too.
    pub(crate) purged: AtomicU64,
    /// In bytes: the cache silently refuses what is larger than one of its shards.
    max_slot: u64,
}

/// Who fetches.
#[derive(Debug)]
pub enum Flight<V> {
    /// This caller does; everyone else who asks for the key waits for it.
    Lead(FillGuard<V>),
    /// Somebody else is at it: wait, then look up again.
    Follow(Follower),
    /// This caller does, for itself, and keeps nothing: the answer was too large a short while ago, or nothing may be
    /// kept at present (positions are not trusted yet). Nobody waits for it, as there will be nothing to find.
    Alone,
}

/// The duty to fetch. Take it *before* the query is sent: it holds `as_of` and the epoch of that moment. Dropping it
/// means that there will be no answer; followers wake and go on by themselves.
pub struct FillGuard<V> {
    pub(crate) store: Arc<Store<V>>,
    ticket: Ticket,
    pub(crate) point: FillPoint,
    pub(crate) settled: bool,
}

impl<V: Weigh + Send + Sync + 'static> Store<V> {
    /// A tier of at most `max_bytes`, overhead included, that keeps values of at most `max_value` bytes.
    pub fn new(fence: Arc<Fence>, max_bytes: usize, max_value: usize) -> Arc<Self> {
        let counters = Arc::new(Counters::default());
        let cache = memory(max_bytes, max_value, CountEvictions(Arc::clone(&counters)));
        let max_slot = cache.shard_capacity();
        let (flights, purged) = (Flights::new(), AtomicU64::new(0));
        Arc::new(Self { fence, cache, flights, counters, max_value, purged, max_slot })
    }

    /// What entries are judged by.
    pub fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The hit path: no allocation beyond the `Arc` count.
    pub fn get(&self, key: &[u8], reader: &Reader) -> Result<Arc<Entry<V>>, Miss> {
        let slot = self.cache.get(key).ok_or(Miss::Absent)?;
        let judged = match &slot {
            Slot::Kept(entry) => entry.judge(&self.fence, reader),
            Slot::TooLarge { until } if reader.now < *until => Err(Miss::TooLarge),
            Slot::TooLarge { .. } => Err(Miss::Expired),
        };
        match (slot, judged) {
            (Slot::Kept(entry), Ok(())) => Ok(entry),
            (slot, Err(miss)) => {
                if miss.is_for_good() {
                    self.bury(key, &slot, miss);
                }
                Err(miss)
            }
            (Slot::TooLarge { .. }, Ok(())) => Err(Miss::TooLarge),
        }
    }

    /// Decides who fetches the key, for a caller whose lookup missed. Call it before the query is sent.
    ///
    /// A caller whose miss was [`Miss::NoLease`] gains nothing by joining: what the leader brings could not be given
    /// to it. It should fetch by itself.
    pub fn join(self: &Arc<Self>, key: &[u8]) -> Flight<V> {
        let Some(point) = self.fence.fill_point() else { return Flight::Alone };
        if matches!(self.cache.peek(key), Some(Slot::TooLarge { until }) if Moment::now() < until) {
            return Flight::Alone;
        }
        match self.flights.join(key) {
            Some(Ok(ticket)) => {
                Flight::Lead(FillGuard { store: Arc::clone(self), ticket, point, settled: false })
            }
            Some(Err(follower)) => Flight::Follow(follower),
            None => Flight::Alone,
        }
    }

    /// Drops every entry. Fills under way are not affected: what they bring is newer than the call's reason. What other
    /// processes stored before this moment is not taken over any more, as far as the clocks agree.
    pub fn purge_all(&self) {
        self.purged.store(wall_clock(), Ordering::Relaxed);
        self.cache.clear();
    }

    /// Drops the entries of which `doomed` says so by key and tags; returns how many. Fills under way are not affected. Of
    /// what other processes stored before this moment nothing is taken over any more: it is not known here what it is.
    pub fn purge(&self, doomed: impl Fn(&[u8], &[Arc<Tag>]) -> bool) -> usize {
        self.purged.store(wall_clock(), Ordering::Relaxed);
        let dropped = Cell::new(0);
        self.cache.retain(|key, slot| {
            let drop = matches!(slot, Slot::Kept(entry) if doomed(key, &entry.tags));
            dropped.set(dropped.get() + usize::from(drop));
            !drop
        });
        dropped.get()
    }

    /// Entries held, dead ones that nobody has looked up since included.
    pub fn entries(&self) -> usize {
        self.cache.len()
    }

    /// Bytes that they take, overhead included.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.cache.weight()).unwrap_or(usize::MAX)
    }

    /// Removes what was found, unless something else has taken its place.
    fn bury(&self, key: &[u8], found: &Slot<V>, miss: Miss) {
        if self.cache.remove_if(key, |slot| slot.is(found)).is_some() && matches!(found, Slot::Kept(_)) {
            let expired = miss == Miss::Expired;
            count(if expired { &self.counters.expired } else { &self.counters.invalidated });
        }
    }
}

impl<V> FillGuard<V> {
    /// The position that the answer will include, whatever the query sees beyond it.
    pub fn as_of(&self) -> u64 {
        self.point.as_of
    }

    /// The epoch that the answer belongs to. The tags must have been chosen by a catalog at least as new: read
    /// [`Fence::epoch`] before the catalog, and give the fill up if the two differ.
    pub fn epoch(&self) -> u64 {
        self.point.epoch
    }
}

impl<V: Weigh + Send + Sync + 'static> FillGuard<V> {
    /// Keeps the value for `ttl` if it is still true and small enough; `cost` is what it cost to load. Followers wake
    /// after that, whatever the outcome. A value that is too large is remembered as such.
    pub fn store(self, value: V, tags: TagSet, ttl: Duration, cost: Duration) -> Result<(), Discard> {
        let entry = self.entry(value, tags, ttl, cost);
        self.keep(&entry)
    }

    /// Remembers for a short while ([`TOO_LARGE_FOR`]) that the answer is too large to keep.
    pub fn too_large(mut self) {
        self.remember_too_large();
        self.settle(Err(Discard::TooLarge));
    }

    /// The same for a value that somebody is given in any case: an entry to be [kept](Self::keep), or not.
    pub(crate) fn entry(&self, value: V, tags: TagSet, ttl: Duration, cost: Duration) -> Arc<Entry<V>> {
        let stored = Moment::now();
        let (point, expires) = (self.point, stored.after(ttl));
        self.weighed(Entry { value, stored, cost, point, tags, expires, weight: 0 })
    }

    /// Keeps an [entry](Self::entry) that was made by this guard, and ends the flight as [`Self::store`] does.
    pub(crate) fn keep(mut self, entry: &Arc<Entry<V>>) -> Result<(), Discard> {
        let outcome = self.enter(entry);
        self.settle(outcome);
        outcome
    }

    /// Enters what is still true and small enough.
    pub(crate) fn insert(&self, entry: Entry<V>) -> Result<Arc<Entry<V>>, Discard> {
        let entry = self.weighed(entry);
        self.enter(&entry)?;
        Ok(entry)
    }

    fn weighed(&self, mut entry: Entry<V>) -> Arc<Entry<V>> {
        let size = entry.value.weight();
        entry.weight = self.key().len().saturating_add(size).saturating_add(OVERHEAD) as u64;
        Arc::new(entry)
    }

    fn enter(&self, entry: &Arc<Entry<V>>) -> Result<(), Discard> {
        if entry.value.weight() > self.store.max_value || entry.weight > self.store.max_slot {
            self.remember_too_large();
            return Err(Discard::TooLarge);
        }
        // Every lookup judges again, so a change between this and the insertion does no harm.
        entry.is_true(&self.store.fence)?;
        self.store.cache.insert(Arc::clone(self.key()), Slot::Kept(Arc::clone(entry)));
        Ok(())
    }

    fn remember_too_large(&self) {
        let until = Moment::now().after(TOO_LARGE_FOR);
        self.store.cache.insert(Arc::clone(self.key()), Slot::TooLarge { until });
    }

    fn key(&self) -> &Arc<[u8]> {
        self.ticket.key()
    }

    fn settle(&mut self, outcome: Result<(), Discard>) {
        self.settled = true;
        let counters = &self.store.counters;
        count(outcome.map_or_else(|why| counters.discarded(why), |()| &counters.stored));
    }
}

impl<V> Drop for FillGuard<V> {
    fn drop(&mut self) {
        if !self.settled {
            count(&self.store.counters.discarded_abandoned);
        }
        // The ticket goes next, and wakes the followers: after the insertion.
    }
}

impl<V> fmt::Debug for Store<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("fence", &self.fence).finish_non_exhaustive()
    }
}

impl<V> fmt::Debug for FillGuard<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FillGuard").field("point", &self.point).finish_non_exhaustive()
    }
}

fn memory<V>(max_bytes: usize, max_value: usize, hooks: CountEvictions) -> Memory<V> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let roomy = max_bytes / max_value.saturating_add(OVERHEAD).saturating_mul(LARGEST_PER_SHARD);
    let shards = cores.saturating_mul(4).min(roomy).clamp(1, MAX_SHARDS);
    let (items, bytes, seed) = (max_bytes / TYPICAL_WEIGHT, max_bytes as u64, RandomState::default());
    let mut options = OptionsBuilder::new();
    match options.estimated_items_capacity(items).weight_capacity(bytes).shards(shards).build() {
        Ok(options) => Cache::with_options(options, ByBytes, seed, hooks),
        // Only if one of the two sizes were missing.
        Err(_) => Cache::with(items, bytes, ByBytes, seed, hooks),
    }
}

/// What a key leads to.
enum Slot<V> {
    Kept(Arc<Entry<V>>),
    /// An answer was too large to keep. Lives in the cache itself so that such memories are bounded, too.
    TooLarge {
        until: Moment,
    },
}

impl<V> Slot<V> {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Kept(a), Self::Kept(b)) => Arc::ptr_eq(a, b),
            (Self::TooLarge { until: a }, Self::TooLarge { until: b }) => a == b,
            _ => false,
        }
    }
}

impl<V> Clone for Slot<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Kept(entry) => Self::Kept(Arc::clone(entry)),
            Self::TooLarge { until } => Self::TooLarge { until: *until },
        }
    }
}

#[derive(Clone)]
struct ByBytes;

impl<V> Weighter<Arc<[u8]>, Slot<V>> for ByBytes {
    fn weight(&self, key: &Arc<[u8]>, slot: &Slot<V>) -> u64 {
        match slot {
            Slot::Kept(entry) => entry.weight,
            Slot::TooLarge { .. } => key.len().saturating_add(OVERHEAD) as u64,
        }
    }
}

#[derive(Clone)]
struct CountEvictions(Arc<Counters>);

impl<V> Lifecycle<Arc<[u8]>, Slot<V>> for CountEvictions {
    /// What was evicted, so that it is freed after the shard's lock.
    type RequestState = Vec<(Arc<[u8]>, Slot<V>)>;

    fn on_evict(&self, evicted: &mut Self::RequestState, key: Arc<[u8]>, slot: Slot<V>) {
        if matches!(slot, Slot::Kept(_)) {
            count(&self.0.evicted);
        }
        evicted.push((key, slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_covers_what_surrounds_a_value() {
        let arc_counts = 2 * size_of::<usize>();
        let entry = size_of::<Entry<()>>() + arc_counts;
        let slot = size_of::<Arc<[u8]>>() + size_of::<Slot<()>>() + 21;
        assert!(entry <= 88, "{entry}");
        assert!(slot <= 53, "{slot}");
        assert!(entry + arc_counts + 2 * slot + 32 <= OVERHEAD);
    }
}
