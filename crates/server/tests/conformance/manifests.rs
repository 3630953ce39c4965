//! "Pushing Manifests".

use wharfinger_oci::{Digest, media_type};
use wharfinger_registry::{Options as RegistryOptions, Validation};

use crate::servers;
use crate::support::{
    Content, Request, Running, Store, descriptor, image_of, index_of, quiet, random,
};

/// "The registry MUST store the manifest in the exact byte representation provided".
#[tokio::test]
async fn manifests_are_kept_byte_for_byte() {
    for server in servers().await {
        let image = server.image("exact", 1, "").await;
        let text = String::from_utf8(image.bytes.to_vec()).unwrap();
        let spaced = format!("\n{}\r\n\t ", text.replace("\":", "\" :\n  "));
        let unknown = text.replacen('{', r#"{"x-unknown":[1.50,"\u00e9\/",null],"#, 1);
        for bytes in [text, spaced, unknown] {
            let image = Content::new(image.media_type, bytes);
            let reply = server.push_manifest("exact", "t", &image).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            let digest = image.digest().to_string();
            assert_eq!(reply.get("docker-content-digest"), Some(&*digest));
            let pulled = server.get(&reply.location()).await;
            assert!(pulled.body == image.bytes, "{pulled:?}");
        }
    }
}

/// "The registry SHOULD ignore parameters on the `Content-Type` header."
#[tokio::test]
async fn parameters_of_the_media_type_are_ignored() {
    for server in servers().await {
        let image = server.image("type", 2, "").await;
        let put = Request::put("/v2/type/manifests/t")
            .header(
                "content-type",
                format!("{}; charset=utf-8", image.media_type),
            )
            .body(&image.bytes);
        assert_eq!(server.send(put).await.status, 201);
        let reply = server.get("/v2/type/manifests/t").await;
        assert_eq!(reply.get("content-type"), Some(image.media_type));
    }
}

/// "When pushing a manifest by digest, the registry MAY support the pushing of tags".
#[tokio::test]
async fn a_push_by_digest_sets_tags() {
    for server in servers().await {
        let image = server.image("tags", 3, "").await;
        let tags: Vec<String> = (0..25).map(|n| format!("v{n}")).collect();
        let query = format!("tag={}", tags.join("&tag="));
        for digest in [image.digest(), image.sha512()] {
            let reference = format!("{digest}?{query}");
            let reply = server.push_manifest("tags", &reference, &image).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            let told: Vec<&str> = reply
                .all("oci-tag")
                .iter()
                .flat_map(|v| v.split(", "))
                .collect();
            assert_eq!(told, tags);
            for tag in &tags {
                let reply = server.get(&format!("/v2/tags/manifests/{tag}")).await;
                assert!(reply.body == image.bytes, "{tag}: {reply:?}");
            }
        }
        let reply = server
            .push_manifest(
                "tags",
                &format!("{}?tag=good&tag=-bad", image.digest()),
                &image,
            )
            .await;
        reply.is_error(400, "TAG_INVALID");
        assert_eq!(server.get("/v2/tags/manifests/good").await.status, 404);
        // `tag` means something only where the reference is a digest.
        let reply = server.push_manifest("tags", "one?tag=two", &image).await;
        assert_eq!((reply.status, reply.get("oci-tag")), (201, None));
        assert_eq!(server.get("/v2/tags/manifests/two").await.status, 404);
    }
}

/// "The Docker-Content-Digest header [...] MUST be equal to the client provided digest."
#[tokio::test]
async fn a_manifest_under_another_digest_is_refused() {
    for server in servers().await {
        let image = server.image("digest", 4, "").await;
        let other = Digest::canonical(b"other").to_string();
        let reply = server.push_manifest("digest", &other, &image).await;
        reply.is_error(400, "DIGEST_INVALID");
        assert_eq!(
            server
                .get(&format!("/v2/digest/manifests/{other}"))
                .await
                .status,
            404
        );
    }
}

/// "When a manifest is rejected for this reason, it MUST result in one or more
/// `MANIFEST_BLOB_UNKNOWN` errors".
#[tokio::test]
async fn what_a_manifest_names_must_be_there() {
    for server in servers().await {
        server.push_blob("refs", b"{}").await;
        let (one, two) = (random(5, 10), random(6, 20));
        let image = image_of(b"{}", &[&one, &two], "");
        let reply = server.push_manifest("refs", "t", &image).await;
        reply.is_error(400, "MANIFEST_BLOB_UNKNOWN");
        assert_eq!(reply.codes().len(), 2, "each missing blob is named");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            text.contains(&Digest::canonical(&two).to_string()),
            "{text}"
        );

        let index = index_of(&[&image], "");
        let reply = server.push_manifest("refs", "t", &index).await;
        reply.is_error(400, "MANIFEST_BLOB_UNKNOWN");
        // A blob of another repository does not count.
        server.push_blob("elsewhere", &one).await;
        server.push_blob("refs", &two).await;
        let reply = server.push_manifest("refs", "t", &image).await;
        assert_eq!(reply.codes(), ["MANIFEST_BLOB_UNKNOWN"]);
        server.push_blob("refs", &one).await;
        assert_eq!(server.push_manifest("refs", "t", &image).await.status, 201);
        assert_eq!(server.push_manifest("refs", "i", &index).await.status, 201);
        assert!(server.get("/v2/refs/manifests/i").await.body == index.bytes);
    }
}

/// "A registry MAY reject": where the operator allows it, indexes and images may be sparse.
#[tokio::test]
async fn sparse_content_is_taken_where_allowed() {
    for store in Store::ALL {
        let validation = Validation {
            sparse: true,
            ..Validation::default()
        };
        let options = RegistryOptions {
            validation,
            ..RegistryOptions::default()
        };
        let server = Running::start(store, options, quiet()).await;
        let image = image_of(b"{}", &[b"missing"], "");
        let index = index_of(&[&image], "");
        for manifest in [&index, &image] {
            let reply = server.push_manifest("sparse", "t", manifest).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            assert!(server.get("/v2/sparse/manifests/t").await.body == manifest.bytes);
        }
    }
}

/// Layers that must not be distributed are not in the registry (OCI image specification,
/// "Non-Distributable Layers").
#[tokio::test]
async fn non_distributable_layers_need_not_be_there() {
    let types = [
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    ];
    for server in servers().await {
        server.push_blob("foreign", b"{}").await;
        for media_type in types {
            let layer = descriptor(media_type, b"far away");
            let with_url = layer.replace('}', r#","urls":["https://example.com/layer"]}"#);
            for layer in [layer, with_url] {
                let mut image = image_of(b"{}", &[], "");
                let text = String::from_utf8(image.bytes.to_vec()).unwrap();
                image.bytes = text.replace("[]", &format!("[{layer}]")).into();
                let reply = server.push_manifest("foreign", "t", &image).await;
                assert_eq!(reply.status, 201, "{layer}: {reply:?}");
            }
        }
    }
}

/// OCI image specification, "Guidelines for Artifact Usage": the empty descriptor, its `data`,
/// and an image without layers.
#[tokio::test]
async fn artifacts_are_taken() {
    for server in servers().await {
        server.push_blob("artifact", b"{}").await;
        let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
        let with_data = empty.replace('}', r#","data":"e30="}"#);
        for layers in ["[]".to_owned(), format!("[{with_data}]")] {
            let text = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","artifactType":"application/x",
                "config":{with_data},"layers":{layers}}}"#,
                media_type::OCI_IMAGE_MANIFEST
            );
            let artifact = Content::new(media_type::OCI_IMAGE_MANIFEST, text);
            let reply = server.push_manifest("artifact", "t", &artifact).await;
            assert_eq!(reply.status, 201, "{reply:?}");
        }
        // Data that is not the content is a manifest that lies.
        let lie = empty.replace('}', r#","data":"e31="}"#);
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{lie},"layers":[]}}"#,
            media_type::OCI_IMAGE_MANIFEST
        );
        let artifact = Content::new(media_type::OCI_IMAGE_MANIFEST, text);
        let reply = server.push_manifest("artifact", "t", &artifact).await;
        reply.is_error(400, "MANIFEST_INVALID");
        // An index of nothing.
        let index = index_of(&[], "");
        assert_eq!(
            server.push_manifest("artifact", "i", &index).await.status,
            201
        );
    }
}

/// "Client and registry implementations SHOULD expect to be able to support manifest pushes of at
/// least 4 megabytes", and "SHOULD respond [...] over this limit with [...] 413".
#[tokio::test]
async fn manifests_have_at_most_4_mib() {
    const LIMIT: usize = 4 * 1024 * 1024;
    for server in servers().await {
        let image = server.image("large", 7, "").await;
        for (length, status) in [(4_000_000, 201), (LIMIT, 201), (LIMIT + 1, 413)] {
            let annotation = r#","annotations":{"x":""#;
            let frame = image.bytes.len() + annotation.len() + 2;
            let filled = format!("{annotation}{}\"}}", "x".repeat(length - frame));
            let mut text = String::from_utf8(image.bytes.to_vec()).unwrap();
            text.insert_str(text.len() - 1, &filled);
            assert_eq!(text.len(), length);
            let put =
                Request::put("/v2/large/manifests/t").header("content-type", image.media_type);
            for request in [put.clone().body(&text), put.streamed(&text)] {
                let reply = server.send(request).await;
                assert_eq!(reply.status, status, "{length}: {reply:?}");
                if status == 413 {
                    assert_eq!(reply.codes(), ["MANIFEST_INVALID"]);
                } else {
                    assert!(server.get("/v2/large/manifests/t").await.body == text.as_bytes());
                }
            }
        }
    }
}

/// "Pushing Manifests with Subject": the answer names it, and it need not exist.
#[tokio::test]
async fn a_subject_is_told_back() {
    for server in servers().await {
        let missing = descriptor(media_type::OCI_IMAGE_MANIFEST, b"missing");
        let subject = format!(r#","subject":{missing}"#);
        let digest = Digest::canonical(b"missing").to_string();
        let image = server.image("subject", 8, &subject).await;
        let index = index_of(&[], &subject);
        for manifest in [image, index] {
            let reply = server.push_manifest("subject", "t", &manifest).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            assert_eq!(reply.get("oci-subject"), Some(&*digest));
        }
        let plain = server.image("subject", 9, "").await;
        let reply = server.push_manifest("subject", "t", &plain).await;
        assert_eq!((reply.status, reply.get("oci-subject")), (201, None));
    }
}

/// Docker's types, which are of the same form.
#[tokio::test]
async fn docker_manifests_are_taken() {
    for server in servers().await {
        server.push_blob("docker", b"{}").await;
        let layer = random(10, 30);
        server.push_blob("docker", &layer).await;
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            media_type::DOCKER_MANIFEST,
            descriptor("application/vnd.docker.container.image.v1+json", b"{}"),
            descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", &layer),
        );
        let image = Content::new(media_type::DOCKER_MANIFEST, text);
        assert_eq!(
            server.push_manifest("docker", "t", &image).await.status,
            201
        );
        let entry = image
            .descriptor()
            .replace('}', r#","platform":{"os":"linux","architecture":"amd64"}}"#);
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{entry}]}}"#,
            media_type::DOCKER_MANIFEST_LIST,
        );
        let list = Content::new(media_type::DOCKER_MANIFEST_LIST, text);
        assert_eq!(server.push_manifest("docker", "l", &list).await.status, 201);
        let reply = server.get("/v2/docker/manifests/l").await;
        assert_eq!(
            reply.get("content-type"),
            Some(media_type::DOCKER_MANIFEST_LIST)
        );
        // A client that takes images only gets the one for linux/amd64, as from Distribution.
        let old =
            Request::get("/v2/docker/manifests/l").header("accept", media_type::DOCKER_MANIFEST);
        let reply = server.send(old).await;
        assert_eq!(reply.get("content-type"), Some(media_type::DOCKER_MANIFEST));
        assert_eq!(
            reply.get("docker-content-digest"),
            Some(&*image.digest().to_string())
        );
        assert!(reply.body == image.bytes);
    }
}
