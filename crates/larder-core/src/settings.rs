//! Which settings of a session an answer can depend on, by name.
//!
//! Two kinds. [`READING`] and [`WRITING`] are PostgreSQL's own (and a few extensions') that change the meaning of texts or
//! the bytes of answers: they are read with every session's facts. *Custom* settings have a name of two parts (`app.tenant`) and mean
//! what a policy, a view or a query makes of them by `current_setting('app.tenant')`: which of them are read with the
//! facts is told by the catalog ([`custom_in`] finds their names in its definitions).

/// Those that PostgreSQL looks at when it analyses and plans a statement (literals, and conversions of constants): what
/// a prepared one means stays as it was then. Part of the key of every answer. In lower case.
pub const READING: &[&str] = &[
    "timezone",
    "timezone_abbreviations",
    "datestyle",
    "intervalstyle",
    "xmloption",
    "lc_monetary",
    "standard_conforming_strings",
    "backslash_quote",
    "escape_string_warning",
    "transform_null_equals",
    "array_nulls",
    "client_encoding",
    "extra_float_digits",
    "bytea_output",
    "xmlbinary",
    "quote_all_identifiers",
];

/// Others that are part of the key of every answer. In lower case.
pub const WRITING: &[&str] = &[
    "lc_messages",
    "lc_numeric",
    "lc_time",
    "default_text_search_config",
    "gin_fuzzy_search_limit",
    "row_security",
    "search_path",
    "role",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
    "restrict_nonsystem_relation_kind",
    "lo_compat_privileges",
    // What operators of extensions compare with, and how thoroughly their indexes search.
    "pg_trgm.similarity_threshold",
    "pg_trgm.word_similarity_threshold",
    "pg_trgm.strict_word_similarity_threshold",
    "hnsw.ef_search",
    "hnsw.iterative_scan",
    "ivfflat.probes",
    "ivfflat.iterative_scan",
];

/// Custom settings that are read with a session's facts, at most: each makes the facts of every session longer.
pub const MAX_CUSTOM: usize = 32;

/// Longest name of a custom setting that is read.
const MAX_NAME: usize = 63;

/// Whether the value of this setting, in lower case, is part of every key.
pub fn is_keyed(name: &str) -> bool {
    READING.contains(&name) || WRITING.contains(&name)
}

/// Whether this is the name of a custom setting that can be read with a session's facts. In lower case; of letters that
/// need no quoting whatever the session's settings.
pub fn is_custom(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'.' | b'$');
    name.contains('.') && name.len() <= MAX_NAME && name.bytes().all(plain) && !is_keyed(name)
}

/// The names of custom settings that a definition reads, in lower case, as far as PostgreSQL prints them literally:
/// `current_setting('app.tenant'::text, true)`. Whoever relies on one being among them checks that.
pub fn custom_in(definition: &str) -> impl Iterator<Item = String> {
    definition
        .split("current_setting('")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once('\'')?.0.to_ascii_lowercase()))
        .filter(|name| is_custom(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_settings_are_found_in_definitions() {
        let found = |text| custom_in(text).collect::<Vec<_>>();
        assert_eq!(found("(tenant = current_setting('App.tenant'::text, true))"), ["app.tenant"]);
        assert_eq!(
            found("((a = (current_setting('a.b'::text))::integer) OR (b = current_setting('c.d.e'::text)))"),
            ["a.b", "c.d.e"]
        );
        for none in [
            "",
            "current_setting('TimeZone'::text)",
            "current_setting(name)",
            "current_setting('a.b",
            "current_setting('it''s.x'::text)",
            "current_setting('pg_trgm.similarity_threshold'::text)",
        ] {
            assert_eq!(found(none), Vec::<String>::new(), "{none}");
        }
    }

    #[test]
    fn names_that_would_need_quoting_are_none() {
        assert!(is_custom("request.jwt.claims"));
        for other in
            ["tenant", "app.ten ant", "app.'", "app.\\", "App.x", "app.é", &format!("a.{}", "x".repeat(70))]
        {
            assert!(!is_custom(other), "{other}");
        }
    }
}
