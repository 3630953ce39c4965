//! What the tests of copying share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use wharfinger_oci::manifest::{Manifest, Role};
use wharfinger_oci::{Algorithm, Descriptor, Digest, RepositoryName, Tag, media_type};
use wharfinger_registry::{Content, Options, Registry, Repository};
use wharfinger_storage::testing::random::Random;
use wharfinger_storage::{Driver, MemoryDriver};
use wharfinger_transfer::{
    Destination, ExportOptions, Images, ImportOptions, Naming, Report, Result, export, import,
};

/// A registry in memory that takes everything.
pub fn registry() -> Registry {
    registry_on(Arc::new(MemoryDriver::new()))
}

pub fn registry_on(driver: Arc<dyn Driver>) -> Registry {
    let options = Options {
        delete: true,
        schema1_push: true,
        descriptor_cache: 0,
        ..Options::default()
    };
    Registry::new(driver, options).unwrap()
}

pub fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

pub fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

/// Bytes without a pattern, the same for the same seed.
pub fn content(seed: u8, length: usize) -> Bytes {
    Random::new(seed.into()).bytes(length).into()
}

/// Pushes a blob under a digest of some algorithm.
pub async fn push(repository: &Repository, bytes: &Bytes, algorithm: Algorithm) -> Descriptor {
    let digest = Digest::of(algorithm, bytes);
    let mut upload = repository.blobs().create(algorithm).unwrap();
    let body = stream::iter([Ok::<_, Infallible>(bytes.clone())]);
    upload.append(body).await.unwrap();
    upload.commit(&digest).await.unwrap()
}

/// The text of an image whose layer has `length` bytes, with what it refers to pushed.
pub async fn image_text(
    repository: &Repository,
    seed: u8,
    length: usize,
    algorithm: Algorithm,
    extra: &str,
) -> String {
    let config = Bytes::from(format!("{{\"seed\":{seed}}}"));
    let config = push(repository, &config, Algorithm::CANONICAL).await;
    let layer = push(repository, &content(seed, length), algorithm).await;
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]
        {extra}}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        config.digest,
        config.size,
        layer.digest,
        layer.size,
    )
}

/// The text of an index of manifests that are there.
pub fn index_text(manifests: &[(Digest, u64, &str)]) -> String {
    let entries: Vec<_> = manifests
        .iter()
        .map(|(digest, size, kind)| {
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
        media_type::OCI_IMAGE_INDEX,
        entries.join(",")
    )
}

/// Puts a manifest under a digest of some algorithm.
pub async fn put(
    repository: &Repository,
    text: String,
    algorithm: Algorithm,
    tags: &[&str],
) -> (Digest, u64) {
    let manifest = Manifest::parse(None, Bytes::from(text)).unwrap();
    let digest = Digest::of(algorithm, manifest.payload());
    let tags: Vec<Tag> = tags.iter().map(|text| tag(text)).collect();
    let put = repository.manifests().put(&manifest, &digest, &tags).await;
    (digest, put.unwrap().size)
}

/// Pushes an image of one small layer under a tag.
pub async fn push_image(registry: &Registry, repository: &str, seed: u8, tags: &[&str]) -> Digest {
    let repository = registry.repository(&name(repository));
    let algorithm = Algorithm::CANONICAL;
    let text = image_text(&repository, seed, 1000, algorithm, "").await;
    put(&repository, text, algorithm, tags).await.0
}

/// All that a client can see of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub tags: BTreeMap<String, Digest>,
    pub manifests: BTreeMap<(RepositoryName, Digest), (String, Bytes)>,
    pub referrers: BTreeMap<(RepositoryName, Digest), BTreeSet<Digest>>,
    /// Their sizes; the bytes have these digests.
    pub blobs: BTreeMap<(RepositoryName, Digest), usize>,
}

pub async fn seen(registry: &Registry) -> Seen {
    let mut seen = Seen::default();
    for name in registry.catalog(None, 1000).await.unwrap().items {
        let repository = registry.repository(&name);
        for tag in repository.tags().list(None, None).await.unwrap().items {
            let digest = repository.tags().get(&tag).await.unwrap();
            seen.tags.insert(format!("{name}:{tag}"), digest);
        }
        for digest in repository.manifests().digests().await.unwrap() {
            let served = repository.manifests().get(&digest).await.unwrap();
            let kind = served.descriptor.media_type.to_string();
            let manifest = Manifest::parse(Some(&kind), served.bytes.clone()).unwrap();
            let key = (name.clone(), digest);
            seen.manifests.insert(key.clone(), (kind, served.bytes));
            if let Some(subject) = manifest.subject() {
                let key = (name.clone(), subject.digest);
                let listed = repository.referrers().list(&subject.digest, None).await;
                let listed = listed.unwrap().into_iter().map(|one| one.digest);
                seen.referrers.insert(key, listed.collect());
            }
            for reference in manifest.references() {
                if !matches!(reference.role, Role::Manifest) {
                    let key = (name.clone(), reference.digest);
                    seen.blobs
                        .insert(key, blob(&repository, &reference.digest).await.len());
                }
            }
        }
    }
    seen
}

async fn blob(repository: &Repository, digest: &Digest) -> Bytes {
    let descriptor = repository.blobs().stat(digest).await.unwrap();
    let opened = repository
        .blobs()
        .open(&descriptor, 0..descriptor.size)
        .await;
    let bytes = match opened.unwrap() {
        Content::Bytes(bytes) => bytes,
        Content::Stream { reader, length } => {
            let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(reader)
                .await
                .unwrap();
            let pieces: Vec<Bytes> = pieces;
            let mut bytes = Bytes::from(pieces.concat());
            bytes.truncate(usize::try_from(length).unwrap());
            bytes
        }
        Content::File { file, range } => {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, range.start).unwrap();
            bytes.into()
        }
    };
    assert_eq!(Digest::of(digest.algorithm(), &bytes), *digest);
    bytes
}

pub async fn export_to(registry: &Registry, path: &Path) -> Result<Report> {
    let destination = Destination::of(path);
    export(registry, &destination, &ExportOptions::default(), &|_| ()).await
}

pub async fn import_from(path: &Path, registry: &Registry, into: &str) -> Result<Report> {
    let rules = into.split_whitespace().map(|rule| rule.parse().unwrap());
    let options = ImportOptions {
        naming: Naming::of(rules),
        ..ImportOptions::default()
    };
    let images = Images::open(path, &options.naming).await?;
    import(&images, registry, &options, &|_| ()).await
}
