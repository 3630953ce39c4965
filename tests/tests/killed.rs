//! Clients and servers that are killed in the middle: what was acknowledged is there, and the rest
//! can be sent again.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use wharfinger_e2e::clients::{all, copy};
use wharfinger_e2e::http::with_digest;
use wharfinger_e2e::image::{Layout, MANIFEST, manifest};
use wharfinger_e2e::process::Service;
use wharfinger_e2e::{Http, Wharfinger, digest, eventually, folder, noise, run};

const MIB: u64 = 1 << 20;

/// How many bytes the uploads of a repository have put on disk.
fn uploaded(server: &Wharfinger, name: &str) -> u64 {
    let folder = server.repository(name).join("_uploads");
    let uploads = std::fs::read_dir(folder).into_iter().flatten();
    let data = uploads.filter_map(|upload| upload.ok()?.path().join("data").metadata().ok());
    data.map(|data| data.len()).sum()
}

#[test]
fn a_push_that_was_killed_can_be_made_again() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let mut layout = Layout::create(&home.path().join("layout")).unwrap();
    let layers = [1, 2].map(|seed| layout.layer(&[(seed, 120 * MIB)]).unwrap());
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "1").unwrap();
    let origin = server.image("origin:1");
    run(&mut copy(&source, &format!("docker://{origin}")));

    for client in all(home.path()) {
        client.pull(&origin);
        // A second server, for the first has all the layers.
        let home = folder();
        let server = Wharfinger::start(home.path());
        let target = server.image("killed:1");
        let log = home.path().join("client.log");
        let mut push = Service::start(&mut client.push_command(&origin, &target), &log);
        eventually("it sends", || uploaded(&server, "killed") > 10 * MIB);
        assert!(push.ended().is_none(), "{client:?}: {}", push.log());
        push.kill();
        let missing = server.http().get("/v2/killed/manifests/1");
        assert_eq!(missing.status, 404, "half an image has a tag");

        let pushed = client.push(&origin, &target);
        assert_eq!(pushed, server.http().digest("killed", "1"), "{client:?}");
        let back = home.path().join("back");
        run(&mut copy(
            &format!("docker://{target}"),
            &format!("dir:{}", back.display()),
        ));
        client.forget();
    }
}

#[test]
fn a_pull_that_was_killed_leaves_the_server_well() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let bytes = noise(3, 64 << 20);
    let digest = server.http().push_blob("pulled", &bytes);
    let path = format!("/v2/pulled/blobs/{digest}");
    for _ in 0..8 {
        // Not one byte is read: the connection is dropped with the kernel's buffers full.
        let connection = server.http().begin("GET", &path, &[], 0).unwrap();
        thread::sleep(Duration::from_millis(20));
        drop(connection);
    }
    assert!(server.http().get(&path).body == bytes);
    let end = bytes.len() - 1000;
    let range = format!("bytes={end}-");
    let rest = server.http().send("GET", &path, &[("Range", &range)], b"");
    assert_eq!((rest.status, rest.body.as_slice()), (206, &bytes[end..]));
    assert!(server.ended().is_none());
}

#[test]
fn an_upload_goes_on_where_it_was_acknowledged() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let bytes = noise(4, 24 << 20);
    let mut location = server.http().open_upload("resumed");
    let mut sent = 0;
    for (turn, size) in [7_000_001, 3, 5 << 20, 1 << 20].into_iter().enumerate() {
        let chunk = &bytes[sent..sent + size];
        let range = format!("{sent}-{}", sent + size - 1);
        let headers = [("Content-Range", range.as_str())];
        let answer = server.http().send("PATCH", &location, &headers, chunk);
        assert_eq!(answer.outcome(), (202, String::new()), "{answer:?}");
        location = answer.location();
        sent += size;
        let expected = format!("0-{}", sent - 1);
        assert_eq!(answer.header("range"), Some(expected.as_str()));

        // Another chunk is under way when the server dies.
        let rest = &bytes[sent..];
        let mut connection = server
            .http()
            .begin("PATCH", &location, &[], rest.len() as u64)
            .unwrap();
        let half = if turn % 2 == 0 { rest.len() / 2 } else { 100 };
        let _ = connection.write_all(&rest[..half]);
        thread::sleep(Duration::from_millis(50));
        server.kill();
        server.start_again();
        let status = server.http().get(&location);
        assert_eq!(status.status, 204, "{status:?}");
        let range = status.header("range").unwrap();
        let known: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
        // More than was acknowledged may have become durable, never less.
        assert!(
            known + 1 >= sent,
            "{range} of {sent} bytes that were acknowledged"
        );
        sent = known + 1;
        location = status.location();
    }
    let wanted = digest(&bytes);
    let done = server
        .http()
        .send("PUT", &with_digest(&location, &wanted), &[], &bytes[sent..]);
    assert_eq!(done.outcome(), (201, String::new()), "{done:?}");
    let got = server.http().get(&format!("/v2/resumed/blobs/{wanted}"));
    assert!(got.body == bytes);
    assert_eq!(uploaded(&server, "resumed"), 0);
}

/// What was acknowledged: the path to read it by, and its bytes.
type Kept = Mutex<Vec<(String, Vec<u8>)>>;

/// Pushes images until the server is gone, noting all that it acknowledged.
fn push_until_gone(http: Http, client: u64, round: u64, kept: &Kept, stop: &AtomicBool) {
    let name = format!("load/{client}");
    let keep = |path: String, bytes: &[u8]| kept.lock().unwrap().push((path, bytes.to_vec()));
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let seed = client + 100 * round + 10_000 * number;
        let blobs = [noise(seed, 300_000), noise(seed, 70)];
        for bytes in &blobs {
            match http.try_push_blob(&name, bytes) {
                Ok(answer) => {
                    assert_eq!(answer.outcome(), (201, String::new()), "{answer:?}");
                    keep(format!("/v2/{name}/blobs/{}", digest(bytes)), bytes);
                }
                Err(_) => return,
            }
        }
        let bytes = manifest(&blobs[1], &[&blobs[0]]);
        let path = format!("/v2/{name}/manifests/{round}-{number}");
        let headers = [("Content-Type", MANIFEST)];
        match http.try_send("PUT", &path, &headers, &bytes) {
            Ok(answer) => {
                assert_eq!(answer.outcome(), (201, String::new()), "{answer:?}");
                keep(path, &bytes);
            }
            Err(_) => return,
        }
    }
}

#[test]
fn what_was_acknowledged_outlives_a_killed_server() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let kept = Kept::default();
    for round in 0..4 {
        let (http, stop) = (server.http(), AtomicBool::new(false));
        thread::scope(|scope| {
            for client in 0..6 {
                let (kept, stop) = (&kept, &stop);
                scope.spawn(move || push_until_gone(http, client, round, kept, stop));
            }
            let before = kept.lock().unwrap().len();
            eventually("pushes", || kept.lock().unwrap().len() > before + 40);
            thread::sleep(Duration::from_millis(37 * round));
            server.kill();
            stop.store(true, Ordering::Relaxed);
        });
        server.start_again();
        for (path, bytes) in kept.lock().unwrap().iter() {
            let answer = server.http().get(path);
            assert_eq!(answer.outcome(), (200, String::new()), "{path}");
            assert!(answer.body == *bytes, "{path} has other bytes");
        }
    }
    // A tag that the kill left half made may be listed, though it stands for nothing yet.
    for client in 0..6 {
        let tags = server
            .http()
            .get(&format!("/v2/load/{client}/tags/list"))
            .json();
        for tag in tags["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            let path = format!("/v2/load/{client}/manifests/{tag}");
            let outcome = server.http().get(&path).outcome();
            let allowed = [(200, String::new()), (404, "MANIFEST_UNKNOWN".to_owned())];
            assert!(allowed.contains(&outcome), "{path}: {outcome:?}");
        }
    }
}
