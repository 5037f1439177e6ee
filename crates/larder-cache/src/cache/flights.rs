//! Loads under way: of all who miss the same key at the same time, one task loads, and all of them wait for it.
//!
//! Unlike in `crate::flight`, a result is handed to those who wait, so it has to be known for whom it is good. Arrivals
//! and flights are numbered by one counter. A flight that began after somebody's arrival is good for them whatever it
//! brings: all that they may rely on had happened before its loader ran. For those who arrived later than it began the
//! result must be proven anew when it lands; if it cannot be, they all wait for one more flight, which has begun after
//! they arrived. So nobody waits for more than two loads, and a herd never becomes a queue.

use std::any::TypeId;
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::Failure;
use super::item::{Kept, Source};

/// A lock is held for one map operation.
const SHARDS: usize = 64;

/// What a load has brought.
pub(crate) type Outcome<V> = Result<(Kept<V>, Source), Failure>;

/// Where the outcome appears. The sender's end without one: the load was cancelled.
pub(crate) type Arrivals<V> = watch::Receiver<Option<Outcome<V>>>;

/// See the module.
pub(crate) struct Flights<V> {
    hasher: RandomState,
    shards: Box<[Mutex<Shard<V>>]>,
    counter: AtomicU64,
}

type Shard<V> = HashMap<Arc<[u8]>, Arc<Flight<V>>, RandomState>;

struct Flight<V> {
    key: Arc<[u8]>,
    /// Of the loader's errors: whoever expects another type cannot be told of them, and loads by itself.
    error: TypeId,
    began: u64,
    /// What it brings is not to be kept: the key was invalidated, or nobody could find the flight to tell it so. The lock
    /// is held while the value is being kept.
    doomed: Mutex<bool>,
    landed: watch::Sender<Option<Outcome<V>>>,
}

/// Whose load it is.
pub(crate) enum Joined<V> {
    /// The caller has to start it.
    Lead(Landing<V>, Arrivals<V>),
    /// It is under way. `good`: whatever it brings is good for this caller.
    Follow { arrivals: Arrivals<V>, good: bool },
}

/// The loader's duty: dropping it ends the flight without an outcome.
pub(crate) struct Landing<V> {
    flights: Arc<Flights<V>>,
    flight: Arc<Flight<V>>,
}

impl<V> Flights<V> {
    pub(crate) fn new() -> Arc<Self> {
        let hasher = RandomState::default();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Arc::new(Self { hasher, shards, counter: AtomicU64::new(0) })
    }

    /// The number of somebody who begins to wait: to be taken before joining.
    pub(crate) fn arrive(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst)
    }

    /// The flight for the key, or a new one.
    pub(crate) fn join(self: &Arc<Self>, key: &Arc<[u8]>, error: TypeId, arrived: u64) -> Joined<V> {
        let Some(shard) = self.shard(key) else { return self.alone(key, error) };
        let mut shard = shard.lock();
        match shard.get(&**key) {
            Some(flight) if flight.error == error => {
                return Joined::Follow { arrivals: flight.landed.subscribe(), good: flight.began > arrived };
            }
            Some(_) => return self.alone(key, error),
            None => {}
        }
        let (flight, arrivals) = self.begin(key, error, true);
        shard.insert(Arc::clone(key), Arc::clone(&flight));
        Joined::Lead(Landing { flights: Arc::clone(self), flight }, arrivals)
    }

    /// A flight that nobody else can join, and that keeps nothing.
    pub(crate) fn alone(self: &Arc<Self>, key: &Arc<[u8]>, error: TypeId) -> Joined<V> {
        let (flight, arrivals) = self.begin(key, error, false);
        Joined::Lead(Landing { flights: Arc::clone(self), flight }, arrivals)
    }

    /// What the flight under way brings will not be kept, and whoever comes from now on begins another. To be called
    /// before what is kept already is removed.
    pub(crate) fn doom(&self, key: &[u8]) {
        let flight = self.shard(key).and_then(|shard| shard.lock().remove(key));
        if let Some(flight) = flight {
            *flight.doomed.lock() = true;
        }
    }

    /// How many are under way.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn begin(&self, key: &Arc<[u8]>, error: TypeId, listed: bool) -> (Arc<Flight<V>>, Arrivals<V>) {
        let (landed, arrivals) = watch::channel(None);
        let (key, began, doomed) = (Arc::clone(key), self.arrive(), Mutex::new(!listed));
        (Arc::new(Flight { key, error, began, doomed, landed }), arrivals)
    }

    fn shard(&self, key: &[u8]) -> Option<&Mutex<Shard<V>>> {
        // From the middle of the hash: the map within uses its two ends.
        let middle = self.hasher.hash_one(key) >> 32;
        self.shards.get(usize::try_from(middle % SHARDS as u64).ok()?)
    }
}

impl<V> Landing<V> {
    pub(crate) fn key(&self) -> &Arc<[u8]> {
        &self.flight.key
    }

    /// Does what keeps the value, unless the key was invalidated since the flight began.
    pub(crate) fn keep(&self, keep: impl FnOnce()) {
        let doomed = self.flight.doomed.lock();
        if !*doomed {
            keep();
        }
    }

    /// Hands the outcome over, to be called after the value was kept: whoever comes afterwards finds it.
    pub(crate) fn land(self, outcome: Outcome<V>) {
        self.unlist();
        self.flight.landed.send_replace(Some(outcome));
    }

    /// Resolves when nobody waits any more.
    pub(crate) async fn abandoned(&self) {
        self.flight.landed.closed().await;
    }

    fn unlist(&self) {
        if let Some(shard) = self.flights.shard(&self.flight.key) {
            let mut shard = shard.lock();
            if shard.get(&*self.flight.key).is_some_and(|listed| Arc::ptr_eq(listed, &self.flight)) {
                shard.remove(&*self.flight.key);
            }
        }
    }
}

impl<V> Drop for Landing<V> {
    fn drop(&mut self) {
        // Before the sender goes with the last `Arc`: whoever wakes finds the key free.
        self.unlist();
    }
}
