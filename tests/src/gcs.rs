//! A server of the XML API of Google Cloud Storage, with a bucket in it: `servers/gcs.py`, which
//! tells what it is.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::bucket::Store;
use crate::distribution::free_address;
use crate::http::{Answer, Http};
use crate::process::Service;
use crate::s3::texts;
use crate::wharfinger::Config;

/// The bucket's name.
pub const BUCKET: &str = "registry";

/// A running server.
#[derive(Debug)]
pub struct Gcs {
    service: Service,
    /// Where it is asked. The metadata service is there too.
    pub addr: SocketAddr,
    /// The file with the key of a service account.
    pub key: PathBuf,
}

impl Gcs {
    /// Asks it as somebody whom the metadata service knows.
    fn ask(&self, method: &str, path: &str) -> Answer {
        let service = "/computeMetadata/v1/instance/service-accounts/default/token";
        let flavour = [("Metadata-Flavor", "Google")];
        let token = Http(self.addr).send("GET", service, &flavour, b"").json();
        let token = token["access_token"].as_str().unwrap_or_default();
        let token = format!("Bearer {token}");
        Http(self.addr).send(method, path, &[("Authorization", &token)], b"")
    }

    /// A registry on the bucket that is to find its credentials itself.
    ///
    /// # Panics
    /// When its folder cannot be made.
    pub fn without_key(&self, home: &Path) -> Config {
        let config = crate::bucket::config::<Self>(home, self.addr);
        config.env("STORAGE_EMULATOR_HOST", self.addr.to_string())
    }
}

impl Store for Gcs {
    const SIGNED: &'static str = "X-Goog-Expires=1200";
    const NAME: &'static str = "storage.gcs.bucket";
    const MISSING: &'static str = "NoSuchBucket";

    fn start(home: &Path) -> Self {
        let addr = free_address();
        let python = crate::target_folder().join("moto/bin/python");
        assert!(
            python.is_file(),
            "{} is missing: `cargo xtask test --only packages` installs it",
            python.display()
        );
        let mut command = Command::new(python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("servers/gcs.py"));
        command.arg(addr.port().to_string()).arg(home);
        let mut service = Service::start(&mut command, &home.join("gcs.log"));
        service.wait_until(|_| TcpStream::connect(addr).ok());
        let key = home.join("key.json");
        let server = Self { service, addr, key };
        let made = server.ask("PUT", &format!("/{BUCKET}"));
        assert_eq!(made.status, 200, "{made:?}");
        server
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Without credentials, and without the server's address: that is no key.
    fn settings(_addr: SocketAddr) -> Value {
        json!({"storage": {"gcs": {
            "bucket": BUCKET, "rootdirectory": "/some/where",
            "chunksize": 5 * 1024 * 1024,
        }}})
    }

    fn config(&self, home: &Path, at: SocketAddr) -> Config {
        let key = self.key.to_string_lossy().into_owned();
        let config = crate::bucket::config::<Self>(home, at).set("storage.gcs.keyfile", key);
        config.env("STORAGE_EMULATOR_HOST", at.to_string())
    }

    fn path(key: &str) -> String {
        format!("/{BUCKET}/{key}")
    }

    fn keys(&self) -> Vec<String> {
        let listed = self.ask("GET", &format!("/{BUCKET}?list-type=2&max-keys=10000"));
        texts(&String::from_utf8_lossy(&listed.body), "Key")
    }

    fn open_uploads(&self) -> Vec<String> {
        let listed = self.ask("GET", &format!("/{BUCKET}?uploads"));
        texts(&String::from_utf8_lossy(&listed.body), "Key")
    }

    fn parts(&self) -> usize {
        self.service.log().matches("partNumber=").count()
    }
}
