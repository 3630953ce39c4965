//! Why something stays: the shortest way from a tag to it, or that nothing needs it.

mod support;

use std::time::Duration;

use support::{content, image, name, parse, push, put, registry, tag};
use wharfinger_oci::{Algorithm, Digest, media_type};
use wharfinger_registry::{CollectOptions, CollectStep, Error, Explanation, Registry, Standing};

const HOUR: Duration = Duration::from_secs(3600);

async fn explain(registry: &Registry, digest: &Digest) -> Explanation {
    registry.explain(digest, false, HOUR).await.unwrap()
}

#[tokio::test]
async fn the_way_from_a_tag_through_an_index_is_told() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("library/debian"));
    let child = image(&repository, 1, "").await;
    let layer = child.references()[1].digest;
    let digest = put(&repository, &child, &[]).await;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}","digest":"{digest}","size":{}}}]}}"#,
        media_type::OCI_IMAGE_INDEX,
        child.media_type(),
        child.bytes().len()
    );
    let index = parse(media_type::OCI_IMAGE_INDEX, text);
    let other = registry.repository(&name("other"));
    let origin = name("library/debian");
    other.blobs().mount(&origin, &layer).await.unwrap().unwrap();

    // Without a tag the image itself needs it, unless untagged ones go.
    let explained = explain(&registry, &layer).await;
    assert_eq!(explained.standing, Standing::Needed);
    let need = &explained.needs[0];
    assert_eq!((&need.tag, &need.manifests[..]), (&None, &[digest][..]));
    let explained = registry.explain(&layer, true, HOUR).await.unwrap();
    assert_eq!(explained.standing, Standing::Young);

    let index = put(&repository, &index, &["13"]).await;
    for delete_untagged in [false, true] {
        let explained = registry.explain(&layer, delete_untagged, HOUR).await;
        let explained = explained.unwrap();
        assert_eq!(explained.standing, Standing::Needed);
        assert_eq!((explained.size, explained.needs.len()), (Some(1000), 1));
        let need = &explained.needs[0];
        assert_eq!(need.repository, origin);
        assert_eq!(need.tag, Some(tag("13")));
        assert_eq!(need.manifests, [index, digest]);
        assert_eq!(explained.linked, [origin.clone(), name("other")]);
    }
    let of_child = explain(&registry, &digest).await;
    assert_eq!(of_child.needs[0].manifests, [index]);

    // A referrer of what stays is come to by its subject.
    let subject = format!(
        r#","subject":{{"mediaType":"{}","digest":"{digest}","size":{}}}"#,
        child.media_type(),
        child.bytes().len()
    );
    let signature = image(&repository, 2, &subject).await;
    let of_signature = signature.references()[1].digest;
    let signature = put(&repository, &signature, &[]).await;
    let explained = registry.explain(&of_signature, true, HOUR).await.unwrap();
    let need = &explained.needs[0];
    assert_eq!(need.manifests, [index, digest, signature]);
}

#[tokio::test]
async fn what_nothing_needs_is_young_or_garbage_or_absent() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let digest = push(&repository, &content(1, 100)).await.digest;
    let explained = explain(&registry, &digest).await;
    assert_eq!(explained.standing, Standing::Young);
    assert_eq!(explained.linked, [name("a")]);
    let explained = registry.explain(&digest, false, Duration::ZERO).await;
    assert_eq!(explained.unwrap().standing, Standing::Garbage);
    let absent = Digest::canonical(b"nobody pushed this");
    assert_eq!(explain(&registry, &absent).await.standing, Standing::Absent);
    let unknown = Digest::of(Algorithm::Sha512, b"nobody pushed this");
    let refused = registry.explain(&unknown, false, HOUR).await;
    assert!(matches!(refused, Err(Error::BlobUnknown(_))), "{refused:?}");
}

#[tokio::test]
async fn another_algorithms_digest_is_that_of_the_blob() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let bytes = content(1, 100);
    let sha512 = Digest::of(Algorithm::Sha512, &bytes);
    let mut upload = repository.blobs().create(Algorithm::Sha512).unwrap();
    support::append(&mut upload, &bytes).await.unwrap();
    upload.commit(&sha512).await.unwrap();
    let config = push(&repository, &content(2, 10)).await.digest;
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/json",
        "digest":"{config}","size":10}},"layers":[{{"mediaType":"x/y","digest":"{sha512}","size":100}}]}}"#,
        media_type::OCI_IMAGE_MANIFEST
    );
    let manifest = parse(media_type::OCI_IMAGE_MANIFEST, text);
    let manifest = put(&repository, &manifest, &["1"]).await;
    for digest in [sha512, Digest::canonical(&bytes)] {
        let explained = explain(&registry, &digest).await;
        assert_eq!(explained.canonical, Digest::canonical(&bytes));
        assert_eq!(explained.needs[0].manifests, [manifest]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_has_condemned_is_told_until_somebody_needs_it() {
    let options = wharfinger_registry::Options {
        collection_lease: Duration::from_millis(200),
        ..Default::default()
    };
    let (registry, _) = support::with(options);
    let repository = registry.repository(&name("a"));
    let digest = push(&repository, &content(1, 100)).await.digest;
    let other = push(&repository, &content(2, 100)).await.digest;
    let grace = Duration::from_secs(1);
    tokio::time::sleep(grace).await;
    let (sender, mut waits) = tokio::sync::mpsc::unbounded_channel();
    let collecting = registry.clone();
    let task = tokio::spawn(async move {
        let options = CollectOptions {
            serving: Some(grace),
            ..CollectOptions::default()
        };
        let told = |step: CollectStep<'_>| {
            if let CollectStep::Waiting { is_pardonable, .. } = step {
                let _ = sender.send(is_pardonable);
            }
        };
        collecting.collect(options, told).await
    });
    assert_eq!(waits.recv().await, Some(true));
    // The node has a view of before for as long as a lease.
    tokio::time::sleep(Duration::from_millis(300)).await;
    repository.blobs().promise(&other).await.unwrap();
    let condemned = |is_executing| Standing::Condemned { is_executing };
    let standing = async |digest| registry.explain(digest, false, Duration::ZERO).await;
    assert_eq!(standing(&digest).await.unwrap().standing, condemned(false));
    assert_eq!(standing(&other).await.unwrap().standing, Standing::Pardoned);
    assert_eq!(waits.recv().await, Some(false));
    assert_eq!(standing(&digest).await.unwrap().standing, condemned(true));
    assert_eq!(task.await.unwrap().unwrap().blobs, 1);
    assert_eq!(standing(&digest).await.unwrap().standing, Standing::Absent);
}
