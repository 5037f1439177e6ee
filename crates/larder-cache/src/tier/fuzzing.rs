//! What the fuzzer checks. Built for cargo-fuzz, and for the tests that replay what it found (see `fuzz/README.md`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests only")]

use bytes::Bytes;

use super::{SealOptions, Sealer};

/// The first byte says how to seal; the rest is what came from a tier, then a value, then something packed.
pub fn sealed(input: &[u8]) {
    let Some((&kind, input)) = input.split_first() else { return };
    let secret = (kind & 1 != 0).then_some(b"a secret of the deployment".as_slice());
    let encrypt = secret.is_some() && kind & 2 != 0;
    let compress_above = if kind & 4 != 0 { 0 } else { 64 };
    let sealer = Sealer::new(SealOptions { secret, encrypt, compress_above, max_plain: 1 << 16 }).unwrap();
    let associated: [&[u8]; 2] = [b"key", b"life"];

    let opened = sealer.open(&associated, Bytes::copy_from_slice(input));
    assert!(secret.is_none() || opened.is_none(), "nobody guesses a proof");
    if let Some(sealed) = sealer.seal(&associated, input) {
        assert_eq!(sealer.open(&associated, sealed.clone()).as_deref(), Some(input));
        assert_eq!(sealer.open(&associated[..1], sealed.clone()), None);
        let at = usize::from(kind) * 31 % sealed.len();
        let mut changed = sealed.to_vec();
        changed[at] = changed[at].wrapping_add(1);
        assert_eq!(sealer.open(&associated, changed.into()), None);
    }
    // Behind a proof that holds, where a writer who has the secret may still be wrong.
    if let Some((size, packed)) = input.split_first_chunk() {
        let size = usize::from(u16::from_le_bytes(*size));
        let plain = super::seal::decompress(packed, size);
        assert!(plain.is_none_or(|plain| plain.len() == size));
    }
}

#[cfg(test)]
#[path = "../../../../fuzz/replay.rs"]
pub(crate) mod replay;

#[cfg(test)]
mod tests {
    use super::replay::replay;

    #[test]
    fn inputs_of_tier_sealed() {
        replay("tier_sealed", super::sealed);
    }
}
