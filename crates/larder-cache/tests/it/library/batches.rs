//! Many keys, one loader.

use std::sync::Arc;

use larder_cache::{Cache, LoadError, Loaded, Source};
use parking_lot::Mutex;
use tokio::time::advance;

use super::{Broken, Gate, secs, settle};

/// What the loader was asked for, run by run.
type Asked = Arc<Mutex<Vec<Vec<u32>>>>;

fn cache() -> Cache<u32, u64> {
    Cache::builder().jitter(0.0).default_ttl(secs(30)).build()
}

/// Brings the square of every key below 100.
async fn squares(
    cache: &Cache<u32, u64>,
    keys: &[u32],
    asked: &Asked,
) -> Result<Vec<Option<Loaded<u64>>>, LoadError<Broken>> {
    let asked = Arc::clone(asked);
    let load = move |keys: Vec<u32>| {
        asked.lock().push(keys.clone());
        async move {
            let known = keys.into_iter().filter(|key| *key < 100);
            Ok(known.map(|key| (key, u64::from(key) * u64::from(key))).collect::<Vec<_>>())
        }
    };
    cache.many(keys.iter().copied()).tags(|key| [format!("n:{key}")]).or_load(load).await
}

fn values(found: &[Option<Loaded<u64>>]) -> Vec<Option<u64>> {
    found.iter().map(|found| found.as_ref().map(|found| **found)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_loaded_in_one_run() {
    let (cache, asked) = (cache(), Asked::default());
    cache.get_or_load(&2, || async { Ok::<_, Broken>(4) }).await.unwrap();
    let found = squares(&cache, &[1, 2, 3, 200, 3], &asked).await.unwrap();
    assert_eq!(values(&found), [Some(1), Some(4), Some(9), None, Some(9)]);
    let sources: Vec<_> = found.iter().flatten().map(Loaded::source).collect();
    assert_eq!(sources, [Source::Loader, Source::L1, Source::Loader, Source::Loader]);
    assert_eq!(*asked.lock(), [vec![1, 3, 200]]);
    let found = squares(&cache, &[1, 2, 3, 4], &asked).await.unwrap();
    assert_eq!(values(&found), [Some(1), Some(4), Some(9), Some(16)]);
    cache.invalidate_tags(["n:1", "n:4"]).await.unwrap();
    squares(&cache, &[1, 2, 3, 4, 200], &asked).await.unwrap();
    assert_eq!(
        *asked.lock(),
        [vec![1, 3, 200], vec![4], vec![1, 4, 200]],
        "what is absent is not remembered"
    );
    advance(secs(30)).await;
    squares(&cache, &[], &asked).await.unwrap();
    squares(&cache, &[1, 2], &asked).await.unwrap();
    assert_eq!(asked.lock().last().unwrap(), &[1, 2]);
}

#[tokio::test(start_paused = true)]
async fn batches_and_single_requests_share_their_loads() {
    let (cache, asked, gate) = (cache(), Asked::default(), Gate::default());
    let single = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move {
            let load = || async {
                gate.pass().await;
                Ok::<_, Broken>(4)
            };
            *cache.get_or_load(&2, load).await.unwrap()
        }
    });
    gate.begun().await;
    let batch = tokio::spawn({
        let (cache, asked) = (cache.clone(), Arc::clone(&asked));
        async move { values(&squares(&cache, &[1, 2, 3], &asked).await.unwrap()) }
    });
    settle().await;
    assert_eq!(*asked.lock(), [vec![1, 3]], "2 is on its way");
    gate.open();
    assert_eq!((single.await.unwrap(), batch.await.unwrap()), (4, vec![Some(1), Some(4), Some(9)]));
}

/// A key that another's batch did not bring is loaded by who wants it.
#[tokio::test(start_paused = true)]
async fn what_a_batch_does_not_bring_a_single_request_loads_itself() {
    let (cache, gate) = (cache(), Gate::default());
    let batch = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move {
            let load = move |_: Vec<u32>| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    Ok::<_, Broken>(Vec::new())
                }
            };
            values(&cache.get_or_load_many([1, 2], load).await.unwrap())
        }
    });
    gate.begun().await;
    let single = tokio::spawn({
        let cache = cache.clone();
        async move { *cache.get_or_load(&2, || async { Ok::<_, Broken>(7) }).await.unwrap() }
    });
    settle().await;
    gate.open();
    assert_eq!((batch.await.unwrap(), single.await.unwrap()), (vec![None, None], 7));
}

#[tokio::test(start_paused = true)]
async fn a_batch_fails_as_a_whole_unless_something_stale_will_do() {
    let cache = cache();
    let fail = async |keys: &[u32], grace: u64| {
        let many = cache.many(keys.iter().copied()).stale_if_error(secs(grace));
        many.or_load(|_| async { Err::<Vec<(u32, u64)>, _>(Broken("down")) }).await
    };
    assert!(matches!(fail(&[1], 60).await, Err(LoadError::Failed(_))));
    let panics = |_: Vec<u32>| async {
        if true { panic!("on purpose") } else { Ok::<Vec<(u32, u64)>, Broken>(vec![]) }
    };
    assert!(matches!(cache.get_or_load_many([1, 2], panics).await, Err(LoadError::Panicked(_))));
    let hang = |_: Vec<u32>| std::future::pending::<Result<Vec<(u32, u64)>, Broken>>();
    let late = cache.many([1, 2]).hard_timeout(secs(1)).or_load(hang).await;
    assert!(matches!(late, Err(LoadError::TimedOut(_))));
    let bring =
        |keys: Vec<u32>| async { Ok::<_, Broken>(keys.into_iter().map(|key| (key, 5)).collect::<Vec<_>>()) };
    cache.many([1, 2]).stale_if_error(secs(60)).or_load(bring).await.unwrap();
    advance(secs(31)).await;
    assert_eq!(values(&fail(&[1, 2], 60).await.unwrap()), [Some(5), Some(5)]);
    fail(&[1, 2, 3], 60).await.unwrap_err();
}
