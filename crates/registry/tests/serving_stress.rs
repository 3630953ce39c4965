//! Pushes, mounts, deletions and collections all at once, on several nodes: whatever was
//! acknowledged can be pulled, and in the end no garbage is left.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use support::{append, content, name, parse};
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Digest, media_type};
use wharfinger_registry::{CollectOptions, Error, Options, Registry, Repository, layout};
use wharfinger_storage::testing::moto::Moto;
use wharfinger_storage::testing::random::Random;
use wharfinger_storage::{Driver, FilesystemDriver, FilesystemOptions, MemoryDriver, Walk};

/// How much is done.
#[derive(Clone, Copy)]
struct Scale {
    clients: u64,
    /// How many pushes each client makes at the least.
    pushes: u64,
    /// The size of every third blob: short contents are kept in memory until they are stored, long
    /// ones are moved to their place.
    large: usize,
    lease: Duration,
    /// How many collectors there are, of which one should be at work at a time.
    collectors: usize,
    /// How long a collection takes when nothing has to be waited for but others, in leases.
    run: f64,
}

/// Where locks keep collectors apart.
const LOCKED: Scale = Scale {
    clients: 6,
    pushes: 50,
    large: 3_000_000,
    lease: Duration::from_millis(20),
    collectors: 1,
    run: 4.0,
};

/// How many blobs there are to be pushed: few, so that everybody needs the same.
const BLOBS: u64 = 10;

fn node(driver: &Arc<dyn Driver>, lease: Duration) -> Registry {
    let options = Options {
        delete: true,
        collection_lease: lease,
        ..Options::default()
    };
    Registry::new(Arc::clone(driver), options).unwrap()
}

fn blob(seed: u64, large: usize) -> Bytes {
    let length = if seed.is_multiple_of(3) { large } else { 500 };
    content(u8::try_from(seed).unwrap(), length)
}

fn manifest(blobs: &[Bytes; 2], tail: u64) -> Manifest {
    let [config, layer] = blobs;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}],
        "annotations":{{"tail":"{tail}"}}}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        Digest::canonical(config),
        config.len(),
        Digest::canonical(layer),
        layer.len(),
    );
    parse(media_type::OCI_IMAGE_MANIFEST, text)
}

async fn pull(repository: &Repository, digest: &Digest) -> Result<(), Error> {
    let served = repository.manifests().get(digest).await?;
    let manifest = Manifest::parse(Some(&served.descriptor.media_type), served.bytes).unwrap();
    for reference in manifest.references() {
        let blobs = repository.blobs();
        let descriptor = blobs.stat(&reference.digest).await?;
        let bytes = blobs.get(&descriptor).await?;
        assert_eq!(Digest::canonical(&bytes), reference.digest);
    }
    Ok(())
}

/// Sees to it that a repository has a blob, as clients do.
async fn provide(
    repository: &Repository,
    others: &Repository,
    bytes: &Bytes,
    random: &mut Random,
) -> Result<(), Error> {
    let digest = Digest::canonical(bytes);
    let blobs = repository.blobs();
    if random.up_to(3) > 0 && blobs.promise(&digest).await.is_ok() {
        return Ok(());
    }
    if random.up_to(1) == 0 && blobs.mount(others.name(), &digest).await?.is_some() {
        return Ok(());
    }
    if random.up_to(2) == 0 {
        blobs.put(bytes.clone()).await?;
    } else {
        let mut upload = blobs.create(digest.algorithm())?;
        append(&mut upload, bytes).await?;
        upload.commit(&digest).await?;
    }
    Ok(())
}

/// A client, with repositories of its own; gives what can be pulled from them.
async fn client(
    nodes: Vec<Registry>,
    scale: Scale,
    number: u64,
    refused: &AtomicU64,
    removed: &AtomicU64,
) -> Vec<(String, Digest)> {
    let mut random = Random::new(number);
    let mut pushed: Vec<(String, Digest)> = Vec::new();
    // On a slow machine the collectors may need longer for something to remove.
    let enough = |push| {
        push >= scale.pushes && removed.load(Ordering::Relaxed) > 0 || push >= 20 * scale.pushes
    };
    for push in (0..).take_while(|push| !enough(*push)) {
        let at = |random: &mut Random| &nodes[random.up_to(nodes.len() as u64 - 1) as usize];
        let place = format!("client-{number}/{}", random.up_to(1));
        let elsewhere = format!(
            "client-{}/{}",
            random.up_to(scale.clients - 1),
            random.up_to(1)
        );
        let any = |random: &mut Random| blob(random.up_to(BLOBS - 1), scale.large);
        let blobs = [any(&mut random), any(&mut random)];
        let manifest = manifest(&blobs, random.up_to(4));
        let digest = Digest::canonical(manifest.payload());
        // What was found by HEAD may go when the grace period is short: a client begins anew.
        let mut tries = 0;
        loop {
            let repository = at(&mut random).repository(&name(&place));
            let others = at(&mut random).repository(&name(&elsewhere));
            let mut outcome = Ok(());
            for bytes in &blobs {
                if let Err(error) = provide(&repository, &others, bytes, &mut random).await {
                    outcome = Err(error);
                }
            }
            if outcome.is_ok() {
                let manifests = repository.manifests();
                outcome = manifests.put(&manifest, &digest, &[]).await.map(drop);
            }
            match outcome {
                Ok(()) => break,
                Err(Error::ManifestReferencesUnknown(_) | Error::Collecting) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    tries += 1;
                    assert!(tries < 100, "a push never succeeds");
                }
                Err(error) => panic!("{error}"),
            }
        }
        if !pushed.contains(&(place.clone(), digest)) {
            pushed.push((place, digest));
        }
        if random.up_to(1) == 0 {
            let chosen = random.up_to(pushed.len() as u64 - 1) as usize;
            let (place, digest) = pushed.swap_remove(chosen);
            let repository = at(&mut random).repository(&name(&place));
            repository.manifests().delete(&digest).await.unwrap();
        }
        if push.is_multiple_of(8) {
            for (place, digest) in &pushed {
                let repository = at(&mut random).repository(&name(place));
                pull(&repository, digest).await.unwrap();
            }
        }
    }
    pushed
}

async fn stored(driver: &Arc<dyn Driver>) -> BTreeSet<String> {
    let mut blobs = BTreeSet::new();
    let mut walk = Walk::new(&**driver, layout::blobs());
    while let Some(entry) = walk.next().await.unwrap() {
        if !entry.is_dir {
            blobs.insert(entry.path.to_string());
        }
    }
    blobs
}

async fn stress(driver: Arc<dyn Driver>, scale: Scale) {
    let serving = CollectOptions {
        serving: Some(Duration::ZERO),
        ..CollectOptions::default()
    };
    let nodes: Vec<_> = (0..3).map(|_| node(&driver, scale.lease)).collect();
    let working = AtomicBool::new(true);
    let (refused, removed, spared) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let collect = async |collector: usize| {
        let mut turn = collector;
        while working.load(Ordering::Relaxed) {
            turn += 1;
            let collecting = nodes[turn % nodes.len()].collect(serving, |_| {});
            // Now and then a collector goes in the midst of its work.
            let outcome = if turn.is_multiple_of(4) {
                let part = (turn % 7) as f64 / 7.0;
                let patience = scale.lease.mul_f64(scale.run * part);
                tokio::time::timeout(patience, collecting).await
            } else {
                Ok(collecting.await)
            };
            match outcome {
                Err(_) => {}
                Ok(Err(Error::AlreadyCollecting)) if scale.collectors > 1 => {}
                Ok(report) => {
                    let report = report.unwrap();
                    removed.fetch_add(report.blobs, Ordering::Relaxed);
                    spared.fetch_add(report.spared, Ordering::Relaxed);
                }
            }
        }
    };
    let collecting = join_all((0..scale.collectors).map(collect));
    let clients = async {
        let clients = (0..scale.clients)
            .map(|number| client(nodes.clone(), scale, number, &refused, &removed));
        let pushed = join_all(clients).await;
        working.store(false, Ordering::Relaxed);
        pushed
    };
    let (pushed, _) = futures_util::future::join(clients, collecting).await;
    let (removed, spared) = (removed.into_inner(), spared.into_inner());
    let refused = refused.into_inner();
    println!("{removed} blobs removed, {spared} spared, {refused} pushes begun anew");
    assert!(removed > 0, "nothing was put to the test");

    // A node that knows nothing yet.
    let fresh = node(&driver, scale.lease);
    let mut needed = BTreeSet::new();
    let mut waited = 0;
    loop {
        match fresh.collect(serving, |_| {}).await {
            Ok(report) if report.blobs == 0 => break,
            Ok(_) => {}
            // Without locks a collector that has gone is at work until its lease is over.
            Err(Error::AlreadyCollecting) if scale.collectors > 1 && waited < 100 => {
                waited += 1;
                tokio::time::sleep(scale.lease).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    for (place, digest) in pushed.into_iter().flatten() {
        let repository = fresh.repository(&name(&place));
        pull(&repository, &digest).await.unwrap();
        let served = repository.manifests().get(&digest).await.unwrap();
        let manifest = Manifest::parse(Some(&served.descriptor.media_type), served.bytes).unwrap();
        let references = manifest.references();
        needed.extend(references.iter().map(|one| one.digest));
        needed.insert(digest);
    }
    let needed: BTreeSet<_> = needed
        .iter()
        .map(|digest| layout::blob_data(digest).to_string())
        .collect();
    assert_eq!(stored(&driver).await, needed);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_memory() {
    stress(Arc::new(MemoryDriver::new()), LOCKED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_files() {
    let folder = tempfile::tempdir().unwrap();
    let driver = FilesystemDriver::new(FilesystemOptions::new(folder.path())).unwrap();
    let scale = Scale {
        lease: Duration::from_millis(60),
        ..LOCKED
    };
    stress(Arc::new(driver), scale).await;
}

/// In a bucket, where time alone keeps two collectors apart.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_bucket() {
    let scale = Scale {
        clients: 3,
        pushes: 12,
        large: 100_000,
        lease: Duration::from_millis(150),
        collectors: 2,
        run: 40.0,
    };
    let bucket = Moto::start().await;
    stress(Arc::new(bucket.driver()), scale).await;
}
