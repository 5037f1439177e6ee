//! What the admin server shows of the shared tier: metrics and status.

use std::sync::atomic::Ordering;

use larder_cache::Fence;
use larder_cache::tier::valkey::{Op, OpResult, State, Trouble, Valkey, ValkeyLatency};
use larder_core::{Family, Sample};
use serde_json::{Value as Json, json};

use crate::serve::SharedTier;

larder_core::metrics! {
    /// What was asked of Valkey, by what became of it; `skipped`: not asked, because it does not answer; `dropped`: not asked, because too much was under way.
    OPERATIONS: Counter = "larder_valkey_operations_total" {
        op: (Op::ALL.iter().map(|op| op.label()).collect()),
        result: (OpResult::ALL.iter().map(|result| result.label()).collect())
    }
    /// Time until Valkey answered, or nobody waited any longer.
    DURATION: Histogram = "larder_valkey_duration_seconds" { op: (Op::ALL.iter().map(|op| op.label()).collect()) }
    /// 1 while Valkey is not asked because it does not answer, else 0.
    BREAKER: Gauge = "larder_valkey_breaker_open" {}
    /// 1 while what other Larders have stored can be judged, and so be used; 0 while this one does not know yet what changed before it came.
    SHARING: Gauge = "larder_tier_sharing" { tier: ["l2"] }
    /// Times that this Larder learnt from others what had changed.
    LEARNT: Counter = "larder_tier_learnt_total" { tier: ["l2"] }
    /// Times that this Larder told others what had changed.
    SAID: Counter = "larder_tier_said_total" { tier: ["l2"] }
}

/// The present values.
pub(super) fn families(tier: &SharedTier, fence: &Fence) -> [Family; 6] {
    let counters = tier.valkey.counters();
    let operations = Op::ALL.iter().flat_map(|op| {
        let results = OpResult::ALL.iter().filter(|result| happens(*op, **result));
        results.map(|result| ([op.label(), result.label()], counters.operations(*op, *result).into()))
    });
    let durations = Op::ALL.iter().filter_map(|op| Some((op.label(), histogram(counters.duration(*op)?))));
    let keeper = &tier.keeper;
    [
        OPERATIONS.of(operations),
        DURATION.by(durations),
        BREAKER.is(tier.valkey.breaker_is_open().into()),
        SHARING.by([("l2", fence.history().is_some().into())]),
        LEARNT.by([("l2", keeper.learnt.load(Ordering::Relaxed).into())]),
        SAID.by([("l2", keeper.said.load(Ordering::Relaxed).into())]),
    ]
}

fn histogram(latency: &ValkeyLatency) -> Sample {
    let bounds = ValkeyLatency::BOUNDS.iter().copied().chain([f64::INFINITY]);
    Sample::Histogram { buckets: bounds.zip(latency.counts()).collect(), sum: latency.sum() }
}

/// Not every operation can end in every way.
fn happens(op: Op, result: OpResult) -> bool {
    use OpResult::{Dropped, Error, Hit, Miss, Ok, Skipped, Timeout, TooLarge};
    match op {
        Op::Get => matches!(result, Hit | Miss | Timeout | Error | Skipped | TooLarge),
        Op::Put => matches!(result, Ok | Timeout | Error | Skipped | Dropped | TooLarge),
        Op::Ping | Op::Connect => matches!(result, Ok | Timeout | Error),
    }
}

/// For `/api/v1/status`.
pub(super) fn status(valkey: &Valkey) -> Json {
    let status = valkey.status();
    let counters = valkey.counters();
    let server = status.server.map(|server| {
        json!({
            "version": server.version,
            "role": server.role,
            "max_memory_bytes": server.max_memory,
            "max_memory_policy": server.policy,
        })
    });
    json!({
        "url": valkey.url().to_string(),
        "state": status.state.name(),
        "reachable": matches!(status.state, State::Ready | State::Refusing(_)),
        "findings": status.state.trouble().map(finding).into_iter().collect::<Vec<_>>(),
        "breaker_open": valkey.breaker_is_open(),
        "latency_seconds": status.latency.map(|latency| latency.as_secs_f64()),
        "server": server,
        "hits": counters.operations(Op::Get, OpResult::Hit),
        "misses": counters.operations(Op::Get, OpResult::Miss),
        "puts": counters.operations(Op::Put, OpResult::Ok),
    })
}

/// In the form of every JSON output of Larder.
fn finding(trouble: &Trouble) -> Json {
    json!({ "code": trouble.kind.code(), "problem": trouble.to_string(), "remedy": trouble.kind.remedy() })
}
