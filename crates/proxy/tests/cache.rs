//! What a cache keeps besides content, and how it downloads.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::watch;
use wharfinger_oci::{Digest, Reference, Tag, media_type};
use wharfinger_proxy::{Answer, Cache, CacheOptions, CachedRepository, Metrics};
use wharfinger_registry::{Content, Options, Page, Registry, Validation};
use wharfinger_remote::testing::{Reply, TestUpstream};
use wharfinger_remote::{Reach, Upstream};
use wharfinger_storage::testing::fault::{Effect, Fault, FaultDriver, Operation};
use wharfinger_storage::{Driver, MemoryDriver};

const PATIENCE: Duration = Duration::from_secs(60);

/// A fresh process over a store, one download at a time.
fn cache(driver: &Arc<dyn Driver>, upstream: &TestUpstream, tag_ttl: Duration) -> CachedRepository {
    storing(driver, upstream, tag_ttl, PATIENCE)
}

/// The same, where storing may go on for so long.
fn storing(
    driver: &Arc<dyn Driver>,
    upstream: &TestUpstream,
    tag_ttl: Duration,
    store_timeout: Duration,
) -> CachedRepository {
    let options = Options {
        validation: Validation {
            sparse: true,
            ..Validation::default()
        },
        ..Options::default()
    };
    let registry = Registry::new(Arc::clone(driver), options).unwrap();
    let metrics = Metrics::default();
    let asked = Upstream::new(&upstream.url(), Reach::default(), metrics.upstreams()).unwrap();
    let options = CacheOptions {
        below: None,
        tag_ttl,
        patience: PATIENCE,
        store_timeout,
        downloads: 1,
        spool: std::env::temp_dir(),
        uses: None,
    };
    let cache = Cache::new(registry, asked, metrics, options);
    cache.repository(&"a".parse().unwrap())
}

fn memory() -> Arc<dyn Driver> {
    Arc::new(MemoryDriver::new())
}

async fn pull(repository: &CachedRepository, upstream: &TestUpstream) {
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[]}}"#,
        media_type::OCI_IMAGE_INDEX
    );
    upstream.manifest("kept", media_type::OCI_IMAGE_INDEX, manifest.as_bytes());
    let tag = Reference::Tag("kept".parse().unwrap());
    repository.manifest(&tag).await.unwrap();
}

fn told(page: &Answer<Page<Tag>>) -> (String, bool, bool) {
    let items: Vec<_> = page.content.items.iter().map(Tag::as_str).collect();
    (items.join(" "), page.content.more, page.stale)
}

/// The upstream has these tags, and gives as many at once as it is asked for.
fn list(upstream: &TestUpstream, tags: &'static [&'static str]) {
    upstream.decide(move |request| {
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        if !path.ends_with("/tags/list") {
            return None;
        }
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        let last = value("last").unwrap_or_default();
        let rest: Vec<_> = tags.iter().filter(|tag| **tag > last).collect();
        let n = value("n").map_or(rest.len(), |n| n.parse().unwrap());
        let page: Vec<_> = rest.iter().take(n).map(|tag| format!("{tag:?}")).collect();
        let reply = Reply::new(
            200,
            format!(r#"{{"name":"a","tags":[{}]}}"#, page.join(",")),
        );
        Some(match rest.len() > n {
            true => {
                let next = format!("</v2/a/tags/list?n={n}&last={}>; rel=\"next\"", rest[n - 1]);
                reply.header("link", next)
            }
            false => reply,
        })
    });
}

fn fail(upstream: &TestUpstream) {
    upstream.decide(|_| Some(Reply::error(500, "UNKNOWN", "down")));
}

#[tokio::test]
async fn the_whole_list_of_tags_is_known_when_the_upstream_is_down() {
    let (driver, upstream) = (memory(), TestUpstream::start().await);
    let repository = cache(&driver, &upstream, Duration::ZERO);
    list(&upstream, &["1", "2", "3", "4", "5"]);
    // Of what nothing is kept of, no list is either.
    repository.tags(None, None).await.unwrap();
    fail(&upstream);
    let unknown = cache(&driver, &upstream, Duration::ZERO);
    assert!(unknown.tags(None, None).await.is_err());

    upstream.behave();
    pull(&repository, &upstream).await;
    list(&upstream, &["1", "2", "3", "4", "5"]);
    for (after, items, more) in [
        (None, "1 2", true),
        (Some("2"), "3 4", true),
        (Some("4"), "5", false),
    ] {
        let page = repository.tags(after, Some(2)).await.unwrap();
        assert_eq!(told(&page), (items.to_owned(), more, false));
    }
    fail(&upstream);
    let all = |page: &str| (page.to_owned(), false, true);
    let page = repository.tags(None, None).await.unwrap();
    assert_eq!(told(&page), all("1 2 3 4 5 kept"));

    // A part takes the place of what was between its ends; another process knows that too.
    let repository = cache(&driver, &upstream, Duration::ZERO);
    list(&upstream, &["1", "3", "5", "6"]);
    repository.tags(None, Some(2)).await.unwrap();
    fail(&upstream);
    let repository = cache(&driver, &upstream, Duration::ZERO);
    let page = repository.tags(None, None).await.unwrap();
    assert_eq!(told(&page), all("1 3 4 5 kept"));
    let page = repository.tags(Some("3"), Some(1)).await.unwrap();
    assert_eq!(told(&page), ("4".to_owned(), true, true));

    // A whole list is served without asking as long as it is young enough.
    let young = cache(&driver, &upstream, PATIENCE);
    list(&upstream, &["7", "8"]);
    assert_eq!(
        told(&young.tags(None, None).await.unwrap()),
        ("7 8".to_owned(), false, false)
    );
    upstream.requests();
    assert_eq!(
        told(&young.tags(None, Some(1)).await.unwrap()),
        ("7".to_owned(), true, false)
    );
    assert_eq!(upstream.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn referrers_are_known_when_the_upstream_is_down() {
    let (driver, upstream) = (memory(), TestUpstream::start().await);
    let subject = Digest::canonical(b"subject");
    let index = |kinds: &[&str]| {
        let described = kinds.iter().map(|kind| {
            let digest = Digest::canonical(kind.as_bytes());
            format!(
                r#"{{"mediaType":"{}","digest":"{digest}","size":1,"artifactType":"{kind}"}}"#,
                media_type::OCI_IMAGE_MANIFEST
            )
        });
        let all: Vec<_> = described.collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            media_type::OCI_IMAGE_INDEX,
            all.join(",")
        )
    };
    let first = cache(&driver, &upstream, Duration::ZERO);
    pull(&first, &upstream).await;
    let both = index(&["a/signature", "a/sbom"]);
    upstream.decide(move |_| Some(Reply::new(200, &both)));
    let one = first.referrers(&subject, Some("a/sbom")).await.unwrap();
    assert_eq!((one.content.len(), one.stale), (1, false));
    fail(&upstream);
    let second = cache(&driver, &upstream, Duration::ZERO);
    for (kind, number) in [(None, 2), (Some("a/signature"), 1), (Some("a/b"), 0)] {
        let known = second.referrers(&subject, kind).await.unwrap();
        assert_eq!(
            (known.content.len(), known.stale),
            (number, true),
            "{kind:?}"
        );
    }
    // What the upstream has no more is not told any longer.
    let third = cache(&driver, &upstream, Duration::ZERO);
    let none = index(&[]);
    upstream.decide(move |_| Some(Reply::new(200, &none)));
    assert!(
        third
            .referrers(&subject, None)
            .await
            .unwrap()
            .content
            .is_empty()
    );
    fail(&upstream);
    assert!(third.referrers(&subject, None).await.is_err());
}

async fn read(repository: &CachedRepository, digest: &Digest) -> Vec<u8> {
    let blob = repository.blob(digest).await.unwrap();
    let size = blob.descriptor().size;
    match blob.open(0..size).await.unwrap() {
        Content::Stream { mut reader, .. } => {
            let mut bytes = Vec::new();
            while let Some(piece) = reader.next().await {
                bytes.extend(piece.unwrap());
            }
            bytes
        }
        Content::Bytes(bytes) => bytes.to_vec(),
        Content::File { .. } => panic!("nothing is in a file"),
    }
}

#[tokio::test]
async fn downloads_wait_for_their_turn() {
    let (driver, upstream) = (memory(), TestUpstream::start().await);
    let repository = cache(&driver, &upstream, Duration::ZERO);
    let contents = [b"first", b"other", b"third"];
    let digests = contents.map(|bytes| upstream.blob(bytes));
    let (open, gate) = watch::channel(false);
    upstream.decide(move |request| {
        let is_first = request.path.ends_with(&digests[0].to_string());
        is_first.then(|| Reply::new(200, contents[0]).hold(2, gate.clone()))
    });
    let reading = futures_util::future::join_all(digests.iter().map(|it| read(&repository, it)));
    let looking = async {
        while upstream.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Time enough for the others, if they did not wait.
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            assert_eq!(upstream.asked(), Vec::<String>::new());
        }
        open.send(true).unwrap();
    };
    let (read, ()) = tokio::join!(reading, looking);
    assert_eq!(read, contents);
    let asked = upstream.asked();
    let in_order = digests[1..]
        .iter()
        .map(|it| format!("GET /v2/a/blobs/{it}"));
    assert_eq!(asked, in_order.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_blob_of_which_the_length_is_not_told_is_downloaded_first() {
    let (driver, upstream) = (memory(), TestUpstream::start().await);
    let bytes = vec![7; 300_000];
    let digest = Digest::canonical(&bytes);
    let mut chunked = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunked.extend(&bytes);
    chunked.extend(b"\r\n0\r\n\r\n");
    upstream
        .decide(move |_| Some(Reply::new(200, &chunked).header("transfer-encoding", "chunked")));
    let repository = cache(&driver, &upstream, Duration::ZERO);
    let described = repository.stat(&digest).await.unwrap();
    assert_eq!(described.size, 300_000);
    assert!(read(&repository, &digest).await == bytes);
    let downloads = upstream
        .asked()
        .into_iter()
        .filter(|it| it.starts_with("GET"));
    assert_eq!(downloads.count(), 1);
}

#[tokio::test]
async fn a_store_that_hangs_is_given_up_and_what_it_did_not_take_is_downloaded_again() {
    let upstream = TestUpstream::start().await;
    let faulty = Arc::new(FaultDriver::new(MemoryDriver::new()));
    faulty.plan(Fault::new(Effect::Hang).on(Operation::Put).times(1));
    let driver: Arc<dyn Driver> = faulty.clone();
    let repository = storing(
        &driver,
        &upstream,
        Duration::ZERO,
        Duration::from_millis(50),
    );
    let digest = upstream.blob(b"content");
    assert_eq!(read(&repository, &digest).await, b"content");
    assert_eq!(upstream.asked().len(), 1);
    let again = async {
        while upstream.asked().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            // Until then, it comes from the download that is not stored yet.
            assert_eq!(read(&repository, &digest).await, b"content");
        }
    };
    tokio::time::timeout(PATIENCE / 2, again)
        .await
        .expect("it is given up");
    while faulty.under_way() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fail(&upstream);
    assert_eq!(read(&repository, &digest).await, b"content");
}

#[tokio::test]
async fn the_time_that_storing_may_take_does_not_begin_before_all_has_come() {
    let (driver, upstream) = (memory(), TestUpstream::start().await);
    let allowed = Duration::from_millis(400);
    let repository = storing(&driver, &upstream, Duration::ZERO, allowed);
    let digest = upstream.blob(b"content");
    let (open, gate) = watch::channel(false);
    upstream.decide(move |_| Some(Reply::new(200, b"content").hold(2, gate.clone())));
    let slow = async {
        tokio::time::sleep(allowed + Duration::from_millis(100)).await;
        open.send(true).unwrap();
    };
    let (bytes, ()) = tokio::join!(read(&repository, &digest), slow);
    assert_eq!(bytes, b"content");
    let blobs = Registry::new(Arc::clone(&driver), Options::default()).unwrap();
    let blobs = blobs.repository(&"a".parse().unwrap()).blobs();
    let kept = async {
        while blobs.stat(&digest).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE / 2, kept)
        .await
        .expect("it is kept");
}
