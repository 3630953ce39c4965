//! A server of the XML API of Google Cloud Storage, with a bucket in it: `servers/gcs.py`, which
//! tells what it is.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::bucket::Bucket;
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
    /// Starts it and makes the bucket.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path) -> Self {
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

    /// Asks it as somebody whom the metadata service knows.
    fn ask(&self, method: &str, path: &str) -> Answer {
        let service = "/computeMetadata/v1/instance/service-accounts/default/token";
        let flavour = [("Metadata-Flavor", "Google")];
        let token = Http(self.addr).send("GET", service, &flavour, b"").json();
        let token = token["access_token"].as_str().unwrap_or_default();
        let token = format!("Bearer {token}");
        Http(self.addr).send(method, path, &[("Authorization", &token)], b"")
    }
}

impl Bucket for Gcs {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn config(&self, home: &Path, at: SocketAddr) -> Config {
        std::fs::create_dir_all(home).expect("a folder can be made");
        let mut config = Config::new(home);
        config.settings = json!({"storage": {"gcs": {
            "bucket": BUCKET, "rootdirectory": "/some/where", "keyfile": self.key,
            "chunksize": 5 * 1024 * 1024,
        }}});
        config.env("STORAGE_EMULATOR_HOST", at.to_string())
    }

    fn address(&self) -> String {
        format!("http://{}/{BUCKET}/", self.addr)
    }

    fn redirected(&self) -> &'static str {
        "X-Goog-Expires=1200"
    }

    fn keys(&self) -> Vec<String> {
        let listed = self.ask("GET", &format!("/{BUCKET}?list-type=2&max-keys=10000"));
        texts(&String::from_utf8_lossy(&listed.body), "Key")
    }

    fn open_uploads(&self) -> Vec<String> {
        let listed = self.ask("GET", &format!("/{BUCKET}?uploads"));
        texts(&String::from_utf8_lossy(&listed.body), "Key")
    }

    fn parts_sent(&self) -> usize {
        self.service.log().matches("partNumber=").count()
    }
}
