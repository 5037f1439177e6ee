//! Values come, live and go.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use larder_cache::{Cache, CacheMetrics, Source};
use tokio::time::advance;

use super::{Broken, Well, builder, secs};

#[tokio::test(start_paused = true)]
async fn a_value_is_loaded_once_and_lives_as_long_as_it_may() {
    let (cache, well) = (builder().build(), Well::default());
    let first = cache.get_or_load("k", || async { Ok::<_, Broken>(7) }).await.unwrap();
    assert_eq!((*first, first.source(), first.is_stale()), (7, Source::Loader, false));
    advance(secs(29)).await;
    let again = cache.get_or_load("k", || async { Ok::<_, Broken>(8) }).await.unwrap();
    assert_eq!((*again, again.source(), again.age()), (7, Source::L1, secs(29)));
    assert_eq!(cache.get("k").as_deref(), Some(&7));
    advance(secs(1)).await;
    assert!(cache.get("k").is_none());
    assert_eq!(well.ask(&cache, "k").await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_loader_has_the_last_word_on_the_time_to_live() {
    let cache = builder().ttl_of(|value| (*value == 0).then_some(secs(2))).build();
    let load = |key: &'static str, value: u64, said: Option<u64>| {
        let cache = cache.clone();
        async move {
            let entry = cache.entry(key).ttl(secs(10));
            entry
                .or_load(move |load| async move {
                    said.into_iter().for_each(|said| load.ttl(secs(said)));
                    Ok::<_, Broken>(value)
                })
                .await
                .unwrap();
        }
    };
    load("caller", 1, None).await;
    load("loader", 1, Some(5)).await;
    load("value", 0, None).await;
    load("both", 0, Some(5)).await;
    load("never", 1, Some(0)).await;
    let alive = || ["caller", "loader", "value", "both", "never"].map(|key| cache.get(key).is_some());
    assert_eq!(alive(), [true, true, true, true, false]);
    advance(secs(2)).await;
    assert_eq!(alive(), [true, true, false, true, false]);
    advance(secs(3)).await;
    assert_eq!(alive(), [true, false, false, false, false]);
    advance(secs(5)).await;
    assert_eq!(alive(), [false; 5]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_stored_is_not() {
    let cache = builder().build();
    let entry = cache.entry("k").or_load(|load| async move {
        load.no_store();
        Ok::<_, Broken>(1)
    });
    assert_eq!(*entry.await.unwrap(), 1);
    assert!(cache.get("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn chance_shortens_lives_by_its_part_at_most() {
    let cache = Cache::<u32, u64>::builder().default_ttl(secs(100)).jitter(0.5).build();
    for key in 0..200 {
        cache.get_or_load(&key, || async { Ok::<_, Broken>(1) }).await.unwrap();
    }
    let alive = || (0..200).filter(|key| cache.get(key).is_some()).count();
    advance(secs(50)).await;
    assert_eq!(alive(), 200);
    advance(secs(25)).await;
    assert!((1..200).contains(&alive()), "all at once");
    advance(secs(25)).await;
    assert_eq!(alive(), 0);
}

#[tokio::test]
async fn tags_keys_and_everything_can_be_invalidated() {
    let (cache, well) = (builder().build(), Well::default());
    let tagged = async |key: &str, tag: &str| {
        let well = well.clone();
        *cache.entry(key).tags([tag]).or_load(|_| async move { well.draw() }).await.unwrap()
    };
    assert_eq!((tagged("a", "x").await, tagged("b", "y").await, tagged("c", "y").await), (1, 2, 3));
    cache.invalidate_tags(["y"]).await.unwrap();
    assert_eq!((tagged("a", "x").await, tagged("b", "y").await, tagged("c", "y").await), (1, 4, 5));
    cache.invalidate("a").await.unwrap();
    assert_eq!((tagged("a", "x").await, tagged("b", "y").await), (6, 4));
    // Whether it is awaited or not.
    drop(cache.invalidate_all());
    assert_eq!((tagged("a", "x").await, tagged("b", "y").await, tagged("c", "y").await), (7, 8, 9));
}

#[tokio::test]
async fn keys_are_compared_in_full_and_borrowed() {
    let cache = Cache::<(u32, String), u64>::builder().build();
    for (n, key) in [(1, "a"), (1, "b"), (2, "a")].into_iter().enumerate() {
        let key = (key.0, key.1.to_owned());
        cache.get_or_load(&key, move || async move { Ok::<_, Broken>(n as u64) }).await.unwrap();
    }
    assert_eq!(cache.get(&(1, "b".to_owned())).as_deref(), Some(&1));
    let texts = Cache::<String, u64>::builder().build();
    texts.get_or_load("borrowed", || async { Ok::<_, Broken>(1) }).await.unwrap();
    assert_eq!(texts.get(&"borrowed".to_owned()).as_deref(), Some(&1));
}

#[tokio::test]
async fn memory_is_bounded_by_what_values_weigh() {
    let cache = Cache::<u32, Vec<u8>>::builder().max_bytes(1 << 20).weigher(Vec::len).build();
    for key in 0..1000 {
        cache.get_or_load(&key, || async { Ok::<_, Broken>(vec![0; 10_000]) }).await.unwrap();
    }
    assert!(cache.bytes() <= 1 << 20 && cache.len() > 10, "{} bytes, {}", cache.bytes(), cache.len());
    // Larger than a sixteenth: for those who wait, and not kept.
    let large = cache.get_or_load(&0, || async { Ok::<_, Broken>(vec![0; 100]) }).await.unwrap();
    assert!(!large.is_empty());
    cache.get_or_load(&5000, || async { Ok::<_, Broken>(vec![0; 70_000]) }).await.unwrap();
    assert!(cache.get(&5000).is_none());
}

#[tokio::test]
async fn what_happens_is_counted() {
    let metrics = Arc::new(CacheMetrics::default());
    let (cache, well) = (builder().metrics(Arc::clone(&metrics)).build(), Well::default());
    for _ in 0..3 {
        well.ask(&cache, "k").await;
    }
    cache.get_or_load("e", || async { Err::<u64, _>(Broken("down")) }).await.unwrap_err();
    assert_eq!((metrics.l1_hits.load(Relaxed), metrics.misses.load(Relaxed)), (2, 2));
    assert_eq!((metrics.loads.load(Relaxed), metrics.failures.load(Relaxed)), (2, 1));
    let mut seen = 0;
    metrics.each(|name, help, _| {
        seen += 1;
        assert!(help.ends_with('.'), "{name}: {help}");
    });
    assert!(seen >= 10);
}
