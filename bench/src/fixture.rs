//! What is there to be read: one tree for the registries, on Distribution's layout, and the same
//! bytes as plain files for nginx.

use std::fs;
use std::path::Path;

use serde_json::json;
use wharfinger_oci::Digest;

use crate::error::{Context, Result};

/// The media type of the manifests.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// The large blob's size in bytes.
pub const LARGE: usize = 256 << 20;
/// How many repositories there are.
pub const REPOSITORIES: usize = 1020;
/// How many tags one of them has.
pub const TAGS: usize = 5000;
/// How many repositories are few: together with the one that is pulled from.
pub const FEW: usize = 10;
/// How many repositories are many, and how many tags one of them then has.
pub const VAST: usize = 100_000;

/// Where a registry's tree begins below its root folder.
const ROOT: &str = "docker/registry/v2";

/// Where a registry keeps a blob, below its root folder.
pub fn blob_path(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{ROOT}/blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// The bytes.
pub struct Fixture {
    /// A blob of 1 KiB.
    pub small: Vec<u8>,
    /// A blob of [`LARGE`] bytes.
    pub large: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
    /// The digests of what the manifest names.
    links: [Digest; 3],
}

impl Fixture {
    /// Makes the bytes, the same at every run.
    pub fn new() -> Self {
        let (small, large) = (noise(1, 1024), noise(2, LARGE));
        let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
        let manifest = manifest(&config, &[&small, &large]);
        let links = [&small, &large, &config].map(|blob| Digest::canonical(blob));
        Self {
            links,
            small,
            large,
            config,
            manifest,
        }
    }

    /// The manifest's digest.
    pub fn manifest_digest(&self) -> Digest {
        Digest::canonical(&self.manifest)
    }

    /// Writes the registry's tree below a root folder.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_registry(&self, root: &Path) -> Result<()> {
        let root = root.join(ROOT);
        self.write_blobs(&root, &[&self.small, &self.large])?;
        let tags: Vec<_> = (0..TAGS).map(|n| format!("v1.{n:04}")).collect();
        self.write_repository(&root, "bench/tags", &tags)?;
        self.write_repository(&root, "bench/pull", &["latest".to_owned()])?;
        for n in 0..REPOSITORIES - 2 {
            let name = format!("team-{:02}/app-{:03}", n % 20, n / 20);
            self.write_repository(&root, &name, &["latest".to_owned()])?;
        }
        Ok(())
    }

    /// Writes a registry's tree of `repositories`, most of them empty, without the large blob. Where
    /// they are many, one of them has as many tags.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_many(&self, root: &Path, repositories: usize) -> Result<()> {
        let root = root.join(ROOT);
        self.write_blobs(&root, &[&self.small])?;
        self.write_repository(&root, "bench/pull", &["latest".to_owned()])?;
        let tags = if repositories == VAST { VAST } else { 1 };
        let tags: Vec<_> = (0..tags).map(|n| format!("v1.{n:06}")).collect();
        self.write_repository(&root, "bench/tags", &tags)?;
        for n in 0..repositories - 2 {
            let repository = format!("repositories/team-{:03}/app-{:04}", n % 100, n / 100);
            for folder in ["_layers", "_manifests/tags"] {
                let folder = root.join(&repository).join(folder);
                fs::create_dir_all(&folder).context(format!("make {}", folder.display()))?;
            }
        }
        Ok(())
    }

    fn write_blobs(&self, root: &Path, layers: &[&Vec<u8>]) -> Result<()> {
        for blob in layers.iter().copied().chain([&self.config, &self.manifest]) {
            let path = root.join(&blob_path(&Digest::canonical(blob))[ROOT.len() + 1..]);
            write(&path, blob)?;
        }
        Ok(())
    }

    fn write_repository(&self, root: &Path, name: &str, tags: &[String]) -> Result<()> {
        let manifest = self.manifest_digest();
        let repository = root.join("repositories").join(name);
        for blob in &self.links {
            link(&repository.join("_layers"), blob)?;
        }
        link(&repository.join("_manifests/revisions"), &manifest)?;
        for tag in tags {
            let tag = repository.join("_manifests/tags").join(tag);
            write(&tag.join("current/link"), manifest.to_string().as_bytes())?;
            link(&tag.join("index"), &manifest)?;
        }
        Ok(())
    }

    /// Writes the files for a file server.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write_files(&self, root: &Path) -> Result<()> {
        write(&root.join("manifest"), &self.manifest)?;
        write(&root.join("small"), &self.small)?;
        write(&root.join("large"), &self.large)?;
        Ok(())
    }
}

/// An image manifest over a config and layers.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": Digest::canonical(layer).to_string(),
                "size": layer.len(),
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::canonical(config).to_string(),
            "size": config.len(),
        },
        "layers": layers,
    });
    manifest.to_string().into_bytes()
}

/// Bytes that look random and are the same for the same seed (xorshift64, Marsaglia 2003).
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn link(set: &Path, digest: &Digest) -> Result<()> {
    let path = set.join("sha256").join(digest.hex()).join("link");
    write(&path, digest.to_string().as_bytes())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let what = || format!("write {}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).context(what())?;
    fs::write(path, content).context(what())
}
