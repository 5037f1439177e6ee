//! What a worker tells its sessions, and when they leave on their own account.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use super::age::Age;

/// What a worker can tell its sessions.
#[derive(Debug)]
pub(crate) struct Control {
    leave: Cell<Leave>,
    waker: RefCell<Option<Waker>>,
    /// How long the session may last.
    pub(crate) age: Age,
}

/// When a session ends on its own account; what is greater comes sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leave {
    Never,
    /// It grows old: between transactions, when the client makes a pause.
    WhenPausing,
    /// It is old: when no transaction is open and nothing is under way.
    WhenOld,
    /// The same, for all sessions: the worker stops.
    WhenIdle,
    Now,
}

impl Control {
    pub(crate) fn new(leave: Leave) -> Self {
        Self { leave: Cell::new(leave), waker: RefCell::default(), age: Age::new() }
    }

    /// Whether the session is to go whatever its age; if not, it is woken when that changes.
    pub(crate) fn is_leaving(&self, cx: &Context<'_>) -> bool {
        self.remember(cx);
        self.leave.get() >= Leave::WhenIdle
    }

    /// The session waits: it is woken when what it is told changes.
    pub(super) fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// What it has been told.
    pub(super) fn told(&self) -> Leave {
        self.leave.get()
    }

    /// From now on, unless it is to leave sooner anyway.
    pub(crate) fn leave(&self, leave: Leave) {
        if leave <= self.leave.get() {
            return;
        }
        self.leave.set(leave);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}
