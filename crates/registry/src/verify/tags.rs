//! Looking at the tags of a repository.

use std::collections::HashMap;

use wharfinger_oci::manifest::MAX_SIZE;
use wharfinger_oci::{Digest, Tag};

use super::examine::{BATCH, Examiner, LinkState};
use super::finding::Fix;
use super::{Damage, Finding};
use crate::link::LinkSet;
use crate::manifest::stored_media_type;
use crate::{Error, Result, layout};

impl Examiner<'_, '_> {
    /// Finds out what the tags stand for.
    pub(super) async fn tags(&mut self) -> Result<()> {
        let tags = match self.repository.tags().list(None, None).await {
            Err(Error::NameUnknown(_)) => Vec::new(),
            page => page?.items,
        };
        self.seen.tags = tags.len() as u64;
        let name = self.repository.name().clone();
        for batch in tags.chunks(BATCH) {
            let paths = batch.iter().map(|tag| layout::tag_current(&name, tag));
            for (tag, state) in batch.iter().zip(self.look_at(paths).await?) {
                let index = LinkSet::TagIndex { tag: tag.clone() };
                let index = self.repository.links(index).digests().await?;
                match state {
                    LinkState::Leads(digest) => {
                        self.tagged.push((tag.to_string(), digest));
                        self.history(tag, &index, &digest).await?;
                    }
                    LinkState::Missing => self.tag_without_link(tag).await?,
                    LinkState::Broken(reason) => self.broken_tag(tag, &index, reason),
                }
            }
        }
        Ok(())
    }

    /// What a tag has stood for. It need not be there any more.
    async fn history(&mut self, tag: &Tag, index: &[Digest], current: &Digest) -> Result<()> {
        let name = self.repository.name().clone();
        let set = LinkSet::TagIndex { tag: tag.clone() };
        let link = |digest: &Digest| Fix::Link {
            set: set.clone(),
            digest: *digest,
            to: *digest,
        };
        if !index.contains(current) {
            let path = set.write_path(&name, current);
            let reason = "the tag has no record of what it stands for";
            let finding = Finding::new(Damage::MissingLink, &path, reason).about(current);
            self.found(finding.mended_by(link(current)));
        }
        let paths: Vec<_> = index.iter().map(|d| set.write_path(&name, d)).collect();
        let states = self.look_at(paths.iter().cloned()).await?;
        for ((digest, path), state) in index.iter().zip(paths).zip(states) {
            let reason = match state {
                LinkState::Leads(to) if to == *digest => continue,
                LinkState::Leads(to) => format!("the link leads to {to}"),
                LinkState::Broken(reason) => reason,
                LinkState::Missing => {
                    self.half_made_link(&path, digest).await?;
                    continue;
                }
            };
            let finding = Finding::new(Damage::BrokenLink, &path, reason).about(digest);
            self.found(finding.mended_by(link(digest)));
        }
        Ok(())
    }

    /// The folder of a tag whose first push was cut short.
    async fn tag_without_link(&mut self, tag: &Tag) -> Result<()> {
        let name = self.repository.name().clone();
        let folder = layout::tag(&name, tag);
        if self.is_settled(&folder).await? {
            let path = layout::tag_current(&name, tag);
            let reason = "the tag stands for nothing";
            let finding = Finding::new(Damage::HalfMadeLink, &path, reason);
            self.found_tag(tag, finding.mended_by(Fix::Remove(folder)));
        }
        Ok(())
    }

    fn broken_tag(&mut self, tag: &Tag, index: &[Digest], reason: String) {
        let path = layout::tag_current(self.repository.name(), tag);
        let fix = match index {
            [only] => Fix::Tag(tag.clone(), *only),
            [] => Fix::Remove(layout::tag(self.repository.name(), tag)),
            _ => Fix::Otherwise("it has stood for several manifests; push it again, or delete it"),
        };
        let finding = Finding::new(Damage::BrokenLink, &path, reason);
        self.found_tag(tag, finding.mended_by(fix));
    }

    /// Whether the manifests that tags stand for are there.
    pub(super) async fn tags_lead_somewhere(&mut self) -> Result<()> {
        let name = self.repository.name().clone();
        for (tag, digest) in self.tagged.clone() {
            let Ok(tag) = tag.parse::<Tag>() else {
                continue;
            };
            if self.by_digest.contains_key(&digest) {
                continue;
            }
            let link = layout::revision_link(&name, &digest);
            let state = self.look_at([link.clone()]).await?.pop();
            let has_blob = digest.is_canonical() && self.has_manifest(&digest).await?;
            let fix = match state {
                // The manifest is damaged, or cannot be read, or its link is broken: told there.
                Some(LinkState::Leads(to)) if self.has_blob(&to).await? => continue,
                Some(LinkState::Broken(_)) if has_blob => continue,
                Some(LinkState::Missing) if has_blob => {
                    let set = LinkSet::Manifests;
                    let reason = format!("tag {tag} stands for the manifest, which is there");
                    let finding = Finding::new(Damage::MissingLink, &link, reason).about(&digest);
                    let to = digest;
                    let fix = Fix::Link { set, digest, to };
                    let affected = self.affected(&digest, &HashMap::new());
                    self.found(finding.affects(affected).mended_by(fix));
                    continue;
                }
                _ => Fix::Remove(layout::tag(&name, &tag)),
            };
            let path = layout::tag_current(&name, &tag);
            let reason = format!("the tag stands for {digest}, which is not there");
            let finding = Finding::new(Damage::DanglingLink, &path, reason).about(&digest);
            self.found_tag(&tag, finding.mended_by(fix));
        }
        Ok(())
    }

    /// Whether the store has a manifest's bytes.
    async fn has_manifest(&self, canonical: &Digest) -> Result<bool> {
        let blobs = &self.repository.shared.blobs;
        if !self.has_blob(canonical).await?
            || blobs
                .stat(canonical)
                .await?
                .is_none_or(|size| size > MAX_SIZE as u64)
        {
            return Ok(false);
        }
        match blobs.get(canonical).await {
            Err(Error::BlobUnknown(_) | Error::Damaged { .. }) => Ok(false),
            content => Ok(stored_media_type(&content?.bytes).is_some()),
        }
    }

    fn found_tag(&mut self, tag: &Tag, mut finding: Finding) {
        let name = self.repository.name();
        finding.affected.tags.insert(format!("{name}:{tag}"));
        self.found(finding);
    }
}
