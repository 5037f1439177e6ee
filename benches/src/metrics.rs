//! Larder's own word on how it answered: a scrape of its metrics before and after a run.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The admin server answers from memory; longer than this is a failure.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Statements so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Queries {
    /// Answered from memory.
    pub(crate) hits: f64,
    /// All.
    pub(crate) all: f64,
}

impl Queries {
    /// Reads `/metrics`.
    pub(crate) fn scrape(admin: u16) -> Result<Self> {
        Ok(Self::parse(&get(admin, "/metrics")?))
    }

    /// The share of hits among the statements since `earlier`; nothing if there were none.
    pub(crate) fn hit_ratio_since(self, earlier: Self) -> Option<f64> {
        let all = self.all - earlier.all;
        (all > 0.0).then(|| (self.hits - earlier.hits) / all)
    }

    fn parse(text: &str) -> Self {
        let series =
            text.lines().filter_map(|line| line.strip_prefix("larder_queries_total{")?.rsplit_once("} "));
        series.fold(Self::default(), |sum, (labels, value)| {
            let value: f64 = value.trim().parse().unwrap_or(0.0);
            let hits = if labels.contains("outcome=\"hit\"") { value } else { 0.0 };
            Self { hits: sum.hits + hits, all: sum.all + value }
        })
    }
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
    fn hits_and_all_are_summed_over_tiers() {
        let text = "# TYPE larder_queries_total counter\n\
            larder_queries_total{outcome=\"hit\",tier=\"l1\"} 90\n\
            larder_queries_total{outcome=\"miss\",tier=\"origin\"} 10\n\
            larder_bypass_total{reason=\"hint\"} 5\n";
        let later = Queries::parse(text);
        assert_eq!(later, Queries { hits: 90.0, all: 100.0 });
        assert_eq!(later.hit_ratio_since(Queries { hits: 40.0, all: 50.0 }), Some(1.0));
        assert_eq!(later.hit_ratio_since(later), None);
    }

    #[test]
    fn gauges_are_found_by_their_whole_name() {
        let text = "larder_feed_connected_other 3\nlarder_feed_connected 1\n";
        assert_eq!(gauge(text, "larder_feed_connected"), Some(1.0));
        assert_eq!(gauge(text, "larder_feed"), None);
    }
}
