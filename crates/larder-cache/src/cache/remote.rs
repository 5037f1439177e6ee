//! What the cache needs of a memory beyond this process.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::error::NotPropagated;

/// A future in a box, for a trait that is used as an object.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a visit to the tier brought, and what is needed to hand something in afterwards.
pub(crate) struct Visit<V> {
    pub(crate) found: Option<Remembered<V>>,
    /// `None`: the tier is not to be had, or what the value depends on is not known there.
    pub(crate) pass: Option<Pass>,
}

/// What the tier knew of the value's tags before the loader ran, in its own terms.
pub(crate) type Pass = Box<dyn Any + Send>;

/// A value that another process has left.
pub(crate) struct Remembered<V> {
    pub(crate) value: V,
    /// Since its loader brought it.
    pub(crate) age: Duration,
    /// Of its time to live.
    pub(crate) left: Duration,
}

/// A tier that several processes share. Whatever goes wrong there, the answer is that nothing was found.
pub(crate) trait Remote<V>: Send + Sync {
    /// Tags that every value of this key has besides: by them everything, and single keys, are invalidated elsewhere.
    fn implied(&self, key: &[u8]) -> [Arc<str>; 2];

    /// What is there. To be called before the loader runs, and after the tags were taken hold of here.
    fn visit<'a>(&'a self, key: &'a [u8], tags: &'a [Arc<str>]) -> Boxed<'a, Visit<V>>;

    /// Leaves a value there. Never waits.
    fn leave(&self, key: &[u8], pass: Pass, value: &V, ttl: Duration);

    /// The load came to nothing.
    fn give_up(&self, key: &[u8], pass: Pass);

    /// Tells the other processes; this one has been told.
    fn invalidate(&self, what: Told) -> Boxed<'_, Result<(), NotPropagated>>;
}

/// What is invalidated.
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "valkey"), allow(dead_code, reason = "read by tiers"))]
pub(crate) enum Told {
    Tags(Vec<Arc<str>>),
    Key(Arc<[u8]>),
    Everything,
}
