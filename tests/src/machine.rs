//! A Debian machine with systemd, as a container of systemd-nspawn(1): where packages are installed
//! and services run as on a server. Its network is its own, so ports can be what they are there.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::debian::bootstrap;
use crate::process::{Service, output, run};
use crate::target_folder;

/// What is installed in it, besides the least that Debian has.
const PACKAGES: &str = "adduser,curl,dbus,docker-registry,systemd,systemd-sysv";

/// Held by a machine: all have one control group, and the end of one would take along what others
/// have made there.
static ALONE: Mutex<()> = Mutex::new(());

/// A running machine, the only one of its process. What is changed in it is gone when it is dropped.
#[derive(Debug)]
pub struct Machine {
    service: Service,
    leader: u32,
    root: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Machine {
    /// Boots one, with what it changes in `home`. Debian's `docker-registry` is installed in it and
    /// runs.
    ///
    /// # Panics
    /// With its console, when it does not come up.
    pub fn boot(home: &Path) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let home = home.join("machine");
        let [upper, work, root] = ["changed", "work", "root"].map(|name| {
            let folder = home.join(name);
            fs::create_dir_all(&folder).expect("a folder can be made");
            folder
        });
        // The folder's mode is that of the machine's root.
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            installed().display(),
            upper.display(),
            work.display()
        );
        let options = std::ffi::CString::new(options).expect("no path has a NUL");
        mount("overlay", &root, "overlay", MountFlags::empty(), &*options)
            .expect("an overlay can be mounted");
        let mut boot = Command::new("systemd-nspawn");
        boot.args(["--boot", "--quiet", "--register=no", "--keep-unit"])
            .args([
                "--private-network",
                "--link-journal=no",
                "--console=read-only",
            ])
            .arg("--directory")
            .arg(&root);
        let mut service = Service::start(&mut boot, &home.join("console.log"));
        let leader = service.wait_until(|service| {
            let children = Command::new("pgrep")
                .arg("-P")
                .arg(service.pid().to_string())
                .output();
            let children = String::from_utf8(children.ok()?.stdout).ok()?;
            children.split_whitespace().next()?.parse().ok()
        });
        let mut machine = Self {
            service,
            leader,
            root,
            _alone: alone,
        };
        let mut running = machine.command(&["systemctl", "is-system-running", "--wait"]);
        machine.service.wait_until(|_| {
            let state = output(&mut running).stdout;
            matches!(state.trim_ascii(), b"running" | b"degraded").then_some(())
        });
        machine
    }

    /// A command in the machine, as its administrator.
    pub fn command(&self, command: &[&str]) -> Command {
        let mut inside = self.nsenter(&[
            "--mount", "--uts", "--ipc", "--pid", "--cgroup", "--root", "--wd",
        ]);
        inside.args(command);
        inside.env_clear().env("LANG", "C.UTF-8");
        inside.env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        );
        inside
    }

    /// A command of this system, on the machine's network.
    pub fn beside(&self, program: &Command) -> Command {
        let mut inside = self.nsenter(&[]);
        inside.arg(program.get_program()).args(program.get_args());
        inside
    }

    fn nsenter(&self, namespaces: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.leader.to_string(), "--net"])
            .args(namespaces)
            .arg("--");
        command
    }

    /// Runs a script in the machine and gives what it prints.
    ///
    /// # Panics
    /// With all it printed, when one of its commands fails, or it does not end within five minutes.
    pub fn run(&self, script: &str) -> String {
        let shell = ["timeout", "300", "bash", "-euo", "pipefail", "-c", script];
        run(&mut self.command(&shell))
    }

    /// A file of the machine, seen from here.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Without its first process nothing goes on in it; without systemd-nspawn alone, all does.
        if self.service.ended().is_none() {
            let leader = i32::try_from(self.leader).ok().and_then(Pid::from_raw);
            let _ = kill_process(leader.expect("it has a process"), Signal::KILL);
        }
        self.service.kill();
        // What it was running may take a moment to end.
        while unmount(&self.root, UnmountFlags::empty()) == Err(rustix::io::Errno::BUSY) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// The files of a machine that has never been started: made once, and kept in the target folder.
fn installed() -> PathBuf {
    let cache = target_folder().join("e2e");
    fs::create_dir_all(&cache).expect("a folder can be made");
    let cache = cache.canonicalize().expect("it is there");
    // Tests in other processes wait here for the one that makes it.
    let lock = File::create(cache.join("machine.lock")).expect("a file can be made");
    lock.lock().expect("it can be locked");
    let machine = cache.join("machine");
    if !machine.is_dir() {
        let home = tempfile::tempdir_in(&cache).expect("a folder can be made");
        let root = home.path().join("root");
        bootstrap(&root, &[&format!("--include={PACKAGES}")]);
        fs::rename(root, &machine).expect("it can be moved");
    }
    machine
}
