//! Signed schema 1 manifests: kept with their signatures, served from every layout that
//! Distribution has written.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use support::{content, name, push, tag};
use wharfinger_oci::manifest::{Manifest, ManifestError};
use wharfinger_oci::schema1::{SignatureError, SigningKey, assemble, sign};
use wharfinger_oci::{Digest, media_type};
use wharfinger_registry::{Error, Options, Registry, Repository, layout};
use wharfinger_storage::{
    Driver, Durability, FilesystemDriver, FilesystemOptions, MemoryDriver, StoragePath,
};

const NAME: &str = "library/old";

fn options() -> Options {
    Options {
        delete: true,
        schema1_push: true,
        ..Options::default()
    }
}

/// Runs a test over each driver.
async fn on_each_driver<F: Future<Output = ()>>(test: impl Fn(Arc<dyn Driver>) -> F) {
    test(Arc::new(MemoryDriver::new())).await;
    let folder = tempfile::tempdir().unwrap();
    let options = FilesystemOptions::new(folder.path());
    test(Arc::new(FilesystemDriver::new(options).unwrap())).await;
}

fn open(driver: &Arc<dyn Driver>, options: Options) -> Repository {
    let registry = Registry::new(Arc::clone(driver), options).unwrap();
    registry.repository(&name(NAME))
}

fn layers() -> [Bytes; 2] {
    [content(1, 3000), content(2, 40)]
}

/// An indented payload with both layers, as clients made it.
fn payload(tag: &str) -> String {
    let [one, two] = layers().map(|layer| Digest::canonical(&layer));
    format!(
        r#"{{
   "schemaVersion": 1,
   "name": "{NAME}",
   "tag": "{tag}",
   "architecture": "amd64",
   "fsLayers": [
      {{
         "blobSum": "{two}"
      }},
      {{
         "blobSum": "{one}"
      }}
   ],
   "history": [
      {{
         "v1Compatibility": "{{\"id\":\"b\",\"parent\":\"a\"}}"
      }},
      {{
         "v1Compatibility": "{{\"id\":\"a\"}}"
      }}
   ]
}}"#
    )
}

fn signature(payload: &str, key: &SigningKey) -> Bytes {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_000_000);
    sign(payload.as_bytes(), key, time).unwrap()
}

fn signed(payload: &str, signatures: &[Bytes]) -> Manifest {
    let bytes = assemble(payload.as_bytes(), signatures).unwrap();
    Manifest::parse(Some(media_type::SCHEMA1_SIGNED_MANIFEST), bytes).unwrap()
}

async fn push_layers(repository: &Repository) {
    for layer in layers() {
        push(repository, &layer).await;
    }
}

async fn put(repository: &Repository, manifest: &Manifest) -> Result<Digest, Error> {
    let digest = Digest::canonical(manifest.payload());
    let latest = [tag("latest")];
    let manifests = repository.manifests();
    Ok(manifests.put(manifest, &digest, &latest).await?.digest)
}

/// Writes a file straight into the store.
async fn file(driver: &Arc<dyn Driver>, path: &StoragePath, content: impl Into<Bytes>) {
    let content = content.into();
    driver
        .put(path, content, Durability::Process)
        .await
        .unwrap();
}

async fn blob(driver: &Arc<dyn Driver>, content: impl Into<Bytes>) -> Digest {
    let content = content.into();
    let digest = Digest::canonical(&content);
    file(driver, &layout::blob_data(&digest), content).await;
    digest
}

async fn link(driver: &Arc<dyn Driver>, path: &StoragePath, digest: &Digest) {
    file(driver, path, digest.to_string()).await;
}

/// What every version wrote of a push: layers, payload, tag. Not the revision's link.
async fn written_by_all(driver: &Arc<dyn Driver>, payload: &str) -> Digest {
    for layer in layers() {
        let digest = blob(driver, layer).await;
        link(driver, &layout::layer_link(&name(NAME), &digest), &digest).await;
    }
    let revision = blob(driver, payload.to_owned()).await;
    let (name, latest) = (name(NAME), tag("latest"));
    let index = layout::tag_index_link(&name, &latest, &revision);
    link(driver, &index, &revision).await;
    link(driver, &layout::tag_current(&name, &latest), &revision).await;
    revision
}

async fn served(repository: &Repository) -> (Digest, Manifest) {
    let digest = repository.tags().get(&tag("latest")).await.unwrap();
    let served = repository.manifests().get(&digest).await.unwrap();
    assert_eq!(
        &*served.descriptor.media_type,
        media_type::SCHEMA1_SIGNED_MANIFEST
    );
    assert_eq!(served.descriptor.digest, digest);
    assert_eq!(served.descriptor.size, served.bytes.len() as u64);
    let manifest = Manifest::parse(Some(&served.descriptor.media_type), served.bytes).unwrap();
    assert_eq!(Digest::canonical(manifest.payload()), digest);
    (digest, manifest)
}

#[tokio::test]
async fn two_signatures_are_kept_and_served_in_order() {
    on_each_driver(async |driver| {
        let payload = payload("latest");
        let keys = [SigningKey::generate(), SigningKey::generate()];
        let signatures = [0, 1].map(|n| signature(&payload, &keys[n]));
        let manifest = signed(&payload, &signatures);
        let repository = open(&driver, options());
        push_layers(&repository).await;
        let digest = put(&repository, &manifest).await.unwrap();
        assert_eq!(digest, Digest::canonical(payload.as_bytes()));
        // A second registry reads the store, not this one's memory.
        for repository in [repository, open(&driver, Options::default())] {
            let (found, again) = served(&repository).await;
            assert_eq!(found, digest);
            assert_eq!(again.bytes(), manifest.bytes());
            let mut kept = repository.signatures().get(&digest).await.unwrap();
            kept.sort();
            let mut pushed = signatures.clone();
            pushed.sort();
            assert_eq!(kept, pushed);
        }
        for signature in &signatures {
            let signature = Digest::canonical(signature);
            let path = layout::signature_link(&name(NAME), &digest, &signature);
            let content = driver.get(&path).await.unwrap();
            assert_eq!(content, signature.to_string());
            driver.stat(&layout::blob_data(&signature)).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn signatures_of_later_pushes_are_added() {
    on_each_driver(async |driver| {
        let payload = payload("latest");
        let keys = [(); 3].map(|()| SigningKey::generate());
        let all = [0, 1, 2].map(|n| signature(&payload, &keys[n]));
        let repository = open(&driver, options());
        push_layers(&repository).await;
        for signatures in [&all[..1], &all[1..], &all[..2]] {
            put(&repository, &signed(&payload, signatures))
                .await
                .unwrap();
        }
        let (_, manifest) = served(&repository).await;
        assert_eq!(manifest.bytes(), signed(&payload, &all).bytes());
    })
    .await;
}

#[tokio::test]
async fn a_missing_signature_is_an_error_that_names_it() {
    on_each_driver(async |driver| {
        let payload = payload("latest");
        let keys = [(); 9].map(|()| SigningKey::generate());
        let signatures: Vec<Bytes> = keys.iter().map(|key| signature(&payload, key)).collect();
        let pushing = open(&driver, options());
        push_layers(&pushing).await;
        let revision = put(&pushing, &signed(&payload, &signatures)).await.unwrap();

        let missing = Digest::canonical(&signatures[4]);
        let data = layout::blob_data(&missing);
        let bytes = driver.get(&data).await.unwrap();
        // They put no damaged blob aside, which would go on while the test mends it behind them.
        let reading = || Options {
            read_only: true,
            ..Options::default()
        };
        let named = async |what: &str| {
            let repository = open(&driver, reading());
            match repository.manifests().get(&revision).await {
                Err(Error::SignatureUnknown {
                    revision: of,
                    signature,
                    ..
                }) => assert_eq!((of, signature), (revision, missing), "{what}"),
                other => panic!("{what}: {other:?}"),
            }
        };
        driver.delete(&data).await.unwrap();
        named("the blob is gone").await;
        file(&driver, &data, "other bytes").await;
        named("the blob has other bytes").await;
        file(&driver, &data, bytes).await;
        served(&open(&driver, Options::default())).await;
        let path = layout::signature_link(&name(NAME), &revision, &missing);
        file(&driver, &path, "").await;
        named("the link is empty").await;

        // Pushing again mends both.
        driver.delete(&data).await.unwrap();
        let mending = open(&driver, options());
        put(&mending, &signed(&payload, &signatures)).await.unwrap();
        let (_, manifest) = served(&open(&driver, Options::default())).await;
        assert_eq!(manifest.signatures().len(), 9);
    })
    .await;
}

#[tokio::test]
async fn a_blob_that_is_no_signature_is_reported_as_damage() {
    on_each_driver(async |driver| {
        let payload = payload("latest");
        let revision = written_by_all(&driver, &payload).await;
        let name = name(NAME);
        link(&driver, &layout::revision_link(&name, &revision), &revision).await;
        let wrong = blob(&driver, "{}").await;
        let path = layout::signature_link(&name, &revision, &wrong);
        link(&driver, &path, &wrong).await;
        let got = open(&driver, Options::default())
            .manifests()
            .get(&revision)
            .await;
        assert!(matches!(got, Err(Error::Damaged { .. })), "{got:?}");
    })
    .await;
}

/// Distribution 2.0, and 2.1.1 to 2.4: link and signatures under the revision.
#[tokio::test]
async fn the_layout_of_2_0_is_served() {
    on_each_driver(async |driver| {
        let payload = payload("latest");
        let keys = [SigningKey::generate(), SigningKey::generate()];
        let signatures = [0, 1].map(|n| signature(&payload, &keys[n]));
        let revision = written_by_all(&driver, &payload).await;
        let name = name(NAME);
        link(&driver, &layout::revision_link(&name, &revision), &revision).await;
        for signature in &signatures {
            let digest = blob(&driver, signature.clone()).await;
            let path = layout::signature_link(&name, &revision, &digest);
            link(&driver, &path, &digest).await;
        }
        let (digest, manifest) = served(&open(&driver, Options::default())).await;
        assert_eq!(digest, revision);
        assert_eq!(manifest.bytes(), signed(&payload, &signatures).bytes());
    })
    .await;
}

/// Distribution 2.1.0: the link lies among those of layers, the signatures under the revision.
#[tokio::test]
async fn the_layout_of_2_1_0_is_served_and_deleted() {
    on_each_driver(async |driver| {
        let payload = payload("latest");
        let signature = signature(&payload, &SigningKey::generate());
        let revision = written_by_all(&driver, &payload).await;
        let name = name(NAME);
        link(&driver, &layout::layer_link(&name, &revision), &revision).await;
        let digest = blob(&driver, signature.clone()).await;
        let path = layout::signature_link(&name, &revision, &digest);
        link(&driver, &path, &digest).await;

        let repository = open(&driver, options());
        let (_, manifest) = served(&repository).await;
        assert_eq!(manifest.bytes(), signed(&payload, &[signature]).bytes());
        let layer = Digest::canonical(&layers()[0]);
        let as_manifest = repository.manifests().get(&layer).await;
        assert!(matches!(as_manifest, Err(Error::ManifestUnknown(_))));

        repository.manifests().delete(&revision).await.unwrap();
        for repository in [repository, open(&driver, Options::default())] {
            let got = repository.manifests().get(&revision).await;
            assert!(matches!(got, Err(Error::ManifestUnknown(_))), "{got:?}");
            assert!(repository.tags().get(&tag("latest")).await.is_err());
            let kept = repository.signatures().get(&revision).await.unwrap();
            assert!(kept.is_empty());
        }
    })
    .await;
}

/// Distribution 2.4 without its signature store, and 2.5 and later: no signatures.
#[tokio::test]
async fn a_revision_without_signatures_is_signed_with_the_registrys_key() {
    on_each_driver(async |driver| {
        let payload = payload("latest");
        let revision = written_by_all(&driver, &payload).await;
        let path = layout::revision_link(&name(NAME), &revision);
        link(&driver, &path, &revision).await;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        std::fs::write(&file, KEY).unwrap();
        let with_key = |file: Option<PathBuf>| {
            let options = Options {
                schema1_key: file,
                ..Options::default()
            };
            open(&driver, options)
        };
        let key_id = |manifest: &Manifest| {
            let [signature] = manifest.signatures() else {
                panic!("one signature");
            };
            let json: serde_json::Value = serde_json::from_slice(signature).unwrap();
            json["header"]["jwk"]["kid"].as_str().unwrap().to_owned()
        };
        let configured = SigningKey::from_pem(KEY).unwrap().id();
        let (digest, manifest) = served(&with_key(Some(file))).await;
        assert_eq!(digest, revision);
        assert_eq!(manifest.payload(), payload.as_bytes());
        assert_eq!(key_id(&manifest), configured);

        // One that is made up serves for as long as the process runs.
        let repository = with_key(None);
        let first = key_id(&served(&repository).await.1);
        assert_ne!(first, configured);
        assert_eq!(key_id(&served(&repository).await.1), first);
        // Nothing of it is stored.
        assert!(
            repository
                .signatures()
                .get(&revision)
                .await
                .unwrap()
                .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.pem");
    for content in [None, Some("no key")] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let options = Options {
            schema1_key: Some(file.clone()),
            ..Options::default()
        };
        let error = Registry::new(Arc::new(MemoryDriver::new()), options).unwrap_err();
        assert!(matches!(error, Error::SigningKey(_)), "{error}");
        assert!(error.to_string().contains("key.pem"), "{error}");
    }
}

#[tokio::test]
async fn a_push_must_be_allowed_signed_and_for_its_place() {
    on_each_driver(async |driver| {
        let text = payload("latest");
        let signature = signature(&text, &SigningKey::generate());
        let manifest = signed(&text, &[signature]);
        let repository = open(&driver, options());
        push_layers(&repository).await;

        let refused = async |repository: &Repository, manifest: &Manifest, tags: &[_]| {
            let digest = Digest::canonical(manifest.payload());
            let manifests = repository.manifests();
            let error = manifests.put(manifest, &digest, tags).await.unwrap_err();
            assert!(!manifests.contains(&digest).await.unwrap());
            let kept = repository.signatures().get(&digest).await.unwrap();
            assert!(kept.is_empty());
            error
        };
        let latest = [tag("latest")];
        let error = refused(&open(&driver, Options::default()), &manifest, &latest).await;
        assert!(matches!(error, Error::ManifestRefused(_)), "{error}");
        assert!(error.to_string().contains("compatibility.schema1.enabled"));

        let other = [tag("latest"), tag("other")];
        let error = refused(&repository, &manifest, &other).await;
        assert!(matches!(error, Error::ManifestRefused(_)), "{error}");

        let registry = Registry::new(Arc::clone(&driver), options()).unwrap();
        let elsewhere = registry.repository(&name("library/new"));
        push_layers(&elsewhere).await;
        let error = refused(&elsewhere, &manifest, &[]).await;
        assert!(error.to_string().contains(NAME), "{error}");

        let plain = Some(media_type::SCHEMA1_MANIFEST);
        let unsigned = Manifest::parse(plain, text.into()).unwrap();
        let error = refused(&repository, &unsigned, &[]).await;
        assert!(
            matches!(
                error,
                Error::ManifestInvalid(ManifestError::Unverified(SignatureError::Missing))
            ),
            "{error}"
        );
        // By digest, without a tag, it is its repository that counts.
        let digest = Digest::canonical(manifest.payload());
        let manifests = repository.manifests();
        manifests.put(&manifest, &digest, &[]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn layers_must_have_been_pushed() {
    on_each_driver(async |driver| {
        let text = payload("latest");
        let manifest = signed(&text, &[signature(&text, &SigningKey::generate())]);
        let repository = open(&driver, options());
        let [one, two] = layers();
        push(&repository, &one).await;
        match put(&repository, &manifest).await {
            Err(Error::ManifestReferencesUnknown(missing)) => {
                assert_eq!(missing, [Digest::canonical(&two)]);
            }
            other => panic!("{other:?}"),
        }
        push(&repository, &two).await;
        put(&repository, &manifest).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn signatures_are_bounded_in_number() {
    let driver: Arc<dyn Driver> = Arc::new(MemoryDriver::new());
    let repository = open(&driver, options());
    let revision = Digest::canonical(b"revision");
    let signatures: Vec<Bytes> = (0..257).map(|n| Bytes::from(n.to_string())).collect();
    let service = repository.signatures();
    service.put(&revision, &signatures[..256]).await.unwrap();
    let error = service
        .put(&revision, &signatures[256..])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::ManifestRefused(_)), "{error}");
    // What is there already may be pushed again.
    service.put(&revision, &signatures[..10]).await.unwrap();
    assert_eq!(service.get(&revision).await.unwrap().len(), 256);
}

/// A key that was made for this test.
const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\n\
MIGkAgEBBDBzz1rnms+A9O4EyP6HGfgaXctqnh0MwpN/H87GZ9ZZFu+pDtjsx/ML\n\
WLBpB5F4RgKgBwYFK4EEACKhZANiAAQ3/hvREe9ACt5GwB8ZTojxQYTXfdEFOp/Y\n\
7V/bJlpg0TKmhmf3z72TDDVJFaRPtoWQq+PFckxjZmju45CZ5neMmPwdPGfZxpXZ\n\
7GXfL9n9VrHb8DwJ8fcfqrsClUunHXY=\n\
-----END EC PRIVATE KEY-----\n\n";
