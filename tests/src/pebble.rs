//! Pebble, Let's Encrypt's test server of ACME, and the names it looks up.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::certificates::{Authority, path};
use crate::distribution::free_address;
use crate::process::{Service, run};

/// A running Pebble, to which every name is this machine.
#[derive(Debug)]
pub struct Pebble {
    service: Service,
    _names: Service,
    /// Where it is spoken to, and where it tells about itself.
    addresses: [SocketAddr; 2],
    /// Whom its own certificate is from.
    vouched_by: PathBuf,
}

impl Pebble {
    /// Starts it; it checks names at `checked`. Its own certificate is from `authority`.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path, authority: &Authority, checked: SocketAddr) -> Self {
        let dns = free_address();
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-dns01", &dns.to_string(), "-defaultIPv6", ""]);
        for not_needed in ["-http01", "-https01", "-tlsalpn01", "-management"] {
            command.args([not_needed, ""]);
        }
        let names = Service::start(&mut command, &home.join("names.log"));

        let addresses = [free_address(), free_address()];
        let pair = authority.server(home, "pebble");
        let config = json!({"pebble": {
            "listenAddress": addresses[0].to_string(),
            "managementListenAddress": addresses[1].to_string(),
            "certificate": path(&pair.certificate),
            "privateKey": path(&pair.key),
            "httpPort": free_address().port(),
            "tlsPort": checked.port(),
        }});
        let file = home.join("pebble.json");
        fs::write(&file, config.to_string()).expect("a configuration can be written");
        let mut command = Command::new("pebble");
        command.arg("-config").arg(file);
        command.args(["-dnsserver", &dns.to_string()]);
        command.env("PEBBLE_VA_NOSLEEP", "1");
        let mut service = Service::start(&mut command, &home.join("pebble.log"));
        service.wait_until(|_| {
            addresses
                .iter()
                .all(|at| TcpStream::connect(at).is_ok())
                .then_some(())
        });
        Self {
            service,
            _names: names,
            addresses,
            vouched_by: authority.certificate.clone(),
        }
    }

    /// The URL of its directory.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.addresses[0])
    }

    /// The certificate that vouches for those it gives, as a file.
    ///
    /// # Panics
    /// When it does not tell.
    pub fn root(&self, home: &Path) -> PathBuf {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--cacert"]);
        curl.arg(&self.vouched_by);
        let root = run(curl.arg(format!("https://{}/roots/0", self.addresses[1])));
        let file = home.join("root.pem");
        fs::write(&file, root).expect("it can be written");
        file
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.service.log()
    }
}
