//! A file of users and their secrets, in the form of PgBouncer's `auth_file`: `"user" "secret"`, one a line.

use std::collections::HashMap;

/// What is wrong with a users file, and on which line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct UserFileError {
    /// From 1.
    pub line: usize,
    /// In words; nothing of the line is repeated, it may hold a password.
    pub what: &'static str,
}

/// Users and secrets as text. A quotation mark inside is written twice; lines that start with `;` or `#` are comments.
///
/// # Errors
/// The first line that is not of this form.
pub fn parse_users(text: &str) -> Result<HashMap<String, String>, UserFileError> {
    let mut users = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |what| UserFileError { line: index + 1, what };
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        let (user, rest) = quoted(line).ok_or(wrong("write \"user\" \"secret\", both in quotation marks"))?;
        let (secret, rest) =
            quoted(rest.trim_start()).ok_or(wrong("after the user, write the secret in quotation marks"))?;
        // PgBouncer allows and ignores more after it.
        let _ = rest;
        if user.is_empty() {
            return Err(wrong("the user has no name"));
        }
        if users.insert(user, secret).is_some() {
            return Err(wrong("this user was named before"));
        }
    }
    Ok(users)
}

/// A quoted word at the front, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut rest = text.strip_prefix('"')?;
    let mut word = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        word.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                word.push('"');
                rest = more;
            }
            None => return Some((word, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read_as_pgbouncer_reads_them() {
        let users = parse_users("; a comment\n\"ann\" \"md5\"\n\n \"b\"\"ob\"\t\"\" trailing\n").unwrap();
        assert_eq!(users["ann"], "md5");
        assert_eq!(users["b\"ob"], "");
        assert_eq!(users.len(), 2);
    }

    #[test]
    fn a_bad_line_is_named_and_not_repeated() {
        for (text, line) in [
            ("ann hunter2", 1),
            ("\"ann\" \"x\"\n\"bob\" hunter2", 2),
            ("\"ann\" \"hunter2", 1),
            ("\"\" \"hunter2\"", 1),
            ("\"ann\" \"a\"\n\"ann\" \"hunter2\"", 2),
        ] {
            let error = parse_users(text).unwrap_err();
            assert_eq!(error.line, line, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
