//! Where an upload's bytes go: the hashers, and memory or a file.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::sync::OwnedRwLockWriteGuard;
use tokio::task::spawn_blocking;
use wharfinger_oci::{Algorithm, Digest, Hasher};
use wharfinger_storage::{Driver, StoragePath, WriteMode, Writer};

use super::state::Restored;
use crate::read_only::Writing;
use crate::{Error, Result};

/// What keeps other requests away from the upload, and read-only mode waiting for it. It goes
/// wherever bytes of the upload are still being written.
#[derive(Debug)]
pub(super) struct Held {
    _upload: OwnedRwLockWriteGuard<()>,
    _writing: Writing,
}

impl Held {
    pub(super) fn new(upload: OwnedRwLockWriteGuard<()>, writing: Writing) -> Self {
        Self {
            _upload: upload,
            _writing: writing,
        }
    }
}

/// Content up to this size is kept in memory and stored whole.
pub(super) const IN_MEMORY: usize = 64 * 1024;

/// Below this, hashing on the spot is cheaper than handing the bytes to another thread.
const HASH_INLINE: usize = 16 * 1024;

/// The bytes of an upload, hashed as they come.
#[derive(Debug)]
pub(super) struct Sink {
    driver: Arc<dyn Driver>,
    path: StoragePath,
    length: u64,
    /// The canonical algorithm's first.
    hashers: Vec<Hasher>,
    data: Data,
    held: Held,
}

#[derive(Debug)]
enum Data {
    /// All of them, in memory.
    Memory(Vec<Bytes>),
    /// All of them, in memory and in a file that has nothing else and survives the machine.
    Both(Bytes),
    /// All of them in the file, which nothing has been appended to in this request. Where it is
    /// `settled`, the file has nothing else, and they survive the machine.
    Stored { settled: bool },
    /// In the file that is being written.
    File(Box<dyn Writer>),
}

/// A sink's end with all content in memory.
#[derive(Debug)]
pub(super) struct InMemory {
    pub(super) bytes: Bytes,
    pub(super) held: Held,
}

impl Sink {
    pub(super) fn empty(
        driver: Arc<dyn Driver>,
        path: StoragePath,
        hashers: Vec<Hasher>,
        held: Held,
    ) -> Self {
        Self {
            driver,
            path,
            length: 0,
            hashers,
            data: Data::Memory(Vec::new()),
            held,
        }
    }

    /// A sink that goes on with what the file has.
    pub(super) fn resumed(
        driver: Arc<dyn Driver>,
        path: StoragePath,
        restored: Restored,
        held: Held,
    ) -> Self {
        let length = restored.offset;
        let settled = restored.is_settled && !driver.has_only_objects();
        let data = match (length, restored.small) {
            (0, _) => Data::Memory(Vec::new()),
            (_, Some(bytes)) => Data::Both(bytes),
            (_, None) => Data::Stored { settled },
        };
        Self {
            driver,
            path,
            length,
            hashers: restored.hashers,
            data,
            held,
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.length
    }

    /// The algorithm that was asked for.
    pub(super) fn algorithm(&self) -> Algorithm {
        let last = self.hashers.last();
        last.map_or(Algorithm::CANONICAL, Hasher::algorithm)
    }

    /// Hashes with `algorithm` too, when nothing has come yet.
    pub(super) fn expect(&mut self, algorithm: Algorithm) {
        if self.length == 0 && self.hashers.iter().all(|h| h.algorithm() != algorithm) {
            self.hashers.push(Hasher::new(algorithm));
        }
    }

    /// Whether `more` bytes can be kept in memory.
    pub(super) fn takes_in_memory(&self, more: usize) -> bool {
        matches!(self.data, Data::Memory(_) | Data::Both(_))
            && self.length + more as u64 <= IN_MEMORY as u64
    }

    /// Keeps bytes in memory.
    pub(super) fn keep(&mut self, buffers: Vec<Bytes>) {
        for hasher in &mut self.hashers {
            buffers.iter().for_each(|bytes| hasher.update(bytes));
        }
        self.length += total(&buffers);
        match &mut self.data {
            Data::Memory(kept) => kept.extend(buffers),
            Data::Both(bytes) => {
                let kept = std::iter::once(std::mem::take(bytes));
                self.data = Data::Memory(kept.chain(buffers).collect());
            }
            Data::Stored { .. } | Data::File(_) => {}
        }
    }

    /// Hashes and writes bytes, both at once. After an error the sink is good for nothing.
    pub(super) async fn write(mut self, buffers: Vec<Bytes>) -> (Self, Result<()>) {
        let result = self.hash_and_write(buffers).await;
        (self, result)
    }

    async fn hash_and_write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        self.open().await?;
        let Data::File(writer) = &mut self.data else {
            unreachable!("it was just opened")
        };
        let added = total(&buffers);
        let mut hashers = std::mem::take(&mut self.hashers);
        let to_hash = buffers.clone();
        let hash = move || {
            for hasher in &mut hashers {
                to_hash.iter().for_each(|bytes| hasher.update(bytes));
            }
            hashers
        };
        if added <= HASH_INLINE as u64 {
            self.hashers = hash();
            writer.write(buffers).await?;
        } else {
            let hashing = spawn_blocking(hash);
            let written = writer.write(buffers).await;
            self.hashers = hashing.await.map_err(|_| failed())?;
            written?;
        }
        self.length += added;
        Ok(())
    }

    /// Makes sure that there is a writer, and that it has what was in memory.
    async fn open(&mut self) -> Result<()> {
        let (mode, kept) = match &mut self.data {
            Data::File(_) => return Ok(()),
            Data::Memory(kept) => (WriteMode::Create, std::mem::take(kept)),
            // What was acknowledged stays until there is a file with more.
            Data::Both(bytes) => (WriteMode::Create, vec![bytes.clone()]),
            Data::Stored { .. } => (WriteMode::Append { at: self.length }, Vec::new()),
        };
        let mut writer = self.driver.writer(&self.path, mode).await?;
        if !kept.is_empty() {
            writer.write(kept).await?;
        }
        self.data = Data::File(writer);
        Ok(())
    }

    /// The content's canonical digest and its digest by `claimed`, reading the content again only
    /// when that algorithm was not hashed all along.
    pub(super) async fn digests(&mut self, claimed: Algorithm) -> Result<(Digest, Digest)> {
        let mut finished = Vec::new();
        for hasher in &self.hashers {
            finished.push(hasher.clone().finish());
        }
        let by = |algorithm| {
            finished
                .iter()
                .find(|d: &&Digest| d.algorithm() == algorithm)
        };
        let canonical = *by(Algorithm::CANONICAL).ok_or_else(failed)?;
        let claimed = match by(claimed) {
            Some(digest) => *digest,
            None => {
                self.finish().await?;
                self.reread(claimed).await?
            }
        };
        Ok((canonical, claimed))
    }

    async fn reread(&self, algorithm: Algorithm) -> Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        match &self.data {
            Data::Memory(kept) => kept.iter().for_each(|bytes| hasher.update(bytes)),
            Data::Both(bytes) => hasher.update(bytes),
            Data::Stored { .. } | Data::File(_) => {
                let mut reader = self.driver.reader(&self.path, 0).await?;
                let mut left = self.length;
                while let Some(bytes) = reader.next().await {
                    let bytes = bytes?;
                    let wanted = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= wanted as u64;
                    hasher = spawn_blocking(move || {
                        hasher.update(&bytes[..wanted]);
                        hasher
                    })
                    .await
                    .map_err(|_| failed())?;
                }
            }
        }
        Ok(hasher.finish())
    }

    /// Whether all of the content is in memory.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.data, Data::Memory(_))
    }

    /// The content, when all of it is in memory. Else the sink again.
    pub(super) fn into_memory(self) -> std::result::Result<InMemory, Self> {
        let kept = match self.data {
            Data::Memory(kept) => kept,
            Data::Both(bytes) => vec![bytes],
            Data::Stored { .. } | Data::File(_) => return Err(self),
        };
        let bytes = match <[Bytes; 1]>::try_from(kept) {
            Ok([one]) => one,
            Err(many) => {
                let mut all = BytesMut::with_capacity(total(&many) as usize);
                many.iter().for_each(|bytes| all.extend_from_slice(bytes));
                all.freeze()
            }
        };
        let held = self.held;
        Ok(InMemory { bytes, held })
    }

    /// Ends the file for now; its bytes survive the machine. Gives the hashers and the hold.
    pub(super) async fn close(self) -> Result<(Vec<Hasher>, Held)> {
        if let Data::File(writer) = self.data {
            writer.close().await?;
        }
        Ok((self.hashers, self.held))
    }

    /// Ends the file for good; it survives the machine and can be moved.
    pub(super) async fn commit(mut self) -> Result<Held> {
        self.finish().await?;
        Ok(self.held)
    }

    /// Ends the file, so that it can be read wherever it is kept.
    async fn finish(&mut self) -> Result<()> {
        let settled = Data::Stored { settled: true };
        let writer = match std::mem::replace(&mut self.data, settled) {
            memory @ (Data::Memory(_) | Data::Both(_)) => {
                self.data = memory;
                return Ok(());
            }
            Data::File(writer) => writer,
            Data::Stored { settled: true } => return Ok(()),
            Data::Stored { settled: false } => {
                // A store with parts still has to put them together, an end left over by a crash
                // has to go, and what nobody saved the state of may not be durable.
                let mode = WriteMode::Append { at: self.length };
                self.driver.writer(&self.path, mode).await?
            }
        };
        Ok(writer.commit().await?)
    }

    /// Leaves the file as it is.
    pub(super) fn abandon(self) -> Held {
        self.held
    }
}

fn total(buffers: &[Bytes]) -> u64 {
    buffers.iter().map(|bytes| bytes.len() as u64).sum()
}

fn failed() -> Error {
    Error::UploadInvalid("hashing it was interrupted".to_owned())
}
