//! "Pushing blobs".

use wharfinger_oci::{Algorithm, Digest};

use crate::servers;
use crate::support::{Request, Running, escaped, random};

fn sha512(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, content)
}

/// Checks that a blob can be pulled from where its push said it is.
async fn is_pullable(server: &Running, location: &str, content: &[u8]) {
    let reply = server.get(location).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.body == content, "the blob has other bytes");
}

/// "POST then PUT".
#[tokio::test]
async fn a_blob_is_pushed_by_post_and_put() {
    for server in servers().await {
        for content in [random(1, 10), random(2, 300_000), Vec::new()] {
            let digest = Digest::canonical(&content);
            let location = server.open_upload("a/b").await;
            let put = Request::put(&format!("{location}&digest={digest}"))
                .header("content-type", "application/octet-stream")
                .body(&content);
            let reply = server.send(put).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            assert_eq!(
                reply.get("docker-content-digest"),
                Some(&*digest.to_string())
            );
            assert_eq!(reply.location(), format!("/v2/a/b/blobs/{digest}"));
            is_pullable(&server, &reply.location(), &content).await;
        }
    }
}

/// "Single POST".
#[tokio::test]
async fn a_blob_is_pushed_by_a_single_post() {
    for server in servers().await {
        let content = random(3, 100_000);
        for digest in [Digest::canonical(&content), sha512(&content)] {
            let path = format!(
                "/v2/one/blobs/uploads/?digest={}",
                escaped(&digest.to_string())
            );
            let reply = server.send(Request::post(&path).body(&content)).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            assert_eq!(
                reply.get("docker-content-digest"),
                Some(&*digest.to_string())
            );
            is_pullable(&server, &reply.location(), &content).await;
        }
        let streamed = random(4, 200_000);
        let path = format!(
            "/v2/one/blobs/uploads/?digest={}",
            Digest::canonical(&streamed)
        );
        let reply = server.send(Request::post(&path).streamed(&streamed)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        is_pullable(&server, &reply.location(), &streamed).await;
    }
}

/// "Pushing a blob in chunks".
#[tokio::test]
async fn a_blob_is_pushed_in_chunks() {
    for server in servers().await {
        let content = random(5, 250_000);
        let digest = Digest::canonical(&content);
        let mut location = server.open_upload("chunks").await;
        let mut sent = 0;
        for end in [1, 90_000, 200_000] {
            let chunk = &content[sent..end];
            let patch = Request::patch(&location)
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{sent}-{}", end - 1))
                .body(chunk);
            let reply = server.send(patch).await;
            assert_eq!(reply.status, 202, "{reply:?}");
            assert_eq!(reply.get("range"), Some(&*format!("0-{}", end - 1)));
            location = reply.location();
            sent = end;

            let status = server.get(&location).await;
            assert_eq!(status.status, 204, "{status:?}");
            assert_eq!(status.get("range"), Some(&*format!("0-{}", end - 1)));
            location = status.location();
        }
        let put = Request::put(&format!("{location}&digest={digest}"))
            .header("content-range", format!("{sent}-{}", content.len() - 1))
            .body(&content[sent..]);
        let reply = server.send(put).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        is_pullable(&server, &reply.location(), &content).await;
        let after = server.get(&location).await;
        after.is_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

/// "Pushing a blob in chunks": the last chunk may be a `PATCH`, and the `PUT` then has no body.
#[tokio::test]
async fn an_upload_is_closed_without_a_body() {
    for server in servers().await {
        let content = random(6, 70_000);
        let location = server.open_upload("chunks").await;
        let reply = server.send(Request::patch(&location).body(&content)).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let digest = Digest::canonical(&content);
        let close = format!("{}&digest={digest}", reply.location());
        let reply = server.send(Request::put(&close)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        is_pullable(&server, &reply.location(), &content).await;
    }
}

/// Docker sends one `PATCH` without a length or a range.
#[tokio::test]
async fn a_blob_is_streamed() {
    for server in servers().await {
        let content = random(7, 3_000_000);
        let location = server.open_upload("stream").await;
        let reply = server
            .send(Request::patch(&location).streamed(&content))
            .await;
        assert_eq!(reply.status, 202, "{reply:?}");
        assert_eq!(reply.get("range"), Some("0-2999999"));
        let digest = Digest::canonical(&content);
        let close = format!("{}&digest={digest}", reply.location());
        let reply = server.send(Request::put(&close)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        is_pullable(&server, &reply.location(), &content).await;
    }
}

/// "If a chunk is uploaded out of order, the registry MUST respond with a 416", and "To get the
/// current status after a 416 error, issue a GET request".
#[tokio::test]
async fn chunks_out_of_order_are_refused() {
    for server in servers().await {
        let content = random(8, 1000);
        let opened = server.open_upload("order").await;
        let early = Request::patch(&opened)
            .header("content-range", "500-999")
            .body(&content[500..]);
        let reply = server.send(early).await;
        reply.is_error(416, "RANGE_INVALID");

        let first = Request::patch(&opened)
            .header("content-range", "0-499")
            .body(&content[..500]);
        let reply = server.send(first.clone()).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let location = reply.location();
        let again = Request::patch(&location)
            .header("content-range", "0-499")
            .body(&content[..500]);
        let reply = server.send(again).await;
        reply.is_error(416, "RANGE_INVALID");
        assert_eq!(
            reply.get("range"),
            Some("0-499"),
            "the answer says where to go on"
        );
        let late = Request::put(&format!(
            "{location}&digest={}",
            Digest::canonical(&content)
        ))
        .header("content-range", "400-999")
        .body(&content[400..]);
        server.send(late).await.is_error(416, "RANGE_INVALID");

        let status = server.get(&location).await;
        assert_eq!((status.status, status.get("range")), (204, Some("0-499")));
        let last = Request::put(&format!(
            "{}&digest={}",
            status.location(),
            Digest::canonical(&content)
        ))
        .header("content-range", "500-999")
        .body(&content[500..]);
        let reply = server.send(last).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        is_pullable(&server, &reply.location(), &content).await;
    }
}

/// "Obtain a session ID (`POST`)" with `digest-algorithm`.
#[tokio::test]
async fn other_digest_algorithms_are_taken() {
    for server in servers().await {
        let content = random(9, 150_000);
        for algorithm in ["sha512", "sha256"] {
            let path = format!("/v2/alg/blobs/uploads/?digest-algorithm={algorithm}");
            let reply = server.send(Request::post(&path)).await;
            assert_eq!(reply.status, 202, "{reply:?}");
            let reply = server
                .send(Request::patch(&reply.location()).body(&content))
                .await;
            assert_eq!(reply.status, 202, "{reply:?}");
            let digest = Digest::of(algorithm.parse().unwrap(), &content);
            let close = format!("{}&digest={digest}", reply.location());
            let reply = server.send(Request::put(&close)).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            assert_eq!(
                reply.get("docker-content-digest"),
                Some(&*digest.to_string())
            );
            is_pullable(&server, &format!("/v2/alg/blobs/{digest}"), &content).await;
        }
        let unknown = server
            .send(Request::post("/v2/alg/blobs/uploads/?digest-algorithm=md5"))
            .await;
        unknown.is_error(400, "DIGEST_INVALID");
        // The algorithm of the digest at the end decides, announced or not.
        let location = server.open_upload("alg").await;
        let content = random(10, 150_000);
        let reply = server.send(Request::patch(&location).body(&content)).await;
        let close = format!("{}&digest={}", reply.location(), sha512(&content));
        assert_eq!(server.send(Request::put(&close)).await.status, 201);
        is_pullable(
            &server,
            &format!("/v2/alg/blobs/{}", sha512(&content)),
            &content,
        )
        .await;
    }
}

/// "if the client provided digest is invalid or uses an unsupported algorithm, the registry
/// SHOULD respond with a response code 400".
#[tokio::test]
async fn wrong_digests_are_refused() {
    for server in servers().await {
        let content = random(11, 100);
        let other = Digest::canonical(b"other");
        let path = format!("/v2/wrong/blobs/uploads/?digest={other}");
        let reply = server.send(Request::post(&path).body(&content)).await;
        reply.is_error(400, "DIGEST_INVALID");
        let bad = [
            "sha256:abc",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            "nothing",
            "sha256%3A",
        ];
        for bad in bad {
            let path = format!("/v2/wrong/blobs/uploads/?digest={bad}");
            let reply = server.send(Request::post(&path).body(&content)).await;
            reply.is_error(400, "DIGEST_INVALID");
            let location = server.open_upload("wrong").await;
            let put = Request::put(&format!("{location}&digest={bad}")).body(&content);
            server.send(put).await.is_error(400, "DIGEST_INVALID");
        }
        let location = server.open_upload("wrong").await;
        server
            .send(Request::put(&location).body(&content))
            .await
            .is_error(400, "DIGEST_INVALID");
        let put = Request::put(&format!("{location}&digest={other}")).body(&content);
        server.send(put).await.is_error(400, "DIGEST_INVALID");
        let reply = server.head(&format!("/v2/wrong/blobs/{other}")).await;
        assert_eq!(reply.status, 404);
        server
            .get(&location)
            .await
            .is_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

/// "Cancel a blob upload".
#[tokio::test]
async fn an_upload_is_canceled() {
    for server in servers().await {
        let location = server.open_upload("cancel").await;
        let reply = server
            .send(Request::patch(&location).body(random(12, 100_000)))
            .await;
        let location = reply.location();
        let reply = server.delete(&location).await;
        assert_eq!(reply.status, 204, "{reply:?}");
        for method in ["GET", "PATCH", "DELETE"] {
            let reply = server.send(Request::new(method, &location)).await;
            reply.is_error(404, "BLOB_UPLOAD_UNKNOWN");
        }
    }
}

/// "Mounting a blob from another repository".
#[tokio::test]
async fn a_blob_is_mounted() {
    for server in servers().await {
        let content = random(13, 5000);
        let digest = server.push_blob("from/here", &content).await;
        let query = format!("mount={digest}&from=from%2Fhere");
        let reply = server
            .send(Request::post(&format!("/v2/to/blobs/uploads/?{query}")))
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
        assert_eq!(reply.location(), format!("/v2/to/blobs/{digest}"));
        assert_eq!(
            reply.get("docker-content-digest"),
            Some(&*digest.to_string())
        );
        is_pullable(&server, &reply.location(), &content).await;

        // Without `from`: "it MAY cross-mount the blob if it can be found".
        let path = format!("/v2/anonymous/blobs/uploads/?mount={digest}");
        let reply = server.send(Request::post(&path)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        is_pullable(&server, &reply.location(), &content).await;
    }
}

/// "if a registry [...] is unable to mount the requested blob, it SHOULD return a 202".
#[tokio::test]
async fn what_cannot_be_mounted_opens_an_upload() {
    for server in servers().await {
        let content = random(14, 5000);
        let there = server.push_blob("there", &content).await;
        let missing = Digest::canonical(b"missing");
        let queries = [
            format!("mount={missing}&from=there"),
            format!("mount={missing}"),
            format!("mount={there}&from=elsewhere"),
            format!("mount={there}&from=Not%20A%20Name"),
        ];
        for query in queries {
            let path = format!("/v2/mounting/blobs/uploads/?{query}");
            let reply = server.send(Request::post(&path)).await;
            assert_eq!(reply.status, 202, "{query}: {reply:?}");
            let put = Request::put(&format!("{}&digest={there}", reply.location())).body(&content);
            assert_eq!(server.send(put).await.status, 201, "{query}");
        }
    }
}

/// The same content pushed twice, and a push into a repository of what another one has.
#[tokio::test]
async fn what_the_store_has_is_taken_again() {
    for server in servers().await {
        let content = random(15, 400_000);
        for name in ["twice", "twice", "other"] {
            let digest = server.push_blob(name, &content).await;
            is_pullable(&server, &format!("/v2/{name}/blobs/{digest}"), &content).await;
        }
    }
}
