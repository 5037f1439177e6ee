//! What a cache can be tied to so that its values are proven, not only timed.

use std::fmt;
use std::sync::Arc;

use crate::{Fence, Tag};

/// A log of changes that somebody follows, for example that of a database.
///
/// A cache that [follows](super::CacheBuilder::follow) one gives values from memory only while the log's [`Fence`] proves them: the
/// lease holds, the epoch is the one that the value was loaded in, and nothing that the value depends on has changed
/// since. What it depends on are those of its tags that the log knows.
pub trait ChangeLog: fmt::Debug + Send + Sync + 'static {
    /// What has been proven so far.
    fn fence(&self) -> &Arc<Fence>;

    /// What the log calls the thing with this name. It is asked after the fill's position and epoch were taken, and
    /// before the loader runs.
    fn resolve(&self, tag: &str) -> Resolved;
}

/// What a tag is for a [`ChangeLog`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Resolved {
    /// Nothing that the log would know of: it is the application's own.
    Unknown,
    /// These things, which the log moves.
    Tags(Vec<Arc<Tag>>),
    /// Something whose changes the log does not show, for this reason: a value that depends on it is not kept.
    Unprovable(String),
}
