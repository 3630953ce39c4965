//! Notifications: the same events as Distribution's for what the same clients do, and receivers
//! that are slow, refuse, hang, or are not there.

use std::path::Path;
use std::thread;
use std::time::Duration;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use wharfinger_e2e::clients::{Client, convert, copy};
use wharfinger_e2e::distribution::{Distribution, free_address};
use wharfinger_e2e::docker::Docker;
use wharfinger_e2e::http::{OCTETS, with_digest};
use wharfinger_e2e::image::{MANIFEST, manifest, small_image};
use wharfinger_e2e::receiver::Reply;
use wharfinger_e2e::{Config, Http, Receiver, Wharfinger, digest, eventually, folder, noise, run};

/// An endpoint of a configuration.
fn endpoint(name: &str, receiver: &Receiver) -> Value {
    json!({"name": name, "url": format!("http://{}/events", receiver.addr)})
}

fn with_endpoints(home: &Path, endpoints: &[Value]) -> Config {
    Config::new(home).set("notifications.endpoints", endpoints)
}

/// Pushes a manifest of its own under a tag, with everything it needs.
fn push_image(http: Http, name: &str, tag: &str) {
    let config = format!("{{\"tag\":\"{name}:{tag}\"}}").into_bytes();
    http.push_blob(name, &config);
    let answer = http.push_manifest(name, tag, MANIFEST, &manifest(&config, &[]));
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// The tags that were pushed to a repository, in order.
fn pushed_tags(events: &[Value], name: &str) -> Vec<String> {
    let of_name = events
        .iter()
        .filter(|event| event["target"]["repository"] == name);
    of_name
        .filter(|event| event["action"] == "push")
        .filter_map(|event| Some(event["target"]["tag"].as_str()?.to_owned()))
        .collect()
}

/// An event without what differs from one registry and one run to the next.
fn comparable(event: &Value) -> Value {
    let mut event = event.clone();
    for (part, key) in [("request", "id"), ("request", "addr"), ("request", "host")] {
        let removed = event[part].as_object_mut().unwrap().remove(key);
        assert!(removed.is_some_and(|text| text != ""), "{event}");
    }
    let removed = event.as_object_mut().unwrap().remove("source").unwrap();
    for key in ["addr", "instanceID"] {
        assert!(
            removed[key].as_str().is_some_and(|text| !text.is_empty()),
            "{removed}"
        );
    }
    for key in ["id", "timestamp"] {
        let removed = event.as_object_mut().unwrap().remove(key);
        assert!(removed.is_some_and(|text| text.is_string()), "{event}");
    }
    if let Some(url) = event["target"].get("url") {
        let url = url.as_str().unwrap();
        let path = url
            .strip_prefix("http://")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]));
        event["target"]["url"] = path.unwrap().into();
    }
    event
}

/// What two registries tell of the same actions.
fn compare(act: impl Fn(&str, Http), ordered: bool) -> Vec<Value> {
    let home = folder();
    let told = |receiver: &Receiver, last: &str| -> Vec<Value> {
        let marks = |event: &Value| event["target"]["tag"] == last;
        eventually("the last event comes", || {
            receiver.events().iter().any(marks)
        });
        let events = receiver.events();
        let mut events: Vec<_> = events.iter().map(comparable).collect();
        if !ordered {
            events.sort_by_key(Value::to_string);
        }
        events
    };
    let last = |http: Http| {
        push_image(http, "end", "last-of-all");
    };

    let theirs = Receiver::start();
    let settings = json!({"notifications": {
        "events": {"includereferences": true},
        "endpoints": [endpoint("theirs", &theirs)],
    }});
    let data = home.path().join("distribution");
    let mut distribution = Distribution::start_with(home.path(), &data, &settings);
    act(&distribution.image(""), distribution.http());
    last(distribution.http());
    let expected = told(&theirs, "last-of-all");
    distribution.service.stop();

    let ours = Receiver::start();
    let config = with_endpoints(home.path(), &[endpoint("ours", &ours)]);
    let server = config
        .set("notifications.events.includereferences", true)
        .start();
    act(&server.image(""), server.http());
    last(server.http());
    let found = told(&ours, "last-of-all");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");

    let content_type = |receiver: &Receiver| {
        let head = receiver.heads().remove(0).to_lowercase();
        let line = head.lines().find(|line| line.starts_with("content-type:"));
        line.unwrap().to_owned()
    };
    assert_eq!(content_type(&ours), content_type(&theirs));
    found
}

#[test]
fn every_request_causes_the_events_that_it_does_in_distribution() {
    let events = compare(
        |_, http| {
            let config = b"{\"a\":1}";
            let layer = noise(1, 70_000);
            let config_digest = http.push_blob("a/b", config);
            let layer_digest = http.push_blob("a/b", &layer);
            http.push_blob("a/b", &layer);
            let wrong = with_digest(&http.open_upload("a/b"), &digest(b"x"));
            assert_eq!(http.send("PUT", &wrong, &[OCTETS], b"y").status, 400);

            let descriptor = json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest,
                "size": layer.len(), "annotations": {"org.example.a": "b"},
            });
            let mut image: Value = serde_json::from_slice(&manifest(config, &[])).unwrap();
            image["layers"] = json!([descriptor]);
            let image = image.to_string().into_bytes();
            let image_digest = digest(&image);
            for reference in ["one", "two", &image_digest] {
                let pushed = http.push_manifest("a/b", reference, MANIFEST, &image);
                assert_eq!(pushed.status, 201, "{pushed:?}");
            }
            let refused = http.push_manifest("a/b", "three", MANIFEST, b"{}");
            assert!(refused.status >= 400, "{refused:?}");

            for path in ["manifests/one", &format!("manifests/{image_digest}")] {
                let path = format!("/v2/a/b/{path}");
                assert_eq!(http.get(&path).status, 200);
                assert_eq!(http.head(&path).status, 200);
                let known = [("If-None-Match", image_digest.as_str())];
                assert_eq!(http.send("GET", &path, &known, b"").status, 304);
            }
            assert_eq!(http.get("/v2/a/b/manifests/none").status, 404);
            let path = format!("/v2/a/b/blobs/{layer_digest}");
            assert_eq!(http.get(&path).status, 200);
            assert_eq!(http.head(&path).status, 200);
            let range = [("Range", "bytes=10-19"), ("User-Agent", "test/1.0")];
            assert_eq!(http.send("GET", &path, &range, b"").status, 206);
            let quoted = format!("\"{layer_digest}\"");
            let known = [("If-None-Match", quoted.as_str())];
            assert_eq!(http.send("GET", &path, &known, b"").status, 304);
            assert_eq!(
                http.get(&format!("/v2/a/b/blobs/{}", digest(b"no"))).status,
                404
            );
            let basic = [("Authorization", "Basic YW5uOnNlY3JldA==")];
            assert_eq!(http.send("GET", &path, &basic, b"").status, 200);

            let mount = format!("/v2/c/blobs/uploads/?mount={config_digest}&from=a/b");
            assert_eq!(http.send("POST", &mount, &[], b"").status, 201);
            let missing = format!("/v2/c/blobs/uploads/?mount={}&from=a/b", digest(b"no"));
            assert_eq!(http.send("POST", &missing, &[], b"").status, 202);

            let blob = format!("/v2/c/blobs/{config_digest}");
            assert_eq!(http.send("DELETE", &blob, &[], b"").status, 202);
            assert_eq!(http.send("DELETE", &blob, &[], b"").status, 404);
            let image = format!("/v2/a/b/manifests/{image_digest}");
            assert_eq!(http.send("DELETE", &image, &[], b"").status, 202);
            assert_eq!(http.send("DELETE", &image, &[], b"").status, 404);
        },
        true,
    );
    for action in ["push", "pull", "mount", "delete"] {
        assert!(
            events.iter().any(|event| event["action"] == action),
            "{action}"
        );
    }
    let tags_deleted =
        |event: &&Value| event["action"] == "delete" && event["target"].get("tag").is_some();
    assert_eq!(events.iter().filter(tags_deleted).count(), 2);
    assert!(events.iter().any(|event| event["actor"]["name"] == "ann"));
}

#[test]
fn skopeo_causes_the_events_that_it_does_in_distribution() {
    let home = folder();
    let source = small_image(home.path(), 1);
    let back = home.path().join("back");
    let events = compare(
        |registry, _| {
            let oci = format!("docker://{registry}skopeo:oci");
            run(&mut copy(&source, &oci));
            run(&mut convert(
                &source,
                &format!("docker://{registry}skopeo:docker"),
                "v2s2",
            ));
            run(&mut copy(&oci, &format!("dir:{}", back.display())));
        },
        false,
    );
    assert_eq!(pushed_tags(&events, "skopeo"), ["docker", "oci"]);
}

#[test]
fn docker_causes_the_events_that_it_does_in_distribution() {
    let home = folder();
    let docker = Docker::start(home.path());
    let store = Wharfinger::start(&{
        let path = home.path().join("store");
        std::fs::create_dir(&path).unwrap();
        path
    });
    let original = store.image("original:1");
    let source = small_image(home.path(), 1);
    run(&mut copy(&source, &format!("docker://{original}")));
    let events = compare(
        |registry, _| {
            let image = format!("{registry}docker/image:1");
            docker.pull(&original);
            docker.push(&original, &image);
            docker.forget();
            docker.pull(&image);
            docker.forget();
        },
        false,
    );
    assert_eq!(pushed_tags(&events, "docker/image"), ["1"]);
}

#[test]
fn what_receivers_refuse_comes_again_and_nothing_overtakes_it() {
    let home = folder();
    let receiver = Receiver::start();
    let mut refusing = endpoint("e", &receiver);
    refusing["timeout"] = "300ms".into();
    refusing["threshold"] = 3.into();
    refusing["backoff"] = "50ms".into();
    let slow = Reply::Slow(200, Duration::from_millis(100));
    let script = [
        Reply::Status(500),
        Reply::Close,
        Reply::Hang,
        slow,
        Reply::Status(404),
        Reply::Status(503),
        slow,
        Reply::Hang,
    ];
    receiver.answer(&script, Reply::Status(200));
    let server = with_endpoints(home.path(), &[refusing]).start();
    for tag in ["1", "2", "3", "4"] {
        push_image(server.http(), "a", tag);
    }
    eventually("the last one comes", || {
        pushed_tags(&receiver.events(), "a")
            .last()
            .is_some_and(|tag| tag == "4")
    });
    let events = receiver.events();
    let mut seen: Vec<&Value> = Vec::new();
    for event in &events {
        let id = &event["id"];
        assert!(
            seen.last() == Some(&id) || !seen.contains(&id),
            "{id} was overtaken"
        );
        seen.push(id);
    }
    seen.dedup();
    assert_eq!(seen.len(), 8);
    assert!(events.len() >= 8 + 6, "{}", events.len());
    eventually("the log tells", || {
        server.log().contains("the endpoint takes no events")
    });
}

#[test]
fn receivers_that_hang_or_are_not_there_slow_nobody() {
    let home = folder();
    let hanging = Receiver::start();
    hanging.answer(&[], Reply::Hang);
    let well = Receiver::start();
    let mut for_ever = endpoint("hangs", &hanging);
    for_ever["timeout"] = "10000h".into();
    let nobody = json!({"name": "nobody", "url": format!("http://{}/", free_address())});
    let on_disk = json!({
        "name": "disk", "url": nobody["url"], "queue": {"folder": home.path().join("queue")},
    });
    let endpoints = [for_ever, nobody, on_disk, endpoint("well", &well)];
    let mut server = with_endpoints(home.path(), &endpoints)
        .set("http.draintimeout", "1s")
        .start();
    for tag in 0..20 {
        push_image(server.http(), "a", &tag.to_string());
    }
    assert_eq!(pushed_tags(&well.wait_for(40), "a").len(), 20);
    assert_eq!(hanging.events().len(), 1);
    server.stop();
    let log = server.log();
    for (endpoint, lost) in [("hangs", 40), ("nobody", 40)] {
        let told = log.lines().find(|line| {
            line.contains("events that were not delivered are lost") && line.contains(endpoint)
        });
        let told = told.unwrap_or_else(|| panic!("{endpoint} in {log}"));
        assert!(told.contains(&format!("lost={lost}")), "{told}");
    }
    assert!(
        log.contains("events wait on disk for the next start"),
        "{log}"
    );
}

#[test]
fn the_end_waits_for_receivers_that_are_slow() {
    let home = folder();
    let receiver = Receiver::start();
    receiver.answer(&[], Reply::Slow(200, Duration::from_millis(50)));
    let config = with_endpoints(home.path(), &[endpoint("e", &receiver)]);
    let mut server = config.set("http.draintimeout", "60s").start();
    for tag in ["1", "2", "3", "4", "5"] {
        push_image(server.http(), "a", tag);
    }
    assert!(server.stop().success());
    assert_eq!(receiver.events().len(), 10);
    assert!(!server.log().contains("lost"), "{}", server.log());
}

#[test]
fn the_end_waits_for_no_long_pause() {
    let home = folder();
    let receiver = Receiver::start();
    receiver.answer(&[Reply::Status(503)], Reply::Status(200));
    let mut endpoint = endpoint("e", &receiver);
    endpoint["threshold"] = json!(1);
    endpoint["backoff"] = json!("1h");
    let config = with_endpoints(home.path(), &[endpoint]);
    let mut server = config.set("http.draintimeout", "60s").start();
    push_image(server.http(), "a", "1");
    // It is up again, but is not asked for an hour.
    receiver.wait_for(1);
    eventually("it is known", || server.log().contains("takes no events"));
    assert!(server.stop().success());
    assert!(receiver.events().len() > 2);
    assert!(!server.log().contains("lost"), "{}", server.log());
}

#[test]
fn events_on_disk_survive_a_kill_at_any_time() {
    let home = folder();
    let receiver = Receiver::start();
    let mut on_disk = endpoint("e", &receiver);
    on_disk["queue"] = json!({"folder": home.path().join("queue")});
    on_disk["backoff"] = "20ms".into();
    let mut server = with_endpoints(home.path(), &[on_disk]).start();
    let clients = ["a", "b", "c"];
    let mut acknowledged: Vec<Vec<String>> = vec![Vec::new(); clients.len()];
    for round in 0..3 {
        // It takes a few, and then none any more.
        receiver.answer(&[Reply::Status(200); 7], Reply::Status(500));
        let http = server.http();
        let pushers = clients.map(|name| {
            thread::spawn(move || {
                let mut tags = Vec::new();
                loop {
                    let tag = format!("{round}-{}", tags.len());
                    let config = format!("{{\"tag\":\"{tag}\"}}").into_bytes();
                    let content = manifest(&config, &[]);
                    let path = format!("/v2/{name}/manifests/{tag}");
                    let pushed = http.try_push_blob(name, &config).and_then(|_| {
                        http.try_send("PUT", &path, &[("Content-Type", MANIFEST)], &content)
                    });
                    match pushed {
                        Ok(answer) if answer.status == 201 => tags.push(tag),
                        Ok(answer) => panic!("{answer:?}"),
                        Err(_) => return tags,
                    }
                }
            })
        });
        let before = server.http().get("/v2/c/tags/list").body.len();
        eventually("enough was pushed", || {
            server.http().get("/v2/c/tags/list").body.len() > before + 60
        });
        server.kill();
        for (acknowledged, pusher) in acknowledged.iter_mut().zip(pushers) {
            let tags = pusher.join().unwrap();
            assert!(!tags.is_empty());
            acknowledged.extend(tags);
        }
        server.start_again();
    }
    receiver.answer(&[], Reply::Status(200));
    push_image(server.http(), "end", "last");
    eventually("the last one comes", || {
        !pushed_tags(&receiver.events(), "end").is_empty()
    });
    let events = receiver.events();
    for (name, expected) in clients.iter().zip(&acknowledged) {
        // What was not accepted came again, and what was accepted may have.
        let mut tags = pushed_tags(&events, name);
        tags.dedup();
        // The push that the kill cut off may have got as far as its event, but not to its answer.
        let found: Vec<_> = tags
            .iter()
            .filter(|tag| expected.contains(tag))
            .cloned()
            .collect();
        assert_eq!(&found, expected);
        assert!(
            tags.len() <= expected.len() + 3,
            "{tags:?} and {expected:?}"
        );
    }
}

#[test]
fn https_needs_a_certificate_that_the_machine_trusts() {
    let home = folder();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = signing_key.serialize_der().try_into().unwrap();
    let receiver = Receiver::start_tls(cert.der().clone(), key);
    let url = format!(
        "https://ann:s-e-cret@localhost:{}/s-e-cret",
        receiver.addr.port()
    );
    let secret = json!({
        "name": "tls", "url": url, "headers": {"X-Token": ["s-e-cret"]}, "threshold": 1,
    });
    let untrusting = with_endpoints(home.path(), &[secret]).set("log.level", "debug");
    let mut server = untrusting.start();
    push_image(server.http(), "a", "1");
    eventually("it fails", || {
        server.log().contains("the endpoint takes no events")
    });
    assert!(server.log().contains("certificate"), "{}", server.log());
    assert_eq!(receiver.events().len(), 0);
    server.kill();

    let authorities = home.path().join("authorities.pem");
    std::fs::write(&authorities, cert.pem()).unwrap();
    let server = untrusting.env("SSL_CERT_FILE", &authorities).start();
    push_image(server.http(), "a", "2");
    receiver.wait_for(2);
    let head = receiver.heads().remove(0).to_lowercase();
    assert!(
        head.contains("authorization: basic yw5uonmtzs1jcmv0"),
        "{head}"
    );
    assert!(head.contains("x-token: s-e-cret"), "{head}");
    assert!(!server.log().contains("s-e-cret"), "{}", server.log());
}

#[test]
fn endpoints_that_cannot_work_stop_the_start() {
    let home = folder();
    let receiver = Receiver::start();
    let refused = |endpoint: Value| {
        let mut started = with_endpoints(home.path(), &[endpoint]).spawn();
        assert!(!started.wait().success());
        let log = started.log();
        let last = log.lines().last().unwrap_or_default().to_owned();
        assert!(!log.contains("s-e-cret"), "{log}");
        last
    };
    let told = refused(json!({"name": "e", "url": "http://u:s-e-cret@h:123456/"}));
    assert!(told.contains("wharfinger.yml:"), "{told}");
    assert!(told.contains("notifications.endpoints[0].url: "), "{told}");

    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut on_disk = endpoint("e", &receiver);
    on_disk["queue"] = json!({"folder": file});
    let told = refused(on_disk.clone());
    assert!(
        told.contains("notifications.endpoints[0].queue.folder: "),
        "{told}"
    );

    let queue = home.path().join("queue");
    on_disk["queue"]["folder"] = json!(queue);
    let other = folder();
    let _first = with_endpoints(other.path(), &[on_disk.clone()]).start();
    let told = refused(on_disk);
    assert!(
        told.ends_with("another process keeps its events there"),
        "{told}"
    );
}
