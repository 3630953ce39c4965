//! Disks that are full, read-only, or not ours: every request gets an answer that says so, and
//! what was acknowledged is served.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use wharfinger_e2e::http::with_digest;
use wharfinger_e2e::image::{MANIFEST, manifest};
use wharfinger_e2e::{Config, Wharfinger, digest, eventually, folder, noise};

/// A filesystem under a folder, gone when it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// A disk in memory with so many bytes.
    fn tmpfs(at: &Path, bytes: u64) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        mount(
            "tmpfs",
            at,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
        Self(at.to_owned())
    }

    /// A folder as it is, in a place of its own, so that it can be made read-only.
    fn bind(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        mount_bind(at, at).unwrap();
        Self(at.to_owned())
    }

    fn set_read_only(&self, read_only: bool) {
        let mut flags = MountFlags::BIND;
        flags.set(MountFlags::RDONLY, read_only);
        // For a second after the last write, the journal is open.
        eventually("it is mounted anew", || {
            mount_remount(&self.0, flags, "").is_ok()
        });
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

/// The files below a folder, and their bytes.
fn contents(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(contents(&path)),
            Ok(metadata) => found.push((path, metadata.len())),
            Err(_) => {}
        }
    }
    found.sort();
    found
}

fn push_image(server: &Wharfinger, name: &str) -> (Vec<u8>, Vec<u8>) {
    let http = server.http();
    let layer = noise(name.len() as u64, 100_000);
    http.push_blob(name, b"{}");
    http.push_blob(name, &layer);
    let bytes = manifest(b"{}", &[&layer]);
    let pushed = http.push_manifest(name, "1", MANIFEST, &bytes);
    assert_eq!(pushed.status, 201, "{pushed:?}");
    (bytes, layer)
}

fn assert_served(server: &Wharfinger, name: &str, (bytes, layer): &(Vec<u8>, Vec<u8>)) {
    let answer = server.http().get(&format!("/v2/{name}/manifests/1"));
    assert_eq!(answer.body, *bytes, "{}", answer.status);
    let answer = server
        .http()
        .get(&format!("/v2/{name}/blobs/{}", digest(layer)));
    assert!(answer.body == *layer, "{}", answer.status);
}

#[test]
fn a_full_disk_refuses_pushes_and_loses_nothing() {
    let home = folder();
    let disk = Mount::tmpfs(&home.path().join("data"), 32 << 20);
    let mut server = Wharfinger::start(home.path());
    let http = server.http();
    let image = push_image(&server, "kept");
    let before = contents(&disk.0);

    // In one go, in a chunk of known length, and small after that.
    let large = noise(1, 48 << 20);
    let refused = http.try_push_blob("full", &large).unwrap();
    assert_eq!(
        refused.status,
        507,
        "{:?} {:?}",
        refused.status,
        refused.code()
    );
    let location = http.open_upload("full");
    let refused = http.send("PATCH", &location, &[], &large);
    assert_eq!(refused.status, 507, "{refused:?}");
    assert!(server.ended().is_none());
    assert_served(&server, "kept", &image);
    let left: Vec<_> = contents(&disk.0)
        .into_iter()
        .filter(|(path, _)| !path.ends_with("startedat"))
        .collect();
    assert_eq!(left, before, "the refused bytes were left behind");

    // Filled to the last byte by somebody else, the disk takes not even a link.
    let filler = disk.0.join("filler");
    let full = fs::write(&filler, vec![0; 64 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let refused = http.try_push_blob("kept", &noise(2, 1000)).unwrap();
    assert_eq!(refused.status, 507, "{refused:?}");
    let other = manifest(b"{}", &[&image.1, b"{}"]);
    let refused = http.push_manifest("kept", "1", MANIFEST, &other);
    assert_eq!(refused.status, 507, "{refused:?}");
    assert_served(&server, "kept", &image);
    // A server that starts now has something to serve.
    server.stop();
    server.start_again();
    let http = server.http();
    assert_served(&server, "kept", &image);
    let refused = http.try_push_blob("kept", &noise(2, 1000)).unwrap();
    assert_eq!(refused.status, 507, "{refused:?}");

    // Room again: the same server goes on, and so does the next.
    fs::remove_file(filler).unwrap();
    let small = noise(3, 3 << 20);
    http.push_blob("full", &small);
    server.stop();
    server.start_again();
    assert_served(&server, "kept", &image);
    let answer = server
        .http()
        .get(&format!("/v2/full/blobs/{}", digest(&small)));
    assert!(answer.body == small);
}

#[test]
fn a_full_disk_keeps_the_acknowledged_part_of_an_upload() {
    let home = folder();
    let disk = Mount::tmpfs(&home.path().join("data"), 32 << 20);
    let server = Wharfinger::start(home.path());
    let http = server.http();
    let bytes = noise(1, 20 << 20);
    let (first, rest) = bytes.split_at(12 << 20);
    let sent = http.send("PATCH", &http.open_upload("resumed"), &[], first);
    assert_eq!(sent.status, 202, "{sent:?}");
    let filler = disk.0.join("filler");
    fs::write(&filler, vec![0; 18 << 20]).unwrap();
    let refused = http.send("PATCH", &sent.location(), &[], rest);
    assert_eq!(refused.status, 507, "{refused:?}");
    fs::remove_file(filler).unwrap();
    let status = http.get(&sent.location());
    assert_eq!(status.status, 204, "{status:?}");
    let range = status.header("range").unwrap();
    let known: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
    assert!(known + 1 >= first.len(), "{range} of {} bytes", first.len());
    let wanted = digest(&bytes);
    let path = with_digest(&status.location(), &wanted);
    let done = http.send("PUT", &path, &[], &bytes[known + 1..]);
    assert_eq!(done.outcome(), (201, String::new()), "{done:?}");
    assert!(http.get(&format!("/v2/resumed/blobs/{wanted}")).body == bytes);
}

#[test]
fn a_disk_that_becomes_read_only_is_still_served() {
    let home = folder();
    let disk = Mount::bind(&home.path().join("data"));
    let mut server = Wharfinger::start(home.path());
    let http = server.http();
    let image = push_image(&server, "kept");
    let location = http.open_upload("kept");
    disk.set_read_only(true);
    assert_served(&server, "kept", &image);
    let blob = noise(1, 2 << 20);
    let path = with_digest(&location, &digest(&blob));
    let refusals = [
        http.send("PUT", &path, &[], &blob),
        http.try_push_blob("kept", b"small").unwrap(),
        http.push_manifest("kept", "2", MANIFEST, &manifest(b"{}", &[])),
        http.send("DELETE", "/v2/kept/manifests/1", &[], b""),
        http.send(
            "DELETE",
            &format!("/v2/kept/manifests/{}", digest(&image.0)),
            &[],
            b"",
        ),
    ];
    for refused in refusals {
        assert_eq!(refused.outcome(), (503, "UNAVAILABLE".to_owned()));
    }
    assert_served(&server, "kept", &image);
    assert!(server.ended().is_none());
    disk.set_read_only(false);
    http.push_blob("kept", &blob);
    assert_served(&server, "kept", &image);
}

#[test]
fn a_read_only_disk_is_served_by_a_read_only_registry_and_refused_by_another() {
    let home = folder();
    let disk = Mount::bind(&home.path().join("data"));
    let mut server = Wharfinger::start(home.path());
    let image = push_image(&server, "kept");
    server.stop();
    disk.set_read_only(true);
    let config = Config::new(home.path());
    assert_start_fails(&config, "Read-only file system");

    let config = Config {
        read_only: true,
        ..config
    };
    let server = config.start();
    assert_served(&server, "kept", &image);
    let refused = server.http().try_push_blob("kept", b"small").unwrap();
    assert_eq!(refused.outcome(), (405, "UNSUPPORTED".to_owned()));
}

/// The server must end by itself, with a message that has the data folder and the reason.
fn assert_start_fails(config: &Config, reason: &str) {
    let mut process = config.spawn();
    let status = process.wait();
    assert!(!status.success(), "{status}");
    let log = process.log();
    let folder = config.data.to_str().unwrap();
    let last = log.lines().rev().take(3).collect::<String>();
    assert!(last.contains(reason) && last.contains(folder), "{log}");
    assert!(!log.contains("panicked"), "{log}");
}

/// The user that owns nothing (`nobody` of Debian).
const NOBODY: u32 = 65534;

fn unprivileged(home: &Path) -> Config {
    fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    Config {
        user: Some(NOBODY),
        ..Config::new(home)
    }
}

#[test]
fn a_folder_that_may_not_be_used_is_a_start_up_error() {
    let home = folder();
    let config = unprivileged(home.path());
    // It may not be made.
    assert_start_fails(&config, "Permission denied");
    // It may not be written to.
    fs::create_dir(&config.data).unwrap();
    assert_start_fails(&config, "Permission denied");
    // It may not be read.
    fs::set_permissions(&config.data, fs::Permissions::from_mode(0o700)).unwrap();
    assert_start_fails(&config, "Permission denied");
    // It is a file.
    fs::remove_dir(&config.data).unwrap();
    fs::write(&config.data, b"").unwrap();
    assert_start_fails(&config, "");
}

#[test]
fn files_that_may_not_be_read_or_written_leave_the_rest_alone() {
    let home = folder();
    let config = unprivileged(home.path());
    fs::create_dir(&config.data).unwrap();
    chown(&config.data, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut server = config.start();
    let kept = push_image(&server, "kept");
    let locked = push_image(&server, "locked/away");
    server.stop();
    let forbid = |path: &Path| {
        chown(path, Some(0), Some(0)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    };
    let blob = server.blob_file(&digest(&locked.1));
    forbid(&blob);
    forbid(&server.repository("locked/away").join("_manifests/tags"));
    server.start_again();
    let http = server.http();
    let path = format!("/v2/locked/away/blobs/{}", digest(&locked.1));
    for path in [
        path.as_str(),
        "/v2/locked/away/manifests/1",
        "/v2/locked/away/tags/list",
    ] {
        let refused = http.get(path);
        assert_eq!(refused.outcome(), (503, "UNAVAILABLE".to_owned()), "{path}");
    }
    let refused = http.push_manifest("locked/away", "2", MANIFEST, &locked.0);
    assert_eq!(refused.outcome(), (503, "UNAVAILABLE".to_owned()));
    assert!(
        server.log().contains("Permission denied"),
        "{}",
        server.log()
    );
    let blob = blob.strip_prefix(server.data()).unwrap();
    assert!(
        server.log().contains(blob.to_str().unwrap()),
        "{}",
        server.log()
    );
    assert_served(&server, "kept", &kept);
    push_image(&server, "another");
}
