//! What clients must show: `clientauth`.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use x509_cert::der::Decode as _;
use x509_cert::der::oid::db::rfc5280::{ANY_EXTENDED_KEY_USAGE, ID_KP_CLIENT_AUTH};
use x509_cert::ext::pkix::ExtendedKeyUsage;

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
    let listed = listed(options)?;
    let mut authorities = RootCertStore::empty();
    for (index, certificate) in &listed {
        authorities.add(certificate.clone()).map_err(|error| {
            let file = &options.client_authorities[*index];
            let reason = format!("a certificate in it cannot be used: {error}");
            TlsPart::ClientAuthority(*index).unusable(file, reason)
        })?;
    }
    let authorities = Arc::new(authorities);
    let signed = || {
        let authorities = Arc::clone(&authorities);
        let signed =
            WebPkiClientVerifier::builder_with_provider(authorities, Arc::clone(provider)).build();
        Checked {
            signed: signed.expect("there are authorities and no revocation lists"),
            listed: listed.iter().map(|(_, one)| one.clone()).collect(),
        }
    };
    let (mandatory, checked) = match options.client_auth {
        ClientAuth::Request => (false, None),
        ClientAuth::RequireAny => (true, None),
        ClientAuth::VerifyIfGiven => (false, Some(signed())),
        ClientAuth::RequireAndVerify => (true, Some(signed())),
    };
    Ok(Arc::new(Verifier {
        mandatory,
        checked,
        algorithms: provider.signature_verification_algorithms,
        hints: authorities.subjects(),
    }))
}

/// The certificates of all files, each with its file's place in the list.
fn listed(options: &TlsOptions) -> Result<Vec<(usize, CertificateDer<'static>)>, TlsError> {
    let mut listed = Vec::new();
    for (index, file) in options.client_authorities.iter().enumerate() {
        let wrong = |reason: String| TlsPart::ClientAuthority(index).unusable(file, reason);
        let text = fs::read(file).map_err(|error| wrong(error.to_string()))?;
        let certificates = chain_of(&text).map_err(wrong)?;
        listed.extend(certificates.into_iter().map(|one| (index, one)));
    }
    Ok(listed)
}

/// How what is shown is checked: an authority must have signed it, or, as Go's servers have it, it
/// stands in the list itself. People who made one certificate for one client have it there.
#[derive(Debug)]
struct Checked {
    signed: Arc<dyn ClientCertVerifier>,
    listed: HashSet<CertificateDer<'static>>,
}

/// Whether a certificate holds now, and lets a client show it, as far as it says who may.
fn suits_client(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok(certificate) = x509_cert::Certificate::from_der(certificate) else {
        return false;
    };
    let certificate = certificate.tbs_certificate();
    let validity = certificate.validity();
    let now = Duration::from_secs(now.as_secs());
    let holds = (validity.not_before.to_unix_duration()..=validity.not_after.to_unix_duration())
        .contains(&now);
    let purposes = certificate.get_extension::<ExtendedKeyUsage>();
    holds
        && match purposes {
            Ok(None) => true,
            Ok(Some((_, ExtendedKeyUsage(purposes)))) => purposes
                .iter()
                .any(|one| [ID_KP_CLIENT_AUTH, ANY_EXTENDED_KEY_USAGE].contains(one)),
            Err(_) => false,
        }
}

/// Takes certificates as `clientauth` says, as long as the client has the key.
#[derive(Debug)]
struct Verifier {
    mandatory: bool,
    /// `None` where any certificate will do.
    checked: Option<Checked>,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whose certificates clients should choose from.
    hints: Vec<DistinguishedName>,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let Some(Checked { signed, listed }) = &self.checked else {
            return Ok(ClientCertVerified::assertion());
        };
        let signed = signed.verify_client_cert(end_entity, intermediates, now);
        if signed.is_err() && listed.contains(end_entity) && suits_client(end_entity, now) {
            return Ok(ClientCertVerified::assertion());
        }
        signed
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
