//! `larder explain`: the judgement that the client path would make, in words.

use std::process::ExitCode;

use anyhow::Context as _;
use larder_core::catalog::{Column, RelationKind};
use larder_core::{Catalog, relation_tag};
use larder_sql::{Effect, Footprint, Judgement, Parsed, ReadPlan, RowSet, Settings};
use serde_json::{Value as Json, json};

use crate::cli::print_text;
use crate::config::{Config, Effective, Value as _};
use crate::serve::{block_on, feed_config};

/// What the key of an answer holds besides the statement (see larder-proxy's `key` and `facts`).
const KEY: &str = "the text without comments, types, formats and values of parameters, the protocol, the database, \
                   the roles, and every setting that can change the answer";

/// Why a difference between two answers to it would prove nothing.
const VARIES: &str = "PostgreSQL itself may answer in several ways (LIMIT, DISTINCT ON, windows, array_agg, sums of \
                      floating-point numbers): a difference that verify finds is not taken for a mistake";

/// Before what would mend it.
const BLURRED: &str = "the log does not have old values of these columns, so an update of any row ends the answer; to have it end \
    with its own rows only:";

/// Says whether the statement would be answered from memory, on what its answer depends, and what it may change.
pub(crate) fn explain(effective: &Effective, sql: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    effective.require_origin()?;
    let (catalog, path) = block_on(read_origin(&effective.config))?;
    let judgement = super::judged_apart(|| Parsed::parse(sql).judge(&catalog, &path))?;
    let text = if as_json {
        format!("{:#}\n", as_document(&judgement, &catalog, &path))
    } else {
        let longest = effective.config.cache.ttl.show();
        let lines = in_words(&judgement, &catalog, &path, longest.as_str().unwrap_or_default()).into_iter();
        lines.map(|(name, value)| format!("{name:<13}{value}\n")).collect()
    };
    print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The catalog, and the search path of Larder's own account.
async fn read_origin(config: &Config) -> anyhow::Result<(Catalog, Vec<String>)> {
    let feed = feed_config(config).map_err(|finding| super::stated(&[finding]))?;
    let catalog = larder_feed::load_catalog(&feed).await.map_err(|findings| super::stated(&findings))?;
    let client = super::connect(config).await?;
    let row = client.query_one("SELECT /* by larder */ current_schemas(true)::text[]", &[]).await?;
    Ok((catalog, row.try_get(0).context("current_schemas() is no list of names")?))
}

/// The judgement in words, a line each; `ttl` is the longest life of an answer. To be called on a thread with a worker's
/// stack.
pub(crate) fn explained(sql: &str, catalog: &Catalog, path: &[String], ttl: &str) -> Vec<(String, String)> {
    let mut lines = in_words(&Parsed::parse(sql).judge(catalog, path), catalog, path, ttl);
    lines.push(("fingerprint".to_owned(), larder_sql::digest(sql).fingerprint.to_string()));
    lines
}

fn in_words(judgement: &Judgement, catalog: &Catalog, path: &[String], ttl: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| lines.push((name.to_owned(), value.to_owned()));
    match &judgement.verdict {
        Ok(plan) => {
            line("verdict", "cacheable");
            let whole = plan.whole.iter().map(|oid| name(catalog, *oid));
            let rows =
                plan.rows.iter().map(|rows| format!("rows of {} with {rows}", name(catalog, rows.relation)));
            let depends: Vec<_> = whole.chain(rows).collect();
            let depends = if depends.is_empty() { "on no relation".to_owned() } else { depends.join(", ") };
            line("depends", &depends);
            let tags = tags(plan);
            line(
                "tags",
                &if tags.is_empty() { "none: only the ttl ends it".to_owned() } else { tags.join(", ") },
            );
            let blurred = blurred(plan, catalog);
            if !blurred.is_empty() {
                line("precision", &format!("{BLURRED} {}", blurred.join("; ")));
            }
            match plan.ttl {
                Some(ttl) => line("ttl", &format!("{ttl:?}, by its comment")),
                None => line(
                    "ttl",
                    &format!("{ttl} at most, by [cache] ttl; a change of what it depends on ends it before"),
                ),
            }
            line("key", KEY);
            if !plan.settings.is_empty() {
                line("settings", &format!("in the key, too: {}", plan.settings.join(", ")));
            }
            if plan.varies {
                line("varies", VARIES);
            }
        }
        Err(reason) => {
            line("verdict", &format!("not cacheable: {reason}"));
            line("because", reason.explanation());
            line("what to do", reason.remedy());
        }
    }
    line("may change", &changes(&judgement.effect, catalog).join(", "));
    line("judged with", &format!("search_path {}", path.join(", ")));
    lines
}

fn as_document(judgement: &Judgement, catalog: &Catalog, path: &[String]) -> Json {
    let plan = judgement.verdict.as_ref().ok();
    let reason = judgement.verdict.as_ref().err();
    let relation = |oid: &u32| json!({ "oid": oid, "name": name(catalog, *oid) });
    json!({
        "cacheable": plan.is_some(),
        "relations": plan.map(|plan| plan.relations.iter().map(relation).collect::<Vec<_>>()),
        "tags": plan.map(tags),
        "key": plan.map(|_| KEY),
        "settings": plan.map(|plan| &plan.settings),
        "varies": plan.map(|plan| plan.varies),
        "ttl_seconds": plan.and_then(|plan| plan.ttl).map(|ttl| ttl.as_secs_f64()),
        "reason": reason.map(|reason| reason.name()),
        "explanation": reason.map(|reason| reason.explanation()),
        "remedy": reason.map(|reason| reason.remedy()),
        "may_change": changes(&judgement.effect, catalog),
        "search_path": path,
    })
}

/// What ends the answer.
fn tags(plan: &ReadPlan) -> Vec<String> {
    let whole = plan.whole.iter().map(|oid| relation_tag(*oid));
    let rows = plan.rows.iter().map(|rows| format!("row:{}:{rows}", rows.relation));
    whole.chain(rows).collect()
}

/// What would have the log tell the old values of the columns that tell rows apart, where it does not.
fn blurred(plan: &ReadPlan, catalog: &Catalog) -> Vec<String> {
    let is_blurred = |rows: &&RowSet| {
        catalog.relations.get(&rows.relation).is_some_and(|relation| {
            let named = |column: &Column| rows.columns.iter().any(|known| known.name == column.name);
            // Of a partitioned table the partitions' count.
            relation.kind == RelationKind::Table
                && !relation.logs_old_rows
                && relation.columns.iter().any(|column| named(column) && !column.in_identity)
        })
    };
    let mut advice: Vec<String> = plan
        .rows
        .iter()
        .filter(is_blurred)
        .map(|rows| format!("ALTER TABLE {} REPLICA IDENTITY FULL", name(catalog, rows.relation)))
        .collect();
    advice.dedup();
    advice
}

fn name(catalog: &Catalog, oid: u32) -> String {
    match catalog.relations.get(&oid) {
        Some(relation) => format!("{}.{}", relation.schema, relation.name),
        None => format!("oid {oid}"),
    }
}

fn changes(effect: &Effect, catalog: &Catalog) -> Vec<String> {
    let mut changes = match &effect.writes {
        Footprint::Nothing => Vec::new(),
        Footprint::Relations(oids) => {
            oids.iter().map(|oid| format!("rows of {}", name(catalog, *oid))).collect()
        }
        Footprint::Everything => vec!["rows of anything".to_owned()],
    };
    let more = [
        (effect.settings == Settings::Custom, "custom settings of the session"),
        (effect.settings == Settings::Anything, "settings of the session"),
        (effect.catalog, "the catalog"),
        (effect.temporary, "temporary objects"),
        (effect.lock, "locks held"),
    ];
    changes.extend(more.iter().filter(|(may, _)| *may).map(|(_, what)| (*what).to_owned()));
    if changes.is_empty() {
        changes.push("nothing".to_owned());
    }
    changes
}
