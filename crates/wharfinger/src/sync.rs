//! `wharfinger sync`: the jobs that copy from and to other registries, by hand.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use clap::Args;
use thiserror::Error;
use wharfinger_config::Config;
use wharfinger_registry::Registry;
use wharfinger_transfer::{Direction, Report, Step, SyncJob, SyncMetrics};

use crate::bar::{Bar, Unit};
use crate::export::summary;
use crate::images::Images;
use crate::size::size;
use crate::tool::{self, OpenError};
use crate::wiring::{self, Unusable};

/// Why no job was done.
#[derive(Debug, Error)]
enum SyncError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error("sync.jobs: there is none in the configuration")]
    None,
    #[error("sync.jobs: none is called {0:?}; there are: {1}")]
    Unknown(String, String),
}

/// Which jobs are done.
#[derive(Debug, Args)]
pub(crate) struct Sync {
    /// Do the job with this name only, whether it has a schedule or not. Can be given again.
    #[arg(long, value_name = "NAME")]
    job: Vec<String>,
    /// Write nothing, only tell what would be copied and removed.
    #[arg(long)]
    dry_run: bool,
    /// The registry's configuration file, which has the jobs in sync.jobs.
    config: PathBuf,
}

impl Sync {
    pub(crate) fn run(self) -> ExitCode {
        tool::run(tool::load(&self.config), "mirror", async |config| {
            self.sync(config).await
        })
    }

    async fn sync(&self, config: &Config) -> Result<ExitCode, SyncError> {
        let jobs = self.jobs(config)?;
        let writes = jobs
            .iter()
            .any(|job| matches!(job.direction, Direction::From(_)));
        let registry = match writes && !self.dry_run {
            true => tool::registry_to_write(config).await?,
            false => tool::registry_to_read(config).await?,
        };
        let mut is_well = true;
        for job in &jobs {
            match self.one(&registry, job).await {
                Ok(report) => is_well &= report.failures.is_empty(),
                Err(error) => {
                    eprintln!("error: {}: {error}", job.name);
                    is_well = false;
                }
            }
        }
        Ok(match is_well {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }

    /// The jobs that are asked for.
    fn jobs(&self, config: &Config) -> Result<Vec<SyncJob>, SyncError> {
        let mut jobs = wiring::sync_jobs(config, &SyncMetrics::default())?;
        if jobs.is_empty() {
            return Err(SyncError::None);
        }
        if let Some(unknown) = self
            .job
            .iter()
            .find(|name| jobs.iter().all(|job| job.name != **name))
        {
            let names: Vec<String> = jobs.into_iter().map(|job| job.name).collect();
            return Err(SyncError::Unknown(unknown.clone(), names.join(", ")));
        }
        if !self.job.is_empty() {
            jobs.retain(|job| self.job.contains(&job.name));
        }
        Ok(jobs)
    }

    async fn one(
        &self,
        registry: &Registry,
        job: &SyncJob,
    ) -> Result<Report, wharfinger_transfer::Error> {
        let bar = Bar::new("mirroring", Unit::Bytes);
        let images = Images::new(&bar);
        let total = AtomicU64::new(0);
        // What goes to a file or a program is wanted whole.
        let in_lines = !(io::stderr().is_terminal() && io::stdout().is_terminal());
        let told = |step: Step<'_>| match step {
            Step::Failed(failure) => bar.beside(|| eprintln!("error: {failure}")),
            Step::WouldTag(name, tag, digest, blobs, bytes) => bar.beside(|| {
                println!("{name}:{tag} {digest}: {blobs} blobs ({})", size(bytes));
            }),
            Step::Removed(name, tag) => bar.beside(|| match self.dry_run {
                true => println!("{name}:{tag} would be removed"),
                false => println!("{name}:{tag} removed"),
            }),
            Step::Repository(name) if self.dry_run => {
                bar.begin_saying(format!("comparing {name}"));
            }
            _ if self.dry_run => {}
            Step::Blob(bytes) => match total.fetch_add(bytes, Relaxed) {
                0 => bar.begin("mirroring", Some(bytes)),
                before => bar.expect(before + bytes),
            },
            Step::Bytes(bytes) => bar.advance(bytes),
            Step::Image(image, progress) => images.set(image, progress),
            Step::ImageEnded(image) => images.remove(image),
            Step::Tag(name, tag, digest) if in_lines || images.has(&format!("{name}:{tag}")) => {
                bar.beside(|| println!("{name}:{tag} {digest}"));
            }
            _ => {}
        };
        let report = wharfinger_transfer::sync(registry, job, self.dry_run, &told).await?;
        drop(images);
        drop(bar);
        let name = &job.name;
        match self.dry_run {
            true => println!(
                "{name}: {} tags would be copied, with {} blobs ({}), and {} removed",
                report.tags,
                report.blobs,
                size(report.bytes),
                report.removed
            ),
            false => println!(
                "{name}: {}; {} tags removed",
                summary(&report),
                report.removed
            ),
        }
        if !report.failures.is_empty() {
            let failed = report.failures.len();
            eprintln!("{name}: {failed} images could not be copied or removed");
        }
        Ok(report)
    }
}
