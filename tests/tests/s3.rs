//! A registry whose store is a bucket.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;
use wharfinger_e2e::bucket::{self, Bucket as _, ROOT, blob_key, image, patch};
use wharfinger_e2e::clients::{Client, Skopeo, copy};
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::http::with_digest;
use wharfinger_e2e::image::{MANIFEST, manifest};
use wharfinger_e2e::s3::{BUCKET, S3, settings};
use wharfinger_e2e::store_proxy::{Fate, StoreProxy};
use wharfinger_e2e::{Http, Wharfinger, digest, folder, noise, run};

fn distribution(home: &Path, store: SocketAddr) -> Distribution {
    std::fs::create_dir_all(home).unwrap();
    Distribution::start_with(home, home, &settings(store))
}

#[test]
fn images_go_into_a_bucket_and_come_back() {
    let home = folder();
    bucket::images_go_in_and_come_back(&S3::start(home.path()), home.path());
}

#[test]
fn distribution_and_wharfinger_take_turns_on_one_bucket() {
    let home = folder();
    let store = S3::start(home.path());
    let other = distribution(&home.path().join("other"), store.addr);
    let server = store.config(&home.path().join("own"), store.addr).start();
    let (from_other, first, _) = image(home.path(), 10);
    let (from_own, second, _) = image(home.path(), 20);
    run(&mut copy(
        &from_other,
        &format!("docker://{}", other.image("x/y:first")),
    ));
    run(&mut copy(
        &from_own,
        &format!("docker://{}", server.image("x/y:second")),
    ));
    // What one has pushed the other serves, over redirects.
    for (image, digest) in [("x/y:first", &first), ("x/y:second", &second)] {
        for (number, registry) in [other.image(image), server.image(image)].iter().enumerate() {
            let place = home.path().join(format!("pull-{number}"));
            assert_eq!(Skopeo::new(&place).pull(registry), *digest, "{registry}");
        }
    }
    for http in [other.http(), server.http()] {
        let tags = http.get("/v2/x/y/tags/list").json();
        assert_eq!(tags["tags"], json!(["first", "second"]));
    }
    // And each goes on with what the other has: a tag moved, a manifest deleted.
    run(&mut copy(
        &from_own,
        &format!("docker://{}", other.image("x/y:first")),
    ));
    assert_eq!(server.http().digest("x/y", "first"), second);
    let path = format!("/v2/x/y/manifests/{first}");
    assert_eq!(server.http().send("DELETE", &path, &[], b"").status, 202);
    assert_eq!(other.http().get(&path).status, 404);
}

#[test]
fn two_nodes_share_an_upload_chunk_by_chunk() {
    let home = folder();
    let store = S3::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    let nodes = ["a", "b"].map(|node| {
        let config = store.config(&home.path().join(node), proxy.addr);
        let config = config.set("storage.s3.multipartcopythresholdsize", "16MiB");
        config
            .set("storage.s3.multipartcopychunksize", "8MiB")
            .start()
    });
    bucket::nodes_share_an_upload(&store, &nodes);
    // It got to its place part by part: 31 MB in pieces of 8 MiB, the last a little less.
    assert_eq!(proxy.counts().get("UploadPartCopy"), Some(&4));
}

#[test]
fn another_node_goes_on_where_one_was_killed() {
    let home = folder();
    bucket::another_node_goes_on_where_one_was_killed(&S3::start(home.path()), home.path());
}

#[test]
fn a_store_that_fails_now_and_then_is_asked_again() {
    let home = folder();
    let busy = Fate::Refused(503, "SlowDown");
    bucket::failures_are_not_noticed(&S3::start(home.path()), home.path(), busy);
}

#[test]
fn a_store_that_refuses_is_told_to_the_client_and_in_the_log() {
    let home = folder();
    bucket::refusals_are_told(&S3::start(home.path()), home.path());
}

#[test]
fn a_bucket_that_cannot_be_used_stops_the_start() {
    let home = folder();
    let store = S3::start(home.path());
    bucket::a_missing_bucket_stops_the_start(&store, home.path(), "storage.s3.bucket");
}

#[test]
fn memory_does_not_grow_with_what_is_pushed_and_pulled() {
    let home = folder();
    let store = S3::start(home.path());
    let server = store
        .config(home.path(), store.addr)
        .set("storage.redirect.disable", true)
        .start();
    let blob = noise(9, 150_000_000);
    let before = server.peak_memory();
    let digest = server.http().push_blob("large", &blob);
    let got = server.http().get(&format!("/v2/large/blobs/{digest}"));
    assert!(got.body == blob);
    // Two parts of 5 MiB, the batches on their way to them, and what the allocator keeps.
    let grown = server.peak_memory() - before;
    assert!(grown < 50_000_000, "{grown} bytes");
}

#[test]
fn what_is_claimed_by_another_algorithm_is_read_from_the_bucket() {
    let home = folder();
    let store = S3::start(home.path());
    let server = store.config(home.path(), store.addr).start();
    let blob = noise(5, 12_000_000);
    let mut hasher = wharfinger_oci::Hasher::new(wharfinger_oci::Algorithm::Sha512);
    hasher.update(&blob);
    let claimed = hasher.finish().to_string();
    let location = server.http().open_upload("other");
    let (_, location) = patch(server.http(), &location, 0, &blob);
    let done = server
        .http()
        .send("PUT", &with_digest(&location, &claimed), &[], b"");
    assert_eq!(done.status, 201, "{done:?}");
    let at = server.http().get(&format!("/v2/other/blobs/{claimed}"));
    assert!(Http(store.addr).get(&at.location()).body == blob);
}

#[test]
fn the_debris_of_a_bucket_is_collected() {
    let home = folder();
    let store = S3::start(home.path());
    let mut server = store.config(home.path(), store.addr).start();
    let (source, _, layers) = image(home.path(), 40);
    run(&mut copy(
        &source,
        &format!("docker://{}", server.image("kept:1")),
    ));
    let unused = server.http().push_blob("kept", &noise(41, 100_000));
    server.stop();
    let file = store.config(home.path(), store.addr).write();
    let mut command = std::process::Command::new(wharfinger_e2e::wharfinger::binary());
    run(command.arg("garbage-collect").arg(&file));
    let keys = store.keys();
    assert!(!keys.contains(&blob_key(&unused)));
    assert!(layers.iter().all(|layer| keys.contains(&blob_key(layer))));
}

/// Somebody who asks a registry, and what the registry then asks of the store.
struct Watched {
    http: Http,
    proxy: StoreProxy,
}

impl Watched {
    /// How many requests to the store some work takes, told by their kinds.
    fn count(&self, work: impl FnOnce(Http)) -> (usize, String) {
        // What an earlier request left to be done after its answer.
        sleep(Duration::from_millis(300));
        self.proxy.count_anew();
        work(self.http);
        sleep(Duration::from_millis(300));
        let counts = self.proxy.counts();
        let kinds: Vec<_> = counts
            .iter()
            .map(|(kind, number)| format!("{number} {kind}"))
            .collect();
        let kinds = match kinds.is_empty() {
            true => "none".to_owned(),
            false => kinds.join(", "),
        };
        (counts.values().sum(), kinds)
    }
}

/// The rows of the table in `docs/object-stores.md`: what is done, and how many requests that is.
fn counted(
    watched: &Watched,
    name: &str,
    restart: impl FnOnce() -> Watched,
) -> Vec<(usize, String)> {
    let repository = format!("counted/{name}");
    let layers: Vec<_> = (0..10)
        .map(|seed| noise(name.len() as u64 * 100 + seed, 10_000))
        .collect();
    let layers: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    let manifest = manifest(name.as_bytes(), &layers);
    let push = watched.count(|http| {
        for blob in layers.iter().copied().chain([name.as_bytes()]) {
            let path = format!("/v2/{repository}/blobs/{}", digest(blob));
            assert_eq!(http.head(&path).status, 404);
            http.push_blob(&repository, blob);
        }
        assert_eq!(
            http.push_manifest(&repository, "1", MANIFEST, &manifest)
                .status,
            201
        );
    });
    let large = noise(7 + name.len() as u64, 23_000_000);
    let chunked = watched.count(|http| {
        let location = http.open_upload(&repository);
        let (_, location) = patch(http, &location, 0, &large);
        let path = with_digest(&location, &digest(&large));
        assert_eq!(http.send("PUT", &path, &[], b"").status, 201);
    });
    let watched = restart();
    let path = format!("/v2/{repository}/manifests/1");
    let pull = |http: Http| assert_eq!(http.get(&path).status, 200);
    let cold = watched.count(pull);
    let warm = watched.count(pull);
    let blob = format!("/v2/{repository}/blobs/{}", digest(layers[0]));
    let head = |http: Http| assert!(matches!(http.head(&blob).status, 200 | 307));
    let head_cold = watched.count(head);
    let head_warm = watched.count(head);
    let page = watched.count(|http| {
        let list = http.get("/v2/counted/tags/tags/list?n=100&last=t2499");
        assert_eq!(list.status, 200);
    });
    let all = watched.count(|http| {
        let list = http.get("/v2/counted/tags/tags/list?n=10000").json();
        assert_eq!(list["tags"].as_array().unwrap().len(), TAGS);
    });
    vec![push, chunked, cold, warm, head_cold, head_warm, page, all]
}

/// How many tags there are in a repository.
const TAGS: usize = 5000;

const WORK: [&str; 8] = [
    "push of an image of 10 layers of 10 KB, each asked for first",
    "push of a blob of 23 MB by PATCH and PUT, parts of 5 MiB",
    "pull of a manifest by tag, cold",
    "the same again",
    "HEAD of a blob, cold",
    "the same again",
    "100 of 5,000 tags, from the middle",
    "all 5,000 tags",
];

#[test]
fn requests_to_the_store_are_as_few_as_the_documentation_says() {
    let home = folder();
    let store = S3::start(home.path());
    let (own, other) = (home.path().join("own"), home.path().join("other"));
    let tags = format!("/{BUCKET}/{ROOT}/repositories/counted/tags/_manifests/tags");
    let link = digest(b"{}");
    for tag in 0..TAGS {
        let key = format!("{tags}/t{tag:04}/current/link");
        let put = Http(store.addr).send("PUT", &key, &[], link.as_bytes());
        assert_eq!(put.status, 200);
    }
    let proxies = [(); 2].map(|()| StoreProxy::start(store.addr));
    let cached = json!({"storage": {"cache": {"blobdescriptor": "inmemory"}}});

    let start_own = || {
        let mut config = store
            .config(&own, proxies[0].addr)
            .set("tags.maxtags", 10_000);
        config = config.set("storage.cache.blobdescriptor", "inmemory");
        config
            .set("storage.maintenance.uploadpurging.enabled", false)
            .start()
    };
    let mut server: Wharfinger = start_own();
    let watched = |http| Watched {
        http,
        proxy: proxies[0].clone(),
    };
    let ours = counted(&watched(server.http()), "own", || {
        server.stop();
        server = start_own();
        watched(server.http())
    });

    std::fs::create_dir_all(&other).unwrap();
    let start_other = || {
        let mut with_cache = settings(proxies[1].addr);
        with_cache["storage"]["cache"] = cached["storage"]["cache"].clone();
        Distribution::start_with(&other, &other, &with_cache)
    };
    let mut distribution = start_other();
    let watched = |http| Watched {
        http,
        proxy: proxies[1].clone(),
    };
    let theirs = counted(&watched(distribution.http()), "other", || {
        distribution.service.stop();
        distribution = start_other();
        watched(distribution.http())
    });

    let rows = WORK.iter().zip(ours.iter().zip(&theirs));
    let rows: Vec<_> = rows
        .map(|(work, ((ours, kinds), (theirs, _)))| {
            format!("| {work} | {ours} | {theirs} | {kinds} |")
        })
        .collect();
    let table = rows.join("\n");
    println!("{table}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/object-stores.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    for (work, (ours, _)) in WORK.iter().zip(&ours) {
        let row = format!("| {work} | {ours} | ");
        assert!(
            docs.contains(&row),
            "docs/object-stores.md says otherwise than\n{table}"
        );
    }
    for row in [0, 2, 3, 4, 5] {
        assert!(ours[row].0 <= theirs[row].0, "{table}");
    }
}
