//! What the feed says of an epoch to those who share: whose life and meaning it has, and how much of the past is known.

use std::sync::Arc;

use crate::Fence;
use crate::fence::FillPoint;

/// To whose entries those of an epoch of this process can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The epoch of this process.
    pub epoch: u64,
    /// The life of the log, in bytes that are the same in every process which follows it.
    pub life: Box<[u8]>,
    /// A digest of everything that answers are judged by, the same in every process that judges alike.
    pub meaning: [u8; 32],
}

/// What is known of the past in the current epoch.
#[derive(Debug, Default)]
pub(crate) struct Past {
    epoch: u64,
    /// `None`: nothing is shared in this epoch.
    scope: Option<Arc<Scope>>,
    /// Every change of every tag after it is known here.
    history: u64,
    /// Every commit at or before it is folded in, and has left the meaning as it was.
    settled: u64,
}

impl Past {
    pub(crate) fn new(epoch: u64, floor: u64) -> Self {
        Self { epoch, scope: None, history: floor, settled: 0 }
    }
}

/// The feed's side.
impl Fence {
    /// From now on entries of this epoch may be shared with processes that follow the same life of the log and judge by
    /// the same meaning. Ignored if the epoch is over. `meaning` must be what the epoch began with, no later state.
    pub fn share(&self, epoch: u64, life: &[u8], meaning: [u8; 32]) {
        let mut past = self.past.lock();
        if past.epoch == epoch {
            past.scope = Some(Arc::new(Scope { epoch, life: life.into(), meaning }));
        }
    }

    /// Every commit at or before `position` has been folded into the tags, and a look at the meaning that saw all of
    /// them found it as it was when the epoch began.
    pub fn set_settled(&self, position: u64) {
        let mut past = self.past.lock();
        past.settled = past.settled.max(position);
    }
}

/// The side of those who share. Not on the way of a hit in memory: there is a lock.
impl Fence {
    /// The current epoch's scope; `None` while nothing is shared.
    pub fn scope(&self) -> Option<Arc<Scope>> {
        self.past.lock().scope.clone()
    }

    /// The position since which every change is known here, in the current epoch; `None` while nothing is shared.
    pub fn history(&self) -> Option<u64> {
        let past = self.past.lock();
        past.scope.is_some().then_some(past.history)
    }

    /// Where an answer that includes every commit at or before `as_of` stands in the epoch of that scope; `None` unless
    /// every change after it is known here.
    pub(crate) fn stands(&self, scope: &Scope, as_of: u64) -> Option<FillPoint> {
        let past = self.past.lock();
        let known = past.epoch == scope.epoch && past.scope.is_some() && past.history <= as_of;
        known.then_some(FillPoint { as_of, epoch: scope.epoch })
    }

    /// The scope, and the positions `(from, to]` of whose commits everything is known and settled.
    pub(crate) fn settled_span(&self) -> Option<(Arc<Scope>, u64, u64)> {
        let past = self.past.lock();
        let scope = past.scope.clone()?;
        (past.settled > past.history).then_some((scope, past.history, past.settled))
    }

    /// Somebody else knows every change in `(from, to]`: `touch` folds them in, and then they are known here, too. Whether
    /// that was of use: in the epoch of that scope, and joined to what is known here.
    pub(crate) fn learn(&self, scope: &Scope, from: u64, to: u64, touch: impl FnOnce()) -> bool {
        let mut past = self.past.lock();
        let joins = from < past.history && past.history <= to;
        if past.epoch != scope.epoch || past.scope.is_none() || !joins {
            return false;
        }
        // Before `history`: who finds it lowered sees them.
        touch();
        past.history = from;
        true
    }
}
