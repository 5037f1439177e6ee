//! Statistics per statement, whatever its values: how it is answered, what it costs the origin, what memory saves.
//!
//! Each worker has a table of its own. A plan holds the counters of its statement, so counting is a few stores of the
//! worker that owns them; the table is locked when a plan is made and when somebody looks.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder_cache::{Miss, Moment};
use larder_core::Bypass;
use larder_sql::{Digest, Fingerprint};
use parking_lot::Mutex;

use crate::metrics::{Outcome, add};

/// Statements told apart per worker. When there are more, the half that mattered least is forgotten.
const MAX_STATEMENTS: usize = 2_000;

/// One statement on one worker.
#[derive(Debug)]
pub(crate) struct QueryCounters {
    digest: Digest,
    /// OIDs of the relations that its answer depends on; empty if it is not cacheable.
    relations: Box<[u32]>,
    hits: AtomicU64,
    coalesced: AtomicU64,
    misses: AtomicU64,
    bypassed: AtomicU64,
    /// Misses for a change of what the answer depends on.
    invalidated: AtomicU64,
    /// Position in [`Bypass::ALL`] of the last reason, and one more; 0: none.
    reason: AtomicU64,
    origin_nanoseconds: AtomicU64,
    saved_nanoseconds: AtomicU64,
    /// Bytes of the answers given from memory.
    bytes: AtomicU64,
    /// [`Moment`] of the last answer.
    last: AtomicU64,
    /// What an answer worth keeping costs the origin, on average, the latest counting most; 0: not known yet.
    cost: AtomicU64,
    /// Bytes of the last one.
    size: AtomicU64,
    /// Answers in memory that were compared with the origin's, and those of them that were wrong.
    checks: AtomicU64,
    mismatches: AtomicU64,
}

/// After an answer of so many bytes another such is expected.
const LARGE: u64 = 64 * 1024;

impl QueryCounters {
    fn new(digest: Digest, relations: &[u32]) -> Self {
        let zero = AtomicU64::default;
        Self {
            digest,
            relations: relations.into(),
            hits: zero(),
            coalesced: zero(),
            misses: zero(),
            bypassed: zero(),
            invalidated: zero(),
            reason: zero(),
            origin_nanoseconds: zero(),
            saved_nanoseconds: zero(),
            bytes: zero(),
            last: zero(),
            cost: zero(),
            size: zero(),
            checks: zero(),
            mismatches: zero(),
        }
    }

    /// Which statement it is.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.digest.fingerprint
    }

    /// What is in memory was compared with the origin's answer.
    pub(crate) fn checked(&self) {
        add(&self.checks, 1);
    }

    /// It differed, and no change explains that.
    pub(crate) fn mismatched(&self) {
        add(&self.mismatches, 1);
    }

    /// An answer worth keeping has come, from the origin or from another process.
    pub(crate) fn learn(&self, cost: Duration, bytes: usize) {
        let (known, cost) = (self.cost.load(Ordering::Relaxed), nanoseconds(cost).max(1));
        let mean = if known == 0 { cost } else { known / 4 * 3 + cost / 4 };
        self.cost.store(mean.max(1), Ordering::Relaxed);
        self.size.store(bytes as u64, Ordering::Relaxed);
    }

    /// Whether an answer costs the origin at least that much, as far as is known; the first one may.
    pub(crate) fn may_cost(&self, least: Duration) -> bool {
        let known = self.cost.load(Ordering::Relaxed);
        known == 0 || known >= nanoseconds(least)
    }

    /// Whether the next answer is expected to be a large one.
    pub(crate) fn is_large(&self) -> bool {
        self.size.load(Ordering::Relaxed) >= LARGE
    }

    /// An answer of `bytes` came from memory, which would have cost the origin `cost`.
    pub(crate) fn hit(&self, now: Moment, coalesced: bool, cost: Duration, bytes: usize) {
        add(if coalesced { &self.coalesced } else { &self.hits }, 1);
        add(&self.saved_nanoseconds, nanoseconds(cost));
        add(&self.bytes, bytes as u64);
        self.last.store(now.0, Ordering::Relaxed);
    }

    /// The origin has answered.
    pub(crate) fn answered(&self, outcome: Outcome, elapsed: Duration) {
        match outcome {
            Outcome::Hit { .. } | Outcome::Coalesced { .. } | Outcome::Shared { .. } => return,
            Outcome::Miss(why) => {
                add(&self.misses, 1);
                add(&self.invalidated, u64::from(why == Miss::Invalid));
            }
            Outcome::Bypass(why) => {
                add(&self.bypassed, 1);
                let position = Bypass::ALL.iter().position(|known| *known == why);
                self.reason.store(position.map_or(0, |at| at as u64 + 1), Ordering::Relaxed);
            }
        }
        add(&self.origin_nanoseconds, nanoseconds(elapsed));
        self.last.store(Moment::now().0, Ordering::Relaxed);
    }

    fn weight(&self) -> u64 {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        of(&self.origin_nanoseconds).saturating_add(of(&self.saved_nanoseconds))
    }
}

/// The statements of one worker.
#[derive(Debug, Default)]
pub(crate) struct Queries {
    known: Mutex<HashMap<Fingerprint, Arc<QueryCounters>>>,
}

impl Queries {
    /// The counters of a statement, and whether others were forgotten to make room for it: plans that hold those
    /// should be made again.
    pub(crate) fn of(&self, digest: Digest, relations: &[u32]) -> (Arc<QueryCounters>, bool) {
        let mut known = self.known.lock();
        if let Some(counters) = known.get(&digest.fingerprint) {
            return (Arc::clone(counters), false);
        }
        let full = known.len() >= MAX_STATEMENTS;
        if full {
            let mut all: Vec<_> = known.drain().collect();
            all.sort_unstable_by_key(|(_, counters)| std::cmp::Reverse(counters.weight()));
            all.truncate(MAX_STATEMENTS / 2);
            known.extend(all);
        }
        let fingerprint = digest.fingerprint;
        let counters = Arc::new(QueryCounters::new(digest, relations));
        known.insert(fingerprint, Arc::clone(&counters));
        (counters, full)
    }

    fn snapshot(&self) -> Vec<Arc<QueryCounters>> {
        self.known.lock().values().map(Arc::clone).collect()
    }
}

/// What is known of one statement, since the start or since it was last forgotten for want of room.
#[derive(Debug, Clone)]
pub struct QuerySnapshot {
    /// Its identity, and its text without values.
    pub digest: Digest,
    /// OIDs of the relations that its answer depends on.
    pub relations: Vec<u32>,
    /// Answered from memory.
    pub hits: u64,
    /// Answered from memory after waiting for another session's identical query.
    pub coalesced: u64,
    /// Answered by the origin; the answer may be kept.
    pub misses: u64,
    /// Answered by the origin, and not kept.
    pub bypassed: u64,
    /// Of the misses: a change had ended the answer that was kept.
    pub invalidated: u64,
    /// Why it was last not kept.
    pub reason: Option<Bypass>,
    /// Time in which clients waited for the origin.
    pub origin_time: Duration,
    /// What the answers from memory would have cost the origin.
    pub saved: Duration,
    /// Bytes of the answers given from memory.
    pub bytes: u64,
    /// How long ago it was last answered.
    pub last_served: Duration,
    /// Answers in memory that were compared with the origin's: all that mode = "shadow" found, else a sample.
    pub checks: u64,
    /// Those that differed although nothing had changed.
    pub mismatches: u64,
}

impl QuerySnapshot {
    /// Times that it was asked.
    pub fn calls(&self) -> u64 {
        self.hits + self.coalesced + self.misses + self.bypassed
    }

    fn take_in(&mut self, counters: &QueryCounters, now: Moment) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let last_served = now.since(Moment(of(&counters.last)));
        if last_served < self.last_served {
            self.last_served = last_served;
            let at = usize::try_from(of(&counters.reason)).ok().and_then(|at| at.checked_sub(1));
            self.reason = at.and_then(|at| Bypass::ALL.get(at).copied()).or(self.reason);
        }
        self.hits += of(&counters.hits);
        self.coalesced += of(&counters.coalesced);
        self.misses += of(&counters.misses);
        self.bypassed += of(&counters.bypassed);
        self.invalidated += of(&counters.invalidated);
        self.origin_time += Duration::from_nanos(of(&counters.origin_nanoseconds));
        self.saved += Duration::from_nanos(of(&counters.saved_nanoseconds));
        self.bytes += of(&counters.bytes);
        self.checks += of(&counters.checks);
        self.mismatches += of(&counters.mismatches);
        for relation in &counters.relations {
            if !self.relations.contains(relation) {
                self.relations.push(*relation);
            }
        }
    }
}

/// All workers' statements, added up; those first that cost or saved most.
pub(crate) fn add_up<'a>(workers: impl Iterator<Item = &'a Queries>) -> Vec<QuerySnapshot> {
    let now = Moment::now();
    let mut sums: HashMap<Fingerprint, QuerySnapshot> = HashMap::new();
    for counters in workers.flat_map(Queries::snapshot) {
        let empty = || QuerySnapshot {
            digest: counters.digest.clone(),
            relations: Vec::new(),
            hits: 0,
            coalesced: 0,
            misses: 0,
            bypassed: 0,
            invalidated: 0,
            reason: None,
            origin_time: Duration::ZERO,
            saved: Duration::ZERO,
            bytes: 0,
            last_served: Duration::MAX,
            checks: 0,
            mismatches: 0,
        };
        sums.entry(counters.digest.fingerprint).or_insert_with(empty).take_in(&counters, now);
    }
    // A plan may be made for a statement that is then not executed.
    let mut sums: Vec<_> = sums.into_values().filter(|sum| sum.calls() > 0).collect();
    sums.sort_by_key(|sum| std::cmp::Reverse(sum.saved + sum.origin_time));
    sums
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up_and_the_costliest_comes_first() {
        let workers = [Queries::default(), Queries::default()];
        for (worker, cost) in workers.iter().zip([2, 3]) {
            let (cheap, _) = worker.of(larder_sql::digest("select 1"), &[]);
            cheap.answered(Outcome::Bypass(Bypass::NoLease), Duration::from_millis(1));
            let (dear, _) = worker.of(larder_sql::digest("select a from t where b = 5"), &[7]);
            dear.answered(Outcome::Miss(Miss::Invalid), Duration::from_millis(10));
            let (same, _) = worker.of(larder_sql::digest("select a from t where b=6"), &[7]);
            same.hit(Moment::now(), false, Duration::from_millis(cost), 100);
        }
        let [dear, cheap] = &add_up(workers.iter())[..] else { panic!("two statements") };
        assert_eq!((dear.calls(), dear.hits, dear.misses, dear.invalidated, dear.bytes), (4, 2, 2, 2, 200));
        assert_eq!((dear.origin_time.as_millis(), dear.saved.as_millis()), (20, 5));
        assert_eq!((dear.relations.as_slice(), dear.reason), (&[7][..], None));
        assert_eq!((cheap.bypassed, cheap.reason), (2, Some(Bypass::NoLease)));
    }

    #[test]
    fn an_answer_of_unknown_cost_may_be_worth_anything() {
        let least = Duration::from_millis(1);
        let (query, _) = Queries::default().of(larder_sql::digest("select a from t"), &[7]);
        assert!(query.may_cost(least) && !query.is_large());
        query.learn(Duration::from_micros(200), 10);
        assert!(!query.may_cost(least) && query.may_cost(Duration::ZERO));
        query.learn(Duration::from_secs(1), 1 << 20);
        assert!(query.may_cost(least) && query.is_large());
    }

    #[test]
    fn what_matters_least_makes_room() {
        let queries = Queries::default();
        let (dear, _) = queries.of(larder_sql::digest("select dear"), &[]);
        dear.answered(Outcome::Miss(Miss::Absent), Duration::from_secs(1));
        let forgot = (0..MAX_STATEMENTS)
            .filter(|n| queries.of(larder_sql::digest(&format!("select c{n}")), &[]).1)
            .count();
        assert_eq!(forgot, 1);
        assert!(queries.known.lock().len() <= MAX_STATEMENTS);
        assert!(!queries.of(larder_sql::digest("select dear"), &[]).1, "still known");
        assert_eq!(add_up([&queries].into_iter()).len(), 1);
    }
}
