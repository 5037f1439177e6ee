//! Taking over what another process has stored: each condition by itself.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use larder_cache::shared::{Offer, Record, Refusal};
use larder_cache::{FillGuard, Miss, Moment, Tag, Tags};

use crate::support::{Cache, Item, LONG, lead, proven, reader, small, tags, value};

const LIFE: &[u8] = b"life";
const MEANING: [u8; 32] = [7; 32];

/// A store whose epoch is shared and whose history begins at 100, and a tag.
fn shared() -> (Cache, Arc<Tags>, Arc<Tag>) {
    let (store, all) = (proven(), Arc::new(Tags::default()));
    let fence = store.fence();
    let epoch = all.restart(fence, 100);
    fence.share(epoch, LIFE, MEANING);
    fence.set_applied(120);
    fence.set_visible(120);
    fence.set_covered(Moment::now());
    let tag = all.get("t");
    (store, all, tag)
}

fn record(as_of: u64) -> Record {
    Record {
        life: Bytes::from_static(LIFE),
        meaning: MEANING,
        as_of,
        stored: 0,
        expires: u64::MAX,
        cost: 5_000_000,
        key: Bytes::from_static(b"whole key"),
        value: Bytes::from_static(b"7"),
    }
}

type Adopted = Result<(), (FillGuard<Item>, Refusal)>;

fn adopt(store: &Cache, record: &Record, tag: &Arc<Tag>) -> Adopted {
    let offer = Offer { record, key: b"whole key", value: small(7), tags: tags(&[tag]), ttl: LONG };
    lead(store, b"k").adopt(offer).map(drop)
}

#[track_caller]
fn refused(store: &Cache, record: &Record, tag: &Arc<Tag>, why: Refusal) {
    let place = Refusal::ALL.iter().position(|known| *known == why).unwrap();
    let before = store.counters().refused[place].load(Relaxed);
    let (guard, found) = adopt(store, record, tag).unwrap_err();
    assert_eq!(found, why);
    assert_eq!(store.counters().refused[place].load(Relaxed), before + 1);
    assert_eq!(value(store.get(b"k", &reader(store))), Err(Miss::Absent));
    drop(guard);
}

#[test]
fn what_is_within_history_is_served_until_it_changes() {
    let (store, _, tag) = shared();
    tag.touch(105);
    adopt(&store, &record(105), &tag).unwrap();
    assert_eq!(store.counters().adopted.load(Relaxed), 1);
    let entry = store.get(b"k", &reader(&store)).unwrap();
    assert_eq!((entry.value.value, entry.cost), (7, Duration::from_millis(5)));
    tag.touch(121);
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::Invalid));
}

#[test]
fn a_position_ahead_of_this_process_is_welcome() {
    let (store, _, tag) = shared();
    adopt(&store, &record(500), &tag).unwrap();
    tag.touch(400);
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(7));
}

#[test]
fn everything_else_is_refused() {
    let (store, _, tag) = shared();
    refused(&store, &record(99), &tag, Refusal::History);
    refused(&store, &Record { life: Bytes::from_static(b"other"), ..record(110) }, &tag, Refusal::Life);
    refused(&store, &Record { meaning: [8; 32], ..record(110) }, &tag, Refusal::Meaning);
    refused(&store, &Record { key: Bytes::from_static(b"other"), ..record(110) }, &tag, Refusal::Key);
    refused(&store, &Record { expires: 1, ..record(110) }, &tag, Refusal::Expired);
    tag.touch(111);
    refused(&store, &record(110), &tag, Refusal::Changed);
}

#[test]
fn too_large_ends_the_flight_in_no_entry() {
    let (store, _, tag) = shared();
    let large = Item { value: 7, bytes: 1 << 17 };
    let offer =
        Offer { record: &record(110), key: b"whole key", value: large, tags: tags(&[&tag]), ttl: LONG };
    let (_, why) = lead(&store, b"k").adopt(offer).unwrap_err();
    assert_eq!(why, Refusal::TooLarge);
}

#[test]
fn what_was_dropped_on_purpose_does_not_come_back() {
    let (store, _, tag) = shared();
    store.purge_all();
    refused(&store, &record(110), &tag, Refusal::Expired);
    adopt(&store, &Record { stored: u64::MAX, ..record(110) }, &tag).unwrap();
}

#[test]
fn nothing_is_taken_over_across_epochs() {
    let (store, all, tag) = shared();
    let fence = store.fence();
    // A fill of the epoch before.
    let guard = lead(&store, b"k");
    let epoch = fence.begin_epoch(110, false);
    fence.share(epoch, LIFE, MEANING);
    let found = record(115);
    let offer = Offer { record: &found, key: b"whole key", value: small(7), tags: tags(&[&tag]), ttl: LONG };
    let (mut guard, why) = guard.adopt(offer).unwrap_err();
    assert_eq!(why, Refusal::Epoch);
    assert!(guard.claim().is_none(), "nor does it claim anything");
    assert!(guard.renew());
    assert_eq!((guard.epoch(), guard.as_of()), (epoch, 120));
    drop(guard);
    // The new epoch's history begins with its floor.
    refused(&store, &record(109), &tag, Refusal::History);
    // One that is not shared.
    fence.begin_epoch(110, false);
    refused(&store, &record(115), &tag, Refusal::Epoch);
    // A floor that has not been reached: nothing can be kept.
    let mut guard = lead(&store, b"k");
    all.restart(fence, 200);
    assert!(!guard.renew());
}

#[test]
fn a_claim_is_what_the_fill_stood_for() {
    let (store, _, tag) = shared();
    let guard = lead(&store, b"k");
    store.fence().set_visible(130);
    let claim = guard.claim().unwrap();
    guard.store(small(7), tags(&[&tag]), LONG, Duration::from_millis(5)).unwrap();
    let made = claim.record(b"whole key", Bytes::from_static(b"7"), LONG, Duration::from_millis(5));
    let Record { stored, expires, .. } = made;
    assert_eq!(made, Record { stored, expires, ..record(120) });
    assert_eq!(Duration::from_millis(expires - stored), LONG);
}

#[test]
fn an_entry_is_as_old_as_its_record() {
    let (store, _, tag) = shared();
    adopt(&store, &record(110), &tag).unwrap();
    let entry = store.get(b"k", &reader(&store)).unwrap();
    // Older than this process's clock, so as old as that allows.
    assert_eq!(entry.stored, Moment(1));
}
