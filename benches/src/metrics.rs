//! Larder's own word on how it answered: a scrape of its metrics before and after a run.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The admin server answers from memory; longer than this is a failure.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Statements so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Queries {
    /// Answered from memory.
    hits: f64,
    /// All.
    all: f64,
    /// Those not answered from memory, by why: `bypass no_lease`, `miss expired`, ...
    reasons: BTreeMap<String, f64>,
}

impl Queries {
    /// Reads `/metrics`.
    pub(crate) fn scrape(admin: u16) -> Result<Self> {
        Ok(Self::parse(&get(admin, "/metrics")?))
    }

    /// What came in between.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        self.hits -= earlier.hits;
        self.all -= earlier.all;
        for (reason, count) in &mut self.reasons {
            *count -= earlier.reasons.get(reason).copied().unwrap_or(0.0);
        }
        self.reasons.retain(|_, count| *count > 0.0);
        self
    }

    /// Answered from memory.
    pub(crate) fn hits(&self) -> f64 {
        self.hits
    }

    /// The share of hits; nothing if there was nothing.
    pub(crate) fn hit_ratio(&self) -> Option<f64> {
        (self.all > 0.0).then(|| self.hits() / self.all)
    }

    /// Why statements were not answered from memory, with their numbers.
    pub(crate) fn into_reasons(self) -> BTreeMap<String, f64> {
        self.reasons
    }

    fn parse(text: &str) -> Self {
        let mut queries = Self::default();
        for (labels, count) in series(text, "larder_queries_total{") {
            queries.all += count;
            if labels.contains("outcome=\"hit\"") {
                queries.hits += count;
            }
        }
        for (kind, metric) in [("bypass", "larder_bypass_total{"), ("miss", "larder_miss_total{")] {
            for (labels, count) in series(text, metric) {
                let reason = labels.trim_start_matches("reason=").trim_matches('"');
                queries.reasons.insert(format!("{kind} {reason}"), count);
            }
        }
        queries
    }
}

/// Labels and values of a metric's series.
fn series<'a>(text: &'a str, metric: &str) -> impl Iterator<Item = (&'a str, f64)> {
    let lines = text.lines().filter_map(move |line| line.strip_prefix(metric)?.rsplit_once("} "));
    lines.map(|(labels, value)| (labels, value.trim().parse().unwrap_or(0.0)))
}

/// The value of a metric without labels.
pub(crate) fn gauge(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The body of a successful GET.
pub(crate) fn get(port: u16, path: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream =
        TcpStream::connect_timeout(&address, TIMEOUT).with_context(|| format!("admin at {address}"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0: the body ends with the connection, in one piece.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: larder\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("{path}: not an HTTP answer") };
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!("{path}: status {status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_told_from_the_rest_and_the_rest_by_reason() {
        let text = "# TYPE larder_queries_total counter\n\
            larder_queries_total{outcome=\"hit\",tier=\"l1\"} 90\n\
            larder_queries_total{outcome=\"miss\",tier=\"origin\"} 10\n\
            larder_miss_total{reason=\"absent\"} 10\n\
            larder_bypass_total{reason=\"hint\"} 5\n";
        let later = Queries::parse(text);
        let earlier = Queries { hits: 40.0, all: 50.0, reasons: BTreeMap::new() };
        assert_eq!(later.hit_ratio(), Some(0.9));
        assert_eq!(later.clone().since(&earlier).hit_ratio(), Some(1.0));
        assert_eq!(later.clone().since(&later).hit_ratio(), None);
        let reasons: Vec<_> = later.since(&earlier).into_reasons().into_iter().collect();
        assert_eq!(reasons, [("bypass hint".to_owned(), 5.0), ("miss absent".to_owned(), 10.0)]);
    }

    #[test]
    fn gauges_are_found_by_their_whole_name() {
        let text = "larder_feed_connected_other 3\nlarder_feed_connected 1\n";
        assert_eq!(gauge(text, "larder_feed_connected"), Some(1.0));
        assert_eq!(gauge(text, "larder_feed"), None);
    }
}
