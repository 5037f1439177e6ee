//! Coverage: who asks for it, who waits for it, and what holds it back.

use std::sync::Arc;
use std::time::Duration;

use larder_cache::{Fence, Moment, Tags};
use tokio::time::{Instant, timeout};

use crate::support::{LONG, proven, reader, value};

/// What a test on the real clock may hang for, if it fails.
const MINUTE: Duration = Duration::from_secs(60);

fn fence() -> Arc<Fence> {
    Arc::new(Fence::new(Duration::from_secs(1)))
}

/// Whether a sample has been asked for; takes the request.
async fn asked(fence: &Fence) -> bool {
    timeout(Duration::ZERO, fence.sample_requested()).await.is_ok()
}

#[test]
fn positions_and_coverage_never_go_back() {
    let fence = fence();
    for at in [5, 9, 3] {
        fence.set_applied(at);
        fence.set_visible(at);
        fence.set_covered(Moment(at));
    }
    assert_eq!((fence.applied(), fence.visible(), fence.covered()), (9, 9, Moment(9)));
}

#[test]
fn the_lease_runs_from_the_coverage() {
    let fence = fence();
    let at = Moment(10);
    assert!(!fence.lease_holds(at));
    fence.set_covered(at);
    let half = at.after(Duration::from_millis(500));
    assert_eq!(fence.lease_remaining(half), Duration::from_millis(500));
    assert_eq!(fence.lease_remaining(at.after(LONG)), Duration::ZERO);
    assert!(fence.lease_holds(Moment(1)), "a clock read before the coverage was proven");
    assert!(fence.lease_holds(at.after(Duration::from_secs(1))));
    assert!(!fence.lease_holds(at.after(Duration::from_nanos(1_000_000_001))));
}

#[tokio::test(start_paused = true)]
async fn what_is_covered_is_not_waited_for_and_asks_nobody() {
    let fence = fence();
    fence.set_covered(Moment(5));
    assert!(fence.wait_covered(Moment(5), Duration::ZERO).await);
    assert!(!asked(&fence).await);
}

#[tokio::test(start_paused = true)]
async fn a_wait_asks_for_a_sample_and_ends_at_its_deadline() {
    let fence = fence();
    let start = Instant::now();
    assert!(!fence.wait_covered(Moment(5), Duration::from_millis(20)).await);
    assert!(start.elapsed() < Duration::from_millis(25));
    assert!(asked(&fence).await, "kept until the feed has time for it");
    assert!(!asked(&fence).await, "once");
}

#[tokio::test(start_paused = true)]
async fn a_sample_that_began_too_early_makes_the_wait_ask_again() {
    let fence = fence();
    let waiting = tokio::spawn({
        let fence = Arc::clone(&fence);
        async move { fence.wait_covered(Moment(5), LONG).await }
    });
    for at in 3..=5 {
        timeout(LONG, fence.sample_requested()).await.expect("asked");
        fence.set_covered(Moment(at));
    }
    assert!(waiting.await.unwrap());
    assert!(!asked(&fence).await);
}

#[tokio::test(start_paused = true)]
async fn one_sample_serves_all_that_wait() {
    let fence = fence();
    let waiting: Vec<_> = (1..=100)
        .map(|at| {
            let fence = Arc::clone(&fence);
            tokio::spawn(async move { fence.wait_covered(Moment(at), Duration::MAX).await })
        })
        .collect();
    timeout(LONG, fence.sample_requested()).await.expect("asked");
    tokio::task::yield_now().await;
    fence.set_covered(Moment(100));
    for one in waiting {
        assert!(timeout(LONG, one).await.expect("woken").unwrap());
    }
}

/// The gap between looking and falling asleep, tried many times on threads.
#[test]
fn no_growth_goes_unnoticed() {
    let fence = fence();
    let rounds = 2000;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_time().build().unwrap();
    let waiter = |fence: Arc<Fence>| async move {
        for at in 1..=rounds {
            assert!(fence.wait_covered(Moment(at), MINUTE).await);
        }
    };
    let waiters = [runtime.spawn(waiter(Arc::clone(&fence))), runtime.spawn(waiter(Arc::clone(&fence)))];
    runtime.block_on(async {
        for at in 1..=rounds {
            timeout(MINUTE, fence.sample_requested()).await.expect("asked");
            fence.set_covered(Moment(at));
            if waiters.iter().all(tokio::task::JoinHandle::is_finished) {
                break;
            }
        }
        for waiter in waiters {
            timeout(MINUTE, waiter).await.expect("a waiter sleeps for ever").unwrap();
        }
    });
}

#[tokio::test(start_paused = true)]
async fn a_review_holds_coverage_back_until_the_feed_has_looked() {
    let store = proven();
    let fence = store.fence();
    crate::support::fill(&store, b"k", 1, &[]).unwrap();
    let before = fence.covered();
    tokio::time::advance(Duration::from_nanos(1)).await;
    fence.request_review();
    assert!(asked(fence).await);
    assert_eq!(value(store.get(b"k", &reader(&store))), Err(larder_cache::Miss::WriteInFlight));
    let sample = Moment::now();
    fence.set_covered(sample);
    assert_eq!(fence.covered(), before, "nobody has looked yet");
    assert!(fence.take_review_request());
    assert!(!fence.take_review_request());
    fence.set_covered(sample);
    assert_eq!(value(store.get(b"k", &reader(&store))), Ok(1), "looked: nothing had changed");
}

#[test]
fn a_restart_takes_every_tag_back_in_a_new_epoch() {
    let (fence, tags) = (fence(), Tags::default());
    let tag = tags.get("t");
    tag.touch(900);
    tag.mark(Moment(9));
    assert_eq!(tags.restart(&fence, 10), 1);
    assert_eq!((fence.epoch(), tag.last_change(), tag.marked()), (1, 0, Moment(9)));
    assert!(Arc::ptr_eq(&tag, &tags.get("t")), "whoever holds a tag goes on hearing of changes");
}
