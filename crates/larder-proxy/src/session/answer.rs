//! Answering a batch of extended-protocol messages from memory: each message in order, on a draft of the session's
//! state that is kept only if every one of them could be answered.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Buf;
use larder_cache::{Entry, Miss, Moment};
use larder_core::Bypass;
use larder_sql::Kind;
use larder_wire::{encode, frontend};

use super::Session;
use super::batch::Step;
use super::check::Check;
use super::local::{LAST, step_transaction};
use super::portal::Unnamed;
use super::settle::{Attempt, Way};
use super::statements::Prepared;
use super::transaction::Deferred;
use crate::key;
use crate::plan::Plan;
use crate::reply::Answer;

/// The portal that the batch has bound so far.
#[derive(Debug)]
struct Portal<'input> {
    plan: Rc<Plan>,
    prepared: Rc<Prepared>,
    bind: frontend::Bind<'input>,
    /// Its rows have been given: a second `Execute` finds none.
    executed: bool,
}

/// An answer found in memory for one Execute.
#[derive(Debug)]
struct Hit {
    entry: Arc<Entry<Answer>>,
    plan: Rc<Plan>,
    /// Index in the batch.
    step: usize,
}

/// What a batch changes in the session if it is answered.
#[derive(Debug, Default)]
struct Changes {
    parsed: Vec<Rc<Prepared>>,
    closed: Vec<Vec<u8>>,
    /// The transaction that the client believes to be in: the deferred BEGIN.
    deferred: Option<Deferred>,
    hits: Vec<Hit>,
    /// What becomes of the unnamed portal, if it is used.
    portal: Option<Unnamed>,
    /// See [`super::transaction::Transaction::read_here`].
    read: bool,
}

/// A batch answered up to some message.
#[derive(Debug)]
struct Draft<'input> {
    changes: Changes,
    portal: Option<Portal<'input>>,
    /// The origin has not been heard on a statement of the batch yet: it must go there, but an execution of it is
    /// worth keeping.
    unproven: bool,
    /// It holds something that the origin could answer, too.
    origins: bool,
    /// When the batch's end arrived.
    arrival: Moment,
}

impl Draft<'_> {
    /// A portal was bound and not executed, so nothing has proven yet that the origin would have bound it.
    fn is_open(&self) -> bool {
        self.portal.as_ref().is_some_and(|portal| !portal.executed)
    }
}

impl Session {
    /// The messages held back, ended by Sync or Flush.
    pub(crate) fn answer_batch(&mut self, tag: u8, total: usize, arrival: Moment, way: Way<'_>) -> Attempt {
        if let Some(attempt) = self.not_now().or_else(|| self.lacks_facts_for_batch(tag))
            && (self.busy() || !self.batch_asks_last())
        {
            return attempt;
        }
        let input = std::mem::take(&mut self.client.input);
        let steps = std::mem::take(&mut self.batch);
        let mark = self.client.output.len();
        let answered = self.draft(&input, steps.steps(), tag, arrival);
        self.client.input = input;
        self.batch = steps;
        match answered {
            Err(attempt) => {
                self.client.output.truncate(mark);
                return attempt;
            }
            Ok(changes) => self.keep(changes, tag, arrival, way),
        }
        if tag == b'S' {
            self.ready_for_query();
        }
        self.client.input.advance(self.batch.end + total);
        self.batch.clear();
        Attempt::Answered
    }

    /// Appends the replies to all messages of a batch, or says why it cannot be answered.
    fn draft(&mut self, input: &[u8], steps: &[Step], tag: u8, arrival: Moment) -> Result<Changes, Attempt> {
        let deferred = self.deferred.as_ref().map(|deferred| Deferred { text: deferred.text.clone() });
        let changes = Changes { deferred, read: self.transaction.read_here, ..Changes::default() };
        let mut draft = Draft { changes, portal: None, unproven: false, origins: false, arrival };
        for (index, step) in steps.iter().enumerate() {
            self.answer_step(*step, input, &mut draft, index)?;
        }
        // A portal that the client may still use must be the origin's.
        if draft.is_open() || (draft.portal.is_some() && tag == b'H') {
            return Err(Attempt::Forward(Bypass::ProtocolShape));
        }
        if draft.unproven {
            return Err(Attempt::Forward(Bypass::NotPrepared));
        }
        self.compared(draft)
    }

    /// Whether the batch is answered from memory, or by the origin and compared.
    fn compared(&self, draft: Draft<'_>) -> Result<Changes, Attempt> {
        let hits = &draft.changes.hits;
        let why = match self.is_shadow() {
            true if draft.origins => Some(Bypass::Shadow),
            true => None,
            false => hits.iter().find_map(|hit| self.compares(&hit.entry)),
        };
        match why {
            None => Ok(draft.changes),
            Some(why) => {
                let hits = draft.changes.hits.into_iter();
                let checks = hits.map(|hit| (hit.step, Check::new(hit.entry, hit.plan)));
                Err(Attempt::Compare { checks: checks.collect(), why })
            }
        }
    }

    fn keep(&mut self, changes: Changes, tag: u8, arrival: Moment, way: Way<'_>) {
        if tag == b'S' {
            self.flushed.clear();
        } else {
            self.flushed.extend(changes.parsed.iter().cloned());
        }
        for prepared in changes.parsed {
            let replaced = self.statements.insert(prepared);
            // Only the unnamed one can be replaced, and the origin may still have it.
            self.stale_unnamed |= replaced.is_some_and(|replaced| replaced.upstream.get());
        }
        for name in changes.closed {
            self.statements.remove(&name);
        }
        self.deferred = changes.deferred;
        self.transaction.read_here = changes.read;
        if let Some(portal) = changes.portal {
            self.set_portal(portal);
        }
        for hit in &changes.hits {
            self.hit(&hit.entry, &hit.plan, arrival, way);
        }
    }

    /// One message of a batch: appends its reply, or says why the batch cannot be answered.
    fn answer_step<'input>(
        &mut self,
        step: Step,
        input: &'input [u8],
        draft: &mut Draft<'input>,
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
                draft.origins |= plan.kind != Kind::ShowLast;
                if draft.is_open() || (is_own(&plan) && !takes_nothing(&bind)) {
                    return Err(shape());
                }
                let lives = self.in_transaction() || draft.changes.deferred.is_some() || is_own(&plan);
                draft.changes.portal = Some(if lives {
                    Unnamed::run(&plan, &prepared, step.frame(input))
                } else {
                    Unnamed::Ended
                });
                draft.portal = Some(Portal { plan, prepared, bind, executed: false });
                self.client.output.extend_from_slice(&encode::BIND_COMPLETE);
                Ok(())
            }
            b'D' => {
                let target = frontend::target(body).ok_or_else(shape)?;
                self.answer_describe(target, draft).ok_or_else(shape)
            }
            b'E' => {
                let whole =
                    |execute: &frontend::Execute<'_>| execute.portal.is_empty() && execute.max_rows == 0;
                frontend::execute(body).filter(whole).ok_or_else(shape)?;
                self.answer_execute(draft, index)
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
        draft: &mut Draft<'_>,
    ) -> Result<(), Attempt> {
        let earlier = draft.changes.parsed.iter().any(|prepared| prepared.name == parse.name);
        let known = self.statements.others || earlier || self.statements.get(parse.name).is_some();
        if !parse.name.is_empty() && known {
            return Err(Attempt::Forward(Bypass::ProtocolShape));
        }
        let prepared = self.new_statement(frame, parse);
        let Some(plan) = self.plan_of(&prepared) else {
            return Err(Attempt::Forward(Bypass::SettingsUnknown));
        };
        draft.origins |= plan.kind != Kind::ShowLast;
        if plan.kind != Kind::ShowLast && !self.begins_or_ends(&plan, draft.changes.deferred.is_some()) {
            self.readable(&plan, draft.changes.deferred.is_some()).map_err(Attempt::Forward)?;
            draft.unproven |= !plan.shape.borrow().parsed || !self.is_settled();
            // The origin would have taken a snapshot to analyse it.
            draft.changes.read = draft.changes.deferred.is_some() || self.transaction.status == b'T';
        }
        self.client.output.extend_from_slice(&encode::PARSE_COMPLETE);
        draft.changes.parsed.push(prepared);
        Ok(())
    }

    fn answer_describe(&mut self, target: frontend::Target<'_>, draft: &mut Draft<'_>) -> Option<()> {
        let (prepared, plan, formats) = if target.kind == b'S' {
            let (prepared, plan) = self.statement(target.name, draft)?;
            draft.origins |= plan.kind != Kind::ShowLast;
            (prepared, plan, None)
        } else {
            let portal = draft.portal.as_ref().filter(|_| target.name.is_empty())?;
            (Rc::clone(&portal.prepared), Rc::clone(&portal.plan), Some(portal.bind.result_formats))
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

    fn answer_execute(&mut self, draft: &mut Draft<'_>, index: usize) -> Result<(), Attempt> {
        let fresh = draft.portal.as_mut().filter(|portal| !portal.executed);
        let Some(portal) = fresh else { return Err(Attempt::Forward(Bypass::ProtocolShape)) };
        portal.executed = true;
        let plan = Rc::clone(&portal.plan);
        if self.begins_or_ends(&plan, draft.changes.deferred.is_some()) {
            let text = portal.prepared.text().map(|(text, _)| text).unwrap_or_default();
            let (tag, deferred) = step_transaction(&plan.kind, text);
            draft.changes.deferred = deferred;
            draft.changes.read = false;
            encode::command_complete(&mut self.client.output, tag);
            return Ok(());
        }
        if plan.kind == Kind::ShowLast {
            let value = self.last_served();
            encode::text_value(&mut self.client.output, &value, "SHOW");
            return Ok(());
        }
        let read = self.readable(&plan, draft.changes.deferred.is_some()).map_err(Attempt::Forward)?;
        if !self.facts().is_some_and(|facts| portal.prepared.means_the_same(facts)) {
            // It was prepared under another DateStyle, say, which is what its literals were read by.
            return Err(Attempt::Forward(Bypass::NotPrepared));
        }
        let bind = portal.bind;
        if bind.rest.len() > key::MAX_BIND {
            return Err(Attempt::Forward(Bypass::KeyTooLarge));
        }
        key::extended(&mut self.key, &read.extended_key, bind.rest);
        let found = if draft.unproven {
            Err(Miss::Absent)
        } else {
            self.worker.store.get(&self.key, &self.reader(draft.arrival))
        };
        // Rows of other columns than the client was told of are none for it.
        let found = found.and_then(|entry| {
            let expected = portal.prepared.expects(entry.value.columns.as_ref());
            if expected { Ok(entry) } else { Err(Miss::Absent) }
        });
        match found {
            Ok(entry) => {
                self.share_again(&self.key, &entry, &plan);
                self.client.output.extend_from_slice(&entry.value.frames);
                draft.changes.hits.push(Hit { entry, plan, step: index });
                draft.changes.read = draft.changes.deferred.is_some() || self.transaction.status == b'T';
                Ok(())
            }
            Err(why) => {
                let mut values = frontend::parameter_values(bind.parameters).flatten();
                if values.any(larder_sql::mentions_relative_time) {
                    return Err(Attempt::Forward(Bypass::RelativeTimeLiteral));
                }
                Err(self.missed(&plan, why, index, !draft.unproven))
            }
        }
    }

    fn answer_close(&mut self, target: frontend::Target<'_>, draft: &mut Draft<'_>) -> Option<()> {
        if target.kind == b'S' {
            let known = self.statements.get(target.name)?;
            if known.upstream.get() {
                return None;
            }
            draft.changes.closed.push(target.name.to_vec());
        } else if !target.name.is_empty() || draft.is_open() {
            return None;
        } else {
            draft.portal = None;
            draft.changes.portal = Some(Unnamed::Ended);
        }
        self.client.output.extend_from_slice(&encode::CLOSE_COMPLETE);
        Some(())
    }

    /// A statement that the client has prepared, here or earlier in the batch, and its plan.
    fn statement(&self, name: &[u8], draft: &Draft<'_>) -> Option<(Rc<Prepared>, Rc<Plan>)> {
        let parsed = draft.changes.parsed.iter().rev().find(|prepared| prepared.name == name);
        let prepared = parsed.or_else(|| self.statements.get(name)).filter(|known| !known.uncertain.get())?;
        let plan = self.plan_of(prepared)?;
        Some((Rc::clone(prepared), plan))
    }
}

/// Statements that need no rows of the origin.
pub(super) fn is_own(plan: &Plan) -> bool {
    matches!(plan.kind, Kind::Begin(_) | Kind::Commit | Kind::Rollback | Kind::ShowLast)
}

/// A `Bind` that fits a statement without parameters.
fn takes_nothing(bind: &frontend::Bind<'_>) -> bool {
    bind.parameters == [0, 0] && matches!(bind.rest, [0, 0 | 1, ..])
}
