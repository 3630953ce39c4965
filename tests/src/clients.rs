//! Clients that pull images into a place of their own and push them from there.

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::containerd::Containerd;
use crate::docker::Docker;
use crate::process::{output, run};

/// All of them, each with everything it keeps in a folder.
///
/// # Panics
/// With its log, when one does not start.
pub fn all(home: &Path) -> Vec<Box<dyn Client>> {
    vec![
        Box::new(Skopeo::new(home)),
        Box::new(ContainersStorage::buildah(home)),
        Box::new(ContainersStorage::podman(home)),
        Box::new(Docker::start(home)),
        Box::new(Containerd::start(home)),
    ]
}

/// All of them again but the Engine, for one registry that speaks TLS: trusting and showing what is in a folder of
/// certificates (see [`crate::certificates::client_folder`]).
///
/// # Panics
/// With its log, when one does not start.
pub fn all_over_tls(home: &Path, registry: &str, certificates: &Path) -> Vec<Box<dyn Client>> {
    vec![
        Box::new(Skopeo::new(home).over_tls(certificates)),
        Box::new(ContainersStorage::buildah(home).over_tls(certificates)),
        Box::new(ContainersStorage::podman(home).over_tls(certificates)),
        Box::new(Containerd::start(home).over_tls(registry, certificates)),
    ]
}

/// A client of registries, with its own store of images.
pub trait Client: Debug + Send + Sync {
    /// What it is called.
    fn name(&self) -> &str;

    /// Pulls an image, `host:port/name:tag` or `…@digest`, and gives the digest of its manifest
    /// as the client understood it.
    fn pull(&self, image: &str) -> String;

    /// Pushes an image that was pulled as `from` to `to`, and gives the digest of the manifest as
    /// the client made it.
    fn push(&self, from: &str, to: &str) -> String;

    /// The command that pushes an image that was pulled as `from`: for a test that does not let it
    /// come to its end.
    fn push_command(&self, from: &str, to: &str) -> Command;

    /// Removes all images from its store, so that the next pull transfers every byte.
    fn forget(&self);
}

/// skopeo; its store is a folder of images, each kept byte for byte.
#[derive(Debug)]
pub struct Skopeo {
    home: PathBuf,
    /// What it trusts and shows, where it speaks TLS.
    certificates: Option<PathBuf>,
}

impl Skopeo {
    /// A store in a folder.
    pub fn new(home: &Path) -> Self {
        let home = home.join("skopeo");
        fs::create_dir_all(&home).expect("a folder can be made");
        Self {
            home,
            certificates: None,
        }
    }

    /// Speaks TLS, with the certificates in a folder.
    #[must_use]
    pub fn over_tls(mut self, certificates: &Path) -> Self {
        self.certificates = Some(certificates.to_owned());
        self
    }

    /// `skopeo copy` as [`copy`], with what it trusts.
    pub fn copy(&self, from: &str, to: &str) -> Command {
        let mut command = copy(from, to);
        if let Some(certificates) = &self.certificates {
            // The last of two contradicting flags counts.
            command.args(["--src-tls-verify=true", "--dest-tls-verify=true"]);
            command.arg("--src-cert-dir").arg(certificates);
            command.arg("--dest-cert-dir").arg(certificates);
        }
        command
    }

    fn kept(&self, image: &str) -> String {
        let folder = image.replace([':', '/', '@'], "_");
        format!("dir:{}/{folder}", self.home.display())
    }

    fn copy_and_digest(&self, from: &str, to: &str) -> String {
        let file = tempfile::NamedTempFile::new_in(&self.home).expect("a file can be made");
        run(self.copy(from, to).arg("--digestfile").arg(file.path()));
        let digest = fs::read_to_string(file.path()).expect("skopeo wrote it");
        digest.trim().to_owned()
    }
}

/// `skopeo copy` of everything in an image, as it is.
pub fn copy(from: &str, to: &str) -> Command {
    let mut command = transfer(from, to);
    command.arg("--preserve-digests");
    command
}

/// `skopeo copy` of everything in an image, in another format: `oci` or `v2s2`.
pub fn convert(from: &str, to: &str, format: &str) -> Command {
    let mut command = transfer(from, to);
    command.args(["--format", format]);
    command
}

fn transfer(from: &str, to: &str) -> Command {
    let mut command = Command::new("skopeo");
    command
        .args(["copy", "--all", "--quiet"])
        .args(["--src-tls-verify=false", "--dest-tls-verify=false"])
        .args([from, to]);
    command
}

impl Client for Skopeo {
    fn name(&self) -> &str {
        "skopeo"
    }

    fn pull(&self, image: &str) -> String {
        self.copy_and_digest(&format!("docker://{image}"), &self.kept(image))
    }

    fn push(&self, from: &str, to: &str) -> String {
        self.copy_and_digest(&self.kept(from), &format!("docker://{to}"))
    }

    fn push_command(&self, from: &str, to: &str) -> Command {
        self.copy(&self.kept(from), &format!("docker://{to}"))
    }

    fn forget(&self) {
        for entry in fs::read_dir(&self.home).expect("it is there") {
            let path = entry.expect("it can be listed").path();
            fs::remove_dir_all(path).expect("it can be removed");
        }
    }
}

/// buildah or podman: the same store of images under two command lines.
#[derive(Debug)]
pub struct ContainersStorage {
    program: &'static str,
    home: PathBuf,
    /// What it trusts and shows, where it speaks TLS.
    certificates: Option<PathBuf>,
}

impl ContainersStorage {
    /// buildah with a store in a folder.
    pub fn buildah(home: &Path) -> Self {
        Self::new("buildah", home)
    }

    /// podman with a store in a folder.
    pub fn podman(home: &Path) -> Self {
        Self::new("podman", home)
    }

    fn new(program: &'static str, home: &Path) -> Self {
        let home = home.join(program);
        fs::create_dir_all(&home).expect("a folder can be made");
        Self {
            program,
            home,
            certificates: None,
        }
    }

    /// Speaks TLS, with the certificates in a folder.
    #[must_use]
    pub fn over_tls(mut self, certificates: &Path) -> Self {
        self.certificates = Some(certificates.to_owned());
        self
    }

    /// `pull` or `push`, told whom to trust.
    fn transfer(&self, what: &str) -> Command {
        let mut command = self.command();
        command.args([what, "--quiet"]);
        match &self.certificates {
            Some(certificates) => command.arg("--cert-dir").arg(certificates),
            None => command.arg("--tls-verify=false"),
        };
        command
    }

    /// The program, told where its store is.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(self.home.join("root"))
            .arg("--runroot")
            .arg(self.home.join("run"));
        if self.program == "podman" {
            // Neither systemd nor its journal is there in a container.
            command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"]);
        }
        command
    }
}

impl Client for ContainersStorage {
    fn name(&self) -> &str {
        self.program
    }

    fn pull(&self, image: &str) -> String {
        let id = run(self.transfer("pull").arg(image));
        let id = id.trim();
        let digest = if self.program == "buildah" {
            let format = ["--format", "{{.FromImageDigest}}"];
            run(self
                .command()
                .args(["inspect", "--type", "image"])
                .args(format)
                .arg(id))
        } else {
            run(self
                .command()
                .args(["image", "inspect", "--format", "{{.Digest}}", id]))
        };
        digest.trim().to_owned()
    }

    fn push(&self, from: &str, to: &str) -> String {
        let file = tempfile::NamedTempFile::new_in(&self.home).expect("a file can be made");
        run(self
            .transfer("push")
            .arg("--digestfile")
            .arg(file.path())
            .arg(from)
            .arg(format!("docker://{to}")));
        let digest = fs::read_to_string(file.path()).expect("it was written");
        digest.trim().to_owned()
    }

    fn push_command(&self, from: &str, to: &str) -> Command {
        let mut command = self.transfer("push");
        command.arg(from).arg(format!("docker://{to}"));
        command
    }

    fn forget(&self) {
        run(self.command().args(["rmi", "--all", "--force"]));
    }
}

impl Drop for ContainersStorage {
    fn drop(&mut self) {
        // Mounts left behind would keep the folder from being removed.
        let _ = output(self.command().args(["rmi", "--all", "--force"]));
    }
}
