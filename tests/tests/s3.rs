//! A registry whose store is a bucket.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use wharfinger_e2e::clients::{Client, Skopeo, copy};
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::http::{Answer, OCTETS, with_digest};
use wharfinger_e2e::image::{Layout, MANIFEST, manifest};
use wharfinger_e2e::s3::{BUCKET, S3, settings};
use wharfinger_e2e::store_proxy::{Fate, StoreProxy};
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, noise, run};

const ROOT: &str = "some/where/docker/registry/v2";

/// A registry on the bucket of the store at `store`.
fn config(home: &Path, store: SocketAddr) -> Config {
    std::fs::create_dir_all(home).unwrap();
    let mut config = Config::new(home);
    config.settings = settings(store);
    config
}

fn distribution(home: &Path, store: SocketAddr) -> Distribution {
    std::fs::create_dir_all(home).unwrap();
    Distribution::start_with(home, home, &settings(store))
}

/// Makes an image with a small layer and one of several parts; gives its name for skopeo and the
/// digests of manifest and layers.
fn image(home: &Path, seed: u64) -> (String, String, Vec<String>) {
    let mut layout = Layout::create(&home.join(format!("layout-{seed}"))).unwrap();
    let layers = [
        layout.layer(&[(seed, 3000)]).unwrap(),
        layout.layer(&[(seed + 1, 13_000_000)]).unwrap(),
    ];
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "t").unwrap();
    let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    (source, text(&image), layers.iter().map(text).collect())
}

/// The key of a blob.
fn blob_key(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("{ROOT}/blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// Sends a part of an upload; gives the answer, and where to go on.
fn patch(http: Http, location: &str, from: usize, bytes: &[u8]) -> (Answer, String) {
    let range = format!("{from}-{}", from + bytes.len() - 1);
    let headers = [OCTETS, ("Content-Range", &range)];
    let answer = http.send("PATCH", location, &headers, bytes);
    assert_eq!(answer.status, 202, "{answer:?}");
    let next = answer.location();
    (answer, next)
}

#[test]
fn images_go_into_a_bucket_and_come_back() {
    let home = folder();
    let store = S3::start(home.path());
    let mut server = config(home.path(), store.addr).start();
    let (source, manifest, layers) = image(home.path(), 1);
    let name = server.image("a/b:1");
    run(&mut copy(&source, &format!("docker://{name}")));
    assert_eq!(Skopeo::new(home.path()).pull(&name), manifest);

    // Exactly what Distribution would have written.
    let keys = store.keys();
    for digest in layers.iter().chain([&manifest]) {
        assert!(
            keys.contains(&blob_key(digest)),
            "{digest} is not in {keys:?}"
        );
    }
    let repository = format!("{ROOT}/repositories/a/b");
    let hex = manifest.strip_prefix("sha256:").unwrap();
    for key in [
        format!("_manifests/revisions/sha256/{hex}/link"),
        "_manifests/tags/1/current/link".to_owned(),
        format!("_manifests/tags/1/index/sha256/{hex}/link"),
    ] {
        let key = format!("{repository}/{key}");
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    assert!(keys.iter().all(|key| !key.contains("_uploads")), "{keys:?}");
    assert_eq!(store.open_uploads(), Vec::<String>::new());

    // Clients get large blobs from the store itself.
    let path = format!("/v2/a/b/blobs/{}", layers[1]);
    for method in ["GET", "HEAD"] {
        let answer = server.http().send(method, &path, &[], b"");
        assert_eq!(answer.status, 307, "{answer:?}");
        let location = answer.header("location").unwrap();
        let place = format!("http://{}/{BUCKET}/{}?", store.addr, blob_key(&layers[1]));
        assert!(location.starts_with(&place), "{location}");
        assert!(location.contains("X-Amz-Expires=1200"), "{location}");
        let body = Http(store.addr).send(method, &answer.location(), &[], b"");
        assert_eq!(body.status, 200, "{body:?}");
        if method == "GET" {
            assert_eq!(digest(&body.body), layers[1]);
        }
    }
    server.stop();

    let own = home.path().join("own");
    let server = config(&own, store.addr)
        .set("storage.redirect.disable", true)
        .start();
    assert_eq!(Skopeo::new(&own).pull(&server.image("a/b:1")), manifest);
    let whole = server.http().get(&path);
    assert_eq!(
        (whole.status, digest(&whole.body)),
        (200, layers[1].clone())
    );
    let part = server
        .http()
        .send("GET", &path, &[("Range", "bytes=6000000-6000099")], b"");
    assert_eq!(part.status, 206);
    assert!(part.body == whole.body[6_000_000..6_000_100]);
    let last = server
        .http()
        .send("GET", &path, &[("Range", "bytes=-7")], b"");
    assert!(last.body == whole.body[whole.body.len() - 7..]);

    // Access goes with the link, and what is not there is told as ever.
    let unknown = server
        .http()
        .get(&format!("/v2/a/other/blobs/{}", layers[1]));
    assert_eq!(unknown.outcome(), (404, "BLOB_UNKNOWN".to_owned()));
    let deleted = server.http().send("DELETE", &path, &[], b"");
    assert_eq!(deleted.status, 202);
    assert_eq!(server.http().get(&path).status, 404);
    let tags = server.http().get("/v2/a/b/tags/list").json();
    assert_eq!(tags["tags"], json!(["1"]));
    let catalog = server.http().get("/v2/_catalog").json();
    assert_eq!(catalog["repositories"], json!(["a/b"]));
}

#[test]
fn distribution_and_wharfinger_take_turns_on_one_bucket() {
    let home = folder();
    let store = S3::start(home.path());
    let other = distribution(&home.path().join("other"), store.addr);
    let server = config(&home.path().join("own"), store.addr).start();
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
        let config = config(&home.path().join(node), proxy.addr);
        let config = config.set("storage.s3.multipartcopythresholdsize", "16MiB");
        config
            .set("storage.s3.multipartcopychunksize", "8MiB")
            .start()
    });
    let blob = noise(3, 31_000_000);
    let mut location = nodes[0].http().open_upload("shared");
    let mut sent = 0;
    // Small ones, one that is no whole number of parts, one of several parts.
    for (turn, end) in [1000, 70_000, 4_000_000, 11_000_000, 11_000_001, 28_000_000]
        .into_iter()
        .enumerate()
    {
        let http = nodes[turn % 2].http();
        let (answer, next) = patch(http, &location, sent, &blob[sent..end]);
        let range = format!("0-{}", end - 1);
        assert_eq!(answer.header("range"), Some(range.as_str()));
        let told = nodes[(turn + 1) % 2].http().get(&next);
        assert_eq!(
            (told.status, told.header("range")),
            (204, Some(range.as_str()))
        );
        (location, sent) = (next, end);
    }
    let path = with_digest(&location, &digest(&blob));
    let range = format!("{sent}-{}", blob.len() - 1);
    let headers = [OCTETS, ("Content-Range", range.as_str())];
    let done = nodes[1].http().send("PUT", &path, &headers, &blob[sent..]);
    assert_eq!(done.status, 201, "{done:?}");
    // It got to its place part by part: 31 MB in pieces of 8 MiB, the last a little less.
    assert_eq!(proxy.counts().get("UploadPartCopy"), Some(&4));
    let at = nodes[0]
        .http()
        .get(&format!("/v2/shared/blobs/{}", digest(&blob)));
    let got = Http(store.addr).get(&at.location());
    assert!(got.body == blob);
    assert_eq!(store.open_uploads(), Vec::<String>::new());
    let left: Vec<_> = store
        .keys()
        .into_iter()
        .filter(|key| key.contains("_uploads"))
        .collect();
    assert_eq!(left, Vec::<String>::new());

    // One that is given up leaves nothing either.
    let location = nodes[0].http().open_upload("shared");
    let (_, location) = patch(nodes[0].http(), &location, 0, &blob[..12_000_000]);
    assert_eq!(store.open_uploads().len(), 1);
    let given_up = nodes[1].http().send("DELETE", &location, &[], b"");
    assert_eq!(given_up.status, 204, "{given_up:?}");
    assert_eq!(store.open_uploads(), Vec::<String>::new());
    let left: Vec<_> = store
        .keys()
        .into_iter()
        .filter(|key| key.contains("_uploads"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn another_node_goes_on_where_one_was_killed() {
    let home = folder();
    let store = S3::start(home.path());
    for first in [2_000_000, 7_000_000] {
        let mut dying = config(&home.path().join("a"), store.addr).start();
        let other = config(&home.path().join("b"), store.addr).start();
        let blob = noise(first as u64, 25_000_000);
        let location = dying.http().open_upload("killed");
        let (_, location) = patch(dying.http(), &location, 0, &blob[..first]);

        // It is killed while the next chunk comes in, with parts of it in the store.
        let length = (blob.len() - first) as u64;
        let range = format!("{first}-{}", blob.len() - 1);
        let headers = [OCTETS, ("Content-Range", range.as_str())];
        let mut sending = dying
            .http()
            .begin("PATCH", &location, &headers, length)
            .unwrap();
        std::io::Write::write_all(&mut sending, &blob[first..first + 13_000_000]).unwrap();
        eventually("parts are in the store", || {
            store.log().matches("partNumber=").count() >= 2
        });
        dying.kill();

        let told = other.http().get(&location);
        let range = format!("0-{}", first - 1);
        assert_eq!(
            (told.status, told.header("range")),
            (204, Some(range.as_str()))
        );
        let (_, location) = patch(other.http(), &told.location(), first, &blob[first..]);
        let path = with_digest(&location, &digest(&blob));
        let done = other.http().send("PUT", &path, &[], b"");
        assert_eq!(done.status, 201, "{done:?}");
        let at = other
            .http()
            .get(&format!("/v2/killed/blobs/{}", digest(&blob)));
        assert!(Http(store.addr).get(&at.location()).body == blob);
        assert_eq!(store.open_uploads(), Vec::<String>::new());
    }
}

#[test]
fn memory_does_not_grow_with_what_is_pushed_and_pulled() {
    let home = folder();
    let store = S3::start(home.path());
    let server = config(home.path(), store.addr)
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
    let server = config(home.path(), store.addr).start();
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
fn a_store_that_fails_now_and_then_is_asked_again() {
    let home = folder();
    let store = S3::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    let server = config(home.path(), proxy.addr)
        .set("storage.redirect.disable", true)
        .start();
    proxy.decide(|asked| match asked.before % 16 {
        1 => Fate::Refused(503, "SlowDown"),
        5 => Fate::Lost,
        9 => Fate::Refused(500, "InternalError"),
        13 => Fate::AnswerLost,
        _ => Fate::Answered,
    });
    let (source, manifest, _) = image(home.path(), 30);
    run(&mut copy(
        &source,
        &format!("docker://{}", server.image("f/g:1")),
    ));
    assert_eq!(
        Skopeo::new(home.path()).pull(&server.image("f/g:1")),
        manifest
    );
    proxy.decide(|_| Fate::Answered);
    // A multipart upload whose name got lost may be left, which is removed when it is old.
    let left: Vec<_> = store
        .keys()
        .into_iter()
        .filter(|key| key.contains("_uploads"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn a_store_that_refuses_is_told_to_the_client_and_in_the_log() {
    let home = folder();
    let store = S3::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    let server = config(home.path(), proxy.addr).start();
    server.http().push_blob("r", b"before");
    proxy.decide(|_| Fate::Refused(403, "AccessDenied"));
    let refused = server.http().get("/v2/r/manifests/1");
    assert_eq!(refused.outcome(), (503, "UNAVAILABLE".to_owned()));
    proxy.decide(|_| Fate::Refused(503, "SlowDown"));
    let failed = server.http().get("/v2/r/manifests/1");
    assert_eq!(failed.outcome(), (500, "UNKNOWN".to_owned()));
    let log = server.log();
    assert!(
        log.contains("the store says AccessDenied: As planned."),
        "{log}"
    );
    assert!(
        log.contains("the store says SlowDown: As planned."),
        "{log}"
    );
    // And it goes on when the store does.
    proxy.decide(|_| Fate::Answered);
    assert_eq!(server.http().get("/v2/r/manifests/1").status, 404);
}

#[test]
fn a_bucket_that_cannot_be_used_stops_the_start() {
    let home = folder();
    let store = S3::start(home.path());
    let missing = config(home.path(), store.addr).set("storage.s3.bucket", "missing");
    let mut service = missing.spawn();
    assert!(!service.wait().success());
    let log = service.log();
    assert!(
        log.contains("storage.s3.bucket: ") && log.contains("NoSuchBucket"),
        "{log}"
    );
}

#[test]
fn the_debris_of_a_bucket_is_collected() {
    let home = folder();
    let store = S3::start(home.path());
    let mut server = config(home.path(), store.addr).start();
    let (source, _, layers) = image(home.path(), 40);
    run(&mut copy(
        &source,
        &format!("docker://{}", server.image("kept:1")),
    ));
    let unused = server.http().push_blob("kept", &noise(41, 100_000));
    server.stop();
    let file = config(home.path(), store.addr).write();
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
        let mut config = config(&own, proxies[0].addr).set("tags.maxtags", 10_000);
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
    for row in &rows {
        assert!(
            docs.contains(row),
            "docs/object-stores.md says otherwise than\n{table}"
        );
    }
    for row in 0..6 {
        assert!(ours[row].0 <= theirs[row].0, "{table}");
    }
}
