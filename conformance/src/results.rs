//! What became of each test.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Passed,
    Failed,
    Skipped,
    /// It was not heard of: the run ended before it.
    Missing,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Missing => "missing",
        })
    }
}

/// The tests of one run, by name.
#[derive(Debug, Default)]
pub(crate) struct Results(BTreeMap<String, Status>);

impl Results {
    /// A test that is told of twice (one that passed and then failed to clean up) has the worse of both.
    pub(crate) fn add(&mut self, test: impl Into<String>, status: Status) {
        let known = self.0.entry(test.into()).or_insert(status);
        if *known != Status::Failed {
            *known = status;
        }
    }

    /// Adds what a run in the Test Anything Protocol says: `ok 1 - name 12 ms`, `not ok 2 + name 3 ms`, and with
    /// `# SKIP` at the end. The rest is the test's own output.
    pub(crate) fn add_tap(&mut self, prefix: &str, output: &str) {
        for line in output.lines() {
            let (failed, rest) = match (line.strip_prefix("ok "), line.strip_prefix("not ok ")) {
                (Some(rest), _) => (false, rest),
                (_, Some(rest)) => (true, rest),
                _ => continue,
            };
            let status = match failed {
                true => Status::Failed,
                false if rest.contains("# SKIP") => Status::Skipped,
                false => Status::Passed,
            };
            let name = rest.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
            let name =
                name.strip_prefix(['-', '+']).unwrap_or(name).split("# SKIP").next().unwrap_or_default();
            self.add(format!("{prefix}{}", without_time(name.trim())), status);
        }
    }

    pub(crate) fn status(&self, test: &str) -> Status {
        self.0.get(test).copied().unwrap_or(Status::Missing)
    }

    pub(crate) fn tests(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn count(&self, status: Status) -> usize {
        self.0.values().filter(|known| **known == status).count()
    }

    /// One line for each test.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let text: String = self.0.iter().map(|(test, status)| format!("{status}\t{test}\n")).collect();
        fs::write(path, text).with_context(|| path.display().to_string())
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (passed, failed) = (self.count(Status::Passed), self.count(Status::Failed));
        write!(f, "{passed} passed, {failed} failed, {} skipped", self.count(Status::Skipped))
    }
}

/// pg_regress ends a line with the time that the test took.
fn without_time(name: &str) -> &str {
    let timed = name.strip_suffix(" ms").and_then(|rest| rest.rsplit_once(' '));
    match timed {
        Some((name, time)) if time.bytes().all(|byte| byte.is_ascii_digit()) => name.trim_end(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_test_anything_protocol() {
        let mut results = Results::default();
        let output = "# using postmaster\nok 1         - test_setup                179 ms\n\
                      not ok 12    + char name                 60 ms\nok 3 pool works # SKIP -\nokay\n1..3\n";
        results.add_tap("", output);
        let expected =
            [("char name", Status::Failed), ("pool works", Status::Skipped), ("test_setup", Status::Passed)];
        assert!(results.0.iter().map(|(test, status)| (test.as_str(), *status)).eq(expected));
        assert_eq!(results.status("another"), Status::Missing);
    }

    #[test]
    fn a_failure_stays_one() {
        let mut results = Results::default();
        results.add("t", Status::Passed);
        results.add("t", Status::Failed);
        results.add("t", Status::Passed);
        assert_eq!(results.status("t"), Status::Failed);
    }
}
