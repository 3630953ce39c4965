//! `wharfinger garbage-collect`, with the flags and the lines of Distribution's. Beside registries
//! that write it works, too, and takes its time.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use thiserror::Error;
use tokio::time::{Instant, sleep};
use tracing::warn;
use wharfinger_config::{Config, Loaded};
use wharfinger_registry::{CollectOptions, CollectReport, CollectStep, Registry};
use wharfinger_storage::{Claim, ClaimError, Claimed, Driver};

use crate::bar::{Bar, Unit};
use crate::size::size;
use crate::tool::{self, OpenError};
use crate::wiring::{self, Unusable};

/// How often it is looked whether the store is free.
const RETRY: Duration = Duration::from_millis(100);

/// Why nothing, or not everything, was collected.
#[derive(Debug, Error)]
enum CollectError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error(
        "others write to the store, and did not end in time; stop the registry or make it \
         read-only (storage.maintenance.readonly.enabled), or leave --wait away: then they may go \
         on, and what is not needed goes after a while"
    )]
    Claimed,
    #[error(
        "another process has the store for itself, and collects or mends what is in it; try again \
         when it has ended"
    )]
    Taken,
    #[error("{0}")]
    Registry(#[from] wharfinger_registry::Error),
}

/// How it is done, besides what is removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) dry_run: bool,
    pub(crate) delete_untagged: bool,
    /// Whether nothing is printed.
    pub(crate) quiet: bool,
    /// How long to wait until nobody writes to the store; nothing where others may.
    pub(crate) wait: Duration,
    /// How long what is not needed stays where others write.
    pub(crate) grace: Option<Duration>,
    /// Whether it is promised that nobody writes where that cannot be seen.
    pub(crate) stopped: bool,
}

/// Collects once.
pub(crate) fn run(loaded: Result<Loaded, wharfinger_config::Error>, how: How) -> ExitCode {
    tool::run(loaded, "garbage collect", async |config| {
        collect(config, how).await.map(|()| ExitCode::SUCCESS)
    })
}

async fn collect(config: &Config, how: How) -> Result<(), CollectError> {
    let store = tool::open(config).await?;
    let driver = store.driver();
    let (_claimed, is_alone) = match how.dry_run {
        true => (None, true),
        false => claim(&*driver, how).await?,
    };
    let collection = &config.storage.maintenance.gc;
    let options = CollectOptions {
        dry_run: how.dry_run,
        delete_untagged: how.delete_untagged,
        serving: match is_alone {
            true => None,
            false => Some(how.grace.unwrap_or(collection.grace.get())),
        },
        rate: (collection.rate > 0).then_some(collection.rate),
    };
    let mut registry_options = wiring::registry_options(config)?;
    registry_options.read_only = false;
    if !how.dry_run {
        registry_options.shared_descriptors = tool::shared_cache(config).await?;
    }
    let registry = Registry::new(driver, registry_options)?;
    let mut out = BufWriter::new(io::stdout());
    let bar = Bar::new("looking through", Unit::Things("repositories"));
    // Whether anybody reads what is printed makes no difference to the work.
    let report = registry
        .collect(options, |step| {
            if let CollectStep::Repository(_) = step {
                bar.advance(1);
            }
            if !how.quiet {
                let _ = bar.beside(|| print(&mut out, step));
            }
        })
        .await?;
    drop(bar);
    if !how.quiet {
        let _ = summarize(&mut out, &report, how.dry_run);
    }
    let _ = out.flush();
    Ok(())
}

/// Claims the store; tells whether nobody else writes to it meanwhile.
async fn claim(driver: &dyn Driver, how: How) -> Result<(Option<Claimed>, bool), CollectError> {
    let deadline = Instant::now() + how.wait;
    loop {
        match driver.claim(Claim::Alone) {
            // Nobody can be kept from writing to it, nor be seen.
            Ok(None) => return Ok((None, how.stopped)),
            Ok(claimed) => return Ok((claimed, true)),
            Err(error @ ClaimError::Unlockable(_)) => {
                warn!(%error, "it cannot be seen whether others write to the store");
                return Ok((None, how.stopped));
            }
            Err(ClaimError::Taken) if Instant::now() < deadline => sleep(RETRY).await,
            Err(ClaimError::Taken) if !how.wait.is_zero() || how.stopped => {
                return Err(CollectError::Claimed);
            }
            Err(ClaimError::Taken) => {
                return match driver.claim(Claim::Write) {
                    Ok(claimed) => Ok((claimed, false)),
                    Err(_) => Err(CollectError::Taken),
                };
            }
        }
    }
}

fn print(out: &mut impl Write, step: CollectStep<'_>) -> io::Result<()> {
    match step {
        CollectStep::Repository(name) => writeln!(out, "{name}"),
        CollectStep::MarkedManifest(name, digest) => {
            writeln!(out, "{name}: marking manifest {digest} ")
        }
        CollectStep::MarkedBlob(name, digest) => writeln!(out, "{name}: marking blob {digest}"),
        CollectStep::Manifest(name, digest) => {
            writeln!(out, "{name}: manifest eligible for deletion: {digest}")
        }
        CollectStep::Marked(report) => writeln!(
            out,
            "\n{} blobs marked, {} blobs and {} manifests eligible for deletion",
            report.marked, report.blobs, report.manifests
        ),
        CollectStep::LayerLink(name, digest) => {
            writeln!(out, "{name}: layer link eligible for deletion: {digest}")
        }
        CollectStep::Blob(digest) => writeln!(out, "blob eligible for deletion: {digest}"),
        CollectStep::Waiting {
            time,
            is_pardonable,
        } => {
            let time = time.as_secs();
            match is_pardonable {
                true => writeln!(
                    out,
                    "others may write to the store: what comes to be needed in {time} s stays \
                     (--grace)"
                )?,
                false => writeln!(out, "the rest goes in {time} s")?,
            }
            out.flush()
        }
    }
}

fn summarize(out: &mut impl Write, report: &CollectReport, dry_run: bool) -> io::Result<()> {
    let done = if dry_run { "would be freed" } else { "freed" };
    if report.young + report.spared > 0 {
        let (young, spared) = (report.young, report.spared);
        writeln!(
            out,
            "{young} blobs stay as they are too new, and {spared} as somebody needs them again"
        )?;
    }
    writeln!(out, "{} {done}", size(report.bytes))
}
