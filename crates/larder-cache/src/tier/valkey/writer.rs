//! Storing, in the background: a bounded line, a few at a time, over the connection for large things.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::breaker::Admission;
use super::counters::{Op, OpResult};
use super::links::{Lent, Links};
use super::shared::Shared;
use super::trouble::{Trouble, TroubleKind};
use crate::tier::TierKey;

/// Values waiting in line, and what they weigh together, per connection.
const LINE: usize = 1024;
const LINE_KIB: usize = 16 * 1024;
/// On their way to the server at a time.
const AT_A_TIME: usize = 8;
/// Nobody waits for a put: it may take this many times as long as an answer may.
const PATIENCE: u32 = 10;

/// The near end of the line.
#[derive(Debug)]
pub(super) struct Line {
    sender: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
}

#[derive(Debug)]
pub(super) struct Job {
    key: TierKey,
    value: Bytes,
    ttl: Duration,
    /// Given back when the job is done.
    _room: OwnedSemaphorePermit,
}

impl Line {
    pub(super) fn new() -> (Self, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(LINE);
        (Self { sender, room: Arc::new(Semaphore::new(LINE_KIB)) }, receiver)
    }

    /// False if the line is full.
    pub(super) fn join(&self, key: TierKey, value: Bytes, ttl: Duration) -> bool {
        let weight = u32::try_from(value.len().div_ceil(1024).clamp(1, LINE_KIB)).unwrap_or(u32::MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(weight) else { return false };
        self.sender.try_send(Job { key, value, ttl, _room: room }).is_ok()
    }
}

/// Stores what stands in line. Ends when the near end is gone.
pub(super) async fn run(shared: Arc<Shared>, links: Arc<Links>, mut line: mpsc::Receiver<Job>) {
    let jobs = stream::poll_fn(move |cx| line.poll_recv(cx));
    jobs.for_each_concurrent(AT_A_TIME, |job| store(&shared, &links, job)).await;
}

async fn store(shared: &Shared, links: &Links, job: Job) {
    let admitted = shared.writes.admit(Instant::now());
    if shared.breaker.is_open() || matches!(admitted, Admission::No) {
        return shared.counters.count(Op::Put, OpResult::Skipped);
    }
    let Some(Lent { id, mut wire }) = links.bulk() else {
        return shared.counters.count(Op::Put, OpResult::Skipped);
    };
    let key = shared.name_of(&job.key);
    let millis = u64::try_from(job.ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, MAX_TTL_MS);
    let mut command = redis::cmd("SET");
    command.arg(key).arg(&job.value[..]).arg("PX").arg(millis);
    let patience = shared.endpoint.timeout * PATIENCE;
    let started = Instant::now();
    let answer = tokio::time::timeout(patience, wire.ask(&command)).await;
    let trouble = match answer {
        Ok(Ok(_)) => {
            shared.took(Op::Put, OpResult::Ok, started);
            shared.breaker.succeeded();
            if let Admission::Probe(probe) = admitted {
                probe.succeed(Instant::now());
                shared.stores();
            }
            return;
        }
        Ok(Err(error)) => Trouble::from(&error),
        Err(_) => Trouble::timed_out(&format!("no answer to SET within {patience:?}")),
    };
    shared.took(Op::Put, Shared::result_of(&trouble), started);
    if trouble.of_writes() {
        if let Admission::Probe(probe) = admitted {
            probe.fail(Instant::now());
        }
        if trouble.kind == TroubleKind::ReadOnly {
            links.refresh(id);
        }
        shared.refused(trouble);
    } else {
        shared.broke(links, id, trouble);
    }
}

/// A year: more is a mistake, and Valkey refuses what overflows its clock.
const MAX_TTL_MS: u64 = 366 * 86_400_000;
