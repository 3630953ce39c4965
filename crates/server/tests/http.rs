//! HTTP itself: addresses that clients are told, headers, the log, HTTP/2, keeping connections
//! alive, and ending well.

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{Options, Request, Running, Store, deleting, quiet, random, server};
use tokio::net::TcpStream;
use wharfinger_oci::Digest;

async fn with(options: Options) -> Running {
    Running::start(Store::Memory, deleting(), options).await
}

/// `http.prefix` moves everything.
#[tokio::test]
async fn a_prefix_moves_the_api() {
    let options = Options {
        prefix: "/my/registry/".to_owned(),
        ..quiet()
    };
    let server = with(options).await;
    assert_eq!(server.get("/my/registry/v2/").await.status, 200);
    for path in ["/v2/", "/my/v2/", "/my/registryv2/", "/"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let reply = server
        .send(Request::post("/my/registry/v2/a/blobs/uploads/"))
        .await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert!(
        reply
            .location()
            .starts_with("/my/registry/v2/a/blobs/uploads/")
    );
    let digest = Digest::canonical(b"x");
    let put = Request::put(&format!("{}&digest={digest}", reply.location())).body("x");
    let reply = server.send(put).await;
    assert_eq!(
        reply.location(),
        format!("/my/registry/v2/a/blobs/{digest}")
    );
    assert_eq!(server.get(&reply.location()).await.body, b"x");
}

/// Headers of a request.
type Headers = &'static [(&'static str, &'static str)];

/// `http.host` and `http.relativeurls`, and without them what a proxy in front says.
#[tokio::test]
async fn clients_are_told_addresses_that_they_can_reach() {
    let fixed = Options {
        host: Some("https://registry.example:8443".parse().unwrap()),
        ..quiet()
    };
    let relative = Options {
        relative_urls: true,
        ..quiet()
    };
    let cases: [(Options, Headers, &str); 9] = [
        (
            quiet(),
            &[("host", "r.example:5000")],
            "http://r.example:5000/v2/",
        ),
        (
            quiet(),
            &[("host", "r"), ("x-forwarded-proto", "https")],
            "https://r/v2/",
        ),
        (
            quiet(),
            &[
                ("host", "r"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "hub.example, proxy"),
            ],
            "https://hub.example/v2/",
        ),
        (
            quiet(),
            &[
                ("host", "r"),
                (
                    "forwarded",
                    "for=10.0.0.1;host=hub.example;proto=https, for=10.0.0.2",
                ),
            ],
            "https://hub.example/v2/",
        ),
        (
            quiet(),
            &[("host", "r"), ("x-forwarded-proto", "gopher")],
            "http://r/v2/",
        ),
        (
            quiet(),
            &[("host", "r"), ("x-forwarded-host", "evil.example/path?")],
            "/v2/",
        ),
        (
            fixed.clone(),
            &[("host", "r"), ("x-forwarded-host", "other")],
            "https://registry.example:8443/v2/",
        ),
        (relative, &[("host", "r")], "/v2/"),
        (fixed, &[("host", "")], "https://registry.example:8443/v2/"),
    ];
    for (options, headers, start) in cases {
        let server = with(options).await;
        let mut request = Request::post("/v2/a/blobs/uploads/");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let reply = server.send(request).await;
        let location = reply.get("location").unwrap();
        assert!(
            location.starts_with(&format!("{start}a/blobs/uploads/")),
            "{headers:?}: {location}"
        );
    }
}

/// `http.headers`.
#[tokio::test]
async fn configured_headers_are_in_every_answer() {
    let options = Options {
        headers: vec![
            (
                "x-content-type-options".parse().unwrap(),
                "nosniff".parse().unwrap(),
            ),
            ("x-twice".parse().unwrap(), "1".parse().unwrap()),
            ("x-twice".parse().unwrap(), "2".parse().unwrap()),
        ],
        ..quiet()
    };
    let server = with(options).await;
    let digest = server.push_blob("a", b"x").await;
    for path in [
        "/v2/",
        "/nothing",
        &format!("/v2/a/blobs/{digest}"),
        "/v2/a/manifests/none",
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.all("x-content-type-options"), ["nosniff"], "{path}");
        assert_eq!(reply.all("x-twice"), ["1", "2"], "{path}");
    }
}

#[tokio::test]
async fn requests_have_names() {
    let server = server().await;
    let own = server
        .send(Request::get("/v2/").header("x-request-id", "my-request.1_A"))
        .await;
    assert_eq!(own.all("x-request-id"), ["my-request.1_A"]);
    let long = "x".repeat(65);
    for bad in ["", "a b", "a\"b", "\u{e4}", &long] {
        let reply = server
            .send(Request::get("/v2/").header("x-request-id", bad))
            .await;
        let id = reply.get("x-request-id").unwrap();
        assert!(id.len() == 32 && id != bad, "{bad:?} became {id}");
    }
    let other = server.get("/v2/").await;
    assert_ne!(own.get("x-request-id"), other.get("x-request-id"));
}

/// What is logged while the guard lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn requests_are_logged() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = with(Options::default()).await;
    let request = Request::get("/v2/?n=1")
        .header("user-agent", "a \"quoted\" agent")
        .header("referer", "there");
    server.send(request).await;
    let upload = server.open_upload("a").await;
    server.get(&upload).await;
    drop(server);
    let quiet_server = with(quiet()).await;
    quiet_server.get("/v2/?n=2").await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" access: "))
        .collect();
    assert_eq!(lines.len(), 3, "{text}");
    let line = lines[0];
    assert!(line.contains("127.0.0.1 - - ["), "{line}");
    assert!(
        line.contains(r#""GET /v2/?n=1 HTTP/1.1" 200 3 "there" "a \"quoted\" agent""#),
        "{line}"
    );
    assert!(lines[2].contains("/v2/a/blobs/uploads/"), "{text}");
    let (_, state) = upload.split_once("_state=").unwrap();
    assert!(
        !text.contains(state),
        "the log must not hold what lets one write"
    );
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = server().await;
    let mut connection = server.connect().await;
    let content = random(1, 100_000);
    let digest = Digest::canonical(&content);
    for n in 0..50 {
        let reply = connection
            .send(&Request::post(&format!("/v2/a{n}/blobs/uploads/")))
            .await;
        let put = Request::put(&format!("{}&digest={digest}", reply.location())).streamed(&content);
        assert_eq!(connection.send(&put).await.status, 201);
        assert_eq!(
            connection.send(&Request::new("HEAD", "/v2/")).await.status,
            200
        );
        assert_eq!(connection.send(&Request::get("/none")).await.status, 404);
        let reply = connection
            .send(&Request::get(&format!("/v2/a{n}/blobs/{digest}")))
            .await;
        assert!(reply.body == content);
    }
    // Requests that were sent ahead are answered in order.
    let host = connection.host().to_owned();
    let ahead: Vec<u8> = ["/v2/", "/v2/none/tags/list", "/v2/_catalog?n=1"]
        .iter()
        .flat_map(|path| Request::get(path).to_bytes(&host))
        .collect();
    connection.write(ahead).await;
    for status in [200, 404, 200] {
        assert_eq!(connection.reply(false).await.unwrap().status, status);
    }
    let last = Request::get("/v2/").header("connection", "close");
    assert_eq!(connection.send(&last).await.status, 200);
    assert!(connection.is_closed().await);
}

/// RFC 9110, section 10.1.1: the client waits with its body for a word.
#[tokio::test]
async fn a_client_may_wait_for_100() {
    let server = server().await;
    let upload = server.open_upload("a").await;
    let mut connection = server.connect().await;
    let digest = Digest::canonical(b"hello");
    let head = |path: &str| {
        format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
    };
    connection
        .write(head(&format!("{upload}&digest={digest}")))
        .await;
    assert_eq!(connection.reply(false).await.unwrap().status, 100);
    connection.write("hello").await;
    assert_eq!(connection.reply(false).await.unwrap().status, 201);
    // What is refused is refused before the body is sent.
    let mut connection = server.connect().await;
    connection.write(head("/v2/a/blobs/uploads/none")).await;
    assert_eq!(connection.reply(false).await.unwrap().status, 404);
}

#[tokio::test]
async fn http_1_0_is_spoken() {
    let server = server().await;
    let digest = server.push_blob("a", b"old").await;
    let mut connection = server.connect().await;
    connection
        .write(format!("GET /v2/a/blobs/{digest} HTTP/1.0\r\n\r\n"))
        .await;
    let reply = connection.reply(false).await.unwrap();
    assert_eq!((reply.status, &*reply.body), (200, &b"old"[..]));
    assert!(connection.is_closed().await);
    let mut connection = server.connect().await;
    connection
        .write("POST /v2/a/blobs/uploads/ HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        .await;
    let reply = connection.reply(false).await.unwrap();
    assert!(
        reply
            .get("location")
            .unwrap()
            .starts_with("/v2/a/blobs/uploads/"),
        "no host is known"
    );
}

/// `http.h2c.enabled`.
#[tokio::test]
async fn http_2_is_spoken_where_enabled() {
    let options = Options {
        http2_cleartext: true,
        ..quiet()
    };
    let server = with(options).await;
    let content = random(5, 1_000_000);
    let digest = server.push_blob("a", &content).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driving = tokio::spawn(connection);
    let authority = server.address;
    let get = http::Request::get(format!("http://{authority}/v2/a/blobs/{digest}"));
    let answers = (0..4).map(|_| sender.send_request(with_body(&get, Bytes::new())));
    for answer in futures_util::future::join_all(answers.collect::<Vec<_>>()).await {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.into_body().collect().await.unwrap().to_bytes() == content);
    }
    let other = random(6, 700_000);
    let post = http::Request::post(format!(
        "http://{authority}/v2/a/blobs/uploads/?digest={}",
        Digest::canonical(&other)
    ));
    let answer = sender
        .send_request(with_body(&post, other.into()))
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(
        location.starts_with(&format!("http://{authority}/v2/a/blobs/sha256:")),
        "{location}"
    );
    drop(sender);
    driving.abort();

    // Where it is off, its preface is no request.
    let server = with(quiet()).await;
    let mut connection = server.connect().await;
    connection.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    if let Some(reply) = connection.reply(false).await {
        assert_eq!(reply.status, 400);
    }
}

fn with_body(request: &http::request::Builder, body: Bytes) -> http::Request<Full<Bytes>> {
    http::Request::builder()
        .method(request.method_ref().unwrap())
        .uri(request.uri_ref().unwrap())
        .body(Full::new(body))
        .unwrap()
}

/// Stopping lets requests under way finish, and takes no new connection.
#[tokio::test]
async fn stopping_lets_an_upload_finish() {
    for store in Store::ALL {
        let mut server = Running::start(store, deleting(), quiet()).await;
        let content = random(7, 300_000);
        let digest = Digest::canonical(&content);
        let upload = server.open_upload("a").await;
        let mut idle = server.connect().await;
        assert_eq!(idle.send(&Request::get("/v2/")).await.status, 200);
        let mut busy = server.connect().await;
        let head = format!(
            "PUT {upload}&digest={digest} HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
        );
        busy.write(head).await;
        busy.write(&content[..150_000]).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stopped = server.stop();
        assert!(
            idle.is_closed().await,
            "a connection without a request ends at once"
        );
        assert!(
            TcpStream::connect(server.address).await.is_err(),
            "no new connection is taken"
        );
        busy.write(&content[150_000..]).await;
        let reply = busy.reply(false).await.expect("the upload is answered");
        assert_eq!(reply.status, 201, "{reply:?}");
        assert!(busy.is_closed().await);
        stopped.await.unwrap();

        let again = Running::over(server.driver.clone(), deleting(), quiet()).await;
        assert!(again.get(&format!("/v2/a/blobs/{digest}")).await.body == content);
    }
}

/// Nor does it wait for a client that keeps an HTTP/2 connection without a request on it.
#[tokio::test]
async fn stopping_ends_idle_http_2() {
    let options = Options {
        http2_cleartext: true,
        drain_timeout: Duration::from_secs(3600),
        ..quiet()
    };
    let mut server = with(options).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driving = tokio::spawn(connection);
    let get = http::Request::get(format!("http://{}/v2/", server.address));
    let answer = sender.send_request(with_body(&get, Bytes::new())).await;
    assert_eq!(answer.unwrap().status(), 200);
    let stopped = tokio::time::timeout(Duration::from_secs(30), server.stop());
    stopped.await.expect("the server stops in time").unwrap();
    driving.await.unwrap().unwrap();
}

/// `http.draintimeout` bounds the wait.
#[tokio::test]
async fn stopping_does_not_wait_forever() {
    let options = Options {
        drain_timeout: Duration::from_millis(300),
        ..quiet()
    };
    let mut server = with(options).await;
    let upload = server.open_upload("a").await;
    let mut stuck = server.connect().await;
    stuck
        .write(format!(
            "PATCH {upload} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx"
        ))
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopped = tokio::time::timeout(Duration::from_secs(10), server.stop());
    stopped.await.expect("the server stops in time").unwrap();
}

/// RFC 9112, section 3.2: every form of a request's target.
#[tokio::test]
async fn every_form_of_target_is_understood() {
    let server = server().await;
    let absolute =
        Request::post("http://hub.example:81/v2/a/blobs/uploads/").header("host", "other");
    let reply = server.send(absolute).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    // The target counts, not `Host` (section 3.2.2).
    let location = reply.get("location").unwrap();
    assert!(
        location.starts_with("http://hub.example:81/v2/a/blobs/uploads/"),
        "{location}"
    );
    for (method, target) in [
        ("OPTIONS", "*"),
        ("CONNECT", "hub.example:81"),
        ("GET", "http://hub.example"),
    ] {
        let mut connection = server.connect().await;
        connection
            .write(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        let reply = connection.reply(false).await.expect("it is answered");
        assert!(reply.status < 500, "{method} {target}: {reply:?}");
    }
    assert_eq!(server.get("/v2/").await.status, 200);
}
