//! Limits, and what real clients make of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use wharfinger_e2e::clients::{self, copy};
use wharfinger_e2e::http::{OCTETS, with_digest};
use wharfinger_e2e::image::Layout;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, noise, output, run};

/// A server of its own folder in `home`.
fn server(home: &Path, name: &str, settings: &[(&str, serde_json::Value)]) -> Wharfinger {
    let home = home.join(name);
    fs::create_dir(&home).unwrap();
    let config = settings
        .iter()
        .fold(Config::new(&home), |config, (key, value)| {
            config.set(key, value.clone())
        });
    config.start()
}

/// Pushes an image with layers of these sizes by skopeo, and gives its name for clients.
fn push(home: &Path, to: &Wharfinger, sizes: &[u64]) -> String {
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let layers: Vec<_> = (0..)
        .zip(sizes)
        .map(|(seed, size)| layout.layer(&[(seed, *size)]).unwrap())
        .collect();
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "image").unwrap();
    let image = to.image("a:image");
    run(&mut copy(&source, &format!("docker://{image}")));
    image
}

/// Clients send what they have as fast as they can, and nearly all of them give up at the first 429:
/// what comes a little early is held back instead.
#[test]
fn every_client_gets_through_at_a_rate() {
    const RATE: u64 = 20;
    let home = folder();
    let home = home.path();
    let open = server(home, "open", &[]);
    let image = push(home, &open, &[50_000; 6]);
    let tight = server(
        home,
        "tight",
        &[
            ("http.limits.client.requests", RATE.into()),
            ("http.limits.client.burst", 1.into()),
            ("http.limits.client.delay", "60s".into()),
            ("http.limits.client.uploads", 1.into()),
        ],
    );
    let began = Instant::now();
    for client in clients::all(home) {
        client.pull(&image);
        let to = tight.image(&format!("{}:image", client.name()));
        let pushed = client.push(&image, &to);
        client.forget();
        assert_eq!(client.pull(&to), pushed, "{}", client.name());
    }
    let log = tight.log();
    assert!(!log.contains("\" 429 "), "{log}");
    let requests = log
        .lines()
        .filter(|line| line.contains(" HTTP/1.1\" "))
        .count() as u64;
    assert!(requests > 100, "{requests}");
    let least = Duration::from_millis((requests - 1) * 1000 / RATE);
    assert!(
        began.elapsed() > least,
        "{requests} requests came through too fast"
    );
}

#[test]
fn every_client_is_told_that_a_blob_is_too_large() {
    let home = folder();
    let home = home.path();
    let open = server(home, "open", &[]);
    let image = push(home, &open, &[600_000, 100_000, 700_000]);
    let small = server(home, "small", &[("http.limits.blobsize", "500KB".into())]);
    for client in clients::all(home) {
        client.pull(&image);
        let to = small.image(&format!("{}:image", client.name()));
        let pushed = output(&mut client.push_command(&image, &to));
        let said = [pushed.stdout, pushed.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!pushed.status.success(), "{}: {said}", client.name());
        // containerd tells the status only.
        let told = said.contains("a blob may have at most 500000 bytes") || said.contains("413");
        assert!(told, "{}: {said}", client.name());
    }
    // What a client broke off at once when another layer was refused may be left, as after every
    // connection that breaks, but nothing of what was refused.
    let log = small.log();
    let refused: Vec<_> = log.lines().filter_map(refused_upload).collect();
    assert!(!refused.is_empty(), "{log}");
    eventually("nothing is left of what was refused", || {
        refused.iter().all(|data| !small.data().join(data).exists())
    });
}

/// Where in a store the content was whose upload was refused, as far as a line of the log tells of
/// one.
fn refused_upload(line: &str) -> Option<String> {
    let (request, answer) = line.split_once(" HTTP/1.1\" ")?;
    let (_, path) = request.split_once(" /v2/")?;
    let (repository, upload) = path.split_once("/blobs/uploads/")?;
    let id = upload.split('?').next()?;
    (answer.starts_with("413 ") && !id.is_empty())
        .then(|| format!("docker/registry/v2/repositories/{repository}/_uploads/{id}/data"))
}

/// Sends bytes and gives all that comes until the server closes.
fn answer_to(server: &Wharfinger, bytes: &[u8]) -> String {
    let mut connection = TcpStream::connect(server.addr).unwrap();
    let patience = Some(Duration::from_secs(60));
    connection.set_read_timeout(patience).unwrap();
    connection.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // It may be reset behind the answer.
    if let Err(error) = connection.read_to_end(&mut answer) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it goes on");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_configured_holds() {
    let home = folder();
    let home = home.path();
    let server = server(
        home,
        "server",
        &[
            ("http.limits.headersize", "8KiB".into()),
            ("http.limits.manifestsize", "1KiB".into()),
            ("http.limits.bodysize", "100KiB".into()),
            ("http.timeouts.header", "1s".into()),
            ("http.timeouts.body", "1s".into()),
            ("http.timeouts.idle", "1s".into()),
        ],
    );
    let long = "x".repeat(20_000);
    let large = format!("GET /v2/ HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n");
    assert!(answer_to(&server, large.as_bytes()).starts_with("HTTP/1.1 431 "));
    assert_eq!(answer_to(&server, b"GET /v2/ HTTP/1.1\r\nHos"), "");
    assert_eq!(answer_to(&server, b""), "");
    let idle = answer_to(&server, b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");

    let http = server.http();
    let manifest = http.push_manifest("a", "t", "application/json", &[b'x'; 1025]);
    assert_eq!(manifest.outcome(), (413, "MANIFEST_INVALID".to_owned()));
    let path = with_digest(&http.open_upload("a"), &digest(b""));
    let refused = http.send("PUT", &path, &[OCTETS], &noise(1, 102_401));
    assert_eq!(refused.outcome(), (413, "DENIED".to_owned()));
    let mut stalled = http.begin("PUT", &path, &[OCTETS], 10).unwrap();
    stalled.write_all(b"x").unwrap();
    let slow = wharfinger_e2e::http::read_answer(&mut stalled, "PUT").unwrap();
    assert_eq!(slow.status, 408, "{slow:?}");
    http.push_blob("a", &noise(2, 102_400));
}

fn get_for(http: Http, client: &str) -> u16 {
    let headers = [("X-Forwarded-For", client)];
    http.send("GET", "/v2/", &headers, b"").status
}

#[test]
fn who_sends_far_too_much_is_refused() {
    let home = folder();
    let rate: [(&str, serde_json::Value); 4] = [
        ("http.limits.client.requests", 1.into()),
        ("http.limits.client.per", "1h".into()),
        ("http.limits.client.burst", 3.into()),
        ("http.limits.client.delay", "0s".into()),
    ];
    let alone = server(home.path(), "alone", &rate);
    let statuses = [1, 2, 3, 4].map(|n| get_for(alone.http(), &format!("192.0.2.{n}")));
    assert_eq!(statuses, [200, 200, 200, 429]);
    let refused = alone.http().get("/v2/");
    assert_eq!(refused.outcome(), (429, "TOOMANYREQUESTS".to_owned()));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&wait), "{wait}");
    let log = alone.log();
    assert!(log.contains("sends more requests than it may"), "{log}");

    let proxies = [("http.trustedproxies.addresses", vec!["127.0.0.1/32"].into())];
    let behind = server(home.path(), "behind", &[&rate[..], &proxies].concat());
    for client in ["192.0.2.1", "2001:db8::1"] {
        let statuses = [(); 4].map(|()| get_for(behind.http(), client));
        assert_eq!(statuses, [200, 200, 200, 429], "{client}");
        // The logs name the client, and only there where the proxy may be believed.
        let line = format!("\n{client} - - [");
        eventually("its line", || behind.log().contains(&line));
        assert!(!alone.log().contains(&line), "{}", alone.log());
    }
}
