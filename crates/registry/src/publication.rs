//! Publishing small things together: a blob with the links that lead to it, a manifest with its
//! tags. Each step survives the machine before the next can be seen, and the store may save
//! syncs over writing one thing after the other.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedRwLockWriteGuard;
use wharfinger_oci::{Digest, RepositoryName, Tag};
use wharfinger_storage::{Steps, StoragePath};

use crate::descriptor_cache::{CachedDescriptor, Lookup};
use crate::link::LinkedBlobs;
use crate::repository::SharedRef;
use crate::{Result, layout};

/// What is to be written, step by step. Until it is written, or dropped, nobody else can build on
/// the digests it holds.
#[derive(Debug)]
pub(crate) struct Publication {
    shared: SharedRef,
    publishing: Vec<OwnedRwLockWriteGuard<()>>,
    /// Where a blob's bytes are that come before the steps, and where they go.
    moved: Option<(StoragePath, StoragePath)>,
    steps: Steps,
    links: Vec<NewLink>,
    /// Whether there is more to write than tags.
    grants: bool,
}

#[derive(Debug)]
struct NewLink {
    set: LinkedBlobs,
    digest: Digest,
    blob: CachedDescriptor,
    lookup: Option<Lookup>,
}

impl Publication {
    /// Begins to publish under these digests.
    pub(crate) async fn begin(shared: &SharedRef, digests: &[Digest]) -> Self {
        let mut digests = digests.to_vec();
        // In one order for everybody, or two could wait for each other.
        digests.sort_unstable();
        digests.dedup();
        let mut publishing = Vec::with_capacity(digests.len());
        for digest in &digests {
            publishing.push(shared.publishing.exclusive(digest).await);
        }
        Self {
            shared: Arc::clone(shared),
            publishing,
            moved: None,
            steps: Steps::new(),
            links: Vec::new(),
            grants: false,
        }
    }

    /// A step that stores a blob, unless it is there. `canonical` is its digest.
    pub(crate) async fn blob(
        &mut self,
        canonical: Digest,
        bytes: Bytes,
    ) -> Result<CachedDescriptor> {
        let size = bytes.len() as u64;
        if !self.shared.blobs.has(&canonical, size).await? {
            self.step(vec![(layout::blob_data(&canonical), bytes)]);
        }
        Ok(CachedDescriptor { canonical, size })
    }

    /// Before all steps, moves the bytes of a blob to their place, unless it is there. They survive
    /// the machine where they are, in the file `from`.
    pub(crate) async fn moved_blob(
        &mut self,
        blob: CachedDescriptor,
        from: StoragePath,
    ) -> Result<()> {
        if !self.shared.blobs.has_file(blob).await? {
            self.moved = Some((from, layout::blob_data(&blob.canonical)));
            self.grants = true;
        }
        Ok(())
    }

    /// A step that grants access to a blob under digests of link sets, as far as they do not
    /// already.
    pub(crate) async fn links(
        &mut self,
        links: Vec<(LinkedBlobs, Digest)>,
        blob: CachedDescriptor,
    ) -> Result<()> {
        let mut step = Vec::new();
        for (set, digest) in links {
            if set.is_known(&digest, blob).await? {
                continue;
            }
            step.push(link(set.write_path(&digest), &blob.canonical));
            let lookup = set.begin(&digest);
            self.links.push(NewLink {
                set,
                digest,
                blob,
                lookup,
            });
        }
        self.step(step);
        Ok(())
    }

    fn step(&mut self, files: Vec<(StoragePath, Bytes)>) {
        if !files.is_empty() {
            self.steps.push(files);
            self.grants = true;
        }
    }

    /// A step that lets tags stand for a manifest: first the history of each, then, at once for
    /// every reader, the tag itself. The caller holds the repository's lock.
    pub(crate) fn tags(&mut self, name: &RepositoryName, tags: &[Tag], digest: &Digest) {
        let files = tags.iter().flat_map(|tag| {
            [
                link(layout::tag_index_link(name, tag, digest), digest),
                link(layout::tag_current(name, tag), digest),
            ]
        });
        let step: Vec<_> = files.collect();
        if !step.is_empty() {
            self.steps.push(step);
        }
    }

    /// Writes all of it, durably.
    pub(crate) async fn write(mut self) -> Result<()> {
        if !self.grants {
            // All that tags lead to is durable already.
            self.publishing.clear();
        }
        let steps = std::mem::take(&mut self.steps);
        let driver = &self.shared.driver;
        match &self.moved {
            Some((from, to)) => driver.move_and_put_all(from, to, steps).await?,
            None if steps.is_empty() => {}
            None => driver.put_all(steps).await?,
        }
        for link in self.links {
            link.set.linked(link.lookup, &link.digest, link.blob);
        }
        Ok(())
    }
}

/// A link's file.
fn link(path: StoragePath, to: &Digest) -> (StoragePath, Bytes) {
    (path, Bytes::from(to.to_string()))
}
