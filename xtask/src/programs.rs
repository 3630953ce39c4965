//! Running the tests' programs side by side: many of them mostly wait, and cargo runs one after the
//! other.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use serde::Deserialize;

use crate::command::{side_by_side, workspace};

/// What takes over half a minute, the longest first.
const LONGEST: [&str; 11] = [
    "tests/clients",
    "tests/packages",
    "tests/s3",
    "registry/serving_stress",
    "registry/crash",
    "tests/redis",
    "storage/wharfinger_storage",
    "tests/eviction",
    "tests/killed",
    "tests/large",
    "registry/shared_cache",
];

/// A line of what cargo prints while it builds, as far as it matters here ("JSON messages" in
/// cargo's book).
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    executable: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Profile {
    test: bool,
}

/// A program with tests in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its package's folder, in which cargo would run it, and its own name.
    pub name: String,
    executable: PathBuf,
    folder: PathBuf,
}

/// Runs programs, `at_once` at a time and each with `threads` of its own, those that take longest
/// first, and prints what each said when it has ended.
///
/// # Errors
/// Which programs failed.
pub(crate) fn test(
    mut programs: Vec<Program>,
    at_once: usize,
    threads: Option<usize>,
) -> Result<(), String> {
    programs.sort_by_key(|program| {
        let place = LONGEST.iter().position(|name| *name == program.name);
        place.unwrap_or(LONGEST.len())
    });
    let failed = Mutex::new(Vec::new());
    side_by_side(&programs, at_once, |program| {
        // The others are run all the same.
        if let Err(error) = run(program, threads) {
            println!("{error}");
            failed.lock().expect("no panic").push(program.name.as_str());
        }
        Ok(())
    })?;
    let failed = failed.into_inner().expect("no panic");
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("these failed: {}", failed.join(", ")))
}

/// Builds the tests of all packages.
///
/// # Errors
/// Why they could not be built.
pub(crate) fn build() -> Result<Vec<Program>, String> {
    let mut build = workspace("test");
    build
        .args(["--no-run", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit());
    let output = build
        .output()
        .map_err(|error| format!("{build:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{build:?}: {}", output.status));
    }
    programs(&String::from_utf8_lossy(&output.stdout))
}

/// The programs among what cargo has printed.
fn programs(printed: &str) -> Result<Vec<Program>, String> {
    let mut programs = Vec::new();
    for line in printed.lines() {
        let message: Message = serde_json::from_str(line)
            .map_err(|error| format!("cargo printed {line}, which is no message: {error}"))?;
        let of_tests = message.profile.is_some_and(|profile| profile.test);
        if message.reason != "compiler-artifact" || !of_tests {
            continue;
        }
        let folder = message.manifest_path.as_deref().and_then(Path::parent);
        if let (Some(executable), Some(target), Some(folder)) =
            (message.executable, message.target, folder)
        {
            let of = folder.file_name().unwrap_or_default().to_string_lossy();
            programs.push(Program {
                name: format!("{of}/{}", target.name),
                executable,
                folder: folder.to_owned(),
            });
        }
    }
    Ok(programs)
}

fn run(program: &Program, threads: Option<usize>) -> Result<(), String> {
    let began = Instant::now();
    let mut command = Command::new(&program.executable);
    command
        .current_dir(&program.folder)
        .env("CARGO_MANIFEST_DIR", &program.folder);
    if let Some(threads) = threads {
        command.env("RUST_TEST_THREADS", threads.to_string());
    }
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", program.executable.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    println!(
        "\n-- {}: {} s\n{}{complained}",
        program.name,
        began.elapsed().as_secs(),
        said.trim_start()
    );
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", program.name, output.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_with_tests_are_found_among_what_is_built() {
        let printed = concat!(
            r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/oci/Cargo.toml","#,
            r#""target":{"name":"names"},"profile":{"test":true},"executable":"/t/names-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/crates/oci/Cargo.toml","#,
            r#""target":{"name":"oci"},"profile":{"test":false},"executable":null}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\n",
        );
        let program = Program {
            name: "oci/names".to_owned(),
            executable: "/t/names-1".into(),
            folder: "/w/crates/oci".into(),
        };
        assert_eq!(programs(printed).unwrap(), [program]);
        assert!(programs("no message").is_err());
    }
}
