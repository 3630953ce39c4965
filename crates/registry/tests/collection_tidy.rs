//! What a collection removes last: tags that stand for nothing, and repositories in which nothing is
//! left.

mod support;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use support::{content, image, name, put, tag, try_image, try_push};
use wharfinger_oci::{Algorithm, Digest};
use wharfinger_registry::{
    CollectOptions, CollectReport, Error, Options, Registry, Result, layout,
};
use wharfinger_storage::{
    Driver, Durability, FilesystemDriver, FilesystemOptions, MemoryDriver, StoragePath,
};

const ALONE: CollectOptions = CollectOptions {
    dry_run: false,
    delete_untagged: false,
    serving: None,
    rate: None,
};

const SERVING: CollectOptions = CollectOptions {
    serving: Some(Duration::ZERO),
    ..ALONE
};

fn files(folder: &Path) -> Arc<dyn Driver> {
    Arc::new(FilesystemDriver::new(FilesystemOptions::new(folder)).unwrap())
}

fn node(driver: &Arc<dyn Driver>) -> Registry {
    let options = Options {
        delete: true,
        collection_lease: Duration::from_millis(20),
        ..Options::default()
    };
    Registry::new(Arc::clone(driver), options).unwrap()
}

async fn collect(registry: &Registry, options: CollectOptions) -> CollectReport {
    registry.collect(options, |_| {}).await.unwrap()
}

async fn catalog(registry: &Registry) -> Vec<String> {
    let page = registry.catalog(None, 100).await.unwrap();
    page.items.iter().map(ToString::to_string).collect()
}

async fn is_there(driver: &Arc<dyn Driver>, path: &StoragePath) -> bool {
    driver.stat(path).await.is_ok()
}

#[tokio::test]
async fn a_repository_goes_when_nothing_is_left_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let drivers = [Arc::new(MemoryDriver::new()), files(folder.path())] as [Arc<dyn Driver>; 2];
    for driver in drivers {
        for options in [ALONE, SERVING] {
            let registry = node(&driver);
            let kept = registry.repository(&name("a/kept"));
            let image_ = image(&kept, 1, "").await;
            put(&kept, &image_, &["latest"]).await;
            for text in ["a", "a/kept/below", "gone/far/down"] {
                let repository = registry.repository(&name(text));
                let image = image(&repository, 2, "").await;
                let digest = put(&repository, &image, &["1"]).await;
                repository.manifests().delete(&digest).await.unwrap();
            }
            // In these something is left: an upload, a blob too young.
            let uploading = registry.repository(&name("uploading"));
            let upload = uploading.blobs().create(Algorithm::CANONICAL).unwrap();
            let id = upload.id().clone();
            upload.pause().await.unwrap();
            assert_eq!(catalog(&registry).await.len(), 4);

            let dry_run = CollectOptions {
                dry_run: true,
                ..ALONE
            };
            assert_eq!(collect(&registry, dry_run).await.repositories, 0);
            let report = collect(&registry, options).await;
            assert_eq!((report.repositories, report.manifests), (3, 0));
            assert_eq!(catalog(&registry).await, ["a/kept"]);
            for gone in ["a/kept/below", "gone/far/down", "gone/far", "gone"] {
                let path = layout::repository(&name(gone));
                assert!(!is_there(&driver, &path).await, "{gone}");
            }
            let listed = registry
                .repository(&name("a"))
                .tags()
                .list(None, None)
                .await;
            assert!(matches!(listed, Err(Error::NameUnknown(_))), "{listed:?}");
            uploading.blobs().progress(&id, None).await.unwrap();
            assert_eq!(collect(&registry, options).await.repositories, 0);

            // A push makes it again.
            let again = registry.repository(&name("gone/far/down"));
            let image = image(&again, 2, "").await;
            let digest = put(&again, &image, &["1"]).await;
            again.manifests().delete(&digest).await.unwrap();
            assert_eq!(collect(&registry, options).await.repositories, 1);
            let upload = uploading
                .blobs()
                .resume(&id, None, Algorithm::CANONICAL)
                .await;
            upload.unwrap().cancel().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_tag_that_stands_for_nothing_goes() {
    let folder = tempfile::tempdir().unwrap();
    let driver = files(folder.path());
    let registry = node(&driver);
    let repository = registry.repository(&name("a"));
    let image = image(&repository, 1, "").await;
    let digest = put(&repository, &image, &["kept"]).await;
    // As a push leaves it that is cut off between the two.
    let stale = layout::tag_index_link(&name("a"), &tag("stale"), &digest);
    let write = || driver.put(&stale, digest.to_string().into(), Durability::Machine);
    write().await.unwrap();
    let tags = async || {
        let page = repository.tags().list(None, None).await.unwrap();
        page.items
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(tags().await, ["kept", "stale"]);
    // It may be one that is under way.
    assert_eq!(collect(&registry, SERVING).await.stale_tags, 0);
    let dry_run = CollectOptions {
        dry_run: true,
        ..ALONE
    };
    assert_eq!(collect(&registry, dry_run).await.stale_tags, 1);
    assert_eq!(tags().await, ["kept", "stale"]);
    assert_eq!(collect(&registry, ALONE).await.stale_tags, 1);
    assert_eq!(tags().await, ["kept"]);

    write().await.unwrap();
    let file = File::options()
        .write(true)
        .open(folder.path().join(&stale.as_str()[1..]));
    let long_ago = SystemTime::now() - Duration::from_secs(25 * 3600);
    file.unwrap().set_modified(long_ago).unwrap();
    assert_eq!(collect(&registry, SERVING).await.stale_tags, 1);
    assert_eq!(tags().await, ["kept"]);
    let history = repository.tags().history(&tag("kept")).await.unwrap();
    assert_eq!(history, [digest]);
}

/// Tries again and again what collections refuse that are too quick for it.
async fn persist<T>(what: impl AsyncFn() -> Result<T>) -> T {
    for _ in 0..50 {
        match what().await {
            Ok(done) => return done,
            Err(Error::ManifestReferencesUnknown(_) | Error::Collecting) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a push never succeeds");
}

/// Images are pushed and deleted in repositories that go as soon as they are empty: each push works.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_begin_where_repositories_go() {
    let folder = tempfile::tempdir().unwrap();
    let driver = files(folder.path());
    let (pushing, collecting) = (node(&driver), node(&driver));
    let is_over = AtomicBool::new(false);
    let pushers = (0..4_u8).map(|pusher| {
        let pushing = pushing.clone();
        async move {
            let repository = pushing.repository(&name(&format!("r/{pusher}/deep")));
            for _ in 0..12 {
                // What nobody else needs goes when the grace period is short: it is pushed anew.
                let digest = persist(async || {
                    let image = try_image(&repository, pusher, "").await?;
                    let digest = Digest::canonical(image.payload());
                    let manifests = repository.manifests();
                    manifests.put(&image, &digest, &[tag("1")]).await?;
                    Ok(digest)
                })
                .await;
                assert_eq!(repository.tags().get(&tag("1")).await.unwrap(), digest);
                let blob = content(100 + pusher, 2_000_000);
                persist(async || try_push(&repository, &blob).await).await;
                repository.manifests().get(&digest).await.unwrap();
                repository.manifests().delete(&digest).await.unwrap();
            }
        }
    });
    let collections = async {
        let mut gone = 0;
        while !is_over.load(Ordering::Relaxed) {
            gone += collect(&collecting, SERVING).await.repositories;
        }
        // What the last pushes leave may be there still when the next one begins.
        for _ in 0..50 {
            gone += collect(&collecting, SERVING).await.repositories;
            if catalog(&collecting).await.is_empty() {
                break;
            }
        }
        gone
    };
    let pushes = async {
        join_all(pushers).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let ((), gone) = futures_util::future::join(pushes, collections).await;
    assert!(gone >= 4, "{gone}");
    assert_eq!(catalog(&collecting).await, [""; 0]);
    assert!(!is_there(&driver, &layout::repository(&name("r"))).await);
}
