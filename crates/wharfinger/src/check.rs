//! `wharfinger config check`.

use std::process::ExitCode;

use wharfinger_config::{Error, Loaded};

/// Prints what would be used, and what is wrong with it; fails when the registry would not start.
pub(crate) fn run(loaded: Result<Loaded, Error>) -> ExitCode {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    print!("{}", loaded.config.to_yaml());
    for warning in &loaded.warnings {
        eprintln!("warning: {warning}");
    }
    for problem in &loaded.problems {
        eprintln!("error: {problem}");
    }
    if loaded.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        eprintln!("the registry would not start");
        ExitCode::FAILURE
    }
}
