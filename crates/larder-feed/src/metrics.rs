//! What the feed reports: where it stands, and what it has seen.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_cache::{Fence, Moment};
use larder_core::{Family, FeedHealth};

larder_core::metrics! {
    /// 1 while changes arrive, else 0.
    CONNECTED: Gauge = "larder_feed_connected" {}
    /// Seconds since the moment up to which everything committed at the origin has been folded in; since the start of the process while there has been none.
    LAG: Gauge = "larder_feed_lag_seconds" {}
    /// Bytes of log between the origin's insert position and what has been folded in, at the last sample.
    LAG_BYTES: Gauge = "larder_feed_lag_bytes" {}
    /// Times that the stream was lost and everything cached died with it.
    GAPS: Counter = "larder_feed_gaps_total" {}
    /// How long answers may still come from memory if nothing more is heard from the origin; 0: none may.
    LEASE: Gauge = "larder_lease_remaining_seconds" {}
    /// Committed changes seen: rows, TRUNCATE commands, and transactions that may have changed the catalog.
    CHANGES: Counter = "larder_changes_total" { kind: ["insert", "update", "delete", "truncate", "ddl"] }
    /// Times that a commit ended what was kept: what depended on a relation as a whole (whether anything was kept of it or not; with it what depended on its rows, unless `row` counts those), on one of its rows, or everything, because the meaning of statements may have changed or the stream was lost.
    INVALIDATIONS: Counter = "larder_invalidations_total" { scope: ["row", "relation", "all"] }
}

/// The present values.
pub fn families(health: &FeedHealth, fence: &Fence) -> Vec<Family> {
    let now = Moment::now();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed).into();
    vec![
        CONNECTED.is(health.is_connected().into()),
        LAG.is(now.since(fence.covered()).into()),
        LAG_BYTES.is(read(&health.lag_bytes)),
        GAPS.is(read(&health.gaps)),
        LEASE.is(fence.lease_remaining(now).into()),
        CHANGES.by([
            ("insert", read(&health.inserts)),
            ("update", read(&health.updates)),
            ("delete", read(&health.deletes)),
            ("truncate", read(&health.truncates)),
            ("ddl", read(&health.ddl)),
        ]),
        INVALIDATIONS.by([
            ("row", read(&health.touched_rows)),
            ("relation", read(&health.touched)),
            ("all", read(&health.epochs)),
        ]),
    ]
}
