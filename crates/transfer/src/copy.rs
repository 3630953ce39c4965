//! Copying images from one place to another, each of which may be a registry that others write to
//! meanwhile. An image is copied from below: blobs, the manifests that name them, those that name
//! these, and last the tag.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt, stream};
use wharfinger_oci::manifest::{self, Manifest, Referenced, Role};
use wharfinger_oci::{Digest, RepositoryName, Tag};

use crate::endpoint::{Blob, Place, Source, Target};
use crate::error::Problem;
use crate::naming::Naming;
use crate::report::{Failure, Report, Step};
use crate::{Choice, Error, Fault, Result};

/// How many blobs are copied at once.
const CONCURRENCY: usize = 4;

/// How often an image is tried whose content vanishes.
const TRIES: usize = 5;

/// Copies what is chosen.
pub(crate) struct Copying<'a, S, T> {
    source: &'a S,
    target: &'a T,
    choice: &'a Choice,
    naming: &'a Naming,
    told: &'a (dyn Fn(Step<'_>) + Sync),
    report: Report,
    /// Blobs of which is known that they cannot be copied.
    damaged: HashMap<Digest, Fault>,
    /// Blobs that have been told of.
    told_of: HashSet<Digest>,
    /// What the source has, where only some of it is wanted.
    listed: Vec<(RepositoryName, Vec<Tag>)>,
}

/// What has become of a repository's manifests.
#[derive(Debug, Default)]
struct Met {
    /// Copied, with all that they mention.
    done: HashSet<Digest>,
    /// Those of them that a tag, or a manifest without one, leads to where they were copied to.
    reached: HashSet<Digest>,
    /// What cannot be copied.
    failed: HashSet<Digest>,
}

/// A manifest on the way through an image.
struct Visit {
    digest: Digest,
    media_type: Option<String>,
    is_required: bool,
    /// Whether what it mentions has been copied.
    is_ready: bool,
}

impl<'a, S: Source, T: Target> Copying<'a, S, T> {
    pub(crate) fn new(
        source: &'a S,
        target: &'a T,
        choice: &'a Choice,
        naming: &'a Naming,
        told: &'a (dyn Fn(Step<'_>) + Sync),
    ) -> Self {
        Self {
            source,
            target,
            choice,
            naming,
            told,
            report: Report::default(),
            damaged: HashMap::new(),
            told_of: HashSet::new(),
            listed: Vec::new(),
        }
    }

    /// Copies all of it.
    ///
    /// # Errors
    /// When the source cannot be listed, or nothing can be written any more.
    pub(crate) async fn run(mut self) -> Result<Report> {
        let mut names = self.source.repositories().await?;
        names.retain(|name| self.choice.has(name));
        let mut targets = BTreeMap::new();
        for name in &names {
            let target = self.naming.apply(name)?;
            if let Some(other) = targets.insert(target.clone(), name) {
                return Err(Error::Collision(other.clone(), name.clone(), target));
            }
        }
        for (target, name) in targets {
            (self.told)(Step::Repository(name));
            self.repository(name, &target).await?;
        }
        // What was written wrong must not pass for a backup.
        let listed = std::mem::take(&mut self.listed);
        for pattern in self.choice.unmatched(&listed) {
            self.fail(pattern.to_string(), Fault::Unmatched);
        }
        Ok(self.report)
    }

    async fn repository(&mut self, name: &RepositoryName, target: &RepositoryName) -> Result<()> {
        let mut met = Met::default();
        let tags = self.source.tags(name).await;
        let mut tags = self.or_fail(name, tags);
        tags.retain(|tag| self.choice.has_tag(name, tag));
        for tag in &tags {
            self.tag(name, target, tag, &mut met).await?;
        }
        if !self.choice.is_everything() {
            self.listed.push((name.clone(), tags));
        }
        let mut others = match self.choice.has_all_of(name) {
            true => {
                let revisions = self.source.revisions(name).await;
                self.or_fail(name, revisions)
            }
            false => self.referrers_of(name, met.reached.iter().copied()).await?,
        };
        while let Some(digest) = others.pop() {
            if met.reached.contains(&digest) || met.failed.contains(&digest) {
                continue;
            }
            self.untagged(name, target, digest, &mut met).await?;
            if !self.choice.has_all_of(name) {
                // A signature may be signed.
                others.extend(self.referrers_of(name, [digest]).await?);
            }
        }
        Ok(())
    }

    /// What refers to manifests that were copied for their tags: signatures and the like.
    async fn referrers_of(
        &mut self,
        name: &RepositoryName,
        subjects: impl IntoIterator<Item = Digest>,
    ) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for subject in subjects {
            match self.source.referrers(name, &subject).await {
                Ok(referrers) => found.extend(referrers),
                Err(fault) => self.fail(format!("{name}@{subject}"), fault),
            }
        }
        Ok(found)
    }

    /// Copies what a tag stands for: what it did before or does after it is moved meanwhile, never
    /// a part of either.
    async fn tag(
        &mut self,
        name: &RepositoryName,
        target: &RepositoryName,
        tag: &Tag,
        met: &mut Met,
    ) -> Result<()> {
        let mut failed: Option<(Digest, Fault)> = None;
        for _ in 0..TRIES {
            let digest = match self.source.tagged(name, tag).await {
                Ok(None) => return Ok(()),
                Ok(Some(digest)) => digest,
                Err(fault) => {
                    self.fail(format!("{name}:{tag}"), fault);
                    return Ok(());
                }
            };
            // What is missing while the tag stands still is missing.
            if let Some((before, fault)) = failed.take()
                && before == digest
                && matches!(fault, Fault::Missing(_))
            {
                met.failed.insert(digest);
                self.fail(format!("{name}:{tag}"), fault);
                return Ok(());
            }
            match self.image(name, target, digest, Some(tag), met).await {
                Ok(()) => {
                    (self.told)(Step::Tag(target, tag, &digest));
                    self.report.tags += 1;
                    return Ok(());
                }
                Err(Problem::Fatal(error)) => return Err(error),
                Err(Problem::Fault(fault @ Fault::Missing(_)) | Problem::Passing(fault)) => {
                    failed = Some((digest, fault));
                }
                Err(Problem::Fault(fault)) => {
                    met.failed.insert(digest);
                    self.fail(format!("{name}:{tag}"), fault);
                    return Ok(());
                }
            }
        }
        let fault = match failed {
            Some((_, fault)) if !matches!(fault, Fault::Missing(_)) => fault,
            _ => Fault::Moving,
        };
        self.fail(format!("{name}:{tag}"), fault);
        Ok(())
    }

    /// Copies a manifest that has no tag, unless it goes meanwhile.
    async fn untagged(
        &mut self,
        name: &RepositoryName,
        target: &RepositoryName,
        digest: Digest,
        met: &mut Met,
    ) -> Result<()> {
        let image = format!("{name}@{digest}");
        let mut failed = None;
        for _ in 0..TRIES {
            match self.image(name, target, digest, None, met).await {
                Ok(()) => {
                    (self.told)(Step::Untagged(target, &digest));
                    self.report.untagged += 1;
                    return Ok(());
                }
                Err(Problem::Fatal(error)) => return Err(error),
                Err(Problem::Passing(fault)) => failed = Some(fault),
                Err(Problem::Fault(fault @ Fault::Missing(_))) => {
                    match self.source.manifest(name, &digest, None).await {
                        Ok(None) => return Ok(()),
                        _ => {
                            self.fail(image, fault);
                            return Ok(());
                        }
                    }
                }
                Err(Problem::Fault(fault)) => {
                    self.fail(image, fault);
                    return Ok(());
                }
            }
        }
        if let Some(fault) = failed {
            self.fail(image, fault);
        }
        Ok(())
    }

    /// What was listed of a repository; nothing when it cannot be.
    fn or_fail<L>(&mut self, name: &RepositoryName, listed: Result<Vec<L>, Fault>) -> Vec<L> {
        listed.unwrap_or_else(|fault| {
            self.fail(name.to_string(), fault);
            Vec::new()
        })
    }

    fn fail(&mut self, image: String, fault: Fault) {
        let failure = Failure { image, fault };
        (self.told)(Step::Failed(&failure));
        self.report.failures.push(failure);
    }

    /// Copies a manifest with all that it mentions.
    async fn image(
        &mut self,
        name: &RepositoryName,
        target: &RepositoryName,
        digest: Digest,
        tag: Option<&Tag>,
        met: &mut Met,
    ) -> Result<(), Problem> {
        let mut visits = vec![Visit {
            digest,
            media_type: None,
            is_required: true,
            is_ready: false,
        }];
        let mut reached = Vec::new();
        while let Some(visit) = visits.pop() {
            let is_top = visits.is_empty();
            if !is_top && met.done.contains(&visit.digest) {
                reached.push(visit.digest);
                continue;
            }
            let media_type = visit.media_type.as_deref();
            let read = self.source.manifest(name, &visit.digest, media_type);
            let Some(manifest) = read.await? else {
                if visit.is_required && !self.target.has_manifest(target, &visit.digest).await? {
                    return Err(Fault::Missing(visit.digest).into());
                }
                continue;
            };
            if visit.is_ready || met.done.contains(&visit.digest) {
                self.blobs(name, target, &manifest).await?;
                let place = match is_top {
                    true => Place::Top(tag),
                    false => Place::Nested,
                };
                let write = self
                    .target
                    .manifest(target, &manifest, &visit.digest, place);
                write.await?;
                met.done.insert(visit.digest);
                reached.push(visit.digest);
                let brings = self.brings_canonical(name, &visit.digest, &manifest);
                if brings.await? {
                    reached.push(Digest::canonical(manifest.payload()));
                }
                continue;
            }
            visits.push(Visit {
                is_ready: true,
                ..visit
            });
            let references = manifest.references();
            for reference in references.iter().filter(|one| is_manifest(one)) {
                visits.push(Visit {
                    digest: reference.digest,
                    media_type: reference.media_type.map(str::to_owned),
                    is_required: self.requires(name, target, reference),
                    is_ready: false,
                });
            }
        }
        met.reached.extend(reached);
        Ok(())
    }

    /// Whether a manifest that was put under a digest of another algorithm is the same under its
    /// canonical one: a registry links both, but only that which it was put under is a referrer.
    async fn brings_canonical(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        manifest: &Manifest,
    ) -> Result<bool, Fault> {
        if digest.is_canonical() {
            return Ok(false);
        }
        let Some(subject) = manifest.subject() else {
            return Ok(true);
        };
        let referrers = self.source.referrers(name, &subject.digest).await?;
        Ok(!referrers.contains(&Digest::canonical(manifest.payload())))
    }

    fn requires(
        &self,
        name: &RepositoryName,
        target: &RepositoryName,
        reference: &Referenced<'_>,
    ) -> bool {
        self.source.requires(name, reference) || self.target.requires(target, reference)
    }

    /// Copies the blobs that a manifest mentions.
    async fn blobs(
        &mut self,
        name: &RepositoryName,
        target: &RepositoryName,
        manifest: &Manifest,
    ) -> Result<(), Problem> {
        let mut seen = HashSet::new();
        let references = manifest.references().into_iter();
        let wanted: Vec<_> = references
            .filter(|one| !is_manifest(one) && seen.insert(one.digest))
            .map(|one| {
                let is_required = self.requires(name, target, &one);
                let is_new = self.told_of.insert(one.digest);
                (one.digest, one.size, is_required, is_new)
            })
            .collect();
        let this = &*self;
        let copies: Vec<_> = wanted
            .into_iter()
            .map(|(digest, size, is_required, is_new)| async move {
                let copied = this.blob(name, target, digest, size, is_required, is_new);
                (digest, copied.await)
            })
            .collect();
        let outcomes: Vec<_> = stream::iter(copies)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut problem = None;
        for (digest, outcome) in outcomes {
            match outcome {
                Ok(copied) => self.report.add(&copied),
                Err(found) => {
                    self.told_of.remove(&digest);
                    if let Problem::Fault(fault) = &found
                        && !matches!(fault, Fault::Missing(_))
                    {
                        self.damaged.insert(digest, fault.clone());
                    }
                    if !matches!(problem, Some(Problem::Fatal(_))) {
                        problem = Some(found);
                    }
                }
            }
        }
        problem.map_or(Ok(()), Err)
    }

    async fn blob(
        &self,
        name: &RepositoryName,
        target: &RepositoryName,
        digest: Digest,
        expected: Option<u64>,
        is_required: bool,
        is_new: bool,
    ) -> Result<Copied, Problem> {
        if let Some(fault) = self.damaged.get(&digest) {
            return Err(fault.clone().into());
        }
        let place = self.source.place(&digest);
        let Some(size) = self.source.size(name, &digest).await? else {
            if is_required && !self.target.has(target, &digest, None).await? {
                return Err(Fault::Missing(digest).into());
            }
            return Ok(Copied::Nothing);
        };
        if let Some(expected) = expected
            && expected != size
        {
            return Err(Problem::Fault(Fault::Length {
                place,
                expected,
                actual: size,
            }));
        }
        if self.target.has(target, &digest, Some(size)).await? {
            if is_new {
                (self.told)(Step::Bytes(size));
            }
            return Ok(Copied::WasThere);
        }
        let Some(pieces) = self.source.open(name, &digest, size).await? else {
            return Err(Fault::Missing(digest).into());
        };
        let silent: &(dyn Fn(Step<'_>) + Sync) = &|_| ();
        let blob = Blob {
            digest,
            size,
            place,
            pieces,
            told: if is_new { self.told } else { silent },
        };
        self.target.blob(target, blob).await?;
        Ok(Copied::Bytes(size))
    }
}

/// What became of a blob.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Copied {
    /// It was not there, and need not be.
    Nothing,
    /// It was where it goes to already.
    WasThere,
    /// So many bytes were copied.
    Bytes(u64),
}

/// Whether what is referred to is a manifest. An index may mention what is none, as those do in
/// which builders keep their caches.
fn is_manifest(reference: &Referenced<'_>) -> bool {
    matches!(reference.role, Role::Manifest)
        && reference.media_type.is_none_or(manifest::is_manifest)
}
