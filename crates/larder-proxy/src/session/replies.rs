//! The origin's replies on their way to the client.
//!
//! Every frame is relayed as it came, except the replies to what Larder itself sent. What they say about the
//! session is read off on the way: see [`Session::on_reply`], one arm per state and event.

use std::rc::Rc;

use bytes::{Buf, Bytes, BytesMut};
use larder_cache::Moment;
use larder_core::Bypass;
use larder_wire::{HEADER, Peek, backend, encode, peek};

use super::expect::{Closing, Expect, Own, Sent};
use super::portal::Unnamed;
use super::statements::Prepared;
use super::{LARGE, Session};
use crate::facts::Facts;
use crate::metrics::Outcome;
use crate::plan::PlannedEffect;

/// What happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Relay,
    /// It answers something that the client did not ask.
    Swallow,
    /// In its place the client hears that the columns of its statement have changed.
    Outdated,
}

/// The part of a large frame that has not arrived yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    bytes: usize,
    fate: Fate,
    captured: bool,
}

impl Session {
    /// Consumes what the origin has sent, as far as the client's buffer has room.
    pub(crate) fn read_origin(&mut self) {
        if self.plain.is_some() {
            return self.relay_plain_origin();
        }
        if self.blind {
            return self.relay_blindly();
        }
        let mut input = std::mem::take(&mut self.origin.input);
        // Frames to relay are copied in runs: `run..at` is decided and not yet copied.
        let (mut run, mut at) = (0, 0);
        while self.client.output.len() + (at - run) <= self.client_room() {
            let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) else { break };
            let (fate, length) = match self.origin_rest {
                Some(left) => (left.fate, self.read_rest(left, rest)),
                None => match self.read_reply(rest) {
                    Some(step) => step,
                    None => break,
                },
            };
            if fate != Fate::Relay {
                copy(&mut self.client.output, &input, run..at);
                run = at + length;
            }
            if fate == Fate::Outdated {
                let parameters = self.pause.parameters.take().unwrap_or_default();
                self.client.output.extend_from_slice(&parameters);
                encode::outdated(&mut self.client.output);
            }
            at += length;
            if self.blind {
                break;
            }
        }
        if run == 0 && at == input.len() && self.client.output.is_empty() {
            std::mem::swap(&mut self.client.output, &mut input);
            input.clear();
        } else {
            copy(&mut self.client.output, &input, run..at);
            input.advance(at);
        }
        self.origin.input = input;
        if self.blind {
            self.relay_blindly();
        }
    }

    /// One frame at the front of `buffer`: its fate and how many bytes of it are there. `None`: not enough yet.
    fn read_reply(&mut self, buffer: &[u8]) -> Option<(Fate, usize)> {
        let (tag, total) = match peek(buffer) {
            Peek::Short => return None,
            Peek::Frame { tag, total } => (tag, total),
            Peek::Invalid => {
                self.go_blind("the origin sent a frame of impossible length");
                return Some((Fate::Relay, 0));
            }
        };
        if let Some(frame) = buffer.get(..total) {
            return Some((self.on_reply(tag, frame), total));
        }
        if total <= LARGE {
            return None;
        }
        // Too large to hold whole: judged by its type alone and passed on in pieces.
        let (header, _) = buffer.split_at_checked(HEADER)?;
        let captured = self.captures(tag);
        let fate = self.on_reply(tag, header);
        self.origin_rest = Some(Rest { bytes: total - HEADER, fate, captured });
        Some((fate, HEADER))
    }

    /// Whether a frame of this type is part of the reply that the fill captures.
    fn captures(&mut self, tag: u8) -> bool {
        match self.outstanding.front() {
            Some(Expect::Query(sent)) => sent.is_copied() && matches!(tag, b'T' | b'D'),
            Some(Expect::Execute(sent)) => sent.is_copied() && tag == b'D',
            _ => false,
        }
    }

    /// More of a large frame: how many of the bytes in `buffer` belong to it.
    fn read_rest(&mut self, rest: Rest, buffer: &[u8]) -> usize {
        let here = rest.bytes.min(buffer.len());
        if rest.captured {
            self.copy_piece(buffer.get(..here).unwrap_or_default());
        }
        self.origin_rest = (rest.bytes > here).then_some(Rest { bytes: rest.bytes - here, ..rest });
        here
    }

    fn relay_blindly(&mut self) {
        let Some(first) = self.origin.input.first() else { return };
        // Without the protocol state any reply may acknowledge a write. A replication stream ('d') does not.
        if *first != b'd' {
            self.pending.everything();
            self.acknowledge_pending();
        }
        if self.client.output.len() < self.client_room() {
            self.origin.relay_all(&mut self.client);
        }
    }

    /// State × event. `frame` is the whole frame, or its header alone if it is large.
    fn on_reply(&mut self, tag: u8, frame: &[u8]) -> Fate {
        let body = frame.get(HEADER..).unwrap_or_default();
        match tag {
            b'N' if matches!(self.outstanding.front(), Some(Expect::Rerun(_))) => return Fate::Swallow,
            b'N' | b'A' | b'S' => {
                self.on_asynchronous(tag, body);
                return Fate::Relay;
            }
            b'C' | b'Z' | b'E' => {
                if let Some(Expect::Execute(sent)) = self.outstanding.front()
                    && sent.ran_another()
                {
                    self.expect_effect(&PlannedEffect::unknown(), None);
                }
                self.acknowledge();
            }
            _ => {}
        }
        match (self.outstanding.front(), tag) {
            (Some(Expect::Own(own)), _) => {
                let own = *own;
                self.on_own(own, tag, body)
            }
            (None, b'E') => {
                self.farewell = true;
                Fate::Relay
            }
            (_, b'E') => self.on_error(body),
            (Some(Expect::Parse { .. } | Expect::Reparse(_)), b'1') => self.on_parse_complete(),
            (Some(Expect::Bind(_)), b'2') => self.done(Fate::Relay),
            (Some(Expect::Close(Closing::StaleStatement | Closing::Own(_)) | Expect::Rerun(_)), b'3') => {
                self.done(Fate::Swallow)
            }
            (Some(Expect::Rerun(_)), b'1' | b'2' | b'D' | b'C') => Fate::Swallow,
            (Some(Expect::Close(_)), b'3') => {
                self.on_close_complete();
                Fate::Relay
            }
            (Some(Expect::Redescribe(_)), b't') => {
                self.keep_parameters(frame);
                Fate::Swallow
            }
            (Some(Expect::Redescribe(prepared)), b'T' | b'n') => {
                // The columns of a large frame are not known here; nor were they told from memory.
                let columns = larder_wire::backend::with_formats(frame, b"\0\0");
                let others = tag == b'n' || (!body.is_empty() && !prepared.expects(columns.as_ref()));
                let prepared = Rc::clone(prepared);
                self.outstanding.pop();
                self.pause.columns = false;
                if others {
                    self.refuse_outdated(&prepared);
                }
                Fate::Swallow
            }
            (Some(Expect::DescribeStatement(..)), b't') => {
                self.on_parameters(frame);
                Fate::Relay
            }
            (Some(Expect::DescribeStatement(..) | Expect::DescribePortal(..)), b'T') => {
                self.on_columns(frame);
                self.done(Fate::Relay)
            }
            (Some(Expect::DescribeStatement(..) | Expect::DescribePortal(..)), b'n') => {
                self.done(Fate::Relay)
            }
            (Some(Expect::Execute(_)), _) => self.on_executing(tag, frame),
            (Some(Expect::Query(_)), _) => self.on_querying(tag, frame),
            (Some(Expect::Function), b'V') => Fate::Relay,
            (Some(Expect::Function | Expect::Sync), b'Z') => self.on_ready(body),
            _ => {
                self.go_blind("a reply that nothing asked for");
                Fate::Relay
            }
        }
    }

    fn done(&mut self, fate: Fate) -> Fate {
        self.outstanding.pop();
        fate
    }

    fn on_asynchronous(&mut self, tag: u8, body: &[u8]) {
        match tag {
            // What a notification tells must be visible to the reads that follow it.
            b'A' => {
                self.news = Moment::now();
                self.listens = true;
            }
            b'S' => match backend::application_name(body) {
                Some(name) => self.rename(name),
                // A reported setting has another value.
                None => self.knowledge.facts = None,
            },
            _ => {}
        }
        if tag != b'A' {
            // An answer that came with a notice is not the whole answer.
            self.abandon_copy();
        }
    }

    fn on_error(&mut self, body: &[u8]) -> Fate {
        self.worker.metrics.failed();
        if let Some(traced) = &self.trace {
            traced.fail();
        }
        self.abandon_fill();
        self.copying_in = false;
        if matches!(backend::error_field(body, b'V'), Some(b"FATAL" | b"PANIC")) {
            self.farewell = true;
        }
        if let Some(check) = self.outstanding.executing().and_then(|sent| sent.check.take()) {
            self.fail_check(&check, body);
        }
        if matches!(self.outstanding.front(), Some(Expect::Query(_) | Expect::Function | Expect::Sync)) {
            return Fate::Relay;
        }
        self.pause.columns = false;
        let failed = self.outstanding.pop();
        let (skipped, synced) = self.outstanding.skip_to_sync();
        // The newest first: each puts back what it found.
        for expect in skipped.into_iter().rev() {
            self.skipped(expect);
        }
        let outdated = matches!(failed, Some(Expect::Outdated));
        if let Some(failed) = failed {
            self.refused(failed);
        }
        self.skipping = !synced;
        let own = matches!(self.outstanding.front(), Some(Expect::Own(Own::Sync)));
        if outdated && !self.farewell {
            Fate::Outdated
        } else if own {
            Fate::Swallow
        } else {
            Fate::Relay
        }
    }

    /// Whether what the origin says of a statement holds for others who prepare the same text: it is about that
    /// statement, and about the tables as they are, not as this transaction may leave them.
    fn is_common(&self, prepared: &Prepared) -> bool {
        prepared.confirmed.get() && !self.transaction.wrote
    }

    fn on_parameters(&mut self, frame: &[u8]) {
        let Some(Expect::DescribeStatement(Some(prepared), Some(plan))) = self.outstanding.front() else {
            return;
        };
        let (prepared, plan) = (Rc::clone(prepared), Rc::clone(plan));
        if frame.len() > HEADER && self.is_common(&prepared) {
            plan.shape.borrow_mut().parameters = Some(Bytes::copy_from_slice(frame));
        }
    }

    /// A RowDescription. Of a large one only the header is here, and nothing is learnt.
    fn on_columns(&mut self, frame: &[u8]) {
        let (prepared, plan) = match self.outstanding.front() {
            Some(
                Expect::DescribeStatement(Some(prepared), plan)
                | Expect::DescribePortal(Some(prepared), plan),
            ) => (Rc::clone(prepared), plan.clone()),
            _ => return,
        };
        let columns = larder_wire::backend::with_formats(frame, b"\0\0");
        let common = frame.len() > HEADER && self.is_common(&prepared);
        let columns = match plan.filter(|_| common) {
            Some(plan) => plan.shape.borrow_mut().learn_columns(columns),
            None => columns,
        };
        if prepared.confirmed.get() {
            prepared.told.replace(columns);
        }
    }

    fn on_parse_complete(&mut self) -> Fate {
        let (prepared, fate) = match self.outstanding.pop() {
            Some(Expect::Parse { prepared, .. }) => (prepared, Fate::Relay),
            Some(Expect::Reparse(prepared)) => (prepared, Fate::Swallow),
            _ => return Fate::Relay,
        };
        prepared.confirmed.set(true);
        if let Some((_, plan)) = prepared.plan.borrow().as_ref().filter(|_| self.is_common(&prepared)) {
            plan.shape.borrow_mut().parsed = true;
        }
        fate
    }

    fn on_executing(&mut self, tag: u8, frame: &[u8]) -> Fate {
        let copied = matches!(self.outstanding.front(), Some(Expect::Execute(sent)) if sent.is_copied());
        match tag {
            b'D' if copied => self.copy_frame(frame, false),
            b'D' | b'd' | b'c' | b'H' => {}
            b'G' => self.copying_in = !self.outstanding.copy_begins(),
            b'C' | b'I' | b's' => {
                if copied && tag == b'C' {
                    self.copy_frame(frame, true);
                } else if copied {
                    self.abandon_copy();
                }
                if let Some(Expect::Execute(mut sent)) = self.outstanding.pop() {
                    self.finish_check(&mut sent);
                    self.on_command_tag(frame.get(HEADER..).unwrap_or_default(), sent.deallocates.as_ref());
                    self.served(&sent);
                }
            }
            _ => self.go_blind("an unexpected reply to Execute"),
        }
        Fate::Relay
    }

    fn on_querying(&mut self, tag: u8, frame: &[u8]) -> Fate {
        let copied = matches!(self.outstanding.front(), Some(Expect::Query(sent)) if sent.is_copied());
        match tag {
            b'T' | b'D' if copied => self.copy_frame(frame, false),
            b'C' => {
                if copied {
                    self.copy_frame(frame, true);
                }
                self.on_query_tag(frame.get(HEADER..).unwrap_or_default());
            }
            b'I' | b'G' | b'H' if copied => self.abandon_copy(),
            b'G' => self.copying_in = !self.outstanding.copy_begins(),
            b'T' | b'D' | b'I' | b'H' | b'd' | b'c' => {}
            b'Z' => return self.on_ready(frame.get(HEADER..).unwrap_or_default()),
            _ => self.go_blind("an unexpected reply to a simple query"),
        }
        Fate::Relay
    }

    /// CommandComplete of one of the statements of a simple query.
    fn on_query_tag(&mut self, tag: &[u8]) {
        let deallocated = match self.outstanding.front() {
            Some(Expect::Query(sent)) => sent.deallocates.clone(),
            _ => None,
        };
        self.on_command_tag(tag, deallocated.as_ref());
    }

    fn on_ready(&mut self, body: &[u8]) -> Fate {
        let Some(status) = backend::ready_status(body) else {
            self.go_blind("a ReadyForQuery without a status");
            return Fate::Relay;
        };
        self.transaction.status = status;
        if let Some(Expect::Query(mut sent)) = self.outstanding.pop() {
            self.finish_check(&mut sent);
            self.served(&sent);
            if sent.ends_portal && status == b'T' {
                self.unnamed = Unnamed::Same;
            }
        }
        self.copying_in = false;
        self.finish_fill();
        if self.trace.as_ref().is_some_and(|traced| traced.is_forwarded()) {
            self.trace_step("reply");
            self.end_trace();
        }
        if self.outstanding.is_empty() && status == b'I' {
            self.settled();
        } else if self.outstanding.is_empty() {
            self.transaction.may_end = false;
        }
        Fate::Relay
    }

    fn served(&mut self, sent: &Sent) {
        self.last = Some(sent.outcome);
        self.trace_step("origin");
        if !self.worker.config().statistics {
            return;
        }
        self.count_answer(false);
        let elapsed = self.worker.metrics.answered(sent.outcome, sent.started);
        if let Some(query) = &sent.query {
            query.answered(sent.outcome, elapsed);
        }
    }

    /// The reply to something that Larder itself sent: nothing of it reaches the client.
    fn on_own(&mut self, own: Own, tag: u8, body: &[u8]) -> Fate {
        match (own, tag) {
            (Own::Probe, b'D') => {
                self.knowledge.facts = self.knowledge.probing.as_ref().and_then(|(epoch, catalog)| {
                    Some((Facts::intern(&self.database, &catalog.settings, body)?, *epoch))
                });
                self.knowledge.stale = false;
            }
            (Own::Probe | Own::Read, b'E') => {
                if matches!(backend::error_field(body, b'V'), Some(b"FATAL" | b"PANIC")) {
                    // The session ends here: the client must hear why.
                    self.farewell = true;
                    return Fate::Relay;
                }
                let message = backend::error_field(body, b'M').map(String::from_utf8_lossy);
                tracing::debug!(?message, "a query of Larder's own failed");
                if own == Own::Probe && self.transaction.status == b'T' {
                    // The client's transaction has failed with it (it was cancelled, say): this is the answer to the
                    // request before which it was sent.
                    self.worker.metrics.failed();
                    self.knowledge.broke = true;
                    return Fate::Relay;
                }
            }
            (Own::Begin, b'E') => {
                // The client believes that a transaction is open. There is none: nothing may follow.
                self.farewell = true;
                self.origin.ended = true;
                return Fate::Relay;
            }
            // The client has had its error; this is the end of the statement that it cancelled.
            (Own::Failure, b'Z') => {
                self.outstanding.pop();
                self.transaction.status = backend::ready_status(body).unwrap_or(b'E');
                return Fate::Relay;
            }
            (_, b'Z') => {
                self.outstanding.pop();
                self.knowledge.probing = None;
                if let Some(status) = backend::ready_status(body) {
                    self.transaction.status = status;
                }
                if own == Own::Probe && self.knowledge.broke {
                    return Fate::Relay;
                }
            }
            _ => {}
        }
        Fate::Swallow
    }

    /// How the previous statement was served, in the shape of RFC 9211.
    pub(crate) fn last_served(&self) -> String {
        match self.last {
            None => "none".to_owned(),
            Some(Outcome::Hit { age }) => format!("hit; tier=l1; age={}ms", age.as_millis()),
            Some(Outcome::Coalesced { age }) => format!("hit; tier=l1; coalesced; age={}ms", age.as_millis()),
            Some(Outcome::Shared { age }) => format!("hit; tier=l2; age={}ms", age.as_millis()),
            Some(Outcome::Miss(why)) => format!("miss; reason={}", why.name()),
            Some(Outcome::Bypass(why)) => format!("bypass; reason={}", Bypass::name(why)),
        }
    }
}

fn copy(to: &mut BytesMut, from: &[u8], range: std::ops::Range<usize>) {
    to.extend_from_slice(from.get(range).unwrap_or_default());
}
