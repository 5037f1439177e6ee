//! An account from a URL.

use std::time::Duration;

use larder_feed::Account;
use larder_login::{OriginTls, TlsMode};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// Longest time that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The URL is not one of an account on a PostgreSQL server. No message repeats it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write postgres://user:password@host:5432/database?sslmode=verify-full")]
pub struct UrlError(String);

/// Reads `postgres://user:password@host:port/database?sslmode=...&sslrootcert=...`, with libpq's meaning and defaults.
pub(crate) fn parse(text: &str) -> Result<Account, UrlError> {
    let url = Url::parse(text).map_err(|error| UrlError(format!("not a URL: {error}")))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(UrlError(format!("\"{}:\" is not a PostgreSQL URL", url.scheme())));
    }
    let host = match url.host() {
        Some(Host::Domain(name)) => decode(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    };
    if host.is_empty() {
        return Err(UrlError("no host".to_owned()));
    }
    let user = decode(url.username())?;
    if user.is_empty() {
        return Err(UrlError("no user".to_owned()));
    }
    let database = decode(url.path().trim_start_matches('/'))?;
    Ok(Account {
        host,
        port: url.port().unwrap_or(5432),
        password: url.password().map(decode).transpose()?,
        database: if database.is_empty() { user.clone() } else { database },
        user,
        tls: tls(&url)?,
        connect_timeout: CONNECT_TIMEOUT,
    })
}

fn tls(url: &Url) -> Result<OriginTls, UrlError> {
    let (mut mode, mut authorities) = (TlsMode::Prefer, None);
    for (name, value) in url.query_pairs() {
        match (&*name, &*value) {
            ("sslmode", "disable") => mode = TlsMode::Disable,
            ("sslmode", "allow" | "prefer") => mode = TlsMode::Prefer,
            ("sslmode", "require") => mode = TlsMode::Require,
            ("sslmode", "verify-ca") => mode = TlsMode::VerifyCa,
            ("sslmode", "verify-full") => mode = TlsMode::VerifyFull,
            ("sslmode", _) => return Err(UrlError("sslmode is not one of libpq's".to_owned())),
            ("sslrootcert", file) => authorities = Some(file.to_owned()),
            (other, _) => return Err(UrlError(format!("the parameter \"{other}\" is not understood"))),
        }
    }
    OriginTls::new(mode, authorities.as_deref().map(std::path::Path::new))
        .map_err(|error| UrlError(format!("no TLS: {error}")))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| UrlError("something in it is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_as_libpq_does() {
        let account = parse("postgres://larder:p%40ss@db:6543/shop?sslmode=disable").unwrap();
        assert_eq!((&*account.host, account.port, &*account.user), ("db", 6543, "larder"));
        assert_eq!((account.password.as_deref(), &*account.database), (Some("p@ss"), "shop"));
        let account = parse("postgresql://larder@[::1]").unwrap();
        assert_eq!((&*account.host, account.port, &*account.database), ("::1", 5432, "larder"));
        assert_eq!((account.password, account.tls.mode()), (None, TlsMode::Prefer));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_password() {
        let cases = [
            ("larder", "not a URL"),
            ("mysql://u:geheim@h/d", "not a PostgreSQL URL"),
            ("postgres://u:geheim@/d", ""),
            ("postgres://:geheim@h/d", "no user"),
            ("postgres://u:geheim@h/d?sslmode=maybe", "sslmode"),
            ("postgres://u:geheim@h/d?target_session_attrs=any", "\"target_session_attrs\""),
            ("postgres://u:geheim@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem", "no TLS"),
        ];
        for (url, part) in cases {
            let error = parse(url).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("geheim"), "{url}: {error}");
        }
    }
}
