//! A [`larder_cache::Cache`] that follows the log of a PostgreSQL database: see [`Feed`].
//!
//! The change feed and the cache know nothing of each other but fence and tags; here they meet. `tag` reads the names
//! that applications use, `account` the URL, `feed` runs the feed and resolves names by the catalog it has read.

mod account;
mod feed;
mod tag;

pub use account::UrlError;
pub use feed::{Feed, FeedBuilder, StartError};
pub use larder_core::{FeedState, Finding};
pub use larder_feed::Account;
pub use larder_login::{OriginTls, TlsMode};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
