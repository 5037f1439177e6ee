//! How a certificate of the origin is judged: as libpq does for each `sslmode`.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::certificates::{common_name, has_alternative_names, is_valid_at};

/// Whether the certificate must be for the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// `prefer`, `require`: anybody's. The connection is encrypted, and that is all.
    Nothing,
    /// `verify-ca`: signed by an authority that is trusted.
    Authority,
    /// `verify-full`: for this host, too.
    Host,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Verifier {
    check: Check,
    /// `None`: nobody is trusted.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    /// The trusted certificates themselves. A server whose own certificate is among them is trusted, as OpenSSL has it:
    /// the self-signed certificate of PostgreSQL's manual is its own authority, which WebPKI alone refuses.
    trusted: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(crate) fn new(
        check: Check,
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(trusted.iter().cloned());
        let authorities = (usable > 0)
            .then(|| WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build())
            .transpose()
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self { check, authorities, trusted, provider })
    }

    /// WebPKI's word, with the two things added that libpq accepts and WebPKI does not.
    fn judge(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let verified = match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(certificate, intermediates, host, &[], now).map(|_| ())
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        let named = |certificate| !has_alternative_names(certificate) && is_common_name(certificate, host);
        match verified {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Authority || named(certificate) => Ok(()),
            Err(_) if self.trusted.iter().any(|trusted| trusted == certificate) => {
                if !is_valid_at(certificate, now.as_secs()) {
                    return Err(CertificateError::Expired.into());
                }
                let for_host = || {
                    rustls::client::verify_server_name(
                        &rustls::server::ParsedCertificate::try_from(certificate)?,
                        host,
                    )
                };
                if self.check == Check::Authority || named(certificate) { Ok(()) } else { for_host() }
            }
            other => other,
        }
    }
}

/// libpq's fallback for certificates without alternative names.
fn is_common_name(certificate: &CertificateDer<'_>, server: &ServerName<'_>) -> bool {
    let Some(name) = common_name(certificate) else { return false };
    let host = server.to_str();
    match name.strip_prefix("*.") {
        // A wildcard stands for one label of a name.
        Some(parent) if matches!(server, ServerName::DnsName(_)) => {
            host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
        }
        _ => name.eq_ignore_ascii_case(&host),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.check != Check::Nothing {
            self.judge(end_entity, intermediates, server_name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    #[test]
    fn a_common_name_stands_for_one_host_and_a_wildcard_for_one_label() {
        for (name, host, expected) in [
            ("db.example", "db.example", true),
            ("DB.example", "db.EXAMPLE", true),
            ("db.example", "other.example", false),
            ("*.example", "db.example", true),
            ("*.example", "a.db.example", false),
            ("*.example", "example", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("*.0.0.1", "127.0.0.1", false),
        ] {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let server = ServerName::try_from(host).unwrap();
            assert_eq!(is_common_name(certificate.der(), &server), expected, "{name} for {host}");
        }
    }
}
