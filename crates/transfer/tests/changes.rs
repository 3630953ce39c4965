//! Exports of a registry that is changed meanwhile.

mod support;

use std::path::Path;
use std::pin::pin;
use std::sync::Mutex;

use support::*;
use tokio::runtime::Handle;
use wharfinger_oci::{Algorithm, Digest, media_type};
use wharfinger_registry::{CollectOptions, Registry};
use wharfinger_transfer::{Destination, ExportOptions, Fault, Report, Step, export};

/// Exports to a folder, changing the registry when the first bytes have been copied.
async fn export_with_change(
    registry: &Registry,
    path: &Path,
    change: impl AsyncFnOnce() + Send,
) -> Report {
    let change = Mutex::new(Some(change));
    let told = |step: Step<'_>| {
        if matches!(step, Step::Bytes(_))
            && let Some(change) = change.lock().unwrap().take()
        {
            tokio::task::block_in_place(|| Handle::current().block_on(pin!(change())));
        }
    };
    let options = ExportOptions::default();
    let report = export(registry, &Destination::of(path), &options, &told)
        .await
        .unwrap();
    assert!(change.lock().unwrap().is_none(), "it was never changed");
    report
}

async fn collect(registry: &Registry) {
    let options = CollectOptions {
        dry_run: false,
        delete_untagged: true,
        serving: None,
        rate: None,
    };
    registry.collect(options, |_| ()).await.unwrap();
}

/// An index of two images under a tag; gives the digests of it and of the images.
async fn push_index(registry: &Registry, seed: u8, tag: &str) -> [Digest; 3] {
    let repository = registry.repository(&name("a"));
    let algorithm = Algorithm::CANONICAL;
    let mut images = Vec::new();
    for seed in [seed, seed + 1] {
        let text = image_text(&repository, seed, 1000, algorithm, "").await;
        let (digest, size) = put(&repository, text, algorithm, &[]).await;
        images.push((digest, size, media_type::OCI_IMAGE_MANIFEST));
    }
    let (digest, _) = put(&repository, index_text(&images), algorithm, &[tag]).await;
    [digest, images[0].0, images[1].0]
}

/// Deletes manifests and collects what only they needed.
async fn delete_for_good(registry: &Registry, digests: [Digest; 3]) {
    let manifests = registry.repository(&name("a")).manifests();
    for digest in digests {
        manifests.delete(&digest).await.unwrap();
    }
    collect(registry).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_is_exported_as_what_it_stands_for_then() {
    let registry = registry();
    let old = push_index(&registry, 1, "t").await;
    let folder = tempfile::tempdir().unwrap();
    let report = export_with_change(&registry, folder.path(), async || {
        push_index(&registry, 5, "t").await;
        delete_for_good(&registry, old).await;
    })
    .await;
    assert_eq!(
        (report.tags, report.untagged, report.failures),
        (1, 0, vec![])
    );
    let restored = support::registry();
    import_from(folder.path(), &restored, "").await.unwrap();
    assert_eq!(seen(&restored).await, seen(&registry).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_goes_is_not_exported() {
    let registry = registry();
    let old = push_index(&registry, 1, "t").await;
    let folder = tempfile::tempdir().unwrap();
    let report = export_with_change(&registry, folder.path(), async || {
        delete_for_good(&registry, old).await;
    })
    .await;
    assert_eq!(
        (report.tags, report.untagged, report.failures),
        (0, 0, vec![])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_while_its_tag_stays_is_damage() {
    let registry = registry();
    let [_, one, two] = push_index(&registry, 1, "t").await;
    push_image(&registry, "b", 9, &["whole"]).await;
    let folder = tempfile::tempdir().unwrap();
    let report = export_with_change(&registry, folder.path(), async || {
        let manifests = registry.repository(&name("a")).manifests();
        for digest in [one, two] {
            manifests.delete(&digest).await.unwrap();
        }
    })
    .await;
    assert_eq!((report.tags, report.untagged), (1, 0), "the other one");
    let [failure] = &report.failures[..] else {
        panic!("{report:?}");
    };
    assert_eq!(failure.image, "a:t");
    assert!(matches!(failure.fault, Fault::Missing(digest) if digest == one || digest == two));
}
