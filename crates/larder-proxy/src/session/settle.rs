//! The pipeline: what happens to a request whose answer may come from memory.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Buf as _;
use larder_cache::{Entry, Flight, Miss, Moment};
use larder_core::{Bypass, Level};
use larder_wire::encode::{self, Severity};
use tokio::sync::OwnedSemaphorePermit;

use super::Session;
use super::check::Check;
use super::expect::{Expect, Own};
use super::fill::{FOLLOW, Fill, PLACE};
use super::forward::{Copying, Route};
use super::share::Asked;
use crate::cancel::Cancelled;
use crate::clients::ClientState;
use crate::facts;
use crate::metrics::Outcome;
use crate::plan::Plan;
use crate::reply::Answer;

/// A request that the client waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    /// A simple query of so many bytes, at the front of the client's input.
    Query(usize),
    /// The messages held back, ended by Sync (`S`) or Flush (`H`) of `total` bytes.
    Batch { tag: u8, total: usize },
}

/// The outcome of one attempt to answer from memory. Nothing has been consumed unless it is `Answered`.
#[derive(Debug)]
pub(crate) enum Attempt {
    Answered,
    /// The session's facts must be read first.
    NeedFacts,
    /// An answer is there, and this reader must wait until it is known to be recent enough.
    NeedBarrier,
    /// The key (in `Session::key`) is not there: the origin's answer is worth keeping.
    Miss {
        plan: Rc<Plan>,
        why: Miss,
        /// Index of the Execute in the batch.
        step: usize,
        /// The rest of the request could be answered if the answer were there.
        proven: bool,
    },
    /// All of it could be answered from memory, but the origin is asked, and what it says is compared: for each Execute,
    /// by its index in the batch.
    Compare {
        checks: Vec<(usize, Box<Check>)>,
        why: Bypass,
    },
    Forward(Bypass),
}

/// How what is found in memory came to be there, for the account.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way<'a> {
    /// Another session's identical query was waited for.
    pub(crate) followed: bool,
    /// What was taken over from the shared tier for this request.
    pub(crate) adopted: &'a [Arc<Entry<Answer>>],
}

/// What came of joining those who ask the same.
#[derive(Debug)]
enum Joined {
    /// Another process had the answer: it is there now.
    Adopted(Arc<Entry<Answer>>),
    /// Another's query has ended: its answer may be there.
    Waited,
    /// It is this session's turn to ask the origin, with a fill if it asks for all.
    Go(Option<Fill>),
}

/// Answers taken over for one request, at most: each is a trip to the shared tier.
const ASKED: usize = 4;

/// Longest wait for the read barrier of `level = "linearizable"`.
const BARRIER: std::time::Duration = std::time::Duration::from_millis(50);

impl Session {
    /// Answers the request from memory, or sends it to the origin.
    pub(crate) async fn settle(&mut self, request: Request) -> io::Result<()> {
        let arrival = Moment::now();
        let (mut followed, mut probed, mut waited) = (false, false, false);
        let (mut asked, mut adopted) = (None, Vec::new());
        self.now = arrival;
        let traced = self.worker.tracing.is_some() && self.begin_trace(request, arrival);
        let route = loop {
            let attempt = self.attempt(request, arrival, Way { followed, adopted: &adopted });
            if traced {
                self.trace_step("memory");
            }
            match attempt {
                Attempt::Answered => {
                    if traced {
                        self.end_trace();
                    }
                    return Ok(());
                }
                Attempt::NeedFacts if !probed => {
                    probed = true;
                    self.probe().await?;
                    self.trace_step("settings");
                    if std::mem::take(&mut self.knowledge.broke) {
                        self.drop_request(request);
                        return Ok(());
                    }
                    self.now = Moment::now();
                }
                Attempt::NeedFacts => break Route::bypass(Bypass::SettingsUnknown),
                Attempt::NeedBarrier if !waited => {
                    waited = true;
                    let covered = self.worker.shared.fence.wait_covered(arrival, BARRIER);
                    let waited = self.wait(request, covered).await;
                    self.trace_step("barrier");
                    match waited {
                        Ok(true) => self.now = Moment::now(),
                        Ok(false) => break Route::bypass(Bypass::BarrierTimeout),
                        Err(Cancelled) => {
                            self.cancel(request);
                            return Ok(());
                        }
                    }
                }
                Attempt::NeedBarrier => break Route::bypass(Bypass::BarrierTimeout),
                Attempt::Forward(why) => break Route::bypass(why),
                Attempt::Compare { checks, why } => {
                    let copies = checks.into_iter().map(|(step, check)| (step, Copying::Check(check)));
                    let outcome = Outcome::Bypass(why);
                    break Route { started: arrival, outcome, copies: copies.collect() };
                }
                Attempt::Miss { plan, why, .. } if plan.epoch != self.worker.shared.fence.epoch() => {
                    drop(plan);
                    break Route { started: arrival, outcome: Outcome::Miss(why), copies: Vec::new() };
                }
                Attempt::Miss { plan, why, step, proven } => {
                    let may_follow = !std::mem::replace(&mut followed, true);
                    // Once for each Execute: what was found there can be of no use to this session.
                    let may_ask = proven && adopted.len() < ASKED && asked.replace(step) != Some(step);
                    match self.join(request, plan, why, may_follow, may_ask).await {
                        Ok(Joined::Waited) => self.now = Moment::now(),
                        Ok(Joined::Adopted(entry)) => {
                            adopted.push(entry);
                            self.now = Moment::now();
                        }
                        Ok(Joined::Go(fill)) => {
                            let copies = fill.map(|fill| (step, Copying::Fill(fill)));
                            let outcome = Outcome::Miss(why);
                            break Route { started: arrival, outcome, copies: copies.into_iter().collect() };
                        }
                        Err(Cancelled) => {
                            self.cancel(request);
                            return Ok(());
                        }
                    }
                }
            }
        };
        if traced {
            self.trace_forwarded();
        }
        self.forward(request, route);
        Ok(())
    }

    /// Joins those who ask the same.
    async fn join(
        &self,
        request: Request,
        plan: Rc<Plan>,
        why: Miss,
        may_follow: bool,
        may_ask: bool,
    ) -> Result<Joined, Cancelled> {
        match self.worker.store.join(&self.key) {
            // A read that must see a write still on its way would not be helped by an earlier query. (And nothing waits
            // for an answer that it will not be given.)
            Flight::Follow(other)
                if may_follow && why != Miss::WriteInFlight && self.may_wait() && !self.is_shadow() =>
            {
                let _ = self.wait(request, tokio::time::timeout(FOLLOW, other.wait())).await?;
                self.trace_step("another's query");
                Ok(Joined::Waited)
            }
            Flight::Lead(guard) => {
                let key = self.worth_sharing(&plan);
                let guard = match &key {
                    // What is found there is no newer for a reader who must see a write still on its way.
                    Some(key) if may_ask && why != Miss::WriteInFlight && guard.epoch() == plan.epoch => {
                        let asked = self.wait(request, self.ask_others(guard, &plan, key)).await?;
                        self.trace_step("shared tier");
                        match asked {
                            Asked::Adopted(entry) => return Ok(Joined::Adopted(entry)),
                            Asked::Missed(guard) => guard,
                        }
                    }
                    _ => Some(guard),
                };
                let permit = self.wait(request, self.place()).await?;
                self.trace_step("place");
                // The guard's epoch is the plan's, or the tags may be another catalog's.
                let guard = guard.filter(|guard| guard.epoch() == plan.epoch);
                let tags = plan.read.as_ref().ok().map(|read| read.tags(&self.key));
                let fill = guard.zip(tags).map(|(guard, tags)| Fill::new(guard, plan, tags, key, permit));
                Ok(Joined::Go(fill))
            }
            Flight::Follow(_) | Flight::Alone => Ok(Joined::Go(None)),
        }
    }

    /// Waits for something that happens elsewhere, unless a cancel request ends the wait. (Not after Flush: all up to the
    /// next Sync would have to be skipped.)
    async fn wait<T>(&self, request: Request, what: impl Future<Output = T>) -> Result<T, Cancelled> {
        let flushed = matches!(request, Request::Batch { tag, .. } if tag != b'S');
        if let Some(seat) = &self.client_seat {
            seat.set(ClientState::Waiting);
        }
        match &self.seat {
            Some(seat) if !flushed => seat.wait(what).await,
            _ => Ok(what.await),
        }
    }

    /// The client cancelled a request while it waited here: says so, as the origin would.
    fn cancel(&mut self, request: Request) {
        self.drop_request(request);
        self.worker.metrics.failed();
        self.last = None;
        let message = "canceling statement due to user request";
        encode::error(&mut self.client.output, Severity::Error, "57014", message, None);
        if self.in_transaction() {
            // The transaction has failed, and the origin must know: a savepoint that does not exist does that.
            self.materialize();
            self.forget_unnamed_upstream();
            encode::query(&mut self.origin.output, "rollback to savepoint larder_cancelled");
            self.outstanding.push(Expect::Own(Own::Failure));
        } else {
            encode::ready_for_query(&mut self.client.output, self.transaction.status);
        }
    }

    fn attempt(&mut self, request: Request, arrival: Moment, way: Way<'_>) -> Attempt {
        match request {
            Request::Query(total) => self.answer_query(total, arrival, way),
            Request::Batch { tag, total } => self.answer_batch(tag, total, arrival, way),
        }
    }

    fn forward(&mut self, request: Request, route: Route) {
        match request {
            Request::Query(total) => self.forward_query(total, route),
            Request::Batch { tag, total } => {
                self.flush_batch(route);
                // If some of it waits, so does its end: it is found behind the rest.
                if self.batch.is_empty() {
                    self.forward_end(tag, total);
                }
            }
        }
    }

    /// A place among the fills that the origin is asked for at once, if one can be had in time.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = &self.worker.fills;
        match Arc::clone(places).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) if !self.may_wait() || self.is_shadow() => None,
            Err(_) => tokio::time::timeout(PLACE, Arc::clone(places).acquire_owned()).await.ok()?.ok(),
        }
    }

    /// Waiting for another session is safe only while this one holds nothing that the other could wait for.
    fn may_wait(&self) -> bool {
        self.transaction.status == b'I' && !self.busy()
    }

    /// Reads the session's facts from the origin, on this connection.
    async fn probe(&mut self) -> io::Result<()> {
        // The catalog may be of the next epoch already, and name other settings than the plans of this one rely on:
        // `Facts::have` tells.
        let epoch = self.worker.shared.fence.epoch();
        let Some(catalog) = self.worker.shared.catalog.load_full() else { return Ok(()) };
        facts::ask(&mut self.origin.output, &catalog.settings);
        self.knowledge.probing = Some((epoch, catalog));
        self.outstanding.push(Expect::Own(Own::Probe));
        while self.knowledge.probing.is_some() && !self.origin.ended && !self.client.ended && !self.blind {
            self.turn().await?;
            self.read_origin();
        }
        Ok(())
    }

    /// The request was answered with the error of the read-back before it: its transaction has failed.
    fn drop_request(&mut self, request: Request) {
        match request {
            Request::Query(total) => self.consume_query(total),
            Request::Batch { total, .. } => {
                self.client.input.advance(self.batch.end + total);
                self.batch.clear();
            }
        }
    }

    /// What the reader is entitled to, by the configured level.
    pub(crate) fn reader(&self, arrival: Moment) -> larder_cache::Reader {
        let (heed_marks, covered_past) = match self.worker.config().level {
            Level::Linearizable => (false, arrival.max(self.news)),
            Level::Strict => (true, self.news),
            Level::Session => (false, self.news.max(self.wrote)),
            Level::Bounded => (false, Moment::default()),
        };
        larder_cache::Reader { now: self.now, heed_marks, covered_past }
    }
}
