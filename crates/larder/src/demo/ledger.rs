//! What every later read must at least see.
//!
//! A writer publishes the new value of a row's counter here when the promise for it begins: for a write through
//! Larder when it was acknowledged (levels strict and linearizable), for a write around Larder `max_lag` after
//! it was acknowledged (linearizable: at once). A reader notes the published values *before* it asks; an answer below
//! them is a violation. Values only grow, so each is one atomic maximum.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::shop::{Ask, CUSTOMERS, HOT, Target, UNCOMMITTED, listed_orders};

/// Enough examples to understand a failure.
const KEPT_EXAMPLES: usize = 5;

/// Which road a write took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Road {
    ThroughLarder,
    AroundLarder,
}

/// Both counters of a row, or of a sum over rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Versions {
    pub(super) version: i64,
    pub(super) side_version: i64,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} and side_version {}", self.version, self.side_version)
    }
}

#[derive(Debug, Default)]
struct Floor {
    version: AtomicI64,
    side_version: AtomicI64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Ledger {
    products: HashMap<i32, Floor>,
    orders: HashMap<i32, Floor>,
    customers: HashMap<i32, Floor>,
    all_orders: Floor,
    /// Answers checked.
    pub(super) checks: AtomicU64,
    /// Answers that were older than they may be, or included what was never committed.
    pub(super) violations: AtomicU64,
    examples: Mutex<Vec<String>>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        let floors = |ids: &mut dyn Iterator<Item = i32>| ids.map(|id| (id, Floor::default())).collect();
        Self {
            products: floors(&mut (1..=HOT)),
            orders: floors(&mut (1..=HOT).flat_map(listed_orders)),
            customers: floors(&mut (1..=HOT)),
            all_orders: Floor::default(),
            checks: AtomicU64::new(0),
            violations: AtomicU64::new(0),
            examples: Mutex::default(),
        }
    }

    /// From now on every read that starts must see `value` in that row.
    pub(super) fn publish(&self, target: Target, road: Road, value: i64) {
        let floor = match target {
            Target::Product(id) => self.products.get(&id),
            Target::Order(id) => {
                // Each write increments one order's counter, so the sum over all orders counts the writes.
                self.all_orders.of(road).fetch_add(1, Ordering::SeqCst);
                self.orders.get(&id)
            }
            Target::Customer(id) => self.customers.get(&id),
        };
        if let Some(floor) = floor {
            floor.of(road).fetch_max(value, Ordering::SeqCst);
        }
    }

    /// What an answer to `ask` must at least show, row by row, if it is asked now.
    pub(super) fn floors(&self, ask: Ask) -> Vec<Versions> {
        let one = |floor: Option<&Floor>| floor.map(Floor::now).unwrap_or_default();
        match ask {
            Ask::Point(id) => vec![one(self.products.get(&id))],
            Ask::Orm(id) => vec![one(self.customers.get(&id))],
            Ask::List(id) => listed_orders(id).iter().map(|order| one(self.orders.get(order))).collect(),
            Ask::Dashboard => vec![self.all_orders.now()],
        }
    }

    /// Compares an answer with what was required when it was asked for.
    pub(super) fn check(&self, ask: Ask, floors: &[Versions], seen: &[Versions], served: &str) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        let wrong = floors.iter().zip(seen).find(|(floor, seen)| {
            seen.version < floor.version
                || seen.side_version < floor.side_version
                || seen.version.max(seen.side_version) >= UNCOMMITTED
        });
        let what = match wrong {
            Some((floor, seen)) => format!("must show at least {floor}, showed {seen}"),
            None if floors.len() != seen.len() => {
                format!("must have {} rows, had {}", floors.len(), seen.len())
            }
            None => return,
        };
        self.violations.fetch_add(1, Ordering::Relaxed);
        let mut examples = self.examples.lock();
        if examples.len() < KEPT_EXAMPLES {
            examples.push(format!("{ask:?} {what} ({served})"));
        }
    }

    /// The first violations, in words.
    pub(super) fn examples(&self) -> Vec<String> {
        self.examples.lock().clone()
    }
}

impl Floor {
    fn of(&self, road: Road) -> &AtomicI64 {
        match road {
            Road::ThroughLarder => &self.version,
            Road::AroundLarder => &self.side_version,
        }
    }

    fn now(&self) -> Versions {
        Versions {
            version: self.version.load(Ordering::SeqCst),
            side_version: self.side_version.load(Ordering::SeqCst),
        }
    }
}

/// Which row of the answer shows the target.
pub(super) fn position_of(target: Target) -> usize {
    match target {
        Target::Order(id) => {
            let customer = 1 + (id - 1) % CUSTOMERS;
            listed_orders(customer).iter().position(|order| *order == id).unwrap_or_default()
        }
        Target::Product(_) | Target::Customer(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(version: i64, side_version: i64) -> Versions {
        Versions { version, side_version }
    }

    #[test]
    fn an_answer_older_than_what_was_published_is_a_violation() {
        let ledger = Ledger::new();
        ledger.publish(Target::Product(3), Road::ThroughLarder, 2);
        let floors = ledger.floors(Ask::Point(3));
        ledger.check(Ask::Point(3), &floors, &[versions(2, 0)], "hit");
        assert_eq!(ledger.violations.load(Ordering::Relaxed), 0);
        ledger.check(Ask::Point(3), &floors, &[versions(1, 9)], "hit");
        assert_eq!(ledger.violations.load(Ordering::Relaxed), 1);
        ledger.check(Ask::Point(3), &floors, &[], "hit");
        ledger.check(Ask::Point(3), &floors, &[versions(2 + UNCOMMITTED, 0)], "hit");
        assert_eq!(ledger.violations.load(Ordering::Relaxed), 3);
        assert_eq!(ledger.checks.load(Ordering::Relaxed), 4);
        assert_eq!(ledger.examples().len(), 3);
    }

    #[test]
    fn a_write_to_an_order_is_required_of_the_list_and_of_the_sum() {
        let ledger = Ledger::new();
        let order = listed_orders(7)[4];
        ledger.publish(Target::Order(order), Road::AroundLarder, 1);
        ledger.publish(Target::Order(order), Road::AroundLarder, 2);
        assert_eq!(ledger.floors(Ask::Dashboard), [versions(0, 2)]);
        let list = ledger.floors(Target::Order(order).shown_by());
        assert_eq!(list[position_of(Target::Order(order))], versions(0, 2));
        assert_eq!(list.iter().filter(|floor| **floor != Versions::default()).count(), 1);
    }
}
