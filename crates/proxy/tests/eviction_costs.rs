//! What an eviction takes: calls of the store, and memory, for each blob that goes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use wharfinger_oci::{Digest, RepositoryName, Tag, media_type};
use wharfinger_proxy::{Evicted, Eviction, EvictionOptions, Retention, Retentions};
use wharfinger_registry::layout;
use wharfinger_registry::{Options, Registry};
use wharfinger_storage::testing::fault::FaultDriver;
use wharfinger_storage::{Driver, Durability, MemoryDriver, StoragePath};

/// How many blobs an image has.
const BLOBS: u64 = 10;

/// A store that is filled past the registry.
struct Store {
    driver: MemoryDriver,
    blobs: u64,
}

impl Store {
    async fn put(&self, path: &StoragePath, bytes: Bytes) {
        self.driver
            .put(path, bytes, Durability::Process)
            .await
            .unwrap();
    }

    async fn link(&self, path: &StoragePath, digest: &Digest) {
        self.put(path, digest.to_string().into()).await;
    }

    async fn blob(&self, bytes: Bytes) -> Digest {
        let digest = Digest::canonical(&bytes);
        self.put(&layout::blob_data(&digest), bytes).await;
        digest
    }

    /// Images, each with a tag and blobs of its own.
    async fn images(&mut self, name: &str, number: u64) {
        let name: RepositoryName = name.parse().unwrap();
        for image in 0..number {
            let mut described = Vec::new();
            for _ in 0..BLOBS {
                self.blobs += 1;
                let bytes = format!("{:>20}", self.blobs);
                let digest = self.blob(bytes.into()).await;
                self.link(&layout::layer_link(&name, &digest), &digest)
                    .await;
                described.push(format!(
                    r#"{{"mediaType":"a/b","digest":"{digest}","size":20}}"#
                ));
            }
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
                media_type::OCI_IMAGE_MANIFEST,
                described[0],
                described[1..].join(",")
            );
            let digest = self.blob(manifest.into()).await;
            self.link(&layout::revision_link(&name, &digest), &digest)
                .await;
            let tag: Tag = image.to_string().parse().unwrap();
            self.link(&layout::tag_index_link(&name, &tag, &digest), &digest)
                .await;
            self.link(&layout::tag_current(&name, &tag), &digest).await;
        }
    }
}

/// How often a driver was called to do something with a kind of file, like `Get BlobData`.
fn calls(driver: &FaultDriver) -> BTreeMap<String, u64> {
    let mut calls = BTreeMap::new();
    for (operation, path) in driver.operations() {
        let located = layout::locate(&path).map(|located| format!("{located:?}"));
        let kind = located.as_deref().and_then(|text| text.split('(').next());
        let what = format!("{operation:?} {}", kind.unwrap_or("else"));
        *calls.entry(what).or_default() += 1;
    }
    calls
}

/// Looks twice, the second time when all below `cached` is due.
async fn evict(driver: Arc<dyn Driver>) -> Evicted {
    let options = Options {
        collection_lease: Duration::from_millis(10),
        content_cache: 0,
        descriptor_cache: 0,
        ..Options::default()
    };
    let registry = Registry::new(driver, options).unwrap();
    let retention = |ttl| Some(Arc::new(Retention { ttl, pinned: None }));
    let retentions: Retentions =
        Arc::new(
            move |name: &RepositoryName| match name.as_str().split('/').next() {
                Some("cached") => retention(Some(Duration::from_secs(86_400))),
                Some("kept") => retention(None),
                _ => None,
            },
        );
    let options = EvictionOptions {
        retentions,
        size: None,
        grace: Duration::ZERO,
    };
    let eviction = Eviction::new(registry, options);
    let now = Timestamp::now();
    eviction.run(now).await.unwrap();
    eviction
        .run(now + SignedDuration::from_hours(48))
        .await
        .unwrap()
}

/// What a cache has that is due, what it has that is not, and what is pushed here: so many
/// repositories of each, with so many images.
async fn filled(repositories: u64, images: u64, others: u64) -> Store {
    let mut store = Store {
        driver: MemoryDriver::new(),
        blobs: 0,
    };
    for number in 0..repositories {
        store.images(&format!("cached/{number}"), images).await;
        for kind in ["kept", "local"] {
            store.images(&format!("{kind}/{number}"), others).await;
        }
    }
    store
}

#[tokio::test]
async fn calls_grow_with_what_there_is_and_no_faster() {
    let mut each = Vec::new();
    for (repositories, images) in [(2, 20), (8, 20), (2, 80)] {
        let store = filled(repositories, images, images).await;
        let driver = Arc::new(FaultDriver::new(store.driver));
        let evicted = evict(Arc::<FaultDriver>::clone(&driver)).await;
        let all = repositories * images;
        assert_eq!(evicted.items, all * (BLOBS + 1));
        let calls = calls(&driver);
        // A manifest that is due is read to see what it mentions, and whose referrer it is; one of a
        // cache that is not due is read for the first look, and again; one pushed here is read once.
        assert_eq!(calls["Get BlobData"], all * 5, "{calls:?}");
        // Only where manifests go.
        assert_eq!(calls["Get TagCurrent"], all, "{calls:?}");
        // A size is looked up once, and that of what goes once more.
        assert!(calls["Stat BlobData"] <= all * (3 * BLOBS + 5), "{calls:?}");
        // The folder of a tag, each link and each blob; and folders of repositories.
        let gone = 1 + 1 + BLOBS + 1 + BLOBS;
        let few = 20 + 10 * repositories;
        assert!(calls["Delete else"] <= all * gone + few, "{calls:?}");
        each.push(calls.values().sum::<u64>() as f64 / all as f64);
    }
    let [small, ..] = each[..] else {
        panic!("there are three");
    };
    assert!(each.iter().all(|each| *each < small * 1.01), "{each:?}");
}

/// A value of this process's status, in MB.
fn memory(of: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(of))
        .unwrap();
    let kilobytes = line.split_whitespace().next().unwrap();
    kilobytes.parse::<u64>().unwrap() / 1024
}

/// What stands in `docs/performance.md`; `BLOBS` is another number of them.
#[tokio::test]
#[ignore = "takes minutes"]
async fn a_hundred_thousand_blobs_go() {
    let blobs = std::env::var("BLOBS").ok();
    let blobs = blobs.map_or(100_000, |number| number.parse().unwrap());
    let images = blobs / BLOBS / 10;
    let store = filled(10, images, images / 10).await;
    let before = memory("VmRSS:");
    let began = Instant::now();
    let evicted = evict(Arc::new(store.driver)).await;
    let (took, peak) = (began.elapsed(), memory("VmHWM:"));
    println!("{evicted:?} took {took:?}, and {before} MB of memory became {peak} at the most");
    assert_eq!(evicted.items, 10 * images * (BLOBS + 1));
}
