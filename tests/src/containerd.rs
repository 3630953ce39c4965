//! containerd, driven by its own `ctr`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clients::Client;
use crate::process::{Service, output, run};

/// A containerd of its own, with nothing in it.
#[derive(Debug)]
pub struct Containerd {
    service: Service,
    socket: PathBuf,
    /// How it reaches registries: options of `ctr`.
    reach: Vec<String>,
    home: PathBuf,
}

impl Containerd {
    /// Starts it with everything it keeps in a folder.
    ///
    /// # Panics
    /// With its log, when it does not start.
    pub fn start(home: &Path) -> Self {
        let home = home.join("containerd");
        fs::create_dir_all(&home).expect("a folder can be made");
        let socket = home.join("containerd.sock");
        let config = home.join("config.toml");
        let text = format!(
            "version = 2\nroot = '{home}/root'\nstate = '{home}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri']\n\
             [grpc]\naddress = '{}'\n",
            socket.display(),
            home = home.display()
        );
        fs::write(&config, text).expect("a configuration can be written");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(config);
        let service = Service::start(&mut command, &home.join("containerd.log"));
        let mut containerd = Self {
            service,
            socket,
            reach: vec!["--plain-http".to_owned()],
            home,
        };
        let mut version = containerd.command();
        version.arg("version");
        containerd
            .service
            .wait_until(|_| output(&mut version).status.success().then_some(()));
        containerd
    }

    /// Speaks TLS with a registry, with the certificates in a folder.
    ///
    /// # Panics
    /// When its configuration cannot be written.
    #[must_use]
    pub fn over_tls(mut self, registry: &str, certificates: &Path) -> Self {
        let of = |name: &str| certificates.join(name).display().to_string();
        let mut text = format!(
            "server = 'https://{registry}'\n[host.'https://{registry}']\nca = '{}'\n",
            of("ca.crt")
        );
        if certificates.join("client.cert").exists() {
            text += &format!(
                "client = [['{}', '{}']]\n",
                of("client.cert"),
                of("client.key")
            );
        }
        self.find(registry, &text);
        self
    }

    /// Asks a mirror for what a registry has, before that itself.
    ///
    /// # Panics
    /// When its configuration cannot be written.
    #[must_use]
    pub fn mirrored(mut self, registry: &str, mirror: &str) -> Self {
        let text = format!("[host.'{mirror}']\ncapabilities = ['pull', 'resolve']\n");
        self.find(registry, &text);
        self
    }

    /// Says where a registry is to be found.
    fn find(&mut self, registry: &str, text: &str) {
        let hosts = self.home.join("hosts");
        let folder = hosts.join(registry);
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join("hosts.toml"), text).expect("a configuration can be written");
        self.reach = vec!["--hosts-dir".to_owned(), hosts.display().to_string()];
    }

    /// The `ctr` program, told which containerd to talk to.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(&self.socket);
        command
    }

    /// Pulls an image, and shows a user and a password, `user:password`, where they are asked for.
    pub fn pull_as(&self, image: &str, user: &str) -> String {
        let mut command = self.pull_command();
        run(command.args(["--user", user]).arg(image));
        self.digest(image)
    }

    fn pull_command(&self) -> Command {
        let mut command = self.command();
        command.args(["images", "pull", "--snapshotter", "native"]);
        command.args(&self.reach);
        command
    }

    fn images(&self) -> Vec<(String, String)> {
        let listed = run(self.command().args(["images", "ls"]));
        let rows = listed.lines().skip(1).filter_map(|row| {
            let mut columns = row.split_whitespace();
            Some((columns.next()?.to_owned(), columns.nth(1)?.to_owned()))
        });
        rows.collect()
    }

    fn digest(&self, image: &str) -> String {
        let images = self.images();
        let found = images.iter().find(|(name, _)| name == image);
        let (_, digest) = found.unwrap_or_else(|| panic!("no {image} in {images:?}"));
        digest.clone()
    }
}

impl Client for Containerd {
    fn name(&self) -> &str {
        "containerd"
    }

    fn pull(&self, image: &str) -> String {
        run(self.pull_command().arg(image));
        self.digest(image)
    }

    fn push(&self, from: &str, to: &str) -> String {
        run(&mut self.push_command(from, to));
        self.digest(to)
    }

    fn push_command(&self, from: &str, to: &str) -> Command {
        run(self.command().args(["images", "tag", "--force", from, to]));
        let mut command = self.command();
        command.args(["images", "push"]).args(&self.reach).arg(to);
        command
    }

    fn forget(&self) {
        for (name, _) in self.images() {
            run(self.command().args(["images", "rm", "--sync", &name]));
        }
    }
}
