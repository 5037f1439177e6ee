//! The first message of a connection, which has no type byte.

use crate::read::Reader;

/// What a client opens a connection with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening<'a> {
    /// Asks for TLS.
    Ssl,
    /// Asks for GSSAPI encryption.
    Gss,
    /// Asks to cancel a query of another connection; relayed as it is.
    Cancel,
    /// A session begins.
    Startup(Startup<'a>),
    /// Too short for anything.
    Unknown,
}

/// The parameters of a session, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Startup<'a> {
    /// Major and minor version of the protocol.
    pub version: (u16, u16),
    /// Names and values.
    pub parameters: Vec<(&'a [u8], &'a [u8])>,
}

/// Largest first message that PostgreSQL accepts, in bytes: `MAX_STARTUP_PACKET_LENGTH` and the length itself.
pub const MAX_OPENING: usize = 10_004;

/// Size of the first message in `buffer`: `None` until four bytes are there, `Some(Err(()))` if it is impossible.
pub fn opening_size(buffer: &[u8]) -> Option<Result<usize, ()>> {
    let length = Reader(buffer).i32()?;
    Some(usize::try_from(length).ok().filter(|size| (8..=MAX_OPENING).contains(size)).ok_or(()))
}

/// Reads a whole first message (length included).
pub fn opening(message: &[u8]) -> Opening<'_> {
    let mut reader = Reader(message);
    let (Some(_), Some(major), Some(minor)) = (reader.i32(), reader.i16(), reader.i16()) else {
        return Opening::Unknown;
    };
    match (major, minor) {
        (1234, 5679) => Opening::Ssl,
        (1234, 5680) => Opening::Gss,
        (1234, 5678) => Opening::Cancel,
        // Of any version: what the origin does not speak it refuses in its own words.
        _ => {
            let mut parameters = Vec::new();
            while let (Some(name), Some(value)) =
                (reader.cstr().filter(|name| !name.is_empty()), reader.cstr())
            {
                parameters.push((name, value));
            }
            Opening::Startup(Startup { version: (major.cast_unsigned(), minor.cast_unsigned()), parameters })
        }
    }
}

impl<'a> Startup<'a> {
    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.parameters.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| *value)
    }

    /// The database: as named, or the user's name.
    pub fn database(&self) -> Option<&'a [u8]> {
        self.get("database").filter(|name| !name.is_empty()).or_else(|| self.get("user"))
    }

    /// Whether the session is a replication connection, whose traffic follows other rules.
    pub fn is_replication(&self) -> bool {
        self.get("replication")
            .is_some_and(|value| !matches!(value, b"" | b"false" | b"off" | b"no" | b"0" | b"f" | b"n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_kinds_of_opening_apart() {
        assert_eq!(opening(&[0, 0, 0, 8, 4, 210, 22, 47]), Opening::Ssl);
        assert_eq!(opening(&[0, 0, 0, 8, 4, 210, 22, 48]), Opening::Gss);
        let message = b"\0\0\0\x20\0\x03\0\0user\0ann\0database\0app\0\0";
        let Opening::Startup(startup) = opening(message) else { panic!("not a startup") };
        assert_eq!(startup.version, (3, 0));
        assert_eq!(startup.database(), Some(&b"app"[..]));
        assert!(!startup.is_replication());
        assert_eq!(opening(b"\0\0"), Opening::Unknown);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(opening_size(b"\0\0\0"), None);
        assert_eq!(opening_size(b"\0\0\0\x08"), Some(Ok(8)));
        assert_eq!(opening_size(b"\0\0\0\x07"), Some(Err(())));
        assert_eq!(opening_size(b"GET "), Some(Err(())));
    }
}
