//! What an upstream is asked, what it is shown, and what is made of its answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::StatusCode;
use wharfinger_oci::{Digest, Reference, RepositoryName, media_type};
use wharfinger_remote::testing::{Reply, Request, TestUpstream};
use wharfinger_remote::{Credentials, DockerConfig, Metrics, Reach, Upstream, UpstreamError};

const SECRET: &str = "s-e-cret";
const BASIC: &str = "Basic dXNlcjpzLWUtY3JldA==";

fn name() -> RepositoryName {
    "library/a".parse().unwrap()
}

fn known_user() -> Credentials {
    Credentials::Static {
        username: "user".to_owned(),
        password: SECRET.to_owned(),
    }
}

fn asking(upstream: &TestUpstream, credentials: Credentials) -> Upstream {
    Upstream::new(&upstream.url(), credentials.into(), &Metrics::default()).unwrap()
}

async fn all(mut blob: wharfinger_remote::BlobStream) -> Result<Vec<u8>, UpstreamError> {
    let mut bytes = Vec::new();
    while let Some(piece) = blob.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn unauthorized(challenge: &str) -> Reply {
    Reply::error(401, "UNAUTHORIZED", "authentication required")
        .header("www-authenticate", challenge)
}

#[tokio::test]
async fn what_can_be_no_upstream_is_named() {
    for (url, said) in [
        ("registry.example.org", "no URL"),
        ("ftp://registry.example.org", "no URL like"),
        ("https://user:s-e-cret@h", "keys of their own"),
        ("https://h/?x=s-e-cret", "nothing may follow"),
    ] {
        let wrong = Upstream::new(url, Reach::default(), &Metrics::default()).unwrap_err();
        assert!(wrong.contains(said), "{url}: {wrong}");
        assert!(!wrong.contains(SECRET), "{wrong}");
    }
}

#[tokio::test]
async fn manifests_are_asked_for_in_every_form_and_their_digests_checked() {
    let server = TestUpstream::start().await;
    let upstream = asking(&server, Credentials::Anonymous);
    let text = br#"{"schemaVersion":2}"#;
    let digest = server.manifest("t", media_type::OCI_IMAGE_MANIFEST, text);
    let tag: Reference = "t".parse().unwrap();
    let fetched = upstream.manifest(&name(), &tag).await.unwrap();
    assert_eq!((fetched.digest, &fetched.bytes[..]), (digest, &text[..]));
    assert_eq!(
        fetched.media_type.as_deref(),
        Some(media_type::OCI_IMAGE_MANIFEST)
    );
    let [request] = &server.requests()[..] else {
        panic!("one request");
    };
    assert_eq!(request.path, "/v2/library/a/manifests/t");
    let accepted = request.header("accept").unwrap();
    for wanted in [
        media_type::OCI_IMAGE_MANIFEST,
        media_type::OCI_IMAGE_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_MANIFEST_LIST,
    ] {
        assert!(accepted.contains(wanted), "{accepted}");
    }

    let tag = "t".parse().unwrap();
    let other = Digest::canonical(b"other");
    for known in [None, Some(&other), Some(&digest)] {
        let found = upstream.digest_of(&name(), &tag, known).await.unwrap();
        assert_eq!(found, Some(digest));
    }
    let requests = server.requests();
    assert!(requests.iter().all(|request| request.method == "HEAD"));
    let etag = requests[2].header("if-none-match");
    assert_eq!(etag, Some(format!("\"{digest}\"")));

    server.decide(|_| Some(Reply::new(200, "other bytes")));
    let wrong = upstream.manifest(&name(), &Reference::Digest(digest)).await;
    assert!(
        matches!(wrong, Err(UpstreamError::Wrong { .. })),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn a_blob_comes_whole_or_from_where_it_broke_off() {
    let server = TestUpstream::start().await;
    let upstream = asking(&server, Credentials::Anonymous);
    let bytes: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
    let digest = server.blob(&bytes);
    assert_eq!(
        upstream.blob_size(&name(), &digest).await.unwrap(),
        Some(10_000)
    );
    for ranges in [true, false] {
        if !ranges {
            let bytes = bytes.clone();
            server.decide(move |_| Some(Reply::new(200, &bytes)));
        }
        for from in [0, 1, 9_999] {
            let blob = upstream.blob(&name(), &digest, from).await.unwrap();
            assert_eq!(blob.size(), Some(10_000));
            assert!(all(blob).await.unwrap() == bytes[from as usize..]);
        }
    }
    server.decide(|_| Some(Reply::new(206, "x").header("content-range", "bytes 0-0/10000")));
    let wrong = upstream.blob(&name(), &digest, 5).await.unwrap_err();
    assert!(wrong.to_string().contains("another part"), "{wrong}");
    let cut = bytes.clone();
    server.decide(move |_| Some(Reply::new(200, &cut).cut(100)));
    let broken = all(upstream.blob(&name(), &digest, 0).await.unwrap()).await;
    assert!(
        matches!(broken, Err(UpstreamError::Unreachable { .. })),
        "{broken:?}"
    );
}

/// Lets in who shows a token, and gives tokens at `/token` to who shows the password, or to all.
fn with_tokens(server: &TestUpstream, password: Option<&'static str>, lives: u64) {
    let url = server.url();
    let given = AtomicUsize::new(0);
    server.decide(move |request: &Request| {
        if request.path.starts_with("/token") {
            if request.header("authorization").as_deref() != password {
                return Some(Reply::error(401, "UNAUTHORIZED", "wrong password"));
            }
            let number = given.fetch_add(1, Ordering::SeqCst);
            let body = format!(r#"{{"token":"t{number}","expires_in":{lives}}}"#);
            return Some(Reply::new(200, body));
        }
        let newest = given.load(Ordering::SeqCst).wrapping_sub(1);
        match request.header("authorization") {
            Some(shown) if shown == format!("Bearer t{newest}") => None,
            _ => Some(unauthorized(&format!(
                "Bearer realm=\"{url}/token\",service=\"r\",scope=\"repository:x:pull\""
            ))),
        }
    });
}

#[tokio::test]
async fn tokens_are_fetched_for_a_repository_and_kept() {
    for (credentials, password) in [(Credentials::Anonymous, None), (known_user(), Some(BASIC))] {
        let server = TestUpstream::start().await;
        let upstream = asking(&server, credentials);
        let digest = server.blob(b"content");
        with_tokens(&server, password, 300);
        for _ in 0..2 {
            assert_eq!(upstream.blob_size(&name(), &digest).await.unwrap(), Some(7));
        }
        let asked = server.asked();
        let account = if password.is_some() {
            "&account=user"
        } else {
            ""
        };
        let token = format!("GET /token?service=r&scope=repository%3Alibrary%2Fa%3Apull{account}");
        let head = format!("HEAD /v2/library/a/blobs/{digest}");
        assert_eq!(asked, [head.clone(), token, head.clone(), head]);

        // Another repository needs another token; the first one's is then withdrawn, and got anew.
        let other = "b".parse().unwrap();
        upstream.blob_size(&other, &digest).await.unwrap();
        upstream.blob_size(&name(), &digest).await.unwrap();
        let tokens = server.asked();
        let tokens = tokens.iter().filter(|one| one.starts_with("GET /token"));
        assert_eq!(tokens.count(), 2);
    }
}

#[tokio::test]
async fn a_password_that_is_wrong_is_refused_and_never_told() {
    let server = TestUpstream::start().await;
    let digest = server.blob(b"content");
    with_tokens(&server, Some("Basic another"), 300);
    let refused = asking(&server, known_user())
        .blob_size(&name(), &digest)
        .await;
    let Err(UpstreamError::Refused { refusal, .. }) = &refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
    assert!(!format!("{refused:?} {}", refused.as_ref().unwrap_err()).contains(SECRET));

    server.decide(|_| Some(unauthorized("Basic realm=x")));
    let refused = asking(&server, known_user())
        .blob_size(&name(), &digest)
        .await;
    assert!(matches!(refused, Err(UpstreamError::Refused { .. })));
    assert_eq!(server.requests().len(), 2 + 2);
}

#[tokio::test]
async fn user_and_password_are_shown_at_once_when_they_were_asked_for_before() {
    let server = TestUpstream::start().await;
    let digest = server.blob(b"content");
    server.decide(|request| match request.header("authorization").as_deref() {
        Some(BASIC) => None,
        _ => Some(unauthorized("Basic realm=\"x\"")),
    });
    let upstream = asking(&server, known_user());
    for _ in 0..2 {
        assert_eq!(upstream.blob_size(&name(), &digest).await.unwrap(), Some(7));
    }
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn another_domains_token_service_is_not_shown_the_password() {
    let server = TestUpstream::start().await;
    let digest = server.blob(b"content");
    let port = server.address.port();
    server.decide(move |request| match request.header("host") {
        // The same machine by another name.
        Some(host) if host.starts_with("localhost") => {
            Some(Reply::new(200, r#"{"access_token":"free"}"#))
        }
        _ if request.header("authorization").as_deref() == Some("Bearer free") => None,
        _ => Some(unauthorized(&format!(
            "Bearer realm=\"http://localhost:{port}/token\""
        ))),
    });
    let upstream = asking(&server, known_user());
    assert_eq!(upstream.blob_size(&name(), &digest).await.unwrap(), Some(7));
    for request in server.requests() {
        let shown = request.header("authorization").unwrap_or_default();
        assert!(!shown.starts_with("Basic"), "{request:?}");
    }
}

#[tokio::test]
async fn other_hosts_see_no_credentials_when_a_blob_lies_there() {
    let server = TestUpstream::start().await;
    let elsewhere = TestUpstream::start().await;
    let bytes = b"content".repeat(1000);
    let digest = server.blob(&bytes);
    elsewhere.blob(&bytes);
    let target = elsewhere.url();
    server.decide(
        move |request| match request.header("authorization").as_deref() {
            Some(BASIC) => {
                let to = format!("{target}{}?signature=1", request.path);
                Some(Reply::new(307, "").header("location", to))
            }
            _ => Some(unauthorized("Basic realm=\"x\"")),
        },
    );
    let upstream = asking(&server, known_user());
    let blob = upstream.blob(&name(), &digest, 10).await.unwrap();
    assert!(all(blob).await.unwrap() == bytes[10..]);
    let [request] = &elsewhere.requests()[..] else {
        panic!("one request");
    };
    assert_eq!(request.header("authorization"), None);
    assert_eq!(request.header("range").as_deref(), Some("bytes=10-"));

    // Nor is the signature told when that host fails.
    elsewhere.decide(|_| Some(Reply::new(200, "x".repeat(100)).cut(5)));
    let broken = all(upstream.blob(&name(), &digest, 0).await.unwrap()).await;
    assert!(!broken.unwrap_err().to_string().contains("signature"));
}

#[tokio::test]
async fn refusals_keep_their_status_code_and_patience() {
    let server = TestUpstream::start().await;
    let upstream = asking(&server, Credentials::Anonymous);
    let digest = Digest::canonical(b"x");
    for (reply, status, code, outage) in [
        (
            Reply::error(404, "NAME_UNKNOWN", "no"),
            404,
            Some("NAME_UNKNOWN"),
            false,
        ),
        (
            Reply::error(403, "DENIED", "no"),
            403,
            Some("DENIED"),
            false,
        ),
        (Reply::new(500, "<html>"), 500, None, false),
        (Reply::new(503, ""), 503, None, true),
        (
            Reply::error(429, "TOOMANYREQUESTS", "slow down").header("retry-after", 7),
            429,
            Some("TOOMANYREQUESTS"),
            true,
        ),
        (Reply::new(400, "x".repeat(200_000)), 400, None, false),
    ] {
        server.decide(move |_| Some(reply.clone()));
        let error = upstream.blob(&name(), &digest, 0).await.unwrap_err();
        assert_eq!(error.is_outage(), outage, "{error}");
        assert_eq!(error.is_unknown(), status == 404, "{error}");
        let seven = (status == 429).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after(), seven);
        let UpstreamError::Refused { refusal, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(refusal.status.as_u16(), status);
        assert_eq!(refusal.code.as_deref(), code);
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_an_outage() {
    let server = TestUpstream::start().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let upstream = Upstream::new(&gone, Reach::default(), &Metrics::default()).unwrap();
    let error = upstream
        .blob_size(&name(), &Digest::canonical(b""))
        .await
        .unwrap_err();
    assert!(
        error.is_outage() && matches!(error, UpstreamError::Unreachable { .. }),
        "{error}"
    );
    drop(server);
}

#[tokio::test]
async fn tags_are_listed_whole_and_in_parts() {
    let server = TestUpstream::start().await;
    let upstream = asking(&server, Credentials::Anonymous);
    server.decide(|request| {
        let (body, link) = match request.path.split_once('?').map(|(_, query)| query) {
            None => (
                r#"{"tags":["a","b"]}"#,
                "</v2/x/tags/list?last=b&n=2>; rel=\"next\"",
            ),
            Some("last=b&n=2") => (r#"{"tags":["c",".bad"]}"#, "<http://evil/?last=c&n=2>"),
            Some("n=1&last=a") => (r#"{"tags":["b"]}"#, "</x?last=b&n=1>; rel=\"next\""),
            Some(_) => (r#"{"tags":null}"#, ""),
        };
        let reply = Reply::new(200, body);
        Some(match link {
            "" => reply,
            link => reply.header("link", link),
        })
    });
    let texts = |tags: &[wharfinger_oci::Tag]| tags.iter().map(ToString::to_string).collect();
    let all = upstream.tags(&name(), None, None).await.unwrap();
    let all: Vec<String> = texts(&all.tags);
    assert_eq!(all, ["a", "b", "c"]);
    let one = upstream.tags(&name(), Some(1), Some("a")).await.unwrap();
    assert!(one.more);
    let one: Vec<String> = texts(&one.tags);
    assert_eq!(one, ["b"]);
}

#[tokio::test]
async fn referrers_are_listed_and_filtered_where_the_upstream_does_not() {
    let server = TestUpstream::start().await;
    let upstream = asking(&server, Credentials::Anonymous);
    let subject = Digest::canonical(b"subject");
    let one = |kind: &str| {
        let digest = Digest::canonical(kind.as_bytes());
        format!(
            r#"{{"mediaType":"{}","digest":"{digest}","size":2,"artifactType":"{kind}"}}"#,
            media_type::OCI_IMAGE_MANIFEST
        )
    };
    let body = format!(
        r#"{{"manifests":[{},{},{{"digest":"md5:1"}}]}}"#,
        one("a"),
        one("b")
    );
    server.decide(move |_| Some(Reply::new(200, &body)));
    let all = upstream.referrers(&name(), &subject, None).await.unwrap();
    assert_eq!(all.len(), 2);
    let some = upstream
        .referrers(&name(), &subject, Some("b"))
        .await
        .unwrap();
    assert_eq!(some.len(), 1);
    assert_eq!(some[0].artifact_type.as_deref(), Some("b"));
    let asked = server.asked();
    assert!(asked[1].ends_with("?artifactType=b"), "{asked:?}");
    server.behave();
    let none = upstream
        .referrers(&name(), &subject, None)
        .await
        .unwrap_err();
    assert!(none.is_unknown());
}

#[tokio::test]
async fn everything_goes_through_a_proxy_that_is_named() {
    let proxy = TestUpstream::start().await;
    let bytes = b"a blob";
    let digest = proxy.blob(bytes);
    let client = wharfinger_client::builder(wharfinger_client::authorities());
    let reach = Reach {
        client: wharfinger_client::through(client, &proxy.url()).unwrap(),
        ..Reach::default()
    };
    // Also what is on this machine: who names a proxy means it.
    let gone = "http://127.0.0.1:9";
    let upstream = Upstream::new(gone, reach, &Metrics::default()).unwrap();
    assert_eq!(upstream.blob_size(&name(), &digest).await.unwrap(), Some(6));
    let asked = format!("HEAD {gone}/v2/{}/blobs/{digest}", name());
    assert_eq!(proxy.asked(), [asked]);
}

#[tokio::test]
async fn a_file_of_dockers_clients_tells_what_is_shown() {
    let server = TestUpstream::start().await;
    let digest = server.blob(b"a blob");
    server.decide(|request| {
        let shown = request.header("authorization");
        (shown.as_deref() != Some(BASIC)).then(|| unauthorized("Basic realm=\"r\""))
    });
    let folder = tempfile::tempdir().unwrap();
    let encoded = &BASIC["Basic ".len()..];
    for (file, is_let_in) in [
        (
            format!(
                r#"{{"auths":{{"{}":{{"auth":"{encoded}"}}}}}}"#,
                server.address
            ),
            true,
        ),
        (
            format!(r#"{{"auths":{{"other":{{"auth":"{encoded}"}}}}}}"#),
            false,
        ),
        (
            format!(
                r#"{{"credHelpers":{{"{}":"there-is-none"}}}}"#,
                server.address
            ),
            false,
        ),
    ] {
        let path = folder.path().join("config.json");
        std::fs::write(&path, &file).unwrap();
        let credentials = Credentials::Docker(DockerConfig::new(path).unwrap());
        let upstream = asking(&server, credentials);
        let asked = upstream.blob_size(&name(), &digest).await;
        assert_eq!(asked.is_ok(), is_let_in, "{file}");
    }
}
