//! What the origin must be sent before a message of the client, so that it means the same there: the BEGIN that was
//! deferred, statements prepared here alone, the end of things that ended here alone. And the way back, when the
//! origin refuses or skips what was sent: the table of statements must never claim what the origin does not have.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use larder_sql::{Kind, Settings};
use larder_wire::{encode, frontend};

use super::Session;
use super::expect::{Closing, Expect, Own};
use super::portal::Unnamed;
use super::statements::Prepared;
use super::transaction::Deferred;
use crate::facts::Common;
use crate::plan::{Plan, PlannedEffect, Writes};

impl Session {
    /// The BEGIN that was deferred must be real from here on.
    pub(super) fn materialize(&mut self) {
        if let Some(Deferred { text }) = self.deferred.take() {
            self.forget_unnamed_upstream();
            encode::query(&mut self.origin.output, &text);
            self.outstanding.push(Expect::Own(Own::Begin));
            self.transaction.status = b'T';
            self.transaction.plain = true;
        }
    }

    /// A simple query of Larder's own ends the unnamed statement at the origin.
    pub(super) fn forget_unnamed_upstream(&mut self) {
        if let Some(unnamed) = self.statements.get(b"") {
            unnamed.upstream.set(false);
        }
        self.stale_unnamed = false;
    }

    /// SQL text can name prepared statements (EXECUTE, DEALLOCATE): before one that may, the origin gets them all.
    /// Without a plan it may be anything.
    pub(super) fn offer_statements(&mut self, plan: Option<&Plan>, text: &[u8]) {
        if !self.statements.any_missing_upstream() {
            return;
        }
        // Nor may they be analysed by other settings than the client's: along another search path, say.
        let settings = |effect: &PlannedEffect| {
            effect.settings == Settings::Anything
                || (effect.reverts && self.transaction.settings == Settings::Anything)
        };
        let asked =
            plan.is_none_or(|plan| plan.kind == Kind::PreparedStatements) || mentions_statements(text);
        let unclear =
            |plan: &Plan| matches!(plan.effect.writes, Writes::Everything) || settings(&plan.effect);
        if !asked && !plan.is_some_and(unclear) {
            return;
        }
        // In a failed transaction the origin would refuse them, and the client's message too.
        if self.transaction.status == b'E' && !self.busy() {
            return;
        }
        let mut missing = self.statements.missing_upstream();
        if !asked && (self.transaction.status != b'I' || self.busy()) {
            // One that is refused would fail the transaction, and nobody has asked for it. Those that were prepared by
            // a session such as this is now are known to be accepted.
            let common = self.facts().map(|facts| Arc::clone(&facts.common));
            let same = |then: &Arc<Common>| common.as_ref().is_some_and(|now| now.id == then.id);
            missing.retain(|prepared| prepared.analysed.as_ref().is_some_and(same));
        }
        for prepared in &missing {
            self.send_parse(prepared);
        }
        // If one is refused, the origin skips up to this Sync and not the client's message. (In the middle of a
        // batch a Sync would end the client's portals.)
        if !missing.is_empty() && !self.unsynced {
            encode::sync(&mut self.origin.output);
            self.outstanding.push(Expect::Own(Own::Sync));
        }
    }

    /// [`Session::offer_statements`] for a message of the extended protocol; returns the plan if that had to be looked
    /// up.
    pub(super) fn offer_statements_for(&mut self, tag: u8, body: &[u8]) -> Option<Rc<Plan>> {
        if !self.transaction.read_here && !self.statements.any_missing_upstream() {
            return None;
        }
        if tag == b'P' {
            let parse = frontend::parse(body)?;
            let plan = self.effect_plan(parse.sql, parse.types);
            self.offer_statements(plan.as_deref(), parse.sql);
            return plan;
        }
        let prepared = match tag {
            b'B' => self.statements.get(frontend::bind(body)?.statement).cloned(),
            b'E' => self.portals.get(frontend::execute(body)?.portal).map(|bound| Rc::clone(&bound.prepared)),
            _ => return None,
        };
        let text = prepared.as_ref().and_then(|prepared| prepared.text());
        let plan = self.effect_plan_of(prepared.as_ref());
        self.offer_statements(plan.as_deref(), text.map(|(text, _)| text).unwrap_or_default());
        plan
    }

    /// SET TRANSACTION is refused after a query, and BEGIN in a transaction does the same as that. For a query that was
    /// answered here, the origin gets another.
    pub(super) fn confess_reads(&mut self, plan: Option<&Plan>) {
        let asks = plan.is_some_and(|plan| matches!(plan.kind, Kind::TransactionControl | Kind::Begin(_)));
        // In the middle of a batch a simple query would end the client's portals.
        if asks && self.transaction.read_here && !self.unsynced {
            self.transaction.read_here = false;
            self.forget_unnamed_upstream();
            encode::query(&mut self.origin.output, "select 1");
            self.outstanding.push(Expect::Own(Own::Read));
        }
    }

    /// What executing a statement may change, as far as that can be told now.
    pub(super) fn effect_plan_of(&self, prepared: Option<&Rc<Prepared>>) -> Option<Rc<Plan>> {
        let prepared = prepared?;
        self.plan_of(prepared).or_else(|| {
            let (text, types) = prepared.text()?;
            self.effect_plan(text, types)
        })
    }

    /// The client's statement of that name, sent to the origin first if it is not there.
    pub(super) fn ensure_upstream(&mut self, name: &[u8]) -> Option<Rc<Prepared>> {
        let Some(prepared) = self.statements.get(name).cloned() else {
            if name.is_empty() && self.stale_unnamed {
                // The client has no unnamed statement any more; the origin is to say so.
                encode::close(&mut self.origin.output, b'S', b"");
                self.outstanding.push(Expect::Close(Closing::StaleStatement));
                self.stale_unnamed = false;
            }
            return None;
        };
        if !prepared.upstream.get() {
            self.send_parse(&prepared);
        }
        Some(prepared)
    }

    pub(super) fn send_parse(&mut self, prepared: &Rc<Prepared>) {
        if let Some(frame) = &prepared.frame {
            self.pause.fate = true;
            self.origin.output.extend_from_slice(frame);
            self.outstanding.push(Expect::Reparse(Rc::clone(prepared)));
            prepared.upstream.set(true);
            prepared.unchecked.set(true);
            self.stale_unnamed &= !prepared.name.is_empty();
        }
    }

    /// What is to end a statement has been sent. If it is skipped after an error, one that only Larder has is still
    /// there, which nobody but Larder can know.
    pub(super) fn hangs_on_batch(&mut self, ended: Option<&Rc<Prepared>>) {
        let alone = ended.is_some_and(|ended| !ended.upstream.get());
        self.pause.fate |= alone && self.outstanding.may_be_skipped();
    }

    /// What was prepared here before a Flush began a transaction, which the next message of the batch finds.
    pub(super) fn confess_parses(&mut self) {
        for prepared in std::mem::take(&mut self.flushed) {
            let same = self.statements.get(&prepared.name).is_some_and(|known| Rc::ptr_eq(known, &prepared));
            if same && !prepared.upstream.get() {
                self.unsynced = true;
                self.send_parse(&prepared);
            }
        }
    }

    /// A statement as the client's `Parse` describes it; without the frame if that is too large to keep.
    pub(super) fn new_statement(&mut self, frame: &[u8], parse: frontend::Parse<'_>) -> Rc<Prepared> {
        let plan = self.known_plan(parse.sql, parse.types);
        let (facts, analysed) = self.facts().map(|facts| (facts.id, Arc::clone(&facts.common))).unzip();
        Rc::new(Prepared {
            name: Bytes::copy_from_slice(parse.name),
            frame: Some(Bytes::copy_from_slice(frame)),
            upstream: Cell::new(false),
            confirmed: Cell::new(false),
            uncertain: Cell::new(false),
            told: RefCell::new(None),
            unchecked: Cell::new(false),
            analysed,
            order: Cell::default(),
            plan: RefCell::new(facts.zip(plan)),
        })
    }

    /// The client's own `Parse` is being sent.
    pub(super) fn send_statement(&mut self, prepared: Rc<Prepared>) {
        // Of a name that is taken the origin is to say so.
        let taken = self
            .statements
            .get(&prepared.name)
            .filter(|known| !known.name.is_empty() && !known.upstream.get());
        if let Some(taken) = taken.cloned() {
            self.send_parse(&taken);
        }
        prepared.upstream.set(true);
        self.stale_unnamed &= !prepared.name.is_empty();
        let replaced = self.statements.insert(Rc::clone(&prepared));
        self.hangs_on_batch(replaced.as_ref());
        self.outstanding.push(Expect::Parse { prepared, replaced });
    }

    /// The origin refused what this was to be answered with.
    pub(super) fn refused(&mut self, expect: Expect) {
        match expect {
            // The unnamed statement that was there has ended; one with a name has not.
            Expect::Parse { prepared, .. } if prepared.name.is_empty() => {
                self.outstanding.never_was(&prepared, None);
                self.statements.remove_if_same(&prepared);
            }
            // A Bind may have made its portal before it failed; if not, the origin has none, or the transaction's old one.
            Expect::Bind(Unnamed::Ended) => {}
            Expect::Parse { .. } | Expect::Reparse(_) | Expect::Bind(_) | Expect::Rerun(_) => {
                self.skipped(expect)
            }
            _ => {}
        }
    }

    /// The origin skipped what this was to be answered with, after an error before it.
    pub(super) fn skipped(&mut self, expect: Expect) {
        match expect {
            Expect::Parse { prepared, replaced } => {
                self.outstanding.never_was(&prepared, replaced.as_ref());
                self.statements.remove_if_same(&prepared);
                self.put_back(replaced);
            }
            Expect::Reparse(prepared) => {
                prepared.upstream.set(false);
                prepared.confirmed.set(false);
            }
            Expect::Close(Closing::Statement(_, closed)) => self.put_back(closed),
            Expect::Query(sent) => {
                self.put_back(sent.prepared);
                self.stale_unnamed |= sent.ends_stale && self.outstanding.stays_stale();
            }
            Expect::Close(Closing::StaleStatement) => self.stale_unnamed = true,
            Expect::Bind(portal)
            | Expect::Rerun(portal)
            | Expect::Close(Closing::Portal(portal) | Closing::Own(portal))
                if !matches!(portal, Unnamed::Same) =>
            {
                self.unnamed = portal;
            }
            _ => {}
        }
    }

    /// What was to be replaced or closed is still there after all, unless something sent later ends it.
    fn put_back(&mut self, prepared: Option<Rc<Prepared>>) {
        if let Some(prepared) = prepared.and_then(|prepared| self.outstanding.hand_on(prepared)) {
            self.statements.put_back(prepared);
        }
    }

    /// The origin closed something.
    pub(super) fn on_close_complete(&mut self) {
        let Some(Expect::Close(Closing::Statement(name, _))) = self.outstanding.pop() else { return };
        // It may have been put back meanwhile, when a Close before this one was skipped.
        if !self.outstanding.statements().iter().any(|later| later.name == name) {
            self.statements.remove(&name);
        }
    }

    /// Commands that change which prepared statements there are, or whether notifications come.
    pub(super) fn on_command_tag(&mut self, tag: &[u8], deallocated: Option<&Rc<Prepared>>) {
        match (tag, deallocated) {
            (b"DEALLOCATE\0", Some(prepared)) => {
                prepared.uncertain.set(true);
                self.statements.remove_if_same(prepared);
            }
            (b"DEALLOCATE\0", None) => self.statements.doubt_all(),
            (b"DEALLOCATE ALL\0" | b"DISCARD ALL\0", _) => {
                self.statements.clear_named();
                self.outstanding.doubt_replaced();
                // What was sent after it comes after it.
                for prepared in self.outstanding.statements() {
                    self.statements.insert(prepared);
                }
            }
            (b"PREPARE\0", _) => self.statements.others = true,
            (b"LISTEN\0", _) => self.listens = true,
            _ => {}
        }
    }

    /// The statement that a text deallocates.
    pub(super) fn deallocates(&self, plan: &Plan, text: &[u8]) -> Option<Rc<Prepared>> {
        if plan.kind != Kind::PreparedStatements {
            return None;
        }
        self.statements.get(deallocated(text)?.as_bytes()).cloned()
    }
}

/// Whether a text may use or list prepared statements, as one of several statements or through a view.
fn mentions_statements(text: &[u8]) -> bool {
    const WORDS: [&[u8]; 3] = [b"execute", b"deallocate", b"prepared_statement"];
    WORDS.iter().any(|word| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
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
