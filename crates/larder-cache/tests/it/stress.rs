//! All parties at once, on threads, against a small origin that behaves as PostgreSQL does: a commit is in the log, and
//! on its way to the feed, some time before new snapshots see it, and is acknowledged after that.
//!
//! Each row's value is the position of the commit that wrote it, so an answer says by itself how old it is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use larder_cache::{Fence, Flight, Moment, Reader, Store, Tags};
use parking_lot::Mutex;

use crate::support::{Cache, LONG, small, value};

const ROWS: usize = 4;
const RUN: Duration = Duration::from_millis(1500);

#[derive(Default)]
struct Origin {
    /// (position, row), in commit order.
    log: Mutex<Vec<(u64, usize)>>,
    snapshot: Mutex<Snapshot>,
    /// Per row, the last write whose acknowledgement a client has seen.
    acknowledged: [AtomicU64; ROWS],
}

#[derive(Default, Clone)]
struct Snapshot {
    rows: [u64; ROWS],
    /// In the log, not visible yet.
    in_progress: BTreeSet<u64>,
    /// No commit beyond it has been seen to begin.
    known: u64,
}

struct World {
    origin: Origin,
    store: Cache,
    tags: Tags,
    done: AtomicBool,
    strict_hits: AtomicU64,
    barrier_hits: AtomicU64,
    fills: AtomicU64,
}

impl World {
    fn running(&self) -> bool {
        !self.done.load(SeqCst)
    }

    /// A client writes a row: log, pause, visible, acknowledged at Larder (mark), told.
    fn write(&self, row: usize) {
        let position = {
            let mut log = self.origin.log.lock();
            let position = log.len() as u64 + 1;
            let mut snapshot = self.origin.snapshot.lock();
            snapshot.in_progress.insert(position);
            snapshot.known = position;
            log.push((position, row));
            position
        };
        thread::yield_now();
        {
            let mut snapshot = self.origin.snapshot.lock();
            snapshot.rows[row] = snapshot.rows[row].max(position);
            snapshot.in_progress.remove(&position);
        }
        self.tags.get(&row.to_string()).mark(Moment::now());
        self.origin.acknowledged[row].fetch_max(position, SeqCst);
    }

    /// One turn of the feed: sample, fold in, confirm visibility, cover. Now and then an epoch.
    fn follow(&self, folded: &mut usize, turn: u64) {
        let fence = self.store.fence();
        let sample = Moment::now();
        let news: Vec<_> = self.origin.log.lock()[*folded..].to_vec();
        for (position, row) in &news {
            self.tags.get(&row.to_string()).touch(*position);
            fence.set_applied(*position);
        }
        *folded += news.len();
        let snapshot = self.origin.snapshot.lock().clone();
        let unconfirmed = snapshot.in_progress.first().map_or(u64::MAX, |position| position - 1);
        fence.set_visible(unconfirmed.min(*folded as u64));
        if turn.is_multiple_of(97) {
            fence.begin_epoch(*folded as u64, false);
        }
        fence.set_covered(sample);
    }

    /// Looks up, and fetches on a miss. Returns what was found in memory.
    fn read(&self, row: usize, reader: &Reader) -> Option<u64> {
        let key = (row as u64).to_be_bytes();
        if let Ok(found) = value(self.store.get(&key, reader)) {
            return Some(found);
        }
        if let Flight::Lead(guard) = self.store.join(&key) {
            let seen = self.origin.snapshot.lock().rows[row];
            thread::yield_now();
            let tags = [self.tags.get(&row.to_string())].into();
            if guard.store(small(seen), tags, LONG, Duration::ZERO).is_ok() {
                self.fills.fetch_add(1, SeqCst);
            }
        }
        None
    }

    /// `strict`: never older than what had been acknowledged when the read began.
    fn read_strict(&self, row: usize) {
        let owed = self.origin.acknowledged[row].load(SeqCst);
        let reader = Reader { now: Moment::now(), heed_marks: true, covered_past: Moment::NEVER };
        if let Some(found) = self.read(row, &reader) {
            assert!(found >= owed, "row {row}: {found} given, {owed} had been acknowledged");
            self.strict_hits.fetch_add(1, SeqCst);
        }
    }

    /// `linearizable`: never older than what was visible when the read began, and never newer than what is by then.
    fn read_behind_barrier(&self, row: usize) {
        let owed = self.origin.snapshot.lock().rows[row];
        let arrival = Moment::now();
        while self.store.fence().covered() < arrival && self.running() {
            thread::yield_now();
        }
        let reader = Reader { now: Moment::now(), heed_marks: false, covered_past: arrival };
        if let Some(found) = self.read(row, &reader) {
            let latest = self.origin.snapshot.lock().rows[row];
            assert!(found >= owed && found <= latest, "row {row}: {found} given, {owed} was visible");
            self.barrier_hits.fetch_add(1, SeqCst);
        }
    }
}

/// Ends the run even if the thread that owns it panics, so that the test fails instead of hanging.
struct EndsWith<'a>(&'a World);

impl Drop for EndsWith<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.done.store(true, SeqCst);
        }
    }
}

#[test]
fn no_read_is_older_than_it_may_be() {
    let fence = Arc::new(Fence::new(Duration::from_secs(5)));
    let world = World {
        origin: Origin::default(),
        store: Store::new(fence, 1 << 20, 1 << 10),
        tags: Tags::default(),
        done: AtomicBool::new(false),
        strict_hits: AtomicU64::new(0),
        barrier_hits: AtomicU64::new(0),
        fills: AtomicU64::new(0),
    };
    let world = &world;
    let each_row = |act: fn(&World, usize), pause: Duration| {
        move || {
            let _end = EndsWith(world);
            for row in (0..ROWS).cycle().take_while(|_| world.running()) {
                act(world, row);
                thread::sleep(pause);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _end = EndsWith(world);
            let (mut folded, start) = (0, Instant::now());
            for turn in 1.. {
                if start.elapsed() > RUN || !world.running() {
                    break;
                }
                world.follow(&mut folded, turn);
                thread::yield_now();
            }
            world.done.store(true, SeqCst);
        });
        // The pause only leaves time in which something can be cached.
        scope.spawn(each_row(World::write, Duration::from_micros(50)));
        scope.spawn(each_row(World::write, Duration::from_micros(90)));
        scope.spawn(each_row(World::read_strict, Duration::ZERO));
        scope.spawn(each_row(World::read_strict, Duration::ZERO));
        scope.spawn(each_row(World::read_behind_barrier, Duration::ZERO));
    });
    let [strict, barrier, fills] =
        [&world.strict_hits, &world.barrier_hits, &world.fills].map(|n| n.load(SeqCst));
    assert!(
        strict > 100 && barrier > 10 && fills > 100,
        "{strict} hits, {barrier} barrier hits, {fills} fills"
    );
    println!("{strict} strict hits, {barrier} behind the barrier, {fills} fills");
}
