//! Judgement on SQL text, seen from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

mod catalog;
mod effects;
mod kinds;
mod robustness;
mod rows;
mod servers;
mod text;
mod verdicts;
