//! Relative times in values: `now`, `today`, `tomorrow`, `yesterday`.
//!
//! The input functions of date and time types accept these words in any case and with anything around them
//! (`' NOW '`, `'[today,infinity)'`, `'{tomorrow}'`). Whether a value will be read by such a function is not known
//! here, so every value that contains one of the words anywhere counts, `'knowledge'` included: a bypass too many is
//! harmless. Ranges, arrays and rows take their elements apart first: in `'[n"o"w,)'` and `'{n\ow}'` the quotes and
//! backslashes go away, so they are passed over here.

/// Whether a parameter value contains `now`, `today`, `tomorrow` or `yesterday` in any case, anywhere: as input of a
/// date or time type it would mean another instant each time.
pub fn mentions_relative_time(value: &[u8]) -> bool {
    // Called for the parameters of every fill: two comparisons a byte unless a first letter fits.
    (0..value.len().saturating_sub(2)).any(|at| value.get(at..).is_some_and(starts_with_a_word))
}

/// The same for a string that PostgreSQL may read with backslash escapes.
pub(crate) fn mentions_when_unescaped(text: &[u8]) -> bool {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            plain.push(byte);
            continue;
        }
        let (radix, prefix, longest) = match tail.first() {
            Some(b'0'..=b'7') => (8, 0, 3),
            Some(b'x') => (16, 1, 2),
            Some(b'u') => (16, 1, 4),
            Some(b'U') => (16, 1, 8),
            // Any other escape means the character itself, or a control character, which is in none of the words.
            _ => continue,
        };
        let digits = tail.get(prefix..).unwrap_or_default();
        let length =
            digits.iter().take(longest).take_while(|byte| char::from(**byte).is_digit(radix)).count();
        let number = digits.get(..length).and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(code) = number.and_then(|digits| u32::from_str_radix(digits, radix).ok()) {
            plain.push(u8::try_from(code & 0xFF).unwrap_or_default());
            rest = digits.get(length..).unwrap_or_default();
        }
    }
    mentions_relative_time(&plain)
}

fn starts_with_a_word(text: &[u8]) -> bool {
    let words: &[&[u8]] = match text.first().map(u8::to_ascii_lowercase) {
        Some(b'n') => &[b"now"],
        Some(b't') => &[b"today", b"tomorrow"],
        Some(b'y') => &[b"yesterday"],
        _ => return false,
    };
    let letters = || text.iter().filter(|byte| !matches!(byte, b'\\' | b'"')).map(u8::to_ascii_lowercase);
    words.iter().any(|word| letters().take(word.len()).eq(word.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_words_in_any_case_anywhere() {
        for yes in [
            "now",
            "NOW",
            " Now ",
            "[today,)",
            "{2020-01-01,tomorrow}",
            "yesterday noon",
            "knowledge",
            "toDAY",
        ] {
            assert!(mentions_relative_time(yes.as_bytes()), "{yes}");
        }
        for no in ["", "n", "no", "nov", "to day", "2020-01-01", "tomorro", "yesterda", "ноw", "n\u{0}ow"] {
            assert!(!mentions_relative_time(no.as_bytes()), "{no}");
        }
    }
}
