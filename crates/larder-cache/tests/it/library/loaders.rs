//! Whatever a loader does, its callers get an answer, and know which.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use larder_cache::{LoadError, Source};
use tokio::time::advance;

use super::{Broken, Gate, Outcome, Well, builder, secs, settle};

#[tokio::test(start_paused = true)]
async fn an_error_reaches_everyone_and_is_not_remembered() {
    let (cache, gate) = (builder().build(), Gate::default());
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let (cache, gate) = (cache.clone(), gate.clone());
            tokio::spawn(async move {
                let load = || async {
                    gate.pass().await;
                    Err::<u64, _>(Broken("down"))
                };
                cache.get_or_load("k", load).await
            })
        })
        .collect();
    gate.begun().await;
    settle().await;
    gate.open();
    let mut errors = Vec::new();
    for waiting in waiting {
        match waiting.await.unwrap() {
            Err(LoadError::Failed(error)) => errors.push(error),
            other => panic!("{other:?}"),
        }
    }
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])), "one error for all");
    assert_eq!(Well::default().ask(&cache, "k").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_with_its_message() {
    let cache = builder().build();
    let boom = || async { if true { panic!("on {}", "purpose") } else { Ok::<u64, Broken>(1) } };
    let error = cache.get_or_load("k", boom).await.unwrap_err();
    assert_eq!(error.to_string(), "the loader panicked: on purpose");
    // Before it has made a future.
    let boom = || {
        assert!(cache_is_never_empty(), "early");
        async { Ok::<u64, Broken>(1) }
    };
    assert!(matches!(cache.get_or_load("k", boom).await, Err(LoadError::Panicked(_))));
    assert_eq!(cache.metrics().panics.load(Relaxed), 2);
    assert_eq!(Well::default().ask(&cache, "k").await, 1, "the key is free");
}

fn cache_is_never_empty() -> bool {
    std::hint::black_box(false)
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_is_dropped_at_the_hard_timeout() {
    let cache = builder().hard_timeout(secs(3)).build();
    let hang = || std::future::pending::<Result<u64, Broken>>();
    let error = cache.get_or_load("k", hang).await.unwrap_err();
    assert!(matches!(error, LoadError::TimedOut(limit) if limit == secs(3)));
    assert_eq!(Well::default().ask(&cache, "k").await, 1);
}

#[tokio::test(start_paused = true)]
async fn in_place_of_an_error_an_expired_value_will_do() {
    let cache = builder().stale_if_error(secs(60)).hard_timeout(secs(1)).build();
    let load =
        async |what: Result<u64, Broken>| -> Outcome { cache.get_or_load("k", || async { what }).await };
    load(Ok(1)).await.unwrap();
    advance(secs(31)).await;
    let stale = load(Err(Broken("down"))).await.unwrap();
    assert_eq!((*stale, stale.is_stale(), stale.source(), stale.age()), (1, true, Source::L1, secs(31)));
    // Whatever the trouble.
    let stale = cache.get_or_load("k", std::future::pending::<Result<u64, Broken>>).await.unwrap();
    assert!(stale.is_stale());
    let boom = || async { if true { panic!("on purpose") } else { Ok::<u64, Broken>(1) } };
    assert!(cache.get_or_load("k", boom).await.unwrap().is_stale());
    // Not for a caller that does not want it, nor after its time, nor when it was invalidated.
    let strict = cache.entry("k").stale_if_error(Duration::ZERO);
    strict.or_load(|_| async { Err::<u64, _>(Broken("down")) }).await.unwrap_err();
    advance(secs(60)).await;
    load(Err(Broken("down"))).await.unwrap_err();
    load(Ok(2)).await.unwrap();
    advance(secs(31)).await;
    cache.invalidate("k").await.unwrap();
    load(Err(Broken("down"))).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_slow_loader_gives_way_to_an_expired_value_and_goes_on() {
    let cache = builder().stale_if_error(secs(60)).soft_timeout(secs(1)).build();
    let slowly = |value: u64| {
        let cache = cache.clone();
        async move {
            let load = move || async move {
                tokio::time::sleep(secs(10)).await;
                Ok::<_, Broken>(value)
            };
            cache.get_or_load("k", load).await.unwrap()
        }
    };
    let first = slowly(1).await;
    assert_eq!((*first, first.is_stale()), (1, false), "nothing to give in its place");
    advance(secs(31)).await;
    let began = tokio::time::Instant::now();
    let stale = slowly(2).await;
    assert_eq!((*stale, stale.is_stale(), began.elapsed().as_secs()), (1, true, 1));
    tokio::time::sleep(secs(10)).await;
    assert_eq!(cache.get("k").as_deref(), Some(&2), "it went on");
}

#[tokio::test(start_paused = true)]
async fn an_error_is_remembered_if_asked_for() {
    let (cache, well) = (builder().negative_ttl(secs(5)).build(), Well::default());
    let fail = async || {
        let well = well.clone();
        let load = || async move { well.draw().and(Err::<u64, _>(Broken("down"))) };
        cache.entry("k").tags(["t"]).or_load(|_| load()).await.unwrap_err()
    };
    for _ in 0..3 {
        assert_eq!(fail().await.to_string(), "the loader failed: down");
    }
    assert_eq!((well.drawn(), cache.metrics().negative_hits.load(Relaxed)), (1, 2));
    cache.invalidate_tags(["t"]).await.unwrap();
    fail().await;
    cache.invalidate("k").await.unwrap();
    fail().await;
    assert_eq!(well.drawn(), 3);
    advance(secs(5)).await;
    fail().await;
    assert_eq!(well.drawn(), 4);
    // For another type of error it means nothing.
    let other = cache.get_or_load("k", || async { Err::<u64, _>("other".to_owned()) }).await;
    assert!(matches!(other, Err(LoadError::Failed(text)) if *text == "other"));
}

#[tokio::test(start_paused = true)]
async fn what_is_about_to_expire_is_refreshed_behind_the_scenes() {
    let (cache, well) = (builder().refresh_ahead(secs(10)).build(), Well::default());
    assert_eq!(well.ask(&cache, "k").await, 1);
    advance(secs(19)).await;
    assert_eq!(well.ask(&cache, "k").await, 1);
    settle().await;
    assert_eq!(well.drawn(), 1, "too early");
    advance(secs(2)).await;
    for _ in 0..5 {
        assert_eq!(well.ask(&cache, "k").await, 1, "nobody waits");
    }
    settle().await;
    assert_eq!((well.drawn(), well.ask(&cache, "k").await), (2, 2));
    assert_eq!(cache.metrics().refreshes.load(Relaxed), 1);
    // One that fails leaves the value as it is, and is tried again.
    advance(secs(21)).await;
    for _ in 0..2 {
        let value = cache.get_or_load("k", || async { Err::<u64, _>(Broken("down")) }).await.unwrap();
        assert_eq!(*value, 2);
        settle().await;
        advance(secs(3)).await;
    }
    assert_eq!(cache.metrics().refreshes.load(Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_loader_without_callers_goes_on_unless_it_shall_not() {
    for cancel in [false, true] {
        let (cache, gate) = (builder().cancel_abandoned(cancel).build(), Gate::default());
        let caller = tokio::spawn({
            let (cache, gate) = (cache.clone(), gate.clone());
            async move {
                let load = || async {
                    gate.pass().await;
                    Ok::<_, Broken>(1)
                };
                cache.get_or_load("k", load).await
            }
        });
        gate.begun().await;
        caller.abort();
        settle().await;
        gate.open();
        settle().await;
        assert_eq!(cache.get("k").is_some(), !cancel);
        assert!(Well::default().ask(&cache, "k").await == 1, "the key is free either way");
    }
}

#[test]
fn a_runtime_that_ends_leaves_nobody_waiting() {
    let cache = builder().build();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (first, gate) = (runtime(), Gate::default());
    first.block_on(async {
        let (cache, pass) = (cache.clone(), gate.clone());
        tokio::spawn(async move {
            let load = || async {
                pass.pass().await;
                Ok::<_, Broken>(1)
            };
            let _ = cache.get_or_load("k", load).await;
        });
        gate.begun().await;
    });
    let second = std::thread::spawn({
        let cache = cache.clone();
        move || runtime().block_on(async { Well::default().ask(&cache, "k").await })
    });
    while cache.metrics().coalesced.load(Relaxed) == 0 {
        std::thread::yield_now();
    }
    drop(first);
    assert_eq!(second.join().unwrap(), 1);
}
