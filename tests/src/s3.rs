//! Moto, a server of the protocol of Amazon S3, with a bucket in it.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::bucket::Store;
use crate::distribution::free_address;
use crate::http::Http;
use crate::process::Service;

/// The bucket's name.
pub const BUCKET: &str = "registry";

/// A running server.
#[derive(Debug)]
pub struct S3 {
    service: Service,
    /// Where it is asked.
    pub addr: SocketAddr,
}

impl S3 {
    /// What it has logged.
    pub fn log(&self) -> String {
        self.service.log()
    }
}

impl Store for S3 {
    const SIGNED: &'static str = "X-Amz-Expires=1200";
    const NAME: &'static str = "storage.s3.bucket";
    const MISSING: &'static str = "NoSuchBucket";

    fn start(home: &Path) -> Self {
        let addr = free_address();
        let program = crate::target_folder().join("moto/bin/moto_server");
        assert!(
            program.is_file(),
            "{} is missing: `cargo xtask test --only packages` installs it",
            program.display()
        );
        let mut command = Command::new(program);
        command.args(["--host", "127.0.0.1", "--port", &addr.port().to_string()]);
        let mut service = Service::start(&mut command, &home.join("s3.log"));
        service.wait_until(|_| TcpStream::connect(addr).ok());
        let made = Http(addr).send("PUT", &format!("/{BUCKET}"), &[], b"");
        assert_eq!(made.status, 200, "{made:?}");
        Self { service, addr }
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn settings(addr: SocketAddr) -> Value {
        json!({"storage": {"s3": {
            "accesskey": "wharfinger", "secretkey": "a secret of the tests",
            "region": "us-east-1", "regionendpoint": format!("http://{addr}"),
            "forcepathstyle": true, "secure": false,
            "bucket": BUCKET, "rootdirectory": "/some/where",
            "chunksize": 5 * 1024 * 1024,
        }}})
    }

    fn path(key: &str) -> String {
        format!("/{BUCKET}/{key}")
    }

    fn keys(&self) -> Vec<String> {
        let listed = Http(self.addr).get(&format!("/{BUCKET}?list-type=2&max-keys=10000"));
        texts(&String::from_utf8_lossy(&listed.body), "Key")
    }

    fn open_uploads(&self) -> Vec<String> {
        let listed = Http(self.addr).get(&format!("/{BUCKET}?uploads"));
        texts(&String::from_utf8_lossy(&listed.body), "Key")
    }

    fn parts(&self) -> usize {
        self.service.log().matches("partNumber=").count()
    }
}

/// The texts of all elements of a name.
pub(crate) fn texts(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let elements = xml.split(&open).skip(1);
    let texts = elements.filter_map(|rest| rest.split(&close).next());
    texts.map(ToOwned::to_owned).collect()
}
