//! Requests on their way to the origin, with what must reach it first.

use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::{Buf, Bytes};
use larder_cache::Moment;
use larder_core::Bypass;
use larder_sql::Kind;
use larder_wire::{HEADER, frontend};

use super::Session;
use super::check::Check;
use super::expect::{Closing, Expect, Sent};
use super::fill::Fill;
use super::portal::{Bound, Unnamed};
use super::statements::Prepared;
use crate::metrics::Outcome;
use crate::plan::{Plan, PlannedEffect, Writes};

/// How a request that goes to the origin is accounted for, and what becomes of its replies.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) started: Moment,
    pub(crate) outcome: Outcome,
    /// Whose reply is copied: of a batch, by the index of the step.
    pub(crate) copies: Vec<(usize, Copying)>,
}

/// What a reply is copied for.
#[derive(Debug)]
pub(crate) enum Copying {
    /// To be kept.
    Fill(Fill),
    /// To be compared with what is in memory.
    Check(Box<Check>),
}

impl Route {
    pub(crate) fn bypass(why: Bypass) -> Self {
        Self { started: Moment::now(), outcome: Outcome::Bypass(why), copies: Vec::new() }
    }

    /// What the reply to the step is copied for.
    fn copying(&mut self, step: usize) -> Option<Copying> {
        let found = self.copies.iter().position(|(of, _)| *of == step)?;
        Some(self.copies.swap_remove(found).1)
    }
}

impl Copying {
    /// As a fill, or as a check.
    fn split(copying: Option<Self>) -> (Option<Fill>, Option<Box<Check>>) {
        match copying {
            Some(Self::Fill(fill)) => (Some(fill), None),
            Some(Self::Check(check)) => (None, Some(check)),
            None => (None, None),
        }
    }
}

impl Session {
    /// Sends the simple query at the front of the client's input.
    pub(crate) fn forward_query(&mut self, total: usize, mut route: Route) {
        let frame = self.client.input.split_to(total);
        if self.skipping {
            self.origin.output.extend_from_slice(&frame);
            return;
        }
        let text = frontend::query(frame.get(HEADER..).unwrap_or_default());
        let plan = text.and_then(|text| self.effect_plan(text, b"\0\0"));
        self.offer_statements(plan.as_deref(), text.unwrap_or_default());
        self.materialize();
        self.confess_parses();
        self.confess_reads(plan.as_deref());
        let deallocates = plan.as_ref().and_then(|plan| self.deallocates(plan, text.unwrap_or_default()));
        let outcome = match &plan {
            Some(plan) => {
                self.prepare_session_for(plan, Some(&[]));
                own_reason(plan, route.outcome)
            }
            None => {
                self.expect_effect(&PlannedEffect::unknown(), None);
                route.outcome
            }
        };
        self.ends_batch();
        let ends_portal = plan.as_ref().is_none_or(|plan| plan.kind != Kind::Empty);
        self.pause.fate |= ends_portal && matches!(self.unnamed, Unnamed::Run { .. });
        // A simple query ends the unnamed statement.
        let prepared = self.statements.remove(b"");
        let ends_stale = std::mem::take(&mut self.stale_unnamed);
        let (fill, check) = Copying::split(route.copying(0));
        self.fill = fill;
        let captured = self.fill.is_some();
        let query = plan.and_then(|plan| plan.query.clone());
        let started = route.started;
        let sent =
            Sent { started, outcome, query, deallocates, prepared, ends_stale, ends_portal, captured, check };
        self.outstanding.push(Expect::Query(sent));
        self.origin.output.extend_from_slice(&frame);
    }

    /// What a statement needs or changes besides its effect on data.
    fn prepare_session_for(&mut self, plan: &Plan, bind: Option<&[u8]>) {
        self.expect_effect(&plan.effect, bind);
        match &plan.kind {
            Kind::Begin(begin) if self.transaction.status == b'I' => {
                self.transaction.plain =
                    begin.deferrable && (begin.names_read_committed || self.default_is_read_committed());
            }
            Kind::Commit | Kind::Rollback | Kind::TransactionControl => self.transaction.may_end = true,
            _ => {}
        }
    }

    /// Sends every message held back, in order, up to one that has to wait.
    pub(crate) fn flush_batch(&mut self, route: Route) {
        if self.batch.is_empty() || self.waits_for_columns() {
            return;
        }
        let mut route = self.pause.rest.take().unwrap_or(route);
        let input = std::mem::take(&mut self.client.input);
        let mut steps = std::mem::take(&mut self.batch);
        let mut sent = 0;
        for (index, step) in steps.steps().iter().enumerate() {
            if self.asks_for_columns(step.tag, step.body(&input)) {
                break;
            }
            let copying = route.copying(index);
            self.forward_extended(step.tag, step.frame(&input), route.started, route.outcome, copying);
            sent = index + 1;
        }
        self.client.input = input;
        self.client.input.advance(steps.drop_front(sent));
        self.batch = steps;
        if !self.batch.is_empty() {
            for (step, _) in &mut route.copies {
                *step = step.saturating_sub(sent);
            }
            self.pause.rest = Some(route);
        }
    }

    /// Sends one extended-protocol message.
    fn forward_extended(
        &mut self,
        tag: u8,
        frame: &[u8],
        started: Moment,
        outcome: Outcome,
        copying: Option<Copying>,
    ) {
        if self.skipping {
            self.origin.output.extend_from_slice(frame);
            return;
        }
        let body = frame.get(HEADER..).unwrap_or_default();
        let plan = self.offer_statements_for(tag, body);
        self.materialize();
        self.confess_parses();
        self.confess_reads(plan.as_deref());
        self.unsynced = true;
        let understood = match tag {
            b'P' => self.forward_parse(frame, body),
            b'B' => self.forward_bind(body),
            b'D' => self.forward_describe(body),
            b'E' => self.forward_execute(body, started, outcome, copying),
            _ => self.forward_close(body),
        };
        self.origin.output.extend_from_slice(frame);
        if understood.is_none() {
            self.outstanding.push(Expect::Malformed);
        }
    }

    fn forward_parse(&mut self, frame: &[u8], body: &[u8]) -> Option<()> {
        let parse = frontend::parse(body)?;
        let prepared = self.new_statement(frame, parse);
        self.send_statement(prepared);
        Some(())
    }

    fn forward_bind(&mut self, body: &[u8]) -> Option<()> {
        let Some(bind) = frontend::bind(body) else {
            // The origin looks at the statement before it finds out.
            let (_, statement) = frontend::leading_names(body)?;
            self.ensure_upstream(statement);
            return None;
        };
        let prepared = self.ensure_upstream(bind.statement);
        let replaced = self.replace_portal(bind.portal);
        let plan = self.effect_plan_of(prepared.as_ref());
        let writes_rows = plan.is_some_and(|plan| matches!(plan.effect.writes, Writes::Rows(_)));
        let values = writes_rows.then(|| Bytes::copy_from_slice(bind.rest));
        match prepared {
            Some(prepared) => {
                self.portals.insert(Bytes::copy_from_slice(bind.portal), Bound { prepared, values });
            }
            None => drop(self.portals.remove(bind.portal)),
        }
        self.outstanding.push(Expect::Bind(replaced));
        Some(())
    }

    fn forward_describe(&mut self, body: &[u8]) -> Option<()> {
        let target = frontend::target(body)?;
        let expect = if target.kind == b'S' {
            let prepared = self.ensure_upstream(target.name);
            let plan = prepared.as_ref().and_then(|prepared| self.plan_of(prepared));
            Expect::DescribeStatement(prepared, plan)
        } else {
            self.settle_portal(target.name);
            let prepared = self.portals.get(target.name).map(|bound| Rc::clone(&bound.prepared));
            let plan = prepared.as_ref().and_then(|prepared| self.plan_of(prepared));
            Expect::DescribePortal(prepared, plan)
        };
        self.outstanding.push(expect);
        Some(())
    }

    fn forward_execute(
        &mut self,
        body: &[u8],
        started: Moment,
        outcome: Outcome,
        copying: Option<Copying>,
    ) -> Option<()> {
        let execute = frontend::execute(body)?;
        self.settle_portal(execute.portal);
        let (prepared, values) = match self.portals.get(execute.portal).cloned() {
            Some(Bound { prepared, values }) => (Some(prepared), values),
            None => (None, None),
        };
        let plan = self.effect_plan_of(prepared.as_ref());
        let text = || prepared.as_ref().and_then(|prepared| prepared.text());
        let deallocates = plan.as_ref().and_then(|plan| self.deallocates(plan, text()?.0));
        let outcome = match &plan {
            Some(plan) => {
                self.prepare_session_for(plan, values.as_deref());
                own_reason(plan, outcome)
            }
            None => {
                self.expect_effect(&PlannedEffect::unknown(), None);
                outcome
            }
        };
        let (fill, check) = Copying::split(copying);
        let captured = fill.is_some();
        if let Some(fill) = fill {
            self.fill = Some(fill.of(prepared.clone()));
        }
        let query = plan.and_then(|plan| plan.query.clone());
        let (ends_stale, ends_portal) = (false, false);
        let sent =
            Sent { started, outcome, query, deallocates, prepared, ends_stale, ends_portal, captured, check };
        self.outstanding.push(Expect::Execute(sent));
        Some(())
    }

    fn forward_close(&mut self, body: &[u8]) -> Option<()> {
        let target = frontend::target(body)?;
        let closing = if target.kind == b'S' {
            let closed = self.statements.remove(target.name);
            self.hangs_on_batch(closed.as_ref());
            Closing::Statement(Bytes::copy_from_slice(target.name), closed)
        } else {
            self.portals.remove(target.name);
            Closing::Portal(self.replace_portal(target.name))
        };
        self.outstanding.push(Expect::Close(closing));
        Some(())
    }

    /// Sync or Flush. Everything held back has been sent before.
    pub(crate) fn forward_end(&mut self, tag: u8, total: usize) {
        let malformed = tag == b'H' && total > HEADER && !self.skipping && !self.copying_in;
        if tag == b'S' || malformed {
            // A bare Sync, and an error, must find the transaction that the client believes in.
            self.materialize();
        }
        self.client.relay(total, &mut self.origin);
        if tag == b'S' && !self.copying_in {
            self.flushed.clear();
            self.outstanding.push(Expect::Sync);
            self.skipping = false;
            self.unsynced = false;
        }
        if malformed {
            self.outstanding.push(Expect::Malformed);
            self.unsynced = true;
        }
    }

    /// Any other message: relayed, with what it means for the replies.
    pub(crate) fn forward_other(&mut self, tag: u8, total: usize) -> ControlFlow<()> {
        self.materialize();
        match tag {
            b'c' | b'f' if self.copying_in => self.copying_in = false,
            b'c' | b'f' => self.outstanding.push(Expect::CopyEnd),
            b'd' => {}
            b'X' => {
                self.client.relay(total, &mut self.origin);
                return ControlFlow::Break(());
            }
            b'F' if self.skipping => {}
            b'F' => {
                self.ends_batch();
                self.expect_effect(&PlannedEffect::unknown(), None);
                self.outstanding.push(Expect::Function);
            }
            _ => self.go_blind("a message type that Larder does not know"),
        }
        let here = total.min(self.client.input.len());
        self.client.relay(here, &mut self.origin);
        self.client_rest = total - here;
        ControlFlow::Continue(())
    }

    /// A message too large to hold whole. What must be known stands at its front.
    pub(crate) fn forward_large(&mut self, tag: u8, total: usize) -> ControlFlow<()> {
        if !matches!(tag, b'Q' | b'P' | b'B') || self.skipping {
            return self.forward_other(tag, total);
        }
        self.offer_statements(None, b"");
        self.materialize();
        self.confess_parses();
        let body = self.client.input.get(HEADER..).unwrap_or_default();
        let names = frontend::leading_names(body).map(|(first, second)| (first.to_vec(), second.to_vec()));
        let (first, second) = names.unwrap_or_default();
        match tag {
            b'Q' => {
                self.ends_batch();
                self.pause.fate |= matches!(self.unnamed, Unnamed::Run { .. });
                let prepared = self.statements.remove(b"");
                let ends_stale = std::mem::take(&mut self.stale_unnamed);
                self.expect_effect(&PlannedEffect::unknown(), None);
                let outcome = Outcome::Bypass(Bypass::TooLong);
                let (started, captured, deallocates, query) = (Moment::now(), false, None, None);
                let ends_portal = true;
                let sent = Sent {
                    started,
                    outcome,
                    query,
                    deallocates,
                    prepared,
                    ends_stale,
                    ends_portal,
                    captured,
                    check: None,
                };
                self.outstanding.push(Expect::Query(sent));
            }
            b'P' => {
                self.unsynced = true;
                self.send_statement(Rc::new(Prepared::too_large(&first)));
            }
            _ => {
                self.unsynced = true;
                let replaced = self.replace_portal(&first);
                match self.ensure_upstream(&second) {
                    Some(prepared) => {
                        self.portals.insert(first.into(), Bound { prepared, values: None });
                    }
                    None => drop(self.portals.remove(&first[..])),
                }
                self.outstanding.push(Expect::Bind(replaced));
            }
        }
        let here = total.min(self.client.input.len());
        self.client.relay(here, &mut self.origin);
        self.client_rest = total - here;
        ControlFlow::Continue(())
    }
}

/// A statement's own reason not to be cached says more than the situation it was sent in.
fn own_reason(plan: &Plan, outcome: Outcome) -> Outcome {
    match (&plan.read, outcome) {
        // Unless nothing is looked at, by an operator's wish.
        (_, Outcome::Bypass(Bypass::ModeBypass)) => outcome,
        (Err(why), Outcome::Bypass(_)) => Outcome::Bypass(*why),
        _ => outcome,
    }
}
