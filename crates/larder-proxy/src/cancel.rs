//! Cancel requests for sessions that wait here, with nothing running at the origin.
//!
//! A session that waits for another's identical query is not known to the origin as busy, so the origin would ignore a
//! cancel request for it. The key that the client holds is the origin's; here is who holds it. One entry per session,
//! gone when the session is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// States of a [`Wait`].
const NOT_WAITING: u8 = 0;
const WAITING: u8 = 1;
const CANCELLED: u8 = 2;

/// All sessions of the process by the key (process number and secret) that the origin gave them.
#[derive(Debug, Default)]
pub(crate) struct Cancels(Mutex<HashMap<Bytes, Arc<Wait>, foldhash::quality::RandomState>>);

/// Whether a session waits here.
#[derive(Debug, Default)]
struct Wait {
    state: AtomicU8,
    wake: Notify,
}

/// A session's place among [`Cancels`], given up when dropped.
#[derive(Debug)]
pub(crate) struct CancelSeat {
    cancels: Arc<Cancels>,
    key: Bytes,
    wait: Arc<Wait>,
}

/// The wait was ended by a cancel request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cancelled;

impl Cancels {
    /// A session begins.
    pub(crate) fn enter(self: &Arc<Self>, key: &Bytes) -> CancelSeat {
        let wait = Arc::new(Wait::default());
        self.0.lock().insert(key.clone(), Arc::clone(&wait));
        CancelSeat { cancels: Arc::clone(self), key: key.clone(), wait }
    }

    /// Ends the wait of the session with that key. `false`: no such session waits here.
    pub(crate) fn cancel(&self, key: &[u8]) -> bool {
        let Some(wait) = self.0.lock().get(key).map(Arc::clone) else { return false };
        // Whoever makes this step answers for it: the session finds it however its wait ends.
        let taken =
            wait.state.compare_exchange(WAITING, CANCELLED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if taken {
            wait.wake.notify_one();
        }
        taken
    }
}

impl CancelSeat {
    /// Waits for something, or for a cancel request.
    pub(crate) async fn wait<T>(&self, for_what: impl Future<Output = T>) -> Result<T, Cancelled> {
        self.wait.state.store(WAITING, Ordering::Release);
        let cancelled = async {
            // A permit may be left over from an earlier wait.
            while self.wait.state.load(Ordering::Acquire) != CANCELLED {
                self.wait.wake.notified().await;
            }
        };
        let done = tokio::select! {
            biased;
            done = for_what => Some(done),
            () = cancelled => None,
        };
        match (self.wait.state.swap(NOT_WAITING, Ordering::AcqRel), done) {
            (WAITING, Some(done)) => Ok(done),
            _ => Err(Cancelled),
        }
    }
}

impl Drop for CancelSeat {
    fn drop(&mut self) {
        let mut sessions = self.cancels.0.lock();
        // A restarted origin may have given the same key to a newer session.
        if sessions.get(&self.key).is_some_and(|wait| Arc::ptr_eq(wait, &self.wait)) {
            sessions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn only_a_wait_can_be_cancelled_and_only_by_its_key() {
        let cancels = Arc::new(Cancels::default());
        let seat = cancels.enter(&Bytes::from_static(b"\0\0\0\x07secret"));
        assert!(!cancels.cancel(b"\0\0\0\x07secret"), "it does not wait yet");
        let (waited, ()) = tokio::join!(seat.wait(pending::<()>()), async {
            assert!(!cancels.cancel(b"\0\0\0\x07another"));
            assert!(cancels.cancel(b"\0\0\0\x07secret"));
            assert!(!cancels.cancel(b"\0\0\0\x07secret"), "once is enough");
        });
        assert_eq!(waited, Err(Cancelled));
        // What is left of it does not end the next wait.
        assert_eq!(seat.wait(ready(5)).await, Ok(5));
        let next = tokio::time::timeout(std::time::Duration::from_millis(10), seat.wait(pending::<()>()));
        assert!(next.await.is_err());
    }

    #[test]
    fn a_session_leaves_nothing_behind() {
        let cancels = Arc::new(Cancels::default());
        let old = cancels.enter(&Bytes::from_static(b"key"));
        let new = cancels.enter(&Bytes::from_static(b"key"));
        drop(old);
        assert_eq!(cancels.0.lock().len(), 1, "the newer session of that key");
        drop(new);
        assert!(cancels.0.lock().is_empty());
    }
}
