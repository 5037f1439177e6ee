//! The program's own metrics; the client path registers its own in the same registry.
//!
//! Nothing is counted here: the values are read from where they live when somebody scrapes.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_cache::Moment;
use larder_proxy::Proxy;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::process;
use super::valkey::ValkeyCollector;
use crate::serve::{Shared, SharedTier};

type Seconds = Gauge<f64, AtomicU64>;

/// One documented struct; the help text of a metric is the comment of its field.
macro_rules! metrics {
    ($( $(#[doc = $doc:literal])+ $field:ident: $Type:ty = $name:literal, )+) => {
        /// Every metric that is sampled on a scrape.
        #[derive(Debug, Default)]
        struct Sampled { $( $(#[doc = $doc])+ $field: $Type, )+ }

        impl Sampled {
            fn register(&self, registry: &mut Registry) {
                // The library ends every help text with a full stop of its own.
                $( registry.register($name, concat!($($doc),+).trim_ascii().trim_end_matches('.'), self.$field.clone()); )+
            }
        }
    };
}

metrics! {
    /// Seconds since the moment up to which the change feed has folded everything into the tags; from the start of the process while there has been none.
    feed_lag: Seconds = "larder_feed_lag_seconds",
    /// Bytes of log between the origin's insert position and what has been folded in, at the last sample.
    feed_lag_bytes: Gauge = "larder_feed_lag_bytes",
    /// 1 while changes arrive, else 0.
    feed_connected: Gauge = "larder_feed_connected",
    /// Times continuity was lost and everything cached died with it.
    feed_gaps: Counter = "larder_feed_gaps",
    /// For how long answers may still come from memory if nothing more is heard from the origin.
    lease_remaining: Seconds = "larder_lease_remaining_seconds",
    /// Committed changes seen, by kind.
    changes: Family<ChangeKind, Counter> = "larder_changes",
    /// Answers kept, by tier.
    tier_entries: Family<Tier, Gauge> = "larder_tier_entries",
    /// Bytes of the answers kept, by tier.
    tier_bytes: Family<Tier, Gauge> = "larder_tier_bytes",
    /// Clients, by state.
    clients: Family<ClientState, Gauge> = "larder_clients",
    /// Total user and system CPU time spent in seconds.
    cpu_seconds: Counter<f64, AtomicU64> = "process_cpu_seconds",
    /// Resident memory size in bytes.
    resident_bytes: Gauge = "process_resident_memory_bytes",
    /// Virtual memory size in bytes.
    virtual_bytes: Gauge = "process_virtual_memory_bytes",
    /// Number of open file descriptors.
    open_fds: Gauge = "process_open_fds",
    /// Maximum number of open file descriptors.
    max_fds: Gauge = "process_max_fds",
    /// Start time of the process since unix epoch in seconds.
    start_time: Seconds = "process_start_time_seconds",
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChangeKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tier {
    tier: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    revision: &'static str,
}

/// The registry and what is sampled into it.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    sampled: Sampled,
}

impl Metrics {
    /// Registers everything.
    pub(crate) fn new(proxy: &Proxy, tier: Option<&SharedTier>) -> Self {
        let mut registry = Registry::default();
        let build = Build { version: crate::VERSION, revision: crate::REVISION };
        registry.register("larder_build", "Version and revision of this program", Info::new(build));
        let sampled = Sampled::default();
        sampled.register(&mut registry);
        proxy.register(&mut registry);
        if let Some(SharedTier { valkey, .. }) = tier {
            registry.register_collector(Box::new(ValkeyCollector(valkey.clone())));
        }
        Self { registry, sampled }
    }

    /// Samples and encodes, in the OpenMetrics text format.
    pub(crate) fn encode(&self, shared: &Shared) -> Result<String, std::fmt::Error> {
        self.sample_feed(shared);
        self.sample_clients(shared);
        self.sample_process();
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    fn sample_feed(&self, shared: &Shared) {
        let (sampled, health, now) = (&self.sampled, &shared.health, Moment::now());
        sampled.feed_lag.set(seconds_between(shared.fence.covered(), now));
        sampled.feed_lag_bytes.set(gauge(health.lag_bytes.load(Ordering::Relaxed)));
        sampled.feed_connected.set(i64::from(health.is_connected()));
        copy(&health.gaps, &sampled.feed_gaps);
        sampled.lease_remaining.set(shared.fence.lease_remaining(now).as_secs_f64());
        for (kind, count) in shared.changes() {
            sampled.changes.get_or_create(&ChangeKind { kind }).inner().store(count, Ordering::Relaxed);
        }
    }

    fn sample_clients(&self, shared: &Shared) {
        let (entries, bytes) = shared.proxy.tier();
        let tier = Tier { tier: "l1" };
        self.sampled.tier_entries.get_or_create(&tier).set(gauge(entries as u64));
        self.sampled.tier_bytes.get_or_create(&tier).set(gauge(bytes as u64));
        let connected = ClientState { state: "connected" };
        self.sampled.clients.get_or_create(&connected).set(gauge(shared.proxy.clients() as u64));
    }

    fn sample_process(&self) {
        let Some(usage) = process::usage() else { return };
        self.sampled.cpu_seconds.inner().store(usage.cpu_seconds.to_bits(), Ordering::Relaxed);
        self.sampled.resident_bytes.set(gauge(usage.resident_bytes));
        self.sampled.virtual_bytes.set(gauge(usage.virtual_bytes));
        self.sampled.open_fds.set(gauge(usage.open_fds));
        self.sampled.max_fds.set(gauge(usage.max_fds));
        self.sampled.start_time.set(usage.started_at);
    }
}

/// `Moment` counts nanoseconds.
pub(super) fn seconds_between(from: Moment, to: Moment) -> f64 {
    std::time::Duration::from_nanos(to.0.saturating_sub(from.0)).as_secs_f64()
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn copy(from: &AtomicU64, to: &Counter) {
    to.inner().store(from.load(Ordering::Relaxed), Ordering::Relaxed);
}
