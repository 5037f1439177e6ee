//! When the client's messages wait for the origin's answer to earlier ones.
//!
//! Messages are sent on as they come, and nothing is waited for, but for two things that only the origin can say:
//!
//! - whether the columns of a statement that was described here are still those. Rows of others would be misread, and a
//!   write earlier in the batch must fail with the refusal, so the rest of the batch waits.
//! - whether a statement that only Larder has is still there, when something that replaces, ends or sends it stands in a
//!   batch that may fail before it. What comes behind that batch means one thing or the other, so it waits. (Clients wait
//!   themselves, but for those that send several batches in one go.)

use bytes::Bytes;
use larder_core::Bypass;
use larder_wire::{HEADER, encode, frontend};

use super::Session;
use super::expect::{Closing, Expect};
use super::forward::Route;
use super::portal::Unnamed;
use super::statements::Prepared;

/// A name that no statement has.
const NOBODY: &[u8] = b"larder: the columns have changed";

/// What is waited for.
#[derive(Debug, Default)]
pub(super) struct Pause {
    /// The answer about columns, in the middle of a batch.
    pub(super) columns: bool,
    /// It is a `Describe` that waits for it: the client is to have the answer's first half in any case.
    describes: bool,
    pub(super) parameters: Option<Bytes>,
    /// The end of all that is under way, before another batch or a simple query is sent.
    pub(super) fate: bool,
    /// How the rest of the batch is to be sent.
    pub(super) rest: Option<Route>,
}

impl Session {
    /// The rest of a batch waits.
    pub(super) fn waits_for_columns(&mut self) -> bool {
        self.pause.columns &= !self.blind && self.outstanding.front().is_some();
        self.pause.columns
    }

    /// The next batch, or simple query, waits. (A COPY that takes data in waits for the client.)
    pub(super) fn waits_for_fate(&mut self) -> bool {
        self.pause.fate &= !self.blind && self.outstanding.front().is_some();
        self.pause.fate && !self.unsynced && !self.copying_in
    }

    /// Sends what was held back. `false`: some of it waits, and so must what comes behind it.
    pub(super) fn let_go(&mut self, why: Bypass) -> bool {
        self.flush_batch(Route::bypass(why));
        self.batch.is_empty()
    }

    /// A simple query, or a function call, is being sent. In the middle of a batch it is skipped, if something before it
    /// fails; if not, it ends the batch.
    pub(super) fn ends_batch(&mut self) {
        self.pause.fate |= std::mem::take(&mut self.unsynced);
    }

    /// Before a `Bind` or `Describe`: asks for the columns of its statement, if the client knows some and the origin has
    /// not confirmed them. `true`: the message waits for the answer.
    pub(super) fn asks_for_columns(&mut self, tag: u8, body: &[u8]) -> bool {
        let name = match tag {
            b'B' => frontend::leading_names(body).map(|(_, statement)| statement),
            b'D' => frontend::target(body).filter(|target| target.kind == b'S').map(|target| target.name),
            _ => None,
        };
        let Some(prepared) = name.and_then(|name| self.statements.get(name)).cloned() else { return false };
        let unknown = !prepared.upstream.get() || prepared.unchecked.get();
        if self.skipping || self.blind || !unknown || prepared.told.borrow().is_none() {
            return false;
        }
        // In a failed transaction nothing gives rows, and the origin's error is to be that of the client's own message.
        if self.transaction.status == b'E' && !self.busy() {
            return false;
        }
        self.materialize();
        self.unsynced = true;
        if !prepared.upstream.get() {
            self.send_parse(&prepared);
        }
        prepared.unchecked.set(false);
        encode::describe_statement(&mut self.origin.output, &prepared.name);
        encode::flush(&mut self.origin.output);
        self.outstanding.push(Expect::Redescribe(prepared));
        self.pause.columns = true;
        self.pause.describes = tag == b'D';
        true
    }

    /// The same for a message that is passed on in pieces, at the front of the client's input.
    pub(super) fn asks_for_columns_of_large(&mut self, tag: u8) -> bool {
        let input = std::mem::take(&mut self.client.input);
        let asks = tag == b'B' && self.asks_for_columns(tag, input.get(HEADER..).unwrap_or_default());
        self.client.input = input;
        asks
    }

    /// The `ParameterDescription` of the statement whose columns were asked for.
    pub(super) fn keep_parameters(&mut self, frame: &[u8]) {
        self.pause.parameters = self.pause.describes.then(|| Bytes::copy_from_slice(frame));
    }

    /// The origin has prepared the statement with other columns than the client was told of. Had it prepared the
    /// statement when the client did, it would refuse to run it now; so it has to refuse something.
    pub(super) fn refuse_outdated(&mut self, prepared: &Prepared) {
        prepared.upstream.set(false);
        prepared.confirmed.set(false);
        encode::close(&mut self.origin.output, b'S', &prepared.name);
        self.outstanding.push(Expect::Close(Closing::Own(Unnamed::Same)));
        encode::describe_statement(&mut self.origin.output, NOBODY);
        encode::flush(&mut self.origin.output);
        self.outstanding.push(Expect::Outdated);
        self.pause.columns = true;
    }
}
