//! What a registry on a bucket does, whatever server has the bucket.
//!
//! All functions panic where a registry does otherwise.
#![allow(clippy::missing_panics_doc, clippy::unwrap_used)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::clients::{Client, Skopeo, copy};
use crate::http::{Answer, Http, OCTETS, with_digest};
use crate::image::Layout;
use crate::store_proxy::{Fate, StoreProxy};
use crate::wharfinger::{Config, Wharfinger};
use crate::{digest, eventually, noise, run};

/// Where the registry's files are in every bucket of the tests.
pub const ROOT: &str = "some/where/docker/registry/v2";

/// A running server of an object store, with a bucket.
pub trait Bucket {
    /// Where it is asked.
    fn addr(&self) -> SocketAddr;

    /// A registry on the bucket, asked at `at`: the server, or what stands before it.
    fn config(&self, home: &Path, at: SocketAddr) -> Config;

    /// What the address of an object starts with, up to its key.
    fn address(&self) -> String;

    /// What stands in the address of an object to which a client is sent.
    fn redirected(&self) -> &'static str;

    /// The keys of all objects.
    fn keys(&self) -> Vec<String>;

    /// The keys that uploads are under way for.
    fn open_uploads(&self) -> Vec<String>;

    /// How many parts of uploads it was sent.
    fn parts_sent(&self) -> usize;
}

/// Makes an image with a small layer and one of several parts; gives its name for skopeo and the
/// digests of manifest and layers.
pub fn image(home: &Path, seed: u64) -> (String, String, Vec<String>) {
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
pub fn blob_key(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("{ROOT}/blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// Sends a part of an upload; gives the answer, and where to go on.
pub fn patch(http: Http, location: &str, from: usize, bytes: &[u8]) -> (Answer, String) {
    let range = format!("{from}-{}", from + bytes.len() - 1);
    let headers = [OCTETS, ("Content-Range", &range)];
    let answer = http.send("PATCH", location, &headers, bytes);
    assert_eq!(answer.status, 202, "{answer:?}");
    let next = answer.location();
    (answer, next)
}

/// Asserts that nothing is left of any upload.
pub fn no_upload_is_left(bucket: &impl Bucket) {
    assert_eq!(bucket.open_uploads(), Vec::<String>::new());
    let keys = bucket.keys().into_iter();
    let left: Vec<_> = keys.filter(|key| key.contains("_uploads")).collect();
    assert_eq!(left, Vec::<String>::new());
}

/// An image goes into the bucket and comes out of it, through the registry and past it.
pub fn images_go_in_and_come_back(bucket: &impl Bucket, home: &Path) {
    let mut server = bucket.config(home, bucket.addr()).start();
    let (source, manifest, layers) = image(home, 1);
    let name = server.image("a/b:1");
    run(&mut copy(&source, &format!("docker://{name}")));
    assert_eq!(Skopeo::new(home).pull(&name), manifest);

    // Exactly what Distribution would have written.
    let keys = bucket.keys();
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
    no_upload_is_left(bucket);

    // Clients get large blobs from the store itself.
    let path = format!("/v2/a/b/blobs/{}", layers[1]);
    for method in ["GET", "HEAD"] {
        let answer = server.http().send(method, &path, &[], b"");
        assert_eq!(answer.status, 307, "{answer:?}");
        let location = answer.header("location").unwrap();
        let place = format!("{}{}?", bucket.address(), blob_key(&layers[1]));
        assert!(location.starts_with(&place), "{location}");
        assert!(location.contains(bucket.redirected()), "{location}");
        let body = Http(bucket.addr()).send(method, &answer.location(), &[], b"");
        assert_eq!(body.status, 200, "{body:?}");
        if method == "GET" {
            assert_eq!(digest(&body.body), layers[1]);
        }
    }
    server.stop();

    let own = home.join("own");
    let server = bucket.config(&own, bucket.addr());
    let server = server.set("storage.redirect.disable", true).start();
    assert_eq!(Skopeo::new(&own).pull(&server.image("a/b:1")), manifest);
    let whole = server.http().get(&path);
    assert_eq!(
        (whole.status, digest(&whole.body)),
        (200, layers[1].clone())
    );
    let range = |range| server.http().send("GET", &path, &[("Range", range)], b"");
    let part = range("bytes=6000000-6000099");
    assert_eq!(part.status, 206);
    assert!(part.body == whole.body[6_000_000..6_000_100]);
    assert!(range("bytes=-7").body == whole.body[whole.body.len() - 7..]);

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

/// Two nodes take turns with the chunks of a blob of 31 MB, in parts of 5 MiB, and with one that is
/// given up.
pub fn nodes_share_an_upload(bucket: &impl Bucket, nodes: &[Wharfinger; 2]) {
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
    let at = nodes[0]
        .http()
        .get(&format!("/v2/shared/blobs/{}", digest(&blob)));
    assert!(Http(bucket.addr()).get(&at.location()).body == blob);
    no_upload_is_left(bucket);

    // One that is given up leaves nothing either.
    let location = nodes[0].http().open_upload("shared");
    let (_, location) = patch(nodes[0].http(), &location, 0, &blob[..12_000_000]);
    assert_eq!(bucket.open_uploads().len(), 1);
    let given_up = nodes[1].http().send("DELETE", &location, &[], b"");
    assert_eq!(given_up.status, 204, "{given_up:?}");
    no_upload_is_left(bucket);
}

/// A node is killed with parts of a chunk in the store; another goes on where the chunk began.
pub fn another_node_goes_on_where_one_was_killed(bucket: &impl Bucket, home: &Path) {
    for first in [2_000_000, 7_000_000] {
        let mut dying = bucket.config(&home.join("a"), bucket.addr()).start();
        let other = bucket.config(&home.join("b"), bucket.addr()).start();
        let blob = noise(first as u64, 25_000_000);
        let location = dying.http().open_upload("killed");
        let (_, location) = patch(dying.http(), &location, 0, &blob[..first]);

        let length = (blob.len() - first) as u64;
        let range = format!("{first}-{}", blob.len() - 1);
        let headers = [OCTETS, ("Content-Range", range.as_str())];
        let before = bucket.parts_sent();
        let mut sending = dying
            .http()
            .begin("PATCH", &location, &headers, length)
            .unwrap();
        sending.write_all(&blob[first..first + 13_000_000]).unwrap();
        eventually("parts are in the store", || {
            bucket.parts_sent() >= before + 2
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
        assert!(Http(bucket.addr()).get(&at.location()).body == blob);
        no_upload_is_left(bucket);
    }
}

/// A store that fails now and then is asked again, and nobody notices. `busy` is how it says that
/// it is asked too much.
pub fn failures_are_not_noticed(bucket: &impl Bucket, home: &Path, busy: Fate) {
    let proxy = StoreProxy::start(bucket.addr());
    let server = bucket.config(home, proxy.addr);
    let server = server.set("storage.redirect.disable", true).start();
    proxy.decide(move |asked| match asked.before % 16 {
        1 => busy,
        5 => Fate::Lost,
        9 => Fate::Refused(500, "InternalError"),
        13 => Fate::AnswerLost,
        _ => Fate::Answered,
    });
    let (source, manifest, _) = image(home, 30);
    let name = server.image("f/g:1");
    run(&mut copy(&source, &format!("docker://{name}")));
    assert_eq!(Skopeo::new(home).pull(&name), manifest);
    proxy.decide(|_| Fate::Answered);
    // A multipart upload whose name got lost may be left, which is removed when it is old.
    let keys = bucket.keys().into_iter();
    let left: Vec<_> = keys.filter(|key| key.contains("_uploads")).collect();
    assert_eq!(left, Vec::<String>::new());
}

/// A store that refuses, or fails for good, is told to the client and in the log.
pub fn refusals_are_told(bucket: &impl Bucket, home: &Path) {
    let proxy = StoreProxy::start(bucket.addr());
    let server = bucket.config(home, proxy.addr).start();
    server.http().push_blob("r", b"before");
    proxy.decide(|_| Fate::Refused(403, "AccessDenied"));
    let refused = server.http().get("/v2/r/manifests/1");
    assert_eq!(refused.outcome(), (503, "UNAVAILABLE".to_owned()));
    proxy.decide(|_| Fate::Refused(503, "SlowDown"));
    let failed = server.http().get("/v2/r/manifests/1");
    assert_eq!(failed.outcome(), (500, "UNKNOWN".to_owned()));
    let log = server.log();
    for told in ["AccessDenied", "SlowDown"] {
        let told = format!("the store says {told}: As planned.");
        assert!(log.contains(&told), "{log}");
    }
    // And it goes on when the store does.
    proxy.decide(|_| Fate::Answered);
    assert_eq!(server.http().get("/v2/r/manifests/1").status, 404);
}

/// A bucket that is not there stops the start; `key` is where its name stands.
pub fn a_missing_bucket_stops_the_start(bucket: &impl Bucket, home: &Path, key: &str) {
    let mut service = bucket
        .config(home, bucket.addr())
        .set(key, "missing")
        .spawn();
    assert!(!service.wait().success());
    let log = service.log();
    assert!(
        log.contains(&format!("{key}: ")) && log.contains("NoSuchBucket"),
        "{log}"
    );
}
