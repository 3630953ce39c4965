//! Copying images from one place to another, each of which may be a registry that others write to
//! meanwhile. An image is copied from below: blobs, the manifests that name them, those that name
//! these, and last the tag.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use wharfinger_oci::manifest::{self, Manifest, Referenced, Role};
use wharfinger_oci::{Digest, RepositoryName, Tag};

use crate::endpoint::{Place, Source, Target};
use crate::error::Problem;
use crate::naming::Naming;
use crate::report::{Failure, Report, Step};
use crate::selection::Selection;
use crate::{Error, Fault, Result};

mod blobs;
mod meter;

pub(crate) use blobs::Copied;
use meter::Meter;

/// How often an image is tried whose content vanishes.
const TRIES: usize = 5;

/// Copies what is chosen.
pub(crate) struct Copying<'a, S, T> {
    source: &'a S,
    target: &'a T,
    selection: &'a Selection,
    naming: &'a Naming,
    told: &'a (dyn Fn(Step<'_>) + Sync),
    /// How many images are copied at once.
    at_once: usize,
    /// A permit for each of them.
    images: Semaphore,
    state: Mutex<State>,
    /// The blobs that are on their way: what two images have is copied for one of them.
    on_the_way: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// What is known of what was done.
#[derive(Debug, Default)]
struct State {
    report: Report,
    /// Blobs of which is known that they cannot be copied.
    damaged: HashMap<Digest, Fault>,
    /// Blobs that have been told of.
    told_of: HashSet<Digest>,
    /// What the source has of what is wanted.
    listed: Vec<Listed>,
}

/// A repository that was copied.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) name: RepositoryName,
    pub(crate) target: RepositoryName,
    /// All tags that the source has; `None` where it does not tell.
    pub(crate) all: Option<HashSet<Tag>>,
    /// Those that were chosen.
    pub(crate) chosen: Vec<Tag>,
    /// Whether all of it was copied.
    pub(crate) is_whole: bool,
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
        selection: &'a Selection,
        naming: &'a Naming,
        told: &'a (dyn Fn(Step<'_>) + Sync),
    ) -> Self {
        Self {
            source,
            target,
            selection,
            naming,
            told,
            at_once: 1,
            images: Semaphore::new(1),
            state: Mutex::default(),
            on_the_way: Mutex::default(),
        }
    }

    /// The same, with so many images at once.
    pub(crate) fn at_once(self, number: usize) -> Self {
        let number = number.max(1);
        Self {
            at_once: number,
            images: Semaphore::new(number),
            ..self
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies all of it.
    ///
    /// # Errors
    /// When the source cannot be listed, or nothing can be written any more.
    pub(crate) async fn run(self) -> Result<Report> {
        self.run_and_list().await.map(|(report, _)| report)
    }

    /// The same, and tells what there was to be copied.
    ///
    /// # Errors
    /// As [`Copying::run`].
    pub(crate) async fn run_and_list(self) -> Result<(Report, Vec<Listed>)> {
        let mut names = self.source.repositories().await?;
        names.retain(|name| self.selection.has(name));
        let mut targets = BTreeMap::new();
        for name in &names {
            let target = self.naming.apply(name)?;
            if let Some(other) = targets.insert(target.clone(), name) {
                return Err(Error::Collision(other.clone(), name.clone(), target));
            }
        }
        let repositories: Vec<_> = targets
            .iter()
            .map(|(target, name)| self.repository(name, target))
            .collect();
        stream::iter(repositories)
            .buffer_unordered(self.at_once)
            .try_collect::<()>()
            .await?;
        // What was written wrong must not pass for a backup.
        let listed = std::mem::take(&mut self.state().listed);
        if !self.selection.choice().is_everything() {
            let chosen: Vec<_> = listed
                .iter()
                .map(|one| (one.name.clone(), one.chosen.clone()))
                .collect();
            for pattern in self.selection.choice().unmatched(&chosen) {
                self.fail(pattern.to_string(), Fault::Unmatched);
            }
        }
        let state = self.state.into_inner();
        let report = state.unwrap_or_else(PoisonError::into_inner).report;
        Ok((report, listed))
    }

    async fn repository(&self, name: &RepositoryName, target: &RepositoryName) -> Result<()> {
        (self.told)(Step::Repository(name));
        let met = Mutex::new(Met::default());
        let tags = self.source.tags(name).await;
        let all = tags.as_ref().ok().cloned();
        let tags = self.selection.select(name, self.or_fail(name, tags));
        let copies: Vec<_> = tags
            .iter()
            .map(|tag| self.tag(name, target, tag, &met))
            .collect();
        stream::iter(copies)
            .buffer_unordered(self.at_once)
            .try_collect::<()>()
            .await?;
        let has_all = self.selection.has_all_of(name);
        let reached: Vec<Digest> = lock(&met).reached.iter().copied().collect();
        if !has_all && self.selection.has_referrers() {
            let others = all.iter().flatten().filter(|tag| !tags.contains(tag));
            self.companions(name, target, others, &met).await?;
        }
        let mut others = match has_all {
            true => {
                let revisions = self.source.revisions(name).await;
                self.or_fail(name, revisions)
            }
            false => self.referrers_of(name, reached).await?,
        };
        while let Some(digest) = others.pop() {
            let is_done = {
                let met = lock(&met);
                met.reached.contains(&digest) || met.failed.contains(&digest)
            };
            if is_done {
                continue;
            }
            self.untagged(name, target, digest, &met).await?;
            if !has_all {
                // A signature may be signed.
                others.extend(self.referrers_of(name, [digest]).await?);
            }
        }
        let mut state = self.state();
        let of = [format!("{name}:"), format!("{name}@")];
        let failures = &state.report.failures;
        let is_whole = !failures.iter().any(|failure| {
            failure.image == name.as_str() || of.iter().any(|of| failure.image.starts_with(of))
        });
        state.listed.push(Listed {
            name: name.clone(),
            target: target.clone(),
            all: all.map(|all| all.into_iter().collect()),
            chosen: tags,
            is_whole,
        });
        Ok(())
    }

    /// Copies the tags by which cosign finds signatures and the like: they are called after the
    /// digests of what was copied.
    async fn companions(
        &self,
        name: &RepositoryName,
        target: &RepositoryName,
        tags: impl Iterator<Item = &Tag> + Send,
        met: &Mutex<Met>,
    ) -> Result<()> {
        let reached: HashSet<String> = lock(met).reached.iter().map(digest_tag).collect();
        let is_companion = |tag: &&Tag| {
            let of = tag.as_str().split_once('.');
            of.is_some_and(|(digest, _)| reached.contains(digest))
        };
        for tag in tags.filter(is_companion) {
            self.tag(name, target, tag, met).await?;
        }
        Ok(())
    }

    /// What refers to manifests that were copied for their tags: signatures and the like.
    async fn referrers_of(
        &self,
        name: &RepositoryName,
        subjects: impl IntoIterator<Item = Digest>,
    ) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        if !self.selection.has_referrers() {
            return Ok(found);
        }
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
        &self,
        name: &RepositoryName,
        target: &RepositoryName,
        tag: &Tag,
        met: &Mutex<Met>,
    ) -> Result<()> {
        let _permit = self.images.acquire().await;
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
                lock(met).failed.insert(digest);
                self.fail(format!("{name}:{tag}"), fault);
                return Ok(());
            }
            let meter = Meter::new(format!("{target}:{tag}"), self.told);
            let copied = self.image(name, target, digest, Some(tag), met, &meter);
            match copied.await {
                Ok(()) => {
                    (self.told)(Step::Tag(target, tag, &digest));
                    self.state().report.tags += 1;
                    return Ok(());
                }
                Err(Problem::Fatal(error)) => return Err(error),
                Err(Problem::Fault(fault @ Fault::Missing(_)) | Problem::Passing(fault)) => {
                    failed = Some((digest, fault));
                }
                Err(Problem::Fault(fault)) => {
                    lock(met).failed.insert(digest);
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
        &self,
        name: &RepositoryName,
        target: &RepositoryName,
        digest: Digest,
        met: &Mutex<Met>,
    ) -> Result<()> {
        let _permit = self.images.acquire().await;
        let image = format!("{name}@{digest}");
        let mut failed = None;
        for _ in 0..TRIES {
            let meter = Meter::new(format!("{target}@{digest}"), self.told);
            let copied = self.image(name, target, digest, None, met, &meter);
            match copied.await {
                Ok(()) => {
                    (self.told)(Step::Untagged(target, &digest));
                    self.state().report.untagged += 1;
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
    fn or_fail<L>(&self, name: &RepositoryName, listed: Result<Vec<L>, Fault>) -> Vec<L> {
        listed.unwrap_or_else(|fault| {
            self.fail(name.to_string(), fault);
            Vec::new()
        })
    }

    fn fail(&self, image: String, fault: Fault) {
        let failure = Failure { image, fault };
        (self.told)(Step::Failed(&failure));
        self.state().report.failures.push(failure);
    }

    /// Copies a manifest with all that it mentions.
    async fn image(
        &self,
        name: &RepositoryName,
        target: &RepositoryName,
        digest: Digest,
        tag: Option<&Tag>,
        met: &Mutex<Met>,
        meter: &Meter<'_>,
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
            if !is_top && lock(met).done.contains(&visit.digest) {
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
            let is_done = visit.is_ready || lock(met).done.contains(&visit.digest);
            let is_whole = !is_done
                && self
                    .target
                    .is_whole(target, &visit.digest, &manifest)
                    .await?;
            if is_done || is_whole {
                if !is_whole {
                    self.blobs(name, target, &manifest, meter).await?;
                }
                let place = match is_top {
                    true => Place::Top(tag),
                    false => Place::Nested,
                };
                let write = self
                    .target
                    .manifest(target, &manifest, &visit.digest, place);
                write.await?;
                lock(met).done.insert(visit.digest);
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
            let chosen = self.selection.chosen_of(&manifest);
            if chosen.as_ref().is_some_and(HashSet::is_empty) {
                return Err(Fault::NoPlatform.into());
            }
            let is_chosen = |one: &Digest| chosen.as_ref().is_none_or(|all| all.contains(one));
            let references = manifest.references();
            let nested = references.iter().filter(|one| is_manifest(one));
            for reference in nested.filter(|one| is_chosen(&one.digest)) {
                visits.push(Visit {
                    digest: reference.digest,
                    media_type: reference.media_type.map(str::to_owned),
                    is_required: self.requires(name, target, reference),
                    is_ready: false,
                });
            }
        }
        lock(met).reached.extend(reached);
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
}

fn lock(met: &Mutex<Met>) -> MutexGuard<'_, Met> {
    met.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The tag under which the referrers of a digest are listed where a registry does not (OCI
/// distribution specification, "Referrers Tag Schema").
pub(crate) fn digest_tag(digest: &Digest) -> String {
    digest.to_string().replacen(':', "-", 1)
}

/// Whether what is referred to is a manifest. An index may mention what is none, as those do in
/// which builders keep their caches.
fn is_manifest(reference: &Referenced<'_>) -> bool {
    matches!(reference.role, Role::Manifest)
        && reference.media_type.is_none_or(manifest::is_manifest)
}
