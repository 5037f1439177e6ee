//! Built-in functions judged by hand, because `pg_proc.provolatile` does not say enough.
//!
//! A name stands for all its overloads in `pg_catalog`, in PostgreSQL 15 to 18. The integration tests compare the
//! lists with real servers.

/// How many arguments a call may have for an entry to apply.
type Args = std::ops::RangeInclusive<usize>;

const ANY: Args = 0..=usize::MAX;

/// Stable functions that may be cached: the result depends on the arguments and on settings that are in the key
/// (TimeZone, DateStyle, IntervalStyle, lc_*, extra_float_digits, bytea_output, default_text_search_config,
/// client_encoding, search_path, role), nothing else.
pub const STABLE_ALLOWED: &[(&str, Args)] = &[
    // Two timestamps are subtracted; with one argument it reads the current date.
    ("age", 2..=2),
    // Text made by output functions: TimeZone, DateStyle and the like.
    ("array_to_string", ANY),
    ("array_to_json", ANY),
    ("concat", ANY),
    ("concat_ws", ANY),
    ("format", ANY),
    ("quote_literal", ANY),
    ("quote_nullable", ANY),
    ("row_to_json", ANY),
    ("to_json", ANY),
    ("to_jsonb", ANY),
    ("json_build_array", ANY),
    ("json_build_object", ANY),
    ("jsonb_build_array", ANY),
    ("jsonb_build_object", ANY),
    ("json_agg", ANY),
    ("json_agg_strict", ANY),
    ("json_object_agg", ANY),
    ("json_object_agg_strict", ANY),
    ("json_object_agg_unique", ANY),
    ("json_object_agg_unique_strict", ANY),
    ("jsonb_agg", ANY),
    ("jsonb_agg_strict", ANY),
    // Encodings: the conversion is found in the catalog, along the search path.
    ("convert", ANY),
    ("convert_from", ANY),
    ("convert_to", ANY),
    ("length", ANY),
    // Names of the session that are parts of the key.
    ("current_database", 0..=0),
    ("current_schema", 0..=0),
    ("current_user", 0..=0),
    ("session_user", 0..=0),
    // Values of an enum are added by DDL.
    ("enum_first", 1..=1),
    ("enum_last", 1..=1),
    ("enum_range", 1..=2),
    // Roles and memberships begin a new epoch when they change.
    ("pg_has_role", 2..=3),
    // Constant for one life of the origin.
    ("version", 0..=0),
    // Date arithmetic in the session's TimeZone. The conversions among them (date, time, timestamp, timestamptz)
    // are judged as conversions, too. Not timetz: it takes the offset of the current date.
    ("date", 1..=1),
    ("time", 1..=2),
    ("timestamp", 1..=2),
    ("timestamptz", 1..=2),
    ("date_add", 2..=3),
    ("date_subtract", 2..=3),
    ("date_part", 2..=2),
    ("date_trunc", 2..=3),
    ("extract", 2..=2),
    ("generate_series", 2..=4),
    ("make_timestamptz", 6..=7),
    ("overlaps", 4..=4),
    // AT TIME ZONE, AT LOCAL; for a time of day it uses the current date, see `SUBJECT_IS_TIMESTAMP`.
    ("timezone", 1..=2),
    // Formatting and reading by template: lc_time, lc_numeric, TimeZone. Relative words are no input here.
    ("to_char", 2..=2),
    ("to_date", 2..=2),
    ("to_number", 2..=2),
    ("to_timestamp", 1..=2),
    // lc_monetary.
    ("money", 1..=1),
    ("numeric", 1..=2),
    // Text search with default_text_search_config, or a configuration that the catalog defines.
    ("to_tsvector", 1..=2),
    ("json_to_tsvector", 2..=3),
    ("jsonb_to_tsvector", 2..=3),
    ("to_tsquery", 1..=2),
    ("plainto_tsquery", 1..=2),
    ("phraseto_tsquery", 1..=2),
    ("websearch_to_tsquery", 1..=2),
    ("ts_headline", 2..=4),
];

/// Immutable according to `pg_proc`, but reading more than their arguments.
pub const IMMUTABLE_REFUSED: &[&str] = &[
    // Reads pg_inherits.
    "pg_partition_root",
];

/// What PostgreSQL calls the functions behind the operators of `timetz`: given a literal, they read the current date.
pub const READS_DATE_MARK: &str = "timetz";

/// Functions that take a time with time zone where a time of day is given, and then use the current date: the last
/// argument must be known to be a date or timestamp.
pub(crate) const SUBJECT_IS_TIMESTAMP: &[&str] = &["timezone"];

/// Volatile functions without an effect that matters here: sequences, sizes, statistics and other sessions are never
/// answered from the cache.
pub const VOLATILE_HARMLESS: &[&str] = &[
    // Random numbers, clocks, identifiers.
    "array_sample",
    "array_shuffle",
    "clock_timestamp",
    "gen_random_uuid",
    "random",
    "random_normal",
    "setseed",
    "timeofday",
    "uuidv4",
    "uuidv7",
    // Sequences.
    "currval",
    "lastval",
    "nextval",
    "setval",
    "pg_get_sequence_data",
    "pg_sequence_last_value",
    // Waiting, notifying, ending other sessions.
    "pg_cancel_backend",
    "pg_logical_emit_message",
    "pg_notify",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_terminate_backend",
    // Advisory locks that are given back, or not waited for but refused.
    "pg_advisory_unlock",
    "pg_advisory_unlock_all",
    "pg_advisory_unlock_shared",
    // Looking at the server.
    "current_query",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_control_checkpoint",
    "pg_control_init",
    "pg_control_recovery",
    "pg_control_system",
    "pg_current_logfile",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_database_size",
    "pg_export_snapshot",
    "pg_get_wal_replay_pause_state",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_jit_available",
    "pg_last_committed_xact",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_lock_status",
    "pg_notification_queue_usage",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_prepared_xact",
    "pg_relation_size",
    "pg_safe_snapshot_blocking_pids",
    "pg_show_all_file_settings",
    "pg_stat_clear_snapshot",
    "pg_stat_get_backend_io",
    "pg_stat_get_io",
    "pg_stat_get_xact_blocks_fetched",
    "pg_stat_get_xact_blocks_hit",
    "pg_stat_get_xact_function_calls",
    "pg_stat_get_xact_numscans",
    "pg_stat_get_xact_tuples_deleted",
    "pg_stat_get_xact_tuples_fetched",
    "pg_stat_get_xact_tuples_hot_updated",
    "pg_stat_get_xact_tuples_inserted",
    "pg_stat_get_xact_tuples_returned",
    "pg_stat_get_xact_tuples_updated",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_xact_commit_timestamp",
    "pg_xact_status",
    "txid_status",
];

/// Volatile C functions of extensions that only make numbers: uuid-ossp, pgcrypto. (Stable ones change nothing by
/// their declaration, which is trusted from the same hands as "immutable" is.)
pub(crate) const EXTENSION_HARMLESS: &[&str] = &[
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "pgp_pub_encrypt",
    "pgp_pub_encrypt_bytea",
    "pgp_sym_encrypt",
    "pgp_sym_encrypt_bytea",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
];

/// Volatile functions that take a lock: to be granted it is news of what its last holder did.
pub const VOLATILE_LOCKING: &[&str] = &[
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
];

/// Volatile functions that change settings and nothing else.
pub const VOLATILE_SETTING: &[&str] = &["set_config"];

/// Stable functions that can run user code all the same: they read tables (views!), or call input functions of
/// types that are named at run time (domains!).
pub const STABLE_HARMFUL: &[&str] = &[
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "domain_in",
    "domain_recv",
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "jsonb_populate_record",
    "jsonb_populate_record_valid",
    "jsonb_populate_recordset",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "pg_input_error_info",
    "pg_input_is_valid",
    "record_in",
    "record_recv",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
];

/// Built-in functions that accept a row as their only argument and are not cacheable: `t.name` can call them.
pub const TAKES_ANY_ROW: &[&str] = &[
    "pg_collation_for",
    "pg_column_compression",
    "pg_column_size",
    "pg_column_toast_chunk_id",
    "pg_restore_attribute_stats",
    "pg_restore_relation_stats",
    "pg_typeof",
    "record_out",
    "record_send",
];

/// Functions whose result is a date or timestamp (or, for some arguments, an interval).
pub const RETURNS_TIMESTAMP: &[&str] = &[
    "date",
    "date_add",
    "date_bin",
    "date_subtract",
    "date_trunc",
    "make_date",
    "make_timestamp",
    "make_timestamptz",
    "timestamp",
    "timestamptz",
    "timezone",
    "to_date",
    "to_timestamp",
];

/// Functions whose result is a number, an interval or a time of day.
pub const RETURNS_OTHER: &[&str] = &[
    "abs",
    "age",
    "avg",
    "ceil",
    "ceiling",
    "count",
    "date_part",
    "extract",
    "floor",
    "justify_days",
    "justify_hours",
    "justify_interval",
    "length",
    "make_interval",
    "make_time",
    "mod",
    "round",
    "row_number",
    "sum",
    "trunc",
];

/// Functions whose result has the type of their arguments.
pub const RETURNS_ARGUMENT: &[&str] = &[
    "any_value",
    "first_value",
    "generate_series",
    "lag",
    "last_value",
    "lead",
    "max",
    "min",
    "nth_value",
    "unnest",
];

/// Aggregates whose result depends on the order in which rows reach them, which may be PostgreSQL's own choice.
pub const IN_ORDER_OF_ARRIVAL: &[&str] = &[
    "any_value",
    "array_agg",
    "json_agg",
    "json_agg_strict",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "mode",
    "string_agg",
    "xmlagg",
];

/// Aggregates that round on the way where values are floating point, so that the order of rows is in the last digits.
pub const ADDS_UP: &[&str] = &[
    "avg",
    "corr",
    "covar_pop",
    "covar_samp",
    "regr_avgx",
    "regr_avgy",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "sum",
    "var_pop",
    "var_samp",
    "variance",
];

/// Whether a stable built-in called with that many arguments may be cached.
pub fn stable_allowed(name: &str, args: usize) -> bool {
    STABLE_ALLOWED.iter().any(|(allowed, range)| *allowed == name && range.contains(&args))
}
