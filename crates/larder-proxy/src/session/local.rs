//! Answering from memory: simple queries, and the rules that hold for batches (`answer`) as well. An attempt either
//! answers the whole request or leaves everything as it was.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Buf;
use larder_cache::{Entry, Miss, Moment};
use larder_core::{Bypass, Level};
use larder_sql::{Begin, Kind};
use larder_wire::encode;

use super::check::Check;
use super::portal::Unnamed;
use super::settle::{Attempt, Way};
use super::transaction::Deferred;
use super::{Caching, Session};
use crate::metrics::Outcome;
use crate::mode::Mode;
use crate::plan::{Plan, Read};
use crate::reply::Answer;

/// The setting that answers how the previous statement was served.
pub(super) const LAST: &str = "larder.last";

impl Session {
    /// A simple query.
    pub(crate) fn answer_query(&mut self, total: usize, arrival: Moment, way: Way<'_>) -> Attempt {
        let Some(text) = self.query_text(total) else { return Attempt::Forward(Bypass::ProtocolShape) };
        if let Some(attempt) = self.not_now().or_else(|| self.lacks_facts_for_query(text)) {
            return if asks_last(text) { self.answer_last(total) } else { attempt };
        }
        let Some(plan) = self.known_plan(text, b"\0\0") else {
            return Attempt::Forward(Bypass::SettingsUnknown);
        };
        if self.begins_or_ends(&plan, self.deferred.is_some()) {
            if self.is_shadow() {
                return Attempt::Forward(Bypass::Shadow);
            }
            let (tag, deferred) = step_transaction(&plan.kind, text);
            self.deferred = deferred;
            self.transaction.read_here = false;
            encode::command_complete(&mut self.client.output, tag);
        } else if plan.kind == Kind::ShowLast {
            self.show_last();
        } else {
            let read = match self.readable(&plan, self.deferred.is_some()) {
                Ok(read) => read,
                Err(why) => return Attempt::Forward(why),
            };
            match self.worker.store.get(&read.simple_key, &self.reader(arrival)) {
                Ok(entry) if let Some(why) = self.compares(&entry) => {
                    return Attempt::Compare { checks: vec![(0, Check::new(entry, plan))], why };
                }
                Ok(entry) => {
                    self.share_again(&read.simple_key, &entry, &plan);
                    self.client.output.extend_from_slice(&entry.value.frames);
                    self.transaction.read_here = self.deferred.is_some() || self.transaction.status == b'T';
                    self.hit(&entry, &plan, arrival, way);
                }
                Err(why) => {
                    self.key.clear();
                    self.key.extend_from_slice(&read.simple_key);
                    return self.missed(&plan, why, 0, true);
                }
            }
        }
        self.end_query(total)
    }

    /// `SHOW larder.last` while nothing else can be answered here: it needs neither catalog nor facts.
    fn answer_last(&mut self, total: usize) -> Attempt {
        if self.busy() {
            return Attempt::Forward(Bypass::PipelineBusy);
        }
        self.show_last();
        self.end_query(total)
    }

    /// The reply to `SHOW larder.last` in a plain session.
    pub(super) fn say_last(&mut self) {
        self.show_last();
        let status = self.plain_status();
        encode::ready_for_query(&mut self.client.output, status);
    }

    fn show_last(&mut self) {
        let value = self.last_served();
        encode::text_column(&mut self.client.output, LAST);
        encode::text_value(&mut self.client.output, &value, "SHOW");
    }

    fn end_query(&mut self, total: usize) -> Attempt {
        self.ready_for_query();
        self.consume_query(total);
        Attempt::Answered
    }

    /// The simple query at the front of the input has been answered. It ends the unnamed statement.
    pub(super) fn consume_query(&mut self, total: usize) {
        if let Some(unnamed) = self.statements.remove(b"") {
            self.stale_unnamed |= unnamed.upstream.get();
        }
        self.set_portal(Unnamed::Ended);
        self.flushed.clear();
        self.client.input.advance(total);
    }

    /// What keeps the session as it stands from answering anything.
    pub(super) fn not_now(&self) -> Option<Attempt> {
        if let Caching::Off(why) = self.caching {
            return Some(Attempt::Forward(why));
        }
        if self.worker.mode.get() == Mode::Bypass {
            return Some(Attempt::Forward(Bypass::ModeBypass));
        }
        let Some(catalog) = &*self.worker.shared.catalog.load() else {
            return Some(Attempt::Forward(Bypass::NoCatalog));
        };
        if catalog.database != self.database {
            return Some(Attempt::Forward(Bypass::DatabaseNotFollowed));
        }
        if self.busy() {
            return Some(Attempt::Forward(Bypass::PipelineBusy));
        }
        None
    }

    /// Nothing is answered here, whatever could be.
    pub(super) fn is_shadow(&self) -> bool {
        self.worker.mode.get() == Mode::Shadow
    }

    /// Why an answer that was found is not given but compared with the origin's, if it is.
    pub(super) fn compares(&self, entry: &Entry<Answer>) -> Option<Bypass> {
        if self.is_shadow() {
            return Some(Bypass::Shadow);
        }
        let rate = self.worker.config().verify.sample;
        self.worker.sampler.draws(rate, self.now, entry.cost).then_some(Bypass::Verify)
    }

    /// Whether what the origin said about statements in this epoch still goes: DDL may be on its way.
    pub(super) fn is_settled(&self) -> bool {
        let heed_marks = self.worker.config().level != Level::Bounded;
        let reader = larder_cache::Reader { now: self.now, heed_marks, covered_past: self.news };
        self.worker.shared.fence.is_settled(&reader)
    }

    /// How to answer a plan from memory in this session, now.
    pub(super) fn readable<'plan>(&self, plan: &'plan Plan, deferred: bool) -> Result<&'plan Read, Bypass> {
        let read = plan.read.as_ref().map_err(|why| *why)?;
        if self.knowledge.stale {
            return Err(Bypass::SettingsUnknown);
        }
        if self.facts().is_some_and(|facts| facts.common.bypass) {
            return Err(Bypass::SessionBypass);
        }
        if self.transaction.status == b'I' && !deferred && !self.default_is_read_committed() {
            // Each statement is a transaction of its own, and write skew is caught only with the reads that were real.
            return Err(Bypass::TransactionSnapshot);
        }
        match self.transaction.refusal() {
            Some(why) => Err(why),
            None => Ok(read),
        }
    }

    pub(super) fn missed(&self, plan: &Rc<Plan>, why: Miss, step: usize, proven: bool) -> Attempt {
        match why {
            Miss::NoLease => Attempt::Forward(Bypass::NoLease),
            Miss::TooLarge => Attempt::Forward(Bypass::ResultTooLarge),
            Miss::WriteInFlight if self.worker.config().level == Level::Linearizable => Attempt::NeedBarrier,
            _ => Attempt::Miss { plan: Rc::clone(plan), why, step, proven },
        }
    }

    /// BEGIN that can be deferred, or the end of one that was.
    pub(super) fn begins_or_ends(&self, plan: &Plan, deferred: bool) -> bool {
        match &plan.kind {
            Kind::Begin(Begin { deferrable, names_read_committed, .. }) => {
                // Nothing is gained by it where nothing is answered from memory.
                let bypass = self.facts().is_some_and(|facts| facts.common.bypass);
                let idle = self.transaction.status == b'I' && !deferred && !self.listens && !bypass;
                idle && *deferrable && (*names_read_committed || self.default_is_read_committed())
            }
            Kind::Commit | Kind::Rollback => deferred,
            _ => false,
        }
    }

    pub(super) fn ready_for_query(&mut self) {
        let status = if self.deferred.is_some() { b'T' } else { self.transaction.status };
        encode::ready_for_query(&mut self.client.output, status);
    }

    pub(super) fn hit(&mut self, entry: &Arc<Entry<Answer>>, plan: &Plan, arrival: Moment, way: Way<'_>) {
        let age = arrival.since(entry.stored);
        let outcome = if way.adopted.iter().any(|adopted| Arc::ptr_eq(adopted, entry)) {
            Outcome::Shared { age }
        } else if way.followed {
            Outcome::Coalesced { age }
        } else {
            Outcome::Hit { age }
        };
        self.last = Some(outcome);
        if !self.worker.config().statistics {
            return;
        }
        self.count_answer(true);
        self.worker.metrics.saved(entry.cost);
        self.worker.metrics.answered(outcome, arrival);
        if let Some(query) = &plan.query {
            let coalesced = matches!(outcome, Outcome::Coalesced { .. });
            query.hit(arrival, coalesced, entry.cost, entry.value.frames.len());
        }
    }
}

/// The command tag of a transaction statement answered here, and the deferred BEGIN after it.
pub(super) fn step_transaction(kind: &Kind, text: &[u8]) -> (&'static str, Option<Deferred>) {
    match kind {
        Kind::Begin(begin) => {
            (begin.tag, Some(Deferred { text: String::from_utf8_lossy(text).into_owned() }))
        }
        Kind::Commit => ("COMMIT", None),
        _ => ("ROLLBACK", None),
    }
}

/// Whether a simple query is `SHOW larder.last`.
pub(super) fn asks_last(text: &[u8]) -> bool {
    let trimmed = text.trim_ascii().strip_suffix(b";").unwrap_or(text.trim_ascii());
    trimmed.eq_ignore_ascii_case(b"show larder.last")
}
