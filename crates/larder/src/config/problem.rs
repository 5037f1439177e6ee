use std::fmt;

use super::Source;

/// One thing that is wrong: what, where, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Option<Source>,
    pub(crate) what: String,
    pub(crate) mend: String,
}

/// Everything that is wrong with the configuration.
#[derive(Debug)]
pub(crate) struct ConfigErrors(pub(crate) Vec<Problem>);

impl ConfigErrors {
    /// A file named by the configuration cannot be used.
    pub(crate) fn file(what: String, mend: String) -> Self {
        Self(vec![Problem { place: None, what, mend }])
    }
}

impl ConfigErrors {
    /// In a line: what is wrong and where, and how to mend it.
    pub(crate) fn sentences(&self) -> (String, String) {
        let what = self.0.iter().map(|problem| match &problem.place {
            Some(place) => format!("{place}: {}", problem.what),
            None => problem.what.clone(),
        });
        let mend = self.0.iter().map(|problem| problem.mend.as_str()).filter(|mend| !mend.is_empty());
        (what.collect::<Vec<_>>().join("; "), mend.collect::<Vec<_>>().join("; "))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            if let Some(place) = &problem.place {
                write!(f, "{place}: ")?;
            }
            write!(f, "{}", problem.what)?;
            if !problem.mend.is_empty() {
                write!(f, "\n  -> {}", problem.mend)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
