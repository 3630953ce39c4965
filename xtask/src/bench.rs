//! `cargo xtask bench`, `instructions` and `profile`: what the registry takes, in time and beside
//! the peers, in instructions, and where.

use std::process::Command;

use crate::command::{DEBUG, RELEASE, cargo, run as run_command, target_folder, workspace};

/// Builds for release and measures, as the arguments say that the bench itself understands.
///
/// # Errors
/// When the build or a measurement fails.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    run_command(released()?.args(arguments))
}

/// Builds as the test command does and counts what requests cost; fails when some cost more than is
/// kept of them, or, to `write`, keeps the new counts.
///
/// # Errors
/// When the build fails, or requests cost more.
pub(crate) fn instructions(write: bool) -> Result<(), String> {
    build()?;
    let mut count = tool(DEBUG);
    count.arg("instructions");
    if write {
        count.arg("--write");
    }
    run_command(&mut count)
}

/// Builds for release and draws flame graphs of the lines whose names contain `only`.
///
/// # Errors
/// When the build fails, or perf does.
pub(crate) fn profile(only: Option<&str>) -> Result<(), String> {
    let mut profile = released()?;
    profile.arg("profile").arg(target_folder().join("profiles"));
    if let Some(only) = only {
        profile.arg(only);
    }
    run_command(&mut profile)
}

/// The tool that measures, built for release together with what it measures.
fn released() -> Result<Command, String> {
    let packages = ["-p", "wharfinger", "-p", "wharfinger-bench"];
    run_command(cargo(&["build", "--locked", "--release"]).args(packages))?;
    Ok(tool(RELEASE))
}

/// The tool in this folder of the target folder, which measures the registry beside it.
fn tool(folder: &str) -> Command {
    Command::new(target_folder().join(folder).join("wharfinger-bench"))
}

/// Builds the registry, and the tool that measures it, for the steps of the test command. Its crates
/// are compiled without what they have for tests only, as users get them.
///
/// # Errors
/// When the build fails.
pub(crate) fn build() -> Result<(), String> {
    run_command(workspace("build").args(["--bin", "wharfinger", "--bin", "wharfinger-bench"]))
}
