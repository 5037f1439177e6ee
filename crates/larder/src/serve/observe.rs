//! Watches what changes by itself and says nothing: epoch, lease, the shared tier. For the events, and the history.

use std::sync::Arc;
use std::time::Duration;

use larder_cache::Moment;
use tracing::{info, warn};

use super::Shared;
use crate::config::Mode;
use crate::events::Kind;

/// How often it is looked at: changes that come and go in less are nobody's trouble.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Looks per sample of the history, which is one a second.
const LOOKS_PER_SAMPLE: u32 = 5;

/// What was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    epoch: u64,
    lease: bool,
    valkey_silent: bool,
    mismatches: u64,
}

/// Never returns.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Seen::default();
    shared.events.note(Kind::Start, format!("Larder {} started", crate::VERSION));
    for look in 0_u32.. {
        ticks.tick().await;
        if look % LOOKS_PER_SAMPLE == 0 {
            shared.history.sample(&shared);
        }
        if shared.mode != Mode::Bypass {
            seen = compare(&shared, seen);
        }
    }
}

fn compare(shared: &Shared, seen: Seen) -> Seen {
    let now = Seen {
        epoch: shared.fence.epoch(),
        lease: shared.fence.lease_holds(Moment::now()),
        valkey_silent: shared.shared_tier.as_ref().is_some_and(|tier| tier.valkey.breaker_is_open()),
        mismatches: shared.proxy.counters().mismatches,
    };
    let events = &shared.events;
    if now.epoch != seen.epoch && seen.epoch > 0 {
        events.note(
            Kind::Epoch,
            format!("Epoch {}: everything remembered before is dead, memory fills anew", now.epoch),
        );
    }
    match (seen.lease, now.lease) {
        (false, true) => {
            info!("lease holds: answers come from memory");
            events.note(Kind::Lease, "The lease holds: answers come from memory");
        }
        (true, false) => {
            warn!(
                "lease lost: nothing is answered from memory until the change feed covers the present again"
            );
            events.warn(
                Kind::Lease,
                "The lease is lost: nothing comes from memory until the feed covers the present",
            );
        }
        _ => {}
    }
    if now.mismatches > seen.mismatches {
        // The log has its line already, with the statement's fingerprint.
        events.warn(
            Kind::Verify,
            "An answer in memory differs from the origin's, and no change explains it: SHOW RULES has the statement",
        );
    }
    match (seen.valkey_silent, now.valkey_silent) {
        (false, true) => events.warn(Kind::Valkey, "Valkey does not answer: it is not asked until it does"),
        (true, false) => events.note(Kind::Valkey, "Valkey answers again"),
        _ => {}
    }
    now
}
