//! One client and its origin connection, in one task on one core.
//!
//! Three kinds of traffic: requests answered from memory (`local`, `answer`), requests forwarded as they came
//! (`forward`), and the origin's replies (`replies`), relayed byte for byte while what Larder must know is read off on
//! the way. When anything does not fit what is expected, the session becomes a blind relay and stays one.

pub(crate) mod age;
mod answer;
mod batch;
mod check;
mod client;
mod control;
mod expect;
mod fill;
mod forward;
mod knowledge;
mod local;
#[cfg(test)]
mod model;
mod pause;
mod plain;
mod portal;
mod replies;
#[cfg(any(test, fuzzing))]
pub(crate) mod rig;
mod settle;
mod share;
mod statements;
mod trace;
mod transaction;
mod upstream;

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use larder_cache::Moment;
use larder_core::Bypass;
use larder_wire::encode::{self, Severity};

use crate::cancel::CancelSeat;
use crate::clients::{ClientIdentity, ClientSeat, ClientState};
use crate::metrics::Outcome;
use crate::pipe::Pipe;
use crate::trace::Traced;
use crate::worker::Worker;
use batch::Batch;
pub(crate) use control::{Control, Leave};
use expect::Outstanding;
use fill::Fill;
use knowledge::Knowledge;
use pause::Pause;
use plain::Plain;
use portal::{Bound, Unnamed};
pub(crate) use share::Renewals;
use statements::{Prepared, Statements};
use transaction::{Deferred, Pending, Transaction};

/// Bytes waiting to be written to one side before nothing more is read from the other: bounds a session's memory.
const HIGH_WATER: usize = 256 * 1024;
/// A frame larger than this passes through in pieces instead of being held whole.
const LARGE: usize = 64 * 1024;
/// How long messages without Sync or Flush wait for one: more than the pieces of one request need to arrive.
const HOLD: Duration = Duration::from_millis(5);
/// A client that asks for nothing for so long has most likely given its connection back to its pool: longer than a program
/// takes from one statement to the next, short enough to be found in a pool that is in constant use.
const PAUSE: Duration = Duration::from_millis(20);
/// Time for the last bytes to reach the client when a session ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Whether a session ends between two messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    No,
    /// If the client makes a pause.
    IfQuiet,
    Yes,
}

/// Whether statements are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caching {
    On,
    /// Replies and writes are followed, nothing is answered from memory.
    Off(Bypass),
}

/// A client session.
#[derive(Debug)]
pub(crate) struct Session {
    worker: Rc<Worker>,
    control: Rc<Control>,
    client: Pipe,
    origin: Pipe,
    database: String,
    caching: Caching,
    /// Bytes pass through uninterpreted.
    blind: bool,
    /// The client has sent what is no message: it is not read any more, only passed on, until the origin leaves.
    lost: bool,
    /// Only frame headers are looked at (`mode = "bypass"`).
    plain: Option<Plain>,
    /// It may get notifications. The origin holds them back while a transaction is open, so it must know of every one.
    listens: bool,

    outstanding: Outstanding,
    statements: Statements,
    portals: HashMap<Bytes, Bound, foldhash::quality::RandomState>,
    /// The client closed the unnamed statement (by a simple query answered here) but the origin still has one.
    stale_unnamed: bool,
    /// The client's unnamed portal.
    unnamed: Unnamed,
    /// Prepared here in a batch that has only been flushed so far: the origin would have begun a transaction for them.
    flushed: Vec<Rc<Prepared>>,
    batch: Batch,
    pause: Pause,
    /// Extended-protocol messages were forwarded and no Sync after them.
    unsynced: bool,
    /// The origin skips everything until Sync.
    skipping: bool,
    copying_in: bool,
    /// What is left of a large frame that passes through: from the client, from the origin.
    client_rest: usize,
    origin_rest: Option<replies::Rest>,

    transaction: Transaction,
    deferred: Option<Deferred>,
    pending: Pending,
    /// Writes older than this are known to have been learnt of by this session otherwise (notifications, locks): a lookup
    /// needs coverage up to here.
    news: Moment,
    /// Its own last write. Level `session` needs coverage up to here, the others go by marks or by more.
    wrote: Moment,
    knowledge: Knowledge,
    fill: Option<Fill>,
    last: Option<Outcome>,
    /// The request under way, if it is traced.
    trace: Option<Box<Traced>>,
    /// The present, as of the last look at the clock for a lookup.
    now: Moment,
    key: Vec<u8>,
    /// For cancel requests while it waits here; none if the origin gave it no key.
    seat: Option<CancelSeat>,
    /// The origin said why it ends the session.
    farewell: bool,
    /// What others see of it.
    client_seat: Option<ClientSeat>,
}

impl Session {
    pub(crate) fn new(
        worker: Rc<Worker>,
        control: Rc<Control>,
        client: Pipe,
        origin: Pipe,
        database: String,
        replication: bool,
        seat: Option<CancelSeat>,
    ) -> Self {
        let caching =
            if worker.config().has_cache() { Caching::On } else { Caching::Off(Bypass::ModeBypass) };
        let plain = (!worker.config().has_cache() && !replication).then(Plain::default);
        Self {
            worker,
            control,
            client,
            origin,
            database,
            caching,
            blind: replication,
            lost: false,
            plain,
            listens: false,
            outstanding: Outstanding::default(),
            statements: Statements::default(),
            portals: HashMap::default(),
            stale_unnamed: false,
            unnamed: Unnamed::default(),
            flushed: Vec::new(),
            batch: Batch::default(),
            pause: Pause::default(),
            unsynced: false,
            skipping: false,
            copying_in: false,
            client_rest: 0,
            origin_rest: None,
            transaction: Transaction::default(),
            deferred: None,
            pending: Pending::default(),
            news: Moment::default(),
            wrote: Moment::default(),
            knowledge: Knowledge::default(),
            fill: None,
            last: None,
            trace: None,
            now: Moment::default(),
            key: Vec::new(),
            seat,
            farewell: false,
            client_seat: None,
        }
    }

    /// Others may see who this is.
    pub(crate) fn is_of(&mut self, identity: ClientIdentity, pid: Option<u32>) {
        self.client_seat = Some(self.worker.clients.enter(identity, pid));
    }

    /// The origin has told another name of the client's application.
    fn rename(&self, name: &[u8]) {
        if let Some(seat) = &self.client_seat {
            seat.rename(name);
        }
    }

    /// Says what the client does, for others to see.
    fn show_state(&self) {
        let Some(seat) = &self.client_seat else { return };
        let (active, status) = match &self.plain {
            Some(plain) => (!plain.is_answered(), self.plain_status()),
            None => (!self.outstanding.is_empty() || self.unsynced, self.transaction.status),
        };
        seat.set(if active {
            ClientState::Active
        } else if status != b'I' || self.deferred.is_some() {
            ClientState::IdleInTransaction
        } else {
            ClientState::Idle
        });
    }

    fn count_answer(&self, hit: bool) {
        if let Some(seat) = &self.client_seat {
            seat.answered(hit);
        }
    }

    /// Serves the client until one side leaves.
    pub(crate) async fn run(mut self) {
        let result = self.serve().await;
        // A write may have been committed although its acknowledgement got lost.
        self.acknowledge_pending();
        if let Err(error) = result {
            tracing::debug!(%error, "session ended");
        }
        self.fill = None;
        let _ = tokio::time::timeout(LAST_WORDS, poll_fn(|cx| self.poll_last_words(cx))).await;
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            self.read_origin();
            // Before the client's messages: a dead origin connection answers nothing, not even from memory.
            if self.origin_left() {
                self.say_origin_left();
                return Ok(());
            }
            if self.read_client().await?.is_break() {
                return self.finish().await;
            }
            let leaves = match self.leaves() {
                Leaves::No => false,
                Leaves::Yes => true,
                Leaves::IfQuiet => match tokio::time::timeout(PAUSE, self.turn()).await {
                    Ok(turned) => {
                        turned?;
                        continue;
                    }
                    Err(_) => true,
                },
            };
            if leaves {
                if self.control.told() < Leave::WhenIdle {
                    tracing::debug!("session has grown old");
                }
                self.say_shutting_down();
                return Ok(());
            }
            // It may have left while the session waited for it elsewhere: then nothing would wake this one.
            if !self.origin_left() {
                self.turn_or_let_go().await?;
            }
        }
    }

    /// The origin has closed its connection, and what it sent before can be passed on. Half a frame is not.
    fn origin_left(&self) -> bool {
        self.origin.ended && (self.origin.input.is_empty() || self.client.output.len() < self.client_room())
    }

    /// The client will send no more. What it has asked for is still answered, as PostgreSQL does.
    async fn finish(&mut self) -> io::Result<()> {
        // Nobody says that it waits for an answer to these; if one is an error, PostgreSQL says so all the same.
        while !self.let_go(Bypass::ProtocolShape) {
            self.turn().await?;
            self.read_origin();
            if self.origin_left() {
                return Ok(());
            }
        }
        let answered = self.outstanding.is_empty() && self.plain.as_ref().is_none_or(Plain::is_idle);
        if answered && !self.blind && !self.lost {
            return Ok(());
        }
        poll_fn(|cx| self.origin.poll_finish(cx)).await?;
        loop {
            self.read_origin();
            if self.origin_left() {
                return Ok(());
            }
            self.turn().await?;
        }
    }

    /// A client that sends neither Sync nor Flush may still wait for a reply: an error or a notice, which the origin
    /// does not hold back. So messages are not held back for long.
    async fn turn_or_let_go(&mut self) -> io::Result<()> {
        if self.batch.is_empty() || self.waits_for_columns() {
            return self.turn().await;
        }
        let turned = tokio::time::timeout(HOLD, self.turn()).await;
        turned.unwrap_or_else(|_| {
            self.let_go(Bypass::ProtocolShape);
            Ok(())
        })
    }

    /// Moves bytes between the sockets and the buffers; returns when anything moved (or the worker woke us).
    async fn turn(&mut self) -> io::Result<()> {
        self.show_state();
        let leave = self.control.told();
        // Writing is progress only where something waits for the room it makes.
        let full = self.client.output.len() >= HIGH_WATER || self.origin.output.len() >= HIGH_WATER;
        poll_fn(|cx| {
            self.control.remember(cx);
            let mut progress = self.control.told() != leave;
            let flushed = self.client.poll_flush(cx)? | self.origin.poll_flush_or_drop(cx);
            progress |= flushed && full;
            if self.client.output.len() < self.client_room() {
                progress |= self.origin.poll_fill_or_end(cx).is_ready();
            }
            if self.client.input.len() < HIGH_WATER && self.origin.output.len() < HIGH_WATER {
                progress |= ready(self.client.poll_fill(cx))?;
            }
            if progress { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// How much may wait for a slow client. While a reply is captured for others to use it is read to its end
    /// whatever this client does, so that a client that stops reading does not make them wait.
    fn client_room(&self) -> usize {
        if self.fill.is_some() { HIGH_WATER + self.worker.config().max_result } else { HIGH_WATER }
    }

    /// Whether the session ends here on its own account.
    fn leaves(&self) -> Leaves {
        match self.control.told() {
            Leave::Now => Leaves::Yes,
            Leave::WhenIdle if self.is_idle() => Leaves::Yes,
            // Where nothing is interpreted nobody can tell; a stream of changes may well last.
            Leave::WhenOld if self.is_idle() && !self.blind => Leaves::Yes,
            Leave::WhenPausing if self.is_idle() && !self.blind => Leaves::IfQuiet,
            Leave::Never | Leave::WhenPausing | Leave::WhenOld | Leave::WhenIdle => Leaves::No,
        }
    }

    /// Nothing is under way that leaving now would break.
    fn is_idle(&self) -> bool {
        self.outstanding.is_empty()
            && !self.unsynced
            && self.batch.is_empty()
            && self.client.input.is_empty()
            && self.transaction.status == b'I'
            && self.deferred.is_none()
            && self.plain.as_ref().is_none_or(Plain::is_idle)
    }

    /// From now on nothing is interpreted: something happened that the protocol state here does not explain.
    fn go_blind(&mut self, why: &'static str) {
        if !self.blind {
            tracing::debug!(why, "session is relayed without interpretation from here on");
        }
        self.blind = true;
        self.fill = None;
        self.caching = Caching::Off(Bypass::ProtocolShape);
        // Whatever it does from here on may be a write that was never announced.
        self.pending.everything();
        self.acknowledge_pending();
    }

    /// What the client has been given ends with a whole frame. In the middle of one, Larder's words would be data.
    fn may_speak(&self) -> bool {
        let plain = self.plain.as_ref().is_none_or(Plain::is_between_replies);
        plain && self.origin_rest.is_none() && !self.blind
    }

    fn say_origin_left(&mut self) {
        if self.lost || !self.may_speak() {
            // What the client was told is not known here, or it was its own fault: the end of the connection, and what
            // the origin says of it, have to do.
        } else if !self.farewell {
            let hint = "The transaction, if any, may or may not have been committed. Reconnect and check.";
            let message = "the connection to the PostgreSQL server was closed unexpectedly";
            encode::error(&mut self.client.output, Severity::Fatal, "08006", message, Some(hint));
        }
    }

    fn say_shutting_down(&mut self) {
        if self.may_speak() {
            let message = "terminating connection due to administrator command";
            encode::error(&mut self.client.output, Severity::Fatal, "57P01", message, None);
        }
        encode::terminate(&mut self.origin.output);
    }

    fn poll_last_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let origin = self.origin.poll_goodbye(cx).is_ready();
        let client = self.client.ended || self.client.poll_goodbye(cx).is_ready();
        if origin && client { Poll::Ready(()) } else { Poll::Pending }
    }
}

fn ready(poll: Poll<io::Result<()>>) -> io::Result<bool> {
    match poll {
        Poll::Ready(result) => result.map(|()| true),
        Poll::Pending => Ok(false),
    }
}
