//! What the tests need of others: Debian packages, and a server of S3's protocol.

use std::process::Command;

use crate::command::{output, run, target_folder};

const PACKAGES: [&str; 24] = [
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
];

/// The server of S3's protocol that the tests of the object store driver ask.
const MOTO: &str = "moto[server]==5.2.5";

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn install() -> Result<(), String> {
    install_packages()?;
    install_moto()
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
    let missing: Vec<_> = PACKAGES
        .into_iter()
        .filter(|package| !is_installed(package))
        .collect();
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
