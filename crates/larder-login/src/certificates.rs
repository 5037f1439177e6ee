//! Reading certificates and keys from files, and what is read out of a certificate.

use std::path::{Path, PathBuf};

use ring::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Tag, Tagged as _};

/// Why TLS cannot be set up: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SetupError {
    #[error("{path}: {what}", path = .path.display())]
    File { path: PathBuf, what: String },
    #[error("the certificate authorities of this system cannot be read: {0}")]
    SystemRoots(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl SetupError {
    pub(crate) fn file(path: &Path, what: impl ToString) -> Self {
        Self::File { path: path.to_owned(), what: what.to_string() }
    }

    /// How to mend it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File { .. } => "name a readable file in PEM format (-----BEGIN ...-----)",
            Self::SystemRoots(_) => {
                "install the system's certificates (package ca-certificates), or name the authority in [origin] tls_ca"
            }
            Self::Tls(_) => {
                "use a certificate and key that rustls supports: RSA from 2048 bits, ECDSA P-256 or P-384, Ed25519"
            }
        }
    }
}

/// All certificates of a PEM file; at least one.
pub(crate) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let text = std::fs::read(path).map_err(|error| SetupError::file(path, error))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(SetupError::file(path, "holds no certificate (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(SetupError::file(path, error)),
    }
}

/// All lists of revoked certificates of a PEM file; at least one.
pub(crate) fn read_revoked(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, SetupError> {
    let text = std::fs::read(path).map_err(|error| SetupError::file(path, error))?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => {
            Err(SetupError::file(path, "holds no list of revoked certificates (-----BEGIN X509 CRL-----)"))
        }
        Err(error) => Err(SetupError::file(path, error)),
    }
}

/// The private key of a PEM file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, SetupError> {
    let text = std::fs::read(path).map_err(|error| SetupError::file(path, error))?;
    if text.windows(9).any(|part| part == b"ENCRYPTED") {
        return Err(SetupError::file(
            path,
            "the key is protected by a passphrase, which nobody can type here",
        ));
    }
    PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| SetupError::file(path, "holds no private key (-----BEGIN PRIVATE KEY-----)"))
}

/// The hash of a certificate that channel binding of the type `tls-server-end-point` uses (RFC 5929, section 4.1): by the
/// hash of its signature, but never a weaker one than SHA-256. `None` where the RFC does not define it (Ed25519).
pub(crate) fn end_point(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let algorithm = match parsed.signature_algorithm().oid.to_string().as_str() {
        // RSA with MD5, SHA-1, SHA-256; ECDSA with SHA-1, SHA-256.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.113549.1.1.11" => &digest::SHA256,
        "1.2.840.10045.4.1" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The first common name (CN) of a certificate's subject.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let parsed = Certificate::from_der(certificate).ok()?;
    let subject = parsed.tbs_certificate().subject();
    let name = subject.iter().find(|part| part.oid.to_string() == "2.5.4.3")?;
    let textual = matches!(name.value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    // A NUL in a name is an old trick to look like another name.
    let text = std::str::from_utf8(name.value.value()).ok().filter(|text| textual && !text.contains('\0'));
    text.map(str::to_owned)
}

/// Whether a certificate names anything beside its subject's CN.
pub(crate) fn has_alternative_names(certificate: &CertificateDer<'_>) -> bool {
    let Ok(parsed) = Certificate::from_der(certificate) else { return false };
    let extensions = parsed.tbs_certificate().extensions();
    extensions.is_some_and(|all| all.iter().any(|extension| extension.extn_id.to_string() == "2.5.29.17"))
}

/// Whether a certificate is valid at this time, in seconds after the Unix epoch.
pub(crate) fn is_valid_at(certificate: &CertificateDer<'_>, now: u64) -> bool {
    let Ok(parsed) = Certificate::from_der(certificate) else { return false };
    let validity = parsed.tbs_certificate().validity();
    let seconds = |time: &x509_cert::time::Time| time.to_unix_duration().as_secs();
    (seconds(&validity.not_before)..=seconds(&validity.not_after)).contains(&now)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SignatureAlgorithm};

    use super::*;

    fn certificate(
        algorithm: &'static SignatureAlgorithm,
        name: &str,
        more: &[&str],
    ) -> CertificateDer<'static> {
        let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(more).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = KeyPair::generate_for(algorithm).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn channel_binding_goes_by_the_signatures_hash() {
        let hash = |algorithm| end_point(&certificate(algorithm, "ann", &[])).map(|hash| hash.len());
        assert_eq!(hash(&rcgen::PKCS_ECDSA_P256_SHA256), Some(32));
        assert_eq!(hash(&rcgen::PKCS_ECDSA_P384_SHA384), Some(48));
        assert_eq!(hash(&rcgen::PKCS_ED25519), None);
        assert_eq!(end_point(&CertificateDer::from(b"nonsense".to_vec())), None);
    }

    #[test]
    fn names_and_dates_are_read() {
        let plain = certificate(&rcgen::PKCS_ECDSA_P256_SHA256, "J\u{f6}rg", &[]);
        assert_eq!(common_name(&plain).as_deref(), Some("J\u{f6}rg"));
        assert!(!has_alternative_names(&plain));
        assert!(has_alternative_names(&certificate(&rcgen::PKCS_ECDSA_P256_SHA256, "a", &["b.example"])));
        let nul = certificate(&rcgen::PKCS_ECDSA_P256_SHA256, "ann\0.example", &[]);
        assert_eq!(common_name(&nul), None);
        // 2019, 2025, 2031.
        let valid = [1_560_000_000, 1_750_000_000, 1_930_000_000].map(|now| is_valid_at(&plain, now));
        assert_eq!(valid, [false, true, false]);
    }
}
