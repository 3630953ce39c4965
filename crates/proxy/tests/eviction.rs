//! What is not used any more goes from a cache, images whole, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use wharfinger_oci::{Choice, Digest, Reference, RepositoryName, Tag, media_type};
use wharfinger_proxy::{
    Cache, CacheOptions, Eviction, EvictionOptions, Metrics, Retention, Retentions,
};
use wharfinger_registry::{Content, Note, Options, Registry, Validation};
use wharfinger_remote::testing::TestUpstream;
use wharfinger_remote::{Reach, Upstream};
use wharfinger_storage::{Driver, MemoryDriver};

const WEEK: Option<Duration> = Some(Duration::from_secs(7 * 86_400));

const CACHED: &str = "cached/app";

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

fn tag(text: &str) -> Reference {
    Reference::Tag(text.parse::<Tag>().unwrap())
}

fn days(number: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * number)
}

/// What all processes of a test share: the store, and the upstream.
struct World {
    driver: Arc<dyn Driver>,
    upstream: TestUpstream,
    retentions: Retentions,
    size: Option<u64>,
}

impl World {
    /// All below `cached` is a cache's.
    async fn new(ttl: Option<Duration>, pinned: &[&str], size: Option<u64>) -> Self {
        let patterns: Vec<_> = pinned.iter().map(|text| text.parse().unwrap()).collect();
        let retention = Arc::new(Retention {
            ttl,
            pinned: (!patterns.is_empty()).then(|| Choice::of(patterns)),
        });
        Self {
            driver: Arc::new(MemoryDriver::new()),
            upstream: TestUpstream::start().await,
            retentions: Arc::new(move |name: &RepositoryName| {
                let is_cached = name.as_str().starts_with("cached/");
                is_cached.then(|| Arc::clone(&retention))
            }),
            size,
        }
    }

    /// A process: a cache over the store, and what evicts from it.
    fn node(&self) -> Node {
        let options = Options {
            collection_lease: Duration::from_millis(20),
            validation: Validation {
                sparse: true,
                ..Validation::default()
            },
            ..Options::default()
        };
        let registry = Registry::new(Arc::clone(&self.driver), options).unwrap();
        let options = EvictionOptions {
            retentions: Arc::clone(&self.retentions),
            size: self.size,
            grace: Duration::ZERO,
        };
        let eviction = Eviction::new(registry.clone(), options);
        let (metrics, url) = (Metrics::default(), self.upstream.url());
        let upstream = Upstream::new(&url, Reach::default(), metrics.upstreams()).unwrap();
        let options = CacheOptions {
            below: None,
            tag_ttl: Duration::ZERO,
            patience: Duration::from_secs(60),
            store_timeout: Duration::from_secs(60),
            downloads: 8,
            spool: std::env::temp_dir(),
            uses: Some(eviction.uses()),
        };
        Node {
            cache: Cache::new(registry.clone(), upstream, metrics, options),
            registry,
            eviction,
        }
    }

    /// An image with such layers, which the upstream has in every repository under this tag.
    fn image(&self, tag: &'static str, layers: &[&[u8]]) -> Image {
        let config = format!("{{\"of\":\"{tag}\"}}");
        let blobs = std::iter::once(config.as_bytes()).chain(layers.iter().copied());
        let blobs: Vec<_> = blobs
            .map(|bytes| (self.upstream.blob(bytes), bytes.len() as u64))
            .collect();
        let described = |(digest, size): &(Digest, u64)| {
            format!(r#"{{"mediaType":"a/b","digest":"{digest}","size":{size}}}"#)
        };
        let layers: Vec<_> = blobs[1..].iter().map(described).collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            media_type::OCI_IMAGE_MANIFEST,
            described(&blobs[0]),
            layers.join(",")
        );
        let kind = media_type::OCI_IMAGE_MANIFEST;
        let manifest = self.upstream.manifest(tag, kind, manifest.as_bytes());
        Image {
            tag,
            manifest,
            blobs,
        }
    }
}

struct Image {
    tag: &'static str,
    manifest: Digest,
    /// With their sizes.
    blobs: Vec<(Digest, u64)>,
}

struct Node {
    registry: Registry,
    cache: Cache,
    eviction: Eviction,
}

impl Node {
    async fn get(&self, repository: &str, reference: &Reference) {
        let repository = self.cache.repository(&name(repository));
        repository.manifest(reference).await.unwrap();
    }

    /// Pulls an image whole, and waits until it is kept.
    async fn pull(&self, repository: &str, image: &Image) {
        self.get(repository, &tag(image.tag)).await;
        self.get(repository, &Reference::Digest(image.manifest))
            .await;
        let repository = name(repository);
        let kept = self.registry.repository(&repository).blobs();
        for (digest, size) in &image.blobs {
            let blob = self
                .cache
                .repository(&repository)
                .blob(digest)
                .await
                .unwrap();
            if let Content::Stream { mut reader, .. } = blob.open(0..*size).await.unwrap() {
                while let Some(piece) = reader.next().await {
                    piece.unwrap();
                }
            }
            while kept.stat(digest).await.is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    /// Whether all of an image is kept; it panics where a part of it is.
    async fn has(&self, repository: &str, image: &Image) -> bool {
        let repository = self.registry.repository(&name(repository));
        let tag = image.tag.parse().unwrap();
        let mut has = vec![
            repository.tags().get(&tag).await.is_ok(),
            repository.manifests().get(&image.manifest).await.is_ok(),
        ];
        for (digest, _) in &image.blobs {
            has.push(repository.blobs().stat(digest).await.is_ok());
        }
        assert!(has.iter().all(|it| *it == has[0]), "{has:?}");
        has[0]
    }

    /// How many items went, and how many bytes are left.
    async fn run(&self, now: Timestamp) -> (u64, u64) {
        let evicted = self.eviction.run(now).await.unwrap();
        (evicted.items, evicted.kept)
    }

    /// The process ends well. What was noted is moved by so many seconds, by digest.
    async fn end(self, repository: &str, by: impl Fn(&str) -> i64) {
        self.eviction.write_uses().await;
        let repository = self.registry.repository(&name(repository));
        let note = repository.note(Note::Uses).await.unwrap().unwrap();
        let note = String::from_utf8(note.to_vec()).unwrap();
        let moved = note.lines().map(|line| {
            let (at, digest) = line.split_once(' ').unwrap();
            format!("{} {digest}\n", at.parse::<i64>().unwrap() + by(digest))
        });
        let moved = Bytes::from(moved.collect::<String>());
        repository.set_note(Note::Uses, moved).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_used_for_its_time_goes_whole_and_comes_again() {
    let world = World::new(WEEK, &[], None).await;
    let node = world.node();
    let base = [1; 5000];
    let old = world.image("old", &[&base, &[2; 3000]]);
    let new = world.image("new", &[&base, &[3; 3000]]);
    node.pull(CACHED, &old).await;
    let now = Timestamp::now();
    assert_eq!(node.run(now + days(6)).await.0, 0);
    node.pull(CACHED, &new).await;
    // A repository that is no cache has one of the layers too.
    let local = node.registry.repository(&name("local")).blobs();
    local.put(Bytes::from(vec![2; 3000])).await.unwrap();
    node.end(CACHED, |_| -days(8).as_secs()).await;

    // Only the manifest of the new one is used: that keeps all of it.
    let node = world.node();
    let local = node.registry.repository(&name("local")).blobs();
    node.get(CACHED, &tag("new")).await;
    // Manifest, config and layer; the base is the other's too.
    assert_eq!(node.run(now).await.0, 3);
    let kept = node.registry.repository(&name(CACHED));
    assert!(kept.manifests().get(&old.manifest).await.is_err());
    assert!(kept.tags().get(&"old".parse().unwrap()).await.is_err());
    assert!(node.has(CACHED, &new).await);
    let layer = old.blobs[2].0;
    assert!(kept.blobs().stat(&layer).await.is_err());
    assert!(local.stat(&layer).await.is_ok());

    world.upstream.requests();
    node.pull(CACHED, &old).await;
    assert!(node.has(CACHED, &old).await);
    assert!(!world.upstream.requests().is_empty());
    assert!(node.run(now + days(30)).await.0 > 0);
    assert!(!node.has(CACHED, &old).await && !node.has(CACHED, &new).await);
    let catalog = node.registry.catalog(None, 9).await.unwrap().items;
    assert_eq!(catalog, [name("local")]);
    assert!(local.stat(&layer).await.is_ok());
    let note = kept.note(Note::Uses).await.unwrap();
    assert_eq!(note, None, "what is gone is not noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_use_outlive_the_process_and_are_those_of_all_nodes() {
    let world = World::new(WEEK, &[], None).await;
    let first = world.node();
    let [old, here, there] = [("old", b"1"), ("here", b"2"), ("there", b"3")]
        .map(|(tag, layer)| world.image(tag, &[layer]));
    for image in [&old, &here, &there] {
        first.pull(CACHED, image).await;
    }
    first.end(CACHED, |_| -days(8).as_secs()).await;
    // Each node notes what was used there; none takes the other's notes away.
    let (first, second) = (world.node(), world.node());
    first.get(CACHED, &tag("here")).await;
    second.get(CACHED, &tag("there")).await;
    second.eviction.write_uses().await;
    first.eviction.write_uses().await;
    drop((first, second));
    let third = world.node();
    assert_eq!(third.run(Timestamp::now()).await.0, 3);
    assert!(!third.has(CACHED, &old).await);
    assert!(third.has(CACHED, &here).await && third.has(CACHED, &there).await);

    // Of what nobody knows, or a crash has taken, it is as if it were used when it is first seen.
    let kept = third.registry.repository(&name(CACHED));
    let cut = Bytes::from("17 sha2");
    kept.set_note(Note::Uses, cut).await.unwrap();
    let (fourth, now) = (world.node(), Timestamp::now());
    for (after, gone) in [(100, 0), (106, 0), (108, 6)] {
        assert_eq!(fourth.run(now + days(after)).await.0, gone, "{after} days");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_longest_ago_goes_when_there_is_too_much() {
    let pinned = ["cached/*:base", "cached/whole"];
    let world = World::new(None, &pinned, Some(120_000)).await;
    let layers: Vec<_> = (0..6_u8).map(|seed| vec![seed; 30_000]).collect();
    let image = |tag, layer: usize| world.image(tag, &[&layers[layer]]);
    let (base, whole, shared) = (image("base", 0), image("whole", 1), image("shared", 5));
    let (first, second, third) = (image("first", 2), image("second", 3), image("third", 4));
    let node = world.node();
    node.pull("cached/whole", &whole).await;
    for image in [&base, &shared, &first, &second, &third] {
        node.pull(CACHED, image).await;
    }
    // What others have of a cache's content does not count.
    let local = node.registry.repository(&name("local")).blobs();
    local.put(Bytes::from(layers[5].clone())).await.unwrap();
    // What is in use stays, however much it is.
    let (evicted, size) = node.run(Timestamp::now()).await;
    assert_eq!(evicted, 0);
    assert!((150_000..160_000).contains(&size), "{size}");

    // Of the three, the second was used last, and the first longest ago.
    let ages = [(&first, 60), (&third, 40), (&second, 20)];
    let age = |digest: &str| {
        let is_of = |image: &Image| {
            let blobs = image.blobs.iter().map(|(digest, _)| digest);
            let mut all = blobs.chain([&image.manifest]);
            all.any(|one| one.to_string() == digest)
        };
        let found = ages.iter().find(|(image, _)| is_of(image));
        -60 * found.map_or(15, |(_, minutes)| *minutes)
    };
    node.end(CACHED, age).await;
    let (node, now) = (world.node(), Timestamp::now());
    let (evicted, size) = node.run(now).await;
    assert!((90_000..=108_000).contains(&size), "{size}");
    // The tail of the second one is not needed.
    assert_eq!(evicted, 6);
    assert!(!node.has(CACHED, &first).await && !node.has(CACHED, &third).await);
    assert!(node.has(CACHED, &second).await && node.has(CACHED, &shared).await);
    assert!(node.has(CACHED, &base).await && node.has("cached/whole", &whole).await);
    assert_eq!(node.run(now).await, (0, size));
    // What is pinned is no matter of time either.
    assert_eq!(node.run(now + days(1000)).await, (0, size));
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_and_platforms_stay_with_what_they_are_of() {
    let world = World::new(WEEK, &[], None).await;
    let node = world.node();
    let child = world.image("child", &[b"layer"]);
    let (kind, all) = (media_type::OCI_IMAGE_MANIFEST, media_type::OCI_IMAGE_INDEX);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{all}","manifests":[{{"mediaType":"{kind}","digest":"{}","size":1}}]}}"#,
        child.manifest
    );
    let index = world.upstream.manifest("latest", all, index.as_bytes());
    let config = world.upstream.blob(b"{}");
    let signature = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"a/b","digest":"{config}","size":2}},"layers":[],"subject":{{"mediaType":"{all}","digest":"{index}","size":1}}}}"#,
    );
    let signature = world
        .upstream
        .manifest("signature", kind, signature.as_bytes());
    node.pull(CACHED, &child).await;
    node.get(CACHED, &tag("latest")).await;
    node.get(CACHED, &tag("signature")).await;
    node.end(CACHED, |_| -days(8).as_secs()).await;

    let (node, now) = (world.node(), Timestamp::now());
    node.get(CACHED, &tag("latest")).await;
    assert_eq!(node.run(now).await.0, 0);
    assert!(node.has(CACHED, &child).await);
    let kept = node.registry.repository(&name(CACHED)).manifests();
    assert!(kept.get(&signature).await.is_ok());
    assert_eq!(node.run(now + days(8)).await.0, 5);
    for digest in [child.manifest, index, signature] {
        assert!(kept.get(&digest).await.is_err());
    }
}
