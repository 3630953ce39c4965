//! The Docker Engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::Client;
use crate::process::{Service, output, run};

/// A Docker Engine of its own, with nothing in it.
#[derive(Debug)]
pub struct Docker {
    service: Service,
    socket: PathBuf,
}

impl Docker {
    /// Starts it with everything it keeps in a folder.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path) -> Self {
        let home = home.join("docker");
        fs::create_dir_all(&home).expect("a folder can be made");
        let socket = home.join("docker.sock");
        let config = home.join("daemon.json");
        fs::write(&config, "{}").expect("a configuration can be written");
        let mut command = Command::new("dockerd");
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
        let mut docker = Self { service, socket };
        let mut version = docker.command();
        version.arg("version");
        docker
            .service
            .wait_until(|_| output(&mut version).status.success().then_some(()));
        docker
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

/// The digest in what `docker pull` and `docker push` print, each in a case of its own.
fn digest_in(printed: &str) -> String {
    let at = printed.to_ascii_lowercase().find("digest: ");
    let at = at.unwrap_or_else(|| panic!("no digest in {printed}")) + "digest: ".len();
    let digest = printed[at..].split_whitespace().next();
    digest.expect("it follows").to_owned()
}
