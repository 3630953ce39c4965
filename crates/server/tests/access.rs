//! Access control over HTTP: what each request must be allowed, and what it is told when it is
//! not.

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use support::{
    Content, Options, Reply, Request, Running, Store, deleting, image_of, index_of, quiet, random,
};
use wharfinger_auth::{
    Access, AccessController, Asked, Grant, Refusal, Silly, Token, TokenOptions,
};
use wharfinger_oci::{Digest, media_type};

/// Lets everybody do everything, and keeps what each request asked for.
#[derive(Debug, Default)]
struct Recorder {
    asked: Mutex<Vec<String>>,
}

impl Recorder {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[async_trait]
impl AccessController for Recorder {
    async fn authorize(&self, _: Asked<'_>, access: &[Access]) -> Result<Grant, Refusal> {
        let told = access
            .iter()
            .map(|one| format!("{}:{}:{}", one.kind, one.name, one.action.as_str()));
        let told: Vec<_> = told.collect();
        self.asked.lock().unwrap().push(told.join(" "));
        Ok(Grant::everything("ada lovelace"))
    }
}

fn controlled(access: impl AccessController) -> Options {
    Options {
        access: Some(Arc::new(access)),
        ..quiet()
    }
}

#[tokio::test]
async fn each_request_asks_for_what_it_needs() {
    let recorder = Arc::new(Recorder::default());
    let options = Options {
        access: Some(Arc::clone(&recorder) as _),
        ..quiet()
    };
    let server = Running::start(Store::Memory, deleting(), options).await;
    let digest = Digest::canonical(b"x");
    let pull = "repository:a/b:pull";
    let push = "repository:a/b:pull repository:a/b:push";
    let delete = "repository:a/b:delete";
    let blob = format!("/v2/a/b/blobs/{digest}");
    let upload = "/v2/a/b/blobs/uploads/00000000-0000-4000-8000-000000000000";
    let mount = format!("/v2/a/b/blobs/uploads/?mount={digest}");
    let from = format!("{mount}&from=c%2Fd");
    let from_pull = format!("{push} repository:c/d:pull");
    let cases = [
        ("GET", "/v2/", ""),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
        ("GET", "/v2/a/b/tags/list", pull),
        ("GET", "/v2/a/b/manifests/t", pull),
        ("HEAD", "/v2/a/b/manifests/t", pull),
        ("PUT", "/v2/a/b/manifests/t", push),
        ("DELETE", "/v2/a/b/manifests/t", delete),
        ("GET", blob.as_str(), pull),
        ("DELETE", blob.as_str(), delete),
        ("POST", "/v2/a/b/blobs/uploads/", push),
        ("POST", mount.as_str(), push),
        ("POST", from.as_str(), from_pull.as_str()),
        ("GET", upload, pull),
        ("PATCH", upload, push),
        ("PUT", upload, push),
        ("DELETE", upload, delete),
    ];
    for (method, path, wanted) in cases {
        server.send(Request::new(method, path)).await;
        assert_eq!(recorder.take(), [wanted], "{method} {path}");
    }
    let referrers = format!("/v2/a/b/referrers/{digest}");
    server.get(&referrers).await;
    assert_eq!(recorder.take(), [pull]);
    // What load balancers ask for is not asked about.
    assert_eq!(server.get("/").await.status, 200);
    assert_eq!(recorder.take(), Vec::<String>::new());
}

fn refusal(reply: &Reply) -> (u16, &str, String) {
    let challenge = reply.get("www-authenticate").unwrap_or_default();
    let code = reply.json()["errors"][0]["code"].clone();
    (
        reply.status,
        challenge,
        code.as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn who_shows_nothing_is_told_what_to_show() {
    let silly = Silly {
        realm: "https://auth.example/token".into(),
        service: "hub".into(),
    };
    let server = Running::start(Store::Memory, deleting(), controlled(silly)).await;
    let base = r#"Bearer realm="https://auth.example/token",service="hub""#;
    let reply = server.get("/v2/").await;
    assert_eq!(refusal(&reply), (401, base, "UNAUTHORIZED".to_owned()));
    assert_eq!(reply.json()["errors"][0]["detail"], serde_json::Value::Null);
    // Nothing is told of what there is: a repository that does not exist is as good as one that does.
    let reply = server.get("/v2/a/manifests/t").await;
    let challenge = format!(r#"{base},scope="repository:a:pull""#);
    assert_eq!(
        refusal(&reply),
        (401, challenge.as_str(), "UNAUTHORIZED".to_owned())
    );
    assert_eq!(
        reply.json()["errors"][0]["detail"],
        serde_json::json!([{"Type": "repository", "Class": "", "Name": "a", "Action": "pull"}])
    );
    let head = server.head("/v2/a/manifests/t").await;
    assert_eq!((head.status, head.body.len()), (401, 0));
    let shown = Request::get("/v2/").header("authorization", "seen");
    assert_eq!(server.send(shown).await.status, 200);
}

#[tokio::test]
async fn a_refused_push_leaves_nothing_behind() {
    let silly = Silly {
        realm: "r".into(),
        service: "s".into(),
    };
    let server = Running::start(Store::Memory, deleting(), controlled(silly)).await;
    let content = random(1, 100_000);
    let digest = Digest::canonical(&content);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let reply = server.send(Request::post(&path).body(&content)).await;
    assert_eq!(reply.status, 401);
    let catalog = Request::get("/v2/_catalog").header("authorization", "x");
    let catalog = server.send(catalog).await.json();
    assert_eq!(catalog["repositories"], serde_json::json!([]));
}

#[tokio::test]
async fn a_registry_that_cannot_decide_lets_nobody_in() {
    #[derive(Debug)]
    struct Broken;

    #[async_trait]
    impl AccessController for Broken {
        async fn authorize(&self, _: Asked<'_>, _: &[Access]) -> Result<Grant, Refusal> {
            Err(Refusal::Unavailable("/etc/secret is gone".into()))
        }
    }

    let server = Running::start(Store::Memory, deleting(), controlled(Broken)).await;
    let reply = server.get("/v2/").await;
    assert_eq!(refusal(&reply), (503, "", "UNAVAILABLE".to_owned()));
    assert!(!String::from_utf8_lossy(&reply.body).contains("secret"));
}

#[tokio::test]
async fn who_was_not_looked_at_may_come_again() {
    #[derive(Debug)]
    struct Flooded;

    #[async_trait]
    impl AccessController for Flooded {
        async fn authorize(&self, asked: Asked<'_>, _: &[Access]) -> Result<Grant, Refusal> {
            assert!(asked.client.is_some_and(|address| address.is_loopback()));
            Err(Refusal::Busy)
        }
    }

    let server = Running::start(Store::Memory, deleting(), controlled(Flooded)).await;
    let reply = server.get("/v2/").await;
    assert_eq!(refusal(&reply), (503, "", "UNAVAILABLE".to_owned()));
    assert_eq!(reply.get("retry-after"), Some("5"));
}

/// A token service of a test: its tokens are signed by a secret.
mod issuer {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use serde_json::json;
    use sha2::Sha256;

    const SECRET: &[u8] = b"thirty-two bytes of a secret key";

    pub fn jwks() -> String {
        let key = URL_SAFE_NO_PAD.encode(SECRET);
        json!({"keys": [{"kty": "oct", "kid": "one", "k": key}]}).to_string()
    }

    /// An `Authorization` for these accesses, each `type(class):name:actions`.
    pub fn bearer(access: &[(&str, &str, &str)]) -> String {
        let access: Vec<_> = access
            .iter()
            .map(|(class, name, actions)| {
                let actions: Vec<_> = actions.split(',').collect();
                let kind = match *name {
                    "catalog" => "registry",
                    _ => "repository",
                };
                json!({"type": kind, "class": class, "name": name, "actions": actions})
            })
            .collect();
        let claims = json!({
            "iss": "issuer", "aud": "hub", "sub": "ada", "exp": 4_000_000_000_u64, "nbf": 0,
            "access": access,
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({"alg": "HS256", "kid": "one"})),
            part(&claims)
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        format!("Bearer {signed}.{signature}")
    }
}

/// A server that trusts the issuer of [`issuer`], on a store with an image in `team/a` and one in
/// `other/b`.
async fn with_tokens(classes: &[&str]) -> (Running, BTreeMap<&'static str, Content>) {
    let folder = tempfile::tempdir().unwrap();
    let jwks = folder.path().join("jwks.json");
    std::fs::write(&jwks, issuer::jwks()).unwrap();
    let token = Token::new(TokenOptions {
        realm: "https://auth.example/token".into(),
        service: "hub".into(),
        issuer: "issuer".into(),
        jwks: Some(jwks),
        ..TokenOptions::default()
    });
    let open = support::server().await;
    let mut images = BTreeMap::new();
    for (seed, name) in [(1, "team/a"), (2, "other/b")] {
        images.insert(name, open.push_image(name, "t", seed).await);
    }
    let options = Options {
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        ..controlled(token.unwrap())
    };
    let server = Running::over(Arc::clone(&open.driver), deleting(), options).await;
    (server, images)
}

fn with(request: Request, access: &[(&str, &str, &str)]) -> Request {
    request.header("authorization", issuer::bearer(access))
}

#[tokio::test]
async fn a_token_opens_what_it_names() {
    let (server, _) = with_tokens(&[]).await;
    let pulls = &[("", "team/a", "pull")];
    let status = async |request| server.send(with(request, pulls)).await.status;
    assert_eq!(status(Request::get("/v2/")).await, 200);
    assert_eq!(status(Request::get("/v2/team/a/manifests/t")).await, 200);
    assert_eq!(status(Request::get("/v2/other/b/manifests/t")).await, 401);
    assert_eq!(
        status(Request::post("/v2/team/a/blobs/uploads/")).await,
        401
    );
    assert_eq!(
        status(Request::new("DELETE", "/v2/team/a/manifests/t")).await,
        401
    );
    assert_eq!(status(Request::get("/v2/_catalog")).await, 401);
    let refused = server
        .send(with(Request::get("/v2/other/b/tags/list"), pulls))
        .await;
    assert_eq!(
        refused.get("www-authenticate"),
        Some(
            "Bearer realm=\"https://auth.example/token\",service=\"hub\",\
             scope=\"repository:other/b:pull\",error=\"insufficient_scope\""
        )
    );
    let catalog = with(Request::get("/v2/_catalog"), &[("", "catalog", "*")]);
    assert_eq!(server.send(catalog).await.status, 200);
    let delete = Request::new("DELETE", "/v2/team/a/manifests/t");
    let delete = with(delete, &[("", "team/a", "delete")]);
    assert_eq!(server.send(delete).await.status, 202);
}

#[tokio::test]
async fn a_mount_needs_to_read_its_source() {
    let (server, images) = with_tokens(&[]).await;
    let image: serde_json::Value = serde_json::from_slice(&images["other/b"].bytes).unwrap();
    let layer = image["layers"][0]["digest"].as_str().unwrap();
    let mount = format!("/v2/team/a/blobs/uploads/?mount={layer}");
    let from = format!("{mount}&from=other/b");
    let push = ("", "team/a", "pull,push");
    let read = ("", "other/b", "pull");
    let status = async |path: &str, access: &[(&str, &str, &str)]| {
        server.send(with(Request::post(path), access)).await.status
    };
    assert_eq!(status(&from, &[push]).await, 401);
    // Without a source, only what the token lets be read is looked into.
    assert_eq!(status(&mount, &[push]).await, 202);
    assert_eq!(status(&mount, &[push, read]).await, 201);
    assert_eq!(status(&from, &[push, read]).await, 201);
}

#[tokio::test]
async fn only_the_classes_of_the_policy_are_taken() {
    let (server, _) = with_tokens(&["image"]).await;
    let any = &[("", "team/a", "pull,push")];
    let push = async |tag: &str, manifest: &Content, access: &[(&str, &str, &str)]| {
        let request = Request::put(&format!("/v2/team/a/manifests/{tag}"))
            .header("content-type", manifest.media_type)
            .body(&manifest.bytes);
        let reply = server.send(with(request, access)).await;
        (
            reply.status,
            String::from_utf8_lossy(&reply.body).into_owned(),
        )
    };
    for content in [&b"{}"[..], b"layer"] {
        let digest = Digest::canonical(content);
        let path = format!("/v2/team/a/blobs/uploads/?digest={digest}");
        let reply = server
            .send(with(Request::post(&path).body(content), any))
            .await;
        assert_eq!(reply.status, 201);
    }
    let image = image_of(b"{}", &[b"layer"], "");
    assert_eq!(push("image", &image, any).await.0, 201);
    let index = index_of(&[&image], "");
    assert_eq!(push("index", &index, any).await.0, 201);

    let text = String::from_utf8(image.bytes.to_vec()).unwrap();
    let of = |config: &str| {
        let text = text
            .replace("application/vnd.oci.image.config.v1+json", config)
            .replace(media_type::OCI_IMAGE_MANIFEST, media_type::DOCKER_MANIFEST);
        Content::new(media_type::DOCKER_MANIFEST, text)
    };
    let plugin = of("application/vnd.docker.plugin.v1+json");
    let (status, body) = push("plugin", &plugin, any).await;
    assert_eq!(status, 403, "{body}");
    assert!(
        body.contains("DENIED") && body.contains("takes image, not plugin"),
        "{body}"
    );
    let (status, body) = push(
        "chart",
        &of("application/vnd.cncf.helm.config.v1+json"),
        any,
    )
    .await;
    assert!(status == 403 && body.contains("no known class"), "{body}");
    // A token can say that a repository holds something else.
    let of_plugins = &[("plugin", "team/a", "pull,push")];
    let (status, body) = push("image", &image, of_plugins).await;
    assert!(
        status == 403 && body.contains("may not push image"),
        "{body}"
    );
}
