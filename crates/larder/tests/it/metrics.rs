//! The metrics of a running Larder are those of docs/metrics.md: no other names, labels or values, and none is missing.

use std::collections::{BTreeMap, BTreeSet};

use larder_testkit::{Larder, RawClient, Valkey, pg18};

use crate::serve::until;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");

/// By name: the type, and the values of each label (`None`: any).
type Described = BTreeMap<String, (String, BTreeMap<String, Option<BTreeSet<String>>>)>;

fn described() -> Described {
    let text = std::fs::read_to_string(DOCUMENT).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, _, labels, _] = cells[..] else { panic!("{row}") };
        let labels = labels.split("; ").filter(|label| !label.is_empty()).map(|label| {
            let (name, values) = label.split_once(": ").unwrap();
            let set = || values.split(", ").map(|value| value.trim_matches('`').to_owned()).collect();
            (name.trim_matches('`').to_owned(), (values != "any").then(set))
        });
        (name.trim_matches('`').to_owned(), (kind.to_owned(), labels.collect()))
    })
    .collect()
}

/// A line of the endpoint: the metric's name and its labels.
fn parse(line: &str) -> (String, BTreeMap<String, String>) {
    let (series, _value) = line.rsplit_once(' ').unwrap();
    let Some((name, labels)) = series.split_once('{') else { return (series.to_owned(), BTreeMap::new()) };
    let labels = labels.trim_end_matches('}').split("\",").map(|label| {
        let (name, value) = label.split_once("=\"").unwrap();
        (name.to_owned(), value.trim_end_matches('"').to_owned())
    });
    (name.to_owned(), labels.collect())
}

#[tokio::test]
async fn metrics_are_what_the_document_says() {
    let (pg, valkey) = (pg18(), Valkey::builder().start().unwrap());
    pg.sql("CREATE TABLE t (id int PRIMARY KEY)").unwrap();
    let larder =
        Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(pg.url("postgres", "postgres"));
    let larder = larder.arg("--valkey").arg(valkey.url()).start().await.unwrap();
    let mut client = RawClient::superuser(larder.addr()).await.unwrap();
    client.value("SELECT count(*) FROM t").await.unwrap();

    let described = described();
    assert!(described.len() > 30, "{described:?}");
    let (_, text) = larder.get("/metrics").await.unwrap();
    // Without a bucket for everything Prometheus computes no quantile.
    let lines = |what: &str| text.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("le=\"+Inf\""), lines("_seconds_count"), "{text}");
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, mut labels) = parse(line);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.strip_suffix(suffix));
        let histogram = |name: &&str| described.get(*name).is_some_and(|(kind, _)| kind == "histogram");
        let name = base.filter(histogram).unwrap_or(&series);
        labels.remove("le");
        let (_, known) = described.get(name).unwrap_or_else(|| panic!("{name} is not in docs/metrics.md"));
        assert_eq!(labels.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>(), "{line}");
        for (label, value) in &labels {
            let allowed = known[label].as_ref().is_none_or(|values| values.contains(value));
            assert!(allowed, "{label}=\"{value}\" of {name} is not in docs/metrics.md");
        }
        seen.insert(name.to_owned());
    }
    let documented: BTreeSet<_> = described.keys().cloned().collect();
    assert_eq!(seen, documented);
}

/// Every client is in one state, and in none when it has gone.
#[tokio::test]
async fn metrics_count_clients_by_what_they_do() {
    let pg = pg18();
    let larder =
        Larder::builder().binary(env!("CARGO_BIN_EXE_larder")).origin(pg.url("postgres", "postgres"));
    for mode in ["serve", "bypass"] {
        let larder = larder.clone().arg("--mode").arg(mode).start().await.unwrap();
        let states = async || {
            let (_, text) = larder.get("/metrics").await.unwrap();
            let count = |name: &str| {
                let line = format!("{name} ");
                let found = text.lines().find_map(|known| known.strip_prefix(&line));
                found.unwrap_or_else(|| panic!("{name}\n{text}")).parse::<u64>().unwrap()
            };
            ["login", "active", "idle_in_transaction", "idle", "waiting"]
                .map(|state| count(&format!("larder_clients{{state=\"{state}\"}}")))
        };
        until("nobody", states, |states| *states == [0; 5]).await;
        let mut first = RawClient::superuser(larder.addr()).await.unwrap();
        let mut second = RawClient::superuser(larder.addr()).await.unwrap();
        until("two idle", states, |states| *states == [0, 0, 0, 2, 0]).await;
        first.query("BEGIN").await.unwrap();
        first.query("CREATE TABLE t ()").await.unwrap();
        until("one in a transaction", states, |states| *states == [0, 0, 1, 1, 0]).await;
        let asleep = tokio::spawn(async move {
            second.value("SELECT pg_sleep(60)::text").await.ok();
        });
        until("one waits for the origin", states, |states| *states == [0, 1, 1, 0, 0]).await;
        let silent = tokio::net::TcpStream::connect(larder.addr()).await.unwrap();
        until("one says nothing", states, |states| *states == [1, 1, 1, 0, 0]).await;
        asleep.abort();
        drop((silent, first));
        pg.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()").unwrap();
        until("nobody again", states, |states| *states == [0; 5]).await;
    }
}
