//! What answers depend on, and when it last changed.
//!
//! A [`Tag`] is two numbers that only grow (within one life of the change log, see [`Tags::restart`]): the position of the
//! last commit that touched it (written by the feed)
//! and the moment of the last acknowledged write that may have touched it (written by the client path). To
//! invalidate is to raise one of them; entries are never searched for.
//!
//! Tags are shared: whoever resolves the same key gets the same `Arc<Tag>`, for the life of the process. None is ever
//! dropped from the map, because an entry that still held the old object would no longer hear of changes. The map is
//! therefore as large as the number of different keys ever asked for: with one tag per relation that is the size of
//! the catalog, about 150 bytes each. Rows of a relation have tags that come and go: [`crate::Part`].
//!
//! Who shares entries with other processes ([`crate::shared`]) relies on more: that a tag which nobody has asked for yet
//! has not changed since the beginning of this process's history. So its feed makes the tag of whatever changes
//! ([`Tags::get`], not [`Tags::find`]), whether an answer depends on it by now or not.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::parts::Parts;
use crate::sync::{AtomicU64, Ordering};
use crate::{Fence, Moment};

/// What an answer depends on.
#[derive(Debug, Default)]
pub struct Tag {
    last_change: AtomicU64,
    marked: AtomicU64,
    pub(crate) parts: Parts,
}

impl Tag {
    /// A commit at `position` touched it, and any part of it. Positions may come in any order; the highest stays.
    pub fn touch(&self, position: u64) {
        self.touch_whole(position);
        self.parts().iter().for_each(|part| part.all().touch_whole(position));
    }

    /// A commit at `position` touched it. What of its parts, the caller says next, for each of those that there are *then*:
    /// see [`crate::Part`].
    pub fn touch_whole(&self, position: u64) {
        self.last_change.fetch_max(position, Ordering::Release);
    }

    /// The position of the last commit that touched it; 0 if none has.
    pub fn last_change(&self) -> u64 {
        self.last_change.load(Ordering::Acquire)
    }

    /// A write that may have touched it, or any part of it, was acknowledged at `now`. To be called before the client is
    /// told.
    pub fn mark(&self, now: Moment) {
        self.mark_whole(now);
        self.parts().iter().for_each(|part| part.all().mark_whole(now));
    }

    /// A write that may have touched it was acknowledged at `now`. What of its parts, the caller says next, as with
    /// [`Tag::touch_whole`].
    pub fn mark_whole(&self, now: Moment) {
        self.marked.fetch_max(now.0, Ordering::Release);
    }

    /// The moment of the last mark.
    pub fn marked(&self) -> Moment {
        Moment(self.marked.load(Ordering::Acquire))
    }

    /// See [`Tags::restart`].
    pub(crate) fn take_back(&self) {
        self.last_change.store(0, Ordering::Release);
    }
}

/// The tags of one answer.
pub type TagSet = Arc<[Arc<Tag>]>;

/// All tags, by key.
#[derive(Debug, Default)]
pub struct Tags {
    by_key: RwLock<HashMap<Box<str>, Arc<Tag>, foldhash::quality::RandomState>>,
}

impl Tags {
    /// The tag of that key, made if need be.
    pub fn get(&self, key: &str) -> Arc<Tag> {
        if let Some(tag) = self.by_key.read().get(key) {
            return Arc::clone(tag);
        }
        Arc::clone(self.by_key.write().entry(key.into()).or_default())
    }

    /// The tag of that key, if anybody has asked for it: a change of something that no answer depends on needs no
    /// memory, unless entries are shared with other processes.
    pub fn find(&self, key: &str) -> Option<Arc<Tag>> {
        self.by_key.read().get(key).map(Arc::clone)
    }

    /// Begins an epoch in which positions start again, perhaps lower ([`Fence::begin_epoch`] with `restart`), and takes
    /// every tag's last change back to 0; otherwise what once changed at a high position could not be cached until the
    /// new life had come as far. To be called by the feed, before it folds in anything of the new life.
    ///
    /// A reader that sees a last change taken back sees the new epoch, too, as it loads that later; and no fill of the
    /// new epoch has a fill point before the feed has set `visible`, which is after this.
    pub fn restart(&self, fence: &Fence, floor: u64) -> u64 {
        let by_key = self.by_key.write();
        let epoch = fence.begin_epoch(floor, true);
        by_key.values().for_each(|tag| tag.restart());
        epoch
    }

    /// Keys and last changes of all that changed after `position`.
    pub(crate) fn changed_since(&self, position: u64) -> Vec<(Box<str>, u64)> {
        let by_key = self.by_key.read();
        let changed = by_key.iter().filter_map(|(key, tag)| {
            let last = tag.last_change();
            (last > position).then(|| (key.clone(), last))
        });
        changed.collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_one_tag() {
        let tags = Tags::default();
        let a = tags.get("a");
        assert!(Arc::ptr_eq(&a, &tags.get("a")));
        assert!(!Arc::ptr_eq(&a, &tags.get("b")));
        assert_eq!(tags.len(), 2);
    }

    #[test]
    fn what_never_had_a_tag_is_not_given_one_by_looking() {
        let tags = Tags::default();
        assert!(tags.find("a").is_none() && tags.is_empty());
        let a = tags.get("a");
        assert!(Arc::ptr_eq(&a, &tags.find("a").unwrap()));
    }

    #[test]
    fn changes_and_marks_never_go_back() {
        let tag = Tag::default();
        tag.touch(7);
        tag.touch(3);
        tag.mark(Moment(70));
        tag.mark(Moment(30));
        assert_eq!((tag.last_change(), tag.marked()), (7, Moment(70)));
    }

    #[test]
    fn threads_that_race_for_a_key_get_the_same_tag() {
        let tags = Tags::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let tags = &tags;
                scope.spawn(move || (0..500).for_each(|n| tags.get(&n.to_string()).touch(n * 4 + thread)));
            }
        });
        assert_eq!(tags.len(), 500);
        for n in 0..500 {
            assert_eq!(tags.get(&n.to_string()).last_change(), n * 4 + 3);
        }
    }
}
