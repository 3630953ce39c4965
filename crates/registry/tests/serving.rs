//! Collection while others write: whatever is acknowledged stays whole, and garbage goes.

mod support;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use support::{content, image, name, push, put};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wharfinger_oci::Digest;
use wharfinger_oci::manifest::Manifest;
use wharfinger_registry::{
    Activity, CollectOptions, CollectReport, CollectStep, Error, Options, Registry, Repository,
    Result, layout,
};
use wharfinger_storage::testing::fault::{Cause, Effect, Fault, FaultDriver, Operation};
use wharfinger_storage::{Driver, MemoryDriver};

/// Short, so that the tests are.
const LEASE: Duration = Duration::from_millis(200);

const SERVING: CollectOptions = CollectOptions {
    dry_run: false,
    delete_untagged: false,
    serving: Some(Duration::ZERO),
    rate: None,
};

/// Time enough for a node to notice a run, on a machine with other things to do.
const PATIENT: Duration = LEASE.saturating_mul(5);

const UNTAGGED: CollectOptions = CollectOptions {
    delete_untagged: true,
    ..SERVING
};

fn node(driver: &Arc<dyn Driver>) -> Registry {
    let options = Options {
        delete: true,
        collection_lease: LEASE,
        ..Options::default()
    };
    Registry::new(Arc::clone(driver), options).unwrap()
}

fn memory() -> Arc<dyn Driver> {
    Arc::new(MemoryDriver::new())
}

/// What a collection waits for.
#[derive(Debug, PartialEq, Eq)]
enum Wait {
    /// What it has condemned can be pardoned.
    Condemned,
    /// It is about to remove what was not pardoned.
    Executing,
}

/// A collection under way.
struct Collection {
    waits: mpsc::UnboundedReceiver<Wait>,
    task: JoinHandle<Result<CollectReport>>,
}

impl Collection {
    fn begin(registry: &Registry, options: CollectOptions) -> Self {
        let (sender, waits) = mpsc::unbounded_channel();
        let registry = registry.clone();
        let task = tokio::spawn(async move {
            let told = |step: CollectStep<'_>| {
                if let CollectStep::Waiting { is_pardonable, .. } = step {
                    let _ = sender.send(match is_pardonable {
                        true => Wait::Condemned,
                        false => Wait::Executing,
                    });
                }
            };
            registry.collect(options, told).await
        });
        Self { waits, task }
    }

    async fn until(&mut self, wait: Wait) {
        while self.waits.recv().await.expect("it has not ended") != wait {}
    }

    async fn end(self) -> CollectReport {
        self.task.await.unwrap().unwrap()
    }

    /// Ends it in the midst of what it does.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn has_blob(driver: &Arc<dyn Driver>, digest: &Digest) -> bool {
    driver.stat(&layout::blob_data(digest)).await.is_ok()
}

/// Pulls a manifest and all that it mentions.
async fn pull(repository: &Repository, digest: &Digest) -> Result<()> {
    let served = repository.manifests().get(digest).await?;
    let manifest = Manifest::parse(Some(&served.descriptor.media_type), served.bytes).unwrap();
    for reference in manifest.references() {
        let blobs = repository.blobs();
        let descriptor = blobs.stat(&reference.digest).await?;
        blobs.get(&descriptor).await?;
    }
    Ok(())
}

/// An image whose manifest was pushed and deleted: its blobs are garbage.
async fn garbage(registry: &Registry, repository: &str, seed: u8) -> (Manifest, Vec<Digest>) {
    let repository = registry.repository(&name(repository));
    let manifest = image(&repository, seed, "").await;
    let digest = put(&repository, &manifest, &[]).await;
    repository.manifests().delete(&digest).await.unwrap();
    let references = manifest.references();
    let mut blobs: Vec<_> = references.iter().map(|one| one.digest).collect();
    blobs.push(digest);
    (manifest, blobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_goes_with_its_links_and_what_is_needed_stays() {
    let driver = memory();
    let registry = node(&driver);
    let repository = registry.repository(&name("a"));
    let kept = image(&repository, 1, "").await;
    let kept = put(&repository, &kept, &["latest"]).await;
    let (_, blobs) = garbage(&registry, "a", 2).await;
    let dry_run = CollectOptions {
        dry_run: true,
        ..SERVING
    };
    let told = registry.collect(dry_run, |_| {}).await.unwrap();
    assert_eq!((told.marked, told.blobs), (3, 3));

    let report = Collection::begin(&registry, SERVING).end().await;
    assert_eq!((report.blobs, report.layer_links), (3, 2));
    assert_eq!(report.bytes, told.bytes);
    for digest in &blobs {
        assert!(!has_blob(&driver, digest).await);
        let stat = repository.blobs().stat(digest).await;
        assert!(matches!(stat, Err(Error::BlobUnknown(_))), "{stat:?}");
    }
    pull(&repository, &kept).await.unwrap();
    let again = Collection::begin(&registry, SERVING).end().await;
    assert_eq!((again.blobs, again.layer_links), (0, 0));
    assert!(
        driver
            .list(&layout::gc_runs(), None, None)
            .await
            .unwrap()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_stays() {
    let driver = memory();
    let registry = node(&driver);
    let (_, blobs) = garbage(&registry, "a", 1).await;
    let options = CollectOptions {
        serving: Some(Duration::from_secs(3600)),
        ..SERVING
    };
    let report = Collection::begin(&registry, options).end().await;
    assert_eq!((report.blobs, report.young), (0, 3));
    assert!(has_blob(&driver, &blobs[0]).await);
}

/// A collector finds a manifest before it begins to remove, and goes; the manifest is deleted, and
/// another collector goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_first_collector_has_struck_the_next_one_spares() {
    let driver = memory();
    let (first, second) = (node(&driver), node(&driver));
    let (manifest, blobs) = garbage(&first, "a", 1).await;
    let (_, others) = garbage(&first, "a", 2).await;
    let repository = second.repository(&name("a"));
    // This node has a view that holds, and may not learn of the run in time to pardon.
    repository.blobs().put("x".into()).await.unwrap();
    let mut collection = Collection::begin(&first, SERVING);
    collection.until(Wait::Condemned).await;
    let digest = put(&repository, &manifest, &[]).await;
    collection.until(Wait::Executing).await;
    collection.kill().await;
    repository.manifests().delete(&digest).await.unwrap();
    let report = Collection::begin(&second, SERVING).end().await;
    // One of them is what gave the node its view.
    assert_eq!((report.blobs, report.spared), (4, 3));
    for digest in &blobs {
        assert!(has_blob(&driver, digest).await);
    }
    for digest in &others {
        assert!(!has_blob(&driver, digest).await);
    }
    assert_eq!(Collection::begin(&first, SERVING).end().await.blobs, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_it_has_got_can_be_asked_for() {
    let driver = memory();
    let registry = node(&driver);
    garbage(&registry, "a", 1).await;
    tokio::time::sleep(PATIENT).await;
    let patient = CollectOptions {
        serving: Some(PATIENT),
        ..SERVING
    };
    let mut collection = Collection::begin(&registry, patient);
    collection.until(Wait::Condemned).await;
    let told = registry.collect_progress();
    assert_eq!(told.activity, Activity::Condemned);
    assert_eq!((told.repositories, told.condemned), (1, 3));
    assert!(told.seconds_left.is_some_and(|left| left <= told.expected));
    collection.kill().await;
    let told = registry.collect_progress();
    assert_eq!((told.activity, told.failed), (Activity::Idle, 1));
    let report = Collection::begin(&registry, SERVING).end().await;
    let told = registry.collect_progress();
    assert_eq!((told.succeeded, told.last), (1, Some(report)));
    assert_eq!(told.removed_blobs, 3);
}

/// What can be done with blobs that are condemned, each of which must save them.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_to_depend_on_the_condemned_saves_it() {
    let ways = [
        "head",
        "mount",
        "mount anywhere",
        "upload",
        "put",
        "manifest",
    ];
    join_all(ways.map(|way| async move {
        let driver = memory();
        let (collector, other) = (node(&driver), node(&driver));
        let (manifest, blobs) = garbage(&collector, "a", 1).await;
        let (_, others) = garbage(&collector, "a", 2).await;
        let target = match way {
            "mount" | "mount anywhere" => "b",
            _ => "a",
        };
        let repository = other.repository(&name(target));
        tokio::time::sleep(PATIENT).await;
        let patient = CollectOptions {
            serving: Some(PATIENT),
            ..SERVING
        };
        let mut collection = Collection::begin(&collector, patient);
        collection.until(Wait::Condemned).await;
        tokio::time::sleep(LEASE).await;
        let service = repository.blobs();
        for digest in &blobs[..2] {
            match way {
                "head" => drop(service.promise(digest).await.unwrap()),
                "mount" => drop(service.mount(&name("a"), digest).await.unwrap().unwrap()),
                "mount anywhere" => {
                    drop(
                        service
                            .mount_anywhere(digest, |_| true)
                            .await
                            .unwrap()
                            .unwrap(),
                    );
                }
                "upload" | "put" => {
                    let from = collector.repository(&name("a")).blobs();
                    let descriptor = from.stat(digest).await.unwrap();
                    let bytes = from.get(&descriptor).await.unwrap();
                    match way {
                        "upload" => drop(push(&repository, &bytes).await),
                        _ => drop(service.put(bytes).await.unwrap()),
                    }
                }
                _ => {}
            }
        }
        if way == "manifest" {
            put(&repository, &manifest, &["latest"]).await;
        }
        let report = collection.end().await;
        let spared = if way == "manifest" { 3 } else { 2 };
        assert_eq!((report.spared, report.blobs), (spared, 6 - spared), "{way}");
        for digest in &others {
            assert!(!has_blob(&driver, digest).await, "{way}");
        }
        let digest = put(&repository, &manifest, &["latest"]).await;
        pull(&repository, &digest).await.unwrap();
        Collection::begin(&collector, SERVING).end().await;
        pull(&repository, &digest).await.unwrap();
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_removed_counts_as_gone_and_comes_back_by_pushing() {
    let driver = memory();
    let (collector, other) = (node(&driver), node(&driver));
    let (manifest, blobs) = garbage(&collector, "a", 1).await;
    let repository = other.repository(&name("a"));
    // This node has the descriptors in its cache.
    for digest in &blobs[..2] {
        repository.blobs().stat(digest).await.unwrap();
    }
    let mut collection = Collection::begin(&collector, SERVING);
    collection.until(Wait::Executing).await;
    tokio::time::sleep(LEASE).await;
    for digest in &blobs[..2] {
        let head = repository.blobs().promise(digest).await;
        assert!(matches!(head, Err(Error::BlobUnknown(_))), "{head:?}");
    }
    // This waits for the end.
    let digest = Digest::canonical(manifest.payload());
    let early = repository.manifests().put(&manifest, &digest, &[]).await;
    assert!(
        matches!(&early, Err(Error::ManifestReferencesUnknown(missing)) if missing.len() == 2),
        "{early:?}"
    );
    assert_eq!(collection.end().await.blobs, 3);
    let again = image(&repository, 1, "").await;
    assert_eq!(again.payload(), manifest.payload());
    put(&repository, &again, &["latest"]).await;
    pull(&repository, &digest).await.unwrap();
    pull(&collector.repository(&name("a")), &digest)
        .await
        .unwrap();
}

/// A node that learned nothing of a run, and whose request takes long.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_sleeps_through_a_phase_is_not_acknowledged_for_nothing() {
    for (lag, wait) in [
        (3, Wait::Condemned),
        (6, Wait::Executing),
        (12, Wait::Executing),
    ] {
        let driver = memory();
        let collector = node(&driver);
        let (manifest, _) = garbage(&collector, "a", 1).await;
        let slow = FaultDriver::around(Arc::clone(&driver));
        let slow_node = node(&(Arc::new(slow.clone()) as Arc<dyn Driver>));
        let repository = slow_node.repository(&name("a"));
        // It knows that all is there, and that nobody collects.
        let (other, _) = garbage(&slow_node, "b", 9).await;
        drop(other);
        for reference in manifest.references() {
            repository.blobs().stat(&reference.digest).await.unwrap();
        }
        let delay = Effect::Delay(LEASE * lag);
        slow.plan(Fault::new(delay).on(Operation::Put).times(1));
        let digest = Digest::canonical(manifest.payload());
        let pushing = {
            let (repository, manifest) = (repository.clone(), manifest.clone());
            tokio::spawn(async move { repository.manifests().put(&manifest, &digest, &[]).await })
        };
        tokio::time::sleep(LEASE / 10).await;
        let mut collection = Collection::begin(&collector, SERVING);
        collection.until(wait).await;
        let pushed = pushing.await.unwrap();
        collection.end().await;
        match pushed {
            Ok(_) => pull(&repository, &digest).await.unwrap(),
            Err(Error::Collecting) => {}
            Err(error) => panic!("{error}"),
        }
        // Either way a client that tries again succeeds.
        let again = image(&repository, 1, "").await;
        put(&repository, &again, &["latest"]).await;
        Collection::begin(&collector, SERVING).end().await;
        pull(&repository, &digest).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn untagged_manifests_are_saved_by_a_tag_a_head_or_an_index() {
    join_all(["tag", "head", "nothing"].map(|way| async move {
        let driver = memory();
        let (collector, other) = (node(&driver), node(&driver));
        let repository = other.repository(&name("a"));
        let manifest = image(&repository, 1, "").await;
        let digest = put(&repository, &manifest, &[]).await;
        let goes = image(&repository, 2, "").await;
        let goes = put(&repository, &goes, &[]).await;
        tokio::time::sleep(PATIENT).await;
        let patient = CollectOptions {
            serving: Some(PATIENT),
            ..UNTAGGED
        };
        let mut collection = Collection::begin(&collector, patient);
        collection.until(Wait::Condemned).await;
        tokio::time::sleep(LEASE).await;
        match way {
            "tag" => drop(put(&repository, &manifest, &["latest"]).await),
            "head" => repository.manifests().promise(&digest).await.unwrap(),
            _ => {}
        }
        let report = collection.end().await;
        // Another node may take its word from its cache for a while, as with any deletion.
        let repository = collector.repository(&name("a"));
        let gone = repository.manifests().get(&goes).await;
        assert!(matches!(gone, Err(Error::ManifestUnknown(_))), "{way}");
        if way == "nothing" {
            assert_eq!((report.manifests, report.blobs), (2, 6));
            let gone = repository.manifests().get(&digest).await;
            assert!(matches!(gone, Err(Error::ManifestUnknown(_))));
        } else {
            assert_eq!((report.manifests, report.blobs), (1, 3), "{way}");
            pull(&repository, &digest).await.unwrap();
        }
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_collector_went_is_taken_over() {
    for wait in [Wait::Condemned, Wait::Executing] {
        let driver = memory();
        let (first, second) = (node(&driver), node(&driver));
        let (manifest, blobs) = garbage(&first, "a", 1).await;
        let is_early = wait == Wait::Condemned;
        let mut collection = Collection::begin(&first, SERVING);
        collection.until(wait).await;
        collection.kill().await;
        let repository = second.repository(&name("a"));
        if is_early {
            tokio::time::sleep(LEASE).await;
            // A pardon counts for whoever goes on.
            repository.blobs().promise(&blobs[0]).await.unwrap();
        }
        let report = Collection::begin(&second, SERVING).end().await;
        if is_early {
            assert_eq!((report.blobs, report.spared), (2, 1));
        } else {
            // What the dead one had begun was gone on with.
            assert_eq!((report.blobs, report.spared), (3, 0));
        }
        image(&repository, 1, "").await;
        let digest = put(&repository, &manifest, &["latest"]).await;
        pull(&repository, &digest).await.unwrap();
        assert_eq!(Collection::begin(&first, SERVING).end().await.blobs, 0);
        pull(&repository, &digest).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_collector_at_a_time() {
    let driver = memory();
    let (first, second) = (node(&driver), node(&driver));
    garbage(&first, "a", 1).await;
    let mut collection = Collection::begin(&first, SERVING);
    collection.until(Wait::Condemned).await;
    for registry in [&first, &second] {
        let refused = registry.collect(SERVING, |_| {}).await;
        assert!(matches!(refused, Err(Error::AlreadyCollecting)));
    }
    assert_eq!(collection.end().await.blobs, 3);
}

/// A store without locks, in which time alone tells collectors from each other.
fn without_locks(inner: &Arc<dyn Driver>) -> Arc<dyn Driver> {
    let driver = FaultDriver::around(Arc::clone(inner));
    let fault = Fault::new(Effect::Fail(Cause::Io));
    driver.plan(fault.on(Operation::Claim));
    Arc::new(driver)
}

/// A node whose collections are done before one loses patience.
fn hasty(driver: &Arc<dyn Driver>) -> Registry {
    let options = Options {
        delete: true,
        collection_lease: Duration::from_millis(60),
        ..Options::default()
    };
    Registry::new(without_locks(driver), options).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_locks_a_collector_is_known_by_its_signs_of_life() {
    let driver = memory();
    let (first, second) = (hasty(&driver), hasty(&driver));
    let (manifest, _) = garbage(&first, "a", 1).await;
    let mut collection = Collection::begin(&first, SERVING);
    collection.until(Wait::Condemned).await;
    let refused = second.collect(SERVING, |_| {}).await;
    assert!(
        matches!(refused, Err(Error::AlreadyCollecting)),
        "{refused:?}"
    );
    assert_eq!(collection.end().await.blobs, 3);

    // Whose collector has gone is taken over.
    garbage(&first, "a", 1).await;
    let mut collection = Collection::begin(&first, SERVING);
    collection.until(Wait::Executing).await;
    collection.kill().await;
    assert_eq!(Collection::begin(&second, SERVING).end().await.blobs, 3);
    let repository = first.repository(&name("a"));
    image(&repository, 1, "").await;
    let digest = put(&repository, &manifest, &[]).await;
    pull(&second.repository(&name("a")), &digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_locks_of_two_that_begin_at_once_one_goes_on() {
    let driver = memory();
    let (first, second) = (hasty(&driver), hasty(&driver));
    garbage(&first, "a", 1).await;
    let both = [&first, &second].map(|registry| registry.collect(SERVING, |_| {}));
    let outcomes = join_all(both).await;
    let removed = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok());
    assert_eq!(removed.map(|report| report.blobs).collect::<Vec<_>>(), [3]);
    let refused = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    assert!(matches!(refused, Some(Error::AlreadyCollecting)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_cannot_say_that_it_lives_removes_nothing_more() {
    let driver = memory();
    let registry = node(&driver);
    let (_, blobs) = garbage(&registry, "a", 1).await;
    let mute = FaultDriver::around(Arc::clone(&driver));
    let fail = || Fault::new(Effect::Fail(Cause::Io));
    mute.plan(fail().on(Operation::Claim));
    mute.plan(fail().on(Operation::Put).at("*/beat"));
    let collector = hasty(&(Arc::new(mute) as Arc<dyn Driver>));
    let outcome = collector.collect(SERVING, |_| {}).await;
    assert!(
        matches!(outcome, Err(Error::AlreadyCollecting)),
        "{outcome:?}"
    );
    for digest in &blobs {
        assert!(has_blob(&driver, digest).await);
    }
}

/// An image whose push was never acknowledged may lack what it mentions; an index that names it
/// must not be acknowledged then.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_saves_what_its_images_mention() {
    let driver = memory();
    let (collector, other) = (node(&driver), node(&driver));
    let (manifest, blobs) = garbage(&collector, "a", 1).await;
    let mut collection = Collection::begin(&collector, SERVING);
    collection.until(Wait::Executing).await;
    // As a push leaves it that wrote the manifest and then was cut off.
    let digest = Digest::canonical(manifest.payload());
    let durability = wharfinger_storage::Durability::Machine;
    for path in [
        layout::revision_link(&name("a"), &digest),
        layout::blob_data(&digest),
    ] {
        let content = match path == layout::blob_data(&digest) {
            true => manifest.payload().clone(),
            false => digest.to_string().into(),
        };
        driver.put(&path, content, durability).await.unwrap();
    }
    let index = support::parse(
        wharfinger_oci::media_type::OCI_IMAGE_INDEX,
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{digest}","size":{}}}]}}"#,
            wharfinger_oci::media_type::OCI_IMAGE_INDEX,
            wharfinger_oci::media_type::OCI_IMAGE_MANIFEST,
            manifest.payload().len(),
        ),
    );
    let repository = other.repository(&name("a"));
    let own = Digest::canonical(index.payload());
    let pushed = repository.manifests().put(&index, &own, &[]).await;
    collection.end().await;
    assert!(
        matches!(&pushed, Err(Error::ManifestReferencesUnknown(missing)) if *missing == [digest]),
        "{pushed:?}"
    );
    assert!(!has_blob(&driver, &blobs[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_that_dangle_go() {
    let driver = memory();
    let registry = node(&driver);
    let repository = registry.repository(&name("a"));
    let bytes = content(1, 100);
    let digest = push(&repository, &bytes).await.digest;
    let data = layout::blob_data(&digest);
    driver.delete(&data.parent().unwrap()).await.unwrap();
    let report = Collection::begin(&registry, SERVING).end().await;
    assert_eq!((report.layer_links, report.blobs), (1, 0));
    let link = layout::layer_link(&name("a"), &digest);
    assert!(driver.stat(&link).await.unwrap_err().is_not_found());
    // Nothing else was in the repository.
    assert_eq!(report.repositories, 1);
    let folder = layout::repository(&name("a"));
    assert!(driver.stat(&folder).await.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_damaged_is_named_and_mended_by_the_next_run() {
    let driver = memory();
    let registry = node(&driver);
    garbage(&registry, "a", 1).await;
    let other = node(&driver);
    let durability = wharfinger_storage::Durability::Machine;
    driver
        .put(&layout::gc_state(), "{}".into(), durability)
        .await
        .unwrap();
    let refused = other.repository(&name("b")).blobs().put("x".into()).await;
    assert!(
        matches!(&refused, Err(Error::Damaged { path, .. }) if *path == layout::gc_state()),
        "{refused:?}"
    );
    assert_eq!(Collection::begin(&registry, SERVING).end().await.blobs, 3);
    other
        .repository(&name("b"))
        .blobs()
        .put("x".into())
        .await
        .unwrap();
}
