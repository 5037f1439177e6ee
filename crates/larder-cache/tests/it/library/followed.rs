//! A cache that follows a log of changes: values are given only while the log proves them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_cache::{ChangeLog, Fence, Moment, Resolved, Source, Tag, Tags};
use tokio::time::advance;

use super::{Broken, Gate, Well, builder, secs};

/// A log in the test's hands.
#[derive(Debug, Clone)]
pub(super) struct Log {
    fence: Arc<Fence>,
    tags: Arc<Tags>,
    known: Arc<HashMap<&'static str, bool>>,
}

impl ChangeLog for Log {
    fn fence(&self) -> &Arc<Fence> {
        &self.fence
    }

    fn resolve(&self, tag: &str) -> Resolved {
        match self.known.get(tag) {
            None => Resolved::Unknown,
            Some(true) => Resolved::Tags(vec![self.tags.get(tag)]),
            Some(false) => Resolved::Unprovable("not in the log".to_owned()),
        }
    }
}

impl Log {
    /// Everything up to position 100 is known, as of now.
    pub(super) fn new() -> Self {
        let known = HashMap::from([("table:t", true), ("table:u", true), ("table:foreign", false)]);
        let log = Self { fence: Arc::new(Fence::new(secs(1))), tags: Arc::default(), known: Arc::new(known) };
        log.proves(100);
        log
    }

    fn proves(&self, position: u64) {
        self.fence.set_applied(position);
        self.fence.set_visible(position);
        self.fence.set_covered(Moment::now());
    }

    fn tag(&self, name: &str) -> Arc<Tag> {
        self.tags.get(name)
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_in_the_log_ends_what_depends_on_it() {
    let log = Log::new();
    let (cache, well) = (builder().follow(log.clone()).build(), Well::default());
    let ask = async |key: &str, tag: &str| {
        let well = well.clone();
        *cache.entry(key).tags([tag]).or_load(|_| async move { well.draw() }).await.unwrap()
    };
    assert_eq!((ask("a", "table:t").await, ask("b", "table:u").await), (1, 2));
    assert_eq!((ask("a", "table:t").await, ask("b", "table:u").await), (1, 2));
    log.tag("table:t").touch(150);
    log.proves(150);
    assert_eq!((ask("a", "table:t").await, ask("b", "table:u").await), (3, 2));
    // By hand as well.
    cache.invalidate_tags(["table:u"]).await.unwrap();
    assert_eq!((ask("a", "table:t").await, ask("b", "table:u").await), (3, 4));
    log.fence.begin_epoch(150, false);
    assert_eq!((ask("a", "table:t").await, ask("b", "table:u").await), (5, 6));
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_load_wins() {
    let log = Log::new();
    let (cache, gate) = (builder().follow(log.clone()).build(), Gate::default());
    let loading = tokio::spawn({
        let (cache, gate) = (cache.clone(), gate.clone());
        async move {
            let load = |_| async {
                gate.pass().await;
                Ok::<_, Broken>(1)
            };
            *cache.entry("k").tags(["table:t"]).or_load(load).await.unwrap()
        }
    });
    gate.begun().await;
    log.tag("table:t").touch(150);
    log.proves(150);
    gate.open();
    assert_eq!(loading.await.unwrap(), 1);
    assert!(cache.get("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn without_proof_there_is_only_the_loader() {
    let log = Log::new();
    let (cache, well) = (builder().follow(log.clone()).build(), Well::default());
    assert_eq!(well.ask(&cache, "k").await, 1);
    advance(Duration::from_millis(1001)).await;
    assert_eq!((well.ask(&cache, "k").await, cache.get("k").is_none()), (2, true));
    // The lease is renewed: what was known then is good again, as nothing has changed.
    log.proves(160);
    assert_eq!(cache.get("k").as_deref(), Some(&2));
    // Nor is anything kept before the log has come anywhere.
    log.fence.begin_epoch(0, true);
    assert_eq!((well.ask(&cache, "k").await, well.ask(&cache, "k").await), (3, 4));
}

#[tokio::test(start_paused = true)]
async fn a_lost_log_is_no_excuse_for_something_stale() {
    let log = Log::new();
    let cache =
        builder().follow(log.clone()).default_ttl(secs(1)).jitter(0.0).stale_if_error(secs(600)).build();
    let ask = async |result: Result<u64, Broken>| {
        let load = move |_| async move { result };
        cache.entry("k").tags(["table:t"]).or_load(load).await.map(|loaded| (*loaded, loaded.is_stale()))
    };
    assert_eq!(ask(Ok(1)).await.unwrap(), (1, false));
    // Expired and proven: it is given in place of an error.
    advance(secs(2)).await;
    log.proves(150);
    assert_eq!(ask(Err(Broken("x"))).await.unwrap(), (1, true));
    // The log is lost: whether it changed since is not known. The error is the answer, and nothing hangs.
    advance(secs(2)).await;
    assert!(ask(Err(Broken("x"))).await.is_err());
    // It comes back without a gap, and nothing had changed.
    log.proves(160);
    assert_eq!(ask(Err(Broken("x"))).await.unwrap(), (1, true));
    // With a gap, what was known before is nothing any more.
    log.fence.begin_epoch(160, false);
    log.proves(170);
    assert!(ask(Err(Broken("x"))).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_the_log_does_not_show_is_not_kept() {
    let cache = builder().follow(Log::new()).build();
    for _ in 0..2 {
        let entry = cache.entry("k").tags(["table:t", "table:foreign"]);
        let loaded = entry.or_load(|_| async { Ok::<_, Broken>(1) }).await.unwrap();
        assert_eq!(loaded.source(), Source::Loader);
    }
    assert_eq!(cache.metrics().unprovable.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_can_wait_until_the_log_has_caught_up() {
    let log = Log::new();
    let cache = builder().follow(log.clone()).build();
    advance(secs(1)).await;
    assert!(!cache.caught_up(secs(5)).await, "nothing comes");
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.caught_up(secs(5)).await }
    });
    log.fence.sample_requested().await;
    advance(Duration::from_millis(1)).await;
    log.proves(170);
    assert!(waiting.await.unwrap());
    assert!(builder().build().caught_up(Duration::ZERO).await, "follows nothing");
}
