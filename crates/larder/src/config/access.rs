//! Types of the keys about who may connect and how: paths, networks, modes of TLS; and what fits together.

use std::path::{Path, PathBuf};

use ipnet::IpNet;
use larder_core::Level;
use larder_login::TlsMode;
use serde_json::{Value as Json, json};

use super::problem::Problem;
use super::values::{Auth, Complaint, ListenTls, OriginTls, Plugin, Value};
use super::{Config, KEYS, Source};

/// The name of a file, or nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilePath(Option<PathBuf>);

impl FilePath {
    /// The file, if one is named.
    pub(crate) fn get(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl Value for FilePath {
    fn parse(text: &str) -> Result<Self, Complaint> {
        Ok(Self((!text.is_empty()).then(|| PathBuf::from(text))))
    }

    fn show(&self) -> Json {
        json!(self.0.as_deref().unwrap_or(Path::new("")).to_string_lossy())
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// Any text, or nothing.
#[derive(Debug, Clone)]
pub(crate) struct Text(pub(crate) String);

impl Value for Text {
    fn parse(text: &str) -> Result<Self, Complaint> {
        Ok(Self(text.trim().to_owned()))
    }

    fn show(&self) -> Json {
        json!(self.0)
    }

    fn schema() -> Json {
        json!({ "type": "string" })
    }
}

/// A text that nobody may see, or nothing.
#[derive(Clone)]
pub(crate) struct Hidden(String);

impl Hidden {
    /// The secret, if there is one.
    pub(crate) fn get(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "***" })
    }
}

impl Value for Hidden {
    fn parse(text: &str) -> Result<Self, Complaint> {
        Ok(Self(text.trim().to_owned()))
    }

    fn show(&self) -> Json {
        json!(if self.0.is_empty() { "" } else { "***" })
    }

    fn schema() -> Json {
        json!({ "type": "string", "writeOnly": true })
    }
}

/// A list of networks; in a file also an array.
#[derive(Debug, Clone)]
pub(crate) struct Networks(pub(crate) Vec<IpNet>);

impl Value for Networks {
    fn parse(text: &str) -> Result<Self, Complaint> {
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        let network = |word: &str| {
            let address = || word.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address));
            word.parse().ok().or_else(address).ok_or_else(|| {
                (
                    format!("\"{word}\" is not a network"),
                    "write networks or addresses, such as [\"10.0.0.0/8\", \"2001:db8::/32\"]".to_owned(),
                )
            })
        };
        words.map(network).collect::<Result<_, _>>().map(Self)
    }

    fn show(&self) -> Json {
        json!(self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }

    fn schema() -> Json {
        json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
    }
}

impl OriginTls {
    /// In libpq's words, `sslmode`. `allow` begins without TLS there; here it is `prefer`, which is safer.
    pub(super) fn from_sslmode(word: &str) -> Option<Self> {
        if word == "allow" { Some(Self::Prefer) } else { Self::parse(word).ok() }
    }

    pub(crate) fn mode(self) -> TlsMode {
        match self {
            Self::Disable => TlsMode::Disable,
            Self::Prefer => TlsMode::Prefer,
            Self::Require => TlsMode::Require,
            Self::VerifyCa => TlsMode::VerifyCa,
            Self::VerifyFull => TlsMode::VerifyFull,
        }
    }
}

/// What each key allows by itself and the others do not.
pub(super) fn contradictions(config: &Config, sources: &[Source]) -> Vec<Problem> {
    let place = |path: &str| {
        let found = KEYS.iter().zip(sources).find(|(key, _)| key.path() == path);
        found.map(|(_, source)| source.clone())
    };
    let mut problems = Vec::new();
    let mut wrong = |path: &str, what: &str, mend: &str| {
        problems.push(Problem { place: place(path), what: format!("{path}: {what}"), mend: mend.to_owned() });
    };
    super::valkey::contradictions(config, &mut wrong);
    let freshness = &config.freshness;
    match (freshness.plugin, freshness.publication.0.is_empty()) {
        (Plugin::Pgoutput, true) => wrong(
            "freshness.plugin",
            "\"pgoutput\" needs a publication to read",
            "CREATE PUBLICATION larder FOR ALL TABLES; and set [freshness] publication = \"larder\"",
        ),
        (Plugin::TestDecoding, false) => wrong(
            "freshness.publication",
            "\"test_decoding\" reads no publication",
            "leave publication out, or set [freshness] plugin = \"pgoutput\"",
        ),
        _ => {}
    }
    if freshness.plugin == Plugin::Pgoutput && freshness.level == Level::Linearizable {
        wrong(
            "freshness.level",
            "\"linearizable\" cannot be promised with plugin = \"pgoutput\": changes of the catalog made around Larder do not show in its stream",
            "set level = \"strict\", or plugin = \"test_decoding\"",
        );
    }
    let listen = &config.listen;
    let (cert, key) = (listen.tls_cert.get().is_some(), listen.tls_key.get().is_some());
    if cert != key {
        let path = if cert { "listen.tls_cert" } else { "listen.tls_key" };
        wrong(path, "a certificate and its key belong together", "set both tls_cert and tls_key, or neither");
    }
    if listen.tls_client_ca.get().is_some() && !cert {
        let mend = "set tls_cert and tls_key, or leave tls_client_ca out";
        wrong("listen.tls_client_ca", "clients can show certificates over TLS only", mend);
    }
    if listen.tls_client_crl.get().is_some() && listen.tls_client_ca.get().is_none() {
        let mend = "set tls_client_ca, or leave tls_client_crl out";
        wrong("listen.tls_client_crl", "clients are asked for certificates with an authority only", mend);
    }
    if listen.tls == ListenTls::Require && !cert {
        wrong("listen.tls", "TLS is required and there is no certificate", "set tls_cert and tls_key");
    }
    if listen.auth == Auth::Cert && listen.tls_client_ca.get().is_none() {
        let mend = "set tls_client_ca to the authority that signs clients' certificates";
        wrong("listen.auth", "\"cert\" needs an authority to judge certificates by", mend);
    }
    if listen.auth == Auth::Verify && listen.auth_query.0.is_empty() && listen.auth_users.get().is_none() {
        let mend = "set auth_users, or leave auth_query at its default";
        wrong("listen.auth", "\"verify\" has nothing to check passwords with", mend);
    }
    let admin = &config.admin;
    if admin.user.0.is_empty() != admin.password.get().is_none() {
        let path = if admin.user.0.is_empty() { "admin.password" } else { "admin.user" };
        wrong(
            path,
            "the admin database needs a user and a password",
            "set both user and password, or neither",
        );
    }
    let (url, control) = (config.origin_tls(), config.control_tls());
    let verifies = |mode| matches!(mode, OriginTls::VerifyCa | OriginTls::VerifyFull);
    if config.origin.tls_ca.get().is_some() && !verifies(url) && !verifies(control) {
        let what = format!("no certificate is checked with tls = \"{}\"", config.origin.tls.name());
        wrong(
            "origin.tls_ca",
            &what,
            "set [origin] tls = \"verify-full\" (or \"verify-ca\"), or leave tls_ca out",
        );
    }
    let (cert, key) = (config.origin.tls_cert.get().is_some(), config.origin.tls_key.get().is_some());
    if cert != key {
        let path = if cert { "origin.tls_cert" } else { "origin.tls_key" };
        wrong(path, "a certificate and its key belong together", "set both tls_cert and tls_key, or neither");
    }
    if cert && url == OriginTls::Disable && control == OriginTls::Disable {
        let mend = "set [origin] tls = \"verify-full\", or leave tls_cert and tls_key out";
        wrong("origin.tls_cert", "a certificate can be shown over TLS only", mend);
    }
    problems
}

impl Config {
    /// TLS for clients' connections to the origin: the URL's own `sslmode`, else `[origin] tls`.
    pub(crate) fn origin_tls(&self) -> OriginTls {
        self.origin.url.target().and_then(|target| target.tls).unwrap_or(self.origin.tls)
    }

    /// The same for Larder's own connections.
    pub(crate) fn control_tls(&self) -> OriginTls {
        self.control().target().and_then(|target| target.tls).unwrap_or(self.origin.tls)
    }
}
