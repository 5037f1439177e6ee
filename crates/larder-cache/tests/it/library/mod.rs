//! The library for application code, seen from outside. Clocks are paused wherever time matters.

mod basics;
mod batches;
mod followed;
mod herd;
#[cfg(feature = "valkey")]
mod judged;
mod loaders;
#[cfg(feature = "valkey")]
mod shared;
mod truth;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use larder_cache::{Cache, CacheBuilder, LoadError, Loaded};
use tokio::sync::Notify;

/// What loaders fail with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

pub(crate) type Outcome = Result<Loaded<u64>, LoadError<Broken>>;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Nothing left to chance.
pub(crate) fn builder() -> CacheBuilder<str, u64> {
    Cache::builder().jitter(0.0).default_ttl(secs(30))
}

/// A source of numbers: each run of its loader brings the next one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Well(Arc<AtomicU64>);

impl Well {
    pub(crate) fn draw(&self) -> Result<u64, Broken> {
        Ok(self.0.fetch_add(1, SeqCst) + 1)
    }

    /// How often it was drawn from.
    pub(crate) fn drawn(&self) -> u64 {
        self.0.load(SeqCst)
    }

    pub(crate) async fn ask(&self, cache: &Cache<str, u64>, key: &str) -> u64 {
        let well = self.clone();
        *cache.get_or_load(key, || async move { well.draw() }).await.unwrap()
    }
}

/// A loader that waits for leave.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    begun: Arc<Notify>,
    leave: Arc<Notify>,
}

impl Gate {
    /// In the loader.
    pub(crate) async fn pass(self) {
        self.begun.notify_one();
        self.leave.notified().await;
    }

    /// In the test: the loader has begun.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    pub(crate) fn open(&self) {
        self.leave.notify_one();
    }
}

/// Lets every task that can run do so.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
