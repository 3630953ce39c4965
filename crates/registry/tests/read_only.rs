//! Read-only mode: nothing is written in it, and the store is given up only when nothing is.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use support::{append, content, image, name, push, put, tag};
use tokio::sync::watch;
use tokio::time::timeout;
use wharfinger_oci::{Algorithm, Digest};
use wharfinger_registry::{CollectOptions, Error, NotWritable, Options, Registry};
use wharfinger_storage::{Claim, ClaimError, Driver, FilesystemDriver, FilesystemOptions};

/// More than is kept in memory.
const LARGE: usize = 300_000;

fn driver(folder: &Path) -> Arc<dyn Driver> {
    Arc::new(FilesystemDriver::new(FilesystemOptions::new(folder)).unwrap())
}

/// A registry as a process has it: writable, with its claim.
async fn writable(driver: &Arc<dyn Driver>) -> Registry {
    let options = Options {
        delete: true,
        read_only: true,
        ..Options::default()
    };
    let registry = Registry::new(Arc::clone(driver), options).unwrap();
    registry.make_writable().await.unwrap();
    registry
}

fn is_taken(claimed: Result<Option<wharfinger_storage::Claimed>, ClaimError>) -> bool {
    matches!(claimed, Err(ClaimError::Taken))
}

/// Whether `future` is still waiting after a while.
async fn waits(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    timeout(Duration::from_millis(100), future).await.is_err()
}

#[tokio::test]
async fn the_store_is_claimed_while_it_is_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (driver(folder.path()), driver(folder.path()));
    let registry = writable(&ours).await;
    assert!(is_taken(theirs.claim(Claim::Alone)));
    registry.make_read_only().await;
    let alone = theirs.claim(Claim::Alone).unwrap();
    let refused = registry.make_writable().await;
    assert!(matches!(refused, Err(NotWritable::Collected)));
    assert!(registry.is_read_only());
    drop(alone);
    registry.make_writable().await.unwrap();
    assert!(!registry.is_read_only());
    assert!(is_taken(theirs.claim(Claim::Alone)));
}

#[tokio::test]
async fn a_write_under_way_comes_to_its_end_and_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (driver(folder.path()), driver(folder.path()));
    let registry = writable(&ours).await;
    let repository = registry.repository(&name("a"));
    let bytes = content(1, LARGE);
    let mut upload = repository.blobs().create(Algorithm::Sha256).unwrap();
    append(&mut upload, &bytes).await.unwrap();
    let mut switching = Box::pin(registry.make_read_only());
    assert!(waits(&mut switching).await);
    assert!(registry.is_read_only());
    assert!(is_taken(theirs.claim(Claim::Alone)));
    let refused = repository.blobs().create(Algorithm::Sha256);
    assert!(matches!(refused, Err(Error::ReadOnly)));
    // The write that had begun ends well, in whatever it does.
    append(&mut upload, &bytes).await.unwrap();
    let whole = [&bytes[..], &bytes[..]].concat();
    let digest = Digest::canonical(&whole);
    upload.commit(&digest).await.unwrap();
    switching.await;
    assert!(theirs.claim(Claim::Alone).is_ok());
    assert_eq!(
        repository.blobs().stat(&digest).await.unwrap().size,
        whole.len() as u64
    );
}

#[tokio::test]
async fn a_change_of_mind_leaves_it_writable() {
    let folder = tempfile::tempdir().unwrap();
    let ours = driver(folder.path());
    let registry = writable(&ours).await;
    let blobs = registry.repository(&name("a")).blobs();
    let upload = blobs.create(Algorithm::Sha256).unwrap();
    let mut switching = Box::pin(registry.make_read_only());
    assert!(waits(&mut switching).await);
    drop(switching);
    registry.make_writable().await.unwrap();
    assert!(blobs.create(Algorithm::Sha256).is_ok());
    drop(upload);
    assert!(is_taken(driver(folder.path()).claim(Claim::Alone)));
}

/// Every file with its size and the time of its last change.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else {
                files.insert(path, (metadata.len(), metadata.modified().unwrap()));
            }
        }
    }
    files
}

/// Whoever has the store for itself finds it at rest, however hard it is written to, and although
/// half of the writers are dropped in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_written_while_another_has_the_store_for_itself() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (driver(folder.path()), driver(folder.path()));
    let registry = writable(&ours).await;
    let done = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u8 {
        let (registry, done) = (registry.clone(), Arc::clone(&done));
        writers.spawn(async move {
            let repository = registry.repository(&name("a"));
            let mut acknowledged = 0;
            for round in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let work = async {
                    let bytes = content(writer, 1000 + round as usize % 100_000);
                    let digest = Digest::canonical(&bytes);
                    let mut upload = repository.blobs().create(digest.algorithm())?;
                    append(&mut upload, &bytes).await?;
                    upload.commit(&digest).await?;
                    repository.blobs().delete(&digest).await
                };
                let patience = match writer % 2 {
                    0 => Duration::from_secs(60),
                    _ => Duration::from_micros(round * 37 % 3000),
                };
                match timeout(patience, work).await {
                    Ok(Ok(())) => acknowledged += 1,
                    Ok(Err(Error::ReadOnly)) => tokio::task::yield_now().await,
                    Err(_) | Ok(Err(Error::BlobUnknown(_))) => {}
                    Ok(Err(error)) => panic!("{error}"),
                }
            }
            acknowledged
        });
    }
    for _ in 0..30 {
        registry.make_read_only().await;
        let alone = theirs.claim(Claim::Alone).unwrap();
        let before = snapshot(folder.path());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(snapshot(folder.path()), before);
        drop(alone);
        registry.make_writable().await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done.store(true, Ordering::Relaxed);
    let acknowledged: u64 = writers.join_all().await.into_iter().sum();
    assert!(acknowledged > 0, "nobody ever wrote");
}

/// What a collection of another process has removed is not believed to be there.
#[tokio::test]
async fn what_was_collected_meanwhile_is_not_relied_on() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (driver(folder.path()), driver(folder.path()));
    let registry = writable(&ours).await;
    let repository = registry.repository(&name("a"));
    // Its config and layer are pushed, and known, but the manifest is not.
    let manifest = image(&repository, 1, "").await;
    let layer = push(&repository, &content(1, 1000)).await.digest;
    assert!(repository.blobs().stat(&layer).await.is_ok());
    registry.make_read_only().await;

    let alone = theirs.claim(Claim::Alone).unwrap();
    let other = Registry::new(Arc::clone(&theirs), Options::default()).unwrap();
    let options = CollectOptions::default();
    assert_eq!(other.collect(options, |_| {}).await.unwrap().blobs, 2);
    drop(alone);

    registry.make_writable().await.unwrap();
    let digest = Digest::canonical(manifest.payload());
    let manifests = repository.manifests();
    let refused = manifests.put(&manifest, &digest, &[tag("t")]).await;
    assert!(
        matches!(&refused, Err(Error::ManifestReferencesUnknown(missing)) if missing.len() == 2),
        "{refused:?}"
    );
    let again = image(&repository, 1, "").await;
    put(&repository, &again, &["t"]).await;
}

#[tokio::test]
async fn it_follows_what_is_wanted_and_waits_for_a_collection_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (driver(folder.path()), driver(folder.path()));
    let registry = writable(&ours).await;
    let (want, wanted) = watch::channel(false);
    let following = tokio::spawn(registry.clone().follow_read_only(wanted));
    let eventually = async |what: &str, done: &dyn Fn() -> bool| {
        for _ in 0..3000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not in time: {what}");
    };
    want.send_replace(true);
    let alone = std::cell::RefCell::new(None);
    let given_up = || match theirs.claim(Claim::Alone) {
        Ok(claimed) => alone.replace(claimed).is_none(),
        Err(_) => false,
    };
    eventually("the claim is given up", &given_up).await;
    want.send_replace(false);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(registry.is_read_only(), "it is being collected");
    drop(alone.take());
    eventually("writable", &|| !registry.is_read_only()).await;
    assert!(is_taken(theirs.claim(Claim::Alone)));
    drop(want);
    following.await.unwrap();
}
