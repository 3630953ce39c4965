//! Running other programs.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Cargo's target folder.
pub(crate) fn target_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    root().join(target.unwrap_or_else(|| "target".into()))
}

/// The folder in the target folder of what users get.
pub(crate) const RELEASE: &str = "release";

/// The folder in the target folder of what tests are, and run: profile `dev`.
pub(crate) const DEBUG: &str = "debug";

/// A cargo command in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo told this program of itself would count as a change to some build scripts.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
        }) {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(root());
    command
}

/// A cargo command about all packages, in profile `dev`. Fewer may ask for fewer features of what they
/// depend on, and cargo would build all that once more; arguments can choose targets.
pub(crate) fn workspace(subcommand: &str) -> Command {
    cargo(&[subcommand, "--locked", "--workspace"])
}

/// Runs a command to its end, its output going where ours goes.
///
/// # Errors
/// When it cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Runs a command to its end and gives what it prints.
///
/// # Errors
/// When it cannot be started, or fails.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}\n{said}", output.status))
    }
}

/// How many processors there are.
pub(crate) fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Does `work` with each of these in turn, `at_once` at a time. Where it fails, what is under way
/// still comes to its end.
///
/// # Errors
/// The first failure of a thread, which then takes up nothing more.
pub(crate) fn side_by_side<'a, T: Sync>(
    items: &'a [T],
    at_once: usize,
    work: impl Fn(&'a T) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let next = AtomicUsize::new(0);
    let take = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(take)).collect();
        let ended = workers.into_iter().map(thread::ScopedJoinHandle::join);
        ended
            .map(|outcome| outcome.expect("no panic"))
            .try_for_each(|outcome| outcome)
    })
}
