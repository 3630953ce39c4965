//! The pull-through cache: an upstream's repositories, kept in the registry as they are pulled.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use quick_cache::sync::Cache as Memory;
use tokio::sync::Semaphore;
use tracing::{Instrument as _, warn};
use wharfinger_oci::{Descriptor, Digest, RepositoryName, Tag, media_type};
use wharfinger_registry::{Content, Error as RegistryError, Note, Registry, Repository, Served};
use wharfinger_remote::Upstream;

use crate::download::{Download, Failure};
use crate::flights::Flights;
use crate::metrics::{Kind, Metrics};
use crate::{Result, Uses};

mod listing;
mod manifest;

/// Of how many tags it is remembered when they were confirmed.
const TAGS: usize = 10_000;

/// How a cache behaves.
#[derive(Clone, Debug)]
pub struct CacheOptions {
    /// Below which name what is kept has its place, with the upstream's own names behind it; where
    /// there is none, repositories are called as they are there.
    pub below: Option<RepositoryName>,
    /// How long a tag is served without asking whether it still stands for the same.
    pub tag_ttl: Duration,
    /// How long a client waits to hear whether what is kept of a tag is still right.
    pub patience: Duration,
    /// How long storing a blob may go on when it has been downloaded.
    pub store_timeout: Duration,
    /// How many blobs are downloaded at once; more wait.
    pub downloads: usize,
    /// A folder of a filesystem with room for what is on its way.
    pub spool: PathBuf,
    /// Where it is noted what is used when, where that decides what stays.
    pub uses: Option<Uses>,
}

/// What is served, and whether it could not be confirmed that the upstream still has it so.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// The content.
    pub content: T,
    /// Whether it is served because the upstream does not tell.
    pub stale: bool,
}

impl<T> Answer<T> {
    /// What is as it should be.
    pub fn fresh(content: T) -> Self {
        Self {
            content,
            stale: false,
        }
    }

    fn stale(content: T) -> Self {
        Self {
            content,
            stale: true,
        }
    }
}

/// A cache of one upstream. Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
}

#[derive(derive_more::Debug)]
struct Shared {
    registry: Registry,
    upstream: Upstream,
    metrics: Metrics,
    stale: Counter,
    options: CacheOptions,
    #[debug(skip)]
    confirmed: Memory<(RepositoryName, Tag), Instant>,
    /// When whole lists came.
    #[debug(skip)]
    listed: Memory<(RepositoryName, Note), Instant>,
    manifests: Flights<(RepositoryName, String), Result<Served, Failure>>,
    downloads: Mutex<Downloads>,
    /// One for each download that may be under way; those that wait get theirs in order.
    slots: Semaphore,
}

/// What is on its way, by what it is about. It is not shared between repositories: the upstream
/// decides for each of them who may have what.
type Downloads = HashMap<(RepositoryName, Digest), Arc<Download>>;

impl Cache {
    /// A cache that keeps in `registry` what `upstream` has.
    pub fn new(
        registry: Registry,
        upstream: Upstream,
        metrics: Metrics,
        options: CacheOptions,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                stale: metrics.stale(&upstream),
                registry,
                upstream,
                metrics,
                slots: Semaphore::new(options.downloads.max(1)),
                options,
                confirmed: Memory::new(TAGS),
                listed: Memory::new(TAGS),
                manifests: Flights::default(),
                downloads: Mutex::default(),
            }),
        }
    }

    /// The upstream's host.
    pub fn upstream(&self) -> &str {
        self.shared.upstream.name()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The upstream's repository that is kept under this name. It need not exist.
    pub fn repository(&self, name: &RepositoryName) -> CachedRepository {
        let below = self.shared.options.below.as_ref();
        let there = below.and_then(|below| name.below(below)?.parse().ok());
        CachedRepository {
            shared: Arc::clone(&self.shared),
            there: there.unwrap_or_else(|| name.clone()),
            name: name.clone(),
        }
    }
}

/// One repository of an upstream.
#[derive(Clone, Debug)]
pub struct CachedRepository {
    shared: Arc<Shared>,
    /// What it is called here.
    name: RepositoryName,
    /// What the upstream calls it.
    there: RepositoryName,
}

/// A blob that can be read.
#[derive(Debug)]
pub struct CachedBlob {
    descriptor: Descriptor,
    /// `None` for one that is kept.
    download: Option<Arc<Download>>,
    repository: Repository,
}

impl CachedBlob {
    /// Its descriptor, with the digest that was asked for.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// Where the store itself serves it, when it can, and has it.
    ///
    /// # Errors
    /// As those of [`wharfinger_registry::Blobs::redirect`].
    pub async fn redirect(
        &self,
        method: &str,
        client: Option<IpAddr>,
    ) -> Result<Option<String>, RegistryError> {
        if self.download.is_some() {
            return Ok(None);
        }
        let blobs = self.repository.blobs();
        blobs.redirect(&self.descriptor, method, client).await
    }

    /// A part of it, which must lie within its size. Of one that is still being downloaded, the
    /// bytes come as they arrive; the last one, when all of them have the right digest.
    ///
    /// # Errors
    /// As those of [`wharfinger_registry::Blobs::open`].
    pub async fn open(&self, part: Range<u64>) -> Result<Content, RegistryError> {
        match &self.download {
            None => self.repository.blobs().open(&self.descriptor, part).await,
            Some(download) => Ok(Content::Stream {
                length: part.end - part.start,
                reader: download.reader(part),
            }),
        }
    }
}

impl CachedRepository {
    /// Below which name it lies, with all others of its upstream; `None` where they are called as
    /// they are there.
    pub fn below(&self) -> Option<&RepositoryName> {
        self.shared.options.below.as_ref()
    }

    fn local(&self) -> Repository {
        self.shared.registry.repository(&self.name)
    }

    /// What is used stays for longer.
    fn is_used(&self, digest: &Digest) {
        if let Some(uses) = &self.shared.options.uses {
            uses.note(&self.name, digest);
        }
    }

    /// So many bytes are kept from now on.
    fn keeps(&self, bytes: u64) {
        if let Some(uses) = &self.shared.options.uses {
            uses.keeps(bytes);
        }
    }

    /// The size of a blob, which is asked of the upstream where it is not kept.
    ///
    /// # Errors
    /// When neither has it.
    pub async fn stat(&self, digest: &Digest) -> Result<Descriptor> {
        self.is_used(digest);
        match self.local().blobs().stat(digest).await {
            Err(RegistryError::BlobUnknown(_)) => {
                let upstream = &self.shared.upstream;
                let size = match upstream.blob_size(&self.there, digest).await? {
                    Some(size) => size,
                    // It is known when all has come.
                    None => self.download(digest).size().await?,
                };
                Ok(descriptor(digest, size))
            }
            known => Ok(known?),
        }
    }

    /// A blob, which is downloaded where it is not kept: together with all who want it now, and to
    /// its end, whoever leaves.
    ///
    /// # Errors
    /// When neither has it.
    pub async fn blob(&self, digest: &Digest) -> Result<CachedBlob> {
        self.is_used(digest);
        let local = self.local();
        let metrics = &self.shared.metrics;
        let (descriptor, download) = match local.blobs().stat(digest).await {
            Err(RegistryError::BlobUnknown(_)) => {
                let download = self.download(digest);
                let size = download.size().await?;
                (descriptor(digest, size), Some(download))
            }
            known => (known?, None),
        };
        let upstream = &self.shared.upstream;
        metrics.served(upstream, Kind::Blob, descriptor.size, download.is_none());
        Ok(CachedBlob {
            descriptor,
            download,
            repository: local,
        })
    }

    /// The download that is under way, or else one that begins now.
    fn download(&self, digest: &Digest) -> Arc<Download> {
        let key = (self.name.clone(), *digest);
        let mut downloads = self.shared.downloads();
        // One that failed may still be cleaned up after.
        if let Some(download) = downloads.get(&key)
            && !download.has_failed()
        {
            return Arc::clone(download);
        }
        let download = Arc::new(Download::new(*digest));
        downloads.insert(key.clone(), Arc::clone(&download));
        let under_way = UnderWay {
            shared: Arc::clone(&self.shared),
            key,
            download: Arc::clone(&download),
        };
        let (repository, coming) = (self.clone(), Arc::clone(&download));
        let work = async move {
            let _under_way = under_way;
            let shared = &repository.shared;
            let run = async {
                let _slot = shared.slots.acquire().await;
                let (upstream, spool) = (&shared.upstream, &shared.options.spool);
                if coming.run(upstream, &repository.there, spool).await {
                    let size = coming.size().await.unwrap_or_default();
                    shared.metrics.pulled(Kind::Blob, size);
                }
            };
            tokio::join!(run, repository.keep(&coming));
        };
        tokio::spawn(work.in_current_span());
        download
    }

    /// Stores a blob while it comes. What fails costs the next client another download.
    async fn keep(&self, download: &Arc<Download>) {
        let Ok(size) = download.size().await else {
            return; // those who wait are told why
        };
        let digest = download.digest();
        let mut upload = match self.local().blobs().create(digest.algorithm()) {
            Ok(upload) => upload,
            Err(error) => return self.not_kept(digest, &error),
        };
        let stored = async {
            let body = download.reader(0..size);
            match upload.append(body).await {
                Ok(()) => upload.commit(digest).await.map(drop),
                Err(error) => {
                    if let Err(error) = upload.cancel().await {
                        warn!(%digest, %error, "what came of a download cannot be removed yet");
                    }
                    Err(error)
                }
            }
        };
        let late = async {
            let _ = download.ended().await;
            tokio::time::sleep(self.shared.options.store_timeout).await;
        };
        tokio::select! {
            stored = stored => match stored {
                Ok(()) => self.keeps(size),
                Err(error) => self.not_kept(digest, &error),
            },
            () = late => warn!(
                repository = %self.name, %digest,
                "a downloaded blob is not kept: the store took longer than proxy.cachewritetimeout"
            ),
        }
    }

    fn not_kept(&self, digest: &Digest, error: &RegistryError) {
        warn!(repository = %self.name, %digest, %error, "what was downloaded is not kept");
    }
}

impl Shared {
    fn downloads(&self) -> MutexGuard<'_, Downloads> {
        self.downloads
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What is served because the upstream does not tell, counted as such.
    fn stale<T>(&self, content: T) -> Answer<T> {
        self.stale.inc();
        Answer::stale(content)
    }
}

/// Takes a download off the list when it has ended and is stored, or never will be.
struct UnderWay {
    shared: Arc<Shared>,
    key: (RepositoryName, Digest),
    download: Arc<Download>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut downloads = self.shared.downloads();
        let listed = downloads.get(&self.key);
        if listed.is_some_and(|listed| Arc::ptr_eq(listed, &self.download)) {
            downloads.remove(&self.key);
        }
    }
}

fn descriptor(digest: &Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type::OCTET_STREAM.into(),
        digest: *digest,
        size,
    }
}
