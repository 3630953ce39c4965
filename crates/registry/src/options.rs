//! What an operator decides about a registry.

use std::path::PathBuf;
use std::time::Duration;

use regex::RegexSet;
use wharfinger_oci::RepositoryName;
use wharfinger_oci::manifest::{Referenced, Role};
use wharfinger_redis::SharedCache;

/// How a registry behaves. [`Options::default`] is a writable registry with deletion switched off,
/// as CNCF Distribution's.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether blobs, manifests and tags may be deleted (`storage.delete.enabled`).
    pub delete: bool,
    /// Whether everything that writes is refused at the start
    /// (`storage.maintenance.readonly.enabled`).
    pub read_only: bool,
    /// Whether clients may be sent to the store itself (`storage.redirect.disable` turns it off).
    pub redirect: bool,
    /// How many descriptors are cached (`storage.cache`); 0 switches the cache off.
    pub descriptor_cache: usize,
    /// How long memory keeps a descriptor, from the moment on at which its lookup began: the bound
    /// within which deletions by other processes are seen.
    pub descriptor_life: Duration,
    /// Where descriptors are kept together with other registries over the same store; each deletes
    /// there what it deletes. [`Options::descriptor_life`] should then be
    /// [`Options::SHARED_DESCRIPTOR_LIFE`]. It is of use only with a cache in memory before it.
    pub shared_descriptors: Option<SharedCache>,
    /// For how long an answer may be based on what was read of the state of collections. All that
    /// write to one store must have the same; only tests have another than
    /// [`Options::COLLECTION_LEASE`].
    pub collection_lease: Duration,
    /// How many tags are read at once when all must be (`storage.tag.concurrencylimit`).
    pub tag_concurrency: usize,
    /// How many bytes of manifests and small blobs are kept in memory; 0 switches it off.
    pub content_cache: u64,
    /// Whether schema 1 manifests may be pushed (`compatibility.schema1.enabled`). Pulling those
    /// that are there always works.
    pub schema1_push: bool,
    /// The PEM file with the EC key that signs schema 1 manifests which have no signature of their
    /// own (`compatibility.schema1.signingkeyfile`); a key is made up at start when there is none.
    pub schema1_key: Option<PathBuf>,
    /// What a manifest must fulfil (`validation`).
    pub validation: Validation,
}

impl Options {
    /// How long memory keeps a descriptor unless something else is said.
    pub const DESCRIPTOR_LIFE: Duration = Duration::from_secs(60);
    /// How long it should where a shared cache is behind it, which can be asked again at little
    /// cost.
    pub const SHARED_DESCRIPTOR_LIFE: Duration = Duration::from_secs(5);
    /// What every node takes for [`Options::collection_lease`].
    pub const COLLECTION_LEASE: Duration = Duration::from_secs(10);
}

impl Default for Options {
    fn default() -> Self {
        Self {
            delete: false,
            read_only: false,
            redirect: true,
            descriptor_cache: 10_000,
            descriptor_life: Self::DESCRIPTOR_LIFE,
            shared_descriptors: None,
            collection_lease: Self::COLLECTION_LEASE,
            tag_concurrency: 16,
            content_cache: 8 << 20,
            schema1_push: false,
            schema1_key: None,
            validation: Validation::default(),
        }
    }
}

/// What a manifest must fulfil to be accepted, besides being well formed.
#[derive(Clone, Debug, Default)]
pub struct Validation {
    /// Whether a manifest may name configs, layers and manifests that have not been pushed
    /// (`validation.manifests.sparse`).
    pub sparse: bool,
    /// Below which names they may anyway: what is kept of another registry comes piece by piece.
    pub sparse_below: Vec<RepositoryName>,
    /// Which urls of layers are accepted; `None` accepts every `http` and `https` url.
    pub urls: Option<UrlRules>,
    /// Which of an index's manifests must have been pushed.
    pub index_platforms: IndexPlatforms,
}

impl Validation {
    /// Whether a repository takes a manifest only where there is what it refers to so.
    pub fn requires(&self, repository: &RepositoryName, reference: &Referenced<'_>) -> bool {
        let may_miss = |above| repository.below(above).is_some();
        match reference.role {
            _ if self.sparse || self.sparse_below.iter().any(may_miss) => false,
            Role::Config | Role::Layer => true,
            Role::ForeignLayer => false,
            Role::Manifest => self.index_platforms.must_exist(reference.platform),
        }
    }
}

/// `validation.manifests.urls`: a url is accepted when it matches one of `allow` (or `allow` is
/// empty) and none of `deny`.
#[derive(Clone, Debug)]
pub struct UrlRules {
    /// The patterns of which one must match; no pattern at all lets everything through.
    pub allow: RegexSet,
    /// The patterns of which none may match.
    pub deny: RegexSet,
}

impl UrlRules {
    pub(crate) fn accepts(&self, url: &str) -> bool {
        (self.allow.is_empty() || self.allow.is_match(url)) && !self.deny.is_match(url)
    }
}

/// `validation.manifests.indexes`: which of an index's manifests must have been pushed before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexPlatforms {
    /// All of them.
    #[default]
    All,
    /// None.
    None,
    /// Those for one of these platforms, each an `(os, architecture)`.
    List(Vec<(String, String)>),
}

impl IndexPlatforms {
    fn must_exist(&self, platform: Option<(&str, &str)>) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::List(list) => {
                platform.is_some_and(|(os, arch)| list.iter().any(|(o, a)| o == os && a == arch))
            }
        }
    }
}
