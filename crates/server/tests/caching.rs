//! A server that is a cache of another registry, which misbehaves as the tests decide.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use wharfinger_oci::{Digest, media_type};
use wharfinger_proxy::{Cache, CacheOptions, Metrics};
use wharfinger_registry::{Options as RegistryOptions, Registry, Validation};
use wharfinger_remote::testing::{Reply, TestUpstream, part};
use wharfinger_remote::{Reach, Upstream};
use wharfinger_storage::MemoryDriver;

mod support;

use support::client::PATIENCE;
use support::{Reply as Answer, Request, Running, image_of, quiet, random};

const STALE: Option<&str> = Some("110 - \"Response is Stale\"");

/// A cache of a fresh upstream.
struct Caching {
    upstream: TestUpstream,
    server: Running,
}

impl Caching {
    async fn start() -> Self {
        Self::with(options()).await
    }

    async fn with(options: CacheOptions) -> Self {
        let upstream = TestUpstream::start().await;
        let server = cache_of(&upstream, options).await;
        Self { upstream, server }
    }

    async fn get(&self, path: &str) -> Answer {
        self.server.get(path).await
    }

    /// Waits until no upload has left anything.
    async fn left_nothing(&self) -> bool {
        let looking = async {
            while self.server.uploads_left("a").await > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.is_ok()
    }

    /// Waits until a blob is kept.
    async fn kept(&self, digest: &Digest) -> bool {
        let repository = self.server.registry.repository(&"a".parse().unwrap());
        let looking = async {
            while repository.blobs().stat(digest).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.is_ok()
    }
}

/// Tags are confirmed each time, however long it takes.
fn options() -> CacheOptions {
    CacheOptions {
        below: None,
        tag_ttl: Duration::ZERO,
        patience: PATIENCE,
        store_timeout: PATIENCE,
        downloads: 8,
        spool: std::env::temp_dir(),
        uses: None,
    }
}

/// A cache in memory.
async fn cache_of(upstream: &TestUpstream, options: CacheOptions) -> Running {
    let metrics = Metrics::default();
    let asked = Upstream::new(&upstream.url(), Reach::default(), metrics.upstreams()).unwrap();
    let sparse = RegistryOptions {
        validation: Validation {
            sparse: true,
            ..Validation::default()
        },
        ..RegistryOptions::default()
    };
    Running::caching(
        Arc::new(MemoryDriver::new()),
        sparse,
        quiet(),
        |registry: &Registry| Cache::new(registry.clone(), asked, metrics, options).into(),
    )
    .await
}

/// Whether an answer begins well and ends before its end.
async fn is_cut_off(server: &Running, request: &Request) -> bool {
    use tokio::io::AsyncWriteExt as _;
    let mut socket = tokio::net::TcpStream::connect(server.address)
        .await
        .unwrap();
    let bytes = request.to_bytes(&server.address.to_string());
    socket.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection is cut");
    let head = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap()
        + 4;
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    assert!(text.starts_with("http/1.1 20"), "{text}");
    let (_, length) = text.split_once("content-length: ").unwrap();
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    answer.len() - head < length
}

fn manifest(seed: u64) -> support::Content {
    image_of(format!("{{\"seed\":{seed}}}").as_bytes(), &[], "")
}

#[tokio::test]
async fn a_tag_is_fetched_once_confirmed_each_time_and_moves_when_it_does() {
    let cache = Caching::start().await;
    let (first, second) = (manifest(1), manifest(2));
    let one = cache.upstream.manifest("t", first.media_type, &first.bytes);
    let path = "/v2/a/manifests/t";
    for expected in ["GET", "HEAD", "HEAD"] {
        let answer = cache.get(path).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &first.bytes[..]));
        assert_eq!(answer.get("content-type"), Some(first.media_type));
        assert_eq!(answer.get("docker-content-digest"), Some(&*one.to_string()));
        assert_eq!(answer.get("warning"), None);
        assert_eq!(cache.upstream.asked(), [format!("{expected} {path}")]);
    }
    let two = cache
        .upstream
        .manifest("t", second.media_type, &second.bytes);
    let answer = cache.server.head(path).await;
    assert_eq!(answer.get("docker-content-digest"), Some(&*two.to_string()));
    assert_eq!(cache.upstream.asked().len(), 2);
    // What is asked for by digest needs nobody any more.
    for digest in [one, two] {
        assert_eq!(
            cache.get(&format!("/v2/a/manifests/{digest}")).await.status,
            200
        );
    }
    assert_eq!(cache.upstream.asked(), [""; 0]);
    // A tag that moves back needs no manifest either.
    cache.upstream.manifest("t", first.media_type, &first.bytes);
    assert_eq!(cache.get(path).await.body, first.bytes);
    assert_eq!(cache.upstream.asked(), [format!("HEAD {path}")]);
    assert_eq!(cache.get(path).await.body, first.bytes);
}

#[tokio::test]
async fn a_tag_that_is_young_enough_is_not_asked_for() {
    let young = CacheOptions {
        tag_ttl: Duration::from_secs(3600),
        ..options()
    };
    let cache = Caching::with(young).await;
    let image = manifest(1);
    cache.upstream.manifest("t", image.media_type, &image.bytes);
    for _ in 0..3 {
        assert_eq!(cache.get("/v2/a/manifests/t").await.status, 200);
    }
    assert_eq!(cache.upstream.asked().len(), 1);
    // Of another repository nothing is known by that.
    assert_eq!(cache.get("/v2/b/manifests/t").await.status, 200);
    assert_eq!(cache.upstream.asked().len(), 1);
}

#[tokio::test]
async fn many_who_want_a_tag_at_once_ask_once() {
    let cache = Caching::start().await;
    let image = manifest(1);
    cache.upstream.manifest("t", image.media_type, &image.bytes);
    let (open, gate) = watch::channel(false);
    let content = image.bytes.clone();
    cache.upstream.decide(move |_| {
        let reply =
            Reply::new(200, &content).header("content-type", media_type::OCI_IMAGE_MANIFEST);
        Some(reply.hold(1, gate.clone()))
    });
    let asking = (0..10).map(|_| cache.get("/v2/a/manifests/t"));
    let opening = async {
        // One has asked, and the others had the time to.
        tokio::time::sleep(Duration::from_millis(100)).await;
        open.send(true).unwrap();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(asking), opening);
    assert!(answers.iter().all(|answer| answer.body == image.bytes));
    assert_eq!(cache.upstream.asked().len(), 1);
}

#[tokio::test]
async fn what_is_kept_is_served_while_the_upstream_is_not_to_be_had() {
    let cache = Caching::start().await;
    let image = manifest(1);
    cache.upstream.manifest("t", image.media_type, &image.bytes);
    let layer = random(1, 100_000);
    let digest = cache.upstream.blob(&layer);
    let path = "/v2/a/manifests/t";
    assert_eq!(cache.get(path).await.status, 200);
    assert!(cache.get(&format!("/v2/a/blobs/{digest}")).await.body == layer);
    assert!(cache.kept(&digest).await);
    cache.upstream.requests();

    for status in [401, 403, 404, 500] {
        cache
            .upstream
            .decide(move |_| Some(Reply::error(status, "DENIED", "no")));
        let answer = cache.get(path).await;
        assert_eq!((answer.status, answer.get("warning")), (200, STALE));
        assert_eq!(answer.body, image.bytes);
    }
    // Nor is a tag believed to stand for whatever comes.
    cache
        .upstream
        .decide(|_| Some(Reply::new(200, "<html>Log in!</html>")));
    let answer = cache.get(path).await;
    assert_eq!((answer.status, answer.get("warning")), (200, STALE));
    assert_eq!(answer.body, image.bytes);
    cache.upstream.requests();
    // An upstream that says for how long it wants to be left alone is left alone.
    let busy = || Reply::error(429, "TOOMANYREQUESTS", "slow down").header("retry-after", "300");
    cache.upstream.decide(move |_| Some(busy()));
    for _ in 0..3 {
        assert_eq!(cache.get(path).await.get("warning"), STALE);
        let tags = cache.get("/v2/a/tags/list").await;
        assert_eq!((tags.status, tags.get("warning")), (200, STALE));
        assert_eq!(tags.json()["tags"], serde_json::json!(["t"]));
        let unknown = cache.get("/v2/a/manifests/unknown").await;
        assert_eq!(
            (unknown.status, unknown.codes()),
            (429, vec!["TOOMANYREQUESTS".to_owned()])
        );
        let after: u64 = unknown.get("retry-after").unwrap().parse().unwrap();
        assert!((290..=300).contains(&after), "{after}");
    }
    assert_eq!(cache.upstream.asked().len(), 1);
    assert!(cache.get(&format!("/v2/a/blobs/{digest}")).await.body == layer);
    let answer = cache
        .get(&format!("/v2/a/manifests/{}", image.digest()))
        .await;
    assert_eq!((answer.status, answer.get("warning")), (200, None));
}

#[tokio::test]
async fn a_slow_upstream_is_asked_once_and_keeps_nobody_waiting() {
    let impatient = CacheOptions {
        patience: Duration::from_millis(50),
        ..options()
    };
    let cache = Caching::with(impatient).await;
    let (first, second) = (manifest(1), manifest(2));
    cache.upstream.manifest("t", first.media_type, &first.bytes);
    let path = "/v2/a/manifests/t";
    assert_eq!(cache.get(path).await.body, first.bytes);
    cache.upstream.requests();
    let digest = cache
        .upstream
        .manifest("t", second.media_type, &second.bytes);
    let (open, gate) = watch::channel(false);
    cache.upstream.decide(move |request| {
        (request.method == "HEAD").then(|| {
            Reply::new(200, "")
                .header("docker-content-digest", digest)
                .hold(0, gate.clone())
        })
    });
    for _ in 0..3 {
        let answer = cache.get(path).await;
        assert_eq!((answer.status, answer.get("warning")), (200, STALE));
        assert_eq!(answer.body, first.bytes);
    }
    assert_eq!(cache.upstream.asked(), [format!("HEAD {path}")]);
    open.send(true).unwrap();
    let renewed = async { while cache.get(path).await.body != second.bytes {} };
    tokio::time::timeout(PATIENCE, renewed).await.unwrap();
}

#[tokio::test]
async fn refusals_reach_clients_with_status_and_code_and_without_the_upstreams_words() {
    let cache = Caching::start().await;
    let digest = Digest::canonical(b"x");
    for (upstream, code, status, expected) in [
        (404, "MANIFEST_UNKNOWN", 404, "MANIFEST_UNKNOWN"),
        (404, "BLOB_UNKNOWN", 404, "BLOB_UNKNOWN"),
        (403, "DENIED", 403, "DENIED"),
        (401, "UNAUTHORIZED", 401, "UNAUTHORIZED"),
        (400, "WHATEVER", 400, "UNKNOWN"),
        (500, "UNKNOWN", 503, "UNAVAILABLE"),
        (503, "UNAVAILABLE", 503, "UNAVAILABLE"),
    ] {
        cache
            .upstream
            .decide(move |_| Some(Reply::error(upstream, code, "db7.internal:1")));
        for path in ["manifests/t".to_owned(), format!("blobs/{digest}")] {
            let answer = cache.get(&format!("/v2/a/{path}")).await;
            assert_eq!(
                (answer.status, answer.codes()),
                (status, vec![expected.to_owned()])
            );
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            let address = cache.upstream.address.to_string();
            assert!(
                !text.contains("internal") && !text.contains(&address),
                "{text}"
            );
        }
    }
    let head = cache.server.head(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(head.status, 503);
}

#[tokio::test]
async fn a_cache_takes_nothing() {
    let cache = Caching::start().await;
    let digest = Digest::canonical(b"x");
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        (
            "POST",
            format!("/v2/a/blobs/uploads/?mount={digest}&from=b"),
        ),
        ("PUT", "/v2/a/manifests/t".to_owned()),
        ("DELETE", "/v2/a/manifests/t".to_owned()),
        ("DELETE", format!("/v2/a/blobs/{digest}")),
    ] {
        let answer = cache
            .server
            .send(Request::new(method, &path).body("x"))
            .await;
        assert_eq!(
            (answer.status, answer.codes()),
            (405, vec!["UNSUPPORTED".to_owned()]),
            "{path}"
        );
        assert!(answer.get("allow").is_some());
    }
    assert_eq!(cache.upstream.asked(), [""; 0]);
    assert_eq!(cache.get("/v2/").await.status, 200);
}

#[tokio::test]
async fn the_first_client_gets_bytes_as_they_come_and_all_share_one_download() {
    let cache = Caching::start().await;
    let layer = random(2, 3_000_000);
    let digest = cache.upstream.blob(&layer);
    let (open, gate) = watch::channel(false);
    let content = layer.clone();
    cache
        .upstream
        .decide(move |_| Some(Reply::new(200, &content).hold(1_000_000, gate.clone())));
    let path = format!("/v2/a/blobs/{digest}");
    let begin = async |headers: &str| {
        use tokio::io::AsyncWriteExt as _;
        let mut socket = tokio::net::TcpStream::connect(cache.server.address)
            .await
            .unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    };
    let mut first = begin("").await;
    let mut early = vec![0; 900_000];
    // They come although the rest does not.
    tokio::time::timeout(PATIENCE, first.read_exact(&mut early))
        .await
        .unwrap()
        .unwrap();
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(begin("").await);
    }
    let mut part = begin("range: bytes=10-19\r\n").await;
    // The first one leaves: nothing ends.
    drop(first);
    open.send(true).unwrap();
    for socket in &mut others {
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(&layer));
    }
    let mut answer = Vec::new();
    part.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 206") && answer.ends_with(&layer[10..20]));
    assert_eq!(cache.upstream.asked(), [format!("GET {path}")]);
    assert!(cache.kept(&digest).await);
    assert!(cache.get(&path).await.body == layer);
    assert_eq!(cache.upstream.asked(), [""; 0]);
    assert!(cache.left_nothing().await);
}

#[tokio::test]
async fn a_download_that_all_have_left_is_kept() {
    let cache = Caching::start().await;
    let layer = random(3, 500_000);
    let digest = cache.upstream.blob(&layer);
    let (open, gate) = watch::channel(false);
    let content = layer.clone();
    cache
        .upstream
        .decide(move |_| Some(Reply::new(200, &content).hold(1000, gate.clone())));
    let path = format!("/v2/a/blobs/{digest}");
    let asked = cache.get(&path);
    assert!(
        tokio::time::timeout(Duration::from_millis(200), asked)
            .await
            .is_err()
    );
    open.send(true).unwrap();
    assert!(cache.kept(&digest).await);
}

#[tokio::test]
async fn a_download_goes_on_wherever_it_was_cut() {
    for ranges in [true, false] {
        let cache = Caching::start().await;
        let mut offsets: Vec<usize> = (0..40).collect();
        offsets.extend([199_990, 199_999]);
        for cut in offsets {
            let layer = random(100 + cut as u64, 200_000);
            let digest = cache.upstream.blob(&layer);
            let (content, times) = (layer.clone(), AtomicUsize::new(0));
            cache.upstream.decide(move |request| {
                let whole = match ranges {
                    true => part(&content, request),
                    false => Reply::new(200, &content),
                };
                Some(match times.fetch_add(1, Ordering::SeqCst) {
                    0 => whole.cut(cut),
                    _ => whole,
                })
            });
            let answer = cache.get(&format!("/v2/a/blobs/{digest}")).await;
            assert!(
                answer.status == 200 && answer.body == layer,
                "cut after {cut}"
            );
            let requests = cache.upstream.requests();
            assert_eq!(requests.len(), 2);
            assert!(cache.kept(&digest).await);
        }
    }
}

#[tokio::test]
async fn wrong_bytes_are_never_a_whole_answer_and_never_kept() {
    let cache = Caching::start().await;
    let right = random(4, 300_000);
    let digest = cache.upstream.blob(&right);
    let path = format!("/v2/a/blobs/{digest}");
    let mut flipped = right.clone();
    flipped[299_999] ^= 1;
    let mut longer = right.clone();
    longer.push(0);
    for wrong in [flipped, longer, right[..299_999].to_vec(), vec![7; 300_000]] {
        cache
            .upstream
            .decide(move |_| Some(Reply::new(200, &wrong)));
        for request in [
            Request::get(&path),
            Request::get(&path).header("range", "bytes=0-99"),
        ] {
            assert!(is_cut_off(&cache.server, &request).await);
        }
    }
    let blobs = cache
        .server
        .registry
        .repository(&"a".parse().unwrap())
        .blobs();
    assert!(blobs.stat(&digest).await.is_err());
    // Who comes next begins anew.
    cache.upstream.behave();
    assert!(cache.get(&path).await.body == right);
    assert!(cache.kept(&digest).await);
    assert!(cache.left_nothing().await);
}

#[tokio::test]
async fn an_upstream_that_breaks_off_again_and_again_is_given_up() {
    let cache = Caching::start().await;
    let layer = random(5, 100_000);
    let digest = cache.upstream.blob(&layer);
    let content = layer.clone();
    cache
        .upstream
        .decide(move |request| Some(part(&content, request).cut(1)));
    let request = Request::get(&format!("/v2/a/blobs/{digest}"));
    assert!(is_cut_off(&cache.server, &request).await);
    assert_eq!(cache.upstream.requests().len(), 6);
}

#[tokio::test]
async fn what_cannot_be_kept_is_served_all_the_same() {
    let Caching { upstream, server } = Caching::start().await;
    let layer = random(6, 300_000);
    let digest = upstream.blob(&layer);
    let image = manifest(6);
    upstream.manifest("t", image.media_type, &image.bytes);
    server.registry.make_read_only().await;
    for _ in 0..2 {
        let answer = server.get(&format!("/v2/a/blobs/{digest}")).await;
        assert!(answer.status == 200 && answer.body == layer);
        let answer = server.get("/v2/a/manifests/t").await;
        assert_eq!((answer.status, &answer.body[..]), (200, &image.bytes[..]));
        assert_eq!(answer.get("content-type"), Some(image.media_type));
    }
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test]
async fn blobs_that_are_only_asked_about_are_not_fetched() {
    let cache = Caching::start().await;
    let layer = random(7, 1000);
    let digest = cache.upstream.blob(&layer);
    let path = format!("/v2/a/blobs/{digest}");
    let answer = cache.server.head(&path).await;
    assert_eq!(
        (answer.status, answer.get("content-length")),
        (200, Some("1000"))
    );
    assert_eq!(cache.upstream.asked(), [format!("HEAD {path}")]);
}
