//! TLS towards clients: PostgreSQL's rules for it, with Larder's certificate.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::certificates::{self, SetupError};
use crate::stream::Stream;

/// The name of PostgreSQL's protocol in ALPN.
const PROTOCOL: &[u8] = b"postgresql";

/// Larder's certificate, and what it asks of clients.
#[derive(Clone)]
pub struct ListenTls {
    acceptor: TlsAcceptor,
    end_point: Option<Vec<u8>>,
    asks_certificates: bool,
}

/// A client after the handshake.
#[derive(Debug)]
pub struct Accepted {
    /// The encrypted connection.
    pub stream: Stream,
    /// The client named PostgreSQL's protocol in ALPN.
    pub alpn: bool,
    /// The common name of its certificate, which an authority that is trusted has signed.
    pub common_name: Option<String>,
}

impl ListenTls {
    /// Reads the certificate (with its chain), its key, the authorities that sign clients' certificates, and what they
    /// have revoked. If there are such authorities, every client must have a certificate.
    ///
    /// # Errors
    /// A file cannot be read or used: which, and why.
    pub fn load(
        certificate: &Path,
        key: &Path,
        client_ca: Option<&Path>,
        client_crl: Option<&Path>,
    ) -> Result<Self, SetupError> {
        let chain = certificates::read(certificate)?;
        let end_point = chain.first().and_then(certificates::end_point);
        let private_key = certificates::read_key(key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => builder.with_client_cert_verifier(judge_of_clients(ca, client_crl, provider)?),
        };
        // The likeliest error by far is a key that belongs to another certificate.
        let mut config = builder.with_single_cert(chain, private_key).map_err(|error| {
            SetupError::file(key, format!("does not go with {}: {error}", certificate.display()))
        })?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            end_point,
            asks_certificates: client_ca.is_some(),
        })
    }

    /// What SCRAM binds to on these connections: a hash of the certificate.
    pub fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }

    /// Whether every client must have a certificate.
    pub fn asks_certificates(&self) -> bool {
        self.asks_certificates
    }

    /// The handshake.
    ///
    /// # Errors
    /// It failed, and the client was told by TLS's own means.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<Accepted> {
        let tls = self.acceptor.accept(tcp).await?;
        let session = tls.get_ref().1;
        let alpn = session.alpn_protocol() == Some(PROTOCOL);
        let certificate = session.peer_certificates().and_then(|chain| chain.first());
        let common_name = certificate.and_then(certificates::common_name);
        Ok(Accepted { stream: Stream::Tls(Box::new(tls.into())), alpn, common_name })
    }
}

/// Trusts these authorities. With lists of what is revoked it goes by the rules of PostgreSQL (`ssl_crl_file`): every
/// authority in a chain must have a list, and none may be past the time of its next update.
fn judge_of_clients(
    ca: &Path,
    crl: Option<&Path>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, SetupError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates::read(ca)? {
        roots.add(authority).map_err(|error| SetupError::file(ca, error))?;
    }
    let mut judge = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(crl) = crl {
        judge = judge.with_crls(certificates::read_revoked(crl)?).enforce_revocation_expiration();
    }
    // The authorities are there: only the lists can be unreadable.
    judge.build().map_err(|error| SetupError::file(crl.unwrap_or(ca), error))
}

impl std::fmt::Debug for ListenTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenTls")
            .field("asks_certificates", &self.asks_certificates)
            .finish_non_exhaustive()
    }
}
