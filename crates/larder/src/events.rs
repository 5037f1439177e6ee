//! What happened lately, for who looks only now: changes of state, each also a line of the log.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

/// Events kept. One that repeats itself is counted, not kept again.
const KEPT: usize = 200;

/// The last of them, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Events(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<Event>,
    last: u64,
}

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Start,
    Feed,
    Lease,
    Epoch,
    Origin,
    Valkey,
    Mode,
    Rules,
    Verify,
    Config,
    Purge,
    Drain,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Feed => "feed",
            Self::Lease => "lease",
            Self::Epoch => "epoch",
            Self::Origin => "origin",
            Self::Valkey => "valkey",
            Self::Mode => "mode",
            Self::Rules => "rules",
            Self::Verify => "verify",
            Self::Config => "config",
            Self::Purge => "purge",
            Self::Drain => "drain",
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Counts up from 1.
    pub(crate) id: u64,
    /// When it last happened.
    pub(crate) at: SystemTime,
    pub(crate) kind: Kind,
    /// Somebody may have to do something.
    pub(crate) warning: bool,
    pub(crate) text: String,
    /// How often in a row.
    pub(crate) times: u64,
}

impl Events {
    /// All is as it should be, or as somebody wants it.
    pub(crate) fn note(&self, kind: Kind, text: impl Into<String>) {
        self.add(kind, false, text.into());
    }

    /// Something is not.
    pub(crate) fn warn(&self, kind: Kind, text: impl Into<String>) {
        self.add(kind, true, text.into());
    }

    /// The latest first.
    pub(crate) fn list(&self) -> Vec<Event> {
        self.0.lock().events.iter().rev().cloned().collect()
    }

    fn add(&self, kind: Kind, warning: bool, text: String) {
        let (mut ring, at) = (self.0.lock(), SystemTime::now());
        if let Some(last) = ring.events.back_mut()
            && (last.kind, last.warning, &last.text) == (kind, warning, &text)
        {
            last.times += 1;
            last.at = at;
            return;
        }
        ring.last += 1;
        let event = Event { id: ring.last, at, kind, warning, text, times: 1 };
        if ring.events.len() >= KEPT {
            ring.events.pop_front();
        }
        ring.events.push_back(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_repetitions_counted() {
        let events = Events::default();
        events.warn(Kind::Feed, "lost");
        events.warn(Kind::Feed, "lost");
        events.note(Kind::Feed, "lost");
        let [note, warning] = &events.list()[..] else { panic!("two") };
        assert_eq!((warning.times, warning.warning, note.times, note.id), (2, true, 1, 2));
        for n in 0..=KEPT {
            events.note(Kind::Mode, n.to_string());
        }
        let list = events.list();
        assert_eq!((list.len(), list[0].text.as_str(), list[KEPT - 1].text.as_str()), (KEPT, "200", "1"));
    }
}
