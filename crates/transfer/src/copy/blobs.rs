//! The blobs of an image: several at once, and what two images have for one of them alone.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use futures_util::{StreamExt, stream};
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Digest, RepositoryName};

use super::{Copying, Meter, is_manifest};
use crate::Fault;
use crate::endpoint::{Blob, Source, Target};
use crate::error::Problem;
use crate::report::Step;

/// How many blobs of an image are copied at once.
const CONCURRENCY: usize = 4;

/// A blob that a manifest mentions.
struct Wanted<'a> {
    digest: Digest,
    /// Its size in bytes, where the manifest says it.
    size: Option<u64>,
    is_required: bool,
    /// Whether no image before mentioned it.
    is_new: bool,
    meter: &'a Meter<'a>,
    told: &'a (dyn Fn(Step<'_>) + Sync),
}

impl Wanted<'_> {
    fn expect(&self, bytes: u64) {
        self.meter.expect(bytes);
        if self.is_new {
            (self.told)(Step::Blob(bytes));
        }
    }

    fn advance(&self, bytes: u64) {
        self.meter.advance(bytes);
        if self.is_new {
            (self.told)(Step::Bytes(bytes));
        }
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

impl<S: Source, T: Target> Copying<'_, S, T> {
    /// Copies the blobs that a manifest mentions.
    pub(super) async fn blobs(
        &self,
        name: &RepositoryName,
        target: &RepositoryName,
        manifest: &Manifest,
        meter: &Meter<'_>,
    ) -> Result<(), Problem> {
        let mut seen = HashSet::new();
        let references = manifest.references().into_iter();
        let wanted: Vec<_> = references
            .filter(|one| !is_manifest(one) && seen.insert(one.digest))
            .map(|one| {
                let wanted = Wanted {
                    digest: one.digest,
                    size: one.size,
                    is_required: self.requires(name, target, &one),
                    is_new: self.state().told_of.insert(one.digest),
                    meter,
                    told: self.told,
                };
                one.size.inspect(|size| wanted.expect(*size));
                wanted
            })
            .collect();
        let copies: Vec<_> = wanted
            .iter()
            .map(|wanted| async move { (wanted.digest, self.blob(name, target, wanted).await) })
            .collect();
        let outcomes: Vec<_> = stream::iter(copies)
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut problem = None;
        for (digest, outcome) in outcomes {
            match outcome {
                Ok(copied) => self.state().report.add(&copied),
                Err(found) => {
                    let mut state = self.state();
                    state.told_of.remove(&digest);
                    if let Problem::Fault(fault) = &found
                        && !matches!(fault, Fault::Missing(_))
                    {
                        state.damaged.insert(digest, fault.clone());
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
        wanted: &Wanted<'_>,
    ) -> Result<Copied, Problem> {
        let digest = wanted.digest;
        let way = self.way(digest);
        let _alone = way.lock().await;
        let damaged = self.state().damaged.get(&digest).cloned();
        if let Some(fault) = damaged {
            return Err(fault.into());
        }
        let place = self.source.place(&digest);
        let Some(size) = self.source.size(name, &digest).await? else {
            if wanted.is_required && !self.target.has(target, &digest, None).await? {
                return Err(Fault::Missing(digest).into());
            }
            wanted.advance(wanted.size.unwrap_or(0));
            return Ok(Copied::Nothing);
        };
        match wanted.size {
            Some(expected) if expected != size => {
                return Err(Problem::Fault(Fault::Length {
                    place,
                    expected,
                    actual: size,
                }));
            }
            Some(_) => {}
            None => wanted.expect(size),
        }
        if self.target.has(target, &digest, Some(size)).await? {
            wanted.advance(size);
            return Ok(Copied::WasThere);
        }
        let Some(pieces) = self.source.open(name, &digest, size).await? else {
            return Err(Fault::Missing(digest).into());
        };
        wanted.meter.copy();
        let blob = Blob {
            digest,
            size,
            place,
            pieces,
            told: &|bytes| wanted.advance(bytes),
        };
        self.target.blob(target, blob).await?;
        Ok(Copied::Bytes(size))
    }

    /// What is held while a blob is copied.
    fn way(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut ways = self.on_the_way.lock();
        let ways = ways.as_mut().map_err(PoisonError::get_mut);
        let ways = ways.unwrap_or_else(|poisoned| poisoned);
        // Nobody holds what stands here alone.
        ways.retain(|_, way| Arc::strong_count(way) > 1);
        Arc::clone(ways.entry(digest).or_default())
    }
}
