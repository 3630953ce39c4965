//! Clients that vanish, dawdle and blunder leave nothing behind: no file handle, no temporary
//! file, no upload that nobody was told of.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use wharfinger_e2e::http::{OCTETS, with_digest};
use wharfinger_e2e::image::{MANIFEST, manifest};
use wharfinger_e2e::{Wharfinger, digest, eventually, folder, noise};

/// What a server holds: handles to files in its data, connections, and files besides content.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    handles: usize,
    files: Vec<PathBuf>,
    leftovers: Vec<PathBuf>,
}

fn held(server: &Wharfinger) -> Held {
    let handles = server.open_files();
    // The folder itself is open as long as the server runs, and the journal's: so they are claimed. A
    // file of the journal is open for a second after something was written.
    let below = |file: &&PathBuf| {
        let is_claimed = *file == server.data() || file.ancestors().any(is_journal);
        file.starts_with(server.data()) && !is_claimed
    };
    let files = handles.iter().filter(below);
    let mut leftovers = Vec::new();
    find_leftovers(server.data(), &mut leftovers);
    Held {
        handles: handles.len(),
        files: files.cloned().collect(),
        leftovers,
    }
}

/// Everything that is neither content nor a link.
fn find_leftovers(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "_uploads" {
            find_leftovers(&path, found);
        } else if name == "_uploads" {
            found.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|upload| upload.unwrap().path()),
            );
        } else if name != "data" && name != "link" && !path.ancestors().any(is_journal) {
            found.push(path);
        }
    }
}

/// The journal is there as long as the registry is.
fn is_journal(folder: &Path) -> bool {
    folder
        .file_name()
        .is_some_and(|name| name == ".wharfinger-journal")
}

/// Runs `misuse` on a warm server and waits until it holds no more than before.
fn assert_leaves_nothing(what: &str, misuse: impl FnOnce(&Wharfinger, &str)) {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let http = server.http();
    let layer = noise(1, 8 << 20);
    let blob = http.push_blob("warm", &layer);
    http.push_blob("warm", b"{}");
    let pushed = http.push_manifest("warm", "1", MANIFEST, &manifest(b"{}", &[&layer]));
    assert_eq!(pushed.status, 201, "{pushed:?}");
    assert!(http.get(&format!("/v2/warm/blobs/{blob}")).body == layer);
    let mut before = held(&server);
    eventually("connections close", || {
        let now = held(&server);
        let calm = now == before;
        before = now;
        calm
    });
    assert_eq!(before.leftovers, Vec::<PathBuf>::new());
    misuse(&server, &blob);
    let mut after = held(&server);
    for _ in 0..100 {
        if after.handles <= before.handles
            && after.files == before.files
            && after.leftovers.is_empty()
        {
            return;
        }
        thread::sleep(Duration::from_millis(100));
        after = held(&server);
    }
    panic!(
        "{what} left {after:#?}, before it were {before:#?}\n{}",
        server.log()
    );
}

#[test]
fn pushes_and_pulls_that_succeed() {
    assert_leaves_nothing("good clients", |server, blob| {
        let http = server.http();
        for seed in 0..20 {
            let layer = noise(100 + seed, 3_000_000);
            http.push_blob("good", &layer);
            http.push_blob("good", b"{}");
            http.push_manifest("good", "1", MANIFEST, &manifest(b"{}", &[&layer]));
            assert_eq!(http.get("/v2/good/manifests/1").status, 200);
            assert_eq!(http.get(&format!("/v2/warm/blobs/{blob}")).status, 200);
        }
    });
}

#[test]
fn downloads_that_nobody_reads() {
    assert_leaves_nothing("vanished readers", |server, blob| {
        let path = format!("/v2/warm/blobs/{blob}");
        let mut readers = Vec::new();
        for turn in 0..40 {
            let mut reader = server.http().begin("GET", &path, &[], 0).unwrap();
            if turn % 2 == 0 {
                let mut some = vec![0; 70_000];
                reader.read_exact(&mut some).unwrap();
            }
            readers.push(reader);
        }
        eventually("the blob is being read", || held(server).files.len() >= 20);
        drop(readers);
    });
}

#[test]
fn uploads_whose_clients_vanish_before_anything_was_acknowledged() {
    assert_leaves_nothing("vanished writers", |server, _| {
        let (http, body) = (server.http(), noise(7, 3_000_000));
        let wanted = digest(&body);
        for turn in 0..20 {
            // In one request, so that no client knows of an upload it could go on with.
            let path = format!("/v2/gone/blobs/uploads/?digest={wanted}");
            let length = body.len() as u64;
            let mut writer = http.begin("POST", &path, &[OCTETS], length).unwrap();
            writer.write_all(&body[..turn * 140_000]).unwrap();
        }
    });
}

#[test]
fn uploads_that_end_in_errors() {
    assert_leaves_nothing("refused uploads", |server, _| {
        let (http, body) = (server.http(), noise(8, 3_000_000));
        let wrong = digest(b"something else");
        for _ in 0..5 {
            let location = http.open_upload("wrong");
            let refused = http.send("PUT", &with_digest(&location, &wrong), &[OCTETS], &body);
            assert_eq!(refused.outcome(), (400, "DIGEST_INVALID".to_owned()));

            let location = http.open_upload("cancelled");
            let sent = http.send("PATCH", &location, &[OCTETS], &body);
            assert_eq!(sent.status, 202, "{sent:?}");
            let cancelled = http.send("DELETE", &sent.location(), &[], b"");
            assert_eq!(cancelled.status, 204, "{cancelled:?}");

            let path = format!("/v2/wrong/blobs/uploads/?digest={wrong}");
            let refused = http.send("POST", &path, &[OCTETS], &body);
            assert_eq!(refused.outcome(), (400, "DIGEST_INVALID".to_owned()));
        }
    });
}

#[test]
fn manifests_that_are_refused_or_break_off() {
    assert_leaves_nothing("refused manifests", |server, _| {
        let http = server.http();
        for turn in 0..10 {
            let refused = http.push_manifest("bad", "1", MANIFEST, b"{\"schemaVersion\":2");
            assert_eq!(refused.outcome(), (400, "MANIFEST_INVALID".to_owned()));
            let missing = manifest(b"{}", &[b"missing"]);
            let refused = http.push_manifest("bad", "1", MANIFEST, &missing);
            assert_eq!(refused.code(), "MANIFEST_BLOB_UNKNOWN");
            let headers = [("Content-Type", MANIFEST)];
            let path = "/v2/bad/manifests/1";
            let mut writer = http.begin("PUT", path, &headers, 1000).unwrap();
            writer.write_all(&missing[..turn]).unwrap();
        }
    });
}

#[test]
fn an_upload_that_was_acknowledged_waits_without_a_handle() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let (http, body) = (server.http(), noise(9, 6_000_000));
    let (first, rest) = body.split_at(2_500_000);
    let sent = http.send("PATCH", &http.open_upload("slow"), &[OCTETS], first);
    assert_eq!(sent.status, 202, "{sent:?}");
    // The next chunk breaks off: what came of it is kept or not, but what was acknowledged is.
    let length = rest.len() as u64;
    let mut writer = http
        .begin("PATCH", &sent.location(), &[OCTETS], length)
        .unwrap();
    writer.write_all(&rest[..2_000_000]).unwrap();
    drop(writer);
    eventually("the handle is closed", || held(&server).files.is_empty());
    assert_eq!(held(&server).leftovers.len(), 1);
    // The request that broke off may still be about to begin: then the end is refused, and told
    // where to go on.
    let mut told = http.get(&sent.location());
    eventually("the upload goes on", || {
        let last = told
            .header("range")
            .and_then(|range| range.strip_prefix("0-"));
        let known: usize = last.unwrap().parse().unwrap();
        assert!(known + 1 >= first.len(), "{known}");
        let path = with_digest(&told.location(), &digest(&body));
        let done = http.send("PUT", &path, &[OCTETS], &body[known + 1..]);
        if done.status == 416 {
            told = done;
            return false;
        }
        assert_eq!(done.outcome(), (201, String::new()), "{done:?}");
        true
    });
    eventually("what the upload left is taken apart", || {
        held(&server).leftovers.is_empty()
    });
}

#[test]
fn slow_clients_do_not_hold_up_others() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let http = server.http();
    let body = noise(10, 4_000_000);
    // Two hundred that send their heads by the byte, or a body that never goes on.
    let mut slow = Vec::new();
    for turn in 0..200 {
        let mut connection = if turn % 2 == 0 {
            std::net::TcpStream::connect(server.addr).unwrap()
        } else {
            let path = http.open_upload("slow");
            http.begin("PATCH", &path, &[OCTETS], body.len() as u64)
                .unwrap()
        };
        connection
            .write_all(if turn % 2 == 0 {
                b"GET /v2/ HT"
            } else {
                b"half"
            })
            .unwrap();
        slow.push(connection);
    }
    let started = std::time::Instant::now();
    for _ in 0..10 {
        let blob = http.push_blob("quick", &body);
        assert!(http.get(&format!("/v2/quick/blobs/{blob}")).body == body);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "it took {took:?}");
    let peak = server.peak_memory();
    assert!(peak < 128 << 20, "the server took {} MiB", peak >> 20);
    drop(slow);
    eventually("the connections close", || {
        server
            .open_files()
            .iter()
            .filter(|file| file.to_string_lossy().starts_with("socket:"))
            .count()
            < 5
    });
}

#[test]
fn a_client_that_never_finishes_its_head_is_let_go() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let mut slow = std::net::TcpStream::connect(server.addr).unwrap();
    slow.set_read_timeout(Some(Duration::from_secs(50)))
        .unwrap();
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nHost: ").unwrap();
    let mut answer = Vec::new();
    // The server closes: were it to wait, the read would run into its timeout.
    slow.read_to_end(&mut answer).unwrap();
}
