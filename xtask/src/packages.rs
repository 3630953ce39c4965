//! What the tests need of others: Debian packages, and servers of object stores' protocols.

use std::process::Command;

use crate::command::{output, run, target_folder};

const PACKAGES: [&str; 25] = [
    "apache2-utils", // htpasswd
    "buildah",
    "ca-certificates",
    "containerd",
    "crun",
    "curl",
    "debhelper",
    "debootstrap",
    "docker-registry",
    "docker.io",
    "g++", // libFuzzer is C++
    "iproute2",
    "nginx",
    "openssl",
    "pebble",
    "podman",
    "procps",
    "python3-venv", // for the server of S3's protocol
    "redis-sentinel",
    "redis-server",
    "skopeo",
    "systemd",           // for its systemd-socket-activate alone
    "systemd-container", // machines that boot
    "util-linux",
    "valgrind", // counts instructions
];

/// The server of S3's protocol that the tests of the object store driver ask, and that answers
/// behind `tests/servers/gcs.py`.
const MOTO: &str = "moto[server]==5.2.5";

/// What the server of Azure's protocol runs on. A machine may have it from elsewhere, and Debian's
/// packages cannot stand beside that.
const NODE: [&str; 2] = ["nodejs", "npm"];

/// The server of Azure's protocol, the last that runs on the Node.js of Debian 12.
const AZURITE: &str = "azurite@3.35.0";

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn install() -> Result<(), String> {
    install_packages()?;
    install_moto()?;
    install_azurite()
}

/// Installs Azurite in a folder of its own in the target folder.
fn install_azurite() -> Result<(), String> {
    let folder = target_folder().join("azurite");
    if folder.join("node_modules/azurite/package.json").is_file() {
        return Ok(());
    }
    println!("installing {AZURITE}");
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--ignore-scripts"]);
    run(install.arg("--prefix").arg(&folder).arg(AZURITE))
}

/// Installs Moto in a folder of its own in the target folder.
fn install_moto() -> Result<(), String> {
    let folder = target_folder().join("moto");
    if folder.join("bin/moto_server").is_file() {
        return Ok(());
    }
    println!("installing {MOTO}");
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", MOTO]))
}

fn install_packages() -> Result<(), String> {
    let missing = PACKAGES.into_iter();
    let mut missing: Vec<_> = missing.filter(|package| !is_installed(package)).collect();
    if output(Command::new("npm").arg("--version")).is_err() {
        missing.extend(NODE);
    }
    if missing.is_empty() {
        return Ok(());
    }
    println!("installing {}", missing.join(" "));
    let install = || {
        run(Command::new("apt-get").arg("update").arg("-q"))?;
        run(Command::new("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&missing)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    install().map_err(|error| {
        format!(
            "{error}\nthe tests with real clients need root on Debian 12 and these packages: {}",
            missing.join(" ")
        )
    })
}

fn is_installed(package: &str) -> bool {
    let status = output(Command::new("dpkg-query").args(["-W", "-f=${db:Status-Abbrev}", package]));
    status.is_ok_and(|status| status.starts_with("ii"))
}
