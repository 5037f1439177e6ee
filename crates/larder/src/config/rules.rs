//! `[[rule]]`: what may be cached and for how long, by table, statement, role or database. In the file only.

use larder_proxy::{Condition, Rule};
use serde_json::{Value as Json, json};
use toml::de::{DeTable, DeValue};

use super::Source;
use super::file::scalar;
use super::layers::nearest;
use super::values::{Complaint, Span, Value as _};

/// A rule, and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// What it says.
    pub(crate) rule: Rule,
    /// Its place in the file.
    pub(crate) source: Source,
}

const CONDITIONS: [&str; 4] = ["table", "query", "role", "database"];
const FORM: &str = "write match = { table = \"orders\" }, or query, role or database instead of table";

/// Reads one `[[rule]]`.
pub(super) fn parse(rule: &DeTable<'_>) -> Result<Rule, Complaint> {
    let (mut when, mut cache, mut ttl) = (None, None, None);
    for (key, value) in rule.iter() {
        let value = value.get_ref();
        match &**key.get_ref() {
            "match" => when = Some(condition(value)?),
            "cache" => cache = Some(boolean(value)?),
            "ttl" => ttl = Some(Span::parse(&scalar("rule.ttl", value)?).map_err(within("ttl"))?.0),
            other => {
                let mend = nearest(other, ["match", "cache", "ttl"].into_iter());
                let mend = mend.map_or_else(|| "its keys are match, cache and ttl".to_owned(), did_you_mean);
                return Err((format!("unknown key \"rule.{other}\""), mend));
            }
        }
    }
    let Some(when) = when else { return Err(("[[rule]] has no match".to_owned(), FORM.to_owned())) };
    match (cache, ttl) {
        (Some(false), Some(_)) => Err((
            "[[rule]] has a ttl for what is not cached".to_owned(),
            "leave out ttl, or cache = false".to_owned(),
        )),
        (None, None) => {
            Err(("[[rule]] decides nothing".to_owned(), "add cache = false, or a ttl".to_owned()))
        }
        _ => Ok(Rule { when, cache: cache.unwrap_or(true), ttl }),
    }
}

fn condition(value: &DeValue<'_>) -> Result<Condition, Complaint> {
    let table = value
        .as_table()
        .ok_or_else(|| (format!("rule.match: {} is not a condition", value.type_str()), FORM.to_owned()))?;
    let mut conditions = table.iter();
    let (Some((key, value)), None) = (conditions.next(), conditions.next()) else {
        return Err(("rule.match has not one condition".to_owned(), FORM.to_owned()));
    };
    let name = &**key.get_ref();
    if !CONDITIONS.contains(&name) {
        let mend = nearest(name, CONDITIONS.into_iter()).map_or_else(|| FORM.to_owned(), did_you_mean);
        return Err((format!("unknown key \"rule.match.{name}\""), mend));
    }
    let text = match value.get_ref() {
        DeValue::String(text) if !text.trim().is_empty() => text.trim().to_owned(),
        _ => return Err((format!("rule.match.{name} is not a name"), format!("write {name} = \"...\""))),
    };
    Ok(match name {
        "table" => Condition::Table(text),
        "role" => Condition::Role(text),
        "database" => Condition::Database(text),
        _ => Condition::Query(text.parse().map_err(|what| {
            let mend = "SHOW QUERIES and `larder top` show statements with their fingerprints";
            (format!("rule.match.query: {what}"), mend.to_owned())
        })?),
    })
}

fn boolean(value: &DeValue<'_>) -> Result<bool, Complaint> {
    value
        .as_bool()
        .ok_or_else(|| ("rule.cache is neither true nor false".to_owned(), "write true or false".to_owned()))
}

fn within(key: &str) -> impl Fn(Complaint) -> Complaint {
    move |(what, mend)| (format!("rule.{key}: {what}"), mend)
}

fn did_you_mean(near: &str) -> String {
    format!("did you mean \"{near}\"?")
}

/// As it would be written, with its place.
pub(super) fn toml(written: &Written) -> String {
    let rule = &written.rule;
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let (key, name) = condition_parts(&rule.when);
    let mut out = format!(
        "\n[[rule]] # {}\nmatch = {{ {key} = {} }}\ncache = {}\n",
        written.source,
        quoted(&name),
        rule.cache
    );
    if let Some(ttl) = rule.ttl {
        out += &format!("ttl = {}\n", quoted(Span(ttl).show().as_str().unwrap_or_default()));
    }
    out
}

/// The same as JSON.
pub(super) fn json(written: &Written) -> Json {
    let rule = &written.rule;
    let (key, name) = condition_parts(&rule.when);
    json!({
        "match": { key: name },
        "cache": rule.cache,
        "ttl": rule.ttl.map(|ttl| Span(ttl).show()),
        "source": written.source.to_string(),
    })
}

fn condition_parts(condition: &Condition) -> (&'static str, String) {
    match condition {
        Condition::Table(name) => ("table", name.clone()),
        Condition::Query(fingerprint) => ("query", fingerprint.to_string()),
        Condition::Role(name) => ("role", name.clone()),
        Condition::Database(name) => ("database", name.clone()),
    }
}

/// JSON schema of the list.
pub(super) fn schema() -> Json {
    let text = || json!({ "type": "string", "minLength": 1 });
    let mut conditions: serde_json::Map<_, _> =
        CONDITIONS.iter().map(|name| ((*name).to_owned(), text())).collect();
    conditions.insert("query".to_owned(), json!({ "type": "string", "pattern": "^[0-9a-fA-F]{16}$" }));
    json!({
        "type": "array",
        "description": "What may be cached and for how long; the first rule that applies decides.",
        "items": {
            "type": "object",
            "additionalProperties": false,
            "required": ["match"],
            "anyOf": [{ "required": ["cache"] }, { "required": ["ttl"] }],
            "properties": {
                "match": {
                    "type": "object",
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                    "properties": conditions,
                },
                "cache": { "type": "boolean", "default": true },
                "ttl": Span::schema(),
            },
        },
    })
}
