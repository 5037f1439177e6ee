//! A value that weighs something, and short ways to fill and to read.

use std::sync::Arc;
use std::time::Duration;

use larder_cache::{
    Discard, Entry, Fence, FillGuard, Flight, Miss, Moment, Reader, Store, Tag, TagSet, Weigh,
};

/// Longer than any test takes.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A value and its claimed size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) value: u64,
    pub(crate) bytes: usize,
}

impl Weigh for Item {
    fn weight(&self) -> usize {
        self.bytes
    }
}

/// What the tests look into.
pub(crate) type Cache = Arc<Store<Item>>;

pub(crate) const fn small(value: u64) -> Item {
    Item { value, bytes: 8 }
}

/// A fence that has proven everything up to position 100, a moment ago, and a store with room.
pub(crate) fn proven() -> Cache {
    let fence = Arc::new(Fence::new(Duration::from_secs(1)));
    fence.set_applied(100);
    fence.set_visible(100);
    fence.set_covered(Moment::now());
    Store::new(fence, 1 << 20, 1 << 16)
}

/// The least demanding reader, at the moment of the last coverage.
pub(crate) fn reader(store: &Store<Item>) -> Reader {
    Reader { now: store.fence().covered(), heed_marks: true, covered_past: Moment::NEVER }
}

pub(crate) fn lead(store: &Cache, key: &[u8]) -> FillGuard<Item> {
    match store.join(key) {
        Flight::Lead(guard) => guard,
        other => panic!("not the leader: {other:?}"),
    }
}

pub(crate) fn tags(of: &[&Arc<Tag>]) -> TagSet {
    of.iter().map(|tag| Arc::clone(tag)).collect()
}

pub(crate) fn fill(store: &Cache, key: &[u8], value: u64, of: &[&Arc<Tag>]) -> Result<(), Discard> {
    lead(store, key).store(small(value), tags(of), LONG, Duration::ZERO)
}

/// What a lookup gave, as a number.
pub(crate) fn value(found: Result<Arc<Entry<Item>>, Miss>) -> Result<u64, Miss> {
    found.map(|entry| entry.value.value)
}
