//! Verification: whatever is damaged is found and named, mended where that is possible, and all
//! else stays as it is.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;
use support::{content, image, name, parse, push, put, tag};
use tokio::sync::watch;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::schema1::{SigningKey, assemble, sign};
use wharfinger_oci::{Algorithm, Digest, RepositoryName, media_type};
use wharfinger_registry::{
    CollectOptions, Damage, Error, Finding, Options, Outcome, Position, Registry, Repair,
    Repository, VerifyOptions, VerifyReport, VerifyStep, layout,
};
use wharfinger_storage::{Driver, Durability, MemoryDriver, StoragePath, Walk};

const NAME: &str = "library/debian";
const OTHER: &str = "other";

/// A store with something of every kind in it.
struct Store {
    driver: Arc<dyn Driver>,
    /// An image that has a tag.
    image: Digest,
    layer: Digest,
    /// An index with a tag, and the image in it.
    index: Digest,
    child: Digest,
    /// A manifest about the first image.
    referrer: Digest,
    /// A manifest that was pushed by sha512, and a blob that was.
    long: Digest,
    long_blob: Digest,
    /// A schema 1 manifest with a signature.
    signed: Digest,
    signature: Digest,
    /// An image of another repository.
    other: Digest,
}

fn options() -> Options {
    Options {
        delete: true,
        schema1_push: true,
        content_cache: 0,
        ..Options::default()
    }
}

fn open(driver: &Arc<dyn Driver>) -> Registry {
    Registry::new(Arc::clone(driver), options()).unwrap()
}

async fn push_long(repository: &Repository, bytes: &Bytes) -> Digest {
    let digest = Digest::of(Algorithm::Sha512, bytes);
    let mut upload = repository.blobs().create(Algorithm::Sha512).unwrap();
    support::append(&mut upload, bytes).await.unwrap();
    upload.commit(&digest).await.unwrap();
    digest
}

impl Store {
    async fn new() -> Self {
        let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
        let registry = open(&driver);
        let repository = registry.repository(&name(NAME));
        let manifest = image(&repository, 1, "").await;
        let image_digest = put(&repository, &manifest, &["latest", "1"]).await;
        let subject = format!(
            r#","subject":{{"mediaType":"{}","digest":"{image_digest}","size":{}}}"#,
            manifest.media_type(),
            manifest.bytes().len()
        );
        let about = image(&repository, 2, &subject).await;
        let referrer = put(&repository, &about, &[]).await;
        let nested = image(&repository, 3, "").await;
        let child = put(&repository, &nested, &[]).await;
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{child}","size":{}}}]}}"#,
            media_type::OCI_IMAGE_INDEX,
            nested.media_type(),
            nested.bytes().len()
        );
        let index = parse(media_type::OCI_IMAGE_INDEX, text);
        let index = put(&repository, &index, &["multi"]).await;
        let by_sha512 = image(&repository, 4, "").await;
        let long = Digest::of(Algorithm::Sha512, by_sha512.payload());
        let manifests = repository.manifests();
        manifests
            .put(&by_sha512, &long, &[tag("long")])
            .await
            .unwrap();
        let long_blob = push_long(&repository, &content(9, 500)).await;
        let layer = Digest::canonical(&content(1, 1000));
        let (signed, signature) = push_signed(&repository, &layer).await;
        let second = registry.repository(&name(OTHER));
        let other = put(&second, &image(&second, 5, "").await, &["latest"]).await;
        Self {
            driver,
            image: image_digest,
            layer,
            index,
            child,
            referrer,
            long,
            long_blob,
            signed,
            signature,
            other,
        }
    }

    fn registry(&self) -> Registry {
        open(&self.driver)
    }

    fn repository(&self) -> Repository {
        self.registry().repository(&name(NAME))
    }

    async fn verify(&self, repair: Repair) -> (Vec<Finding>, VerifyReport) {
        verify(&self.registry(), repair).await
    }

    async fn write(&self, path: &StoragePath, content: &str) {
        let content = Bytes::from(content.to_owned());
        let driver = &self.driver;
        driver
            .put(path, content, Durability::Process)
            .await
            .unwrap();
    }

    async fn delete(&self, path: &StoragePath) {
        self.driver.delete(path).await.unwrap();
    }
}

async fn push_signed(repository: &Repository, layer: &Digest) -> (Digest, Digest) {
    let payload = format!(
        r#"{{
   "schemaVersion": 1,
   "name": "{NAME}",
   "tag": "old",
   "architecture": "amd64",
   "fsLayers": [
      {{
         "blobSum": "{layer}"
      }}
   ],
   "history": [
      {{
         "v1Compatibility": "{{\"id\":\"a\"}}"
      }}
   ]
}}"#
    );
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_000_000);
    let signature = sign(payload.as_bytes(), &SigningKey::generate(), time).unwrap();
    let bytes = assemble(payload.as_bytes(), std::slice::from_ref(&signature)).unwrap();
    let manifest = Manifest::parse(Some(media_type::SCHEMA1_SIGNED_MANIFEST), bytes).unwrap();
    let digest = put(repository, &manifest, &["old"]).await;
    (digest, Digest::canonical(&signature))
}

async fn verify(registry: &Registry, repair: Repair) -> (Vec<Finding>, VerifyReport) {
    let options = VerifyOptions {
        repair,
        ..VerifyOptions::default()
    };
    let mut found = Vec::new();
    let report = registry
        .verify(options, |step| {
            if let VerifyStep::Found(finding) = step {
                found.push(finding.clone());
            }
        })
        .await
        .unwrap();
    assert_eq!(report.damage, found.len() as u64);
    (found, report)
}

type Files = BTreeMap<String, Bytes>;

async fn files(driver: &Arc<dyn Driver>) -> Files {
    let mut files = Files::new();
    let mut walk = Walk::new(&**driver, StoragePath::root());
    while let Some(entry) = walk.next().await.unwrap() {
        if !entry.is_dir {
            let content = driver.get(&entry.path).await.unwrap();
            files.insert(entry.path.to_string(), content);
        }
    }
    files
}

/// Whether a manifest can be had with all that it refers to.
async fn pulls(repository: &Repository, digest: &Digest) -> bool {
    let Ok(served) = repository.manifests().get(digest).await else {
        return false;
    };
    let media_type = &served.descriptor.media_type;
    let manifest = Manifest::parse(Some(media_type), served.bytes).unwrap();
    for reference in manifest.references() {
        if Box::pin(pulls(repository, &reference.digest)).await {
            continue;
        }
        let blobs = repository.blobs();
        let Ok(descriptor) = blobs.stat(&reference.digest).await else {
            return false;
        };
        if blobs.get(&descriptor).await.is_err() {
            return false;
        }
    }
    true
}

fn link_of(path: &StoragePath) -> StoragePath {
    path.parent().unwrap()
}

#[tokio::test]
async fn a_store_without_damage_is_clean() {
    let store = Store::new().await;
    let before = files(&store.driver).await;
    for repair in [Repair::Nothing, Repair::Beside, Repair::Alone] {
        let (found, report) = store.verify(repair).await;
        assert_eq!(found, []);
        assert_eq!((report.repositories, report.tags), (2, 6));
        assert_eq!(report.manifests, 8, "one of them by two digests");
        assert!(report.blobs > 15, "{report:?}");
        assert_eq!(files(&store.driver).await, before);
    }
    let empty: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
    let (found, report) = verify(&open(&empty), Repair::Alone).await;
    assert_eq!((found, report), (vec![], VerifyReport::default()));
}

/// What is done to a store, and what is to be said and done about it.
struct Case {
    what: &'static str,
    /// What lies at a path from then on; `None` for nothing.
    harm: Vec<(StoragePath, Option<String>)>,
    /// What is found, in the order of names.
    found: Vec<Damage>,
    outcome: Outcome,
    /// A tag that is named.
    tag: Option<&'static str>,
}

impl Case {
    /// All of it is said, what is mended is as it was, and nothing else is touched.
    async fn try_on(self, store: &Store) {
        let Self {
            what,
            harm,
            found,
            outcome,
            tag,
        } = self;
        let before = files(&store.driver).await;
        for (path, text) in &harm {
            match text {
                Some(text) => store.write(path, text).await,
                None => store.delete(path).await,
            }
        }
        let harmed = files(&store.driver).await;
        let (first, report) = store.verify(Repair::Nothing).await;
        let mut kinds: Vec<_> = first.iter().map(|finding| finding.damage).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds, found, "{what}: {first:?}");
        assert_eq!(
            (report.repaired, files(&store.driver).await),
            (0, harmed),
            "{what}"
        );
        if let Some(tag) = tag {
            assert!(
                first.iter().any(|f| f.affected.tags.contains(tag)),
                "{what}: {first:?}"
            );
        }
        assert!(
            first
                .iter()
                .all(|f| f.affected.repositories.contains(NAME)
                    && f.affected.repositories.len() == 1)
        );
        let (mended, report) = store.verify(Repair::Alone).await;
        assert_eq!(report.damage, report.repaired, "{what}: {mended:?}");
        assert!(
            mended.iter().any(|finding| finding.outcome == outcome),
            "{what}: {mended:?}"
        );
        assert_eq!(store.verify(Repair::Nothing).await.0, [], "{what}");
        assert_eq!(files(&store.driver).await, before, "{what}");
    }
}

#[tokio::test]
async fn every_damage_is_found_and_mended_and_nothing_else_is_touched() {
    use Damage::{BadSignature, BrokenLink, DamagedBlob, DanglingLink, MissingLink};
    let store = Store::new().await;
    let Store {
        image,
        layer,
        long,
        long_blob,
        referrer,
        signed,
        signature,
        ..
    } = store;
    let repo = name(NAME);
    let latest = layout::tag_current(&repo, &tag("latest"));
    let latest_index = layout::tag_index_link(&repo, &tag("latest"), &image);
    let layer_link = layout::layer_link(&repo, &layer);
    let long_link = layout::layer_link(&repo, &long_blob);
    let revision = layout::revision_link(&repo, &image);
    let record = layout::referrer_link(&repo, &image, &referrer);
    let missing = Digest::canonical(b"missing").to_string();
    let case =
        |what, harm: Vec<(&StoragePath, Option<&str>)>, found: &[Damage], outcome: Outcome, tag| {
            let harm = harm.into_iter();
            Case {
                what,
                harm: harm
                    .map(|(path, text)| (path.clone(), text.map(str::to_owned)))
                    .collect(),
                found: found.to_vec(),
                outcome,
                tag,
            }
        };
    let restored = || Outcome::Restored;
    let removed = || Outcome::Removed;
    let cases = [
        case(
            "an empty layer link",
            vec![(&layer_link, Some(""))],
            &[BrokenLink],
            restored(),
            None,
        ),
        case(
            "a layer link elsewhere",
            vec![(&layer_link, Some(&missing))],
            &[BrokenLink],
            restored(),
            None,
        ),
        case(
            "no layer link",
            vec![(&link_of(&layer_link), None)],
            &[MissingLink],
            restored(),
            Some("library/debian:latest"),
        ),
        case(
            "a cut revision link",
            vec![(&revision, Some("sha256:01"))],
            &[BrokenLink],
            restored(),
            None,
        ),
        case(
            "no revision link",
            vec![(&link_of(&revision), None)],
            &[MissingLink],
            restored(),
            Some("library/debian:latest"),
        ),
        case(
            "no link by sha512",
            vec![(&link_of(&layout::revision_link(&repo, &long)), None)],
            &[MissingLink],
            restored(),
            Some("library/debian:long"),
        ),
        case(
            "a broken link by sha512",
            vec![(&layout::revision_link(&repo, &long), Some(""))],
            &[BrokenLink],
            restored(),
            None,
        ),
        // Its signatures, in the same folder, stay.
        case(
            "no link to a signed manifest",
            vec![(&layout::revision_link(&repo, &signed), None)],
            &[MissingLink],
            restored(),
            Some("library/debian:old"),
        ),
        case(
            "an empty tag",
            vec![(&latest, Some(""))],
            &[BrokenLink],
            restored(),
            Some("library/debian:latest"),
        ),
        case(
            "no tag index",
            vec![(&link_of(&latest_index), None)],
            &[MissingLink],
            restored(),
            None,
        ),
        case(
            "a broken tag index",
            vec![(&latest_index, Some("x"))],
            &[BrokenLink],
            restored(),
            None,
        ),
        case(
            "no record as a referrer",
            vec![(&link_of(&record), None)],
            &[MissingLink],
            restored(),
            None,
        ),
        case(
            "a broken record as a referrer",
            vec![(&record, Some("?"))],
            &[BrokenLink],
            restored(),
            None,
        ),
    ];
    for case in cases {
        case.try_on(&store).await;
    }

    // What is of no use goes, and nothing besides.
    let nowhere = layout::layer_link(&repo, &missing.parse().unwrap());
    let strange = layout::referrer_link(&repo, &image, &image);
    let bad_alias = layout::layer_link(&repo, &Digest::of(Algorithm::Sha512, b"?"));
    let dead_tag = layout::tag_current(&repo, &tag("dead"));
    let dead_revision = layout::revision_link(&repo, &missing.parse().unwrap());
    let image_text = image.to_string();
    let layer_text = layer.to_string();
    let cases = [
        case(
            "a link to nothing",
            vec![(&nowhere, Some(&missing))],
            &[DanglingLink],
            removed(),
            None,
        ),
        case(
            "a record about nothing",
            vec![(&strange, Some(&image_text))],
            &[DanglingLink],
            removed(),
            None,
        ),
        case(
            "another blob's name",
            vec![(&bad_alias, Some(&layer_text))],
            &[BrokenLink],
            removed(),
            None,
        ),
        case(
            "a tag of nothing",
            vec![(&dead_tag, Some(&missing))],
            &[DanglingLink, MissingLink],
            removed(),
            Some("library/debian:dead"),
        ),
        case(
            "a manifest that is gone",
            vec![
                (&dead_revision, Some(&missing)),
                (&dead_tag, Some(&missing)),
            ],
            &[DanglingLink, MissingLink],
            removed(),
            Some("library/debian:dead"),
        ),
    ];
    for case in cases {
        case.try_on(&store).await;
    }

    let stray: StoragePath = layout::repositories().join("No").unwrap();
    let stray = stray.join("_manifests").unwrap().join("x").unwrap();
    store.write(&stray, "").await;
    let (found, _) = store.verify(Repair::Alone).await;
    assert_eq!(found[0].damage, Damage::StrayFolder, "{found:?}");
    assert!(matches!(found[0].outcome, Outcome::Left(_)));
    store.delete(&link_of(&link_of(&stray))).await;

    // An alias that went cannot be told from one that never was.
    store.write(&long_link, "").await;
    assert_eq!(
        store.verify(Repair::Alone).await.0[0].outcome,
        Outcome::Removed
    );
    assert_eq!(store.verify(Repair::Nothing).await.0, []);

    // Without its signature the old manifest is signed by the registry.
    store.write(&layout::blob_data(&signature), "{}").await;
    let (mended, _) = store.verify(Repair::Alone).await;
    let kinds: Vec<_> = mended.iter().map(|finding| finding.damage).collect();
    assert_eq!(kinds, [DanglingLink, DamagedBlob], "{mended:?}");
    assert!(pulls(&store.repository(), &signed).await);
    let wrong = Bytes::from_static(b"{\"header\":{},\"signature\":\"\",\"protected\":\"\"}");
    let wrong = push(&store.repository(), &wrong).await.digest;
    let link = layout::signature_link(&repo, &signed, &wrong);
    store.write(&link, &wrong.to_string()).await;
    let (found, _) = store.verify(Repair::Nothing).await;
    assert_eq!(found[0].damage, BadSignature, "{found:?}");
    assert!(
        found[0].affected.tags.contains("library/debian:old"),
        "{found:?}"
    );
    store.delete(&link_of(&link)).await;

    assert_eq!(store.verify(Repair::Alone).await.0, []);
    for digest in [
        &image,
        &store.index,
        &store.child,
        &referrer,
        &long,
        &signed,
    ] {
        assert!(pulls(&store.repository(), digest).await, "{digest}");
    }
    let second = store.registry().repository(&name(OTHER));
    assert!(pulls(&second, &store.other).await);
}

#[tokio::test]
async fn half_made_folders_go_when_nobody_writes() {
    let store = Store::new().await;
    let repo = name(NAME);
    let before = files(&store.driver).await;
    let digest = Digest::canonical(b"half made");
    for path in [
        layout::blob_data(&digest),
        layout::layer_link(&repo, &digest),
        layout::revision_link(&repo, &digest),
        layout::referrer_link(&repo, &store.image, &digest),
        layout::tag_current(&repo, &tag("half")),
    ] {
        store.write(&path, "").await;
        store.delete(&path).await;
    }
    for repair in [Repair::Nothing, Repair::Beside] {
        // Somebody may be about to go on.
        assert_eq!(store.verify(repair).await.0, []);
    }
    let (found, report) = store.verify(Repair::Alone).await;
    assert_eq!((report.damage, report.repaired), (5, 5), "{found:?}");
    let half_made = [Damage::HalfMadeBlob, Damage::HalfMadeLink];
    assert!(
        found
            .iter()
            .all(|finding| half_made.contains(&finding.damage))
    );
    assert_eq!(store.verify(Repair::Alone).await.0, []);
    assert_eq!(files(&store.driver).await, before);
    assert!(store.driver.stat(&layout::blob(&digest)).await.is_err());
}

#[tokio::test]
async fn a_damaged_blob_is_put_aside_and_comes_back_with_the_next_push() {
    for repair in [Repair::Beside, Repair::Alone] {
        let store = Store::new().await;
        let before = files(&store.driver).await;
        let data = layout::blob_data(&store.layer);
        store.write(&data, "other bytes").await;
        let (found, _) = store.verify(Repair::Nothing).await;
        let [finding] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(
            (finding.damage, finding.digest),
            (Damage::DamagedBlob, Some(store.layer))
        );
        assert_eq!(finding.path, data.to_string());
        let affected: Vec<_> = finding.affected.tags.iter().map(String::as_str).collect();
        let tags = ["1", "latest", "old"].map(|tag| format!("{NAME}:{tag}"));
        assert_eq!(affected, tags);
        let (found, _) = store.verify(repair).await;
        let aside = found
            .iter()
            .find(|finding| finding.damage == Damage::DamagedBlob);
        assert_eq!(aside.unwrap().outcome, Outcome::Quarantined);
        let missing = found.iter().filter(|f| f.damage == Damage::MissingContent);
        assert_eq!((missing.count(), found.len()), (2, 3), "{found:?}");
        let quarantined = files(&store.driver).await;
        let quarantined: Vec<_> = quarantined
            .iter()
            .filter(|(path, _)| path.contains("/_quarantine/"))
            .collect();
        assert_eq!(quarantined.len(), 1);
        assert_eq!(quarantined[0].1, "other bytes");

        let blobs = store.repository().blobs();
        let error = blobs.promise(&store.layer).await.unwrap_err();
        assert!(matches!(error, Error::BlobUnknown(_)), "{error}");
        push(&store.repository(), &content(1, 1000)).await;
        assert!(pulls(&store.repository(), &store.image).await);
        assert_eq!(store.verify(Repair::Alone).await.0, []);
        let mut after = files(&store.driver).await;
        after.retain(|path, _| !path.contains("/_quarantine/"));
        assert_eq!(after, before);
    }
}

/// A damaged manifest that is nobody's any more takes its tags along, and no others.
#[tokio::test]
async fn what_a_lost_manifest_leaves_behind_goes() {
    let store = Store::new().await;
    store.write(&layout::blob_data(&store.child), "{}").await;
    let (found, _) = store.verify(Repair::Nothing).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].affected.tags.contains("library/debian:multi"),
        "{found:?}"
    );
    let (found, _) = store.verify(Repair::Alone).await;
    let left: Vec<_> = found
        .iter()
        .filter(|f| matches!(f.outcome, Outcome::Left(_)))
        .collect();
    assert_eq!(left.len(), 1, "{found:?}");
    assert_eq!(
        (left[0].damage, left[0].digest),
        (Damage::MissingContent, Some(store.child))
    );
    // The index itself is whole, and its tag stays.
    let repository = store.repository();
    assert_eq!(
        repository.tags().get(&tag("multi")).await.unwrap(),
        store.index
    );

    store.write(&layout::blob_data(&store.index), "{}").await;
    store.verify(Repair::Alone).await;
    assert_eq!(store.verify(Repair::Nothing).await.0, []);
    let repository = store.repository();
    let tags = repository.tags().list(None, None).await.unwrap().items;
    let tags: Vec<_> = tags.iter().map(ToString::to_string).collect();
    assert_eq!(tags, ["1", "latest", "long", "old"]);
    assert!(pulls(&repository, &store.image).await);
}

#[tokio::test]
async fn beside_others_only_what_cannot_harm_them_is_done() {
    let store = Store::new().await;
    let repo = name(NAME);
    let record = layout::referrer_link(&repo, &store.image, &store.referrer);
    let latest = layout::tag_current(&repo, &tag("latest"));
    store
        .delete(&link_of(&layout::layer_link(&repo, &store.layer)))
        .await;
    store.delete(&link_of(&record)).await;
    store
        .delete(&link_of(&layout::revision_link(&repo, &store.child)))
        .await;
    store.write(&latest, "").await;
    let missing = Digest::canonical(b"missing");
    store
        .write(&layout::layer_link(&repo, &missing), &missing.to_string())
        .await;
    let (found, report) = store.verify(Repair::Beside).await;
    let restored: Vec<_> = found
        .iter()
        .filter(|f| f.outcome == Outcome::Restored)
        .collect();
    assert_eq!((restored.len(), report.repaired), (2, 2), "{found:?}");
    assert!(
        found.iter().all(|f| f.outcome != Outcome::Removed),
        "{found:?}"
    );
    assert_eq!(store.driver.get(&latest).await.unwrap(), "");
    assert!(store.driver.get(&record).await.is_ok());
    // A nested manifest may have been deleted: nobody but its owner can tell.
    let left = found
        .iter()
        .find(|f| f.damage == Damage::MissingContent)
        .unwrap();
    assert_eq!(left.digest, Some(store.child));
}

#[tokio::test]
async fn with_no_blob_at_all_nothing_is_taken_for_useless() {
    let store = Store::new().await;
    store.delete(&layout::blobs()).await;
    let before = files(&store.driver).await;
    let (found, report) = store.verify(Repair::Alone).await;
    assert_eq!(report.repaired, 0, "{found:?}");
    assert!(report.damage > 10);
    assert_eq!(files(&store.driver).await, before);
}

#[tokio::test]
async fn a_verification_goes_on_where_another_was_cut_short() {
    let store = Store::new().await;
    store
        .write(&layout::blob_data(&store.layer), "damaged")
        .await;
    let mut positions = Vec::new();
    let options = VerifyOptions {
        workers: 3,
        ..VerifyOptions::default()
    };
    let whole = store.registry();
    let whole = whole.verify(options, |step| {
        if let VerifyStep::Position(position, part) = step {
            positions.push((position.clone(), part));
        }
    });
    let whole = whole.await.unwrap();
    assert!(positions.is_sorted_by(|a, b| a.1 <= b.1));
    assert_eq!(positions.last().unwrap().0.blobs(), whole.blobs);
    for (position, _) in positions {
        // As it is kept in a file.
        let text = serde_json::to_string(&position).unwrap();
        let resume: Position = serde_json::from_str(&text).unwrap();
        assert_eq!(resume, position);
        let (already, read_already) = (resume.blobs(), resume.bytes());
        let (mut read, mut found) = (0, Vec::new());
        let options = VerifyOptions {
            resume,
            ..VerifyOptions::default()
        };
        let registry = store.registry();
        let report = registry.verify(options, |step| match step {
            VerifyStep::Read(bytes) => read += bytes,
            VerifyStep::Found(finding) => found.push(finding.clone()),
            _ => {}
        });
        assert_eq!(report.await.unwrap(), whole, "after {already}");
        assert_eq!(found.len(), 1, "{found:?}");
        let damaged = if position.damaged() == 0 { 7 } else { 0 };
        assert_eq!(
            read_already + read,
            whole.bytes + damaged,
            "after {already}"
        );
    }
}

/// As after a crash in the midst of putting something aside.
#[tokio::test]
async fn what_is_among_the_suspects_and_whole_is_put_back() {
    let store = Store::new().await;
    let before = files(&store.driver).await;
    let data = layout::blob_data(&store.layer);
    store
        .driver
        .rename(&data, &layout::suspect(&store.layer))
        .await
        .unwrap();
    let damaged = layout::suspect(&Digest::canonical(b"damaged"));
    store.write(&damaged, "other bytes").await;
    assert_eq!(store.verify(Repair::Beside).await.0, []);
    let mut after = files(&store.driver).await;
    assert!(after.keys().all(|path| !path.contains("/suspects/")));
    after.retain(|path, _| !path.contains("/_quarantine/"));
    assert_eq!(after, before);
}

/// Found damaged while it is served, it is put aside by itself.
#[tokio::test]
async fn damage_that_is_served_is_put_aside() {
    let store = Store::new().await;
    store
        .write(&layout::blob_data(&store.layer), "damaged")
        .await;
    store.write(&layout::blob_data(&store.other), "{}").await;
    let registry = store.registry();
    let repository = registry.repository(&name(NAME));
    let second = registry.repository(&name(OTHER));
    let descriptor = repository.blobs().stat(&store.layer).await.unwrap();
    let error = repository.blobs().get(&descriptor).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    let error = second.manifests().get(&store.other).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    while repository.blobs().stat(&store.layer).await.is_ok()
        || second.manifests().contains(&store.other).await.unwrap()
    {
        tokio::task::yield_now().await;
    }
    push(&repository, &content(1, 1000)).await;
    assert!(pulls(&repository, &store.image).await);
    // Read-only, it stays where it is.
    store
        .write(&layout::blob_data(&store.layer), "damaged")
        .await;
    registry.make_read_only().await;
    let again = store.registry();
    again.make_read_only().await;
    let blobs = again.repository(&name(NAME)).blobs();
    let descriptor = blobs.stat(&store.layer).await.unwrap();
    for _ in 0..3 {
        blobs.get(&descriptor).await.unwrap_err();
        tokio::task::yield_now().await;
    }
    assert!(
        store
            .driver
            .stat(&layout::blob_data(&store.layer))
            .await
            .is_ok()
    );
}

/// Pushes an image of two blobs under a tag.
async fn push_small(repository: &Repository, seed: u8) -> Result<Digest, Error> {
    let blobs = repository.blobs();
    let config = blobs
        .put(Bytes::from(format!("{{\"seed\":{seed}}}")))
        .await?;
    let layer = blobs.put(content(seed, 1000)).await?;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
        media_type::OCI_IMAGE_MANIFEST,
        config.digest,
        config.size,
        layer.digest,
        layer.size,
    );
    let manifest = parse(media_type::OCI_IMAGE_MANIFEST, text);
    let digest = Digest::canonical(manifest.payload());
    let tags = [tag(&format!("t{seed}"))];
    repository
        .manifests()
        .put(&manifest, &digest, &tags)
        .await?;
    Ok(digest)
}

/// What others do meanwhile is not damage, and repairing takes nothing away from them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn pushes_deletions_and_collections_go_on_meanwhile() {
    let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
    let node = || {
        let options = Options {
            collection_lease: Duration::from_millis(20),
            ..options()
        };
        Registry::new(Arc::clone(&driver), options).unwrap()
    };
    let (ended, over) = watch::channel(false);
    let registry = node();
    let collector = {
        let (registry, over) = (node(), over.clone());
        tokio::spawn(async move {
            while !*over.borrow() {
                let options = CollectOptions {
                    serving: Some(Duration::from_millis(1)),
                    delete_untagged: true,
                    ..CollectOptions::default()
                };
                registry.collect(options, |_| {}).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let verifier = {
        let registry = node();
        tokio::spawn(async move {
            let mut times = 0;
            while !*over.borrow() {
                let (found, _) = verify(&registry, Repair::Beside).await;
                assert_eq!(found, []);
                times += 1;
                tokio::task::yield_now().await;
            }
            times
        })
    };
    let repository = registry.repository(&name("busy"));
    let mut kept = Vec::new();
    for round in 0..40_u8 {
        match push_small(&repository, round % 7).await {
            Ok(digest) => kept.push(digest),
            // As a client that is told to try again, or finds a blob missing.
            Err(Error::Collecting | Error::ManifestReferencesUnknown(_)) => {}
            Err(error) => panic!("{error}"),
        }
        if round % 3 == 0
            && let Some(digest) = kept.pop()
        {
            kept.retain(|one| *one != digest);
            match repository.manifests().delete(&digest).await {
                Ok(_) | Err(Error::ManifestUnknown(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    ended.send_replace(true);
    collector.await.unwrap();
    assert!(verifier.await.unwrap() > 0);
    kept.sort_unstable();
    kept.dedup();
    for digest in &kept {
        assert!(pulls(&repository, digest).await, "{digest}");
    }
}

/// The record of a referrer is mended where the manifest's own link is broken as well, and removed
/// where the repository has no such manifest.
#[tokio::test]
async fn broken_records_go_with_their_manifests() {
    for (revision, outcome) in [
        (
            Some(Bytes::from_static(b"sha256:cut off")),
            Outcome::Restored,
        ),
        (None, Outcome::Removed),
    ] {
        let store = Store::new().await;
        let hex = store.referrer.hex().to_string();
        let all = files(&store.driver).await;
        let path = |folder: &str| -> StoragePath {
            let end = format!("{hex}/link");
            let is_meant = |path: &&String| path.contains(folder) && path.ends_with(&end);
            all.keys().find(is_meant).unwrap().parse().unwrap()
        };
        let [record, manifest] = ["/_manifests/referrers/", "/_manifests/revisions/"].map(path);
        let empty = store.driver.put(&record, Bytes::new(), Durability::Process);
        empty.await.unwrap();
        match revision {
            Some(cut) => {
                let put = store.driver.put(&manifest, cut, Durability::Process);
                put.await.unwrap();
            }
            None => store.delete(&manifest).await,
        }
        let (found, _) = store.verify(Repair::Alone).await;
        let of_record = found.iter().find(|one| one.path == record.as_str());
        assert_eq!(of_record.unwrap().outcome, outcome, "{found:?}");
        let (left, _) = store.verify(Repair::Alone).await;
        assert_eq!(left, []);
    }
}

/// What is done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Remove,
    RemoveFolder,
    Empty,
    Cut,
    Change,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is done to a few files, repairing leaves nothing that it could still mend, does
    /// nothing more the second time, and takes nothing from manifests that were not touched.
    #[test]
    fn after_repair_there_is_nothing_left_to_repair(
        harms in prop::collection::vec((any::<prop::sample::Index>(), 0..5_usize), 1..5),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::new().await;
            for (file, harm) in &harms {
                let harm = [Harm::Remove, Harm::RemoveFolder, Harm::Empty, Harm::Cut, Harm::Change][*harm];
                let files = files(&store.driver).await;
                let (path, content) = files.iter().nth(file.index(files.len())).unwrap();
                let path: StoragePath = path.parse().unwrap();
                let half = content.slice(..content.len() / 2);
                let mut changed = content.to_vec();
                changed.iter_mut().take(1).for_each(|byte| *byte ^= 1);
                let new = match harm {
                    Harm::Remove => { store.delete(&path).await; continue; }
                    Harm::RemoveFolder => { store.delete(&link_of(&path)).await; continue; }
                    Harm::Empty => Bytes::new(),
                    Harm::Cut => half,
                    Harm::Change => changed.into(),
                };
                store.driver.put(&path, new, Durability::Process).await.unwrap();
            }
            let repositories: [(RepositoryName, Vec<Digest>); 2] = [
                (name(NAME), vec![store.image, store.index, store.child, store.referrer, store.long, store.signed]),
                (name(OTHER), vec![store.other]),
            ];
            // A registry that does not put anything aside by itself.
            let reader = store.registry();
            reader.make_read_only().await;
            let mut whole = Vec::new();
            for (repository, digests) in &repositories {
                for digest in digests {
                    if pulls(&reader.repository(repository), digest).await {
                        whole.push((repository, digest));
                    }
                }
            }
            let (found, _) = store.verify(Repair::Nothing).await;
            let (mended, _) = store.verify(Repair::Alone).await;
            // Something half made may still be about to be finished.
            prop_assert!(found.is_empty() || !mended.is_empty());
            let after = files(&store.driver).await;
            let (left, report) = store.verify(Repair::Alone).await;
            prop_assert_eq!(report.repaired, 0, "{:?}", left);
            let by_hand = [Damage::MissingContent, Damage::UnreadableManifest, Damage::BadSignature];
            prop_assert!(left.iter().all(|finding| by_hand.contains(&finding.damage)), "{:?}", left);
            prop_assert!(files(&store.driver).await == after);
            for (repository, digest) in whole {
                prop_assert!(pulls(&store.registry().repository(repository), digest).await, "{}", digest);
            }
            Ok(())
        })?;
    }
}
