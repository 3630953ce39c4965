//! A registry whose store is a container of Azure's protocol.

use std::collections::HashSet;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use wharfinger_e2e::azurite::{ACCOUNT, Azurite, CONTAINER, SAS, directory};
use wharfinger_e2e::bucket::{self, ROOT, Store as _, WORK, Watched, blob_key, config, counted};
use wharfinger_e2e::certificates::Authority;
use wharfinger_e2e::distribution::free_address;
use wharfinger_e2e::http::{OCTETS, with_digest};
use wharfinger_e2e::image::{MANIFEST, manifest};
use wharfinger_e2e::store_proxy::{Fate, StoreProxy};
use wharfinger_e2e::{Http, Service, Wharfinger, digest, folder, noise, run};

#[test]
fn images_go_into_a_container_and_come_back() {
    bucket::images_go_in_and_come_back::<Azurite>();
}

#[test]
fn two_nodes_share_an_upload_chunk_by_chunk() {
    let counts = bucket::two_nodes_share_an_upload::<Azurite>(&[]);
    // From its blocks to its name, and from there to its place.
    assert_eq!(counts.get("CopyBlob"), Some(&2));
}

#[test]
fn another_node_goes_on_where_one_was_killed() {
    bucket::another_node_goes_on_where_one_was_killed::<Azurite>();
}

#[test]
fn a_store_that_fails_now_and_then_is_asked_again() {
    bucket::a_store_that_fails_now_and_then_is_asked_again::<Azurite>();
}

#[test]
fn a_store_that_refuses_is_told_to_the_client_and_in_the_log() {
    bucket::a_store_that_refuses_is_told_to_the_client_and_in_the_log::<Azurite>();
}

#[test]
fn a_container_that_cannot_be_used_stops_the_start() {
    bucket::a_bucket_that_cannot_be_used_stops_the_start::<Azurite>();
}

/// Azurite's accounts have none, so it is said for one.
#[test]
fn an_account_with_a_hierarchical_namespace_stops_the_start() {
    const NONE: &str = "x-ms-is-hns-enabled: false";
    const SOME: &str = "x-ms-is-hns-enabled: true";
    let home = folder();
    let store = Azurite::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    proxy.decide(|_| Fate::Altered(NONE, SOME));
    let mut service = config::<Azurite>(home.path(), proxy.addr).spawn();
    assert!(!service.wait().success());
    let log = service.log();
    assert!(
        log.contains("storage.azure.container: its account has a hier"),
        "{log}"
    );
}

#[test]
fn the_debris_of_a_container_is_collected() {
    bucket::the_debris_of_a_bucket_is_collected::<Azurite>();
}

const DONE: &str = "x-ms-copy-status: success";
const PENDING: &str = "x-ms-copy-status: pending";

/// Azure may say that a copy is under way; Azurite never does, so it is said for it.
#[test]
fn a_copy_that_is_not_done_at_once_is_waited_for() {
    let home = folder();
    let store = Azurite::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    let server = config::<Azurite>(home.path(), proxy.addr)
        .set("storage.azure.max_retries", 3)
        .set("storage.azure.retry_delay", "10ms")
        .start();
    let asks = |operation: &str| matches!(operation, "CopyBlob" | "GetBlobProperties");

    let mut looks = 0;
    proxy.decide(move |asked| {
        looks += usize::from(asks(asked.operation));
        match asks(asked.operation) && looks <= 3 {
            true => Fate::Altered(DONE, PENDING),
            false => Fate::Answered,
        }
    });
    let first = server.http().push_blob("slow", &noise(6, 6_000_000));
    // From its blocks to its name, and from there to its place.
    assert_eq!(proxy.counts().get("CopyBlob"), Some(&2));
    assert!(proxy.counts()["GetBlobProperties"] >= 3);
    assert!(store.keys().contains(&blob_key(&first)));

    // One that is never done is ended. Nothing is acknowledged, and what was sent is still there.
    proxy.decide(move |asked| match asked.operation {
        "AbortCopyBlob" => Fate::Refused(204, "Aborted"),
        operation if asks(operation) && asked.path.contains("/blobs/") => {
            Fate::Altered(DONE, PENDING)
        }
        _ => Fate::Answered,
    });
    let content = &noise(7, 6_000_000);
    let location = server.http().open_upload("slow");
    let path = with_digest(&location, &digest(content));
    let failed = server.http().send("PUT", &path, &[OCTETS], content);
    assert_eq!(failed.status, 500, "{failed:?}");
    assert_eq!(proxy.counts().get("AbortCopyBlob"), Some(&1));
    let keys = store.keys();
    assert!(!keys.contains(&blob_key(&digest(content))), "{keys:?}");
    let kept = |key: &&String| key.contains("/_uploads/") && key.ends_with("/data");
    assert_eq!(keys.iter().filter(kept).count(), 1, "{keys:?}");
    let log = server.log();
    assert!(
        log.contains("the copy was not done after 3 looks at it"),
        "{log}"
    );
    let path = format!("/v2/slow/blobs/{}", digest(content));
    assert_eq!(server.http().head(&path).status, 404);
    proxy.decide(|_| Fate::Answered);
    server.http().push_blob("slow", content);
    assert_eq!(server.http().head(&path).status, 307);
}

/// Distribution 3 makes append blobs of everything, and Azure changes no blob's type. Azurite does,
/// so it is refused for it until the blob has been removed.
#[test]
fn append_blobs_are_taken_over() {
    let home = folder();
    let store = Azurite::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    let server = config::<Azurite>(home.path(), proxy.addr).start();
    let http = server.http();
    let (layer, other) = (noise(1, 1000), noise(2, 1000));
    let manifests = [&layer, &other].map(|layer| {
        for blob in [layer, &b"{}".to_vec()] {
            http.push_blob("taken", blob);
        }
        manifest(b"{}", &[layer])
    });
    let pushed = http.push_manifest("taken", "1", MANIFEST, &manifests[0]);
    assert_eq!(pushed.status, 201);
    let link = format!("{ROOT}/repositories/taken/_manifests/tags/1/current/link");
    let blob = blob_key(&digest(&layer));
    let contents = [
        (&link, digest(&manifests[0]).into_bytes()),
        (&blob, layer.clone()),
    ];
    for (key, content) in &contents {
        assert_eq!(store.ask("DELETE", key, "", b"").status, 202);
        assert_eq!(store.ask("PUT", key, "", b"").status, 201);
        let appended = store.ask("PUT", key, "comp=appendblock", content);
        assert_eq!(appended.status, 201, "{appended:?}");
    }
    assert_eq!(http.digest("taken", "1"), digest(&manifests[0]));
    let got = http.get(&format!("/v2/taken/blobs/{}", digest(&layer)));
    assert_eq!(Http(store.addr).get(&got.location()).body, layer);

    let theirs: HashSet<_> = contents.map(|(key, _)| Azurite::path(key)).into();
    let mut removed = HashSet::new();
    proxy.decide(move |asked| {
        let is_theirs = theirs.contains(&asked.path) && !removed.contains(&asked.path);
        match asked.operation {
            "DeleteBlob" => {
                removed.insert(asked.path.clone());
                Fate::Answered
            }
            "PutBlob" | "CopyBlob" if is_theirs => Fate::Refused(409, "InvalidBlobType"),
            _ => Fate::Answered,
        }
    });
    http.push_blob("elsewhere", &layer);
    let pushed = http.push_manifest("taken", "1", MANIFEST, &manifests[1]);
    assert_eq!(pushed.status, 201, "{pushed:?}");
    assert_eq!(http.digest("taken", "1"), digest(&manifests[1]));
    assert!(proxy.counts()["DeleteBlob"] >= 2);
}

/// With a token in addresses there is no other that could be given to clients.
#[test]
fn a_connection_string_with_a_token_is_enough() {
    let home = folder();
    let store = Azurite::start(home.path());
    let endpoint = format!("http://{}/{ACCOUNT}", store.addr);
    let text = format!("BlobEndpoint={endpoint};AccountName={ACCOUNT};SharedAccessSignature={SAS}");
    let mut config = config::<Azurite>(home.path(), store.addr);
    config.settings = json!({"storage": {"azure": {
        "connectionstring": text, "container": CONTAINER,
    }}});
    let server = config.watched().start();
    let blob = noise(4, 12_000_000);
    let pushed = server.http().push_blob("told", &blob);
    let got = server.http().get(&format!("/v2/told/blobs/{pushed}"));
    assert!(got.status == 200 && got.body == blob);
    assert!(!server.log().contains("sig="), "{}", server.log());
}

/// An application asks the directory for tokens, and by one of them for the key that signs the
/// addresses clients are sent to.
#[test]
fn an_application_gets_tokens_and_signs_addresses() {
    let home = folder();
    let addr = free_address();
    let authority = Authority::new(home.path(), "authority");
    let pair = authority.server(home.path(), "azurite");
    let mut command = Azurite::command(addr);
    command.args(["--oauth", "basic"]);
    command.arg("--cert").arg(&pair.certificate);
    command.arg("--key").arg(&pair.key);
    let mut store = Service::start(&mut command, &home.path().join("azurite.log"));
    store.wait_until(|_| TcpStream::connect(addr).ok());
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        run(command
            .args(["--silent", "--show-error", "--fail", "--insecure"])
            .args(arguments))
    };
    let service = format!("https://{addr}/{ACCOUNT}");
    let container = format!("{service}/{CONTAINER}?restype=container&{SAS}");
    curl(&[
        "--request",
        "PUT",
        "--header",
        "Content-Length: 0",
        &container,
    ]);

    let application = |secret: &str| {
        let mut config = config::<Azurite>(home.path(), addr);
        config.settings = json!({"storage": {"azure": {
            "accountname": ACCOUNT, "serviceurl": service, "container": CONTAINER,
            "skipverify": true,
            "credentials": {
                "type": "client_secret", "tenantid": "the-tenant", "clientid": "the-client",
                "secret": secret,
            },
        }}});
        config.env("AZURE_AUTHORITY_HOST", format!("http://{}", directory()))
    };
    let server = application("the-secret").start();
    let blob = noise(5, 12_000_000);
    let pushed = server.http().push_blob("app", &blob);
    let path = format!("/v2/app/blobs/{pushed}");
    let at = server.http().get(&path);
    let location = at.header("location").unwrap();
    assert!(location.contains("skoid=the-object"), "{location}");
    let file = home.path().join("got");
    curl(&["--output", file.to_str().unwrap(), location]);
    assert!(std::fs::read(&file).unwrap() == blob);
}

#[test]
fn requests_to_the_store_are_as_few_as_the_documentation_says() {
    let home = folder();
    let store = Azurite::start(home.path());
    let proxy = StoreProxy::start(store.addr);
    let start = || {
        config::<Azurite>(home.path(), proxy.addr)
            .set("storage.cache.blobdescriptor", "inmemory")
            .set("storage.maintenance.uploadpurging.enabled", false)
            .start()
    };
    let mut server: Wharfinger = start();
    let watched = |http| Watched {
        http,
        proxy: proxy.clone(),
    };
    let ours = counted(&watched(server.http()), "own", || {
        server.stop();
        server = start();
        watched(server.http())
    });
    let rows = WORK.iter().zip(&ours);
    let rows: Vec<_> = rows
        .map(|(work, (number, kinds))| format!("| {work} | {number} | {kinds} |"))
        .collect();
    let table = rows.join("\n");
    println!("{table}");
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/object-stores.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, docs) = docs.split_once("## Azure").unwrap();
    for (work, (number, _)) in WORK.iter().zip(&ours) {
        let row = format!("| {work} | {number} | ");
        assert!(
            docs.contains(&row),
            "docs/object-stores.md says otherwise than\n{table}"
        );
    }
}
