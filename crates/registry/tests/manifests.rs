//! Manifests, tags, referrers, mounts, deletion, the catalog.

mod support;

use bytes::Bytes;
use support::{content, image, name, parse, push, put, registry, tag, with};
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Algorithm, Digest, media_type};
use wharfinger_registry::{Error, Options, Page, Registry, layout};
use wharfinger_storage::Durability;

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_by_tag_and_digest() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("library/debian"));
    let manifest = image(&repository, 1, "").await;
    let digest = put(&repository, &manifest, &["latest", "12"]).await;
    // A second registry reads the store, not this one's memory.
    let again = Registry::new(driver, Options::default()).unwrap();
    for registry in [registry, again] {
        let repository = registry.repository(&name("library/debian"));
        assert_eq!(repository.tags().get(&tag("12")).await.unwrap(), digest);
        let served = repository.manifests().get(&digest).await.unwrap();
        assert_eq!(served.bytes, *manifest.bytes());
        assert_eq!(
            &*served.descriptor.media_type,
            media_type::OCI_IMAGE_MANIFEST
        );
        assert_eq!(served.descriptor.size, manifest.bytes().len() as u64);
    }
}

#[tokio::test]
async fn what_a_manifest_refers_to_must_be_there() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let manifest = image(&repository, 1, "").await;
    let elsewhere = registry.repository(&name("b"));
    let digest = Digest::canonical(manifest.payload());
    let error = elsewhere
        .manifests()
        .put(&manifest, &digest, &[])
        .await
        .unwrap_err();
    let Error::ManifestReferencesUnknown(missing) = error else {
        panic!("{error}")
    };
    assert_eq!(missing.len(), 2, "config and layer");
    assert!(elsewhere.manifests().get(&digest).await.is_err());

    let index = parse(
        media_type::OCI_IMAGE_INDEX,
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}",
            "digest":"{digest}","size":{}}}]}}"#,
            media_type::OCI_IMAGE_INDEX,
            media_type::OCI_IMAGE_MANIFEST,
            manifest.bytes().len()
        ),
    );
    let index_digest = Digest::canonical(index.payload());
    let error = repository
        .manifests()
        .put(&index, &index_digest, &[])
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::ManifestReferencesUnknown(_)),
        "{error}"
    );
    put(&repository, &manifest, &[]).await;
    put(&repository, &index, &["index"]).await;

    let (sparse, _) = with(Options {
        validation: wharfinger_registry::Validation {
            sparse: true,
            ..Default::default()
        },
        ..Options::default()
    });
    put(&sparse.repository(&name("a")), &index, &["sparse"]).await;

    let (below, _) = with(Options {
        validation: wharfinger_registry::Validation {
            sparse_below: vec![name("hub")],
            ..Default::default()
        },
        ..Options::default()
    });
    put(&below.repository(&name("hub/a")), &index, &["sparse"]).await;
    for strict in ["a", "hub", "hub-2/a", "a/hub/a"] {
        let manifests = below.repository(&name(strict)).manifests();
        let error = manifests.put(&index, &index_digest, &[]).await.unwrap_err();
        assert!(
            matches!(error, Error::ManifestReferencesUnknown(_)),
            "{strict}: {error}"
        );
    }
}

#[tokio::test]
async fn a_digest_that_is_not_the_manifests_is_refused() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let manifest = image(&repository, 1, "").await;
    let wrong = Digest::canonical(b"wrong");
    let error = repository
        .manifests()
        .put(&manifest, &wrong, &[])
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_under_sha512_is_served_under_both_and_deleted_under_both() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let manifest = image(&repository, 1, "").await;
    let sha512 = Digest::of(Algorithm::Sha512, manifest.payload());
    let sha256 = Digest::canonical(manifest.payload());
    for delete in [sha512, sha256] {
        repository
            .manifests()
            .put(&manifest, &sha512, &[tag("t")])
            .await
            .unwrap();
        assert_eq!(repository.tags().get(&tag("t")).await.unwrap(), sha512);
        for digest in [sha512, sha256] {
            let served = repository.manifests().get(&digest).await.unwrap();
            assert_eq!(served.descriptor.digest, digest);
            assert_eq!(served.bytes, *manifest.bytes());
        }
        repository.manifests().delete(&delete).await.unwrap();
        assert!(matches!(
            repository.tags().get(&tag("t")).await,
            Err(Error::ManifestUnknown(_))
        ));
        for digest in [sha512, sha256] {
            let got = repository.manifests().get(&digest).await;
            assert!(matches!(got, Err(Error::ManifestUnknown(_))), "{digest}");
        }
    }
}

#[tokio::test]
async fn deleting_by_digest_removes_its_tags_and_no_others() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let one = put(
        &repository,
        &image(&repository, 1, "").await,
        &["x", "y", "z"],
    )
    .await;
    let two = put(&repository, &image(&repository, 2, "").await, &["z", "w"]).await;
    let history = repository.tags().history(&tag("z")).await.unwrap();
    assert_eq!(history.len(), 2);
    let removed = repository.manifests().delete(&one).await.unwrap();
    assert_eq!(removed, [tag("x"), tag("y")]);
    let tags = repository.tags().list(None, None).await.unwrap().items;
    assert_eq!(tags, [tag("w"), tag("z")]);
    assert_eq!(repository.tags().get(&tag("z")).await.unwrap(), two);
    let again = repository.manifests().delete(&one).await;
    assert!(matches!(again, Err(Error::ManifestUnknown(_))));
    repository.tags().delete(&tag("w")).await.unwrap();
    assert!(repository.manifests().get(&two).await.is_ok());
    assert!(matches!(
        repository.tags().delete(&tag("w")).await,
        Err(Error::ManifestUnknown(_))
    ));
}

#[tokio::test]
async fn deletion_is_refused_unless_it_is_enabled() {
    let (registry, _) = with(Options::default());
    let repository = registry.repository(&name("a"));
    let blob = push(&repository, &content(1, 10)).await;
    let digest = put(&repository, &image(&repository, 1, "").await, &["t"]).await;
    let unsupported = [
        repository.blobs().delete(&blob.digest).await,
        repository.manifests().delete(&digest).await.map(drop),
        repository.tags().delete(&tag("t")).await,
    ];
    assert!(
        unsupported
            .iter()
            .all(|r| matches!(r, Err(Error::Unsupported(_))))
    );
}

#[tokio::test]
async fn tags_are_listed_in_order_and_by_page() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    assert!(matches!(
        repository.tags().list(None, None).await,
        Err(Error::NameUnknown(_))
    ));
    let manifest = image(&repository, 1, "").await;
    assert!(
        repository
            .tags()
            .list(None, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
    put(&repository, &manifest, &["b", "a", "C", "_x", "a.1"]).await;
    let page = repository.tags().list(None, Some(2)).await.unwrap();
    assert_eq!(
        page,
        Page {
            items: vec![tag("C"), tag("_x")],
            more: true
        }
    );
    let page = repository.tags().list(Some("_x"), Some(3)).await.unwrap();
    assert_eq!(
        page,
        Page {
            items: vec![tag("a"), tag("a.1"), tag("b")],
            more: false
        }
    );
}

#[tokio::test]
async fn referrers_are_recorded_filtered_and_removed() {
    let (registry, _) = registry();
    let repository = registry.repository(&name("a"));
    let subject = put(&repository, &image(&repository, 1, "").await, &["t"]).await;
    let refers = |artifact: &str| {
        format!(
            r#","artifactType":"{artifact}","annotations":{{"k":"v"}},
            "subject":{{"mediaType":"{}","digest":"{subject}","size":1}}"#,
            media_type::OCI_IMAGE_MANIFEST
        )
    };
    let sbom = put(
        &repository,
        &image(&repository, 2, &refers("a/sbom")).await,
        &[],
    )
    .await;
    let sig = put(
        &repository,
        &image(&repository, 3, &refers("a/sig")).await,
        &[],
    )
    .await;
    let all = repository.referrers().list(&subject, None).await.unwrap();
    let mut expected = [sbom, sig];
    expected.sort();
    assert_eq!(all.iter().map(|d| d.digest).collect::<Vec<_>>(), expected);
    let some = repository
        .referrers()
        .list(&subject, Some("a/sbom"))
        .await
        .unwrap();
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].artifact_type.as_deref(), Some("a/sbom"));
    assert_eq!(some[0].annotations.as_ref().unwrap()["k"], "v");
    repository.manifests().delete(&sbom).await.unwrap();
    let left = repository.referrers().list(&subject, None).await.unwrap();
    assert_eq!(left.iter().map(|d| d.digest).collect::<Vec<_>>(), [sig]);
    let none = repository
        .referrers()
        .list(&Digest::canonical(b"?"), None)
        .await
        .unwrap();
    assert!(none.is_empty());
}

#[tokio::test]
async fn referrers_under_the_fallback_tag_are_listed() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let subject = Digest::canonical(b"subject");
    let extra = format!(
        r#","artifactType":"a/b","subject":{{"mediaType":"{}","digest":"{subject}","size":7}}"#,
        media_type::OCI_IMAGE_MANIFEST
    );
    let manifest = image(&repository, 1, &extra).await;
    let digest = put(&repository, &manifest, &[]).await;
    // A registry without the listing has kept no record of it.
    let record = layout::referrer_link(&name("a"), &subject, &digest);
    driver.delete(&record.parent().unwrap()).await.unwrap();
    let index = parse(
        media_type::OCI_IMAGE_INDEX,
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{{"mediaType":"{}",
            "digest":"{digest}","size":{},"artifactType":"a/b"}}]}}"#,
            media_type::OCI_IMAGE_INDEX,
            media_type::OCI_IMAGE_MANIFEST,
            manifest.bytes().len()
        ),
    );
    put(
        &repository,
        &index,
        &[&subject.to_string().replace(':', "-")],
    )
    .await;
    let found = repository
        .referrers()
        .list(&subject, Some("a/b"))
        .await
        .unwrap();
    assert_eq!(found.iter().map(|d| d.digest).collect::<Vec<_>>(), [digest]);
}

#[tokio::test]
async fn mounting_needs_a_source_that_has_it() {
    let (registry, _) = registry();
    let (a, b, c) = (name("a"), name("b"), name("c/d"));
    let blob = push(&registry.repository(&a), &content(1, 100_000)).await;
    let target = registry.repository(&b).blobs();
    assert!(target.mount(&c, &blob.digest).await.unwrap().is_none());
    assert!(
        target
            .mount_anywhere(&blob.digest, |n| *n != a)
            .await
            .unwrap()
            .is_none()
    );
    assert!(target.stat(&blob.digest).await.is_err());
    assert_eq!(
        target.mount(&a, &blob.digest).await.unwrap(),
        Some(blob.clone())
    );
    let other = registry.repository(&c).blobs();
    assert_eq!(
        other.mount_anywhere(&blob.digest, |_| true).await.unwrap(),
        Some(blob.clone())
    );
    registry
        .repository(&a)
        .blobs()
        .delete(&blob.digest)
        .await
        .unwrap();
    assert!(
        target.stat(&blob.digest).await.is_ok(),
        "the others keep their access"
    );
    assert!(other.stat(&blob.digest).await.is_ok());
}

#[tokio::test]
async fn a_blob_that_was_deleted_everywhere_cannot_be_mounted() {
    let (registry, _) = registry();
    let source = registry.repository(&name("a"));
    let blob = push(&source, &content(1, 10)).await;
    source.blobs().delete(&blob.digest).await.unwrap();
    let target = registry.repository(&name("b")).blobs();
    assert!(
        target
            .mount_anywhere(&blob.digest, |_| true)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn the_catalog_is_in_path_order_and_by_page() {
    let (registry, _) = registry();
    let names = ["a", "a/b", "a/b/c", "a-b", "a-b/c", "b/x/y", "z"];
    for repository in names {
        let repository = registry.repository(&name(repository));
        put(&repository, &image(&repository, 1, "").await, &["t"]).await;
    }
    let upload = registry
        .repository(&name("no"))
        .blobs()
        .create(Algorithm::Sha256)
        .unwrap();
    upload.pause().await.unwrap();
    let all = registry.catalog(None, 100).await.unwrap();
    let texts: Vec<_> = all.items.iter().map(|n| n.as_str()).collect();
    assert_eq!(texts, ["a", "a/b", "a/b/c", "a-b", "a-b/c", "b/x/y", "z"]);
    assert!(!all.more);
    for page_size in 1..=names.len() {
        let (mut paged, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = registry.catalog(after.as_deref(), page_size).await.unwrap();
            after = page.items.last().map(ToString::to_string);
            paged.extend(page.items);
            if !page.more {
                break;
            }
        }
        assert_eq!(paged, all.items, "{page_size} a page");
    }
    let behind = registry.catalog(Some("a/b/a"), 2).await.unwrap().items;
    assert_eq!(
        behind,
        [name("a/b/c"), name("a-b")],
        "after a name that is not there"
    );
}

#[tokio::test]
async fn manifests_are_found_where_2_1_0_linked_them() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("old"));
    let manifest = image(&repository, 1, "").await;
    let digest = put(&repository, &manifest, &["t"]).await;
    let link = layout::revision_link(repository.name(), &digest);
    let content = driver.get(&link).await.unwrap();
    driver.delete(&link).await.unwrap();
    let layer_link = layout::layer_link(repository.name(), &digest);
    driver
        .put(&layer_link, content, Durability::Machine)
        .await
        .unwrap();

    let registry = Registry::new(
        driver,
        Options {
            delete: true,
            ..Options::default()
        },
    )
    .unwrap();
    let repository = registry.repository(&name("old"));
    let served = repository.manifests().get(&digest).await.unwrap();
    assert_eq!(served.bytes, *manifest.bytes());
    // A layer that is linked there is no manifest all the same.
    let layer = push(&repository, &support::content(9, 50)).await;
    let got = repository.manifests().get(&layer.digest).await;
    assert!(matches!(got, Err(Error::ManifestUnknown(_))));
    repository.manifests().delete(&digest).await.unwrap();
    assert!(repository.manifests().get(&digest).await.is_err());
    assert!(repository.blobs().stat(&digest).await.is_err());
}

#[tokio::test]
async fn damage_is_named_and_never_served() {
    let (registry, driver) = registry();
    let repository = registry.repository(&name("a"));
    let manifest = image(&repository, 1, "").await;
    let digest = put(&repository, &manifest, &["t", "u"]).await;
    let fresh = || {
        Registry::new(
            driver.clone(),
            Options {
                delete: true,
                ..Default::default()
            },
        )
    };
    for bad in ["", "sha256:", "sha256:zz", "\0\0\0\0"] {
        let path = layout::tag_current(repository.name(), &tag("t"));
        driver
            .put(
                &path,
                Bytes::from_static(bad.as_bytes()),
                Durability::Machine,
            )
            .await
            .unwrap();
        let error = fresh()
            .unwrap()
            .repository(&name("a"))
            .tags()
            .get(&tag("t"))
            .await;
        let Err(Error::Damaged { path: named, .. }) = error else {
            panic!("{bad:?}: {error:?}")
        };
        assert_eq!(named, path);
    }
    let blob = layout::blob_data(&digest);
    driver
        .put(&blob, Bytes::from_static(b"{}"), Durability::Machine)
        .await
        .unwrap();
    let registry = fresh().unwrap();
    let repository = registry.repository(&name("a"));
    let error = repository.manifests().get(&digest).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
    // The rest goes on, and pushing again mends it.
    assert_eq!(repository.tags().get(&tag("u")).await.unwrap(), digest);
    put(&repository, &manifest, &["t"]).await;
    assert_eq!(
        repository.manifests().get(&digest).await.unwrap().bytes,
        *manifest.bytes()
    );
    // Damage can be deleted.
    driver
        .put(&blob, Bytes::from_static(b"{}"), Durability::Machine)
        .await
        .unwrap();
    let repository = fresh().unwrap().repository(&name("a"));
    repository.manifests().delete(&digest).await.unwrap();
    assert!(
        repository
            .tags()
            .list(None, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn foreign_layers_need_not_be_there_and_their_urls_obey_the_rules() {
    let layer = Digest::canonical(b"somewhere else");
    let text = |url: &str, config: &wharfinger_oci::Descriptor| {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"x/y","digest":"{}",
            "size":{}}},"layers":[{{"mediaType":
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{layer}",
            "size":5,"urls":["{url}"]}}]}}"#,
            media_type::DOCKER_MANIFEST,
            config.digest,
            config.size
        )
    };
    let rules = |allow: &[&str], deny: &[&str]| wharfinger_registry::UrlRules {
        allow: regex::RegexSet::new(allow).unwrap(),
        deny: regex::RegexSet::new(deny).unwrap(),
    };
    let cases = [
        (None, "https://example.com/layer", true),
        (None, "file:///etc/passwd", false),
        (
            Some(rules(&["^https://good"], &[])),
            "https://good.example/x",
            true,
        ),
        (
            Some(rules(&["^https://good"], &[])),
            "https://bad.example/x",
            false,
        ),
        (Some(rules(&[], &["bad"])), "https://bad.example/x", false),
        (Some(rules(&[], &["bad"])), "https://other.example/x", true),
    ];
    for (urls, url, accepted) in cases {
        let validation = wharfinger_registry::Validation {
            urls,
            ..Default::default()
        };
        let (registry, _) = with(Options {
            validation,
            ..Options::default()
        });
        let repository = registry.repository(&name("a"));
        let config = push(&repository, &content(1, 20)).await;
        let manifest = text(url, &config);
        let manifest = Manifest::parse(Some(media_type::DOCKER_MANIFEST), manifest.into()).unwrap();
        let digest = Digest::canonical(manifest.payload());
        let result = repository.manifests().put(&manifest, &digest, &[]).await;
        match result {
            Ok(_) => assert!(accepted, "{url}"),
            Err(Error::ManifestRefused(_)) => assert!(!accepted, "{url}"),
            Err(error) => panic!("{error}"),
        }
    }
}
