//! `cargo xtask fuzz [--seconds N] [TARGET]`: builds the fuzz targets with coverage for libFuzzer,
//! which the stable compiler can do as well, and runs each for some seconds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use crate::command::{self, cargo, output, processors, root, side_by_side};

/// How long each target runs when nobody says, in seconds.
pub(crate) const SECONDS: u32 = 5;

/// What libFuzzer needs of the compiler: counters of edges, a table of their addresses, and hooks
/// at comparisons. `cfg(fuzzing)` is what crates ask for, and broken arithmetic must be seen.
const RUSTFLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions=on",
    "--cfg=fuzzing",
];

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
    let host = host()?;
    build(&host, wanted)?;
    let built = folder.join("target").join(&host).join("release");
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

/// The machine's target triple. Naming it keeps the flags away from build scripts and macros,
/// which could not be linked with them.
fn host() -> Result<String, String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| "rustc does not tell its host".to_owned())
}

/// Not `--locked`: this lock file follows the dependencies of the workspace's crates, and cargo
/// adds what it lacks.
fn build(host: &str, target: Option<&str>) -> Result<(), String> {
    let mut build = cargo(&["build", "--quiet", "--release", "--target", host]);
    build
        .args(["--manifest-path", "fuzz/Cargo.toml"])
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\u{1f}"));
    if let Some(target) = target {
        build.args(["--bin", target]);
    }
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
