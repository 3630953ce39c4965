//! A collection while others write. `docs/collection.md` has the protocol, and why it is safe.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::info;
use wharfinger_oci::{Digest, RepositoryName};

use super::item::{self, Entry, Item};
use super::mark::{Marker, Marks};
use super::pace::Pace;
use super::state::{Phase, RunId};
use super::sweep;
use super::turn::Turn;
use super::{CollectOptions, CollectReport, CollectStep};
use crate::catalog::CatalogWalk;
use crate::link::LinkSet;
use crate::{Error, Registry, Result};

/// How much a run condemns at the most; more goes in the next one. Every node keeps eight bytes of
/// each in memory while the run is on.
const MOST: usize = 1_000_000;

/// How many blobs are removed before it is looked again whether that is still to be done.
const BATCH: usize = 256;

/// How often a wait is interrupted to see whether the registry has become read-only.
const LOOK: Duration = Duration::from_secs(1);

/// A run.
struct Run<'a, F> {
    registry: &'a Registry,
    grace: Duration,
    marker: Marker<'a>,
    marks: Marks,
    report: CollectReport,
    told: F,
}

/// Collects while others write.
pub(super) async fn collect<F>(
    registry: &Registry,
    options: CollectOptions,
    grace: Duration,
    told: F,
) -> Result<CollectReport>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    let mut run = Run {
        registry,
        grace,
        marker: Marker {
            registry,
            delete_untagged: options.delete_untagged,
            pace: Pace::new(options.rate),
        },
        marks: Marks::default(),
        report: CollectReport::default(),
        told,
    };
    if options.dry_run {
        run.mark().await?;
        return Ok(run.report);
    }
    if registry.is_read_only() {
        return Err(Error::ReadOnly);
    }
    let mut turn = Turn::take(&registry.shared).await?;
    let id = match turn.run() {
        Some(state) => state.run,
        None => {
            let list = run.mark().await?;
            if list.is_empty() {
                turn.find_nothing().await?;
                run.remove_leftovers().await?;
                return Ok(run.report);
            }
            run.condemn(&mut turn, &list).await?
        }
    };
    let time = turn.least_wait().max(turn.notice() + grace);
    run.wait(time, true).await?;
    let repositories = run.mark_again(&turn, id).await?;
    turn.go_on(Phase::Executing).await?;
    run.wait(turn.notice(), false).await?;
    run.spare(id).await?;
    run.remove(&turn, id, repositories).await?;
    run.finish(&mut turn, id).await?;
    Ok(run.report)
}

impl<F> Run<'_, F>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    /// Finds out what is not needed.
    async fn mark(&mut self) -> Result<Vec<Entry>> {
        let untagged = self.marker.mark(&mut self.marks, &mut self.told).await?;
        let (registry, marks, pace) = (self.registry, &self.marks, &self.marker.pace);
        let unmarked = sweep::unmarked_blobs(registry, marks, self.grace, MOST, pace).await?;
        let dangling = match unmarked.more {
            // Those are many enough, and the links to the others must stay.
            true => Vec::new(),
            false => sweep::dangling(registry, marks, &unmarked, pace).await?,
        };
        self.report = super::tell(&self.marks, &untagged, &unmarked, &mut self.told);
        let manifests = untagged.into_iter().flat_map(|untagged| {
            let name = untagged.repository;
            let manifests = untagged.manifests.into_iter();
            manifests.map(move |digest| Item::Manifest(name.clone(), digest))
        });
        let manifests = manifests.map(|item| Entry { item, size: 0 });
        let blobs = unmarked.garbage.into_iter().map(|garbage| Entry {
            item: Item::Blob(garbage.digest),
            size: garbage.size,
        });
        let dangling = dangling.into_iter().map(|digest| Entry {
            item: Item::Blob(digest),
            size: 0,
        });
        Ok(manifests.chain(blobs).chain(dangling).take(MOST).collect())
    }

    /// Tells everybody what is going to be removed.
    async fn condemn(&mut self, turn: &mut Turn, list: &[Entry]) -> Result<RunId> {
        let _writing = self.registry.shared.writing()?;
        let run = turn.condemn(list).await?;
        sweep::forget_runs(self.registry, Some(&run.to_string())).await?;
        info!(%run, condemned = list.len(), "what is not needed is condemned");
        Ok(run)
    }

    /// Lets time pass for others.
    async fn wait(&mut self, time: Duration, is_pardonable: bool) -> Result<()> {
        (self.told)(CollectStep::Waiting {
            time,
            is_pardonable,
        });
        let until = Instant::now() + time;
        while Instant::now() < until {
            sleep(LOOK.min(until - Instant::now())).await;
            if self.registry.is_read_only() {
                return Err(Error::ReadOnly);
            }
        }
        Ok(())
    }

    /// Finds out what has become needed since; gives the repositories that have links to something
    /// condemned.
    async fn mark_again(&mut self, turn: &Turn, run: RunId) -> Result<BTreeSet<RepositoryName>> {
        turn.check()?;
        let (condemned, manifests) = self.condemned(turn, run).await?;
        let mut linking = BTreeSet::new();
        let mut walk = CatalogWalk::complete(self.registry);
        while let Some(name) = walk.next().await? {
            let (marks, told) = (&mut self.marks, &mut |_: CollectStep<'_>| ());
            let goes = |item: &Item| manifests.contains(item);
            self.marker.mark_new(&name, goes, marks, told).await?;
            let goes = |digest: &Digest| condemned.contains(digest);
            if !sweep::links(self.registry, &name, goes).await?.is_empty() {
                linking.insert(name);
            }
        }
        Ok(linking)
    }

    /// Strikes what has been pardoned from the list, with all that pardoned manifests mention.
    async fn spare(&mut self, run: RunId) -> Result<()> {
        let driver = &*self.registry.shared.driver;
        for item in item::read_pardons(driver, run).await? {
            match &item {
                Item::Blob(_) => {
                    self.marks.needed.insert(item.fingerprint());
                }
                Item::Manifest(name, digest) => {
                    let marks = &mut self.marks;
                    marks.manifests.insert(item.fingerprint());
                    let repository = self.registry.repository(name);
                    let subject = LinkSet::Referrers { subject: *digest };
                    // Signatures and the like stay with what they are about.
                    let mut all = repository.links(subject).digests().await?;
                    all.push(*digest);
                    for digest in all {
                        self.marker.mark_with_mentioned(name, digest, marks).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn goes(&self, item: &Item) -> bool {
        let stays = match item {
            Item::Blob(_) => &self.marks.needed,
            Item::Manifest(..) => &self.marks.manifests,
        };
        !stays.contains(item.fingerprint())
    }

    /// Removes what is left on the list: manifests, then links, then blobs.
    async fn remove(
        &mut self,
        turn: &Turn,
        run: RunId,
        linking: BTreeSet<RepositoryName>,
    ) -> Result<()> {
        self.report.manifests = 0;
        self.report.blobs = 0;
        self.report.bytes = 0;
        let registry = self.registry;
        let mut manifests: BTreeMap<RepositoryName, Vec<Digest>> = BTreeMap::new();
        let mut blobs = BTreeSet::new();
        let mut sizes = Vec::new();
        for entry in self.list(turn, run).await? {
            if !self.goes(&entry.item) {
                self.report.spared += 1;
                continue;
            }
            match entry.item {
                Item::Manifest(name, digest) => manifests.entry(name).or_default().push(digest),
                Item::Blob(digest) => {
                    blobs.insert(digest);
                    sizes.push((digest, entry.size));
                }
            }
        }
        for (name, digests) in manifests {
            let _writing = registry.shared.writing()?;
            turn.check()?;
            sweep::remove_manifests(registry, &name, &digests).await?;
            self.report.manifests += digests.len() as u64;
        }
        for name in linking {
            let _writing = registry.shared.writing()?;
            turn.check()?;
            let goes = |digest: &Digest| blobs.contains(digest);
            let links = sweep::links(registry, &name, goes).await?;
            for digest in &links {
                (self.told)(CollectStep::LayerLink(&name, digest));
            }
            let check = || turn.check();
            sweep::unlink(registry, &name, &links, &self.marker.pace, check).await?;
            self.report.layer_links += links.len() as u64;
        }
        for batch in sizes.chunks(BATCH) {
            let _writing = registry.shared.writing()?;
            turn.check()?;
            let digests: Vec<_> = batch.iter().map(|(digest, _)| *digest).collect();
            sweep::remove_blobs(registry, &digests, &self.marker.pace, || turn.check()).await?;
            for (digest, size) in batch {
                (self.told)(CollectStep::Blob(digest));
                // What dangled had no bytes any more.
                self.report.blobs += u64::from(*size > 0);
                self.report.bytes += size;
            }
        }
        Ok(())
    }

    /// Tells everybody that nothing is removed any more.
    async fn finish(&mut self, turn: &mut Turn, run: RunId) -> Result<()> {
        let shared = &self.registry.shared;
        shared.driver.settled().await;
        turn.go_on(Phase::Over).await?;
        let _writing = shared.writing()?;
        sweep::forget_runs(self.registry, None).await?;
        self.remove_leftovers().await?;
        info!(
            %run,
            manifests = self.report.manifests,
            links = self.report.layer_links,
            blobs = self.report.blobs,
            bytes = self.report.bytes,
            spared = self.report.spared,
            "what nothing needs was removed"
        );
        Ok(())
    }

    async fn remove_leftovers(&self) -> Result<()> {
        let shared = &self.registry.shared;
        let _writing = shared.writing()?;
        shared
            .driver
            .remove_leftovers(crate::upload::LEFTOVER_AGE)
            .await?;
        Ok(())
    }

    async fn list(&self, turn: &Turn, run: RunId) -> Result<Vec<Entry>> {
        let files = turn.run().map_or(0, |state| state.files);
        let mut list = Vec::new();
        for file in 0..files {
            let driver = &*self.registry.shared.driver;
            list.extend(item::read_list(driver, run, file).await?);
        }
        Ok(list)
    }

    /// The blobs and the manifests that the run has condemned.
    async fn condemned(
        &self,
        turn: &Turn,
        run: RunId,
    ) -> Result<(BTreeSet<Digest>, BTreeSet<Item>)> {
        let mut blobs = BTreeSet::new();
        let mut manifests = BTreeSet::new();
        for entry in self.list(turn, run).await? {
            match entry.item {
                Item::Blob(digest) => drop(blobs.insert(digest)),
                item @ Item::Manifest(..) => drop(manifests.insert(item)),
            }
        }
        Ok((blobs, manifests))
    }
}
