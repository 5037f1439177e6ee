//! An entry is a fact with a position; here is when it may be given to whom.

use std::sync::Arc;
use std::time::Duration;

use crate::fence::{Fence, FillPoint};
use crate::{Moment, Tag, TagSet};

/// A value found.
///
/// `value` includes every commit at or before `as_of`; it stays true until a later one touches one of `tags`, or the
/// epoch ends.
/// What every lookup reads comes first, so that it is in as few cache lines as may be.
#[derive(Debug)]
pub struct Entry<V> {
    pub(crate) expires: Moment,
    pub(crate) point: FillPoint,
    pub(crate) tags: TagSet,
    /// The value.
    pub value: V,
    /// When it was stored.
    pub stored: Moment,
    /// What it cost to load.
    pub cost: Duration,
    /// Of key and value together, in bytes, taken once: the cache relies on its not changing.
    pub(crate) weight: u64,
}

/// What the truth of an entry hangs on, without its value: for whoever wants to know later whether it still was true
/// at some moment (once [`Fence::covered`] has passed that moment).
#[derive(Debug, Clone)]
pub struct Validity {
    point: FillPoint,
    tags: TagSet,
}

impl Validity {
    /// Whether nothing has happened, as far as the feed has come, that makes the entry untrue.
    ///
    /// # Errors
    /// What has happened.
    pub fn holds(&self, fence: &Fence) -> Result<(), Discard> {
        is_true(&self.point, &self.tags, fence)
    }

    /// Whether entries still mean what they meant: no epoch has begun.
    pub fn is_of_this_epoch(&self, fence: &Fence) -> bool {
        fence.epoch() == self.point.epoch
    }
}

/// What a reader is entitled to.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// The present.
    pub now: Moment,
    /// Writes marked on a tag (or on everything) later than `covered` make the lookup miss.
    pub heed_marks: bool,
    /// `covered` must have reached this moment.
    pub covered_past: Moment,
}

/// Why a lookup found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Miss {
    /// Never seen, or evicted.
    Absent,
    /// Its time to live is over.
    Expired,
    /// A commit touched one of its tags, or the epoch is another.
    Invalid,
    /// A write that this reader is entitled to see is still on its way.
    WriteInFlight,
    /// The lease has run out.
    NoLease,
    /// The answer was too large a short while ago.
    TooLarge,
}

impl Miss {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Absent, Self::Expired, Self::Invalid, Self::WriteInFlight, Self::NoLease, Self::TooLarge];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Expired => "expired",
            Self::Invalid => "invalid",
            Self::WriteInFlight => "write_in_flight",
            Self::NoLease => "no_lease",
            Self::TooLarge => "too_large",
        }
    }

    /// Whether the entry can never be given to anybody again.
    pub(crate) const fn is_for_good(self) -> bool {
        matches!(self, Self::Expired | Self::Invalid)
    }
}

/// Why an answer was not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Discard {
    /// A commit touched one of its tags while it was on its way.
    Changed,
    /// The epoch changed while it was on its way.
    Epoch,
    /// Larger than allowed.
    TooLarge,
    /// The loader failed, was cancelled, or said not to keep it.
    Abandoned,
}

impl Discard {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Changed, Self::Epoch, Self::TooLarge, Self::Abandoned];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Epoch => "epoch",
            Self::TooLarge => "too_large",
            Self::Abandoned => "abandoned",
        }
    }
}

impl<V> Entry<V> {
    /// A value that is kept nowhere.
    pub(crate) fn apart(value: V) -> Self {
        let (point, cost) = (FillPoint { as_of: 0, epoch: 0 }, Duration::ZERO);
        Self {
            expires: Moment::NEVER,
            point,
            tags: TagSet::default(),
            value,
            stored: Moment::NEVER,
            cost,
            weight: 0,
        }
    }

    /// Whether this reader may have it now. The order of the *loads* (coverage, tags, epoch, marks) is argued in
    /// [`crate::fence`]; the order of the *verdicts* puts what is final before what may pass.
    pub(crate) fn judge(&self, fence: &Fence, reader: &Reader) -> Result<(), Miss> {
        if reader.now >= self.expires {
            return Err(Miss::Expired);
        }
        let covered = fence.covered();
        if self.is_true(fence).is_err() {
            return Err(Miss::Invalid);
        }
        if !fence.lease_holds_with(covered, reader.now) {
            return Err(Miss::NoLease);
        }
        if covered < reader.covered_past || (reader.heed_marks && self.last_mark(fence) > covered) {
            return Err(Miss::WriteInFlight);
        }
        Ok(())
    }

    /// The position up to which it was known to be true when it came.
    pub fn as_of(&self) -> u64 {
        self.point.as_of
    }

    /// How long it may still be given out.
    pub fn remaining(&self, now: Moment) -> Duration {
        self.expires.since(now)
    }

    /// What its truth hangs on.
    pub fn validity(&self) -> Validity {
        Validity { point: self.point, tags: Arc::clone(&self.tags) }
    }

    /// As far as the feed has come, nothing has happened that makes the entry untrue.
    pub(crate) fn is_true(&self, fence: &Fence) -> Result<(), Discard> {
        is_true(&self.point, &self.tags, fence)
    }

    fn last_mark(&self, fence: &Fence) -> Moment {
        self.tags.iter().map(|tag| tag.marked()).fold(fence.all_marked(), Moment::max)
    }
}

/// Tags before the epoch: what is seen of the tags is then at least as old as the epoch they are judged by.
fn is_true(point: &FillPoint, tags: &[Arc<Tag>], fence: &Fence) -> Result<(), Discard> {
    if tags.iter().any(|tag| tag.last_change() > point.as_of) {
        return Err(Discard::Changed);
    }
    if fence.epoch() != point.epoch {
        return Err(Discard::Epoch);
    }
    Ok(())
}
