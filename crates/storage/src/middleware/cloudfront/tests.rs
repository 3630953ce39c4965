use super::*;
use crate::{CopyOptions, Retries, S3Credentials, S3Endpoint, S3Options, StoragePath};
use rsa::PublicKey;

const KEY: &str = include_str!("../../../../oci/tests/fixtures/schema1/rs256.pkcs1.pem");
const SAME_KEY: &str = include_str!("../../../../oci/tests/fixtures/schema1/rs256.pkcs8.pem");

fn client() -> reqwest::Client {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let builder = reqwest::Client::builder().tls_backend_preconfigured(tls);
    builder.no_proxy().build().unwrap()
}

/// A driver of a bucket, which is not asked.
fn store() -> ObjectDriver {
    let options = S3Options {
        bucket: "b".to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: S3Endpoint::server("127.0.0.1:9", false, true),
        root: "/some/where/".to_owned(),
        credentials: S3Credentials::Keys {
            access_key: "a".to_owned(),
            secret_key: "b".to_owned(),
            session_token: None,
        },
        encryption: None,
        storage_class: None,
        acl: None,
        part: 5 << 20,
        copying: CopyOptions {
            threshold: 8 << 20,
            part: 5 << 20,
            concurrency: 4,
        },
        retries: Retries::default(),
        log_requests: false,
    };
    ObjectDriver::s3(&options, client()).unwrap()
}

fn cloudfront(base: &str) -> CloudFront {
    let key = CloudFront::key(KEY).unwrap();
    let lasts = Duration::from_secs(60);
    CloudFront::new(store(), base, key, "K2JCJMDEHXQW5F", lasts).unwrap()
}

async fn ask(cloudfront: &CloudFront, client: Option<&str>) -> String {
    let path: StoragePath = "/docker/registry/v2/x".parse().unwrap();
    let request = RedirectRequest {
        path: &path,
        method: "GET",
        content_type: "a/b",
        client: client.map(|client| client.parse().unwrap()),
    };
    let url = cloudfront.redirect_url(&cloudfront.store, request).await;
    url.unwrap().unwrap()
}

/// Checks an address as CloudFront does; gives what was asked for, and when it ends.
fn verified(url: &str) -> (String, u64) {
    let (resource, query) = url.split_once('?').unwrap();
    let pairs: Vec<_> = query
        .split('&')
        .map(|p| p.split_once('=').unwrap())
        .collect();
    let [
        ("Expires", ends),
        ("Signature", signature),
        ("Key-Pair-Id", id),
    ] = pairs[..]
    else {
        panic!("{pairs:?}");
    };
    assert_eq!(id, "K2JCJMDEHXQW5F");
    let signature = signature
        .replace('-', "+")
        .replace('_', "=")
        .replace('~', "/");
    let signature = STANDARD.decode(signature).unwrap();
    let signed = format!(
        "{{\"Statement\":[{{\"Resource\":\"{resource}\",\"Condition\":{{\"DateLessThan\":\
         {{\"AWS:EpochTime\":{ends}}}}}}}]}}"
    );
    let key: PublicKey = CloudFront::key(KEY).unwrap().to_public_key();
    let scheme = Pkcs1v15Sign::new::<Sha1>();
    key.verify(scheme, &Sha1::digest(&signed), &signature)
        .unwrap();
    let scheme = Pkcs1v15Sign::new::<Sha1>();
    let other = Sha1::digest(signed.replace("some", "same"));
    assert!(key.verify(scheme, &other, &signature).is_err());
    (resource.to_owned(), ends.parse().unwrap())
}

#[tokio::test]
async fn addresses_are_signed_and_end() {
    for (base, expected) in [
        ("d1.cloudfront.net", "https://d1.cloudfront.net/"),
        ("http://cdn.example:8080/a/", "http://cdn.example:8080/a/"),
        ("https://cdn.example/a", "https://cdn.example/a/"),
    ] {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap().as_secs();
        let (resource, ends) = verified(&ask(&cloudfront(base), None).await);
        let key = "some/where/docker/registry/v2/x";
        assert_eq!(resource, format!("{expected}{key}"));
        assert!((now + 60..now + 90).contains(&ends));
    }
    let key = || CloudFront::key(KEY).unwrap();
    let refused = CloudFront::new(store(), "ftp://x", key(), "K", Duration::ZERO);
    assert_eq!(refused.unwrap_err(), InvalidUrl);
}

#[test]
fn the_alphabet_is_cloudfronts() {
    let key = CloudFront::key(KEY).unwrap();
    let all: String = (0..50)
        .map(|ends| signature(&key, &policy("https://h/", ends)).unwrap())
        .collect();
    assert!(!all.contains(['+', '/', '=']));
    for letter in ['-', '~', '_'] {
        assert!(all.contains(letter), "{letter}");
    }
}

#[test]
fn keys_are_read_in_either_form() {
    let key = CloudFront::key(KEY).unwrap();
    assert_eq!(CloudFront::key(SAME_KEY), Ok(key));
    let public = KEY.replace("RSA PRIVATE", "PUBLIC");
    for text in ["", "nothing", &public] {
        assert_eq!(CloudFront::key(text), Err(InvalidKey));
    }
}

/// Answers every request with the first of these, and the next ones with the next.
async fn lists(answers: &'static [(&'static str, &'static str)]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}");
            let answer = format!("{head}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}/ip-ranges.json?token=s-e-cret")
}

#[tokio::test]
async fn clients_within_amazons_networks_go_to_the_store() {
    let url = lists(&[
        ("500 No", ""),
        (
            "200 OK",
            r#"{"prefixes": [{"ip_prefix": "3.5.0.0/16", "region": "x"}]}"#,
        ),
        ("200 OK", "nonsense"),
        ("200 OK", r#"{"prefixes": []}"#),
    ])
    .await;
    let ranges = AmazonRanges::new(client(), &url, vec!["X".to_owned()]).unwrap();
    let ranges = Arc::new(ranges);
    let cloudfront = cloudfront("https://cdn.example").with_store_for(Arc::clone(&ranges));
    let to_the_store = async |client| {
        let url = ask(&cloudfront, client).await;
        let is_signed = url.starts_with("https://cdn.example/");
        assert!(is_signed || url.starts_with("http://127.0.0.1:9/b/some/where/"));
        !is_signed
    };
    // Nothing is known yet, nor after a failure.
    assert!(!to_the_store(Some("3.5.1.1")).await);
    ranges.update().await;
    assert!(!to_the_store(Some("3.5.1.1")).await);
    ranges.update().await;
    for _ in 0..2 {
        assert!(to_the_store(Some("3.5.1.1")).await);
        assert!(to_the_store(Some("::ffff:3.5.1.1")).await);
        assert!(!to_the_store(Some("3.6.1.1")).await);
        assert!(!to_the_store(None).await);
        // What was known stays when the list cannot be read.
        ranges.update().await;
    }
    assert!(!to_the_store(Some("3.5.1.1")).await);
}
