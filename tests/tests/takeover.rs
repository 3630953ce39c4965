//! One data folder under two registries, in both directions: what Debian's docker-registry wrote
//! Wharfinger serves, and the reverse.

use std::path::Path;

use serde_json::{Value, json};
use wharfinger_e2e::clients::{convert, copy};
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::http::{OCTETS, with_digest};
use wharfinger_e2e::image::{Layout, MANIFEST, manifest};
use wharfinger_e2e::{Config, Http, Wharfinger, debian, digest, folder, noise, run};

/// One of the two, running on a folder.
enum Registry {
    Distribution(Distribution),
    Wharfinger(Wharfinger),
}

impl Registry {
    fn distribution(home: &Path) -> Self {
        Self::Distribution(Distribution::start(home, &home.join("data")))
    }

    fn wharfinger(home: &Path) -> Self {
        Self::Wharfinger(Config::new(home).start())
    }

    fn http(&self) -> Http {
        match self {
            Self::Distribution(registry) => registry.http(),
            Self::Wharfinger(registry) => registry.http(),
        }
    }

    fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.http().0)
    }

    fn stop(self) {
        match self {
            Self::Distribution(mut registry) => registry.service.stop(),
            Self::Wharfinger(mut registry) => registry.stop(),
        };
    }
}

/// Starts the first registry and, when it has stopped, the second one, on the same folder.
type Start = fn(&Path) -> Registry;

/// What a registry says of everything that is to stay the same under the other: of content all,
/// of lists the entries, of errors status and code.
fn answers(http: Http, paths: &[String]) -> Vec<Value> {
    let told = |path: &String| {
        let answer = http.get(path);
        let list = ["/_catalog", "/tags/list"]
            .iter()
            .any(|end| path.ends_with(end));
        if answer.status != 200 {
            json!({"path": path, "error": answer.outcome()})
        } else if list {
            let mut list = answer.json();
            // Where all tags went, Distribution writes null for a list without entries.
            if list.get("tags") == Some(&Value::Null) {
                list["tags"] = json!([]);
            }
            json!({"path": path, "list": list})
        } else {
            let headers = [
                "docker-content-digest",
                "content-type",
                "content-length",
                "etag",
            ];
            let headers = headers.map(|name| answer.header(name));
            json!({"path": path, "headers": headers, "body": digest(&answer.body)})
        }
    };
    paths.iter().map(told).collect()
}

fn assert_same(now: &[Value], before: &[Value]) {
    for (now, before) in now.iter().zip(before) {
        assert_eq!(now, before);
    }
}

/// Pushes a bit of everything with the first registry, and expects the second to give the same
/// answers; then changes things with the second, and expects the first to follow.
fn taken_over(first: Start, second: Start) {
    let home = folder();
    let home = home.path();
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let base = layout.layer(&[(1, 200_000)]).unwrap();
    let images = ["amd64", "arm64"].map(|architecture| {
        let own = layout
            .layer(&[(architecture.len() as u64 + 7, 70_000)])
            .unwrap();
        layout.image(architecture, &[base.clone(), own]).unwrap()
    });
    let index = layout.index(&images).unwrap();
    let source = layout.tag(&index, "index").unwrap();

    let registry = first(home);
    run(&mut copy(debian::image(), &registry.image("debian:stable")));
    run(&mut copy(&source, &registry.image("a/b/multi:1")));
    run(&mut copy(&source, &registry.image("a/multi:1")));
    let docker = registry.image("docker:2");
    run(&mut convert(debian::image(), &docker, "v2s2"));
    let http = registry.http();
    let moved = manifest(b"{}", &[]);
    http.push_blob("debian", b"{}");
    assert_eq!(
        http.push_manifest("debian", "stable", MANIFEST, &moved)
            .status,
        201
    );
    let missing = digest(b"never pushed");
    let mut paths: Vec<String> = [
        "_catalog",
        "debian/tags/list",
        "a/b/multi/tags/list",
        "a/b/multi/manifests/1",
        "a/multi/manifests/1",
        "docker/manifests/2",
        "debian/manifests/stable",
        "debian/manifests/none",
        "none/tags/list",
        &format!("debian/blobs/{missing}"),
    ]
    .iter()
    .map(|path| format!("/v2/{path}"))
    .collect();
    for (name, tag) in [("docker", "2"), ("debian", "stable")] {
        let content = http.get(&format!("/v2/{name}/manifests/{tag}")).json();
        let layers = content["layers"].as_array().unwrap().iter();
        for part in layers.chain([&content["config"]]) {
            let digest = part["digest"].as_str().unwrap();
            paths.push(format!("/v2/{name}/blobs/{digest}"));
        }
    }
    for image in &images {
        paths.push(format!(
            "/v2/a/multi/manifests/{}",
            image["digest"].as_str().unwrap()
        ));
    }
    let told = answers(http, &paths);
    registry.stop();

    let registry = second(home);
    assert_same(&answers(registry.http(), &paths), &told);
    let back = home.join("back");
    run(&mut copy(
        &registry.image("a/b/multi:1"),
        &format!("dir:{}", back.display()),
    ));

    // The other one goes on with it: content it has is known to it, tags move, manifests go.
    let http = registry.http();
    let known = base["digest"].as_str().unwrap();
    let mount = format!("/v2/new/blobs/uploads/?mount={known}&from=a/multi");
    assert_eq!(http.send("POST", &mount, &[], b"").status, 201);
    run(&mut copy(&source, &registry.image("new:1")));
    assert_eq!(
        http.push_manifest("debian", "second", MANIFEST, &moved)
            .status,
        201
    );
    let gone = digest(&http.get("/v2/a/b/multi/manifests/1").body);
    let deleted = http.send(
        "DELETE",
        &format!("/v2/a/b/multi/manifests/{gone}"),
        &[],
        b"",
    );
    assert_eq!(deleted.status, 202, "{deleted:?}");
    paths.push("/v2/new/manifests/1".to_owned());
    paths.push("/v2/new/tags/list".to_owned());
    paths.push("/v2/debian/manifests/second".to_owned());
    let told = answers(http, &paths);
    registry.stop();

    let registry = first(home);
    assert_same(&answers(registry.http(), &paths), &told);
    registry.stop();
}

#[test]
fn wharfinger_takes_over_from_distribution() {
    taken_over(Registry::distribution, Registry::wharfinger);
}

#[test]
fn distribution_takes_over_from_wharfinger() {
    taken_over(Registry::wharfinger, Registry::distribution);
}

/// Begins an upload under one registry, goes on under the other, and ends it under the first.
fn upload_handed_over(first: Start, second: Start) {
    let home = folder();
    let home = home.path();
    let bytes = noise(1, 9_000_000);
    let pieces = [
        &bytes[..3_000_001],
        &bytes[3_000_001..6_000_100],
        &bytes[6_000_100..],
    ];
    let registry = first(home);
    let location = registry.http().open_upload("handed/over");
    let begun = registry
        .http()
        .send("PATCH", &location, &[OCTETS], pieces[0]);
    assert_eq!(begun.status, 202, "{begun:?}");
    registry.stop();
    let registry = second(home);
    let status = registry.http().get(&begun.location());
    assert_eq!(status.status, 204, "{status:?}");
    assert_eq!(status.header("range"), Some("0-3000000"));
    let more = registry
        .http()
        .send("PATCH", &status.location(), &[OCTETS], pieces[1]);
    assert_eq!(more.status, 202, "{more:?}");
    assert_eq!(more.header("range"), Some("0-6000099"));
    registry.stop();
    let registry = first(home);
    let wanted = digest(&bytes);
    let path = with_digest(&more.location(), &wanted);
    let done = registry.http().send("PUT", &path, &[OCTETS], pieces[2]);
    assert_eq!(done.outcome(), (201, String::new()), "{done:?}");
    let path = format!("/v2/handed/over/blobs/{wanted}");
    assert!(registry.http().get(&path).body == bytes);
    registry.stop();
    let registry = second(home);
    assert!(registry.http().get(&path).body == bytes);
}

#[test]
fn an_upload_begun_under_distribution_goes_on_under_wharfinger() {
    upload_handed_over(Registry::distribution, Registry::wharfinger);
}

#[test]
fn an_upload_begun_under_wharfinger_goes_on_under_distribution() {
    upload_handed_over(Registry::wharfinger, Registry::distribution);
}
