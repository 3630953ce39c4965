//! "Content Management": deleting tags, manifests and blobs.

use wharfinger_oci::Digest;
use wharfinger_registry::Options as RegistryOptions;

use crate::servers;
use crate::support::{Running, Store, descriptor, image_of, quiet, random};

/// "Deleting tags".
#[tokio::test]
async fn a_tag_is_deleted() {
    for server in servers().await {
        let image = server.push_image("tags", "gone", 1).await;
        assert_eq!(
            server.push_manifest("tags", "stays", &image).await.status,
            201
        );
        let reply = server.delete("/v2/tags/manifests/gone").await;
        assert_eq!(reply.status, 202, "{reply:?}");
        server
            .get("/v2/tags/manifests/gone")
            .await
            .is_error(404, "MANIFEST_UNKNOWN");
        assert_eq!(server.get("/v2/tags/manifests/stays").await.status, 200);
        let by_digest = format!("/v2/tags/manifests/{}", image.digest());
        assert_eq!(server.get(&by_digest).await.status, 200);
        assert_eq!(
            server.get("/v2/tags/tags/list").await.json()["tags"][0],
            "stays"
        );
        server
            .delete("/v2/tags/manifests/gone")
            .await
            .is_error(404, "MANIFEST_UNKNOWN");
        server
            .delete("/v2/none/manifests/gone")
            .await
            .is_error(404, "MANIFEST_UNKNOWN");
    }
}

/// "Deleting Manifests": "a GET to [...] any tag pointing to that digest will return a 404".
#[tokio::test]
async fn a_manifest_is_deleted_with_its_tags() {
    for server in servers().await {
        let image = server.push_image("all", "one", 2).await;
        let other = server.push_image("all", "other", 3).await;
        assert_eq!(server.push_manifest("all", "two", &image).await.status, 201);
        let sha512 = image.sha512().to_string();
        assert_eq!(
            server.push_manifest("all", &sha512, &image).await.status,
            201
        );
        let path = format!("/v2/all/manifests/{}", image.digest());
        let reply = server.delete(&path).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        for reference in ["one", "two", &*image.digest().to_string(), &*sha512] {
            let reply = server.get(&format!("/v2/all/manifests/{reference}")).await;
            reply.is_error(404, "MANIFEST_UNKNOWN");
        }
        assert!(server.get("/v2/all/manifests/other").await.body == other.bytes);
        server.delete(&path).await.is_error(404, "MANIFEST_UNKNOWN");
        // It can come back.
        assert_eq!(server.push_manifest("all", "one", &image).await.status, 201);
        assert!(server.get("/v2/all/manifests/one").await.body == image.bytes);
    }
}

/// A deleted manifest is no referrer any more.
#[tokio::test]
async fn a_referrer_is_deleted() {
    for server in servers().await {
        let subject = server.push_image("ref", "subject", 4).await;
        let extra = format!(r#","subject":{}"#, subject.descriptor());
        let referrer = server.image("ref", 5, &extra).await;
        let digest = referrer.digest().to_string();
        assert_eq!(
            server.push_manifest("ref", &digest, &referrer).await.status,
            201
        );
        let list = format!("/v2/ref/referrers/{}", subject.digest());
        assert_eq!(
            server.get(&list).await.json()["manifests"][0]["digest"],
            *digest
        );
        let reply = server.delete(&format!("/v2/ref/manifests/{digest}")).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let manifests = server.get(&list).await.json()["manifests"].clone();
        assert_eq!(manifests.as_array().map(Vec::len), Some(0));
    }
}

/// "Deleting Blobs".
#[tokio::test]
async fn a_blob_is_deleted() {
    for server in servers().await {
        for content in [random(6, 100), random(7, 200_000)] {
            let digest = server.push_blob("blobs", &content).await;
            server.push_blob("keeps", &content).await;
            let path = format!("/v2/blobs/blobs/{digest}");
            let reply = server.delete(&path).await;
            assert_eq!(reply.status, 202, "{reply:?}");
            assert_eq!(server.head(&path).await.status, 404);
            server.get(&path).await.is_error(404, "BLOB_UNKNOWN");
            server.delete(&path).await.is_error(404, "BLOB_UNKNOWN");
            let other = server.get(&format!("/v2/keeps/blobs/{digest}")).await;
            assert!(other.body == content, "another repository keeps the blob");
            server.push_blob("blobs", &content).await;
            assert_eq!(server.head(&path).await.status, 200);
        }
        let never = Digest::canonical(b"never");
        server
            .delete(&format!("/v2/none/blobs/{never}"))
            .await
            .is_error(404, "BLOB_UNKNOWN");
    }
}

/// What a manifest names is not taken for there once it is deleted.
#[tokio::test]
async fn a_manifest_cannot_name_a_deleted_blob() {
    for server in servers().await {
        let layer = random(8, 100);
        server.push_blob("late", b"{}").await;
        let digest = server.push_blob("late", &layer).await;
        assert_eq!(
            server
                .delete(&format!("/v2/late/blobs/{digest}"))
                .await
                .status,
            202
        );
        let reply = server
            .push_manifest("late", "t", &image_of(b"{}", &[&layer], ""))
            .await;
        reply.is_error(400, "MANIFEST_BLOB_UNKNOWN");
        let subject = descriptor("application/vnd.oci.image.manifest.v1+json", b"deleted");
        let extra = format!(r#","subject":{subject}"#);
        let reply = server
            .push_manifest("late", "t", &image_of(b"{}", &[], &extra))
            .await;
        assert_eq!(reply.status, 201, "a subject need not be there: {reply:?}");
    }
}

/// "If manifest deletion is disabled, the registry MUST respond with either a 400 or a 405".
#[tokio::test]
async fn deletion_can_be_switched_off() {
    for store in Store::ALL {
        let server = Running::start(store, RegistryOptions::default(), quiet()).await;
        let image = server.push_image("kept", "t", 9).await;
        let blob = server.push_blob("kept", b"blob").await;
        let paths = [
            "/v2/kept/manifests/t".to_owned(),
            format!("/v2/kept/manifests/{}", image.digest()),
            format!("/v2/kept/blobs/{blob}"),
        ];
        for path in paths {
            server.delete(&path).await.is_error(405, "UNSUPPORTED");
            assert_eq!(server.head(&path).await.status, 200, "{path}");
        }
    }
}
