//! The project's own commands.

mod fuzz;

use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("test") => test(),
        Some("fuzz") => fuzz::run(std::env::args().skip(2)),
        _ => {
            eprintln!("usage: cargo xtask test|fuzz");
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
