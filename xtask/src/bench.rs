//! `cargo xtask bench`: the measurements beside the peers, on a release build.

use crate::command::{cargo, run as run_command};

/// Builds for release and measures, as the arguments say that the bench itself understands.
///
/// # Errors
/// When the build or a measurement fails.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let packages = ["-p", "wharfinger", "-p", "wharfinger-bench"];
    run_command(cargo(&["build", "--release"]).args(packages))?;
    let measure = [
        "run",
        "--quiet",
        "--release",
        "-p",
        "wharfinger-bench",
        "--",
    ];
    run_command(cargo(&measure).args(arguments))
}
