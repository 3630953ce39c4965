//! The HTTP client by which the registry asks others: receivers of events, health checks,
//! certificate authorities, collectors of traces.
//!
//! ```no_run
//! # async fn ask() -> reqwest::Result<()> {
//! let client = wharfinger_client::builder(wharfinger_client::authorities()).build()?;
//! client.get("https://example.org/").send().await?;
//! # Ok(())
//! # }
//! ```

use std::error::Error;
use std::sync::Arc;

use reqwest::ClientBuilder;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};

/// How the registry calls itself.
pub const USER_AGENT: &str = concat!("wharfinger/", env!("CARGO_PKG_VERSION"));

/// The certificate authorities that this machine trusts now: those of its system, or of the file
/// and the folder that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. There may be none.
pub fn authorities() -> RootCertStore {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    authorities
}

/// The certificate authorities in PEM.
///
/// # Errors
/// What cannot be read, or that there is none.
pub fn authorities_in(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("it is no PEM: {error}"))?;
        authorities
            .add(certificate)
            .map_err(|error| format!("a certificate in it cannot be used: {error}"))?;
    }
    match authorities.is_empty() {
        true => Err("there is no certificate in it".to_owned()),
        false => Ok(authorities),
    }
}

/// A client that trusts these certificate authorities, says who it is, and obeys `HTTP_PROXY` and
/// its like.
pub fn builder(authorities: RootCertStore) -> ClientBuilder {
    let tls = tls().with_root_certificates(authorities);
    over(tls.with_no_client_auth())
}

/// The same client, which takes any certificate: whoever can get in between can read and change
/// what is sent.
pub fn trusting_builder() -> ClientBuilder {
    let trusting = Trusting(provider().signature_verification_algorithms);
    let tls = tls()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusting));
    over(tls.with_no_client_auth())
}

fn provider() -> CryptoProvider {
    rustls::crypto::ring::default_provider()
}

fn tls() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for every version")
}

fn over(tls: ClientConfig) -> ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(USER_AGENT)
}

/// Takes any certificate whose key the other side has.
#[derive(Debug)]
struct Trusting(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What is behind an error: its last cause. Those before it may tell addresses with secrets in
/// them.
pub fn cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
