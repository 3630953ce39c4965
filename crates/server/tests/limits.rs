//! What a client may take: how large, how many, how often.

mod support;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use support::{Connection, Options, Reply, Request, Running, Store, deleting, quiet, random};
use wharfinger_auth::{Access, AccessController, Asked, Grant, Refusal, Shown};
use wharfinger_oci::Digest;
use wharfinger_server::{ForwardedHeader, Limits, Network, Rate, TrustedProxies};

async fn limited(limits: Limits) -> Running {
    limited_in(Store::Memory, limits).await
}

async fn limited_in(store: Store, limits: Limits) -> Running {
    let options = Options { limits, ..quiet() };
    Running::start(store, deleting(), options).await
}

/// Sends a head that promises a body, and none of it; the answer must come all the same.
async fn promise(server: &Running, method: &str, path: &str, length: usize) -> Reply {
    let mut connection = server.connect().await;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    connection.write(head).await;
    connection.reply(false).await.expect("the server answers")
}

#[tokio::test]
async fn a_blob_that_is_too_large_is_refused_before_it_is_read() {
    for store in Store::ALL {
        let blob_size = Some(100_000);
        let server = limited_in(
            store,
            Limits {
                blob_size,
                ..Limits::default()
            },
        )
        .await;
        let digest = Digest::canonical(b"");
        let single = format!("/v2/a/blobs/uploads/?digest={digest}");
        let reply = promise(&server, "POST", &single, 100_001).await;
        reply.is_error(413, "DENIED");
        let upload = server.open_upload("a").await;
        let reply = promise(&server, "PATCH", &upload, 100_001).await;
        reply.is_error(413, "DENIED");
        // No upload is left that could only ever end in a blob too large.
        assert_eq!(server.get(&upload).await.status, 404);
        let upload = server.open_upload("a").await;
        let close = format!("{upload}&digest={digest}");
        let reply = promise(&server, "PUT", &close, 100_001).await;
        reply.is_error(413, "DENIED");
        assert_eq!(server.uploads_left("a").await, 0, "{store:?}");
    }
}

#[tokio::test]
async fn a_blob_that_grows_too_large_is_cut_off_and_leaves_nothing() {
    for store in Store::ALL {
        let blob_size = Some(100_000);
        let server = limited_in(
            store,
            Limits {
                blob_size,
                ..Limits::default()
            },
        )
        .await;
        let content = random(1, 100_001);
        let digest = Digest::canonical(&content);
        let single = format!("/v2/a/blobs/uploads/?digest={digest}");
        let reply = server.send(Request::post(&single).streamed(&content)).await;
        reply.is_error(413, "DENIED");
        // In several requests, each of which is small enough.
        let upload = server.open_upload("a").await;
        let (first, rest) = content.split_at(60_000);
        let reply = server.send(Request::patch(&upload).streamed(first)).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let upload = reply.location();
        let reply = server.send(Request::patch(&upload).streamed(rest)).await;
        reply.is_error(413, "DENIED");
        assert_eq!(server.get(&upload).await.status, 404);
        assert_eq!(server.uploads_left("a").await, 0, "{store:?}");
        // What fits to the byte is let in, in either way.
        let fits = random(2, 100_000);
        server.push_blob("a", &fits).await;
        let fits = random(3, 100_000);
        let upload = server.open_upload("a").await;
        let close = format!("{upload}&digest={}", Digest::canonical(&fits));
        let reply = server.send(Request::put(&close).streamed(&fits)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
    }
}

/// A request that is too large takes nothing from the upload: the same bytes can come in smaller
/// ones.
#[tokio::test]
async fn a_chunk_that_is_too_large_can_come_in_smaller_ones() {
    for store in Store::ALL {
        let body_size = Some(70_000);
        let server = limited_in(
            store,
            Limits {
                body_size,
                ..Limits::default()
            },
        )
        .await;
        let content = random(1, 140_000);
        let digest = Digest::canonical(&content);
        let upload = server.open_upload("a").await;
        for whole in [
            Request::patch(&upload).body(&content),
            Request::patch(&upload).streamed(&content),
        ] {
            server.send(whole).await.is_error(413, "DENIED");
            assert_eq!(server.get(&upload).await.get("range"), Some("0-0"));
        }
        let (first, second) = content.split_at(70_000);
        let reply = server.send(Request::patch(&upload).body(first)).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let upload = reply.location();
        let reply = server
            .send(Request::patch(&upload).streamed(&content))
            .await;
        reply.is_error(413, "DENIED");
        let close = format!("{upload}&digest={digest}");
        let reply = server.send(Request::put(&close).body(second)).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        assert_eq!(server.uploads_left("a").await, 0, "{store:?}");
    }
}

#[tokio::test]
async fn a_manifest_can_be_let_have_less_than_4_mib() {
    let manifest_size = 1000;
    let server = limited(Limits {
        manifest_size,
        ..Limits::default()
    })
    .await;
    let image = server.image("a", 1, "").await;
    let reply = server.push_manifest("a", "t", &image).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let padding = format!(",\"annotations\":{{\"a\":\"{}\"}}", "x".repeat(1000));
    let large = server.image("a", 1, &padding).await;
    let path = "/v2/a/manifests/large";
    for request in [
        Request::put(path).body(&large.bytes),
        Request::put(path).streamed(&large.bytes),
    ] {
        let request = request.header("content-type", large.media_type);
        let reply = server.send(request).await;
        reply.is_error(413, "MANIFEST_INVALID");
        assert!(
            String::from_utf8_lossy(&reply.body).contains("1000 bytes"),
            "{reply:?}"
        );
    }
}

/// A client that sends on, as most do, still reads why it was refused.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let blob_size = Some(1000);
    let server = limited(Limits {
        blob_size,
        ..Limits::default()
    })
    .await;
    let content = random(1, 20_000_000);
    for _ in 0..10 {
        let path = format!("/v2/a/blobs/uploads/?digest={}", Digest::canonical(b""));
        for request in [
            Request::post(&path).body(&content),
            Request::post(&path).streamed(&content),
        ] {
            let mut connection = server.connect().await;
            connection.send(&request).await.is_error(413, "DENIED");
            // All of it was taken, so the connection is still good.
            assert_eq!(connection.send(&Request::get("/v2/")).await.status, 200);
        }
    }
}

fn rate(requests: u32, per: Duration, burst: u32) -> Limits {
    Limits {
        client_rate: Some(Rate::new(requests, per, burst)),
        client_delay: Duration::ZERO,
        ..Limits::default()
    }
}

/// So slow that no test sees a second token.
const NEVER: Duration = Duration::from_secs(100_000);

#[tokio::test]
async fn a_client_that_sends_too_many_requests_is_told_to_wait() {
    let server = limited(rate(1, NEVER, 3)).await;
    for _ in 0..3 {
        assert_eq!(server.get("/v2/").await.status, 200);
    }
    for request in [
        Request::get("/v2/"),
        Request::post("/v2/a/blobs/uploads/"),
        Request::put("/v2/a/manifests/t").body("{}"),
        // Nor can it hide behind what anybody could write.
        Request::get("/v2/").header("x-forwarded-for", "192.0.2.1"),
    ] {
        let reply = server.send(request).await;
        reply.is_error(429, "TOOMANYREQUESTS");
        let wait: u64 = reply.get("retry-after").unwrap().parse().unwrap();
        assert!((99_000..=100_000).contains(&wait), "{wait}");
    }
    // Load balancers ask this, and often.
    for _ in 0..10 {
        assert_eq!(server.get("/").await.status, 200);
    }
}

/// Most clients give up when they are told to wait, so one that is a little early is let wait.
#[tokio::test]
async fn a_request_that_comes_too_early_is_held_back() {
    let server = limited(Limits {
        client_delay: Duration::from_secs(60),
        ..rate(10, Duration::from_secs(1), 1)
    })
    .await;
    let began = tokio::time::Instant::now();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut connection = server.connect().await;
        requests.spawn(async move { connection.send(&Request::get("/v2/")).await.status });
    }
    assert_eq!(requests.join_all().await, [200; 20]);
    assert!(began.elapsed() >= Duration::from_millis(1900));
}

#[tokio::test]
async fn a_client_that_has_waited_goes_on() {
    let server = limited(rate(10, Duration::from_secs(1), 1)).await;
    let mut answers = Vec::new();
    for _ in 0..300 {
        answers.push(server.get("/v2/").await.status);
        if answers.ends_with(&[200, 429, 200]) || answers.ends_with(&[429, 200]) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{answers:?}");
}

#[tokio::test]
async fn clients_behind_a_trusted_proxy_are_told_apart() {
    for (header, value) in [
        (ForwardedHeader::XForwardedFor, "x-forwarded-for"),
        (ForwardedHeader::Forwarded, "forwarded"),
    ] {
        let networks = vec![Network::new([127, 0, 0, 0].into(), 8)];
        let options = Options {
            limits: rate(1, NEVER, 1),
            trusted_proxies: TrustedProxies { networks, header },
            ..quiet()
        };
        let server = Running::start(Store::Memory, deleting(), options).await;
        let get = async |client: &str| {
            let told = match header {
                ForwardedHeader::XForwardedFor => client.to_owned(),
                ForwardedHeader::Forwarded => format!("for=\"{client}\";proto=https"),
            };
            let request = Request::get("/v2/").header(value, told);
            server.send(request).await.status
        };
        assert_eq!(get("192.0.2.1").await, 200);
        assert_eq!(get("192.0.2.1").await, 429);
        assert_eq!(get("192.0.2.2").await, 200);
        // Of an IPv6 network everybody has 2^64 addresses.
        assert_eq!(get("[2001:db8:0:1::1]").await, 200);
        assert_eq!(get("[2001:db8:0:1:ffff::2]").await, 429);
        assert_eq!(get("[2001:db8:0:2::1]").await, 200);
    }
}

/// Lets in whoever says a name, but for a few.
#[derive(Debug)]
struct Names;

#[async_trait]
impl AccessController for Names {
    async fn authorize(&self, asked: Asked<'_>, _: &[Access]) -> Result<Grant, Refusal> {
        let shown = match asked.authorization {
            None => Shown::Nothing,
            Some("nobody") => Shown::Guess,
            Some("stale") => Shown::Unfit,
            Some("busy") => return Err(Refusal::Busy),
            Some("broken") => return Err(Refusal::Unavailable("it is".to_owned())),
            Some(name) => match name.strip_prefix("forbidden ") {
                Some(name) => Shown::User(name.to_owned()),
                None => return Ok(Grant::everything(name)),
            },
        };
        Err(Refusal::Challenge {
            challenge: "Basic realm=\"x\"".to_owned(),
            reason: "who is it?".to_owned(),
            shown,
        })
    }
}

#[tokio::test]
async fn users_can_be_told_apart() {
    let by_user = true;
    let options = Options {
        limits: Limits {
            by_user,
            ..rate(1, NEVER, 3)
        },
        access: Some(Arc::new(Names)),
        ..quiet()
    };
    let server = Running::start(Store::Memory, deleting(), options).await;
    let get = async |name: Option<&str>| {
        let request = Request::get("/v2/");
        let request = match name {
            Some(name) => request.header("authorization", name),
            None => request,
        };
        server.send(request).await.status
    };
    // Who shows nothing counts for its address, and that for nobody else.
    for status in [401, 401, 401, 429, 429] {
        assert_eq!(get(None).await, status);
    }
    for name in ["anna", "boris"] {
        for status in [200, 200, 200, 429, 429] {
            assert_eq!(get(Some(name)).await, status, "{name}");
        }
    }
    // What is no guess locks out nobody else: users who may not do something count for themselves,
    // and what was not looked at for nobody.
    for status in [401, 401, 401, 429, 429] {
        assert_eq!(get(Some("forbidden dora")).await, status);
    }
    assert_eq!(get(Some("dora")).await, 429);
    for name in ["busy", "broken"] {
        for _ in 0..5 {
            assert_eq!(get(Some(name)).await, 503, "{name}");
        }
    }
    // What is out of date counts as if nothing had been shown, of which there is no more here.
    for _ in 0..5 {
        assert_eq!(get(Some("stale")).await, 429);
    }
    assert_eq!(get(Some("emil")).await, 200);
    // Guessing is counted for its own.
    for status in [401, 401, 401, 429, 429] {
        assert_eq!(get(Some("nobody")).await, status);
    }
    assert_eq!(
        get(Some("clara")).await,
        429,
        "from where guesses come nobody is let in"
    );
}

async fn begin_patch(server: &Running, length: usize) -> Connection {
    let upload = server.open_upload("a").await;
    let mut connection = server.connect().await;
    let head = format!("PATCH {upload} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    connection.write(head).await;
    connection
}

/// Whether nothing is answered for a while.
async fn is_silent(connection: &mut Connection) -> bool {
    let answer = tokio::time::timeout(Duration::from_millis(200), connection.reply(false));
    answer.await.is_err()
}

#[tokio::test]
async fn uploads_wait_for_their_turn() {
    for limits in [
        Limits {
            uploads: Some(1),
            ..Limits::default()
        },
        Limits {
            client_uploads: Some(1),
            ..Limits::default()
        },
    ] {
        let server = limited(limits).await;
        let mut first = begin_patch(&server, 10).await;
        first.write("12345").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut second = begin_patch(&server, 5).await;
        second.write("12345").await;
        assert!(is_silent(&mut second).await);
        // Everything that brings no content is answered meanwhile.
        server.open_upload("b").await;
        assert_eq!(server.get("/v2/").await.status, 200);
        first.write("67890").await;
        assert_eq!(first.reply(false).await.unwrap().status, 202);
        assert_eq!(second.reply(false).await.unwrap().status, 202);
        // One that vanishes while it waits, or in the middle, leaves its turn to others.
        let mut third = begin_patch(&server, 10).await;
        third.write("1").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let waiting = begin_patch(&server, 10).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        waiting.reset();
        third.reset();
        server.push_blob("a", b"content").await;
    }
}

#[tokio::test]
async fn an_upload_that_waits_too_long_is_told_to_come_back() {
    let server = limited(Limits {
        uploads: Some(1),
        upload_wait: Duration::from_millis(500),
        ..Limits::default()
    })
    .await;
    let mut slow = begin_patch(&server, 1_000_000).await;
    slow.write("x").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut waiting = begin_patch(&server, 5).await;
    waiting.write("12345").await;
    let reply = waiting.reply(false).await.unwrap();
    reply.is_error(429, "TOOMANYREQUESTS");
    assert!(reply.get("retry-after").is_some());
}

#[tokio::test]
async fn a_client_can_have_too_many_connections() {
    let client_connections = Some(2);
    let server = limited(Limits {
        client_connections,
        ..Limits::default()
    })
    .await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_eq!(first.send(&Request::get("/v2/")).await.status, 200);
    assert_eq!(second.send(&Request::get("/v2/")).await.status, 200);
    assert!(server.connect().await.is_closed().await);
    drop(first);
    for _ in 0..300 {
        let mut another = server.connect().await;
        another
            .try_write("GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n")
            .await;
        if !another.is_closed().await {
            assert_eq!(second.send(&Request::get("/v2/")).await.status, 200);
            return;
        }
    }
    panic!("the place of the first is not free");
}

#[tokio::test]
async fn connections_wait_when_there_are_too_many() {
    let connections = Some(2);
    let server = limited(Limits {
        connections,
        ..Limits::default()
    })
    .await;
    let mut first = server.connect().await;
    let mut second = server.connect().await;
    assert_eq!(first.send(&Request::get("/v2/")).await.status, 200);
    assert_eq!(second.send(&Request::get("/v2/")).await.status, 200);
    let mut third = server.connect().await;
    third.write("GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(is_silent(&mut third).await);
    drop(first);
    assert_eq!(third.reply(false).await.unwrap().status, 200);
    // And so when more are let in.
    let mut fourth = server.connect().await;
    fourth.write("GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(is_silent(&mut fourth).await);
    server.server.set_options(quiet());
    assert_eq!(fourth.reply(false).await.unwrap().status, 200);
}

fn soon_idle() -> Options {
    Options {
        idle_timeout: Duration::from_millis(400),
        ..quiet()
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_happens_is_closed() {
    for http2_cleartext in [false, true] {
        let options = Options {
            http2_cleartext,
            ..soon_idle()
        };
        let server = Running::start(Store::Memory, deleting(), options).await;
        let mut idle = server.connect().await;
        assert!(idle.is_closed().await, "without a request");
        let mut idle = server.connect().await;
        assert_eq!(idle.send(&Request::get("/v2/")).await.status, 200);
        assert!(idle.is_closed().await, "after a request");
        // One that is at work stays, however long that takes.
        let mut busy = begin_patch(&server, 10).await;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            busy.write("x").await;
        }
        assert_eq!(busy.reply(false).await.unwrap().status, 202);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let server = Running::start(Store::Folder, deleting(), soon_idle()).await;
    let content = random(1, 30_000_000);
    let digest = server.push_blob("a", &content).await;
    let mut stalled = server.connect().await;
    stalled
        .write(format!(
            "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
    // Time goes by for this one as it does for others, however busy the machine is.
    for _ in 0..3 {
        assert!(server.connect().await.is_closed().await);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let read = stalled.read_to_end().await;
    assert!(read < content.len(), "all {read} bytes came");
    // A slow reader is another matter.
    let mut slow = server.connect().await;
    slow.write(format!(
        "GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: a\r\n\r\n"
    ))
    .await;
    assert!(slow.reply(false).await.unwrap().body == content);
}

/// RFC 9110, section 15.5.9, is for bodies; a head that does not come ends the connection.
#[tokio::test]
async fn a_head_is_waited_for_from_its_first_byte() {
    let options = Options {
        header_timeout: Duration::from_millis(400),
        ..quiet()
    };
    let server = Running::start(Store::Memory, deleting(), options).await;
    let mut connection = server.connect().await;
    for _ in 0..3 {
        assert_eq!(connection.send(&Request::get("/v2/")).await.status, 200);
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_millis(900)).await;
    }
    connection.write("GET /v2/ HTTP/1.1\r\nHo").await;
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn options_hold_for_the_next_request() {
    let server = limited(Limits::default()).await;
    let mut connection = server.connect().await;
    assert_eq!(connection.send(&Request::get("/v2/")).await.status, 200);
    server.server.set_options(Options {
        prefix: "/below/".to_owned(),
        ..quiet()
    });
    assert_eq!(connection.send(&Request::get("/v2/")).await.status, 404);
    assert_eq!(
        connection.send(&Request::get("/below/v2/")).await.status,
        200
    );
}
