//! `larder purge`: forget answers, in a running Larder.

use std::process::ExitCode;

use super::admin::AdminClient;
use crate::cli::print_text;
use crate::config::Effective;
use crate::serve::block_on;

/// Carries out one PURGE statement.
pub(crate) fn purge(effective: &Effective, statement: &str) -> anyhow::Result<ExitCode> {
    let answer = block_on(async { AdminClient::connect(&effective.config).await?.run(statement).await })?;
    let plural = if answer.count == 1 { "" } else { "s" };
    print_text(&format!("{} answer{plural} forgotten\n", answer.count))?;
    Ok(ExitCode::SUCCESS)
}
