use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $name:literal,)+) => {
        /// Why a statement was not answered from the cache: every refusal has a name.
        ///
        /// The same name appears in the metric label, `larder explain`, `SHOW larder.last` and the documentation.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[non_exhaustive]
        pub enum Bypass { $($(#[doc = $doc])+ $variant,)+ }

        impl Bypass {
            /// Every reason, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The stable name, in snake case.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// One sentence for people.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

reasons! {
    // Asked for.
    /// Caching is switched off by configuration (mode = "bypass").
    ModeBypass => "mode_bypass",
    /// The session asked for it: SET larder.mode = 'bypass'.
    SessionBypass => "session_bypass",
    /// The statement asked for it: /* larder: bypass */.
    Hint => "hint",

    // The statement.
    /// Not a SELECT: it writes, defines, controls or inspects something.
    NotASelect => "not_a_select",
    /// Several statements in one simple query.
    MultiStatement => "multi_statement",
    /// An empty query.
    Empty => "empty",
    /// The text is longer than Larder analyses (32 KiB).
    TooLong => "too_long",
    /// PostgreSQL's grammar does not accept the text; the origin says what is wrong.
    SyntaxError => "syntax_error",
    /// SELECT ... FOR UPDATE/SHARE takes locks.
    Locking => "locking",
    /// SELECT INTO creates a table.
    SelectInto => "select_into",
    /// A common table expression writes.
    DataModifyingCte => "data_modifying_cte",
    /// TABLESAMPLE is random.
    TableSample => "tablesample",
    /// A construct that Larder does not understand well enough to judge.
    UnsupportedSyntax => "unsupported_syntax",
    /// Reads the clock (CURRENT_DATE, LOCALTIME, ...).
    Clock => "clock",
    /// A date or time given as 'now', 'today', 'tomorrow' or 'yesterday'.
    RelativeTimeLiteral => "relative_time_literal",
    /// A value computed at run time is converted to a date or time and could be 'now'.
    ComputedDatetimeCast => "computed_datetime_cast",

    // What it refers to.
    /// Calls a volatile function.
    VolatileFunction => "volatile_function",
    /// Calls a stable function whose inputs are not part of the key.
    StableFunction => "stable_function",
    /// Calls a user-defined function, operator or cast.
    UserFunction => "user_function",
    /// Calls a function that the catalog does not know.
    UnknownFunction => "unknown_function",
    /// Uses a user-defined type that Larder does not see through.
    UserType => "user_type",
    /// Names a relation that the catalog does not know.
    UnknownRelation => "unknown_relation",
    /// Reads the system catalogs or information_schema.
    SystemCatalog => "system_catalog",
    /// Reads a system column (xmin, ctid, ...).
    SystemColumn => "system_column",
    /// Reads a sequence as a table.
    Sequence => "sequence",
    /// Reads a foreign table, whose changes no log shows.
    ForeignTable => "foreign_table",
    /// Reads an unlogged table, whose changes no log shows.
    UnloggedTable => "unlogged_table",
    /// Reads a temporary table, or the session has temporary objects that could shadow a name.
    TemporaryTable => "temporary_table",
    /// Reads a relation with row-level security whose policies Larder does not see through.
    RowSecurity => "row_security",
    /// Reads a view whose definition Larder does not see through.
    OpaqueView => "opaque_view",
    /// Reads a relation with a rewrite rule.
    Rule => "rule",

    // The session.
    /// The database is not the one that the change feed follows.
    DatabaseNotFollowed => "database_not_followed",
    /// Inside a transaction that has written, or may have.
    TransactionWrote => "transaction_wrote",
    /// Inside a transaction that holds a snapshot (REPEATABLE READ, SERIALIZABLE), or may.
    TransactionSnapshot => "transaction_snapshot",
    /// Inside a failed transaction.
    TransactionFailed => "transaction_failed",
    /// The session's settings may have changed inside this transaction and cannot be read back yet.
    SettingsUnknown => "settings_unknown",
    /// Earlier requests of this session are still unanswered.
    PipelineBusy => "pipeline_busy",
    /// The shape of the exchange (partial fetch, portal reuse, Flush, ...) is not one that is answered from memory.
    ProtocolShape => "protocol_shape",
    /// The origin has not prepared or described this statement yet since meaning last changed.
    NotPrepared => "not_prepared",
    /// The parameters or the key are larger than Larder keeps.
    KeyTooLarge => "key_too_large",

    // Certainty.
    /// No catalog has been read from the origin yet.
    NoCatalog => "no_catalog",
    /// The change feed does not cover the present: the lease has run out.
    NoLease => "no_lease",
    /// The wait for the read barrier (level = "linearizable") passed its deadline.
    BarrierTimeout => "barrier_timeout",
    /// An answer to this statement was larger than max_result a short while ago.
    ResultTooLarge => "result_too_large",
    /// A rule of the configuration says so.
    ConfigRule => "config_rule",
    /// An operator has switched caching of the statement, or of a table that it reads, off.
    Denied => "denied",

    // Compared with the origin.
    /// The answer was in memory, and in mode = "shadow" the origin answers all the same.
    Shadow => "shadow",
    /// The answer was in memory, and this time it was compared with the origin's (setting verify.sample).
    Verify => "verify",
    /// An answer to this statement was found to differ from the origin's without a change that explains it.
    VerifyMismatch => "verify_mismatch",
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_explained() {
        let names: HashSet<_> = Bypass::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Bypass::ALL.len());
        for reason in Bypass::ALL {
            assert!(reason.explanation().ends_with('.'), "{reason}: {}", reason.explanation());
        }
    }
}
