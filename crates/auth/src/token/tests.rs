mod certificates;

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use p256::ecdsa::signature::Signer as _;
use p256::pkcs8::DecodePrivateKey as _;
use proptest::prelude::*;
use rsa::sha2::{Digest as _, Sha384, Sha512};
use rsa::{Pkcs1v15Sign, Pss};
use serde_json::{Value, json};
use tempfile::TempDir;
use wharfinger_oci::key::{Jwk, PublicKey, base64url};

use super::*;
use crate::access::Action;

const ES256: &str = include_str!("../../../oci/tests/fixtures/schema1/es256.pkcs8.pem");
const ES384: &str = include_str!("../../../oci/tests/fixtures/schema1/es384.pkcs8.pem");
const ES512: &str = include_str!("../../../oci/tests/fixtures/schema1/es512.pkcs8.pem");
const RSA: &str = include_str!("../../../oci/tests/fixtures/schema1/rs256.pkcs8.pem");
const SECRET: &[u8] = b"a secret of thirty-two bytes ...";

/// Signs as the service would.
fn sign(alg: &str, message: &[u8]) -> Vec<u8> {
    let rsa = || rsa::PrivateKey::from_pkcs8_pem(RSA).unwrap();
    macro_rules! ecdsa {
        ($curve:ident, $pem:expr) => {{
            let key = $curve::ecdsa::SigningKey::from_pkcs8_pem($pem).unwrap();
            let signature: $curve::ecdsa::Signature = key.sign(message);
            signature.to_bytes().to_vec()
        }};
    }
    macro_rules! rsa_signs {
        ($padding:expr, $hash:ty) => {
            rsa()
                .sign_with_rng(&mut getrandom::SysRng, $padding, &<$hash>::digest(message))
                .unwrap()
        };
    }
    macro_rules! hmac_with {
        ($hash:ty) => {{
            let mut mac = Hmac::<$hash>::new_from_slice(SECRET).unwrap();
            mac.update(message);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match alg {
        "ES256" => ecdsa!(p256, ES256),
        "ES384" => ecdsa!(p384, ES384),
        "ES512" => ecdsa!(p521, ES512),
        "RS256" => rsa_signs!(Pkcs1v15Sign::new::<Sha256>(), Sha256),
        "RS384" => rsa_signs!(Pkcs1v15Sign::new::<Sha384>(), Sha384),
        "RS512" => rsa_signs!(Pkcs1v15Sign::new::<Sha512>(), Sha512),
        "PS256" => rsa_signs!(Pss::<Sha256>::new(), Sha256),
        "PS384" => rsa_signs!(Pss::<Sha384>::new(), Sha384),
        "PS512" => rsa_signs!(Pss::<Sha512>::new(), Sha512),
        "EdDSA" => {
            let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
            key.sign(message).to_bytes().to_vec()
        }
        "HS256" => hmac_with!(Sha256),
        "HS384" => hmac_with!(Sha384),
        "HS512" => hmac_with!(Sha512),
        "none" => Vec::new(),
        other => panic!("{other}"),
    }
}

/// The public key that [`sign`] signs for.
fn key(alg: &str) -> Value {
    macro_rules! ecdsa {
        ($curve:ident, $pem:expr) => {{
            let key = $curve::ecdsa::SigningKey::from_pkcs8_pem($pem).unwrap();
            PublicKey::from(*key.verifying_key()).to_jwk(&Jwk::new())
        }};
    }
    let jwk = match alg {
        "ES256" => ecdsa!(p256, ES256),
        "ES384" => ecdsa!(p384, ES384),
        "ES512" => ecdsa!(p521, ES512),
        "EdDSA" => {
            let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
            let x = base64url::encode(key.verifying_key().as_bytes());
            return json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": alg});
        }
        _ if alg.starts_with("HS") => {
            return json!({"kty": "oct", "k": base64url::encode(SECRET), "kid": alg});
        }
        _ => {
            let key = rsa::PrivateKey::from_pkcs8_pem(RSA).unwrap();
            PublicKey::from(key.to_public_key()).to_jwk(&Jwk::new())
        }
    };
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = alg.into();
    jwk
}

fn token(header: &Value, claims: &Value) -> String {
    let alg = header["alg"].as_str().unwrap();
    let signed = [header, claims].map(|part| base64url::encode(part.to_string().as_bytes()));
    let signed = signed.join(".");
    let signature = base64url::encode(&sign(alg, signed.as_bytes()));
    format!("{signed}.{signature}")
}

/// Claims that hold now.
fn claims() -> Value {
    json!({
        "iss": "issuer",
        "sub": "ada",
        "aud": "registry",
        "exp": now() + 300.0,
        "nbf": now() as u64,
        "access": [
            {"type": "repository", "name": "a/b", "actions": ["pull", "push"]},
            {"type": "repository", "class": "plugin", "name": "p", "actions": ["*"]},
            {"type": "repository", "name": "none", "actions": null},
        ],
    })
}

fn with(key: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[key] = value.into();
    claims
}

struct Fixture {
    folder: TempDir,
    options: TokenOptions,
}

impl Fixture {
    fn new() -> Self {
        let options = TokenOptions {
            realm: "https://auth.example/token".into(),
            service: "registry".into(),
            issuer: "issuer".into(),
            ..TokenOptions::default()
        };
        let folder = tempfile::tempdir().unwrap();
        Self { folder, options }
    }

    /// Trusts a set of keys.
    fn set(mut self, keys: &[Value]) -> Self {
        let path = self.folder.path().join("jwks");
        fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
        self.options.jwks = Some(path);
        self
    }

    /// Trusts the keys of certificates.
    fn bundle(mut self, pem: &str) -> Self {
        let path = self.folder.path().join("bundle");
        fs::write(&path, pem).unwrap();
        self.options.rootcertbundle = Some(path);
        self
    }

    fn controller(&self) -> Result<Token, TokenError> {
        Token::new(self.options.clone())
    }
}

/// What becomes of a request with this token: the user, or the challenge's end and the reason.
async fn shown(
    controller: &Token,
    token: &str,
    access: &[Access],
) -> Result<Grant, (String, String)> {
    let authorization = format!("Bearer {token}");
    let asked = Asked {
        authorization: Some(&authorization),
        ..Asked::default()
    };
    controller
        .authorize(asked, access)
        .await
        .map_err(|refusal| {
            let Refusal::Challenge {
                challenge, reason, ..
            } = refusal
            else {
                panic!("{refusal}")
            };
            let (_, error) = challenge.rsplit_once("error=").unwrap();
            assert!(!reason.contains(token), "{reason}");
            (error.trim_matches('"').to_owned(), reason)
        })
}

async fn reason(controller: &Token, token: &str) -> String {
    let (error, reason) = shown(controller, token, &[]).await.unwrap_err();
    assert_eq!(error, "invalid_token", "{reason}");
    reason
}

#[tokio::test]
async fn every_algorithm_is_verified_and_none_is_taken_for_another() {
    let keys: Vec<Value> = ALGORITHMS.iter().map(|alg| key(alg)).collect();
    let controller = Fixture::new().set(&keys).controller().unwrap();
    for alg in ALGORITHMS {
        let good = token(&json!({"alg": alg, "kid": alg}), &claims());
        let grant = shown(&controller, &good, &[]).await.unwrap();
        assert_eq!(grant.user, "ada", "{alg}");
        let (rest, signature) = good.rsplit_once('.').unwrap();
        // Another signature, none, and another payload under the same signature.
        let mut bytes = base64url::decode(signature).unwrap();
        bytes[3] ^= 1;
        let changed = base64url::encode(&bytes);
        let (header, _) = rest.split_once('.').unwrap();
        let payload = base64url::encode(with("sub", "eve").to_string().as_bytes());
        for bad in [
            format!("{rest}.{changed}"),
            format!("{rest}."),
            format!("{header}.{payload}.{signature}"),
        ] {
            reason(&controller, &bad).await;
        }
        // The key of one algorithm under the name of another.
        for other in ALGORITHMS {
            let same_key = |a: &str| {
                (
                    a.starts_with("RS") || a.starts_with("PS"),
                    a.starts_with("HS"),
                )
            };
            if other != alg && (same_key(alg) != same_key(other) || same_key(alg) == (false, false))
            {
                reason(
                    &controller,
                    &token(&json!({"alg": alg, "kid": other}), &claims()),
                )
                .await;
            }
        }
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret_and_none_is_no_algorithm() {
    let controller = Fixture::new().set(&[key("RS256")]).controller().unwrap();
    for alg in ["none", "HS256"] {
        let bad = token(&json!({"alg": alg, "kid": "RS256"}), &claims());
        reason(&controller, &bad).await;
    }
    for alg in ["None", "NONE", "", "rs256"] {
        let header = base64url::encode(json!({"alg": alg, "kid": "RS256"}).to_string().as_bytes());
        let payload = base64url::encode(claims().to_string().as_bytes());
        let reason = reason(&controller, &format!("{header}.{payload}.")).await;
        assert!(reason.contains("not accepted"), "{reason}");
    }
    let crit = json!({"alg": "RS256", "kid": "RS256", "crit": ["x"]});
    assert!(
        reason(&controller, &token(&crit, &claims()))
            .await
            .contains("crit")
    );
}

#[tokio::test]
async fn only_the_configured_algorithms_are_accepted() {
    let mut fixture = Fixture::new().set(&[key("RS256"), key("ES256")]);
    fixture.options.signingalgorithms = vec!["ES256".into()];
    let controller = fixture.controller().unwrap();
    let [rs, es] = ["RS256", "ES256"].map(|alg| token(&json!({"alg": alg, "kid": alg}), &claims()));
    assert!(shown(&controller, &es, &[]).await.is_ok());
    assert!(reason(&controller, &rs).await.contains("not accepted"));
    fixture.options.signingalgorithms = vec!["ES257".into()];
    let error = fixture.controller().unwrap_err().to_string();
    assert!(error.starts_with("signingalgorithms: \"ES257\"") && error.contains("PS512"));
}

#[tokio::test]
async fn claims_hold_for_one_service_and_one_time() {
    let controller = Fixture::new().set(&[key("ES256")]).controller().unwrap();
    let of = |claims: Value| token(&json!({"alg": "ES256", "kid": "ES256"}), &claims);
    let good = [
        with("aud", json!(["other", "registry"])),
        with("exp", now() - 50.0),
        with("nbf", now() + 50.0),
        with("nbf", Value::from(0)),
        with("access", Value::Null),
        with("sub", ""),
        // What Go's decoder takes for empty or nought.
        with("sub", Value::Null),
        with("nbf", Value::Null),
        with(
            "access",
            json!([{"type": null, "class": null, "name": null, "actions": [null]}]),
        ),
        with("access", json!([{}])),
    ];
    for claims in good {
        let good = of(claims.clone());
        assert!(shown(&controller, &good, &[]).await.is_ok(), "{claims}");
    }
    let bad = [
        (with("aud", "other"), "it is for"),
        (with("aud", json!([])), "it is for"),
        (with("aud", Value::Null), "it is for"),
        (with("iss", "other"), "it was issued by"),
        (with("exp", now() - 70.0), "it expired"),
        (with("exp", Value::from(0)), "it expired"),
        (with("exp", Value::Null), "it expired"),
        (with("iss", Value::Null), "it was issued by"),
        (with("nbf", now() + 70.0), "it is good in"),
        (with("aud", 7), "cannot be read"),
        (with("exp", "tomorrow"), "cannot be read"),
        (json!(7), "cannot be read"),
    ];
    for (claims, wanted) in bad {
        let reason = reason(&controller, &of(claims.clone())).await;
        assert!(reason.contains(wanted), "{claims}: {reason}");
    }
    let mut no_exp = claims();
    no_exp.as_object_mut().unwrap().remove("exp");
    assert!(reason(&controller, &of(no_exp)).await.contains("expired"));
}

#[tokio::test]
async fn a_remembered_token_expires_all_the_same() {
    let controller = Fixture::new().set(&[key("ES256")]).controller().unwrap();
    let claims = with("exp", now() - 59.0);
    let soon = token(&json!({"alg": "ES256", "kid": "ES256"}), &claims);
    assert!(shown(&controller, &soon, &[]).await.is_ok());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while shown(&controller, &soon, &[]).await.is_ok() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(reason(&controller, &soon).await.contains("expired"));
}

#[tokio::test]
async fn what_the_token_grants_is_allowed_and_no_more() {
    let controller = Fixture::new().set(&[key("ES256")]).controller().unwrap();
    let token = token(&json!({"alg": "ES256", "kid": "ES256"}), &claims());
    let a = |action| Access::repository("a/b", action);
    let grant = shown(&controller, &token, &[a(Action::Pull), a(Action::Push)])
        .await
        .unwrap();
    assert!(grant.allows(&a(Action::Pull)) && !grant.allows(&a(Action::Delete)));
    assert_eq!(grant.classes("p"), Some(vec!["plugin"]));
    for (access, scope) in [
        (a(Action::Delete), "repository:a/b:delete"),
        (Access::repository("a", Action::Pull), "repository:a:pull"),
        (
            Access::repository("none", Action::Pull),
            "repository:none:pull",
        ),
        // As in Distribution, an asterisk is an action of its own.
        (Access::repository("p", Action::Pull), "repository:p:pull"),
        (Access::catalog(), "registry:catalog:*"),
    ] {
        let (error, reason) = shown(&controller, &token, &[access]).await.unwrap_err();
        assert_eq!(error, "insufficient_scope");
        assert!(reason.ends_with(scope), "{reason}");
    }
}

#[tokio::test]
async fn what_may_be_a_guess_is_told_from_what_is_none() {
    let controller = Fixture::new().set(&[key("ES256")]).controller().unwrap();
    let header = json!({"alg": "ES256", "kid": "ES256"});
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let good = token(&header, &claims());
    let (start, _) = good.rsplit_once('.').unwrap();
    let unknown = json!({"alg": "ES256", "kid": "unknown"});
    let cases = [
        (None, Shown::Nothing),
        (Some("Basic YTpi".to_owned()), Shown::Unfit),
        (
            bearer(token(&header, &with("exp", now() - 70.0))),
            Shown::Unfit,
        ),
        (
            bearer(token(&header, &with("nbf", now() + 70.0))),
            Shown::Unfit,
        ),
        (bearer(token(&header, &with("aud", "other"))), Shown::Unfit),
        (bearer("x".to_owned()), Shown::Guess),
        (bearer(format!("{start}.AAAA")), Shown::Guess),
        (bearer(token(&unknown, &claims())), Shown::Guess),
        (bearer(good.clone()), Shown::User("ada".to_owned())),
    ];
    for (authorization, wanted) in cases {
        let asked = Asked {
            authorization: authorization.as_deref(),
            ..Asked::default()
        };
        match controller.authorize(asked, &[Access::catalog()]).await {
            Err(Refusal::Challenge { shown, .. }) => assert_eq!(shown, wanted),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn the_challenge_tells_where_to_go() {
    let mut fixture = Fixture::new().set(&[key("ES256")]);
    let challenge = |controller: Token, scheme| async move {
        let asked = Asked {
            authorization: Some("Basic xyz"),
            host: Some("hub.example:5000"),
            forwarded_scheme: scheme,
            client: None,
        };
        let access = [Access::repository("a", Action::Pull)];
        match controller.authorize(asked, &access).await {
            Err(Refusal::Challenge { challenge, .. }) => challenge,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        challenge(fixture.controller().unwrap(), None).await,
        r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a:pull""#
    );
    fixture.options.autoredirect = true;
    let told = challenge(fixture.controller().unwrap(), None).await;
    assert!(
        told.starts_with(r#"Bearer realm="https://hub.example:5000/auth/token","#),
        "{told}"
    );
    fixture.options.autoredirectpath = "/t".into();
    let told = challenge(fixture.controller().unwrap(), Some("http")).await;
    assert!(
        told.starts_with(r#"Bearer realm="http://hub.example:5000/t","#),
        "{told}"
    );
}

#[test]
fn a_set_without_a_key_is_named() {
    let fixture = Fixture::new().set(&[]);
    let path = fixture.options.jwks.clone().unwrap();
    let told = fixture.controller().unwrap_err().to_string();
    let wanted = format!("jwks: {}: there is no key to verify", path.display());
    assert!(told.starts_with(&wanted), "{told}");
}

#[test]
fn what_cannot_be_a_key_stops_the_start() {
    let fixture = Fixture::new();
    let error = |fixture: &Fixture| fixture.controller().unwrap_err().to_string();
    assert!(error(&fixture).starts_with("rootcertbundle: there is no key"));
    let cases = [
        ("", "there is no certificate in it"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "certificate 1 in it",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "it is no PEM",
        ),
    ];
    for (pem, wanted) in cases {
        let told = error(&Fixture::new().bundle(pem));
        assert!(
            told.starts_with("rootcertbundle: ") && told.contains(wanted),
            "{told}"
        );
    }
    let mut missing = Fixture::new();
    missing.options.rootcertbundle = Some("/nowhere/bundle.pem".into());
    assert!(error(&missing).contains("/nowhere/bundle.pem: No such file"));
    let sets = [
        (
            json!({"kty": "oct", "kid": "a"}),
            "key 1 in it: its \"k\" is missing",
        ),
        (json!({"kty": "oct", "k": "AAAA"}), "has no kid"),
        (
            json!({"kty": "EC", "crv": "P-256", "kid": "a"}),
            "key 1 in it",
        ),
        (
            json!({"kty": "RSA", "d": "AAAA", "kid": "a"}),
            "it is a private key",
        ),
        (json!({"kty": "oct", "use": "enc"}), "there is no key"),
    ];
    for (jwk, wanted) in sets {
        let told = error(&Fixture::new().set(&[jwk]));
        assert!(told.contains(wanted), "{told}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let controller = Fixture::new().set(&[key("HS256")]).controller().unwrap();
    let shown = format!("{controller:?}");
    assert!(
        !shown.contains("115") && shown.contains("Secret(..)"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn whatever_comes_is_answered(text in "\\PC{0,200}") {
        let _ = Parsed::new(&text);
        let _ = crate::htpasswd::basic(&text);
    }
}
