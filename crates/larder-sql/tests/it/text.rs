//! Comments out of the key, without a change of meaning.

use std::borrow::Cow;

use larder_sql::strip_comments;

#[test]
fn comments_go_and_everything_else_stays() {
    for (sql, expected) in [
        ("SELECT 1", "SELECT 1"),
        ("SELECT 1 /* a */", "SELECT 1  "),
        ("SELECT/**/1", "SELECT 1"),
        ("/* a /* b */ c */SELECT 1", " SELECT 1"),
        ("SELECT 1 -- a", "SELECT 1 "),
        ("SELECT 1 -- a\n+ 2", "SELECT 1 \n+ 2"),
        ("SELECT 1 -- a\r\n+ 2", "SELECT 1 \r\n+ 2"),
        ("SELECT '/* a */', '--'", "SELECT '/* a */', '--'"),
        ("SELECT 'it''s /*' /* a */", "SELECT 'it''s /*'  "),
        ("SELECT E'\\'/*' /* a */", "SELECT E'\\'/*'  "),
        ("SELECT e'a'\n'\\'/*' /* a */", "SELECT e'a'\n'\\'/*'  "),
        ("SELECT \"/*\"\"--\" /* a */", "SELECT \"/*\"\"--\"  "),
        ("SELECT $$/* a */$$ /* b */", "SELECT $$/* a */$$  "),
        ("SELECT $x$ $$ -- $x$ /* b */", "SELECT $x$ $$ -- $x$  "),
        ("SELECT a$b$ /* c */ , b$b$", "SELECT a$b$   , b$b$"),
        ("SELECT $1/* a */+$2", "SELECT $1 +$2"),
        ("SELECT U&'\\0041' /* a */", "SELECT U&'\\0041'  "),
        ("SELECT 1 +-- a\n 2", "SELECT 1 +\n 2"),
        ("SELECT 'a' -- b\n'c'", "SELECT 'a' \n'c'"),
        ("SELECT 'a' /* b */ AS x, 'c'", "SELECT 'a'   AS x, 'c'"),
        // Without the comment two strings would become one.
        ("SELECT 'a' /* b */\n'c'", "SELECT 'a' /* b */\n'c'"),
        // Where the string ends depends on standard_conforming_strings.
        ("SELECT 'a\\' /* b */", "SELECT 'a\\' /* b */"),
        ("SELECT 1 /* open", "SELECT 1 /* open"),
        ("SELECT 'open -- a", "SELECT 'open -- a"),
        ("SELECT $a$ open -- a", "SELECT $a$ open -- a"),
    ] {
        assert_eq!(strip_comments(sql), expected, "{sql}");
    }
}

#[test]
fn nothing_is_copied_when_there_is_no_comment() {
    for sql in ["SELECT 1", "SELECT '--', \"/*\"", ""] {
        assert!(matches!(strip_comments(sql), Cow::Borrowed(_)), "{sql}");
    }
}
