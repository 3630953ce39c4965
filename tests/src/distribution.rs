//! Debian's `docker-registry`: CNCF Distribution.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::http::Http;
use crate::process::Service;
use crate::wharfinger::{SECRET, merge, one_store};

/// A running Distribution.
#[derive(Debug)]
pub struct Distribution {
    /// Its process.
    pub service: Service,
    /// Where it listens.
    pub addr: SocketAddr,
    /// Where its metrics can be looked at, under `/metrics`.
    pub debug: SocketAddr,
}

impl Distribution {
    /// Starts it on a data folder, with what it needs besides in `home`.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path, data: &Path) -> Self {
        Self::start_with(home, data, &Value::Null)
    }

    /// Starts it with further settings in its configuration file.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start_with(home: &Path, data: &Path, settings: &Value) -> Self {
        let (addr, debug) = (free_address(), free_address());
        let file = home.join("distribution.yml");
        let mut text = json!({
            "version": "0.1",
            "log": { "level": "warn" },
            "storage": {
                "filesystem": { "rootdirectory": data },
                "delete": { "enabled": true },
            },
            "http": {
                "addr": addr,
                "secret": SECRET,
                "debug": { "addr": debug, "prometheus": { "enabled": true } },
            },
        });
        merge(&mut text, settings);
        one_store(&mut text);
        // JSON is YAML too.
        fs::write(&file, format!("{text:#}")).expect("a configuration can be written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file);
        // Amazon's library fails when it finds this one, set for whatever else runs here.
        command.env_remove("AWS_CA_BUNDLE");
        let mut service = Service::start(&mut command, &home.join("distribution.log"));
        service.wait_until(|_| TcpStream::connect(addr).ok());
        Self {
            service,
            addr,
            debug,
        }
    }

    /// Requests to it.
    pub fn http(&self) -> Http {
        Http(self.addr)
    }

    /// The name of an image in it, as clients write it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.addr)
    }
}

/// An address on which nobody listens, for programs that cannot say which one they took.
///
/// # Panics
/// When there is none left.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound")
}
