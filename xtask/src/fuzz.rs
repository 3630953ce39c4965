//! `cargo xtask fuzz [--seconds N] [TARGET]`: builds the fuzz targets with coverage for libFuzzer,
//! which the stable compiler can do as well, and runs each for some seconds.
//!
//! Only the workspace's crates are instrumented, so that what they depend on is the same as in other
//! builds and is not built again. For that, cargo takes this program for the compiler of its members
//! ([`instrument`]).

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use crate::command::{self, DEBUG, processors, root, side_by_side, target_folder, workspace};

/// How long each target runs when nobody says, in seconds.
pub(crate) const SECONDS: u32 = 5;

/// What libFuzzer needs of the compiler: counters of edges, a table of their addresses, and hooks
/// at comparisons. Cargo does not see when these change: what was built before stays as it is.
const FLAGS: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Is set where cargo starts this program in the compiler's place.
const INSTRUMENT: &str = "XTASK_INSTRUMENT";

/// Where cargo has started this program in the compiler's place, becomes the compiler, with [`FLAGS`]
/// for what ends up in fuzz targets; ends only when that fails. Else does nothing.
pub(crate) fn instrument() -> Option<io::Error> {
    env::var_os(INSTRUMENT)?;
    let mut arguments = env::args_os().skip(1);
    let mut compiler = Command::new(arguments.next()?);
    let arguments: Vec<_> = arguments.collect();
    if is_instrumented(&arguments) {
        compiler.args(FLAGS);
    }
    Some(compiler.args(arguments).exec())
}

/// Whether these arguments of the compiler build what ends up in a fuzz target. Build scripts and
/// macros do not, and could not be linked with the flags; nor does what cargo asks of the compiler.
fn is_instrumented(arguments: &[OsString]) -> bool {
    let values = |option| {
        let pairs = arguments.windows(2).filter(move |pair| pair[0] == option);
        pairs.filter_map(|pair| pair[1].to_str())
    };
    let mut names = values("--crate-name");
    names.any(|name| name != "___" && !name.starts_with("build_script_"))
        && !values("--crate-type").any(|of| of == "proc-macro")
}

/// Builds and runs the target with this name, or all of them, each for `seconds`.
///
/// # Errors
/// What a target found, or why it could not be run.
pub(crate) fn run(wanted: Option<&str>, seconds: u32) -> Result<(), String> {
    let folder = root().join("fuzz");
    let mut targets = targets(&folder).map_err(|error| format!("fuzz_targets: {error}"))?;
    if let Some(wanted) = wanted {
        if !targets.iter().any(|target| target == wanted) {
            return Err(format!(
                "no target {wanted}; there are {}",
                targets.join(", ")
            ));
        }
        targets.retain(|target| target == wanted);
    }
    build(&targets)?;
    let built = target_folder().join(DEBUG);
    // A target takes one processor.
    side_by_side(&targets, processors(), |target| {
        run_target(&folder, target, &built.join(target), seconds)
    })
}

/// The names of the files in `fuzz_targets`, in order.
fn targets(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let path = entry?.path();
        if let Some(name) = path.file_stem().and_then(|name| name.to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn build(targets: &[String]) -> Result<(), String> {
    let this = env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut build = workspace("build");
    build
        .arg("--quiet")
        .args(targets.iter().flat_map(|target| ["--bin", target]))
        .env("RUSTC_WORKSPACE_WRAPPER", this)
        .env(INSTRUMENT, "1");
    command::run(&mut build)
}

/// Runs a target on what it has found in earlier runs and on its seeds.
fn run_target(folder: &Path, target: &str, binary: &Path, seconds: u32) -> Result<(), String> {
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    for made in [&corpus, &artifacts] {
        fs::create_dir_all(made).map_err(|error| format!("{}: {error}", made.display()))?;
    }
    let mut command = Command::new(binary);
    command.arg(&corpus);
    let seeds: PathBuf = folder.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    let output = command
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .output()
        .map_err(|error| format!("{}: {error}", binary.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "{said}\n{target} failed; the input is in {}",
            artifacts.display()
        ));
    }
    let executed = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))
        .map_or("?", str::trim);
    println!("{target}: {executed} inputs in {seconds} s");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_scripts_and_macros_are_not_instrumented() {
        for (arguments, expected) in [
            ("--crate-name wharfinger_oci --crate-type lib", true),
            ("--crate-name digest --crate-type bin", true),
            ("--crate-name build_script_build --crate-type bin", false),
            ("--crate-name macros --crate-type proc-macro", false),
            (
                "- --crate-name ___ --print=file-names --crate-type bin",
                false,
            ),
            ("-vV", false),
        ] {
            let split: Vec<_> = arguments.split(' ').map(OsString::from).collect();
            assert_eq!(is_instrumented(&split), expected, "{arguments}");
        }
    }
}
