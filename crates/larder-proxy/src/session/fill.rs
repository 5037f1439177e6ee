//! Capturing an answer on its way to the client, so that the next one need not ask.

use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use larder_cache::{Discard, FillGuard, Moment, TagSet};

use tokio::sync::OwnedSemaphorePermit;

use super::Session;
use super::statements::Prepared;
use crate::plan::Plan;
use crate::reply::Answer;

/// A fill under way. Dropping it wakes whoever waits for it; one of them asks the origin next.
#[derive(Debug)]
pub(crate) struct Fill {
    /// Taken before the query was sent: holds the position and the epoch for which the answer is true.
    guard: FillGuard<Answer>,
    plan: Rc<Plan>,
    /// What the answer depends on.
    tags: TagSet,
    /// In the extended protocol: what is executed.
    prepared: Option<Rc<Prepared>>,
    frames: BytesMut,
    started: Moment,
    /// CommandComplete has been captured.
    complete: bool,
    /// The full key by which other processes may find the answer, if it is worth that.
    shared_key: Option<Vec<u8>>,
    /// One of the fills that the origin is asked for at once.
    _permit: Option<OwnedSemaphorePermit>,
}

impl Fill {
    pub(crate) fn new(
        guard: FillGuard<Answer>,
        plan: Rc<Plan>,
        tags: TagSet,
        shared_key: Option<Vec<u8>>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let started = Moment::now();
        let frames = BytesMut::new();
        Self {
            guard,
            plan,
            tags,
            prepared: None,
            frames,
            started,
            complete: false,
            shared_key,
            _permit: permit,
        }
    }

    /// It is this statement that brings the answer.
    pub(crate) fn of(mut self, prepared: Option<Rc<Prepared>>) -> Self {
        self.prepared = prepared;
        self
    }
}

impl Session {
    /// More of the captured reply. Gives the fill up when it grows too large or is not one plain result.
    pub(crate) fn capture(&mut self, bytes: &[u8], completes: bool) {
        let max = self.worker.config().max_result;
        let Some(fill) = &mut self.fill else { return };
        if fill.complete {
            return self.abandon_fill();
        }
        if fill.frames.len() + bytes.len() > max {
            if let Some(fill) = self.fill.take() {
                self.worker.metrics.discarded(Discard::TooLarge);
                fill.guard.too_large();
            }
            return;
        }
        fill.frames.extend_from_slice(bytes);
        fill.complete = completes;
    }

    pub(crate) fn abandon_fill(&mut self) {
        if self.fill.take().is_some() {
            self.worker.metrics.discarded(Discard::Abandoned);
        }
    }

    /// ReadyForQuery after the captured reply: keep it, if it is whole and still true.
    pub(crate) fn finish_fill(&mut self) {
        let Some(fill) = self.fill.take() else { return };
        let Ok(read) = &fill.plan.read else { return };
        if !fill.complete {
            return self.worker.metrics.discarded(Discard::Abandoned);
        }
        let cost = Moment::now().since(fill.started);
        if let Some(query) = &fill.plan.query {
            query.learn(cost, fill.frames.len());
        }
        let config = self.worker.config();
        let ttl = config.jittered(read.ttl.unwrap_or(config.ttl));
        // An exact copy: the buffer that grew with the reply may be twice its size.
        let columns = fill.prepared.and_then(|prepared| prepared.told.borrow().clone());
        let answer = Answer { frames: Bytes::copy_from_slice(&fill.frames), columns };
        // Both are counts of what is shared, or nothing.
        let gift = fill.shared_key.and_then(|key| Some((key, fill.guard.claim()?, answer.clone())));
        match fill.guard.store(answer, fill.tags, ttl, cost) {
            Ok(()) => {
                if let Some((key, claim, answer)) = gift {
                    self.share(&claim, &key, &answer, ttl, cost);
                }
            }
            Err(why) => self.worker.metrics.discarded(why),
        }
    }
}

/// Longest wait for one of the `max_inflight_fills` places. Past it the query goes on: a limit that protects the
/// origin must not become an outage.
pub(crate) const PLACE: Duration = Duration::from_secs(1);

/// Longest wait for another session's identical query. It bounds the one deadlock that PostgreSQL cannot see: the
/// other query waits for a lock whose holder waits for this session.
pub(crate) const FOLLOW: Duration = Duration::from_secs(5);
