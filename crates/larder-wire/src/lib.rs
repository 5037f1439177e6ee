//! PostgreSQL's wire protocol, version 3, without sockets: bytes in, frames out.
//!
//! Only what a transparent proxy has to understand is decoded; everything else stays bytes. Decoders borrow from the
//! buffer and never panic: a body that is not what its tag promises is `None`, and the caller relays it untouched so
//! that the origin can say what is wrong.
//!
//! Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol".

pub mod backend;
pub mod encode;
mod frame;
pub mod frontend;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod read;
pub mod startup;

pub use frame::{HEADER, Peek, peek};
