//! Content by its digest, wherever in files it lies.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use wharfinger_oci::Digest;

use super::archive::Archive;
use crate::layout::blob_path;
use crate::pieces::{Extent, Pieces};
use crate::{Error, Fault, Result};

/// Files in a folder or an archive, by their names.
#[derive(Debug)]
pub(super) enum Files {
    /// A folder.
    Folder(PathBuf),
    /// A tar archive.
    Archive(Archive),
}

impl Files {
    /// A file; `None` when it is not there.
    pub(super) fn find(&self, name: &str) -> io::Result<Option<Extent>> {
        match self {
            Self::Archive(archive) => archive.find(name),
            Self::Folder(folder) => {
                let file = match File::open(folder.join(name)) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    file => file?,
                };
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(io::Error::other("it is not a file"));
                }
                Ok(Some(Extent {
                    file: Arc::new(file),
                    range: 0..metadata.len(),
                }))
            }
        }
    }

    /// A file that is read whole; `None` when it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or has more than `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>> {
        let unusable = |error: io::Error| Error::source(name, error);
        let Some(extent) = self.find(name).map_err(unusable)? else {
            return Ok(None);
        };
        if extent.len() > limit {
            let reason = format!("it has {} bytes, which is more than {limit}", extent.len());
            return Err(Error::source(name, reason));
        }
        extent.read().map(Some).map_err(unusable)
    }
}

/// Content that is at hand.
#[derive(Clone, Debug)]
pub(super) enum Held {
    /// In memory: what was made here.
    Bytes(Bytes),
    /// In a file.
    Extent(Extent),
}

impl Held {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Extent(extent) => extent.len(),
        }
    }

    pub(super) fn pieces(self, place: String) -> Pieces {
        match self {
            Self::Bytes(bytes) => Box::pin(stream::iter([Ok(bytes)])),
            Self::Extent(extent) => extent.pieces(place),
        }
    }
}

/// Where content is looked for.
#[derive(Debug)]
pub(super) enum Contents {
    /// In a layout.
    Layout(Files),
    /// Where it was found before, with the names of the files.
    Found(HashMap<Digest, (Held, String)>),
}

impl Contents {
    /// Content; `None` when it is not there. May block.
    pub(super) fn find(&self, digest: &Digest) -> Result<Option<Held>, Fault> {
        match self {
            Self::Found(found) => Ok(found.get(digest).map(|(held, _)| held.clone())),
            Self::Layout(files) => match files.find(&blob_path(digest)) {
                Ok(extent) => Ok(extent.map(Held::Extent)),
                Err(error) => Err(self.unreadable(digest, &error)),
            },
        }
    }

    /// How many bytes it has; `None` when it is not there. May block.
    pub(super) fn size(&self, digest: &Digest) -> Result<Option<u64>, Fault> {
        Ok(self.find(digest)?.map(|held| held.len()))
    }

    /// Content of at most `limit` bytes; `None` when it is not there. Blocks.
    pub(super) fn read(&self, digest: &Digest, limit: u64) -> Result<Option<Bytes>, Fault> {
        let Some(held) = self.find(digest)? else {
            return Ok(None);
        };
        if held.len() > limit {
            return Err(Fault::Unreadable {
                place: self.place(digest),
                reason: format!(
                    "it has {} bytes, and a manifest at most {limit}",
                    held.len()
                ),
            });
        }
        match held {
            Held::Bytes(bytes) => Ok(Some(bytes)),
            Held::Extent(extent) => match extent.read() {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(self.unreadable(digest, &error)),
            },
        }
    }

    pub(super) fn place(&self, digest: &Digest) -> String {
        match self {
            Self::Layout(_) => blob_path(digest),
            Self::Found(found) => match found.get(digest) {
                Some((_, name)) => name.clone(),
                None => digest.to_string(),
            },
        }
    }

    fn unreadable(&self, digest: &Digest, error: &io::Error) -> Fault {
        Fault::Unreadable {
            place: self.place(digest),
            reason: error.to_string(),
        }
    }
}
