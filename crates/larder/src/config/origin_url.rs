use std::fmt;

use percent_encoding::percent_decode_str;
use serde_json::{Value as Json, json};
use url::{Host, Url};

use super::values::{Complaint, OriginTls, Value};

const SHAPE: &str = "write postgres://user:password@host:5432/database";

/// `postgres://[user[:password]@]host[:port][/database][?sslmode=...]`, or nothing.
#[derive(Clone, Default)]
pub(crate) struct OriginUrl(Option<Target>);

/// A server and an account on it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Name or address.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
    /// Larder's own role.
    pub(crate) user: Option<String>,
    /// Its password.
    pub(crate) password: Option<String>,
    /// As in libpq, the role's name when none is given.
    pub(crate) database: Option<String>,
    /// Its `sslmode`.
    pub(crate) tls: Option<OriginTls>,
}

impl OriginUrl {
    /// Whether a URL was given.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// What it says.
    pub(crate) fn target(&self) -> Option<&Target> {
        self.0.as_ref()
    }
}

impl Value for OriginUrl {
    fn parse(text: &str) -> Result<Self, Complaint> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // The text may hold a password: no message repeats it.
        let url = Url::parse(text).map_err(|error| (format!("not a URL: {error}"), SHAPE.to_owned()))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err((format!("\"{}:\" is not a PostgreSQL URL", url.scheme()), SHAPE.to_owned()));
        }
        let tls = tls(&url)?;
        let database = decode(url.path().trim_start_matches('/'))?;
        Ok(Self(Some(Target {
            host: host(&url)?,
            port: url.port().unwrap_or(5432),
            user: non_empty(decode(url.username())?),
            password: url.password().map(decode).transpose()?,
            database: non_empty(database),
            tls,
        })))
    }

    fn show(&self) -> Json {
        json!(self.to_string())
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^(postgres(ql)?://.*)?$" })
    }
}

/// The URL with the password masked.
impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(target) => write!(f, "{target}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |text| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC);
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            write!(f, "{}", encode(user))?;
            f.write_str(if self.password.is_some() { ":***@" } else { "@" })?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        write!(f, ":{}", self.port)?;
        if let Some(database) = &self.database {
            write!(f, "/{}", encode(database))?;
        }
        match self.tls {
            Some(tls) => write!(f, "?sslmode={}", tls.name()),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The one parameter that is understood.
fn tls(url: &Url) -> Result<Option<OriginTls>, Complaint> {
    let mut found = None;
    for (name, value) in url.query_pairs() {
        if name != "sslmode" {
            let mend = "leave it out; sslmode is the only parameter of this URL (for sslrootcert there is [origin] tls_ca)";
            return Err((format!("the parameter \"{name}\" is not understood"), mend.to_owned()));
        }
        found = OriginTls::from_sslmode(&value);
        if found.is_none() {
            let mend = "the modes are disable, allow, prefer, require, verify-ca and verify-full".to_owned();
            return Err((format!("sslmode={value} is not a mode"), mend));
        }
    }
    Ok(found)
}

fn host(url: &Url) -> Result<String, Complaint> {
    let host = match url.host() {
        Some(Host::Domain(name)) => decode(name)?,
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => String::new(),
    };
    if host.is_empty() {
        return Err(("the host is missing".to_owned(), SHAPE.to_owned()));
    }
    if host.starts_with('/') {
        return Err(("Unix-domain sockets are not supported by this version".to_owned(), SHAPE.to_owned()));
    }
    if host.contains(',') {
        return Err(("several hosts in one URL".to_owned(), "name the primary only".to_owned()));
    }
    Ok(host)
}

fn decode(text: &str) -> Result<String, Complaint> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(("a percent-encoded part is not UTF-8 text".to_owned(), SHAPE.to_owned())),
    }
}

fn non_empty(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}
