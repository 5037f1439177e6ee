//! The atomics that the fence and the tags are made of: the standard ones, or, to have every interleaving and every
//! permitted reordering tried, those of `loom` (`RUSTFLAGS="--cfg larder_loom" cargo test -p larder-cache --lib`).

#[cfg(larder_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
#[cfg(not(larder_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
