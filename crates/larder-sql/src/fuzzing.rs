//! What the fuzzers check, one function a target. Built for cargo-fuzz, and for the tests that replay what it found
//! (see `fuzz/README.md`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "for tests only")]

use std::sync::LazyLock;

use larder_core::Catalog;
use pg_raw_parse::Node;

use crate::{
    Effect, Judgement, Kind, Parsed, lexer, mentions_relative_time, parse, refused_parameter_type,
    strip_comments,
};

#[allow(dead_code, unreachable_pub, reason = "the catalog of the tests, which use all of it")]
#[path = "../tests/it/catalog.rs"]
mod catalog;

static CATALOG: LazyLock<Catalog> = LazyLock::new(catalog::catalog);
static PATH: LazyLock<Vec<String>> = LazyLock::new(catalog::path);

/// A statement text: what is said of it holds together, and comments do not matter.
pub fn sql(input: &[u8]) {
    mentions_relative_time(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    let judgement = judge(text);
    assert_eq!(judge(text).verdict, judgement.verdict, "judged again");
    check_verdict(text, &judgement);
    check_stripping(text, &judgement);
    check_added_comments(text, &judgement);
    if let Some(oid) = input.first_chunk() {
        let _ = refused_parameter_type(&CATALOG, u32::from_be_bytes(*oid));
    }
}

fn judge(text: &str) -> Judgement {
    let parsed = Parsed::parse(text);
    let judgement = parsed.judge(&CATALOG, &PATH);
    assert_eq!(judgement.kind, parsed.kind());
    judgement
}

/// Only a single SELECT that changes nothing is answered from memory.
fn check_verdict(text: &str, judgement: &Judgement) {
    let Ok(plan) = &judgement.verdict else { return };
    assert_eq!(judgement.kind, Kind::Select);
    assert_eq!(judgement.effect, Effect::default(), "it changes something");
    assert!(plan.relations.is_sorted());
    let tree = pg_raw_parse::parse(text).expect("the grammar refuses it");
    let mut statements = tree.stmts();
    assert!(matches!(statements.next(), Some(Node::SelectStmt(_))));
    assert!(statements.next().is_none());
}

/// What goes into the key is the statement itself: no more than comments are taken out of it.
fn check_stripping(text: &str, judgement: &Judgement) {
    let stripped = strip_comments(text);
    assert_eq!(strip_comments(&stripped), stripped, "stripped again");
    let Ok(plan) = &judgement.verdict else { return };
    let after = judge(&stripped);
    assert_eq!(after.verdict.map(|plan| plan.relations).as_ref(), Ok(&plan.relations));
    let (before, after) = (pg_raw_parse::parse(text).unwrap(), pg_raw_parse::parse(&stripped).unwrap());
    let shape = |tree: &pg_raw_parse::ParseResult| {
        tree.stmts()
            .map(|node| pg_raw_parse::deparse(node).map(|text| text.as_str().to_owned()).ok())
            .collect::<Vec<_>>()
    };
    assert_eq!(shape(&before), shape(&after), "another statement");
}

/// A comment before and one behind say nothing about the statement between them.
fn check_added_comments(text: &str, judgement: &Judgement) {
    const ADDED: usize = 32;
    if text.len() + ADDED > parse::MAX_TEXT || lexer::scan(text).unterminated {
        return;
    }
    let with = judge(&format!("/* a /* b */ */{text}\n-- c"));
    assert_eq!(with.verdict, judgement.verdict);
    assert_eq!(with.kind, judgement.kind);
    assert_eq!(with.effect, judgement.effect);
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn inputs_of_sql() {
        // As the threads that parse have it.
        let big = std::thread::Builder::new().stack_size(32 << 20);
        big.spawn(|| replay("sql", super::sql)).unwrap().join().unwrap();
    }
}
