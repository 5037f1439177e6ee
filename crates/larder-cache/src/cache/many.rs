//! A request for the values of many keys, with one run of a loader for all that are missing.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::{Failure, LoadError};
use super::flights::{Arrivals, Joined, Landing};
use super::inner::{Inner, Look};
use super::item::{Loaded, Source};
use super::key::Key;
use super::load::{LoadContext, Order, attempt};
use super::metrics::count;
use super::options::{Options, overrides};
use super::prepared::Prepared;
use super::request::{Waited, in_place_of, remembered, wait};
use crate::Moment;

/// Of keys whose flight was of no use: after so many rounds they are loaded without joining anybody.
const ROUNDS: usize = 3;

type TagsOf<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// A request for the values of many keys, made by [`Cache::many`](super::Cache::many).
#[must_use = "nothing happens before `or_load`"]
pub struct Many<'a, K, V> {
    cache: &'a Arc<Inner<V>>,
    keys: Vec<K>,
    tags_of: Option<TagsOf<K>>,
    options: Options,
}

/// A key that is not here.
struct Wanted<K> {
    /// In the answer.
    place: usize,
    key: K,
    bytes: Arc<[u8]>,
}

/// A key that this request's loader is to bring.
struct Lead<K, V> {
    key: K,
    landing: Landing<V>,
    order: Order,
}

/// A key whose flight is under way.
struct Awaited<K, V> {
    wanted: Wanted<K>,
    arrivals: Arrivals<V>,
    good: bool,
    ours: bool,
}

impl<'a, K, V> Many<'a, K, V>
where
    K: Key + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(crate) fn new(cache: &'a Arc<Inner<V>>, keys: Vec<K>) -> Self {
        Self { cache, keys, tags_of: None, options: cache.options }
    }

    /// What the value of each key depends on.
    pub fn tags<I>(mut self, tags_of: impl Fn(&K) -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.tags_of = Some(Box::new(move |key| tags_of(key).into_iter().map(Into::into).collect()));
        self
    }

    overrides! {
        ttl: Duration, see default_ttl;
        stale_if_error: Duration, see stale_if_error;
        hard_timeout: Duration, see hard_timeout;
    }

    /// The values in the order of the keys. The loader is run once, for all keys that are nowhere to be found and that
    /// nobody else is loading; a second time only if the load of another turned out to be of no use. A key that it does not
    /// bring is `None`, which is not remembered.
    ///
    /// # Errors
    /// The loader failed, panicked, took too long or was cancelled, and for one key at least there is nothing to give in
    /// its place.
    ///
    /// # Panics
    /// If a loader has to be run outside a tokio runtime.
    pub async fn or_load<F, Fut, I, E>(self, load: F) -> Result<Vec<Option<Loaded<V>>>, LoadError<E>>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<I, E>> + Send + 'static,
        I: IntoIterator<Item = (K, V)> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let Self { cache, keys, tags_of, options } = self;
        let mut answer: Vec<Option<Loaded<V>>> = Vec::new();
        let mut wanted = look_all(cache, keys, &mut answer);
        let load = Arc::new(load);
        let arrived = cache.flights.arrive();
        for round in 0..ROUNDS {
            let (mut leads, mut awaited) = (Vec::new(), Vec::new());
            for wanted in wanted {
                if let Some(error) = remembered::<V, E>(cache, &wanted.bytes, &options) {
                    place(&mut answer, wanted.place, in_place_of(cache, &wanted.bytes, &options, error)?);
                    continue;
                }
                let error = TypeId::of::<E>();
                let joined = match round + 1 {
                    ROUNDS => cache.flights.alone(&wanted.bytes, error),
                    _ => cache.flights.join(&wanted.bytes, error, arrived),
                };
                let (arrivals, good, ours) = match joined {
                    Joined::Lead(landing, arrivals) => {
                        let tags = tags_of.as_ref().map(|tags_of| tags_of(&wanted.key)).unwrap_or_default();
                        let tags = tags.iter().map(String::as_str);
                        let order = Order::new(cache, &wanted.bytes, tags, options);
                        leads.push(Lead { key: wanted.key.clone(), landing, order });
                        (arrivals, true, true)
                    }
                    Joined::Follow { arrivals, good } => (arrivals, good, false),
                };
                awaited.push(Awaited { wanted, arrivals, good, ours });
            }
            if !leads.is_empty() {
                start(Arc::clone(cache), leads, Arc::clone(&load), options.hard_timeout);
            }
            wanted = collect(cache, &options, awaited, &mut answer).await?;
            if wanted.is_empty() {
                break;
            }
        }
        Ok(answer)
    }
}

impl<K, V> fmt::Debug for Many<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Many")
            .field("keys", &self.keys.len())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Puts what is here in its place, and returns what is not.
fn look_all<K: Key, V: Send + Sync + 'static>(
    cache: &Inner<V>,
    keys: Vec<K>,
    answer: &mut Vec<Option<Loaded<V>>>,
) -> Vec<Wanted<K>> {
    let now = Moment::now();
    let mut wanted = Vec::new();
    for (place, key) in keys.into_iter().enumerate() {
        let hit = cache.hit(&key, now);
        if hit.is_none() {
            count(&cache.metrics.misses);
            let bytes = key.with_bytes(|key| Arc::from(key));
            wanted.push(Wanted { place, key, bytes });
        }
        answer.push(hit);
    }
    wanted
}

/// Waits for every flight, and returns the keys whose flight was of no use.
async fn collect<K, V, E>(
    cache: &Inner<V>,
    options: &Options,
    awaited: Vec<Awaited<K, V>>,
    answer: &mut [Option<Loaded<V>>],
) -> Result<Vec<Wanted<K>>, LoadError<E>>
where
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    let mut again = Vec::new();
    for Awaited { wanted, arrivals, good, ours } in awaited {
        if !ours {
            count(&cache.metrics.coalesced);
        }
        let loaded = match wait(cache, &wanted.bytes, options, arrivals).await {
            Waited::Instead(loaded) => Some(loaded),
            Waited::Landed(Ok((item, source))) => {
                let item = if good { Some(item) } else { cache.prove_landed(&wanted.bytes, &item) };
                item.map(|item| Loaded::new(item, source, false))
            }
            // Its loader was asked for it, and knows nothing of it.
            Waited::Landed(Err(Failure::Absent)) if ours => continue,
            Waited::Landed(Err(failure)) => match failure.into_error() {
                Some(error) => Some(in_place_of(cache, &wanted.bytes, options, error)?),
                None => None,
            },
            Waited::Lost if ours => Some(in_place_of(cache, &wanted.bytes, options, LoadError::Cancelled)?),
            Waited::Lost => None,
        };
        match loaded {
            Some(loaded) => place(answer, wanted.place, loaded),
            None => again.push(wanted),
        }
    }
    Ok(again)
}

fn place<V>(answer: &mut [Option<Loaded<V>>], place: usize, loaded: Loaded<V>) {
    if let Some(slot) = answer.get_mut(place) {
        *slot = Some(loaded);
    }
}

/// Runs the loader in a task of its own, for every key that the shared tier does not have.
fn start<K, V, F, Fut, I, E>(
    cache: Arc<Inner<V>>,
    leads: Vec<Lead<K, V>>,
    load: Arc<F>,
    limit: Option<Duration>,
) where
    K: Key + Send + Sync + 'static,
    V: Send + Sync + 'static,
    F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<I, E>> + Send + 'static,
    I: IntoIterator<Item = (K, V)> + Send + 'static,
    E: Send + Sync + 'static,
{
    tokio::spawn(async move {
        let (keys, mut pending) = prepare(&cache, leads).await;
        if keys.is_empty() {
            return;
        }
        count(&cache.metrics.loads);
        // What the loader returns is taken apart with it: that may panic as well.
        let run = |_: LoadContext| async move {
            let pairs = load(keys).await?;
            Ok::<Vec<(K, V)>, E>(pairs.into_iter().collect())
        };
        match attempt(run, LoadContext::default(), limit).await {
            Ok(pairs) => {
                for (key, value) in pairs {
                    let Some((landing, order, prepared)) = key.with_bytes(|bytes| pending.remove(bytes))
                    else {
                        continue;
                    };
                    let item = prepared.succeed(&cache, &landing, &order, value, &LoadContext::default());
                    landing.land(Ok((item, Source::Loader)));
                }
                for (_, (landing, order, prepared)) in pending {
                    prepared.fail(&cache, &landing, &order, &Failure::Absent);
                    landing.land(Err(Failure::Absent));
                }
            }
            Err(failure) => {
                for (_, (landing, order, prepared)) in pending {
                    prepared.fail(&cache, &landing, &order, &failure);
                    landing.land(Err(failure.clone()));
                }
            }
        }
    });
}

type Pending<V> = HashMap<Arc<[u8]>, (Landing<V>, Order, Prepared<V>)>;

/// Takes hold of what has to be loaded, all of it before the loader runs. What the shared tier has lands at once.
async fn prepare<K: Send + 'static, V: Send + Sync + 'static>(
    cache: &Arc<Inner<V>>,
    leads: Vec<Lead<K, V>>,
) -> (Vec<K>, Pending<V>) {
    let mut visits = tokio::task::JoinSet::new();
    let (mut keys, mut pending) = (Vec::new(), Pending::new());
    for Lead { key, landing, order } in leads {
        if let Look::Fresh(item) = cache.look(landing.key(), Moment::now()) {
            landing.land(Ok((item, Source::L1)));
            continue;
        }
        let mut prepared = Prepared::new(cache, landing.key(), &order);
        if cache.remote.is_none() {
            keys.push(key);
            pending.insert(Arc::clone(landing.key()), (landing, order, prepared));
            continue;
        }
        let cache = Arc::clone(cache);
        visits.spawn(async move {
            let found = prepared.visit(&cache, &landing, &order).await;
            (key, landing, order, prepared, found)
        });
    }
    while let Some(visited) = visits.join_next().await {
        let Ok((key, landing, order, prepared, found)) = visited else { continue };
        if let Some(item) = found {
            landing.land(Ok((item, Source::L2)));
            continue;
        }
        keys.push(key);
        pending.insert(Arc::clone(landing.key()), (landing, order, prepared));
    }
    (keys, pending)
}
