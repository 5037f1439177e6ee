//! A session of `mode = "bypass"`: nothing but frame headers is looked at, and whole buffers change hands.
//!
//! Two things must be known all the same: when a session may be asked to leave (draining), and how many statements
//! passed (metrics). For that requests and ReadyForQuery are counted.

use std::ops::{ControlFlow, Range};

use larder_cache::Moment;
use larder_core::Bypass;
use larder_wire::{HEADER, Peek, backend, frontend, peek};

use super::{HIGH_WATER, LARGE, Session, local};
use crate::metrics::Outcome;

/// What a plain session knows.
#[derive(Debug)]
pub(crate) struct Plain {
    /// Bytes of the current frame that are still to come: from the client, from the origin.
    client_rest: usize,
    origin_rest: usize,
    /// Requests that end with a ReadyForQuery still to come.
    unanswered: usize,
    /// The latest of them is a simple query or a function call, not a Sync.
    simple: bool,
    /// Messages of the extended protocol were sent and no Sync after them.
    unsynced: bool,
    /// As in the last ReadyForQuery.
    status: u8,
    started: Moment,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            client_rest: 0,
            origin_rest: 0,
            unanswered: 0,
            simple: false,
            unsynced: false,
            status: b'I',
            started: Moment::default(),
        }
    }
}

impl Plain {
    /// Nothing is under way that leaving now would break.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_answered() && self.status == b'I'
    }

    /// Nothing that was asked waits for an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.unanswered == 0 && !self.unsynced
    }

    /// The client has been given whole frames only.
    pub(crate) fn is_between_replies(&self) -> bool {
        self.origin_rest == 0
    }

    fn on_message(&mut self, tag: u8) {
        match tag {
            b'Q' | b'F' | b'S' => {
                if self.unanswered == 0 {
                    self.started = Moment::now();
                }
                self.unanswered += 1;
                self.simple = tag != b'S';
                self.unsynced &= self.simple;
            }
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' => self.unsynced = true,
            _ => {}
        }
    }
}

impl Session {
    /// Passes on what the client has sent. Break: it said goodbye.
    pub(super) fn relay_plain_client(&mut self) -> ControlFlow<()> {
        if self.lost {
            self.client.relay_all(&mut self.origin);
            return ControlFlow::Continue(());
        }
        // What `SHOW larder.last` left behind it is passed on in the next round.
        while self.origin.output.len() < HIGH_WATER {
            let (answered, end) = self.relay_plain_messages();
            if end {
                return ControlFlow::Break(());
            }
            if !answered {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether a message was answered here, and whether the client said goodbye.
    fn relay_plain_messages(&mut self) -> (bool, bool) {
        let input = std::mem::take(&mut self.client.input);
        let (mut at, mut end, mut own) = (0, false, false);
        if let Some(plain) = &mut self.plain {
            at = plain.client_rest.min(input.len());
            plain.client_rest -= at;
            while let Some((tag, total)) = frame_at(&input, at) {
                if is_nonsense(input.get(at..)) {
                    break;
                }
                let idle = plain.unanswered == 0 && !plain.unsynced;
                own = at == 0 && idle && asks_last(tag, &input, at..at + total);
                if own {
                    at += total;
                    break;
                }
                plain.on_message(tag);
                end |= tag == b'X';
                let here = total.min(input.len() - at);
                plain.client_rest = total - here;
                at += here;
            }
            // Waiting for the rest of it would be in vain: the origin says what is wrong, and leaves.
            self.lost = !own && plain.client_rest == 0 && is_nonsense(input.get(at..));
        }
        if self.lost {
            at = input.len();
        }
        self.client.input = input;
        if own {
            bytes::Buf::advance(&mut self.client.input, at);
            self.say_last();
        } else {
            self.client.relay(at, &mut self.origin);
        }
        (own, end)
    }

    /// Passes on what the origin has sent.
    pub(super) fn relay_plain_origin(&mut self) {
        if self.client.output.len() >= HIGH_WATER {
            return;
        }
        let input = std::mem::take(&mut self.origin.input);
        let mut at = 0;
        if let Some(plain) = &mut self.plain {
            at = plain.origin_rest.min(input.len());
            plain.origin_rest -= at;
            while let Some((tag, total)) = frame_at(&input, at) {
                let body = input.get(at + HEADER..at + total);
                match tag {
                    // The status is in the body.
                    b'Z' if body.is_none() => break,
                    b'Z' => {
                        plain.status = body.and_then(backend::ready_status).unwrap_or(b'E');
                        if let Some(left) = plain.unanswered.checked_sub(1) {
                            plain.unanswered = left;
                            self.last = Some(Outcome::Bypass(Bypass::ModeBypass));
                            self.worker.metrics.answered(Outcome::Bypass(Bypass::ModeBypass), plain.started);
                            if let Some(seat) = &self.client_seat {
                                seat.answered(false);
                            }
                        }
                    }
                    // The name of the application is in the body, and short.
                    b'S' if body.is_none() && total <= LARGE => break,
                    b'S' => {
                        let name = body.and_then(backend::application_name);
                        if let Some((seat, name)) = self.client_seat.as_ref().zip(name) {
                            seat.rename(name);
                        }
                    }
                    b'E' => self.worker.metrics.failed(),
                    // The origin ignores a Sync that came before the COPY's data.
                    b'G' if !plain.simple => plain.unanswered = plain.unanswered.saturating_sub(1),
                    _ => {}
                }
                // The last thing it says before it leaves is why.
                self.farewell = tag == b'E';
                let here = total.min(input.len() - at);
                plain.origin_rest = total - here;
                at += here;
            }
        }
        self.origin.input = input;
        self.origin.relay(at, &mut self.client);
        if self.plain.as_ref().is_some_and(|plain| plain.origin_rest == 0)
            && peek(&self.origin.input) == Peek::Invalid
        {
            self.plain = None;
            self.go_blind("a frame of impossible length");
            self.origin.relay_all(&mut self.client);
        }
    }

    /// The transaction status that the client was told last.
    pub(super) fn plain_status(&self) -> u8 {
        self.plain.as_ref().map_or(self.transaction.status, |plain| plain.status)
    }
}

/// What no client says: a message of an unknown type, or of a length that cannot be.
fn is_nonsense(input: Option<&[u8]>) -> bool {
    let Some(input) = input.filter(|input| !input.is_empty()) else { return false };
    let longest = input.first().and_then(|tag| frontend::longest(*tag));
    match (peek(input), longest) {
        (_, None) | (Peek::Invalid, _) => true,
        (Peek::Frame { total, .. }, Some(longest)) => total > longest,
        (Peek::Short, _) => false,
    }
}

fn frame_at(input: &[u8], at: usize) -> Option<(u8, usize)> {
    match peek(input.get(at..)?) {
        Peek::Frame { tag, total } => Some((tag, total)),
        Peek::Short | Peek::Invalid => None,
    }
}

fn asks_last(tag: u8, input: &[u8], frame: Range<usize>) -> bool {
    let body = input.get(frame.start + HEADER..frame.end);
    tag == b'Q' && body.and_then(frontend::query).is_some_and(local::asks_last)
}
