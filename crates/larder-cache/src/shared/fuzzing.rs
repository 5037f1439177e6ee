//! What the fuzzer checks. Built for cargo-fuzz, and for the tests that replay what it found (see `fuzz/README.md`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests only")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Record, Statement};
use crate::{Fence, Tags};

/// What another process says: it is understood as it was said, or not at all; and who learns from it knows what it says.
pub fn claims(input: &[u8]) {
    let input = Bytes::copy_from_slice(input);
    if let Some(record) = Record::decode(input.clone()) {
        assert_eq!(record.encode(), input);
        let _ = (record.age(record.expires), record.remaining(record.stored), record.cost());
    }
    if let Some(said) = Statement::decode(input.clone()) {
        assert_eq!(said.encode(), input);
        learns(&said);
    }
}

/// A process that knows everything after the statement's middle, in the same life.
fn learns(said: &Statement) {
    let (fence, tags) = (Arc::new(Fence::new(Duration::from_secs(1))), Tags::default());
    let middle = said.from + (said.to - said.from) / 2;
    let epoch = tags.restart(&fence, middle);
    fence.share(epoch, &said.life, said.meaning);
    let learnt = said.learn(&fence, &tags);
    assert_eq!(learnt, said.from < middle, "it reaches further back");
    assert_eq!(fence.history(), Some(said.from));
    if learnt {
        for (key, position) in &said.tags {
            assert!(tags.get(key).last_change() >= *position, "{key}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tier::fuzzing::replay::replay;

    #[test]
    fn inputs_of_tier_claims() {
        replay("tier_claims", super::claims);
    }
}
