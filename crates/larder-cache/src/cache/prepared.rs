//! What a load takes hold of before its loader runs, and what becomes of what it brings.

use std::sync::Arc;

use super::error::{AnyError, Failure};
use super::flights::Landing;
use super::inner::Inner;
use super::invalidations::Hold;
use super::item::{Item, Kept, Life};
use super::load::{LoadContext, Order};
use super::metrics::count;
use super::remote::{Pass, Remembered, Visit};
use crate::{Entry, FillGuard, Flight, Moment, Store, TagSet};

/// See the module.
pub(crate) struct Prepared<V> {
    hold: Hold,
    /// What the followed log calls the tags.
    proof: TagSet,
    /// The log can answer for all of them.
    keep: bool,
    guard: Option<FillGuard<Item<V>>>,
    failure_guard: Option<FillGuard<Item<AnyError>>>,
    pass: Option<Pass>,
    began: Moment,
}

impl<V: Send + Sync + 'static> Prepared<V> {
    /// First the names and their counter; then the fill's position and epoch; then, by a catalog that is therefore at
    /// least as new as that epoch, what the followed log calls the names. All of it before the loader runs.
    pub(crate) fn new(cache: &Inner<V>, key: &[u8], order: &Order) -> Self {
        let hold = cache.invalidations.hold(order.tags.iter().map(|tag| &**tag));
        let guard = if cache.local { lead(&cache.values, key) } else { None };
        let negative = !order.options.negative_ttl.is_zero();
        let failure_guard = if negative { lead(cache.failures(), key) } else { None };
        let proof = cache.prove(&order.tags);
        let keep = proof.is_some();
        Self {
            hold,
            proof: proof.unwrap_or_default(),
            keep,
            guard: guard.filter(|_| keep),
            failure_guard: failure_guard.filter(|_| keep),
            pass: None,
            began: Moment::now(),
        }
    }

    /// Asks the shared tier; what it has is kept here, too.
    pub(crate) async fn visit(
        &mut self,
        cache: &Inner<V>,
        landing: &Landing<V>,
        order: &Order,
    ) -> Option<Kept<V>> {
        // What a followed log proves is judged by positions, of which the tier knows nothing.
        let remote = cache.remote.as_ref().filter(|_| self.keep && self.proof.is_empty())?;
        let Visit { found, pass } = remote.visit(landing.key(), &order.tags).await;
        self.pass = pass;
        let Remembered { value, age, left } = found?;
        if order.refresh && left <= order.options.refresh_ahead {
            return None;
        }
        count(&cache.metrics.l2_hits);
        if let Some(pass) = self.pass.take() {
            remote.give_up(landing.key(), pass);
        }
        let now = Moment::now();
        let life = Life { from: now, ttl: left, grace: order.options.stale_if_error };
        let loaded = Moment(now.0.saturating_sub(crate::moment::nanos(age)));
        let weight = cache.weigh(&value);
        let item = Item::new(value, weight, self.hold.clone(), loaded, life);
        Some(self.keep(landing, item, true))
    }

    /// The loader has brought a value.
    pub(crate) fn succeed(
        mut self,
        cache: &Inner<V>,
        landing: &Landing<V>,
        order: &Order,
        value: V,
        context: &LoadContext,
    ) -> Kept<V> {
        let (now, options) = (Moment::now(), &order.options);
        let ttl = context.chosen_ttl().or_else(|| cache.ttl_of(&value)).unwrap_or(options.ttl);
        let ttl = options.jittered(ttl);
        let life = Life { from: now, ttl, grace: options.stale_if_error };
        let weight = cache.weigh(&value);
        let keep = context.keeps() && !ttl.is_zero();
        let item = self.keep(landing, Item::new(value, weight, self.hold.clone(), now, life), keep);
        if let (Some(remote), Some(pass)) = (&cache.remote, self.pass.take()) {
            if keep {
                landing.keep(|| remote.leave(landing.key(), pass, &item.value.value, ttl));
            } else {
                remote.give_up(landing.key(), pass);
            }
        }
        item
    }

    /// The loader has not.
    pub(crate) fn fail(mut self, cache: &Inner<V>, landing: &Landing<V>, order: &Order, failure: &Failure) {
        let metrics = &cache.metrics;
        match failure {
            Failure::Failed(error) => {
                count(&metrics.failures);
                self.remember(landing, order, error);
            }
            Failure::Panicked(_) => count(&metrics.panics),
            Failure::TimedOut(_) => count(&metrics.timeouts),
            Failure::Absent => {}
        }
        if let (Some(remote), Some(pass)) = (&cache.remote, self.pass.take()) {
            remote.give_up(landing.key(), pass);
        }
    }

    fn remember(&mut self, landing: &Landing<V>, order: &Order, error: &AnyError) {
        let Some(guard) = self.failure_guard.take() else { return };
        let now = Moment::now();
        let ttl = order.options.jittered(order.options.negative_ttl);
        let life = Life { from: now, ttl, grace: std::time::Duration::ZERO };
        let item = Item::new(Arc::clone(error), 0, self.hold.clone(), now, life);
        store(landing, guard, item, &self.proof, self.began);
    }

    fn keep(&mut self, landing: &Landing<V>, item: Item<V>, keep: bool) -> Kept<V> {
        match self.guard.take().filter(|_| keep) {
            Some(guard) => store(landing, guard, item, &self.proof, self.began),
            None => Arc::new(Entry::apart(item)),
        }
    }
}

fn lead<T: Send + Sync + 'static>(store: &Arc<Store<Item<T>>>, key: &[u8]) -> Option<FillGuard<Item<T>>> {
    match store.join(key) {
        Flight::Lead(guard) => Some(guard),
        // Another kind of loader is at the same key, or nothing can be kept at present.
        Flight::Follow(_) | Flight::Alone => None,
    }
}

/// Why it is not kept, if it is not, the store has counted.
fn store<V, T: Send + Sync + 'static>(
    landing: &Landing<V>,
    guard: FillGuard<Item<T>>,
    item: Item<T>,
    proof: &TagSet,
    began: Moment,
) -> Kept<T> {
    let now = Moment::now();
    let ttl = item.usable_until.since(now);
    let entry = guard.entry(item, Arc::clone(proof), ttl, now.since(began));
    landing.keep(|| {
        let _ = guard.keep(&entry);
    });
    entry
}
