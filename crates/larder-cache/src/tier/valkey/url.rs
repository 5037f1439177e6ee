//! Where Valkey is, as one line of text.
//!
//! ```text
//!   redis://[[user]:password@]host[:6379][/db]                  also valkey://; TLS: rediss://, valkeys://
//!   redis-sentinel://[[user]:password@]host[:26379],.../[db]?master=name[&sentinel_user=...&sentinel_password=...]
//!   redis-cluster://[[user]:password@]host[:6379],...           or several hosts in a plain URL
//! ```

use std::fmt;
use std::str::FromStr;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The servers, how they belong together, and an account on them.
#[derive(Clone, PartialEq, Eq)]
pub struct ValkeyUrl {
    /// Names or addresses, and ports. Of Sentinels, if there are any.
    pub servers: Vec<(String, u16)>,
    /// How they belong together.
    pub topology: Topology,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// ACL user; none: the default one.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// Number of the database.
    pub database: i64,
}

/// How the servers of a [`ValkeyUrl`] belong together.
#[derive(Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// Sentinels, who know the primary.
    Sentinel {
        /// The primary's name among them.
        master: String,
        /// ACL user at the Sentinels themselves.
        user: Option<String>,
        /// Its password there.
        password: Option<String>,
    },
    /// Nodes of a cluster.
    Cluster,
}

/// What is wrong with the text. It never repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct UrlError {
    what: String,
}

/// An account within a URL.
type Account = (Option<String>, Option<String>);

impl FromStr for ValkeyUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| wrong("there is no \"redis://\" at its beginning"))?;
        let (kind, tls) = scheme_of(scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (account, hosts) = match authority.rsplit_once('@') {
            Some((account, hosts)) => (account_of(account)?, hosts),
            None => ((None, None), authority),
        };
        let servers = servers_of(hosts, if kind == "sentinel" { 26379 } else { 6379 })?;
        let (sentinel, master) = parameters(query)?;
        let topology = match (kind, master) {
            ("sentinel", Some(master)) => {
                Topology::Sentinel { master, user: sentinel.0, password: sentinel.1 }
            }
            ("sentinel", None) => return Err(wrong("the primary's name is missing: add ?master=name")),
            (_, Some(_)) => return Err(wrong("?master=... belongs to redis-sentinel://")),
            ("cluster", None) => Topology::Cluster,
            (_, None) if servers.len() > 1 => Topology::Cluster,
            (_, None) => Topology::Single,
        };
        let database =
            if path.is_empty() { Some(0) } else { path.parse().ok().filter(|number| *number >= 0) };
        let database =
            database.ok_or_else(|| wrong("what follows the host is not the number of a database"))?;
        Ok(Self { servers, topology, tls, user: account.0, password: account.1, database })
    }
}

fn wrong(what: impl Into<String>) -> UrlError {
    UrlError { what: what.into() }
}

fn scheme_of(scheme: &str) -> Result<(&'static str, bool), UrlError> {
    let (name, kind) = match scheme.split_once('-') {
        None => (scheme, "single"),
        Some((name, "sentinel")) => (name, "sentinel"),
        Some((name, "cluster")) => (name, "cluster"),
        Some(_) => ("", ""),
    };
    match name {
        "redis" | "valkey" => Ok((kind, false)),
        "rediss" | "valkeys" => Ok((kind, true)),
        _ => Err(wrong(
            "its scheme is none of redis://, rediss:// (TLS), redis-sentinel://, rediss-sentinel://, redis-cluster://, \
             rediss-cluster:// (or the same with valkey)",
        )),
    }
}

fn account_of(text: &str) -> Result<Account, UrlError> {
    let (user, password) = match text.split_once(':') {
        Some((user, password)) => (user, Some(decode(password)?)),
        None => (text, None),
    };
    let user = Some(decode(user)?).filter(|user| !user.is_empty());
    if user.is_some() && password.is_none() {
        return Err(wrong("there is a user and no password: write user:password@"));
    }
    Ok((user, password))
}

fn servers_of(hosts: &str, default_port: u16) -> Result<Vec<(String, u16)>, UrlError> {
    let server = |host: &str| {
        let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            // An IPv6 address.
            Some((name, rest)) => (name, rest.strip_prefix(':')),
            None => host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port))),
        };
        let port = port.map_or(Ok(default_port), str::parse).map_err(|_| wrong("a port is not a number"))?;
        let name = decode(name)?;
        if name.is_empty() { Err(wrong("a host is missing")) } else { Ok((name, port)) }
    };
    hosts.split(',').map(server).collect()
}

/// The account at the Sentinels, and the primary's name.
fn parameters(query: &str) -> Result<(Account, Option<String>), UrlError> {
    let (mut account, mut master) = ((None, None), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = Some(decode(value)?).filter(|value| !value.is_empty());
        match name {
            "master" => master = value,
            "sentinel_user" => account.0 = value,
            "sentinel_password" => account.1 = value,
            _ => return Err(wrong("its parameters can be master, sentinel_user and sentinel_password")),
        }
    }
    Ok((account, master))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let decoded = percent_decode_str(text).decode_utf8().ok();
    decoded.map(Into::into).ok_or_else(|| wrong("a percent-encoded part is not UTF-8 text"))
}

/// The URL with passwords masked.
impl fmt::Display for ValkeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        f.write_str(match self.topology {
            Topology::Single => "://",
            Topology::Sentinel { .. } => "-sentinel://",
            Topology::Cluster => "-cluster://",
        })?;
        if self.password.is_some() {
            write!(f, "{}:***@", encode(self.user.as_deref().unwrap_or_default()))?;
        }
        for (at, (host, port)) in self.servers.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            if host.contains(':') {
                write!(f, "{comma}[{host}]:{port}")?
            } else {
                write!(f, "{comma}{host}:{port}")?
            }
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        match &self.topology {
            Topology::Sentinel { master, .. } => write!(f, "?master={}", encode(master)),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for ValkeyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single => f.write_str("Single"),
            Self::Sentinel { master, .. } => write!(f, "Sentinel({master})"),
            Self::Cluster => f.write_str("Cluster"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_shown_without_secrets() {
        for (text, shown) in [
            ("redis://cache", "redis://cache:6379"),
            ("valkey://127.0.0.1:7000/3", "redis://127.0.0.1:7000/3"),
            ("valkeys://:s3cret@cache", "rediss://:***@cache:6379"),
            ("rediss://larder:s3cret%40%2F@cache:1/0", "rediss://larder:***@cache:1"),
            ("redis://[::1]:7", "redis://[::1]:7"),
            ("redis://[fe80::1]", "redis://[fe80::1]:6379"),
            ("redis://a,b:7", "redis-cluster://a:6379,b:7"),
            ("valkey-cluster://a", "redis-cluster://a:6379"),
            (
                "rediss-sentinel://u:s3cret@a,b:5/2?master=my+cache&sentinel_password=s3cret",
                "rediss-sentinel://u:***@a:26379,b:5/2?master=my%2Bcache",
            ),
        ] {
            let url: ValkeyUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}{:?}", url.topology).contains("s3cret"));
        }
        let url: ValkeyUrl = "redis://larder:a%40b@cache".parse().unwrap();
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("larder"), Some("a@b")));
        let url: ValkeyUrl = "redis://:p@ss@cache".parse().unwrap();
        assert_eq!((url.user, url.password.as_deref()), (None, Some("p@ss")));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_text() {
        for (text, what) in [
            ("s3cret", "there is no \"redis://\""),
            ("http://s3cret@x", "its scheme is none of"),
            ("redis-ring://s3cret", "its scheme is none of"),
            ("redis://", "a host is missing"),
            ("redis://:s3cret@a,", "a host is missing"),
            ("redis://cache:s3cret", "a port is not a number"),
            ("redis://s3cret@cache", "a user and no password"),
            ("redis://cache/s3cret", "not the number of a database"),
            ("redis://cache/-1", "not the number of a database"),
            ("redis-sentinel://a", "add ?master=name"),
            ("redis://a?master=s3cret", "belongs to redis-sentinel"),
            ("redis://a?s3cret=1", "its parameters can be"),
            ("redis://:%ff@a", "not UTF-8"),
        ] {
            let said = text.parse::<ValkeyUrl>().unwrap_err().to_string();
            assert!(said.contains(what) && !said.contains("s3cret"), "{text}: {said}");
        }
    }
}
