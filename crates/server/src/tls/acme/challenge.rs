//! TLS-ALPN-01 (RFC 8737): how the authority is shown that a name is ours.

use std::sync::Arc;

use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::super::certificate::{Fixed, chain_of, key_of};

const PROTOCOL: &[u8] = b"acme-tls/1";

/// The name that an authority checks, when this is one.
pub(in super::super) fn challenged(hello: &ClientHello<'_>) -> Option<String> {
    let mut protocols = hello.alpn()?;
    let only = protocols.next()? == PROTOCOL && protocols.next().is_none();
    hello
        .server_name()
        .filter(|_| only)
        .map(str::to_ascii_lowercase)
}

/// The file that lets other nodes give the answer, named as autocert names it.
pub(super) fn file(name: &str) -> String {
    format!("{name}+token")
}

/// A key and a certificate that holds the answer, as PEM.
///
/// # Errors
/// For a name that cannot stand in a certificate.
pub(super) fn answer(name: &str, digest: &[u8]) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// What shows the authority an answer. No certificate is asked of it.
///
/// # Errors
/// For an answer that cannot be understood.
pub(super) fn config(
    answer: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, String> {
    // The certificate is not looked into: it has an extension that only authorities understand.
    let key = provider.key_provider.load_private_key(key_of(answer)?);
    let key = key.map_err(|error| error.to_string())?;
    let shown = Arc::new(CertifiedKey::new(chain_of(answer)?, key));
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Fixed(shown)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}
