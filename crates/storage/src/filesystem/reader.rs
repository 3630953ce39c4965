//! Reading a file in pieces, one piece ahead of the consumer.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use rustix::fs::{Advice, fadvise};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinHandle, spawn_blocking};

use super::{FilesystemDriver, joined, run};
use crate::{Error, Reader, Result, StoragePath};

/// The size of a piece in bytes. A reader holds at most two: one at the consumer, one ahead.
const PIECE: usize = 256 * 1024;

/// A piece, and the file where more may follow.
type Piece = (Bytes, Option<File>);

enum State {
    /// The next piece is here.
    Ready(Piece),
    /// The next piece is being read.
    Reading(JoinHandle<Result<Piece>>),
    /// No thread was free to read ahead.
    Waiting(File),
}

pub(super) async fn open(
    driver: &FilesystemDriver,
    path: &StoragePath,
    offset: u64,
) -> Result<Reader> {
    let wanted = path.clone();
    let open = driver.hop(path, move |store| {
        let (mut file, size) = store.open_file(&wanted)?;
        if offset > size {
            return Err(Error::InvalidOffset {
                path: wanted,
                offset,
            });
        }
        if size - offset > PIECE as u64 {
            // A hint only: the reading works without.
            let _ = fadvise(&file, 0, None, Advice::Sequential);
        }
        file.seek(SeekFrom::Start(offset))
            .map_err(|error| Error::io(&wanted, "seek", error))?;
        // The first piece comes with the opening: small files take one hop.
        read(&wanted, file)
    });
    let first = open.await?;
    let (driver, path) = (driver.clone(), path.clone());
    let next = move |state: Option<State>| {
        let (driver, path) = (driver.clone(), path.clone());
        async move {
            let piece = match state? {
                State::Ready(piece) => Ok(piece),
                State::Reading(task) => joined(&path, task.await),
                State::Waiting(file) => {
                    let permit = driver.permit().await;
                    joined(&path, read_on(permit, path.clone(), file).await)
                }
            };
            match piece {
                Ok((bytes, None)) if bytes.is_empty() => None,
                Ok((bytes, rest)) => {
                    Some((Ok(bytes), rest.map(|file| read_ahead(&driver, &path, file))))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    };
    Ok(Box::pin(stream::unfold(Some(State::Ready(first)), next)))
}

fn read_ahead(driver: &FilesystemDriver, path: &StoragePath, file: File) -> State {
    match Arc::clone(&driver.threads).try_acquire_owned() {
        Ok(permit) => State::Reading(read_on(permit, path.clone(), file)),
        Err(_) => State::Waiting(file),
    }
}

fn read_on(
    permit: OwnedSemaphorePermit,
    path: StoragePath,
    file: File,
) -> JoinHandle<Result<Piece>> {
    spawn_blocking(move || run(permit, || read(&path, file)))
}

fn read(path: &StoragePath, mut file: File) -> Result<Piece> {
    let failed = |error| Error::io(path, "read", error);
    let size = file.metadata().map_err(failed)?.len();
    let left = size.saturating_sub(file.stream_position().map_err(failed)?);
    let mut bytes = Vec::with_capacity(left.min(PIECE as u64) as usize);
    let mut piece = file.take(PIECE as u64);
    piece.read_to_end(&mut bytes).map_err(failed)?;
    // A short piece is the last one.
    let rest = (bytes.len() == PIECE).then(|| piece.into_inner());
    Ok((bytes.into(), rest))
}
