//! `proxy`.

use serde::{Deserialize, Serialize};

use super::Exec;
use crate::duration::GoDuration;
use crate::secret::Secret;
use crate::size::ByteSize;

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
    /// How much content is kept; 0 is any amount; ours.
    pub size: ByteSize,
    /// Repositories and tags that stay in any case; ours.
    pub pinned: Vec<String>,
    /// How long storing a blob may go on when it has been downloaded.
    pub cachewritetimeout: Option<GoDuration>,
    /// How long a tag is served without asking what it stands for; ours.
    pub tagttl: GoDuration,
}

impl Proxy {
    /// Whether the registry is a cache of another one.
    pub fn is_used(&self) -> bool {
        !self.remoteurl.is_empty()
    }
}
