//! Another registry, as where images come from.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream;
use quick_cache::sync::Cache;
use wharfinger_oci::manifest::{Manifest, Referenced, Role};
use wharfinger_oci::{Digest, Reference, RepositoryName, Tag};
use wharfinger_registry::Registry;
use wharfinger_remote::{BlobStream, Upstream, UpstreamError};

use super::{Patience, fault};
use crate::copy::digest_tag;
use crate::endpoint::Source;
use crate::naming::Naming;
use crate::pieces::Pieces;
use crate::store::StoreSource;
use crate::{Choice, Error, Fault, Result};

/// How many manifests are kept: the engine asks for one twice.
const MANIFESTS: usize = 200;

/// Another registry to read from.
#[derive(Debug)]
pub(crate) struct RemoteSource<'a> {
    upstream: Arc<Upstream>,
    patience: Arc<Patience>,
    choice: &'a Choice,
    /// Where manifests need not be fetched from that are there.
    kept: Option<(&'a Registry, &'a Naming)>,
    manifests: Cache<Digest, Manifest>,
    /// The sizes of blobs that manifests tell.
    sizes: Mutex<HashMap<Digest, u64>>,
    /// Whether it lists referrers only under tags.
    lists_none: AtomicBool,
}

impl<'a> RemoteSource<'a> {
    /// A registry of which something is chosen. `kept` has some of it already, by what it is called
    /// there.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        choice: &'a Choice,
        kept: Option<(&'a Registry, &'a Naming)>,
    ) -> Self {
        Self {
            upstream,
            patience: Arc::default(),
            choice,
            kept,
            manifests: Cache::new(MANIFESTS),
            sizes: Mutex::default(),
            lists_none: AtomicBool::new(false),
        }
    }

    fn sizes(&self) -> MutexGuard<'_, HashMap<Digest, u64>> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn kept(&self, name: &RepositoryName, digest: &Digest) -> Option<Manifest> {
        let (registry, naming) = self.kept?;
        let name = naming.apply(name).ok()?;
        // What is damaged there is fetched again.
        let kept = StoreSource(registry).manifest(&name, digest, None).await;
        kept.ok().flatten()
    }

    async fn fetch(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Option<(Manifest, Digest)>, Fault> {
        let place = match reference {
            Reference::Tag(tag) => format!("{name}:{tag}"),
            Reference::Digest(digest) => format!("{name}@{digest}"),
        };
        let fetched = self
            .patience
            .ask(|| self.upstream.manifest(name, reference))
            .await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) if error.is_unknown() => return Ok(None),
            Err(error) => return Err(fault(&error, place)),
        };
        let media_type = fetched.media_type.as_deref().map(essence);
        let manifest = Manifest::parse(media_type, fetched.bytes);
        let manifest = manifest.map_err(|error| Fault::Invalid {
            digest: fetched.digest,
            reason: error.to_string(),
        })?;
        Ok(Some((manifest, fetched.digest)))
    }

    /// The referrers that are listed under a tag.
    async fn listed_by_tag(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Digest>, Fault> {
        let Ok(tag) = digest_tag(subject).parse() else {
            return Ok(Vec::new());
        };
        let index = self.fetch(name, &Reference::Tag(tag)).await?;
        Ok(index.map_or_else(Vec::new, |(index, _)| {
            let listed = index.references().into_iter();
            let manifests = listed.filter(|one| one.role == Role::Manifest);
            manifests.map(|one| one.digest).collect()
        }))
    }
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

impl Source for RemoteSource<'_> {
    async fn repositories(&self) -> Result<Vec<RepositoryName>> {
        let (mut names, others) = self.choice.names();
        if others {
            let catalog = self.patience.ask(|| self.upstream.catalog()).await;
            names.extend(catalog.map_err(Error::Upstream)?);
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Fault> {
        let listed = self
            .patience
            .ask(|| self.upstream.tags(name, None, None))
            .await;
        let mut tags = listed.map_err(|error| fault(&error, name))?.tags;
        tags.sort_unstable();
        tags.dedup();
        Ok(tags)
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Fault> {
        let tagged = self.patience.ask(|| self.upstream.tagged(name, tag)).await;
        tagged.map_err(|error| fault(&error, format!("{name}:{tag}")))
    }

    async fn revisions(&self, _name: &RepositoryName) -> Result<Vec<Digest>, Fault> {
        // No registry tells.
        Ok(Vec::new())
    }

    async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
    ) -> Result<Vec<Digest>, Fault> {
        if !self.lists_none.load(Relaxed) {
            let listed = self
                .patience
                .ask(|| self.upstream.referrers(name, subject, None))
                .await;
            match listed {
                Ok(listed) => return Ok(listed.into_iter().map(|one| one.digest).collect()),
                // Who lists them has a list for whatever it is asked for.
                Err(error) if knows_no_referrers(&error) => self.lists_none.store(true, Relaxed),
                Err(error) => return Err(fault(&error, format!("{name}@{subject}"))),
            }
        }
        self.listed_by_tag(name, subject).await
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        _media_type: Option<&str>,
    ) -> Result<Option<Manifest>, Fault> {
        if let Some(manifest) = self.manifests.get(digest) {
            return Ok(Some(manifest));
        }
        let manifest = match self.kept(name, digest).await {
            Some(kept) => kept,
            None => match self.fetch(name, &Reference::Digest(*digest)).await? {
                Some((manifest, _)) => manifest,
                None => return Ok(None),
            },
        };
        let references = manifest.references().into_iter();
        let blobs = references.filter(|one| matches!(one.role, Role::Config | Role::Layer));
        self.sizes()
            .extend(blobs.filter_map(|one| Some((one.digest, one.size?))));
        self.manifests.insert(*digest, manifest.clone());
        Ok(Some(manifest))
    }

    async fn size(&self, name: &RepositoryName, digest: &Digest) -> Result<Option<u64>, Fault> {
        let known = self.sizes().get(digest).copied();
        if let Some(size) = known {
            return Ok(Some(size));
        }
        let size = self
            .patience
            .ask(|| self.upstream.blob_size(name, digest))
            .await;
        match size {
            Ok(Some(size)) => Ok(Some(size)),
            Ok(None) => Err(Fault::Unreadable {
                place: self.place(digest),
                reason: "the registry does not say how long it is".to_owned(),
            }),
            Err(error) if error.is_unknown() => Ok(None),
            Err(error) => Err(fault(&error, self.place(digest))),
        }
    }

    async fn open(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        size: u64,
    ) -> Result<Option<Pieces>, Fault> {
        // It is asked for when somebody reads.
        let reading = Reading {
            upstream: Arc::clone(&self.upstream),
            patience: Arc::clone(&self.patience),
            name: name.clone(),
            digest: *digest,
            size,
            at: 0,
            coming: None,
            failures: 0,
        };
        Ok(Some(Box::pin(stream::try_unfold(
            reading,
            async |mut reading: Reading| {
                let piece = reading.next().await?;
                Ok(piece.map(|piece| (piece, reading)))
            },
        ))))
    }

    fn place(&self, digest: &Digest) -> String {
        format!("{}, {digest}", self.upstream.name())
    }

    fn requires(&self, _name: &RepositoryName, reference: &Referenced<'_>) -> bool {
        reference.role != Role::ForeignLayer
    }
}

/// Whether an answer is that of a registry without lists of referrers.
fn knows_no_referrers(error: &UpstreamError) -> bool {
    let UpstreamError::Refused { refusal, .. } = error else {
        return false;
    };
    matches!(refusal.status.as_u16(), 400 | 404 | 405 | 501)
}

/// A blob that is read, and asked for again where it breaks off.
struct Reading {
    upstream: Arc<Upstream>,
    patience: Arc<Patience>,
    name: RepositoryName,
    digest: Digest,
    size: u64,
    at: u64,
    coming: Option<BlobStream>,
    /// How often it broke off since the last byte came.
    failures: u32,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<bytes::Bytes>, Fault> {
        while self.at < self.size {
            let mut coming = match self.coming.take() {
                Some(coming) => coming,
                None => self.ask().await?,
            };
            let error = match coming.next().await {
                Ok(Some(mut piece)) => {
                    let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX);
                    // What comes behind it does not belong to it.
                    piece.truncate(left);
                    self.at += piece.len() as u64;
                    self.failures = 0;
                    self.coming = Some(coming);
                    return Ok(Some(piece));
                }
                Ok(None) => UpstreamError::Unreachable {
                    upstream: self.upstream.name().to_owned(),
                    reason: format!("it breaks off after {} of {} bytes", self.at, self.size),
                },
                Err(error) => error,
            };
            self.failures += 1;
            // The first time, nothing but a connection may be broken.
            if self.failures > 1 {
                let waited = self.patience.wait(self.failures - 1, error).await;
                waited.map_err(|error| fault(&error, self.digest))?;
            }
        }
        Ok(None)
    }

    /// Asks for what has not come yet.
    async fn ask(&self) -> Result<BlobStream, Fault> {
        let asked = self
            .patience
            .ask(|| self.upstream.blob(&self.name, &self.digest, self.at))
            .await;
        let coming = asked.map_err(|error| match error.is_unknown() {
            true => Fault::Missing(self.digest),
            false => fault(&error, self.digest),
        })?;
        match coming.size() {
            Some(actual) if actual != self.size => Err(Fault::Length {
                place: format!("{}, {}", self.upstream.name(), self.digest),
                expected: self.size,
                actual,
            }),
            _ => Ok(coming),
        }
    }
}
