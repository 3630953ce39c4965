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
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for every version")
        .with_root_certificates(authorities)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("wharfinger/", env!("CARGO_PKG_VERSION")))
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
