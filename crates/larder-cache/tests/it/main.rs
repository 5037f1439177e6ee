//! The cache module seen from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod barrier;
mod flights;
mod library;
mod measure;
mod model;
mod pods;
mod rules;
mod sharing;
mod stress;
mod support;
#[cfg(feature = "valkey")]
mod valkey;
