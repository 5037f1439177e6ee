//! The differences that are known, each with its reason.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// `expected.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    #[serde(default)]
    pub(crate) difference: Vec<Difference>,
}

/// One or several tests that end otherwise through Larder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Difference {
    pub(crate) suite: String,
    /// Where: `serve` or `bypass`; both if not said.
    pub(crate) side: Option<String>,
    /// The tests' names. One that ends in `*` stands for all that begin so.
    pub(crate) tests: Vec<String>,
    pub(crate) reason: String,
    /// It does not differ in every run.
    #[serde(default)]
    pub(crate) sometimes: bool,
}

impl Difference {
    pub(crate) fn is_about(&self, suite: &str, side: &str) -> bool {
        self.suite == suite && self.side.as_deref().is_none_or(|known| known == side)
    }

    pub(crate) fn names(&self, test: &str) -> bool {
        self.tests.iter().any(|known| match known.strip_suffix('*') {
            Some(prefix) => test.starts_with(prefix),
            None => test == known,
        })
    }
}

impl Expected {
    pub(crate) fn read() -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected.toml");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }
}
