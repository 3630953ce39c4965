//! The servers' configuration files: as alike as they can be.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// A certificate that nobody vouches for, and its key, as files.
#[derive(Clone, Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Makes one below `folder`.
    ///
    /// # Errors
    /// When it cannot be made or written.
    pub fn new(folder: &Path) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .map_err(|error| Error::Usage(format!("cannot make a certificate: {error}")))?;
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&certificate, made.cert.pem()).context("write a certificate")?;
        fs::write(&key, made.signing_key.serialize_pem()).context("write a key")?;
        Ok(Self { certificate, key })
    }
}

/// The configuration that all registries are given.
///
/// # Errors
/// When it cannot be written.
pub fn registry(
    folder: &Path,
    data: &Path,
    addr: SocketAddr,
    tls: Option<&Certificate>,
) -> Result<PathBuf> {
    let config = folder.join("config.yml");
    let tls = tls.map_or(String::new(), |tls| {
        format!(
            "  tls:\n    certificate: {}\n    key: {}\n",
            tls.certificate.display(),
            tls.key.display()
        )
    });
    let text = format!(
        "version: 0.1\n\
         log:\n  level: error\n  accesslog:\n    disabled: true\n\
         storage:\n  filesystem:\n    rootdirectory: {}\n  cache:\n    blobdescriptor: inmemory\n\
         http:\n  addr: {addr}\n{tls}",
        data.display()
    );
    fs::write(&config, text).context("write a configuration")?;
    Ok(config)
}

/// The configuration of nginx.
///
/// # Errors
/// When it cannot be written.
pub fn nginx(
    folder: &Path,
    data: &Path,
    addr: SocketAddr,
    sendfile: bool,
    tls: Option<&Certificate>,
) -> Result<PathBuf> {
    let config = folder.join("nginx.conf");
    let sendfile = if sendfile { "on" } else { "off" };
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        temporary += &format!("  {kind}_temp_path {}/{kind};\n", folder.display());
    }
    // As root its workers must be root too, to reach the folder.
    let user = if rustix::process::geteuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    let listen = tls.map_or(format!("listen {addr};"), |tls| {
        format!(
            "listen {addr} ssl http2; ssl_certificate {}; ssl_certificate_key {};",
            tls.certificate.display(),
            tls.key.display()
        )
    });
    let text = format!(
        "{user}daemon off;\nworker_processes auto;\npid {}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n{temporary}  access_log off;\n  sendfile {sendfile};\n  \
         keepalive_requests 1000000000;\n  default_type application/octet-stream;\n  \
         server {{ {listen} root {}; }}\n}}\n",
        folder.display(),
        data.display()
    );
    fs::write(&config, text).context("write a configuration")?;
    Ok(config)
}
