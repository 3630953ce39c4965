//! The pull-through cache with real upstreams and real clients.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::json;
use wharfinger_e2e::bucket::{ROOT, Store as _};
use wharfinger_e2e::clients::copy;
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::docker::Docker;
use wharfinger_e2e::image::small_image;
use wharfinger_e2e::s3::S3;
use wharfinger_e2e::token::{TokenService, User};
use wharfinger_e2e::{Config, Wharfinger, digest, eventually, folder, noise, run};

const STALE: Option<&str> = Some("110 - \"Response is Stale\"");

fn below(home: &Path, name: &str) -> PathBuf {
    let folder = home.join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A cache of another registry.
fn cache_of(home: &Path, upstream: std::net::SocketAddr) -> Config {
    Config::new(&below(home, "cache")).set("proxy.remoteurl", format!("http://{upstream}"))
}

/// Pulls an image as it is.
fn pull(server: &Wharfinger, image: &str, home: &Path, name: &str) {
    let to = format!("dir:{}", home.join(name).display());
    run(&mut copy(&format!("docker://{}", server.image(image)), &to));
}

fn metric(server: &Wharfinger, series: &str) -> f64 {
    let text = server.debug().get("/metrics").body;
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.unwrap_or_else(|| panic!("no {series} in {text}"));
    value.trim().parse().unwrap()
}

#[test]
fn what_was_pulled_through_outlives_distribution() {
    let home = folder();
    let (data, image) = (below(home.path(), "data"), small_image(home.path(), 1));
    let mut upstream = Distribution::start(home.path(), &data);
    run(&mut copy(
        &image,
        &format!("docker://{}", upstream.image("team/app:1")),
    ));
    let layer = noise(7, 20 << 20);
    let large = upstream.http().push_blob("team/app", &layer);
    let mut server = cache_of(home.path(), upstream.addr).watched().start();
    let http = server.http();

    let expected = upstream.http().digest("team/app", "1");
    assert_eq!(http.digest("team/app", "1"), expected);
    pull(&server, "team/app:1", home.path(), "first");
    let docker = Docker::start(home.path());
    run(docker
        .command()
        .args(["pull", "--quiet", &server.image("team/app:1")]));
    assert!(http.get(&format!("/v2/team/app/blobs/{large}")).body == layer);
    let tags = http.get("/v2/team/app/tags/list").json();
    assert_eq!(tags["tags"], json!(["1"]));
    let pushed = http.send("POST", "/v2/team/app/blobs/uploads/", &[], b"");
    assert_eq!(pushed.outcome(), (405, "UNSUPPORTED".to_owned()));
    let unknown = http.get("/v2/team/app/manifests/2");
    assert_eq!(unknown.outcome(), (404, "MANIFEST_UNKNOWN".to_owned()));
    let unknown = http.get(&format!("/v2/team/app/blobs/{}", digest(b"unknown")));
    assert_eq!(unknown.outcome(), (404, "BLOB_UNKNOWN".to_owned()));
    eventually("all blobs are kept", || {
        metric(&server, "registry_proxy_misses_total{type=\"blob\"}") == 4.0
            && server.blob_file(&large).exists()
    });
    let hits = metric(&server, "registry_proxy_hits_total{type=\"blob\"}");
    assert!(hits >= 3.0, "docker has pulled what skopeo had: {hits}");

    // Neither the upstream's end nor one's own loses anything.
    upstream.service.stop();
    server.kill();
    server.start_again();
    let http = server.http();
    pull(&server, "team/app:1", home.path(), "second");
    let answer = http.get("/v2/team/app/manifests/1");
    assert_eq!((answer.status, answer.header("warning")), (200, STALE));
    assert_eq!(answer.header("docker-content-digest"), Some(&*expected));
    assert!(http.get(&format!("/v2/team/app/blobs/{large}")).body == layer);
    let unknown = http.get("/v2/team/app/manifests/2");
    assert_eq!(unknown.outcome(), (503, "UNAVAILABLE".to_owned()));
    let port = upstream.addr.to_string();
    assert!(!String::from_utf8_lossy(&unknown.body).contains(&port));
    assert!(
        metric(
            &server,
            &format!("registry_proxy_upstream_stale_total{{upstream=\"{port}\"}}")
        ) >= 1.0
    );
    server.stop();
}

#[test]
fn a_private_upstream_lets_in_who_knows_its_password() {
    let home = folder();
    let users = [
        ("writer", User::new("w-s-e-cret").may("*", "pull,push")),
        ("reader", User::new("r-s-e-cret").may("team/*", "pull")),
    ];
    let service = TokenService::start(home.path(), users);
    let upstream = Config::new(&below(home.path(), "upstream"))
        .set("auth.token", service.section())
        .start();
    let image = small_image(home.path(), 2);
    for name in ["team/app:1", "other/app:1"] {
        let to = format!("docker://{}", upstream.image(name));
        run(copy(&image, &to).arg("--dest-creds=writer:w-s-e-cret"));
    }
    let helper = home.path().join("helper");
    let script = "#!/bin/sh\ntest \"$1\" = get && echo '{\"Username\":\"reader\",\"Secret\":\"r-s-e-cret\"}'\n";
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let known = cache_of(home.path(), upstream.addr);
    let configurations = [
        known
            .clone()
            .set("proxy.username", "reader")
            .set("proxy.password", "r-s-e-cret"),
        known
            .clone()
            .set("proxy.exec.command", helper.to_str().unwrap()),
    ];
    for (number, config) in configurations.into_iter().enumerate() {
        let config = config.data(&home.path().join(format!("kept-{number}")));
        let mut server = config.start();
        pull(
            &server,
            "team/app:1",
            home.path(),
            &format!("pulled-{number}"),
        );
        // It may not read this one; whoever asks is told so by status and code.
        let denied = server.http().get("/v2/other/app/manifests/1");
        assert_eq!(denied.outcome(), (401, "UNAUTHORIZED".to_owned()));
        assert!(!server.log().contains("s-e-cret"), "{}", server.log());
        server.stop();
    }
    assert!(
        service
            .asked()
            .contains(&"repository:team/app:pull".to_owned())
    );
    let wrong = known
        .set("proxy.username", "reader")
        .set("proxy.password", "wrong-s-e-cret")
        .data(&home.path().join("kept-wrong"));
    let mut server = wrong.start();
    let refused = server.http().get("/v2/team/app/manifests/1");
    assert_eq!(refused.outcome(), (401, "UNAUTHORIZED".to_owned()));
    assert!(!server.log().contains("s-e-cret"), "{}", server.log());
    server.stop();
}

#[test]
fn what_is_kept_in_a_bucket_outlives_the_upstream() {
    let home = folder();
    let s3 = S3::start(home.path());
    let mut upstream = Wharfinger::start(&below(home.path(), "upstream"));
    let to = format!("docker://{}", upstream.image("team/app:1"));
    run(&mut copy(&small_image(home.path(), 11), &to));
    let manifest = upstream.http().get("/v2/team/app/manifests/1");
    let (text, manifest) = (manifest.body.clone(), manifest.json());
    let layers = manifest["layers"].as_array().unwrap().iter();
    let blobs = layers.chain([&manifest["config"]]);
    let mut digests: Vec<_> = blobs
        .map(|blob| blob["digest"].as_str().unwrap().to_owned())
        .collect();
    digests.push(digest(&text));
    let mut server = s3
        .config(&below(home.path(), "cache"), s3.addr)
        .set("proxy.remoteurl", format!("http://{}", upstream.addr))
        .start();
    pull(&server, "team/app:1", home.path(), "cold");
    eventually("it is kept", || {
        let keys = s3.keys();
        digests.iter().all(|digest| {
            let hex = digest.trim_start_matches("sha256:");
            keys.contains(&format!("{ROOT}/blobs/sha256/{}/{hex}/data", &hex[..2]))
        })
    });
    upstream.stop();
    server.stop();
    server.start_again();
    pull(&server, "team/app:1", home.path(), "warm");
    let answer = server.http().get("/v2/team/app/manifests/1");
    assert_eq!((answer.status, answer.header("warning")), (200, STALE));
    assert_eq!(answer.body, text);
    let tags = server.http().get("/v2/team/app/tags/list");
    assert_eq!((tags.status, tags.header("warning")), (200, STALE));
    assert_eq!(tags.json()["tags"], json!(["1"]));
    // Clients get blobs from the bucket itself.
    let blob = server
        .http()
        .get(&format!("/v2/team/app/blobs/{}", digests[0]));
    assert_eq!(blob.status, 307);
    assert!(blob.header("location").unwrap().contains(S3::SIGNED));
    let unknown = server.http().get("/v2/team/app/manifests/2");
    assert_eq!(unknown.outcome(), (503, "UNAVAILABLE".to_owned()));
    server.stop();
}

#[test]
fn a_cache_that_is_killed_in_the_middle_keeps_nothing_that_is_wrong() {
    let home = folder();
    let data = below(home.path(), "data");
    let upstream = Distribution::start(home.path(), &data);
    let layer = noise(9, 64 << 20);
    let digest = upstream.http().push_blob("a", &layer);
    let mut server = cache_of(home.path(), upstream.addr).start();
    let path = format!("/v2/a/blobs/{digest}");
    let begun = server.http().begin("GET", &path, &[], 0).unwrap();
    // The download is under way, and nobody reads it.
    eventually("it is under way", || {
        server
            .open_files()
            .iter()
            .any(|file| file.to_string_lossy().ends_with(" (deleted)"))
    });
    server.signal(Signal::KILL);
    drop(begun);
    server.start_again();
    assert!(server.http().get(&path).body == layer);
    eventually("it is kept", || server.blob_file(&digest).exists());
    server.stop();
}
