//! A client: it asks a registry for something, and keeps in mind what it was told.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Algorithm, Digest, Tag};
use wharfinger_registry::{
    CollectOptions, CollectStep, Error, Eviction, Options, Registry, Repository, Result, Told,
    Upload, UploadId,
};
use wharfinger_storage::Driver;

use crate::check::read;
use crate::ledger::{Change, Comparable, Ledger, State, Thing, told};
use crate::support::{append, name, tag};

/// Short, so that collections are, which wait for one or two.
pub const LEASE: Duration = Duration::from_millis(3);

/// How often a request is sent again that a collection was in the way of.
const TRIES: u32 = 100;

/// A client of one process over one store.
pub struct Client {
    pub registry: Registry,
    pub ledger: Ledger,
}

impl Client {
    /// One of a process that has just started over a store.
    pub fn new(driver: Arc<dyn Driver>, ledger: &Ledger) -> Self {
        let options = Options {
            delete: true,
            schema1_push: true,
            collection_lease: LEASE,
            ..Options::default()
        };
        Self {
            registry: Registry::new(driver, options).unwrap(),
            ledger: ledger.clone(),
        }
    }

    pub fn repository(&self, repository: &str) -> Repository {
        self.registry.repository(&name(repository))
    }

    /// Sends a request that makes these changes.
    async fn ask<T>(
        &self,
        changes: Vec<Change>,
        request: impl AsyncFn() -> Result<T>,
    ) -> Result<T> {
        self.ledger.begin(&changes);
        let mut tries = 0;
        loop {
            match request().await {
                Err(Error::Collecting) if tries < TRIES => tries += 1,
                answer => {
                    let answer = answer?;
                    self.ledger.acknowledge(&changes);
                    return Ok(answer);
                }
            }
        }
    }

    /// Pushes a blob in one request.
    pub async fn push(&self, repository: &'static str, bytes: &Bytes) -> Result<()> {
        self.push_under(repository, bytes, Algorithm::Sha256).await
    }

    /// Pushes a blob in one request, under a digest of this algorithm.
    pub async fn push_under(
        &self,
        repository: &'static str,
        bytes: &Bytes,
        algorithm: Algorithm,
    ) -> Result<()> {
        let digest = Digest::of(algorithm, bytes);
        self.ask(blob(repository, bytes, algorithm), async || {
            let mut upload = self.repository(repository).blobs().create(algorithm)?;
            append(&mut upload, bytes).await?;
            upload.commit(&digest).await.map(drop)
        })
        .await
    }

    /// Stores a blob as the registry's own parts do.
    pub async fn store(&self, repository: &'static str, bytes: &Bytes) -> Result<()> {
        self.ask(blob(repository, bytes, Algorithm::Sha256), async || {
            let blobs = self.repository(repository).blobs();
            blobs.put(bytes.clone()).await.map(drop)
        })
        .await
    }

    /// Opens an upload, which is the client's to keep.
    pub fn open(&self, repository: &'static str) -> Result<UploadId> {
        let blobs = self.repository(repository).blobs();
        let id = blobs.create(Algorithm::Sha256)?.id().clone();
        let opened = (upload_of(repository, &id), State::Opened);
        self.ledger.acknowledge(&[opened]);
        Ok(id)
    }

    /// What the client of an upload was told of it.
    fn told(&self, repository: &'static str, id: &UploadId) -> Option<Told> {
        told(&self.ledger.of(&upload_of(repository, id)))
    }

    async fn resume(
        &self,
        repository: &'static str,
        id: &UploadId,
        sent: &Bytes,
    ) -> Result<Upload> {
        let blobs = self.repository(repository).blobs();
        let told = self.told(repository, id);
        let upload = blobs.resume(id, told, Algorithm::Sha256).await?;
        let offset = upload.offset() as usize;
        assert!(offset <= sent.len(), "nobody has sent {offset} bytes");
        Ok(upload)
    }

    /// Sends a chunk that brings an upload up to `to` of these bytes, from wherever it is.
    pub async fn patch(
        &self,
        repository: &'static str,
        id: &UploadId,
        bytes: &Bytes,
        to: usize,
    ) -> Result<()> {
        let received = match to {
            0 => State::Opened,
            to => State::Received(to, bytes.clone()),
        };
        self.ask(vec![(upload_of(repository, id), received)], async || {
            let mut upload = self.resume(repository, id, bytes).await?;
            let offset = upload.offset() as usize;
            append(&mut upload, &bytes.slice(offset.min(to)..to)).await?;
            upload.pause().await
        })
        .await
    }

    /// Sends the rest of an upload and ends it in a blob.
    pub async fn finish(
        &self,
        repository: &'static str,
        id: &UploadId,
        bytes: &Bytes,
        algorithm: Algorithm,
    ) -> Result<()> {
        let mut changes = blob(repository, bytes, algorithm);
        changes.push((upload_of(repository, id), State::Ended));
        let digest = Digest::of(algorithm, bytes);
        self.ask(changes, async || {
            let mut upload = self.resume(repository, id, bytes).await?;
            let offset = upload.offset() as usize;
            append(&mut upload, &bytes.slice(offset..)).await?;
            upload.commit(&digest).await.map(drop)
        })
        .await
    }

    /// Pushes a blob in chunks that end at these places, the last one with the end of the upload.
    pub async fn push_in_chunks(
        &self,
        repository: &'static str,
        bytes: &Bytes,
        ends: &[usize],
        algorithm: Algorithm,
    ) -> Result<()> {
        let id = self.open(repository)?;
        for end in ends {
            self.patch(repository, &id, bytes, *end).await?;
        }
        self.finish(repository, &id, bytes, algorithm).await
    }

    /// Gives an upload up.
    pub async fn cancel(&self, repository: &'static str, id: &UploadId) -> Result<()> {
        let gone = vec![(upload_of(repository, id), State::Absent)];
        self.ask(gone, async || {
            let blobs = self.repository(repository).blobs();
            let told = self.told(repository, id);
            match blobs.resume(id, told, Algorithm::Sha256).await {
                Err(Error::UploadUnknown(_)) => Ok(()),
                upload => upload?.cancel().await,
            }
        })
        .await
    }

    /// Sends bytes under a digest that is not theirs.
    pub async fn push_wrong(&self, repository: &'static str, bytes: &Bytes) -> Result<()> {
        let wrong = Digest::canonical(b"something else");
        let mut upload = self
            .repository(repository)
            .blobs()
            .create(Algorithm::Sha256)?;
        append(&mut upload, bytes).await?;
        match upload.commit(&wrong).await {
            Err(Error::DigestMismatch { .. }) => Ok(()),
            answer => panic!("{answer:?}"),
        }
    }

    /// Mounts a blob from another repository, or with `from` empty from any.
    pub async fn mount(
        &self,
        repository: &'static str,
        from: &str,
        bytes: &Bytes,
        algorithm: Algorithm,
    ) -> Result<()> {
        let digest = Digest::of(algorithm, bytes);
        self.ask(blob(repository, bytes, algorithm), async || {
            let blobs = self.repository(repository).blobs();
            let mounted = match from {
                "" => blobs.mount_anywhere(&digest, |_| true).await?,
                from => blobs.mount(&name(from), &digest).await?,
            };
            assert!(mounted.is_some(), "the source has it");
            Ok(())
        })
        .await
    }

    /// Pushes a manifest whose blobs are there, under a digest of this algorithm and tags.
    pub async fn put(
        &self,
        repository: &'static str,
        manifest: &Manifest,
        algorithm: Algorithm,
        tags: &[&str],
    ) -> Result<()> {
        let digest = Digest::of(algorithm, manifest.payload());
        let canonical = Digest::canonical(manifest.payload());
        let tags: Vec<Tag> = tags.iter().map(|text| tag(text)).collect();
        let state = State::Manifest(Comparable(manifest.clone()));
        let mut changes = vec![
            (Thing::Manifest(repository, digest), state.clone()),
            (Thing::Manifest(repository, canonical), state),
        ];
        for signature in manifest.signatures() {
            let own = Digest::canonical(signature);
            let thing = Thing::Signature(repository, canonical, own);
            changes.push((thing, State::Bytes(signature.clone())));
        }
        for tag in &tags {
            changes.push((Thing::Tag(repository, tag.clone()), State::Digest(digest)));
        }
        self.ask(changes, async || {
            let manifests = self.repository(repository).manifests();
            manifests.put(manifest, &digest, &tags).await.map(drop)
        })
        .await
    }

    /// Pushes an image, its blobs first.
    pub async fn push_image(
        &self,
        repository: &'static str,
        image: &Image,
        tags: &[&str],
    ) -> Result<()> {
        for bytes in [&image.config, &image.layer] {
            self.push(repository, bytes).await?;
        }
        self.put(repository, &image.manifest, Algorithm::Sha256, tags)
            .await
    }

    /// Deletes a blob, unless it is gone.
    pub async fn delete_blob(
        &self,
        repository: &'static str,
        bytes: &Bytes,
        algorithm: Algorithm,
    ) -> Result<()> {
        let digest = Digest::of(algorithm, bytes);
        let gone = Algorithm::ALL.map(|algorithm| {
            let thing = Thing::Blob(repository, Digest::of(algorithm, bytes));
            (thing, State::Absent)
        });
        self.ask(gone.to_vec(), async || {
            match self.repository(repository).blobs().delete(&digest).await {
                Err(Error::BlobUnknown(_)) => Ok(()),
                answer => answer,
            }
        })
        .await
    }

    /// Deletes a manifest with the tags that stand for it, unless it is gone.
    pub async fn delete_manifest(
        &self,
        repository: &'static str,
        manifest: &Manifest,
        algorithm: Algorithm,
    ) -> Result<()> {
        let digest = Digest::of(algorithm, manifest.payload());
        let digests = Algorithm::ALL.map(|algorithm| Digest::of(algorithm, manifest.payload()));
        let manifests = digests.map(|digest| Thing::Manifest(repository, digest));
        let tags = self.ledger.tags_of(repository, &digests).into_iter();
        let tags = tags.map(|tag| Thing::Tag(repository, tag));
        let signatures = self.ledger.signatures_of(repository, &digests);
        let gone = manifests.into_iter().chain(tags).chain(signatures);
        let gone = gone.map(|thing| (thing, State::Absent)).collect();
        self.ask(gone, async || {
            match self
                .repository(repository)
                .manifests()
                .delete(&digest)
                .await
            {
                Err(Error::ManifestUnknown(_)) => Ok(()),
                answer => answer.map(drop),
            }
        })
        .await
    }

    /// Deletes a tag, unless it is gone.
    pub async fn delete_tag(&self, repository: &'static str, text: &str) -> Result<()> {
        let gone = vec![(Thing::Tag(repository, tag(text)), State::Absent)];
        self.ask(gone, async || {
            match self.repository(repository).tags().delete(&tag(text)).await {
                Err(Error::ManifestUnknown(_)) => Ok(()),
                answer => answer,
            }
        })
        .await
    }

    /// Collects with nobody else at work.
    pub async fn collect(&self, untagged: bool) -> Result<()> {
        let garbage = self.ledger.garbage(untagged);
        self.ledger.begin(&garbage.may_go);
        let options = CollectOptions {
            delete_untagged: untagged,
            ..CollectOptions::default()
        };
        self.registry.collect(options, |_| {}).await?;
        self.ledger.acknowledge(&garbage.goes);
        Ok(())
    }

    /// Collects by the protocol for others that write, and does `meanwhile` when what goes is
    /// condemned.
    pub async fn collect_beside(
        &self,
        untagged: bool,
        meanwhile: impl AsyncFnOnce() -> Result<()>,
    ) -> Result<()> {
        self.ledger.begin(&self.ledger.garbage(untagged).may_go);
        let options = CollectOptions {
            delete_untagged: untagged,
            serving: Some(Duration::ZERO),
            ..CollectOptions::default()
        };
        let (condemned, is_condemned) = tokio::sync::oneshot::channel::<()>();
        let collecting = async {
            let mut condemned = Some(condemned);
            let told = |step: CollectStep<'_>| {
                if let CollectStep::Waiting { .. } = step {
                    drop(condemned.take());
                }
            };
            let collected = self.registry.collect(options, told).await;
            if collected.is_err() {
                // Who needs what a run removes waits until another one has ended it.
                let _ = self.registry.collect(options, |_| {}).await;
            }
            collected.map(drop)
        };
        let meanwhile = async {
            let _ = is_condemned.await;
            meanwhile().await
        };
        let (collected, done) = futures_util::future::join(collecting, meanwhile).await;
        collected.and(done)
    }

    /// Evicts an image, with the tags that stand for it.
    pub async fn evict(&self, repository: &'static str, image: &Image) -> Result<()> {
        let manifest = Digest::canonical(image.manifest.payload());
        let blobs = [&image.config, &image.layer].map(|bytes| Digest::canonical(bytes));
        let tags = self.ledger.tags_of(repository, &[manifest]).into_iter();
        let tags = tags.map(|tag| Thing::Tag(repository, tag));
        let gone = blobs.map(|digest| Thing::Blob(repository, digest));
        let gone = gone
            .into_iter()
            .chain(tags)
            .chain([Thing::Manifest(repository, manifest)]);
        let gone = gone.map(|thing| (thing, State::Absent)).collect();
        let name = self.repository(repository).name().clone();
        let eviction = Eviction {
            manifests: [(name.clone(), vec![manifest])].into(),
            blobs: [(name, blobs.to_vec())].into(),
        };
        self.ask(gone, async || {
            let evicted = self.registry.evict(&eviction, Duration::ZERO).await;
            evicted.map(drop)
        })
        .await
    }

    /// Asks by HEAD for a blob that is there, and is promised that it stays for a while.
    pub async fn head(&self, repository: &'static str, bytes: &Bytes) -> Result<bool> {
        let blobs = self.repository(repository).blobs();
        match blobs.promise(&Digest::canonical(bytes)).await {
            Err(Error::BlobUnknown(_)) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// Pulls a tag with all that its manifest mentions, and looks through the listings.
    pub async fn pull(&self, repository: &'static str, text: &str) -> Result<()> {
        let from = self.repository(repository);
        self.registry.catalog(None, 100).await?;
        from.tags().list(None, None).await?;
        let digest = from.tags().get(&tag(text)).await?;
        let served = from.manifests().get(&digest).await?;
        assert_eq!(Digest::canonical(&served.bytes), digest);
        from.referrers().list(&digest, None).await?;
        let manifest = Manifest::parse(Some(&served.descriptor.media_type), served.bytes);
        for reference in manifest?.references() {
            let bytes = read(&from, &reference.digest).await?;
            assert_eq!(Digest::canonical(&bytes), reference.digest);
        }
        Ok(())
    }

    /// Goes on with all uploads that have received something, and ends them in blobs.
    pub async fn finish_uploads(&self) -> Result<()> {
        for (repository, id, sent) in self.ledger.open_uploads() {
            let upload = upload_of(repository, &id);
            let was_empty = self.ledger.of(&upload).contains(&State::Opened);
            match self.finish(repository, &id, &sent, Algorithm::Sha256).await {
                // The machine may tear bytes that were not acknowledged; a client opens another.
                Err(Error::DigestMismatch { .. }) if was_empty => {
                    self.ledger.acknowledge(&[(upload, State::Absent)]);
                }
                answer => answer?,
            }
        }
        Ok(())
    }
}

/// A blob that is pushed under a digest of an algorithm can be had under the canonical one too.
fn blob(repository: &'static str, bytes: &Bytes, algorithm: Algorithm) -> Vec<Change> {
    let digests = [Digest::of(algorithm, bytes), Digest::canonical(bytes)];
    let changes = digests.map(|digest| {
        let thing = Thing::Blob(repository, digest);
        (thing, State::Bytes(bytes.clone()))
    });
    changes.to_vec()
}

fn upload_of(repository: &'static str, id: &UploadId) -> Thing {
    Thing::Upload(repository, id.to_string())
}

/// An image with a config and a layer.
#[derive(Clone, Debug)]
pub struct Image {
    pub config: Bytes,
    pub layer: Bytes,
    pub manifest: Manifest,
}
