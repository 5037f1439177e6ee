//! From the configuration to certificates, authorities and users: files are read at the start, and whenever the configuration is read again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use larder_core::Finding;
use larder_login::{ListenTls, OriginTls, Secret, SetupError, parse_users};
use larder_proxy::{Access, Authentication};

use super::feed::account;
use super::secrets::{Question, UserSecrets};
use crate::config::{self, Auth, Config};

/// TLS towards the origin for clients' sessions.
///
/// Larder's certificate is shown only for clients that Larder has authenticated: an origin that takes it for a proof
/// (method `cert`) would let everybody in whose login is merely relayed.
pub(crate) fn origin_tls(config: &Config) -> Result<OriginTls, Finding> {
    towards_origin(config, config.origin_tls(), config.listen.auth != Auth::Relay)
}

/// TLS towards the origin for Larder's own connections.
pub(super) fn control_tls(config: &Config) -> Result<OriginTls, Finding> {
    let tls = towards_origin(config, config.control_tls(), true)?;
    let server = |url: &config::OriginUrl| url.target().map(|target| (target.host.clone(), target.port));
    // Clients' connections to the same place tell whether they are encrypted; once is enough.
    let told =
        server(&config.origin.url) == server(config.control()) && config.origin_tls() == config.control_tls();
    Ok(if told { tls.silent() } else { tls })
}

fn towards_origin(config: &Config, mode: config::OriginTls, shows: bool) -> Result<OriginTls, Finding> {
    let origin = &config.origin;
    let identity = origin.tls_cert.get().zip(origin.tls_key.get()).filter(|_| shows);
    OriginTls::new(mode.mode(), origin.tls_ca.get(), identity)
        .map_err(|error| finding("[origin] tls", &error))
}

/// Everything about who may connect. Reads the files that the configuration names.
pub(crate) fn access(config: &Config) -> Result<Access, Finding> {
    seeded_access(config, seed(config))
}

/// The same with the seed of before: users that do not exist must go on looking the same.
pub(super) fn seeded_access(config: &Config, seed: [u8; 32]) -> Result<Access, Finding> {
    let listen = &config.listen;
    Ok(Access {
        tls: listen_tls(config)?,
        require_tls: listen.tls == config::ListenTls::Require,
        authentication: match listen.auth {
            Auth::Relay => Authentication::Relay,
            Auth::Verify => Authentication::Verify(Arc::new(secrets(config, &seed, true)?)),
            Auth::Cert => Authentication::Certificate(Arc::new(secrets(config, &seed, false)?)),
        },
        proxy_protocol_from: listen.proxy_protocol_from.0.clone(),
        login_timeout: listen.login_timeout.0,
        seed,
    })
}

fn listen_tls(config: &Config) -> Result<Option<ListenTls>, Finding> {
    let listen = &config.listen;
    let (Some(certificate), Some(key)) = (listen.tls_cert.get(), listen.tls_key.get()) else {
        return Ok(None);
    };
    let loaded = ListenTls::load(certificate, key, listen.tls_client_ca.get(), listen.tls_client_crl.get());
    loaded
        .map(Some)
        .map_err(|error| finding("[listen] tls_cert, tls_key, tls_client_ca, tls_client_crl", &error))
}

fn secrets(config: &Config, seed: &[u8; 32], may_ask: bool) -> Result<UserSecrets, Finding> {
    let users = match config.listen.auth_users.get() {
        Some(path) => users(path, seed)?,
        None => HashMap::new(),
    };
    let sql = &config.listen.auth_query.0;
    let question = if may_ask && !sql.is_empty() {
        // With a users file there may be no account to ask with; without one there has to be.
        match account(config) {
            Ok(account) => Some(Question::new(account, sql)),
            Err(_) if !users.is_empty() => None,
            Err(finding) => return Err(finding),
        }
    } else {
        None
    };
    Ok(UserSecrets::new(users, question, *seed))
}

fn users(path: &Path, seed: &[u8; 32]) -> Result<HashMap<String, Secret>, Finding> {
    let wrong = |what: &dyn std::fmt::Display| Finding {
        code: "auth_users",
        problem: format!("[listen] auth_users: {}: {what}", path.display()),
        remedy: "write one line for each user: \"user\" \"SCRAM-SHA-256$...\" (or md5..., or the password)"
            .to_owned(),
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let users = parse_users(&text).map_err(|error| wrong(&error))?;
    let secret = |(user, text): (String, String)| {
        let secret = Secret::parse(&text, &user, seed);
        (user, secret)
    };
    Ok(users.into_iter().map(secret).collect())
}

/// Challenges for users that do not exist must look the same after a restart, as those of real ones do: made from what
/// this deployment keeps secret anyway, or by chance if it keeps nothing.
fn seed(config: &Config) -> [u8; 32] {
    let password = config.control().target().and_then(|target| target.password.clone());
    let key = config.listen.tls_key.get().and_then(|path| std::fs::read(path).ok());
    let parts = [password.map(String::into_bytes).unwrap_or_default(), key.unwrap_or_default()];
    if parts.iter().all(Vec::is_empty) {
        return larder_login::random().unwrap_or_else(|_| std::array::from_fn(|_| fastrand::u8(..)));
    }
    larder_login::seed(&parts)
}

/// What works, but not for every client; with the way out.
pub(crate) fn notes(config: &Config) -> Vec<Finding> {
    let mut notes = Vec::new();
    let both = config.listen.tls_cert.get().is_some() && config.origin_tls() != config::OriginTls::Disable;
    if config.listen.auth == Auth::Relay && both {
        notes.push(Finding {
            code: "channel_binding",
            problem: "TLS on both sides with auth = \"relay\": where the origin asks for SCRAM, clients that bind it to \
                      the certificate they see (libpq does, by default) cannot log in"
                .to_owned(),
            remedy: "set [listen] auth = \"verify\"; or, if the network behind Larder can be trusted, [origin] tls = \
                     \"disable\"; or have clients connect with channel_binding=disable"
                .to_owned(),
        });
    }
    notes
}

fn finding(keys: &str, error: &SetupError) -> Finding {
    Finding { code: "tls", problem: format!("{keys}: {error}"), remedy: error.remedy().to_owned() }
}
