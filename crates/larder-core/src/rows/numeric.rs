//! `numeric` without what does not count: signs of zero, zeros before and after the digits.

/// Digits before or after the point of which more are not read: PostgreSQL has up to 131,072.
const MAX_DIGITS: usize = 1000;
/// Of the binary format: `NUMERIC_POS`, `NUMERIC_NEG`.
const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;

/// `-0012.3400` is `-12.34`. Exponents, NaN and the infinities have no value.
pub(super) fn text(text: &[u8]) -> Option<Box<[u8]>> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let point = unsigned.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (unsigned.get(..at)?, unsigned.get(at + 1..)?),
        None => (unsigned, &[][..]),
    };
    let digits = |part: &[u8]| part.len() <= MAX_DIGITS && part.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || (point.is_some() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    Some(spell(unsigned.len() < text.len(), whole, fraction))
}

/// Number of digits to the base of 10,000, weight of the first, sign, scale, digits.
pub(super) fn binary(bytes: &[u8]) -> Option<Box<[u8]>> {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut words = words.iter().map(|word| u16::from_be_bytes(*word));
    let (count, weight) = (words.next()?, words.next()?.cast_signed());
    let (sign, _scale) = (words.next()?, words.next()?);
    if !rest.is_empty() || words.len() != usize::from(count) || !matches!(sign, POSITIVE | NEGATIVE) {
        return None;
    }
    // Groups before the point, and empty ones between it and the first.
    let before = usize::try_from(weight.saturating_add(1).max(0)).ok()?;
    let gap = usize::try_from(i32::from(weight.min(-1)).abs() - 1).ok()?;
    if before.max(gap).max(words.len()).saturating_mul(4) > MAX_DIGITS {
        return None;
    }
    let mut digits = vec![b'0'; gap * 4];
    for word in words {
        if word > 9999 {
            return None;
        }
        digits.extend(
            [word / 1000, word / 100 % 10, word / 10 % 10, word % 10].map(|digit| b'0' + digit as u8),
        );
    }
    digits.resize(digits.len().max(before * 4), b'0');
    let (whole, fraction) = digits.split_at_checked(before * 4)?;
    Some(spell(sign == NEGATIVE, whole, fraction))
}

fn spell(negative: bool, whole: &[u8], fraction: &[u8]) -> Box<[u8]> {
    let begins = whole.iter().position(|digit| *digit != b'0').unwrap_or(whole.len());
    let ends = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    let whole = whole.get(begins..).unwrap_or_default();
    let fraction = fraction.get(..ends).unwrap_or_default();
    let sign: &[u8] = if negative && !(whole.is_empty() && fraction.is_empty()) { b"-" } else { b"" };
    [sign, whole, b".", fraction].concat().into()
}
