//! What the origin still owes: one element for each request that was sent to it and has not been answered.
//!
//! Replies carry no request numbers; their order is the only link. Every reply is matched against the front of this
//! queue, and a reply that does not fit ends caching for the session (it becomes a blind relay): never a guess.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use larder_cache::Moment;

use crate::metrics::Outcome;
use crate::plan::Plan;
use crate::queries::QueryCounters;
use crate::session::check::Check;
use crate::session::portal::Unnamed;
use crate::session::statements::Prepared;

/// A request on its way.
#[derive(Debug)]
pub(crate) enum Expect {
    /// Ends with ParseComplete.
    Parse {
        prepared: Rc<Prepared>,
        /// The statement of that name before it.
        replaced: Option<Rc<Prepared>>,
    },
    /// A Parse that Larder sent: the client must not see the ParseComplete.
    Reparse(Rc<Prepared>),
    /// A Describe that Larder sent after it: the columns must be those that the client was told of.
    Redescribe(Rc<Prepared>),
    /// Something that the origin is sure to refuse, because those columns are others. What the client hears is why.
    Outdated,
    /// A portal that was run here, run again there: swallowed up to the end of its Close.
    Rerun(Unnamed),
    /// Ends with BindComplete. Of the unnamed portal: what it was before.
    Bind(Unnamed),
    /// ParameterDescription, then RowDescription or NoData.
    DescribeStatement(Option<Rc<Prepared>>, Option<Rc<Plan>>),
    /// RowDescription or NoData.
    DescribePortal(Option<Rc<Prepared>>, Option<Rc<Plan>>),
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended.
    Execute(Sent),
    /// Ends with CloseComplete.
    Close(Closing),
    /// Not well formed: only an error answers it.
    Malformed,
    /// Ends with ReadyForQuery.
    Sync,
    /// A simple query: ends with ReadyForQuery.
    Query(Sent),
    /// A function call: a reply, then ReadyForQuery.
    Function,
    /// The client ended a COPY that the origin had not announced yet. Nothing answers it.
    CopyEnd,
    /// Larder's own simple query: nothing of its reply reaches the client.
    Own(Own),
}

impl Expect {
    /// If it replaces or ends the statement of that name: which one that is.
    fn ends(&mut self, statement: &Bytes) -> Option<&mut Option<Rc<Prepared>>> {
        match self {
            Self::Parse { prepared, replaced } if prepared.name == *statement => Some(replaced),
            Self::Close(Closing::Statement(name, closed)) if name == statement => Some(closed),
            Self::Query(sent) if statement.is_empty() => Some(&mut sent.prepared),
            _ => None,
        }
    }
}

/// What is closed.
#[derive(Debug)]
pub(crate) enum Closing {
    /// Of the unnamed one: what it was before.
    Portal(Unnamed),
    /// The client's statement of that name, and what was known of it.
    Statement(Bytes, Option<Rc<Prepared>>),
    /// Sent by Larder: the unnamed statement that ended here before.
    StaleStatement,
    /// Sent by Larder; of the unnamed portal: what it was before.
    Own(Unnamed),
}

/// A statement that was sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) started: Moment,
    pub(crate) outcome: Outcome,
    /// Its statistics, if it was judged.
    pub(crate) query: Option<Arc<QueryCounters>>,
    /// The prepared statement that it ends, if it names one.
    pub(crate) deallocates: Option<Rc<Prepared>>,
    /// The prepared statement that is executed, if it is known. Of a simple query: the unnamed one that it ends.
    pub(crate) prepared: Option<Rc<Prepared>>,
    /// Of a simple query: it ends an unnamed statement of the origin's that the client does not have any more.
    pub(crate) ends_stale: bool,
    /// Of a simple query: it ends the unnamed portal, if it does not fail before.
    pub(crate) ends_portal: bool,
    /// The session's fill captures this reply.
    pub(crate) captured: bool,
    /// It is compared with what is in memory.
    pub(crate) check: Option<Box<Check>>,
}

impl Sent {
    /// Somebody wants to know every byte of the reply.
    pub(crate) fn is_copied(&self) -> bool {
        self.captured || self.check.is_some()
    }

    /// The origin never accepted the statement that this was taken to execute: its `Parse` was skipped after an
    /// error, so what ran is an older one of that name.
    pub(crate) fn ran_another(&self) -> bool {
        self.prepared.as_ref().is_some_and(|prepared| !prepared.confirmed.get())
    }
}

/// What Larder itself asks on a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    /// The BEGIN that the client was told about before.
    Begin,
    /// A query in place of one that was answered here.
    Read,
    /// The session's facts.
    Probe,
    /// The Sync after statements that were sent ahead.
    Sync,
    /// A statement that fails, in place of one that was cancelled while it waited here in a deferred transaction.
    Failure,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Outstanding(VecDeque<Expect>);

impl Outstanding {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, expect: Expect) {
        self.0.push_back(expect);
    }

    pub(crate) fn pop(&mut self) -> Option<Expect> {
        self.0.pop_front()
    }

    /// The request being answered. Markers that nothing answers are dropped on the way.
    pub(crate) fn front(&mut self) -> Option<&mut Expect> {
        while matches!(self.0.front(), Some(Expect::CopyEnd)) {
            self.0.pop_front();
        }
        self.0.front_mut()
    }

    /// The statement whose reply is coming.
    pub(crate) fn executing(&mut self) -> Option<&mut Sent> {
        match self.front() {
            Some(Expect::Query(sent) | Expect::Execute(sent)) => Some(sent),
            _ => None,
        }
    }

    /// What is sent next is skipped if something of the same batch fails before it.
    pub(crate) fn may_be_skipped(&self) -> bool {
        let ends = |expect: &Expect| {
            matches!(expect, Expect::Sync | Expect::Query(_) | Expect::Function | Expect::Own(_))
        };
        self.0.back().is_some_and(|last| !ends(last))
    }

    /// A statement is still there after all. The next request that replaces or ends one of its name has it from now on;
    /// if there is none, it is returned.
    pub(crate) fn hand_on(&mut self, prepared: Rc<Prepared>) -> Option<Rc<Prepared>> {
        match self.0.iter_mut().find_map(|expect| expect.ends(&prepared.name)) {
            None => Some(prepared),
            Some(ended) => {
                ended.get_or_insert(prepared);
                None
            }
        }
    }

    /// The origin still has an unnamed statement that the client has not. `false`: a query that ends it is on its way.
    pub(crate) fn stays_stale(&mut self) -> bool {
        let next = self.0.iter_mut().find_map(|expect| match expect {
            Expect::Query(sent) => Some(sent),
            _ => None,
        });
        next.map(|sent| sent.ends_stale = true).is_none()
    }

    /// The statements that exist once all this has been answered, apart from those that exist now.
    pub(crate) fn statements(&self) -> Vec<Rc<Prepared>> {
        let mut statements: Vec<Rc<Prepared>> = Vec::new();
        for expect in &self.0 {
            match expect {
                Expect::Parse { prepared, .. } => statements.push(Rc::clone(prepared)),
                Expect::Close(Closing::Statement(_, Some(closed))) => {
                    statements.retain(|prepared| !Rc::ptr_eq(prepared, closed));
                }
                Expect::Query(_) => statements.retain(|prepared| !prepared.name.is_empty()),
                _ => {}
            }
        }
        statements
    }

    /// A statement was refused, so what was sent after it did not replace or end that one, but the one before it.
    pub(crate) fn never_was(&mut self, refused: &Rc<Prepared>, before: Option<&Rc<Prepared>>) {
        let correct = |ended: &mut Option<Rc<Prepared>>| {
            if ended.as_ref().is_some_and(|ended| Rc::ptr_eq(ended, refused)) {
                *ended = before.cloned();
            }
        };
        for expect in &mut self.0 {
            expect.ends(&refused.name).into_iter().for_each(correct);
            if let Expect::Query(sent) | Expect::Execute(sent) = expect {
                correct(&mut sent.deallocates);
            }
        }
    }

    /// All prepared statements that existed have ended: none of them is to come back as it was, should what was to
    /// replace or close it be refused.
    pub(crate) fn doubt_replaced(&self) {
        for expect in &self.0 {
            if let Expect::Parse { replaced: Some(ended), .. }
            | Expect::Close(Closing::Statement(_, Some(ended))) = expect
            {
                ended.uncertain.set(true);
            }
        }
    }

    /// After an error in the extended protocol the origin skips everything up to Sync: what that is, and whether the
    /// Sync was sent.
    pub(crate) fn skip_to_sync(&mut self) -> (Vec<Expect>, bool) {
        let sync = self.0.iter().position(|expect| matches!(expect, Expect::Sync | Expect::Own(Own::Sync)));
        (self.0.drain(..sync.unwrap_or(self.0.len())).collect(), sync.is_some())
    }

    /// A COPY began: the origin ignores every Sync until the client ends it. `true` if the client has ended it already.
    pub(crate) fn copy_begins(&mut self) -> bool {
        let end = self.0.iter().position(|expect| matches!(expect, Expect::CopyEnd));
        let mut index = 0;
        self.0.retain(|expect| {
            let before_end = end.is_none_or(|end| index < end);
            let is_end = end == Some(index);
            index += 1;
            !(is_end || before_end && matches!(expect, Expect::Sync))
        });
        end.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BIND: Expect = Expect::Bind(Unnamed::Same);
    const CLOSE: Expect = Expect::Close(Closing::Portal(Unnamed::Same));

    #[test]
    fn an_error_skips_to_the_next_sync_and_no_further() {
        let mut outstanding = Outstanding::default();
        for expect in [BIND, CLOSE, Expect::Sync, BIND, Expect::Sync] {
            outstanding.push(expect);
        }
        let (skipped, found) = outstanding.skip_to_sync();
        assert!(found && matches!(skipped[..], [Expect::Bind(_), Expect::Close(_)]));
        assert!(matches!(outstanding.pop(), Some(Expect::Sync)));
        assert!(matches!(outstanding.pop(), Some(Expect::Bind(_))));
        outstanding.pop();
        outstanding.push(BIND);
        assert!(!outstanding.skip_to_sync().1);
        assert!(outstanding.is_empty());
    }

    #[test]
    fn a_sync_sent_before_the_end_of_a_copy_is_never_answered() {
        let mut outstanding = Outstanding::default();
        for expect in [BIND, Expect::Sync, Expect::CopyEnd, Expect::Sync] {
            outstanding.push(expect);
        }
        assert!(outstanding.copy_begins());
        assert!(matches!(outstanding.pop(), Some(Expect::Bind(_))));
        assert!(matches!(outstanding.front(), Some(Expect::Sync)));
        outstanding.pop();
        assert!(outstanding.is_empty());
    }
}
