//! Looking at the manifests of a repository: whether they can be read, and what they need is there.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::manifest::{MAX_SIZE, Manifest, Role, mentions};
use wharfinger_oci::{Algorithm, Digest, media_type, schema1};

use super::examine::{BATCH, CONCURRENCY, Examiner, LinkState};
use super::finding::{Affected, Fix};
use super::{Damage, Finding};
use crate::link::LinkSet;
use crate::manifest::stored_media_type;
use crate::{Error, Result, layout};

/// A manifest that can be read, under one of its digests.
#[derive(Debug)]
pub(super) struct Node {
    digest: Digest,
    canonical: Digest,
    pub(super) subject: Option<Digest>,
    /// The manifests that it mentions, and whether each must be there.
    nested: Vec<(Digest, bool)>,
    /// What else it needs.
    pub(super) blobs: Vec<Digest>,
}

/// What was read of a manifest.
enum Parsed {
    Node(Box<Node>, Bytes),
    /// Why it cannot be understood.
    Unreadable(String),
    /// Its bytes are not to be had, which is told elsewhere.
    Lost,
}

impl Examiner<'_, '_> {
    /// Looks at all manifests.
    pub(super) async fn manifests(&mut self) -> Result<()> {
        let revisions = self.repository.links(LinkSet::Manifests).digests().await?;
        let tagged: HashSet<Digest> = self.tagged.iter().map(|(_, digest)| *digest).collect();
        let mut manifests = Vec::new();
        for batch in revisions.chunks(BATCH) {
            let set = LinkSet::Manifests;
            let name = self.repository.name().clone();
            let paths = batch.iter().map(|digest| set.write_path(&name, digest));
            for (digest, state) in batch.iter().zip(self.look_at(paths).await?) {
                let is_missing = matches!(state, LinkState::Missing);
                // There may be signatures of one that is linked among the layers, or whose link a
                // tag brings back.
                if is_missing && self.layers.contains(digest) {
                    manifests.push(*digest);
                } else if is_missing && tagged.contains(digest) {
                    continue;
                } else if self.link(&set, digest, state).await? {
                    manifests.push(*digest);
                }
            }
        }
        // Those that Distribution 2.1.0 linked among the layers.
        let known: HashSet<Digest> = revisions.into_iter().collect();
        let misplaced: BTreeSet<_> = tagged
            .into_iter()
            .filter(|digest| !known.contains(digest) && self.layers.contains(digest))
            .collect();
        manifests.extend(misplaced);
        // Each may have some megabytes.
        for batch in manifests.chunks(2 * CONCURRENCY) {
            let reads: Vec<_> = batch.iter().map(|digest| self.parse(*digest)).collect();
            let parsed: Vec<_> = stream::iter(reads)
                .buffered(CONCURRENCY)
                .try_collect()
                .await?;
            for (digest, parsed) in batch.iter().zip(parsed) {
                self.manifest(digest, parsed).await?;
            }
        }
        self.seen.manifests = self.nodes.len() as u64;
        self.needs().await
    }

    async fn manifest(&mut self, digest: &Digest, parsed: Parsed) -> Result<()> {
        match parsed {
            Parsed::Lost => {}
            Parsed::Unreadable(reason) => {
                let path = layout::revision_link(self.repository.name(), digest);
                let how = "push it again as it should be, or delete it";
                let finding = Finding::new(Damage::UnreadableManifest, &path, reason);
                let finding = finding.about(digest).mended_by(Fix::Otherwise(how));
                let affected = self.affected(digest, &HashMap::new());
                self.found(finding.affects(affected));
            }
            Parsed::Node(node, bytes) => {
                if stored_media_type(&bytes).as_deref() == Some(media_type::SCHEMA1_MANIFEST) {
                    self.signatures(&node.canonical, &bytes).await?;
                }
                self.record_of_subject(&node, &bytes).await?;
                self.by_digest.insert(node.digest, self.nodes.len());
                self.nodes.push(*node);
            }
        }
        Ok(())
    }

    async fn parse(&self, digest: Digest) -> Result<Parsed> {
        let shared = &self.repository.shared;
        let links = self.repository.links(LinkSet::Manifests);
        let Ok(Some(canonical)) = links.resolve(&digest).await else {
            return Ok(Parsed::Lost);
        };
        if self.verification.damaged.contains_key(&canonical) {
            return Ok(Parsed::Lost);
        }
        match shared.blobs.stat(&canonical).await? {
            None => return Ok(Parsed::Lost),
            Some(size) if size > MAX_SIZE as u64 => {
                return Ok(Parsed::Unreadable(format!(
                    "it has {size} bytes, which is no manifest"
                )));
            }
            Some(_) => {}
        }
        let bytes = match shared.blobs.get(&canonical).await {
            Err(Error::BlobUnknown(_) | Error::Damaged { .. }) => return Ok(Parsed::Lost),
            content => content?.bytes,
        };
        Ok(match self.node(digest, canonical, &bytes) {
            Ok(node) => Parsed::Node(Box::new(node), bytes),
            Err(reason) => Parsed::Unreadable(reason),
        })
    }

    /// What a manifest says it needs. One that is too odd to be pushed today is read leniently: all
    /// that it mentions may be a blob.
    fn node(&self, digest: Digest, canonical: Digest, bytes: &Bytes) -> Result<Node, String> {
        let mentioned = mentions(bytes).map_err(|error| error.to_string())?;
        let media_type = stored_media_type(bytes).ok_or("it is no kind of manifest")?;
        let mut node = Node {
            digest,
            canonical,
            subject: mentioned.subjects.first().copied(),
            nested: Vec::new(),
            blobs: Vec::new(),
        };
        let Ok(manifest) = Manifest::parse(Some(&media_type), bytes.clone()) else {
            return Ok(node);
        };
        let rules = &self.repository.shared.options.load().validation;
        for reference in manifest.references() {
            let is_required = rules.requires(&self.repository.name, &reference);
            match reference.role {
                Role::Manifest => node.nested.push((reference.digest, is_required)),
                _ if is_required => node.blobs.push(reference.digest),
                _ => {}
            }
        }
        Ok(node)
    }

    /// The signatures of a schema 1 manifest: without one of them it is not served.
    async fn signatures(&mut self, revision: &Digest, payload: &Bytes) -> Result<()> {
        let set = LinkSet::Signatures {
            revision: *revision,
        };
        let listed = self.repository.links(set.clone()).digests().await?;
        let sound = self.links(&set, &listed).await?;
        if sound.is_empty() || sound.len() < listed.len() {
            return Ok(());
        }
        let signatures = match self.repository.signatures().get(revision).await {
            Err(Error::SignatureUnknown { .. }) => return Ok(()),
            signatures => signatures?,
        };
        let fits = schema1::assemble(payload, &signatures)
            .map_err(|error| error.to_string())
            .and_then(|signed| {
                let media_type = Some(media_type::SCHEMA1_SIGNED_MANIFEST);
                Manifest::parse(media_type, signed).map_err(|error| error.to_string())
            });
        if let Err(reason) = fits {
            let name = self.repository.name();
            let path = layout::signatures(name, revision, Algorithm::CANONICAL);
            let finding = Finding::new(Damage::BadSignature, &path, reason).about(revision);
            let affected = self.affected(revision, &HashMap::new());
            self.found(finding.affects(affected));
        }
        Ok(())
    }

    /// Whether a manifest is recorded with its subject, under whichever of its digests.
    async fn record_of_subject(&mut self, node: &Node, bytes: &[u8]) -> Result<()> {
        let Some(subject) = node.subject else {
            return Ok(());
        };
        let set = LinkSet::Referrers { subject };
        let links = self.repository.links(set.clone());
        let name = self.repository.name().clone();
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, bytes);
            // A broken one is told of where the records are looked at.
            if !matches!(links.resolve(&digest).await, Ok(None)) {
                return Ok(());
            }
        }
        let path = set.write_path(&name, &node.digest);
        let reason = format!("the manifest is not recorded as one about {subject}");
        let finding = Finding::new(Damage::MissingLink, &path, reason).about(&node.digest);
        self.found(finding.mended_by(Fix::Link {
            set,
            digest: node.digest,
            to: node.canonical,
        }));
        Ok(())
    }

    /// The canonical digest of a manifest that has this digest, too, of another algorithm.
    pub(super) async fn manifest_of(&self, alias: &Digest) -> Result<Option<Digest>> {
        for node in &self.nodes {
            let content = self.repository.shared.blobs.get(&node.canonical).await;
            if let Ok(content) = content
                && Digest::of(alias.algorithm(), &content.bytes) == *alias
            {
                return Ok(Some(node.canonical));
            }
        }
        Ok(None)
    }

    /// Whether what the manifests need is there.
    async fn needs(&mut self) -> Result<()> {
        let parents = self.parents();
        for (digest, canonical) in std::mem::take(&mut self.damaged) {
            let affected = self.affected(&digest, &parents);
            self.seen.affected.push((canonical, affected));
        }
        let mut missing = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for blob in &node.blobs {
                let canonical = match blob.is_canonical() {
                    true => Some(*blob),
                    false => self.canonical(blob).await?,
                };
                if let Some(canonical) = canonical
                    && self.verification.damaged.contains_key(&canonical)
                {
                    let affected = self.affected(&node.digest, &parents);
                    self.seen.affected.push((canonical, affected));
                }
            }
            for blob in &node.blobs {
                if !self.layers.contains(blob) {
                    missing.push((index, *blob, false));
                }
            }
            for (nested, needed) in &node.nested {
                if *needed && !self.by_digest.contains_key(nested) {
                    missing.push((index, *nested, true));
                }
            }
        }
        let flawed = |finding: &Finding| {
            let is_gone = finding.damage == Damage::DanglingLink;
            finding
                .digest
                .filter(|_| !is_gone && finding.path.contains("/revisions/"))
        };
        let flawed: HashSet<_> = self.seen.findings.iter().filter_map(flawed).collect();
        missing.retain(|(_, digest, is_manifest)| !is_manifest || !flawed.contains(digest));
        for (index, digest, is_manifest) in missing {
            let affected = self.affected(&self.nodes[index].digest, &parents);
            let finding = match is_manifest {
                true => self.missing_manifest(index, &digest).await?,
                false => self.missing_blob(index, &digest).await?,
            };
            if let Some(finding) = finding {
                self.found(finding.affects(affected));
            }
        }
        Ok(())
    }

    async fn canonical(&self, digest: &Digest) -> Result<Option<Digest>> {
        let path = layout::layer_link(self.repository.name(), digest);
        Ok(match self.look_at([path]).await?.pop() {
            Some(LinkState::Leads(canonical)) => Some(canonical),
            _ => None,
        })
    }

    async fn missing_blob(&self, index: usize, digest: &Digest) -> Result<Option<Finding>> {
        let node = &self.nodes[index];
        let link = layout::layer_link(self.repository.name(), digest);
        if !digest.is_canonical() || !self.has_blob(digest).await? {
            return Ok(Some(self.missing(node, digest)));
        }
        Ok(match self.look_at([link.clone()]).await?.pop() {
            Some(LinkState::Missing) => {
                let reason = format!("manifest {} needs the blob, which is there", node.digest);
                let finding = Finding::new(Damage::MissingLink, &link, reason).about(digest);
                Some(finding.mended_by(Fix::Link {
                    set: LinkSet::Layers,
                    digest: *digest,
                    to: *digest,
                }))
            }
            // What is wrong with it has been told.
            _ => None,
        })
    }

    async fn missing_manifest(&self, index: usize, digest: &Digest) -> Result<Option<Finding>> {
        // Of one that is damaged, or whose link is, it is told there.
        let is_damaged = self.verification.damaged.contains_key(digest);
        if is_damaged && self.has_blob(digest).await? {
            return Ok(None);
        }
        Ok(Some(self.missing(&self.nodes[index], digest)))
    }

    fn missing(&self, node: &Node, digest: &Digest) -> Finding {
        let path = layout::revision_link(self.repository.name(), &node.digest);
        let reason = format!("the manifest needs {digest}, which is not there");
        let how = "push the image again, or delete it";
        let finding = Finding::new(Damage::MissingContent, &path, reason);
        finding.about(digest).mended_by(Fix::Otherwise(how))
    }

    /// Which manifests mention each.
    fn parents(&self) -> HashMap<Digest, Vec<usize>> {
        let mut parents: HashMap<Digest, Vec<usize>> = HashMap::new();
        for (index, node) in self.nodes.iter().enumerate() {
            for (nested, _) in &node.nested {
                parents.entry(*nested).or_default().push(index);
            }
        }
        parents
    }

    /// The tags that lead to a manifest, by whatever way.
    pub(super) fn affected(
        &self,
        digest: &Digest,
        parents: &HashMap<Digest, Vec<usize>>,
    ) -> Affected {
        let name = self.repository.name();
        let mut reached = HashSet::from([*digest]);
        let mut pending = vec![*digest];
        while let Some(digest) = pending.pop() {
            for &parent in parents.get(&digest).into_iter().flatten() {
                let parent = self.nodes[parent].digest;
                if reached.insert(parent) {
                    pending.push(parent);
                }
            }
        }
        let tags = self.tagged.iter();
        let tags = tags.filter(|(_, digest)| reached.contains(digest));
        Affected {
            repositories: BTreeSet::from([name.to_string()]),
            tags: tags.map(|(tag, _)| format!("{name}:{tag}")).collect(),
        }
    }
}
