//! `validation`, `compatibility`, `policy`, `catalog`, `tags`: what is accepted and listed.

use serde::{Deserialize, Serialize};

/// What manifests must fulfil.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Validation {
    /// Whether the rules count even when there are none: then no layer may have URLs.
    pub enabled: bool,
    /// Whether the rules are switched off.
    pub disabled: bool,
    /// The rules.
    pub manifests: ManifestRules,
}

/// `validation.manifests`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestRules {
    /// The URLs of layers.
    pub urls: Urls,
    /// The manifests of an index.
    pub indexes: Indexes,
    /// Whether a manifest may name configs, layers and manifests that have not been pushed.
    /// Distribution has no such key.
    pub sparse: bool,
}

/// `validation.manifests.urls`: regular expressions.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Urls {
    /// One of these must match; none lets all through.
    pub allow: Vec<String>,
    /// None of these may match.
    pub deny: Vec<String>,
}

/// `validation.manifests.indexes`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Indexes {
    /// Which of an index's manifests must have been pushed.
    pub platforms: Platforms,
    /// Those of these platforms, for `list`.
    pub platformlist: Vec<Platform>,
}

/// `validation.manifests.indexes.platforms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platforms {
    /// All of them.
    #[default]
    All,
    /// None of them.
    None,
    /// Those in the list.
    List,
}

/// A platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// The processor, as Go names it: `amd64`.
    pub architecture: String,
    /// The operating system, as Go names it: `linux`.
    pub os: String,
}

/// Support of what is old.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Compatibility {
    /// Manifests of schema 1.
    pub schema1: Schema1,
}

/// `compatibility.schema1`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Schema1 {
    /// Whether they may be pushed. Pulling those that are there always works.
    pub enabled: bool,
    /// The PEM file of the key that signs those which have no signature.
    pub signingkeyfile: String,
}

/// What repositories may hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// The rules.
    pub repository: RepositoryPolicy,
}

/// `policy.repository`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RepositoryPolicy {
    /// The classes of content that are let in.
    pub classes: Vec<String>,
}

/// The listing of repositories.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Catalog {
    /// The most in one answer.
    pub maxentries: i64,
}

/// The listing of tags.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tags {
    /// The most in one answer to a request that says how many it wants.
    pub maxtags: u32,
}
