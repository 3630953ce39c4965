//! What `docker save` and `podman save` write in Docker's own form: a `manifest.json` that names
//! for each image its configuration and its layers, which are tar archives in the archive.
//!
//! There are no manifests in it, so they are made: OCI image manifests, of the layers as they lie
//! there.

use std::collections::HashMap;
use std::io::{self, Read};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use wharfinger_oci::manifest::MAX_SIZE;
use wharfinger_oci::{Algorithm, Digest, Hasher, RepositoryName, Tag, media_type};

use super::contents::{Contents, Files, Held};
use super::{ImageSource, Names};
use crate::naming::{Naming, repository_and_tag};
use crate::pieces::Extent;
use crate::{Error, Result};

/// The file that names the images.
pub(super) const MANIFEST: &str = "manifest.json";

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Image {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<Digest>,
}

/// Reads the archive. Blocks, and reads layers that are compressed whole.
///
/// # Errors
/// When something is missing or damaged, or an image has no name.
pub(super) fn read(files: &Files, naming: &Naming) -> Result<ImageSource> {
    let bytes = required(files.read(MANIFEST, MAX_SIZE as u64)?, MANIFEST)?;
    let images: Vec<Image> = serde_json::from_slice(&bytes)
        .map_err(|error| Error::source(MANIFEST, format!("not a list of images: {error}")))?;
    let mut names = Names::default();
    let mut found = HashMap::new();
    for image in images {
        let digest = read_image(files, &image, &mut found)?;
        names
            .media_types
            .insert(digest, media_type::OCI_IMAGE_MANIFEST.to_owned());
        for (name, tag) in names_of(&image, naming)? {
            names.add(MANIFEST, name, tag, digest)?;
        }
    }
    Ok(ImageSource::new(names, Contents::Found(found)))
}

fn names_of(image: &Image, naming: &Naming) -> Result<Vec<(RepositoryName, Option<Tag>)>> {
    let tags = image.repo_tags.as_deref().unwrap_or_default();
    if tags.is_empty() {
        let name = naming.nameless().cloned().ok_or_else(|| {
            let reason = format!(
                "the image {} has no repository; --into NAME gives it one",
                image.config
            );
            Error::source(MANIFEST, reason)
        })?;
        return Ok(vec![(name, None)]);
    }
    let read = tags.iter().map(|text| {
        repository_and_tag(text)
            .ok_or_else(|| Error::source(MANIFEST, format!("{text:?} is no name of an image")))
    });
    read.collect()
}

/// Finds what an image is made of, and makes its manifest.
fn read_image(
    files: &Files,
    image: &Image,
    found: &mut HashMap<Digest, (Held, String)>,
) -> Result<Digest> {
    let name = &image.config;
    let config = required(files.read(name, MAX_SIZE as u64)?, name)?;
    let parsed: Config = serde_json::from_slice(&config)
        .map_err(|error| Error::source(name, format!("not an image's configuration: {error}")))?;
    let layers = image.layers.as_deref().unwrap_or_default();
    let diff_ids = parsed.rootfs.diff_ids;
    if layers.len() != diff_ids.len() {
        let (named, told) = (layers.len(), diff_ids.len());
        let reason = format!("it has {told} layers, but {MANIFEST} names {named}");
        return Err(Error::source(name, reason));
    }
    let digest = Digest::canonical(&config);
    let config_descriptor = json!({"mediaType": CONFIG, "digest": digest, "size": config.len()});
    found.insert(digest, (Held::Bytes(config), name.clone()));
    let mut descriptors = Vec::new();
    for (name, diff_id) in layers.iter().zip(diff_ids) {
        let extent = required(files.find(name).map_err(|e| Error::source(name, e))?, name)?;
        let (kind, digest) = digest_of(&extent, diff_id, name)?;
        descriptors.push(json!({"mediaType": kind, "digest": digest, "size": extent.len()}));
        found.insert(digest, (Held::Extent(extent), name.clone()));
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_IMAGE_MANIFEST,
        "config": config_descriptor,
        "layers": descriptors,
    });
    let manifest = Bytes::from(manifest.to_string());
    let digest = Digest::canonical(&manifest);
    found.insert(digest, (Held::Bytes(manifest), MANIFEST.to_owned()));
    Ok(digest)
}

fn required<T>(found: Option<T>, name: &str) -> Result<T> {
    found.ok_or_else(|| Error::source(name, "it is missing in the archive"))
}

/// A layer's media type and digest. Of one that is not compressed, the configuration tells the
/// digest; whether its bytes have it is seen when they are copied.
fn digest_of(extent: &Extent, diff_id: Digest, name: &str) -> Result<(String, Digest)> {
    let unreadable = |error: io::Error| Error::source(name, error);
    let mut magic = [0; 4];
    let mut reader = extent.reader();
    let length = usize::try_from(extent.len().min(4)).unwrap_or(4);
    reader
        .read_exact(&mut magic[..length])
        .map_err(unreadable)?;
    match magic {
        [0x1f, 0x8b, ..] => {
            let mut compressed = Hashing::new(extent.reader());
            let mut content = Hashing::new(flate2::read::MultiGzDecoder::new(&mut compressed));
            io::copy(&mut content, &mut io::sink()).map_err(unreadable)?;
            let actual = content.hasher.finish();
            if actual != diff_id {
                let reason = format!("its content has the digest {actual}, not {diff_id}");
                return Err(Error::source(name, reason));
            }
            // What may follow what was compressed belongs to the layer too.
            io::copy(&mut compressed, &mut io::sink()).map_err(unreadable)?;
            Ok((format!("{LAYER}+gzip"), compressed.hasher.finish()))
        }
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut compressed = Hashing::new(extent.reader());
            io::copy(&mut compressed, &mut io::sink()).map_err(unreadable)?;
            Ok((format!("{LAYER}+zstd"), compressed.hasher.finish()))
        }
        _ => Ok((LAYER.to_owned(), diff_id)),
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    reader: R,
    hasher: Hasher,
}

impl<R> Hashing<R> {
    fn new(reader: R) -> Self {
        Self {
            reader,
            hasher: Hasher::new(Algorithm::CANONICAL),
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}
