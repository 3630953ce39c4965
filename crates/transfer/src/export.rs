//! Backup: a registry's images as an image layout.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use wharfinger_registry::Registry;

use crate::copy::Copying;
use crate::layout::{ArchiveSink, FolderSink, LayoutTarget, Sink};
use crate::naming::Naming;
use crate::store::StoreSource;
use crate::{Choice, Report, Result, Step};

/// Where an export goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A folder; one that was exported to before gets only what is new.
    Folder(PathBuf),
    /// A tar archive, which is there when it is complete.
    Archive(PathBuf),
    /// A tar archive on standard output.
    Stdout,
}

impl Destination {
    /// What a path means: `-` is standard output, `.tar` at its end an archive.
    pub fn of(path: &Path) -> Self {
        if path == Path::new("-") {
            Self::Stdout
        } else if path.extension() == Some(OsStr::new("tar")) {
            Self::Archive(path.to_owned())
        } else {
            Self::Folder(path.to_owned())
        }
    }
}

/// What is exported, and how.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// What.
    pub choice: Choice,
    /// Whether blobs are removed from a folder that this export does not need. Nothing is removed
    /// when something could not be exported: the folder may have it from before.
    pub prune: bool,
    /// The registry's host, and port, as clients know it: with it, images have full names for
    /// containerd.
    pub host: Option<String>,
}

/// Exports a registry's images. It only reads the registry, which others may write to meanwhile:
/// each tag stands for the whole of an image that it stood for at some moment of the export.
///
/// # Errors
/// When the registry cannot be listed or the destination not be written. Images that cannot be
/// read are in [`Report::failures`].
pub async fn export(
    registry: &Registry,
    destination: &Destination,
    options: &ExportOptions,
    told: &(dyn Fn(Step<'_>) + Sync),
) -> Result<Report> {
    let sink = match destination {
        Destination::Folder(path) => Sink::Folder(FolderSink::open(path).await?),
        Destination::Archive(path) => Sink::Archive(ArchiveSink::create(path).await?.into()),
        Destination::Stdout => Sink::Archive(ArchiveSink::stdout().await?.into()),
    };
    let target = LayoutTarget::new(sink, options.host.clone());
    let source = StoreSource(registry);
    let naming = Naming::default();
    let selection = options.choice.clone().into();
    let copying = Copying::new(&source, &target, &selection, &naming, told);
    let mut report = copying.run().await?;
    let prune = options.prune && report.failures.is_empty();
    report.pruned = target.finish(prune).await?;
    Ok(report)
}
