//! What the tests of the registry share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Descriptor, Digest, RepositoryName, Tag, media_type};
use wharfinger_registry::{Options, Registry, Repository, Result, Upload};
use wharfinger_storage::{Driver, MemoryDriver};

/// A registry in memory that allows deletion.
pub fn registry() -> (Registry, Arc<dyn Driver>) {
    with(Options {
        delete: true,
        ..Options::default()
    })
}

/// A registry in memory with these options.
pub fn with(options: Options) -> (Registry, Arc<dyn Driver>) {
    let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
    (Registry::new(Arc::clone(&driver), options).unwrap(), driver)
}

pub fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Bytes without a pattern, the same for the same seed.
pub fn content(seed: u8, length: usize) -> Bytes {
    let mut state = u64::from(seed) + 1;
    let next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Appends bytes in pieces of the size that a network gives.
pub async fn append(upload: &mut Upload, bytes: &Bytes) -> Result<()> {
    let pieces: Vec<_> = bytes.chunks(13_000).map(Bytes::copy_from_slice).collect();
    upload
        .append(stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)))
        .await
}

/// Pushes a blob through an upload.
pub async fn push(repository: &Repository, bytes: &Bytes) -> Descriptor {
    try_push(repository, bytes).await.unwrap()
}

/// Pushes a blob through an upload, which collections may refuse.
pub async fn try_push(repository: &Repository, bytes: &Bytes) -> Result<Descriptor> {
    let digest = Digest::canonical(bytes);
    let mut upload = repository.blobs().create(digest.algorithm())?;
    append(&mut upload, bytes).await?;
    upload.commit(&digest).await
}

/// An OCI image manifest of a config and layers that are in the repository.
pub async fn image(repository: &Repository, seed: u8, extra: &str) -> Manifest {
    try_image(repository, seed, extra).await.unwrap()
}

/// An OCI image manifest of what is pushed, which collections may refuse.
pub async fn try_image(repository: &Repository, seed: u8, extra: &str) -> Result<Manifest> {
    let config = Bytes::from(format!("{{\"seed\":{seed}}}"));
    let config = try_push(repository, &config).await?;
    let layer = try_push(repository, &content(seed, 1000)).await?;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]
        {extra}}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        config.digest,
        config.size,
        layer.digest,
        layer.size,
    );
    Ok(parse(media_type::OCI_IMAGE_MANIFEST, text))
}

pub fn parse(media_type: &str, text: String) -> Manifest {
    Manifest::parse(Some(media_type), Bytes::from(text)).unwrap()
}

/// Puts a manifest under its canonical digest and one tag.
pub async fn put(repository: &Repository, manifest: &Manifest, tags: &[&str]) -> Digest {
    let digest = Digest::canonical(manifest.payload());
    let tags: Vec<Tag> = tags.iter().map(|text| tag(text)).collect();
    repository
        .manifests()
        .put(manifest, &digest, &tags)
        .await
        .unwrap();
    digest
}
