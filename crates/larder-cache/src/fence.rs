//! Where the two streams meet: what the feed has proven, as atomics that readers and fillers look at.
//!
//! One thread (the feed) writes everything but `mark_all` and the requests; any number read. Readers take no lock.
//!
//! # The order of stores and loads
//!
//! Every argument below has the same form: *whoever sees the later store also sees the earlier one*. That is what a
//! `Release` store read by an `Acquire` load gives, so that is what is used throughout; no total order over several
//! variables is needed anywhere but in [`Fence::request_review`], which says why.
//!
//! The feed, per batch of commits: `Tag::touch`, then `set_applied`, `set_visible`, and last `set_covered`.
//! `begin_epoch`: positions back to 0 (if they restart), `floor`, and last `epoch`.
//!
//! A reader (`Entry::judge`) loads `covered`, then the tags' last changes, then `epoch`, then the marks:
//! 1. *`covered` before the tags.* If the reader sees a coverage that includes a commit, it sees the commit's touches.
//!    The other way round, it could see a tag as it was, then a coverage that the touch had meanwhile helped to prove.
//! 2. *`covered` before `epoch`.* A coverage proven after a break in continuity comes with the new epoch.
//! 3. *The tags before `epoch`.* A reader that sees a last change taken back by `Tags::restart` sees the new epoch.
//! 4. *`covered` before the marks*, once, as one number for all comparisons: marks and coverage only grow, so a
//!    coverage read early can only cause a miss too many. That the reader sees the marks of writes acknowledged before
//!    it began follows from their being set before the client is told.
//!
//! A filler ([`Fence::fill_point`], before its query is sent) loads `epoch`, then `visible`, then `floor`:
//! 5. *`epoch` before `visible`.* If it has the new epoch, it has a `visible` of the new life or 0, never a (higher)
//!    position of the old one that no change of the new life would ever exceed. If it has the old epoch with whatever
//!    position, its entry is dead: whoever gets that entry sees, through the filler, the epoch that came before that
//!    position.
//! 6. *`epoch` before `floor`.* With the new epoch comes its floor.
//! 7. A change between the fill point and the insertion raises a tag above `as_of`, a new epoch differs from the
//!    fill's; both are looked at in every lookup. So nothing has to be atomic with the insertion, and a check there
//!    only saves memory.
//!
//! What other processes have in common with this one (`crate::shared`) is behind a lock, as nothing on the way of a hit
//! needs it; `begin_epoch` holds that lock throughout.

use std::time::Duration;

use tokio::sync::Notify;

use crate::moment::nanos;
use crate::shared::Past;
use crate::sync::{self, AtomicBool, AtomicU64, Mutex, Ordering};
use crate::{Moment, Reader};

/// Where the two streams meet: what the feed has proven, as atomics.
#[derive(Debug)]
pub struct Fence {
    max_lag: AtomicU64,
    epoch: AtomicU64,
    floor: AtomicU64,
    applied: AtomicU64,
    visible: AtomicU64,
    covered: AtomicU64,
    mark_all: AtomicU64,
    review: AtomicBool,
    pub(crate) past: Mutex<Past>,
    sample_wanted: Notify,
    coverage_grew: Notify,
}

/// What a fill has to know of the moment before its query is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FillPoint {
    /// The answer includes every commit at or before it.
    pub(crate) as_of: u64,
    pub(crate) epoch: u64,
}

/// The feed's side. One thread at a time.
impl Fence {
    /// Nothing is proven yet: no lease, no fills.
    pub fn new(max_lag: Duration) -> Self {
        Self {
            max_lag: AtomicU64::new(nanos(max_lag)),
            epoch: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            visible: AtomicU64::new(0),
            covered: AtomicU64::new(0),
            mark_all: AtomicU64::new(0),
            review: AtomicBool::new(false),
            past: Mutex::new(Past::default()),
            sample_wanted: Notify::new(),
            coverage_grew: Notify::new(),
        }
    }

    /// Readers are promised another bound from now on. It stands by itself: nothing else is ordered with it.
    pub fn set_max_lag(&self, max_lag: Duration) {
        self.max_lag.store(nanos(max_lag), Ordering::Relaxed);
    }

    /// Every commit that ends at or before `position` has been folded into the tags.
    pub fn set_applied(&self, position: u64) {
        self.applied.fetch_max(position, Ordering::Release);
    }

    /// See [`Fence::set_applied`].
    pub fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    /// Every applied commit up to `position` is visible to new snapshots.
    pub fn set_visible(&self, position: u64) {
        self.visible.fetch_max(position, Ordering::Release);
    }

    /// See [`Fence::set_visible`].
    pub fn visible(&self) -> u64 {
        self.visible.load(Ordering::Acquire)
    }

    /// Everything committed on the origin before `at` has been folded in. Never goes back. Wakes waiters.
    ///
    /// Does nothing while a review is requested and not yet taken: see [`Fence::request_review`].
    pub fn set_covered(&self, at: Moment) {
        // The sample's clock was read before this barrier: see `request_review`.
        sync::fence(Ordering::SeqCst);
        if self.review.load(Ordering::Acquire) {
            return;
        }
        if self.covered.fetch_max(at.0, Ordering::Release) < at.0 {
            self.coverage_grew.notify_waiters();
        }
    }

    /// See [`Fence::set_covered`]. [`Moment::NEVER`]: nothing is proven.
    pub fn covered(&self) -> Moment {
        Moment(self.covered.load(Ordering::Acquire))
    }

    /// Continuity is lost or meaning may have changed: every entry is dead. Fills are accepted again once
    /// `visible >= floor`. Returns the new epoch.
    ///
    /// Every change after `floor` must be folded in from here on. What other processes have stored is judged by that:
    /// see [`Fence::share`], which says that anything may be taken over from them at all.
    ///
    /// `restart`: positions may restart (another life of the origin), so `applied` and `visible` go back to 0, and so
    /// does `covered`: what was proven of the old life says nothing about the new one, so there is no lease until it
    /// is proven again; [`crate::Tags::restart`] does this and takes the tags back as well. Without `restart`, coverage
    /// stays: what was folded in remains so.
    ///
    /// If the meaning of statements has changed, publish what answers are judged by (the catalog) *before* this call,
    /// and advance coverage past the change only after it.
    pub fn begin_epoch(&self, floor: u64, restart: bool) -> u64 {
        // Held to the end: what is said of the past is said of one epoch.
        let mut past = self.past.lock();
        if restart {
            self.covered.store(0, Ordering::Release);
            self.applied.store(0, Ordering::Release);
            self.visible.store(0, Ordering::Release);
        }
        self.floor.store(floor, Ordering::Release);
        // Last: see 5 and 6 in the module's comment.
        let epoch = self.epoch.fetch_add(1, Ordering::Release).wrapping_add(1);
        *past = Past::new(epoch, floor);
        epoch
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Waits until somebody wants a sample of the origin's position now (after a write, for a barrier). A request made
    /// while nobody waits is kept; several make one. Take the sample's start after this returns. Cancel-safe.
    pub async fn sample_requested(&self) {
        self.sample_wanted.notified().await;
    }

    /// Takes the flag: somebody said that the meaning of entries may have changed (DDL went by). Whoever takes it must
    /// not call `set_covered` until it has looked, and taken the consequences (a new epoch, if need be).
    ///
    /// To be asked after a sample's start and before its `set_covered`; a request that comes in between holds coverage
    /// back by itself.
    pub fn take_review_request(&self) -> bool {
        self.review.swap(false, Ordering::AcqRel)
    }
}

/// The readers' and writers' side. Any thread.
impl Fence {
    /// Whether, at `now`, answers may come from memory: `now - covered <= max_lag`.
    pub fn lease_holds(&self, now: Moment) -> bool {
        self.lease_holds_with(self.covered(), now)
    }

    /// Whether what was learnt from the origin in this epoch (the columns of a statement, say) may be told to this
    /// reader: the lease holds, and no write that may have touched everything, DDL among them, is on its way.
    pub fn is_settled(&self, reader: &Reader) -> bool {
        let covered = self.covered();
        self.lease_holds_with(covered, reader.now)
            && covered >= reader.covered_past
            && !(reader.heed_marks && self.all_marked() > covered)
    }

    /// How long the lease still runs.
    pub fn lease_remaining(&self, now: Moment) -> Duration {
        let covered = self.covered();
        if covered == Moment::NEVER {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.max_lag.load(Ordering::Relaxed)).saturating_sub(now.since(covered))
    }

    /// A write that may have touched anything was acknowledged at `now`; see [`crate::Tag::mark`].
    pub fn mark_all(&self, now: Moment) {
        self.mark_all.fetch_max(now.0, Ordering::Release);
    }

    /// Asks the feed to sample the origin's position now.
    pub fn request_sample(&self) {
        self.sample_wanted.notify_one();
    }

    /// The meaning of entries may have changed (DDL was acknowledged): coverage must not advance until the feed has
    /// looked. Marks everything and requests a sample. To be called before the client is told; a moment that a session
    /// keeps of this write must be taken after the call.
    ///
    /// Either `set_covered` finds the flag and does nothing, or it did not see it: then it had begun before the flag
    /// was up, its sample's start lies before the mark made here, and lookups that heed marks miss. For that, the flag
    /// must be up for all to see *before the clock is read*: hence the full barriers, here and there.
    pub fn request_review(&self) {
        self.raise_review(Moment::now);
        self.request_sample();
    }

    /// Read barrier: true once `covered >= at`, false at the deadline. Asks for the sample itself.
    pub async fn wait_covered(&self, at: Moment, timeout: Duration) -> bool {
        if self.covered() >= at {
            return true;
        }
        tokio::time::timeout(timeout, self.covered_past(at)).await.is_ok()
    }

    async fn covered_past(&self, at: Moment) {
        loop {
            // Registered before the check, or growth between the two would go unnoticed.
            let grew = self.coverage_grew.notified();
            if self.covered() >= at {
                return;
            }
            // Again after each growth that was not enough: that sample had begun before this request.
            self.request_sample();
            grew.await;
        }
    }

    /// The moment of the mark.
    pub(crate) fn raise_review(&self, clock: impl FnOnce() -> Moment) -> Moment {
        self.review.store(true, Ordering::Release);
        sync::fence(Ordering::SeqCst);
        let now = clock();
        self.mark_all(now);
        now
    }

    pub(crate) fn lease_holds_with(&self, covered: Moment, now: Moment) -> bool {
        covered != Moment::NEVER && now.0.saturating_sub(covered.0) <= self.max_lag.load(Ordering::Relaxed)
    }

    /// The last write that may have touched anything.
    pub(crate) fn all_marked(&self) -> Moment {
        Moment(self.mark_all.load(Ordering::Acquire))
    }

    /// Where a fill that starts now would stand; `None` while what it brings could not be trusted. See 5 and 6 in the
    /// module's comment for the order.
    pub(crate) fn fill_point(&self) -> Option<FillPoint> {
        let epoch = self.epoch();
        let as_of = self.visible();
        let floor = self.floor.load(Ordering::Acquire);
        (as_of != 0 && as_of >= floor).then_some(FillPoint { as_of, epoch })
    }
}
