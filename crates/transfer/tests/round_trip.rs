//! What is exported and imported is the same; exports that are repeated, cut short, or meet damage.

mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use support::*;
use wharfinger_oci::schema1::{SigningKey, assemble, sign};
use wharfinger_oci::{Algorithm, Digest, media_type};
use wharfinger_registry::Registry;
use wharfinger_storage::MemoryDriver;
use wharfinger_storage::testing::fault::{FaultDriver, Operation};
use wharfinger_transfer::{
    Choice, Destination, ExportOptions, Images, ImportOptions, Report, export, import,
};

/// Something that is pushed.
#[derive(Clone, Debug)]
struct Push {
    repository: usize,
    kind: Kind,
    seed: u8,
    tag: Option<u8>,
    algorithm: Algorithm,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Image,
    /// Of what was pushed to the repository before.
    Index,
    /// With the last that was pushed to the repository as its subject.
    Referrer,
}

fn a_push() -> impl Strategy<Value = Push> {
    let kind = prop_oneof![Just(Kind::Image), Just(Kind::Index), Just(Kind::Referrer)];
    let algorithm = prop_oneof![3 => Just(Algorithm::Sha256), 1 => Just(Algorithm::Sha512)];
    (
        0..3_usize,
        kind,
        0..6_u8,
        proptest::option::of(0..3_u8),
        algorithm,
    )
        .prop_map(|(repository, kind, seed, tag, algorithm)| Push {
            repository,
            kind,
            seed,
            tag,
            algorithm,
        })
}

async fn pushed(pushes: &[Push]) -> Registry {
    let registry = registry();
    let mut before: [Vec<(Digest, u64, &str)>; 3] = Default::default();
    for push in pushes {
        let text = ["a", "a/b", "library/c"][push.repository];
        let repository = registry.repository(&name(text));
        let before = &mut before[push.repository];
        let Push {
            seed, algorithm, ..
        } = *push;
        // Some have to be read in more pieces than one.
        let length = if seed == 0 {
            2_500_000
        } else {
            900 * usize::from(seed)
        };
        let (text, kind) = match (push.kind, before.last()) {
            (Kind::Index, Some(_)) => {
                let last = &before[before.len().saturating_sub(3)..];
                (index_text(last), media_type::OCI_IMAGE_INDEX)
            }
            (Kind::Referrer, Some((digest, size, kind))) => {
                let extra = format!(
                    r#","artifactType":"a/signature","annotations":{{"n":"{seed}"}},
                    "subject":{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#
                );
                let text = image_text(&repository, seed, length, algorithm, &extra).await;
                (text, media_type::OCI_IMAGE_MANIFEST)
            }
            _ => {
                let text = image_text(&repository, seed, length, algorithm, "").await;
                (text, media_type::OCI_IMAGE_MANIFEST)
            }
        };
        let tag = push.tag.map(|tag| format!("t{tag}"));
        let tags: Vec<&str> = tag.as_deref().into_iter().collect();
        let (digest, size) = put(&repository, text, algorithm, &tags).await;
        before.push((digest, size, kind));
    }
    registry
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn what_was_exported_is_imported_the_same(
        pushes in proptest::collection::vec(a_push(), 1..12),
        is_archive: bool,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let registry = pushed(&pushes).await;
            let path = folder.path().join(if is_archive { "x.tar" } else { "x" });
            let report = export_to(&registry, &path).await.unwrap();
            assert_eq!(report.failures, []);
            let restored = support::registry();
            let report = import_from(&path, &restored, "").await.unwrap();
            assert_eq!(report.failures, []);
            let before = seen(&registry).await;
            assert_eq!(seen(&restored).await, before);
            // Once more: nothing is copied.
            let report = import_from(&path, &restored, "").await.unwrap();
            assert_eq!((report.blobs, report.failures.len()), (0, 0));
            assert_eq!(seen(&restored).await, before);
            // From store to store.
            let copied = support::registry();
            let images = Images::of(registry);
            import(&images, &copied, &ImportOptions::default(), &|_| ()).await.unwrap();
            assert_eq!(seen(&copied).await, before);
        });
    }
}

#[tokio::test]
async fn an_export_writes_nothing_into_the_store() {
    let driver = Arc::new(FaultDriver::new(MemoryDriver::new()));
    let registry = registry_on(driver.clone());
    let repository = registry.repository(&name("a"));
    let text = image_text(&repository, 1, 200_000, Algorithm::CANONICAL, "").await;
    put(&repository, text, Algorithm::CANONICAL, &["t"]).await;
    let writing = [
        Operation::Put,
        Operation::Writer,
        Operation::Rename,
        Operation::Delete,
    ];
    let written = || writing.map(|operation| driver.count(operation));
    let before = written();
    let folder = tempfile::tempdir().unwrap();
    let report = export_to(&registry, &folder.path().join("x"))
        .await
        .unwrap();
    assert_eq!((report.tags, report.failures.len()), (1, 0));
    assert!(driver.count(Operation::List) > 0);
    assert_eq!(written(), before);
}

#[tokio::test]
async fn signatures_of_schema_1_come_back() {
    let registry = registry();
    let repository = registry.repository(&name("library/old"));
    let layer = push(&repository, &content(1, 3000), Algorithm::CANONICAL).await;
    let payload = format!(
        r#"{{
   "schemaVersion": 1,
   "name": "library/old",
   "tag": "latest",
   "architecture": "amd64",
   "fsLayers": [
      {{
         "blobSum": "{}"
      }}
   ],
   "history": [
      {{
         "v1Compatibility": "{{\"id\":\"a\"}}"
      }}
   ]
}}"#,
        layer.digest
    );
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_000_000);
    let sign = || sign(payload.as_bytes(), &SigningKey::generate(), time).unwrap();
    let signed = assemble(payload.as_bytes(), &[sign(), sign()]).unwrap();
    let text = String::from_utf8(signed.to_vec()).unwrap();
    let (digest, _) = put(&repository, text, Algorithm::CANONICAL, &["latest"]).await;
    let signatures = repository.signatures().get(&digest).await.unwrap();
    assert_eq!(signatures.len(), 2);

    let folder = tempfile::tempdir().unwrap();
    let report = export_to(&registry, folder.path()).await.unwrap();
    assert_eq!((report.tags, report.failures), (1, vec![]));
    let restored = support::registry();
    let report = import_from(folder.path(), &restored, "").await.unwrap();
    assert_eq!((report.tags, report.failures), (1, vec![]));
    assert_eq!(seen(&restored).await, seen(&registry).await);
    let again = restored.repository(&name("library/old")).signatures();
    assert_eq!(again.get(&digest).await.unwrap(), signatures);

    // Its name is signed.
    let report = import_from(folder.path(), &support::registry(), "backup/")
        .await
        .unwrap();
    assert!(
        report.failures[0]
            .to_string()
            .contains("made for repository library/old"),
        "{report:?}"
    );
}

#[tokio::test]
async fn a_second_export_copies_what_is_new_and_prunes_what_is_old() {
    let registry = registry();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backup");
    let old = push_image(&registry, "a", 1, &["latest"]).await;
    push_image(&registry, "b", 2, &["latest"]).await;
    assert_eq!(export_to(&registry, &path).await.unwrap().blobs, 4);
    let report = export_to(&registry, &path).await.unwrap();
    assert_eq!((report.blobs, report.bytes, report.present), (0, 0, 4));

    push_image(&registry, "a", 3, &["latest"]).await;
    registry
        .repository(&name("a"))
        .manifests()
        .delete(&old)
        .await
        .unwrap();
    let before = files(&path);
    assert_eq!(export_to(&registry, &path).await.unwrap().blobs, 2);
    assert!(
        files(&path).len() == before.len() + 3,
        "nothing goes unless it is asked for"
    );
    let report = prune_to(&registry, &path).await;
    assert_eq!((report.blobs, report.pruned), (0, 3));
    let restored = support::registry();
    import_from(&path, &restored, "").await.unwrap();
    assert_eq!(seen(&restored).await, seen(&registry).await);

    // A file of another length is no blob.
    let layer = content(3, 1000);
    let blob = path
        .join("blobs/sha256")
        .join(Digest::canonical(&layer).hex());
    fs::write(&blob, &layer[..999]).unwrap();
    assert_eq!(export_to(&registry, &path).await.unwrap().blobs, 1);
    assert_eq!(fs::read(&blob).unwrap(), layer);
}

#[tokio::test]
async fn a_folder_of_somebody_else_is_left_alone() {
    let registry = registry();
    push_image(&registry, "a", 1, &["latest"]).await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter"), "dear").unwrap();
    let error = export_to(&registry, folder.path()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("neither empty nor an image layout"),
        "{error}"
    );
    assert_eq!(files(folder.path()), ["letter"]);

    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("oci-layout"),
        r#"{"imageLayoutVersion":"1.0.0"}"#,
    )
    .unwrap();
    let theirs = r#"{"schemaVersion":2,"manifests":[]}"#;
    fs::write(folder.path().join("index.json"), theirs).unwrap();
    let error = export_to(&registry, folder.path()).await.unwrap_err();
    assert!(error.to_string().contains("no export wrote"), "{error}");
    assert_eq!(
        fs::read_to_string(folder.path().join("index.json")).unwrap(),
        theirs
    );
}

/// Exports, and removes what that does not need.
async fn prune_to(registry: &Registry, path: &Path) -> Report {
    let options = ExportOptions {
        prune: true,
        ..ExportOptions::default()
    };
    let destination = Destination::of(path);
    let report = export(registry, &destination, &options, &|_| ()).await;
    report.unwrap()
}

/// The files below a folder, without what is kept of exports that were cut short.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let path = path.strip_prefix(folder).unwrap();
                found.push(path.to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files(from) {
        let to = to.join(&file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.join(file), to).unwrap();
    }
}

#[tokio::test]
async fn an_export_that_is_cut_short_anywhere_leaves_the_one_before() {
    let registry = registry();
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    push_image(&registry, "a", 1, &["latest"]).await;
    export_to(&registry, &first).await.unwrap();
    let before = seen(&registry).await;
    push_image(&registry, "a", 2, &["latest", "new"]).await;
    let after = seen(&registry).await;
    let mut cuts = 0;
    loop {
        let path = folder.path().join(format!("cut-{cuts}"));
        copy_folder(&first, &path);
        // As a kill leaves it.
        fs::create_dir_all(path.join(".unfinished")).unwrap();
        fs::write(path.join(".unfinished/0"), "half of a blob").unwrap();
        let mut exporting = Box::pin(export_to(&registry, &path));
        let mut polls = 0;
        let is_complete = std::future::poll_fn(|context| {
            if exporting.as_mut().poll(context).is_ready() {
                return Poll::Ready(true);
            }
            polls += 1;
            if polls > cuts {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        });
        let is_complete = is_complete.await;
        drop(exporting);
        let restored = support::registry();
        let report = import_from(&path, &restored, "").await.unwrap();
        assert_eq!(report.failures, [], "cut {cuts}");
        let restored = seen(&restored).await;
        if is_complete {
            assert_eq!(restored, after);
            break;
        }
        assert!(
            restored == before || restored == after,
            "cut {cuts}: {restored:?}"
        );
        // It goes on from there, when the last step of the other one has ended.
        while let Err(error) = export_to(&registry, &path).await {
            assert!(error.to_string().contains("another export"), "{error}");
            tokio::task::yield_now().await;
        }
        let again = support::registry();
        import_from(&path, &again, "").await.unwrap();
        assert_eq!(seen(&again).await, after, "cut {cuts}");
        cuts += 1;
    }
    // How often it has to wait is for the machine to say.
    assert!(cuts > 2, "{cuts}");
}

#[tokio::test]
async fn damage_is_named_and_stops_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let options = wharfinger_storage::FilesystemOptions::new(&data);
    let driver = wharfinger_storage::FilesystemDriver::new(options).unwrap();
    let registry = registry_on(std::sync::Arc::new(driver));
    let repository = registry.repository(&name("a"));
    let algorithm = Algorithm::CANONICAL;
    for (seed, tag) in [(1, "damaged"), (2, "whole"), (3, "short")] {
        let text = image_text(&repository, seed, 200_000, algorithm, "").await;
        put(&repository, text, algorithm, &[tag]).await;
    }
    let file = |seed| {
        let digest = Digest::canonical(&content(seed, 200_000));
        let path = wharfinger_registry::layout::blob_data(&digest);
        data.join(path.as_str().trim_start_matches('/'))
    };
    let mut bytes = content(1, 200_000).to_vec();
    bytes[100_000] ^= 1;
    fs::write(file(1), bytes).unwrap();
    fs::write(file(3), &content(3, 200_000)[..100_000]).unwrap();

    for destination in ["backup", "backup.tar"] {
        let path = folder.path().join(destination);
        let report = prune_to(&registry, &path).await;
        let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
        assert_eq!(failures.len(), 2, "{failures:?}");
        let place = "/docker/registry/v2/blobs/sha256/";
        assert!(failures[0].starts_with("a:damaged: ") && failures[0].contains(place));
        assert!(
            failures[0].contains("its bytes have the digest"),
            "{failures:?}"
        );
        assert!(failures[1].starts_with("a:short: ") && failures[1].contains("100000 bytes"));
        let restored = support::registry();
        let report = import_from(&path, &restored, "").await.unwrap();
        assert_eq!((report.tags, report.failures), (1, vec![]));
        assert!(seen(&restored).await.tags.contains_key("a:whole"));
    }
}

#[tokio::test]
async fn what_is_chosen_is_exported_with_its_referrers() {
    let registry = registry();
    let repository = registry.repository(&name("a"));
    let subject = push_image(&registry, "a", 1, &["signed"]).await;
    push_image(&registry, "a", 2, &["other"]).await;
    push_image(&registry, "b", 3, &["signed"]).await;
    let algorithm = Algorithm::CANONICAL;
    let mut signature = (subject, 0);
    // A signature, and one of it.
    for seed in [4, 5] {
        let extra = format!(
            r#","artifactType":"a/b","subject":{{"mediaType":"{}","digest":"{}","size":{}}}"#,
            media_type::OCI_IMAGE_MANIFEST,
            signature.0,
            signature.1
        );
        let text = image_text(&repository, seed, 10, algorithm, &extra).await;
        signature = put(&repository, text, algorithm, &[]).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let patterns = ["a:sig*", "c"].map(|text| text.parse().unwrap());
    let options = ExportOptions {
        choice: Choice::of(patterns.to_vec()),
        ..ExportOptions::default()
    };
    let destination = Destination::of(folder.path());
    let report = export(&registry, &destination, &options, &|_| ())
        .await
        .unwrap();
    assert_eq!((report.tags, report.untagged), (1, 2));
    let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
    assert_eq!(failures, ["c: there is nothing of this name"]);

    // The same choice of all of it.
    let all = tempfile::tempdir().unwrap();
    export_to(&registry, all.path()).await.unwrap();
    let options = ImportOptions {
        choice: Choice::of(vec!["a:signed".parse().unwrap()]),
        ..ImportOptions::default()
    };
    let images = Images::open(all.path(), &options.naming).await.unwrap();
    let chosen = support::registry();
    let report = import(&images, &chosen, &options, &|_| ()).await.unwrap();
    assert_eq!(
        (report.tags, report.untagged, report.failures),
        (1, 2, vec![])
    );
    let restored = support::registry();
    import_from(folder.path(), &restored, "").await.unwrap();
    assert_eq!(seen(&chosen).await, seen(&restored).await);
}
