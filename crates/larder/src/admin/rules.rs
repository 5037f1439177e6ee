//! What may be cached, as operators see and decide it: `SHOW RULES`, `DENY` and `ALLOW`.

use std::time::SystemTime;

use larder_core::Bypass;
use larder_proxy::{Denied, Refusal, Reply, Rule, Target};
use serde_json::{Value as Json, json};

use super::console::{done, split, syntax, unquoted};
use super::views::Table;
use crate::events::Kind;
use crate::serve::Shared;

const COLUMNS: [&str; 6] = ["rule", "cache", "ttl_seconds", "reason", "since", "query"];

/// In the order in which they are asked: what is switched off, then the configuration's.
pub(super) fn view(shared: &Shared) -> Table {
    let rules = shared.proxy.rules();
    let denied = rules.denied();
    let queries = if denied.is_empty() { Vec::new() } else { shared.proxy.queries() };
    let text = |target: &Target| {
        let known = queries.iter().find(|query| *target == Target::Query(query.digest.fingerprint));
        known.map(|query| query.digest.text.clone())
    };
    let denial = |Denied { target, why, since }: &Denied| {
        let since = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        [
            json!(target.to_string()),
            json!(false),
            Json::Null,
            json!(why.name()),
            json!(since),
            json!(text(target)),
        ]
    };
    let rule = |rule: &Rule| {
        let reason = (!rule.cache).then(|| Bypass::ConfigRule.name());
        let ttl = rule.ttl.map(|ttl| ttl.as_secs_f64());
        [json!(rule.when.to_string()), json!(rule.cache), json!(ttl), json!(reason), Json::Null, Json::Null]
    };
    let configured = rules.configured();
    Table::new(COLUMNS, denied.iter().map(denial).chain(configured.iter().map(rule)))
}

/// `DENY QUERY 'fingerprint'`, `DENY TABLE name`.
pub(super) fn deny(shared: &Shared, rest: &str) -> Result<Reply, Refusal> {
    let target =
        target(shared, rest).ok_or_else(|| syntax("DENY QUERY '<fingerprint>' or DENY TABLE <name>"))??;
    let new = shared.proxy.deny(target.clone(), Bypass::Denied).map_err(|error| Refusal {
        sqlstate: "54000",
        message: error.to_string(),
        hint: Some("ALLOW ALL, or set [cache] mode.".to_owned()),
    })?;
    if new {
        tracing::info!(%target, "caching switched off by an operator");
        shared.events.note(Kind::Rules, format!("Caching of {target} switched off by an operator"));
    }
    Ok(done(format!("DENY {}", u8::from(new))))
}

/// `ALLOW QUERY 'fingerprint'`, `ALLOW TABLE name`, `ALLOW ALL`.
pub(super) fn allow(shared: &Shared, rest: &str) -> Result<Reply, Refusal> {
    let allowed = if rest.eq_ignore_ascii_case("all") {
        let denied = shared.proxy.rules().denied();
        denied.into_iter().filter(|denied| shared.proxy.allow(&denied.target)).count()
    } else {
        let expected = "ALLOW QUERY '<fingerprint>', ALLOW TABLE <name> or ALLOW ALL";
        // A table may have gone since it was denied, so its name is taken as it stands if it is nobody's.
        let target = match target(shared, rest) {
            Some(Err(_)) if split(rest).0.eq_ignore_ascii_case("table") => {
                Target::Table(unquoted(split(rest).1))
            }
            Some(found) => found?,
            None => return Err(syntax(expected)),
        };
        usize::from(shared.proxy.allow(&target))
    };
    if allowed > 0 {
        tracing::info!(what = rest, allowed, "caching switched on again by an operator");
        shared.events.note(Kind::Rules, format!("ALLOW {rest}: caching switched on again by an operator"));
    }
    Ok(done(format!("ALLOW {allowed}")))
}

/// `None`: neither a query nor a table is named.
fn target(shared: &Shared, rest: &str) -> Option<Result<Target, Refusal>> {
    let (kind, name) = split(rest);
    let name = unquoted(name);
    match kind.to_ascii_uppercase().as_str() {
        "QUERY" => Some(name.parse().map(Target::Query).map_err(|message| Refusal {
            sqlstate: "22023",
            message,
            hint: Some("SHOW QUERIES lists them.".to_owned()),
        })),
        "TABLE" if !name.is_empty() => {
            let full = shared.relation_name(&name);
            Some(full.map(Target::Table).ok_or_else(|| no_relation(&name)))
        }
        _ => None,
    }
}

fn no_relation(name: &str) -> Refusal {
    Refusal {
        sqlstate: "42P01",
        message: format!("relation \"{name}\" does not exist"),
        hint: Some("Name it with its schema: public.orders".to_owned()),
    }
}
