use std::fmt;
use std::str::FromStr;

/// What a reader is promised (`[freshness] level`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Level {
    /// As if PostgreSQL had answered: a read waits until the feed covers the moment it arrived.
    Linearizable,
    /// No read that starts after a write was acknowledged through Larder returns an older state.
    #[default]
    Strict,
    /// The same, for the session's own writes only.
    Session,
    /// At most `max_lag` old.
    Bounded,
}

impl Level {
    /// Every level, strongest first.
    pub const ALL: [Self; 4] = [Self::Linearizable, Self::Strict, Self::Session, Self::Bounded];

    /// The name used in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linearizable => "linearizable",
            Self::Strict => "strict",
            Self::Session => "session",
            Self::Bounded => "bounded",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|level| level.name() == text).ok_or_else(|| {
            format!("\"{text}\" is not a freshness level (linearizable, strict, session or bounded)")
        })
    }
}
