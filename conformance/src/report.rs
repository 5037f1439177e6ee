//! The table at the end.

use std::fmt;

use crate::expected::Expected;
use crate::results::Status;
use crate::stage::{FromMemory, Side};
use crate::suite::{Outcome, Suite};

/// What all runs together came to.
#[derive(Debug)]
pub(crate) struct Report {
    expected: Expected,
    /// Every test of the suites was run, so what was expected to differ had the chance to.
    whole: bool,
    rows: Vec<Row>,
    /// For people: one line for each difference.
    notes: Vec<String>,
    unexpected: usize,
}

/// One suite on one side.
#[derive(Debug)]
struct Row {
    suite: String,
    side: String,
    tests: usize,
    counts: [usize; 3],
    seconds: u64,
    from_memory: Option<FromMemory>,
    /// Not there for the side that the others are compared with.
    differences: Option<usize>,
}

impl Report {
    pub(crate) fn new(expected: Expected, whole: bool) -> Self {
        Self { expected, whole, rows: vec![], notes: vec![], unexpected: 0 }
    }

    /// Adds a suite's runs; the first is what the others are compared with.
    pub(crate) fn add(&mut self, suite: Suite, sides: &[(Side, Outcome)]) {
        let Some((_, base)) = sides.first() else { return };
        for (index, (side, outcome)) in sides.iter().enumerate() {
            let results = &outcome.results;
            let differences = (index > 0).then(|| self.compare(&suite.to_string(), *side, base, outcome));
            self.rows.push(Row {
                suite: suite.to_string(),
                side: side.to_string(),
                tests: results.tests().count(),
                counts: [Status::Passed, Status::Failed, Status::Skipped].map(|status| results.count(status)),
                seconds: outcome.seconds,
                from_memory: outcome.from_memory,
                differences,
            });
        }
    }

    /// True if nothing differs that is not expected to, and all that is expected to does.
    pub(crate) fn is_as_expected(&self) -> bool {
        self.unexpected == 0
    }

    fn compare(&mut self, suite: &str, side: Side, base: &Outcome, outcome: &Outcome) -> usize {
        let side = side.to_string();
        let mut tests: Vec<&str> = base.results.tests().chain(outcome.results.tests()).collect();
        tests.sort_unstable();
        tests.dedup();
        tests.retain(|test| base.results.status(test) != outcome.results.status(test));
        for test in &tests {
            let reason = self
                .expected
                .difference
                .iter()
                .find(|known| known.is_about(suite, &side) && known.names(test));
            self.unexpected += usize::from(reason.is_none());
            let (before, after) = (base.results.status(test), outcome.results.status(test));
            let reason = reason.map_or("NOT EXPECTED", |known| &known.reason);
            self.notes.push(format!("{suite} {side} {test}: {before}, here {after}: {reason}"));
        }
        let known =
            self.expected.difference.iter().filter(|known| known.is_about(suite, &side) && !known.sometimes);
        for gone in known.filter(|known| self.whole && !tests.iter().any(|test| known.names(test))) {
            self.unexpected += 1;
            self.notes.push(format!("{suite} {side} {}: listed, but does not differ", gone.tests.join(", ")));
        }
        tests.len()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<18} {:<7} {:>6} {:>7} {:>7} {:>8} {:>6} {:>12}  answers",
            "suite", "side", "tests", "passed", "failed", "skipped", "s", "differences"
        )?;
        for row in &self.rows {
            let [passed, failed, skipped] = row.counts;
            let differences = row.differences.map_or_else(|| "-".to_owned(), |count| count.to_string());
            let memory = row.from_memory.map_or_else(String::new, |memory| memory.to_string());
            writeln!(
                f,
                "{:<18} {:<7} {:>6} {passed:>7} {failed:>7} {skipped:>8} {:>6} {differences:>12}  {memory}",
                row.suite, row.side, row.tests, row.seconds
            )?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        Ok(())
    }
}
