//! Reading an object ahead of whoever wants it, and going on where a connection to the store breaks.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _, unfold};
use object_store::GetResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tracing::{Instrument as _, debug, warn};

use super::Shared;
use super::failure::failed;
use crate::{Error, Reader, Result, StoragePath};

/// How many bytes are kept for whoever reads slower than the store sends. One piece more may be on
/// its way here.
const AHEAD: usize = 1024 * 1024;

/// How often reading is taken up again before it has got [`PROGRESS`] further. The client of the
/// store tries on its own besides, but not for long, while a download may take hours.
const ATTEMPTS: u32 = 5;

/// How many bytes make a store one that sends.
const PROGRESS: u64 = 1024 * 1024;

/// The content of a file, from what the store has begun to send.
pub(super) fn reader(
    shared: Arc<Shared>,
    path: StoragePath,
    key: String,
    got: GetResult,
) -> Reader {
    let reading = Reading {
        shared,
        path,
        key,
        etag: got.meta.e_tag.clone(),
        at: got.range.start,
        end: got.range.end,
        resumed_at: got.range.start,
        attempts: 0,
    };
    // Whoever takes a piece makes room for others.
    let (pieces, taken) = mpsc::unbounded_channel();
    let work = reading.fill(got.into_stream(), pieces).in_current_span();
    let ahead = Ahead {
        pieces: taken,
        work: tokio::spawn(work),
    };
    unfold(ahead, |mut ahead| async move {
        let (piece, room) = ahead.pieces.recv().await?;
        drop(room);
        Some((piece, ahead))
    })
    .boxed()
}

/// Bytes, and the room that they take.
type Piece = (Result<Bytes>, Option<OwnedSemaphorePermit>);

/// What was read ahead, and who reads on, for as long as this is kept.
struct Ahead {
    pieces: mpsc::UnboundedReceiver<Piece>,
    work: JoinHandle<()>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// How far reading has got.
struct Reading {
    shared: Arc<Shared>,
    path: StoragePath,
    key: String,
    /// The version of the object that is read; no other can be gone on with.
    etag: Option<String>,
    at: u64,
    end: u64,
    resumed_at: u64,
    attempts: u32,
}

impl Reading {
    async fn fill(
        mut self,
        mut stream: BoxStream<'static, object_store::Result<Bytes>>,
        to: mpsc::UnboundedSender<Piece>,
    ) {
        let room = Arc::new(Semaphore::new(AHEAD));
        while self.at < self.end {
            let broken = match stream.next().await {
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => {
                    self.at += bytes.len() as u64;
                    let size = u32::try_from(bytes.len().min(AHEAD)).unwrap_or(u32::MAX);
                    // It is never closed.
                    let permit = Arc::clone(&room).acquire_many_owned(size).await.ok();
                    if to.send((Ok(bytes), permit)).is_err() {
                        return;
                    }
                    continue;
                }
                Some(Err(error)) => failed(&self.path, "read")(error),
                None => Error::io(&self.path, "read", io::ErrorKind::UnexpectedEof),
            };
            stream = match self.resume(broken).await {
                Ok(stream) => stream,
                Err(error) => {
                    warn!(path = %self.path, offset = self.at, %error, "reading breaks off here");
                    let _ = to.send((Err(error), None));
                    return;
                }
            };
        }
    }

    /// Asks for the rest of the same object after reading has failed.
    async fn resume(
        &mut self,
        broken: Error,
    ) -> Result<BoxStream<'static, object_store::Result<Bytes>>> {
        if self.at - self.resumed_at >= PROGRESS {
            self.attempts = 0;
        }
        if self.attempts == ATTEMPTS || self.etag.is_none() {
            return Err(broken);
        }
        self.attempts += 1;
        self.resumed_at = self.at;
        debug!(path = %self.path, offset = self.at, error = %broken, "reading goes on from here");
        let bucket = &self.shared.bucket;
        let got = bucket.get(&self.key, self.at, Some(self.end), self.etag.clone());
        let got = got.await.map_err(failed(&self.path, "read on"))?;
        Ok(got.into_stream())
    }
}
