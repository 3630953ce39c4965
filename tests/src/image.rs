//! Images made on the spot: OCI layouts for clients, manifests for raw requests.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use wharfinger_oci::{Algorithm, Hasher};

use crate::{digest, noise};

/// The media type of an OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The media type of a Docker manifest, version 2, schema 2.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// The media type of a Docker manifest list.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An OCI image layout under construction (image-spec, image-layout.md).
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
    tagged: Vec<Value>,
}

impl Layout {
    /// An empty one in a folder that it makes.
    ///
    /// # Errors
    /// Of the filesystem, as of all that follow.
    pub fn create(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        let version = json!({"imageLayoutVersion": "1.0.0"});
        fs::write(folder.join("oci-layout"), version.to_string())?;
        Ok(Self {
            folder: folder.to_owned(),
            tagged: Vec::new(),
        })
    }

    /// Keeps a blob and gives its descriptor.
    ///
    /// # Errors
    /// Of the filesystem.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> io::Result<Value> {
        fs::write(self.blob_file(&digest(bytes)), bytes)?;
        Ok(descriptor(media_type, bytes))
    }

    /// Makes a layer: a tar archive with one file of noise for every `(seed, length)`.
    ///
    /// # Errors
    /// Of the filesystem.
    pub fn layer(&self, files: &[(u64, u64)]) -> io::Result<Value> {
        let made = self.folder.join("layer");
        let mut archive = Archive {
            file: BufWriter::with_capacity(1 << 20, File::create(&made)?),
            hasher: Hasher::new(Algorithm::Sha256),
            size: 0,
        };
        for (seed, length) in files {
            archive.entry(&format!("noise-{seed}-{length}"), *seed, *length)?;
        }
        archive.write(&[0; 1024])?;
        archive.file.flush()?;
        let digest = archive.hasher.finish().to_string();
        fs::rename(made, self.blob_file(&digest))?;
        Ok(json!({"mediaType": LAYER, "digest": digest, "size": archive.size}))
    }

    /// Makes an image of layers and gives its manifest's descriptor.
    ///
    /// # Errors
    /// Of the filesystem.
    pub fn image(&self, architecture: &str, layers: &[Value]) -> io::Result<Value> {
        let diffs: Vec<_> = layers.iter().map(|layer| &layer["digest"]).collect();
        let config = json!({
            "architecture": architecture, "os": "linux",
            "config": {"Cmd": ["/noise"]},
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
        });
        let mut made = self.blob(MANIFEST, manifest.to_string().as_bytes())?;
        made["platform"] = json!({"os": "linux", "architecture": architecture});
        Ok(made)
    }

    /// Makes an index of images and gives its descriptor.
    ///
    /// # Errors
    /// Of the filesystem.
    pub fn index(&self, images: &[Value]) -> io::Result<Value> {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": images});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Tags an image or index, and gives its name for skopeo.
    ///
    /// # Errors
    /// Of the filesystem.
    pub fn tag(&mut self, descriptor: &Value, tag: &str) -> io::Result<String> {
        let mut tagged = descriptor.clone();
        tagged["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.tagged.push(tagged);
        let index = json!({"schemaVersion": 2, "manifests": self.tagged});
        fs::write(self.folder.join("index.json"), index.to_string())?;
        Ok(format!("oci:{}:{tag}", self.folder.display()))
    }

    fn blob_file(&self, digest: &str) -> PathBuf {
        self.folder.join("blobs").join(digest.replace(':', "/"))
    }
}

/// Makes a small image of two layers, that no other seed has, and gives its name for skopeo.
///
/// # Panics
/// When it cannot be made.
pub fn small_image(home: &Path, seed: u64) -> String {
    let made = || {
        let mut layout = Layout::create(&home.join(format!("layout-{seed}")))?;
        let layers = [
            layout.layer(&[(seed, 50_000)])?,
            layout.layer(&[(!seed, 3)])?,
        ];
        let image = layout.image("amd64", &layers)?;
        layout.tag(&image, "t")
    };
    made().expect("a layout can be written")
}

/// A descriptor of some bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// An image manifest of one config and some layers, given as their bytes: for raw pushes of
/// content that nobody unpacks.
pub fn manifest(config: &[u8], layers: &[&[u8]]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| descriptor(LAYER, layer))
        .collect();
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config), "layers": layers,
    })
    .to_string()
    .into_bytes()
}

/// A tar archive (POSIX.1-1988, ustar) that is hashed as it is written.
struct Archive {
    file: BufWriter<File>,
    hasher: Hasher,
    size: u64,
}

impl Archive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn entry(&mut self, name: &str, seed: u64, length: u64) -> io::Result<()> {
        let mut header = [0; 512];
        let mut field = |at: usize, value: &str| {
            header[at..at + value.len()].copy_from_slice(value.as_bytes());
        };
        field(0, name);
        field(100, "0000644\0");
        field(108, "0000000\0");
        field(116, "0000000\0");
        field(124, &format!("{length:011o}\0"));
        field(136, "00000000000\0");
        field(148, "        ");
        field(156, "0");
        field(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.write(&header)?;
        let mut left = length;
        for piece in 0.. {
            if left == 0 {
                break;
            }
            let take = left.min(4 << 20);
            let bytes = noise(
                seed.wrapping_add(piece << 32),
                usize::try_from(take).expect("4 MiB"),
            );
            self.write(&bytes)?;
            left -= take;
        }
        let padding = length.next_multiple_of(512) - length;
        self.write(&vec![0; usize::try_from(padding).expect("under 512")])
    }
}
