//! What no well-behaved client sends: it must be refused cleanly, and harm nobody else.

mod support;

use serde_json::json;
use support::{Content, Request, Running, descriptor, escaped, image_of, random, server};
use wharfinger_oci::{Digest, media_type};

/// The server still works for everybody else.
async fn is_well(server: &Running) {
    let digest = server.push_blob("well", b"well").await;
    let reply = server.get(&format!("/v2/well/blobs/{digest}")).await;
    assert_eq!((reply.status, &*reply.body), (200, &b"well"[..]));
}

#[tokio::test]
async fn names_that_are_none_are_refused() {
    let server = server().await;
    let long = format!("{}/b", "a".repeat(255));
    let bad = [
        "A",
        "a/B",
        "-a",
        "a-",
        "a..b",
        "a___b",
        "a._b",
        "_a",
        "a//b",
        "a/",
        "/a",
        ".",
        "..",
        "a/../b",
        "a/./b",
        "%2e%2e/a",
        "a/%2E%2E/b",
        "a%2f..%2fb",
        "a%00b",
        "a%0ab",
        "%ff",
        "a%20b",
        "a+b",
        "%c3%a4",
        "a\\b",
        &long,
    ];
    let digest = Digest::canonical(b"x");
    for name in bad {
        for end in [
            "tags/list",
            "manifests/t",
            &format!("blobs/{digest}"),
            &format!("referrers/{digest}"),
        ] {
            let reply = server.get(&format!("/v2/{name}/{end}")).await;
            reply.is_error(400, "NAME_INVALID");
        }
        let reply = server
            .send(Request::post(&format!("/v2/{name}/blobs/uploads/")))
            .await;
        reply.is_error(400, "NAME_INVALID");
    }
    is_well(&server).await;
    let longest = "a".repeat(255);
    assert_eq!(
        server.push_image(&longest, "t", 1).await.media_type,
        media_type::OCI_IMAGE_MANIFEST
    );
}

#[tokio::test]
async fn tags_that_are_none_are_refused() {
    let server = server().await;
    let image = server.image("a", 1, "").await;
    let long = "t".repeat(129);
    for tag in [
        ".t", "-t", "t%00", "..", "%2e%2e", "t%20", "t%c3%a4", "t@x", &long,
    ] {
        let reply = server.push_manifest("a", tag, &image).await;
        reply.is_error(400, "TAG_INVALID");
        let path = format!("/v2/a/manifests/{}?tag={tag}", image.digest());
        let put = Request::put(&path)
            .header("content-type", image.media_type)
            .body(&image.bytes);
        server.send(put).await.is_error(400, "TAG_INVALID");
    }
    let put = Request::put(&format!("/v2/a/manifests/{}?tag=", image.digest()))
        .header("content-type", image.media_type)
        .body(&image.bytes);
    server.send(put).await.is_error(400, "TAG_INVALID");
    let longest = "t".repeat(128);
    assert_eq!(
        server.push_manifest("a", &longest, &image).await.status,
        201
    );
}

#[tokio::test]
async fn digests_that_are_none_are_refused() {
    let server = server().await;
    let hex = Digest::canonical(b"x").hex();
    let bad = [
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha256:{}", hex.to_uppercase()),
        format!("SHA256:{hex}"),
        format!("sha512:{hex}"),
        format!("sha256%00:{hex}"),
        format!("sha256:%2e%2e{}", &hex[2..]),
        "sha256:".to_owned(),
        ":".to_owned(),
        "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned(),
    ];
    for digest in bad {
        for kind in ["blobs", "manifests", "referrers"] {
            let reply = server.get(&format!("/v2/a/{kind}/{digest}")).await;
            reply.is_error(400, "DIGEST_INVALID");
        }
        let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
        server
            .send(Request::post(&path))
            .await
            .is_error(400, "DIGEST_INVALID");
    }
    for id in [
        "x",
        "..",
        "%2e%2e",
        "00000000-0000-4000-8000-00000000000G",
        "{00000000-0000-4000-8000-000000000000}",
    ] {
        let reply = server.get(&format!("/v2/a/blobs/uploads/{id}")).await;
        reply.is_error(404, "BLOB_UPLOAD_UNKNOWN");
    }
}

#[tokio::test]
async fn paths_cannot_leave_the_api() {
    let server = server().await;
    let hex = Digest::canonical(b"x").hex();
    for path in [
        "/v2/../../etc/passwd",
        "/../v2/",
        "//v2/",
        "/v2//",
        "/%2e%2e/v2/",
        "/v2/%2e%2e/%2e%2e/etc/passwd",
        "/v2/a/blobs",
        "/v2/_catalog/",
        "/v2/a/manifests/t%2ft",
        &format!("/v2/a/blobs/sha256:..%2f{}", &hex[5..]),
        "/v2/a/tags/list/",
        "/v2/a/_manifests/tags",
        "/v2/a/_layers/sha256",
        "/docker/registry/v2/blobs/",
        &format!("/v2/blobs/sha256:{hex}"),
    ] {
        server.get(path).await.is_error(404, "UNSUPPORTED");
    }
    is_well(&server).await;
}

/// Manifests that are refused whole, each for one reason.
#[tokio::test]
async fn manifests_that_are_none_are_refused() {
    let server = server().await;
    let image = server.image("a", 1, "").await;
    let good = String::from_utf8(image.bytes.to_vec()).unwrap();
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
        media_type::OCI_IMAGE_INDEX
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = good.replacen(
        '{',
        &format!(r#"{{"x":{}{},"#, "[".repeat(65), "]".repeat(65)),
        1,
    );
    let bad = [
        String::new(),
        "{}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "{".to_owned(),
        "\u{feff}{}".to_owned(),
        deep,
        deep_field,
        format!("{good}{good}"),
        format!("{good}x"),
        good[..good.len() - 1].to_owned(),
        good.replace(r#""schemaVersion":2"#, r#""schemaVersion":3"#),
        good.replace(r#""schemaVersion":2"#, r#""schemaVersion":"2""#),
        good.replace(r#""schemaVersion":2,"#, ""),
        good.replacen('{', r#"{"schemaVersion":2,"#, 1),
        good.replacen('{', r#"{"x":{"y":1,"y":1},"#, 1),
        good.replace(r#""layers""#, r#""manifests""#),
        good.replacen('{', r#"{"manifests":[],"#, 1),
        good.replace("sha256:", "sha257:"),
        good.replace("sha256:", "SHA256:"),
        good.replace(r#""size":"#, r#""size":-"#),
        good.replace(r#""size":"#, r#""size":1."#),
        good.replace(r#""size":500"#, r#""size":501"#),
        good.replace(r#""size":500"#, r#""size":99999999999999999999999"#),
        good.replace(r#""layers":["#, r#""layers":[null,"#),
        good.replace(media_type::OCI_IMAGE_MANIFEST, media_type::DOCKER_MANIFEST),
        index.clone(),
    ];
    for (number, text) in bad.into_iter().enumerate() {
        let manifest = Content::new(image.media_type, text);
        let reply = server.push_manifest("a", "t", &manifest).await;
        assert_eq!(
            reply.status,
            400,
            "{number}: {:?}",
            &manifest.bytes[..manifest.bytes.len().min(300)]
        );
        reply.is_error(400, "MANIFEST_INVALID");
    }
    for bytes in [&b"\xff\xfe{}"[..], b"\0", &[0xc3; 1000]] {
        let manifest = Content::new(image.media_type, bytes.to_vec());
        server
            .push_manifest("a", "t", &manifest)
            .await
            .is_error(400, "MANIFEST_INVALID");
    }
    assert_eq!(server.get("/v2/a/manifests/t").await.status, 404);
    let name = "a".parse().unwrap();
    assert!(
        server
            .registry
            .repository(&name)
            .tags()
            .list(None, None)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

#[tokio::test]
async fn media_types_that_are_none_are_refused() {
    let server = server().await;
    let image = server.image("a", 1, "").await;
    for content_type in [
        "text/plain",
        "application/octet-stream",
        media_type::OCI_IMAGE_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::SCHEMA1_SIGNED_MANIFEST,
        "application/vnd.oci.image.manifest.v2+json",
        "x",
        "/",
    ] {
        let put = Request::put("/v2/a/manifests/t")
            .header("content-type", content_type)
            .body(&image.bytes);
        server.send(put).await.is_error(400, "MANIFEST_INVALID");
    }
}

#[tokio::test]
async fn urls_that_are_none_are_refused() {
    let server = server().await;
    server.push_blob("a", b"{}").await;
    for url in [
        "file:///etc/passwd",
        "javascript:1",
        "http://",
        "//x",
        "https://x/#y",
        "",
        "ftp://x/y",
    ] {
        let layer = descriptor(
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            b"far",
        );
        let layer = layer.replace('}', &format!(r#","urls":["{url}"]}}"#));
        let mut image = image_of(b"{}", &[], "");
        let text = String::from_utf8(image.bytes.to_vec()).unwrap();
        image.bytes = text.replace("[]", &format!("[{layer}]")).into();
        server
            .push_manifest("a", "t", &image)
            .await
            .is_error(400, "MANIFEST_INVALID");
    }
}

#[tokio::test]
async fn ranges_of_chunks_are_checked() {
    let server = server().await;
    let upload = server.open_upload("a").await;
    let patch = |range: &str| {
        Request::patch(&upload)
            .header("content-range", range)
            .body("0123456789")
    };
    for bad in [
        "",
        "x",
        "0",
        "-",
        "0-",
        "-9",
        "9-0",
        "0-9-9",
        "+0-9",
        "0x0-0x9",
        "0-99999999999999999999",
    ] {
        let reply = server.send(patch(bad)).await;
        reply.is_error(400, "RANGE_INVALID");
    }
    for out_of_order in ["1-10", "5-14", "9223372036854775807-9223372036854775816"] {
        server
            .send(patch(out_of_order))
            .await
            .is_error(416, "RANGE_INVALID");
    }
    for wrong_length in ["0-8", "0-10", "0-0"] {
        server
            .send(patch(wrong_length))
            .await
            .is_error(400, "SIZE_INVALID");
    }
    // Without a length the range is held against what comes.
    let streamed = |range: &str| {
        Request::patch(&upload)
            .header("content-range", range)
            .streamed("0123456789")
    };
    for wrong_length in ["0-8", "0-10"] {
        server
            .send(streamed(wrong_length))
            .await
            .is_error(400, "SIZE_INVALID");
    }
    let status = server.get(&upload).await;
    assert_eq!(
        (status.status, status.get("range")),
        (204, Some("0-0")),
        "nothing was taken"
    );
    let reply = server.send(patch("0-9")).await;
    assert_eq!((reply.status, reply.get("range")), (202, Some("0-9")));
    // The old location knows of an offset that is past.
    server
        .send(Request::patch(&upload).body("x"))
        .await
        .is_error(416, "RANGE_INVALID");
}

#[tokio::test]
async fn states_that_the_registry_did_not_sign_are_refused() {
    let server = server().await;
    let upload = server.open_upload("a").await;
    let other = server.open_upload("a").await;
    let elsewhere = server.open_upload("b").await;
    let digest = Digest::canonical(b"content");
    let (path, state) = upload.split_once("?_state=").unwrap();
    let state = state.replace("%3D", "=");
    let flipped = {
        let last = state.len() / 2;
        let c = if &state[last..=last] == "A" { "B" } else { "A" };
        format!("{}{c}{}", &state[..last], &state[last + 1..])
    };
    let foreign = |location: &str| location.split_once("?_state=").unwrap().1.to_owned();
    let forged = [
        String::new(),
        "A".to_owned(),
        escaped("{}"),
        escaped(&flipped),
        escaped(&state[..40]),
        foreign(&other),
        foreign(&elsewhere),
        format!("{}&x=", "A".repeat(20_000)),
    ];
    for state in &forged {
        let location = format!("{path}?_state={state}");
        let requests = [
            Request::patch(&location).body("content"),
            Request::put(&format!("{location}&digest={digest}")).body("content"),
            Request::new("DELETE", &location),
        ];
        for request in requests {
            server
                .send(request)
                .await
                .is_error(404, "BLOB_UPLOAD_INVALID");
        }
    }
    for method in ["PATCH", "PUT", "DELETE"] {
        let reply = server
            .send(Request::new(method, &format!("{path}?digest={digest}")))
            .await;
        reply.is_error(404, "BLOB_UPLOAD_INVALID");
    }
    // The right state under another repository's path.
    let moved = upload.replacen("/v2/a/", "/v2/b/", 1);
    server
        .send(Request::patch(&moved).body("x"))
        .await
        .is_error(404, "BLOB_UPLOAD_INVALID");
    let status = server.get(&upload).await;
    assert_eq!((status.status, status.get("range")), (204, Some("0-0")));
    // A state of an upload that has ended.
    assert_eq!(server.delete(&other).await.status, 204);
    server
        .send(Request::patch(&other).body("x"))
        .await
        .is_error(404, "BLOB_UPLOAD_UNKNOWN");
    let put = Request::put(&format!("{upload}&digest={digest}")).body("content");
    assert_eq!(server.send(put).await.status, 201);
}

/// Sizes in descriptors are held against the content that is there.
#[tokio::test]
async fn sizes_in_an_index_are_checked() {
    let server = server().await;
    let image = server.push_image("a", "t", 1).await;
    let lie = image
        .descriptor()
        .replace(&format!(":{}", image.bytes.len()), ":1");
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{lie}]}}"#,
        media_type::OCI_IMAGE_INDEX
    );
    let index = Content::new(media_type::OCI_IMAGE_INDEX, text);
    server
        .push_manifest("a", "i", &index)
        .await
        .is_error(400, "MANIFEST_INVALID");
}

#[tokio::test]
async fn queries_that_make_no_sense_are_harmless() {
    let server = server().await;
    server.push_image("a", "t", 1).await;
    for query in [
        "%",
        "%zz",
        "=",
        "&&&",
        "a=%ff",
        "last=%00",
        "last=../..",
        "last=%2e%2e%2f",
        "last=%7f",
    ] {
        let reply = server.get(&format!("/v2/a/tags/list?{query}")).await;
        assert_eq!(reply.status, 200, "{query}: {reply:?}");
        let reply = server.get(&format!("/v2/_catalog?{query}")).await;
        assert_eq!(reply.status, 200, "{query}: {reply:?}");
        let digest = Digest::canonical(b"x");
        let reply = server
            .get(&format!("/v2/a/referrers/{digest}?{query}"))
            .await;
        assert_eq!(reply.json()["manifests"], json!([]), "{query}");
    }
    let long = random(1, 30_000)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    let reply = server
        .get(&format!("/v2/a/tags/list?last={}", &long[..20_000]))
        .await;
    assert_eq!(reply.status, 200);
}
