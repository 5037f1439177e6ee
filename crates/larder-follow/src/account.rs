//! An account from a URL.

use std::time::Duration;

use larder_feed::Account;
use larder_login::{OriginTls, ServerUrl, TlsMode};

/// Longest time that a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The URL is not one of an account on a PostgreSQL server. No message repeats it: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write postgres://user:password@host:5432/database?sslmode=verify-full")]
pub struct UrlError(String);

/// Reads `postgres://user:password@host:port/database?sslmode=...&sslrootcert=...`, with libpq's meaning and defaults.
pub(crate) fn parse(text: &str) -> Result<Account, UrlError> {
    let url = ServerUrl::parse(text).map_err(|error| UrlError(error.to_string()))?;
    let tls = tls(&url)?;
    let user = url.user.ok_or_else(|| UrlError("no user".to_owned()))?;
    Ok(Account {
        host: url.host,
        port: url.port,
        password: url.password,
        database: url.database.unwrap_or_else(|| user.clone()),
        user,
        tls,
        connect_timeout: CONNECT_TIMEOUT,
    })
}

fn tls(url: &ServerUrl) -> Result<OriginTls, UrlError> {
    let (mut mode, mut authorities) = (TlsMode::Prefer, None);
    for (name, value) in &url.parameters {
        match (&**name, &**value) {
            ("sslmode", "disable") => mode = TlsMode::Disable,
            ("sslmode", "allow" | "prefer") => mode = TlsMode::Prefer,
            ("sslmode", "require") => mode = TlsMode::Require,
            ("sslmode", "verify-ca") => mode = TlsMode::VerifyCa,
            ("sslmode", "verify-full") => mode = TlsMode::VerifyFull,
            ("sslmode", _) => return Err(UrlError("sslmode is not one of libpq's".to_owned())),
            ("sslrootcert", file) => authorities = Some(file),
            (other, _) => return Err(UrlError(format!("the parameter \"{other}\" is not understood"))),
        }
    }
    OriginTls::new(mode, authorities.map(std::path::Path::new), None)
        .map_err(|error| UrlError(format!("no TLS: {error}")))
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
