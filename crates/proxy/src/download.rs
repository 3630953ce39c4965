//! One download of a blob, for all who ask for it while it comes.
//!
//! The bytes go into a file without a name, and everybody reads that at a pace of their own: the
//! clients, and whoever stores the blob. Nobody gets the last byte before the digest of all was
//! found to be right.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, stream};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tracing::info;
use wharfinger_oci::{Digest, Hasher, RepositoryName};
use wharfinger_registry::layout;
use wharfinger_remote::{Upstream, UpstreamError};
use wharfinger_storage::{Error as StorageError, Reader};

use crate::spool::nameless;

/// The most bytes that are written, or read, at once.
const PIECE: usize = 256 * 1024;

/// How often in a row a download is taken up again that has hardly got on.
const ATTEMPTS: u32 = 5;

/// How far it must have got for a failure to be the first one again, in bytes.
const PROGRESS: u64 = 64 * 1024;

/// How long to wait before it is taken up again a second time in a row; each further failure doubles
/// that. The first time, nothing but a connection may be broken.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest that clients are kept waiting for an upstream that wants to be left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Why a download failed.
#[derive(Clone, Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("what is on its way cannot be kept: {0}")]
    Spool(Arc<io::Error>),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Spool(Arc::new(error))
    }
}

/// How far a download has got.
#[derive(Clone, Debug, Default)]
struct State {
    /// The size of all, once it is known.
    size: Option<u64>,
    /// How many bytes are in the file.
    written: u64,
    /// How it ended. A good end means that the digest is right.
    ended: Option<Result<(), Failure>>,
}

/// A blob on its way.
#[derive(Debug)]
pub(crate) struct Download {
    digest: Digest,
    /// There before anything is written.
    file: OnceLock<Arc<File>>,
    state: watch::Sender<State>,
}

impl Download {
    /// A download of which nothing has come yet.
    pub(crate) fn new(digest: Digest) -> Self {
        Self {
            digest,
            file: OnceLock::new(),
            state: watch::Sender::default(),
        }
    }

    fn file(&self) -> io::Result<Arc<File>> {
        let file = self.file.get().cloned();
        file.ok_or_else(|| io::Error::other("nothing was downloaded"))
    }

    pub(crate) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(crate) fn has_failed(&self) -> bool {
        matches!(self.state.borrow().ended, Some(Err(_)))
    }

    /// Ready when it has ended.
    pub(crate) async fn ended(&self) {
        let mut state = self.state.subscribe();
        let _ = state.wait_for(|state| state.ended.is_some()).await;
    }

    /// The blob's size, as soon as it is known; nothing at all is no size before it has the right
    /// digest, as there is no last byte to wait for.
    ///
    /// # Errors
    /// When the download ended in nothing.
    pub(crate) async fn size(&self) -> Result<u64, Failure> {
        let mut state = self.state.subscribe();
        let known = |state: &State| state.size.is_some_and(|it| it > 0) || state.ended.is_some();
        let state = state.wait_for(known).await;
        let state = state.map_err(|_| io::Error::other("nobody downloads"))?;
        match (&state.ended, state.size) {
            (Some(Err(failure)), _) => Err(failure.clone()),
            (_, size) => Ok(size.unwrap_or(state.written)),
        }
    }

    /// A part of the blob, as it comes. Its last byte comes when all are there and right.
    pub(crate) fn reader(self: &Arc<Self>, part: Range<u64>) -> Reader {
        let state = self.state.subscribe();
        let start = (Arc::clone(self), state, part);
        Box::pin(stream::try_unfold(
            start,
            |(download, mut state, part)| async move {
                if part.is_empty() {
                    return Ok(None);
                }
                let reading = download.read(&mut state, part.clone()).await;
                let bytes = reading.map_err(|error| StorageError::Io {
                    path: layout::blob_data(&download.digest),
                    operation: "fetch",
                    source: error,
                })?;
                let rest = part.start + bytes.len() as u64..part.end;
                Ok(Some((bytes, (download, state, rest))))
            },
        ))
    }

    /// Some bytes from the beginning of a part that is not empty.
    async fn read(
        &self,
        state: &mut watch::Receiver<State>,
        part: Range<u64>,
    ) -> io::Result<Bytes> {
        let end = {
            let there = |state: &State| match &state.ended {
                Some(_) => true,
                None => state.written.min(part.end - 1) > part.start,
            };
            let state = state.wait_for(there).await;
            let state = state.map_err(|_| io::Error::other("nobody downloads any more"))?;
            match &state.ended {
                Some(Ok(())) => state.written.min(part.end),
                Some(Err(failure)) => return Err(io::Error::other(failure.clone())),
                None => state.written.min(part.end - 1),
            }
        };
        let length = end.saturating_sub(part.start).min(PIECE as u64);
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let file = self.file()?;
        let read = spawn_blocking(move || {
            let mut buffer = vec![0; length as usize];
            file.read_exact_at(&mut buffer, part.start)?;
            Ok(Bytes::from(buffer))
        });
        read.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Downloads the blob through a file in `spool`, and takes the download up again where it breaks
    /// off. How it ended is told to all who read; this tells whether well.
    pub(crate) async fn run(
        &self,
        upstream: &Upstream,
        name: &RepositoryName,
        spool: &Path,
    ) -> bool {
        let mut ending = Ending {
            state: &self.state,
            ended: Err(io::Error::other("the download was interrupted").into()),
        };
        ending.ended = self.fetch(upstream, name, spool).await;
        ending.ended.is_ok()
    }

    async fn fetch(
        &self,
        upstream: &Upstream,
        name: &RepositoryName,
        spool: &Path,
    ) -> Result<(), Failure> {
        let spool = spool.to_owned();
        let file = spawn_blocking(move || nameless(&spool)).await;
        let _ = self.file.set(Arc::new(file.map_err(io::Error::other)??));
        let mut received = Received {
            at: 0,
            hasher: Hasher::new(self.digest.algorithm()),
        };
        let (mut failures, mut reached) = (0, 0);
        loop {
            let error = match self.attempt(upstream, name, &mut received).await {
                Ok(()) => break,
                Err(Failure::Upstream(error)) if error.is_outage() => error,
                Err(failure) => return Err(failure),
            };
            // Nobody was promised anything yet: the client may ask again by itself.
            if self.state.borrow().size.is_none() {
                return Err(error.into());
            }
            if received.at >= reached + PROGRESS {
                failures = 0;
            }
            reached = received.at;
            let again = match failures {
                0 => Duration::ZERO,
                failures => PAUSE * (1 << failures),
            };
            failures += 1;
            let pause = error.retry_after().unwrap_or(again);
            if failures > ATTEMPTS || pause > LONGEST_PAUSE {
                return Err(error.into());
            }
            info!(digest = %self.digest, at = received.at, %error, "the download is taken up again");
            tokio::time::sleep(pause).await;
        }
        let actual = received.hasher.finish();
        if actual != self.digest {
            let reason = format!("blob {} of {name} has digest {actual}", self.digest);
            return Err(upstream.wrong(reason).into());
        }
        Ok(())
    }

    /// Asks for what is missing, and takes what comes of it.
    async fn attempt(
        &self,
        upstream: &Upstream,
        name: &RepositoryName,
        received: &mut Received,
    ) -> Result<(), Failure> {
        let mut blob = upstream.blob(name, &self.digest, received.at).await?;
        let known = self.state.borrow().size;
        if let (Some(before), Some(now)) = (known, blob.size())
            && before != now
        {
            let reason = format!("blob {} had {before} bytes, and now {now}", self.digest);
            return Err(upstream.wrong(reason).into());
        }
        let size = known.or(blob.size());
        if known.is_none() && size.is_some() {
            self.state.send_modify(|state| state.size = size);
        }
        while let Some(first) = blob.next().await? {
            let mut length = first.len();
            let mut pieces = vec![first];
            // What has come already is written together.
            let mut next = Ok(None);
            while length < PIECE {
                match blob.next().now_or_never() {
                    Some(Ok(Some(piece))) => {
                        length += piece.len();
                        pieces.push(piece);
                    }
                    Some(end) => {
                        next = end;
                        break;
                    }
                    None => break,
                }
            }
            if size.is_some_and(|size| received.at + length as u64 > size) {
                let reason = format!("blob {} is longer than it said", self.digest);
                return Err(upstream.wrong(reason).into());
            }
            self.write(pieces, received).await?;
            next?;
        }
        match size {
            Some(size) if received.at < size => Err(UpstreamError::Unreachable {
                upstream: upstream.name().to_owned(),
                reason: format!("it breaks off after {} of {size} bytes", received.at),
            }
            .into()),
            _ => Ok(()),
        }
    }

    async fn write(&self, pieces: Vec<Bytes>, received: &mut Received) -> Result<(), Failure> {
        let file = self.file()?;
        let fresh = Hasher::new(self.digest.algorithm());
        let mut hasher = std::mem::replace(&mut received.hasher, fresh);
        let mut at = received.at;
        let written = spawn_blocking(move || {
            for piece in &pieces {
                file.write_all_at(piece, at)?;
                hasher.update(piece);
                at += piece.len() as u64;
            }
            Ok::<_, io::Error>((hasher, at))
        });
        let written = written.await.map_err(io::Error::other)?;
        (received.hasher, received.at) = written?;
        self.state.send_modify(|state| state.written = received.at);
        Ok(())
    }
}

/// What has come.
struct Received {
    at: u64,
    hasher: Hasher,
}

/// Tells everybody how a download ended, even when it is dropped in the middle.
struct Ending<'a> {
    state: &'a watch::Sender<State>,
    ended: Result<(), Failure>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let ended = self.ended.clone();
        self.state.send_modify(|state| {
            state.size = state.size.or(ended.is_ok().then_some(state.written));
            state.ended = Some(ended);
        });
    }
}
