//! The cache module for application code: see [`Cache`].

mod builder;
mod error;
mod flights;
mod inner;
mod invalidations;
mod item;
mod key;
mod load;
mod log;
mod many;
mod metrics;
mod options;
mod prepared;
mod propagation;
mod remote;
mod request;
#[cfg(feature = "valkey")]
mod valkey;

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

pub use builder::CacheBuilder;
pub use error::{LoadError, NotPropagated};
pub use item::{Loaded, Source};
pub use key::Key;
pub use load::LoadContext;
pub use log::{ChangeLog, Resolved};
pub use many::Many;
pub use metrics::CacheMetrics;
pub use propagation::Propagation;
pub use request::Request;
#[cfg(feature = "valkey")]
pub use valkey::{SharedTier, SharedTierBuilder, SharedTierError};

use inner::Inner;
use metrics::count;
use remote::Told;
use request::hit_or;

use crate::Moment;

/// Values by key, loaded when they are missing: a handle, cheap to clone, that all tasks and threads may share.
///
/// ```
/// use larder_cache::{Cache, Source};
/// use std::time::Duration;
///
/// # #[derive(Debug)] struct NotFound;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder_cache::LoadError<NotFound>> {
/// async fn fetch(id: u64) -> Result<String, NotFound> {
///     Ok(format!("user {id}"))
/// }
///
/// let users = Cache::<String, String>::builder()
///     .max_bytes(256 << 20)
///     .weigher(String::len)
///     .default_ttl(Duration::from_secs(30))
///     .build();
///
/// let user = users.get_or_load("u:42", || fetch(42)).await?;
/// assert_eq!((user.as_str(), user.source()), ("user 42", Source::Loader));
///
/// let user = users
///     .entry("u:42")
///     .tags(["user:42"])
///     .ttl(Duration::from_secs(10))
///     .stale_if_error(Duration::from_secs(60))
///     .or_load(|load| async move {
///         load.ttl(Duration::from_secs(5));
///         fetch(42).await
///     })
///     .await?;
/// assert_eq!(user.source(), Source::L1);
/// # Ok(()) }
/// ```
///
/// # The hard cases
///
/// * *Many ask for the same key at once*: one loader runs, and all of them have what it brings. Who asked after that loader
///   had begun is given its value only if nothing it depends on has been invalidated meanwhile; otherwise one more
///   loader runs for all such. So a caller that writes, invalidates, and reads, reads what it wrote.
/// * *A caller goes away* (its future is dropped): nobody else notices. Loaders run in tasks of their own, on the tokio
///   runtime of the caller who started them. If all who waited are gone the loader goes on, and what it brings is kept,
///   unless [`CacheBuilder::cancel_abandoned`] says otherwise.
/// * *The loader fails*: all who wait have the same error, in an [`Arc`]. Nothing is kept, unless
///   [`CacheBuilder::negative_ttl`] says so; the next request runs a loader again.
/// * *The loader panics*: all who wait have [`LoadError::Panicked`]; nobody else panics.
/// * *The loader hangs*: so do all who wait, unless there is a [`CacheBuilder::hard_timeout`].
/// * *The runtime that a loader runs on is shut down*: those who wait on other runtimes have [`LoadError::Cancelled`], or
///   load by themselves.
/// * *Loaders of one key with different types of errors*: they are not coalesced.
/// * *An invalidation during a load*: those who wait for it already have its value, which was right when they asked; it is
///   not given to anybody who asks later.
/// * *A loader asks the cache for its own key*: it waits for itself. Don't.
///
/// There is no `insert`: how far a value can be trusted depends on what was known *before* it was read, so the cache has
/// to see its loading begin.
pub struct Cache<K: ?Sized, V> {
    inner: Arc<Inner<V>>,
    key: PhantomData<fn(&K)>,
}

impl<K: ?Sized, V: Send + Sync + 'static> Cache<K, V> {
    /// How it is to be.
    pub fn builder() -> CacheBuilder<K, V> {
        CacheBuilder::new()
    }

    /// A request with rules of its own: tags, time to live, what to do when the loader fails or is slow.
    pub fn entry<'a, Q>(&'a self, key: &'a Q) -> Request<'a, V, Q>
    where
        K: Borrow<Q>,
        Q: Key + ?Sized,
    {
        Request::new(&self.inner, key)
    }

    /// The value, if this process has it and it is good.
    pub fn get<Q>(&self, key: &Q) -> Option<Loaded<V>>
    where
        K: Borrow<Q>,
        Q: Key + ?Sized,
    {
        self.inner.hit(key, Moment::now())
    }

    /// The value, loaded if need be.
    ///
    /// # Errors
    /// See [`Request::or_load`].
    ///
    /// # Panics
    /// See [`Request::or_load`].
    pub async fn get_or_load<Q, F, Fut, E>(&self, key: &Q, load: F) -> Result<Loaded<V>, LoadError<E>>
    where
        K: Borrow<Q>,
        Q: Key + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let ahead = self.inner.options.refresh_ahead;
        hit_or(&self.inner, key, ahead, || Request::new(&self.inner, key), |_| load()).await
    }

    /// A request for many keys with rules of its own.
    pub fn many(&self, keys: impl IntoIterator<Item = K>) -> Many<'_, K, V>
    where
        K: Key + Clone + Send + Sync + 'static,
    {
        Many::new(&self.inner, keys.into_iter().collect())
    }

    /// The values of many keys, in their order, with one run of the loader for all that are missing.
    ///
    /// ```
    /// # use larder_cache::Cache;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let names = Cache::<u32, String>::builder().build();
    /// let found = names
    ///     .get_or_load_many([1, 2, 3], |missing| async move {
    ///         // One query: WHERE id = ANY($1)
    ///         let rows = missing.into_iter().filter(|id| *id != 2).map(|id| (id, format!("name {id}")));
    ///         Ok::<_, std::io::Error>(rows.collect::<Vec<_>>())
    ///     })
    ///     .await
    ///     .unwrap();
    /// let found: Vec<_> = found.iter().map(|name| name.as_ref().map(|name| name.as_str())).collect();
    /// assert_eq!(found, [Some("name 1"), None, Some("name 3")]);
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`Many::or_load`].
    ///
    /// # Panics
    /// See [`Many::or_load`].
    pub async fn get_or_load_many<F, Fut, I, E>(
        &self,
        keys: impl IntoIterator<Item = K>,
        load: F,
    ) -> Result<Vec<Option<Loaded<V>>>, LoadError<E>>
    where
        K: Key + Clone + Send + Sync + 'static,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, V)> + Send + 'static,
        E: Send + Sync + 'static,
    {
        self.many(keys).or_load(load).await
    }

    /// From this call on, nobody in this process is given a value that depends on one of these tags and was loaded, or begun
    /// to be loaded, before. That happens at once; the future is for the processes that share a tier with this one.
    pub fn invalidate_tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> Propagation {
        let tags: Vec<Arc<str>> = tags.into_iter().map(|tag| Arc::from(tag.as_ref())).collect();
        self.inner.invalidations.invalidate(tags.iter().map(|tag| &**tag));
        self.propagate(Told::Tags(tags))
    }

    /// The same for the value of one key.
    pub fn invalidate<Q>(&self, key: &Q) -> Propagation
    where
        K: Borrow<Q>,
        Q: Key + ?Sized,
    {
        let key: Arc<[u8]> = key.with_bytes(|key| Arc::from(key));
        self.inner.revoke(&key);
        self.propagate(Told::Key(key))
    }

    /// The same for everything.
    pub fn invalidate_all(&self) -> Propagation {
        self.inner.invalidations.invalidate_all();
        self.inner.values.purge_all();
        self.propagate(Told::Everything)
    }

    /// Waits until everything that was committed, or invalidated elsewhere, before this call is known here; false when
    /// that takes longer than `limit`. A read that follows is at least as new. At once in a cache that follows nothing.
    pub async fn caught_up(&self, limit: Duration) -> bool {
        self.inner.fence.wait_covered(self.inner.now_if_proven(), limit).await
    }

    /// What is counted.
    pub fn metrics(&self) -> &Arc<CacheMetrics> {
        &self.inner.metrics
    }

    /// Values held in this process, dead ones that nobody has asked for since included.
    pub fn len(&self) -> usize {
        self.inner.values.entries()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that they take, as far as the weigher knows.
    pub fn bytes(&self) -> usize {
        self.inner.values.bytes()
    }

    fn propagate(&self, what: Told) -> Propagation {
        let Some(remote) = self.inner.remote.clone() else { return Propagation::done() };
        let metrics = Arc::clone(&self.inner.metrics);
        Propagation::new(async move {
            let told = remote.invalidate(what).await;
            if told.is_err() {
                count(&metrics.not_propagated);
            }
            told
        })
    }
}

impl<V> Inner<V> {
    /// The present, or, where time alone decides, a moment that is covered already.
    fn now_if_proven(&self) -> Moment {
        if self.log.is_some() || self.remote.is_some() { Moment::now() } else { Moment::NEVER }
    }
}

impl<K: ?Sized, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), key: PhantomData }
    }
}

impl<K: ?Sized, V> fmt::Debug for Cache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Cache");
        debug.field("options", &self.inner.options).field("log", &self.inner.log);
        debug.field("loads_under_way", &self.inner.flights.len());
        debug.field("tags", &self.inner.invalidations.len()).finish_non_exhaustive()
    }
}
