use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::print_text;
use crate::config::Effective;
use crate::serve::block_on;

/// `larder setup`: the optional event triggers. `--print` shows the SQL, `--drop` undoes it.
pub(crate) fn setup(effective: &Effective, print: bool, drop: bool) -> anyhow::Result<ExitCode> {
    let sql = if drop { larder_feed::drop_sql() } else { larder_feed::setup_sql() };
    if print {
        print_text(sql)?;
        return Ok(ExitCode::SUCCESS);
    }
    effective.require_origin()?;
    block_on(async {
        let client = super::connect(&effective.config).await?;
        client.batch_execute(sql).await.context(
            "the origin refused (event triggers need a superuser, or on a managed service its substitute); \
             to run the SQL with another account: larder setup --print | psql ...",
        )
    })?;
    let what = if drop { "removed" } else { "installed" };
    print_text(&format!("ok: event triggers {what} on {}\n", effective.config.control()))?;
    Ok(ExitCode::SUCCESS)
}
