//! Finding out what a source is.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use wharfinger_registry::{Options, Registry};
use wharfinger_storage::{FilesystemDriver, FilesystemOptions};

use super::archive::Archive;
use super::contents::Files;
use super::{ImageSource, docker, layout};
use crate::layout::{INDEX, MARKER};
use crate::naming::Naming;
use crate::{Error, Result};

/// Where the files of a store lie in its folder.
const STORE: &str = "docker/registry/v2";

/// What was found.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Images in files.
    Images(ImageSource),
    /// A registry's store.
    Registry(Registry),
}

/// Opens what lies at a path, or what comes from standard input when the path is `-`. Blocks.
///
/// # Errors
/// When it is nothing that images can be taken from.
pub(crate) fn open(path: &Path, naming: &Naming) -> Result<Opened> {
    if path == Path::new("-") {
        let file = spool(io::stdin().lock()).map_err(Error::io("standard input", "keep"))?;
        return archive(file, "standard input", naming);
    }
    if path.is_dir() {
        return folder(path, naming);
    }
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let metadata = file.metadata().map_err(Error::io(path, "look at"))?;
    if !metadata.is_file() {
        // A pipe, which is read once.
        file = spool(file).map_err(Error::io(path, "keep"))?;
    }
    archive(file, &path.display().to_string(), naming)
}

fn folder(path: &Path, naming: &Naming) -> Result<Opened> {
    if path.join(MARKER).exists() {
        let files = Files::Folder(path.to_owned());
        return layout::read(files, naming).map(Opened::Images);
    }
    if path.join(STORE).is_dir() {
        let driver = FilesystemDriver::new(FilesystemOptions::new(path));
        let driver = driver.map_err(wharfinger_registry::Error::from)?;
        let options = Options {
            read_only: true,
            descriptor_cache: 0,
            ..Options::default()
        };
        let registry = Registry::new(Arc::new(driver), options)?;
        return Ok(Opened::Registry(registry));
    }
    let reason =
        format!("it has neither an image layout ({MARKER}) nor a registry's store ({STORE})");
    Err(Error::source(path.display(), reason))
}

fn archive(file: File, name: &str, naming: &Naming) -> Result<Opened> {
    let file = plain(file, name)?;
    let archive = Archive::index(file, name)?;
    if let Some(folder) = archive.folder_of(MARKER) {
        let files = Files::Archive(archive.below(&folder));
        return layout::read(files, naming).map(Opened::Images);
    }
    if archive.folder_of(docker::MANIFEST).as_deref() == Some("") {
        let files = Files::Archive(archive);
        return docker::read(&files, naming).map(Opened::Images);
    }
    let reason = format!(
        "there are no images in it: neither {MARKER} and {INDEX} nor {} (or it is cut short)",
        docker::MANIFEST
    );
    Err(Error::source(name, reason))
}

/// The archive itself, decompressed if need be.
fn plain(mut file: File, name: &str) -> Result<File> {
    let unreadable = |error: io::Error| Error::source(name, error);
    let mut magic = Vec::new();
    Read::by_ref(&mut file)
        .take(6)
        .read_to_end(&mut magic)
        .map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    match magic[..] {
        [0x1f, 0x8b, ..] => {
            let content = flate2::read::MultiGzDecoder::new(io::BufReader::new(file));
            spool(content).map_err(|error| Error::source(name, format!("gzip: {error}")))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(Error::source(
            name,
            "it is compressed by zstd; decompress it first",
        )),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(Error::source(
            name,
            "it is compressed by xz; decompress it first",
        )),
        _ => Ok(file),
    }
}

/// Keeps what can be read once in a file that goes with the process.
fn spool(mut content: impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(&mut content, &mut file)?;
    file.rewind()?;
    Ok(file)
}
