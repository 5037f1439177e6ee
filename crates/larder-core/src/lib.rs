//! The vocabulary that every other crate of Larder shares: positions in the origin's log, what the catalog says
//! about relations and functions, which settings answers depend on, the values by which rows are told apart, the named reasons
//! for which an answer is not cached, the health of the change feed, and what a metric is. Nothing here does I/O.

mod bypass;
pub mod catalog;
mod health;
mod level;
mod lsn;
pub mod metrics;
mod remedy;
mod rows;
pub mod settings;

pub use bypass::Bypass;
pub use catalog::{Catalog, CatalogCell};
pub use health::{FeedHealth, FeedState, Finding};
pub use level::Level;
pub use lsn::{Lsn, ParseLsnError};
pub use metrics::{Family, Metric, Sample};
pub use rows::{RowValue, ValueType, row_id};

/// The key of the tag that stands for every row of a relation: `rel:<oid>`.
///
/// The feed touches it for each committed change, the client path reads it on each lookup. They agree on nothing
/// else, so the spelling lives here.
pub fn relation_tag(oid: u32) -> String {
    format!("rel:{oid}")
}
