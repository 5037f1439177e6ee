//! Each condition of a lookup, by itself: everything else holds, so the test fails if the check is removed.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use larder_cache::{Discard, Flight, Miss, Moment, Reader, Store, TOO_LARGE_FOR, Tag};

use crate::support::{Item, LONG, fill, lead, proven, reader, small, tags, value};

#[test]
fn what_was_stored_is_found_under_its_full_key_only() {
    let store = proven();
    fill(&store, b"key", 7, &[]).unwrap();
    assert_eq!(value(store.get(b"key", &reader(&store))), Ok(7));
    for other in [&b""[..], b"ke", b"key\0", b"kez"] {
        assert_eq!(value(store.get(other, &reader(&store))), Err(Miss::Absent));
    }
}

#[test]
fn a_value_expires_at_the_end_of_its_time_to_live_and_leaves() {
    let store = proven();
    let ttl = Duration::from_millis(10);
    lead(&store, b"k").store(small(1), tags(&[]), ttl, Duration::ZERO).unwrap();
    let stored = store.get(b"k", &reader(&store)).unwrap().stored;
    let at = |now| Reader { now, ..reader(&store) };
    assert_eq!(value(store.get(b"k", &at(Moment(stored.after(ttl).0 - 1)))), Ok(1));
    assert_eq!(value(store.get(b"k", &at(stored.after(ttl)))), Err(Miss::Expired));
    assert_eq!(value(store.get(b"k", &at(stored))), Err(Miss::Absent));
    assert_eq!((store.entries(), store.counters().expired.load(Relaxed)), (0, 1));
}

#[test]
fn a_commit_after_as_of_invalidates_and_one_at_as_of_does_not() {
    let store = proven();
    let (a, b) = (Arc::new(Tag::default()), Arc::new(Tag::default()));
    fill(&store, b"k", 1, &[&a, &b]).unwrap();
    a.touch(100);
    b.touch(100);
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(1));
    b.touch(101);
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::Invalid));
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::Absent));
    assert_eq!((store.entries(), store.counters().invalidated.load(Relaxed)), (0, 1));
}

#[test]
fn a_new_epoch_kills_what_the_old_one_stored() {
    let store = proven();
    fill(&store, b"k", 1, &[]).unwrap();
    assert_eq!(store.fence().begin_epoch(0, false), 1);
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::Invalid));
    fill(&store, b"k", 2, &[]).unwrap();
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(2));
}

#[test]
fn without_the_lease_nothing_is_given_and_the_entry_outlasts_it() {
    let store = proven();
    fill(&store, b"k", 1, &[]).unwrap();
    let covered = store.fence().covered();
    let at = |now| Reader { now, heed_marks: false, covered_past: Moment::NEVER };
    let end = covered.after(Duration::from_secs(1));
    assert_eq!(value(store.get(b"k", &at(end))), Ok(1));
    assert_eq!(value(store.get(b"k", &at(Moment(end.0 + 1)))), Err(Miss::NoLease));
    store.fence().set_covered(end);
    assert_eq!(value(store.get(b"k", &at(Moment(end.0 + 1)))), Ok(1));
}

#[test]
fn nothing_covered_is_no_lease_even_at_the_beginning_of_time() {
    let store = proven();
    store.fence().begin_epoch(0, true);
    store.fence().set_visible(1);
    fill(&store, b"k", 1, &[]).unwrap();
    let first = Reader { now: Moment(1), heed_marks: false, covered_past: Moment::NEVER };
    assert_eq!(value(store.get(b"k", &first)), Err(Miss::NoLease));
}

#[test]
fn a_reader_waits_for_the_coverage_that_it_is_entitled_to() {
    let store = proven();
    fill(&store, b"k", 1, &[]).unwrap();
    let covered = store.fence().covered();
    let past = |covered_past| Reader { heed_marks: false, covered_past, ..reader(&store) };
    assert_eq!(value(store.get(b"k", &past(covered))), Ok(1));
    assert_eq!(value(store.get(b"k", &past(Moment(covered.0 + 1)))), Err(Miss::WriteInFlight));
    store.fence().set_covered(Moment(covered.0 + 1));
    assert_eq!(value(store.get(b"k", &past(Moment(covered.0 + 1)))), Ok(1));
}

#[test]
fn a_mark_later_than_coverage_hides_what_depends_on_it() {
    let store = proven();
    let (a, b) = (Arc::new(Tag::default()), Arc::new(Tag::default()));
    fill(&store, b"a", 1, &[&a]).unwrap();
    fill(&store, b"ab", 2, &[&a, &b]).unwrap();
    let covered = store.fence().covered();
    b.mark(covered);
    assert_eq!(value(store.get(b"ab", &reader(&store))), Ok(2), "the coverage includes the write");
    b.mark(Moment(covered.0 + 1));
    assert_eq!(value(store.get(b"ab", &reader(&store))), Err(Miss::WriteInFlight));
    assert_eq!(value(store.get(b"a", &reader(&store))), Ok(1), "another tag");
    let heedless = Reader { heed_marks: false, ..reader(&store) };
    assert_eq!(value(store.get(b"ab", &heedless)), Ok(2));
    store.fence().set_covered(Moment(covered.0 + 1));
    assert_eq!(value(store.get(b"ab", &reader(&store))), Ok(2), "the write touched nothing");
}

#[test]
fn a_mark_on_everything_hides_everything() {
    let store = proven();
    fill(&store, b"k", 1, &[]).unwrap();
    let covered = store.fence().covered();
    store.fence().mark_all(covered);
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(1));
    store.fence().mark_all(Moment(covered.0 + 1));
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::WriteInFlight));
    let heedless = Reader { heed_marks: false, ..reader(&store) };
    assert_eq!(value(store.get(b"k", &heedless)), Ok(1));
}

#[test]
fn a_fill_that_was_overtaken_is_not_kept() {
    let store = proven();
    let tag = Arc::new(Tag::default());
    let guard = lead(&store, b"k");
    assert_eq!(guard.as_of(), 100);
    tag.touch(101);
    store.fence().set_visible(101);
    assert_eq!(guard.store(small(1), tags(&[&tag]), LONG, Duration::ZERO), Err(Discard::Changed));
    let guard = lead(&store, b"k");
    store.fence().begin_epoch(0, false);
    assert_eq!(guard.store(small(1), tags(&[&tag]), LONG, Duration::ZERO), Err(Discard::Epoch));
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::Absent));
    fill(&store, b"k", 2, &[&tag]).unwrap();
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(2));
    let counters = store.counters();
    assert_eq!(counters.discarded(Discard::Changed).load(Relaxed), 1);
    assert_eq!(counters.discarded(Discard::Epoch).load(Relaxed), 1);
    assert_eq!(counters.stored.load(Relaxed), 1);
}

#[test]
fn a_fill_stands_at_what_is_visible_not_at_what_is_applied() {
    let store = proven();
    store.fence().set_applied(200);
    assert_eq!(lead(&store, b"k").as_of(), 100);
}

#[test]
fn nobody_leads_before_positions_are_trusted() {
    let store = proven();
    let alone = || matches!(store.join(b"k"), Flight::Alone);
    assert!(!alone());
    store.fence().begin_epoch(101, false);
    assert!(alone(), "visible is below the floor");
    store.fence().set_visible(101);
    assert!(!alone());
    store.fence().begin_epoch(0, true);
    assert!(alone(), "nothing is known to be visible");
    store.fence().set_visible(1);
    assert!(!alone());
}

#[test]
fn a_restart_takes_back_positions_and_the_lease_and_another_epoch_does_not() {
    let store = proven();
    let fence = store.fence();
    let covered = fence.covered();
    fence.begin_epoch(50, false);
    assert_eq!((fence.applied(), fence.visible(), fence.covered()), (100, 100, covered));
    fence.begin_epoch(50, true);
    assert_eq!((fence.applied(), fence.visible(), fence.covered()), (0, 0, Moment::NEVER));
    assert!(!fence.lease_holds(covered));
    assert_eq!(fence.lease_remaining(covered), Duration::ZERO);
}

#[test]
fn too_large_by_the_value_or_by_the_memory_is_remembered_for_a_while() {
    let store = proven();
    let large = Item { value: 1, bytes: (1 << 16) + 1 };
    let stored = lead(&store, b"v").store(large, tags(&[]), LONG, Duration::ZERO);
    assert_eq!(stored, Err(Discard::TooLarge));
    let narrow = Store::new(Arc::clone(store.fence()), 1 << 10, usize::MAX);
    let stored =
        lead(&narrow, b"v").store(Item { value: 1, bytes: 1 << 10 }, tags(&[]), LONG, Duration::ZERO);
    assert_eq!(stored, Err(Discard::TooLarge));
    for store in [store, narrow] {
        assert_eq!(value(store.get(b"v", &reader(&store))), Err(Miss::TooLarge));
        assert!(matches!(store.join(b"v"), Flight::Alone));
        let later = Reader { now: Moment::now().after(TOO_LARGE_FOR), ..reader(&store) };
        assert_eq!(value(store.get(b"v", &later)), Err(Miss::Expired));
        assert!(matches!(store.join(b"v"), Flight::Lead(_)), "forgotten by the lookup");
        assert_eq!(store.counters().expired.load(Relaxed), 0, "it was no entry");
    }
}

#[test]
fn the_leader_can_say_too_large_before_it_has_everything() {
    let store = proven();
    lead(&store, b"k").too_large();
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::TooLarge));
    assert_eq!(store.counters().discarded(Discard::TooLarge).load(Relaxed), 1);
    assert_eq!(store.counters().discarded(Discard::Abandoned).load(Relaxed), 0);
}

#[test]
fn memory_stays_bounded_and_evicted_entries_are_counted() {
    let fence = Arc::clone(proven().fence());
    let store: Arc<Store<Item>> = Store::new(fence, 64 << 10, 1 << 10);
    let evicted = || store.counters().evicted.load(Relaxed) as usize;
    for n in 0..1000_u64 {
        lead(&store, &n.to_be_bytes()).too_large();
        assert!(store.bytes() <= 64 << 10, "{} bytes", store.bytes());
    }
    assert!(store.entries() < 1000 && evicted() == 0, "what was too large is forgotten, and was no entry");
    store.purge_all();
    for n in 0..1000_u64 {
        fill(&store, &n.to_be_bytes(), n, &[]).unwrap();
        assert!(store.bytes() <= 64 << 10, "{} bytes", store.bytes());
    }
    assert!(store.entries() > 100, "{} fit", store.entries());
    assert_eq!(store.entries() + evicted(), 1000);
}

#[test]
fn purge_all_leaves_nothing() {
    let store = proven();
    fill(&store, b"k", 1, &[]).unwrap();
    assert!(store.bytes() > 0);
    store.purge_all();
    assert_eq!((store.entries(), store.bytes()), (0, 0));
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::Absent));
}

#[test]
fn names_are_metric_labels() {
    let misses: std::collections::HashSet<_> = Miss::ALL.map(Miss::name).into();
    let discards: std::collections::HashSet<_> = Discard::ALL.map(Discard::name).into();
    assert_eq!((misses.len(), discards.len()), (Miss::ALL.len(), Discard::ALL.len()));
    let label = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    assert!(misses.iter().all(label) && discards.iter().all(label));
}
