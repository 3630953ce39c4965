//! How uploads end: in a blob or in nothing, and what goes of them then.

use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use tracing::warn;
use wharfinger_oci::{Descriptor, Digest};
use wharfinger_storage::StoragePath;

use super::sink::{Held, InMemory, Sink};
use super::{Upload, unusable};
use crate::blob::descriptor;
use crate::descriptor_cache::CachedDescriptor;
use crate::gc::{Item, Reliance};
use crate::link::ignore_absent;
use crate::metrics::UploadCounts;
use crate::publication::Publication;
use crate::{Error, Result, layout};

/// What an upload has for the store.
enum Content {
    /// All bytes, in memory.
    Memory(Bytes),
    /// A file that survives the machine.
    File(StoragePath),
    /// Nothing that is not there.
    Known,
}

impl Upload {
    /// Ends the upload in a blob: checks the digest, makes the bytes durable, gives them their
    /// place and links them. The descriptor carries the digest that was claimed.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] ends the upload in nothing. When the store fails, what was
    /// durable before stays.
    pub async fn commit(mut self, claimed: &Digest) -> Result<Descriptor> {
        let mut sink = self.sink.take().ok_or_else(unusable)?;
        let size = sink.len();
        let shared = self.links.shared.clone();
        let (canonical, actual) = sink.digests(claimed.algorithm()).await?;
        if actual != *claimed {
            drop(sink);
            self.end(&shared.uploads_counted.cancelled);
            self.remove_rest().await;
            return Err(Error::DigestMismatch {
                expected: *claimed,
                actual,
            });
        }
        // The store may have these bytes, and then they are not kept twice.
        let mut reliance = Reliance::begin(&shared).await?;
        reliance.keep(&[Item::Blob(canonical)]).await?;
        let _pushing = shared.repositories.shared(&self.links.name).await;
        let blob = CachedDescriptor { canonical, size };
        let mut digests = vec![canonical];
        if *claimed != canonical {
            digests.push(*claimed);
        }
        let links = digests.iter().map(|digest| (self.links.clone(), *digest));
        let links: Vec<_> = links.collect();
        let (content, held) = match sink.into_memory() {
            Ok(InMemory { bytes, held }) => (Content::Memory(bytes), held),
            Err(sink) => self.settled(sink, blob).await?,
        };
        let mut publication = Publication::begin(&shared, &digests).await;
        match content {
            Content::Memory(bytes) => drop(publication.blob(canonical, bytes).await?),
            Content::File(data) => publication.moved_blob(blob, data).await?,
            Content::Known => {}
        }
        publication.links(links, blob).await?;
        publication.write().await?;
        reliance.confirm().await?;
        self.end(&shared.uploads_counted.completed);
        self.remove_rest().await;
        drop(held);
        Ok(descriptor(claimed, size))
    }

    /// The bytes of a written file, unless the store has them already. Syncing them takes long: it
    /// is done before others are kept waiting.
    async fn settled(&self, sink: Sink, blob: CachedDescriptor) -> Result<(Content, Held)> {
        if self.links.shared.blobs.has_file(blob).await? {
            return Ok((Content::Known, sink.abandon()));
        }
        let data = layout::upload_data(&self.links.name, &self.id);
        Ok((Content::File(data), sink.commit().await?))
    }

    /// Ends the upload in nothing.
    ///
    /// # Errors
    /// When the store cannot remove it.
    pub async fn cancel(mut self) -> Result<()> {
        let _held = self.sink.take().map(Sink::abandon);
        let driver = &self.links.shared.driver;
        if self.recorded || self.has_file {
            let folder = layout::upload(&self.links.name, &self.id);
            ignore_absent(driver.delete(&folder).await)?;
        }
        if self.small {
            let small = layout::small_upload(&self.links.name, &self.id);
            ignore_absent(driver.delete(&small).await)?;
        }
        self.end(&self.links.shared.uploads_counted.cancelled);
        Ok(())
    }

    /// Notes how it ended.
    fn end(&self, counter: &AtomicU64) {
        UploadCounts::add(counter);
        if self.told {
            self.links.shared.ended_uploads.add(self.id.clone());
        }
    }

    /// Removes what is left of an upload that has ended. A failure, or a crash, leaves it to purging.
    async fn remove_rest(&self) {
        if self.small {
            self.remove_small().await;
        }
        if self.has_file {
            self.remove_folder().await;
        } else if self.recorded {
            self.remove_record().await;
        }
    }

    pub(super) async fn remove_small(&self) {
        let small = layout::small_upload(&self.links.name, &self.id);
        if let Err(error) = ignore_absent(self.links.shared.driver.discard_file(&small).await) {
            warn!(upload = %self.id, %error, "what came of an upload cannot be removed yet");
        }
    }

    /// Removes the record of a session of which there is nothing else, and the folder it is in where
    /// there are folders.
    async fn remove_record(&self) {
        let driver = &self.links.shared.driver;
        let remove = async {
            let record = layout::upload_started_at(&self.links.name, &self.id);
            driver.discard_file(&record).await?;
            driver
                .remove_empty(&layout::upload(&self.links.name, &self.id))
                .await
        };
        if let Err(error) = remove.await {
            warn!(upload = %self.id, %error, "the record of an upload cannot be removed yet");
        }
    }

    /// Removes bytes of which nobody was told. A failure leaves them to who goes on.
    pub(super) async fn remove_data(&self) {
        let data = layout::upload_data(&self.links.name, &self.id);
        if let Err(error) = ignore_absent(self.links.shared.driver.discard(&data).await) {
            warn!(upload = %self.id, %error, "what came of an upload cannot be removed yet");
        }
    }

    /// Removes what is left of the session. A failure, or a crash, leaves it to purging.
    pub(super) async fn remove_folder(&self) {
        let folder = layout::upload(&self.links.name, &self.id);
        if let Err(error) = ignore_absent(self.links.shared.driver.discard(&folder).await) {
            warn!(upload = %self.id, %error, "what an upload left behind cannot be removed yet");
        }
    }
}
