//! What clients must show: `clientauth`.

use std::fs;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::TlsOptions;
use super::certificate::chain_of;
use super::error::{TlsError, TlsPart};

/// What is asked of clients. Whoever shows a certificate must have its key, whatever else is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate is asked for, need not be shown, and is not checked.
    Request,
    /// A certificate must be shown, and is not checked.
    RequireAny,
    /// A certificate need not be shown, and is checked when it is.
    VerifyIfGiven,
    /// A good certificate must be shown.
    #[default]
    RequireAndVerify,
}

/// What checks clients' certificates.
pub(super) fn verifier(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    if options.client_authorities.is_empty() {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let authorities = authorities(options)?;
    let unchecked = |mandatory| -> Arc<dyn ClientCertVerifier> {
        Arc::new(Unchecked {
            mandatory,
            algorithms: provider.signature_verification_algorithms,
            hints: authorities.subjects(),
        })
    };
    let checked = || {
        let authorities = Arc::new(authorities.clone());
        WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(provider))
    };
    let verifier = match options.client_auth {
        ClientAuth::Request => Ok(unchecked(false)),
        ClientAuth::RequireAny => Ok(unchecked(true)),
        ClientAuth::VerifyIfGiven => checked().allow_unauthenticated().build(),
        ClientAuth::RequireAndVerify => checked().build(),
    };
    Ok(verifier.expect("there are authorities and no revocation lists"))
}

fn authorities(options: &TlsOptions) -> Result<RootCertStore, TlsError> {
    let mut authorities = RootCertStore::empty();
    for (index, file) in options.client_authorities.iter().enumerate() {
        let wrong = |reason: String| TlsPart::ClientAuthority(index).unusable(file, reason);
        let text = fs::read(file).map_err(|error| wrong(error.to_string()))?;
        for (number, certificate) in (1..).zip(chain_of(&text).map_err(wrong)?) {
            authorities.add(certificate).map_err(|error| {
                wrong(format!(
                    "certificate {number} in it cannot be used: {error}"
                ))
            })?;
        }
    }
    Ok(authorities)
}

/// Takes any certificate, as long as the client has its key.
#[derive(Debug)]
struct Unchecked {
    mandatory: bool,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whose certificates clients should choose from.
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Unchecked {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
