//! How effects add up.

use crate::{Effect, Footprint};

impl Effect {
    /// Nothing is known: anything may be different.
    pub fn unknown() -> Self {
        Self { writes: Footprint::Everything, settings: true, catalog: true, temporary: true, lock: true }
    }

    /// The effect of both, in either order.
    pub fn add(&mut self, other: Self) {
        self.writes.add(other.writes);
        self.settings |= other.settings;
        self.catalog |= other.catalog;
        self.temporary |= other.temporary;
        self.lock |= other.lock;
    }
}

impl Footprint {
    /// The rows of both; relations stay sorted and without repetitions.
    pub fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Nothing) | (Self::Everything, _) => {}
            (mine, Self::Everything) => *mine = Self::Everything,
            (Self::Relations(mine), Self::Relations(theirs)) => {
                mine.extend(theirs);
                mine.sort_unstable();
                mine.dedup();
            }
            (mine @ Self::Nothing, Self::Relations(mut theirs)) => {
                theirs.sort_unstable();
                theirs.dedup();
                *mine = Self::Relations(theirs);
            }
        }
    }
}
