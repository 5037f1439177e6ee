//! Many ask for the same at once.

use std::sync::atomic::Ordering::Relaxed;

use larder_cache::Source;
use tokio::task::JoinSet;

use super::{Broken, Gate, Well, builder, settle};

#[tokio::test(start_paused = true)]
async fn one_loader_runs_for_all() {
    let (cache, well, gate) = (builder().build(), Well::default(), Gate::default());
    let mut callers = JoinSet::new();
    for _ in 0..1000 {
        let (cache, well, gate) = (cache.clone(), well.clone(), gate.clone());
        callers.spawn(async move {
            let load = || async move {
                gate.pass().await;
                well.draw()
            };
            let loaded = cache.get_or_load("k", load).await.unwrap();
            (*loaded, loaded.source())
        });
    }
    gate.begun().await;
    settle().await;
    gate.open();
    assert_eq!(callers.join_all().await, vec![(1, Source::Loader); 1000]);
    assert_eq!((well.drawn(), cache.metrics().coalesced.load(Relaxed)), (1, 999));
}

/// A caller that goes away, even the one whose loader runs, takes nothing from the others.
#[tokio::test(start_paused = true)]
async fn who_goes_away_is_not_missed() {
    let (cache, well, gate) = (builder().build(), Well::default(), Gate::default());
    let ask = || {
        let (cache, well, gate) = (cache.clone(), well.clone(), gate.clone());
        tokio::spawn(async move {
            let load = || async move {
                gate.pass().await;
                well.draw()
            };
            *cache.get_or_load("k", load).await.unwrap()
        })
    };
    let first = ask();
    gate.begun().await;
    let second = ask();
    settle().await;
    first.abort();
    settle().await;
    gate.open();
    assert_eq!((second.await.unwrap(), well.drawn()), (1, 1));
}

/// The load had begun before the write: its caller has the old value, which was right when it asked. Who asks after
/// the invalidation has the new one, even if it joined the old flight.
#[tokio::test(start_paused = true)]
async fn who_comes_after_an_invalidation_is_not_given_what_was_begun_before() {
    for by_key in [false, true] {
        let (cache, well, gate) = (builder().build(), Well::default(), Gate::default());
        let early = tokio::spawn({
            let (cache, well, gate) = (cache.clone(), well.clone(), gate.clone());
            async move {
                let load = |_| async move {
                    let value = well.draw();
                    gate.pass().await;
                    value
                };
                *cache.entry("k").tags(["t"]).or_load(load).await.unwrap()
            }
        });
        gate.begun().await;
        if by_key {
            cache.invalidate("k").await.unwrap();
        } else {
            cache.invalidate_tags(["t"]).await.unwrap();
        }
        let mut late = JoinSet::new();
        for _ in 0..10 {
            let (cache, well) = (cache.clone(), well.clone());
            late.spawn(async move {
                *cache.entry("k").tags(["t"]).or_load(|_| async move { well.draw() }).await.unwrap()
            });
        }
        settle().await;
        gate.open();
        assert_eq!(early.await.unwrap(), 1);
        assert_eq!(late.join_all().await, vec![2; 10], "by key: {by_key}");
        assert_eq!(well.drawn(), 2, "one more loader for all of them");
        assert!(cache.get("k").is_none_or(|value| *value == 2));
    }
}

/// Values that cannot be kept (here: they live for no time) are shared nevertheless.
#[tokio::test(start_paused = true)]
async fn what_is_not_kept_is_shared_all_the_same() {
    let (cache, well, gate) =
        (builder().default_ttl(std::time::Duration::ZERO).build(), Well::default(), Gate::default());
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (cache, well, gate) = (cache.clone(), well.clone(), gate.clone());
        callers.spawn(async move {
            let load = || async move {
                gate.pass().await;
                well.draw()
            };
            *cache.get_or_load("k", load).await.unwrap()
        });
    }
    gate.begun().await;
    settle().await;
    gate.open();
    assert_eq!(callers.join_all().await, vec![1; 100]);
}

#[tokio::test(start_paused = true)]
async fn loaders_with_other_errors_do_not_wait_for_each_other() {
    let (cache, gate) = (builder().build(), Gate::default());
    let first = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move {
            let load = || async {
                gate.pass().await;
                Ok::<_, Broken>(1)
            };
            *cache.get_or_load("k", load).await.unwrap()
        }
    });
    gate.begun().await;
    assert_eq!(*cache.get_or_load("k", || async { Ok::<_, String>(2) }).await.unwrap(), 2);
    gate.open();
    assert_eq!(first.await.unwrap(), 1);
}
