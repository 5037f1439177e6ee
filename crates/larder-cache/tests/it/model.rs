//! The store against a naive model, over random operations of all parties.
//!
//! The model keeps a list of everything that ever happened and, at each lookup, reads it from the beginning: no
//! maxima, no epochs, no positions carried along. Store and model must agree on every outcome, the reasons included.
//!
//! Time is counted in steps of 100 s, so that what the store reads from the real clock (all within the first step)
//! cannot blur the comparison.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Discard, Fence, FillGuard, Flight, Miss, Moment, Reader, Store, Tag, TagSet, Tags};
use proptest::prelude::*;

use crate::support::{Cache, Item, value};

const STEP: Duration = Duration::from_secs(100);
/// In steps.
const MAX_LAG: u64 = 3;
const MAX_VALUE: usize = 1000;
const TAGS: usize = 2;
const KEYS: usize = 3;

/// Key 0 depends on nothing but the epoch, key 1 on tag 0, key 2 on both.
const DEPENDS: [&[usize]; KEYS] = [&[], &[0], &[0, 1]];

#[derive(Debug, Clone, Copy)]
enum Op {
    // The feed.
    Touch { tag: usize, position: u64 },
    Visible { position: u64 },
    Covered { step: u64 },
    Epoch { floor: u64 },
    Restart { floor: u64 },
    TakeReview,
    // The client path.
    Mark { tag: usize, step: u64 },
    MarkAll { step: u64 },
    Review,
    Join { key: usize },
    Land { key: usize, large: bool, ttl: u64 },
    GiveUp { key: usize },
    TooLarge { key: usize },
    Get { key: usize, step: u64, heed_marks: bool, covered_past: u64 },
    Purge,
}

/// What has happened, in order.
#[derive(Debug, Clone, Copy)]
enum Event {
    Touch {
        tag: usize,
        position: u64,
    },
    Visible(u64),
    Covered(u64),
    Epoch {
        floor: u64,
        restart: bool,
    },
    /// `None`: everything. In half steps, as what the store marks by its own clock lies after step 0.
    Mark {
        tag: Option<usize>,
        at: u64,
    },
    ReviewWanted,
    ReviewTaken,
}

#[derive(Debug, Clone, Copy)]
struct Fill {
    /// How many events had happened when it began.
    began: usize,
    as_of: u64,
}

#[derive(Debug, Clone, Copy)]
enum Held {
    Entry { fill: Fill, value: u64, ttl: u64 },
    TooLarge,
}

#[derive(Debug, Default)]
struct Model {
    past: Vec<Event>,
    held: HashMap<usize, Held>,
    fills: HashMap<usize, Fill>,
}

impl Model {
    /// The events of the current life: a restart takes back what was known of positions and coverage.
    fn life(&self) -> &[Event] {
        let start = self.past.iter().rposition(|event| matches!(event, Event::Epoch { restart: true, .. }));
        &self.past[start.unwrap_or(0)..]
    }

    fn fill_point(&self) -> Option<Fill> {
        let visible =
            |event: &Event| if let Event::Visible(position) = event { Some(*position) } else { None };
        let floor = |event: &Event| if let Event::Epoch { floor, .. } = event { Some(*floor) } else { None };
        let as_of = self.life().iter().filter_map(visible).max().unwrap_or(0);
        let floor = self.past.iter().rev().find_map(floor).unwrap_or(0);
        (as_of > 0 && as_of >= floor).then_some(Fill { began: self.past.len(), as_of })
    }

    /// The last step covered; a sample counts unless a review was wanted then.
    fn covered(&self) -> Option<u64> {
        let (mut covered, mut wanted) = (None, false);
        let life_starts = self.past.len() - self.life().len();
        for (n, event) in self.past.iter().enumerate() {
            match event {
                Event::ReviewWanted => wanted = true,
                Event::ReviewTaken => wanted = false,
                Event::Covered(step) if !wanted && n >= life_starts => covered = covered.max(Some(*step)),
                _ => {}
            }
        }
        covered
    }

    fn changed(&self, key: usize, fill: Fill) -> Result<(), Discard> {
        let later = |event: &Event| matches!(event, Event::Touch { tag, position } if DEPENDS[key].contains(tag) && *position > fill.as_of);
        if self.life().iter().any(later) {
            return Err(Discard::Changed);
        }
        let epoch_ended = self.past[fill.began..].iter().any(|event| matches!(event, Event::Epoch { .. }));
        if epoch_ended { Err(Discard::Epoch) } else { Ok(()) }
    }

    fn marked_after(&self, key: usize, step: u64) -> bool {
        self.past.iter().any(|event| {
            matches!(event, Event::Mark { tag, at } if tag.is_none_or(|tag| DEPENDS[key].contains(&tag)) && *at > step * 2)
        })
    }

    fn get(&mut self, key: usize, now: u64, heed_marks: bool, covered_past: u64) -> Result<u64, Miss> {
        let (fill, value, ttl) = match self.held.get(&key).ok_or(Miss::Absent)? {
            Held::Entry { fill, value, ttl } => (*fill, *value, *ttl),
            Held::TooLarge if now == 0 => return Err(Miss::TooLarge),
            Held::TooLarge => {
                self.held.remove(&key);
                return Err(Miss::Expired);
            }
        };
        // Stored early in step 0, for `ttl` and a half.
        if now > ttl {
            self.held.remove(&key);
            return Err(Miss::Expired);
        }
        if self.changed(key, fill).is_err() {
            self.held.remove(&key);
            return Err(Miss::Invalid);
        }
        let covered =
            self.covered().filter(|covered| now.saturating_sub(*covered) <= MAX_LAG).ok_or(Miss::NoLease)?;
        if covered_past > covered || (heed_marks && self.marked_after(key, covered)) {
            return Err(Miss::WriteInFlight);
        }
        Ok(value)
    }
}

/// The real thing, driven in step with the model.
struct Real {
    start: Moment,
    store: Cache,
    all: Tags,
    tags: [Arc<Tag>; TAGS],
    guards: HashMap<usize, FillGuard<Item>>,
    next_value: u64,
}

impl Real {
    fn new() -> Self {
        let all = Tags::default();
        let tags = [all.get("0"), all.get("1")];
        let fence = Arc::new(Fence::new(STEP * u32::try_from(MAX_LAG).unwrap()));
        let store = Store::new(fence, 1 << 20, MAX_VALUE);
        Self { start: Moment::now(), store, all, tags, guards: HashMap::new(), next_value: 0 }
    }

    fn at(&self, step: u64) -> Moment {
        self.start.after(STEP * u32::try_from(step).unwrap())
    }

    fn tag_set(&self, key: usize) -> TagSet {
        DEPENDS[key].iter().map(|tag| Arc::clone(&self.tags[*tag])).collect()
    }
}

fn apply(real: &mut Real, model: &mut Model, op: Op) {
    match op {
        Op::Join { .. } | Op::Land { .. } | Op::GiveUp { .. } | Op::TooLarge { .. } => fly(real, model, op),
        Op::Get { key, step, heed_marks, covered_past } => {
            // Before the first step nothing is owed.
            let moment = if covered_past == 0 { Moment::NEVER } else { real.at(covered_past) };
            let reader = Reader { now: real.at(step), heed_marks, covered_past: moment };
            let expected = model.get(key, step, heed_marks, if covered_past == 0 { 0 } else { covered_past });
            assert_eq!(value(real.store.get(&[key as u8], &reader)), expected, "{op:?}");
        }
        Op::Purge => {
            real.store.purge_all();
            model.held.clear();
        }
        _ => happen(real, model, op),
    }
    assert_eq!(real.store.entries(), model.held.len(), "after {op:?}");
}

/// What the feed and the writers do.
fn happen(real: &mut Real, model: &mut Model, op: Op) {
    let fence = real.store.fence();
    match op {
        Op::Touch { tag, position } => {
            real.tags[tag].touch(position);
            model.past.push(Event::Touch { tag, position });
        }
        Op::Visible { position } => {
            fence.set_visible(position);
            model.past.push(Event::Visible(position));
        }
        Op::Covered { step } => {
            fence.set_covered(real.at(step));
            model.past.push(Event::Covered(step));
        }
        Op::Epoch { floor } => {
            fence.begin_epoch(floor, false);
            model.past.push(Event::Epoch { floor, restart: false });
        }
        Op::Restart { floor } => {
            real.all.restart(fence, floor);
            model.past.push(Event::Epoch { floor, restart: true });
        }
        Op::Mark { tag, step } => {
            real.tags[tag].mark(real.at(step));
            model.past.push(Event::Mark { tag: Some(tag), at: step * 2 });
        }
        Op::MarkAll { step } => {
            fence.mark_all(real.at(step));
            model.past.push(Event::Mark { tag: None, at: step * 2 });
        }
        Op::Review => {
            fence.request_review();
            model.past.push(Event::ReviewWanted);
            model.past.push(Event::Mark { tag: None, at: 1 });
        }
        Op::TakeReview => {
            fence.take_review_request();
            model.past.push(Event::ReviewTaken);
        }
        other => unreachable!("{other:?}"),
    }
}

/// What those who fetch do.
fn fly(real: &mut Real, model: &mut Model, op: Op) {
    match op {
        Op::Join { key } => match (real.store.join(&[key as u8]), model.fill_point()) {
            (Flight::Alone, None) => {}
            (Flight::Alone, Some(_)) => assert!(matches!(model.held.get(&key), Some(Held::TooLarge))),
            (Flight::Follow(_), Some(_)) => assert!(model.fills.contains_key(&key)),
            (Flight::Lead(guard), Some(fill)) => {
                assert!(
                    !model.fills.contains_key(&key) && !matches!(model.held.get(&key), Some(Held::TooLarge))
                );
                assert_eq!(guard.as_of(), fill.as_of);
                model.fills.insert(key, fill);
                real.guards.insert(key, guard);
            }
            (other, None) => panic!("{other:?} while positions are not trusted"),
        },
        Op::Land { key, large, ttl } => {
            let Some(guard) = real.guards.remove(&key) else { return };
            let fill = model.fills.remove(&key).unwrap();
            real.next_value += 1;
            let item = Item { value: real.next_value, bytes: MAX_VALUE + usize::from(large) };
            let ttl_and_a_half = STEP * u32::try_from(ttl).unwrap() + STEP / 2;
            let stored = guard.store(item, real.tag_set(key), ttl_and_a_half, Duration::ZERO);
            let expected = if large { Err(Discard::TooLarge) } else { model.changed(key, fill) };
            assert_eq!(stored, expected, "{op:?}");
            match expected {
                Ok(()) => model.held.insert(key, Held::Entry { fill, value: real.next_value, ttl }),
                Err(Discard::TooLarge) => model.held.insert(key, Held::TooLarge),
                Err(_) => None,
            };
        }
        Op::GiveUp { key } => {
            real.guards.remove(&key);
            model.fills.remove(&key);
        }
        Op::TooLarge { key } => {
            let Some(guard) = real.guards.remove(&key) else { return };
            guard.too_large();
            model.fills.remove(&key);
            model.held.insert(key, Held::TooLarge);
        }
        other => unreachable!("{other:?}"),
    }
}

fn op() -> impl Strategy<Value = Op> {
    let (tag, key, position, step) = (0..TAGS, 0..KEYS, 1..6_u64, 0..6_u64);
    prop_oneof![
        3 => (tag.clone(), position.clone()).prop_map(|(tag, position)| Op::Touch { tag, position }),
        4 => position.clone().prop_map(|position| Op::Visible { position }),
        6 => step.clone().prop_map(|step| Op::Covered { step }),
        1 => position.clone().prop_map(|floor| Op::Epoch { floor }),
        1 => position.prop_map(|floor| Op::Restart { floor }),
        1 => (tag, step.clone()).prop_map(|(tag, step)| Op::Mark { tag, step }),
        1 => step.clone().prop_map(|step| Op::MarkAll { step }),
        1 => Just(Op::Review),
        2 => Just(Op::TakeReview),
        10 => key.clone().prop_map(|key| Op::Join { key }),
        10 => (key.clone(), prop::bool::weighted(0.1), 0..6_u64)
            .prop_map(|(key, large, ttl)| Op::Land { key, large, ttl }),
        1 => key.clone().prop_map(|key| Op::GiveUp { key }),
        1 => key.clone().prop_map(|key| Op::TooLarge { key }),
        12 => (key, step, any::<bool>(), prop_oneof![3 => Just(0), 1 => 1..6_u64])
            .prop_map(|(key, step, heed_marks, covered_past)| Op::Get { key, step, heed_marks, covered_past }),
        1 => Just(Op::Purge),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_answers_as_the_naive_model_does(ops in prop::collection::vec(op(), 1..80)) {
        let (mut real, mut model) = (Real::new(), Model::default());
        for op in ops {
            apply(&mut real, &mut model, op);
        }
    }
}
