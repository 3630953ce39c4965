//! The Docker Engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::Client;
use crate::network::Network;
use crate::process::{Service, output, run};

/// A Docker Engine of its own, with nothing in it.
#[derive(Debug)]
pub struct Docker {
    service: Service,
    socket: PathBuf,
    /// Kept for it.
    certificates: Option<SystemCertificates>,
}

impl Docker {
    /// Starts it with everything it keeps in a folder.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path) -> Self {
        Self::start_as(Command::new("dockerd"), home, "{}")
    }

    /// Starts it with a mirror of Docker Hub.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start_with_mirror(home: &Path, mirror: &str) -> Self {
        let config = format!(r#"{{"registry-mirrors": ["{mirror}"]}}"#);
        Self::start_as(Command::new("dockerd"), home, &config)
    }

    /// Starts it in a network of its own.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start_in(network: &Network, home: &Path) -> Self {
        Self::start_as(network.command("dockerd"), home, "{}")
    }

    fn start_as(mut command: Command, home: &Path, settings: &str) -> Self {
        let home = home.join("docker");
        fs::create_dir_all(&home).expect("a folder can be made");
        let socket = home.join("docker.sock");
        let config = home.join("daemon.json");
        fs::write(&config, settings).expect("a configuration can be written");
        command
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .args(["--storage-driver=vfs", "--insecure-registry=127.0.0.0/8"])
            .arg("--config-file")
            .arg(config)
            .arg("--data-root")
            .arg(home.join("data"))
            .arg("--exec-root")
            .arg(home.join("exec"))
            .arg("--pidfile")
            .arg(home.join("docker.pid"))
            .arg("-H")
            .arg(format!("unix://{}", socket.display()));
        let service = Service::start(&mut command, &home.join("docker.log"));
        let mut docker = Self {
            service,
            socket,
            certificates: None,
        };
        let mut version = docker.command();
        version.arg("version");
        docker
            .service
            .wait_until(|_| output(&mut version).status.success().then_some(()));
        docker
    }

    /// Speaks TLS with a registry, with the certificates in a folder. With one on the loopback
    /// interface it neither checks nor shows any.
    ///
    /// # Panics
    /// When the certificates cannot be put where every Engine of this machine looks for them.
    #[must_use]
    pub fn over_tls(mut self, registry: &str, certificates: &Path) -> Self {
        self.certificates = Some(SystemCertificates::put(registry, certificates));
        self
    }

    /// The `docker` program, told which engine to talk to.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H");
        command.arg(format!("unix://{}", self.socket.display()));
        command
    }
}

impl Client for Docker {
    fn name(&self) -> &str {
        "docker"
    }

    fn pull(&self, image: &str) -> String {
        digest_in(&run(self.command().args(["pull", image])))
    }

    fn push(&self, from: &str, to: &str) -> String {
        digest_in(&run(&mut self.push_command(from, to)))
    }

    fn push_command(&self, from: &str, to: &str) -> Command {
        run(self.command().args(["tag", from, to]));
        let mut command = self.command();
        command.args(["push", to]);
        command
    }

    fn forget(&self) {
        run(self.command().args(["image", "prune", "--all", "--force"]));
    }
}

/// The certificates for one registry in the one place where Engines look for them; removed when
/// dropped.
#[derive(Debug)]
struct SystemCertificates(PathBuf);

impl SystemCertificates {
    fn put(registry: &str, certificates: &Path) -> Self {
        let folder = Path::new("/etc/docker/certs.d").join(registry);
        fs::create_dir_all(&folder).expect("a folder can be made");
        let put = Self(folder);
        for file in fs::read_dir(certificates).expect("it can be listed") {
            let file = file.expect("it can be listed");
            fs::copy(file.path(), put.0.join(file.file_name())).expect("it can be copied");
        }
        put
    }
}

impl Drop for SystemCertificates {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The digest in what `docker pull` and `docker push` print, each in a case of its own.
fn digest_in(printed: &str) -> String {
    let at = printed.to_ascii_lowercase().find("digest: ");
    let at = at.unwrap_or_else(|| panic!("no digest in {printed}")) + "digest: ".len();
    let digest = printed[at..].split_whitespace().next();
    digest.expect("it follows").to_owned()
}
