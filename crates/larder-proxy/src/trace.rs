//! Traces: where the time of a sampled request, or of the beginning of a session, goes.
//!
//! A trace is put together by the session while it works, and handed over when it is whole; who exports it is not known
//! here. Nothing waits for that: when nobody keeps up, traces are lost, and counted. Without tracing a request costs one
//! look at whether there is any.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use larder_cache::Moment;
use larder_sql::Digest;
use tokio::sync::mpsc;

use crate::metrics::Outcome;

/// Which requests are traced, and who gets to know.
#[derive(Debug)]
pub struct Tracing {
    /// Bits of the share that is traced, 0 to 1.
    sample: AtomicU64,
    traces: mpsc::Sender<Trace>,
    lost: AtomicU64,
}

/// A request, or the beginning of a session.
#[derive(Debug, Clone)]
pub struct Trace {
    /// What it is.
    pub subject: TraceSubject,
    /// When it began, and how long it took.
    pub began: SystemTime,
    /// See `began`.
    pub took: Duration,
    /// The session's database.
    pub database: String,
    /// The statement without its values, if it is one.
    pub statement: Option<Digest>,
    /// The caller's own span, if the statement names it.
    pub parent: Option<TraceParent>,
    /// How it was answered, in the words of the metrics: outcome and tier.
    pub outcome: Option<(&'static str, &'static str)>,
    /// Why not from memory.
    pub reason: Option<&'static str>,
    /// The answer was an error.
    pub failed: bool,
    /// What it was spent on, in order.
    pub steps: Vec<TraceStep>,
}

/// What is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceSubject {
    /// From the client's message to the last byte of the answer.
    Request,
    /// From the first byte of a connection to its first ReadyForQuery.
    Session,
}

/// A part of a trace's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceStep {
    /// What it went into.
    pub name: &'static str,
    /// When it began, after the trace did.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// A span of somebody else's: W3C Trace Context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The whole trace.
    pub trace: u128,
    /// The span in it.
    pub span: u64,
}

impl Tracing {
    /// Traces this share of requests and sessions, 0 to 1; so many traces may wait to be taken.
    pub fn new(sample: f64, room: usize) -> (Arc<Self>, mpsc::Receiver<Trace>) {
        let (traces, taken) = mpsc::channel(room.max(1));
        (Arc::new(Self { sample: sample.to_bits().into(), traces, lost: AtomicU64::new(0) }), taken)
    }

    /// Another share from now on.
    pub fn set_sample(&self, sample: f64) {
        self.sample.store(sample.to_bits(), Ordering::Relaxed);
    }

    /// Traces that nobody took in time.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn draws(&self) -> bool {
        let sample = f64::from_bits(self.sample.load(Ordering::Relaxed));
        sample > 0.0 && (sample >= 1.0 || fastrand::f64() < sample)
    }

    pub(crate) fn send(&self, trace: Trace) {
        if self.traces.try_send(trace).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A trace that is being put together.
#[derive(Debug)]
pub(crate) struct Traced {
    trace: RefCell<Trace>,
    began: Moment,
    /// Where the next step begins.
    last: Cell<Moment>,
    /// The answer before it: what is the same afterwards was not answered.
    before: Option<Outcome>,
    /// The origin has been asked.
    forwarded: Cell<bool>,
}

impl Traced {
    pub(crate) fn begin(
        subject: TraceSubject,
        began: Moment,
        database: &str,
        before: Option<Outcome>,
    ) -> Self {
        let trace = Trace {
            subject,
            began: SystemTime::now() - Moment::now().since(began),
            took: Duration::ZERO,
            database: database.to_owned(),
            statement: None,
            parent: None,
            outcome: None,
            reason: None,
            failed: false,
            steps: Vec::new(),
        };
        Self { trace: trace.into(), began, last: began.into(), before, forwarded: false.into() }
    }

    /// It is about this statement.
    pub(crate) fn of(&self, text: &[u8]) {
        let Ok(text) = std::str::from_utf8(text) else { return };
        let mut trace = self.trace.borrow_mut();
        trace.statement = Some(larder_sql::digest(text));
        trace.parent = TraceParent::in_comment(text);
    }

    /// It is about this database.
    pub(crate) fn at(&self, database: &str) {
        database.clone_into(&mut self.trace.borrow_mut().database);
    }

    /// The time since the last step went into this.
    pub(crate) fn step(&self, name: &'static str) {
        let now = Moment::now();
        self.span(name, self.last.replace(now), now);
    }

    /// A part of a step that is still under way.
    pub(crate) fn span(&self, name: &'static str, from: Moment, to: Moment) {
        let step = TraceStep { name, after: from.since(self.began), took: to.since(from) };
        self.trace.borrow_mut().steps.push(step);
    }

    /// When the step under way began.
    pub(crate) fn last(&self) -> Moment {
        self.last.get()
    }

    pub(crate) fn fail(&self) {
        self.trace.borrow_mut().failed = true;
    }

    /// From here on the origin's answer is waited for.
    pub(crate) fn forward(&self) {
        self.forwarded.set(true);
    }

    pub(crate) fn is_forwarded(&self) -> bool {
        self.forwarded.get()
    }

    /// It is over; `last`: how the last statement was answered.
    pub(crate) fn end(self, last: Option<Outcome>) -> Trace {
        let mut trace = self.trace.into_inner();
        trace.took = Moment::now().since(self.began);
        let answered = last.filter(|_| last != self.before);
        trace.outcome = answered.map(Outcome::labels);
        trace.reason = answered.and_then(Outcome::reason);
        trace
    }
}

impl TraceParent {
    /// `traceparent='00-…-…-01'`, as sqlcommenter writes it into a comment.
    fn in_comment(text: &str) -> Option<Self> {
        let (_, after) = text.split_once("traceparent=")?;
        let mut parts = after.trim_start_matches('\'').splitn(4, '-');
        let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 || trace.len() != 32 || span.len() != 16 {
            return None;
        }
        let parent =
            Self { trace: u128::from_str_radix(trace, 16).ok()?, span: u64::from_str_radix(span, 16).ok()? };
        (parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_names_its_span_in_a_comment() {
        let text =
            "select 1 /*action='x',traceparent='00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'*/";
        let parent =
            TraceParent { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span: 0xb7ad_6b71_6920_3331 };
        assert_eq!(TraceParent::in_comment(text), Some(parent));
        for none in [
            "select 1",
            "select 1 /*traceparent='*/",
            "/*traceparent='00-0af7-b7ad6b7169203331-01'*/ select 1",
            "/*traceparent='00-00000000000000000000000000000000-b7ad6b7169203331-01'*/ select 1",
            "/*traceparent='00-äf7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'*/ select 1",
        ] {
            assert_eq!(TraceParent::in_comment(none), None, "{none}");
        }
    }

    #[test]
    fn steps_follow_each_other_and_what_was_not_answered_has_no_outcome() {
        let began = Moment::now();
        let hit = Some(Outcome::Hit { age: Duration::from_secs(1) });
        let traced = Traced::begin(TraceSubject::Request, began, "app", hit);
        traced.of(b"select v from t where id = 7");
        traced.step("memory");
        traced.step("origin");
        let trace = traced.end(hit);
        let [memory, origin] = trace.steps[..] else { panic!("{trace:?}") };
        assert_eq!((memory.after, origin.after), (Duration::ZERO, memory.took));
        assert!(origin.after + origin.took <= trace.took);
        assert_eq!(trace.statement.unwrap().text, "select v from t where id = ?");
        assert_eq!((trace.outcome, trace.reason), (None, None));
        let missed = Traced::begin(TraceSubject::Request, began, "app", hit);
        let missed = missed.end(Some(Outcome::Miss(larder_cache::Miss::Absent)));
        assert_eq!(missed.outcome, Some(("miss", "origin")));
    }

    #[test]
    fn what_nobody_takes_is_lost_and_counted() {
        let (tracing, mut taken) = Tracing::new(1.0, 1);
        let trace = || Traced::begin(TraceSubject::Session, Moment::now(), "app", None).end(None);
        assert!(tracing.draws());
        tracing.send(trace());
        tracing.send(trace());
        assert_eq!(tracing.lost(), 1);
        assert!(taken.try_recv().is_ok() && taken.try_recv().is_err());
        tracing.set_sample(0.0);
        assert!(!tracing.draws());
    }
}
