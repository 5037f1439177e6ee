//! The names that applications give to tables and rows.

use std::borrow::Cow;

/// The table that a tag is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableTag<'a> {
    pub(crate) schema: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
}

/// Not of the form `table:schema.name` or `row:schema.name:column=value`, though it begins like that.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// `None`: a name of the application's own.
pub(crate) fn parse(tag: &str) -> Option<Result<TableTag<'_>, Malformed>> {
    if let Some(rest) = tag.strip_prefix("table:") {
        let whole = table(rest).filter(|(_, rest)| rest.is_empty());
        return Some(whole.map(|(table, _)| table).ok_or(Malformed));
    }
    let rest = tag.strip_prefix("row:")?;
    let row = table(rest).filter(|(_, rest)| {
        rest.strip_prefix(':')
            .and_then(|row| row.split_once('='))
            .is_some_and(|(column, _)| !column.is_empty())
    });
    // Of the row nothing is known yet but its table.
    Some(row.map(|(table, _)| table).ok_or(Malformed))
}

/// A schema and a name, and what comes after them.
fn table(text: &str) -> Option<(TableTag<'_>, &str)> {
    let (schema, rest) = identifier(text)?;
    let (name, rest) = identifier(rest.strip_prefix('.')?)?;
    Some((TableTag { schema, name }, rest))
}

/// An identifier as the database has it, or, in double quotes, with anything in it.
fn identifier(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', ':', '"']).unwrap_or(text.len());
        let (name, rest) = text.split_at_checked(end)?;
        return (!name.is_empty()).then_some((Cow::Borrowed(name), rest));
    };
    let mut name = String::new();
    let mut parts = quoted.split('"');
    name.push_str(parts.next()?);
    // After each quote: another one stands for itself, anything else is what comes after the identifier.
    let mut used = name.len() + 1;
    loop {
        let rest = quoted.get(used..)?;
        let Some(after) = rest.strip_prefix('"') else {
            return (!name.is_empty()).then_some((Cow::Owned(name), rest));
        };
        let end = after.find('"')?;
        name.push('"');
        name.push_str(after.get(..end)?);
        used += end + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(tag: &str) -> Option<Result<(String, String), Malformed>> {
        parse(tag).map(|parsed| parsed.map(|table| (table.schema.into_owned(), table.name.into_owned())))
    }

    fn found(schema: &str, name: &str) -> Option<Result<(String, String), Malformed>> {
        Some(Ok((schema.to_owned(), name.to_owned())))
    }

    #[test]
    fn tables_and_rows_are_named_as_in_the_database() {
        assert_eq!(read("table:public.users"), found("public", "users"));
        assert_eq!(read("row:public.users:id=42"), found("public", "users"));
        assert_eq!(read("row:public.users:name=a:b=c"), found("public", "users"));
        assert_eq!(read("table:public.Users"), found("public", "Users"));
        assert_eq!(read(r#"table:"my.app"."a ""b"" c""#), found("my.app", r#"a "b" c"#));
        assert_eq!(read(r#"row:public."x:y":id=1"#), found("public", "x:y"));
    }

    #[test]
    fn what_only_looks_like_one_is_told_apart_from_the_applications_own() {
        for own in ["users", "user:42", "Table:public.users", "tables:a.b", ""] {
            assert_eq!(read(own), None, "{own}");
        }
        let malformed = [
            "table:",
            "table:users",
            "table:a.b.c",
            "table:.b",
            "table:a.",
            "table:a.b:id=1",
            "row:a.b",
            "row:a.b:",
            "row:a.b:id",
            "row:a.b:=1",
            r#"table:"a.b"#,
            r#"table:""."b""#,
            r#"table:a"b".c"#,
        ];
        for tag in malformed {
            assert_eq!(read(tag), Some(Err(Malformed)), "{tag}");
        }
    }

    proptest! {
        #[test]
        fn any_name_can_be_quoted(schema in ".{1,10}", name in ".{1,10}") {
            let quote = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
            let tag = format!("table:{}.{}", quote(&schema), quote(&name));
            prop_assert_eq!(read(&tag), found(&schema, &name));
        }

        #[test]
        fn nothing_panics(tag in "(table:|row:)?[a\".:=é]{0,12}") {
            let _ = parse(&tag);
        }
    }
}
