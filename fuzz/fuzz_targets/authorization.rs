//! What clients show of themselves: nobody is let in by a token that the service did not sign, and
//! user and password are those that were written.
#![no_main]

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use wharfinger_auth::basic;
use wharfinger_auth::{AccessController, Asked, Refusal, Token, TokenOptions};

static CONTROLLER: LazyLock<Token> = LazyLock::new(|| {
    let jwks = std::env::temp_dir().join(format!("fuzz-jwks-{}", std::process::id()));
    let key = r#"{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0IG9mIG5vYm9keSBhdCBhbGwgLi4u"}]}"#;
    std::fs::write(&jwks, key).expect("a file can be written");
    let options = TokenOptions {
        service: "s".into(),
        issuer: "i".into(),
        jwks: Some(jwks.clone()),
        ..TokenOptions::default()
    };
    let token = Token::new(options).expect("the key is good");
    let _ = std::fs::remove_file(jwks);
    token
});

fuzz_target!(|text: &str| {
    let bearer = format!("Bearer {text}");
    for shown in [text, &bearer] {
        let asked = Asked {
            authorization: Some(shown),
            ..Asked::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let outcome = runtime
            .expect("it starts")
            .block_on(CONTROLLER.authorize(asked, &[]));
        assert!(matches!(outcome, Err(Refusal::Challenge { .. })));
    }
    if let Some((user, password)) = basic(text) {
        let again = [user.as_bytes(), b":", &password].concat();
        let again = format!("Basic {}", STANDARD.encode(again));
        assert_eq!(basic(&again), Some((user, password)));
    }
});
