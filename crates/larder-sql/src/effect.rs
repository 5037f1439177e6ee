//! How effects add up.

use crate::{Effect, Footprint, Settings};

impl Effect {
    /// Nothing is known: anything may be different.
    pub fn unknown() -> Self {
        Self {
            writes: Footprint::Everything,
            rows: None,
            settings: Settings::Anything,
            reverts: true,
            isolation: true,
            catalog: true,
            temporary: true,
            lock: true,
        }
    }

    /// The effect of both, in either order.
    pub fn add(&mut self, other: Self) {
        self.rows = match (&self.writes, &other.writes) {
            (Footprint::Nothing, _) => other.rows,
            (_, Footprint::Nothing) => self.rows.take(),
            _ => None,
        };
        self.writes.add(other.writes);
        self.settings = self.settings.max(other.settings);
        self.reverts |= other.reverts;
        self.isolation |= other.isolation;
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

/// Settings that no answer and no meaning of a text depends on, in lower case. SET of them is common in every
/// transaction.
const HARMLESS: [&str; 10] = [
    "application_name",
    "client_connection_check_interval",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "maintenance_work_mem",
    "statement_timeout",
    "synchronous_commit",
    "transaction_timeout",
    "work_mem",
];

impl Settings {
    /// What SET of the setting of this name (in lower case) changes.
    pub(crate) fn changed_by(name: &str) -> Self {
        match name {
            _ if HARMLESS.contains(&name) => Self::Nothing,
            _ if name.contains('.') => Self::Custom,
            _ => Self::Anything,
        }
    }
}
