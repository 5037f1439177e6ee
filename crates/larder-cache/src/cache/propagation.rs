//! An invalidation on its way to the other processes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::error::NotPropagated;
use super::remote::Boxed;

/// An invalidation on its way to the processes that share a tier with this one; in this one it has happened already.
///
/// Resolves when they all have been told; at once where there is no shared tier. Dropping it leaves open whether they
/// hear of it.
#[must_use = "the invalidation has happened in this process; await it so that the others hear of it"]
pub struct Propagation {
    /// `None`: nobody to tell.
    telling: Option<Boxed<'static, Result<(), NotPropagated>>>,
}

impl Propagation {
    pub(crate) fn done() -> Self {
        Self { telling: None }
    }

    pub(crate) fn new(telling: impl Future<Output = Result<(), NotPropagated>> + Send + 'static) -> Self {
        Self { telling: Some(Box::pin(telling)) }
    }
}

impl Future for Propagation {
    type Output = Result<(), NotPropagated>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.telling {
            None => Poll::Ready(Ok(())),
            Some(telling) => telling.as_mut().poll(cx),
        }
    }
}

impl fmt::Debug for Propagation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Propagation").finish_non_exhaustive()
    }
}
