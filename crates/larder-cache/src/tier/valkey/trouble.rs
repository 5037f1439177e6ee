//! What can be wrong with a Valkey, as a short list: each with a sentence for the operator and what mends it.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Something that is wrong, with the server's or the system's own words.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// What it is.
    pub kind: TroubleKind,
    /// In the words of whoever noticed.
    pub detail: String,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $Kind:ident = $code:literal, $problem:literal, $remedy:literal;)+) => {
        /// The kinds of trouble.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum TroubleKind { $($(#[doc = $doc])+ $Kind,)+ }

        impl TroubleKind {
            /// A word for metrics, logs and programs.
            pub fn code(self) -> &'static str {
                match self { $(Self::$Kind => $code,)+ }
            }

            /// What is wrong, for people.
            pub fn problem(self) -> &'static str {
                match self { $(Self::$Kind => $problem,)+ }
            }

            /// What to do about it.
            pub fn remedy(self) -> &'static str {
                match self { $(Self::$Kind => $remedy,)+ }
            }
        }
    };
}

kinds! {
    /// No connection: name, route, port, or nobody listens.
    Unreachable = "valkey_unreachable", "Valkey cannot be reached",
        "check host and port of [valkey] url, and that the server runs";
    /// Connected, and no answer in time.
    TimedOut = "valkey_timed_out", "Valkey does not answer in time",
        "look for slow commands or a busy machine (SLOWLOG, LATENCY); if it is far away, raise [valkey] timeout";
    /// The handshake failed.
    Tls = "valkey_tls", "the TLS connection to Valkey fails",
        "set [valkey] tls_ca to the authority that signed its certificate (and tls_cert, tls_key if it asks for one); the host in the URL must be a name in the certificate";
    /// It wants a password and has been given none.
    PasswordWanted = "valkey_password_wanted", "Valkey asks for a password",
        "write it in [valkey] url: redis://user:password@host";
    /// The password, or the user, is not the right one.
    WrongPassword = "valkey_wrong_password", "Valkey refuses user or password",
        "mend user and password in [valkey] url; ACL LIST on the server shows its users";
    /// The user may not do what is needed.
    NoPermission = "valkey_no_permission", "the user may not use a command or key that Larder needs",
        "ACL SETUSER <user> on ><password> ~<prefix>:* +getrange +set +info (+select, +role and +cluster|slots where used)";
    /// No such database number.
    NoDatabase = "valkey_no_database", "Valkey has no database of that number",
        "mend the number at the end of [valkey] url, or raise `databases` on the server";
    /// It is reading its data from disk.
    Loading = "valkey_loading", "Valkey is still loading its data",
        "none: it will answer when it has";
    /// Out of memory, and it may not evict.
    Full = "valkey_full", "Valkey is full and refuses to store",
        "CONFIG SET maxmemory-policy allkeys-lru (a cache needs no other), or give it more memory";
    /// It has a limit, and is told to refuse when it is reached.
    WillFill = "valkey_will_fill", "Valkey will refuse to store once its memory is full (maxmemory-policy noeviction)",
        "CONFIG SET maxmemory-policy allkeys-lru (a cache needs no other)";
    /// A replica, or a primary that may not write.
    ReadOnly = "valkey_read_only", "this Valkey is a read-only replica",
        "name the primary in [valkey] url, or use Sentinel (sentinel_master) to follow it";
    /// A node of a cluster, used as if it stood alone.
    Clustered = "valkey_clustered", "this Valkey is a node of a cluster",
        "set [valkey] cluster = true";
    /// Part of the cluster's slots are not served.
    ClusterDown = "valkey_cluster_down", "the Valkey cluster does not serve all its slots",
        "CLUSTER INFO on a node says which are missing; it mends itself after a failover";
    /// Sentinel knows no such primary, or it is not one (yet).
    NoPrimary = "valkey_no_primary", "there is no Valkey primary at this moment",
        "during a failover: wait; else compare [valkey] sentinel_master with SENTINEL MASTERS";
    /// A key holds something that Larder never stores.
    WrongType = "valkey_wrong_type", "somebody else uses keys of Larder's prefix",
        "give Larder a [valkey] prefix or a database number of its own";
    /// What it says is not the protocol.
    Garbled = "valkey_garbled", "what answers is not a Valkey, or something garbles its answers",
        "check that [valkey] url names a Valkey or Redis, and rediss:// if it speaks TLS";
    /// Another refusal.
    Refused = "valkey_refused", "Valkey refuses",
        "its own words say why";
}

impl Trouble {
    pub(super) fn new(kind: TroubleKind, detail: impl fmt::Display) -> Self {
        // Somebody else's words, in a log line of ours: bounded, and on one line.
        let detail: String =
            detail.to_string().chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
        Self { kind, detail }
    }

    pub(super) fn timed_out(what: &str) -> Self {
        Self::new(TroubleKind::TimedOut, what)
    }

    /// Whether only writing is refused: reading may go on.
    pub(super) fn of_writes(&self) -> bool {
        use TroubleKind::{Full, NoPermission, ReadOnly, Refused};
        matches!(self.kind, Full | ReadOnly | NoPermission | Refused)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.problem())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl From<&RedisError> for Trouble {
    fn from(error: &RedisError) -> Self {
        Self::new(kind(error), error)
    }
}

fn kind(error: &RedisError) -> TroubleKind {
    use TroubleKind::*;
    // The client hides the server's words behind its own kinds in some places: what it says first counts.
    let text = error.to_string();
    let says = |word: &str| text.contains(word) || error.code() == Some(word);
    for (word, kind) in [
        ("max number of clients", Refused),
        ("DB index is out of range", NoDatabase),
        ("WRONGPASS", WrongPassword),
        ("invalid password", WrongPassword),
        ("invalid username-password", WrongPassword),
        ("NOAUTH", PasswordWanted),
        ("WRONGTYPE", WrongType),
        ("NOPERM", NoPermission),
    ] {
        if says(word) {
            return kind;
        }
    }
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::BusyLoading) => Loading,
        ErrorKind::Server(ServerErrorKind::ReadOnly) => ReadOnly,
        ErrorKind::Server(ServerErrorKind::NoPerm) => NoPermission,
        ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::CrossSlot) => {
            Clustered
        }
        ErrorKind::Server(ServerErrorKind::ClusterDown | ServerErrorKind::TryAgain) => ClusterDown,
        ErrorKind::Server(ServerErrorKind::MasterDown) | ErrorKind::MasterNameNotFoundBySentinel => NoPrimary,
        ErrorKind::AuthenticationFailed => WrongPassword,
        ErrorKind::Io if error.is_timeout() => TimedOut,
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => Unreachable,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Garbled,
        _ if error.code() == Some("OOM") => Full,
        _ => Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The server's own words, as each of them says it.
    #[test]
    fn refusals_are_told_apart() {
        use TroubleKind::*;
        for (words, expected) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", Full),
            ("READONLY You can't write against a read only replica.", ReadOnly),
            ("NOAUTH Authentication required.", PasswordWanted),
            ("WRONGPASS invalid username-password pair or user is disabled.", WrongPassword),
            ("ERR invalid password", WrongPassword),
            ("NOPERM User larder has no permissions to run the 'set' command", NoPermission),
            ("NOPERM this user has no permissions to access one of the keys used as arguments", NoPermission),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", WrongType),
            ("LOADING Redis is loading the dataset in memory", Loading),
            ("MOVED 3999 127.0.0.1:6381", Clustered),
            ("CLUSTERDOWN Hash slot not served", ClusterDown),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", NoPrimary),
            ("ERR DB index is out of range", NoDatabase),
            ("ERR max number of clients reached", Refused),
            ("MISCONF Errors writing to the AOF file: No space left on device", Refused),
            ("DENIED Redis is running in protected mode", Refused),
        ] {
            let value = redis::parse_redis_value(format!("-{words}\r\n").as_bytes()).unwrap();
            let error = value.extract_error().unwrap_err();
            assert_eq!(Trouble::from(&error).kind, expected, "{words}");
        }
    }

    #[test]
    fn broken_connections_are_told_from_slow_and_garbled_ones() {
        let io = |kind| Trouble::from(&RedisError::from(std::io::Error::from(kind))).kind;
        assert_eq!(io(std::io::ErrorKind::ConnectionRefused), TroubleKind::Unreachable);
        assert_eq!(io(std::io::ErrorKind::UnexpectedEof), TroubleKind::Unreachable);
        assert_eq!(io(std::io::ErrorKind::TimedOut), TroubleKind::TimedOut);
        let error = redis::parse_redis_value(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_err();
        assert_eq!(Trouble::from(&error).kind, TroubleKind::Garbled);
    }

    #[test]
    fn foreign_words_fit_into_a_log_line() {
        let trouble = Trouble::new(TroubleKind::Refused, format!("a\nb{}", "x".repeat(1000)));
        assert!(trouble.detail.len() == 300 && trouble.detail.starts_with("a b"));
    }
}
