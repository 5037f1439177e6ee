//! The three views of `larder config`: TOML with the source of each value, JSON, and the JSON schema.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::{Effective, KEYS, Key, Source, rules};

/// TOML that can be used as a configuration file (but for masked secrets), the source of each value in a comment.
pub(crate) fn toml(effective: &Effective) -> String {
    let mut out = String::from("# Effective configuration; flag > environment > file > default.\n");
    let mut section = "";
    for (key, value, source) in values(effective) {
        if key.section != section {
            section = key.section;
            let _ = write!(out, "\n[{section}]\n");
        }
        let line = format!("{} = {}", key.name, literal(&value));
        let _ = writeln!(out, "{line:<44} # {source}");
    }
    out.extend(effective.rules.iter().map(rules::toml));
    out
}

/// Each value with its source.
pub(crate) fn json(effective: &Effective) -> Json {
    let mut sections = Map::new();
    for (key, value, source) in values(effective) {
        let section = sections.entry(key.section).or_insert_with(|| json!({}));
        if let Json::Object(section) = section {
            section.insert(key.name.to_owned(), json!({ "value": value, "source": source.to_string() }));
        }
    }
    if !effective.rules.is_empty() {
        sections.insert("rule".to_owned(), effective.rules.iter().map(rules::json).collect());
    }
    Json::Object(sections)
}

/// JSON schema of the configuration file, from the same table of keys.
pub(crate) fn schema() -> Json {
    let mut sections = Map::new();
    for key in KEYS {
        let section = sections
            .entry(key.section)
            .or_insert_with(|| json!({ "type": "object", "additionalProperties": false, "properties": {} }));
        let mut property = (key.schema)();
        if let Some(property) = property.as_object_mut() {
            property.insert("description".to_owned(), json!(key.doc));
            property.insert("default".to_owned(), default(key));
            property.insert("x-environment".to_owned(), json!(key.env()));
            if !key.flag.is_empty() {
                property.insert("x-flag".to_owned(), json!(format!("--{}", key.flag)));
            }
        }
        if let Some(properties) = section.get_mut("properties").and_then(Json::as_object_mut) {
            properties.insert(key.name.to_owned(), property);
        }
    }
    sections.insert("rule".to_owned(), rules::schema());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "larder.toml",
        "type": "object",
        "additionalProperties": false,
        "properties": sections,
    })
}

fn values(effective: &Effective) -> impl Iterator<Item = (&'static Key, Json, &Source)> {
    let values = KEYS.iter().zip(effective.config.shown()).zip(&effective.sources);
    values.map(|((key, value), source)| (key, value, source))
}

fn default(key: &Key) -> Json {
    let bare =
        matches!((key.schema)().get("type").and_then(Json::as_str), Some("integer" | "number" | "boolean"));
    if bare { key.default.parse().unwrap_or(Json::Null) } else { json!(key.default) }
}

fn literal(value: &Json) -> String {
    match value {
        Json::String(text) => toml::Value::String(text.clone()).to_string(),
        other => other.to_string(),
    }
}
