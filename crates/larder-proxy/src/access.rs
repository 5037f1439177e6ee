//! Who may come in, and how they prove who they are.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use larder_login::{ListenTls, Secret};

/// PostgreSQL's default of `authentication_timeout`.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// What clients meet before their session begins.
#[derive(Debug, Clone)]
pub struct Access {
    /// TLS towards clients; `None`: they are told that there is none.
    pub tls: Option<ListenTls>,
    /// Refuse sessions that are not encrypted. Those that must show a certificate have to be anyway.
    pub require_tls: bool,
    /// Who authenticates clients.
    pub authentication: Authentication,
    /// Peers that begin with a PROXY header and speak for others.
    pub proxy_protocol_from: Vec<IpNet>,
    /// Time for a client to say who it is and to prove it.
    pub login_timeout: Duration,
    /// Makes the challenges for users that do not exist: secret, and best the same after a restart.
    pub seed: [u8; 32],
}

/// Who authenticates clients.
#[derive(Debug, Clone)]
pub enum Authentication {
    /// The origin, message by message.
    Relay,
    /// Larder, by SCRAM or md5 with what the source knows of each user; then it logs in at the origin as that user.
    Verify(Arc<dyn Secrets>),
    /// Larder, by the client's certificate alone; then it logs in at the origin as that user.
    Certificate(Arc<dyn Secrets>),
}

/// The answer to a question for a user's secret: none if there is no such user; `Err`: what stands in the way.
pub type SecretAnswer<'a> = Pin<Box<dyn Future<Output = Result<Option<Secret>, String>> + Send + 'a>>;

/// Where users' secrets are.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// What is known of a user.
    fn secret<'a>(&'a self, user: &'a str) -> SecretAnswer<'a>;
}

impl Default for Access {
    fn default() -> Self {
        Self {
            tls: None,
            require_tls: false,
            authentication: Authentication::Relay,
            proxy_protocol_from: Vec::new(),
            login_timeout: LOGIN_TIMEOUT,
            seed: [0; 32],
        }
    }
}

impl Access {
    pub(crate) fn requires_tls(&self) -> bool {
        self.require_tls || self.asks_certificates()
    }

    /// Whether every client must show a certificate.
    pub(crate) fn asks_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(ListenTls::asks_certificates)
    }

    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        // An IPv4 peer of a listener on [::] is no less itself.
        let peer = peer.to_canonical();
        self.proxy_protocol_from.iter().any(|network| network.contains(&peer))
    }
}
