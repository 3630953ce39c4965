//! Errors as clients see them: `{"errors":[{"code","message","detail"}]}` (OCI distribution
//! specification, "Error Codes"). The one place where an error gets its status.

use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::{error, info, warn};
use wharfinger_oci::manifest::ManifestError;
use wharfinger_proxy::{CachedRepository, Error as ProxyError, Misdirected};
use wharfinger_registry::Error as RegistryError;
use wharfinger_remote::{Refusal, UpstreamError};

use crate::answer::empty;
use crate::body::Body;
use crate::request_body::BodyError;

/// A code and the status it goes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    name: &'static str,
    status: StatusCode,
    message: &'static str,
}

macro_rules! codes {
    ($($name:ident $status:ident $message:literal)*) => {
        impl Code {
            const ALL: &[Self] = &[$(Self::$name),*];

            $(pub(crate) const $name: Self = Self {
                name: stringify!($name),
                status: StatusCode::$status,
                message: $message,
            };)*
        }
    };
}

codes! {
    UNKNOWN INTERNAL_SERVER_ERROR "the registry failed; its log says why"
    UNAUTHORIZED UNAUTHORIZED "the request needs credentials, or others than it has"
    DENIED FORBIDDEN "the registry does not allow this"
    UNSUPPORTED METHOD_NOT_ALLOWED "the operation is not supported"
    UNAVAILABLE SERVICE_UNAVAILABLE "the registry cannot do this now"
    TOOMANYREQUESTS TOO_MANY_REQUESTS "this is more than the client may do at once"
    DIGEST_INVALID BAD_REQUEST "the digest is not that of the content, or is none"
    SIZE_INVALID BAD_REQUEST "the length is not that of the content"
    RANGE_INVALID RANGE_NOT_SATISFIABLE "the range does not fit"
    NAME_INVALID BAD_REQUEST "this is not a repository name"
    TAG_INVALID BAD_REQUEST "this is not a tag"
    NAME_UNKNOWN NOT_FOUND "the registry has no such repository"
    MANIFEST_UNKNOWN NOT_FOUND "the repository has no such manifest"
    MANIFEST_INVALID BAD_REQUEST "the manifest is not acceptable"
    MANIFEST_UNVERIFIED BAD_REQUEST "the manifest's signatures do not verify"
    MANIFEST_BLOB_UNKNOWN BAD_REQUEST "the manifest refers to content that has not been pushed"
    BLOB_UNKNOWN NOT_FOUND "the repository has no such blob"
    BLOB_UPLOAD_UNKNOWN NOT_FOUND "the repository has no such upload"
    BLOB_UPLOAD_INVALID NOT_FOUND "the upload cannot go on"
    PAGINATION_NUMBER_INVALID BAD_REQUEST "this is not an acceptable number of entries"
}

#[derive(Clone, Debug, Serialize)]
struct Item {
    code: &'static str,
    message: String,
    detail: Value,
}

/// An error on its way to a client.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    items: Vec<Item>,
    headers: Vec<(http::HeaderName, HeaderValue)>,
}

/// The result of a handler.
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// An error with the code's own message.
    pub(crate) fn new(code: Code) -> Self {
        Self::with(code, Value::Null)
    }

    /// An error with a detail: what exactly it is about.
    pub(crate) fn with(code: Code, detail: impl Into<Value>) -> Self {
        let item = Item {
            code: code.name,
            message: code.message.to_owned(),
            detail: detail.into(),
        };
        Self {
            status: code.status,
            items: vec![item],
            headers: Vec::new(),
        }
    }

    /// An error with a message of its own, for the person at the client: most clients show it, and
    /// none the detail.
    pub(crate) fn says(code: Code, message: impl Into<String>) -> Self {
        let mut error = Self::new(code);
        error.items[0].message = message.into();
        error
    }

    /// An error about content of more than `most` bytes; `what` says of what.
    pub(crate) fn too_large(code: Code, what: &str, most: u64) -> Self {
        let message = format!("{what} may have at most {most} bytes in this registry");
        Self::says(code, message).status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    /// This error under another status than its code's.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// This error with a header.
    pub(crate) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// This error with an `Allow`, which every 405 must have (RFC 9110, section 15.5.6).
    pub(crate) fn or_allow(self, methods: &'static str) -> Self {
        let has = self.headers.iter().any(|(name, _)| name == header::ALLOW);
        if self.status == StatusCode::METHOD_NOT_ALLOWED && !has {
            self.header(header::ALLOW, HeaderValue::from_static(methods))
        } else {
            self
        }
    }

    pub(crate) fn into_response(self) -> Response<Body> {
        let body = serde_json::to_vec(&json!({ "errors": self.items })).unwrap_or_default();
        let mut response = empty(self.status);
        *response.body_mut() = Body::full(body);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl ApiError {
    /// Why a cache does not serve a repository.
    pub(crate) fn of_cache(error: ProxyError, repository: &CachedRepository) -> Self {
        match error {
            ProxyError::Registry(error) => error.into(),
            ProxyError::Upstream(UpstreamError::Refused { upstream, refusal }) => {
                info!(upstream, %refusal, "another registry refuses a request");
                refused(&refusal, repository)
            }
            // What these say is for the operator: names of hosts are no client's business.
            ProxyError::Upstream(error) => {
                warn!(%error, "a request for another registry failed");
                fails(repository)
            }
            error @ ProxyError::Spool(_) => {
                error!(%error, "a request failed");
                Self::new(Code::UNKNOWN)
            }
        }
    }
}

/// What clients may know another registry by: what it is called in the names of repositories.
fn known_as(repository: &CachedRepository) -> String {
    match repository.below() {
        Some(name) => format!("the registry that is cached as {:?}", name.as_str()),
        None => "the registry that this is a cache of".to_owned(),
    }
}

/// What a client is told of another registry that is not to be had.
fn fails(repository: &CachedRepository) -> ApiError {
    let message = format!("{} cannot be asked now", known_as(repository));
    ApiError::says(Code::UNAVAILABLE, message)
}

/// What an upstream's refusal becomes: its status and its code, as in Distribution, in our words.
/// What is no fault of the request is a failure of the upstream.
fn refused(refusal: &Refusal, repository: &CachedRepository) -> ApiError {
    // The credentials that a proxy wants are the registry's own, and none of the client's.
    let is_proxys = refusal.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    let error = if refusal.status.is_client_error() && !is_proxys {
        let told = refusal.code.as_deref();
        let known = Code::ALL.iter().find(|code| told == Some(code.name));
        let code = known.copied().unwrap_or(match refusal.status {
            StatusCode::UNAUTHORIZED => Code::UNAUTHORIZED,
            StatusCode::FORBIDDEN => Code::DENIED,
            StatusCode::NOT_FOUND => Code::NAME_UNKNOWN,
            StatusCode::TOO_MANY_REQUESTS => Code::TOOMANYREQUESTS,
            _ => Code::UNKNOWN,
        });
        let message = format!("{} refuses the request", known_as(repository));
        ApiError::says(code, message).status(refusal.status)
    } else {
        fails(repository)
    };
    match refusal.retry_after {
        None => error,
        Some(length) => {
            let seconds = length.as_secs().max(1);
            error.header(header::RETRY_AFTER, HeaderValue::from(seconds))
        }
    }
}

impl From<Misdirected> for ApiError {
    fn from(misdirected: Misdirected) -> Self {
        // containerd goes on to the next of the hosts that it knows for a registry.
        let code = match misdirected {
            Misdirected::Namespace(_) => Code::NAME_UNKNOWN,
            Misdirected::Name(_) => Code::NAME_INVALID,
        };
        Self::with(code, misdirected.to_string())
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        use RegistryError as E;
        let text = error.to_string();
        match error {
            E::NameUnknown(name) => {
                Self::with(Code::NAME_UNKNOWN, json!({ "name": name.as_str() }))
            }
            E::BlobUnknown(digest) => {
                Self::with(Code::BLOB_UNKNOWN, json!({ "digest": digest.to_string() }))
            }
            E::ManifestUnknown(reference) => {
                Self::with(Code::MANIFEST_UNKNOWN, json!({ "reference": reference }))
            }
            E::ManifestInvalid(ManifestError::Unverified(_)) => {
                Self::with(Code::MANIFEST_UNVERIFIED, text)
            }
            E::ManifestInvalid(ManifestError::TooLarge(_)) => {
                Self::with(Code::MANIFEST_INVALID, text).status(StatusCode::PAYLOAD_TOO_LARGE)
            }
            E::ManifestInvalid(_) | E::ManifestRefused(_) => {
                Self::with(Code::MANIFEST_INVALID, text)
            }
            E::ManifestReferencesUnknown(digests) => {
                let mut all = Self::new(Code::MANIFEST_BLOB_UNKNOWN);
                let item = all.items.remove(0);
                all.items.extend(digests.iter().map(|digest| Item {
                    detail: json!({ "digest": digest.to_string() }),
                    ..item.clone()
                }));
                all
            }
            E::UploadUnknown(_) => Self::with(Code::BLOB_UPLOAD_UNKNOWN, text),
            E::UploadInvalid(_) => Self::with(Code::BLOB_UPLOAD_INVALID, text),
            E::DigestMismatch { .. } => Self::with(Code::DIGEST_INVALID, text),
            E::Unsupported(_) | E::ReadOnly => Self::with(Code::UNSUPPORTED, text),
            E::Collecting | E::AlreadyCollecting => Self::with(Code::UNAVAILABLE, text),
            E::Body(source) => {
                warn!(error = %text, "a request's body broke off");
                let error = Self::with(Code::SIZE_INVALID, text);
                match source.downcast_ref() {
                    Some(BodyError::Timeout(_)) => error.status(StatusCode::REQUEST_TIMEOUT),
                    _ => error,
                }
            }
            E::Storage(ref storage) if storage.is_no_space() => {
                error!(error = %text, "the store is full");
                Self::with(Code::UNAVAILABLE, "the registry's store is full")
                    .status(StatusCode::INSUFFICIENT_STORAGE)
            }
            E::Storage(ref storage) if storage.is_refused() => {
                error!(error = %text, "the store refuses the operation");
                Self::with(
                    Code::UNAVAILABLE,
                    "the registry's store refuses the operation",
                )
            }
            // What these say is for the operator: paths and the like are no client's business.
            E::SignatureUnknown { .. } | E::Damaged { .. } | E::SigningKey(_) | E::Storage(_) => {
                error!(error = %text, "a request failed");
                Self::new(Code::UNKNOWN)
            }
        }
    }
}
