//! Single flight: of all who miss the same key at the same time, one fetches.
//!
//! A map from the full key to a channel on which nothing is ever sent: the leader's [`Ticket`] owns the sender, and
//! its end, in whatever way (stored, given up, dropped with its future, unwound by a panic), closes the channel, which
//! wakes everyone who follows. Followers are handed no value: what is good for the leader need not be good for them,
//! so they look up again, each with its own claims.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use tokio::sync::watch;

/// More than the cores that could meet here; a lock is held for one map operation.
const SHARDS: usize = 64;

type Shard = Mutex<HashMap<Arc<[u8]>, watch::Receiver<()>, RandomState>>;

/// The fetches under way.
#[derive(Debug)]
pub(crate) struct Flights {
    hasher: RandomState,
    shards: Box<[Shard]>,
}

/// The leader's part in a flight: dropping it ends the flight.
#[derive(Debug)]
pub(crate) struct Ticket {
    flights: Arc<Flights>,
    key: Arc<[u8]>,
    /// Dropped after `Drop::drop` has taken the flight off the map: whoever wakes finds the key free.
    _open: watch::Sender<()>,
}

/// Resolves when the leader has finished, in whatever way: stored, failed, gone, panicked.
///
/// Look up again then. If that misses too, the answer was not to be kept, or not for this reader: fetch without
/// joining once more, or a queue of followers would fetch one after the other what they could fetch at the same time.
/// May be dropped at any time. There is no deadline here: a leader lives as long as its fetch.
#[derive(Debug)]
pub struct Follower {
    landed: watch::Receiver<()>,
}

impl Follower {
    /// See [`Follower`].
    pub async fn wait(mut self) {
        // An error says that the sender is gone; nothing else can come.
        while self.landed.changed().await.is_ok() {}
    }
}

impl Flights {
    pub(crate) fn new() -> Arc<Self> {
        let hasher = RandomState::default();
        let shards = (0..SHARDS).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Arc::new(Self { hasher, shards })
    }

    /// The lead, or the wait for whoever has it. `None` cannot happen; it would mean that the key has no shard.
    pub(crate) fn join(self: &Arc<Self>, key: &[u8]) -> Option<Result<Ticket, Follower>> {
        let mut shard = self.shard(key)?.lock();
        if let Some(landed) = shard.get(key) {
            return Some(Err(Follower { landed: landed.clone() }));
        }
        let (open, landed) = watch::channel(());
        let key: Arc<[u8]> = key.into();
        shard.insert(Arc::clone(&key), landed);
        Some(Ok(Ticket { flights: Arc::clone(self), key, _open: open }))
    }

    fn shard(&self, key: &[u8]) -> Option<&Shard> {
        // From the middle of the hash: the map within uses its two ends.
        let middle = self.hasher.hash_one(key) >> 32;
        self.shards.get(usize::try_from(middle % SHARDS as u64).ok()?)
    }
}

impl Ticket {
    pub(crate) fn key(&self) -> &Arc<[u8]> {
        &self.key
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(shard) = self.flights.shard(&self.key) {
            shard.lock().remove(&self.key);
        }
    }
}
