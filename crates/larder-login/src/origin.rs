//! Connecting to the origin, with TLS as configured: libpq's modes, libpq's negotiation.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificates::{self, SetupError};
use crate::stream::Stream;
use crate::verifier::{Check, Verifier};

/// SSLRequest: length 8, code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What is asked of the connection to the origin; libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsMode {
    /// Never TLS.
    #[default]
    Disable,
    /// TLS if the origin offers it, whoever it is.
    Prefer,
    /// TLS, whoever the origin is.
    Require,
    /// TLS, and an authority that is trusted has signed the origin's certificate.
    VerifyCa,
    /// The same, and the certificate is for the host that was asked for.
    VerifyFull,
}

/// How connections to the origin are made.
#[derive(Debug, Clone, Default)]
pub struct OriginTls {
    mode: TlsMode,
    /// `None` in mode `disable`.
    config: Option<Arc<ClientConfig>>,
    /// The last connection had to do without TLS, in mode `prefer`. Known to all copies, so that it is said once. `None`:
    /// somebody else says it.
    in_the_clear: Option<Arc<AtomicBool>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No TCP connection, or it broke.
    #[error("{0}")]
    Tcp(#[from] io::Error),
    /// The server answered `N`.
    #[error("the server does not support TLS, but [origin] tls requires it")]
    NotOffered,
    /// The server answered something else.
    #[error("the server's answer to a request for TLS was neither yes nor no: is this PostgreSQL?")]
    NotPostgres,
    /// The host's name cannot stand in a certificate.
    #[error("\"{0}\" is not a host name or address that a certificate could be for")]
    HostName(String),
    /// The handshake failed.
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
}

impl ConnectError {
    /// Whether the origin was reached, and TLS with it failed.
    pub fn is_tls(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Tcp(_) | Self::NotPostgres => None,
            Self::NotOffered => Some("Set ssl = on at the origin, or [origin] tls = \"prefer\" at Larder."),
            Self::HostName(_) => Some("Name the origin as its certificate does, or use [origin] tls = \"verify-ca\"."),
            Self::Handshake(error) => certificate_error(error).map(|error| match error {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "Name the origin in [origin] url as its certificate does, or use [origin] tls = \"verify-ca\"."
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "Renew the origin's certificate."
                }
                _ => "Put the certificate of the authority that signed the origin's into the file [origin] tls_ca.",
            }),
        }
    }
}

fn certificate_error(error: &io::Error) -> Option<&CertificateError> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    }
}

impl OriginTls {
    /// Reads the trusted authorities: of the file, else of the system. Only modes that verify need any. `identity`: files with
    /// the certificate to show, with its chain, and its key.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn new(
        mode: TlsMode,
        authorities: Option<&Path>,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Self, SetupError> {
        let check = match mode {
            TlsMode::Disable => return Ok(Self::default()),
            TlsMode::Prefer | TlsMode::Require => Check::Nothing,
            TlsMode::VerifyCa => Check::Authority,
            TlsMode::VerifyFull => Check::Host,
        };
        let trusted = match authorities {
            _ if check == Check::Nothing => Vec::new(),
            Some(path) => certificates::read(path)?,
            None => system_authorities()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(check, trusted, Arc::clone(&provider))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates::read(certificate)?;
                // The likeliest error by far is a key that belongs to another certificate.
                builder.with_client_auth_cert(chain, certificates::read_key(key)?).map_err(|error| {
                    SetupError::file(key, format!("does not go with {}: {error}", certificate.display()))
                })?
            }
        };
        // PostgreSQL 17 and newer ask for it; older ones do not look.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { mode, config: Some(Arc::new(config)), in_the_clear: Some(Arc::default()) })
    }

    /// The same without a word in the log about connections that are not encrypted.
    #[must_use]
    pub fn silent(self) -> Self {
        Self { in_the_clear: None, ..self }
    }

    /// The mode.
    pub fn mode(&self) -> TlsMode {
        self.mode
    }

    /// Connects. `prepare` sets the socket up before anything is sent.
    ///
    /// # Errors
    /// No connection, or not with the TLS that is asked for.
    pub async fn connect(
        &self,
        host: &str,
        port: u16,
        prepare: impl Fn(&TcpStream),
    ) -> Result<Stream, ConnectError> {
        let tcp = || async {
            let tcp = TcpStream::connect((host, port)).await?;
            // Small frames must not wait for an acknowledgement (Nagle); a failure only costs latency.
            let _ = tcp.set_nodelay(true);
            prepare(&tcp);
            io::Result::Ok(tcp)
        };
        let first = tcp().await?;
        let Some(config) = &self.config else { return Ok(Stream::Plain(first)) };
        let (stream, why) = match self.negotiate(first, host, config).await {
            // Like libpq: what only prefers TLS must not fail for it (an ancient server, say).
            Err(ConnectError::Handshake(error)) if self.mode == TlsMode::Prefer => {
                (Stream::Plain(tcp().await?), format!("the handshake failed: {error}"))
            }
            done => (done?, "the server does not offer it".to_owned()),
        };
        self.note(stream.is_tls(), host, port, &why);
        Ok(stream)
    }

    /// Whether connections are encrypted is news when it changes. That they are is what one expects.
    fn note(&self, encrypted: bool, host: &str, port: u16, why: &str) {
        let Some(in_the_clear) = self.in_the_clear.as_ref().filter(|_| self.mode == TlsMode::Prefer) else {
            return;
        };
        if in_the_clear.swap(!encrypted, Ordering::Relaxed) == encrypted {
            if encrypted {
                tracing::info!("connections to {host}:{port} are encrypted again");
            } else {
                tracing::warn!(
                    "connections to {host}:{port} are not encrypted, as tls = \"prefer\" allows: {why}"
                );
            }
        }
    }

    /// Finds out whether a server answers there as PostgreSQL does, with the TLS that is asked for.
    ///
    /// # Errors
    /// It does not.
    pub async fn reach(&self, host: &str, port: u16) -> Result<(), ConnectError> {
        if self.config.is_some() {
            return self.connect(host, port, |_| ()).await.map(|_| ());
        }
        let mut tcp = TcpStream::connect((host, port)).await?;
        tcp.write_all(&SSL_REQUEST).await?;
        Ok(tcp.read_u8().await.map(|_| ())?)
    }

    async fn negotiate(
        &self,
        mut tcp: TcpStream,
        host: &str,
        config: &Arc<ClientConfig>,
    ) -> Result<Stream, ConnectError> {
        tcp.write_all(&SSL_REQUEST).await?;
        // One byte and no more: what came with it in the clear would be taken for TLS, and refused as such.
        match tcp.read_u8().await? {
            b'S' => {}
            b'N' if self.mode == TlsMode::Prefer => return Ok(Stream::Plain(tcp)),
            b'N' => return Err(ConnectError::NotOffered),
            _ => return Err(ConnectError::NotPostgres),
        }
        let (name, config) = match ServerName::try_from(host.to_owned()) {
            Ok(name) => (name, Arc::clone(config)),
            Err(_) if self.mode == TlsMode::VerifyFull => {
                return Err(ConnectError::HostName(host.to_owned()));
            }
            // Nobody will look at the name, and it is not sent.
            Err(_) => {
                let mut nameless = ClientConfig::clone(config);
                nameless.enable_sni = false;
                (ServerName::from(std::net::IpAddr::from([0, 0, 0, 0])), Arc::new(nameless))
            }
        };
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(ConnectError::Handshake)?;
        Ok(Stream::Tls(Box::new(tls.into())))
    }
}

fn system_authorities() -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, SetupError> {
    let loaded = rustls_native_certs::load_native_certs();
    if !loaded.certs.is_empty() {
        return Ok(loaded.certs);
    }
    let reason = loaded.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
    Err(SetupError::SystemRoots(reason))
}
