//! Comments leave the key: applications put traces into them, a different one for each call.

use std::borrow::Cow;

use crate::lexer::scan;

/// The text with every block comment replaced by one space and every line comment removed up to its newline: what
/// goes into the key. A text in which that could change the meaning is returned as it is.
pub fn strip_comments(sql: &str) -> Cow<'_, str> {
    // The scan is needed only if a comment can begin somewhere.
    let bytes = sql.as_bytes();
    if memchr::memmem::find(bytes, b"--").is_none() && memchr::memmem::find(bytes, b"/*").is_none() {
        return Cow::Borrowed(sql);
    }
    let scan = scan(sql);
    if scan.comments.is_empty() || scan.unterminated || scan.ambiguous || scan.parted {
        return Cow::Borrowed(sql);
    }
    let mut stripped = String::with_capacity(sql.len());
    let mut kept = 0;
    for comment in &scan.comments {
        stripped.push_str(sql.get(kept..comment.span.start).unwrap_or_default());
        if comment.block {
            stripped.push(' ');
        }
        kept = comment.span.end;
    }
    stripped.push_str(sql.get(kept..).unwrap_or_default());
    Cow::Owned(stripped)
}
