//! The shared tier on a session's way to the origin and back: asking for what another process has filled, and handing
//! over what was filled here.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use larder_cache::shared::{Claim, Offer, Refusal};
use larder_cache::{Entry, FillGuard, Moment};

use super::Session;
use crate::key;
use crate::plan::Plan;
use crate::reply::Answer;

/// What came of asking.
#[derive(Debug)]
pub(super) enum Asked {
    /// The answer is in memory now, to be looked up by each reader with its own claims.
    Adopted(Arc<Entry<Answer>>),
    /// Ask the origin, with the fill if there is one.
    Missed(Option<FillGuard<Answer>>),
}

/// How often an answer is handed over again while it is asked for and its relation changes.
const AGAIN: Duration = Duration::from_secs(1);
/// Answers of which it is remembered when they were; beyond it all are forgotten, and handed over once more.
const REMEMBERED: usize = 4096;

/// When answers that outlive changes of their relation were handed over again, by the hash of the key.
#[derive(Debug, Default)]
pub(crate) struct Renewals {
    last: HashMap<u64, Moment>,
    hasher: foldhash::quality::RandomState,
}

impl Renewals {
    fn is_due(&mut self, key: &[u8], now: Moment) -> bool {
        let hash = self.hasher.hash_one(key);
        if self.last.get(&hash).is_some_and(|last| now.since(*last) < AGAIN) {
            return false;
        }
        if self.last.len() >= REMEMBERED {
            self.last.clear();
        }
        self.last.insert(hash, now);
        true
    }
}

impl Session {
    /// Hands an answer that was found here by this key over again, if others would refuse what they were given of it:
    /// rows of its relation have changed since, though none of its own.
    pub(super) fn share_again(&self, key: &[u8], entry: &Entry<Answer>, plan: &Plan) {
        let (Some(exchange), Some(sharing)) = (&self.worker.exchange, &self.worker.shared.sharing) else {
            return;
        };
        let outlived =
            plan.read.as_ref().is_ok_and(|read| read.dependencies.have_changed_since(entry.as_of()));
        if !outlived || entry.cost < sharing.min_origin_time || !exchange.accepts(entry.value.frames.len()) {
            return;
        }
        if !self.worker.renewals.borrow_mut().is_due(key, self.now) {
            return;
        }
        let full = self.facts().and_then(|facts| key::shared(key, facts));
        if let Some((key, claim)) = full.zip(self.worker.store.claim(entry)) {
            let ttl = entry.remaining(self.now);
            exchange.give(&claim.record(&key, entry.value.encode(), ttl, entry.cost), ttl);
        }
    }

    /// The full key, as all processes write it, of what was just looked up (`Session::key`), if the shared tier is worth
    /// the trip for this plan's answers.
    pub(super) fn worth_sharing(&self, plan: &Plan) -> Option<Vec<u8>> {
        let least = self.worker.shared.sharing.as_ref()?.min_origin_time;
        if self.is_shadow() {
            return None;
        }
        let available = self.worker.exchange.as_ref().is_some_and(larder_cache::shared::Exchange::available);
        if !available || plan.query.as_ref().is_some_and(|query| !query.may_cost(least)) {
            return None;
        }
        key::shared(&self.key, self.facts()?)
    }

    /// Asks the shared tier before the origin. A miss takes the fill point anew: as late as possible.
    pub(super) async fn ask_others(&self, guard: FillGuard<Answer>, plan: &Plan, key: &[u8]) -> Asked {
        let (Some(exchange), Some(claim)) = (&self.worker.exchange, guard.claim()) else {
            return Asked::Missed(Some(guard));
        };
        let large = plan.query.as_ref().is_some_and(|query| query.is_large());
        let mut guard = match exchange.fetch(claim.life(), key, large).await {
            None => guard,
            Some(Err(why)) => {
                guard.refused(why);
                guard
            }
            Some(Ok(record)) => match self.take_over(guard, plan, key, &record) {
                Ok(entry) => return Asked::Adopted(entry),
                Err(guard) => guard,
            },
        };
        Asked::Missed(guard.renew().then_some(guard))
    }

    fn take_over(
        &self,
        guard: FillGuard<Answer>,
        plan: &Plan,
        key: &[u8],
        record: &larder_cache::shared::Record,
    ) -> Result<Arc<Entry<Answer>>, FillGuard<Answer>> {
        let (Ok(read), Some(value)) = (&plan.read, Answer::decode(record.value.clone())) else {
            guard.refused(Refusal::Unreadable);
            return Err(guard);
        };
        if let Some(query) = &plan.query {
            query.learn(record.cost(), record.value.len());
        }
        let config = self.worker.config();
        let ttl = config.jittered(read.ttl.unwrap_or(config.ttl));
        let offer = Offer { record, key, value, tags: read.tags(&self.key), ttl };
        guard.adopt(offer).map_err(|(guard, _)| guard)
    }

    /// Hands over an answer that was kept here, if it is worth it.
    pub(super) fn share(&self, claim: &Claim, key: &[u8], answer: &Answer, ttl: Duration, cost: Duration) {
        let (Some(exchange), Some(sharing)) = (&self.worker.exchange, &self.worker.shared.sharing) else {
            return;
        };
        if cost >= sharing.min_origin_time && exchange.accepts(answer.frames.len()) {
            exchange.give(&claim.record(key, answer.encode(), ttl, cost), ttl);
        }
    }
}
