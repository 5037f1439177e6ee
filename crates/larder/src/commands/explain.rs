use std::process::ExitCode;

use crate::config::Effective;

/// `larder explain`.
pub(crate) fn explain(effective: &Effective, _sql: &str, _as_json: bool) -> anyhow::Result<ExitCode> {
    effective.require_origin()?;
    anyhow::bail!("explain needs the catalog loader");
}
