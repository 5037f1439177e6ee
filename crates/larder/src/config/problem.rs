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
