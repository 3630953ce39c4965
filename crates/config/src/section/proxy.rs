//! `proxy`.

use serde::{Deserialize, Serialize};

use super::Exec;
use crate::duration::GoDuration;
use crate::secret::{Secret, SecretUrl};
use crate::size::ByteSize;

/// What clients call Docker Hub, where `debian` is short for `library/debian`.
const DOCKER_HUB: &str = "docker.io";

/// How many blobs are downloaded from an upstream at once where nothing else is said.
const DOWNLOADS: usize = 100;

/// The pull-through cache.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Proxy {
    /// The registry that is asked for what is not here.
    pub remoteurl: String,
    /// The user there.
    pub username: String,
    /// The user's password.
    pub password: Secret,
    /// A program that knows user and password.
    pub exec: Option<Exec>,
    /// How long content is kept without being used; 0 is for ever.
    pub ttl: Option<GoDuration>,
    /// How many blobs are downloaded from an upstream at once; ours.
    pub downloads: usize,
    /// How much content is kept; 0 is any amount; ours.
    pub size: ByteSize,
    /// Repositories and tags that stay in any case; ours.
    pub pinned: Vec<String>,
    /// How long storing a blob may go on when it has been downloaded.
    pub cachewritetimeout: Option<GoDuration>,
    /// How long a tag is served without asking what it stands for; ours.
    pub tagttl: GoDuration,
    /// Certificate authorities that are trusted besides; ours.
    pub ca: String,
    /// A file of Docker's clients with what they show to registries; ours.
    pub dockerconfig: String,
    /// The proxy through which it is asked, or `direct`; ours.
    pub proxy: SecretUrl,
    /// Registries that are kept each below a name of its own; ours.
    pub upstreams: Vec<Upstream>,
    /// What clients call everything else in the parameter `ns`; ours.
    pub ns: Vec<String>,
}

impl Proxy {
    /// Whether all that no upstream with a name has is that of another registry.
    pub fn is_used(&self) -> bool {
        !self.remoteurl.is_empty()
    }

    /// Puts what is used in place of what is not set.
    pub(crate) fn settle(&mut self) {
        if self.downloads == 0 {
            self.downloads = DOWNLOADS;
        }
        for upstream in &mut self.upstreams {
            upstream.settle();
        }
    }
}

/// One of `proxy.upstreams`: a registry that is kept beside others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Upstream {
    /// Below which name it is kept.
    pub name: String,
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
    /// What clients call it in the parameter `ns`; nothing is its name.
    pub ns: Vec<String>,
    /// Hosts by which clients reach it alone.
    pub hosts: Vec<String>,
    /// Whether one word is the name of a repository below `library/`, as with Docker Hub.
    pub library: Option<bool>,
    /// Patterns of the repositories that are served; all without one.
    pub allow: Vec<String>,
    /// Patterns of those that are not.
    pub deny: Vec<String>,
    /// How long a tag is served without asking what it stands for.
    pub tagttl: GoDuration,
    /// How long content is kept without being used; without it, as long as that of all others.
    pub ttl: Option<GoDuration>,
}

impl Upstream {
    fn settle(&mut self) {
        // A path is nobody's host.
        if self.ns.is_empty() && !self.name.is_empty() && !self.name.contains('/') {
            self.ns.push(self.name.clone());
        }
        let is_hub = self.ns.iter().any(|ns| ns == DOCKER_HUB);
        self.library.get_or_insert(is_hub);
    }
}
