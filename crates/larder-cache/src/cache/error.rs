//! Why there is no value.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A loader's error, whatever its type: one flight is shared by callers that name it.
pub(crate) type AnyError = Arc<dyn Any + Send + Sync>;

/// Why there is no value. Everyone who waited for the same load gets the same error, hence the `Arc`.
#[non_exhaustive]
pub enum LoadError<E> {
    /// The loader returned this error.
    Failed(Arc<E>),
    /// The loader panicked, with this message.
    Panicked(Arc<str>),
    /// The loader took longer than the hard timeout, and was dropped.
    TimedOut(Duration),
    /// The loader was dropped before it had finished: its runtime was shut down.
    Cancelled,
}

impl<E> Clone for LoadError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked(message) => Self::Panicked(Arc::clone(message)),
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::Cancelled => Self::Cancelled,
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Panicked(message) => f.debug_tuple("Panicked").field(message).finish(),
            Self::TimedOut(limit) => f.debug_tuple("TimedOut").field(limit).finish(),
            Self::Cancelled => f.write_str("Cancelled"),
        }
    }
}

impl<E: fmt::Display> fmt::Display for LoadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the loader failed: {error}"),
            Self::Panicked(message) => write!(f, "the loader panicked: {message}"),
            Self::TimedOut(limit) => write!(f, "the loader took longer than {limit:?}"),
            Self::Cancelled => f.write_str("the loader was cancelled"),
        }
    }
}

impl<E: Error + 'static> Error for LoadError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Why a load came to nothing, as it is shared between callers.
#[derive(Clone)]
pub(crate) enum Failure {
    Failed(AnyError),
    Panicked(Arc<str>),
    TimedOut(Duration),
    /// The loader of a batch did not bring this key.
    Absent,
}

impl Failure {
    /// As the caller's own error; `None`: this flight has nothing to say to this caller, who has to load by itself.
    pub(crate) fn into_error<E: Send + Sync + 'static>(self) -> Option<LoadError<E>> {
        match self {
            Self::Failed(error) => error.downcast().ok().map(LoadError::Failed),
            Self::Panicked(message) => Some(LoadError::Panicked(message)),
            Self::TimedOut(limit) => Some(LoadError::TimedOut(limit)),
            Self::Absent => None,
        }
    }

    /// What was thrown, as far as it is text.
    pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::Panicked(text.unwrap_or("(no message)").into())
    }
}

/// An invalidation has happened in this process, but could not be told to the others.
///
/// It is tried again in the background until it gets through. Until then, other processes may answer with what they
/// have, at most until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotPropagated;

impl fmt::Display for NotPropagated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the shared tier could not be reached: other processes will be told later")
    }
}

impl Error for NotPropagated {}
