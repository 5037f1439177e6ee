//! The two connections of one thread, and the task that keeps them.
//!
//! Small answers have a connection of their own, so that they do not stand in line behind large ones; everything that
//! is stored goes over the other. They are made, and made anew, in the background: whoever finds none goes without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::breaker::{Probe, jittered};
use super::connect::Wire;
use super::counters::{Op, OpResult};
use super::inspect;
use super::shared::Shared;
use super::trouble::{Trouble, TroubleKind};
use super::url::Topology;

/// An idle connection is asked this often whether it is still one.
const PING_EVERY: Duration = Duration::from_secs(2);
/// Between attempts to connect while the breaker is closed; doubled up to 16 times as much.
const RETRY_AFTER: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Links {
    pair: Mutex<Option<Pair>>,
    last_id: AtomicU64,
    /// Rung when there is something to do for [`keep`].
    bell: Notify,
}

struct Pair {
    id: u64,
    /// How often the breaker had opened when it was made.
    openings: u64,
    /// To be replaced by a new one while it is still used.
    stale: bool,
    small: Wire,
    bulk: Wire,
}

/// A connection to use now, and the pair's number to say which it was.
pub(super) struct Lent {
    pub(super) id: u64,
    pub(super) wire: Wire,
}

impl Links {
    pub(super) fn small(&self) -> Option<Lent> {
        self.pair.lock().as_ref().map(|pair| Lent { id: pair.id, wire: pair.small.clone() })
    }

    pub(super) fn bulk(&self) -> Option<Lent> {
        self.pair.lock().as_ref().map(|pair| Lent { id: pair.id, wire: pair.bulk.clone() })
    }

    pub(super) fn are_there(&self) -> bool {
        self.pair.lock().is_some()
    }

    /// One of that pair is broken; true for the first who says so.
    pub(super) fn lost(&self, id: u64) -> bool {
        let mut pair = self.pair.lock();
        let found = pair.as_ref().is_some_and(|pair| pair.id == id);
        if found {
            *pair = None;
            self.bell.notify_one();
        }
        found
    }

    /// The primary may be another server by now: look again, and use what there is until then.
    pub(super) fn refresh(&self, id: u64) {
        if let Some(pair) = self.pair.lock().as_mut().filter(|pair| pair.id == id) {
            pair.stale = true;
            self.bell.notify_one();
        }
    }

    fn install(&self, openings: u64, small: Wire, bulk: Wire) {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed);
        *self.pair.lock() = Some(Pair { id, openings, stale: false, small, bulk });
    }

    fn are_good(&self, openings: u64) -> bool {
        self.pair.lock().as_ref().is_some_and(|pair| pair.openings == openings && !pair.stale)
    }

    /// What was made before the breaker opened is suspect: answers are owed on it that nobody waits for.
    fn drop_older_than(&self, openings: u64) {
        let mut pair = self.pair.lock();
        if pair.as_ref().is_some_and(|pair| pair.openings < openings) {
            *pair = None;
        }
    }
}

/// Makes connections whenever they are missing, and takes its turn at probing while the breaker is open. Never ends.
pub(super) async fn keep(shared: Arc<Shared>, links: Arc<Links>) {
    let mut turns = shared.breaker.turns();
    let mut retry_after = RETRY_AFTER;
    loop {
        turns.borrow_and_update();
        let openings = shared.breaker.openings();
        if shared.breaker.is_open() {
            links.drop_older_than(openings);
            let due = shared.breaker.next_probe();
            tokio::select! {
                () = at(due) => {}
                _ = turns.changed() => continue,
            }
            if let Some(probe) = shared.breaker.probe(Instant::now()) {
                try_probe(&shared, &links, probe, openings).await;
            }
            retry_after = RETRY_AFTER;
        } else if !links.are_good(openings) {
            match make(&shared, &links, openings).await {
                Ok(latency) => {
                    shared.is_up(latency);
                    retry_after = RETRY_AFTER;
                }
                Err(trouble) => {
                    shared.failed(trouble);
                    tokio::select! {
                        () = tokio::time::sleep(jittered(retry_after)) => {}
                        _ = turns.changed() => {}
                    }
                    retry_after = (retry_after * 2).min(RETRY_AFTER * 16);
                }
            }
        } else {
            tokio::select! {
                () = links.bell.notified() => {}
                _ = turns.changed() => {}
                () = tokio::time::sleep(PING_EVERY) => ping(&shared, &links).await,
            }
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn try_probe(shared: &Arc<Shared>, links: &Links, probe: Probe<'_>, openings: u64) {
    match make(shared, links, openings).await {
        Ok(latency) => {
            probe.succeed(Instant::now());
            shared.is_up(latency);
        }
        Err(trouble) => {
            probe.fail(Instant::now());
            shared.is_down(trouble);
        }
    }
}

/// Connects twice, and is answered. Nothing is installed that would not serve.
async fn make(shared: &Arc<Shared>, links: &Links, openings: u64) -> Result<Duration, Trouble> {
    let started = Instant::now();
    let both = async { tokio::try_join!(shared.endpoint.connect(), shared.endpoint.connect()) };
    let (mut small, bulk) = match both.await {
        Ok(both) => both,
        Err(trouble) => {
            shared.took(Op::Connect, Shared::result_of(&trouble), started);
            return Err(trouble);
        }
    };
    shared.took(Op::Connect, OpResult::Ok, started);
    let latency = ask_ping(shared, &small).await?;
    if let Some(server) = inspect::server(&shared.endpoint, &mut small).await {
        if server.clustered && shared.endpoint.url.topology == Topology::Single {
            return Err(Trouble::new(TroubleKind::Clustered, "INFO says cluster_enabled:1"));
        }
        shared.is_served_by(server);
    }
    links.install(openings, small, bulk);
    Ok(latency)
}

async fn ping(shared: &Arc<Shared>, links: &Links) {
    let Some(Lent { id, wire }) = links.small() else { return };
    match ask_ping(shared, &wire).await {
        Ok(latency) => shared.is_up(latency),
        Err(trouble) => {
            links.lost(id);
            shared.failed(trouble);
        }
    }
}

async fn ask_ping(shared: &Arc<Shared>, wire: &Wire) -> Result<Duration, Trouble> {
    let started = Instant::now();
    let answer = shared.endpoint.ping(wire).await;
    let result = answer.as_ref().map_or_else(Shared::result_of, |_| OpResult::Ok);
    shared.took(Op::Ping, result, started);
    answer
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("id", &self.id).finish_non_exhaustive()
    }
}
