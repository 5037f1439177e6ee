//! Certificates for connections to Valkey: read once, when the configuration is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::{ClientTlsConfig, TlsCertificates};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Files in PEM format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Authorities that may have signed the server's certificate; none: those of the system.
    pub ca: Option<PathBuf>,
    /// Larder's own certificate and its key, for servers that ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why the files cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub struct TlsError {
    what: String,
}

/// What they come to.
pub(super) struct Tls {
    pub(super) client: Arc<ClientConfig>,
    /// For the client of clusters, which makes its connections by itself.
    pem: TlsCertificates,
}

impl Tls {
    pub(super) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let ca = files.ca.as_deref().map(read).transpose()?;
        let roots = match (&ca, &files.ca) {
            (Some(pem), Some(path)) => of_file(pem, path)?,
            _ => of_system(),
        };
        let identity = match &files.identity {
            Some((cert, key)) => Some((read(cert)?, read(key)?, cert, key)),
            None => None,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| wrong(error.to_string()))?.with_root_certificates(roots);
        let client = match &identity {
            None => builder.with_no_client_auth(),
            Some((cert, key, cert_path, key_path)) => {
                let chain = CertificateDer::pem_slice_iter(cert).collect::<Result<Vec<_>, _>>();
                let chain = chain.map_err(|error| wrong(format!("{}: {error}", cert_path.display())))?;
                let key = PrivateKeyDer::from_pem_slice(key);
                let key = key.map_err(|error| wrong(format!("{}: {error}", key_path.display())))?;
                let made = builder.with_client_auth_cert(chain, key);
                made.map_err(|error| wrong(format!("{}: {error}", cert_path.display())))?
            }
        };
        let client_tls =
            identity.map(|(client_cert, client_key, ..)| ClientTlsConfig { client_cert, client_key });
        Ok(Self { client: Arc::new(client), pem: TlsCertificates { client_tls, root_cert: ca } })
    }

    pub(super) fn certificates(&self) -> TlsCertificates {
        self.pem.clone()
    }
}

fn wrong(what: String) -> TlsError {
    TlsError { what }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| wrong(format!("{} cannot be read: {error}", path.display())))
}

fn of_file(pem: &[u8], path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let added = certificate.map_err(|error| error.to_string());
        let added = added.and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|error| wrong(format!("{}: {error}", path.display())))?;
    }
    if roots.is_empty() { Err(wrong(format!("{} holds no certificate", path.display()))) } else { Ok(roots) }
}

/// Those that can be read; a store without any trusts nobody, and says so at the handshake.
fn of_system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
