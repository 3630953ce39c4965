//! Why a blob or a manifest stays, or that it goes.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime};

use wharfinger_oci::{Digest, RepositoryName, Tag};

use super::item::{self, Item};
use super::mark::{Marker, Node};
use super::state::{self, Phase};
use crate::catalog::CatalogWalk;
use crate::link::LinkSet;
use crate::pace::Pace;
use crate::{Error, Registry, Repository, Result, layout};

/// What is known of some content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The digest by which the store keeps it.
    pub canonical: Digest,
    /// Its size in bytes, where the store has it.
    pub size: Option<u64>,
    /// When it was written, where that is known.
    pub written: Option<SystemTime>,
    /// What needs it, in each repository in which something does.
    pub needs: Vec<Need>,
    /// The repositories that have a link to it.
    pub linked: Vec<RepositoryName>,
    /// What becomes of it.
    pub standing: Standing,
}

/// What needs it in a repository: the shortest way that leads there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The repository.
    pub repository: RepositoryName,
    /// The tag that the way begins at; `None` where it begins at an untagged manifest.
    pub tag: Option<Tag>,
    /// The manifests on the way, each of which mentions the next or is its subject, the last of
    /// which mentions the content or is it.
    pub manifests: Vec<Digest>,
}

/// What becomes of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It stays, as something needs it.
    Needed,
    /// Nothing needs it; it stays as somebody has pardoned it while a run had condemned it.
    Pardoned,
    /// Nothing needs it, and a run has condemned it.
    Condemned {
        /// Whether the run removes already.
        is_executing: bool,
    },
    /// Nothing needs it; it stays as it was written less than the grace period ago.
    Young,
    /// Nothing needs it, and the next run condemns it.
    Garbage,
    /// The store has it not.
    Absent,
}

impl Registry {
    /// Why content stays, or that it goes. `grace` is the time for which young blobs stay.
    ///
    /// # Errors
    /// As [`collect`](Registry::collect) when not all that is needed can be known.
    pub async fn explain(
        &self,
        digest: &Digest,
        delete_untagged: bool,
        grace: Duration,
    ) -> Result<Explanation> {
        let marker = Marker {
            registry: self,
            leaving: None,
            delete_untagged,
            pace: Pace::new(None),
        };
        let mut canonical = digest.is_canonical().then_some(*digest);
        let mut names = Vec::new();
        let mut walk = CatalogWalk::complete(self);
        while let Some(name) = walk.next().await? {
            if canonical.is_none() {
                canonical = resolve(&self.repository(&name), digest).await?;
            }
            names.push(name);
        }
        let canonical = canonical.ok_or(Error::BlobUnknown(*digest))?;
        let mut needs = Vec::new();
        let mut linked = Vec::new();
        for name in names {
            let repository = self.repository(&name);
            needs.extend(need(&marker, &repository, &canonical).await?);
            if resolve(&repository, &canonical).await?.is_some() {
                linked.push(name);
            }
        }
        let stat = match self
            .shared
            .driver
            .stat(&layout::blob_data(&canonical))
            .await
        {
            Err(error) if error.is_not_found() => None,
            stat => Some(stat?),
        };
        let written = stat.as_ref().and_then(|stat| stat.modified);
        let mut explanation = Explanation {
            canonical,
            size: stat.map(|stat| stat.size),
            written,
            needs,
            linked,
            standing: Standing::Needed,
        };
        explanation.standing = self.standing(&explanation, grace).await?;
        Ok(explanation)
    }

    async fn standing(&self, explained: &Explanation, grace: Duration) -> Result<Standing> {
        if !explained.needs.is_empty() {
            return Ok(Standing::Needed);
        }
        if explained.size.is_none() {
            return Ok(Standing::Absent);
        }
        let driver = &*self.shared.driver;
        let blob = Item::Blob(explained.canonical);
        if let Some(state) = state::read(driver).await?
            && state.phase != Phase::Over
        {
            for file in 0..state.files {
                let list = item::read_list(driver, state.run, file).await?;
                if !list.iter().any(|entry| entry.item == blob) {
                    continue;
                }
                let key = blob.fingerprint().to_string();
                let pardon = layout::gc_pardon(&state.run.to_string(), &key);
                return match driver.stat(&pardon).await {
                    Ok(_) => Ok(Standing::Pardoned),
                    Err(error) if error.is_not_found() => Ok(Standing::Condemned {
                        is_executing: state.phase == Phase::Executing,
                    }),
                    Err(error) => Err(error.into()),
                };
            }
        }
        let age = explained.written.and_then(|time| time.elapsed().ok());
        match age {
            Some(age) if age >= grace => Ok(Standing::Garbage),
            _ => Ok(Standing::Young),
        }
    }
}

/// The canonical digest of what a repository knows as a blob or a manifest.
async fn resolve(repository: &Repository, digest: &Digest) -> Result<Option<Digest>> {
    for set in [LinkSet::Layers, LinkSet::Manifests] {
        match repository.links(set).resolve(digest).await {
            // Where it is used, it says so.
            Err(Error::Damaged { .. }) | Ok(None) => {}
            found => return found,
        }
    }
    Ok(None)
}

/// What needs the content in a repository.
async fn need(
    marker: &Marker<'_>,
    repository: &Repository,
    canonical: &Digest,
) -> Result<Option<Need>> {
    let (tags, nodes) = marker.read_repository(repository).await?;
    let mut indices: HashMap<Digest, Vec<usize>> = HashMap::new();
    let mut referrers: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (index, node) in nodes.iter().enumerate() {
        indices.entry(node.digest).or_default().push(index);
        if node.canonical != node.digest {
            indices.entry(node.canonical).or_default().push(index);
        }
        for subject in &node.mentions.subjects {
            referrers.entry(*subject).or_default().push(index);
        }
    }
    let mut needing = vec![false; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        needing[index] = needs(repository, node, canonical).await?;
    }
    // Breadth first, from all tags at once: how each manifest was first come to.
    let mut come_from: Vec<Option<Origin>> = vec![None; nodes.len()];
    let mut pending = VecDeque::new();
    for (tag, target) in &tags {
        for &index in indices.get(target).into_iter().flatten() {
            if come_from[index].is_none() {
                come_from[index] = Some(Origin::Tag(tag.clone()));
                pending.push_back(index);
            }
        }
    }
    while let Some(at) = pending.pop_front() {
        if needing[at] {
            return Ok(Some(way(repository, &nodes, &come_from, at)));
        }
        let node = &nodes[at];
        let mentioned = node.mentions.digests.iter();
        let next = mentioned.filter_map(|digest| indices.get(digest));
        let own = [node.digest, node.canonical];
        let next = next.chain(own.iter().filter_map(|digest| referrers.get(digest)));
        for &index in next.flatten() {
            if come_from[index].is_none() {
                come_from[index] = Some(Origin::Manifest(at));
                pending.push_back(index);
            }
        }
    }
    let untagged = needing.iter().position(|needs| *needs);
    Ok(untagged
        .filter(|_| !marker.delete_untagged)
        .map(|index| Need {
            repository: repository.name().clone(),
            tag: None,
            manifests: vec![nodes[index].digest],
        }))
}

/// How a manifest was come to.
#[derive(Clone, Debug)]
enum Origin {
    Tag(Tag),
    Manifest(usize),
}

fn way(repository: &Repository, nodes: &[Node], come_from: &[Option<Origin>], to: usize) -> Need {
    let mut manifests = vec![nodes[to].digest];
    let mut tag = None;
    let mut at = to;
    while let Some(origin) = &come_from[at] {
        match origin {
            Origin::Tag(first) => {
                tag = Some(first.clone());
                break;
            }
            Origin::Manifest(before) => {
                at = *before;
                manifests.push(nodes[at].digest);
            }
        }
    }
    manifests.reverse();
    Need {
        repository: repository.name().clone(),
        tag,
        manifests,
    }
}

/// Whether a manifest is the content, mentions it, or has it as a signature.
async fn needs(repository: &Repository, node: &Node, canonical: &Digest) -> Result<bool> {
    if node.canonical == *canonical || node.mentions.digests.contains(canonical) {
        return Ok(true);
    }
    let others = node.mentions.digests.iter();
    for mentioned in others.filter(|digest| !digest.is_canonical()) {
        if resolve(repository, mentioned).await? == Some(*canonical) {
            return Ok(true);
        }
    }
    if !node.is_schema1 {
        return Ok(false);
    }
    let revision = node.canonical;
    let signatures = repository.links(LinkSet::Signatures { revision });
    for signature in signatures.digests().await? {
        if signatures.resolve(&signature).await? == Some(*canonical) {
            return Ok(true);
        }
    }
    Ok(false)
}
