//! Garbage collection while the registry serves.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use wharfinger_e2e::clients::copy;
use wharfinger_e2e::image::Layout;
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, run};

const GC: &str = "storage.maintenance.gc";

/// Pushes an image of one layer, unless the registry says that it has it; gives the digests of
/// manifest, config and layer.
fn push(http: Http, name: &str, tag: &str, seed: u64) -> [String; 3] {
    http.push_image_by(name, tag, seed, |blob| {
        let digest = digest(blob);
        match http.head(&format!("/v2/{name}/blobs/{digest}")).status {
            200 => digest,
            _ => http.push_blob(name, blob),
        }
    })
}

fn delete(http: Http, name: &str, digest: &str) {
    let path = format!("/v2/{name}/manifests/{digest}");
    assert_eq!(http.send("DELETE", &path, &[], b"").status, 202);
}

fn pulls(http: Http, name: &str, image: &[String; 3]) {
    let [manifest, blobs @ ..] = image;
    let path = format!("/v2/{name}/manifests/{manifest}");
    assert_eq!(http.get(&path).status, 200, "{path}");
    for blob in blobs {
        let answer = http.get(&format!("/v2/{name}/blobs/{blob}"));
        assert_eq!((answer.status, digest(&answer.body)), (200, blob.clone()));
    }
}

fn has(server: &Wharfinger, blob: &str) -> bool {
    server.blob_file(blob).is_file()
}

/// A whole image of skopeo's, pushed again and again while its layers are condemned and removed.
#[test]
fn the_command_works_beside_a_registry_that_is_pushed_to() {
    let home = folder();
    let home = home.path();
    let mut server = Wharfinger::start(home);
    let http = server.http();
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let layers = [
        layout.layer(&[(1, 3000)]).unwrap(),
        layout.layer(&[(2, 2_000_000)]).unwrap(),
    ];
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "t").unwrap();
    let push_by_skopeo = |name: &str, server: &Wharfinger| {
        let target = format!("docker://{}", server.image(name));
        run(&mut copy(&source, &target));
    };
    push_by_skopeo("skopeo:1", &server);
    delete(http, "skopeo", image["digest"].as_str().unwrap());
    let stays = push(http, "a", "latest", 1);
    let goes = push(http, "a", "gone", 2);
    let comes_back = push(http, "a", "back", 3);
    for image in [&goes, &comes_back] {
        delete(http, "a", &image[0]);
    }

    let printed = home.join("collector.out");
    let mut command = Command::new(binary());
    command.args(["garbage-collect", "--grace", "0s"]);
    command.arg(home.join("wharfinger.yml"));
    let out = File::create(&printed).unwrap();
    let mut collector = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let said = || std::fs::read_to_string(&printed).unwrap();
    eventually("the condemned are known", || {
        said().contains("others may write to the store")
    });
    // It may still act on what it read just before.
    sleep(Duration::from_secs(11));
    push_by_skopeo("skopeo:2", &server);
    assert_eq!(push(http, "a", "back", 3), comes_back);
    eventually("it is about to remove", || said().contains("the rest goes"));
    // One that restarts knows nothing of all that.
    server.kill();
    server.start_again();
    let http = server.http();
    let more: Vec<_> = (10..20).map(|seed| push(http, "b", "t", seed)).collect();
    let head = http.head(&format!("/v2/a/blobs/{}", goes[2]));
    assert_eq!(head.status, 404);
    assert!(has(&server, &goes[2]), "it was removed too early");
    // This waits for the end.
    let again = push(http, "a", "again", 2);
    assert_eq!(again, goes);
    assert!(collector.wait().unwrap().success());
    let said = said();
    assert!(said.contains(" things are needed again"), "{said}");
    assert!(
        said.contains(&format!("blob eligible for deletion: {}", goes[2])),
        "{said}"
    );
    for image in [&stays, &comes_back, &again] {
        pulls(http, "a", image);
    }
    for image in &more {
        pulls(http, "b", image);
    }
    let from = format!("docker://{}", server.image("skopeo:2"));
    run(&mut copy(
        &from,
        &format!("dir:{}", home.join("pulled").display()),
    ));
    server.stop();
}

#[test]
fn an_operator_asks_for_a_collection_and_watches_it() {
    let home = folder();
    let config = Config::new(home.path()).watched();
    let server = config.set(&format!("{GC}.grace"), "0s").start();
    let (http, debug) = (server.http(), server.debug());
    let stays = push(http, "a", "latest", 1);
    let goes = push(http, "a", "gone", 2);
    delete(http, "a", &goes[0]);
    let begun = debug.send("POST", "/debug/gc?dryrun=true", &[], b"");
    assert_eq!(begun.status, 202, "{begun:?}");
    eventually("the dry run is over", || {
        server.log().contains("the collection is over")
    });
    assert!(has(&server, &goes[2]));

    let begun = debug.send("POST", "/debug/gc", &[], b"");
    assert_eq!(begun.status, 202, "{begun:?}");
    eventually("it has marked", || {
        debug.get("/debug/gc").json()["activity"] == "condemned"
    });
    let told = debug.get("/debug/gc").json();
    assert_eq!(told["condemned"], 3);
    let (done, expected) = (told["done"].as_u64(), told["expected"].as_u64());
    assert!(done < expected && told["seconds_left"].is_u64(), "{told}");
    assert_eq!(debug.send("POST", "/debug/gc", &[], b"").status, 409);
    let metrics = || String::from_utf8(debug.get("/metrics").body).unwrap();
    assert!(
        metrics().contains("\nregistry_gc_activity 3\n"),
        "{}",
        metrics()
    );
    for _ in 0..30 {
        sleep(Duration::from_secs(2));
        if debug.get("/debug/gc").json()["activity"] == "idle" {
            break;
        }
    }
    let told = debug.get("/debug/gc").json();
    assert_eq!(
        (&told["succeeded"], &told["failed"]),
        (&1.into(), &0.into()),
        "{told}"
    );
    assert_eq!(told["removed_blobs"], 3);
    let last = &told["last"];
    assert_eq!((&last["blobs"], &last["marked"]), (&3.into(), &3.into()));
    for line in [
        "looking for what manifests need",
        "removing what is not needed",
    ] {
        assert!(server.log().contains(line), "{line}");
    }
    assert!(
        metrics().contains("\nregistry_gc_removed_blobs_total 3\n"),
        "{}",
        metrics()
    );
    assert!(!has(&server, &goes[2]));
    pulls(http, "a", &stays);
}

#[test]
fn a_schedule_is_kept() {
    let home = folder();
    let config = Config::new(home.path())
        .set(&format!("{GC}.enabled"), true)
        .set(&format!("{GC}.interval"), "1s")
        .set(&format!("{GC}.dryrun"), true);
    let server = config.start();
    push(server.http(), "a", "latest", 1);
    eventually("it collects again and again", || {
        server.log().matches("the collection is over").count() >= 3
    });
}
