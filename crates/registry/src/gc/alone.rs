//! A collection that has the store alone: nobody writes, so that whatever is not needed goes at
//! once.

use super::item::Item;
use super::progress::Activity;
use super::run::{Found, Run};
use super::sweep::{self, Unmarked};
use super::{CollectReport, CollectStep};
use crate::Result;
use crate::catalog::CatalogWalk;

/// Collects where nobody else writes, or tells what a collection would remove.
pub(super) async fn collect<F>(mut run: Run<'_, F>) -> Result<CollectReport>
where
    F: FnMut(CollectStep<'_>) + Send,
{
    let dry_run = run.options.dry_run;
    let registry = run.registry;
    let mut found = match dry_run {
        true => Found::Counted,
        false => Found::Remembered(Vec::new()),
    };
    run.mark(&mut found).await?;
    let expected = run.report.manifests + run.report.blobs;
    run.enter(Activity::Removing, expected);
    if let Found::Remembered(all) = found {
        for untagged in all {
            sweep::remove_manifests(registry, &untagged.repository, &untagged.manifests).await?;
            run.progress.advance(untagged.manifests.len() as u64);
        }
    }
    let is_needed = |run: &Run<'_, F>, digest| {
        let needed = &run.marks.needed;
        needed.contains(Item::Blob(digest).fingerprint())
    };
    let mut walk = CatalogWalk::complete(registry);
    while let Some(name) = walk.next().await? {
        let links = sweep::links(registry, &name, |digest| !is_needed(&run, *digest)).await?;
        run.remove_links(&name, &links, || Ok(())).await?;
    }
    let mut blobs = Unmarked::new(registry);
    while let Some(digests) = blobs.next(&run.marks).await? {
        let there = sweep::look_at(registry, &digests, &run.marker.pace).await?;
        for blob in &there {
            (run.told)(CollectStep::Blob(&blob.digest));
        }
        if !dry_run {
            sweep::remove_blobs(registry, &digests, &run.marker.pace, || Ok(())).await?;
        }
        run.progress.advance(there.len() as u64);
    }
    run.tidy().await?;
    Ok(run.report)
}
