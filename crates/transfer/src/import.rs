//! Restore, and migration: images from files or another registry's store into a registry.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use tokio::task::spawn_blocking;
use wharfinger_oci::manifest::{Manifest, Referenced};
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_registry::{Error as RegistryError, Registry};

use crate::copy::Copying;
use crate::endpoint::{Blob, Place, Source, Target};
use crate::error::Problem;
use crate::naming::Naming;
use crate::source::{self, Opened};
use crate::store::{StoreSource, StoreTarget};
use crate::{Choice, Error, Report, Result, Step};

/// Where images are imported from.
#[derive(Debug)]
pub struct Images(Opened);

impl Images {
    /// Opens what lies at a path: an image layout in a folder or a tar archive, an archive of
    /// `docker save`, or a folder with a registry's store; `-` is an archive from standard input.
    /// Archives may be compressed by gzip. What cannot be read in any order is kept in a temporary
    /// file.
    ///
    /// # Errors
    /// What is wrong with it, and where. An image that has no repository is refused unless
    /// `naming` gives it one.
    pub async fn open(path: &Path, naming: &Naming) -> Result<Self> {
        let (path, naming) = (path.to_owned(), naming.clone());
        match spawn_blocking(move || source::open(&path, &naming)).await {
            Ok(opened) => Ok(Self(opened?)),
            Err(error) => Err(Error::source("a thread", error)),
        }
    }

    /// The images of another registry.
    pub fn of(registry: Registry) -> Self {
        Self(Opened::Registry(registry))
    }
}

/// What is imported, and how.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// What, by its names in the source.
    pub choice: Choice,
    /// What it is called in the registry.
    pub naming: Naming,
    /// Whether nothing is written, only looked whether it could be.
    pub dry_run: bool,
}

/// Imports images into a registry, as clients would push them: others may use it meanwhile. What is
/// there is not written again, so that an import that was cut short goes on where it was. Tags that
/// stand for something else are moved.
///
/// # Errors
/// When the source cannot be listed, names collide, or the registry fails. Images that cannot be
/// read, or are refused, are in [`Report::failures`]; nothing of them can be found under a tag.
pub async fn import(
    images: &Images,
    registry: &Registry,
    options: &ImportOptions,
    told: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report> {
    match &images.0 {
        Opened::Images(source) => import_from(source, registry, options, told).await,
        Opened::Registry(other) => import_from(&StoreSource(other), registry, options, told).await,
    }
}

async fn import_from<S: Source>(
    source: &S,
    registry: &Registry,
    options: &ImportOptions,
    told: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report> {
    let naming = &options.naming;
    let selection = options.choice.clone().into();
    let trial = Trial::new(registry);
    let tell: &(dyn Fn(Step<'_>) + Sync) = if options.dry_run { told } else { &|_| () };
    let copying = Copying::new(source, &trial, &selection, naming, tell);
    let mut report = copying.run().await?;
    let (blobs, bytes) = trial.total();
    if options.dry_run {
        report.blobs = blobs;
        report.bytes = bytes;
        report.present = 0;
        return Ok(report);
    }
    told(Step::Total(bytes));
    let target = StoreTarget::new(registry);
    Copying::new(source, &target, &selection, naming, told)
        .run()
        .await
}

/// A registry that is not written to: it is only found out what there is to be written.
#[derive(Debug)]
struct Trial<'a> {
    registry: &'a Registry,
    seen: Mutex<(HashSet<Digest>, u64)>,
}

impl<'a> Trial<'a> {
    fn new(registry: &'a Registry) -> Self {
        Self {
            registry,
            seen: Mutex::default(),
        }
    }

    /// How many blobs are mentioned, and how many bytes they have.
    fn total(&self) -> (u64, u64) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.0.len() as u64, seen.1)
    }
}

impl Target for Trial<'_> {
    async fn has(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: Option<u64>,
    ) -> Result<bool, Problem> {
        // What the source has need not be looked for.
        let Some(size) = size else {
            let stat = self.registry.repository(name).blobs().stat(digest).await;
            return match stat {
                Ok(_) => Ok(true),
                Err(RegistryError::BlobUnknown(_) | RegistryError::Damaged { .. }) => Ok(false),
                Err(error) => Err(Problem::Fatal(error.into())),
            };
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.0.insert(*digest) {
            seen.1 += size;
        }
        Ok(true)
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Problem> {
        let manifests = self.registry.repository(name).manifests();
        let contained = manifests.contains(digest).await;
        contained.map_err(|error| Problem::Fatal(error.into()))
    }

    async fn blob(&self, _name: &RepositoryName, _blob: Blob<'_>) -> Result<(), Problem> {
        Ok(())
    }

    async fn manifest(
        &self,
        _name: &RepositoryName,
        _manifest: &Manifest,
        _digest: &Digest,
        _place: Place<'_>,
    ) -> Result<(), Problem> {
        Ok(())
    }

    fn requires(&self, name: &RepositoryName, reference: &Referenced<'_>) -> bool {
        self.registry.requires(name, reference)
    }
}
