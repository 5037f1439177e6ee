//! The admin database: a session with Larder itself, in PostgreSQL's protocol, so that any client will do.
//!
//! What is asked and answered is the business of a [`Console`]; here are the messages. Statements take no parameters,
//! answers are columns of text, and there are no transactions.

use std::collections::HashMap;
use std::fmt;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf as _;
use larder_login::scram::Verifier;
use larder_wire::encode::{self, Severity};
use larder_wire::{HEADER, Peek, frontend, peek};

use crate::pipe::Pipe;
use crate::session::Control;

/// Longest message taken.
const MAX_MESSAGE: usize = 64 * 1024;
/// Prepared statements and portals of one session.
const MAX_PREPARED: usize = 256;
/// Time for the last bytes to reach the client.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Answers statements about Larder. Called on a worker: it must be quick.
pub trait Console: fmt::Debug + Send + Sync {
    /// The answer to one statement without its semicolon.
    ///
    /// # Errors
    /// The statement is none of the console's, or cannot be carried out.
    fn run(&self, statement: &str) -> Result<Reply, Refusal>;
}

/// Where the admin database is, who may use it, and who answers.
#[derive(Clone)]
pub struct ConsoleAccess {
    /// Its name.
    pub database: String,
    /// The one user.
    pub user: String,
    /// Made of the password.
    pub verifier: Verifier,
    /// Who answers.
    pub console: Arc<dyn Console>,
}

/// An answer: rows of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Names; none: the statement returns no rows.
    pub columns: Vec<&'static str>,
    /// One value per column.
    pub rows: Vec<Vec<Option<String>>>,
    /// What was done, as PostgreSQL would say it: `SHOW`, `PURGE 12`.
    pub tag: String,
}

/// Why a statement was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// SQLSTATE.
    pub sqlstate: &'static str,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// A session with the console.
#[derive(Debug)]
pub(crate) struct AdminSession {
    client: Pipe,
    control: Rc<Control>,
    console: Arc<dyn Console>,
    prepared: HashMap<Vec<u8>, String>,
    portals: HashMap<Vec<u8>, String>,
    /// An error came: everything up to Sync is skipped.
    skipping: bool,
}

impl AdminSession {
    pub(crate) fn new(client: Pipe, control: Rc<Control>, access: &ConsoleAccess) -> Self {
        Self {
            client,
            control,
            console: Arc::clone(&access.console),
            prepared: HashMap::new(),
            portals: HashMap::new(),
            skipping: false,
        }
    }

    /// Serves the client until it leaves, or Larder stops.
    pub(crate) async fn run(mut self) {
        while let ControlFlow::Continue(()) = self.take_messages() {
            if !poll_fn(|cx| self.poll_more(cx)).await {
                break;
            }
        }
        let client = &mut self.client;
        let _ = tokio::time::timeout(LAST_WORDS, poll_fn(|cx| client.poll_goodbye(cx))).await;
    }

    /// Writes what is waiting and waits for more; false at the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.control.is_leaving(cx) {
            let message = "terminating connection due to administrator command";
            encode::error(&mut self.client.output, Severity::Fatal, "57P01", message, None);
            return Poll::Ready(false);
        }
        if self.client.poll_flush(cx).is_err() || self.client.ended {
            return Poll::Ready(false);
        }
        // Whoever does not read its answers gets no more of them.
        if !self.client.is_flushed() {
            return Poll::Pending;
        }
        self.client.poll_fill(cx).map(|filled| filled.is_ok())
    }

    fn take_messages(&mut self) -> ControlFlow<()> {
        loop {
            match peek(&self.client.input) {
                Peek::Frame { total, .. } if total > MAX_MESSAGE => {
                    return self.say_fatal("the message is too long");
                }
                Peek::Frame { tag, total } if self.client.input.len() >= total => {
                    let frame = self.client.input.split_to(total);
                    self.message(tag, frame.get(HEADER..).unwrap_or_default())?;
                }
                Peek::Invalid => return self.say_fatal("invalid message length"),
                Peek::Frame { .. } | Peek::Short => return ControlFlow::Continue(()),
            }
        }
    }

    fn say_fatal(&mut self, why: &str) -> ControlFlow<()> {
        encode::error(&mut self.client.output, Severity::Fatal, "08P01", why, None);
        self.client.input.advance(self.client.input.len());
        ControlFlow::Break(())
    }

    fn message(&mut self, tag: u8, body: &[u8]) -> ControlFlow<()> {
        match tag {
            b'X' => return ControlFlow::Break(()),
            b'S' => {
                self.skipping = false;
                self.portals.clear();
                encode::ready_for_query(&mut self.client.output, b'I');
            }
            _ if self.skipping => {}
            b'Q' => {
                let answered = self.query(body);
                self.say(answered);
                self.skipping = false;
                encode::ready_for_query(&mut self.client.output, b'I');
            }
            b'H' => {}
            _ => {
                let answered = self.extended(tag, body);
                self.say(answered);
            }
        }
        ControlFlow::Continue(())
    }

    fn say(&mut self, answered: Result<(), Refusal>) {
        if let Err(Refusal { sqlstate, message, hint }) = answered {
            encode::error(&mut self.client.output, Severity::Error, sqlstate, &message, hint.as_deref());
            self.skipping = true;
        }
    }

    /// A simple query: one statement after the other.
    fn query(&mut self, body: &[u8]) -> Result<(), Refusal> {
        let text = text(frontend::query(body))?;
        // What is explained may hold semicolons of its own.
        let explains = text.trim_start().get(..7).is_some_and(|word| word.eq_ignore_ascii_case("explain"));
        let separator = if explains { '\0' } else { ';' };
        let statements = text.split(separator).map(|text| text.trim().trim_end_matches(';').trim_end());
        let statements: Vec<_> = statements.filter(|statement| !statement.is_empty()).collect();
        if statements.is_empty() {
            encode::frame(&mut self.client.output, b'I', |_| {});
        }
        for statement in statements {
            let reply = self.console.run(statement)?;
            if !reply.columns.is_empty() {
                encode::text_columns(&mut self.client.output, &reply.columns);
            }
            self.rows(&reply);
        }
        Ok(())
    }

    fn rows(&mut self, reply: &Reply) {
        let out = &mut self.client.output;
        for row in &reply.rows {
            encode::text_row(out, row.iter().map(Option::as_deref));
        }
        encode::command_complete(out, &reply.tag);
    }

    fn extended(&mut self, tag: u8, body: &[u8]) -> Result<(), Refusal> {
        match tag {
            b'P' => {
                let parse = frontend::parse(body).ok_or_else(malformed)?;
                let statement = text(Some(parse.sql))?.trim().trim_end_matches(';').trim_end();
                remember(&mut self.prepared, parse.name, statement.to_owned())?;
                self.client.output.extend_from_slice(&encode::PARSE_COMPLETE);
            }
            b'B' => {
                let bind = frontend::bind(body).ok_or_else(malformed)?;
                if frontend::parameter_values(bind.parameters).next().is_some() {
                    return Err(refusal("08P01", "statements of the admin database take no parameters"));
                }
                let statement =
                    self.prepared.get(bind.statement).ok_or_else(|| unknown("26000", "statement"))?;
                remember(&mut self.portals, bind.portal, statement.clone())?;
                self.client.output.extend_from_slice(&encode::BIND_COMPLETE);
            }
            b'D' => {
                let target = frontend::target(body).ok_or_else(malformed)?;
                self.describe(target.kind, target.name)?;
            }
            b'E' => {
                let execute = frontend::execute(body).ok_or_else(malformed)?;
                let statement = self.portals.get(execute.portal).ok_or_else(|| unknown("34000", "portal"))?;
                let reply = self.console.run(statement)?;
                self.rows(&reply);
            }
            b'C' => {
                let target = frontend::target(body).ok_or_else(malformed)?;
                let of = if target.kind == b'S' { &mut self.prepared } else { &mut self.portals };
                of.remove(target.name);
                self.client.output.extend_from_slice(&encode::CLOSE_COMPLETE);
            }
            _ => {
                return Err(refusal(
                    "08P01",
                    &format!("message type {:?} means nothing here", char::from(tag)),
                ));
            }
        }
        Ok(())
    }

    /// Only statements that change nothing have columns, so running one to learn them does no harm.
    fn describe(&mut self, kind: u8, name: &[u8]) -> Result<(), Refusal> {
        let (of, code) = if kind == b'S' { (&self.prepared, "26000") } else { (&self.portals, "34000") };
        let statement = of.get(name).ok_or_else(|| unknown(code, "statement or portal"))?;
        let shows = ["show", "explain"]
            .iter()
            .any(|word| statement.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)));
        let columns = if shows { self.console.run(statement)?.columns } else { Vec::new() };
        let out = &mut self.client.output;
        if kind == b'S' {
            out.extend_from_slice(&encode::NO_PARAMETERS);
        }
        if columns.is_empty() {
            out.extend_from_slice(&encode::NO_DATA);
        } else {
            encode::text_columns(out, &columns);
        }
        Ok(())
    }
}

impl fmt::Debug for ConsoleAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleAccess")
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

fn remember(in_: &mut HashMap<Vec<u8>, String>, name: &[u8], statement: String) -> Result<(), Refusal> {
    if in_.len() >= MAX_PREPARED && !in_.contains_key(name) {
        return Err(refusal("54000", "too many prepared statements or portals"));
    }
    in_.insert(name.to_vec(), statement);
    Ok(())
}

fn text(bytes: Option<&[u8]>) -> Result<&str, Refusal> {
    std::str::from_utf8(bytes.ok_or_else(malformed)?)
        .map_err(|_| refusal("22021", "the statement is not UTF-8"))
}

fn refusal(sqlstate: &'static str, message: &str) -> Refusal {
    Refusal { sqlstate, message: message.to_owned(), hint: None }
}

fn malformed() -> Refusal {
    refusal("08P01", "invalid message format")
}

fn unknown(sqlstate: &'static str, what: &str) -> Refusal {
    refusal(sqlstate, &format!("this {what} does not exist"))
}
