//! `wharfinger import`: images from files, or from another store, into the registry.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use thiserror::Error;
use wharfinger_config::Config;
use wharfinger_registry::Registry;
use wharfinger_transfer::{Choice, Images, ImportOptions, Naming, NamingRule, Pattern, Step};

use crate::bar::{Bar, Unit};
use crate::export::{exit_code, summary};
use crate::size::size;
use crate::tool::{self, OpenError};
use crate::wiring::Unusable;

/// Why nothing, or not everything, was imported.
#[derive(Debug, Error)]
enum ImportError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Config(#[from] Unusable),
    #[error("{0}")]
    Other(String),
    #[error(transparent)]
    Registry(#[from] wharfinger_registry::Error),
    #[error(transparent)]
    Transfer(#[from] wharfinger_transfer::Error),
}

/// What is imported, where from, and under which names.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Import this only, by its name in the source: NAME or NAME:TAG; * stands for any characters.
    /// Can be given again.
    #[arg(long, value_name = "NAME[:TAG]")]
    repository: Vec<Pattern>,
    /// What repositories are called: PREFIX/ is put before each name, NAME is for the images of
    /// one repository or without any, OLD=NEW renames one. Can be given again.
    #[arg(long, value_name = "NAMES")]
    into: Vec<NamingRule>,
    /// Write nothing, only look through the source and tell what would be imported.
    #[arg(long)]
    dry_run: bool,
    /// Import from the store of this configuration file, to which no variable of the environment
    /// applies.
    #[arg(long, value_name = "OTHER", conflicts_with = "source")]
    from_config: Option<PathBuf>,
    /// The registry's configuration file.
    config: PathBuf,
    /// An image layout, in a folder or a tar archive; an archive of docker save; a folder with a
    /// registry's store (docker/registry/v2); or - for an archive from standard input. Archives
    /// may be compressed by gzip.
    #[arg(required_unless_present = "from_config")]
    source: Option<PathBuf>,
}

impl Import {
    pub(crate) fn run(self) -> ExitCode {
        tool::run(tool::load(&self.config), "import", async |config| {
            self.import(config).await
        })
    }

    async fn import(&self, config: &Config) -> Result<ExitCode, ImportError> {
        let naming = Naming::of(self.into.iter().cloned());
        let images = match (&self.source, &self.from_config) {
            (Some(source), _) => Images::open(source, &naming).await?,
            (None, Some(other)) => Images::of(other_registry(other).await?),
            (None, None) => return Err(ImportError::Other("no source was given".to_owned())),
        };
        let registry = match self.dry_run {
            true => tool::registry_to_read(config).await?,
            false => tool::registry_to_write(config).await?,
        };
        let options = ImportOptions {
            choice: Choice::of(self.repository.clone()),
            naming,
            dry_run: self.dry_run,
        };
        let bar = Bar::new("looking through", Unit::Bytes);
        let told = |step: Step<'_>| match step {
            Step::Total(bytes) => bar.begin("importing", Some(bytes)),
            Step::Bytes(bytes) => bar.advance(bytes),
            Step::Failed(failure) => bar.beside(|| eprintln!("error: {failure}")),
            Step::Tag(name, tag, digest) if self.dry_run => {
                bar.beside(|| println!("{name}:{tag} {digest}"));
            }
            Step::Untagged(name, digest) if self.dry_run => {
                bar.beside(|| println!("{name}@{digest}"));
            }
            _ => {}
        };
        let report = wharfinger_transfer::import(&images, &registry, &options, &told).await?;
        drop(bar);
        match self.dry_run {
            true => println!(
                "{} tags and {} manifests without one would be imported, of {} blobs ({})",
                report.tags,
                report.untagged,
                report.blobs,
                size(report.bytes)
            ),
            false => println!("{}", summary(&report)),
        }
        Ok(exit_code(&report))
    }
}

/// The registry that another configuration file describes, to read from.
async fn other_registry(path: &Path) -> Result<Registry, ImportError> {
    let wrong =
        |error: &dyn std::fmt::Display| ImportError::Other(format!("{}: {error}", path.display()));
    let loaded = wharfinger_config::load(path, []).map_err(|error| wrong(&error))?;
    if let Some(problem) = loaded.problems.first() {
        return Err(wrong(problem));
    }
    let opened = tool::open(&loaded.config).await;
    let store = opened.map_err(|error| wrong(&error))?;
    let options = tool::copying_options(&loaded.config)?;
    Ok(Registry::new(store.driver(), options)?)
}
