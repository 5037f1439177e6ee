//! Keeps what is said of the past up to date: in the tier for others, and here by what others say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::exchange::Exchange;
use super::statement::Statement;
use crate::{Fence, Tags};

/// How often it is looked at: a process that comes is cold for about as long.
const EVERY: Duration = Duration::from_millis(200);

/// What the keeper has done, for metrics and status.
#[derive(Debug, Default)]
pub struct KeeperCounters {
    /// Statements of others that moved this process's history back.
    pub learnt: AtomicU64,
    /// Statements handed to the tier.
    pub said: AtomicU64,
}

/// Learns from what others say of the past, and says what is known here. One for each process.
#[derive(Debug)]
pub struct Keeper {
    fence: Arc<Fence>,
    tags: Arc<Tags>,
    exchange: Exchange,
    ttl: Duration,
    counters: Arc<KeeperCounters>,
}

impl Keeper {
    /// Statements are kept for `ttl` after the last process has said something.
    pub fn new(
        fence: Arc<Fence>,
        tags: Arc<Tags>,
        exchange: Exchange,
        ttl: Duration,
        counters: Arc<KeeperCounters>,
    ) -> Self {
        Self { fence, tags, exchange, ttl, counters }
    }

    /// Until the future is dropped.
    pub async fn run(self) {
        let mut refreshed: Option<Instant> = None;
        loop {
            // Up to a half more or less, so that processes do not keep in step.
            tokio::time::sleep(EVERY.mul_f64(0.5 + fastrand::f64())).await;
            let stale = refreshed.is_none_or(|at| at.elapsed() > self.ttl / 4);
            if self.turn(stale).await {
                refreshed = Some(Instant::now());
            }
        }
    }

    /// Learns from what is there, then says what is known here if that is more. `refresh`: also if it is not. Whether
    /// something was said.
    pub async fn turn(&self, refresh: bool) -> bool {
        let Some(scope) = self.fence.scope() else { return false };
        let there = self.exchange.statement(&scope.life, &scope.meaning).await;
        if let Some(there) = &there
            && there.learn(&self.fence, &self.tags)
        {
            self.counters.learnt.fetch_add(1, Ordering::Relaxed);
        }
        let Some(own) = Statement::collect(&self.fence, &self.tags) else { return false };
        // What an older statement knows beyond this one belongs to processes that are not here to be asked.
        let news = there.is_none_or(|there| own.to > there.to || own.from < there.from);
        if !(news || refresh) {
            return false;
        }
        self.exchange.say(&own, self.ttl);
        self.counters.said.fetch_add(1, Ordering::Relaxed);
        true
    }
}
