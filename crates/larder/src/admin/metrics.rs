//! The metrics endpoint: what every part reports, and the program's own, in the OpenMetrics text format.
//!
//! Nothing is counted here: the values are read from where they live when somebody scrapes.

use larder_cache::Moment;
use larder_core::metrics::Kind;
use larder_core::{Family, Sample};
use larder_proxy::Mode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{process, valkey};
use crate::serve::Shared;

larder_core::metrics! {
    /// Version and revision of this program.
    BUILD: Info = "larder_build_info" { version: ?, revision: ? }
    /// 1 for what Larder does now (an operator can switch it), 0 for what else it could do.
    MODE: Gauge = "larder_mode" { mode: (Mode::ALL.map(Mode::name).to_vec()) }
    /// 1 if traffic should be sent here, as `/readyz` says it; 0 while it starts, drains, or cannot reach the origin.
    READY: Gauge = "larder_ready" {}
    /// 1 if the origin could be reached at the last attempt, else 0: then clients get errors.
    ORIGIN: Gauge = "larder_origin_reachable" {}
    /// Processor time spent, by user and system together.
    CPU: Counter = "process_cpu_seconds_total" {}
    /// Resident memory.
    RESIDENT: Gauge = "process_resident_memory_bytes" {}
    /// Virtual memory.
    VIRTUAL: Gauge = "process_virtual_memory_bytes" {}
    /// Open file descriptors. Each client takes two.
    OPEN_FDS: Gauge = "process_open_fds" {}
    /// File descriptors that may be open.
    MAX_FDS: Gauge = "process_max_fds" {}
    /// When the process started, since the Unix epoch.
    STARTED: Gauge = "process_start_time_seconds" {}
}

/// All that is known at present.
///
/// # Errors
/// None that is known: the text goes to memory.
pub(super) fn encode(shared: &Shared) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families(shared))));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

fn families(shared: &Shared) -> Vec<Family> {
    let mut families = vec![
        BUILD.of([([crate::VERSION, crate::REVISION], 1.into())]),
        MODE.by(Mode::ALL.map(|mode| (mode.name(), (mode == shared.proxy.mode()).into()))),
        READY.is(shared.readiness().reasons.is_empty().into()),
        ORIGIN.is(shared.origin_problem().is_none().into()),
    ];
    families.extend(shared.proxy.metrics());
    // A plain proxy has no feed; one that is lost would look the same.
    if shared.feed_wanted {
        families.extend(larder_feed::metrics::families(&shared.health, &shared.fence));
    }
    if let Some(tier) = &shared.shared_tier {
        families.extend(valkey::families(tier, &shared.fence));
    }
    families.extend(process::usage().map(of_process).into_iter().flatten());
    families
}

fn of_process(usage: process::Usage) -> [Family; 6] {
    [
        CPU.is(Sample::Real(usage.cpu_seconds)),
        RESIDENT.is(usage.resident_bytes.into()),
        VIRTUAL.is(usage.virtual_bytes.into()),
        OPEN_FDS.is(usage.open_fds.into()),
        MAX_FDS.is(usage.max_fds.into()),
        STARTED.is(Sample::Real(usage.started_at)),
    ]
}

/// `Moment` counts nanoseconds.
pub(super) fn seconds_between(from: Moment, to: Moment) -> f64 {
    to.since(from).as_secs_f64()
}

/// What a collector is to the encoder: values that somebody else keeps.
#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for Family { metric, series } in &self.0 {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            // The encoder ends every help text with a full stop of its own.
            let help = metric.help().trim_end_matches('.');
            let mut encoder = encoder.encode_descriptor(metric.base_name(), help, None, kind)?;
            for (values, sample) in series {
                let names = metric.labels.iter().map(|label| label.name);
                let labels: Vec<_> = names.zip(values.iter().copied()).collect();
                match kind {
                    MetricType::Info => encoder.encode_info(&labels)?,
                    // An empty set of labels would be encoded as such.
                    _ if labels.is_empty() => one(&mut encoder, kind, sample)?,
                    _ => one(&mut encoder.encode_family(&labels)?, kind, sample)?,
                }
            }
        }
        Ok(())
    }
}

fn one(encoder: &mut MetricEncoder<'_>, kind: MetricType, sample: &Sample) -> std::fmt::Result {
    match (kind, sample) {
        (MetricType::Counter, Sample::Whole(value)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (MetricType::Counter, Sample::Real(value)) => {
            encoder.encode_counter::<NoLabelSet, _, f64>(value, None)
        }
        (_, Sample::Whole(value)) => encoder.encode_gauge(value),
        (_, Sample::Real(value)) => encoder.encode_gauge(value),
        (_, Sample::Histogram { buckets, sum }) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            encoder.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}

/// docs/metrics.md is made from the descriptions. `LARDER_BLESS=1 cargo nextest run metrics_md` writes it.
#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use larder_core::Metric;

    use super::*;

    const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    const BEGIN: &str = "<!-- made from the code: LARDER_BLESS=1 cargo nextest run metrics_md -->\n";
    const END: &str = "<!-- end -->\n";

    /// Title, crate and metrics of each section.
    const SECTIONS: [(&str, &str, &[&Metric]); 4] = [
        ("Statements, memory and clients", "larder-proxy", larder_proxy::METRICS),
        ("The change feed", "larder-feed", larder_feed::metrics::METRICS),
        ("The shared tier (only with `[valkey] url`)", "larder", valkey::METRICS),
        ("The program", "larder", METRICS),
    ];

    fn made() -> String {
        let mut out = String::new();
        for (title, package, metrics) in SECTIONS {
            write!(out, "\n## {title}\n\nFrom the crate `{package}`.\n\n").unwrap();
            out.push_str("| Name | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
            for metric in metrics {
                let kind = format!("{:?}", metric.kind).to_lowercase();
                let labels: Vec<_> = metric.labels.iter().map(label).collect();
                let (name, unit, help) = (metric.name, metric.unit(), metric.help());
                writeln!(out, "| `{name}` | {kind} | {unit} | {} | {help} |", labels.join("; ")).unwrap();
            }
        }
        out.push('\n');
        out
    }

    fn label(label: &larder_core::metrics::Label) -> String {
        let values = |values: fn() -> Vec<&'static str>| {
            values().iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
        };
        format!("`{}`: {}", label.name, label.values.map_or_else(|| "any".to_owned(), values))
    }

    #[test]
    fn metrics_md_is_what_the_code_says() {
        let text = std::fs::read_to_string(FILE).unwrap();
        let (head, rest) = text.split_once(BEGIN).unwrap();
        let (_, tail) = rest.split_once(END).unwrap();
        let wanted = format!("{head}{BEGIN}{}{END}{tail}", made());
        if std::env::var_os("LARDER_BLESS").is_some() {
            std::fs::write(FILE, &wanted).unwrap();
        } else {
            assert!(
                text == wanted,
                "docs/metrics.md is out of date: LARDER_BLESS=1 cargo nextest run metrics_md"
            );
        }
    }

    #[test]
    fn names_follow_the_conventions() {
        let all: Vec<_> = SECTIONS.iter().flat_map(|(.., metrics)| *metrics).collect();
        let names: std::collections::HashSet<_> = all.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all.len(), "a name is there twice");
        for metric in all {
            let name = metric.name;
            assert!(name.starts_with("larder_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert_eq!(name.ends_with("_info"), metric.kind == Kind::Info, "{name}");
            assert!(metric.kind != Kind::Histogram || !metric.unit().is_empty(), "{name}");
            assert!(metric.help().ends_with(['.', ')']), "{name}: {}", metric.help());
        }
    }
}
