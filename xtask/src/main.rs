//! The project's own commands: `cargo xtask test`, `bench` and `fuzz`.

mod command;
mod licences;
mod packages;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything that must pass: formatting, lints, documentation, licences, tests, the tests
    /// with real clients, and a short fuzzing run. Installs the Debian packages it needs.
    Test {
        /// Run the steps whose names contain this only.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Test { only } => test::run_steps(only.as_deref()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
