//! TLS, where a test must hold one end of the connection in its own hands.

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use support::client::PATIENCE;
use support::{deleting, quiet};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use wharfinger_registry::Registry;
use wharfinger_server::{
    Address, CertificateFiles, Certificates, ClientAuth, Listener, Options, Server, Tls, TlsOptions,
};
use wharfinger_storage::MemoryDriver;

const HOUR: Duration = Duration::from_secs(3600);

/// A server that speaks TLS, and what a client needs to trust it.
struct Secured {
    address: std::net::SocketAddr,
    tls: Tls,
    files: CertificateFiles,
    trusting: TlsConnector,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Secured {
    async fn start(options: Options) -> Self {
        let folder = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let files = CertificateFiles {
            certificate: folder.path().join("certificate"),
            key: folder.path().join("key"),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        let tls = Tls::new(TlsOptions {
            certificates: Certificates::Files(files.clone()),
            client_authorities: Vec::new(),
            client_auth: ClientAuth::default(),
            tls13_only: false,
            cipher_suites: Vec::new(),
            http2: true,
        })
        .unwrap();

        let mut trusted = RootCertStore::empty();
        let pem = certificate.pem();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        trusted.add(der).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth();

        let listener = Listener::tcp("127.0.0.1:0").await.unwrap();
        let Address::Tcp(address) = *listener.address() else {
            panic!("{listener:?}");
        };
        let registry = Registry::new(Arc::new(MemoryDriver::new()), deleting()).unwrap();
        let server = Server::new(registry, options);
        let (stop, stopped) = oneshot::channel();
        let serving = server.serve(listener.with_tls(tls.clone()), async {
            let _ = stopped.await;
        });
        Self {
            address,
            tls,
            files,
            trusting: TlsConnector::from(Arc::new(client)),
            stop,
            serving: tokio::spawn(serving),
            _folder: folder,
        }
    }

    async fn silent(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Whether a client gets its answer.
    async fn is_well(&self) -> bool {
        let name = ServerName::try_from("localhost").unwrap();
        let request = b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        let asking = async {
            let stream = self.silent().await;
            let mut stream = self.trusting.connect(name, stream).await?;
            stream.write_all(request).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(PATIENCE, asking).await.unwrap().unwrap();
        answer.starts_with(b"HTTP/1.1 200 ")
    }
}

#[tokio::test]
async fn a_silent_client_holds_up_nobody_and_is_given_up() {
    let server = Secured::start(Options {
        header_timeout: Duration::from_millis(300),
        ..quiet()
    })
    .await;
    let mut silent = server.silent().await;
    let mut halting = server.silent().await;
    // The beginning of a client's hello: type, version, length.
    halting.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    assert!(server.is_well().await);
    for stream in [&mut silent, &mut halting] {
        let end = timeout(PATIENCE, stream.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_handshakes() {
    let server = Secured::start(Options {
        header_timeout: HOUR,
        drain_timeout: HOUR,
        ..quiet()
    })
    .await;
    let _silent = server.silent().await;
    assert!(server.is_well().await);
    server.stop.send(()).unwrap();
    timeout(PATIENCE, server.serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_reload_takes_what_is_good_and_keeps_what_it_has_otherwise() {
    let server = Secured::start(quiet()).await;
    fs::write(&server.files.key, "no key").unwrap();
    let error = server.tls.reload().unwrap_err();
    assert_eq!(error.file, server.files.key);
    assert!(server.is_well().await);

    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    fs::write(&server.files.certificate, certificate).unwrap();
    fs::write(&server.files.key, key.serialize_pem()).unwrap();
    server.tls.reload().unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = server.silent().await;
    let refused = server.trusting.connect(name, stream).await;
    assert!(refused.is_err(), "it is another certificate by now");
}
