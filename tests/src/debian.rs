//! A real image: a Debian root made by debootstrap, with layers added by buildah.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::clients::ContainersStorage;
use crate::process::run;
use crate::target_folder;

/// The Debian image as skopeo names it: an OCI layout, made once and kept in the target folder.
///
/// It has three layers: the root, what a command run in it left, and a file copied to it.
///
/// # Panics
/// When it cannot be made.
pub fn image() -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let cache = target_folder().join("e2e");
        fs::create_dir_all(&cache).expect("a folder can be made");
        let cache = cache.canonicalize().expect("it is there");
        // Tests in other processes wait here for the one that makes it.
        let lock = File::create(cache.join("lock")).expect("a file can be made");
        lock.lock().expect("it can be locked");
        let layout = cache.join("debian");
        if !layout.is_dir() {
            let home = tempfile::tempdir_in(&cache).expect("a folder can be made");
            let made = make(home.path());
            fs::rename(made, &layout).expect("it can be moved");
        }
        format!("oci:{}:stable", layout.display())
    })
}

/// Makes the layout in a folder.
fn make(home: &Path) -> PathBuf {
    let root = home.join("root");
    bootstrap(&root, &[]);
    // What an image has no use for, as in Debian's own: it would only take the tests time.
    for folder in [
        "var/cache/apt",
        "var/lib/apt/lists",
        "var/log",
        "usr/share/doc",
        "usr/share/info",
        "usr/share/locale",
        "usr/share/man",
        "usr/share/zoneinfo",
    ] {
        fs::remove_dir_all(root.join(folder)).expect("debootstrap made it");
    }

    let storage = ContainersStorage::buildah(home);
    let buildah = |args: &[&str]| run(storage.command().args(args)).trim().to_owned();
    let root = root.to_str().expect("a path in UTF-8");
    let base = buildah(&["from", "scratch"]);
    buildah(&["add", "--quiet", &base, root, "/"]);
    buildah(&["config", "--cmd", "/bin/bash", &base]);
    buildah(&["commit", "--quiet", &base, "base"]);
    let second = buildah(&["from", "--pull-never", "base"]);
    let script = "cat /etc/os-release > /srv/release && ln -s release /srv/link && rm -r /media";
    buildah(&[
        "run",
        "--isolation",
        "chroot",
        &second,
        "--",
        "sh",
        "-c",
        script,
    ]);
    buildah(&["commit", "--quiet", &second, "second"]);
    let third = buildah(&["from", "--pull-never", "second"]);
    buildah(&["copy", "--quiet", &third, "/etc/os-release", "/srv/copied"]);
    buildah(&["commit", "--quiet", &third, "third"]);
    let layout = home.join("layout");
    buildah(&[
        "push",
        "--quiet",
        "third",
        &format!("oci:{}:stable", layout.display()),
    ]);
    layout
}

/// Installs the least of Debian into a folder, and what the options for debootstrap ask for.
pub(crate) fn bootstrap(root: &Path, options: &[&str]) {
    let suite = release("VERSION_CODENAME").expect("Debian names its release");
    let mut bootstrap = Command::new("debootstrap");
    bootstrap.arg("--variant=minbase").args(options);
    run(bootstrap.arg(&suite).arg(root).arg(mirror()));
}

/// A value of os-release(5).
fn release(key: &str) -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let mut lines = text.lines().filter_map(|line| line.split_once('='));
    let (_, value) = lines.find(|(name, _)| *name == key)?;
    Some(value.trim_matches('"').to_owned())
}

/// The mirror this machine installs its packages from: the first in apt's sources, in either form
/// of sources.list(5).
fn mirror() -> String {
    let folder = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    let mut files: Vec<_> = folder
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    files.insert(0, PathBuf::from("/etc/apt/sources.list"));
    let text: String = files
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .collect();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("deb ") || line.starts_with("URIs:"));
    let mut words = lines.flat_map(str::split_whitespace);
    let uri = words.find(|word| word.contains("://"));
    uri.expect("apt has a source").to_owned()
}
