//! Traces on their way to a collector, in OpenTelemetry's protocol over HTTP (OTLP, protobuf).
//!
//! Spans are sent in batches, about once a second. Nothing depends on the collector: while it is away, traces are lost.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use larder_proxy::{Trace, TraceSubject, Tracing};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Traces that may wait to be sent.
const ROOM: usize = 4096;
/// Traces sent at once.
const BATCH: usize = 512;
/// What comes within this time is sent together.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest time for a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Traces and where they go.
#[derive(Debug)]
pub(super) struct Traces {
    pub(super) tracing: Arc<Tracing>,
    taken: mpsc::Receiver<Trace>,
    exporter: opentelemetry_otlp::SpanExporter,
}

impl Traces {
    /// Traces this share of requests, for the collector at `url`.
    ///
    /// # Errors
    /// The address, or what the environment says of OpenTelemetry, cannot be used.
    pub(super) fn new(url: &str, sample: f64) -> anyhow::Result<Self> {
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http();
        let exporter = exporter.with_protocol(Protocol::HttpBinary).with_endpoint(url).with_timeout(TIMEOUT);
        let mut exporter = exporter.build().with_context(|| format!("cannot send traces to {url}"))?;
        exporter.set_resource(&resource());
        let (tracing, taken) = Tracing::new(sample, ROOM);
        Ok(Self { tracing, taken, exporter })
    }

    /// Sends what comes, until nothing can come any more.
    pub(super) async fn send(mut self) {
        let (mut reached, mut lost) = (None, 0);
        let mut batch = Vec::new();
        while self.taken.recv_many(&mut batch, BATCH).await > 0 {
            tokio::time::sleep(PAUSE).await;
            while batch.len() < BATCH
                && let Ok(trace) = self.taken.try_recv()
            {
                batch.push(trace);
            }
            let spans = batch.drain(..).flat_map(spans).collect();
            let sent = self.exporter.export(spans).await;
            match &sent {
                Ok(()) if reached != Some(true) => info!("traces reach their collector"),
                Err(error) if reached != Some(false) => {
                    warn!(%error, "traces are lost: the collector does not take them")
                }
                _ => {}
            }
            reached = Some(sent.is_ok());
            let all = self.tracing.lost();
            if all > lost {
                warn!(
                    lost = all - lost,
                    "traces are lost: more of them than can be sent -> a smaller [trace] sample"
                );
                lost = all;
            }
        }
    }
}

/// Who sends the spans. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say it better, if they are there.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", crate::VERSION);
    let resource = Resource::builder().with_attribute(version);
    if std::env::var_os("OTEL_SERVICE_NAME").is_some() {
        return resource.build();
    }
    resource.with_service_name("larder").build()
}

/// The span of a trace, and one for each of its steps below it.
fn spans(trace: Trace) -> Vec<SpanData> {
    let id = trace.parent.map_or_else(|| fastrand::u128(1..), |parent| parent.trace);
    let (root, parent) = (fastrand::u64(1..), trace.parent.map_or(0, |parent| parent.span));
    let span = |at: u64, parent: u64, name: Cow<'static, str>, begin: SystemTime, took: Duration| SpanData {
        span_context: SpanContext::new(
            TraceId::from(id),
            SpanId::from(at),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::from(parent),
        parent_span_is_remote: at == root && parent != 0,
        span_kind: SpanKind::Internal,
        name,
        start_time: begin,
        end_time: begin + took,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: Default::default(),
        links: Default::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("larder").with_version(crate::VERSION).build(),
    };
    let mut all = vec![SpanData {
        span_kind: SpanKind::Server,
        attributes: attributes(&trace),
        status: if trace.failed { Status::error("") } else { Status::Unset },
        ..span(root, parent, name(&trace), trace.began, trace.took)
    }];
    for step in &trace.steps {
        let kind = if step.name == "origin" { SpanKind::Client } else { SpanKind::Internal };
        let begin = trace.began + step.after;
        all.push(SpanData {
            span_kind: kind,
            ..span(fastrand::u64(1..), root, step.name.into(), begin, step.took)
        });
    }
    all
}

/// By OpenTelemetry's conventions a name of which there are few: the statement's first word, and its database.
fn name(trace: &Trace) -> Cow<'static, str> {
    match (trace.subject, operation(trace)) {
        (TraceSubject::Session, _) => "connect".into(),
        (TraceSubject::Request, Some(operation)) => format!("{operation} {}", trace.database).into(),
        (TraceSubject::Request, None) => "request".into(),
    }
}

fn operation(trace: &Trace) -> Option<String> {
    let first = trace.statement.as_ref()?.text.split([' ', '(', ';']).next()?;
    let is_word =
        !first.is_empty() && first.len() <= 16 && first.bytes().all(|byte| byte.is_ascii_alphabetic());
    is_word.then(|| first.to_ascii_uppercase())
}

fn attributes(trace: &Trace) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("db.system.name", "postgresql"),
        KeyValue::new("db.namespace", trace.database.clone()),
    ];
    let mut add = |name: &'static str, value: Option<Cow<'static, str>>| {
        attributes.extend(value.map(|value| KeyValue::new(name, value)));
    };
    add("db.operation.name", operation(trace).map(Cow::from));
    // Without its values.
    add("db.query.text", trace.statement.as_ref().map(|statement| statement.text.clone().into()));
    add(
        "larder.fingerprint",
        trace.statement.as_ref().map(|statement| statement.fingerprint.to_string().into()),
    );
    add("larder.outcome", trace.outcome.map(|(outcome, _)| outcome.into()));
    add("larder.tier", trace.outcome.map(|(_, tier)| tier.into()));
    add("larder.reason", trace.reason.map(Cow::from));
    attributes
}
