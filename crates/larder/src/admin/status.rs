//! `GET /api/v1/status`: the state of everything, as JSON.

use std::sync::atomic::Ordering;

use larder_cache::Moment;
use larder_core::{FeedState, Finding, Lsn};
use larder_proxy::Mode;
use serde_json::{Value as Json, json};

use super::metrics::seconds_between;
use super::valkey;
use crate::serve::Shared;

/// The whole document.
pub(super) fn json(shared: &Shared) -> Json {
    let (now, fence, health) = (Moment::now(), &shared.fence, &shared.health);
    let (entries, bytes) = shared.proxy.tier();
    let queries = shared.proxy.counters();
    let changes: serde_json::Map<_, _> =
        shared.changes().into_iter().map(|(kind, count)| (kind.to_owned(), json!(count))).collect();
    json!({
        "version": crate::VERSION,
        "uptime_seconds": shared.started.elapsed().as_secs_f64(),
        "mode": shared.proxy.mode().name(),
        // What can be switched to: a plain proxy stays one.
        "modes": if shared.feed_wanted { Mode::ALL.map(Mode::name).to_vec() } else { vec![Mode::Bypass.name()] },
        "revision": crate::REVISION,
        "level": shared.level().name(),
        "max_lag_seconds": shared.max_lag().as_secs_f64(),
        "listen": shared.proxy.local_addr().to_string(),
        "origin": { "address": shared.origin, "reachable": shared.origin_problem().is_none(), "problem": shared.origin_problem() },
        "draining": shared.is_draining(),
        "feed": {
            "state": state_name(shared),
            "findings": findings(shared),
            "applied": Lsn(fence.applied()).to_string(),
            "lag_seconds": seconds_between(fence.covered(), now),
            "lag_bytes": health.lag_bytes.load(Ordering::Relaxed),
            "gaps": health.gaps.load(Ordering::Relaxed),
            "changes": changes,
        },
        "lease": { "holds": fence.lease_holds(now), "remaining_seconds": fence.lease_remaining(now).as_secs_f64() },
        "epoch": fence.epoch(),
        "tiers": {
            "l1": { "entries": entries, "bytes": bytes, "max_bytes": shared.memory },
            "l2": shared.shared_tier.as_ref().map(|tier| valkey::status(&tier.valkey)),
        },
        "shared": shared.shared_tier.as_ref().map(|tier| tier.status(fence)),
        "clients": shared.proxy.clients(),
        "queries": {
            "hits": queries.hits,
            "shared": queries.shared,
            "misses": queries.misses,
            "coalesced": queries.coalesced,
            "bypassed": queries.bypassed,
            "errors": queries.errors,
        },
        // What was compared with the origin, in mode shadow or by [verify] sample.
        "verify": { "checks": queries.checks, "mismatches": queries.mismatches },
    })
}

/// The short form for `/readyz`.
pub(super) fn feed_info(shared: &Shared) -> Json {
    json!({ "feed": state_name(shared), "findings": findings(shared) })
}

fn state_name(shared: &Shared) -> &'static str {
    if !shared.feed_wanted {
        return "off";
    }
    match shared.health.get() {
        FeedState::Starting => "starting",
        FeedState::Connected => "connected",
        FeedState::Disconnected { .. } => "disconnected",
    }
}

fn findings(shared: &Shared) -> Json {
    match shared.health.get() {
        FeedState::Disconnected { findings, .. } => findings.iter().map(finding).collect(),
        _ => json!([]),
    }
}

/// One finding, as every JSON output of Larder shows it.
pub(crate) fn finding(finding: &Finding) -> Json {
    json!({ "code": finding.code, "problem": finding.problem, "remedy": finding.remedy })
}
