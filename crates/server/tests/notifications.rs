//! Which requests are told of, and what is told.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use wharfinger_notify::{Action, Event, EventSink, Kept};
use wharfinger_oci::{Digest, media_type};
use wharfinger_server::Notifications;

mod support;

use support::*;

const OCTETS: &str = media_type::OCTET_STREAM;

/// Keeps the events it gets.
#[derive(Debug, Default)]
struct Collector {
    events: Mutex<Vec<Event>>,
    /// Actions that it does not want.
    ignored: Vec<Action>,
}

impl EventSink for Collector {
    fn wants(&self, action: Action, _media_type: &str) -> bool {
        !self.ignored.contains(&action)
    }

    fn emit(&self, event: Event) -> Kept {
        assert!(self.wants(event.action, &event.target.media_type));
        self.events.lock().unwrap().push(event);
        Kept::default()
    }
}

/// An event's action, media type, digest, size, repository, tag and method.
type Told = (Action, String, String, u64, String, String, String);

impl Collector {
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap())
    }

    fn told(&self) -> Vec<Told> {
        let text = |part: Option<String>| part.unwrap_or_default();
        let told = |event: Event| {
            let target = event.target;
            (
                event.action,
                target.media_type.to_string(),
                text(target.digest.map(|digest| digest.to_string())),
                target.size,
                target.repository.to_string(),
                text(target.tag.map(|tag| tag.to_string())),
                event.request.method,
            )
        };
        self.take().into_iter().map(told).collect()
    }

    #[track_caller]
    fn told_nothing(&self) {
        assert_eq!(self.told(), []);
    }
}

fn blob(action: Action, content: &[u8], name: &str, method: &str) -> Told {
    let digest = Digest::canonical(content).to_string();
    let size = content.len() as u64;
    let none = String::new();
    (
        action,
        OCTETS.into(),
        digest,
        size,
        name.into(),
        none,
        method.into(),
    )
}

fn manifest(action: Action, content: &Content, name: &str, tag: &str, method: &str) -> Told {
    let digest = content.digest().to_string();
    let size = content.bytes.len() as u64;
    let media_type = content.media_type.into();
    (
        action,
        media_type,
        digest,
        size,
        name.into(),
        tag.into(),
        method.into(),
    )
}

fn deleted(digest: &str, name: &str, tag: &str) -> Told {
    let (none, method) = (String::new(), "DELETE".to_owned());
    (
        Action::Delete,
        none,
        digest.into(),
        0,
        name.into(),
        tag.into(),
        method,
    )
}

async fn start(collector: &Arc<Collector>) -> Running {
    let options = Options {
        notifications: Some(Notifications {
            sink: Arc::clone(collector) as _,
            include_references: false,
        }),
        ..quiet()
    };
    Running::start(Store::Folder, deleting(), options).await
}

#[tokio::test]
async fn pushed_blobs_are_told_of_however_they_come() {
    let collector = Arc::default();
    let server = start(&collector).await;
    let content = random(1, 2000);
    let pushed = [blob(Action::Push, &content, "a/b", "PUT")];
    let digest = Digest::canonical(&content);

    server.push_blob("a/b", &content).await;
    assert_eq!(
        collector.told(),
        [blob(Action::Push, &content, "a/b", "POST")]
    );

    let location = server.open_upload("a/b").await;
    let chunk = Request::patch(&location).body(&content);
    let location = server.send(chunk).await.location();
    server.get(&location).await;
    collector.told_nothing();
    let end = Request::put(&format!("{location}&digest={digest}"));
    assert_eq!(server.send(end).await.status, 201);
    assert_eq!(collector.told(), pushed);

    let location = server.open_upload("a/b").await;
    let wrong = Digest::canonical(b"other");
    let end = Request::put(&format!("{location}&digest={wrong}")).body(&content);
    assert_eq!(server.send(end).await.status, 400);
    let location = server.open_upload("a/b").await;
    assert_eq!(server.delete(&location).await.status, 204);
    collector.told_nothing();
}

#[tokio::test]
async fn mounts_are_told_of_with_the_repository_that_the_client_named() {
    let collector = Arc::default();
    let server = start(&collector).await;
    let content = random(2, 100);
    let digest = server.push_blob("source", &content).await;
    collector.take();

    let mount = |query: &str| Request::post(&format!("/v2/a/blobs/uploads/?mount={digest}{query}"));
    assert_eq!(server.send(mount("&from=source")).await.status, 201);
    let events = collector.take();
    assert_eq!(events.len(), 1);
    let target = &events[0].target;
    assert_eq!(events[0].action, Action::Mount);
    assert_eq!(target.repository.as_str(), "a");
    assert_eq!(target.from_repository.as_ref().unwrap().as_str(), "source");
    assert_eq!((target.digest, target.size), (Some(digest), 100));
    assert_eq!(
        target.url,
        format!("http://{}/v2/a/blobs/{digest}", server.address)
    );

    assert_eq!(server.send(mount("")).await.status, 201);
    let events = collector.take();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (events[0].action, &events[0].target.from_repository),
        (Action::Mount, &None)
    );

    assert_eq!(server.send(mount("&from=none")).await.status, 202);
    collector.told_nothing();
}

#[tokio::test]
async fn pulled_blobs_are_told_of_when_serving_begins() {
    let collector = Arc::default();
    let server = start(&collector).await;
    let content = random(3, 300_000);
    let digest = server.push_blob("a", &content).await;
    let path = format!("/v2/a/blobs/{digest}");
    collector.take();

    assert_eq!(server.get(&path).await.status, 200);
    assert_eq!(server.head(&path).await.status, 200);
    let part = Request::get(&path).header("range", "bytes=5-9");
    assert_eq!(server.send(part).await.status, 206);
    let same = Request::get(&path).header("if-none-match", format!("\"{digest}\""));
    assert_eq!(server.send(same).await.status, 304);
    let expected: Vec<_> = ["GET", "HEAD", "GET", "GET"]
        .map(|method| blob(Action::Pull, &content, "a", method))
        .into();
    assert_eq!(collector.told(), expected);

    // One that is broken off has begun.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = Request::get(&path).to_bytes("registry.example");
    stream.write_all(&request).await.unwrap();
    stream.read_u8().await.unwrap();
    drop(stream);
    assert_eq!(collector.told(), [blob(Action::Pull, &content, "a", "GET")]);

    let beyond = Request::get(&path).header("range", "bytes=400000-");
    assert_eq!(server.send(beyond).await.status, 416);
    let other = Request::get(&path).header("if-match", "\"sha256:0\"");
    assert_eq!(server.send(other).await.status, 412);
    let missing = Digest::canonical(b"missing");
    assert_eq!(
        server.get(&format!("/v2/a/blobs/{missing}")).await.status,
        404
    );
    assert_eq!(server.get("/v2/a/tags/list").await.status, 200);
    collector.told_nothing();
}

#[tokio::test]
async fn manifests_are_told_of_with_their_tags() {
    let collector = Arc::default();
    let server = start(&collector).await;
    let image = server.image("a/b", 1, "").await;
    let digest = image.digest();
    collector.take();

    server.push_manifest("a/b", "one", &image).await;
    server
        .push_manifest("a/b", &digest.to_string(), &image)
        .await;
    let several = format!("{digest}?tag=two&tag=three");
    server.push_manifest("a/b", &several, &image).await;
    let pushed: Vec<_> = ["one", "", "two", "three"]
        .map(|tag| manifest(Action::Push, &image, "a/b", tag, "PUT"))
        .into();
    assert_eq!(collector.told(), pushed);

    let by_tag = "/v2/a/b/manifests/one";
    let by_digest = format!("/v2/a/b/manifests/{digest}");
    assert_eq!(server.get(by_tag).await.status, 200);
    assert_eq!(server.head(by_tag).await.status, 200);
    assert_eq!(server.get(&by_digest).await.status, 200);
    let pulled = |tag: &str, method: &str| manifest(Action::Pull, &image, "a/b", tag, method);
    let expected = [
        pulled("one", "GET"),
        pulled("one", "HEAD"),
        pulled("", "GET"),
    ];
    assert_eq!(collector.told(), expected);

    let same = Request::get(by_tag).header("if-none-match", format!("\"{digest}\""));
    assert_eq!(server.send(same).await.status, 304);
    assert_eq!(server.get("/v2/a/b/manifests/none").await.status, 404);
    let broken = Content::new(image.media_type, "{}");
    assert_eq!(
        server.push_manifest("a/b", "one", &broken).await.status,
        400
    );
    assert_eq!(
        server
            .get(&format!("/v2/a/b/referrers/{digest}"))
            .await
            .status,
        200
    );
    collector.told_nothing();

    let sha512 = image.sha512();
    server
        .push_manifest("a/b", &sha512.to_string(), &image)
        .await;
    let events = collector.take();
    assert_eq!(events[0].target.digest, Some(sha512));
    let url = format!("http://{}/v2/a/b/manifests/{sha512}", server.address);
    assert_eq!(events[0].target.url, url);
}

#[tokio::test]
async fn deletions_are_told_of_with_the_tags_that_go_with_a_manifest() {
    let collector = Arc::default();
    let server = start(&collector).await;
    let image = server.push_image("a", "one", 1).await;
    for tag in ["three", "two"] {
        server.push_manifest("a", tag, &image).await;
    }
    let content = random(9, 10);
    let layer = server.push_blob("a", &content).await;
    collector.take();

    assert_eq!(server.delete("/v2/a/manifests/two").await.status, 202);
    assert_eq!(collector.told(), [deleted("", "a", "two")]);
    let digest = image.digest().to_string();
    let path = format!("/v2/a/manifests/{digest}");
    assert_eq!(server.delete(&path).await.status, 202);
    let expected = [
        deleted(&digest, "a", ""),
        deleted("", "a", "one"),
        deleted("", "a", "three"),
    ];
    assert_eq!(collector.told(), expected);
    assert_eq!(
        server.delete(&format!("/v2/a/blobs/{layer}")).await.status,
        202
    );
    assert_eq!(collector.told(), [deleted(&layer.to_string(), "a", "")]);

    for path in [
        path,
        "/v2/a/manifests/two".into(),
        format!("/v2/a/blobs/{layer}"),
    ] {
        assert_eq!(server.delete(&path).await.status, 404);
    }
    collector.told_nothing();
}

#[tokio::test]
async fn events_name_the_request_its_client_and_its_user() {
    let collector = Arc::default();
    let server = start(&collector).await;
    let content = b"content";
    let digest = server.push_blob("a", content).await;
    collector.take();
    let path = format!("/v2/a/blobs/{digest}");

    let mut connection = server.connect().await;
    let plain = Request::get(&path)
        .header("user-agent", "test/1")
        .header("x-request-id", "r-1");
    connection.send(&plain).await;
    let event = collector.take().remove(0);
    assert_eq!(event.request.id, "r-1");
    assert!(
        event.request.addr.starts_with("127.0.0.1:"),
        "{:?}",
        event.request
    );
    assert_eq!(event.request.host, server.address.to_string());
    assert_eq!(event.request.useragent, "test/1");
    assert_eq!(event.actor, "");

    let credentials = format!("Basic {}", STANDARD.encode("ann:secret"));
    let behind_a_proxy = Request::get(&path)
        .header("host", "registry.example")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-for", "192.0.2.7, 10.0.0.1")
        .header("authorization", credentials);
    connection.send(&behind_a_proxy).await;
    let event = collector.take().remove(0);
    assert_eq!(event.request.addr, "192.0.2.7");
    assert_eq!(event.request.host, "registry.example");
    assert_eq!(event.target.url, format!("https://registry.example{path}"));
    assert_eq!(event.actor, "ann");

    for (header, value, expected) in [
        ("x-real-ip", "2001:db8::1", "2001:db8::1"),
        ("x-forwarded-for", "somebody", "127.0.0.1:"),
    ] {
        connection
            .send(&Request::get(&path).header(header, value))
            .await;
        let event = collector.take().remove(0);
        assert!(
            event.request.addr.starts_with(expected),
            "{:?}",
            event.request
        );
    }
}

#[tokio::test]
async fn references_are_told_where_they_are_asked_for() {
    let collector: Arc<Collector> = Arc::default();
    let options = Options {
        notifications: Some(Notifications {
            sink: Arc::clone(&collector) as _,
            include_references: true,
        }),
        ..quiet()
    };
    let server = Running::start(Store::Memory, deleting(), options).await;
    let image = server.push_image("a", "one", 1).await;
    server.get("/v2/a/manifests/one").await;
    let events = collector.take();
    let parsed: serde_json::Value = serde_json::from_slice(&image.bytes).unwrap();
    let expected = serde_json::json!([parsed["config"], parsed["layers"][0]]);
    let of_manifests: Vec<_> = events
        .iter()
        .filter(|event| &*event.target.media_type != OCTETS)
        .collect();
    assert_eq!(of_manifests.len(), 2);
    for event in of_manifests {
        assert_eq!(
            serde_json::to_value(&event.target.references).unwrap(),
            expected
        );
    }
}

#[tokio::test]
async fn what_nobody_wants_is_not_made() {
    let collector = Arc::new(Collector {
        ignored: vec![Action::Pull],
        ..Collector::default()
    });
    let server = start(&collector).await;
    let digest = server.push_blob("a", b"x").await;
    server.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(collector.told(), [blob(Action::Push, b"x", "a", "POST")]);
}
