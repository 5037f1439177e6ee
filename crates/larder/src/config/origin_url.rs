use std::fmt;

use larder_login::{ServerUrl, ServerUrlError};
use serde_json::{Value as Json, json};

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

impl Target {
    /// The same account on the same server; how to prove it and how to get there may differ.
    pub(super) fn is_same_account(&self, other: &Self) -> bool {
        let bare = |target: &Self| Self { password: None, tls: None, ..target.clone() };
        bare(self) == bare(other)
    }
}

impl Value for OriginUrl {
    fn parse(text: &str) -> Result<Self, Complaint> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let url = ServerUrl::parse(text).map_err(complaint)?;
        Ok(Self(Some(Target {
            tls: tls(&url)?,
            host: url.host,
            port: url.port,
            user: url.user,
            password: url.password,
            database: url.database,
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
fn tls(url: &ServerUrl) -> Result<Option<OriginTls>, Complaint> {
    let mut found = None;
    for (name, value) in &url.parameters {
        if name != "sslmode" {
            let mend = "leave it out; sslmode is the only parameter of this URL (for sslrootcert, sslcert and sslkey there \
                        are [origin] tls_ca, tls_cert and tls_key)";
            return Err((format!("the parameter \"{name}\" is not understood"), mend.to_owned()));
        }
        found = OriginTls::from_sslmode(value);
        if found.is_none() {
            let mend = "the modes are disable, allow, prefer, require, verify-ca and verify-full".to_owned();
            return Err((format!("sslmode={value} is not a mode"), mend));
        }
    }
    Ok(found)
}

fn complaint(error: ServerUrlError) -> Complaint {
    let mend = if error == ServerUrlError::SeveralHosts { "name the primary only" } else { SHAPE };
    (error.to_string(), mend.to_owned())
}
