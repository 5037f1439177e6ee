//! Types of the keys of section `[valkey]`, and what they come to.

use std::fmt;

use larder_cache::tier::valkey::{TlsFiles, Topology, ValkeyConfig, ValkeyUrl};
use larder_cache::tier::{SealOptions, Sealer, SealerError};
use serde_json::{Value as Json, json};

use super::Config;
use super::values::{Complaint, Value};

const SHAPE: &str = "write redis://user:password@host:6379/0, rediss://... for TLS, redis-sentinel://host:26379,host/0?master=name, \
                     or redis-cluster://host,host";
/// What an entry has besides its answer: key, tags, proof. The text of a statement is at most 32 KiB.
const BESIDES: usize = 128 * 1024;
/// Smaller answers gain nothing that a network would notice.
const COMPRESS_ABOVE: usize = 1024;

/// `redis://...`, or nothing.
#[derive(Clone, Default)]
pub(crate) struct TierUrl(Option<ValkeyUrl>);

/// What keys begin with.
#[derive(Debug, Clone)]
pub(crate) struct Prefix(pub(crate) String);

/// `true` or `false`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Switch(pub(crate) bool);

impl Value for TierUrl {
    fn parse(text: &str) -> Result<Self, Complaint> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        // The text may hold a password: no message repeats it.
        text.parse()
            .map(|url| Self(Some(url)))
            .map_err(|error| (format!("not a URL of Valkey: {error}"), SHAPE.to_owned()))
    }

    fn show(&self) -> Json {
        json!(self.to_string())
    }

    fn schema() -> Json {
        json!({ "type": "string", "pattern": "^((redis|rediss|valkey|valkeys)(-sentinel|-cluster)?://.*)?$" })
    }
}

impl Value for Prefix {
    fn parse(text: &str) -> Result<Self, Complaint> {
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '*' | '?' | '[' | ']' | '\\' | '"' | '\'');
        if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        let mend = "write 1 to 64 letters, digits and marks, such as larder or {larder}:prod; no spaces, quotes or patterns";
        Err((format!("\"{text}\" cannot begin a key"), mend.to_owned()))
    }

    fn show(&self) -> Json {
        json!(self.0)
    }

    fn schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": 64 })
    }
}

impl Value for Switch {
    fn parse(text: &str) -> Result<Self, Complaint> {
        match text {
            "true" | "on" | "1" => Ok(Self(true)),
            "false" | "off" | "0" => Ok(Self(false)),
            _ => Err((format!("\"{text}\" is neither true nor false"), "write true or false".to_owned())),
        }
    }

    fn show(&self) -> Json {
        json!(self.0)
    }

    fn schema() -> Json {
        json!({ "type": "boolean" })
    }
}

impl fmt::Display for TierUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |url| url.fmt(f))
    }
}

impl fmt::Debug for TierUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What each key allows by itself and the others do not.
pub(super) fn contradictions(config: &Config, mut wrong: impl FnMut(&str, &str, &str)) {
    let valkey = &config.valkey;
    match config.sealer() {
        Err(SealerError::ShortSecret) => {
            wrong("valkey.secret", "shorter than 16 bytes", "make one: openssl rand -hex 32");
        }
        Err(_) => wrong("valkey.encrypt", "there is no secret to encrypt with", "set [valkey] secret"),
        Ok(_) => {}
    }
    let Some(url) = &valkey.url.0 else { return };
    if valkey.cluster.0
        && (matches!(url.topology, Topology::Sentinel { .. }) || !valkey.sentinel_master.0.is_empty())
    {
        wrong(
            "valkey.cluster",
            "a cluster has no Sentinels",
            "leave out cluster, or sentinel_master and redis-sentinel://",
        );
    }
    let (cert, key) = (valkey.tls_cert.get().is_some(), valkey.tls_key.get().is_some());
    if cert != key {
        let path = if cert { "valkey.tls_cert" } else { "valkey.tls_key" };
        wrong(path, "a certificate and its key belong together", "set both tls_cert and tls_key, or neither");
    }
    if !url.tls && (cert || key || valkey.tls_ca.get().is_some()) {
        let path = if valkey.tls_ca.get().is_some() { "valkey.tls_ca" } else { "valkey.tls_cert" };
        wrong(
            path,
            "the connection is not encrypted",
            "write [valkey] url with rediss://, or leave the file out",
        );
    }
}

impl Config {
    /// The shared tier, if there is to be one.
    pub(crate) fn shared_tier(&self) -> Option<ValkeyConfig> {
        let valkey = &self.valkey;
        let mut url = valkey.url.0.clone()?;
        let named = Some(valkey.sentinel_master.0.clone()).filter(|name| !name.is_empty());
        let password = valkey.sentinel_password.get().map(str::to_owned);
        url.topology = match (url.topology, named) {
            (Topology::Sentinel { master, user, password: in_url }, named) => {
                Topology::Sentinel { master: named.unwrap_or(master), user, password: password.or(in_url) }
            }
            (_, Some(master)) => Topology::Sentinel { master, user: None, password },
            (_, None) if valkey.cluster.0 => Topology::Cluster,
            (topology, None) => topology,
        };
        let identity = valkey.tls_cert.get().zip(valkey.tls_key.get());
        let identity = identity.map(|(cert, key)| (cert.to_owned(), key.to_owned()));
        Some(ValkeyConfig {
            tls: TlsFiles { ca: valkey.tls_ca.get().map(ToOwned::to_owned), identity },
            timeout: valkey.timeout.0,
            connect_timeout: valkey.connect_timeout.0,
            max_value: valkey.max_value.0,
            prefix: valkey.prefix.0.clone(),
            url,
        })
    }

    /// How entries are sealed for it.
    ///
    /// # Errors
    /// The secret is too short, or missing.
    pub(crate) fn sealer(&self) -> Result<Sealer, SealerError> {
        Sealer::new(SealOptions {
            secret: self.valkey.secret.get().map(str::as_bytes),
            encrypt: self.valkey.encrypt.0,
            compress_above: COMPRESS_ABOVE,
            max_plain: self.cache.max_result.0.saturating_add(BESIDES),
        })
    }
}
