//! The same statement with other values is one statement for statistics and rules: its *fingerprint* is a hash of what
//! is left when values, comments, white space and the case of names are taken away, its *digest* is that in words.

use std::fmt;
use std::str::FromStr;

use crate::lexer::scan;

/// Longest digest that is kept, in bytes; the fingerprint is of the whole.
const MAX_TEXT: usize = 2048;

/// Identifies a statement whatever its values: the same in every process and, as long as these rules stay, in every
/// version. Printed as 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub u64);

/// A statement without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// For people: one line, values as `?`, a list of values as its first and `...`. Holds no value.
    pub text: String,
}

/// The digest of a text, which need not be valid SQL.
pub fn digest(sql: &str) -> Digest {
    let scan = scan(sql);
    let mut writer = Writer::default();
    let mut comments = scan.comments.iter().map(|comment| &comment.span).peekable();
    let mut literals = scan.literals.iter().peekable();
    let mut at = 0;
    while let Some(byte) = sql.as_bytes().get(at).copied() {
        if let Some(span) = comments.next_if(|span| span.start == at) {
            writer.space = true;
            at = span.end;
        } else if let Some(span) = literals.next_if(|span| span.start == at) {
            writer.value("?");
            at = span.end.max(at + 1);
        } else if byte.is_ascii_whitespace() || byte == b'\x0b' {
            writer.space = true;
            at += 1;
        } else {
            let piece = piece(sql.get(at..).unwrap_or_default());
            match byte {
                b'0'..=b'9' => writer.value("?"),
                b'.' if piece.len() > 1 => writer.value("?"),
                b'$' if piece.len() > 1 => writer.value("$n"),
                b'"' => writer.word(piece),
                _ => writer.word(&piece.to_ascii_lowercase()),
            }
            at += piece.len().max(1);
        }
    }
    writer.finish()
}

/// The first name, quoted name, number, parameter or sign of a text that begins with none of the others.
fn piece(rest: &str) -> &str {
    let first = rest.chars().next().unwrap_or_default();
    let while_ = |accepts: fn(char) -> bool| rest.find(|letter| !accepts(letter)).unwrap_or(rest.len());
    let names =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '$') || !letter.is_ascii();
    let length = match first {
        '"' => rest.get(1..).and_then(|inner| inner.find('"')).map_or(rest.len(), |end| end + 2),
        '0'..='9' => number(rest),
        '.' if rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit) => number(rest),
        '$' => 1 + rest.bytes().skip(1).take_while(u8::is_ascii_digit).count(),
        '_' => while_(names),
        letter if letter.is_ascii_alphabetic() || !letter.is_ascii() => while_(names),
        letter => letter.len_utf8(),
    };
    rest.get(..length).unwrap_or(rest)
}

/// Length of the number at the front: digits, letters (0x1f, 1e5, 1_000), points, the sign of an exponent.
fn number(rest: &str) -> usize {
    let mut before = b' ';
    let belongs = |byte: &u8| {
        let sign = matches!(byte, b'+' | b'-') && matches!(before, b'e' | b'E') && !rest.starts_with("0x");
        before = *byte;
        byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_') || sign
    };
    rest.bytes().take_while(belongs).count()
}

/// Collects pieces into text and hash.
#[derive(Debug)]
struct Writer {
    text: String,
    hash: u64,
    /// White space stood before the next piece.
    space: bool,
    /// A comma that may turn out to stand between two values.
    comma: bool,
    /// A semicolon that may turn out to be the last one, which means nothing.
    semicolon: bool,
    /// How the last pieces read: a value, more values of the same list, or something else.
    list: List,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    None,
    One,
    Many,
}

impl Default for Writer {
    fn default() -> Self {
        Self {
            text: String::new(),
            hash: FNV_OFFSET,
            space: false,
            comma: false,
            semicolon: false,
            list: List::None,
        }
    }
}

impl Writer {
    fn value(&mut self, sign: &str) {
        match (self.list, self.comma) {
            (List::None, _) | (_, false) => {
                self.put(sign);
                self.list = List::One;
            }
            (List::One, true) => {
                self.space = false;
                self.put(",");
                self.space = true;
                self.put("...");
                self.list = List::Many;
            }
            (List::Many, true) => self.space = false,
        }
        self.comma = false;
    }

    fn word(&mut self, word: &str) {
        if word == "," && self.list != List::None && !self.comma {
            self.comma = true;
            return;
        }
        if std::mem::take(&mut self.comma) {
            let space = std::mem::replace(&mut self.space, false);
            self.put(",");
            self.space = space;
        }
        self.list = List::None;
        self.put(word);
    }

    fn put(&mut self, piece: &str) {
        if std::mem::take(&mut self.semicolon) {
            let space = std::mem::replace(&mut self.space, false);
            self.append(";");
            self.space = space;
        }
        if piece == ";" {
            self.semicolon = true;
            return;
        }
        self.append(piece);
    }

    fn append(&mut self, piece: &str) {
        for byte in piece.bytes().chain([0]) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        let space = std::mem::take(&mut self.space) && !self.text.is_empty();
        if self.text.len() + piece.len() < MAX_TEXT {
            self.text.extend(space.then_some(' '));
            self.text.push_str(piece);
        }
    }

    fn finish(self) -> Digest {
        Digest { fingerprint: Fingerprint(self.hash), text: self.text }
    }
}

/// FNV-1a: the fingerprint must never change, so it is a function that is written down, not a library's.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = valid.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or_else(|| format!("\"{text}\" is not a fingerprint (16 hexadecimal digits)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_comments_and_spacing_do_not_count() {
        let same = [
            "select * from t where a = 1 and b = 'x'",
            "SELECT *\n FROM T WHERE a=2 AND b = E'it\\'s' ; ",
            "/* trace 7 */ Select * from t where a = 1.5e-3 and b = $$x$$ -- end",
        ];
        let first = digest(same[0]);
        assert_eq!(first.text, "select * from t where a = ? and b = ?");
        for sql in same {
            assert_eq!(digest(sql).fingerprint, first.fingerprint, "{sql}");
        }
        assert_ne!(digest("select * from \"T\" where a = 1 and b = ''").fingerprint, first.fingerprint);
    }

    #[test]
    fn lists_of_values_are_one_however_long() {
        let text = |sql| digest(sql).text;
        assert_eq!(text("select 1 from t where a in (1, 2,3 , 4)"), "select ? from t where a in (?, ...)");
        assert_eq!(text("select 1 from t where a in ($1,$2)"), "select ? from t where a in ($n, ...)");
        assert_eq!(text("select a, 1, b, 'x' from t limit 5"), "select a, ?, b, ? from t limit ?");
        assert_eq!(text("select f(1, a), x'1f', .5, t.c1"), "select f(?, a), ?, ..., t.c1");
        assert_eq!(
            digest("select 1 where a in (1,2)").fingerprint,
            digest("select 1 where a in (1,2,3,4,5)").fingerprint
        );
    }

    #[test]
    fn no_value_is_in_a_digest_of_anything() {
        for sql in
            ["'secret", "e'secret", "$a$secret", "$a$secret$a$", "x 'a''secret'", "n'secret'", "('secret')"]
        {
            assert!(!digest(sql).text.contains("secret"), "{sql}: {}", digest(sql).text);
        }
    }

    #[test]
    fn a_fingerprint_reads_back_and_never_changes() {
        let fingerprint = digest("select 1").fingerprint;
        assert_eq!(fingerprint.to_string(), "57955f1a2bad3868");
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        assert!(
            "57955f1a".parse::<Fingerprint>().is_err() && "+000000000000001".parse::<Fingerprint>().is_err()
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_a_digest(sql in "[ -~éß\n'\"$/*]{0,60}") {
            let first = digest(&sql);
            proptest::prop_assert!(first.text.len() < MAX_TEXT + 3 && !first.text.contains('\n') || sql.contains('"'));
        }
    }
}
