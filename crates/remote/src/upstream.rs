//! One other registry, and what can be asked of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Client, ClientBuilder, Response, Url};
use serde::Deserialize;
use serde_json::Value;
use wharfinger_oci::manifest::{ContentDescriptor, MAX_SIZE};
use wharfinger_oci::{Digest, Reference, RepositoryName, Tag, media_type};

use crate::UpstreamError;
use crate::metrics::{Metrics, UpstreamMetrics};

mod answer;
mod authorization;
mod blob;
mod challenge;
mod credentials;
mod push;
mod rest;

use answer::{Asked, body, refused};
use authorization::{Authorization, host};
pub use blob::BlobStream;
use challenge::Challenge;
pub use credentials::{Credentials, DockerConfig, Exec};
pub use push::{Mounted, PushedManifest, RemoteUpload};
use rest::Rest;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an upstream may send nothing while it is waited for.
const SILENCE: Duration = Duration::from_secs(30);

/// The same where it is pushed to: at the end of an upload it reads all of it again.
const PUSH_SILENCE: Duration = Duration::from_secs(10 * 60);

/// How often a request is sent again with what a challenge asks for: a token that was known may
/// have been withdrawn.
const CHALLENGES: usize = 2;

/// The most bytes of one part of a listing.
const LARGEST_LISTING: usize = 16 << 20;

/// How many repositories are asked for at once.
const CATALOG_PART: usize = 1000;

/// The most parts that a listing is put together from.
const MOST_PARTS: usize = 10_000;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What manifests are taken in, as Distribution takes them.
const MANIFESTS: [&str; 4] = [
    media_type::OCI_IMAGE_INDEX,
    media_type::OCI_IMAGE_MANIFEST,
    media_type::DOCKER_MANIFEST_LIST,
    media_type::DOCKER_MANIFEST,
];

/// Another registry. It remembers what that wants to be shown.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    base: Url,
    client: Client,
    authorization: Authorization,
    rest: Rest,
    metrics: UpstreamMetrics,
    /// What is asked for in a repository, as scopes of tokens name it.
    actions: &'static str,
}

/// How an upstream is reached.
#[derive(Debug)]
pub struct Reach {
    /// What it is called in the log and in metrics; its host, where nothing else is said.
    pub name: Option<String>,
    /// Who the registry says it is there.
    pub credentials: Credentials,
    /// The client, which knows whom to trust, and what proxy to go through.
    pub client: ClientBuilder,
    /// Whether it is pushed to: then tokens are asked for that allow it.
    pub is_pushed_to: bool,
}

impl Default for Reach {
    fn default() -> Self {
        Credentials::Anonymous.into()
    }
}

impl From<Credentials> for Reach {
    fn from(credentials: Credentials) -> Self {
        Self {
            name: None,
            credentials,
            client: wharfinger_client::builder(wharfinger_client::authorities()),
            is_pushed_to: false,
        }
    }
}

/// A manifest as an upstream gave it. Its bytes have its digest.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// What the upstream says that it is.
    pub media_type: Option<String>,
    /// The digest that was asked for, or that the upstream told, or else the canonical one.
    pub digest: Digest,
    /// The bytes.
    pub bytes: Bytes,
}

/// One part of a longer listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The tags, in the upstream's order.
    pub tags: Vec<Tag>,
    /// Whether more follow.
    pub more: bool,
}

impl Upstream {
    /// The registry at `url`, which is asked for everything below `v2/` there, and counted in
    /// `metrics`.
    ///
    /// # Errors
    /// What is wrong with the URL, without repeating it, or with this machine.
    pub fn new(url: &str, reach: Reach, metrics: &Metrics) -> Result<Self, String> {
        let mut base: Url = url
            .parse()
            .map_err(|error| format!("it is no URL: {error}"))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err("it is no URL like https://registry.example.org".to_owned());
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err("a user and a password have keys of their own".to_owned());
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err("nothing may follow the path: no query, no fragment".to_owned());
        }
        let path = format!("{}/", base.path().trim_end_matches('/'));
        base.set_path(&path);
        let (actions, silence) = match reach.is_pushed_to {
            true => ("pull,push", PUSH_SILENCE),
            false => ("pull", SILENCE),
        };
        // Redirects are followed by the client, which shows other hosts no credentials.
        let client = reach
            .client
            .connect_timeout(CONNECT)
            .read_timeout(silence)
            .build()
            .map_err(|error| wharfinger_client::chain(&error))?;
        let name = reach.name.unwrap_or_else(|| host(&base));
        Ok(Self {
            metrics: metrics.of(&name),
            authorization: Authorization::new(base.clone(), reach.credentials),
            rest: Rest::default(),
            name,
            base,
            client,
            actions,
        })
    }

    /// What it is called: its host, and its port where it has an unusual one, or what was said.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was just not to be had, and should not be asked what can wait.
    pub fn is_resting(&self) -> bool {
        self.rest.is_resting()
    }

    fn asked(&self) -> Asked<'_> {
        Asked {
            upstream: &self.name,
        }
    }

    /// It answered, but not what it should.
    pub fn wrong(&self, reason: impl Into<String>) -> UpstreamError {
        self.asked().wrong(reason)
    }

    /// The digest that a tag stands for, as far as it can be known without fetching the manifest:
    /// `None` where the upstream does not tell it, or does not answer HEAD, or has no such tag. It
    /// is told which one is `known` here.
    ///
    /// # Errors
    /// When the upstream as a whole is not to be had.
    pub async fn digest_of(
        &self,
        name: &RepositoryName,
        tag: &Tag,
        known: Option<&Digest>,
    ) -> Result<Option<Digest>, UpstreamError> {
        let mut headers = accepting(&MANIFESTS);
        if let Some(known) = known
            && let Ok(value) = HeaderValue::from_str(&format!("\"{known}\""))
        {
            headers.insert(header::IF_NONE_MATCH, value);
        }
        let path = format!("manifests/{tag}");
        match self.ask(name, Method::HEAD, &path, headers).await {
            Ok(answer) if answer.status() == StatusCode::NOT_MODIFIED => Ok(known.copied()),
            Ok(answer) => Ok(told_digest(&answer)),
            Err(error) if error.is_outage() => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The digest that a tag stands for; `None` only where the upstream says that there is no such
    /// tag.
    ///
    /// # Errors
    /// When it does not say.
    pub async fn tagged(
        &self,
        name: &RepositoryName,
        tag: &Tag,
    ) -> Result<Option<Digest>, UpstreamError> {
        if let Some(digest) = self.digest_of(name, tag, None).await? {
            return Ok(Some(digest));
        }
        // An answer to HEAD does not tell a tag that is not there from one that is not told.
        match self.manifest(name, &Reference::Tag(tag.clone())).await {
            Ok(fetched) => Ok(Some(fetched.digest)),
            Err(error) if error.is_unknown() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A manifest.
    ///
    /// # Errors
    /// When the upstream does not give it, or what it gives has another digest than it should.
    pub async fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
    ) -> Result<Fetched, UpstreamError> {
        let path = format!("manifests/{reference}");
        let headers = accepting(&MANIFESTS);
        let answer = self.ask(name, Method::GET, &path, headers).await?;
        let told = told_digest(&answer);
        let media_type = answer.headers().get(header::CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let media_type = media_type.map(str::to_owned);
        let bytes = body(&self.asked(), answer, MAX_SIZE).await?;
        self.metrics.bytes.inc_by(bytes.len() as u64);
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(_) => told.unwrap_or_else(|| Digest::canonical(&bytes)),
        };
        let actual = Digest::of(digest.algorithm(), &bytes);
        if actual != digest {
            let reason = format!("manifest {digest} of {name} has digest {actual}");
            return Err(self.wrong(reason));
        }
        Ok(Fetched {
            media_type,
            digest,
            bytes,
        })
    }

    /// The size of a blob in bytes; `None` where the upstream has it and does not say.
    ///
    /// # Errors
    /// When the upstream does not have it.
    pub async fn blob_size(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<u64>, UpstreamError> {
        let path = format!("blobs/{digest}");
        let answer = self
            .ask(name, Method::HEAD, &path, HeaderMap::new())
            .await?;
        let size = answer.headers().get(header::CONTENT_LENGTH);
        Ok(size.and_then(|value| value.to_str().ok()?.parse().ok()))
    }

    /// The bytes of a blob behind the first `from`. They are not checked.
    ///
    /// # Errors
    /// When the upstream does not give them.
    pub async fn blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobStream, UpstreamError> {
        let mut headers = HeaderMap::new();
        if from > 0 {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            headers.extend(range.ok().map(|range| (header::RANGE, range)));
        }
        let path = format!("blobs/{digest}");
        let answer = self.ask(name, Method::GET, &path, headers).await?;
        BlobStream::new(&self.name, answer, from, self.metrics.bytes.clone())
    }

    /// The tags of a repository behind `last`: one part of at most `n`, or all there are.
    ///
    /// # Errors
    /// When the upstream does not give them.
    pub async fn tags(
        &self,
        name: &RepositoryName,
        n: Option<usize>,
        last: Option<&str>,
    ) -> Result<Listed, UpstreamError> {
        #[derive(Deserialize)]
        struct Body {
            /// Some say `null` for none.
            tags: Option<Vec<String>>,
        }
        let pairs = [
            n.map(|n| ("n", n.to_string())),
            last.map(|last| ("last", last.to_owned())),
        ];
        let mut query = query(pairs.into_iter().flatten());
        let mut tags = Vec::new();
        for _ in 0..MOST_PARTS {
            let path = format!("tags/list{query}");
            let (bytes, next, _) = self.listing(name, &path, HeaderMap::new()).await?;
            let part: Body =
                serde_json::from_slice(&bytes).map_err(|_| self.wrong("it is no list of tags"))?;
            let part = part.tags.unwrap_or_default();
            tags.extend(part.iter().filter_map(|tag| tag.parse().ok()));
            match (next, n) {
                (Some(_), Some(_)) => return Ok(Listed { tags, more: true }),
                (Some(next), None) if next != query => query = next,
                _ => return Ok(Listed { tags, more: false }),
            }
        }
        Err(self.wrong("its list of tags does not end"))
    }

    /// The names of its repositories, those alone that it shows.
    ///
    /// # Errors
    /// When the upstream does not give them, as many that are public do not.
    pub async fn catalog(&self) -> Result<Vec<RepositoryName>, UpstreamError> {
        #[derive(Deserialize)]
        struct Body {
            repositories: Option<Vec<String>>,
        }
        let mut query = query([("n", CATALOG_PART.to_string())].into_iter());
        let mut names = Vec::new();
        for _ in 0..MOST_PARTS {
            let url = format!("{}v2/_catalog{query}", self.base);
            let question = Question {
                method: Method::GET,
                url: &url,
                scope: "registry:catalog:*",
                headers: HeaderMap::new(),
                body: Bytes::new(),
            };
            let answer = self.send(question).await?;
            let next = next_query(answer.headers());
            let bytes = body(&self.asked(), answer, LARGEST_LISTING).await?;
            let part: Body = serde_json::from_slice(&bytes)
                .map_err(|_| self.wrong("it is no list of repositories"))?;
            let part = part.repositories.unwrap_or_default();
            names.extend(part.iter().filter_map(|name| name.parse().ok()));
            match next {
                Some(next) if next != query => query = next,
                _ => return Ok(names),
            }
        }
        Err(self.wrong("its list of repositories does not end"))
    }

    /// Descriptors of the manifests whose subject is `subject`, those of an artifact type only
    /// where one is given.
    ///
    /// # Errors
    /// When the upstream does not give them, also because it has no such listing.
    pub async fn referrers(
        &self,
        name: &RepositoryName,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<ContentDescriptor>, UpstreamError> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Value>,
        }
        let filter = artifact_type.map(|wanted| ("artifactType", wanted.to_owned()));
        let mut query = query(filter.into_iter());
        let mut found = Vec::new();
        for _ in 0..MOST_PARTS {
            let path = format!("referrers/{subject}{query}");
            let headers = accepting(&[media_type::OCI_IMAGE_INDEX]);
            let (bytes, next, filtered) = self.listing(name, &path, headers).await?;
            let index: Index = serde_json::from_slice(&bytes)
                .map_err(|_| self.wrong("it is no index of referrers"))?;
            // What is described otherwise than we know could not be pulled either.
            let descriptors = index.manifests.into_iter();
            let descriptors =
                descriptors.filter_map(|one| serde_json::from_value::<ContentDescriptor>(one).ok());
            found.extend(descriptors.filter(|one| {
                filtered || artifact_type.is_none() || one.artifact_type.as_deref() == artifact_type
            }));
            match next {
                Some(next) if next != query => query = next,
                _ => break,
            }
        }
        Ok(found)
    }

    /// One part of a listing, the query of the next one, and whether it was filtered.
    async fn listing(
        &self,
        name: &RepositoryName,
        path: &str,
        headers: HeaderMap,
    ) -> Result<(Bytes, Option<String>, bool), UpstreamError> {
        let answer = self.ask(name, Method::GET, path, headers).await?;
        let next = next_query(answer.headers());
        let filtered = answer.headers().contains_key(OCI_FILTERS_APPLIED);
        let bytes = body(&self.asked(), answer, LARGEST_LISTING).await?;
        Ok((bytes, next, filtered))
    }

    /// Asks about a repository.
    async fn ask(
        &self,
        name: &RepositoryName,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response, UpstreamError> {
        self.send(Question {
            method,
            url: &format!("{}v2/{name}/{path}", self.base),
            scope: &self.scope(name),
            headers,
            body: Bytes::new(),
        })
        .await
    }

    /// Sends a request, unless the upstream wants to be left alone.
    async fn send(&self, question: Question<'_>) -> Result<Response, UpstreamError> {
        self.rest.may_ask()?;
        let answer = self.send_now(question).await;
        self.rest.note(&self.name, answer.as_ref().err());
        answer
    }

    /// Sends a request with what the upstream wants to be shown.
    async fn send_now(&self, question: Question<'_>) -> Result<Response, UpstreamError> {
        let Question {
            method,
            url,
            scope,
            headers,
            body,
        } = question;
        let mut shown = self.authorization.known(scope).await;
        let mut challenges = 0;
        loop {
            let mut request = self.client.request(method.clone(), url);
            request = request.headers(headers.clone());
            if !matches!(method, Method::GET | Method::HEAD) {
                request = request.body(body.clone());
            }
            if let Some(shown) = &shown {
                request = request.header(header::AUTHORIZATION, shown.clone());
            }
            let began = Instant::now();
            let answer = request.send().await;
            let status = answer.as_ref().ok().map(Response::status);
            self.metrics.answered(status, began.elapsed());
            let answer = answer.map_err(|error| self.asked().failed(error))?;
            match answer.status() {
                status if status.is_success() => return Ok(answer),
                StatusCode::NOT_MODIFIED if headers.contains_key(header::IF_NONE_MATCH) => {
                    return Ok(answer);
                }
                StatusCode::UNAUTHORIZED if challenges < CHALLENGES => {
                    challenges += 1;
                    let asked_for = Challenge::all(answer.headers());
                    let next = self
                        .authorization
                        .answer(&self.client, &asked_for, scope, shown.as_ref())
                        .await?;
                    match next {
                        Some(next) => shown = Some(next),
                        None => return Err(refused(&self.asked(), answer).await),
                    }
                }
                _ => return Err(refused(&self.asked(), answer).await),
            }
        }
    }
}

/// A request.
struct Question<'a> {
    method: Method,
    url: &'a str,
    /// What a token must allow, as token services know it; several with a space between.
    scope: &'a str,
    headers: HeaderMap,
    body: Bytes,
}

fn accepting(media_types: &[&'static str]) -> HeaderMap {
    let values = media_types.iter().copied().map(HeaderValue::from_static);
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(header::ACCEPT, value);
    }
    headers
}

fn told_digest(answer: &Response) -> Option<Digest> {
    let value = answer.headers().get(DOCKER_CONTENT_DIGEST)?;
    value.to_str().ok()?.parse().ok()
}

/// A query with its question mark, or nothing.
fn query(pairs: impl Iterator<Item = (&'static str, String)>) -> String {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, NON_ALPHANUMERIC)))
        .collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

/// The query of the next part (`Link`, RFC 8288). Nothing else of the link is used: it could lead
/// anywhere.
fn next_query(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let (target, _) = link.trim_start().strip_prefix('<')?.split_once('>')?;
    let (_, query) = target.split_once('?')?;
    Some(format!("?{query}"))
}
