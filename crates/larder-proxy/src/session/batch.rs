//! Extended-protocol messages held back until Sync or Flush says that the client waits for the answer.
//!
//! They stay where they were read, at the front of the client's input; the batch only knows where each one begins
//! and ends. So forwarding them untouched is a copy of those bytes, and answering them locally is dropping them.

/// Messages held back.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    steps: Vec<Step>,
    /// Bytes of the client's input that they take up.
    pub(crate) end: usize,
}

/// One message: its type and where it is in the client's input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step {
    pub(crate) tag: u8,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(crate) fn push(&mut self, tag: u8, total: usize) {
        let start = self.end;
        self.end += total;
        self.steps.push(Step { tag, start, end: self.end });
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Forgets the first so many messages, and returns how many bytes of the client's input they took up.
    pub(crate) fn drop_front(&mut self, count: usize) -> usize {
        let bytes = self.steps.get(count).map_or(self.end, |step| step.start);
        self.steps.drain(..count);
        for step in &mut self.steps {
            step.start -= bytes;
            step.end -= bytes;
        }
        self.end -= bytes;
        bytes
    }

    /// Forgets the messages; the caller has consumed their bytes.
    pub(crate) fn clear(&mut self) {
        self.steps.clear();
        self.end = 0;
    }
}

impl Step {
    /// The message's body.
    pub(crate) fn body(self, input: &[u8]) -> &[u8] {
        input.get(self.start + larder_wire::HEADER..self.end).unwrap_or_default()
    }

    /// The whole message.
    pub(crate) fn frame(self, input: &[u8]) -> &[u8] {
        input.get(self.start..self.end).unwrap_or_default()
    }
}
