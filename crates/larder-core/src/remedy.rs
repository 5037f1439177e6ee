//! What can be done about a reason to bypass, in a sentence for whoever runs the application or the database.

use crate::Bypass;

impl Bypass {
    /// What to do about it, if anything.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::ModeBypass => "Switch to serve: SET MODE = 'serve', or [cache] mode.",
            Self::SessionBypass => {
                "Find who sets larder.mode: the session, ALTER ROLE or the connection's options."
            }
            Self::Hint => "Remove the comment where answers may come from memory.",
            Self::ConfigRule => "Change the [[rule]] of the configuration if it is not wanted any more.",
            Self::Denied => "ALLOW QUERY, ALLOW TABLE or ALLOW ALL; SHOW RULES lists what is off.",
            Self::Shadow => {
                "Switch to serve when the comparison has convinced you: SET MODE = 'serve', or [cache] mode."
            }
            Self::Verify => "Nothing: it is the sample. Lower [verify] sample if it is too many.",
            Self::VerifyMismatch => {
                "Find out why (docs/guides/prove-it.md), then ALLOW QUERY; SHOW RULES lists what is off."
            }
            Self::ResultTooLarge => "Read less at a time, or raise [cache] max_result.",
            Self::DatabaseNotFollowed => {
                "Run one Larder per database: the feed follows the one in control_url."
            }
            Self::NotASelect | Self::Empty | Self::SyntaxError => "Nothing: it belongs to the database.",
            Self::MultiStatement => "Send the statements one by one.",
            Self::TooLong => "Shorten it: long lists are better passed as one array parameter.",
            Self::Locking | Self::SelectInto | Self::DataModifyingCte => "Nothing: it writes or locks.",
            Self::TableSample | Self::VolatileFunction => {
                "Nothing, if another answer each time is what is wanted."
            }
            Self::UnsupportedSyntax => {
                "larder explain shows what is judged; a simpler form may be cacheable."
            }
            Self::Clock | Self::RelativeTimeLiteral => {
                "Let the application pass the time as a parameter, rounded if it can be."
            }
            Self::ComputedDatetimeCast => "Pass a value of the right type instead of casting text.",
            Self::StableFunction => "If it reads the clock, pass the time as a parameter; otherwise none.",
            Self::KeyTooLarge => "Pass less in parameters: long lists do not repeat.",
            Self::UserFunction => "Write its expression into the query: Larder does not look into functions.",
            Self::UnknownFunction | Self::UnknownRelation => {
                "Check name and search_path; a new object is known within [freshness] ddl_check."
            }
            Self::UserType => "Cast to a built-in type in the query.",
            Self::SystemCatalog | Self::SystemColumn | Self::Sequence => {
                "Nothing: no log shows when it changes."
            }
            Self::ForeignTable => "Query its own server through a Larder of its own.",
            Self::UnloggedTable => "ALTER TABLE ... SET LOGGED, if it is worth that.",
            Self::TemporaryTable => {
                "Close or DISCARD TEMP in sessions that go on after using temporary tables."
            }
            Self::RowSecurity => {
                "Write policies with current_setting() and columns, without functions of your own."
            }
            Self::OpaqueView => {
                "larder explain its query: what stands in the way there stands in the way here."
            }
            Self::Rule => "Replace the rewrite rule by a trigger or a view.",
            Self::TransactionWrote => "Read before the first write, or outside the transaction.",
            Self::TransactionSnapshot => "Use READ COMMITTED where the stronger level is not needed.",
            Self::TransactionFailed => "Nothing: PostgreSQL refuses it.",
            Self::SettingsUnknown => "Set session settings once after connecting, not before each query.",
            Self::PipelineBusy => "Nothing: the order of answers in a pipeline is kept.",
            Self::ProtocolShape => "Fetch results whole (no row limit), end each request with Sync.",
            Self::NoCatalog | Self::NoLease => {
                "See the findings of the change feed: SHOW FEED, larder check."
            }
            Self::BarrierTimeout => "See larder_feed_lag_seconds; level = \"strict\" does not wait.",
            Self::NotPrepared => "Nothing: it passes by itself.",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_sentence() {
        for reason in Bypass::ALL {
            assert!(reason.remedy().ends_with('.'), "{reason}: {}", reason.remedy());
        }
    }
}
