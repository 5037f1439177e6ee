//! What can be seen, as tables: the admin database shows them as rows, `/api/v1/` as JSON.

use larder_cache::Moment;
use larder_core::{Catalog, Lsn, relation_tag};
use larder_proxy::{ClientSnapshot, QuerySnapshot, Target};
use serde_json::{Map, Value as Json, json};

use super::metrics::seconds_between;
use super::status;
use crate::events::Event;
use crate::serve::Shared;

/// Rows of values: numbers are numbers, and what is not known is null.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<Json>>,
}

impl Table {
    pub(super) fn new<const N: usize>(
        columns: [&'static str; N],
        rows: impl IntoIterator<Item = [Json; N]>,
    ) -> Self {
        Self { columns: columns.to_vec(), rows: rows.into_iter().map(Vec::from).collect() }
    }

    /// A list of objects: the first so many.
    pub(crate) fn json(&self, limit: usize) -> Json {
        let object = |row: &Vec<Json>| {
            let fields = self.columns.iter().zip(row);
            Json::Object(
                fields.map(|(name, value)| ((*name).to_owned(), value.clone())).collect::<Map<_, _>>(),
            )
        };
        self.rows.iter().take(limit).map(object).collect()
    }

    /// The rows as text.
    pub(crate) fn text(&self) -> Vec<Vec<Option<String>>> {
        let text = |value: &Json| match value {
            Json::Null => None,
            Json::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        };
        self.rows.iter().map(|row| row.iter().map(text).collect()).collect()
    }
}

/// The state of everything, a line each: the document of `/api/v1/status`, flattened.
pub(crate) fn status(shared: &Shared) -> Table {
    fn flatten(name: &str, value: &Json, rows: &mut Vec<[Json; 2]>) {
        match value {
            Json::Object(fields) => {
                for (field, value) in fields {
                    let name = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                    flatten(&name, value, rows);
                }
            }
            Json::Array(values) if values.is_empty() => {}
            value => rows.push([json!(name), json!(value)]),
        }
    }
    let mut rows = Vec::new();
    flatten("", &status::json(shared), &mut rows);
    Table::new(["name", "value"], rows)
}

/// Statements by how they were answered.
pub(crate) fn stats(shared: &Shared) -> Table {
    let counters = shared.proxy.counters();
    let answered = counters.hits + counters.coalesced + counters.misses + counters.bypassed;
    let share = |part: u64| if answered == 0 { Json::Null } else { json!(percent(part, answered)) };
    let row = |outcome: &str, count: u64, share: Json| [json!(outcome), json!(count), share];
    let rows = [
        row("hit", counters.hits, share(counters.hits)),
        row("coalesced", counters.coalesced, share(counters.coalesced)),
        row("miss", counters.misses, share(counters.misses)),
        row("bypass", counters.bypassed, share(counters.bypassed)),
        row("error", counters.errors, Json::Null),
    ];
    Table::new(["outcome", "statements", "percent"], rows)
}

/// Which statements come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Those that cost the origin, or saved it, most.
    Cost,
    /// Those that saved most.
    Saved,
    /// Of those that are not cached, those that cost most.
    Uncached,
    /// Of those whose answer in memory differed from the origin's, those that did most often.
    Mismatches,
}

/// Statements without their values; those first that cost or saved most.
pub(crate) fn queries(shared: &Shared) -> Table {
    queries_by(shared, Order::Cost)
}

/// The same in another order.
pub(crate) fn queries_by(shared: &Shared, order: Order) -> Table {
    let mut queries = shared.proxy.queries();
    match order {
        Order::Cost => {}
        Order::Saved => queries.sort_by_key(|query| std::cmp::Reverse(query.saved)),
        Order::Uncached => {
            queries.retain(|query| query.bypassed > 0);
            queries.sort_by_key(|query| std::cmp::Reverse(query.origin_time));
        }
        Order::Mismatches => {
            queries.retain(|query| query.mismatches > 0);
            queries.sort_by_key(|query| std::cmp::Reverse(query.mismatches));
        }
    }
    let denied = shared.proxy.rules().denied();
    let switched_off = |fingerprint| {
        let found = denied.iter().find(|denied| denied.target == Target::Query(fingerprint));
        found.map(|denied| denied.why.name())
    };
    let row = |query: QuerySnapshot| {
        let calls = query.calls();
        [
            json!(query.digest.fingerprint.to_string()),
            json!(calls),
            json!(query.hits + query.coalesced),
            json!(percent(query.hits + query.coalesced, calls)),
            json!(query.misses),
            json!(query.invalidated),
            json!(query.bypassed),
            json!(query.reason.filter(|_| query.bypassed > 0).map(|reason| reason.name())),
            json!(seconds(query.origin_time)),
            json!(seconds(query.saved)),
            json!(query.bytes),
            json!(seconds(query.last_served)),
            json!(query.checks),
            json!(query.mismatches),
            json!(switched_off(query.digest.fingerprint)),
            json!(query.digest.text),
        ]
    };
    let columns = [
        "fingerprint",
        "calls",
        "hits",
        "hit_percent",
        "misses",
        "invalidated",
        "bypassed",
        "reason",
        "origin_seconds",
        "saved_seconds",
        "hit_bytes",
        "idle_seconds",
        "checks",
        "mismatches",
        "switched_off",
        "query",
    ];
    Table::new(columns, queries.into_iter().map(row))
}

/// Why statements were not cached, the costliest reason first.
pub(crate) fn reasons(shared: &Shared) -> Table {
    let row = |reason: larder_proxy::ReasonSnapshot| {
        [
            json!(reason.reason.name()),
            json!(reason.count),
            json!(seconds(reason.time)),
            json!(reason.reason.explanation()),
            json!(reason.reason.remedy()),
        ]
    };
    Table::new(
        ["reason", "statements", "origin_seconds", "explanation", "remedy"],
        shared.proxy.reasons().into_iter().map(row),
    )
}

/// Relations that cached answers depend on: what they save, and when they last changed.
pub(crate) fn tables(shared: &Shared) -> Table {
    let Some(catalog) = shared.catalog.load_full() else { return Table::new(TABLES, []) };
    let queries = shared.proxy.queries();
    let mut oids: Vec<u32> = queries.iter().flat_map(|query| query.relations.iter().copied()).collect();
    oids.sort_unstable();
    oids.dedup();
    let row = |oid: u32| {
        let reading = || queries.iter().filter(move |query| query.relations.contains(&oid));
        let sum = |of: fn(&QuerySnapshot) -> u64| reading().map(of).sum::<u64>();
        let saved = reading().map(|query| query.saved).sum::<std::time::Duration>();
        let last_change = shared.tags.find(&relation_tag(oid)).map(|tag| tag.last_change());
        let last_change =
            last_change.filter(|position| *position > 0).map(|position| Lsn(position).to_string());
        [
            json!(name(&catalog, oid)),
            json!(reading().count()),
            json!(sum(|query| query.hits + query.coalesced)),
            json!(sum(|query| query.misses)),
            json!(sum(|query| query.invalidated)),
            json!(seconds(saved)),
            json!(last_change),
        ]
    };
    let mut rows: Vec<_> = oids.into_iter().map(row).collect();
    rows.sort_by(|[.., a, _], [.., b, _]| {
        b.as_f64().partial_cmp(&a.as_f64()).unwrap_or(std::cmp::Ordering::Equal)
    });
    Table::new(TABLES, rows)
}

const TABLES: [&str; 7] =
    ["relation", "queries", "hits", "misses", "invalidated", "saved_seconds", "last_change"];

/// Everybody who is connected, those who came first first.
pub(crate) fn clients(shared: &Shared) -> Table {
    let row = |client: ClientSnapshot| {
        let who = &client.identity;
        [
            json!(client.pid),
            json!(client.worker),
            json!(who.user),
            json!(who.database),
            json!(who.application_name),
            json!(who.address.to_string()),
            json!(who.tls),
            json!(client.state.name()),
            json!(seconds(client.state_for)),
            json!(seconds(client.connected)),
            json!(client.statements),
            json!(client.hits),
        ]
    };
    Table::new(CLIENTS, shared.proxy.client_list().into_iter().map(row))
}

const CLIENTS: [&str; 12] = [
    "pid",
    "worker",
    "user",
    "database",
    "application_name",
    "address",
    "tls",
    "state",
    "state_seconds",
    "connected_seconds",
    "statements",
    "hits",
];

/// What happened lately, the latest first. Times are in milliseconds since 1970.
pub(crate) fn events(shared: &Shared) -> Table {
    let row = |event: Event| {
        let at = event.at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        let level = if event.warning { "warning" } else { "info" };
        [
            json!(event.id),
            json!(u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
            json!(event.kind.name()),
            json!(level),
            json!(event.times),
            json!(event.text),
        ]
    };
    Table::new(["id", "at", "kind", "level", "times", "event"], shared.events.list().into_iter().map(row))
}

/// How far the feed has come.
pub(crate) fn feed(shared: &Shared) -> Table {
    let (now, fence) = (Moment::now(), &shared.fence);
    let document = status::json(shared);
    let state = document.pointer("/feed/state").cloned().unwrap_or_default();
    let gaps = document.pointer("/feed/gaps").cloned().unwrap_or_default();
    let lag_bytes = document.pointer("/feed/lag_bytes").cloned().unwrap_or_default();
    let row = [
        state,
        json!(Lsn(fence.applied()).to_string()),
        json!(Lsn(fence.visible()).to_string()),
        json!(seconds_between(fence.covered(), now)),
        lag_bytes,
        json!(fence.lease_remaining(now).as_secs_f64()),
        gaps,
        json!(fence.epoch()),
    ];
    let columns =
        ["state", "applied", "visible", "lag_seconds", "lag_bytes", "lease_seconds", "gaps", "epoch"];
    Table::new(columns, [row])
}

/// Where answers are kept.
pub(crate) fn tiers(shared: &Shared) -> Table {
    let (entries, bytes) = shared.proxy.tier();
    Table::new(["tier", "entries", "bytes"], [[json!("l1"), json!(entries), json!(bytes)]])
}

/// The effective configuration, secrets masked.
pub(crate) fn config(shared: &Shared) -> Table {
    let mut rows = Vec::new();
    for (section, keys) in shared.config().as_object().into_iter().flatten() {
        for (key, setting) in keys.as_object().into_iter().flatten() {
            let field = |name: &str| setting.get(name).cloned().unwrap_or_default();
            rows.push([json!(format!("{section}.{key}")), field("value"), field("source")]);
        }
    }
    Table::new(["name", "value", "source"], rows)
}

/// This program.
pub(crate) fn version() -> Table {
    Table::new(["version", "revision"], [[json!(crate::VERSION), json!(crate::REVISION)]])
}

fn name(catalog: &Catalog, oid: u32) -> String {
    match catalog.relations.get(&oid) {
        Some(relation) => format!("{}.{}", relation.schema, relation.name),
        None => format!("oid {oid}"),
    }
}

/// In seconds, to the microsecond.
fn seconds(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e6
}

/// To one decimal.
#[allow(clippy::cast_precision_loss)]
fn percent(part: u64, whole: u64) -> f64 {
    (part as f64 * 1000.0 / whole.max(1) as f64).round() / 10.0
}
