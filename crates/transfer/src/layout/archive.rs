//! A layout in a tar archive.

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::StreamExt;
use wharfinger_oci::{Digest, Hasher};

use super::folder::blocking;
use super::{BLOCK, INDEX, MARKER, MARKER_CONTENT, blob_path};
use crate::endpoint::Blob;
use crate::error::Problem;
use crate::{Error, Fault, Result};

type Output = tar::Builder<BufWriter<File>>;

/// An archive that is being written.
#[derive(derive_more::Debug)]
pub(crate) struct ArchiveSink {
    /// `None` after an error.
    #[debug(skip)]
    output: Option<Output>,
    /// Where it goes when it is complete; `None` for standard output.
    destination: Option<PathBuf>,
    /// What it is called in errors.
    name: PathBuf,
    written: HashSet<Digest>,
}

impl ArchiveSink {
    /// Begins an archive. A file gets its name when it is complete.
    ///
    /// # Errors
    /// When the file cannot be made, or another export writes it.
    pub(crate) async fn create(path: &Path) -> Result<Self> {
        let destination = path.to_owned();
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        let name = PathBuf::from(unfinished);
        let opened = name.clone();
        let file = blocking(move || {
            let mut options = File::options();
            options.create(true).truncate(false).write(true);
            let file = options.open(&opened).map_err(Error::io(&opened, "make"))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Destination {
                        path: opened,
                        reason: "another export writes it",
                    });
                }
                Err(TryLockError::Error(error)) => return Err(Error::io(opened, "lock")(error)),
            }
            file.set_len(0).map_err(Error::io(opened, "empty"))?;
            Ok(file)
        })
        .await?;
        Self::begin(file, name, Some(destination)).await
    }

    /// Begins an archive on standard output.
    ///
    /// # Errors
    /// When it is closed.
    pub(crate) async fn stdout() -> Result<Self> {
        let name = PathBuf::from("standard output");
        let file = io::stdout().as_fd().try_clone_to_owned();
        let file = file.map_err(Error::io(&name, "open"))?;
        Self::begin(File::from(file), name, None).await
    }

    async fn begin(file: File, name: PathBuf, destination: Option<PathBuf>) -> Result<Self> {
        let tar = tar::Builder::new(BufWriter::with_capacity(64 * 1024, file));
        let mut this = Self {
            output: Some(tar),
            destination,
            name,
            written: HashSet::new(),
        };
        this.small(MARKER, MARKER_CONTENT.to_vec()).await?;
        Ok(this)
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.written.contains(digest)
    }

    /// Writes a blob. One that turns out not to be whole is filled up with zeros, and stays there
    /// under its name, of no use.
    pub(crate) async fn blob(&mut self, mut blob: Blob<'_>) -> Result<(), Problem> {
        self.header(blob_path(&blob.digest), blob.size).await?;
        let mut hasher = Hasher::new(blob.digest.algorithm());
        let mut left = blob.size;
        let mut fault = None;
        while let Some(piece) = blob.pieces.next().await {
            let bytes = match piece {
                Ok(bytes) if bytes.len() as u64 <= left => bytes,
                Ok(bytes) => {
                    fault = Some(Fault::Length {
                        place: blob.place.clone(),
                        expected: blob.size,
                        actual: blob.size - left + bytes.len() as u64,
                    });
                    break;
                }
                Err(found) => {
                    fault = Some(found);
                    break;
                }
            };
            left -= bytes.len() as u64;
            (blob.told)(bytes.len() as u64);
            hasher = self
                .write(move |tar| {
                    hasher.update(&bytes);
                    tar.get_mut().write_all(&bytes)?;
                    Ok(hasher)
                })
                .await?;
        }
        let zeros = left + blob.size.next_multiple_of(BLOCK) - blob.size;
        self.write(move |tar| {
            let copied = io::copy(&mut io::Read::take(io::repeat(0), zeros), tar.get_mut());
            copied.map(drop)
        })
        .await?;
        let actual = hasher.finish();
        if actual != blob.digest {
            let fault = fault.unwrap_or(Fault::Digest {
                place: blob.place,
                expected: blob.digest,
                actual,
            });
            return Err(Problem::Fault(fault));
        }
        self.written.insert(blob.digest);
        Ok(())
    }

    /// Ends the archive with the index, and gives its file its name.
    pub(crate) async fn finish(mut self, index: Vec<u8>) -> Result<()> {
        self.small(INDEX, index).await?;
        let Some(tar) = self.output.take() else {
            return Ok(());
        };
        let (name, destination) = (self.name.clone(), self.destination.clone());
        let finished = blocking(move || {
            let file = tar.into_inner().and_then(|out| Ok(out.into_inner()?));
            let file = file.map_err(Error::io(&name, "write"))?;
            let Some(destination) = destination else {
                return Ok(());
            };
            file.sync_all().map_err(Error::io(&name, "sync"))?;
            fs::rename(&name, &destination).map_err(Error::io(&destination, "rename to"))?;
            let folder = match destination.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(Error::io(folder, "sync"))
        });
        finished.await
    }

    async fn small(&mut self, path: &'static str, content: Vec<u8>) -> Result<()> {
        let content = Bytes::from(content);
        self.header(path.to_owned(), content.len() as u64).await?;
        self.write(move |tar| {
            let out = tar.get_mut();
            out.write_all(&content)?;
            let padding = content.len().next_multiple_of(BLOCK as usize) - content.len();
            out.write_all(&[0; BLOCK as usize][..padding])
        })
        .await
    }

    /// Begins a file; its bytes follow, filled up to a whole block.
    async fn header(&mut self, path: String, size: u64) -> Result<()> {
        self.write(move |tar| {
            let mut header = tar::Header::new_gnu();
            header.set_size(size);
            header.set_mode(0o644);
            header.set_mtime(0);
            // The content is written behind it, piece by piece.
            tar.append_data(&mut header, path, io::empty())
        })
        .await
    }

    async fn write<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Output) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = self.name.clone();
        let Some(mut output) = self.output.take() else {
            let error = io::Error::other("an earlier write failed");
            return Err(Error::io(name, "write")(error));
        };
        let (output, done) = blocking(move || {
            let done = work(&mut output).map_err(Error::io(name, "write"))?;
            Ok((output, done))
        })
        .await?;
        self.output = Some(output);
        Ok(done)
    }
}

impl Drop for ArchiveSink {
    fn drop(&mut self) {
        // It is not there any more when it has got its name.
        if self.destination.is_some() {
            let _ = fs::remove_file(&self.name);
        }
    }
}
