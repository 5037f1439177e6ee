//! The tools that other tests rely on do what they say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod client;
mod compare;
mod drivers;
mod faulty;
mod larder;
