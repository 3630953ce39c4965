//! A collection while others write. `docs/collection.md` has the protocol, and why it is safe.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::time::{Instant, sleep};
use wharfinger_oci::{Digest, RepositoryName};

use super::item::{self, Condemned, Entry, Item, List};
use super::progress::Activity;
use super::run::{Found, Run};
use super::state::{Phase, RunId};
use super::sweep;
use super::turn::Turn;
use super::{CollectReport, CollectStep};
use crate::catalog::CatalogWalk;
use crate::link::{LinkSet, ignore_absent};
use crate::{Error, Result, layout};

/// How many blobs are removed before it is looked again whether that is still to be done.
const BATCH: usize = 256;

/// How often a wait is interrupted to see whether the registry has become read-only.
const LOOK: Duration = Duration::from_secs(1);

/// What a run has condemned, and where.
struct Going {
    run: RunId,
    /// How many files the list has.
    files: u32,
    condemned: Condemned,
    /// How many things are on the list.
    number: u64,
    /// The repositories that have links to something on it.
    linking: BTreeSet<RepositoryName>,
}

/// Collects while others write.
pub(super) async fn collect<F>(mut run: Run<'_, F>, grace: Duration) -> Result<CollectReport>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    let registry = run.registry;
    if registry.is_read_only() {
        return Err(Error::ReadOnly);
    }
    let mut turn = Turn::take(&registry.shared).await?;
    if turn.run().is_none() {
        let mut found = Found::Listed(List::new(&registry.shared, RunId::generate()));
        run.mark(&mut found).await?;
        match found {
            Found::Listed(list) if list.len() > 0 => run.condemn(&mut turn, list).await?,
            _ => {
                turn.find_nothing().await?;
                run.tidy().await?;
                return Ok(run.report);
            }
        }
    }
    run.carry_out(&mut turn, grace).await?;
    run.tidy().await?;
    Ok(run.report)
}

impl<F> Run<'_, F>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    /// Goes through the run that has condemned something, from where it is.
    pub(super) async fn carry_out(&mut self, turn: &mut Turn, grace: Duration) -> Result<()> {
        let Some((id, phase, files)) = turn.run().map(|s| (s.run, s.phase, s.files)) else {
            return Ok(());
        };
        let grace = match turn.run().is_some_and(|state| state.evicts) {
            true => {
                // Of one that is taken over it is not known which links go, so all count.
                self.marker.leaving.get_or_insert_default();
                Duration::ZERO
            }
            false => grace,
        };
        let mut going = self.going(id, files).await?;
        let is_removing = phase == Phase::Executing;
        if is_removing {
            // Its collector went while it removed. What that one has struck is written down.
            let time = turn.least_wait().max(turn.notice());
            self.wait(time, turn, false).await?;
            turn.is_mine().await?;
            self.find_links(&mut going).await?;
        } else {
            let time = turn.least_wait().max(turn.notice() + grace);
            self.wait(time, turn, true).await?;
            turn.check()?;
            self.mark_again(&mut going).await?;
            self.strike(&going).await?;
            turn.go_on(Phase::Executing).await?;
            self.forget_others(id).await?;
            self.wait(turn.notice(), turn, false).await?;
        }
        self.spare(id, is_removing).await?;
        self.remove(turn, &going, is_removing).await?;
        self.finish(turn, id).await
    }

    /// Tells everybody what is going to be removed.
    pub(super) async fn condemn(&mut self, turn: &mut Turn, list: List<'_>) -> Result<()> {
        let _writing = self.registry.shared.writing()?;
        let (run, files) = list.end().await?;
        let evicts = self.marker.leaving.is_some();
        turn.condemn(run, files, evicts).await
    }

    /// Lets time pass for others.
    async fn wait(&mut self, time: Duration, turn: &Turn, is_pardonable: bool) -> Result<()> {
        let activity = match is_pardonable {
            true => Activity::Condemned,
            false => Activity::Executing,
        };
        self.enter(activity, time.as_secs());
        (self.told)(CollectStep::Waiting {
            time,
            is_pardonable,
            for_collectors: time == turn.least_wait(),
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

    /// Reads what the run has condemned.
    async fn going(&self, run: RunId, files: u32) -> Result<Going> {
        let mut going = Going {
            run,
            files,
            condemned: Condemned::default(),
            number: 0,
            linking: BTreeSet::new(),
        };
        for file in 0..files {
            for entry in self.list(run, file).await? {
                going.condemned.insert(&entry.item);
                going.number += 1;
            }
        }
        going.condemned.sort();
        Ok(going)
    }

    async fn list(&self, run: RunId, file: u32) -> Result<Vec<Entry>> {
        item::read_list(&*self.registry.shared.driver, run, file).await
    }

    /// Finds out what has become needed since.
    async fn mark_again(&mut self, going: &mut Going) -> Result<()> {
        self.enter(Activity::MarkingAgain, self.progress.repositories());
        let mut walk = CatalogWalk::complete(self.registry);
        while let Some(name) = walk.next().await? {
            let (marks, told) = (&mut self.marks, &mut |_: CollectStep<'_>| ());
            let goes = |item: &Item| going.condemned.contains(item);
            self.marker.mark_new(&name, goes, marks, told).await?;
            self.spare_tagged(&name).await?;
            self.look_for_links(name, going).await?;
        }
        self.report.marked = self.marks.needed.len();
        Ok(())
    }

    /// Looks only where links have to be removed.
    async fn find_links(&mut self, going: &mut Going) -> Result<()> {
        let mut walk = CatalogWalk::complete(self.registry);
        while let Some(name) = walk.next().await? {
            self.look_for_links(name, going).await?;
        }
        Ok(())
    }

    async fn look_for_links(&mut self, name: RepositoryName, going: &mut Going) -> Result<()> {
        let goes = |digest: &Digest| going.condemned.contains(&Item::Blob(*digest));
        let links = sweep::links(self.registry, &name, goes).await?;
        self.spare_linked(&name, &links);
        if !links.is_empty() {
            going.linking.insert(name);
        }
        self.progress.advance(1);
        Ok(())
    }

    /// Writes down what was found to be needed, for a collector that takes over: it would not find
    /// what has been deleted since, and may have been acknowledged before.
    async fn strike(&self, going: &Going) -> Result<()> {
        let shared = &self.registry.shared;
        let _writing = shared.writing()?;
        for file in 0..going.files {
            let list = self.list(going.run, file).await?;
            let items = list.into_iter().map(|entry| entry.item);
            let struck: Vec<_> = items.filter(|item| !self.goes(item)).collect();
            if !struck.is_empty() {
                item::write_struck(&*shared.driver, going.run, file, &struck).await?;
            }
        }
        Ok(())
    }

    /// Removes the lists of runs that never came to anything. Not before: until now, another
    /// collector might have written the state, and told of a list of its own.
    async fn forget_others(&self, run: RunId) -> Result<()> {
        let shared = &self.registry.shared;
        let _writing = shared.writing()?;
        let driver = &*shared.driver;
        let own = run.to_string();
        for other in driver.list(&layout::gc_runs(), None, None).await? {
            if other.name != own {
                ignore_absent(driver.discard(&layout::gc_run(&other.name)).await)?;
            }
        }
        Ok(())
    }

    /// Strikes what has been pardoned from the list, with all that pardoned manifests mention.
    async fn spare(&mut self, run: RunId, with_struck: bool) -> Result<()> {
        let driver = &*self.registry.shared.driver;
        let mut pardons = pin!(item::pardons(driver, run, with_struck).await?);
        while let Some(items) = pardons.try_next().await? {
            for item in items {
                match &item {
                    Item::Blob(_) => {
                        self.marks.needed.insert(item.fingerprint());
                    }
                    Item::Manifest(name, digest) => {
                        self.marks.manifests.insert(item.fingerprint());
                        self.spare_manifest(name, digest).await?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) async fn spare_manifest(
        &mut self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<()> {
        let repository = self.registry.repository(name);
        let subject = LinkSet::Referrers { subject: *digest };
        // Signatures and the like stay with what they are about.
        let mut all = repository.links(subject).digests().await?;
        all.push(*digest);
        for digest in all {
            let marks = &mut self.marks;
            self.marker.mark_with_mentioned(name, digest, marks).await?;
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

    /// Removes what is left on the list: manifests, then links, then blobs. Where another collector
    /// began that, it goes on where that one was.
    async fn remove(&mut self, turn: &Turn, going: &Going, is_begun: bool) -> Result<()> {
        self.report.manifests = 0;
        self.report.blobs = 0;
        self.report.bytes = 0;
        self.enter(Activity::Removing, going.number);
        self.remove_manifests(turn, going).await?;
        let registry = self.registry;
        for name in &going.linking {
            let _writing = registry.shared.writing()?;
            turn.check()?;
            let goes = |digest: &Digest| {
                let item = Item::Blob(*digest);
                going.condemned.contains(&item) && self.goes(&item)
            };
            let links = sweep::links(registry, name, goes).await?;
            self.remove_links(name, &links, || turn.check()).await?;
        }
        let driver = &*registry.shared.driver;
        let first = match is_begun {
            true => item::read_removed(driver, going.run).await?,
            false => 0,
        };
        for file in first..going.files {
            self.remove_blobs(turn, going.run, file).await?;
            let _writing = registry.shared.writing()?;
            item::write_removed(driver, going.run, file + 1).await?;
        }
        Ok(())
    }

    async fn remove_manifests(&mut self, turn: &Turn, going: &Going) -> Result<()> {
        for file in 0..going.files {
            let mut manifests: Vec<(RepositoryName, Vec<Digest>)> = Vec::new();
            for entry in self.list(going.run, file).await? {
                if !self.goes(&entry.item) {
                    self.report.spared += 1;
                    self.progress.advance(1);
                } else if let Item::Manifest(name, digest) = entry.item {
                    match manifests.last_mut() {
                        Some((last, digests)) if *last == name => digests.push(digest),
                        _ => manifests.push((name, vec![digest])),
                    }
                }
            }
            for (name, digests) in manifests {
                let _writing = self.registry.shared.writing()?;
                turn.check()?;
                sweep::remove_manifests(self.registry, &name, &digests).await?;
                self.report.manifests += digests.len() as u64;
                self.progress.advance(digests.len() as u64);
            }
        }
        Ok(())
    }

    /// Removes the blobs that one of the list's files has.
    async fn remove_blobs(&mut self, turn: &Turn, run: RunId, file: u32) -> Result<()> {
        let list = self.list(run, file).await?;
        let blobs = list.into_iter().filter_map(|entry| match entry.item {
            Item::Blob(digest) if self.goes(&entry.item) => Some((digest, entry.size)),
            _ => None,
        });
        let blobs: Vec<_> = blobs.collect();
        for batch in blobs.chunks(BATCH) {
            let _writing = self.registry.shared.writing()?;
            turn.check()?;
            let digests: Vec<_> = batch.iter().map(|(digest, _)| *digest).collect();
            let pace = &self.marker.pace;
            sweep::remove_blobs(self.registry, &digests, pace, || turn.check()).await?;
            for (digest, size) in batch {
                (self.told)(CollectStep::Blob(digest));
                // What dangled had no bytes any more.
                self.report.blobs += u64::from(*size > 0);
                self.report.bytes += size;
            }
            self.progress.advance(batch.len() as u64);
        }
        Ok(())
    }

    /// Tells everybody that nothing is removed any more.
    async fn finish(&mut self, turn: &mut Turn, run: RunId) -> Result<()> {
        let shared = &self.registry.shared;
        shared.driver.settled().await;
        turn.go_on(Phase::Over).await?;
        let _writing = shared.writing()?;
        let own = layout::gc_run(&run.to_string());
        ignore_absent(shared.driver.discard(&own).await)
    }
}
