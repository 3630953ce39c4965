//! Parts of blobs, and conditions (RFC 9110, sections 13 and 14).

mod support;

use support::{Reply, Request, Running, Store, deleting, quiet, random};
use wharfinger_oci::Digest;

/// A blob on a server: one that is served from memory, and one that is served from its file.
struct Served {
    server: Running,
    content: Vec<u8>,
    digest: Digest,
}

async fn served() -> Vec<Served> {
    let mut all = Vec::new();
    for store in Store::ALL {
        for size in [1000, 700_000] {
            let server = Running::start(store, deleting(), quiet()).await;
            let content = random(size as u64, size);
            let digest = server.push_blob("a", &content).await;
            all.push(Served {
                server,
                content,
                digest,
            });
        }
    }
    all
}

impl Served {
    async fn ask(&self, method: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::new(method, &format!("/v2/a/blobs/{}", self.digest));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        self.server.send(request).await
    }

    fn etag(&self) -> String {
        format!("\"{}\"", self.digest)
    }

    fn is_whole(&self, reply: &Reply, why: &str) {
        assert_eq!(reply.status, 200, "{why}");
        assert_eq!(reply.get("content-range"), None, "{why}");
        assert!(reply.body == self.content, "{why}");
    }
}

#[tokio::test]
async fn single_ranges_are_served() {
    for blob in served().await {
        let size = blob.content.len();
        let cases = [
            ("bytes=0-0".to_owned(), 0..1),
            ("bytes=0-99".to_owned(), 0..100),
            (format!("bytes={}-", size - 1), size - 1..size),
            (format!("bytes=1-{}", size - 2), 1..size - 1),
            (format!("bytes=500-{}", size * 10), 500..size),
            ("bytes=-1".to_owned(), size - 1..size),
            ("bytes=-300".to_owned(), size - 300..size),
            (format!("bytes=-{}", size + 1), 0..size),
            ("bytes=0-".to_owned(), 0..size),
            ("BYTES=7-8".to_owned(), 7..9),
        ];
        for (asked, range) in cases {
            let get = blob.ask("GET", &[("range", &asked)]).await;
            let head = blob.ask("HEAD", &[("range", &asked)]).await;
            for reply in [&get, &head] {
                let told = format!("bytes {}-{}/{size}", range.start, range.end - 1);
                assert_eq!(reply.status, 206, "{asked}");
                assert_eq!(reply.all("content-range"), [&*told], "{asked}");
                assert_eq!(reply.all("content-length"), [&*range.len().to_string()]);
                assert_eq!(reply.all("etag"), [&*blob.etag()]);
                assert_eq!(
                    reply.all("docker-content-digest"),
                    [&*blob.digest.to_string()]
                );
            }
            assert!(get.body == blob.content[range], "{asked}");
        }
    }
}

#[tokio::test]
async fn a_blob_is_put_together_from_its_ranges() {
    for blob in served().await {
        let mut connection = blob.server.connect().await;
        let mut whole = Vec::new();
        while whole.len() < blob.content.len() {
            let asked = format!("bytes={}-{}", whole.len(), whole.len() + 122_999);
            let request = Request::get(&format!("/v2/a/blobs/{}", blob.digest));
            let reply = connection.send(&request.header("range", asked)).await;
            assert_eq!(reply.status, 206);
            whole.extend(reply.body);
        }
        assert!(whole == blob.content);
    }
}

#[tokio::test]
async fn ranges_that_mean_nothing_here_are_ignored() {
    for blob in served().await {
        let ignored = [
            "items=0-1",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=0-1,3-4",
            "0-1",
        ];
        for asked in ignored {
            let reply = blob.ask("GET", &[("range", asked)]).await;
            blob.is_whole(&reply, asked);
        }
    }
}

#[tokio::test]
async fn ranges_behind_the_end_are_not_satisfiable() {
    for blob in served().await {
        let size = blob.content.len();
        let cases = [
            format!("bytes={size}-"),
            format!("bytes={size}-{}", size + 5),
            "bytes=-0".into(),
            "bytes=5-3".into(),
        ];
        for asked in cases {
            let reply = blob.ask("GET", &[("range", &asked)]).await;
            reply.is_error(416, "RANGE_INVALID");
            assert_eq!(
                reply.all("content-range"),
                [&*format!("bytes */{size}")],
                "{asked}"
            );
            let head = blob.ask("HEAD", &[("range", &asked)]).await;
            assert_eq!(head.status, 416, "{asked}");
        }
    }
}

#[tokio::test]
async fn an_empty_blob_has_no_ranges() {
    for store in Store::ALL {
        let server = Running::start(store, deleting(), quiet()).await;
        let digest = server.push_blob("a", b"").await;
        let path = format!("/v2/a/blobs/{digest}");
        for asked in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            let reply = server
                .send(Request::get(&path).header("range", asked))
                .await;
            assert_eq!(
                (reply.status, reply.get("content-range")),
                (416, Some("bytes */0"))
            );
        }
        let reply = server.get(&path).await;
        assert_eq!(
            (reply.status, reply.get("content-length"), reply.body.len()),
            (200, Some("0"), 0)
        );
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent() {
    for blob in served().await {
        let etag = blob.etag();
        for tag in [
            &*etag,
            "*",
            &format!("W/{etag}"),
            &format!("\"a\",{etag}"),
            &*blob.digest.to_string(),
        ] {
            // The condition comes before the range (RFC 9110, section 13.2.2).
            for headers in [
                vec![("if-none-match", tag)],
                vec![("if-none-match", tag), ("range", "bytes=0-1")],
            ] {
                for method in ["GET", "HEAD"] {
                    let reply = blob.ask(method, &headers).await;
                    assert_eq!((reply.status, reply.body.len()), (304, 0), "{tag}");
                    assert_eq!(reply.all("etag"), [&*etag]);
                    assert_eq!(reply.all("cache-control"), ["max-age=31536000"]);
                }
            }
        }
        let reply = blob.ask("GET", &[("if-none-match", "\"other\"")]).await;
        blob.is_whole(&reply, "another tag");
    }
}

#[tokio::test]
async fn if_range_guards_the_range() {
    for blob in served().await {
        let etag = blob.etag();
        let range = ("range", "bytes=10-19");
        let reply = blob.ask("GET", &[range, ("if-range", &etag)]).await;
        assert_eq!(reply.status, 206);
        assert!(reply.body == blob.content[10..20]);
        // A weak tag, another one, or a date, which is never told, sends the whole.
        for other in [
            &*format!("W/{etag}"),
            "\"other\"",
            "Wed, 21 Oct 2015 07:28:00 GMT",
        ] {
            let reply = blob.ask("GET", &[range, ("if-range", other)]).await;
            blob.is_whole(&reply, other);
        }
    }
}

#[tokio::test]
async fn if_match_guards_the_answer() {
    for blob in served().await {
        let reply = blob.ask("GET", &[("if-match", "\"other\"")]).await;
        assert_eq!((reply.status, reply.body.len()), (412, 0));
        for tag in [&*blob.etag(), "*", &format!("\"x\", {}", blob.etag())] {
            let reply = blob.ask("GET", &[("if-match", tag)]).await;
            blob.is_whole(&reply, tag);
        }
        // Comparison is strong here (RFC 9110, section 13.1.1).
        let weak = format!("W/{}", blob.etag());
        assert_eq!(blob.ask("GET", &[("if-match", &weak)]).await.status, 412);
    }
}

/// There is no `Last-Modified`, so conditions on dates have nothing to compare with.
#[tokio::test]
async fn dates_are_ignored() {
    for blob in served().await {
        for (name, date) in [
            ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
            ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            let reply = blob.ask("GET", &[(name, date)]).await;
            blob.is_whole(&reply, name);
            assert_eq!(reply.get("last-modified"), None);
        }
    }
}
