//! The log goes to stderr, as text for people or JSON for programs; no secrets, no query parameters.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Format, Log};

/// Installs the subscriber for the whole process; a second call changes nothing.
pub(crate) fn init(log: &Log) {
    // The text was checked when the configuration was read.
    let filter = EnvFilter::try_new(&log.level.0).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match log.format {
        Format::Json => builder.json().flatten_event(true).try_init(),
        Format::Text => {
            let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            builder.with_ansi(color).with_target(false).try_init()
        }
    };
}
