//! The one check: what was acknowledged is there and whole, and nothing is served that is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Digest, Tag};
use wharfinger_registry::layout::{self, Located};
use wharfinger_registry::{Content, Error, Registry, Repository, Result};
use wharfinger_storage::{Driver, StoragePath, Walk};

use crate::ledger::{Comparable, Ledger, State, Thing, told};
use crate::support::name;

/// Checks a registry, and the store that it stands on, against what clients were told.
///
/// # Panics
/// With `what` has happened, when something is not as it must be.
pub async fn check(registry: &Registry, driver: &Arc<dyn Driver>, ledger: &Ledger, what: &str) {
    for (thing, allowed) in ledger.all() {
        let found = observe(registry, &thing, &allowed).await;
        assert!(
            found.as_ref().is_ok_and(|found| *found),
            "{what}: {thing:?} must be one of {allowed:?}: {found:?}"
        );
    }
    listings(registry, what).await;
    referrers(registry, ledger, what).await;
    files(driver, what).await;
}

/// Whether a thing is one of what it may be.
async fn observe(registry: &Registry, thing: &Thing, allowed: &[State]) -> Result<bool> {
    let found = match thing {
        Thing::Blob(repository, digest) => {
            match read(&registry.repository(&name(repository)), digest).await {
                Err(Error::BlobUnknown(_)) => State::Absent,
                bytes => State::Bytes(bytes?),
            }
        }
        Thing::Manifest(repository, digest) => {
            let manifests = registry.repository(&name(repository)).manifests();
            match manifests.get(digest).await {
                Err(Error::ManifestUnknown(_)) => State::Absent,
                served => {
                    let served = served?;
                    let media_type = Some(&*served.descriptor.media_type);
                    let manifest = Manifest::parse(media_type, served.bytes)?;
                    State::Manifest(Comparable(manifest))
                }
            }
        }
        Thing::Tag(repository, tag) => {
            let tags = registry.repository(&name(repository)).tags();
            match tags.get(tag).await {
                Err(Error::ManifestUnknown(_)) => State::Absent,
                digest => State::Digest(digest?),
            }
        }
        Thing::Signature(repository, revision, signature) => {
            let signatures = registry.repository(&name(repository)).signatures();
            let all = signatures.get(revision).await?.into_iter();
            let mut of = all.filter(|bytes| Digest::canonical(bytes) == *signature);
            of.next().map_or(State::Absent, State::Bytes)
        }
        Thing::Upload(repository, id) => {
            let blobs = registry.repository(&name(repository)).blobs();
            let offset = match blobs.progress(&id.parse()?, told(allowed)).await {
                Err(Error::UploadUnknown(_)) => None,
                progress => Some(progress?.offset as usize),
            };
            return Ok(is_allowed(offset, allowed));
        }
    };
    Ok(allowed.contains(&found))
}

/// Whether an upload may have got so far, or be unknown.
fn is_allowed(offset: Option<usize>, allowed: &[State]) -> bool {
    let lengths = allowed.iter().filter_map(|state| match state {
        State::Received(length, _) => Some(*length),
        State::Opened => Some(0),
        _ => None,
    });
    let (least, most) = (lengths.clone().min(), lengths.max());
    match offset {
        _ if allowed.contains(&State::Ended) => true,
        None => allowed.contains(&State::Absent),
        Some(offset) => {
            let least = if allowed.contains(&State::Absent) {
                Some(0)
            } else {
                least
            };
            least.is_some_and(|least| least <= offset) && most.is_some_and(|most| offset <= most)
        }
    }
}

/// Whatever a listing names is whole, or, of tags, unknown when it is asked for.
async fn listings(registry: &Registry, what: &str) {
    for repository in registry.catalog(None, 100).await.unwrap().items {
        let repository = registry.repository(&repository);
        let tags = match repository.tags().list(None, None).await {
            Err(Error::NameUnknown(_)) => continue,
            tags => tags.unwrap().items,
        };
        for tag in tags {
            match repository.tags().get(&tag).await {
                // A first push that was never acknowledged.
                Err(Error::ManifestUnknown(_)) => {}
                digest => stands(&repository, &tag, &digest.unwrap(), what).await,
            }
        }
    }
}

async fn stands(repository: &Repository, tag: &Tag, digest: &Digest, what: &str) {
    let served = repository.manifests().get(digest).await;
    assert!(
        served.is_ok(),
        "{what}: {}:{tag} stands for {digest}: {served:?}",
        repository.name()
    );
}

/// A manifest is listed as a referrer of its subject as long as it is there, and no longer.
async fn referrers(registry: &Registry, ledger: &Ledger, what: &str) {
    for (thing, allowed) in ledger.all() {
        let Thing::Manifest(place, digest) = &thing else {
            continue;
        };
        let repository = registry.repository(&name(place));
        let subjects = allowed.iter().filter_map(|state| match state {
            State::Manifest(manifest) => manifest.0.subject().map(|subject| subject.digest),
            _ => None,
        });
        for subject in subjects.collect::<BTreeSet<_>>() {
            let listed = repository.referrers().list(&subject, None).await.unwrap();
            let is_listed = listed.iter().any(|one| one.digest == *digest);
            for one in listed {
                repository.manifests().get(&one.digest).await.unwrap();
            }
            if let [state] = &allowed[..] {
                let is_there = *state != State::Absent;
                assert_eq!(is_listed, is_there, "{what}: {digest} refers to {subject}");
            }
        }
    }
}

/// Every blob in the store has its digest, and every link leads to one that is there.
async fn files(driver: &Arc<dyn Driver>, what: &str) {
    let mut walk = Walk::new(&**driver, StoragePath::root());
    let mut blobs = BTreeSet::new();
    let mut links = Vec::new();
    while let Some(entry) = walk.next().await.unwrap() {
        let Some(located) = layout::locate(&entry.path).filter(|_| !entry.is_dir) else {
            continue;
        };
        let content = driver.get(&entry.path).await.unwrap();
        match located {
            Located::BlobData(digest) => {
                let actual = Digest::of(digest.algorithm(), &content);
                assert_eq!(actual, digest, "{what}: {} has other bytes", entry.path);
                blobs.insert(digest);
            }
            // A history may tell of what has been deleted since.
            Located::Upload(..) | Located::TagIndexLink(..) => {}
            _ => links.push((entry.path, content)),
        }
    }
    for (path, content) in links {
        let digest = std::str::from_utf8(&content).ok();
        let digest: Option<Digest> = digest.and_then(|text| text.parse().ok());
        let digest = digest.unwrap_or_else(|| panic!("{what}: {path} holds {content:?}"));
        // A tag stands for the digest that was pushed, which listings have looked up.
        let is_there = !digest.is_canonical() || blobs.contains(&digest);
        assert!(is_there, "{what}: {path} leads to nothing");
    }
}

/// A blob whole.
pub async fn read(repository: &Repository, digest: &Digest) -> Result<Bytes> {
    let blobs = repository.blobs();
    let descriptor = blobs.stat(digest).await?;
    let mut bytes = BytesMut::new();
    match blobs.open(&descriptor, 0..descriptor.size).await? {
        Content::Bytes(content) => bytes.extend_from_slice(&content),
        Content::Stream { mut reader, .. } => {
            while let Some(piece) = reader.next().await {
                bytes.extend_from_slice(&piece?);
            }
        }
        Content::File { .. } => panic!("the store has no files"),
    }
    Ok(bytes.freeze())
}
