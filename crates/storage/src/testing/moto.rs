//! Moto, a server of Amazon's protocol, which `cargo xtask test --only packages` installs.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::object::{CopyOptions, ObjectDriver, Retries, S3Credentials, S3Endpoint, S3Options};

const KEY: &str = "wharfinger-test";
const SECRET: &str = "a secret of the tests";

/// Serves until the test process ends, and with it what this reads from.
const PROGRAM: &str = "
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer('127.0.0.1', int(sys.argv[1]), verbose=False)
server.start()
sys.stdin.read()
server.stop()
";

/// Moto, which is one for all tests of a process, and a bucket in it that is one test's own.
#[derive(Debug)]
pub struct Moto {
    /// Where it is asked.
    pub address: SocketAddr,
    /// The bucket's name.
    pub bucket: String,
}

impl Moto {
    /// A new bucket, which is empty.
    ///
    /// # Panics
    /// When the server is not installed or does not start.
    pub async fn start() -> Self {
        let server = Self::without_bucket();
        let address = format!("http://{}/{}", server.address, server.bucket);
        let made = client().put(address).send().await;
        let made = made.expect("the server answers");
        assert!(made.status().is_success(), "{made:?}");
        server
    }

    /// A driver on it, with parts of 5 MiB and everything below `some/where`.
    ///
    /// # Panics
    /// When the options are refused.
    pub fn driver(&self) -> ObjectDriver {
        ObjectDriver::s3(&self.options(), client()).expect("the options are good")
    }

    /// The server, and the name of a bucket that is not there.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub fn without_bucket() -> Self {
        static SHARED: OnceLock<(SocketAddr, Child)> = OnceLock::new();
        let (address, _) = SHARED.get_or_init(|| {
            let python = target_folder().join("moto/bin/python");
            let free = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
            let address = free.local_addr().expect("it has an address");
            drop(free);
            let mut command = Command::new(&python);
            command.args(["-c", PROGRAM, &address.port().to_string()]);
            command.stdin(Stdio::piped());
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let child = child.unwrap_or_else(|error| {
                let python = python.display();
                panic!("{python}: {error} (`cargo xtask test --only packages` installs it)")
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            while TcpStream::connect(address).is_err() {
                assert!(Instant::now() < deadline, "the server does not start");
                std::thread::sleep(Duration::from_millis(20));
            }
            (address, child)
        });
        Self {
            address: *address,
            bucket: format!("registry-{}", uuid::Uuid::new_v4().simple()),
        }
    }

    /// What a driver on it is made with.
    pub fn options(&self) -> S3Options {
        S3Options {
            bucket: self.bucket.clone(),
            region: "us-east-1".to_owned(),
            endpoint: S3Endpoint::server(&self.address.to_string(), false, false),
            root: "some/where".to_owned(),
            credentials: S3Credentials::Keys {
                access_key: KEY.to_owned(),
                secret_key: SECRET.to_owned(),
                session_token: None,
            },
            encryption: None,
            storage_class: None,
            acl: None,
            part: 5 * 1024 * 1024,
            copying: CopyOptions {
                threshold: 8 * 1024 * 1024,
                part: 5 * 1024 * 1024,
                concurrency: 4,
            },
            retries: Retries {
                most: 3,
                within: Duration::from_secs(20),
            },
            log_requests: false,
        }
    }
}

/// A client without any certificates.
///
/// # Panics
/// Never, as nothing of it can be refused.
pub fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    builder.no_proxy().build().expect("a client")
}

/// Cargo's target folder.
pub fn target_folder() -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR");
    workspace.join(target.unwrap_or_else(|| "target".into()))
}
