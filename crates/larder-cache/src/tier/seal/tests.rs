use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"sixteen bytes or more";

fn options() -> SealOptions<'static> {
    SealOptions { secret: None, encrypt: false, compress_above: 256, max_plain: 1 << 20 }
}

fn sealer(secret: Option<&[u8]>, encrypt: bool) -> Sealer {
    Sealer::new(SealOptions { secret, encrypt, ..options() }).unwrap()
}

/// Without a secret, with one, encrypted.
fn every_kind() -> [Sealer; 3] {
    [sealer(None, false), sealer(Some(SECRET), false), sealer(Some(SECRET), true)]
}

/// Short and long, with and without repetition.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let random = prop::collection::vec(any::<u8>(), 0..2_000);
    let repeating = (prop::collection::vec(any::<u8>(), 1..9), 0usize..2_000)
        .prop_map(|(unit, count)| unit.iter().copied().cycle().take(count).collect());
    prop_oneof![random, repeating]
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_nothing_else_does(
        plain in values(),
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
        at in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        for sealer in every_kind() {
            let sealed = sealer.seal(&parts, &plain).unwrap();
            prop_assert_eq!(sealer.open(&parts, sealed.clone()), Some(Bytes::from(plain.clone())));
            let mut changed = sealed.to_vec();
            changed[at.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(sealer.open(&parts, changed.into()), None);
            let cut = at.index(sealed.len());
            prop_assert_eq!(sealer.open(&parts, sealed.slice(..cut)), None);
            prop_assert_eq!(sealer.open(&parts, [&sealed[..], b"x"].concat().into()), None);
            let more = [&parts[..], &[b"".as_slice()]].concat();
            prop_assert_eq!(sealer.open(&more, sealed), None);
        }
    }

    #[test]
    fn parts_are_told_apart(whole in prop::collection::vec(any::<u8>(), 1..40), at in any::<prop::sample::Index>()) {
        let (left, right) = whole.split_at(at.index(whole.len()));
        for sealer in every_kind() {
            prop_assert_ne!(sealer.key(&[left, right]), sealer.key(&[&whole]));
            let sealed = sealer.seal(&[left, right], b"value").unwrap();
            prop_assert_eq!(sealer.open(&[&whole], sealed.clone()), None);
            prop_assert!(sealer.open(&[left, right], sealed).is_some());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(input in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::tier::fuzzing::sealed(&input);
    }
}

#[test]
fn another_secret_opens_nothing_and_finds_nothing() {
    let other = sealer(Some(b"a secret of somebody else"), false);
    for ours in every_kind() {
        let sealed = ours.seal(&[b"key"], b"value").unwrap();
        assert_eq!(other.open(&[b"key"], sealed), None);
        assert_ne!(other.key(&[b"key"]), ours.key(&[b"key"]));
    }
}

#[test]
fn a_secret_is_not_talked_out_of_its_proof() {
    let [open, keyed, encrypting] = every_kind();
    let unproven = open.seal(&[], b"forged").unwrap();
    assert_eq!(keyed.open(&[], unproven.clone()), None);
    assert_eq!(encrypting.open(&[], unproven), None);
    // Not even a right checksum stands in for the MAC: it was not made to withstand forgery.
    let covered = [&MAGIC[..], &[VERSION, 0], b"forged"].concat();
    let checked = [&covered[..], &keyed.checksum(&[], &covered)].concat();
    assert_eq!(keyed.open(&[], checked.into()), None);
    // Who has no secret does not take what he cannot check.
    assert_eq!(open.open(&[], keyed.seal(&[], b"value").unwrap()), None);
}

#[test]
fn encryption_can_be_switched_while_programs_run() {
    let [_, keyed, encrypting] = every_kind();
    for (from, to) in [(&keyed, &encrypting), (&encrypting, &keyed)] {
        let sealed = from.seal(&[b"key"], b"value").unwrap();
        assert_eq!(to.open(&[b"key"], sealed).as_deref(), Some(b"value".as_slice()));
    }
}

#[test]
fn encrypted_values_show_nothing_and_differ_every_time() {
    let encrypting = sealer(Some(SECRET), true);
    let plain = [b'p'; 100];
    let (one, two) = (encrypting.seal(&[], &plain).unwrap(), encrypting.seal(&[], &plain).unwrap());
    assert_ne!(one, two);
    assert!(!one.windows(4).any(|four| four == b"pppp"));
}

#[test]
fn other_versions_are_not_there() {
    let open = sealer(None, false);
    for (at, value) in [(0, 0), (2, VERSION + 1), (3, 8), (3, 128)] {
        let mut covered = [&MAGIC[..], &[VERSION, 0], b"value"].concat();
        covered[at] = value;
        // With a proof that is right: it is the header that is refused.
        let proof = open.checksum(&[], &covered);
        assert_eq!(open.open(&[], [&covered[..], &proof].concat().into()), None);
    }
}

#[test]
fn sizes_are_bounded_before_anything_is_allocated() {
    let open = sealer(None, false);
    let too_large = vec![0; options().max_plain + 1];
    assert_eq!(open.seal(&[], &too_large), None);
    assert!(open.seal(&[], &too_large[1..]).is_some());
    for size in [u32::MAX, u32::try_from(too_large.len()).unwrap(), 3] {
        let packed = lz4_flex::block::compress(&too_large);
        let covered = [&MAGIC[..], &[VERSION, COMPRESSED], &size.to_le_bytes(), &packed].concat();
        let proof = open.checksum(&[], &covered);
        assert_eq!(open.open(&[], [&covered[..], &proof].concat().into()), None, "{size}");
    }
}

#[test]
fn compression_is_used_where_it_helps() {
    let open = sealer(None, false);
    assert!(open.seal(&[], &[b'x'; 10_000]).unwrap().len() < 200);
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(10_000)
    .collect();
    assert_eq!(open.seal(&[], &noise).unwrap().len(), HEADER + noise.len() + CHECKSUM);
}

#[test]
fn unfit_secrets_are_refused() {
    let made = |secret: Option<&[u8]>, encrypt| {
        Sealer::new(SealOptions { secret, encrypt, ..options() }).map(|_| ())
    };
    assert_eq!(made(Some(b""), false), Err(SealerError::ShortSecret));
    assert_eq!(made(Some(&SECRET[..15]), false), Err(SealerError::ShortSecret));
    assert_eq!(made(None, true), Err(SealerError::NothingToEncryptWith));
    assert_eq!(made(Some(&SECRET[..16]), true), Ok(()));
}

/// A change here is a change of the format: give it another [`VERSION`].
#[test]
fn the_format_stays_what_it_is() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let [open, keyed, encrypting] = every_kind();
    let sealed = |sealer: &Sealer| hex(&sealer.seal(&[b"key", b"life"], b"value").unwrap());
    let lines = [
        format!("key {}", open.key(&[b"key"])),
        format!("key {}", keyed.key(&[b"key"])),
        format!("open {}", sealed(&open)),
        format!("keyed {}", sealed(&keyed)),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    key 88d371ec73fd62f2e1e89b868d923ca2
    key 3e2a1ddaee598e149e5ccde7d7876889
    open 4cd2010076616c756563506ff40b165d03a567b2b81df457d1
    keyed 4cd2010276616c7565889f477f7e241c2866edf7913be680708e600f0e3e3fe9c9679f78205fe7277c
    ");
    // Made by another program (Python's cryptography), from the description at the top of seal.rs.
    let kept = include_str!("encrypted.hex").trim();
    let kept: Vec<u8> =
        (0..kept.len()).step_by(2).map(|at| u8::from_str_radix(&kept[at..at + 2], 16).unwrap()).collect();
    assert_eq!(encrypting.open(&[b"key", b"life"], kept.into()).as_deref(), Some(b"value".as_slice()));
}
