//! Another registry, as where images go.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde_json::{Value, json};
use wharfinger_oci::manifest::{Manifest, Referenced, Role};
use wharfinger_oci::{Digest, Hasher, Reference, RepositoryName, Tag, media_type};
use wharfinger_remote::{Mounted, RemoteUpload, Upstream, UpstreamError};

use super::Patience;
use crate::Fault;
use crate::copy::digest_tag;
use crate::endpoint::{Blob, Mirror, Place, Target};
use crate::error::Problem;

/// How many bytes are sent at once, and kept until they have come.
const CHUNK: usize = 8 << 20;

/// How often an upload is taken up again that gets no further.
const RESUMES: u32 = 5;

/// Another registry to push to.
#[derive(Debug)]
pub(crate) struct RemoteTarget {
    upstream: Arc<Upstream>,
    patience: Patience,
    known: Mutex<Known>,
    /// Held while a list of referrers is written that the registry does not write itself.
    listing: tokio::sync::Mutex<()>,
}

/// What the registry has, as far as was seen.
#[derive(Debug, Default)]
struct Known {
    /// A repository that has a blob.
    blobs: HashMap<Digest, RepositoryName>,
    manifests: HashSet<(RepositoryName, Digest)>,
    /// Uploads that began where a blob was to be had from another repository.
    begun: HashMap<(RepositoryName, Digest), RemoteUpload>,
}

impl RemoteTarget {
    pub(crate) fn new(upstream: Arc<Upstream>) -> Self {
        Self {
            upstream,
            patience: Patience::default(),
            known: Mutex::default(),
            listing: tokio::sync::Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a blob, which is taken up again where it breaks off. Gives the digest of what was sent
    /// when that is another one.
    async fn send(&self, name: &RepositoryName, blob: Blob<'_>) -> Result<Option<Digest>, Problem> {
        let digest = blob.digest;
        let begun = self.known().begun.remove(&(name.clone(), digest));
        let mut upload = match begun {
            Some(upload) => upload,
            None => {
                let begun = self.patience.ask(|| self.upstream.begin_upload(name));
                begun.await.map_err(problem)?
            }
        };
        let smallest = usize::try_from(upload.smallest_chunk).unwrap_or(CHUNK);
        let size = CHUNK.max(smallest);
        let mut hasher = Hasher::new(digest.algorithm());
        let mut pieces = blob.pieces;
        let mut chunk = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            hasher.update(&piece);
            chunk.extend_from_slice(&piece);
            if chunk.len() > size {
                let sent = chunk.split_to(size).freeze();
                let length = sent.len() as u64;
                self.append(name, &mut upload, sent).await?;
                (blob.told)(length);
            }
        }
        let actual = hasher.finish();
        if actual != digest {
            return Ok(Some(actual));
        }
        let length = chunk.len() as u64;
        self.finish(name, upload, &digest, chunk.freeze()).await?;
        (blob.told)(length);
        Ok(None)
    }

    /// Appends bytes: what of them has not come when the connection breaks is sent again.
    async fn append(
        &self,
        name: &RepositoryName,
        upload: &mut RemoteUpload,
        bytes: Bytes,
    ) -> Result<(), Problem> {
        let start = upload.offset;
        let end = start + bytes.len() as u64;
        let mut failures = 0;
        while upload.offset < end {
            let done = usize::try_from(upload.offset - start).unwrap_or(bytes.len());
            let rest = bytes.slice(done..);
            match self.upstream.append(name, upload, rest).await {
                Ok(()) => {}
                Err(error) => {
                    self.resume(name, upload, &mut failures, error).await?;
                    if !(start..=end).contains(&upload.offset) {
                        return Err(lost(upload.offset));
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends the last bytes, and has the blob.
    async fn finish(
        &self,
        name: &RepositoryName,
        mut upload: RemoteUpload,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), Problem> {
        let start = upload.offset;
        let mut rest = bytes.clone();
        let mut failures = 0;
        loop {
            let finish = self.upstream.finish_upload(name, &upload, digest, rest);
            let Err(error) = finish.await else {
                return Ok(());
            };
            if !error.is_outage() {
                return Err(problem(error));
            }
            // The answer alone may have been lost.
            let has = self.patience.ask(|| self.upstream.has_blob(name, digest));
            if has.await.map_err(problem)? {
                return Ok(());
            }
            self.resume(name, &mut upload, &mut failures, error).await?;
            let end = start + bytes.len() as u64;
            if !(start..=end).contains(&upload.offset) {
                return Err(lost(upload.offset));
            }
            let done = usize::try_from(upload.offset - start).unwrap_or(bytes.len());
            rest = bytes.slice(done..);
        }
    }

    /// Finds out where an upload is that broke off.
    async fn resume(
        &self,
        name: &RepositoryName,
        upload: &mut RemoteUpload,
        failures: &mut u32,
        error: UpstreamError,
    ) -> Result<(), Problem> {
        *failures += 1;
        if !error.is_outage() || *failures > RESUMES {
            return Err(problem(error));
        }
        let waited = self.patience.wait(*failures, error).await;
        waited.map_err(problem)?;
        let mut found = upload.clone();
        let mut attempts = 0;
        while let Err(error) = self.upstream.find_offset(name, &mut found).await {
            attempts += 1;
            match error.is_outage() {
                true => self.patience.wait(attempts, error).await.map_err(problem)?,
                false => return Err(passing(&error)),
            }
        }
        *upload = found;
        Ok(())
    }

    /// Notes a manifest among the referrers of its subject, under a tag (OCI distribution
    /// specification, "Referrers Tag Schema").
    async fn note_referrer(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        digest: &Digest,
        subject: &Digest,
    ) -> Result<(), Problem> {
        let Ok(tag) = digest_tag(subject).parse::<Tag>() else {
            return Ok(());
        };
        let _listing = self.listing.lock().await;
        let reference = Reference::Tag(tag);
        let read = self
            .patience
            .ask(|| self.upstream.manifest(name, &reference))
            .await;
        let mut index = match read {
            Ok(read) => serde_json::from_slice(&read.bytes).unwrap_or(Value::Null),
            Err(error) if error.is_unknown() => Value::Null,
            Err(error) => return Err(problem(error)),
        };
        if !index["manifests"].is_array() {
            index = json!({
                "schemaVersion": 2, "mediaType": media_type::OCI_IMAGE_INDEX, "manifests": [],
            });
        }
        let Some(listed) = index["manifests"].as_array_mut() else {
            return Ok(());
        };
        let text = digest.to_string();
        if listed.iter().any(|one| one["digest"] == text.as_str()) {
            return Ok(());
        }
        let mut descriptor = json!({
            "mediaType": manifest.media_type(), "digest": text, "size": manifest.bytes().len(),
        });
        if let Some(artifact_type) = manifest.artifact_type() {
            descriptor["artifactType"] = json!(artifact_type);
        }
        if let Some(annotations) = manifest.annotations() {
            descriptor["annotations"] = json!(annotations);
        }
        listed.push(descriptor);
        let bytes = Bytes::from(index.to_string());
        let digest = Digest::canonical(&bytes);
        let put = self.patience.ask(|| {
            let media_type = media_type::OCI_IMAGE_INDEX;
            let bytes = bytes.clone();
            self.upstream
                .push_manifest(name, &reference, &digest, media_type, bytes)
        });
        put.await.map_err(problem).map(|_| ())
    }
}

impl Target for RemoteTarget {
    async fn has(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        _size: Option<u64>,
    ) -> Result<bool, Problem> {
        let known = self.known().blobs.get(digest).cloned();
        if known.as_ref() == Some(name) || self.holds(name, digest).await? {
            return Ok(true);
        }
        let Some(from) = known else {
            return Ok(false);
        };
        match self.upstream.mount(name, digest, &from).await {
            Ok(Mounted::Done) => Ok(true),
            Ok(Mounted::Not(upload)) => {
                self.known().begun.insert((name.clone(), *digest), upload);
                Ok(false)
            }
            // It can be pushed all the same.
            Err(_) => Ok(false),
        }
    }

    async fn has_manifest(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Problem> {
        let has = self
            .patience
            .ask(|| self.upstream.has_manifest(name, digest))
            .await;
        has.map_err(problem)
    }

    /// A registry takes only images whose blobs it has; indexes may be sparse.
    async fn is_whole(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
    ) -> Result<bool, Problem> {
        let references = manifest.references();
        let is_index = references.iter().any(|one| one.role == Role::Manifest);
        if is_index || !self.has_manifest(name, digest).await? {
            return Ok(false);
        }
        self.known().manifests.insert((name.clone(), *digest));
        Ok(true)
    }

    async fn blob(&self, name: &RepositoryName, blob: Blob<'_>) -> Result<(), Problem> {
        let (expected, place) = (blob.digest, blob.place.clone());
        match self.send(name, blob).await? {
            None => {
                self.known().blobs.insert(expected, name.clone());
                Ok(())
            }
            Some(actual) => Err(Problem::Fault(Fault::Digest {
                place,
                expected,
                actual,
            })),
        }
    }

    async fn manifest(
        &self,
        name: &RepositoryName,
        manifest: &Manifest,
        digest: &Digest,
        place: Place<'_>,
    ) -> Result<(), Problem> {
        let tag = match place {
            Place::Top(tag) => tag,
            Place::Nested => None,
        };
        let is_there = match tag {
            Some(tag) => self.tagged(name, tag).await? == Some(*digest),
            None => {
                let key = (name.clone(), *digest);
                let is_known = self.known().manifests.contains(&key);
                is_known || self.has_manifest(name, digest).await?
            }
        };
        if is_there {
            return Ok(());
        }
        let reference = match tag {
            Some(tag) => Reference::Tag(tag.clone()),
            None => Reference::Digest(*digest),
        };
        let put = self.patience.ask(|| {
            let (media_type, bytes) = (manifest.media_type(), manifest.bytes().clone());
            self.upstream
                .push_manifest(name, &reference, digest, media_type, bytes)
        });
        let pushed = put.await.map_err(problem)?;
        match manifest.subject() {
            Some(subject) if !pushed.is_noted => {
                self.note_referrer(name, manifest, digest, &subject.digest)
                    .await
            }
            _ => Ok(()),
        }
    }

    fn requires(&self, _name: &RepositoryName, _reference: &Referenced<'_>) -> bool {
        // What the source lacks and the registry needs it refuses.
        false
    }
}

impl Mirror for RemoteTarget {
    async fn holds(&self, name: &RepositoryName, digest: &Digest) -> Result<bool, Problem> {
        let has = self
            .patience
            .ask(|| self.upstream.has_blob(name, digest))
            .await;
        let has = has.map_err(problem)?;
        if has {
            self.known().blobs.insert(*digest, name.clone());
        }
        Ok(has)
    }

    async fn tags(&self, name: &RepositoryName) -> Result<Vec<Tag>, Problem> {
        let listed = self
            .patience
            .ask(|| self.upstream.tags(name, None, None))
            .await;
        match listed {
            Ok(listed) => Ok(listed.tags),
            Err(error) if error.is_unknown() => Ok(Vec::new()),
            Err(error) => Err(problem(error)),
        }
    }

    async fn tagged(&self, name: &RepositoryName, tag: &Tag) -> Result<Option<Digest>, Problem> {
        let tagged = self.patience.ask(|| self.upstream.tagged(name, tag)).await;
        tagged.map_err(problem)
    }

    async fn untag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), Problem> {
        let removed = self
            .patience
            .ask(|| self.upstream.remove_tag(name, tag))
            .await;
        match removed {
            Err(error) if error.is_unknown() => Ok(()),
            removed => removed.map_err(problem),
        }
    }
}

/// What an upstream's error means for an image that is pushed to it: others may fare better.
fn problem(error: UpstreamError) -> Problem {
    Problem::Fault(Fault::Refused(error.to_string()))
}

/// What may be another time.
fn passing(error: &UpstreamError) -> Problem {
    Problem::Passing(Fault::Refused(error.to_string()))
}

/// The registry has lost some of what it took.
fn lost(offset: u64) -> Problem {
    let reason = format!("it has {offset} bytes of an upload, and had others before");
    Problem::Passing(Fault::Refused(reason))
}
