//! Where a server is, and who logs in there, from a URL.

use ::url::{Host, Url};
use percent_encoding::percent_decode_str;

/// What `postgres://user:password@host:port/database?name=value` says, each part as it is meant (not percent-encoded).
#[derive(Clone)]
pub struct ServerUrl {
    /// Name or address.
    pub host: String,
    /// TCP port; 5432 if there is none in the URL.
    pub port: u16,
    /// The role, if one is named.
    pub user: Option<String>,
    /// Its password, if there is one.
    pub password: Option<String>,
    /// The database, if one is named.
    pub database: Option<String>,
    /// What comes after the question mark, in order. What it means is for the caller to say.
    pub parameters: Vec<(String, String)>,
}

/// The URL is not one of a PostgreSQL server that can be reached. No message repeats it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Not a URL at all.
    #[error("not a URL: {0}")]
    Malformed(#[from] ::url::ParseError),
    /// Another kind of URL.
    #[error("\"{0}:\" is not a PostgreSQL URL")]
    Scheme(String),
    /// It names no server.
    #[error("the host is missing")]
    NoHost,
    /// The host is a folder with a socket in it.
    #[error("Unix-domain sockets are not supported by this version")]
    UnixSocket,
    /// libpq would try one after the other.
    #[error("several hosts in one URL")]
    SeveralHosts,
    /// Not text once decoded.
    #[error("a percent-encoded part is not UTF-8 text")]
    Encoding,
}

impl ServerUrl {
    /// Reads a URL as libpq does.
    ///
    /// # Errors
    /// [`ServerUrlError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, ServerUrlError> {
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(ServerUrlError::Scheme(url.scheme().to_owned()));
        }
        let non_empty = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            host: host(&url)?,
            port: url.port().unwrap_or(5432),
            user: non_empty(decode(url.username())?),
            password: url.password().map(decode).transpose()?,
            database: non_empty(decode(url.path().trim_start_matches('/'))?),
            parameters: url.query_pairs().map(|(name, value)| (name.into(), value.into())).collect(),
        })
    }
}

fn host(url: &Url) -> Result<String, ServerUrlError> {
    let host = match url.host() {
        Some(Host::Domain(name)) => decode(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    };
    match host {
        host if host.is_empty() => Err(ServerUrlError::NoHost),
        host if host.starts_with('/') => Err(ServerUrlError::UnixSocket),
        host if host.contains(',') => Err(ServerUrlError::SeveralHosts),
        host => Ok(host),
    }
}

fn decode(text: &str) -> Result<String, ServerUrlError> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(ServerUrlError::Encoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read_as_libpq_does() {
        let url = ServerUrl::parse("postgres://l%40r:p%3Aw@[::1]:5433/my%20db?sslmode=prefer&a=b").unwrap();
        assert_eq!((&*url.host, url.port), ("::1", 5433));
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("l@r"), Some("p:w")));
        assert_eq!(url.database.as_deref(), Some("my db"));
        let parameters: Vec<_> = url.parameters.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(parameters, [("sslmode", "prefer"), ("a", "b")]);
        let url = ServerUrl::parse("postgresql://db").unwrap();
        assert_eq!((&*url.host, url.port, url.user, url.database), ("db", 5432, None, None));
    }

    #[test]
    fn what_cannot_be_reached_is_refused() {
        let refused = |text| ServerUrl::parse(text).err();
        assert_eq!(refused("mysql://u@h/d"), Some(ServerUrlError::Scheme("mysql".to_owned())));
        assert_eq!(refused("postgres:///d"), Some(ServerUrlError::NoHost));
        assert_eq!(refused("postgres://%2Fvar%2Frun/d"), Some(ServerUrlError::UnixSocket));
        assert_eq!(refused("postgres://a,b/d"), Some(ServerUrlError::SeveralHosts));
        assert_eq!(refused("postgres://u%ff@h/d"), Some(ServerUrlError::Encoding));
        assert_eq!(refused("postgres://u%00@h/d"), Some(ServerUrlError::Encoding));
        assert!(matches!(refused("larder"), Some(ServerUrlError::Malformed(_))));
    }
}
