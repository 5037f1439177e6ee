//! What several processes that follow the same log have in common: entries, and what they know of the past.
//!
//! ```text
//!   fill -> Store ......... -> Record -> tier        "what was filled here"
//!   tier -> Record -> adopt -> Store                 "what was filled elsewhere", judged by what this process knows
//!   Tags -> Statement -> tier -> Fence: history      "what changed before this process came"
//! ```
//!
//! The tier holds nothing that correctness needs and is trusted with nothing: a record is a *claim* ("this value
//! includes every commit at or before `as_of`, in this life of the log, under this meaning"), and whether it is of use
//! is decided by the process that fetches it, by its own tags.
//!
//! # Terms
//!
//! * [`Scope`]: to whom an epoch of this process can be compared. *Life*: positions compare only within one (another
//!   life of the origin may use the same positions for other commits). *Meaning*: a digest of everything that answers
//!   and dependencies are judged by (the catalog); two processes with the same digest judge alike.
//! * *history*: a position; this process knows of every change of every tag that was committed after it. It begins with
//!   the epoch's floor, and statements move it back.
//! * *settled*: a position; every commit at or before it has been folded into the tags, and a look at the meaning which
//!   saw all of them found it unchanged since the epoch began.
//! * [`Statement`]: "of all commits in `(from, to]`, these tags were last changed at these positions, no other tag was,
//!   and the meaning stayed what it is".
//!
//! # Why an adopted entry is never stale
//!
//! Let a record of the current life and meaning have `as_of >= history`, and let it become an entry (`as_of`, epoch,
//! tags of the *reader's* own judgement). [`crate::Entry`] is judged from then on as if it had been filled here. What that
//! needs is that no commit in `(as_of, covered]` which touched one of its tags, or changed the meaning, goes unnoticed:
//!
//! 1. *Commits after the epoch's floor* are folded in by this process itself. Whoever sees coverage of one sees its
//!    touches, or the new epoch if it changed the meaning (arguments 1 to 3 of `fence.rs`).
//! 2. *Commits between `history` and the floor* are covered by statements. A statement is taken in by touching all its tags
//!    and then lowering `history`, under the lock under which `history` is compared here: who finds `history` low enough
//!    sees the touches.
//! 3. *The epoch.* The scope is taken first. `history` is compared under the same lock that `begin_epoch` holds, and
//!    only if the epoch is still the scope's; the entry carries that epoch. An epoch that begins meanwhile makes the
//!    entry dead, as it does with a fill under way, whatever was read of the new epoch by mistake.
//! 4. *The meaning.* The author's epoch had the same digest, so it judged by an equal catalog. That the answer may have been
//!    computed after a change which its author had not noticed yet is no different from a fill here: the change lies
//!    after `as_of`, so after `history`, so it ends this process's epoch before coverage passes it. A change that was
//!    taken back (same digest again) lies between: this process's `history` begins after it, and no statement spans it,
//!    because a statement ends at `settled`.
//!
//! `as_of` may lie ahead of what this process has applied: the value is then newer than anything it knows.
//!
//! # Why a statement is true for ever
//!
//! It speaks of a closed past: commits in `(from, to]` of one life. Its author had folded all of them in (`to <= settled <=
//! applied`, and `from >= history`), read `to` *before* it collected the tags (touches come before `settled`, so what is
//! collected holds them), and made sure afterwards that the epoch was the same (a restart takes tags back). So it does
//! no harm if it is old, replayed, overwritten by another's, or lost; if two write at once; or if its author dies, as it
//! is one value and written whole. A tag may carry a position after `to`: the tag changed again; that only costs hits.

mod adopt;
mod exchange;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod keeper;
mod record;
mod scope;
mod statement;

pub use adopt::{Claim, Offer, Refusal};
pub use exchange::Exchange;
pub use keeper::{Keeper, KeeperCounters};
pub use record::Record;
pub(crate) use record::wall_clock;
pub(crate) use scope::Past;
pub use scope::Scope;
pub use statement::Statement;
