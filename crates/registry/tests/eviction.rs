//! What a cache can fetch again goes, and nothing that another repository has.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{content, image, name, push, put};
use wharfinger_oci::Digest;
use wharfinger_oci::manifest::Manifest;
use wharfinger_registry::{CollectOptions, Error, Eviction, Options, Registry, Repository, layout};
use wharfinger_storage::{Driver, MemoryDriver};

/// Short, so that the tests are.
const LEASE: Duration = Duration::from_millis(100);

fn node(driver: &Arc<dyn Driver>, lease: Duration) -> Registry {
    let options = Options {
        collection_lease: lease,
        descriptor_cache: 0,
        ..Options::default()
    };
    Registry::new(Arc::clone(driver), options).unwrap()
}

fn memory() -> Arc<dyn Driver> {
    Arc::new(MemoryDriver::new())
}

async fn has_blob(driver: &Arc<dyn Driver>, digest: &Digest) -> bool {
    driver.stat(&layout::blob_data(digest)).await.is_ok()
}

/// Config and layer.
fn blobs_of(manifest: &Manifest) -> Vec<Digest> {
    let references = manifest.references();
    references.iter().map(|one| one.digest).collect()
}

/// A whole image of a repository.
fn all_of(repository: &Repository, manifest: &Manifest) -> Eviction {
    let digest = Digest::canonical(manifest.payload());
    let name = repository.name().clone();
    Eviction {
        manifests: [(name.clone(), vec![digest])].into(),
        blobs: [(name, blobs_of(manifest))].into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_whole_and_what_other_repositories_have_stays() {
    let driver = memory();
    let registry = node(&driver, LEASE);
    let cached = registry.repository(&name("cached/app"));
    let old = image(&cached, 1, "").await;
    let old_digest = put(&cached, &old, &["old", "1"]).await;
    let kept = image(&cached, 2, "").await;
    let kept_digest = put(&cached, &kept, &["new"]).await;
    // One repository has the layer of a manifest, the other only uploaded it.
    let [config, layer] = blobs_of(&old)[..] else {
        panic!("an image has a config and a layer");
    };
    let local = registry.repository(&name("local"));
    push(&local, &content(1, 1000)).await;

    let eviction = all_of(&cached, &old);
    let report = registry.evict(&eviction, Duration::ZERO).await.unwrap();
    assert_eq!((report.manifests, report.blobs), (1, 2));
    for digest in [old_digest, config] {
        assert!(!has_blob(&driver, &digest).await, "{digest}");
    }
    let tags = cached.tags().list(None, None).await.unwrap().items;
    assert_eq!(tags, ["new".parse().unwrap()]);
    let gone = cached.manifests().get(&old_digest).await;
    assert!(matches!(gone, Err(Error::ManifestUnknown(_))));
    // Access went, and the bytes did not.
    let no_access = cached.blobs().stat(&layer).await;
    assert!(matches!(no_access, Err(Error::BlobUnknown(_))));
    let there = local.blobs().stat(&layer).await.unwrap();
    assert_eq!(local.blobs().get(&there).await.unwrap(), content(1, 1000));
    assert!(cached.manifests().get(&kept_digest).await.is_ok());
    for digest in blobs_of(&kept) {
        assert!(cached.blobs().stat(&digest).await.is_ok());
    }

    // The same bytes in another repository's manifest stay too.
    let other = registry.repository(&name("other"));
    put(&other, &image(&other, 2, "").await, &["new"]).await;
    let eviction = all_of(&cached, &kept);
    let report = registry.evict(&eviction, Duration::ZERO).await.unwrap();
    assert_eq!((report.manifests, report.blobs), (1, 0));
    for digest in blobs_of(&kept) {
        assert!(cached.blobs().stat(&digest).await.is_err());
        assert!(other.blobs().stat(&digest).await.is_ok());
    }
    // It has left no repository.
    let catalog = registry.catalog(None, 10).await.unwrap().items;
    let all = catalog.iter().map(|name| name.as_str());
    assert!(all.eq(["local", "other"]), "{catalog:?}");
}

/// Waits until an eviction has told what it wants to remove.
async fn condemned(driver: &Arc<dyn Driver>) {
    loop {
        if let Ok(state) = driver.get(&layout::gc_state()).await
            && String::from_utf8_lossy(&state).contains("\"condemned\"")
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_mounted_meanwhile_stays_whether_the_node_knows_of_the_run_or_not() {
    // A node with a longer lease acts on what it read before.
    for lease in [LEASE, Duration::from_secs(600)] {
        let driver = memory();
        let (registry, other) = (node(&driver, LEASE), node(&driver, lease));
        let cached = registry.repository(&name("cached"));
        let old = image(&cached, 1, "").await;
        put(&cached, &old, &["old"]).await;
        let [config, layer] = blobs_of(&old)[..] else {
            panic!("an image has a config and a layer");
        };
        let local = other.repository(&name("local"));
        push(&local, &content(9, 10)).await;
        let eviction = all_of(&cached, &old);
        let evicting = async { registry.evict(&eviction, Duration::ZERO).await };
        let mounting = async {
            condemned(&driver).await;
            local.blobs().mount(cached.name(), &layer).await.unwrap()
        };
        let (evicted, mounted) = tokio::join!(evicting, mounting);
        evicted.unwrap();
        assert!(mounted.is_some());
        let there = local.blobs().stat(&layer).await.unwrap();
        assert_eq!(local.blobs().get(&there).await.unwrap(), content(1, 1000));
        assert!(!has_blob(&driver, &config).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_again_meanwhile_stays() {
    let driver = memory();
    let registry = node(&driver, LEASE);
    let cached = registry.repository(&name("cached"));
    let old = image(&cached, 1, "").await;
    let digest = put(&cached, &old, &["old"]).await;
    let eviction = all_of(&cached, &old);
    let evicting = async { registry.evict(&eviction, Duration::ZERO).await };
    let pulling = async {
        condemned(&driver).await;
        put(&cached, &old, &["old"]).await
    };
    let (evicted, _) = tokio::join!(evicting, pulling);
    assert_eq!(evicted.unwrap().manifests, 0);
    let old_tag = "old".parse().unwrap();
    assert_eq!(cached.tags().get(&old_tag).await.unwrap(), digest);
    assert!(cached.manifests().get(&digest).await.is_ok());
    for blob in blobs_of(&old) {
        assert!(cached.blobs().stat(&blob).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_that_is_cut_off_is_ended_by_whoever_comes_next() {
    let driver = memory();
    let registry = node(&driver, LEASE);
    let cached = registry.repository(&name("cached"));
    let old = image(&cached, 1, "").await;
    put(&cached, &old, &["old"]).await;
    let eviction = all_of(&cached, &old);
    tokio::select! {
        _ = registry.evict(&eviction, Duration::ZERO) => panic!("it waits"),
        () = condemned(&driver) => {}
    }
    // Another process, which ends that run and begins its own.
    let next = node(&driver, LEASE);
    let report = next.evict(&eviction, Duration::ZERO).await.unwrap();
    assert_eq!((report.manifests, report.blobs), (1, 3));
    assert!(next.catalog(None, 1).await.unwrap().items.is_empty());

    // It was no collection: one that is due comes, and finds nothing.
    let state = driver.get(&layout::gc_state()).await.unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["phase"], "over");
    assert_eq!(state["evicts"], true);
    assert_eq!(state["collected"], serde_json::Value::Null);
    let serving = CollectOptions {
        serving: Some(Duration::ZERO),
        ..CollectOptions::default()
    };
    let report = next.collect(serving, |_| {}).await.unwrap();
    assert_eq!(report.blobs, 0);
    let state = driver.get(&layout::gc_state()).await.unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    assert_eq!(state["evicts"], false);
}
