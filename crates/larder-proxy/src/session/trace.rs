//! The session's side of [`crate::trace`]: where steps of a request begin and end.
//!
//! One request at a time is traced, and only one that nothing is under way before: what comes in one breath is answered
//! in one breath.

use larder_cache::Moment;
use larder_wire::frontend;

use super::Session;
use super::settle::Request;
use crate::trace::{TraceSubject, Traced};

impl Session {
    /// Whether this request is traced.
    #[cold]
    pub(super) fn begin_trace(&mut self, request: Request, arrival: Moment) -> bool {
        if self.busy() {
            return false;
        }
        // Of one that came to nothing.
        self.trace = None;
        if !self.worker.tracing.as_ref().is_some_and(|tracing| tracing.draws()) {
            return false;
        }
        let traced = Traced::begin(TraceSubject::Request, arrival, &self.database, self.last);
        match request {
            Request::Query(total) => traced.of(self.query_text(total).unwrap_or_default()),
            Request::Batch { .. } => {
                if let Some(text) = self.text_in_batch() {
                    traced.of(text);
                }
            }
        }
        self.worker.plans.borrow_mut().judged = None;
        self.trace = Some(Box::new(traced));
        true
    }

    /// The first statement that the batch prepares or binds.
    fn text_in_batch(&self) -> Option<&[u8]> {
        self.batch.steps().iter().find_map(|step| {
            let body = step.body(&self.client.input);
            match step.tag {
                b'P' => frontend::parse(body).map(|parse| parse.sql),
                b'B' => {
                    let bind = frontend::bind(body)?;
                    self.statements.get(bind.statement)?.text().map(|(text, _)| text)
                }
                _ => None,
            }
        })
    }

    /// The time since the last step went into this.
    pub(super) fn trace_step(&self, name: &'static str) {
        let Some(traced) = &self.trace else { return };
        if let Some((from, to)) = self.worker.plans.borrow_mut().judged.take()
            && from >= traced.last()
        {
            traced.span("judge", from, to);
        }
        traced.step(name);
    }

    /// From here on the origin's answer is waited for.
    pub(super) fn trace_forwarded(&self) {
        if let Some(traced) = &self.trace {
            traced.forward();
        }
    }

    /// The origin has answered, or it was answered here.
    pub(super) fn end_trace(&mut self) {
        if let (Some(traced), Some(tracing)) = (self.trace.take(), &self.worker.tracing) {
            tracing.send(traced.end(self.last));
        }
    }
}
