//! `sync`.

use serde::{Deserialize, Serialize};

use super::Exec;
use crate::duration::GoDuration;
use crate::secret::{Secret, SecretUrl};

/// Mirroring. Distribution has no such section.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sync {
    /// What is copied, and between whom.
    pub jobs: Vec<SyncJob>,
}

/// One of `sync.jobs`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncJob {
    /// Its name, in logs and metrics and in the store.
    pub name: String,
    /// The registry that images are copied from.
    pub from: Option<SyncRegistry>,
    /// The registry that images are copied to.
    pub to: Option<SyncRegistry>,
    /// Which repositories and tags.
    pub images: Vec<String>,
    /// Which of them not.
    pub exclude: Vec<String>,
    /// Of which versions tags must be.
    pub versions: String,
    /// How many versions at most; 0 is all.
    pub newest: usize,
    /// The platforms of which an index's images are copied.
    pub platforms: Vec<String>,
    /// Whether signatures and the like come along.
    pub referrers: bool,
    /// What is removed where images go.
    pub delete: SyncDeletion,
    /// What is put before the names of repositories.
    pub prefix: String,
    /// The time between two runs; 0 is none but those by hand.
    pub interval: GoDuration,
    /// How many images are copied at once.
    pub parallelism: usize,
}

impl Default for SyncJob {
    fn default() -> Self {
        Self {
            name: String::new(),
            from: None,
            to: None,
            images: Vec::new(),
            exclude: Vec::new(),
            versions: String::new(),
            newest: 0,
            platforms: Vec::new(),
            referrers: true,
            delete: SyncDeletion::default(),
            prefix: String::new(),
            interval: GoDuration::default(),
            parallelism: 4,
        }
    }
}

/// `delete` of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncDeletion {
    /// Nothing is.
    #[default]
    None,
    /// Tags are that are gone where images come from.
    Tags,
}

/// `from` and `to` of a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncRegistry {
    /// Its address.
    pub remoteurl: String,
    /// The user there.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// A program that knows user and password.
    pub exec: Option<Exec>,
    /// A file of Docker's clients with what they show to registries.
    pub dockerconfig: String,
    /// Certificate authorities that are trusted besides.
    pub ca: String,
    /// The proxy through which it is asked, or `direct`.
    pub proxy: SecretUrl,
}
