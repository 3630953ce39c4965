//! `cargo xtask test`: everything that must pass, step by step.

use std::time::Instant;

use crate::command::{cargo, processors, run, workspace};
use crate::programs::Program;
use crate::{bench, fuzz, licences, packages, programs};

/// A step's name, and what it does.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: [Step; 10] = [
    ("packages", packages::install),
    ("formatting", formatting),
    ("lints", lints),
    ("documentation", documentation),
    ("licences", licences::check),
    ("build", build),
    ("instructions", || bench::instructions(false)),
    ("tests", tests),
    ("real clients", real_clients),
    ("fuzzing", fuzzing),
];

/// Runs the steps, or those whose names contain `only`, and ends with the first that fails.
///
/// # Errors
/// What failed.
pub(crate) fn run_steps(only: Option<&str>) -> Result<(), String> {
    let began = Instant::now();
    let chosen = |(name, _): &&Step| only.is_none_or(|text| name.contains(text));
    for (name, step) in STEPS.iter().filter(chosen) {
        println!("\n== {name}");
        let step_began = Instant::now();
        step().map_err(|error| format!("{name} failed: {error}"))?;
        println!("== {name}: {} s", step_began.elapsed().as_secs());
    }
    println!("\neverything passed in {} s", began.elapsed().as_secs());
    Ok(())
}

fn formatting() -> Result<(), String> {
    run(&mut cargo(&["fmt", "--all", "--check"]))
}

fn lints() -> Result<(), String> {
    run(workspace("clippy").args(["--all-targets", "--", "-D", "warnings"]))
}

fn documentation() -> Result<(), String> {
    run(workspace("doc")
        .arg("--no-deps")
        .env("RUSTDOCFLAGS", "-D warnings"))
}

/// Builds the registry for the steps that run it, and what counts its instructions.
fn build() -> Result<(), String> {
    bench::build()
}

fn tests() -> Result<(), String> {
    let mut programs = programs::build()?;
    programs.retain(|program| !is_of_real_clients(program));
    programs::test(programs, processors(), None)?;
    run(workspace("test").arg("--doc"))
}

/// Builds all tests, as the step before does: then nothing is left to be built.
fn real_clients() -> Result<(), String> {
    let mut programs = programs::build()?;
    programs.retain(is_of_real_clients);
    // They mostly wait for others.
    programs::test(programs, processors() + 1, Some(2))
}

fn is_of_real_clients(program: &Program) -> bool {
    program.name.starts_with("tests/")
}

fn fuzzing() -> Result<(), String> {
    fuzz::run(None, fuzz::SECONDS)
}
