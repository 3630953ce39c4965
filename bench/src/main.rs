//! Measures Wharfinger beside its peers in one run, and prints the table of figures.
//!
//! All servers run at once on folders of one disk and have their turns on every line of the table,
//! so that what changes in the machine's mood meets them alike. Figures of different runs are not
//! to be compared, ratios are. Nothing is asserted.

mod crowd;
mod error;
mod fixture;
mod http;
mod instructions;
mod limits;
mod lines;
mod measure;
mod profile;
mod pull;
mod push;
mod servers;
mod settings;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::error::{Context, Error, Result};
use crate::fixture::Fixture;
use crate::lines::Effort;
use crate::servers::Fleet;
use crate::table::Row;

/// What the command line says.
struct Arguments {
    effort: Effort,
    /// Only lines whose name holds one of these.
    only: Vec<String>,
    /// The folder in which the servers' folders are made.
    folder: PathBuf,
    /// Whether the tables go into the documentation.
    write: bool,
    /// A binary of Distribution 3, which Debian does not package.
    distribution3: Option<PathBuf>,
}

const USAGE: &str = "usage: bench [--quick] [--write] [--only TEXT]... [--folder FOLDER] \
                     [--distribution3 BINARY]";

fn main() -> ExitCode {
    let mut given = std::env::args().skip(1).peekable();
    let outcome = match given.peek().map(String::as_str) {
        Some("instructions") => instructions::run(given.skip(1)),
        Some("profile") => profile::run(given.skip(1)),
        _ => arguments(given).and_then(|arguments| run(&arguments)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments {
        effort: Effort::FULL,
        only: Vec::new(),
        folder: std::env::temp_dir(),
        write: false,
        distribution3: None,
    };
    let usage = || Error::Usage(USAGE.to_owned());
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--quick" => arguments.effort = Effort::QUICK,
            "--write" => arguments.write = true,
            "--only" => arguments.only.push(given.next().ok_or_else(usage)?),
            "--folder" => arguments.folder = given.next().ok_or_else(usage)?.into(),
            "--distribution3" => {
                let binary: PathBuf = given.next().ok_or_else(usage)?.into();
                arguments.distribution3 = Some(binary.canonicalize().context("find it")?);
            }
            _ => return Err(usage()),
        }
    }
    if arguments.write && !arguments.only.is_empty() {
        return Err(Error::Usage(
            "--write wants every line, so it does not go with --only".to_owned(),
        ));
    }
    Ok(arguments)
}

fn run(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("wharfinger-bench-")
        .tempdir_in(&arguments.folder)
        .context("make a folder")?;
    let limits = limits::report(folder.path())?;
    eprintln!("{limits}");
    let fixture = Fixture::new();
    let mut fleet = Fleet::new(folder.path(), &fixture, arguments.distribution3.as_deref())?;
    let kinds = fleet.kinds();
    let mut upload = fixture.large.clone();
    println!("{}", table::head(&kinds));
    let mut rows = Vec::new();
    for mut line in lines::all(&fixture, &mut upload, arguments.effort) {
        let wanted = |text: &String| line.name.contains(text.as_str());
        if !arguments.only.is_empty() && !arguments.only.iter().any(wanted) {
            continue;
        }
        let measured: Vec<_> = kinds.iter().filter(|k| line.kinds.contains(k)).collect();
        // All run before the first has its turn.
        let begun = Instant::now();
        for kind in &measured {
            fleet.server(**kind, line.place)?;
        }
        let started = begun.elapsed();
        let mut samples = BTreeMap::new();
        for _ in 0..arguments.effort.rounds {
            for kind in &measured {
                let of_server: &mut Vec<_> = samples.entry(**kind).or_default();
                of_server.push((line.work)(fleet.server(**kind, line.place)?)?);
            }
        }
        let row = Row {
            name: line.name,
            unit: line.unit,
            samples,
        };
        println!("{}", row.figures(&kinds));
        eprintln!("set up in {started:.0?}, took {:.0?}", begun.elapsed());
        rows.push(row);
    }
    if arguments.write {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let figures = table::figures(&rows, &kinds);
        let document = project.join("docs/performance.md");
        table::write(&document, &format!("{figures}\n\n{limits}"))?;
        table::write(&project.join("README.md"), &table::ratios(&rows, &kinds))?;
    }
    Ok(())
}
