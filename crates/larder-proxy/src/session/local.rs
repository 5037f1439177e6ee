//! Answering from memory. An attempt either answers the whole request or leaves everything as it was.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Buf;
use larder_cache::{Entry, Miss, Moment};
use larder_core::{Bypass, Level};
use larder_sql::{Begin, Kind};
use larder_wire::{encode, frontend};

use super::batch::Step;
use super::settle::Attempt;
use super::statements::Prepared;
use super::transaction::Deferred;
use super::{Caching, Session};
use crate::key;
use crate::metrics::Outcome;
use crate::plan::{Plan, Read};
use crate::reply::Answer;

/// The setting that answers how the previous statement was served.
const LAST: &str = "larder.last";

/// The portal that the batch has bound so far.
#[derive(Debug)]
struct Portal {
    plan: Rc<Plan>,
    prepared: Rc<Prepared>,
    /// The `Bind` step.
    bind: Step,
    /// Its rows have been given: a second `Execute` finds none.
    executed: bool,
}

/// What a batch has changed so far, if it is answered.
#[derive(Debug)]
struct Draft {
    parsed: Vec<Rc<Prepared>>,
    closed: Vec<Vec<u8>>,
    portal: Option<Portal>,
    /// The transaction that the client believes to be in: the deferred BEGIN.
    deferred: Option<Deferred>,
    hits: Vec<Arc<Entry<Answer>>>,
    /// The origin has not been heard on a statement of the batch yet: it must go there, but an execution of it is
    /// worth keeping.
    unproven: bool,
    /// It bound the unnamed portal.
    bound: bool,
    /// See [`super::transaction::Transaction::read_here`].
    read: bool,
}

impl Draft {
    /// A portal was bound and not executed, so nothing has proven yet that the origin would have bound it.
    fn is_open(&self) -> bool {
        self.portal.as_ref().is_some_and(|portal| !portal.executed)
    }
}

impl Session {
    /// A simple query.
    pub(crate) fn answer_query(&mut self, total: usize, arrival: Moment, followed: bool) -> Attempt {
        let Some(text) = self.query_text(total) else { return Attempt::Forward(Bypass::ProtocolShape) };
        if let Some(attempt) = self.not_now(|| worth_probing(text)) {
            return if asks_last(text) { self.answer_last(total) } else { attempt };
        }
        let Some(plan) = self.known_plan(text, b"\0\0") else {
            return Attempt::Forward(Bypass::SettingsUnknown);
        };
        if self.begins_or_ends(&plan, self.deferred.is_some()) {
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
                Ok(entry) => {
                    self.client.output.extend_from_slice(&entry.value.frames);
                    self.transaction.read_here = self.deferred.is_some() || self.transaction.status == b'T';
                    self.hit(&entry, arrival, followed);
                }
                Err(why) => {
                    self.key.clear();
                    self.key.extend_from_slice(&read.simple_key);
                    return self.missed(&plan, why, 0);
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

    /// The simple query at the front of the input has been answered. It ends the unnamed statement.
    fn end_query(&mut self, total: usize) -> Attempt {
        if let Some(unnamed) = self.statements.remove(b"") {
            self.stale_unnamed |= unnamed.upstream.get();
        }
        self.ready_for_query();
        self.client.input.advance(total);
        Attempt::Answered
    }

    /// The messages held back, ended by Sync or Flush.
    pub(crate) fn answer_batch(&mut self, tag: u8, total: usize, arrival: Moment, followed: bool) -> Attempt {
        if let Some(attempt) = self.not_now(|| true) {
            return attempt;
        }
        let input = std::mem::take(&mut self.client.input);
        let mark = self.client.output.len();
        let deferred = self.deferred.as_ref().map(|deferred| Deferred { text: deferred.text.clone() });
        let mut draft = Draft {
            parsed: vec![],
            closed: vec![],
            portal: None,
            deferred,
            hits: vec![],
            unproven: false,
            bound: false,
            read: self.transaction.read_here,
        };
        let steps = std::mem::take(&mut self.batch);
        let failed = steps
            .steps()
            .iter()
            .enumerate()
            .find_map(|(index, step)| self.answer_step(*step, &input, &mut draft, arrival, index).err());
        self.client.input = input;
        self.batch = steps;
        let unproven = draft.unproven.then_some(Attempt::Forward(Bypass::NotPrepared));
        // A portal that the client may still use must be the origin's.
        let open = draft.is_open() || (draft.portal.is_some() && tag == b'H');
        let open = open.then_some(Attempt::Forward(Bypass::ProtocolShape));
        if let Some(attempt) = failed.or(open).or(unproven) {
            self.client.output.truncate(mark);
            return attempt;
        }
        self.keep(draft, arrival, followed);
        if tag == b'S' {
            self.ready_for_query();
        }
        self.client.input.advance(self.batch.end + total);
        self.batch.clear();
        Attempt::Answered
    }

    fn keep(&mut self, draft: Draft, arrival: Moment, followed: bool) {
        for prepared in draft.parsed {
            let replaced = self.statements.insert(prepared);
            // Only the unnamed one can be replaced, and the origin may still have it.
            self.stale_unnamed |= replaced.is_some_and(|replaced| replaced.upstream.get());
        }
        for name in draft.closed {
            self.statements.remove(&name);
        }
        self.deferred = draft.deferred;
        self.transaction.read_here = draft.read;
        self.stale_portal |= draft.bound;
        for entry in &draft.hits {
            self.hit(entry, arrival, followed);
        }
    }

    /// One message of a batch: appends its reply, or says why the batch cannot be answered.
    fn answer_step(
        &mut self,
        step: Step,
        input: &[u8],
        draft: &mut Draft,
        arrival: Moment,
        index: usize,
    ) -> Result<(), Attempt> {
        let body = step.body(input);
        let shape = || Attempt::Forward(Bypass::ProtocolShape);
        match step.tag {
            b'P' => {
                let parse = frontend::parse(body).ok_or_else(shape)?;
                self.answer_parse(step.frame(input), parse, draft)
            }
            b'B' => {
                let bind = frontend::bind(body).filter(|bind| bind.portal.is_empty()).ok_or_else(shape)?;
                let (prepared, plan) = self.statement(bind.statement, draft).ok_or_else(shape)?;
                if draft.is_open() || (is_own(&plan) && !takes_nothing(&bind)) {
                    return Err(shape());
                }
                draft.portal = Some(Portal { plan, prepared, bind: step, executed: false });
                draft.bound = true;
                self.client.output.extend_from_slice(&encode::BIND_COMPLETE);
                Ok(())
            }
            b'D' => {
                let target = frontend::target(body).ok_or_else(shape)?;
                self.answer_describe(target, input, draft).ok_or_else(shape)
            }
            b'E' => {
                let whole =
                    |execute: &frontend::Execute<'_>| execute.portal.is_empty() && execute.max_rows == 0;
                frontend::execute(body).filter(whole).ok_or_else(shape)?;
                self.answer_execute(input, draft, arrival, index)
            }
            _ => {
                let target = frontend::target(body).ok_or_else(shape)?;
                self.answer_close(target, draft).ok_or_else(shape)
            }
        }
    }

    /// `Parse` is answered here only if the origin accepted the same one before.
    fn answer_parse(
        &mut self,
        frame: &[u8],
        parse: frontend::Parse<'_>,
        draft: &mut Draft,
    ) -> Result<(), Attempt> {
        let earlier = draft.parsed.iter().any(|prepared| prepared.name == parse.name);
        let known = self.statements.others || earlier || self.statements.get(parse.name).is_some();
        if !parse.name.is_empty() && known {
            return Err(Attempt::Forward(Bypass::ProtocolShape));
        }
        let prepared = self.new_statement(frame, parse);
        let Some(plan) = self.plan_of(&prepared) else {
            return Err(Attempt::Forward(Bypass::SettingsUnknown));
        };
        if plan.kind != Kind::ShowLast && !self.begins_or_ends(&plan, draft.deferred.is_some()) {
            self.readable(&plan, draft.deferred.is_some()).map_err(Attempt::Forward)?;
            draft.unproven |= !plan.shape.borrow().parsed || !self.is_settled();
        }
        self.client.output.extend_from_slice(&encode::PARSE_COMPLETE);
        draft.parsed.push(prepared);
        Ok(())
    }

    fn answer_describe(
        &mut self,
        target: frontend::Target<'_>,
        input: &[u8],
        draft: &mut Draft,
    ) -> Option<()> {
        let (prepared, plan, formats) = if target.kind == b'S' {
            let (prepared, plan) = self.statement(target.name, draft)?;
            (prepared, plan, None)
        } else {
            let portal = draft.portal.as_ref().filter(|_| target.name.is_empty())?;
            let formats = frontend::bind(portal.bind.body(input))?.result_formats;
            (Rc::clone(&portal.prepared), Rc::clone(&portal.plan), Some(formats))
        };
        let (own, settled) = (is_own(&plan), self.is_settled());
        let out = &mut self.client.output;
        if own {
            if formats.is_none() {
                out.extend_from_slice(&encode::NO_PARAMETERS);
            }
            if plan.kind == Kind::ShowLast {
                encode::text_column(out, LAST);
            } else {
                out.extend_from_slice(&encode::NO_DATA);
            }
            return Some(());
        }
        let shape = plan.shape.borrow();
        if !prepared.expects(shape.columns.as_ref()) || !settled {
            // It was prepared with other columns: the origin refuses it.
            draft.unproven = true;
            return Some(());
        }
        prepared.told.replace(shape.columns.clone());
        match (formats, &shape.parameters, &shape.columns) {
            (Some(formats), _, Some(_)) => out.extend_from_slice(&shape.portal(formats)?),
            (None, Some(parameters), Some(columns)) => {
                out.extend_from_slice(parameters);
                out.extend_from_slice(columns);
            }
            _ => draft.unproven = true,
        }
        Some(())
    }

    fn answer_execute(
        &mut self,
        input: &[u8],
        draft: &mut Draft,
        arrival: Moment,
        index: usize,
    ) -> Result<(), Attempt> {
        let fresh = draft.portal.as_mut().filter(|portal| !portal.executed);
        let Some(portal) = fresh else { return Err(Attempt::Forward(Bypass::ProtocolShape)) };
        portal.executed = true;
        let plan = Rc::clone(&portal.plan);
        if self.begins_or_ends(&plan, draft.deferred.is_some()) {
            let text = portal.prepared.text().map(|(text, _)| text).unwrap_or_default();
            let (tag, deferred) = step_transaction(&plan.kind, text);
            draft.deferred = deferred;
            draft.read = false;
            encode::command_complete(&mut self.client.output, tag);
            return Ok(());
        }
        if plan.kind == Kind::ShowLast {
            let value = self.last_served();
            encode::text_value(&mut self.client.output, &value, "SHOW");
            return Ok(());
        }
        let read = self.readable(&plan, draft.deferred.is_some()).map_err(Attempt::Forward)?;
        let bind = frontend::bind(portal.bind.body(input)).ok_or(Attempt::Forward(Bypass::ProtocolShape))?;
        if bind.rest.len() > key::MAX_BIND {
            return Err(Attempt::Forward(Bypass::KeyTooLarge));
        }
        key::extended(&mut self.key, &read.extended_key, bind.rest);
        let found = if draft.unproven {
            Err(Miss::Absent)
        } else {
            self.worker.store.get(&self.key, &self.reader(arrival))
        };
        // Rows of other columns than the client was told of are none for it.
        let found = found.and_then(|entry| {
            let expected = portal.prepared.expects(entry.value.columns.as_ref());
            if expected { Ok(entry) } else { Err(Miss::Absent) }
        });
        match found {
            Ok(entry) => {
                self.client.output.extend_from_slice(&entry.value.frames);
                draft.hits.push(entry);
                draft.read = draft.deferred.is_some() || self.transaction.status == b'T';
                Ok(())
            }
            Err(why) => {
                let mut values = frontend::parameter_values(bind.parameters).flatten();
                if values.any(larder_sql::mentions_relative_time) {
                    return Err(Attempt::Forward(Bypass::RelativeTimeLiteral));
                }
                Err(self.missed(&plan, why, index))
            }
        }
    }

    fn answer_close(&mut self, target: frontend::Target<'_>, draft: &mut Draft) -> Option<()> {
        if target.kind == b'S' {
            let known = self.statements.get(target.name)?;
            if known.upstream.get() {
                return None;
            }
            draft.closed.push(target.name.to_vec());
        } else if !target.name.is_empty() || draft.is_open() {
            return None;
        } else {
            draft.portal = None;
        }
        self.client.output.extend_from_slice(&encode::CLOSE_COMPLETE);
        Some(())
    }

    /// A statement that the client has prepared, here or earlier in the batch, and its plan.
    fn statement(&self, name: &[u8], draft: &Draft) -> Option<(Rc<Prepared>, Rc<Plan>)> {
        let parsed = draft.parsed.iter().rev().find(|prepared| prepared.name == name);
        let prepared = parsed.or_else(|| self.statements.get(name)).filter(|known| !known.uncertain.get())?;
        let plan = self.plan_of(prepared)?;
        Some((Rc::clone(prepared), plan))
    }

    /// What keeps the session as it stands from answering anything.
    fn not_now(&self, worth_probing: impl FnOnce() -> bool) -> Option<Attempt> {
        if let Caching::Off(why) = self.caching {
            return Some(Attempt::Forward(why));
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
        if self.current_facts().is_none() {
            // The probe ends the unnamed statement, so it must be one that can be prepared again.
            let harmless = self.transaction.status == b'I' && !self.statements.unnamed_is_unique();
            let possible = harmless && worth_probing();
            return Some(if possible {
                Attempt::NeedFacts
            } else {
                Attempt::Forward(Bypass::SettingsUnknown)
            });
        }
        None
    }

    /// Whether what the origin said about statements in this epoch still goes: DDL may be on its way.
    fn is_settled(&self) -> bool {
        let heed_marks = self.worker.config.level != Level::Bounded;
        let reader = larder_cache::Reader { now: self.now, heed_marks, covered_past: self.news };
        self.worker.shared.fence.is_settled(&reader)
    }

    /// How to answer a plan from memory in this session, now.
    fn readable<'plan>(&self, plan: &'plan Plan, deferred: bool) -> Result<&'plan Read, Bypass> {
        let read = plan.read.as_ref().map_err(|why| *why)?;
        if self.asked_bypass {
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

    fn missed(&self, plan: &Rc<Plan>, why: Miss, step: usize) -> Attempt {
        match why {
            Miss::NoLease => Attempt::Forward(Bypass::NoLease),
            Miss::TooLarge => Attempt::Forward(Bypass::ResultTooLarge),
            Miss::WriteInFlight if self.worker.config.level == Level::Linearizable => Attempt::NeedBarrier,
            _ => Attempt::Miss { plan: Rc::clone(plan), why, step },
        }
    }

    /// BEGIN that can be deferred, or the end of one that was.
    fn begins_or_ends(&self, plan: &Plan, deferred: bool) -> bool {
        match &plan.kind {
            Kind::Begin(Begin { deferrable, names_read_committed, .. }) => {
                let idle = self.transaction.status == b'I' && !deferred;
                idle && *deferrable && (*names_read_committed || self.default_is_read_committed())
            }
            Kind::Commit | Kind::Rollback => deferred,
            _ => false,
        }
    }

    fn ready_for_query(&mut self) {
        let status = if self.deferred.is_some() { b'T' } else { self.transaction.status };
        encode::ready_for_query(&mut self.client.output, status);
    }

    fn hit(&mut self, entry: &Entry<Answer>, arrival: Moment, followed: bool) {
        let age = arrival.since(entry.stored);
        let outcome = if followed { Outcome::Coalesced { age } } else { Outcome::Hit { age } };
        self.last = Some(outcome);
        self.worker.metrics.saved(entry.cost);
        self.worker.metrics.answered(outcome, arrival);
    }
}

/// Statements that need no rows of the origin.
fn is_own(plan: &Plan) -> bool {
    matches!(plan.kind, Kind::Begin(_) | Kind::Commit | Kind::Rollback | Kind::ShowLast)
}

/// A `Bind` that fits a statement without parameters.
fn takes_nothing(bind: &frontend::Bind<'_>) -> bool {
    bind.parameters == [0, 0] && matches!(bind.rest, [0, 0 | 1, ..])
}

/// The command tag of a transaction statement answered here, and the deferred BEGIN after it.
fn step_transaction(kind: &Kind, text: &[u8]) -> (&'static str, Option<Deferred>) {
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

/// Whether a statement of unknown effect is common enough in loops that reading the facts first pays.
fn worth_probing(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    const WORDS: [&[u8]; 13] = [
        b"select", b"insert", b"update", b"delete", b"with", b"begin", b"start", b"values", b"table",
        b"merge", b"copy", b"(", b"/*",
    ];
    WORDS.iter().any(|word| text.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)))
}
