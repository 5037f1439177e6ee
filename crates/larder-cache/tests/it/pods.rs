//! Several pods that share a tier, before one origin that changes, is changed in what it means, and crashes, against the
//! truth: whatever is served was the origin's answer at some moment since the pod's coverage.
//!
//! Everything that the design says must not matter is an operation here: values arrive in the tier late, out of order or
//! never; old ones come back; they are changed, exchanged, evicted; pods die, lose their stream, come late.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_cache::shared::{Exchange, Keeper, KeeperCounters, Offer, Record};
use larder_cache::tier::{Fetch, SealOptions, Sealer, Tier, TierKey};
use larder_cache::{Fence, FillGuard, Flight, Moment, Reader, Store, TagSet, Tags};
use parking_lot::Mutex;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{Cache, Item, LONG};

const PODS: usize = 3;
const TAGS: usize = 2;
const KEYS: usize = 3;

/// What a key's value depends on, by meaning: as views do, which can be defined anew.
const DEPENDS: [[&[usize]; KEYS]; 2] = [[&[0], &[1], &[0, 1]], [&[1], &[1], &[0]]];

fn depends(ddl: u64, key: usize) -> &'static [usize] {
    DEPENDS[usize::from(!ddl.is_multiple_of(2))][key]
}

#[derive(Debug, Clone, Copy)]
enum Op {
    // The origin.
    Commit {
        tag: usize,
    },
    /// A change of which a pod cannot say what it changed.
    Unknown {
        tag: usize,
    },
    /// A change of meaning, perhaps to an earlier one.
    Ddl {
        ddl: u64,
    },
    /// A change of meaning that leaves nothing in the log. It never comes back.
    Reload,
    /// The last so many positions are lost.
    Crash {
        lost: u64,
    },
    // The pods.
    Apply {
        pod: usize,
    },
    Compare {
        pod: usize,
    },
    Lose {
        pod: usize,
    },
    Die {
        pod: usize,
    },
    Begin {
        pod: usize,
        key: usize,
    },
    Land {
        pod: usize,
        key: usize,
    },
    /// All of a fill at once, and its way to the tier.
    Fill {
        pod: usize,
        key: usize,
    },
    Get {
        pod: usize,
        key: usize,
    },
    Turn {
        pod: usize,
    },
    /// Something more of the log, then a turn of its keeper that arrives.
    ApplyAndSay {
        pod: usize,
    },
    /// A new pod in place of this one, with all it does at first.
    Come {
        pod: usize,
    },
    // The tier.
    Deliver,
    DeliverOne(prop::sample::Index),
    Lost(prop::sample::Index),
    Replay(prop::sample::Index),
    Exchange(prop::sample::Index, prop::sample::Index),
    Tamper(prop::sample::Index),
    Evict(prop::sample::Index),
    Flush,
}

/// All of it, and what dependencies follow from.
type Meaning = (u64, u64);

/// The origin at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    ddl: u64,
    /// Changes of meaning that are in no log.
    reloads: u64,
    /// Which change made each tag what it is.
    tags: [u64; TAGS],
}

impl State {
    /// What the origin answers: any difference in what the answer depends on is a difference in the value.
    fn answer(&self, key: usize) -> u64 {
        let (meaning, _) = self.meaning();
        depends(self.ddl, key).iter().fold(meaning, |all, tag| all * 1000 + self.tags[*tag])
    }

    fn meaning(&self) -> Meaning {
        (self.reloads * 10 + self.ddl, self.ddl)
    }
}

#[derive(Debug, Clone, Copy)]
enum Logged {
    Change(usize),
    Unknown,
    Ddl,
}

#[derive(Debug)]
struct Origin {
    life: u64,
    /// What is in the log of this life, and the state after each: the first element is there from the beginning.
    log: Vec<(Option<Logged>, State)>,
    /// Every state there ever was, in the order of time.
    past: Vec<State>,
    next: u64,
}

/// The position of the first element of the log.
const START: u64 = 10;

impl Origin {
    fn new() -> Self {
        let state = State { ddl: 0, reloads: 0, tags: [1, 2] };
        Self { life: 0, log: vec![(None, state.clone())], past: vec![state], next: 3 }
    }

    fn position(&self) -> u64 {
        START + self.log.len() as u64 - 1
    }

    fn state(&self) -> &State {
        self.past.last().unwrap()
    }

    fn now(&self) -> usize {
        self.past.len() - 1
    }

    fn logged(&mut self, what: Logged, change: impl FnOnce(&mut State, u64)) {
        let mut state = self.state().clone();
        change(&mut state, self.next);
        self.next += 1;
        self.log.push((Some(what), state.clone()));
        self.past.push(state);
    }

    fn crash(&mut self, lost: u64) {
        let left = self.log.len().saturating_sub(usize::try_from(lost).unwrap()).max(1);
        self.log.truncate(left);
        self.life += 1;
        // What is in no log is not lost with it.
        let reloads = self.state().reloads;
        self.past.push(State { reloads, ..self.log.last().unwrap().1.clone() });
    }
}

type Value = (TierKey, Bytes);

/// What all pods see of the tier.
#[derive(Debug, Default)]
struct Contents {
    kept: HashMap<TierKey, Bytes>,
    /// Not arrived yet.
    coming: Vec<Value>,
    /// Everything that was ever handed over.
    seen: Vec<Value>,
}

#[derive(Debug, Clone, Default)]
struct Shelf(Arc<Mutex<Contents>>);

impl Tier for Shelf {
    fn get<'a>(&'a self, key: &'a TierKey, _large: bool) -> Fetch<'a> {
        let found = self.0.lock().kept.get(key).cloned();
        Box::pin(async move { found })
    }

    fn put(&self, key: &TierKey, value: Bytes, _ttl: Duration) {
        let mut contents = self.0.lock();
        contents.coming.push((*key, value.clone()));
        contents.seen.push((*key, value));
    }
}

/// A fill under way.
enum Fill {
    /// The tier has been asked.
    Fetched(FillGuard<Item>, Option<Record>, TagSet),
    /// The origin has answered.
    Read(FillGuard<Item>, u64, TagSet),
}

struct Pod {
    store: Cache,
    tags: Arc<Tags>,
    exchange: Exchange,
    keeper: Keeper,
    counters: Arc<KeeperCounters>,
    stream: Option<Stream>,
    /// The moment (of the origin's past) up to which it is covered.
    covered: usize,
    fills: HashMap<usize, Fill>,
}

/// A pod's stream.
#[derive(Debug, Clone)]
struct Stream {
    life: u64,
    applied: u64,
    meaning: Meaning,
    /// Something has gone by that it does not understand.
    unknown: bool,
}

impl Pod {
    fn new(shelf: &Shelf, sealer: &Arc<Sealer>) -> Self {
        let fence = Arc::new(Fence::new(LONG));
        let tags = Arc::new(Tags::default());
        let exchange = || Exchange::new(Box::new(shelf.clone()), Arc::clone(sealer));
        let counters = Arc::new(KeeperCounters::default());
        let keeper =
            Keeper::new(Arc::clone(&fence), Arc::clone(&tags), exchange(), LONG, Arc::clone(&counters));
        let store = Store::new(fence, 1 << 20, 1 << 16);
        let exchange = exchange();
        Self { store, tags, exchange, keeper, counters, stream: None, covered: 0, fills: HashMap::new() }
    }

    fn fence(&self) -> &Fence {
        self.store.fence()
    }

    /// The stream, if it is of this life; else it is lost, and begun anew.
    fn connected(&mut self, origin: &Origin) -> &mut Stream {
        if self.stream.as_ref().is_none_or(|stream| stream.life != origin.life) {
            self.lose();
            self.begin(origin, true);
        }
        self.stream.as_mut().unwrap()
    }

    fn lose(&mut self) {
        self.fence().begin_epoch(0, true);
        self.stream = None;
    }

    fn begin(&mut self, origin: &Origin, restart: bool) {
        let (floor, meaning) = (origin.position(), origin.state().meaning());
        let fence = self.store.fence();
        let epoch = if restart { self.tags.restart(fence, floor) } else { fence.begin_epoch(floor, false) };
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&meaning.0.to_be_bytes());
        fence.share(epoch, &life(origin.life), digest);
        self.stream = Some(Stream { life: origin.life, applied: floor, meaning, unknown: false });
        self.publish();
    }

    fn publish(&self) {
        let applied = self.stream.as_ref().unwrap().applied;
        self.fence().set_applied(applied);
        self.fence().set_visible(applied);
    }

    /// The next element of the log, if there is one.
    fn apply(&mut self, origin: &Origin) -> bool {
        let stream = self.connected(origin);
        let next = usize::try_from(stream.applied - START + 1).unwrap();
        let Some((what, _)) = origin.log.get(next) else { return false };
        stream.applied += 1;
        let position = stream.applied;
        match what {
            Some(Logged::Change(tag)) => self.tags.get(&tag.to_string()).touch(position),
            Some(Logged::Unknown) => stream.unknown = true,
            // Seen when the meaning is looked at.
            Some(Logged::Ddl) => stream.unknown = true,
            None => {}
        }
        self.publish();
        true
    }

    /// Everything there is, and a look at the meaning.
    fn compare(&mut self, origin: &Origin) {
        while self.apply(origin) {}
        let stream = self.connected(origin).clone();
        if stream.unknown || stream.meaning != origin.state().meaning() {
            self.begin(origin, false);
        } else {
            self.fence().set_settled(stream.applied);
        }
        self.fence().set_covered(Moment::now());
        self.covered = origin.now();
    }

    fn tag_set(&self, key: usize) -> TagSet {
        let ddl = self.stream.as_ref().map_or(0, |stream| stream.meaning.1);
        depends(ddl, key).iter().map(|tag| self.tags.get(&tag.to_string())).collect()
    }

    fn begin_fill(&mut self, key: usize) {
        if self.stream.is_none() {
            return;
        }
        let Flight::Lead(guard) = self.store.join(&[key as u8]) else { return };
        let claim = guard.claim().expect("an epoch with a stream is shared");
        let found = ready(self.exchange.fetch(claim.life(), &[key as u8], false));
        let record = match found {
            Some(Ok(record)) => Some(record),
            Some(Err(why)) => {
                guard.refused(why);
                None
            }
            None => None,
        };
        let tags = self.tag_set(key);
        self.fills.insert(key, Fill::Fetched(guard, record, tags));
    }

    fn land(&mut self, key: usize, origin: &Origin) {
        match self.fills.remove(&key) {
            None => {}
            Some(Fill::Fetched(guard, record, tags)) => {
                let epoch = guard.epoch();
                let guard = match record {
                    None => Ok(guard),
                    Some(record) => {
                        let value = item(u64::from_be_bytes(record.value[..].try_into().unwrap()));
                        let offer = Offer {
                            record: &record,
                            key: &[key as u8],
                            value,
                            tags: Arc::clone(&tags),
                            ttl: LONG,
                        };
                        match guard.adopt(offer) {
                            Ok(_) => Err(()),
                            Err((guard, _)) => Ok(guard),
                        }
                    }
                };
                if let Ok(mut guard) = guard
                    && guard.renew()
                    && guard.epoch() == epoch
                {
                    self.fills.insert(key, Fill::Read(guard, origin.state().answer(key), tags));
                }
            }
            Some(Fill::Read(guard, value, tags)) => {
                let claim = guard.claim();
                if guard.store(item(value), tags, LONG, Duration::ZERO).is_ok()
                    && let Some(claim) = claim
                {
                    let bytes = value.to_be_bytes().to_vec();
                    self.exchange.give(&claim.record(&[key as u8], bytes, LONG, Duration::ZERO), LONG);
                }
            }
        }
    }

    fn get(&self, key: usize) -> Option<u64> {
        let reader = Reader { now: self.fence().covered(), heed_marks: true, covered_past: Moment::NEVER };
        self.store.get(&[key as u8], &reader).ok().map(|entry| entry.value.value)
    }
}

const fn item(value: u64) -> Item {
    Item { value, bytes: 8 }
}

fn life(number: u64) -> Vec<u8> {
    format!("life {number}").into_bytes()
}

/// The tier here is never late.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the tier of the model does not wait"),
    }
}

struct World {
    origin: Origin,
    pods: [Pod; PODS],
    shelf: Shelf,
    sealer: Arc<Sealer>,
}

/// What happened, over all cases: a model in which nothing is ever shared proves nothing.
#[derive(Debug, Default)]
struct Tally {
    hits: u64,
    adopted: u64,
    learnt: u64,
    refused: HashMap<&'static str, u64>,
}

impl World {
    fn new() -> Self {
        let shelf = Shelf::default();
        let options =
            SealOptions { secret: None, encrypt: false, compress_above: usize::MAX, max_plain: 1 << 20 };
        let sealer = Arc::new(Sealer::new(options).unwrap());
        let pods = std::array::from_fn(|_| Pod::new(&shelf, &sealer));
        Self { origin: Origin::new(), pods, shelf, sealer }
    }

    fn apply(&mut self, op: Op, tally: &mut Tally) {
        let Self { origin, pods, shelf, sealer } = self;
        match op {
            Op::Commit { tag } => origin.logged(Logged::Change(tag), |state, id| state.tags[tag] = id),
            Op::Unknown { tag } => origin.logged(Logged::Unknown, |state, id| state.tags[tag] = id),
            Op::Ddl { ddl } => origin.logged(Logged::Ddl, |state, _| state.ddl = ddl),
            Op::Reload => {
                let state = origin.state().clone();
                origin.past.push(State { reloads: state.reloads + 1, ..state });
            }
            Op::Crash { lost } => origin.crash(lost),
            Op::Apply { pod } => drop(pods[pod].apply(origin)),
            Op::Compare { pod } => pods[pod].compare(origin),
            Op::Lose { pod } => pods[pod].lose(),
            Op::Die { pod } => {
                tally.add(&pods[pod]);
                pods[pod] = Pod::new(shelf, sealer);
            }
            Op::Begin { pod, key } => pods[pod].begin_fill(key),
            Op::Land { pod, key } => pods[pod].land(key, origin),
            Op::Fill { pod, key } => {
                pods[pod].begin_fill(key);
                pods[pod].land(key, origin);
                pods[pod].land(key, origin);
                self.shelf.0.lock().suffer(Op::Deliver);
            }
            Op::Get { pod, key } => {
                let pod = &pods[pod];
                let Some(value) = pod.get(key) else { return };
                tally.hits += 1;
                let mut since = origin.past[pod.covered..].iter();
                assert!(
                    since.any(|state| state.answer(key) == value),
                    "stale: {value}, but since its coverage the origin would have said {:?}",
                    origin.past[pod.covered..].iter().map(|state| state.answer(key)).collect::<Vec<_>>(),
                );
            }
            Op::Turn { pod } => drop(ready(pods[pod].keeper.turn(true))),
            Op::ApplyAndSay { pod } => {
                pods[pod].apply(origin);
                ready(pods[pod].keeper.turn(true));
                self.shelf.0.lock().suffer(Op::Deliver);
            }
            Op::Come { pod } => {
                tally.add(&pods[pod]);
                pods[pod] = Pod::new(shelf, sealer);
                pods[pod].compare(origin);
                ready(pods[pod].keeper.turn(true));
            }
            _ => self.shelf.0.lock().suffer(op),
        }
    }
}

impl Contents {
    fn suffer(&mut self, op: Op) {
        match op {
            Op::Deliver => self.kept.extend(self.coming.drain(..)),
            Op::DeliverOne(at) if !self.coming.is_empty() => {
                let (key, value) = self.coming.remove(at.index(self.coming.len()));
                self.kept.insert(key, value);
            }
            Op::Lost(at) if !self.coming.is_empty() => {
                self.coming.remove(at.index(self.coming.len()));
            }
            Op::Replay(at) if !self.seen.is_empty() => {
                let (key, value) = at.get(&self.seen).clone();
                self.kept.insert(key, value);
            }
            Op::Exchange(key, value) if !self.seen.is_empty() => {
                let (key, value) = (key.get(&self.seen).0, value.get(&self.seen).1.clone());
                self.kept.insert(key, value);
            }
            Op::Tamper(at) if !self.kept.is_empty() => {
                let key = *self.kept.keys().nth(at.index(self.kept.len())).unwrap();
                let value = self.kept.get_mut(&key).unwrap();
                let mut bytes = value.to_vec();
                let place = at.index(bytes.len());
                bytes[place] ^= 1;
                *value = bytes.into();
            }
            Op::Evict(at) if !self.kept.is_empty() => {
                let key = *self.kept.keys().nth(at.index(self.kept.len())).unwrap();
                self.kept.remove(&key);
            }
            Op::Flush => self.kept.clear(),
            _ => {}
        }
    }
}

impl Tally {
    fn add(&mut self, pod: &Pod) {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = pod.store.counters();
        self.adopted += counters.adopted.load(Relaxed);
        self.learnt += pod.counters.learnt.load(Relaxed);
        for (why, count) in larder_cache::shared::Refusal::ALL.iter().zip(&counters.refused) {
            *self.refused.entry(why.name()).or_default() += count.load(Relaxed);
        }
    }
}

fn op() -> impl Strategy<Value = Op> {
    let (pod, key, tag) = (0..PODS, 0..KEYS, 0..TAGS);
    let at = any::<prop::sample::Index>;
    prop_oneof![
        6 => tag.clone().prop_map(|tag| Op::Commit { tag }),
        1 => tag.prop_map(|tag| Op::Unknown { tag }),
        1 => (0..2_u64).prop_map(|ddl| Op::Ddl { ddl }),
        1 => Just(Op::Reload),
        1 => (0..4_u64).prop_map(|lost| Op::Crash { lost }),
        6 => pod.clone().prop_map(|pod| Op::Apply { pod }),
        24 => pod.clone().prop_map(|pod| Op::Compare { pod }),
        1 => pod.clone().prop_map(|pod| Op::Lose { pod }),
        1 => pod.clone().prop_map(|pod| Op::Die { pod }),
        6 => (pod.clone(), key.clone()).prop_map(|(pod, key)| Op::Begin { pod, key }),
        10 => (pod.clone(), key.clone()).prop_map(|(pod, key)| Op::Land { pod, key }),
        24 => (pod.clone(), key.clone()).prop_map(|(pod, key)| Op::Fill { pod, key }),
        24 => (pod.clone(), key).prop_map(|(pod, key)| Op::Get { pod, key }),
        6 => pod.clone().prop_map(|pod| Op::Turn { pod }),
        10 => pod.clone().prop_map(|pod| Op::ApplyAndSay { pod }),
        3 => pod.prop_map(|pod| Op::Come { pod }),
        10 => Just(Op::Deliver),
        3 => at().prop_map(Op::DeliverOne),
        1 => at().prop_map(Op::Lost),
        5 => at().prop_map(Op::Replay),
        1 => (at(), at()).prop_map(|(key, value)| Op::Exchange(key, value)),
        1 => at().prop_map(Op::Tamper),
        1 => at().prop_map(Op::Evict),
        1 => Just(Op::Flush),
    ]
}

#[test]
fn what_pods_share_is_never_stale() {
    let cases = std::env::var("LARDER_TEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let tally = Rc::new(RefCell::new(Tally::default()));
    let mut runner = TestRunner::new(config);
    let outcome = runner.run(&prop::collection::vec(op(), 1..250), |ops| {
        let mut world = World::new();
        for op in ops {
            world.apply(op, &mut tally.borrow_mut());
        }
        for pod in &world.pods {
            tally.borrow_mut().add(pod);
        }
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    let tally = tally.borrow();
    eprintln!("{tally:?}");
    let refused = |why| tally.refused.get(why).copied().unwrap_or(0);
    assert!(tally.hits > 1000 && tally.adopted > 200 && tally.learnt > 100, "{tally:?}");
    for why in ["life", "meaning", "history", "changed"] {
        // A life is part of the hash under which records are kept, so other lives are not even found.
        assert!(why == "life" || refused(why) > 10, "{why}: {tally:?}");
    }
}
