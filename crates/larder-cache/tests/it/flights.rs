//! One fetches, the others wait: and however the one ends, nobody waits for ever.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use larder_cache::{Discard, Flight, Follower, Miss, Moment, Reader, Tag};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Cache, LONG, fill, lead, proven, reader, small, tags, value};

fn follow(store: &Cache, key: &[u8]) -> Follower {
    match store.join(key) {
        Flight::Follow(follower) => follower,
        other => panic!("does not follow: {other:?}"),
    }
}

/// Fails the test instead of hanging it.
async fn landed(follower: Follower) {
    timeout(Duration::from_secs(60), follower.wait()).await.expect("nobody woke the follower");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_followers_find_what_one_leader_fetched() {
    let store = proven();
    let guard = lead(&store, b"k");
    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let (store, follower) = (Arc::clone(&store), follow(&store, b"k"));
        tasks.spawn(async move {
            landed(follower).await;
            value(store.get(b"k", &reader(&store)))
        });
    }
    tokio::task::yield_now().await;
    guard.store(small(7), tags(&[]), LONG, Duration::ZERO).unwrap();
    assert_eq!(tasks.join_all().await, vec![Ok(7); 100]);
    assert_eq!(store.counters().stored.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn when_the_leader_gives_up_the_key_is_free_for_whoever_wakes() {
    let store = proven();
    let guard = lead(&store, b"k");
    let followers = [follow(&store, b"k"), follow(&store, b"k")];
    drop(guard);
    assert_eq!(store.counters().discarded(Discard::Abandoned).load(Relaxed), 1);
    for follower in followers {
        landed(follower).await;
        assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::Absent));
        fill(&store, b"k", 1, &[]).unwrap();
        store.purge_all();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_panics_or_is_cancelled_wakes_its_followers() {
    let store = proven();
    let guard = lead(&store, b"k");
    let follower = follow(&store, b"k");
    let leader = tokio::spawn(async move {
        let _guard = guard;
        panic!("on purpose");
    });
    landed(follower).await;
    assert!(leader.await.unwrap_err().is_panic());

    let guard = lead(&store, b"k");
    let follower = follow(&store, b"k");
    let leader = tokio::spawn(async move {
        let _guard = guard;
        std::future::pending::<()>().await;
    });
    tokio::task::yield_now().await;
    leader.abort();
    landed(follower).await;
    fill(&store, b"k", 1, &[]).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_kept_wakes_followers_all_the_same() {
    let store = proven();
    let tag = Arc::new(Tag::default());
    let (guard, follower) = (lead(&store, b"k"), follow(&store, b"k"));
    tag.touch(101);
    guard.store(small(1), tags(&[&tag]), LONG, Duration::ZERO).unwrap_err();
    landed(follower).await;
    let (guard, follower) = (lead(&store, b"k"), follow(&store, b"k"));
    guard.too_large();
    landed(follower).await;
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(Miss::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn followers_come_and_go_and_come_too_late() {
    let store = proven();
    let guard = lead(&store, b"k");
    drop(follow(&store, b"k"));
    let mut waiting = Box::pin(follow(&store, b"k").wait());
    assert!(timeout(Duration::from_secs(1), &mut waiting).await.is_err(), "the leader is still at it");
    drop(waiting);
    let late = follow(&store, b"k");
    guard.store(small(7), tags(&[]), LONG, Duration::ZERO).unwrap();
    landed(late).await;
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(7));
}

#[tokio::test(start_paused = true)]
async fn a_follower_with_other_claims_is_not_given_the_leaders_answer() {
    let store = proven();
    let guard = lead(&store, b"k");
    let follower = follow(&store, b"k");
    let wrote = Moment(store.fence().covered().0 + 1);
    guard.store(small(7), tags(&[]), LONG, Duration::ZERO).unwrap();
    landed(follower).await;
    let claims = Reader { covered_past: wrote, ..reader(&store) };
    assert_eq!(value(store.get(b"k", &claims)), Err(Miss::WriteInFlight));
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(7));
}

#[test]
fn keys_fly_apart() {
    let store = proven();
    let guards: Vec<_> = (0..1000_u32).map(|n| lead(&store, &n.to_be_bytes())).collect();
    assert!(matches!(store.join(&7_u32.to_be_bytes()), Flight::Follow(_)));
    drop(guards);
    assert!(matches!(store.join(&7_u32.to_be_bytes()), Flight::Lead(_)));
}

/// Many threads, one key, many rounds: whoever has followed finds the answer (nothing changes), and all come through.
#[test]
fn whoever_wakes_finds_what_was_stored() {
    let store = proven();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn_on(
            async move {
                for round in 0..500_u64 {
                    let key = round.to_be_bytes();
                    match store.join(&key) {
                        Flight::Lead(guard) => {
                            tokio::task::yield_now().await;
                            guard.store(small(round), tags(&[]), LONG, Duration::ZERO).unwrap();
                        }
                        Flight::Follow(follower) => landed(follower).await,
                        Flight::Alone => panic!("nothing stands in the way"),
                    }
                    assert_eq!(value(store.get(&key, &reader(&store))), Ok(round));
                }
            },
            runtime.handle(),
        );
    }
    runtime.block_on(tasks.join_all());
}
