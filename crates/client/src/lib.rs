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

pub use reqwest::{Client, ClientBuilder};
use reqwest::{NoProxy, Proxy};
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

/// The certificate authorities that this machine trusts now, and those in PEM.
///
/// # Errors
/// As those of [`authorities_in`].
pub fn authorities_besides(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut all = authorities();
    all.roots.append(&mut authorities_in(pem)?.roots);
    Ok(all)
}

/// The same client through one proxy, whatever the environment says, and to whatever place.
///
/// # Errors
/// What is wrong with the proxy's address, without repeating it.
pub fn through(client: ClientBuilder, proxy: &str) -> Result<ClientBuilder, String> {
    let proxy = Proxy::all(proxy).map_err(|error| cause(&error.without_url()).to_string())?;
    Ok(client.no_proxy().proxy(proxy))
}

/// A client that trusts these certificate authorities, says who it is, and obeys `HTTP_PROXY` and
/// its like, but for `localhost`, its addresses, and link-local ones.
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
    proxied(reqwest::Client::builder(), |name| std::env::var(name).ok())
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

/// Sends requests through the proxies that these variables name. No proxy leads to this machine
/// itself, nor to what is next to it (a cloud tells a machine its keys there): so it is with
/// Distribution, and what leads there would mean another one.
fn proxied(mut builder: ClientBuilder, variable: impl Fn(&str) -> Option<String>) -> ClientBuilder {
    let either = |names: [&str; 4]| names.into_iter().find_map(&variable);
    let none = ["NO_PROXY", "no_proxy"].into_iter().find_map(&variable);
    let none = format!(
        "localhost,127.0.0.0/8,::1,169.254.0.0/16,{}",
        none.unwrap_or_default()
    );
    let proxies = [
        (
            Proxy::http as fn(String) -> reqwest::Result<Proxy>,
            ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
        ),
        (
            Proxy::https,
            ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
        ),
    ];
    // Those of the environment would have no such exception.
    builder = builder.no_proxy();
    for (proxy, names) in proxies {
        if let Some(Ok(proxy)) = either(names).map(proxy) {
            builder = builder.proxy(proxy.no_proxy(NoProxy::from_string(&none)));
        }
    }
    builder
}

/// An error with all its causes: what a client of HTTP says of itself alone is no help. Take care
/// that no URL is in it that holds secrets.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        // Some repeat their cause.
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        cause = error.source();
    }
    text
}

/// What is behind an error: its last cause. Those before it may tell addresses with secrets in
/// them.
pub fn cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

/// How the errors of a tunnel through a proxy begin. Their type is not public.
const TUNNEL: &str = "tunnel error: ";

/// Why no answer came, as the last cause says it, and what a proxy had to do with that. The other
/// side's proxy is called "its HTTP proxy".
pub fn reason(error: &reqwest::Error) -> String {
    let last = cause(error).to_string();
    let mut error: Option<&dyn Error> = Some(error);
    while let Some(one) = error {
        match one.to_string().strip_prefix(TUNNEL) {
            Some("proxy authorization required") => {
                return "its HTTP proxy wants a user and a password, or others".to_owned();
            }
            Some(_) => {
                let last = last.strip_prefix(TUNNEL).unwrap_or(&last);
                return format!("its HTTP proxy does not lead there: {last}");
            }
            None => error = one.source(),
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// A server that answers everything with its name.
    async fn server(name: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let length = name.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port
    }

    #[tokio::test]
    async fn proxies_are_for_others_than_this_machine() {
        let (proxy, itself) = (server("proxy").await, server("itself").await);
        let variables = [
            ("HTTP_PROXY", format!("http://127.0.0.1:{proxy}")),
            ("NO_PROXY", "direct.invalid".to_owned()),
        ];
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone())
        };
        let client = proxied(builder(RootCertStore::empty()), variable)
            .build()
            .unwrap();
        let ask = async |host: &str| {
            let answer = client.get(format!("http://{host}:{itself}/")).send().await;
            answer.ok()?.text().await.ok()
        };
        assert_eq!(ask("registry.invalid").await.as_deref(), Some("proxy"));
        for host in ["127.0.0.1", "localhost"] {
            assert_eq!(ask(host).await.as_deref(), Some("itself"), "{host}");
        }
        assert_eq!(ask("direct.invalid").await, None);
        // Nobody listens there, and the proxy is not asked.
        assert_ne!(ask("[::1]").await.as_deref(), Some("proxy"));
    }
}
