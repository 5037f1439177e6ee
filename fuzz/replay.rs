//! Runs a fuzz target's check over the inputs that are kept for it, so that what a fuzzer found once stays mended.
//! Every crate with targets includes this file in its tests.

use std::path::Path;

/// Calls `check` with every input in `fuzz/corpus/<target>`.
pub(crate) fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let inputs = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for input in inputs {
        let path = input.unwrap().path();
        // Shown if the check fails, or does not come back.
        eprintln!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
}
