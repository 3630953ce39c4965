//! "Pull": manifests, blobs, and whether they exist.

use wharfinger_oci::{Algorithm, Digest};

use crate::servers;
use crate::support::{Request, image_of, random};

/// "Determining Support".
#[tokio::test]
async fn the_api_is_there() {
    for server in servers().await {
        for path in ["/v2/", "/v2"] {
            let reply = server.get(path).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(
                reply.get("docker-distribution-api-version"),
                Some("registry/2.0")
            );
        }
        assert_eq!(server.head("/v2/").await.status, 200);
    }
}

/// "Pulling blobs" and "Checking if content exists in the registry".
#[tokio::test]
async fn blobs_are_pulled_and_looked_for() {
    for server in servers().await {
        for content in [
            Vec::new(),
            random(1, 1),
            random(2, 60_000),
            random(3, 2_500_000),
        ] {
            let digest = server.push_blob("pull", &content).await;
            let path = format!("/v2/pull/blobs/{digest}");
            let head = server.head(&path).await;
            let get = server.get(&path).await;
            for reply in [&head, &get] {
                assert_eq!(reply.status, 200, "{reply:?}");
                assert_eq!(
                    reply.get("docker-content-digest"),
                    Some(&*digest.to_string())
                );
                assert_eq!(
                    reply.get("content-length"),
                    Some(&*content.len().to_string())
                );
                assert_eq!(reply.get("content-type"), Some("application/octet-stream"));
            }
            assert!(head.body.is_empty());
            assert!(get.body == content, "other bytes were served");
        }
    }
}

/// "If the blob or manifest is not found in the repository, the response code MUST be 404".
#[tokio::test]
async fn what_is_not_there_is_not_found() {
    for server in servers().await {
        let digest = server.push_blob("has", b"content").await;
        let elsewhere = format!("/v2/hasnot/blobs/{digest}");
        let never = format!("/v2/has/blobs/{}", Digest::canonical(b"never"));
        let manifest = format!("/v2/has/manifests/{}", Digest::canonical(b"never"));
        let cases = [
            (&*elsewhere, "BLOB_UNKNOWN"),
            (&never, "BLOB_UNKNOWN"),
            (&manifest, "MANIFEST_UNKNOWN"),
            ("/v2/has/manifests/latest", "MANIFEST_UNKNOWN"),
            ("/v2/hasnot/manifests/latest", "MANIFEST_UNKNOWN"),
        ];
        for (path, code) in cases {
            server.get(path).await.is_error(404, code);
            let head = server.head(path).await;
            assert_eq!((head.status, head.body.len()), (404, 0), "{path}");
        }
        // A blob that is no manifest is not served as one.
        server
            .get(&format!("/v2/has/manifests/{digest}"))
            .await
            .is_error(404, "MANIFEST_UNKNOWN");
    }
}

/// "Pulling manifests": by tag and by digest, byte for byte, with the type it was pushed as.
#[tokio::test]
async fn manifests_are_pulled() {
    for server in servers().await {
        let image = server.push_image("deep/er/name", "v1.0_x-y", 1).await;
        let digest = image.digest().to_string();
        for reference in ["v1.0_x-y", &*digest] {
            let path = format!("/v2/deep/er/name/manifests/{reference}");
            let head = server.head(&path).await;
            let get = server.get(&path).await;
            for reply in [&head, &get] {
                assert_eq!(reply.status, 200, "{reply:?}");
                assert_eq!(reply.get("docker-content-digest"), Some(&*digest));
                assert_eq!(reply.get("content-type"), Some(image.media_type));
                let length = image.bytes.len().to_string();
                assert_eq!(reply.get("content-length"), Some(&*length));
            }
            assert!(head.body.is_empty());
            assert!(get.body == image.bytes, "other bytes were served");
        }
    }
}

/// The digest in an answer is that of its body, under the algorithm that was asked for.
#[tokio::test]
async fn both_digest_algorithms_lead_to_the_content() {
    for server in servers().await {
        let content = random(4, 1000);
        let digest = Digest::of(Algorithm::Sha512, &content);
        let path = format!("/v2/both/blobs/uploads/?digest={digest}");
        assert_eq!(
            server
                .send(Request::post(&path).body(&content))
                .await
                .status,
            201
        );
        for digest in [digest, Digest::canonical(&content)] {
            let reply = server.get(&format!("/v2/both/blobs/{digest}")).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(
                reply.get("docker-content-digest"),
                Some(&*digest.to_string())
            );
            assert!(reply.body == content);
        }

        let image = server.image("both", 5, "").await;
        let digest = image.sha512();
        let reply = server
            .push_manifest("both", &digest.to_string(), &image)
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        assert_eq!(
            reply.get("docker-content-digest"),
            Some(&*digest.to_string())
        );
        assert_eq!(reply.location(), format!("/v2/both/manifests/{digest}"));
        for digest in [digest, image.digest()] {
            let reply = server.get(&format!("/v2/both/manifests/{digest}")).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(
                reply.get("docker-content-digest"),
                Some(&*digest.to_string())
            );
            assert!(reply.body == image.bytes);
        }
    }
}

/// Layers may be named by sha512 in a manifest.
#[tokio::test]
async fn a_manifest_may_name_sha512_digests() {
    for server in servers().await {
        let layer = random(6, 100);
        let digest = Digest::of(Algorithm::Sha512, &layer);
        let path = format!("/v2/long/blobs/uploads/?digest={digest}");
        assert_eq!(
            server.send(Request::post(&path).body(&layer)).await.status,
            201
        );
        server.push_blob("long", b"{}").await;
        let mut image = image_of(b"{}", &[&layer], "");
        let text = String::from_utf8(image.bytes.to_vec()).unwrap();
        let canonical = Digest::canonical(&layer).to_string();
        image.bytes = text.replace(&canonical, &digest.to_string()).into();
        assert_eq!(server.push_manifest("long", "t", &image).await.status, 201);
        assert!(server.get("/v2/long/manifests/t").await.body == image.bytes);
    }
}
