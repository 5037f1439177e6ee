//! The cache module: entries that know up to which position of a change log they are true.
//!
//! It knows no SQL and no PostgreSQL: positions are numbers, tags are strings, values are whatever weighs something.
//! Applications use [`Cache`]: typed values, loaded when they are missing. Larder's proxy uses what lies beneath: [`Store`],
//! [`Fence`] and [`Tags`].
//!
//! # The data structure
//!
//! ```text
//!   change log -> Tag::touch (one store per touched tag) -> Fence: applied, visible, covered
//!                        |                                        |
//!   key -> Store -> Entry { value, as_of, epoch, tags } ----- judged at every lookup
//! ```
//!
//! An [`Entry`] is a fact with a position: its value includes every commit at or before `as_of`, and it stays true
//! until a later commit touches one of its [`Tag`]s:
//!
//! ```text
//! valid  <=>  entry.epoch is current  and  for every tag: tag.last_change <= entry.as_of
//! ```
//!
//! So nothing is ever deleted for correctness, a hit costs a handful of atomic loads, and a slow fill cannot race with
//! a fast invalidation. The [`Fence`] holds what the follower of the change log has proven, and the [`Store`] gives an
//! entry only to a [`Reader`] who is entitled to it: the entry is valid, the lease holds (`covered` is recent enough),
//! and no write that this reader must see is still on its way.
//!
//! # Invariants
//!
//! * `as_of` is `visible` as it was *before* the query was sent ([`Store::join`] reads it), never anything later.
//! * A tag's last change, its mark, `mark_all`, and, within an epoch, `applied`, `visible` and `covered` never go back.
//! * Touches come before the coverage that includes them; marks before the client hears of its write.
//!
//! Which stores and loads must come in which order for that, and why, is written at the top of `fence.rs`.
//!
//! # The hard cases
//!
//! * *Many miss the same key at once*: one leads, the others follow ([`Store::join`]) and then look up again, each with
//!   its own claims; a follower for whom the answer is not good enough goes to the origin by itself.
//! * *The leader fails, is cancelled or panics*: its [`FillGuard`] is dropped, the followers wake, and the key is free.
//! * *A follower goes away*: nobody notices.
//! * *The answer is too large*: for [`TOO_LARGE_FOR`] the lookup says so, nobody leads and nobody waits
//!   ([`Flight::Alone`]).
//! * *Positions are not trusted yet* (no feed, or a new epoch not yet reached): nobody leads, nobody waits.
//! * *A change passes the answer on its way*: the leader's client has its answer, which is right for a query in flight;
//!   it is not kept ([`Discard::Changed`]).

mod cache;
mod counters;
mod entry;
mod fence;
mod flight;
#[cfg(all(test, larder_loom))]
mod interleavings;
mod moment;
mod parts;
pub mod shared;
mod store;
mod sync;
mod tags;
pub mod tier;

pub use cache::{
    Cache, CacheBuilder, CacheMetrics, ChangeLog, Key, LoadContext, LoadError, Loaded, Many, NotPropagated,
    Propagation, Request, Resolved, Source,
};
#[cfg(feature = "valkey")]
pub use cache::{SharedTier, SharedTierBuilder, SharedTierError};
pub use counters::Counters;
pub use entry::{Discard, Entry, Miss, Reader, Validity};
pub use fence::Fence;
pub use flight::Follower;
pub use moment::Moment;
pub use parts::Part;
pub use store::{FillGuard, Flight, Store, TOO_LARGE_FOR, Weigh};
pub use tags::{Tag, TagSet, Tags};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
