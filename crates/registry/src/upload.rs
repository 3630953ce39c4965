//! Uploads: sessions that receive bytes and end in a blob or in nothing.
//!
//! Bytes go once through memory: each batch is hashed and written at the same time, while the
//! next one is read from the network. Short content stays in memory and is stored whole.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tracing::Instrument as _;
use wharfinger_oci::Algorithm;
use wharfinger_storage::{Buffer, Durability};

use crate::link::{LinkedBlobs, ignore_absent};
use crate::metrics::{OpenUpload, UploadCounts};
use crate::read_only::Writing;
use crate::{Error, Result, layout};

mod ended;
mod ending;
mod id;
mod progress;
mod purge;
mod sink;
mod state;

pub(crate) use ended::EndedUploads;
pub use id::UploadId;
pub use progress::{Progress, Told};
pub(crate) use purge::{LEFTOVER_AGE, random};
pub use purge::{PurgeReport, PurgeSchedule};
use sink::{Held, InMemory, Sink};
use state::{Found, Restored};

/// How many bytes are collected before they are hashed and written.
const BATCH: usize = Buffer::LEAST;

/// How many buffers a batch has at most, so that many tiny ones do not pile up.
const BATCH_BUFFERS: usize = 512;

/// How long a request waits for the one before it to let go of the upload: a client that lost its
/// connection comes back faster than the server notices.
const PATIENCE: Duration = Duration::from_secs(5);

/// An upload under way. While it exists, no other request of this process can work on it.
///
/// Dropping it keeps what the last [`pause`](Upload::pause) made durable.
#[derive(Debug)]
pub struct Upload {
    links: LinkedBlobs,
    id: UploadId,
    started_at: Timestamp,
    /// Whether the session's record is in the store.
    recorded: bool,
    /// Whether a client knows of it, and may come back for it.
    told: bool,
    /// Whether there may be a file with its bytes in its folder.
    has_file: bool,
    /// Whether there was a small file with all its bytes when this request took the upload up.
    small: bool,
    /// How many bytes were durable when this request took the upload up.
    durable: u64,
    /// `None` once a request's failure has taken it along.
    sink: Option<Sink>,
    _open: OpenUpload,
    _writing: Writing,
}

impl Upload {
    pub(crate) fn create(links: LinkedBlobs, algorithm: Algorithm, writing: Writing) -> Self {
        let id = UploadId::generate();
        let held = links
            .shared
            .uploads
            .try_exclusive(&id)
            .expect("a new name is held by nobody");
        let held = Held::new(held, writing.clone());
        let data = layout::upload_data(&links.name, &id);
        let hashers = state::hashers(algorithm);
        let sink = Sink::empty(links.shared.driver.clone(), data, hashers, held);
        UploadCounts::add(&links.shared.uploads_counted.begun);
        Self {
            _open: OpenUpload::new(&links.shared),
            links,
            id,
            started_at: Timestamp::now(),
            recorded: false,
            told: false,
            has_file: false,
            small: false,
            durable: 0,
            sink: Some(sink),
            _writing: writing,
        }
    }

    pub(crate) async fn resume(
        links: LinkedBlobs,
        id: &UploadId,
        told: Option<Told>,
        algorithm: Algorithm,
        writing: Writing,
    ) -> Result<Self> {
        let waiting = tokio::time::timeout(PATIENCE, links.shared.uploads.exclusive(id)).await;
        let held = waiting.map_err(|_| {
            Error::UploadInvalid("another request is working on this upload".to_owned())
        })?;
        let held = Held::new(held, writing.clone());
        let begun = state::begun(&links, id, told).await?;
        let recorded = matches!(begun.found, Found::Recorded);
        let restored = match begun.found {
            Found::Recorded => state::restore(&links, id, algorithm).await?,
            Found::Small(bytes) => Restored::small(bytes, algorithm),
            Found::Nothing => Restored::nothing(algorithm),
        };
        let (offset, has_file) = (restored.offset, restored.has_file);
        let small = restored.small.is_some();
        let data = layout::upload_data(&links.name, id);
        let sink = Sink::resumed(links.shared.driver.clone(), data, restored, held);
        Ok(Self {
            _open: OpenUpload::new(&links.shared),
            links,
            id: id.clone(),
            started_at: begun.at,
            recorded,
            told: true,
            has_file,
            small,
            durable: offset,
            sink: Some(sink),
            _writing: writing,
        })
    }

    /// The upload's name.
    pub fn id(&self) -> &UploadId {
        &self.id
    }

    /// How many bytes have been received.
    pub fn offset(&self) -> u64 {
        self.sink.as_ref().map_or(self.durable, Sink::len)
    }

    /// What its bytes are hashed by, besides the canonical algorithm or as that alone.
    pub fn algorithm(&self) -> Algorithm {
        let sink = self.sink.as_ref();
        sink.map_or(Algorithm::CANONICAL, Sink::algorithm)
    }

    /// How far it has got.
    pub fn progress(&self) -> Progress {
        Progress {
            id: self.id.clone(),
            offset: self.offset(),
            started_at: self.started_at,
        }
    }

    /// Says that a digest of `algorithm` will be claimed, so that the content need not be read
    /// again for it. Too late once there are bytes, but then only slower.
    pub fn expect(&mut self, algorithm: Algorithm) {
        if let Some(sink) = &mut self.sink {
            sink.expect(algorithm);
        }
    }

    /// Appends a body. Memory is bounded by two batches, and the body is read no faster than it
    /// can be hashed and written.
    ///
    /// # Errors
    /// [`Error::Body`] when the body breaks off: what came before is received, and
    /// [`pause`](Upload::pause) keeps it. After any other error the upload cannot go on in this
    /// request; what was durable before stays.
    pub async fn append<S, E>(&mut self, mut body: S) -> Result<()>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: std::error::Error + Send + Sync + 'static,
    {
        let mut under_way: Option<JoinHandle<(Sink, Result<()>)>> = None;
        let mut broken = None;
        let mut ended = false;
        while !ended {
            let mut batch = Vec::new();
            let mut length = 0;
            while length < BATCH && batch.len() < BATCH_BUFFERS {
                match body.next().await {
                    Some(Ok(bytes)) => {
                        length += bytes.len();
                        batch.push(bytes);
                    }
                    Some(Err(error)) => {
                        broken = Some(Error::Body(Box::new(error)));
                        ended = true;
                        break;
                    }
                    None => {
                        ended = true;
                        break;
                    }
                }
            }
            if let Some(task) = under_way.take() {
                self.take_back(task).await?;
            }
            if batch.is_empty() {
                continue;
            }
            let mut sink = self.sink.take().ok_or_else(unusable)?;
            if sink.takes_in_memory(length) {
                sink.keep(batch);
                self.sink = Some(sink);
            } else {
                if self.told && !self.recorded {
                    self.record_early().await?;
                }
                self.has_file = true;
                under_way = Some(tokio::spawn(sink.write(batch).in_current_span()));
            }
        }
        if let Some(task) = under_way {
            self.take_back(task).await?;
        }
        broken.map_or(Ok(()), Err)
    }

    /// Says in the store that there is the upload before it has a file, so that what a killed process
    /// leaves of that is gone on with.
    async fn record_early(&mut self) -> Result<()> {
        let driver = &self.links.shared.driver;
        if !driver.has_only_objects() {
            // A crash may have taken the record, and left the rest.
            let folder = layout::upload(&self.links.name, &self.id);
            ignore_absent(driver.delete(&folder).await)?;
        }
        if let Err(error) = self.put_record(Durability::Process).await {
            self.remove_folder().await;
            return Err(error);
        }
        self.recorded = true;
        Ok(())
    }

    /// Writes the file that tells when the upload was begun.
    async fn put_record(&self, durability: Durability) -> Result<()> {
        let path = layout::upload_started_at(&self.links.name, &self.id);
        let content = state::format_started_at(self.started_at).into();
        Ok(self
            .links
            .shared
            .driver
            .put(&path, content, durability)
            .await?)
    }

    async fn take_back(&mut self, task: JoinHandle<(Sink, Result<()>)>) -> Result<()> {
        let (sink, result) = task.await.map_err(|_| unusable())?;
        match result {
            Ok(()) => {
                self.sink = Some(sink);
                Ok(())
            }
            Err(error) => {
                drop(sink);
                // Nobody was told of any byte yet: leave no useless file behind, least of all
                // when the disk is full. An upload that somebody was told of stays.
                match self.durable {
                    0 if self.recorded => self.remove_data().await,
                    0 => self.remove_folder().await,
                    _ => {}
                }
                Err(error)
            }
        }
    }

    /// Ends this request's work so that another request, on any node, can take the upload up.
    /// What was received is durable; of an upload without a byte, only the process's end is
    /// survived, and of one that was taken up so nothing is stored: its client keeps it.
    ///
    /// # Errors
    /// When the store fails; what was durable before stays.
    pub async fn pause(mut self) -> Result<()> {
        let sink = self.sink.take().ok_or_else(unusable)?;
        let offset = sink.len();
        if offset == 0 && self.told && !self.recorded {
            return Ok(()); // who opened it knows as much
        }
        let durability = if offset == 0 {
            Durability::Process
        } else {
            Durability::Machine
        };
        if offset > self.durable && sink.is_in_memory() {
            return self.pause_in_memory(sink).await;
        }
        // The hash state must never be durable before the bytes it stands for: resuming trusts it.
        let (hashers, _held) = sink.close().await?;
        let record = async {
            // What an object store has, it has for good, and what is durable of a file came after it.
            let is_durable = self.durable > 0 && !self.small;
            if self.recorded && (is_durable || self.links.shared.driver.has_only_objects()) {
                return Ok(());
            }
            self.put_record(durability).await
        };
        let save = async {
            // Of no bytes there is nothing to know.
            if offset > self.durable {
                let states = state::files(&self.links, &self.id, offset, &hashers);
                self.links.shared.driver.put_all(vec![states]).await?;
            }
            Ok::<_, Error>(())
        };
        futures_util::future::try_join(record, save).await?;
        if self.small {
            self.remove_small().await;
        } else if self.durable > 0 && offset > self.durable {
            state::forget(&self.links, &self.id, self.durable).await;
        }
        Ok(())
    }

    /// The same where all that was received is in memory. It is stored whole and hashed again by who
    /// goes on: that is less than to keep the state of its hashes, and a record. When the upload was
    /// begun its client knows.
    async fn pause_in_memory(&self, sink: Sink) -> Result<()> {
        let Ok(InMemory { bytes, held }) = sink.into_memory() else {
            return Err(unusable());
        };
        let small = layout::small_upload(&self.links.name, &self.id);
        let driver = &self.links.shared.driver;
        driver.put(&small, bytes, Durability::Machine).await?;
        drop(held);
        Ok(())
    }

    /// Ends this request's work and drops what it appended; what was durable before stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn discard(mut self) -> Result<()> {
        let _held = self.sink.take().map(Sink::abandon);
        if self.durable > 0 || !self.has_file {
            return Ok(()); // what lies behind the saved state is dropped on resuming
        }
        let data = layout::upload_data(&self.links.name, &self.id);
        ignore_absent(self.links.shared.driver.delete(&data).await)
    }
}

fn unusable() -> Error {
    Error::UploadInvalid("it failed in this request and has to be resumed".to_owned())
}
