//! The project's own commands.

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("test") => test(),
        Some("bench") => bench(),
        _ => {
            eprintln!("usage: cargo xtask test | bench [--quick] [--write] [--only TEXT]");
            ExitCode::from(2)
        }
    }
}

fn test() -> ExitCode {
    let steps: [&[&str]; 2] = [&["fmt", "--all", "--check"], &["test", "--workspace"]];
    for step in steps {
        println!("== cargo {}", step.join(" "));
        match Command::new("cargo").args(step).status() {
            Ok(status) if status.success() => {}
            _ => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}

/// Builds for release and measures beside the peers; what follows `bench` is for the measuring.
fn bench() -> ExitCode {
    let packages = ["-p", "wharfinger", "-p", "wharfinger-bench"];
    let built = Command::new("cargo")
        .args(["build", "--release"])
        .args(packages)
        .status();
    if !built.is_ok_and(|status| status.success()) {
        return ExitCode::FAILURE;
    }
    let measured = Command::new("cargo")
        .args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "wharfinger-bench",
            "--",
        ])
        .args(std::env::args().skip(2))
        .status();
    match measured {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
