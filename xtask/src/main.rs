//! The project's own commands: `cargo xtask test`, `bench`, `instructions`, `profile`,
//! `fuzz` and `package`.

mod bench;
mod command;
mod fuzz;
mod licences;
mod package;
mod packages;
mod programs;
#[cfg(test)]
mod promises;
mod test;

use std::path::PathBuf;
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
    /// Measure the release build beside docker-registry and nginx, and print the table.
    Bench {
        /// What docs/performance.md names: `--quick`, `--only TEXT`, `--write` and others.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Count instructions, allocations and system calls of requests under callgrind, and fail when
    /// some cost over 15 % more than is kept of them in bench/instructions.toml.
    Instructions {
        /// Keep the new counts.
        #[arg(long)]
        write: bool,
    },
    /// Record with perf what the release build does while the lines of the table are measured, and
    /// draw a flame graph of each in the target folder, below profiles.
    Profile {
        /// The lines whose names contain this only.
        #[arg(long, value_name = "TEXT")]
        only: Option<String>,
    },
    /// Put the release build into a package.
    Package {
        /// Package this program instead.
        #[arg(long, value_name = "FILE")]
        binary: Option<PathBuf>,
        #[command(subcommand)]
        form: Form,
    },
    /// Run the fuzz targets, or one of them.
    Fuzz {
        /// How long each target runs, in seconds.
        #[arg(long, value_name = "N", default_value_t = fuzz::SECONDS)]
        seconds: u32,
        /// The target: a file of fuzz/fuzz_targets.
        target: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum Form {
    /// A Debian package, for the architecture and the release of this machine.
    Deb,
    /// A container image, from nothing, for the architecture of this machine.
    Image {
        /// Where it goes, as skopeo names it: `docker://registry/name:tag`, `oci:folder:tag`.
        destination: String,
        /// Whether a registry without TLS, or with a certificate that nobody vouches for, will do.
        #[arg(long)]
        insecure: bool,
    },
}

fn main() -> ExitCode {
    if let Some(error) = fuzz::instrument() {
        eprintln!("the compiler cannot be started: {error}");
        return ExitCode::FAILURE;
    }
    let outcome = match Cli::parse().command {
        Command::Test { only } => test::run_steps(only.as_deref()),
        Command::Bench { arguments } => bench::run(&arguments),
        Command::Instructions { write } => bench::instructions(write),
        Command::Profile { only } => bench::profile(only.as_deref()),
        Command::Package { binary, form } => match form {
            Form::Deb => package::deb(binary),
            Form::Image {
                destination,
                insecure,
            } => package::image(binary, &destination, insecure),
        },
        Command::Fuzz { seconds, target } => fuzz::run(target.as_deref(), seconds),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
