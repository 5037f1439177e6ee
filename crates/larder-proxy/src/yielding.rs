//! Giving way before going to sleep, for threads that only relay.
//!
//! A relay's time is the kernel's: most of what it pays for a message is to be put to sleep and woken. A thread that lets
//! those run that are ready (the backends it has just written to) before it waits finds their answers when it comes
//! back, and neither sleeps nor has to be woken. That is a bargain as long as the others soon let it run again, and a
//! bad one beside a program that computes: giving way costs a time slice then. So it is measured each time.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Whoever was let run for longer than this was not about to wait: shorter than the scheduler's slice (about 3 ms), longer
/// than backends need for what they do between two waits.
const BARGAIN: Duration = Duration::from_millis(1);
/// For how long nobody is let run first after that: a slice lost in so long a time is not felt.
const REGRET: Duration = Duration::from_secs(1);

thread_local! {
    /// Nobody is let run first before then.
    static NOT_BEFORE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Lets other threads run that are ready to, if they kept it short the last time.
pub(crate) fn give_way() {
    let started = Instant::now();
    if NOT_BEFORE.get().is_some_and(|then| started < then) {
        return;
    }
    std::thread::yield_now();
    let ended = Instant::now();
    NOT_BEFORE.set((ended - started > BARGAIN).then(|| ended + REGRET));
}
