//! Real servers, started and ended in every way.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod lifecycle;
mod postgres;
mod valkey;
