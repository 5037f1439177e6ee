//! Comments addressed to Larder: `/* larder: bypass */`, `/* larder: ttl=30s */`, `-- larder: bypass`.
//!
//! A comment may give several hints separated by commas. Hints that are not known, and times that cannot be read,
//! are ignored: a comment never makes a statement fail.

use std::time::Duration;

use crate::facts::Hints;
use crate::lexer::Scan;

/// Reads the hints in the comments of `sql`.
pub(crate) fn read(sql: &str, scan: &Scan) -> Hints {
    let mut hints = Hints::default();
    for comment in &scan.comments {
        let text = sql.get(comment.span.clone()).unwrap_or_default();
        let text = text.trim_start_matches(['/', '*', '-', '+', ' ']);
        let text = text.trim_end_matches(['/', '*', ' ', '\t']);
        let Some(list) = text.strip_prefix("larder:") else { continue };
        for hint in list.split(',') {
            match hint.split_once('=') {
                None => hints.bypass |= hint.trim() == "bypass",
                Some((name, value)) if name.trim() == "ttl" => {
                    hints.ttl = duration(value.trim()).or(hints.ttl)
                }
                Some(_) => {}
            }
        }
    }
    hints
}

/// `250ms`, `30s`, `5m`, `1h`; a number without a unit is seconds.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let seconds = match unit.trim() {
        "ms" => return Some(Duration::from_millis(number)),
        "s" | "" => number,
        "m" | "min" => number.checked_mul(60)?,
        "h" => number.checked_mul(3600)?,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}
