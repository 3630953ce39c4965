//! The registry and its repositories: what hands out the services.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use wharfinger_oci::manifest::Referenced;
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_storage::{Driver, spawn_errand};

use crate::blob::BlobStore;
use crate::content_cache::{ContentCache, SmallContent};
use crate::descriptor_cache::DescriptorCache;
use crate::gc::{Progress, Views};
use crate::link::{LinkSet, LinkedBlobs};
use crate::lock::KeyedLocks;
use crate::metrics::{Lookups, UploadCounts};
use crate::read_only::{Gate, HeldClaim, Writing};
use crate::signature::SchemaOneKey;
use crate::upload::EndedUploads;
use crate::verify::{Suspects, VerifyCounts, suspect};
use crate::{
    Blobs, Error, Manifests, Options, Referrers, Result, Signatures, Tags, UploadId, layout,
};

/// What all services of a registry share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) driver: Arc<dyn Driver>,
    /// What an operator decides, which may change while the registry is in use.
    pub(crate) options: ArcSwap<Options>,
    pub(crate) blobs: BlobStore,
    pub(crate) descriptors: Option<DescriptorCache>,
    pub(crate) descriptor_lookups: Lookups,
    /// Held by repository: shared while something is pushed, exclusively while something is
    /// deleted, so that a push never relies on what a deletion is taking away.
    pub(crate) repositories: KeyedLocks<RepositoryName>,
    /// Held exclusively while a blob or a link of this digest is written but may not yet be
    /// durable: nobody else may build on it before it is.
    pub(crate) publishing: KeyedLocks<Digest>,
    /// Held by upload: one request at a time works on it.
    pub(crate) uploads: KeyedLocks<UploadId>,
    pub(crate) ended_uploads: EndedUploads,
    pub(crate) uploads_counted: UploadCounts,
    /// What this node knows of collections.
    pub(crate) views: Views,
    /// Held by whoever collects in this process.
    pub(crate) collecting: Arc<Mutex<()>>,
    pub(crate) progress: Progress,
    /// What was found damaged while it was served.
    pub(crate) suspects: Suspects,
    pub(crate) verified: VerifyCounts,
    pub(crate) schema1_key: SchemaOneKey,
    pub(crate) gate: Arc<Gate>,
    pub(crate) claimed: HeldClaim,
}

impl Shared {
    /// To be held by whatever writes until it has ended.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] in read-only mode.
    pub(crate) fn writing(&self) -> Result<Writing> {
        self.gate.enter()
    }

    /// A small blob whole, for whoever asked for it. One that is damaged is put aside.
    pub(crate) async fn content(self: &Arc<Self>, canonical: &Digest) -> Result<SmallContent> {
        let content = self.blobs.get(canonical).await;
        if let Err(Error::Damaged { .. }) = &content {
            suspect(self, canonical);
        }
        content
    }

    /// To be held by a deletion until it has ended.
    ///
    /// # Errors
    /// [`Error::ReadOnly`] in read-only mode, [`Error::Unsupported`] where deletion is off.
    pub(crate) fn deleting(&self) -> Result<Writing> {
        if !self.options.load().delete {
            return Err(Error::Unsupported("deletion"));
        }
        self.writing()
    }
}

/// One part of a longer listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Whether more follow.
    pub more: bool,
}

/// The state of a registry, as it is held: by way of who counts its holders ([`Registry::apart`]).
pub(crate) type SharedRef = Arc<Arc<Shared>>;

/// A registry over a storage driver. Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) shared: SharedRef,
}

impl Registry {
    /// A registry that keeps everything in `driver`.
    ///
    /// # Errors
    /// When the key of [`Options::schema1_key`] cannot be read.
    pub fn new(driver: Arc<dyn Driver>, options: Options) -> Result<Self> {
        let schema1_key = SchemaOneKey::load(options.schema1_key.as_deref())?;
        let content = ContentCache::new(options.content_cache);
        let descriptors = match options.descriptor_cache {
            0 => None,
            capacity => Some(DescriptorCache::new(
                capacity,
                options.descriptor_life,
                options.shared_descriptors.clone(),
            )),
        };
        let gate = Arc::new(Gate::new(options.read_only));
        let lease = options.collection_lease;
        let shared = Shared {
            blobs: BlobStore::new(Arc::clone(&driver), content),
            driver,
            options: ArcSwap::from_pointee(options),
            descriptors,
            descriptor_lookups: Lookups::default(),
            repositories: KeyedLocks::default(),
            publishing: KeyedLocks::default(),
            uploads: KeyedLocks::default(),
            ended_uploads: EndedUploads::default(),
            uploads_counted: UploadCounts::default(),
            views: Views::new(lease),
            collecting: Arc::default(),
            progress: Progress::default(),
            suspects: Suspects::default(),
            verified: VerifyCounts::default(),
            schema1_key,
            gate,
            claimed: HeldClaim::default(),
        };
        Ok(Self {
            shared: Arc::new(Arc::new(shared)),
        })
    }

    /// The same registry, for one of those who ask a lot of it at once, such as one connection.
    /// Clones of what this returns, and all that is made of it, are counted apart from others, so that
    /// the processors that work on them do not wait for each other.
    pub fn apart(&self) -> Self {
        Self {
            shared: Arc::new(Arc::clone(&self.shared)),
        }
    }

    /// The repository with this name. It need not exist: pushing to it makes it.
    pub fn repository(&self, name: &RepositoryName) -> Repository {
        Repository {
            shared: Arc::clone(&self.shared),
            name: name.clone(),
        }
    }

    /// Begins a request that writes, which runs to its end whether anybody waits for it or not, and
    /// on a thread of its own where that spares the store's calls their way to one. What it waits
    /// for besides, such as bytes of a slow client, keeps that thread too.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn spawn<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        spawn_errand(&*self.shared.driver, request)
    }

    /// Takes over what may change while a registry is in use: whether deletion, redirects and
    /// pushing schema 1 are on, the tags read at once, and the validation. What is under way goes
    /// on under the options that it began with. The other options stay as they were.
    pub fn set_options(&self, options: Options) {
        self.shared.options.store(Arc::new(options));
    }

    /// Whether a repository takes a manifest only where there is what it refers to so.
    pub fn requires(&self, name: &RepositoryName, reference: &Referenced<'_>) -> bool {
        let options = self.shared.options.load();
        options.validation.requires(name, reference)
    }

    /// Whether the store can be reached.
    ///
    /// # Errors
    /// What the store answers, but for "there is nothing yet".
    pub async fn check(&self) -> Result<()> {
        match self.shared.driver.stat(&layout::repositories()).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// One repository of a registry: hands out its services, which are cheap to make.
#[derive(Clone, Debug)]
pub struct Repository {
    pub(crate) shared: SharedRef,
    pub(crate) name: RepositoryName,
}

impl Repository {
    /// The repository's name.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }

    /// Its blobs: layers, configs, and whatever else is no manifest.
    pub fn blobs(&self) -> Blobs {
        Blobs::new(self.links(LinkSet::Layers))
    }

    /// Its manifests.
    pub fn manifests(&self) -> Manifests {
        Manifests::new(self.clone())
    }

    /// Its tags.
    pub fn tags(&self) -> Tags {
        Tags::new(self.clone())
    }

    /// The manifests that refer to others as their subject.
    pub fn referrers(&self) -> Referrers {
        Referrers::new(self.clone())
    }

    /// The signatures of its schema 1 manifests.
    pub fn signatures(&self) -> Signatures {
        Signatures::new(self.clone())
    }

    /// Whether anything has ever been pushed to the repository.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exists(&self) -> Result<bool> {
        let layers = layout::layers(&self.name, wharfinger_oci::Algorithm::CANONICAL);
        for path in [layout::manifests(&self.name), layers] {
            match self.shared.driver.stat(&path).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    pub(crate) fn links(&self, set: LinkSet) -> LinkedBlobs {
        LinkedBlobs::new(Arc::clone(&self.shared), self.name.clone(), set)
    }
}
