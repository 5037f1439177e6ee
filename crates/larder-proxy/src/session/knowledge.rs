//! How far the session's facts are known, and when it pays to read them back.
//!
//! Facts are read on the session's own connection while nothing else is under way: between transactions, and inside a
//! READ COMMITTED transaction that has not written, where another query takes no snapshot that anything later would
//! see. What a transaction has changed of the settings may be taken back by its end or by ROLLBACK TO, so facts read
//! inside it do not outlive that (see [`super::transaction`]).

use std::sync::Arc;

use larder_core::{Bypass, Catalog};
use larder_sql::{Kind, Settings};
use larder_wire::frontend;

use super::Session;
use super::answer::is_own;
use super::local::asks_last;
use super::settle::Attempt;
use crate::facts::Facts;
use crate::plan::Plan;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Knowledge {
    /// The facts, and the epoch in which they were read.
    pub(super) facts: Option<(Arc<Facts>, u64)>,
    /// Custom settings may have other values by now; the common part still holds.
    pub(super) stale: bool,
    /// The read-back on its way: the epoch in which it was sent, and the catalog that named its custom settings.
    pub(super) probing: Option<(u64, Arc<Catalog>)>,
    /// It failed inside the client's transaction, which has failed with it: the client was given the error.
    pub(super) broke: bool,
}

impl Knowledge {
    /// Something goes by that may change settings.
    pub(super) fn changed(&mut self, which: Settings) {
        match which {
            Settings::Nothing => {}
            Settings::Custom => self.stale = true,
            Settings::Anything => self.facts = None,
        }
    }
}

impl Session {
    /// What must be done about the session's facts before a simple query can be answered from memory.
    pub(super) fn lacks_facts_for_query(&self, text: &[u8]) -> Option<Attempt> {
        if self.facts().is_some() && !self.knowledge.stale {
            return None;
        }
        let types = b"\0\0";
        match self.known_plan(text, types) {
            Some(plan) => self.lacks_values_for(&[plan]),
            None if self.transaction.status == b'I' => Some(self.read_back_if(worth_probing(text))),
            // A query is asked for, so one more takes away no choice (SET TRANSACTION) that the client has.
            None => {
                let kind = self.effect_plan(text, types).map(|plan| plan.kind.clone());
                Some(self.read_back_if(kind == Some(Kind::Select)))
            }
        }
    }

    /// The same for the messages held back, ended by Sync (`S`) or Flush (`H`).
    pub(super) fn lacks_facts_for_batch(&self, tag: u8) -> Option<Attempt> {
        if self.facts().is_some() && !self.knowledge.stale {
            return None;
        }
        if tag == b'H' && self.transaction.status != b'I' {
            // Should it fail, there would be no ReadyForQuery to end the client's wait.
            return Some(Attempt::Forward(Bypass::SettingsUnknown));
        }
        let plans: Option<Vec<_>> =
            self.batch_texts().map(|(text, types)| self.known_plan(text, types)).collect();
        match plans {
            Some(plans) if self.facts().is_some() => self.lacks_values_for(&plans),
            _ if self.transaction.status == b'I' => Some(Attempt::NeedFacts),
            _ => {
                let mut texts = self.batch_texts();
                let reads = texts.any(|(text, types)| {
                    self.effect_plan(text, types).is_some_and(|plan| plan.kind == Kind::Select)
                });
                Some(self.read_back_if(reads))
            }
        }
    }

    /// The meaning of these statements is known, and the values of custom settings are not: those matter to reads.
    fn lacks_values_for(&self, plans: &[std::rc::Rc<Plan>]) -> Option<Attempt> {
        let mut others = plans.iter().filter(|plan| !is_own(plan)).peekable();
        others.peek()?;
        match others.find_map(|plan| plan.read.as_ref().err()) {
            Some(why) => Some(Attempt::Forward(*why)),
            None => Some(self.read_back_if(true)),
        }
    }

    fn read_back_if(&self, wanted: bool) -> Attempt {
        if wanted && self.transaction.refusal().is_none() {
            Attempt::NeedFacts
        } else {
            Attempt::Forward(Bypass::SettingsUnknown)
        }
    }

    /// Whether the messages held back are about `SHOW larder.last` only, which the origin does not know.
    pub(super) fn batch_asks_last(&self) -> bool {
        let mut texts = self.batch_texts().peekable();
        texts.peek().is_some() && texts.all(|(text, _)| asks_last(text))
    }

    /// Text and declared parameter types of every statement that the batch prepares or binds.
    fn batch_texts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.batch.steps().iter().filter_map(|step| {
            let body = step.body(&self.client.input);
            match step.tag {
                b'P' => frontend::parse(body).map(|parse| (parse.sql, parse.types)),
                b'B' => self.statements.get(frontend::bind(body)?.statement)?.text(),
                _ => None,
            }
        })
    }
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
