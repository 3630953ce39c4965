//! Collection: what nothing needs goes, whatever is needed stays.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use support::{content, image, name, parse, push, put, registry, tag};
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Algorithm, Digest, RepositoryName, media_type};
use wharfinger_registry::{
    Activity, CollectOptions, CollectReport, CollectStep, Error, Options, Registry, Repository,
    layout,
};
use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver};
use wharfinger_storage::{Driver, Durability, StoragePath, Walk};

const ALL: CollectOptions = CollectOptions {
    dry_run: false,
    delete_untagged: false,
    serving: None,
    rate: None,
};

const UNTAGGED: CollectOptions = CollectOptions {
    dry_run: false,
    delete_untagged: true,
    serving: None,
    rate: None,
};

async fn collect(registry: &Registry, options: CollectOptions) -> CollectReport {
    registry.collect(options, |_| {}).await.unwrap()
}

/// The store as another process sees it.
fn reopened(driver: &Arc<dyn Driver>) -> Registry {
    Registry::new(Arc::clone(driver), Options::default()).unwrap()
}

async fn files(driver: &Arc<dyn Driver>) -> BTreeSet<StoragePath> {
    let mut files = BTreeSet::new();
    let mut walk = Walk::new(&**driver, StoragePath::root());
    while let Some(entry) = walk.next().await.unwrap() {
        if !entry.is_dir {
            files.insert(entry.path);
        }
    }
    files
}

async fn has_blob(driver: &Arc<dyn Driver>, digest: &Digest) -> bool {
    driver.stat(&layout::blob_data(digest)).await.is_ok()
}

/// Pulls a manifest and everything it refers to.
async fn pulls(repository: &Repository, digest: &Digest) {
    let served = repository.manifests().get(digest).await.unwrap();
    let manifest = Manifest::parse(Some(&served.descriptor.media_type), served.bytes).unwrap();
    for reference in manifest.references() {
        let nested = repository.manifests().get(&reference.digest).await;
        if nested.is_err() {
            let blobs = repository.blobs();
            let descriptor = blobs.stat(&reference.digest).await.unwrap();
            blobs.get(&descriptor).await.unwrap();
        }
    }
}

fn index(of: &[&Manifest], extra: &str) -> Manifest {
    let entries: Vec<_> = of
        .iter()
        .map(|manifest| {
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#,
                manifest.media_type(),
                Digest::canonical(manifest.payload()),
                manifest.bytes().len()
            )
        })
        .collect();
    parse(
        media_type::OCI_IMAGE_INDEX,
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]{extra}}}"#,
            media_type::OCI_IMAGE_INDEX,
            entries.join(",")
        ),
    )
}

fn subject(of: &Manifest) -> String {
    format!(
        r#","subject":{{"mediaType":"{}","digest":"{}","size":{}}}"#,
        of.media_type(),
        Digest::canonical(of.payload()),
        of.bytes().len()
    )
}

#[tokio::test]
async fn an_empty_store_has_nothing_to_collect() {
    let (registry, _) = registry();
    assert_eq!(collect(&registry, UNTAGGED).await, CollectReport::default());
}

#[tokio::test]
async fn what_a_deleted_manifest_alone_needed_goes() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("library/debian"));
    let stays = image(&repository, 1, "").await;
    let stays = put(&repository, &stays, &["latest"]).await;
    let before = files(&driver).await;
    let goes = image(&repository, 2, "").await;
    let goes = put(&repository, &goes, &[]).await;
    repository.manifests().delete(&goes).await.unwrap();

    let dry = CollectOptions {
        dry_run: true,
        ..ALL
    };
    let all = files(&driver).await;
    let mut told = Vec::new();
    let report = registry
        .collect(dry, |step| told.push(format!("{step:?}")))
        .await
        .unwrap();
    assert_eq!((report.marked, report.blobs, report.layer_links), (3, 3, 2));
    assert!(told.iter().any(|step| step.starts_with("LayerLink")));
    assert_eq!(files(&driver).await, all, "a dry run removes nothing");

    assert_eq!(collect(&registry, ALL).await, report);
    assert_eq!(files(&driver).await, before);
    pulls(&repository, &stays).await;
    let again = collect(&registry, ALL).await;
    assert_eq!((again.blobs, again.layer_links), (0, 0));
}

#[tokio::test]
async fn a_blob_that_another_repository_needs_stays() {
    let (registry, driver) = registry();
    let [a, b] = ["a", "b/c"].map(|text| registry.repository(&name(text)));
    let manifest = image(&a, 1, "").await;
    let digest = put(&a, &manifest, &["1"]).await;
    for reference in manifest.references() {
        b.blobs().mount(a.name(), &reference.digest).await.unwrap();
    }
    put(&b, &manifest, &["1"]).await;
    let loose = push(&b, &content(9, 100)).await;
    a.manifests().delete(&digest).await.unwrap();
    let report = collect(&registry, ALL).await;
    assert_eq!(
        (report.blobs, report.bytes, report.layer_links),
        (1, 100, 1)
    );
    assert!(!has_blob(&driver, &loose.digest).await);
    pulls(&reopened(&driver).repository(b.name()), &digest).await;
}

#[tokio::test]
async fn untagged_manifests_stay_unless_they_are_to_go() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let old = image(&repository, 1, "").await;
    let old = put(&repository, &old, &["latest"]).await;
    let new = image(&repository, 2, "").await;
    let new = put(&repository, &new, &["latest"]).await;
    assert_eq!(collect(&registry, ALL).await.blobs, 0);
    pulls(&repository, &old).await;

    let report = collect(&registry, UNTAGGED).await;
    assert_eq!((report.manifests, report.blobs), (1, 3));
    pulls(&repository, &new).await;
    assert!(!repository.manifests().contains(&old).await.unwrap());
    let history = repository.tags().history(&tag("latest")).await.unwrap();
    assert_eq!(history, [new]);
    let revision = layout::revision(repository.name(), &old);
    assert!(driver.stat(&revision).await.is_err(), "not even a folder");
}

#[tokio::test]
async fn what_a_tag_reaches_is_not_untagged() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let child = image(&repository, 1, "").await;
    let child_digest = put(&repository, &child, &[]).await;
    let list = index(&[&child], "");
    let list_digest = put(&repository, &list, &["list"]).await;
    let signature = image(&repository, 2, &subject(&list)).await;
    let signature_digest = put(&repository, &signature, &[]).await;
    // Its subject was pushed by its name only, and has a referrer of its own.
    let signed_child = image(&repository, 3, &subject(&child)).await;
    let signed_child_digest = put(&repository, &signed_child, &[]).await;
    let of_signature = image(&repository, 4, &subject(&signed_child)).await;
    let of_signature_digest = put(&repository, &of_signature, &[]).await;
    // A tagged referrer keeps its subject.
    let base = image(&repository, 5, "").await;
    let base_digest = put(&repository, &base, &[]).await;
    let tagged = image(&repository, 6, &subject(&base)).await;
    put(&repository, &tagged, &["sbom"]).await;
    // Nobody leads here, and what it refers to does not help it.
    let loose = index(&[&child], "");
    let loose = Manifest::parse(
        Some(media_type::OCI_IMAGE_INDEX),
        Bytes::from([loose.bytes(), &b" "[..]].concat()),
    );
    let loose_digest = put(&repository, &loose.unwrap(), &[]).await;

    let report = collect(&registry, UNTAGGED).await;
    assert_eq!((report.manifests, report.blobs), (1, 1));
    let repository = reopened(&driver).repository(repository.name());
    for digest in [
        child_digest,
        list_digest,
        signature_digest,
        signed_child_digest,
        of_signature_digest,
        base_digest,
    ] {
        pulls(&repository, &digest).await;
    }
    assert!(
        !repository
            .manifests()
            .contains(&loose_digest)
            .await
            .unwrap()
    );
    let referrers = repository.referrers();
    assert_eq!(referrers.list(&list_digest, None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_untagged_referrer_of_nothing_goes_with_its_record() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let image_ = image(&repository, 1, "").await;
    let digest = put(&repository, &image_, &[]).await;
    let referrer = image(&repository, 2, &subject(&image_)).await;
    put(&repository, &referrer, &[]).await;
    let report = collect(&registry, UNTAGGED).await;
    assert_eq!((report.manifests, report.blobs), (2, 6));
    assert_eq!(files(&driver).await, BTreeSet::new());
    let listed = repository.referrers().list(&digest, None).await.unwrap();
    assert_eq!(listed, []);
}

#[tokio::test]
async fn digests_of_another_algorithm_count_as_the_blobs_they_stand_for() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let config = Bytes::from_static(b"{}");
    let sha512 = Digest::of(Algorithm::Sha512, &config);
    let mut upload = repository.blobs().create(Algorithm::Sha512).unwrap();
    support::append(&mut upload, &config).await.unwrap();
    upload.commit(&sha512).await.unwrap();
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/json",
        "digest":"{sha512}","size":2}},"layers":[]}}"#,
        media_type::OCI_IMAGE_MANIFEST
    );
    let manifest = parse(media_type::OCI_IMAGE_MANIFEST, text);
    let digest = Digest::of(Algorithm::Sha512, manifest.payload());
    let manifests = repository.manifests();
    manifests
        .put(&manifest, &digest, &[tag("t")])
        .await
        .unwrap();
    let before = files(&driver).await;
    for options in [ALL, UNTAGGED] {
        let report = collect(&registry, options).await;
        assert_eq!(
            (report.manifests, report.blobs, report.layer_links),
            (0, 0, 0)
        );
        assert_eq!(files(&driver).await, before);
    }
    manifests.delete(&digest).await.unwrap();
    let report = collect(&registry, ALL).await;
    assert_eq!(report.blobs, 2);
    assert_eq!(
        files(&driver).await,
        BTreeSet::new(),
        "links under sha512 too"
    );
}

#[tokio::test]
async fn nothing_goes_when_not_all_that_is_needed_can_be_known() {
    type Break = fn(&RepositoryName, &Digest) -> (StoragePath, &'static str);
    let breaks: [(&str, Break); 4] = [
        ("the link is empty", |name, digest| {
            (layout::revision_link(name, digest), "")
        }),
        ("another digest", |_, digest| {
            (layout::blob_data(digest), "{}")
        }),
        ("not a digest", |name, _| {
            (layout::tag_current(name, &tag("latest")), "nonsense")
        }),
        ("is not the name of a repository", |_, _| {
            let odd = "/docker/registry/v2/repositories/Odd/_layers/sha256/x";
            (odd.parse().unwrap(), "")
        }),
    ];
    for (reason, broken) in breaks {
        let (registry, driver) = registry();
        let repository = registry.repository(&name("a"));
        let manifest = image(&repository, 1, "").await;
        let digest = put(&repository, &manifest, &["latest"]).await;
        push(&repository, &content(7, 10)).await;
        let (path, text) = broken(repository.name(), &digest);
        let write = driver.put(&path, text.into(), Durability::Process);
        write.await.unwrap();
        let before = files(&driver).await;
        let error = reopened(&driver)
            .collect(UNTAGGED, |_| {})
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(files(&driver).await, before);
    }
}

#[tokio::test]
async fn a_manifest_whose_bytes_are_gone_stops_it() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let manifest = image(&repository, 1, "").await;
    let digest = put(&repository, &manifest, &["latest"]).await;
    driver.delete(&layout::blob_data(&digest)).await.unwrap();
    let before = files(&driver).await;
    let error = reopened(&driver).collect(ALL, |_| {}).await.unwrap_err();
    assert!(error.to_string().contains(&digest.hex()), "{error}");
    assert_eq!(files(&driver).await, before);
}

/// A store in which each kind of thing goes and stays.
async fn mixed(registry: &Registry) -> (Repository, Vec<Digest>) {
    let repository = registry.repository(&name("a/b"));
    let old = image(&repository, 1, "").await;
    put(&repository, &old, &["latest"]).await;
    let new = image(&repository, 2, "").await;
    let new_digest = put(&repository, &new, &["latest"]).await;
    let referrer = image(&repository, 3, &subject(&new)).await;
    let referrer = put(&repository, &referrer, &[]).await;
    let of_old = image(&repository, 4, &subject(&old)).await;
    put(&repository, &of_old, &[]).await;
    push(&repository, &content(5, 100)).await;
    (repository, vec![new_digest, referrer])
}

/// Whatever operation fails, what is needed stays, no link outlives its blob, and a second run
/// brings the store to where an undisturbed one would have.
#[tokio::test]
async fn an_interruption_anywhere_leaves_only_garbage() {
    let (whole, clean) = registry();
    mixed(&whole).await;
    collect(&whole, UNTAGGED).await;
    let wanted = files(&clean).await;
    let mut interrupted = 0;
    for operation in 0.. {
        let (registry, driver) = registry();
        let (repository, stays) = mixed(&registry).await;
        let faulty = FaultDriver::around(Arc::clone(&driver));
        faulty.plan(
            Fault::new(Effect::Fail(Cause::Io))
                .after(operation)
                .times(1),
        );
        let over = Registry::new(Arc::new(faulty.clone()), Options::default()).unwrap();
        let outcome = over.collect(UNTAGGED, |_| {}).await;
        if faulty.operations().len() as u64 <= operation {
            break;
        }
        interrupted += u32::from(outcome.is_err());
        let after = reopened(&driver);
        for digest in &stays {
            pulls(&after.repository(repository.name()), digest).await;
        }
        for path in files(&driver).await {
            let Some(layout::Located::LayerLink(..)) = layout::locate(&path) else {
                continue;
            };
            let link = driver.get(&path).await.unwrap();
            let digest = std::str::from_utf8(&link).unwrap().parse().unwrap();
            assert!(has_blob(&driver, &digest).await, "{path} dangles");
        }
        collect(&after, UNTAGGED).await;
        assert_eq!(files(&driver).await, wanted, "after operation {operation}");
    }
    assert!(interrupted > 20, "{interrupted}");
}

#[tokio::test]
async fn each_step_is_told() {
    let (registry, _) = registry();
    mixed(&registry).await;
    let mut counted = [0_u64; 6];
    let mut at_mark = None;
    let mut activities = Vec::new();
    let report = registry.collect(UNTAGGED, |step| match step {
        CollectStep::Repository(name) => {
            assert_eq!(name.as_str(), "a/b");
            counted[0] += 1;
        }
        CollectStep::MarkedManifest(..) => counted[1] += 1,
        CollectStep::MarkedBlob(..) => counted[2] += 1,
        CollectStep::Manifest(..) => counted[3] += 1,
        CollectStep::LayerLink(..) => counted[4] += 1,
        CollectStep::Blob(..) => counted[5] += 1,
        CollectStep::Marked(report) => at_mark = Some(*report),
        CollectStep::Waiting { .. } => panic!("nobody else writes"),
        CollectStep::Activity(activity) => activities.push(activity),
        CollectStep::StaleTag(..) | CollectStep::EmptyRepository(_) => panic!("{step:?}"),
    });
    let report = report.await.unwrap();
    // Two images with two blobs each, one of the images named by the other first; two images,
    // their blobs and a loose one go.
    assert_eq!(counted, [1, 2, 5, 2, 5, 7]);
    assert_eq!((report.marked, report.manifests, report.blobs), (6, 2, 7));
    assert_eq!(at_mark.unwrap().blobs, 7);
    let all = [
        Activity::Marking,
        Activity::Searching,
        Activity::Removing,
        Activity::Tidying,
    ];
    assert_eq!(activities, all);
}
