//! Every client's images are every other client's, in both formats, and the digest is the same at
//! both ends.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::json;
use wharfinger_e2e::clients::{Client, ContainersStorage, all, convert, copy};
use wharfinger_e2e::image::{
    DOCKER_LIST, DOCKER_MANIFEST, INDEX, Layout, MANIFEST, descriptor, manifest,
};
use wharfinger_e2e::{Wharfinger, debian, folder, run};

/// A multi-platform index of images with layers in common, as skopeo's source.
fn small_index(home: &Path) -> String {
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let shared = layout.layer(&[(1, 300_000), (2, 1)]).unwrap();
    let images = ["amd64", "arm64"].map(|architecture| {
        let own = layout
            .layer(&[(architecture.len() as u64, 40_000)])
            .unwrap();
        let last = layout
            .layer(&[(u64::from(architecture.as_bytes()[1]), 3)])
            .unwrap();
        layout
            .image(architecture, &[shared.clone(), own, last])
            .unwrap()
    });
    let index = layout.index(&images).unwrap();
    layout.tag(&index, "index").unwrap();
    layout.tag(&images[0], "amd64").unwrap();
    format!("oci:{}", home.join("layout").display())
}

#[test]
fn what_each_client_pushes_each_client_pulls() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let layout = small_index(home.path());
    let clients = all(home.path());
    let origin = server.image("origin:amd64");
    run(&mut copy(
        &format!("{layout}:amd64"),
        &format!("docker://{origin}"),
    ));

    for client in &clients {
        let pulled = client.pull(&origin);
        assert_eq!(
            pulled,
            server.http().digest("origin", "amd64"),
            "{client:?}"
        );
        let name = format!("pushed/by/{}", client.name());
        let pushed = client.push(&origin, &server.image(&format!("{name}:1")));
        assert_eq!(pushed, server.http().digest(&name, "1"), "{client:?}");
        // The Engine pushes what it made itself in its own format.
        let format = if client.name() == "docker" {
            DOCKER_MANIFEST
        } else {
            MANIFEST
        };
        let answer = server.http().get(&format!("/v2/{name}/manifests/1"));
        assert_eq!(answer.header("content-type"), Some(format), "{client:?}");
    }
    for puller in &clients {
        for pusher in &clients {
            puller.forget();
            let name = format!("pushed/by/{}", pusher.name());
            let pulled = puller.pull(&server.image(&format!("{name}:1")));
            let digest = server.http().digest(&name, "1");
            assert_eq!(pulled, digest, "{} to {}", pusher.name(), puller.name());
            puller.pull(&server.image(&format!("{name}@{digest}")));
        }
    }
}

#[test]
fn debian_goes_from_hand_to_hand() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let mut image = server.image("debian/0:stable");
    run(&mut copy(debian::image(), &format!("docker://{image}")));
    for (hand, client) in all(home.path()).iter().enumerate() {
        let pulled = client.pull(&image);
        assert_eq!(
            pulled,
            server.http().digest(&format!("debian/{hand}"), "stable")
        );
        let name = format!("debian/{}", hand + 1);
        let next = server.image(&format!("{name}:stable"));
        let pushed = client.push(&image, &next);
        assert_eq!(pushed, server.http().digest(&name, "stable"), "{client:?}");
        client.forget();
        image = next;
    }

    // What came out at the end is still Debian, and runs.
    let podman = ContainersStorage::podman(&home.path().join("end"));
    podman.pull(&image);
    let mounted = run(podman.command().args(["image", "mount", &image]));
    let root = Path::new(mounted.trim());
    let release = std::fs::read_to_string(root.join("etc/os-release")).unwrap();
    assert!(release.contains("ID=debian"), "{release}");
    assert_eq!(
        std::fs::read_to_string(root.join("srv/copied")).unwrap(),
        release
    );
    assert_eq!(
        std::fs::read_link(root.join("srv/link")).unwrap(),
        Path::new("release")
    );
    assert!(
        !root.join("media").exists(),
        "the whiteout in the second layer was lost"
    );
    run(podman.command().args(["image", "unmount", &image]));
}

#[test]
fn an_index_is_pushed_and_pulled_whole_and_by_platform() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let layout = small_index(home.path());
    let http = server.http();
    let image = server.image("multi:1");
    run(&mut copy(
        &format!("{layout}:index"),
        &format!("docker://{image}"),
    ));
    let index = http.get("/v2/multi/manifests/1");
    assert_eq!(index.header("content-type"), Some(INDEX));
    let back = home.path().join("back");
    run(&mut copy(
        &format!("docker://{image}"),
        &format!("oci:{}:1", back.display()),
    ));
    let hex = http.digest("multi", "1").replace("sha256:", "");
    let kept = std::fs::read(back.join("blobs/sha256").join(hex)).unwrap();
    assert_eq!(kept, index.body);
    assert_eq!(index.json()["manifests"].as_array().unwrap().len(), 2);

    // Docker's own format of the same.
    let list = server.image("multi:docker");
    run(&mut convert(
        &format!("docker://{image}"),
        &format!("docker://{list}"),
        "v2s2",
    ));
    let answer = http.get("/v2/multi/manifests/docker");
    assert_eq!(answer.header("content-type"), Some(DOCKER_LIST));
    for nested in answer.json()["manifests"].as_array().unwrap() {
        let digest = nested["digest"].as_str().unwrap();
        let answer = http.get(&format!("/v2/multi/manifests/{digest}"));
        assert_eq!(answer.header("content-type"), Some(DOCKER_MANIFEST));
    }

    for client in all(home.path()) {
        for tag in ["1", "docker"] {
            client.pull(&server.image(&format!("multi:{tag}")));
            client.forget();
        }
    }
}

#[test]
fn artifacts_are_listed_with_their_subject() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let http = server.http();
    let layout = small_index(home.path());
    run(&mut copy(
        &format!("{layout}:amd64"),
        &format!("docker://{}", server.image("signed:1")),
    ));
    let subject = http.digest("signed", "1");
    let size = http.get("/v2/signed/manifests/1").body.len();
    let referrers = format!("/v2/signed/referrers/{subject}");
    assert_eq!(http.get(&referrers).json()["manifests"], json!([]));

    let empty = "application/vnd.oci.empty.v1+json";
    http.push_blob("signed", b"{}");
    let mut expected = BTreeSet::new();
    for kind in [
        "application/vnd.example.sbom",
        "application/vnd.example.signature",
    ] {
        let payload = format!("what {kind} says");
        http.push_blob("signed", payload.as_bytes());
        let artifact = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind,
            "config": descriptor(empty, b"{}"),
            "layers": [descriptor("text/plain", payload.as_bytes())],
            "subject": {"mediaType": MANIFEST, "digest": subject, "size": size},
            "annotations": {"kind": kind},
        });
        let bytes = artifact.to_string().into_bytes();
        let digest = wharfinger_e2e::digest(&bytes);
        let pushed = http.push_manifest("signed", &digest, MANIFEST, &bytes);
        assert_eq!(pushed.status, 201, "{pushed:?}");
        assert_eq!(pushed.header("oci-subject"), Some(subject.as_str()));
        expected.insert((kind.to_owned(), digest));
    }
    let listed = |path: &str| -> BTreeSet<(String, String)> {
        let answer = http.get(path);
        assert_eq!(answer.header("content-type"), Some(INDEX));
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let manifests = answer.json()["manifests"].as_array().unwrap().clone();
        let mut found = BTreeSet::new();
        for listed in manifests {
            assert_eq!(listed["annotations"]["kind"], listed["artifactType"]);
            found.insert((text(&listed["artifactType"]), text(&listed["digest"])));
        }
        found
    };
    assert_eq!(listed(&referrers), expected);
    let (kind, digest) = expected.first().unwrap().clone();
    let filtered = listed(&format!("{referrers}?artifactType={kind}"));
    assert_eq!(filtered, BTreeSet::from([(kind, digest.clone())]));

    // An artifact is an image to skopeo: it goes to another repository as it is.
    let from = server.image(&format!("signed@{digest}"));
    let to = server.image("elsewhere:artifact");
    run(&mut copy(
        &format!("docker://{from}"),
        &format!("docker://{to}"),
    ));
    assert_eq!(http.digest("elsewhere", "artifact"), digest);

    let gone = http.send(
        "DELETE",
        &format!("/v2/signed/manifests/{digest}"),
        &[],
        b"",
    );
    assert_eq!(gone.status, 202, "{gone:?}");
    expected.pop_first();
    assert_eq!(listed(&referrers), expected);
}

#[test]
fn an_image_whose_layers_are_missing_is_refused() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let http = server.http();
    http.push_blob("half", b"{}");
    let bytes = manifest(b"{}", &[b"never pushed"]);
    let refused = http.push_manifest("half", "1", MANIFEST, &bytes);
    assert_eq!(refused.code(), "MANIFEST_BLOB_UNKNOWN", "{refused:?}");
    assert_eq!(http.get("/v2/half/manifests/1").outcome().0, 404);
}
