//! The cache module: entries that know up to which position of a change log they are true.
//!
//! It knows no SQL and no PostgreSQL: positions are numbers, tags are strings, values are whatever weighs something.
//! (Interface skeleton.)

use std::sync::Arc;
use std::time::Duration;

/// An instant of the process's monotonic clock, in nanoseconds since the process's first use of it; 0 = never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Moment(pub u64);
impl Moment {
    /// The present.
    pub fn now() -> Self {
        Self(1)
    }
}

/// Where the two streams meet: what the feed has proven, as atomics.
#[derive(Debug)]
pub struct Fence {}
#[allow(missing_docs, clippy::unused_self, clippy::unused_async)]
impl Fence {
    pub fn new(_max_lag: Duration) -> Self {
        Self {}
    }
    // --- the feed's side -------------------------------------------------------------------------------------
    /// Every commit that ends at or before `position` has been folded into the tags.
    pub fn set_applied(&self, _position: u64) {}
    pub fn applied(&self) -> u64 {
        0
    }
    /// Every applied commit up to `position` is visible to new snapshots.
    pub fn set_visible(&self, _position: u64) {}
    /// Everything committed on the origin before `at` has been folded in. Never goes back. Wakes waiters.
    pub fn set_covered(&self, _at: Moment) {}
    pub fn covered(&self) -> Moment {
        Moment(0)
    }
    /// Continuity is lost or meaning may have changed: every entry is dead. Fills are accepted again once
    /// `visible >= floor`. Positions may restart (new incarnation), so applied and visible are set back to 0 if
    /// `restart`.
    pub fn begin_epoch(&self, _floor: u64, _restart: bool) -> u64 {
        0
    }
    pub fn epoch(&self) -> u64 {
        0
    }
    /// Waits until somebody wants a sample of the origin's position now (after a write, for a barrier).
    pub async fn sample_requested(&self) {}
    /// Takes the flag: somebody said that the meaning of entries may have changed (DDL went by).
    pub fn take_review_request(&self) -> bool {
        false
    }
    // --- the readers' and writers' side ----------------------------------------------------------------------
    pub fn lease_holds(&self, _now: Moment) -> bool {
        false
    }
    pub fn lease_remaining(&self, _now: Moment) -> Duration {
        Duration::ZERO
    }
    /// A write that may have touched anything was acknowledged at `now`; see `Tag::mark`.
    pub fn mark_all(&self, _now: Moment) {}
    pub fn request_sample(&self) {}
    /// The meaning of entries may have changed: coverage must not advance until the feed has looked.
    pub fn request_review(&self) {}
    /// Read barrier: true once `covered >= at`, false at the deadline.
    pub async fn wait_covered(&self, _at: Moment, _timeout: Duration) -> bool {
        false
    }
}

/// What an answer depends on.
#[derive(Debug)]
pub struct Tag {}
#[allow(missing_docs, clippy::unused_self)]
impl Tag {
    /// A commit at `position` touched it.
    pub fn touch(&self, _position: u64) {}
    pub fn last_change(&self) -> u64 {
        0
    }
    /// A write that may have touched it was acknowledged at `now` (before the client was told).
    pub fn mark(&self, _now: Moment) {}
}

/// All tags, by key.
#[derive(Debug, Default)]
pub struct Tags {}
#[allow(missing_docs, clippy::unused_self)]
impl Tags {
    /// The tag of that key, made if need be.
    pub fn get(&self, _key: &str) -> Arc<Tag> {
        Arc::new(Tag {})
    }
}

/// The tags of one answer.
pub type TagSet = Arc<[Arc<Tag>]>;

/// What a reader is entitled to.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// The present.
    pub now: Moment,
    /// Writes marked on a tag (or on everything) later than `covered` make the lookup miss.
    pub heed_marks: bool,
    /// `covered` must have reached this moment.
    pub covered_past: Moment,
}

/// Why a lookup found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// Never seen, or evicted.
    Absent,
    /// Its time to live is over.
    Expired,
    /// A commit touched one of its tags, or the epoch is another.
    Invalid,
    /// A write that this reader is entitled to see is still on its way.
    WriteInFlight,
    /// The lease has run out.
    NoLease,
    /// The answer was too large a short while ago.
    TooLarge,
}

/// Why an answer was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discard {
    /// A commit touched one of its tags while it was on its way.
    Changed,
    /// The epoch changed while it was on its way, or positions are not trusted yet.
    Epoch,
    /// Larger than allowed.
    TooLarge,
    /// The loader failed, was cancelled, or said not to keep it.
    Abandoned,
}

/// What a value weighs, in bytes.
pub trait Weigh {
    /// Bytes of memory that it holds.
    fn weight(&self) -> usize;
}

/// The in-memory tier.
#[derive(Debug)]
pub struct Store<V> {
    _v: std::marker::PhantomData<V>,
}

/// A value found.
#[derive(Debug)]
pub struct Entry<V> {
    /// The value.
    pub value: V,
    /// When it was stored.
    pub stored: Moment,
    /// What it cost to load.
    pub cost: Duration,
}

/// Who fetches.
#[derive(Debug)]
pub enum Flight<V> {
    /// This caller does; everyone else who asks for the key waits for it.
    Lead(FillGuard<V>),
    /// Somebody else is at it: wait, then look up again.
    Follow(Follower),
}

/// The duty to fetch. Take it *before* the query is sent: it holds `as_of` and the epoch of that moment. Dropping it
/// means that there will be no answer; followers wake and one of them leads.
#[derive(Debug)]
pub struct FillGuard<V> {
    _v: std::marker::PhantomData<V>,
}
#[allow(missing_docs, clippy::unused_self)]
impl<V: Weigh> FillGuard<V> {
    /// Keeps the value if it is still true and small enough.
    pub fn store(self, _value: V, _tags: TagSet, _ttl: Duration, _cost: Duration) -> Result<(), Discard> {
        Ok(())
    }
    /// Remembers for a short while that the answer is too large to keep.
    pub fn too_large(self) {}
}

/// Resolves when the leader has finished, in whatever way.
#[derive(Debug)]
pub struct Follower {}
#[allow(missing_docs, clippy::unused_self, clippy::unused_async)]
impl Follower {
    pub async fn wait(self) {}
}

#[allow(missing_docs, clippy::unused_self)]
impl<V: Weigh + Send + Sync + 'static> Store<V> {
    pub fn new(_fence: Arc<Fence>, _max_bytes: usize, _max_value: usize) -> Arc<Self> {
        Arc::new(Self { _v: std::marker::PhantomData })
    }
    pub fn fence(&self) -> &Arc<Fence> {
        unimplemented!()
    }
    /// The hit path: no allocation beyond the `Arc` count.
    pub fn get(&self, _key: &[u8], _reader: &Reader) -> Result<Arc<Entry<V>>, Miss> {
        Err(Miss::Absent)
    }
    pub fn join(self: &Arc<Self>, _key: &[u8]) -> Flight<V> {
        Flight::Follow(Follower {})
    }
    pub fn purge_all(&self) {}
    pub fn entries(&self) -> usize {
        0
    }
    pub fn bytes(&self) -> usize {
        0
    }
}
