//! One linear pass over a text that knows just enough of PostgreSQL's lexical rules to tell comments, strings and
//! the rest apart. It serves comment stripping, hints, digests and the nesting guard, and works on any text, valid or not.
//!
//! Plain strings ('...') are read as with `standard_conforming_strings = on`. Where `off` would end a string
//! elsewhere, the scan says so ([`Scan::ambiguous`]) and nobody relies on it.

use std::ops::Range;

/// What a pass found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Comments, in order, without the newline that ends a line comment.
    pub(crate) comments: Vec<Comment>,
    /// Strings of every kind, with their quotes and prefixes.
    pub(crate) literals: Vec<Range<usize>>,
    /// Plain strings with a backslash in them, without the quotes.
    pub(crate) backslashed: Vec<Range<usize>>,
    /// Deepest nesting of parentheses and brackets.
    pub(crate) depth: usize,
    /// A comment or a quoted piece has no end.
    pub(crate) unterminated: bool,
    /// Nothing but white space and a block comment stands between two strings: an error as it is, but without the
    /// comment (and with a newline) the second would continue the first.
    pub(crate) parted: bool,
    /// A plain string holds a backslash before a quote: its end depends on a setting.
    pub(crate) ambiguous: bool,
}

/// One comment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Comment {
    /// Where it stands.
    pub(crate) span: Range<usize>,
    /// `/* */` rather than `--`.
    pub(crate) block: bool,
}

/// Reads the whole text.
pub(crate) fn scan(text: &str) -> Scan {
    let mut lexer = Lexer {
        bytes: text.as_bytes(),
        at: 0,
        scan: Scan::default(),
        open: 0,
        last: Last::Other,
        part: false,
    };
    while lexer.step() {}
    lexer.scan
}

/// The last thing before the current position, white space and comments aside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Other,
    String { escapes: bool },
}

struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    scan: Scan,
    open: usize,
    last: Last,
    /// A block comment came after `last`.
    part: bool,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn came(&mut self, last: Last) {
        self.last = last;
        self.part = false;
    }

    /// Consumes one piece; false at the end of the text.
    fn step(&mut self) -> bool {
        let Some(byte) = self.peek(0) else { return false };
        match (byte, self.peek(1)) {
            (b'-', Some(b'-')) => self.line_comment(),
            (b'/', Some(b'*')) => self.block_comment(),
            (b'\'', _) => {
                // A string right after an E'...' string (and a newline, or it is an error) continues it.
                let escapes = self.last == Last::String { escapes: true };
                self.string(self.at, escapes);
            }
            (b'"', _) => self.quoted_name(),
            (b'$', _) => self.dollar(),
            _ if starts_name(byte) => self.name(),
            _ => {
                if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c') {
                    self.came(Last::Other);
                }
                match byte {
                    b'(' | b'[' => {
                        self.open += 1;
                        self.scan.depth = self.scan.depth.max(self.open);
                    }
                    b')' | b']' => self.open = self.open.saturating_sub(1),
                    _ => {}
                }
                self.at += 1;
            }
        }
        true
    }

    fn line_comment(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(|byte| byte != b'\n' && byte != b'\r') {
            self.at += 1;
        }
        self.add_comment(start, false);
    }

    fn block_comment(&mut self) {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        break;
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => {
                    self.scan.unterminated = true;
                    break;
                }
            }
        }
        self.add_comment(start, true);
    }

    fn add_comment(&mut self, start: usize, block: bool) {
        self.scan.comments.push(Comment { span: start..self.at, block });
        self.part |= block;
    }

    /// At the opening quote, of a string that begins with its prefix at `begin`.
    fn string(&mut self, begin: usize, escapes: bool) {
        self.scan.parted |= self.last != Last::Other && self.part;
        self.at += 1;
        let start = self.at;
        let mut backslash = false;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'\\'), next) => {
                    backslash = true;
                    self.scan.ambiguous |= !escapes && next == Some(b'\'');
                    self.at += if escapes && next.is_some() { 2 } else { 1 };
                }
                (Some(b'\''), Some(b'\'')) => self.at += 2,
                (Some(b'\''), _) => break,
                (Some(_), _) => self.at += 1,
                (None, _) => {
                    self.scan.unterminated = true;
                    break;
                }
            }
        }
        if backslash && !escapes {
            self.scan.backslashed.push(start..self.at);
        }
        self.at += 1;
        self.scan.literals.push(begin..self.at);
        self.came(Last::String { escapes });
    }

    /// At the opening double quote.
    fn quoted_name(&mut self) {
        self.at += 1;
        // A doubled quote reads as the end of one name and the start of another, which comes to the same.
        while self.peek(0).is_some_and(|byte| byte != b'"') {
            self.at += 1;
        }
        self.scan.unterminated |= self.peek(0).is_none();
        self.at += 1;
        self.came(Last::Other);
    }

    /// A parameter or a dollar-quoted string.
    fn dollar(&mut self) {
        self.came(Last::Other);
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let length = rest.iter().take_while(|byte| continues_tag(**byte)).count();
        let digit_first = rest.first().is_some_and(u8::is_ascii_digit);
        if digit_first || rest.get(length) != Some(&b'$') {
            self.at += 1;
            return;
        }
        let begin = self.at;
        let body = begin + length + 2;
        let tag = self.bytes.get(begin..body).unwrap_or_default();
        let inside = self.bytes.get(body..).unwrap_or_default();
        match memchr::memmem::find(inside, tag) {
            Some(end) => self.at = body + end + tag.len(),
            None => {
                self.scan.unterminated = true;
                self.at = self.bytes.len();
            }
        }
        self.scan.literals.push(begin..self.at);
    }

    /// A keyword or name; with a quote right behind it, `e` opens a string with escapes, and others are its prefix.
    fn name(&mut self) {
        let start = self.at;
        while self.peek(0).is_some_and(continues_name) {
            self.at += 1;
        }
        self.came(Last::Other);
        let word = self.bytes.get(start..self.at).unwrap_or_default();
        if self.peek(0) == Some(b'\'') && is_prefix(word) {
            self.string(start, word.eq_ignore_ascii_case(b"e"));
        }
    }
}

/// What can stand right before a string as part of it: `E'...'`, `B'...'`, `X'...'`, `N'...'`.
fn is_prefix(word: &[u8]) -> bool {
    matches!(word, [b'e' | b'E' | b'b' | b'B' | b'x' | b'X' | b'n' | b'N'])
}

fn starts_name(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn continues_name(byte: u8) -> bool {
    starts_name(byte) || byte.is_ascii_digit() || byte == b'$'
}

fn continues_tag(byte: u8) -> bool {
    starts_name(byte) || byte.is_ascii_digit()
}
