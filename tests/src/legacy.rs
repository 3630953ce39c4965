//! Stores as early releases of Distribution 2 left them: three repositories, each with a schema 1
//! manifest and its layers.
//!
//! The files are written straight, and their paths are spelled out here: what reads them must not
//! be what wrote them.
//!
//! - 2.0, and 2.1.1 to 2.4 with its signature store: the revision's link and its signatures lie
//!   under `_manifests/revisions`.
//! - 2.1.0: the revision's link lies among those of the layers, the signatures as before.
//! - 2.4 without its signature store, and 2.5 and later: there are no signatures.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use wharfinger_oci::Digest;
use wharfinger_oci::schema1::{SigningKey, sign};

/// When the images were pushed: in August 2015.
const PUSHED: Duration = Duration::from_secs(1_440_000_000);

/// What a version wrote of a push, apart from what all wrote alike.
struct Version {
    name: &'static str,
    /// Whether the revision's link lies among those of layers.
    links_among_layers: bool,
    /// How many keys signed what is kept.
    signatures: usize,
}

const VERSIONS: [Version; 3] = [
    Version {
        name: "legacy/v2.0",
        links_among_layers: false,
        signatures: 2,
    },
    Version {
        name: "legacy/v2.1.0",
        links_among_layers: true,
        signatures: 1,
    },
    Version {
        name: "legacy/v2.4",
        links_among_layers: false,
        signatures: 0,
    },
];

/// Writes one to a data folder, and gives the digest of each image in it, such as
/// `legacy/v2.0:latest`.
///
/// # Panics
/// When it cannot be written.
pub fn store(data: &Path) -> BTreeMap<String, String> {
    let store = Store(data.join("docker/registry/v2"));
    let push = |version: &Version| {
        let image = format!("{}:latest", version.name);
        (image, store.push(version).to_string())
    };
    VERSIONS.iter().map(push).collect()
}

/// The folder in which `blobs` and `repositories` lie.
struct Store(PathBuf);

impl Store {
    fn file(&self, path: &str, content: &[u8]) {
        let path = self.0.join(path);
        let folder = path.parent().expect("it is below the store's");
        fs::create_dir_all(folder).expect("a folder can be made");
        fs::write(path, content).expect("a file can be written");
    }

    fn blob(&self, content: &[u8]) -> Digest {
        let digest = Digest::canonical(content);
        let hex = digest.hex();
        self.file(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), content);
        digest
    }

    /// A link in a folder of a repository that has one for each digest.
    fn link(&self, folder: &str, to: &Digest) {
        let path = format!("repositories/{folder}/sha256/{}/link", to.hex());
        self.file(&path, to.to_string().as_bytes());
    }

    fn push(&self, version: &Version) -> Digest {
        let name = version.name;
        let mut layers = Vec::new();
        for (file, content) in [("base", "a base"), ("name", name)] {
            let layer = gzip(&tar(file, content.as_bytes()));
            let digest = self.blob(&layer);
            self.link(&format!("{name}/_layers"), &digest);
            layers.push(digest);
        }
        let payload = serde_json::to_vec_pretty(&manifest(name, &layers)).expect("it is JSON");
        let revision = self.blob(&payload);
        let folder = if version.links_among_layers {
            "_layers"
        } else {
            "_manifests/revisions"
        };
        self.link(&format!("{name}/{folder}"), &revision);
        for _ in 0..version.signatures {
            let time = SystemTime::UNIX_EPOCH + PUSHED;
            let signature = sign(&payload, &SigningKey::generate(), time).expect("it is JSON");
            let signature = self.blob(&signature);
            let of = format!(
                "{name}/_manifests/revisions/sha256/{}/signatures",
                revision.hex()
            );
            self.link(&of, &signature);
        }
        let tag = format!("{name}/_manifests/tags/latest");
        self.link(&format!("{tag}/index"), &revision);
        let current = format!("repositories/{tag}/current/link");
        self.file(&current, revision.to_string().as_bytes());
        revision
    }
}

/// A schema 1 manifest of these layers, the lowest first.
fn manifest(name: &str, layers: &[Digest]) -> Value {
    let mut fs_layers = Vec::new();
    let mut history = Vec::new();
    let mut parent: Option<String> = None;
    for layer in layers {
        // An image's id is any 256 bits; those of its layer will do.
        let id = Digest::canonical(format!("{name} {layer}").as_bytes()).hex();
        let mut image = json!({
            "id": id,
            "created": "2015-08-19T16:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) ADD file"]},
        });
        if let Some(parent) = parent.replace(id) {
            image["parent"] = parent.into();
        }
        // The image itself comes first, the base last.
        fs_layers.insert(0, json!({ "blobSum": layer }));
        history.insert(0, json!({ "v1Compatibility": image.to_string() }));
    }
    json!({
        "schemaVersion": 1,
        "name": name,
        "tag": "latest",
        "architecture": "amd64",
        "fsLayers": fs_layers,
        "history": history,
    })
}

/// A tar archive of one file (POSIX ustar).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = [0; 512];
    let mut set = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    set(0, name.as_bytes());
    set(100, b"0000644\0");
    set(108, b"0000000\0");
    set(116, b"0000000\0");
    set(124, format!("{:011o}\0", content.len()).as_bytes());
    set(136, format!("{:011o}\0", PUSHED.as_secs()).as_bytes());
    set(148, b"        ");
    set(156, b"0");
    set(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header.to_vec();
    archive.extend_from_slice(content);
    // The file ends with its block, the archive with two that are empty.
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

/// Content in gzip's form (RFC 1952), in one block that is not compressed (RFC 1951).
fn gzip(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("these layers are small");
    let mut out = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x01".to_vec();
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(!length).to_le_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&crc32(content).to_le_bytes());
    out.extend_from_slice(&u32::from(length).to_le_bytes());
    out
}

fn crc32(content: &[u8]) -> u32 {
    !content.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
