//! What has been invalidated by hand: tags with names, and everything at once.
//!
//! The same idea as in the rest of the crate, with a counter of this process in place of positions in a log. Each
//! invalidation takes the next number and leaves it at its tags. A load reads the counter (and takes hold of its tags)
//! *before* its loader runs, and its result is good while none of its tags bears a higher number. So an invalidation
//! during a load wins, whoever finishes first.
//!
//! That a number is taken before it is left at the tags does no harm: a load that reads the counter in between begins
//! its loader after the invalidation was called for, and sees whatever that was about.
//!
//! A tag that no value and no load has hold of is of no use: nothing depends on it, and whoever takes hold of it later
//! loads later. Such tags are swept out, so their names may be as many as there are rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::RandomState;
use parking_lot::RwLock;

use crate::{Tag, TagSet};

/// Fewer tags than that are not worth a sweep.
const SWEEP_FROM: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Invalidations {
    clock: AtomicU64,
    everything: AtomicU64,
    tags: RwLock<Registry>,
}

#[derive(Debug)]
struct Registry {
    by_name: HashMap<Box<str>, Arc<Tag>, RandomState>,
    /// Swept when there are so many.
    sweep_at: usize,
}

/// What a load took hold of before it began.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) tags: TagSet,
    seen: u64,
}

impl Hold {
    /// Nothing that it depends on was invalidated since.
    pub(crate) fn is_current(&self, invalidations: &Invalidations) -> bool {
        invalidations.everything.load(Ordering::Acquire) <= self.seen
            && self.tags.iter().all(|tag| tag.last_change() <= self.seen)
    }
}

impl Invalidations {
    pub(crate) fn new() -> Self {
        let by_name = HashMap::with_hasher(RandomState::default());
        Self {
            clock: AtomicU64::new(0),
            everything: AtomicU64::new(0),
            tags: RwLock::new(Registry { by_name, sweep_at: SWEEP_FROM }),
        }
    }

    /// To be called before the loader runs.
    pub(crate) fn hold<'a>(&self, names: impl Iterator<Item = &'a str>) -> Hold {
        let mut names = names.peekable();
        // No tags are the same no tags for all: nothing is allocated for them.
        let none = names.peek().is_none();
        let tags = if none { TagSet::default() } else { names.map(|name| self.tag(name)).collect() };
        Hold { tags, seen: self.clock.load(Ordering::Acquire) }
    }

    /// Whatever depends on one of them, and was loaded or begun to be loaded before, is dead.
    pub(crate) fn invalidate<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let now = self.next();
        let tags = self.tags.read();
        names.filter_map(|name| tags.by_name.get(name)).for_each(|tag| tag.touch(now));
    }

    /// Whatever was loaded or begun to be loaded before is dead.
    pub(crate) fn invalidate_all(&self) {
        self.everything.fetch_max(self.next(), Ordering::AcqRel);
    }

    /// Tags that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.tags.read().by_name.len()
    }

    fn next(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn tag(&self, name: &str) -> Arc<Tag> {
        if let Some(tag) = self.tags.read().by_name.get(name) {
            return Arc::clone(tag);
        }
        let mut tags = self.tags.write();
        if tags.by_name.len() >= tags.sweep_at {
            // Under the lock nobody takes hold of a tag: a count of one is the map's own.
            tags.by_name.retain(|_, tag| Arc::strong_count(tag) > 1);
            tags.sweep_at = SWEEP_FROM.max(tags.by_name.len().saturating_mul(2));
        }
        Arc::clone(tags.by_name.entry(name.into()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hold(of: &Invalidations, names: &[&str]) -> Hold {
        of.hold(names.iter().copied())
    }

    #[test]
    fn an_invalidation_ends_what_was_begun_before_it_and_nothing_else() {
        let all = Invalidations::new();
        let (a, b, both) = (hold(&all, &["a"]), hold(&all, &["b"]), hold(&all, &["a", "b"]));
        all.invalidate(["a"].into_iter());
        let current = [&a, &b, &both].map(|hold| hold.is_current(&all));
        assert_eq!(current, [false, true, false]);
        assert!(hold(&all, &["a"]).is_current(&all));
        all.invalidate_all();
        assert!(!b.is_current(&all) && hold(&all, &["b"]).is_current(&all));
    }

    #[test]
    fn names_that_nothing_depends_on_are_forgotten() {
        let all = Invalidations::new();
        let kept = hold(&all, &["kept"]);
        for n in 0..100_000 {
            drop(hold(&all, &[&n.to_string()]));
        }
        assert!(all.len() <= 2 * SWEEP_FROM, "{}", all.len());
        all.invalidate(["kept"].into_iter());
        assert!(!kept.is_current(&all));
    }

    proptest! {
        /// Against the plain definition: a list of what was invalidated, in order.
        #[test]
        fn agrees_with_a_list(steps in prop::collection::vec((any::<bool>(), 0..5_usize, 0..5_usize), 1..60)) {
            const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
            let all = Invalidations::new();
            let mut invalidated: Vec<usize> = Vec::new();
            let mut holds = Vec::new();
            for (load, x, y) in steps {
                if load {
                    holds.push((hold(&all, &[NAMES[x], NAMES[y]]), x, y, invalidated.len()));
                } else {
                    all.invalidate([NAMES[x]].into_iter());
                    invalidated.push(x);
                }
                for (hold, x, y, since) in &holds {
                    let good = !invalidated[*since..].iter().any(|tag| tag == x || tag == y);
                    prop_assert_eq!(hold.is_current(&all), good);
                }
            }
        }
    }
}
