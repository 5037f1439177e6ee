//! The client's messages, as they come: hold, answer or forward.

use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use larder_core::Bypass;
use larder_sql::Kind;
use larder_wire::{HEADER, Peek, frontend, peek};

use super::local::asks_last;
use super::settle::Request;
use super::statements::Prepared;
use super::{Caching, HIGH_WATER, LARGE, Session};
use crate::facts::Facts;
use crate::plan::Plan;

impl Session {
    /// Handles every whole message that has arrived. Break: the client will send no more.
    pub(crate) async fn read_client(&mut self) -> io::Result<ControlFlow<()>> {
        if self.read_messages().await?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        // A message cut off by the end of the connection is dropped, as PostgreSQL does.
        let full = self.origin.output.len() >= HIGH_WATER || self.client.output.len() >= HIGH_WATER;
        let waits = self.waits_for_columns() || self.waits_for_fate();
        Ok(if self.client.ended && !full && !waits {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    async fn read_messages(&mut self) -> io::Result<ControlFlow<()>> {
        if self.plain.is_some() {
            return Ok(self.relay_plain_client());
        }
        loop {
            if self.waits_for_columns() {
                return Ok(ControlFlow::Continue(()));
            }
            if let Some(route) = self.pause.rest.take() {
                self.flush_batch(route);
                continue;
            }
            if self.blind || self.lost {
                if !self.let_go(Bypass::ProtocolShape) {
                    continue;
                }
                self.client.relay_all(&mut self.origin);
                return Ok(ControlFlow::Continue(()));
            }
            if self.origin.output.len() >= HIGH_WATER || self.client.output.len() >= HIGH_WATER {
                return Ok(ControlFlow::Continue(()));
            }
            if self.client_rest > 0 {
                let here = self.client_rest.min(self.client.input.len());
                self.client.relay(here, &mut self.origin);
                self.client_rest -= here;
                if self.client_rest > 0 {
                    return Ok(ControlFlow::Continue(()));
                }
            }
            let input = self.client.input.get(self.batch.end..).unwrap_or_default();
            let longest = input.first().map_or(Some(0), |tag| frontend::longest(*tag));
            let (tag, total) = match (peek(input), longest) {
                (Peek::Short, Some(_)) => return Ok(ControlFlow::Continue(())),
                (Peek::Frame { tag, total }, Some(longest)) if total <= longest => (tag, total),
                _ => {
                    // Waiting for the rest of it would be in vain. The origin says what is wrong, and leaves; what it
                    // still has to answer is read as ever.
                    self.lost = true;
                    continue;
                }
            };
            let whole = input.len() >= total;
            let named = || frontend::has_names(tag, input.get(HEADER..).unwrap_or_default());
            if !whole && (total <= LARGE || !named()) {
                return Ok(ControlFlow::Continue(()));
            }
            let begins = matches!(tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C');
            if begins && self.batch.is_empty() && self.waits_for_fate() {
                return Ok(ControlFlow::Continue(()));
            }
            let flow = if whole && total <= LARGE {
                self.on_message(tag, total).await?
            } else if self.let_go(Bypass::TooLong) && !self.asks_for_columns_of_large(tag) {
                self.forward_large(tag, total)
            } else {
                continue;
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }

    async fn on_message(&mut self, tag: u8, total: usize) -> io::Result<ControlFlow<()>> {
        match tag {
            b'Q' => {
                if self.let_go(Bypass::PipelineBusy) {
                    self.settle(Request::Query(total)).await?;
                }
            }
            b'P' | b'B' | b'D' | b'E' | b'C' => {
                self.batch.push(tag, total);
                if let Some(why) = self.hopeless() {
                    self.let_go(why);
                }
            }
            b'S' | b'H' => {
                // One with a body is an error, whatever was held back before it.
                if total > HEADER && !self.let_go(Bypass::ProtocolShape) {
                    return Ok(ControlFlow::Continue(()));
                }
                if self.batch.is_empty() {
                    self.forward_end(tag, total);
                } else {
                    self.settle(Request::Batch { tag, total }).await?;
                }
            }
            _ => {
                if self.let_go(Bypass::ProtocolShape) {
                    return Ok(self.forward_other(tag, total));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Why the batch cannot be answered from memory, if that is clear before its end.
    fn hopeless(&self) -> Option<Bypass> {
        if let Caching::Off(why) = self.caching {
            return Some(why);
        }
        if self.busy() {
            return Some(Bypass::PipelineBusy);
        }
        if self.batch.end > LARGE {
            return Some(Bypass::ProtocolShape);
        }
        None
    }

    /// Requests of this session are unanswered, the origin waits for a Sync, or it has said goodbye.
    pub(crate) fn busy(&self) -> bool {
        !self.outstanding.is_empty() || self.unsynced || self.skipping || self.copying_in || self.farewell
    }

    /// The session's facts, if they are known now; of custom settings they may have the values of a while ago (see
    /// [`super::Knowledge`]): enough to tell what a statement means and changes.
    pub(crate) fn facts(&self) -> Option<&Arc<Facts>> {
        let (facts, epoch) = self.knowledge.facts.as_ref()?;
        (*epoch == self.worker.shared.fence.epoch()).then_some(facts)
    }

    pub(crate) fn default_is_read_committed(&self) -> bool {
        self.facts().is_some_and(|facts| facts.common.read_committed)
    }

    /// The plan for a text, if the facts it depends on are known.
    pub(crate) fn known_plan(&self, text: &[u8], types: &[u8]) -> Option<Rc<Plan>> {
        let facts = self.facts()?;
        Some(self.worker.plans.borrow_mut().get(text, types, facts, &self.worker.shared))
    }

    /// The plan for a text that goes to the origin: what it may change, as far as that can be told now.
    pub(crate) fn effect_plan(&self, text: &[u8], types: &[u8]) -> Option<Rc<Plan>> {
        if !self.is_followed() {
            return None;
        }
        let facts = self.facts().unwrap_or_else(|| Facts::unknown());
        Some(self.worker.plans.borrow_mut().get(text, types, facts, &self.worker.shared))
    }

    /// The plan for a prepared statement, looked up again only when the facts, the epoch or the rules are others.
    pub(crate) fn plan_of(&self, prepared: &Prepared) -> Option<Rc<Plan>> {
        let Some(facts) = self.facts() else {
            let own = prepared.text().is_some_and(|(text, _)| asks_last(text));
            return own.then(|| Rc::new(Plan::opaque(Kind::ShowLast, Bypass::SettingsUnknown)));
        };
        if let Some((known, plan)) = &*prepared.plan.borrow()
            && *known == facts.id
            && plan.epoch == self.worker.shared.fence.epoch()
            && plan.rules == self.worker.shared.rules.generation()
        {
            return Some(Rc::clone(plan));
        }
        let (text, types) = prepared.text()?;
        let plan = self.known_plan(text, types)?;
        *prepared.plan.borrow_mut() = Some((facts.id, Rc::clone(&plan)));
        Some(plan)
    }

    /// The text of the simple query at the front of the client's input.
    pub(crate) fn query_text(&self, total: usize) -> Option<&[u8]> {
        frontend::query(self.client.input.get(HEADER..total)?)
    }
}
