//! A pull-through cache that removes what is not used.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use wharfinger_e2e::{Config, Wharfinger, eventually, folder};

const REPOSITORY: &str = "team/app";

const DAY: i64 = 86_400;

fn pull(server: &Wharfinger, tag: &str, image: &[String; 3]) {
    let http = server.http();
    let [manifest, blobs @ ..] = image;
    assert_eq!(http.digest(REPOSITORY, tag), *manifest);
    for blob in blobs {
        let answer = http.get(&format!("/v2/{REPOSITORY}/blobs/{blob}"));
        assert_eq!(answer.status, 200);
        eventually("it is kept", || server.blob_file(blob).exists());
    }
}

/// Where it is noted when content was used.
fn notes(data: &Path) -> PathBuf {
    data.join(format!("docker/registry/v2/_notes/{REPOSITORY}/_/uses"))
}

/// When something was used, as far as that is noted.
fn noted(data: &Path, digest: &str) -> Option<i64> {
    let text = fs::read_to_string(notes(data)).unwrap_or_default();
    let line = text.lines().find(|line| line.ends_with(digest))?;
    line.split_once(' ')?.0.parse().ok()
}

/// Lets time pass since each digest was used.
fn pass(data: &Path, seconds: impl Fn(&str) -> i64) {
    let text = fs::read_to_string(notes(data)).unwrap();
    let moved = text.lines().map(|line| {
        let (at, digest) = line.split_once(' ').unwrap();
        let at = at.parse::<i64>().unwrap() - seconds(digest);
        format!("{at} {digest}\n")
    });
    fs::write(notes(data), moved.collect::<String>()).unwrap();
}

fn metric(server: &Wharfinger, series: &str) -> Option<f64> {
    let text = String::from_utf8(server.debug().get("/metrics").body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[test]
fn what_is_due_goes_whatever_happens_to_the_process() {
    let home = folder();
    let [upstream, cache] = ["upstream", "cache"].map(|name| home.path().join(name));
    for folder in [&upstream, &cache] {
        fs::create_dir(folder).unwrap();
    }
    let mut upstream = Wharfinger::start(&upstream);
    let tags = ["1", "2", "3", "4"];
    let images = [1, 2, 3, 4].map(|seed| {
        let http = upstream.http();
        http.push_image(REPOSITORY, tags[seed as usize - 1], seed)
    });
    let [unused, again, large, pinned] = &images;
    let config = Config::new(&cache)
        .set("proxy.remoteurl", format!("http://{}", upstream.addr))
        .set("proxy.ttl", "168h")
        .set("proxy.pinned", json!([format!("{REPOSITORY}:4")]))
        .watched();
    let mut server = config.start();
    for (tag, image) in tags.iter().zip(&images) {
        pull(&server, tag, image);
    }
    let data = server.data().to_owned();
    server.stop();
    let before = noted(&data, &again[0]).expect("it is noted at the stop");
    pass(&data, |_| 6 * DAY);

    server.start_again();
    pull(&server, "2", again);
    eventually("its use is noted before long", || {
        noted(&data, &again[0]).is_some_and(|at| at >= before)
    });
    server.kill();

    // One is due, and of the 400 kB that the four take there is room for two and a half.
    pass(&data, |digest| {
        match unused.iter().any(|one| one == digest) {
            true => 2 * DAY,
            false => DAY / 24,
        }
    });
    let mut server = config.set("proxy.size", "250KB").start();
    let state = data.join("docker/registry/v2/_gc/state");
    let is_in = |phase: &str| {
        let state = fs::read_to_string(&state).unwrap_or_default();
        state.contains(&format!("\"{phase}\""))
    };
    eventually("it is condemned", || is_in("condemned"));
    server.kill();
    server.start_again();
    // Each phase lasts as long as others may need to hear of it.
    eventually("what was cut off goes on", || is_in("executing"));
    eventually("what was cut off is ended", || is_in("over"));
    let blob = |digest: &String| server.blob_file(digest).exists();
    eventually("both are gone", || {
        !unused.iter().chain(large).any(blob)
            && metric(
                &server,
                "registry_proxy_evicted_bytes_total{reason=\"size\"}",
            )
            .is_some()
    });
    assert!(again.iter().chain(pinned).all(blob));
    for reason in ["ttl", "size"] {
        for (kind, number) in [("manifest", 1.0), ("blob", 2.0)] {
            let series =
                format!("registry_proxy_evicted_total{{reason=\"{reason}\",type=\"{kind}\"}}");
            assert_eq!(metric(&server, &series), Some(number), "{series}");
        }
    }
    let kept = metric(&server, "registry_proxy_kept_bytes").unwrap();
    assert!((200_000.0..225_000.0).contains(&kept), "{kept}");
    // What is gone comes again, or the client is told why not.
    pull(&server, "1", unused);
    upstream.stop();
    let http = server.http();
    for (tag, status) in [("1", 200), ("2", 200), ("3", 503), ("4", 200)] {
        let answer = http.get(&format!("/v2/{REPOSITORY}/manifests/{tag}"));
        assert_eq!(answer.status, status, "{tag}");
    }
    server.stop();
}
