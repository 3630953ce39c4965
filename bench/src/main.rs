//! Measures Wharfinger beside its peers in one run, and prints the table of figures.
//!
//! All servers run at once on folders of one disk and have their turns on every line of the table,
//! so that what changes in the machine's mood meets them alike. Figures of different runs are not
//! to be compared, ratios are. Nothing is asserted.

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
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::error::{Context, Error, Result};
use crate::fixture::Fixture;
use crate::lines::Effort;
use crate::servers::{Kind, Server};
use crate::table::Row;

/// What the command line says.
struct Arguments {
    effort: Effort,
    /// Only lines whose name holds one of these.
    only: Vec<String>,
    /// The folder in which the servers' folders are made.
    folder: PathBuf,
    /// Whether the table goes into the documentation.
    write: bool,
}

const USAGE: &str = "usage: bench [--quick] [--write] [--only TEXT]... [--folder FOLDER]";

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
    };
    let usage = || Error::Usage(USAGE.to_owned());
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--quick" => arguments.effort = Effort::QUICK,
            "--write" => arguments.write = true,
            "--only" => arguments.only.push(given.next().ok_or_else(usage)?),
            "--folder" => arguments.folder = given.next().ok_or_else(usage)?.into(),
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
    let begun = Instant::now();
    let fixture = Fixture::new();
    let mut servers = Vec::new();
    for (n, kind) in Kind::ALL.into_iter().enumerate() {
        let own = folder.path().join(n.to_string());
        servers.push(Server::start(kind, &own, &fixture)?);
    }
    // What was just written must not weigh on what is measured.
    rustix::fs::sync();
    eprintln!("set up in {:.0?}", begun.elapsed());
    let mut upload = fixture.large.clone();
    let mut table = table::head();
    println!("{table}");
    for mut line in lines::all(&fixture, &mut upload, arguments.effort) {
        let wanted = |text: &String| line.name.contains(text.as_str());
        if !arguments.only.is_empty() && !arguments.only.iter().any(wanted) {
            continue;
        }
        let mut samples = BTreeMap::new();
        let begun = Instant::now();
        for _ in 0..arguments.effort.rounds {
            for server in &servers {
                if line.servers.contains(&server.kind) {
                    let of_server: &mut Vec<_> = samples.entry(server.kind).or_default();
                    of_server.push((line.work)(server)?);
                }
            }
        }
        let row = Row {
            name: line.name,
            unit: line.unit,
            samples,
        }
        .markdown();
        println!("{row}");
        eprintln!("took {:.0?}", begun.elapsed());
        table = format!("{table}\n{row}");
    }
    if arguments.write {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/performance.md");
        table::write(&document, &format!("{table}\n\n{limits}"))?;
    }
    Ok(())
}
