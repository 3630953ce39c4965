//! Clients that stall, vanish, or speak HTTP so that two readers could take it differently.

mod support;

use std::time::Duration;

use support::{Options, Request, Running, Store, deleting, quiet, random, server};
use wharfinger_oci::Digest;

/// Whether the server answers an ordinary request.
async fn is_well(server: &Running) {
    assert_eq!(server.get("/v2/").await.status, 200);
}

/// Waits until an upload stands at `range`.
async fn stands_at(server: &Running, upload: &str, range: &str) -> String {
    for _ in 0..200 {
        let reply = server.get(upload).await;
        if reply.get("range") == Some(range) {
            return reply.location();
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the upload does not get to {range}");
}

/// RFC 9112, section 11.2: what could be read as two requests must not be read at all.
#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let server = server().await;
    let bad = [
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "Content-Length: 5, 6\r\n\r\nhello!",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 0x5\r\n\r\nhello",
        "Content-Length: 99999999999999999999999\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n",
        "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        "X: a\r\n b\r\n\r\n",
        "X : a\r\n\r\n",
        "X\r\n\r\n",
        "\0: a\r\n\r\n",
    ];
    for headers in bad {
        let mut connection = server.connect().await;
        let head = format!(
            "POST /v2/a/blobs/uploads/?digest={} HTTP/1.1\r\nHost: a\r\n",
            Digest::canonical(b"")
        );
        connection.write(format!("{head}{headers}")).await;
        if let Some(reply) = connection.reply(false).await {
            assert_eq!(reply.status, 400, "{headers:?}: {reply:?}");
        }
        // Nothing behind it may be taken for a request of its own.
        assert!(connection.is_closed().await, "{headers:?}");
    }
    is_well(&server).await;
}

/// RFC 9112, section 6.3: with both, the transfer encoding counts, and the connection ends.
#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    let server = server().await;
    let digest = Digest::canonical(b"hello");
    for (first, second) in [
        ("Content-Length: 3", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 400"),
    ] {
        let mut connection = server.connect().await;
        let smuggled = "DELETE /v2/a/manifests/t HTTP/1.1\r\nHost: a\r\n\r\n";
        let request = format!(
            "POST /v2/a/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: a\r\n{first}\r\n{second}\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n{smuggled}"
        );
        connection.write(request).await;
        let reply = connection.reply(false).await;
        if let Some(reply) = reply {
            assert!(matches!(reply.status, 201 | 400), "{reply:?}");
        }
        assert!(
            connection.is_closed().await,
            "the rest must not be read as a request"
        );
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let server = server().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /v2/\r\n\r\n",
        b"GET /v2/ HTTP/3.0\r\n\r\n",
        b"GET  /v2/  HTTP/1.1\r\n\r\n",
        b"\r\n\r\n\r\nnonsense nonsense nonsense\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        &[0; 4096],
    ] {
        let mut connection = server.connect().await;
        connection.write(bytes).await;
        connection.finish().await;
        if let Some(reply) = connection.reply(false).await {
            assert_eq!(reply.status, 400, "{reply:?}");
        }
        assert!(connection.is_closed().await);
    }
    is_well(&server).await;
}

/// RFC 6585, section 5.
#[tokio::test]
async fn headers_have_a_limit() {
    let options = Options {
        max_header_size: 16 * 1024,
        ..quiet()
    };
    let server = Running::start(Store::Memory, deleting(), options).await;
    let fits = Request::get("/v2/").header("x-large", "x".repeat(10_000));
    assert_eq!(server.send(fits).await.status, 200);
    for request in [
        Request::get("/v2/").header("x-large", "x".repeat(40_000)),
        (0..500).fold(Request::get("/v2/"), |request, n| {
            request.header(&format!("x-{n}"), "1")
        }),
    ] {
        let mut connection = server.connect().await;
        let reply = connection.send(&request).await;
        assert_eq!(reply.status, 431, "{reply:?}");
        assert!(connection.is_closed().await);
    }
    is_well(&server).await;
}

fn impatient() -> Options {
    Options {
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..quiet()
    }
}

#[tokio::test]
async fn slow_headers_end_the_connection() {
    let server = Running::start(Store::Memory, deleting(), impatient()).await;
    for start in [
        "",
        "GET /v2/ HT",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nX-Slow: ",
    ] {
        let mut connection = server.connect().await;
        connection.write(start).await;
        let reply = connection.reply(false).await;
        assert!(reply.is_none_or(|reply| reply.status == 408), "{start:?}");
        assert!(connection.is_closed().await, "{start:?}");
    }
    // A client that sends a byte now and then has no more time than one that sends none.
    let mut connection = server.connect().await;
    let began = tokio::time::Instant::now();
    connection.write("GET /v2/ HTTP/1.1\r\nX: ").await;
    let drip = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if !connection.try_write("x").await {
                break;
            }
        }
    };
    let dripping = tokio::time::timeout(Duration::from_secs(10), drip).await;
    assert!(dripping.is_ok(), "still open after {:?}", began.elapsed());
}

#[tokio::test]
async fn a_connection_that_is_not_used_is_closed_in_the_end() {
    let options = Options {
        idle_timeout: Duration::from_millis(300),
        ..quiet()
    };
    let server = Running::start(Store::Memory, deleting(), options).await;
    let mut connection = server.connect().await;
    for _ in 0..2 {
        let reply = connection.send(&Request::get("/v2/")).await;
        assert_eq!(reply.status, 200);
    }
    assert!(connection.is_closed().await);
}

/// A body that stalls ends its request; what came before it is kept.
#[tokio::test]
async fn a_stalled_upload_keeps_what_it_has() {
    for store in Store::ALL {
        let server = Running::start(store, deleting(), impatient()).await;
        let content = random(1, 300_000);
        let upload = server.open_upload("slow").await;
        let mut connection = server.connect().await;
        let head = format!("PATCH {upload} HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
        connection.write(head).await;
        connection.write(&content[..200_000]).await;
        let reply = connection.reply(false).await.expect("the server says why");
        assert_eq!(reply.status, 408, "{reply:?}");
        assert!(connection.is_closed().await);
        let location = stands_at(&server, &upload, "0-199999").await;
        let close = format!("{location}&digest={}", Digest::canonical(&content));
        let reply = server
            .send(Request::put(&close).body(&content[200_000..]))
            .await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
}

#[tokio::test]
async fn a_stalled_manifest_ends_in_nothing() {
    let server = Running::start(Store::Memory, deleting(), impatient()).await;
    let mut connection = server.connect().await;
    connection
        .write("PUT /v2/a/manifests/t HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        .await;
    let reply = connection.reply(false).await.expect("the server says why");
    assert_eq!(reply.status, 408, "{reply:?}");
    assert!(connection.is_closed().await);
    assert_eq!(server.get("/v2/a/manifests/t").await.status, 404);
}

/// A client that vanishes in the middle of a chunk goes on where the server got to.
#[tokio::test]
async fn a_vanished_upload_is_resumed() {
    for store in Store::ALL {
        for chunked in [false, true] {
            let server = Running::start(store, deleting(), quiet()).await;
            let content = random(2, 400_000);
            let upload = server.open_upload("gone").await;
            let reply = server
                .send(Request::patch(&upload).body(&content[..100_000]))
                .await;
            assert_eq!(reply.status, 202);
            let mut connection = server.connect().await;
            let framing = if chunked {
                "Transfer-Encoding: chunked"
            } else {
                "Content-Length: 300000"
            };
            let head = format!(
                "PATCH {} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n",
                reply.location()
            );
            connection.write(head).await;
            if chunked {
                connection.write("186a0\r\n").await; // 100,000
            }
            connection.write(&content[100_000..200_000]).await;
            if chunked {
                connection.write("\r\n").await;
            }
            // Let the bytes arrive: a reset may take them away from the server's socket.
            tokio::time::sleep(Duration::from_millis(200)).await;
            connection.reset();
            let location = stands_at(&server, &upload, "0-199999").await;
            let close = format!("{location}&digest={}", Digest::canonical(&content));
            let reply = server
                .send(Request::put(&close).body(&content[200_000..]))
                .await;
            assert_eq!(reply.status, 201, "{reply:?}");
            assert_eq!(server.uploads_left("gone").await, 0);
        }
    }
}

/// Nobody could take up an upload whose name was never told.
#[tokio::test]
async fn a_vanished_single_post_leaves_nothing() {
    for store in Store::ALL {
        let server = Running::start(store, deleting(), quiet()).await;
        let digest = Digest::canonical(b"never");
        for reset in [true, false] {
            let mut connection = server.connect().await;
            let head = format!(
                "POST /v2/single/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"
            );
            connection.write(head).await;
            connection.write(random(3, 2_500_000)).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            if reset {
                connection.reset();
            } else {
                connection.finish().await;
                let reply = connection.reply(false).await;
                assert!(reply.is_none_or(|reply| reply.status == 400));
            }
        }
        let mut left = usize::MAX;
        for _ in 0..200 {
            left = server.uploads_left("single").await;
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        assert_eq!(left, 0, "{store:?}");
    }
}

/// A client that stops reading holds up nobody else.
#[tokio::test]
async fn a_client_that_does_not_read_is_left_alone() {
    let server = Running::start(Store::Folder, deleting(), quiet()).await;
    let content = random(4, 20_000_000);
    let digest = server.push_blob("big", &content).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        let mut connection = server.connect().await;
        let head = format!("GET /v2/big/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.write(head).await;
        idle.push(connection);
    }
    assert!(server.get(&format!("/v2/big/blobs/{digest}")).await.body == content);
    for connection in idle {
        connection.reset();
    }
    is_well(&server).await;
}
