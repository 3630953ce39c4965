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

/// The bytes.
pub struct Fixture {
    /// A blob of 1 KiB.
    pub small: Vec<u8>,
    /// A blob of [`LARGE`] bytes.
    pub large: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Fixture {
    /// Makes the bytes, the same at every run.
    pub fn new() -> Self {
        let (small, large) = (noise(1, 1024), noise(2, LARGE));
        let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
        let manifest = manifest(&config, &[&small, &large]);
        Self {
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
        let root = root.join("docker/registry/v2");
        for blob in [&self.small, &self.large, &self.config, &self.manifest] {
            let hex = Digest::canonical(blob).hex();
            write(
                &root.join(format!("blobs/sha256/{}/{hex}/data", &hex[..2])),
                blob,
            )?;
        }
        let manifest = self.manifest_digest();
        let blobs = [&self.small, &self.large, &self.config].map(|blob| Digest::canonical(blob));
        let repository = |name: &str, tags: &[String]| {
            let repository = root.join("repositories").join(name);
            for blob in &blobs {
                link(&repository.join("_layers"), blob)?;
            }
            link(&repository.join("_manifests/revisions"), &manifest)?;
            for tag in tags {
                let tag = repository.join("_manifests/tags").join(tag);
                write(&tag.join("current/link"), manifest.to_string().as_bytes())?;
                link(&tag.join("index"), &manifest)?;
            }
            Ok(())
        };
        let tags: Vec<_> = (0..TAGS).map(|n| format!("v1.{n:04}")).collect();
        repository("bench/tags", &tags)?;
        repository("bench/pull", &["latest".to_owned()])?;
        for n in 0..REPOSITORIES - 2 {
            let name = format!("team-{:02}/app-{:03}", n % 20, n / 20);
            repository(&name, &["latest".to_owned()])?;
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
