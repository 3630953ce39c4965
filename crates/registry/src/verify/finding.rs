//! What is found not to be as it should.

use std::collections::BTreeSet;

use serde::Serialize;
use wharfinger_oci::{Digest, Tag};
use wharfinger_storage::StoragePath;

use crate::link::LinkSet;

/// How many repositories, and how many tags, a finding names at the most.
const NAMED: usize = 100;

/// A kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// A blob has not the digest that it lies under, or cannot be read.
    DamagedBlob,
    /// A blob's folder without the blob.
    HalfMadeBlob,
    /// A link holds something else than the digest that it should.
    BrokenLink,
    /// A link leads to a blob, or a tag to a manifest, that is not there.
    DanglingLink,
    /// A link's folder without the link.
    HalfMadeLink,
    /// A manifest needs a blob that is there, and to which its repository has no link; a tag has
    /// no record of what it stands for, or a manifest is not recorded with its subject.
    MissingLink,
    /// A manifest needs a blob or a manifest that is not there.
    MissingContent,
    /// A manifest that cannot be understood. It has the digest that it was pushed under.
    UnreadableManifest,
    /// The signatures of a schema 1 manifest do not fit it.
    BadSignature,
}

impl Damage {
    /// Its name in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DamagedBlob => "damaged-blob",
            Self::HalfMadeBlob => "half-made-blob",
            Self::BrokenLink => "broken-link",
            Self::DanglingLink => "dangling-link",
            Self::HalfMadeLink => "half-made-link",
            Self::MissingLink => "missing-link",
            Self::MissingContent => "missing-content",
            Self::UnreadableManifest => "unreadable-manifest",
            Self::BadSignature => "bad-signature",
        }
    }
}

/// What became of what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// It was only looked for.
    Found,
    /// What was missing or wrong was written anew.
    Restored,
    /// What was of no use was removed.
    Removed,
    /// A damaged blob was put aside, where nobody finds it. The next push brings it back.
    Quarantined,
    /// It could not be mended.
    Left(String),
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub damage: Damage,
    /// Where it is, below the driver's root.
    pub path: String,
    /// What is wrong.
    pub reason: String,
    /// The blob or the manifest that it is about.
    pub digest: Option<Digest>,
    /// What it affects.
    #[serde(flatten)]
    pub affected: Affected,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    #[serde(skip)]
    pub(super) fix: Fix,
}

/// How something is mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fix {
    /// Not here, but so.
    Otherwise(&'static str),
    /// A link is written that says it leads to a digest.
    Link {
        set: LinkSet,
        digest: Digest,
        to: Digest,
    },
    /// A tag stands for a manifest.
    Tag(Tag, Digest),
    /// A link is of no use.
    Unlink { set: LinkSet, digest: Digest },
    /// A folder is of no use.
    Remove(StoragePath),
}

/// What something affects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// Repositories, a hundred at the most.
    pub repositories: BTreeSet<String>,
    /// Tags, each as `repository:tag`, a hundred at the most.
    pub tags: BTreeSet<String>,
}

impl Affected {
    pub(super) fn extend(&mut self, other: Self) {
        for (all, more) in [
            (&mut self.repositories, other.repositories),
            (&mut self.tags, other.tags),
        ] {
            let room = NAMED.saturating_sub(all.len());
            all.extend(more.into_iter().take(room));
        }
    }
}

impl Finding {
    pub(super) fn new(damage: Damage, path: &StoragePath, reason: impl Into<String>) -> Self {
        Self {
            damage,
            path: path.to_string(),
            reason: reason.into(),
            digest: None,
            affected: Affected::default(),
            outcome: Outcome::Found,
            fix: Fix::Otherwise("it must be looked at by hand"),
        }
    }

    pub(super) fn about(mut self, digest: &Digest) -> Self {
        self.digest = Some(*digest);
        self
    }

    pub(super) fn affects(mut self, affected: Affected) -> Self {
        self.affected.extend(affected);
        self
    }

    pub(super) fn mended_by(mut self, fix: Fix) -> Self {
        self.fix = fix;
        self
    }

    /// What another one shares that tells of the same.
    pub(super) fn key(&self) -> (Damage, String, Option<Digest>) {
        (self.damage, self.path.clone(), self.digest)
    }
}
