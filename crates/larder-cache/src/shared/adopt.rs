//! Giving what was filled here to other processes, and taking over what they filled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::record::{Record, wall_clock};
use super::scope::Scope;
use crate::counters::count;
use crate::entry::{Discard, Entry};
use crate::moment::nanos;
use crate::store::{FillGuard, Store, Weigh};
use crate::{Moment, TagSet};

/// What the tier had under the key of a fill, read and not judged yet.
#[derive(Debug)]
pub struct Offer<'a, V> {
    /// The claim. Its value is not looked at: that is `value`.
    pub record: &'a Record,
    /// The full key that was asked for, as records carry it.
    pub key: &'a [u8],
    /// The record's value, decoded.
    pub value: V,
    /// What the answer depends on, as judged here, in the epoch of the fill.
    pub tags: TagSet,
    /// Longest time to live here.
    pub ttl: Duration,
}

/// Why something found in the tier was of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not sealed by this deployment, or not of a format that is understood.
    Unreadable,
    /// Nothing is shared in this epoch, or the epoch changed on the way.
    Epoch,
    /// Of another life of the log.
    Life,
    /// Judged by another catalog.
    Meaning,
    /// From before this process's history.
    History,
    /// Of another key with the same hash.
    Key,
    /// Past its time to live, or from before everything was dropped on purpose.
    Expired,
    /// A commit touched one of its tags.
    Changed,
    /// Larger than is kept here.
    TooLarge,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Unreadable,
        Self::Epoch,
        Self::Life,
        Self::Meaning,
        Self::History,
        Self::Key,
        Self::Expired,
        Self::Changed,
        Self::TooLarge,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Epoch => "epoch",
            Self::Life => "life",
            Self::Meaning => "meaning",
            Self::History => "history",
            Self::Key => "key",
            Self::Expired => "expired",
            Self::Changed => "changed",
            Self::TooLarge => "too_large",
        }
    }
}

impl From<Discard> for Refusal {
    fn from(why: Discard) -> Self {
        match why {
            Discard::Changed => Self::Changed,
            Discard::TooLarge => Self::TooLarge,
            Discard::Epoch | Discard::Abandoned => Self::Epoch,
        }
    }
}

/// What a fill may claim towards other processes.
#[derive(Debug, Clone)]
pub struct Claim {
    scope: Arc<Scope>,
    as_of: u64,
}

impl Claim {
    /// The life of the log in which it is made.
    pub fn life(&self) -> &[u8] {
        &self.scope.life
    }

    /// The whole of it.
    pub fn record(&self, key: &[u8], value: impl Into<Bytes>, ttl: Duration, cost: Duration) -> Record {
        let stored = wall_clock();
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        Record {
            life: Bytes::copy_from_slice(&self.scope.life),
            meaning: self.scope.meaning,
            as_of: self.as_of,
            stored,
            expires: stored.saturating_add(ttl),
            cost: nanos(cost),
            key: Bytes::copy_from_slice(key),
            value: value.into(),
        }
    }
}

impl<V: Weigh + Send + Sync + 'static> FillGuard<V> {
    /// Keeps what was found in the tier, if it is as good as what the origin would answer, and ends the flight. The entry
    /// is judged by every lookup like any other; look it up with each reader's own claims.
    ///
    /// # Errors
    /// It is of no use, and the duty to fetch remains: [`FillGuard::renew`] it, then ask the origin.
    pub fn adopt(mut self, offer: Offer<'_, V>) -> Result<Arc<Entry<V>>, (Self, Refusal)> {
        match self.take_over(offer) {
            Ok(entry) => {
                self.settled = true;
                count(&self.store.counters().adopted);
                Ok(entry)
            }
            Err(why) => {
                self.refused(why);
                Err((self, why))
            }
        }
    }

    /// Counts something that was of no use.
    pub fn refused(&self, why: Refusal) {
        if let Some(counter) = refusal_counter(&self.store.counters().refused, why) {
            count(counter);
        }
    }

    /// Takes the fill point anew: the later, the longer the answer stays true. `false` if nothing could be kept now. The
    /// epoch may be another afterwards.
    pub fn renew(&mut self) -> bool {
        match self.store.fence().fill_point() {
            Some(point) => {
                self.point = point;
                true
            }
            None => false,
        }
    }

    /// What this fill may claim towards other processes, if its epoch goes on and is shared.
    pub fn claim(&self) -> Option<Claim> {
        let scope = self.store.fence().scope().filter(|scope| scope.epoch == self.point.epoch)?;
        Some(Claim { scope, as_of: self.point.as_of })
    }

    /// The order matters: see the top of `shared/mod.rs`.
    fn take_over(&self, offer: Offer<'_, V>) -> Result<Arc<Entry<V>>, Refusal> {
        let Offer { record, key, value, tags, ttl } = offer;
        let fence = self.store.fence();
        // The tags were chosen in the fill's epoch.
        let scope = fence.scope().filter(|scope| scope.epoch == self.point.epoch).ok_or(Refusal::Epoch)?;
        if *record.life != *scope.life {
            return Err(Refusal::Life);
        }
        if record.meaning != scope.meaning {
            return Err(Refusal::Meaning);
        }
        // Before the tags: who finds the history low enough sees the touches that lowered it.
        let point = fence.stands(&scope, record.as_of).ok_or(Refusal::History)?;
        if *record.key != *key {
            return Err(Refusal::Key);
        }
        let wall = wall_clock();
        let remaining = record.remaining(wall).min(ttl);
        let purged = self.store.purged.load(Ordering::Relaxed);
        if remaining.is_zero() || (purged != 0 && record.stored <= purged) {
            return Err(Refusal::Expired);
        }
        let now = Moment::now();
        // As old as it is, as far as this process's clock goes back.
        let stored = Moment(now.0.saturating_sub(nanos(record.age(wall))).max(1));
        let entry = Entry {
            value,
            stored,
            cost: record.cost(),
            point,
            tags,
            expires: now.after(remaining),
            weight: 0,
        };
        Ok(self.insert(entry)?)
    }
}

impl<V: Weigh + Send + Sync + 'static> Store<V> {
    /// What an entry may claim towards other processes *now*, if it is still true: an answer that depends on few rows outlives many
    /// changes of their relation, and others, who know only of the relation how it changed before they came, refuse an old claim.
    pub fn claim(&self, entry: &Entry<V>) -> Option<Claim> {
        let fence = self.fence();
        // Before the tags: every commit up to this position has been folded into them.
        let point = fence.fill_point().filter(|point| point.epoch == entry.point.epoch)?;
        entry.is_true(fence).ok()?;
        let scope = fence.scope().filter(|scope| scope.epoch == point.epoch)?;
        Some(Claim { scope, as_of: point.as_of })
    }
}

fn refusal_counter(counters: &[AtomicU64; Refusal::ALL.len()], why: Refusal) -> Option<&AtomicU64> {
    counters.get(Refusal::ALL.iter().position(|known| *known == why)?)
}
