//! Where traces go.

use serde_json::{Value as Json, json};

use super::values::{Complaint, Value};

/// A collector that speaks OTLP over HTTP, or none.
#[derive(Debug, Clone)]
pub(crate) struct Collector(Option<String>);

impl Collector {
    /// The address that spans are sent to, with its path.
    pub(crate) fn url(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl Value for Collector {
    fn parse(text: &str) -> Result<Self, Complaint> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self(None));
        }
        let complaint = |what: &str| {
            let mend = "write http://host:4318 of a collector at hand; what leaves the network in TLS, it can forward";
            Err((format!("\"{text}\" {what}"), mend.to_owned()))
        };
        let Some(rest) = text.strip_prefix("http://") else { return complaint("is no http:// address") };
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() || text.contains(|letter: char| letter.is_whitespace() || letter.is_control()) {
            return complaint("names no host");
        }
        // As the specification has it: the path of the protocol, unless another one is named.
        let path = if path.is_empty() { "v1/traces" } else { path };
        Ok(Self(Some(format!("http://{host}/{path}"))))
    }

    fn show(&self) -> Json {
        json!(self.0.as_deref().unwrap_or_default())
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(http://.+)?$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_the_protocols_unless_another_one_is_named() {
        let url = |text: &str| Collector::parse(text).map(|collector| collector.0);
        assert_eq!(url(""), Ok(None));
        for text in ["http://otel:4318", "http://otel:4318/", "http://otel:4318/v1/traces"] {
            assert_eq!(url(text), Ok(Some("http://otel:4318/v1/traces".to_owned())), "{text}");
        }
        assert_eq!(url("http://otel/in"), Ok(Some("http://otel/in".to_owned())));
        for text in ["otel:4318", "https://otel:4318", "http://", "http:///x", "http://o tel"] {
            assert!(url(text).is_err(), "{text}");
        }
    }
}
