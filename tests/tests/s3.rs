//! A registry whose store is a bucket of Amazon's protocol.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;
use wharfinger_e2e::bucket::{
    self, ROOT, Store as _, TAGS, WORK, Watched, counted, counted_listings, image, patch,
};
use wharfinger_e2e::clients::{Client, Skopeo, copy};
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::http::with_digest;
use wharfinger_e2e::s3::{BUCKET, S3};
use wharfinger_e2e::store_proxy::StoreProxy;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, folder, noise, run};

/// A registry on the bucket of the store at `store`.
fn config(home: &Path, store: SocketAddr) -> Config {
    bucket::config::<S3>(home, store)
}

fn distribution(home: &Path, store: SocketAddr) -> Distribution {
    std::fs::create_dir_all(home).unwrap();
    Distribution::start_with(home, home, &S3::settings(store))
}

#[test]
fn images_go_into_a_bucket_and_come_back() {
    bucket::images_go_in_and_come_back::<S3>();
}

#[test]
fn two_nodes_share_an_upload_chunk_by_chunk() {
    let counts = bucket::two_nodes_share_an_upload::<S3>(&[
        ("storage.s3.multipartcopythresholdsize", "16MiB"),
        ("storage.s3.multipartcopychunksize", "8MiB"),
    ]);
    // It got to its place part by part: 31 MB in pieces of 8 MiB, the last a little less.
    assert_eq!(counts.get("UploadPartCopy"), Some(&4));
}

#[test]
fn another_node_goes_on_where_one_was_killed() {
    bucket::another_node_goes_on_where_one_was_killed::<S3>();
}

#[test]
fn a_store_that_fails_now_and_then_is_asked_again() {
    bucket::a_store_that_fails_now_and_then_is_asked_again::<S3>();
}

#[test]
fn a_store_that_refuses_is_told_to_the_client_and_in_the_log() {
    bucket::a_store_that_refuses_is_told_to_the_client_and_in_the_log::<S3>();
}

#[test]
fn a_bucket_that_cannot_be_used_stops_the_start() {
    bucket::a_bucket_that_cannot_be_used_stops_the_start::<S3>();
}

#[test]
fn the_debris_of_a_bucket_is_collected() {
    bucket::the_debris_of_a_bucket_is_collected::<S3>();
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
    let mut ours = counted(&watched(server.http()), "own", || {
        server.stop();
        server = start_own();
        watched(server.http())
    });
    ours.extend(counted_listings(&watched(server.http())));

    std::fs::create_dir_all(&other).unwrap();
    let start_other = || {
        let mut with_cache = S3::settings(proxies[1].addr);
        with_cache["storage"]["cache"] = cached["storage"]["cache"].clone();
        Distribution::start_with(&other, &other, &with_cache)
    };
    let mut distribution = start_other();
    let watched = |http| Watched {
        http,
        proxy: proxies[1].clone(),
    };
    let mut theirs = counted(&watched(distribution.http()), "other", || {
        distribution.service.stop();
        distribution = start_other();
        watched(distribution.http())
    });
    theirs.extend(counted_listings(&watched(distribution.http())));

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
