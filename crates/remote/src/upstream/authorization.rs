//! What is shown to an upstream, learnt from its challenges.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode, header};
use quick_cache::sync::Cache;
use reqwest::{Client, RequestBuilder, Url};
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::warn;

use super::answer::{Asked, body, refused};
use super::challenge::Challenge;
use super::credentials::{Credentials, Login, may_know};
use crate::UpstreamError;

/// How many tokens are kept, one for each repository.
const TOKENS: usize = 1000;

/// How long a token is good at least, as Distribution takes it.
const SHORTEST: Duration = Duration::from_secs(60);

/// How long before its end a token is used no more: what it is shown to may be slow.
const MARGIN: Duration = Duration::from_secs(5);

/// How long a token service may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The most bytes that its answer may have.
const LARGEST: usize = 256 * 1024;

/// What the registry calls itself where it asks for tokens.
const CLIENT: &str = "wharfinger";

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// A token for one scope.
#[derive(Clone, derive_more::Debug)]
struct Token {
    #[debug(skip)]
    value: HeaderValue,
    until: Instant,
}

/// What is shown to an upstream.
#[derive(Debug)]
pub(super) struct Authorization {
    upstream: Url,
    credentials: Credentials,
    /// Whether the upstream has asked for user and password.
    basic: AtomicBool,
    tokens: Cache<String, Token>,
    /// Held while a token is asked for: others may want the same.
    asking: Mutex<()>,
}

/// A token service's answer (Docker's token authentication).
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

impl Authorization {
    pub(super) fn new(upstream: Url, credentials: Credentials) -> Self {
        Self {
            upstream,
            credentials,
            basic: AtomicBool::new(false),
            tokens: Cache::new(TOKENS),
            asking: Mutex::default(),
        }
    }

    /// What is known to be wanted for `scope`, before the upstream asks for it.
    pub(super) async fn known(&self, scope: &str) -> Option<HeaderValue> {
        if let Some(token) = self.token(scope) {
            return Some(token);
        }
        match self.basic.load(Relaxed) {
            true => self.login().await,
            false => None,
        }
    }

    fn token(&self, scope: &str) -> Option<HeaderValue> {
        let token = self.tokens.get(scope)?;
        (token.until > Instant::now()).then_some(token.value)
    }

    async fn login(&self) -> Option<HeaderValue> {
        let host = host(&self.upstream);
        let login = self.credentials.for_host(&host, &host).await?;
        match login.identity_token() {
            Some(_) => None,
            None => login.basic(),
        }
    }

    /// What answers one of the challenges; `None` when there is nothing that was not `shown`
    /// already.
    pub(super) async fn answer(
        &self,
        client: &Client,
        challenges: &[Challenge],
        scope: &str,
        shown: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, UpstreamError> {
        let by = |scheme: &str| challenges.iter().find(|one| one.scheme == scheme);
        if let Some(challenge) = by("bearer") {
            return self.fetch(client, challenge, scope, shown).await.map(Some);
        }
        if by("basic").is_some()
            && let Some(login) = self.login().await
            && shown != Some(&login)
        {
            self.basic.store(true, Relaxed);
            return Ok(Some(login));
        }
        Ok(None)
    }

    /// Asks the token service for a token, unless somebody else has just got another one than was
    /// shown.
    async fn fetch(
        &self,
        client: &Client,
        challenge: &Challenge,
        scope: &str,
        shown: Option<&HeaderValue>,
    ) -> Result<HeaderValue, UpstreamError> {
        let _asking = self.asking.lock().await;
        if let Some(token) = self.token(scope)
            && shown != Some(&token)
        {
            return Ok(token);
        }
        self.tokens.remove(scope);
        let upstream = host(&self.upstream);
        let asked = Asked {
            upstream: &upstream,
        };
        let realm = challenge.get("realm").unwrap_or_default();
        let realm: Url = realm
            .parse()
            .map_err(|_| asked.wrong("its challenge names no address for tokens"))?;
        let login = match may_know(&self.upstream, &realm) {
            true => {
                let realm = host(&realm);
                self.credentials.for_host(&upstream, &realm).await
            }
            false => {
                if !matches!(self.credentials, Credentials::Anonymous) {
                    let realm = host(&realm);
                    warn!(
                        upstream,
                        realm, "tokens come from another domain: it is not shown the password"
                    );
                }
                None
            }
        };
        let service = challenge.get("service");
        let request = token_request(client, realm, service, scope, login.as_ref());
        let response = request.send().await.map_err(|error| asked.failed(error))?;
        if response.status() != StatusCode::OK {
            return Err(refused(&asked, response).await);
        }
        let bytes = body(&asked, response, LARGEST).await?;
        let answer: Answer = serde_json::from_slice(&bytes)
            .map_err(|_| asked.wrong("what its token service gives is no token"))?;
        let text = match answer.access_token.is_empty() {
            true => answer.token,
            false => answer.access_token,
        };
        let value = HeaderValue::from_str(&format!("Bearer {text}"));
        let (false, Ok(mut value)) = (text.is_empty(), value) else {
            return Err(asked.wrong("what its token service gives is no token"));
        };
        value.set_sensitive(true);
        let life = Duration::from_secs(answer.expires_in.min(u64::from(u32::MAX))).max(SHORTEST);
        let token = Token {
            value: value.clone(),
            until: Instant::now() + life - MARGIN,
        };
        self.tokens.insert(scope.to_owned(), token);
        Ok(value)
    }
}

/// A request for a token: with a user and a password, or in exchange for a token of another kind
/// (Distribution, "Token Authentication Specification" and "OAuth2 Token Authentication").
fn token_request(
    client: &Client,
    mut realm: Url,
    service: Option<&str>,
    scope: &str,
    login: Option<&Login>,
) -> RequestBuilder {
    let service = service.map(|service| ("service", service));
    let mut pairs: Vec<_> = service.into_iter().collect();
    if let Some(token) = login.and_then(Login::identity_token) {
        pairs.extend([
            ("scope", scope),
            ("grant_type", "refresh_token"),
            ("client_id", CLIENT),
            ("refresh_token", token),
        ]);
        // Addresses are logged; bodies are not.
        let mut form = realm.clone();
        form.query_pairs_mut().clear().extend_pairs(pairs);
        let form = form.query().unwrap_or_default().to_owned();
        let request = client.post(realm).header(header::CONTENT_TYPE, FORM);
        return request.body(form).timeout(PATIENCE);
    }
    // Here, several stand one by one, and not with spaces between.
    pairs.extend(scope.split(' ').map(|scope| ("scope", scope)));
    pairs.extend(login.map(|login| ("account", login.username.as_str())));
    realm.query_pairs_mut().extend_pairs(pairs);
    let request = client.get(realm).timeout(PATIENCE);
    match login.and_then(Login::basic) {
        Some(login) => request.header(header::AUTHORIZATION, login),
        None => request,
    }
}

/// Host and port, as credential helpers and people know a server.
pub(super) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}
