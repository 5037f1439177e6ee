//! Stage one: from text to [`Statement`]s.

use std::panic::{AssertUnwindSafe, catch_unwind};

use larder_core::Bypass;

use crate::facts::{Hints, Statement};
use crate::lexer::{self, Scan};
use crate::{Effect, Kind, hints, relative, utility};

/// Longer texts are not analysed, in bytes: parsing takes about a microsecond for every 20 bytes.
pub(crate) const MAX_TEXT: usize = 32 << 10;

/// Deepest nesting of parentheses and brackets that is handed to the grammar.
const MAX_NESTING: usize = 1000;

/// The statements of a text, and the hints in its comments.
pub(crate) fn parse(sql: &str) -> (Vec<Statement>, Hints) {
    if sql.len() > MAX_TEXT {
        return (vec![unknown(Bypass::TooLong)], Hints::default());
    }
    let scan = lexer::scan(sql);
    let hints = hints::read(sql, &scan);
    if scan.depth > MAX_NESTING {
        return (vec![unknown(Bypass::UnsupportedSyntax)], hints);
    }
    // A net below the grammar's accessors, which hold `expect`s. None is known to be reached: the grammar itself
    // refuses what is not UTF-8.
    let mut statements = catch_unwind(AssertUnwindSafe(|| grammar(sql)))
        .unwrap_or_else(|_| vec![unknown(Bypass::UnsupportedSyntax)]);
    if scan.ambiguous {
        // With standard_conforming_strings = off this may be another statement altogether.
        statements = vec![unknown(Bypass::UnsupportedSyntax)];
    } else if hides_relative_time(sql, &scan) {
        for query in statements.iter_mut().filter_map(|statement| statement.query.as_mut()) {
            query.refuse(Bypass::RelativeTimeLiteral);
        }
    }
    (statements, hints)
}

/// A statement about which nothing is known.
pub(crate) fn unknown(reason: Bypass) -> Statement {
    Statement {
        kind: Kind::Other,
        refusal: Some(reason),
        effect: Effect::unknown(),
        creates: false,
        plans_only: false,
        query: None,
    }
}

fn grammar(sql: &str) -> Vec<Statement> {
    match pg_raw_parse::parse(sql) {
        Ok(tree) => tree.stmts().map(|statement| utility::describe(statement, sql)).collect(),
        // The origin may be of another version than our grammar, so it might accept the text.
        Err(_) => vec![unknown(Bypass::SyntaxError)],
    }
}

/// With standard_conforming_strings = off, '\156ow' is 'now'.
fn hides_relative_time(sql: &str, scan: &Scan) -> bool {
    let mut texts = scan.backslashed.iter().filter_map(|span| sql.as_bytes().get(span.clone()));
    texts.any(relative::mentions_when_unescaped)
}
