//! What the fuzzer checks (see `fuzz/README.md`). The program has no library, so the target takes in this module's folder.
#![allow(clippy::unwrap_used, reason = "for tests only")]

use std::path::Path;

use super::layers::Layers;
use super::{ConfigErrors, Effective, Source, file, toml, typed_settings};

/// A configuration file: it is a configuration, or there is something to say about it. Printed, it is a file that means
/// the same.
pub(crate) fn config_file(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    match read(text) {
        Ok(effective) => {
            let printed = toml(&effective);
            // Secrets are printed as three stars, too few for the one that has a least length.
            let legible = printed.replace("secret = \"***\"", "secret = \"****************\"");
            let again = read(&legible).unwrap_or_else(|errors| panic!("{errors}\n{printed}"));
            assert_eq!(again.config.shown(), effective.config.shown(), "{printed}");
            let rules =
                |of: &Effective| of.rules.iter().map(|written| written.rule.clone()).collect::<Vec<_>>();
            assert_eq!(rules(&again), rules(&effective), "{printed}");
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            for problem in &errors.0 {
                assert!(!problem.what.is_empty(), "{errors}");
                if let Some(Source::File(_, line)) = problem.place {
                    assert!((1..=text.lines().count() + 1).contains(&line), "{errors}");
                }
            }
        }
    }
}

fn read(text: &str) -> Result<Effective, ConfigErrors> {
    let (path, mut problems, mut layers) = (Path::new("larder.toml"), Vec::new(), Layers::defaults());
    layers.file(path, file::parse(path, text, &mut problems));
    typed_settings(layers.into_settings(), problems)
}

#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
mod replay;

#[cfg(test)]
#[test]
fn inputs_of_config_file() {
    replay::replay("config_file", config_file);
}
