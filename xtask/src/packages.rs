//! The Debian packages that the tests with real clients need.

use std::process::Command;

use crate::command::{output, run};

const PACKAGES: [&str; 22] = [
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
    "openssl",
    "pebble",
    "podman",
    "procps",
    "redis-sentinel",
    "redis-server",
    "skopeo",
    "systemd",           // for its systemd-socket-activate alone
    "systemd-container", // machines that boot
    "util-linux",
];

/// Installs what is missing.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn install() -> Result<(), String> {
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
