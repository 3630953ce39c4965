//! Any number of upstreams beside the registry's own repositories: which of them a request is
//! about. That is settled once, when it comes in; from there on the repository's name alone tells.

use thiserror::Error;
use wharfinger_oci::{NameError, NamePattern, RepositoryName};

use crate::{Cache, CachedRepository, Metrics};

/// Where Docker Hub has the repositories that people call by one word.
const LIBRARY: &str = "library/";

/// An upstream, and how it is asked for.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Below which name what is kept has its place.
    pub name: RepositoryName,
    /// What clients call it in the parameter `ns`.
    pub ns: Vec<String>,
    /// The hosts by which clients reach it alone; one without a port is meant on every port.
    pub hosts: Vec<String>,
    /// Whether names of one component mean those below `library/`.
    pub library: bool,
    /// The repositories that may be asked for; all where there is no pattern.
    pub allow: Vec<NamePattern>,
    /// Those that may not, even so.
    pub deny: Vec<NamePattern>,
    /// What is kept of it, below `name`.
    pub cache: Cache,
}

/// What a request says, besides its path, of which registry it is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The host that it was sent to, with a port where the client said one.
    pub host: Option<&'a str>,
    /// The parameter `ns`, by which containerd tells a mirror for which registry it stands.
    pub ns: Option<&'a str>,
}

/// Why a request is about nothing that is here.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misdirected {
    /// `ns` names a registry that is not kept here.
    #[error("ns={0} names no registry that this one caches, nor this one itself")]
    Namespace(String),
    /// The name is none together with that below which it is kept.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The registries of which this one keeps what was pulled.
#[derive(Clone, Debug, Default)]
pub struct Upstreams {
    /// Those with a name of their own. None has one that lies below another's.
    pub named: Vec<Kept>,
    /// That which has everything else, in place of repositories of the registry's own.
    pub rest: Option<Cache>,
    /// Values of `ns` that mean everything else.
    pub ns: Vec<String>,
}

impl From<Cache> for Upstreams {
    fn from(cache: Cache) -> Self {
        Self {
            rest: Some(cache),
            ..Self::default()
        }
    }
}

impl Upstreams {
    /// What a repository is called here that a request calls `name`; `None` where that is its name
    /// already. The host decides before `ns`, and both before the name. A name that is the whole
    /// one already stays what it is, however it was asked for.
    ///
    /// # Errors
    /// [`Misdirected`].
    pub fn local(
        &self,
        asked: Asked<'_>,
        name: &RepositoryName,
    ) -> Result<Option<RepositoryName>, Misdirected> {
        match self.asked_of(asked)? {
            Some(kept) if name.below(&kept.name).is_none() => {
                let inner = kept.library(name.as_str());
                Ok(Some(format!("{}/{inner}", kept.name).parse()?))
            }
            _ => Ok(self.spelt_out(name)),
        }
    }

    /// The whole name of a repository that is called by the short one.
    pub fn spelt_out(&self, name: &RepositoryName) -> Option<RepositoryName> {
        let kept = self.named(name).filter(|kept| kept.library)?;
        let inner = name.below(&kept.name)?;
        let whole = format!("{}/{}", kept.name, kept.library(inner));
        whole.parse().ok()
    }

    /// The upstream that a request is sent to, whatever its path.
    ///
    /// # Errors
    /// [`Misdirected::Namespace`].
    fn asked_of(&self, asked: Asked<'_>) -> Result<Option<&Kept>, Misdirected> {
        if self.named.is_empty() {
            // As in Distribution: whatever clients call it, there is one thing alone.
            return Ok(None);
        }
        let at_host = asked.host.and_then(|host| self.at_host(host));
        let Some(ns) = asked.ns else {
            return Ok(at_host);
        };
        let is_meant = |known: &String| known.eq_ignore_ascii_case(ns);
        let meant = self.named.iter().find(|kept| kept.ns.iter().any(is_meant));
        let unknown = || Misdirected::Namespace(ns.to_owned());
        match (at_host, meant) {
            (Some(kept), Some(other)) if kept.name != other.name => Err(unknown()),
            (Some(kept), _) | (None, Some(kept)) => Ok(Some(kept)),
            (None, None) => {
                let is_own = self.ns.iter().any(is_meant)
                    || asked.host.is_some_and(|host| host.eq_ignore_ascii_case(ns));
                if is_own { Ok(None) } else { Err(unknown()) }
            }
        }
    }

    /// The upstream that clients reach by a host alone.
    pub fn at_host(&self, host: &str) -> Option<&Kept> {
        let is_meant = |known: &String| {
            let has_port = known
                .rsplit_once(':')
                .is_some_and(|(_, port)| is_port(port));
            let host = match host.rsplit_once(':') {
                Some((name, port)) if !has_port && is_port(port) => name,
                _ => host,
            };
            known.eq_ignore_ascii_case(host)
        };
        let mut named = self.named.iter();
        named.find(|kept| kept.hosts.iter().any(is_meant))
    }

    /// Whether any has a name of its own: then a repository may be called by several.
    pub fn have_names(&self) -> bool {
        !self.named.is_empty()
    }

    /// What is counted of all of them, where there are any.
    pub fn metrics(&self) -> Option<&Metrics> {
        let named = self.named.first().map(|kept| &kept.cache);
        named.or(self.rest.as_ref()).map(Cache::metrics)
    }

    /// The upstream below whose name a repository lies.
    pub fn named(&self, local: &RepositoryName) -> Option<&Kept> {
        let mut named = self.named.iter();
        named.find(|kept| local.below(&kept.name).is_some())
    }

    /// Whether a repository is kept of another registry, and cannot be written to.
    pub fn have(&self, local: &RepositoryName) -> bool {
        self.rest.is_some() || self.named(local).is_some()
    }

    /// A repository that is kept of another registry; `None` for one of the registry's own.
    pub fn repository(&self, local: &RepositoryName) -> Option<CachedRepository> {
        let cache = match self.named(local) {
            Some(kept) => &kept.cache,
            None => self.rest.as_ref()?,
        };
        Some(cache.repository(local))
    }

    /// Whether a repository is one that may not be asked for, kept or not.
    pub fn deny(&self, local: &RepositoryName) -> bool {
        let Some(kept) = self.named(local) else {
            return false;
        };
        let there = local.below(&kept.name).and_then(|name| name.parse().ok());
        there.is_none_or(|there| !kept.allows(&there))
    }
}

impl Kept {
    /// Whether its repository may be asked for.
    fn allows(&self, there: &RepositoryName) -> bool {
        let is_meant = |pattern: &NamePattern| pattern.matches(there);
        (self.allow.is_empty() || self.allow.iter().any(is_meant))
            && !self.deny.iter().any(is_meant)
    }

    /// The whole name there of what may be called by one word.
    fn library(&self, name: &str) -> String {
        match self.library && !name.contains('/') {
            true => format!("{LIBRARY}{name}"),
            false => name.to_owned(),
        }
    }
}

/// Whether this is what stands behind the colon of a host, and not the end of an IPv6 address.
fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}
