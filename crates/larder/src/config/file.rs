use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::KEYS;
use super::layers::{Source, check_path};
use super::problem::Problem;
use super::rules::{self, Written};

/// A value as text, the path of its key, and the line it stands on.
pub(super) type Line = (String, String, usize);

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) lines: Vec<Line>,
    pub(super) rules: Vec<Written>,
}

/// Reads a file. What is wrong with it goes to `problems`, with line numbers.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Contents {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, problems),
        Err(error) => {
            let what = format!("{} cannot be read: {error}", path.display());
            problems.push(Problem {
                place: None,
                what,
                mend: "name a readable file with --config".to_owned(),
            });
            Contents::default()
        }
    }
}

/// Reads what a file of that name holds.
pub(super) fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Contents {
    let problem = |line: usize, what: String, mend: String| Problem {
        place: Some(Source::File(path.to_owned(), line)),
        what,
        mend,
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let mend = "the file is in TOML: https://toml.io".to_owned();
            problems.push(problem(line, error.message().to_owned(), mend));
            return Contents::default();
        }
    };
    let mut found = Contents::default();
    for (section, value) in table.get_ref().iter() {
        if let (Some(tables), "rule") = (value.get_ref().as_array(), &**section.get_ref()) {
            for table in tables.iter() {
                let line = line_of(text, table.span().start);
                let place = Source::File(path.to_owned(), line);
                let rule = table.get_ref().as_table().ok_or_else(|| {
                    ("\"rule\" is a list of sections".to_owned(), "begin each rule with [[rule]]".to_owned())
                });
                match rule.and_then(rules::parse) {
                    Ok(rule) => found.rules.push(Written { rule, source: place }),
                    Err((what, mend)) => problems.push(problem(line, what, mend)),
                }
            }
            continue;
        }
        let Some(keys) = value.get_ref().as_table() else {
            let line = line_of(text, section.span().start);
            let (what, mend) = match check_path(section.get_ref()) {
                Err(complaint) => complaint,
                Ok(()) => (format!("\"{}\" is outside a section", section.get_ref()), String::new()),
            };
            problems.push(problem(line, what, mend));
            continue;
        };
        for (key, value) in keys.iter() {
            let line = line_of(text, key.span().start);
            let path = format!("{}.{}", section.get_ref(), key.get_ref());
            let checked = check_path(&path).and_then(|()| scalar(&path, value.get_ref()));
            match checked {
                Ok(text) => found.lines.push((path, text, line)),
                Err((what, mend)) => problems.push(problem(line, what, mend)),
            }
        }
    }
    found
}

pub(super) fn scalar(path: &str, value: &DeValue<'_>) -> Result<String, (String, String)> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            Ok(parsed.map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()))
        }
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(yes) => Ok(yes.to_string()),
        DeValue::Array(items) if is_list(path) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| scalar(path, item.get_ref())).collect();
            Ok(items?.join(", "))
        }
        other => Err((
            format!("{path}: {} is not a single value", other.type_str()),
            "write one string or number".to_owned(),
        )),
    }
}

/// Whether a key takes several values: its schema says so.
fn is_list(path: &str) -> bool {
    let key = KEYS.iter().find(|key| key.path() == path);
    key.is_some_and(|key| (key.schema)().to_string().contains("\"array\""))
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
