//! One request for a value, with its own rules: the entry API.

use std::any::TypeId;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::LoadError;
use super::flights::{Arrivals, Joined, Outcome};
use super::inner::Inner;
use super::item::{Kept, Loaded, Source};
use super::key::Key;
use super::load::{Job, LoadContext, Order};
use super::metrics::count;
use super::options::{Options, overrides};
use crate::Moment;

/// Of callers whose flight was of no use to them: after so many they load by themselves.
const JOINS: usize = 2;

/// A request for the value of one key, made by [`Cache::entry`](super::Cache::entry). What is not said here is as the
/// [builder](super::CacheBuilder) said.
#[must_use = "nothing happens before `get` or `or_load`"]
pub struct Request<'a, V, Q: ?Sized> {
    cache: &'a Arc<Inner<V>>,
    key: &'a Q,
    tags: Vec<Cow<'a, str>>,
    options: Options,
}

impl<'a, V: Send + Sync + 'static, Q: Key + ?Sized> Request<'a, V, Q> {
    pub(crate) fn new(cache: &'a Arc<Inner<V>>, key: &'a Q) -> Self {
        Self { cache, key, tags: Vec::new(), options: cache.options }
    }

    /// What the value depends on. All callers of one key should say the same; what holds for a value is what the caller
    /// said whose loader brought it.
    pub fn tags<T: Into<Cow<'a, str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    overrides! {
        /// The loader has the last word, by [`LoadContext::ttl`].
        ttl: Duration, see default_ttl;
        jitter: f64, see jitter;
        stale_if_error: Duration, see stale_if_error;
        negative_ttl: Duration, see negative_ttl;
        refresh_ahead: Duration, see refresh_ahead;
        soft_timeout: Duration, see soft_timeout;
        hard_timeout: Duration, see hard_timeout;
    }

    /// The value, if this process has it and it is good; runs no loader and asks no other tier.
    pub fn get(self) -> Option<Loaded<V>> {
        self.cache.hit(self.key, Moment::now())
    }

    /// The value, loaded if need be. The loader is handed a [`LoadContext`], by which it may say how long the value lives.
    ///
    /// # Errors
    /// The loader failed, panicked, took too long or was cancelled, and there is nothing to give in its place.
    ///
    /// # Panics
    /// If a loader has to be run outside a tokio runtime.
    pub async fn or_load<F, Fut, E>(self, load: F) -> Result<Loaded<V>, LoadError<E>>
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let (cache, key, ahead) = (self.cache, self.key, self.options.refresh_ahead);
        hit_or(cache, key, ahead, || self, load).await
    }

    /// The key, and all that the request says.
    fn order(self) -> (Arc<[u8]>, Order) {
        let Self { cache, key, tags, options } = self;
        let key: Arc<[u8]> = key.with_bytes(|key| Arc::from(key));
        let order = Order::new(cache, &key, tags.iter().map(|tag| &**tag), options);
        (key, order)
    }
}

/// What is here, else what becomes of the request, which a hit does not even make.
pub(crate) async fn hit_or<'a, V, Q, F, Fut, E>(
    cache: &'a Arc<Inner<V>>,
    key: &'a Q,
    refresh_ahead: Duration,
    request: impl FnOnce() -> Request<'a, V, Q>,
    load: F,
) -> Result<Loaded<V>, LoadError<E>>
where
    V: Send + Sync + 'static,
    Q: Key + ?Sized,
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: Send + Sync + 'static,
{
    let now = Moment::now();
    if let Some(hit) = cache.hit(key, now) {
        if hit.claim_refresh(now, refresh_ahead) {
            let (key, order) = request().order();
            refresh(cache, key, Order { refresh: true, ..order }, load);
        }
        return Ok(hit);
    }
    let (key, order) = request().order();
    // In a box, so that the future of a hit stays small.
    Box::pin(obtain(Arc::clone(cache), key, order, load)).await
}

/// Loads in the background what is about to expire.
fn refresh<V, F, Fut, E>(cache: &Arc<Inner<V>>, key: Arc<[u8]>, order: Order, load: F)
where
    V: Send + Sync + 'static,
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: Send + Sync + 'static,
{
    let arrived = cache.flights.arrive();
    if let Joined::Lead(landing, _) = cache.flights.join(&key, TypeId::of::<E>(), arrived) {
        count(&cache.metrics.refreshes);
        Job { cache: Arc::clone(cache), landing, order }.start(load);
    }
}

/// What waiting for a flight came to.
pub(crate) enum Waited<V> {
    Landed(Outcome<V>),
    /// The loader is slow, and there is something to give in its place.
    Instead(Loaded<V>),
    /// The load was cancelled.
    Lost,
}

/// A value that this process does not have.
async fn obtain<V, F, Fut, E>(
    cache: Arc<Inner<V>>,
    key: Arc<[u8]>,
    order: Order,
    load: F,
) -> Result<Loaded<V>, LoadError<E>>
where
    V: Send + Sync + 'static,
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: Send + Sync + 'static,
{
    count(&cache.metrics.misses);
    let options = order.options;
    if let Some(error) = remembered::<V, E>(&cache, &key, &options) {
        return in_place_of(&cache, &key, &options, error);
    }
    let arrived = cache.flights.arrive();
    for _ in 0..JOINS {
        let (arrivals, good) = match cache.flights.join(&key, TypeId::of::<E>(), arrived) {
            Joined::Lead(landing, arrivals) => return lead(&cache, landing, arrivals, order, load).await,
            Joined::Follow { arrivals, good } => (arrivals, good),
        };
        count(&cache.metrics.coalesced);
        match wait(&cache, &key, &options, arrivals).await {
            Waited::Instead(loaded) => return Ok(loaded),
            Waited::Landed(Ok((item, source))) if good => return Ok(Loaded::new(item, source, false)),
            Waited::Landed(Ok((item, source))) => {
                if let Some(item) = cache.prove_landed(&key, &item) {
                    return Ok(Loaded::new(item, source, false));
                }
            }
            Waited::Landed(Err(failure)) => {
                if let Some(error) = failure.into_error() {
                    return in_place_of(&cache, &key, &options, error);
                }
            }
            Waited::Lost => {}
        }
    }
    match cache.flights.alone(&key, TypeId::of::<E>()) {
        Joined::Lead(landing, arrivals) => lead(&cache, landing, arrivals, order, load).await,
        Joined::Follow { .. } => Err(LoadError::Cancelled),
    }
}

/// Runs the loader, and waits like everybody else.
async fn lead<V, F, Fut, E>(
    cache: &Arc<Inner<V>>,
    landing: super::flights::Landing<V>,
    arrivals: Arrivals<V>,
    order: Order,
    load: F,
) -> Result<Loaded<V>, LoadError<E>>
where
    V: Send + Sync + 'static,
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: Send + Sync + 'static,
{
    let (key, options) = (Arc::clone(landing.key()), order.options);
    Job { cache: Arc::clone(cache), landing, order }.start(load);
    match wait(cache, &key, &options, arrivals).await {
        Waited::Instead(loaded) => Ok(loaded),
        Waited::Landed(Ok((item, source))) => Ok(Loaded::new(item, source, false)),
        Waited::Landed(Err(failure)) => {
            let error = failure.into_error().unwrap_or(LoadError::Cancelled);
            in_place_of(cache, &key, &options, error)
        }
        Waited::Lost => in_place_of(cache, &key, &options, LoadError::Cancelled),
    }
}

/// Waits for a flight; once it takes longer than the soft timeout, something stale will do.
pub(crate) async fn wait<V: Send + Sync + 'static>(
    cache: &Inner<V>,
    key: &[u8],
    options: &Options,
    mut arrivals: Arrivals<V>,
) -> Waited<V> {
    if let Some(limit) = options.soft_timeout
        && cache.look_stale(key, options).is_some()
    {
        match tokio::time::timeout(limit, landed(&mut arrivals)).await {
            Ok(waited) => return waited,
            Err(_) => {
                if let Some((item, stale)) = cache.look_stale(key, options) {
                    return Waited::Instead(given_instead(cache, item, stale));
                }
            }
        }
    }
    landed(&mut arrivals).await
}

async fn landed<V>(arrivals: &mut Arrivals<V>) -> Waited<V> {
    match arrivals.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(outcome)) => Waited::Landed(outcome.clone()),
        Ok(None) | Err(_) => Waited::Lost,
    }
}

/// An error, unless there is something stale to give.
pub(crate) fn in_place_of<V: Send + Sync + 'static, E>(
    cache: &Inner<V>,
    key: &[u8],
    options: &Options,
    error: LoadError<E>,
) -> Result<Loaded<V>, LoadError<E>> {
    match cache.look_stale(key, options) {
        Some((item, stale)) => Ok(given_instead(cache, item, stale)),
        None => Err(error),
    }
}

fn given_instead<V>(cache: &Inner<V>, item: Kept<V>, stale: bool) -> Loaded<V> {
    count(if stale { &cache.metrics.stale_served } else { &cache.metrics.l1_hits });
    Loaded::new(item, Source::L1, stale)
}

/// An error that the loader returned a short while ago.
pub(crate) fn remembered<V, E>(cache: &Inner<V>, key: &[u8], options: &Options) -> Option<LoadError<E>>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    if options.negative_ttl.is_zero() {
        return None;
    }
    let error = cache.look_failure(key, Moment::now())?.downcast().ok()?;
    count(&cache.metrics.negative_hits);
    Some(LoadError::Failed(error))
}

impl<V, Q: ?Sized> fmt::Debug for Request<'_, V, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("tags", &self.tags)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
