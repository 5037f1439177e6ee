//! Requests on their way to the origin, with what must reach it first.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;

use bytes::Bytes;
use larder_cache::Moment;
use larder_core::Bypass;
use larder_sql::Kind;
use larder_wire::{HEADER, encode, frontend};

use super::Session;
use super::expect::{Expect, Own, Sent};
use super::fill::Fill;
use super::statements::Prepared;
use super::transaction::Deferred;
use crate::metrics::Outcome;
use crate::plan::{Plan, PlannedEffect};

/// How a request that goes to the origin is accounted for, and whether its reply is captured.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) started: Moment,
    pub(crate) outcome: Outcome,
    pub(crate) fill: Option<Fill>,
    /// For a batch: the index of the step that this is about.
    pub(crate) step: usize,
}

impl Route {
    pub(crate) fn bypass(why: Bypass) -> Self {
        Self { started: Moment::now(), outcome: Outcome::Bypass(why), fill: None, step: usize::MAX }
    }
}

impl Session {
    /// Sends the simple query at the front of the client's input.
    pub(crate) fn forward_query(&mut self, total: usize, route: Route) {
        let frame = self.client.input.split_to(total);
        if self.skipping {
            self.origin.output.extend_from_slice(&frame);
            return;
        }
        let text = frontend::query(frame.get(HEADER..).unwrap_or_default());
        let plan = text.and_then(|text| self.effect_plan(text, b"\0\0"));
        self.materialize();
        let outcome = match &plan {
            Some(plan) => {
                self.prepare_session_for(plan, text.unwrap_or_default());
                own_reason(plan, route.outcome)
            }
            None => {
                self.expect_effect(&PlannedEffect::unknown());
                route.outcome
            }
        };
        // A simple query ends the unnamed statement.
        self.statements.remove(b"");
        self.stale_unnamed = false;
        self.fill = route.fill;
        let sent = Sent { started: route.started, outcome, captured: self.fill.is_some() };
        self.outstanding.push(Expect::Query(sent));
        self.origin.output.extend_from_slice(&frame);
    }

    /// What a statement needs or changes besides its effect on data.
    fn prepare_session_for(&mut self, plan: &Plan, text: &[u8]) {
        match &plan.kind {
            Kind::SetMode(bypass) => {
                self.asked_bypass = *bypass;
                return;
            }
            Kind::PreparedStatements => self.prepare_upstream(text),
            Kind::Begin(begin) if self.transaction.status == b'I' => {
                self.transaction.plain =
                    begin.deferrable && (begin.names_read_committed || self.default_is_read_committed());
            }
            Kind::Commit | Kind::Rollback | Kind::TransactionControl => self.transaction.may_end = true,
            _ => {}
        }
        self.expect_effect(&plan.effect);
    }

    /// SQL-level EXECUTE, DEALLOCATE and PREPARE see the statements that exist at the origin: make it have them.
    fn prepare_upstream(&mut self, text: &[u8]) {
        let missing = self.statements.missing_upstream();
        for prepared in &missing {
            self.send_parse(prepared);
        }
        if !missing.is_empty() {
            encode::sync(&mut self.origin.output);
            self.outstanding.push(Expect::Own(Own::Sync));
        }
        match deallocated(text) {
            Some(name) => drop(self.statements.remove(name.as_bytes())),
            None => self.statements.doubt_all(),
        }
    }

    /// The BEGIN that was deferred must be real from here on.
    fn materialize(&mut self) {
        if let Some(Deferred { text }) = self.deferred.take() {
            self.forget_unnamed_upstream();
            encode::query(&mut self.origin.output, &text);
            self.outstanding.push(Expect::Own(Own::Begin));
            self.transaction.status = b'T';
            self.transaction.plain = true;
        }
    }

    /// A simple query of Larder's own ends the unnamed statement at the origin.
    pub(crate) fn forget_unnamed_upstream(&mut self) {
        if let Some(unnamed) = self.statements.get(b"") {
            unnamed.upstream.set(false);
        }
        self.stale_unnamed = false;
    }

    /// Sends every message held back, in order.
    pub(crate) fn flush_batch(&mut self, mut route: Route) {
        if self.batch.is_empty() {
            return;
        }
        let input = self.client.input.split_to(self.batch.end);
        let steps = std::mem::take(&mut self.batch);
        for (index, step) in steps.steps().iter().enumerate() {
            let fill = if index == route.step { route.fill.take() } else { None };
            self.forward_extended(step.tag, step.frame(&input), route.started, route.outcome, fill);
        }
        self.batch = steps;
        self.batch.clear();
    }

    /// Sends one extended-protocol message.
    fn forward_extended(
        &mut self,
        tag: u8,
        frame: &[u8],
        started: Moment,
        outcome: Outcome,
        fill: Option<Fill>,
    ) {
        if self.skipping {
            self.origin.output.extend_from_slice(frame);
            return;
        }
        self.materialize();
        self.unsynced = true;
        let body = frame.get(HEADER..).unwrap_or_default();
        let understood = match tag {
            b'P' => self.forward_parse(frame, body),
            b'B' => self.forward_bind(body),
            b'D' => self.forward_describe(body),
            b'E' => self.forward_execute(body, started, outcome, fill),
            _ => self.forward_close(body),
        };
        self.origin.output.extend_from_slice(frame);
        if understood.is_none() {
            self.go_blind("a message of the client that is not well formed");
        }
    }

    fn forward_parse(&mut self, frame: &[u8], body: &[u8]) -> Option<()> {
        let parse = frontend::parse(body)?;
        if let Some(existing) = self.statements.get(parse.name).filter(|known| !known.name.is_empty()) {
            // The origin is to say that the name is taken.
            if !existing.upstream.get() {
                let existing = Rc::clone(existing);
                self.send_parse(&existing);
            }
        }
        let prepared = self.new_statement(frame, parse);
        prepared.upstream.set(true);
        let taken = !parse.name.is_empty() && self.statements.get(parse.name).is_some();
        if !taken {
            self.statements.insert(Rc::clone(&prepared));
        }
        self.outstanding.push(Expect::Parse { prepared: Some(prepared), swallow: false });
        Some(())
    }

    fn forward_bind(&mut self, body: &[u8]) -> Option<()> {
        let bind = frontend::bind(body)?;
        self.stale_portal &= !bind.portal.is_empty();
        let prepared = self.ensure_upstream(bind.statement);
        match prepared {
            Some(prepared) => drop(self.portals.insert(Bytes::copy_from_slice(bind.portal), prepared)),
            None => drop(self.portals.remove(bind.portal)),
        }
        self.outstanding.push(Expect::Bind);
        Some(())
    }

    fn forward_describe(&mut self, body: &[u8]) -> Option<()> {
        let target = frontend::target(body)?;
        let expect = if target.kind == b'S' {
            let plan = self.ensure_upstream(target.name).and_then(|prepared| self.plan_of(&prepared));
            Expect::DescribeStatement(plan)
        } else {
            self.drop_stale_portal(target.name);
            let prepared = self.portals.get(target.name).cloned();
            Expect::DescribePortal(prepared.and_then(|prepared| self.plan_of(&prepared)))
        };
        self.outstanding.push(expect);
        Some(())
    }

    fn forward_execute(
        &mut self,
        body: &[u8],
        started: Moment,
        outcome: Outcome,
        fill: Option<Fill>,
    ) -> Option<()> {
        let execute = frontend::execute(body)?;
        self.drop_stale_portal(execute.portal);
        let prepared = self.portals.get(execute.portal).cloned();
        let plan = prepared.as_ref().and_then(|prepared| {
            let effect = || prepared.text().and_then(|(text, types)| self.effect_plan(text, types));
            self.plan_of(prepared).or_else(effect)
        });
        let outcome = match (&plan, &prepared) {
            (Some(plan), Some(prepared)) => {
                let text = prepared.text().map(|(text, _)| text.to_vec()).unwrap_or_default();
                self.prepare_session_for(plan, &text);
                own_reason(plan, outcome)
            }
            _ => {
                self.expect_effect(&PlannedEffect::unknown());
                outcome
            }
        };
        let captured = fill.is_some();
        if captured {
            self.fill = fill;
        }
        self.outstanding.push(Expect::Execute(Sent { started, outcome, captured }));
        Some(())
    }

    /// The client's unnamed portal was run to its end here. The origin must not run an older one in its place.
    fn drop_stale_portal(&mut self, name: &[u8]) {
        if self.stale_portal && name.is_empty() {
            encode::close(&mut self.origin.output, b'P', b"");
            self.outstanding.push(Expect::Close { swallow: true });
            self.portals.remove(name);
            self.stale_portal = false;
        }
    }

    fn forward_close(&mut self, body: &[u8]) -> Option<()> {
        let target = frontend::target(body)?;
        if target.kind == b'S' {
            self.statements.remove(target.name);
        } else {
            self.portals.remove(target.name);
        }
        self.outstanding.push(Expect::Close { swallow: false });
        Some(())
    }

    /// The client's statement of that name, sent to the origin first if it is not there.
    fn ensure_upstream(&mut self, name: &[u8]) -> Option<Rc<Prepared>> {
        let Some(prepared) = self.statements.get(name).cloned() else {
            if name.is_empty() && self.stale_unnamed {
                // The client has no unnamed statement any more; the origin is to say so.
                encode::close(&mut self.origin.output, b'S', b"");
                self.outstanding.push(Expect::Close { swallow: true });
                self.stale_unnamed = false;
            }
            return None;
        };
        if !prepared.upstream.get() {
            self.send_parse(&prepared);
        }
        Some(prepared)
    }

    fn send_parse(&mut self, prepared: &Rc<Prepared>) {
        if let Some(frame) = &prepared.frame {
            self.origin.output.extend_from_slice(frame);
            self.outstanding.push(Expect::Parse { prepared: Some(Rc::clone(prepared)), swallow: true });
            prepared.upstream.set(true);
        }
    }

    /// A statement as the client's `Parse` describes it.
    pub(crate) fn new_statement(&mut self, frame: &[u8], parse: frontend::Parse<'_>) -> Rc<Prepared> {
        let plan = self.known_plan(parse.sql, parse.types);
        let facts = self.current_facts().map(|facts| facts.id);
        Rc::new(Prepared {
            name: Bytes::copy_from_slice(parse.name),
            frame: Some(Bytes::copy_from_slice(frame)),
            upstream: Cell::new(false),
            uncertain: Cell::new(false),
            plan: RefCell::new(facts.zip(plan)),
        })
    }

    /// Sync or Flush. Everything held back has been sent before.
    pub(crate) fn forward_end(&mut self, tag: u8, total: usize) {
        self.client.relay(total, &mut self.origin);
        if tag == b'S' && !self.copying_in {
            self.outstanding.push(Expect::Sync);
            self.skipping = false;
            self.unsynced = false;
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
                self.expect_effect(&PlannedEffect::unknown());
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
        self.materialize();
        let body = self.client.input.get(HEADER..).unwrap_or_default();
        let names = frontend::leading_names(body).map(|(first, second)| (first.to_vec(), second.to_vec()));
        let (first, second) = names.unwrap_or_default();
        match tag {
            b'Q' => {
                self.statements.remove(b"");
                self.stale_unnamed = false;
                self.expect_effect(&PlannedEffect::unknown());
                let outcome = Outcome::Bypass(Bypass::TooLong);
                self.outstanding.push(Expect::Query(Sent {
                    started: Moment::now(),
                    outcome,
                    captured: false,
                }));
            }
            b'P' => {
                self.statements.remove(&first);
                self.unsynced = true;
                self.outstanding.push(Expect::Parse { prepared: None, swallow: false });
            }
            _ => {
                self.unsynced = true;
                match self.ensure_upstream(&second) {
                    Some(prepared) => drop(self.portals.insert(first.into(), prepared)),
                    None => drop(self.portals.remove(&first[..])),
                }
                self.outstanding.push(Expect::Bind);
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
        (Err(why), Outcome::Bypass(_)) => Outcome::Bypass(*why),
        _ => outcome,
    }
}

/// The name in a plain `DEALLOCATE [PREPARE] name`, folded as PostgreSQL does; `None` for anything else.
fn deallocated(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?.trim().trim_end_matches(';');
    let mut words = text.split_ascii_whitespace();
    words.next().filter(|word| word.eq_ignore_ascii_case("deallocate"))?;
    let mut name = words.next()?;
    if name.eq_ignore_ascii_case("prepare") {
        name = words.next()?;
    }
    if words.next().is_some() || name.eq_ignore_ascii_case("all") {
        return None;
    }
    match name.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').filter(|inner| !inner.contains('"')).map(str::to_owned),
        None => name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            .then(|| name.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::deallocated;

    #[test]
    fn a_plain_deallocate_names_its_statement() {
        assert_eq!(deallocated(b"DEALLOCATE s1;").as_deref(), Some("s1"));
        assert_eq!(deallocated(b"deallocate prepare S1").as_deref(), Some("s1"));
        assert_eq!(deallocated(b"DEALLOCATE \"S 1\"").as_deref(), None);
        assert_eq!(deallocated(b"DEALLOCATE \"S1\"").as_deref(), Some("S1"));
        assert_eq!(deallocated(b"DEALLOCATE ALL"), None);
        assert_eq!(deallocated(b"EXECUTE s1"), None);
    }
}
