//! A load: a task of its own, from the moment a caller finds nothing to the moment when all who wait have an answer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use super::error::Failure;
use super::flights::{Landing, Outcome};
use super::inner::{Inner, Look};
use super::item::Source;
use super::metrics::count;
use super::options::Options;
use super::prepared::Prepared;
use crate::Moment;

/// What a loader may say about the value that it is loading. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LoadContext {
    said: Arc<Said>,
}

#[derive(Debug)]
struct Said {
    /// In nanoseconds; `u64::MAX`: nothing.
    ttl: AtomicU64,
    keep: AtomicBool,
}

impl Default for Said {
    fn default() -> Self {
        Self { ttl: AtomicU64::new(u64::MAX), keep: AtomicBool::new(true) }
    }
}

impl LoadContext {
    /// The value's time to live, whatever the caller and the cache say.
    pub fn ttl(&self, ttl: Duration) {
        self.said.ttl.store(crate::moment::nanos(ttl), Ordering::Release);
    }

    /// The value is for those who wait for it, and not to be kept.
    pub fn no_store(&self) {
        self.said.keep.store(false, Ordering::Release);
    }

    pub(crate) fn chosen_ttl(&self) -> Option<Duration> {
        let ttl = self.said.ttl.load(Ordering::Acquire);
        (ttl != u64::MAX).then(|| Duration::from_nanos(ttl))
    }

    pub(crate) fn keeps(&self) -> bool {
        self.said.keep.load(Ordering::Acquire)
    }
}

/// What a load is for.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) tags: Arc<[Arc<str>]>,
    pub(crate) options: Options,
    /// Nobody waits: what is kept already is good, but soon to expire.
    pub(crate) refresh: bool,
}

impl Order {
    pub(crate) fn new<'a, V>(
        cache: &Inner<V>,
        key: &[u8],
        tags: impl Iterator<Item = &'a str>,
        options: Options,
    ) -> Self {
        let implied = cache.remote.as_ref().map(|remote| remote.implied(key));
        let tags = tags.map(Arc::from).chain(implied.into_iter().flatten()).collect();
        Self { tags, options, refresh: false }
    }
}

/// A load that has to be run.
pub(crate) struct Job<V> {
    pub(crate) cache: Arc<Inner<V>>,
    pub(crate) landing: Landing<V>,
    pub(crate) order: Order,
}

impl<V: Send + Sync + 'static> Job<V> {
    /// Runs it in a task of its own, so that whoever goes away takes nothing from those who stay.
    pub(crate) fn start<F, Fut, E>(self, load: F)
    where
        F: FnOnce(LoadContext) -> Fut + Send + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        tokio::spawn(async move {
            let Self { cache, landing, order } = self;
            let cancel = order.options.cancel_abandoned && !order.refresh;
            let outcome = if cancel {
                tokio::select! {
                    outcome = fetch(&cache, &landing, &order, load) => outcome,
                    () = landing.abandoned() => return,
                }
            } else {
                fetch(&cache, &landing, &order, load).await
            };
            landing.land(outcome);
        });
    }
}

/// Memory, shared tier, loader.
async fn fetch<V, F, Fut, E>(
    cache: &Arc<Inner<V>>,
    landing: &Landing<V>,
    order: &Order,
    load: F,
) -> Outcome<V>
where
    V: Send + Sync + 'static,
    F: FnOnce(LoadContext) -> Fut + Send + 'static,
    Fut: Future<Output = Result<V, E>> + Send + 'static,
    E: Send + Sync + 'static,
{
    // Another flight may have landed between the caller's lookup and this one's beginning.
    if !order.refresh
        && let Look::Fresh(item) = cache.look(landing.key(), Moment::now())
    {
        return Ok((item, Source::L1));
    }
    let mut prepared = Prepared::new(cache, landing.key(), order);
    if let Some(item) = prepared.visit(cache, landing, order).await {
        return Ok((item, Source::L2));
    }
    let context = LoadContext::default();
    count(&cache.metrics.loads);
    match attempt(load, context.clone(), order.options.hard_timeout).await {
        Ok(value) => Ok((prepared.succeed(cache, landing, order, value, &context), Source::Loader)),
        Err(failure) => {
            prepared.fail(cache, landing, order, &failure);
            Err(failure)
        }
    }
}

/// Runs a loader: whatever it does, there is an outcome.
pub(crate) async fn attempt<T, F, Fut, E>(
    load: F,
    context: LoadContext,
    limit: Option<Duration>,
) -> Result<T, Failure>
where
    F: FnOnce(LoadContext) -> Fut,
    Fut: Future<Output = Result<T, E>>,
    E: Send + Sync + 'static,
{
    // The loader itself may panic before it has made its future.
    let work = catching(async move { load(context).await });
    let done = match limit {
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::TimedOut(limit))),
        None => work.await,
    };
    done?.map_err(|error| Failure::Failed(Arc::new(error) as Arc<dyn Any + Send + Sync>))
}

/// A panic as a failure. The future is not touched again after one, but for dropping it.
async fn catching<F: Future>(future: F) -> Result<F::Output, Failure> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(payload) => Poll::Ready(Err(Failure::panicked(&*payload))),
    })
    .await
}
