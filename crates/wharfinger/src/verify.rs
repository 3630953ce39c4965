//! `wharfinger verify`: reads everything, tells what is damaged and what that affects, and repairs
//! what can be.

mod state;

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use thiserror::Error;
use wharfinger_config::{Config, Loaded};
use wharfinger_registry::{
    Finding, Outcome, Position, Registry, Repair, VerifyOptions, VerifyReport, VerifyStep,
};

use crate::bar::{Bar, Unit};
use crate::size::size;
use crate::tool::{self, OpenError, Taken};
use crate::wiring::{self, Unusable};
use state::{StateError, StateFile};

/// Something is damaged, and stays so.
const DAMAGED: u8 = 3;

/// Something was damaged, and all of it has been repaired.
const REPAIRED: u8 = 4;

/// How it is done.
#[derive(Clone, Debug, Args)]
pub(crate) struct How {
    /// Mend what can be mended: put damaged blobs aside, so that the next push brings them back,
    /// restore links, and remove what leads to nothing. Where others write to the store, only what
    /// cannot get in their way is done.
    #[arg(long)]
    repair: bool,
    /// Nobody writes to the store, which cannot be seen of a bucket.
    #[arg(long, requires = "repair")]
    stopped: bool,
    /// Print JSON: an object in a line for each damage, and one for the whole at the end.
    #[arg(long)]
    json: bool,
    /// Print nothing but damage.
    #[arg(long, short)]
    quiet: bool,
    /// Read at most so many bytes in a second.
    #[arg(long, value_name = "BYTES")]
    rate: Option<u64>,
    /// Read so many blobs at once.
    #[arg(long, value_name = "N", default_value_t = 4)]
    workers: u16,
    /// Keep in this file how far it has got, and go on from there when it was cut short.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

/// Why it could not be found out.
#[derive(Debug, Error)]
enum VerifyError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(
        "others write to the store; stop the registry or make it read-only \
         (storage.maintenance.readonly.enabled), or leave --stopped away: then what cannot get in \
         their way is mended"
    )]
    Claimed,
    #[error(transparent)]
    Taken(#[from] Taken),
    #[error("{0}")]
    Registry(#[from] wharfinger_registry::Error),
}

/// Verifies once.
pub(crate) fn run(loaded: Result<Loaded, wharfinger_config::Error>, how: How) -> ExitCode {
    tool::run(loaded, "verify", async |config| verify(config, how).await)
}

async fn verify(config: &Config, how: How) -> Result<ExitCode, VerifyError> {
    let store = tool::open(config).await?;
    let driver = store.driver();
    let (_hold, repair) = match how.repair {
        false => (None, Repair::Nothing),
        true => {
            let hold = tool::claim(&*driver, Duration::ZERO, how.stopped).await?;
            let hold = hold.ok_or(VerifyError::Claimed)?;
            let repair = match hold.is_alone {
                true => Repair::Alone,
                false => Repair::Beside,
            };
            (Some(hold), repair)
        }
    };
    let mut registry_options = wiring::registry_options(config)?;
    registry_options.read_only = !how.repair;
    if how.repair {
        registry_options.shared_descriptors = tool::shared_cache(config).await?;
    }
    let registry = Registry::new(driver, registry_options)?;
    let (mut file, resume) = match &how.state {
        None => (None, Position::default()),
        Some(path) => {
            let (file, position) = StateFile::open(path, store.place())?;
            (Some(file), position)
        }
    };
    let bar = Bar::new("reading blobs", Unit::Bytes);
    bar.begin("reading blobs", Some(0));
    let (resumed, read_before) = (resume.blobs(), resume.bytes());
    let options = VerifyOptions {
        repair,
        workers: usize::from(how.workers),
        rate: how.rate,
        resume,
    };
    let mut out = BufWriter::new(io::stdout());
    let mut unsaved = None;
    // Whether anybody reads what is printed makes no difference to the work.
    let report = registry
        .verify(options, |step| match step {
            VerifyStep::Read(bytes) => bar.advance(bytes),
            VerifyStep::Position(position, part) => {
                let all = estimate(position.bytes(), part);
                bar.expect(all.saturating_sub(read_before));
                if let Some(file) = &mut file
                    && unsaved.is_none()
                {
                    unsaved = file.note(position).err();
                }
            }
            VerifyStep::Repository(name, part) => {
                bar.say(
                    format!("looking at {name}"),
                    (part * 1e4) as u64,
                    Some(10_000),
                );
            }
            VerifyStep::Found(finding) => {
                let _ = bar.beside(|| print(&mut out, finding, &how));
            }
        })
        .await?;
    drop(bar);
    if let Some(error) = unsaved {
        return Err(error.into());
    }
    if let Some(file) = file {
        file.remove()?;
    }
    let _ = summarize(&mut out, report, resumed, &how);
    let _ = out.flush();
    Ok(match report.damage - report.repaired {
        0 if report.damage == 0 => ExitCode::SUCCESS,
        0 => ExitCode::from(REPAIRED),
        _ => ExitCode::from(DAMAGED),
    })
}

/// How much there is to read, when so many bytes are this part of it.
fn estimate(bytes: u64, part: f64) -> u64 {
    // As a bar needs it: nothing depends on it.
    (bytes as f64 / part.max(1e-9)) as u64
}

fn print(out: &mut impl Write, finding: &Finding, how: &How) -> io::Result<()> {
    if how.json {
        serde_json::to_writer(&mut *out, finding)?;
        return writeln!(out);
    }
    let Finding {
        damage,
        path,
        reason,
        affected,
        outcome,
        ..
    } = finding;
    writeln!(out, "{}: {path}: {reason}", damage.as_str())?;
    let affected = match affected.tags.is_empty() {
        true => &affected.repositories,
        false => &affected.tags,
    };
    if !affected.is_empty() {
        let affected: Vec<_> = affected.iter().map(String::as_str).collect();
        writeln!(out, "  affects {}", affected.join(", "))?;
    }
    match outcome {
        Outcome::Found => Ok(()),
        outcome => writeln!(out, "  {}", Told(outcome)),
    }
}

/// What became of something, in words.
struct Told<'a>(&'a Outcome);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Outcome::Found => f.write_str("found"),
            Outcome::Restored => f.write_str("restored"),
            Outcome::Removed => f.write_str("removed, as it led to nothing"),
            Outcome::Quarantined => f.write_str("put aside; the next push brings it back"),
            Outcome::Left(why) => write!(f, "stays: {why}"),
        }
    }
}

/// The last line of JSON.
#[derive(Debug, Serialize)]
struct Summary {
    summary: Numbers,
}

#[derive(Debug, Serialize)]
struct Numbers {
    /// How many blobs were read, those that an earlier run had read included.
    blobs: u64,
    bytes: u64,
    /// How many of them an earlier run had read.
    resumed: u64,
    repositories: u64,
    manifests: u64,
    tags: u64,
    damage: u64,
    repaired: u64,
}

fn summarize(
    out: &mut impl Write,
    report: VerifyReport,
    resumed: u64,
    how: &How,
) -> io::Result<()> {
    let VerifyReport {
        blobs,
        bytes,
        repositories,
        manifests,
        tags,
        damage,
        repaired,
    } = report;
    if how.json {
        let summary = Summary {
            summary: Numbers {
                blobs,
                bytes,
                resumed,
                repositories,
                manifests,
                tags,
                damage,
                repaired,
            },
        };
        serde_json::to_writer(&mut *out, &summary)?;
        return writeln!(out);
    }
    if how.quiet {
        return Ok(());
    }
    writeln!(
        out,
        "{blobs} blobs of {}, {repositories} repositories, {manifests} manifests and {tags} tags \
         were looked at",
        size(bytes)
    )?;
    match (damage, repaired) {
        (0, _) => writeln!(out, "nothing is damaged"),
        (damage, 0) => writeln!(out, "damaged: {damage}"),
        (damage, repaired) => writeln!(out, "damaged: {damage}, repaired: {repaired}"),
    }
}
