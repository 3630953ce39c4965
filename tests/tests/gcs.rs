//! A registry whose store is a bucket of Google Cloud Storage.

use std::path::Path;

use wharfinger_e2e::bucket::{self, Store as _, WORK, Watched, counted, image, patch};
use wharfinger_e2e::clients::{Client, Skopeo, copy};
use wharfinger_e2e::containerd::Containerd;
use wharfinger_e2e::gcs::Gcs;
use wharfinger_e2e::store_proxy::StoreProxy;
use wharfinger_e2e::{Http, eventually, folder, noise, run};

#[test]
fn images_go_into_a_bucket_and_come_back() {
    bucket::images_go_in_and_come_back::<Gcs>();
}

#[test]
fn two_nodes_share_an_upload_chunk_by_chunk() {
    let counts = bucket::two_nodes_share_an_upload::<Gcs>(&[]);
    // What is large gets to its place by one request all the same.
    assert_eq!(counts.get("CopyObject"), Some(&1));
}

#[test]
fn another_node_goes_on_where_one_was_killed() {
    bucket::another_node_goes_on_where_one_was_killed::<Gcs>();
}

#[test]
fn a_store_that_fails_now_and_then_is_asked_again() {
    bucket::a_store_that_fails_now_and_then_is_asked_again::<Gcs>();
}

#[test]
fn a_store_that_refuses_is_told_to_the_client_and_in_the_log() {
    bucket::a_store_that_refuses_is_told_to_the_client_and_in_the_log::<Gcs>();
}

#[test]
fn a_bucket_that_cannot_be_used_stops_the_start() {
    bucket::a_bucket_that_cannot_be_used_stops_the_start::<Gcs>();
}

#[test]
fn the_debris_of_a_bucket_is_collected() {
    bucket::the_debris_of_a_bucket_is_collected::<Gcs>();
}

#[test]
fn containerd_is_sent_to_the_bucket_and_arrives() {
    let home = folder();
    let store = Gcs::start(home.path());
    let server = store.config(home.path(), store.addr).start();
    let (source, manifest, _) = image(home.path(), 50);
    let name = server.image("c/d:1");
    run(&mut copy(&source, &format!("docker://{name}")));
    let client = Containerd::start(&home.path().join("client"));
    assert_eq!(client.pull(&name), manifest);
}

#[test]
fn credentials_come_from_wherever_google_s_do() {
    let home = folder();
    let store = Gcs::start(home.path());
    let place = |name: &str| home.path().join(name);
    let key = std::fs::read(&store.key).unwrap();
    let key: serde_json::Value = serde_json::from_slice(&key).unwrap();
    let key_file = store.key.to_str().unwrap();

    let inline = store
        .without_key(&place("inline"))
        .set("storage.gcs.credentials", key);
    let server = inline.start();
    let (source, manifest, _) = image(home.path(), 60);
    let name = server.image("a:1");
    run(&mut copy(&source, &format!("docker://{name}")));
    assert_eq!(Skopeo::new(&place("inline")).pull(&name), manifest);
    assert!(!server.log().contains("PRIVATE KEY"));

    let named = store.without_key(&place("named"));
    let named = named.env("GOOGLE_APPLICATION_CREDENTIALS", key_file);
    let server = named.start();
    let name = server.image("a:1");
    assert_eq!(Skopeo::new(&place("named")).pull(&name), manifest);

    // What the metadata service knows has no key here, so the registry serves the blobs.
    let machine = store.without_key(&place("machine"));
    let machine = machine.env("GCE_METADATA_HOST", store.addr.to_string());
    let server = machine.set("storage.redirect.disable", true).start();
    let name = server.image("a:1");
    assert_eq!(Skopeo::new(&place("machine")).pull(&name), manifest);

    // Nobody is let in.
    let mut service = store.without_key(&place("nobody")).spawn();
    assert!(!service.wait().success());
    let log = service.log();
    assert!(
        log.contains("storage.gcs.bucket: ") && log.contains("AuthenticationRequired"),
        "{log}"
    );
}

#[test]
fn credentials_that_cannot_be_used_stop_the_start() {
    let home = folder();
    let store = Gcs::start(home.path());
    let file = home.path().join("other.json");
    std::fs::write(&file, r#"{"type": "external_account", "audience": "a"}"#).unwrap();
    let file = file.to_str().unwrap();

    let given = store
        .without_key(home.path())
        .set("storage.gcs.keyfile", file);
    let mut service = given.spawn();
    assert!(!service.wait().success());
    let told = format!("storage.gcs.keyfile: {file}: credentials of the type \"external_account\"");
    assert!(service.log().contains(&told), "{}", service.log());

    let named = store
        .without_key(home.path())
        .env("GOOGLE_APPLICATION_CREDENTIALS", file);
    let mut service = named.spawn();
    assert!(!service.wait().success());
    let told = "workload identity federation and impersonation are not built";
    assert!(service.log().contains(told), "{}", service.log());
}

#[test]
fn uploads_that_nobody_goes_on_with_are_given_up() {
    let home = folder();
    let store = Gcs::start(home.path());
    let mut dying = store.config(home.path(), store.addr).start();
    let location = dying.http().open_upload("old");
    let blob = noise(70, 12_000_000);
    patch(dying.http(), &location, 0, &blob);
    assert_eq!(store.open_uploads().len(), 1);
    dying.kill();

    let purging = store.config(&home.path().join("other"), store.addr);
    let purging = purging.set("storage.maintenance.uploadpurging.age", "1ns");
    let purging = purging.set("storage.maintenance.uploadpurging.interval", "100ms");
    let _server = purging.start();
    eventually("it is purged", || store.open_uploads().is_empty());
    eventually("its folder is, too", || {
        store.keys().iter().all(|key| !key.contains("_uploads"))
    });
    let answer = Http(store.addr).get("/registry");
    assert_eq!(answer.status, 401, "{answer:?}");
}

#[test]
fn requests_to_the_store_are_as_few_as_the_documentation_says() {
    let home = folder();
    let store = Gcs::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    let start = || {
        let config = store.config(home.path(), proxy.addr);
        config
            .set("storage.cache.blobdescriptor", "inmemory")
            .set("storage.maintenance.uploadpurging.enabled", false)
            .start()
    };
    let mut server = start();
    let watched = |http| Watched {
        http,
        proxy: proxy.clone(),
    };
    let counts = counted(&watched(server.http()), "own", || {
        server.stop();
        server = start();
        watched(server.http())
    });
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/object-stores.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, docs) = docs.split_once("\n## Google Cloud Storage\n").unwrap();
    let rows = WORK.iter().zip(&counts);
    let rows: Vec<_> = rows
        .map(|(work, (number, kinds))| format!("| {work} | {number} | {kinds} |"))
        .collect();
    for row in &rows {
        assert!(
            docs.contains(row.as_str()),
            "docs/object-stores.md says otherwise than\n{}",
            rows.join("\n")
        );
    }
}
