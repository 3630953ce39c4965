//! Middlewares around the store: where clients are sent, and that they get everything there.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use wharfinger_e2e::bucket::Store;
use wharfinger_e2e::clients::{Client, Skopeo, copy};
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::edge::{Edge, KEY_ID, Nginx, key_pair};
use wharfinger_e2e::image::Layout;
use wharfinger_e2e::s3::{BUCKET, S3};
use wharfinger_e2e::store_proxy::StoreProxy;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, run};

/// Pushes an image of one layer; gives the digests of its manifest and layer.
fn push(home: &Path, server: &Wharfinger) -> (String, String) {
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let layer = layout.layer(&[(7, 300_000)]).unwrap();
    let image = layout.image("amd64", std::slice::from_ref(&layer)).unwrap();
    let source = layout.tag(&image, "t").unwrap();
    run(&mut copy(
        &source,
        &format!("docker://{}", server.image("a/b:1")),
    ));
    let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    (text(&image), text(&layer))
}

fn blob_path(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// Where a client that asks for a blob is sent.
fn sent_to(http: Http, method: &str, digest: &str) -> String {
    let answer = http.send(method, &format!("/v2/a/b/blobs/{digest}"), &[], b"");
    assert_eq!(answer.status, 307, "{answer:?}");
    answer.header("location").unwrap().to_owned()
}

fn middlewares(all: &[Value]) -> Value {
    json!({"middleware": {"storage": all}})
}

/// The settings of a bucket with middlewares around it.
fn around(store: std::net::SocketAddr, all: &[Value]) -> Value {
    let mut settings = S3::settings(store);
    settings["middleware"] = middlewares(all)["middleware"].clone();
    settings
}

#[test]
fn a_web_server_on_the_same_folder_answers_instead() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let (manifest, layer) = push(home.path(), &server);
    server.stop();
    let nginx = Nginx::start(home.path(), server.data());
    let base = format!("http://{}/files", nginx.addr);
    let redirect = json!({"name": "redirect", "options": {"baseurl": base}});
    let off = json!({"name": "rewrite", "disabled": true, "options": {"host": "nowhere.invalid"}});
    let mut config = Config::new(home.path());
    config.settings = middlewares(&[redirect.clone(), off]);
    let mut server = config.start();
    for method in ["GET", "HEAD"] {
        let location = sent_to(server.http(), method, &layer);
        assert_eq!(location, format!("{base}{}", blob_path(&layer)));
    }
    assert_eq!(
        Skopeo::new(home.path()).pull(&server.image("a/b:1")),
        manifest
    );
    let served = format!("GET /files{} HTTP/1.1\" 200", blob_path(&layer));
    assert!(
        nginx.service.log().contains(&served),
        "{}",
        nginx.service.log()
    );

    // A change needs a restart, which the log says.
    config.settings = middlewares(&[]);
    config.write();
    server.signal(Signal::HUP);
    eventually("it is read again", || {
        let log = server.log();
        log.contains("not taken on: this needs a restart") && log.contains("middleware.storage")
    });
    assert!(sent_to(server.http(), "GET", &layer).starts_with(&base));
    server.stop();

    // Distribution 2.8 leaves the path out of the address, so this one has none.
    let plain =
        json!({"name": "redirect", "options": {"baseurl": format!("http://{}", nginx.addr)}});
    let settings = middlewares(&[plain]);
    config.settings = settings.clone();
    let server = config.start();
    let other = Distribution::start_with(home.path(), server.data(), &settings);
    for method in ["GET", "HEAD"] {
        let [ours, theirs] =
            [server.http(), other.http()].map(|http| sent_to(http, method, &layer));
        assert_eq!(ours, theirs);
    }
}

#[test]
fn a_bucket_is_reached_by_another_address() {
    let home = folder();
    let store = S3::start(home.path());
    let proxy = StoreProxy::start(store.addr());
    let rewrite = json!({"name": "rewrite", "options": {"host": proxy.addr, "scheme": "http"}});
    let mut config = Config::new(home.path());
    config.settings = around(store.addr(), &[rewrite]);
    let mut server = config.start();
    let (manifest, layer) = push(home.path(), &server);
    let location = sent_to(server.http(), "GET", &layer);
    let key = format!("/some/where{}", blob_path(&layer));
    let place = format!("http://{}/{BUCKET}{key}?", proxy.addr);
    assert!(location.starts_with(&place), "{location}");
    assert!(location.contains("X-Amz-Signature="), "{location}");
    proxy.count_anew();
    assert_eq!(
        Skopeo::new(home.path()).pull(&server.image("a/b:1")),
        manifest
    );
    // The layer and the image's configuration.
    assert_eq!(proxy.counts().get("GetObject"), Some(&2));
    server.stop();

    // Every one changes what the one before it has said.
    let options = json!({"scheme": "https", "trimpathprefix": format!("/{BUCKET}/some")});
    let first = json!({"name": "rewrite", "options": options});
    let second = json!({"name": "rewrite", "options": {"host": "cdn.example:8443"}});
    config.settings = around(store.addr(), &[first, second]);
    let server = config.start();
    let location = sent_to(server.http(), "GET", &layer);
    let place = format!("https://cdn.example:8443/where{}?", blob_path(&layer));
    assert!(location.starts_with(&place), "{location}");
}

#[test]
fn cloudfront_answers_whoever_has_a_signed_address() {
    let home = folder();
    let store = S3::start(home.path());
    let (private, public) = key_pair(home.path());
    let edge = Edge::start(store.addr(), public);
    let list = |network: &str| {
        let prefix = json!({"ip_prefix": network, "region": "eu-central-1", "service": "EC2"});
        edge.publish(
            "/ip-ranges.json",
            &json!({"prefixes": [prefix]}).to_string(),
        );
    };
    let base = format!("http://{}", edge.addr);
    let plain = json!({
        "baseurl": base, "privatekey": private, "keypairid": KEY_ID, "duration": "300s",
    });
    let cloudfront = |options: &Value| json!({"name": "cloudfront", "options": options});
    let mut config = Config::new(home.path());
    config.settings = around(store.addr(), &[cloudfront(&plain)]);
    let mut server = config.start();
    let (manifest, layer) = push(home.path(), &server);
    let key = format!("/some/where{}", blob_path(&layer));
    assert_eq!(
        Skopeo::new(home.path()).pull(&server.image("a/b:1")),
        manifest
    );
    assert!(
        edge.answered().contains(&(key.clone(), 200)),
        "{:?}",
        edge.answered()
    );
    assert!(edge.answered().iter().all(|(_, status)| *status == 200));

    let location = sent_to(server.http(), "GET", &layer);
    let target = location.strip_prefix(&base).unwrap();
    let got = Http(edge.addr).get(target);
    assert_eq!((got.status, digest(&got.body)), (200, layer.clone()));
    // The signature holds for this address and no later time.
    let other = target.replace("Expires=1", "Expires=2");
    let another = target.replace("/data?", "/date?");
    for wrong in [target.split('?').next().unwrap(), &other, &another] {
        assert_eq!(Http(edge.addr).get(wrong).status, 403, "{wrong}");
    }

    // Distribution says the same.
    let theirs = home.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let settings = around(store.addr(), &[cloudfront(&plain)]);
    let distribution = Distribution::start_with(&theirs, &theirs, &settings);
    let parts = |location: &str| {
        let (address, query) = location.split_once('?').unwrap();
        let names = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let names: Vec<_> = names
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        (address.to_owned(), names)
    };
    for method in ["GET", "HEAD"] {
        let [ours, other] = [server.http(), distribution.http()]
            .map(|http| sent_to(http, method, &layer))
            .map(|location| parts(&location));
        assert_eq!(ours.0, other.0);
        let [ours, other] = [ours.1, other.1];
        let names = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&ours), names(&other));
        assert_eq!(names(&ours), ["Expires", "Signature", "Key-Pair-Id"]);
        let ends = [&ours, &other].map(|pairs| pairs[0].1.parse::<i64>().unwrap());
        assert!((ends[0] - ends[1]).abs() < 60, "{ends:?}");
        assert_eq!(ours[1].1.len(), other[1].1.len());
        assert_eq!(ours[2], other[2]);
    }
    server.stop();

    // Clients within Amazon's networks go to the bucket; the list is asked for again.
    let mut filtered = plain.clone();
    filtered["ipfilteredby"] = "awsregion".into();
    filtered["awsregion"] = "us-east-1, eu-central-1".into();
    filtered["iprangesurl"] = format!("{base}/ip-ranges.json").into();
    filtered["updatefrequency"] = "1s".into();
    list("127.0.0.0/8");
    config.settings = around(store.addr(), &[cloudfront(&filtered)]);
    let server = config.start();
    let to_the_bucket = || sent_to(server.http(), "GET", &layer).contains("X-Amz-Signature=");
    assert!(to_the_bucket());
    list("10.0.0.0/8");
    eventually("the networks have changed", || !to_the_bucket());
    list("127.0.0.0/8");
    eventually("the networks have changed", to_the_bucket);
    // What was known stays.
    edge.publish("/other", "");
    eventually("the list is missed", || {
        server
            .log()
            .contains("Amazon's networks could not be asked for")
    });
    assert!(to_the_bucket());
}

#[test]
fn a_key_that_cannot_be_read_stops_the_start() {
    let home = folder();
    let store = S3::start(home.path());
    let file = home.path().join("key.pem");
    let options = json!({"baseurl": "d.example", "privatekey": file, "keypairid": KEY_ID});
    let mut config = Config::new(home.path());
    config.settings = around(
        store.addr(),
        &[json!({"name": "cloudfront", "options": options})],
    );
    for (content, reason) in [
        (None, "No such file"),
        (Some("nothing"), "it holds no private RSA key in PEM"),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).unwrap();
        }
        let mut service = config.spawn();
        assert!(!service.wait().success());
        let log = service.log();
        let key = "middleware.storage[0].options.privatekey: ";
        assert!(
            log.contains("wharfinger.yml:") && log.contains(key),
            "{log}"
        );
        assert!(log.contains(reason), "{log}");
    }
}
