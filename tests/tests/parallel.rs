//! Many clients at once, with layers in common.

use std::thread;

use wharfinger_e2e::clients::{Client, ContainersStorage, Skopeo, all, copy};
use wharfinger_e2e::image::{Layout, MANIFEST, manifest};
use wharfinger_e2e::{Wharfinger, digest, folder, noise, run};

#[test]
fn many_clients_push_and_pull_the_same_layers() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let mut layout = Layout::create(&home.path().join("layout")).unwrap();
    let shared: Vec<_> = (0..4)
        .map(|seed| layout.layer(&[(seed, 3_000_000)]).unwrap())
        .collect();
    let sources: Vec<_> = (0..8)
        .map(|number| {
            let mut layers = shared.clone();
            layers.push(layout.layer(&[(100 + number, 5000)]).unwrap());
            let image = layout.image("amd64", &layers).unwrap();
            let source = layout.tag(&image, &number.to_string()).unwrap();
            (source, image["digest"].as_str().unwrap().to_owned())
        })
        .collect();

    // Half of them into one repository, half into their own.
    let name = |number: usize| match number % 2 {
        0 => "parallel/shared".to_owned(),
        _ => format!("parallel/own/{number}"),
    };
    thread::scope(|scope| {
        for (number, (source, digest)) in sources.iter().enumerate() {
            let (server, home, name) = (&server, &home, name(number));
            scope.spawn(move || {
                let image = server.image(&format!("{name}:{number}"));
                let home = home.path().join(number.to_string());
                run(&mut copy(source, &format!("docker://{image}")));
                // Each pulls what it pushed while the others still push.
                assert_eq!(Skopeo::new(&home).pull(&image), *digest);
            });
        }
    });
    for (number, (_, digest)) in sources.iter().enumerate() {
        assert_eq!(
            server.http().digest(&name(number), &number.to_string()),
            *digest
        );
    }

    let image = server.image("parallel/shared:0");
    thread::scope(|scope| {
        for number in 0..3 {
            let (image, home, digest) = (&image, &home, &sources[0].1);
            scope.spawn(move || {
                let home = home.path().join(format!("pull-{number}"));
                assert_eq!(Skopeo::new(&home).pull(image), *digest);
                let client = match number % 2 {
                    0 => ContainersStorage::podman(&home),
                    _ => ContainersStorage::buildah(&home),
                };
                assert_eq!(client.pull(image), *digest);
            });
        }
    });
    // The four layers in common are kept once.
    for layer in &shared {
        let file = server.blob_file(layer["digest"].as_str().unwrap());
        let size = std::fs::metadata(file).unwrap().len();
        assert_eq!(size, layer["size"].as_u64().unwrap());
    }
}

#[test]
fn every_kind_of_client_pushes_and_pulls_at_once() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let mut layout = Layout::create(&home.path().join("layout")).unwrap();
    let layers = [1, 2, 3].map(|seed| layout.layer(&[(seed, 4_000_000)]).unwrap());
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "1").unwrap();
    let origin = server.image("origin:1");
    run(&mut copy(&source, &format!("docker://{origin}")));
    let clients = all(home.path());
    thread::scope(|scope| {
        for client in &clients {
            let (server, origin) = (&server, &origin);
            scope.spawn(move || {
                for turn in 0..3 {
                    let pulled = client.pull(origin);
                    assert_eq!(pulled, server.http().digest("origin", "1"), "{client:?}");
                    let tag = format!("{}-{turn}", client.name());
                    let image = server.image(&format!("all/together:{tag}"));
                    let pushed = client.push(origin, &image);
                    let told = server.http().digest("all/together", &tag);
                    assert_eq!(pushed, told, "{client:?}");
                    client.forget();
                    assert_eq!(client.pull(&image), told, "{client:?}");
                    client.forget();
                }
            });
        }
    });
    let tags = server.http().get("/v2/all/together/tags/list").json();
    assert_eq!(tags["tags"].as_array().unwrap().len(), 15, "{tags}");
}

#[test]
fn one_blob_pushed_by_many_at_once_is_kept_once_and_whole() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let bytes = noise(1, 5_000_000);
    thread::scope(|scope| {
        for number in 0..16 {
            let (http, bytes) = (server.http(), &bytes);
            scope.spawn(move || {
                let name = format!("same/{}", number % 4);
                let digest = http.push_blob(&name, bytes);
                let path = format!("/v2/{name}/blobs/{digest}");
                assert!(http.get(&path).body == *bytes);
            });
        }
    });
    let kept = std::fs::read(server.blob_file(&digest(&bytes))).unwrap();
    assert!(kept == bytes);
}

#[test]
fn a_tag_that_is_pushed_again_and_again_is_always_whole() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let http = server.http();
    http.push_blob("moving", b"{}");
    let versions: Vec<_> = (0..6)
        .map(|seed| {
            let layer = noise(seed, 2000);
            http.push_blob("moving", &layer);
            manifest(b"{}", &[&layer])
        })
        .collect();
    let push = |version: &[u8]| {
        let pushed = http.push_manifest("moving", "latest", MANIFEST, version);
        assert_eq!(pushed.status, 201, "{pushed:?}");
    };
    push(&versions[0]);
    thread::scope(|scope| {
        for pusher in 0..3 {
            let (push, versions) = (&push, &versions);
            scope.spawn(move || {
                for turn in 0..40 {
                    push(&versions[(turn + 2 * pusher) % versions.len()]);
                }
            });
        }
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let answer = http.get("/v2/moving/manifests/latest");
                    assert_eq!(answer.outcome(), (200, String::new()));
                    assert!(versions.contains(&answer.body));
                    let told = answer.header("docker-content-digest");
                    assert_eq!(told, Some(digest(&answer.body).as_str()));
                }
            });
        }
    });
}
