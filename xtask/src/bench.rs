//! `cargo xtask bench`: the measurements beside the peers, on a release build.

use crate::command::{cargo, run as run_command};

/// Builds for release and measures.
///
/// # Errors
/// When the build or a measurement fails.
pub(crate) fn run(quick: bool, write: bool, only: Option<&str>) -> Result<(), String> {
    let packages = ["-p", "wharfinger", "-p", "wharfinger-bench"];
    run_command(cargo(&["build", "--release"]).args(packages))?;
    let mut measure = cargo(&[
        "run",
        "--quiet",
        "--release",
        "-p",
        "wharfinger-bench",
        "--",
    ]);
    if quick {
        measure.arg("--quick");
    }
    if write {
        measure.arg("--write");
    }
    if let Some(only) = only {
        measure.args(["--only", only]);
    }
    run_command(&mut measure)
}
