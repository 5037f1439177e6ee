//! How a cache is to be.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::Cache;
use super::flights::Flights;
use super::inner::{Inner, TtlOf, Weigher};
use super::invalidations::Invalidations;
use super::log::ChangeLog;
use super::metrics::CacheMetrics;
use super::options::Options;
use super::remote::Remote;
#[cfg(feature = "valkey")]
use super::valkey::{Codec, SharedTier, ValkeyRemote};
use crate::{Fence, Moment, Store};

/// Made by [`Cache::builder`]. Everything has a default.
#[must_use = "a cache is made by `build`"]
pub struct CacheBuilder<K: ?Sized, V> {
    max_bytes: usize,
    max_value: Option<usize>,
    options: Options,
    weigher: Option<Weigher<V>>,
    ttl_of: Option<TtlOf<V>>,
    metrics: Option<Arc<CacheMetrics>>,
    log: Option<Arc<dyn ChangeLog>>,
    remote: Option<Shared<V>>,
    local: bool,
    key: PhantomData<fn(&K)>,
}

/// A tier that other processes share, which has to know what invalidates here.
#[cfg_attr(not(feature = "valkey"), allow(dead_code, reason = "made by tiers"))]
struct Shared<V> {
    fence: Arc<Fence>,
    connect: Connect<V>,
}

type Connect<V> = Box<dyn FnOnce(&Arc<Invalidations>) -> Arc<dyn Remote<V>> + Send>;

impl<K: ?Sized, V: Send + Sync + 'static> CacheBuilder<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            max_bytes: 64 << 20,
            max_value: None,
            options: Options::default(),
            weigher: None,
            ttl_of: None,
            metrics: None,
            log: None,
            remote: None,
            local: true,
            key: PhantomData,
        }
    }

    /// Memory of this process that the cache may take: keys, values as the [weigher](Self::weigher) says, and about 300
    /// bytes an entry besides. 64 MiB unless said otherwise.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Larger values are given to those who wait for them, and not kept. A sixteenth of `max_bytes` unless said otherwise.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.max_value = Some(bytes);
        self
    }

    /// What a value holds on the heap, in bytes; its own size is counted anyway. Without a weigher, values that own
    /// memory (texts, lists) take more of it than `max_bytes` says.
    pub fn weigher(mut self, weigher: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// How long a value lives, if neither the request nor its loader says so. A minute unless said otherwise. Zero: it is
    /// given to those who wait for it, and not kept.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.options.ttl = ttl;
        self
    }

    /// How long a value lives, by what it is; `None`: as the request says. This is how to cache that there is nothing:
    ///
    /// ```
    /// # use larder_cache::Cache;
    /// # use std::time::Duration;
    /// // Who is not there may sign up at any moment.
    /// let users = Cache::<u64, Option<String>>::builder()
    ///     .ttl_of(|user| user.is_none().then_some(Duration::from_secs(1)))
    ///     .build();
    /// ```
    pub fn ttl_of(mut self, ttl_of: impl Fn(&V) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.ttl_of = Some(Box::new(ttl_of));
        self
    }

    /// The part of each time to live, 0 to 1, that chance may take off, so that what was stored together does not expire
    /// together. A tenth unless said otherwise.
    pub fn jitter(mut self, part: f64) -> Self {
        self.options.jitter = part;
        self
    }

    /// For so long after its time to live, a value may be given in place of a loader's error, panic or timeout. It is
    /// [marked](super::Loaded::is_stale) then. Never, unless said otherwise; and never what was invalidated, or what a
    /// followed log does not prove any more.
    pub fn stale_if_error(mut self, grace: Duration) -> Self {
        self.options.stale_if_error = grace;
        self
    }

    /// For so long a loader's error is given without asking the loader again. Not at all, unless said otherwise. Panics
    /// and timeouts are not remembered.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.options.negative_ttl = ttl;
        self
    }

    /// A request for a value with so long or less to live is given it, and has it loaded anew in the background. Not at
    /// all, unless said otherwise.
    pub fn refresh_ahead(mut self, ahead: Duration) -> Self {
        self.options.refresh_ahead = ahead;
        self
    }

    /// A request that has waited so long for a loader is given the expired value, if [`stale_if_error`](Self::stale_if_error)
    /// has kept one; the loader goes on. Nobody waits shorter than that.
    pub fn soft_timeout(mut self, limit: Duration) -> Self {
        self.options.soft_timeout = Some(limit);
        self
    }

    /// A loader that takes longer is dropped, and all who wait for it have
    /// [`LoadError::TimedOut`](super::LoadError::TimedOut). No limit unless said otherwise.
    pub fn hard_timeout(mut self, limit: Duration) -> Self {
        self.options.hard_timeout = Some(limit);
        self
    }

    /// Drops a loader for which nobody waits any more. Otherwise it goes on to its end, and the next request finds what it
    /// brought.
    pub fn cancel_abandoned(mut self, cancel: bool) -> Self {
        self.options.cancel_abandoned = cancel;
        self
    }

    /// Counts here; several caches may share it.
    pub fn metrics(mut self, metrics: Arc<CacheMetrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Gives values from memory only while this log proves them, and lets it move the tags that it knows: see [`ChangeLog`].
    pub fn follow(mut self, log: impl ChangeLog) -> Self {
        self.log = Some(Arc::new(log));
        self
    }

    /// The cache.
    #[must_use]
    pub fn build(self) -> Cache<K, V> {
        let fence = match (&self.log, &self.remote) {
            (Some(log), _) => Arc::clone(log.fence()),
            (None, Some(shared)) => Arc::clone(&shared.fence),
            (None, None) => open_fence(),
        };
        let invalidations = Arc::new(Invalidations::new());
        let remote = self.remote.map(|shared| (shared.connect)(&invalidations));
        let max_value = self.max_value.unwrap_or(self.max_bytes / 16);
        let inner = Inner {
            values: Store::new(Arc::clone(&fence), self.max_bytes, max_value),
            failures: OnceLock::new(),
            flights: Flights::new(),
            invalidations,
            fence,
            log: self.log,
            remote,
            local: self.local,
            max_bytes: self.max_bytes,
            options: self.options,
            weigher: self.weigher,
            ttl_of: self.ttl_of,
            metrics: self.metrics.unwrap_or_default(),
        };
        Cache { inner: Arc::new(inner), key: PhantomData }
    }
}

#[cfg(feature = "valkey")]
impl<K: ?Sized, V: serde::Serialize + serde::de::DeserializeOwned + Send + Sync + 'static>
    CacheBuilder<K, V>
{
    /// Shares values with other processes, and tells them of invalidations: see [`SharedTier`]. `namespace` is the cache's name
    /// there, the same in all processes; give it another one when the type of the values changes its meaning.
    ///
    /// A value that a followed log proves stays in this process: the tier could not say whether it is still true.
    pub fn shared(self, tier: &SharedTier, namespace: &str) -> Self {
        self.share(tier, namespace, None)
    }

    /// The same, and at most one process loads a key at a time, as long as Valkey can be reached: the others look for what it
    /// brings, for at most `limit`, before they load by themselves.
    pub fn shared_single_flight(self, tier: &SharedTier, namespace: &str, limit: Duration) -> Self {
        self.share(tier, namespace, Some(limit))
    }

    /// Keeps nothing in the memory of this process: every value comes from the shared tier, or from a loader.
    pub fn shared_only(mut self) -> Self {
        self.local = false;
        self
    }

    fn share(mut self, tier: &SharedTier, namespace: &str, across: Option<Duration>) -> Self {
        let fence = Arc::clone(&tier.parts().fence);
        let (tier, namespace) = (tier.clone(), namespace.to_owned());
        let connect: Connect<V> =
            Box::new(move |here| Arc::new(ValkeyRemote::new(tier, namespace, Codec::serde(), here, across)));
        self.remote = Some(Shared { fence, connect });
        self
    }
}

/// The fence of a cache that follows nothing: time alone decides.
fn open_fence() -> Arc<Fence> {
    let fence = Fence::new(Duration::MAX);
    fence.set_applied(1);
    fence.set_visible(1);
    fence.set_covered(Moment::now());
    Arc::new(fence)
}

impl<K: ?Sized, V> fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CacheBuilder");
        debug.field("max_bytes", &self.max_bytes).field("options", &self.options);
        debug.field("log", &self.log).finish_non_exhaustive()
    }
}
