//! Writes a store as old versions of CNCF Distribution left it, for tests of taking one over: three
//! repositories, each with a schema 1 manifest and its layers. Run it with
//! `cargo run -p wharfinger-registry --example legacy_store -- FOLDER`.
//!
//! The files are written straight, and their paths are spelled out here: what reads them must not
//! be what wrote them.
//!
//! - 2.0, and 2.1.1 to 2.4 with its signature store: the revision's link and its signatures lie
//!   under `_manifests/revisions`.
//! - 2.1.0: the revision's link lies among those of the layers, the signatures as before.
//! - 2.4 without its signature store, and 2.5 and later: there are no signatures.
//!
//! For each manifest a line such as `legacy/v2.0:latest sha256:…` is printed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fs, io};

use bytes::Bytes;
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

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os()
        .nth(1)
        .ok_or("the folder to write to must be given")?;
    let store = Store(Path::new(&folder).join("docker/registry/v2"));
    for version in VERSIONS {
        let revision = store.push(&version)?;
        println!("{}:latest {revision}", version.name);
    }
    Ok(())
}

/// The folder in which `blobs` and `repositories` lie.
struct Store(PathBuf);

impl Store {
    fn file(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let path = self.0.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, content)
    }

    fn blob(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::canonical(content);
        let hex = digest.hex();
        self.file(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]), content)?;
        Ok(digest)
    }

    /// A link in a folder of a repository that has one for each digest.
    fn link(&self, folder: &str, to: &Digest) -> io::Result<()> {
        let path = format!("repositories/{folder}/sha256/{}/link", to.hex());
        self.file(&path, to.to_string().as_bytes())
    }

    fn push(&self, version: &Version) -> Result<Digest, Box<dyn Error>> {
        let name = version.name;
        let mut layers = Vec::new();
        for (file, content) in [("base", "a base"), ("name", name)] {
            let layer = gzip(&tar(file, content.as_bytes()));
            let digest = self.blob(&layer)?;
            self.link(&format!("{name}/_layers"), &digest)?;
            layers.push(digest);
        }
        let payload = serde_json::to_vec_pretty(&manifest(name, &layers))?;
        let revision = self.blob(&payload)?;
        let folder = if version.links_among_layers {
            "_layers"
        } else {
            "_manifests/revisions"
        };
        self.link(&format!("{name}/{folder}"), &revision)?;
        for _ in 0..version.signatures {
            let time = SystemTime::UNIX_EPOCH + PUSHED;
            let signature: Bytes = sign(&payload, &SigningKey::generate(), time)?;
            let signature = self.blob(&signature)?;
            let of = format!(
                "{name}/_manifests/revisions/sha256/{}/signatures",
                revision.hex()
            );
            self.link(&of, &signature)?;
        }
        let tag = format!("{name}/_manifests/tags/latest");
        self.link(&format!("{tag}/index"), &revision)?;
        let current = format!("repositories/{tag}/current/link");
        self.file(&current, revision.to_string().as_bytes())?;
        Ok(revision)
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
