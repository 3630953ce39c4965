//! What an operator tells a registry that runs: another configuration, and to be read-only while
//! it is collected.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};
use wharfinger_e2e::certificates::{Authority, Pair};
use wharfinger_e2e::clients::copy;
use wharfinger_e2e::http::{OCTETS, read_answer, with_digest};
use wharfinger_e2e::image::{Layout, MANIFEST, manifest};
use wharfinger_e2e::receiver::Receiver;
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, noise, output, run};

/// Writes the configuration, has it read again, and waits until the log tells of `what`.
fn reload(server: &mut Wharfinger, config: &Config, what: &str) {
    config.write();
    tell(server, Signal::HUP, what);
}

/// Sends a signal, and waits until the log tells of `what` anew.
fn tell(server: &mut Wharfinger, signal: Signal, what: &str) {
    let before = server.log().len();
    server.signal(signal);
    server.wait_until(|service| service.log()[before..].contains(what).then_some(()));
}

const READ_AGAIN: &str = "the configuration was read again";
const REFUSED: &str = "the configuration is refused";
const AT_REST: &str = "nothing is written any more";
const WRITABLE: &str = "pushes and deletions are taken";

fn read_only(config: &Config, enabled: bool) -> Config {
    let mut config = config.clone();
    config.read_only = enabled;
    config
}

fn collect(home: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("garbage-collect").args(flags);
    command.arg(home.join("wharfinger.yml"));
    output(&mut command)
}

fn assert_collects(home: &Path, flags: &[&str]) {
    let collected = collect(home, flags);
    let said = String::from_utf8_lossy(&collected.stderr).into_owned();
    assert!(collected.status.success(), "{said}");
}

/// Whether a push is let begin.
fn takes_pushes(http: Http) -> bool {
    let opened = http.send("POST", "/v2/asked/blobs/uploads/", &[], b"");
    match opened.outcome() {
        (202, _) => true,
        (405, code) if code == "UNSUPPORTED" => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_can_be_is_taken_on_and_the_rest_is_named() {
    let home = folder();
    let config = Config::new(home.path()).set("http.headers.X-Moved", vec!["before"]);
    let mut server = config.start();
    let http = server.http();
    let blob = http.push_blob("a", b"content");
    assert_eq!(http.get("/v2/").header("x-moved"), Some("before"));
    let other = Config::new(home.path())
        .set("http.headers.X-Moved", vec!["after"])
        .set("http.secret", "another secret")
        .set("http.limits.manifestsize", "1KiB")
        .set("auth.htpasswd.realm", "here")
        .set(
            "auth.htpasswd.path",
            home.path().join("users").display().to_string(),
        )
        .set("storage.delete.enabled", false)
        .set("storage.cache.blobdescriptor", "inmemory")
        .set("health.storagedriver.enabled", true);
    reload(&mut server, &other, READ_AGAIN);
    let log = server.log();
    let line = |what: &str, key: &str| {
        let mut lines = log.lines();
        let found = lines.any(|line| line.contains(what) && line.ends_with(&format!("key={key}")));
        assert!(found, "{key}: {log}");
    };
    for key in [
        "auth.htpasswd.path",
        "auth.htpasswd.realm",
        "health.storagedriver.enabled",
        "http.headers.X-Moved",
        "http.limits.manifestsize",
        "storage.delete.enabled",
    ] {
        line("taken on", key);
    }
    for key in ["http.secret", "storage.cache.blobdescriptor"] {
        line("this needs a restart", key);
    }
    assert!(!log.contains("another secret"), "{log}");
    assert!(log.contains("need_restart=2 taken_on=6"), "{log}");

    let refused = http.get("/v2/");
    assert_eq!(refused.outcome(), (401, "UNAUTHORIZED".to_owned()));
    assert_eq!(refused.header("x-moved"), Some("after"));
    // The file was missing and has been made.
    let password = fs::read_to_string(home.path().join("users.password")).unwrap();
    let credentials = STANDARD.encode(format!("docker:{}", password.trim_end()));
    let credentials = format!("Basic {credentials}");
    let me = ("Authorization", credentials.as_str());
    assert_eq!(http.send("GET", "/v2/", &[me], b"").status, 200);
    let path = format!("/v2/a/blobs/{blob}");
    let deleted = http.send("DELETE", &path, &[me], b"");
    assert_eq!(deleted.outcome(), (405, "UNSUPPORTED".to_owned()));
    let headers = [me, ("Content-Type", MANIFEST)];
    let large = http.send("PUT", "/v2/a/manifests/t", &headers, &[b'x'; 2000]);
    assert_eq!(large.status, 413, "{large:?}");

    // And back again, of which the restart is no longer wanted.
    reload(&mut server, &config, "need_restart=0 taken_on=6");
    assert_eq!(http.get("/v2/").header("x-moved"), Some("before"));
    assert_eq!(http.send("DELETE", &path, &[], b"").status, 202);
    assert!(server.stop().success());
}

#[test]
fn what_works_beside_requests_is_taken_on_too() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let [first, second] = ["first", "second"].map(|name| authority.server(home, name));
    let [before, after] = [(); 2].map(|()| Receiver::start());
    let down = home.join("down");
    let endpoint = |name: &str, receiver: &Receiver| {
        let url = format!("http://{}/", receiver.addr);
        json!([{"name": name, "url": url, "timeout": "2s", "threshold": 1, "backoff": "50ms"}])
    };
    let config = Config::new(home)
        .secured(&first)
        .set("notifications.endpoints", endpoint("before", &before));
    let mut server = config.start();
    let addr = server.addr;
    // What curl says of a request: version of HTTP, status, and whether it went through.
    let ask = |arguments: &[&str], pair: &Pair| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--cacert"]);
        curl.arg(&pair.certificate);
        curl.args(["--write-out", "%{http_version} %{http_code} %{exitcode}"]);
        curl.args(arguments).arg(format!("https://{addr}/v2/"));
        String::from_utf8(output(&mut curl).stdout).unwrap()
    };
    let push = |blob: &str| {
        let mut post = Command::new("curl");
        post.args(["--silent", "--show-error", "--fail", "--cacert"]);
        post.arg(&authority.certificate)
            .args(["--data-binary", blob]);
        let place = format!("/v2/a/blobs/uploads/?digest={}", digest(blob.as_bytes()));
        run(post.arg(format!("https://{addr}{place}")));
    };
    assert_eq!(ask(&["--tls-max", "1.2"], &first), "2 200 0");
    push("one");
    before.wait_for(1);

    let changed = config
        .clone()
        .secured(&second)
        .set("http.tls.minimumtls", "tls1.3")
        .set("http.http2.disabled", true)
        .set("notifications.endpoints", endpoint("after", &after))
        .set("log", json!({"formatter": "json", "level": "debug"}))
        .set(
            "health.file",
            json!([{"file": down, "interval": "20ms", "threshold": 1}]),
        );
    reload(&mut server, &changed, READ_AGAIN);
    assert_eq!(ask(&[], &second), "1.1 200 0");
    // curl's 35: the handshake came to nothing.
    assert!(ask(&["--tls-max", "1.2"], &second).ends_with(" 000 35"));
    push("two");
    assert_eq!(after.wait_for(1)[0]["target"]["digest"], digest(b"two"));
    assert_eq!(before.events().len(), 1);
    let lines = || {
        let log = server.log();
        let lines = log.lines().map(|line| serde_json::from_str(line).ok());
        lines.flatten().collect::<Vec<Value>>()
    };
    eventually("a line of the new kind", || {
        lines()
            .iter()
            .any(|line| line["level"] == "debug" && line["msg"] == "response completed")
    });
    std::fs::write(&down, "").unwrap();
    eventually("the new check's verdict", || {
        ask(&[], &second) == "1.1 503 0"
    });

    // And back: without the check there is no verdict.
    reload(&mut server, &config, READ_AGAIN);
    assert_eq!(ask(&["--tls-max", "1.2"], &first), "2 200 0");
    push("three");
    before.wait_for(2);
    assert!(server.stop().success());
    assert_eq!((before.events().len(), after.events().len()), (2, 1));
}

#[test]
fn a_configuration_with_something_wrong_is_refused_whole() {
    let home = folder();
    let config = Config::new(home.path()).set("http.headers.X-Moved", vec!["before"]);
    let mut server = config.start();
    let other = config.clone().set("http.headers.X-Moved", vec!["after"]);
    for (key, value) in [
        // Of the wrong type, of no sense, of no use.
        ("http.draintimeout", "soon"),
        ("http.limits.headersize", "1KiB"),
        ("auth.token.rootcertbundle", "missing.pem"),
    ] {
        let mut wrong = other.clone().set(key, value);
        if key.starts_with("auth") {
            for needed in ["realm", "service", "issuer"] {
                wrong = wrong.set(&format!("auth.token.{needed}"), "x");
            }
        }
        reload(&mut server, &wrong, REFUSED);
        let log = server.log();
        assert!(log.contains(key), "{key}: {log}");
        assert!(!log.contains("taken on"), "{log}");
        let moved = server.http().get("/v2/");
        assert_eq!(
            (moved.status, moved.header("x-moved")),
            (200, Some("before"))
        );
    }
    std::fs::remove_file(home.path().join("wharfinger.yml")).unwrap();
    tell(&mut server, Signal::HUP, "cannot be read");
    reload(&mut server, &other, READ_AGAIN);
    assert_eq!(server.http().get("/v2/").header("x-moved"), Some("after"));
}

#[test]
fn files_that_never_come_keep_nobody_waiting() {
    let home = folder();
    let mut server = Config::new(home.path()).start();
    let file = home.path().join("wharfinger.yml");
    std::fs::remove_file(&file).unwrap();
    // Whoever opens it waits for somebody who writes to it.
    run(Command::new("mkfifo").arg(&file));
    server.signal(Signal::HUP);
    server.signal(Signal::HUP);
    tell(&mut server, Signal::USR1, AT_REST);
    assert!(!takes_pushes(server.http()));
    assert!(!server.log().contains(READ_AGAIN), "{}", server.log());
    assert!(server.stop().success());
}

/// What a push was told is there: the image's tag, with its manifest and the blobs of that.
type Acknowledged = BTreeMap<String, Vec<String>>;

/// Pushes images by raw requests as long as it is let, each again until it is acknowledged.
fn push_on(http: Http, name: &str, done: &AtomicBool) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for seed in 0_u64.. {
        let config = format!("{{\"seed\":\"{name} {seed}\"}}").into_bytes();
        let layer = noise(seed, 70_000);
        let text = manifest(&config, &[&layer]);
        loop {
            if done.load(Ordering::Relaxed) {
                return acknowledged;
            }
            let pushed = |blob: &[u8]| {
                let answer = http.try_push_blob(name, blob).expect("it is answered");
                assert!(matches!(answer.status, 201 | 405), "{answer:?}");
                answer.status == 201
            };
            if !pushed(&config) || !pushed(&layer) {
                continue;
            }
            let tag = format!("t{seed}");
            let answer = http.push_manifest(name, &tag, MANIFEST, &text);
            match answer.outcome() {
                (201, _) => {
                    let blobs = [&config, &layer].map(|blob| digest(blob));
                    let all = [&[digest(&text)][..], &blobs].concat();
                    acknowledged.insert(tag, all);
                    break;
                }
                // Read-only by now, or collected between the blobs and the manifest.
                (405, _) => {}
                (400, code) if code == "MANIFEST_BLOB_UNKNOWN" => {}
                other => panic!("{other:?}"),
            }
        }
    }
    acknowledged
}

/// The same by skopeo.
fn skopeo_on(home: &Path, registry: &str, name: &str, done: &AtomicBool) -> Vec<String> {
    let mut layout = Layout::create(&home.join(name)).unwrap();
    let mut acknowledged = Vec::new();
    for seed in 0_u64.. {
        let layer = layout.layer(&[(1000 + seed, 70_000)]).unwrap();
        let image = layout.image("amd64", &[layer]).unwrap();
        let tag = format!("t{seed}");
        let source = layout.tag(&image, &tag).unwrap();
        let target = format!("docker://{registry}/{name}:{tag}");
        while !output(&mut copy(&source, &target)).status.success() {
            if done.load(Ordering::Relaxed) {
                return acknowledged;
            }
        }
        acknowledged.push(tag);
        if done.load(Ordering::Relaxed) {
            return acknowledged;
        }
    }
    acknowledged
}

/// A collection beside a registry that is pushed to all the time takes nothing away that any push
/// was told is there.
#[test]
fn nothing_acknowledged_is_lost_to_a_collection_beside_a_read_only_registry() {
    let home = folder();
    let home = home.path();
    let config = Config::new(home).set("storage.cache.blobdescriptor", "inmemory");
    let mut server = config.start();
    let (http, registry) = (server.http(), server.addr.to_string());
    let done = AtomicBool::new(false);
    // The same layers everywhere, so that each push finds some that a collection may just remove.
    let names = ["a", "b", "c"];
    let (raw, by_skopeo) = thread::scope(|scope| {
        let raw = names.map(|name| {
            scope.spawn({
                let done = &done;
                move || push_on(http, name, done)
            })
        });
        let skopeo = scope.spawn(|| skopeo_on(home, &registry, "skopeo", &done));
        for round in 0..12 {
            if round % 2 == 0 {
                reload(&mut server, &read_only(&config, true), AT_REST);
                assert_collects(home, &["-m", "-q"]);
                assert!(
                    !takes_pushes(http),
                    "it is read-only until it is told otherwise"
                );
                reload(&mut server, &config, WRITABLE);
            } else {
                // Without looking at the log: the command itself waits for its turn.
                server.signal(Signal::USR1);
                assert_collects(home, &["-m", "-q", "--wait", "60s"]);
                tell(&mut server, Signal::USR2, WRITABLE);
            }
            let before = count(http, &names);
            eventually("pushes go on", || count(http, &names) > before + 3);
        }
        done.store(true, Ordering::Relaxed);
        (
            raw.map(|pushing| pushing.join().unwrap()),
            skopeo.join().unwrap(),
        )
    });
    let log = server.log();
    assert!(log.contains(" 405 "), "no push ever met read-only mode");
    assert!(!log.contains("level=error"), "{log}");
    assert!(!by_skopeo.is_empty());
    for (name, acknowledged) in names.iter().zip(raw) {
        for (tag, digests) in acknowledged {
            assert_eq!(http.digest(name, &tag), digests[0], "{name}:{tag}");
            for blob in &digests[1..] {
                let pulled = http.get(&format!("/v2/{name}/blobs/{blob}"));
                assert_eq!(pulled.status, 200, "{name}:{tag}: {blob}");
                assert_eq!(digest(&pulled.body), *blob);
            }
        }
    }
    for tag in by_skopeo {
        let from = format!("docker://{}", server.image(&format!("skopeo:{tag}")));
        let to = format!("dir:{}", home.join(format!("pulled-{tag}")).display());
        run(&mut copy(&from, &to));
    }
}

/// How many images there are.
fn count(http: Http, names: &[&str]) -> usize {
    let tags = |name: &&str| http.get(&format!("/v2/{name}/tags/list")).json();
    let number = |name| tags(name)["tags"].as_array().map_or(0, Vec::len);
    names.iter().map(number).sum()
}

#[test]
fn an_upload_under_way_comes_to_its_end_before_the_folder_is_given_up() {
    let home = folder();
    let config = Config::new(home.path());
    let mut server = config.start();
    let http = server.http();
    let body = noise(1, 3_000_000);
    let location = http.open_upload("a");
    let mut slow = http
        .begin("PATCH", &location, &[OCTETS], body.len() as u64)
        .unwrap();
    slow.write_all(&body[..1_500_000]).unwrap();
    // The server has begun with it when its file is there.
    let uploads = server.repository("a").join("_uploads");
    eventually("the upload is begun", || {
        let mut sessions = std::fs::read_dir(&uploads).into_iter().flatten();
        sessions.any(|session| session.unwrap().path().join("data").exists())
    });
    reload(&mut server, &read_only(&config, true), READ_AGAIN);
    eventually("it is read-only", || !takes_pushes(http));
    let refused = collect(home.path(), &["--wait", "300ms"]);
    assert_eq!(refused.status.code(), Some(1), "the upload goes on");
    assert!(!server.log().contains(AT_REST));
    slow.write_all(&body[1_500_000..]).unwrap();
    let answer = read_answer(&mut slow, "PATCH").unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    server.wait_until(|service| service.log().contains(AT_REST).then_some(()));
    assert_collects(home.path(), &["-q"]);
    let path = with_digest(&answer.location(), &digest(&body));
    assert_eq!(http.send("PUT", &path, &[OCTETS], b"").status, 405);
    reload(&mut server, &config, WRITABLE);
    assert_eq!(http.send("PUT", &path, &[OCTETS], b"").status, 201);
}

#[test]
fn it_stays_read_only_while_it_is_collected() {
    let home = folder();
    let config = Config::new(home.path());
    let mut server = config.start();
    let http = server.http();
    tell(&mut server, Signal::USR1, AT_REST);
    // What a collection holds.
    let collection = File::open(server.data()).unwrap();
    flock(&collection, FlockOperation::NonBlockingLockExclusive).unwrap();
    tell(
        &mut server,
        Signal::USR2,
        "stays read-only until this has passed",
    );
    assert!(server.log().contains("garbage-collect works on the store"));
    assert!(!takes_pushes(http));
    drop(collection);
    server.wait_until(|service| service.log().contains(WRITABLE).then_some(()));
    assert!(takes_pushes(http));
    let refused = collect(home.path(), &["--stopped"]);
    assert_eq!(refused.status.code(), Some(1), "it is written to again");
}

#[test]
fn a_signal_holds_it_read_only_whatever_the_configuration_says() {
    let home = folder();
    let config = Config::new(home.path());
    let mut server = config.start();
    let http = server.http();
    tell(&mut server, Signal::USR1, AT_REST);
    reload(&mut server, &config, READ_AGAIN);
    assert!(!takes_pushes(http));
    reload(&mut server, &read_only(&config, true), READ_AGAIN);
    tell(&mut server, Signal::USR2, "held=false");
    assert!(!takes_pushes(http), "the configuration says so");
    reload(&mut server, &config, WRITABLE);
    assert!(takes_pushes(http));
    assert!(server.stop().success());
}
