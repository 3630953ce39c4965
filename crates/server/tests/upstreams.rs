//! A server that caches several registries beside repositories of its own.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use support::client::PATIENCE;
use support::{Content, Options, Reply as Answer, Request, Running, image_of, quiet};
use wharfinger_auth::{Access, AccessController, Asked, Grant, Refusal};
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_proxy::{Cache, CacheOptions, Kept, Metrics, Upstreams};
use wharfinger_registry::{Options as RegistryOptions, Registry, Validation};
use wharfinger_remote::testing::{Reply, TestUpstream};
use wharfinger_remote::{Credentials, Reach, Upstream};
use wharfinger_storage::MemoryDriver;

/// Two upstreams, the first of which is asked for by `ns=docker.io` and by a host, too.
struct Mixed {
    hub: TestUpstream,
    other: TestUpstream,
    server: Running,
}

fn name(text: &str) -> RepositoryName {
    text.parse().unwrap()
}

/// One of the upstreams, as far as it does not differ between tests.
fn kept(
    registry: &Registry,
    metrics: &Metrics,
    of: &TestUpstream,
    called: &str,
    credentials: Credentials,
) -> Kept {
    let reach = Reach {
        name: Some(called.to_owned()),
        ..credentials.into()
    };
    let upstream = Upstream::new(&of.url(), reach, metrics.upstreams()).unwrap();
    let options = CacheOptions {
        below: Some(name(called)),
        tag_ttl: Duration::ZERO,
        patience: PATIENCE,
        store_timeout: PATIENCE,
        downloads: 8,
        spool: std::env::temp_dir(),
        uses: None,
    };
    Kept {
        name: name(called),
        ns: vec![called.to_owned()],
        hosts: Vec::new(),
        library: false,
        allow: Vec::new(),
        deny: Vec::new(),
        cache: Cache::new(registry.clone(), upstream, metrics.clone(), options),
    }
}

fn login(username: &str) -> Credentials {
    Credentials::Static {
        username: username.to_owned(),
        password: "s-e-cret".to_owned(),
    }
}

impl Mixed {
    async fn start() -> Self {
        Self::with(quiet()).await
    }

    async fn with(options: Options) -> Self {
        let (hub, other) = (TestUpstream::start().await, TestUpstream::start().await);
        let rules = RegistryOptions {
            validation: Validation {
                sparse_below: vec![name("docker.io"), name("other")],
                ..Validation::default()
            },
            ..support::deleting()
        };
        let server = Running::caching(
            Arc::new(MemoryDriver::new()),
            rules,
            options,
            |registry: &Registry| {
                let metrics = Metrics::default();
                let hub = Kept {
                    hosts: vec!["hub.test".to_owned()],
                    library: true,
                    deny: vec!["secret/*".parse().unwrap()],
                    ..kept(registry, &metrics, &hub, "docker.io", login("hub"))
                };
                let other = Kept {
                    ns: vec!["other.test:5000".to_owned()],
                    allow: vec!["team/*".parse().unwrap()],
                    ..kept(registry, &metrics, &other, "other", login("other"))
                };
                Upstreams {
                    named: vec![hub, other],
                    rest: None,
                    ns: vec!["registry.test".to_owned()],
                }
            },
        )
        .await;
        Self { hub, other, server }
    }

    async fn get(&self, path: &str) -> Answer {
        self.server.get(path).await
    }

    async fn at(&self, host: &str, path: &str) -> Answer {
        self.server
            .send(Request::get(path).header("Host", host))
            .await
    }

    /// Waits until a blob is kept.
    async fn is_kept(&self, repository: &str, digest: &Digest) -> bool {
        let blobs = self.server.registry.repository(&name(repository)).blobs();
        let looking = async {
            while blobs.stat(digest).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.is_ok()
    }
}

fn image(seed: u64) -> Content {
    image_of(format!("{{\"seed\":{seed}}}").as_bytes(), &[], "")
}

#[tokio::test]
async fn content_is_kept_under_one_name_however_it_was_asked_for() {
    let mixed = Mixed::start().await;
    let (image, another) = (image(1), image(2));
    mixed.hub.manifest("t", image.media_type, &image.bytes);
    mixed
        .other
        .manifest("t", another.media_type, &another.bytes);
    let asked = ["/v2/library/debian/manifests/t"];
    for (host, path) in [
        ("r.test", "/v2/docker.io/library/debian/manifests/t"),
        ("r.test", "/v2/docker.io/debian/manifests/t"),
        ("r.test", "/v2/library/debian/manifests/t?ns=docker.io"),
        ("r.test", "/v2/debian/manifests/t?ns=docker.io"),
        (
            "r.test",
            "/v2/docker.io/library/debian/manifests/t?ns=Docker.IO",
        ),
        ("hub.test", "/v2/library/debian/manifests/t"),
        ("HUB.test:5000", "/v2/debian/manifests/t"),
        ("hub.test", "/v2/library/debian/manifests/t?ns=docker.io"),
        ("hub.test", "/v2/library/debian/manifests/t?ns=hub.test"),
        ("hub.test", "/v2/docker.io/library/debian/manifests/t"),
    ] {
        let answer = mixed.at(host, path).await;
        assert_eq!(
            (answer.status, &answer.body[..]),
            (200, &image.bytes[..]),
            "{path}"
        );
        let paths: Vec<_> = mixed
            .hub
            .requests()
            .into_iter()
            .map(|one| one.path)
            .collect();
        assert_eq!(paths, asked, "{host} {path}");
    }
    // The port of a host that is called with one counts; of two registries, each has its own.
    for path in [
        "/v2/other/team/app/manifests/t",
        "/v2/team/app/manifests/t?ns=other.test:5000",
    ] {
        assert_eq!(mixed.get(path).await.body, another.bytes, "{path}");
        assert_eq!(mixed.other.asked().len(), 1);
    }
    assert_eq!(mixed.hub.asked(), [""; 0]);
    let catalog = mixed.get("/v2/_catalog").await.json();
    let names = json!(["docker.io/library/debian", "other/team/app"]);
    assert_eq!(catalog["repositories"], names);
}

#[tokio::test]
async fn repositories_of_its_own_are_beside_them_and_as_strict_as_ever() {
    let mixed = Mixed::start().await;
    let remote = image(1);
    mixed.hub.manifest("t", remote.media_type, &remote.bytes);
    let layer = support::random(1, 100_000);
    let digest = mixed.hub.blob(&layer);
    assert_eq!(mixed.get("/v2/docker.io/a/b/manifests/t").await.status, 200);
    let blob = format!("/v2/docker.io/a/b/blobs/{digest}");
    assert!(mixed.get(&blob).await.body == layer);
    assert!(mixed.is_kept("docker.io/a/b", &digest).await);
    mixed.hub.requests();

    let local = mixed.server.push_image("team/app", "1", 7).await;
    let answer = mixed.get("/v2/team/app/manifests/1?ns=registry.test").await;
    assert_eq!(answer.body, local.bytes);
    // What an upstream has may be incomplete here; what is pushed may not.
    let refused = mixed.server.push_manifest("team/app", "2", &image(9)).await;
    refused.is_error(400, "MANIFEST_BLOB_UNKNOWN");

    let mount = format!("/v2/team/app/blobs/uploads/?mount={digest}&from=docker.io/a/b");
    let mounted = mixed.server.send(Request::post(&mount)).await;
    assert_eq!(mounted.status, 201);
    let location = mounted.location();
    assert!(
        location.ends_with(&format!("/v2/team/app/blobs/{digest}")),
        "{location}"
    );
    assert!(mixed.get(&location).await.body == layer);
    let catalog = mixed.get("/v2/_catalog").await.json();
    assert_eq!(
        catalog["repositories"],
        json!(["docker.io/a/b", "team/app"])
    );
    assert_eq!(mixed.hub.asked(), [""; 0]);
}

#[tokio::test]
async fn nothing_is_pushed_to_a_cached_one_and_the_answer_says_of_which() {
    let mixed = Mixed::start().await;
    for request in [
        Request::post("/v2/docker.io/a/b/blobs/uploads/"),
        Request::post("/v2/a/b/blobs/uploads/?ns=docker.io"),
        Request::post("/v2/a/b/blobs/uploads/").header("Host", "hub.test"),
        Request::put("/v2/docker.io/a/b/manifests/t").body("{}"),
        Request::new("DELETE", "/v2/docker.io/a/b/manifests/t"),
    ] {
        let refused = mixed.server.send(request).await;
        refused.is_error(405, "UNSUPPORTED");
        let said = refused.json()["errors"][0]["message"].to_string();
        assert!(said.contains("cached from \\\"docker.io\\\""), "{said}");
        assert!(!said.contains(&mixed.hub.address.to_string()), "{said}");
        assert!(!refused.get("allow").unwrap().contains("PUT"));
    }
    assert_eq!(mixed.hub.asked(), [""; 0]);
}

#[tokio::test]
async fn another_registrys_content_is_never_given_for_what_nobody_caches() {
    let mixed = Mixed::start().await;
    mixed.server.push_image("team/app", "1", 7).await;
    for (host, path) in [
        ("r.test", "/v2/team/app/manifests/1?ns=other.test"),
        (
            "r.test",
            "/v2/docker.io/library/a/manifests/1?ns=other.test",
        ),
        ("hub.test", "/v2/team/app/manifests/1?ns=other.test:5000"),
    ] {
        let answer = mixed.at(host, path).await;
        answer.is_error(404, "NAME_UNKNOWN");
    }
    assert_eq!(mixed.hub.asked(), [""; 0]);
    // It itself may be called by the name that it is reached by.
    let own = "/v2/team/app/manifests/1?ns=r.test:5000";
    assert_eq!(mixed.at("r.test:5000", own).await.status, 200);
    let long = format!("/v2/{}/tags/list?ns=docker.io", "a".repeat(250));
    mixed.get(&long).await.is_error(400, "NAME_INVALID");
}

#[tokio::test]
async fn what_is_denied_is_not_asked_for_nor_served_nor_mounted() {
    let mixed = Mixed::start().await;
    let image = image(1);
    for of in [&mixed.hub, &mixed.other] {
        of.manifest("t", image.media_type, &image.bytes);
    }
    for path in [
        "/v2/docker.io/secret/app/manifests/t",
        "/v2/secret/app/manifests/t?ns=docker.io",
        "/v2/docker.io/secret/app/tags/list",
        "/v2/other/app/manifests/t",
    ] {
        mixed.get(path).await.is_error(403, "DENIED");
    }
    assert_eq!((mixed.hub.asked().len(), mixed.other.asked().len()), (0, 0));
    for path in [
        "/v2/docker.io/secrets/manifests/t",
        "/v2/other/team/x/manifests/t",
    ] {
        assert_eq!(mixed.get(path).await.status, 200, "{path}");
    }
    // Nor what was kept before it was denied.
    let before = mixed
        .server
        .registry
        .repository(&name("docker.io/secret/app"));
    let layer = b"a secret layer";
    let digest = Digest::canonical(layer);
    let mut upload = before.blobs().create(digest.algorithm()).unwrap();
    let body = futures_util::stream::iter([Ok::<_, std::io::Error>(layer.to_vec().into())]);
    upload.append(body).await.unwrap();
    upload.commit(&digest).await.unwrap();
    let blob = format!("/v2/docker.io/secret/app/blobs/{digest}");
    mixed.get(&blob).await.is_error(403, "DENIED");
    for from in ["&from=docker.io/secret/app", ""] {
        let mount = format!("/v2/mine/blobs/uploads/?mount={digest}{from}");
        assert_eq!(mixed.server.send(Request::post(&mount)).await.status, 202);
    }
}

#[tokio::test]
async fn clients_go_on_by_the_names_that_they_use() {
    let mixed = Mixed::start().await;
    let image = image(1);
    for tag in ["1", "2", "3"] {
        mixed.hub.manifest(tag, image.media_type, &image.bytes);
    }
    let tags = mixed.get("/v2/library/a/tags/list?ns=docker.io&n=2").await;
    assert_eq!(
        tags.json(),
        json!({"name": "library/a", "tags": ["1", "2"]})
    );
    let link = tags.get("link").unwrap();
    let (next, _) = link[1..].split_once('>').unwrap();
    assert!(next.starts_with("/v2/library/a/tags/list?"), "{link}");
    let rest = mixed.get(next).await;
    assert_eq!(rest.json(), json!({"name": "library/a", "tags": ["3"]}));

    for repository in ["b/c", "d", "e"] {
        let path = format!("/v2/{repository}/manifests/1");
        assert_eq!(mixed.at("hub.test", &path).await.status, 200);
    }
    mixed.server.push_image("docker.iz", "1", 7).await;
    let first = mixed.at("hub.test", "/v2/_catalog?n=2").await;
    assert_eq!(first.json()["repositories"], json!(["b/c", "library/d"]));
    let link = first.get("link").unwrap();
    let (next, _) = link[1..].split_once('>').unwrap();
    let second = mixed.at("hub.test", next).await;
    assert_eq!(second.json()["repositories"], json!(["library/e"]));
    assert_eq!(second.get("link"), None);
}

/// Lets everybody do everything, and keeps what each request asked for.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<String>>);

#[async_trait]
impl AccessController for Recorder {
    async fn authorize(&self, _: Asked<'_>, access: &[Access]) -> Result<Grant, Refusal> {
        let names = access.iter().map(|one| one.name.clone());
        self.0.lock().unwrap().extend(names);
        Ok(Grant::everything("ada"))
    }
}

#[tokio::test]
async fn access_is_asked_for_by_the_name_under_which_it_is_kept() {
    let recorder = Arc::new(Recorder::default());
    let options = Options {
        access: Some(Arc::clone(&recorder) as _),
        ..quiet()
    };
    let mixed = Mixed::with(options).await;
    let digest = Digest::canonical(b"");
    let mount = format!("/v2/mine/blobs/uploads/?mount={digest}&from=docker.io/a");
    for (request, expected) in [
        (Request::get("/v2/a/tags/list"), vec!["a"]),
        (
            Request::get("/v2/a/tags/list?ns=docker.io"),
            vec!["docker.io/library/a"],
        ),
        (
            Request::get("/v2/a/tags/list").header("Host", "hub.test"),
            vec!["docker.io/library/a"],
        ),
        (
            Request::get("/v2/docker.io/a/tags/list"),
            vec!["docker.io/library/a"],
        ),
        (
            Request::post(&mount),
            vec!["mine", "mine", "docker.io/library/a"],
        ),
    ] {
        mixed.server.send(request).await;
        let asked = std::mem::take(&mut *recorder.0.lock().unwrap());
        assert_eq!(asked, expected);
    }
}

#[tokio::test]
async fn each_upstream_is_shown_its_own_credentials() {
    let mixed = Mixed::start().await;
    for (of, expected) in [
        // `hub:s-e-cret` and `other:s-e-cret`
        (&mixed.hub, "Basic aHViOnMtZS1jcmV0"),
        (&mixed.other, "Basic b3RoZXI6cy1lLWNyZXQ="),
    ] {
        let image = image(1);
        of.manifest("t", image.media_type, &image.bytes);
        of.decide(move |request| {
            let shown = request.header("authorization");
            (shown.as_deref() != Some(expected)).then(|| {
                let refusal = Reply::error(401, "UNAUTHORIZED", "no");
                refusal.header("www-authenticate", "Basic realm=\"r\"")
            })
        });
    }
    for path in [
        "/v2/docker.io/a/b/manifests/t",
        "/v2/other/team/b/manifests/t",
    ] {
        assert_eq!(mixed.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_upstreams_refusal_is_passed_on_and_nothing_of_where_it_is() {
    let mixed = Mixed::start().await;
    mixed
        .hub
        .decide(|_| Some(Reply::error(403, "DENIED", "http://inner.test says no")));
    let refused = mixed.get("/v2/docker.io/a/b/manifests/t").await;
    refused.is_error(403, "DENIED");
    mixed
        .hub
        .decide(|_| Some(Reply::error(500, "UNKNOWN", "inner.test fails")));
    let failed = mixed.get("/v2/docker.io/a/b/manifests/t").await;
    failed.is_error(503, "UNAVAILABLE");
    for answer in [refused, failed] {
        let text = String::from_utf8(answer.body).unwrap();
        for inner in ["inner.test", "127.0.0.1", "s-e-cret"] {
            assert!(!text.contains(inner), "{text}");
        }
    }
    // The others do not suffer.
    let image = image(1);
    mixed.other.manifest("t", image.media_type, &image.bytes);
    assert_eq!(mixed.get("/v2/other/team/a/manifests/t").await.status, 200);
}
