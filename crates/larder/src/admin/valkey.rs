//! What the admin server shows of the shared tier: metrics and status.

use larder_cache::tier::valkey::{Op, OpResult, State, Trouble, Valkey, ValkeyLatency};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use serde_json::{Value as Json, json};

/// Its counters, read when somebody scrapes.
#[derive(Debug)]
pub(super) struct ValkeyCollector(pub(super) Valkey);

impl Collector for ValkeyCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counters = self.0.counters();
        let help = "What was asked of Valkey, by what became of it";
        let mut operations =
            encoder.encode_descriptor("larder_valkey_operations", help, None, MetricType::Counter)?;
        for op in Op::ALL {
            for result in OpResult::ALL.iter().filter(|result| happens(*op, **result)) {
                let labels = [("op", op.label()), ("result", result.label())];
                let count = counters.operations(*op, *result);
                operations.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)?;
            }
        }

        let help = "Seconds until Valkey answered, or nobody waited any longer";
        let mut durations =
            encoder.encode_descriptor("larder_valkey_duration_seconds", help, None, MetricType::Histogram)?;
        for op in Op::ALL {
            let Some(latency) = counters.duration(*op) else { continue };
            let bounds = ValkeyLatency::BOUNDS.iter().copied().chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(latency.counts()).collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let labels = [("op", op.label())];
            let mut family = durations.encode_family(&labels)?;
            family.encode_histogram::<NoLabelSet>(latency.sum(), count, &buckets, None)?;
        }

        let help = "1 while Valkey is not asked because it does not answer, else 0";
        let mut open =
            encoder.encode_descriptor("larder_valkey_breaker_open", help, None, MetricType::Gauge)?;
        open.encode_gauge(&i64::from(self.0.breaker_is_open()))
    }
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
