//! The cache module seen from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod barrier;
mod flights;
mod model;
mod rules;
mod stress;
mod support;
