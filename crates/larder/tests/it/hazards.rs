//! docs/hazards.md is a promise: every row of its tables names the tests that hold it, and they exist.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Lines such as `| a hazard | what is done | `module::test_name` |`, of tables whose last column is called Test.
struct Row {
    line: usize,
    tests: Vec<String>,
}

fn rows(text: &str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut in_table = false;
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split(" | ").map(str::trim).collect();
        match cells.last() {
            _ if !line.starts_with('|') => in_table = false,
            Some(&"Test") => in_table = true,
            Some(last) if in_table && !last.starts_with("---") => {
                let tests = last.split('`').skip(1).step_by(2).map(str::to_owned).collect();
                rows.push(Row { line: number + 1, tests });
            }
            _ => {}
        }
    }
    rows
}

/// The functions marked as tests, by the modules (file and folder names, inline modules not told apart) they are in.
fn tests_below(folder: &Path, found: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "target" {
                tests_below(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for name in text.lines().filter_map(test_name) {
                found.entry(name.to_owned()).or_default().push(path.clone());
            }
        }
    }
}

/// `async fn name(`, or `name => body;` in a table of tests for both versions of the origin.
fn test_name(line: &str) -> Option<&str> {
    let line = line.trim();
    match line.split_once("fn ") {
        Some(("" | "async " | "pub(crate) async ", rest)) => rest.split(['(', '<']).next(),
        Some(_) => None,
        None => line.split_once(" => ").map(|(name, _)| name),
    }
}

#[test]
fn every_hazard_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("docs/hazards.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 50, "only {} rows were recognised: has the table's shape changed?", rows.len());
    let mut found = BTreeMap::new();
    for folder in ["crates", "testkit"] {
        tests_below(&root.join(folder), &mut found);
    }
    let mut wrong = Vec::new();
    for row in &rows {
        if row.tests.is_empty() {
            wrong.push(format!("docs/hazards.md:{}: no test named", row.line));
        }
        for test in &row.tests {
            let (module, name) = test.rsplit_once("::").unwrap_or(("", test));
            let places = found.get(name).map(Vec::as_slice).unwrap_or_default();
            let module = module.rsplit("::").next().unwrap_or_default();
            let fits = |path: &PathBuf| {
                module.is_empty()
                    || path.iter().any(|part| {
                        part.to_str()
                            .is_some_and(|part| part == module || part.strip_suffix(".rs") == Some(module))
                    })
            };
            if !places.iter().any(fits) {
                wrong.push(format!("docs/hazards.md:{}: there is no test {test}", row.line));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
