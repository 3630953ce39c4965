//! What clients and scripts know from CNCF Distribution beyond the specification: exact headers,
//! statuses and error codes.

mod support;

use support::{Request, Running, Store, deleting, image_of, quiet, random, server};
use wharfinger_oci::Digest;
use wharfinger_registry::Options as RegistryOptions;

const API_VERSION: (&str, &str) = ("docker-distribution-api-version", "registry/2.0");

#[tokio::test]
async fn every_answer_tells_the_api_version() {
    let server = server().await;
    let digest = Digest::canonical(b"x");
    let requests = [
        Request::get("/v2/"),
        Request::get("/"),
        Request::get("/nothing"),
        Request::get("/v2/UPPER/tags/list"),
        Request::get("/v2/a/manifests/none"),
        Request::get(&format!("/v2/a/blobs/{digest}")),
        Request::post("/v2/a/blobs/uploads/"),
        Request::put("/v2/a/manifests/t").body("{}"),
        Request::new("OPTIONS", "/v2/"),
        Request::new("BREW", "/v2/"),
    ];
    for request in requests {
        let reply = server.send(request.clone()).await;
        assert_eq!(reply.all(API_VERSION.0), [API_VERSION.1], "{request:?}");
    }
}

#[tokio::test]
async fn the_base_is_an_empty_object() {
    let reply = server().await.get("/v2/").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.get("content-type"), Some("application/json"));
    assert_eq!(reply.json(), serde_json::json!({}));
}

#[tokio::test]
async fn uploads_have_distributions_headers() {
    let server = server().await;
    let reply = server.send(Request::post("/v2/a/b/blobs/uploads/")).await;
    let id = reply.get("docker-upload-uuid").unwrap().to_owned();
    assert_eq!(id.len(), 36);
    let location = reply.get("location").unwrap();
    let start = format!(
        "http://{}/v2/a/b/blobs/uploads/{id}?_state=",
        server.address
    );
    assert!(location.starts_with(&start), "{location}");
    assert_eq!(
        (
            reply.status,
            reply.get("range"),
            reply.get("content-length")
        ),
        (202, Some("0-0"), Some("0"))
    );

    let status = server.get(&reply.location()).await;
    assert_eq!((status.status, status.get("range")), (204, Some("0-0")));
    assert_eq!(status.get("docker-upload-uuid"), Some(&*id));
    assert_eq!(server.head(&reply.location()).await.status, 204);

    let reply = server
        .send(Request::patch(&reply.location()).body("0123456789"))
        .await;
    assert_eq!(
        (
            reply.status,
            reply.get("range"),
            reply.get("content-length")
        ),
        (202, Some("0-9"), Some("0"))
    );
    // Distribution tells the status without the state.
    let bare = format!("/v2/a/b/blobs/uploads/{id}");
    assert_eq!(server.get(&bare).await.status, 204);
    assert_eq!(reply.get("docker-upload-uuid"), Some(&*id));

    let digest = Digest::canonical(b"0123456789");
    let put = Request::put(&format!("{}&digest={digest}", reply.location()));
    let reply = server.send(put).await;
    assert_eq!(
        (reply.status, reply.get("content-length")),
        (201, Some("0"))
    );
    let location = format!("http://{}/v2/a/b/blobs/{digest}", server.address);
    assert_eq!(reply.get("location"), Some(&*location));
    assert_eq!(
        reply.get("docker-content-digest"),
        Some(&*digest.to_string())
    );

    let location = server.open_upload("a/b").await;
    let reply = server.delete(&location).await;
    assert_eq!(reply.status, 204);
    assert!(location.contains(reply.get("docker-upload-uuid").unwrap()));
}

#[tokio::test]
async fn blobs_have_distributions_headers() {
    for store in Store::ALL {
        let server = Running::start(store, deleting(), quiet()).await;
        let content = random(1, 200_000);
        let digest = server.push_blob("a", &content).await;
        let path = format!("/v2/a/blobs/{digest}");
        for reply in [server.get(&path).await, server.head(&path).await] {
            let expected = [
                ("content-type", "application/octet-stream"),
                ("content-length", "200000"),
                ("docker-content-digest", &digest.to_string()),
                ("etag", &format!("\"{digest}\"")),
                ("cache-control", "max-age=31536000"),
                ("accept-ranges", "bytes"),
            ];
            for (name, value) in expected {
                assert_eq!(reply.all(name), [value], "{name}");
            }
        }
    }
}

#[tokio::test]
async fn manifests_have_distributions_headers() {
    let server = server().await;
    let image = server.image("a", 1, "").await;
    let digest = image.digest().to_string();
    let reply = server.push_manifest("a", "t", &image).await;
    assert_eq!(
        (reply.status, reply.get("content-length")),
        (201, Some("0"))
    );
    let location = format!("http://{}/v2/a/manifests/{digest}", server.address);
    assert_eq!(reply.get("location"), Some(&*location));
    for reply in [
        server.get("/v2/a/manifests/t").await,
        server.head("/v2/a/manifests/t").await,
    ] {
        assert_eq!(reply.all("docker-content-digest"), [&*digest]);
        assert_eq!(reply.all("etag"), [&*format!("\"{digest}\"")]);
        assert_eq!(reply.all("content-type"), [image.media_type]);
    }
    for tag in [
        format!("\"{digest}\""),
        digest.clone(),
        format!("\"x\", \"{digest}\""),
    ] {
        let request = Request::get("/v2/a/manifests/t").header("if-none-match", tag);
        let reply = server.send(request).await;
        assert_eq!((reply.status, reply.body.len()), (304, 0));
        assert_eq!(reply.get("etag"), Some(&*format!("\"{digest}\"")));
    }
    let request = Request::get("/v2/a/manifests/t").header("if-none-match", "\"sha256:other\"");
    assert_eq!(server.send(request).await.status, 200);
}

#[tokio::test]
async fn errors_have_a_code_a_message_and_a_detail() {
    let server = server().await;
    let digest = Digest::canonical(b"unknown");
    let reply = server.get(&format!("/v2/a/blobs/{digest}")).await;
    reply.is_error(404, "BLOB_UNKNOWN");
    let error = &reply.json()["errors"][0];
    assert_eq!(error["detail"]["digest"], *digest.to_string());
    assert_eq!(error.as_object().unwrap().len(), 3);
    let reply = server.get("/v2/a/tags/list").await;
    reply.is_error(404, "NAME_UNKNOWN");
    assert_eq!(reply.json()["errors"][0]["detail"]["name"], "a");
    let head = server.head("/v2/a/tags/list").await;
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(head.get("content-type"), Some("application/json"));
    server
        .get("/no/such/path")
        .await
        .is_error(404, "UNSUPPORTED");
}

/// RFC 9110, section 15.5.6: a 405 has an `Allow`.
#[tokio::test]
async fn methods_that_a_path_has_not_are_refused() {
    let server = server().await;
    let digest = Digest::canonical(b"x");
    let upload = server.open_upload("a").await;
    let cases = [
        ("/v2/".to_owned(), "POST", "GET, HEAD"),
        ("/v2/_catalog".to_owned(), "DELETE", "GET, HEAD"),
        ("/v2/a/tags/list".to_owned(), "PUT", "GET, HEAD"),
        (format!("/v2/a/referrers/{digest}"), "PUT", "GET, HEAD"),
        ("/v2/a/blobs/uploads/".to_owned(), "GET", "POST"),
        ("/v2/a/blobs/uploads/".to_owned(), "PUT", "POST"),
        (format!("/v2/a/blobs/{digest}"), "PUT", "GET, HEAD, DELETE"),
        (
            "/v2/a/manifests/t".to_owned(),
            "PATCH",
            "GET, HEAD, PUT, DELETE",
        ),
        (upload, "POST", "GET, HEAD, PATCH, PUT, DELETE"),
    ];
    for (path, method, allow) in cases {
        for method in [method, "BREW"] {
            let reply = server.send(Request::new(method, &path)).await;
            reply.is_error(405, "UNSUPPORTED");
            assert_eq!(reply.all("allow"), [allow], "{method} {path}");
        }
        let options = server.send(Request::new("OPTIONS", &path)).await;
        assert_eq!((options.status, options.all("allow")), (200, vec![allow]));
    }
}

#[tokio::test]
async fn what_is_switched_off_is_unsupported() {
    let server = Running::start(Store::Memory, RegistryOptions::default(), quiet()).await;
    let image = server.push_image("a", "t", 1).await;
    let cases = [
        ("/v2/a/manifests/t".to_owned(), "GET, HEAD, PUT"),
        (
            format!("/v2/a/manifests/{}", image.digest()),
            "GET, HEAD, PUT",
        ),
        (
            format!("/v2/a/blobs/{}", Digest::canonical(b"never")),
            "GET, HEAD",
        ),
    ];
    for (path, allow) in cases {
        let reply = server.delete(&path).await;
        reply.is_error(405, "UNSUPPORTED");
        assert_eq!(reply.all("allow"), [allow], "{path}");
    }
    // An upload is no content yet: it can be given up.
    let upload = server.open_upload("a").await;
    assert_eq!(server.delete(&upload).await.status, 204);
}

#[tokio::test]
async fn a_read_only_registry_takes_nothing() {
    let server = server().await;
    let image = server.push_image("a", "t", 1).await;
    let layer = server.push_blob("a", b"layer").await;
    let upload = server.open_upload("a").await;
    server.registry.make_read_only().await;
    let digest = Digest::canonical(b"content");
    let writes = [
        Request::post("/v2/a/blobs/uploads/"),
        Request::post(&format!("/v2/a/blobs/uploads/?digest={digest}")).body("content"),
        Request::post(&format!("/v2/b/blobs/uploads/?mount={layer}&from=a")),
        Request::patch(&upload).body("content"),
        Request::put(&format!("{upload}&digest={digest}")).body("content"),
        Request::put("/v2/a/manifests/other")
            .header("content-type", image.media_type)
            .body(&image.bytes),
        Request::new("DELETE", "/v2/a/manifests/t"),
        Request::new("DELETE", &format!("/v2/a/manifests/{}", image.digest())),
        Request::new("DELETE", &format!("/v2/a/blobs/{layer}")),
        Request::new("DELETE", &upload),
    ];
    for request in &writes {
        let reply = server.send(request.clone()).await;
        assert_eq!(reply.status, 405, "{request:?}: {reply:?}");
        reply.is_error(405, "UNSUPPORTED");
        let allow = reply.get("allow").unwrap_or("none");
        assert!(
            !allow.contains("PUT") && !allow.contains("DELETE"),
            "{request:?}: {allow}"
        );
    }
    assert!(server.get("/v2/a/manifests/t").await.body == image.bytes);
    assert_eq!(
        server.get("/v2/a/tags/list").await.json()["tags"],
        serde_json::json!(["t"])
    );
    assert_eq!(server.get(&upload).await.status, 204);
    assert_eq!(
        server.head(&format!("/v2/a/blobs/{layer}")).await.status,
        200
    );
    server.registry.make_writable().await.unwrap();
    let put = Request::put(&format!("{upload}&digest={digest}")).body("content");
    assert_eq!(server.send(put).await.status, 201);
}

/// Docker's client says it streams: any content type does for a chunk.
#[tokio::test]
async fn a_chunk_needs_no_content_type() {
    let server = server().await;
    for content_type in [None, Some("application/octet-stream"), Some("")] {
        let upload = server.open_upload("a").await;
        let mut patch = Request::patch(&upload).body("content");
        if let Some(content_type) = content_type {
            patch = patch.header("content-type", content_type);
        }
        assert_eq!(server.send(patch).await.status, 202);
    }
}

/// Scripts push with `Content-Type: application/json`, or with none.
#[tokio::test]
async fn the_media_type_may_stand_in_the_manifest_alone() {
    let server = server().await;
    let image = server.image("a", 1, "").await;
    for content_type in [None, Some("application/json")] {
        let mut put = Request::put("/v2/a/manifests/t").body(&image.bytes);
        if let Some(content_type) = content_type {
            put = put.header("content-type", content_type);
        }
        assert_eq!(server.send(put).await.status, 201, "{content_type:?}");
        let reply = server.get("/v2/a/manifests/t").await;
        assert_eq!(reply.get("content-type"), Some(image.media_type));
    }
    let reply = server
        .push_manifest("a", "t", &image_of(b"none", &[], ""))
        .await;
    reply.is_error(400, "MANIFEST_BLOB_UNKNOWN");
}

/// A state signed by one node is taken by every other that shares the secret.
#[tokio::test]
async fn nodes_with_one_secret_share_uploads() {
    let shared = support::Options {
        secret: Some("a secret of all nodes".to_owned()),
        ..quiet()
    };
    let first = Running::start(Store::Folder, deleting(), shared.clone()).await;
    let second = Running::over(first.driver.clone(), deleting(), shared).await;
    let stranger = Running::over(first.driver.clone(), deleting(), quiet()).await;
    let content = random(2, 150_000);
    let upload = first.open_upload("a").await;
    assert_eq!(first.uploads_left("a").await, 0);
    let told = second.get(&upload).await;
    assert_eq!((told.status, told.get("range")), (204, Some("0-0")));
    let reply = second
        .send(Request::patch(&told.location()).body(&content[..100_000]))
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    let digest = Digest::canonical(&content);
    let close = format!("{}&digest={digest}", reply.location());
    let put = Request::put(&close).body(&content[100_000..]);
    stranger
        .send(put.clone())
        .await
        .is_error(404, "BLOB_UPLOAD_INVALID");
    assert_eq!(first.send(put).await.status, 201);
    for over in [upload, told.location()] {
        first.get(&over).await.is_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
    assert!(second.get(&format!("/v2/a/blobs/{digest}")).await.body == content);
}
