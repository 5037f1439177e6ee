//! `larder advise`: what a running database would gain from Larder, by its own statistics. Nothing is in anybody's path.

mod read;
mod show;
mod weigh;

use std::process::ExitCode;

use anyhow::Context as _;

use super::judged_apart;
use crate::cli::print_text;
use crate::config::Effective;
use crate::serve::{block_on, feed_config};

/// Reads the statistics, judges every statement as the client path would, and says what that comes to.
///
/// `search_path`: of the clients, if it is not that of Larder's account.
pub(crate) fn advise(
    effective: &Effective,
    search_path: Option<&str>,
    rows: usize,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    effective.require_origin()?;
    let config = &effective.config;
    let (catalog, path, observed) = block_on(async {
        let feed = feed_config(config).map_err(|finding| super::stated(&[finding]))?;
        let catalog = larder_feed::load_catalog(&feed).await.map_err(|findings| super::stated(&findings))?;
        let client = super::connect(config).await?;
        if let Some(wanted) = search_path {
            let sql = "SELECT /* by larder */ set_config('search_path', $1, false)";
            client.execute(sql, &[&wanted]).await.context("--search-path is none")?;
        }
        let row = client.query_one("SELECT /* by larder */ current_schemas(true)::text[]", &[]).await?;
        let path: Vec<String> = row.try_get(0).context("current_schemas() is no list of names")?;
        anyhow::Ok((catalog, path, read::observe(&client).await?))
    })?;
    let advice = judged_apart(|| weigh::weigh(observed, &catalog, path))?;
    let text = if as_json { format!("{:#}\n", show::json(&advice)) } else { show::text(&advice, rows) };
    print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}
