//! The server's certificate: a chain and the key of its first part.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error as RustlsError, InconsistentKeys};
use x509_cert::der::Decode as _;

use super::error::{TlsError, TlsPart};

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first, as PEM.
    pub certificate: PathBuf,
    /// Its key as PEM: PKCS#8, PKCS#1 or SEC1, without a passphrase.
    pub key: PathBuf,
}

/// A certificate that can be shown.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) key: Arc<CertifiedKey>,
    /// From when to when it is valid, where that can be told.
    pub(super) validity: Option<(SystemTime, SystemTime)>,
}

impl Certificate {
    pub(super) fn read(
        files: &CertificateFiles,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let CertificateFiles { certificate, key } = files;
        let of_certificate = |reason: String| TlsPart::Certificate.unusable(certificate, reason);
        let of_key = |reason: String| TlsPart::Key.unusable(key, reason);
        let chain = fs::read(certificate).map_err(|error| of_certificate(error.to_string()))?;
        let chain = chain_of(&chain).map_err(of_certificate)?;
        let key = fs::read(key).map_err(|error| of_key(error.to_string()))?;
        let key = key_of(&key).map_err(of_key)?;
        Self::new(chain, key, provider).map_err(|error| match error {
            Unusable::Certificate(reason) => of_certificate(reason),
            Unusable::Key(reason) => of_key(reason),
            Unusable::Pair => {
                let other = certificate.display();
                of_key(format!("this is not the key of the certificate in {other}"))
            }
        })
    }

    /// Reads a key and its chain from one text.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn parse(text: &[u8], provider: &CryptoProvider) -> Result<Self, String> {
        Self::new(chain_of(text)?, key_of(text)?, provider).map_err(|error| match error {
            Unusable::Certificate(reason) | Unusable::Key(reason) => reason,
            Unusable::Pair => "key and certificate do not belong together".to_owned(),
        })
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        provider: &CryptoProvider,
    ) -> Result<Self, Unusable> {
        let validity = chain.first().and_then(validity);
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(|_| {
            Unusable::Key(
                "a key of this kind cannot be used; RSA of 2048 bits or more, ECDSA \
                           over P-256 or P-384, and Ed25519 can"
                    .to_owned(),
            )
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(RustlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Self {
                key: Arc::new(certified),
                validity,
            }),
            Err(RustlsError::InconsistentKeys(_)) => Err(Unusable::Pair),
            Err(error) => Err(Unusable::Certificate(format!(
                "the first certificate cannot be used: {error}"
            ))),
        }
    }

    /// When it ends to be valid.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.validity.map(|(_, end)| end)
    }
}

/// What of a pair cannot be used.
enum Unusable {
    Certificate(String),
    Key(String),
    /// Each of them can, but not together.
    Pair,
}

fn validity(certificate: &CertificateDer<'_>) -> Option<(SystemTime, SystemTime)> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let validity = certificate.tbs_certificate().validity();
    Some((
        validity.not_before.to_system_time(),
        validity.not_after.to_system_time(),
    ))
}

/// The certificates in a text, at least one.
pub(super) fn chain_of(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|error| not_pem(&error))?;
    if chain.is_empty() {
        return Err(
            "there is no certificate in it; it must have BEGIN CERTIFICATE lines (PEM)".to_owned(),
        );
    }
    Ok(chain)
}

/// The first key in a text.
pub(super) fn key_of(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let has = |mark: &[u8]| text.windows(mark.len()).any(|part| part == mark);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err("the key has a passphrase; it must be stored without one".to_owned());
    }
    match PrivateKeyDer::from_pem_slice(text) {
        Err(PemError::NoItemsFound) => Err("there is no key in it; it must have a BEGIN PRIVATE \
                                            KEY line, or one with RSA or EC before PRIVATE (PEM)"
            .to_owned()),
        key => key.map_err(|error| not_pem(&error)),
    }
}

/// What the parser says of bytes it shows as numbers is no help, and might be a part of a key.
fn not_pem(error: &PemError) -> String {
    let what = match error {
        PemError::MissingSectionEnd { .. } => "its END line is missing",
        PemError::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        PemError::Base64Decode(_) => "what stands between BEGIN and END is not base64",
        _ => "it cannot be understood",
    };
    format!("this is not PEM: {what}")
}

/// Shows one certificate whatever name is asked for.
#[derive(Debug)]
pub(super) struct Fixed(pub(super) Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
