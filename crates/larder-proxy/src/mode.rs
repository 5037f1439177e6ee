//! What the cache does for clients, as configured and as switched meanwhile.

use std::sync::atomic::{AtomicU8, Ordering};

/// Where answers come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// What is provably fresh is answered from memory.
    #[default]
    Serve,
    /// The origin answers everything. What memory would have answered is compared with that.
    Shadow,
    /// The origin answers everything.
    Bypass,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serve, Self::Shadow, Self::Bypass];

    /// The word in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Shadow => "shadow",
            Self::Bypass => "bypass",
        }
    }
}

/// The mode in force, shared by all workers; sessions look at it with every statement.
#[derive(Debug)]
pub(crate) struct ModeSwitch(AtomicU8);

impl ModeSwitch {
    pub(crate) fn new(mode: Mode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    pub(crate) fn get(&self) -> Mode {
        match self.0.load(Ordering::Relaxed) {
            value if value == Mode::Serve as u8 => Mode::Serve,
            value if value == Mode::Shadow as u8 => Mode::Shadow,
            _ => Mode::Bypass,
        }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.0.store(mode as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_what_it_was_set_to() {
        let switch = ModeSwitch::new(Mode::Serve);
        for mode in Mode::ALL {
            switch.set(mode);
            assert_eq!(switch.get(), mode);
        }
    }
}
