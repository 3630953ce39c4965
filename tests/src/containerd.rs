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
        let mut containerd = Self { service, socket };
        let mut version = containerd.command();
        version.arg("version");
        containerd
            .service
            .wait_until(|_| output(&mut version).status.success().then_some(()));
        containerd
    }

    /// The `ctr` program, told which containerd to talk to.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ctr");
        command.arg("-a").arg(&self.socket);
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
        let options = ["--plain-http", "--snapshotter", "native"];
        run(self
            .command()
            .args(["images", "pull"])
            .args(options)
            .arg(image));
        self.digest(image)
    }

    fn push(&self, from: &str, to: &str) -> String {
        run(&mut self.push_command(from, to));
        self.digest(to)
    }

    fn push_command(&self, from: &str, to: &str) -> Command {
        run(self.command().args(["images", "tag", "--force", from, to]));
        let mut command = self.command();
        command.args(["images", "push", "--plain-http", to]);
        command
    }

    fn forget(&self) {
        for (name, _) in self.images() {
            run(self.command().args(["images", "rm", "--sync", &name]));
        }
    }
}
