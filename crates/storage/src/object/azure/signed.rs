//! The requests that `object_store` does not have, signed by its means.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, Method};
use object_store::Result;
use object_store::azure::{
    AzureAuthorizer, AzureCredential, AzureCredentialProvider, MicrosoftAzure,
};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use object_store::list::PaginatedListOptions;
use object_store::path::Path;
use percent_encoding::utf8_percent_encode;
use serde::Deserialize;

use super::super::bucket::{Object, Page};
use super::super::requests::{Answer, KEY, Requests, VALUE};
use super::{AzureOptions, STORE};

/// Sends requests that are signed here.
#[derive(Debug)]
pub(super) struct Signed {
    account: String,
    /// Where the account's blobs are.
    service: String,
    /// The address of the container.
    address: String,
    credentials: AzureCredentialProvider,
    requests: Requests,
}

/// How far a copy has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CopyState {
    Done,
    /// It goes on, under this id.
    Pending(String),
    /// It ended before it was done, for this reason.
    Failed(String),
}

impl CopyState {
    fn of(answer: &Answer) -> Option<Self> {
        let text = |name: &str| answer.headers.get(name)?.to_str().ok().map(str::to_owned);
        let status = text("x-ms-copy-status");
        Some(match status.as_deref() {
            Some("success") => Self::Done,
            Some("pending") => Self::Pending(text("x-ms-copy-id")?),
            Some(other) => {
                let description = text("x-ms-copy-status-description").unwrap_or_default();
                Self::Failed(format!("{other} {description}").trim_end().to_owned())
            }
            None => return None,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BlobList {
    blobs: Blobs,
    #[serde(default)]
    next_marker: String,
}

/// Blobs and prefixes, which stand among each other.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blobs {
    #[serde(default, rename = "Blob")]
    blobs: Vec<Blob>,
    #[serde(default, rename = "BlobPrefix")]
    prefixes: Vec<BlobPrefix>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Blob {
    name: String,
    properties: BlobProperties,
}

#[derive(Debug, Deserialize)]
struct BlobPrefix {
    #[serde(rename = "Name")]
    name: String,
}

#[derive(Debug, Deserialize)]
struct BlobProperties {
    #[serde(rename = "Last-Modified")]
    modified: String,
    #[serde(rename = "Content-Length")]
    size: u64,
    /// `directory` where folders are more than what names have in common.
    #[serde(rename = "ResourceType")]
    resource: Option<String>,
}

impl BlobList {
    /// What comes behind `offset`: Azure begins with the offset itself, and Azurite at the
    /// beginning.
    fn page(self, offset: Option<&str>) -> Option<(Page, Option<String>)> {
        let offset = offset.unwrap_or_default();
        let mut page = Page::default();
        for blob in self.blobs.blobs {
            let is_file = blob.properties.resource.as_deref() != Some("directory");
            if is_file && blob.name.as_str() > offset {
                page.objects.push(Object {
                    key: blob.name,
                    size: blob.properties.size,
                    modified: time(&blob.properties.modified)?,
                });
            }
        }
        for prefix in self.blobs.prefixes {
            let name = prefix.name.strip_suffix('/').unwrap_or(&prefix.name);
            if prefix.name.as_str() > offset {
                page.folders.push(name.to_owned());
            }
        }
        let marker = Some(self.next_marker).filter(|marker| !marker.is_empty());
        Some((page, marker))
    }
}

fn time(text: &str) -> Option<SystemTime> {
    let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
    Some(zoned.timestamp().into())
}

/// A request that is not signed yet.
#[derive(Default)]
struct Unsigned<'a> {
    method: Method,
    /// Whether it is about the account, not about the container or a blob.
    is_of_account: bool,
    key: &'a str,
    query: &'a [(&'a str, &'a str)],
    headers: &'a [(&'static str, &'a str)],
    body: &'a str,
}

impl Signed {
    pub(super) fn new(options: &AzureOptions, store: &MicrosoftAzure, client: HttpClient) -> Self {
        let service = options.service.trim_end_matches('/');
        Self {
            account: options.account.clone(),
            service: service.to_owned(),
            address: format!("{service}/{}", options.container),
            credentials: store.credentials().clone(),
            requests: Requests::new(client, options.retries, STORE),
        }
    }

    /// A page of the names that start with `prefix`, and the marker of the next one (List Blobs).
    pub(super) async fn list(
        &self,
        prefix: &str,
        options: &PaginatedListOptions,
    ) -> Result<(Page, Option<String>)> {
        let most = options.max_keys.map(|most| most.to_string());
        let mut query = vec![
            ("restype", "container"),
            ("comp", "list"),
            ("prefix", prefix),
        ];
        query.extend(options.delimiter.as_deref().map(|mark| ("delimiter", mark)));
        query.extend(most.as_deref().map(|most| ("maxresults", most)));
        match (&options.page_token, &options.offset) {
            (Some(marker), _) => query.push(("marker", marker)),
            (None, Some(offset)) => query.push(("startFrom", offset)),
            (None, None) => {}
        }
        let request = Unsigned {
            query: &query,
            ..Unsigned::default()
        };
        let read = |answer: &Answer| {
            let list: BlobList = quick_xml::de::from_reader(answer.body.as_ref()).ok()?;
            list.page(options.offset.as_deref())
        };
        self.send(request, read).await
    }

    /// Whether the account has a hierarchical namespace (Get Account Information).
    pub(super) async fn has_folders(&self) -> Result<bool> {
        let request = Unsigned {
            method: Method::HEAD,
            is_of_account: true,
            query: &[("restype", "account"), ("comp", "properties")],
            ..Unsigned::default()
        };
        let read = |answer: &Answer| {
            let told = answer.headers.get("x-ms-is-hns-enabled");
            Some(told.is_some_and(|told| told == "true"))
        };
        self.send(request, read).await
    }

    /// Begins to copy a blob (Copy Blob).
    pub(super) async fn copy(&self, from: &Path, to: &Path) -> Result<CopyState> {
        let mut source = self.address_of(from.as_ref());
        // Who asks by a token in the address may read the source by it only.
        if let AzureCredential::SASToken(pairs) = &*self.credentials.get_credential().await? {
            let pairs = pairs.iter().map(|(name, value)| pair(name, value));
            source = format!("{source}?{}", pairs.collect::<Vec<_>>().join("&"));
        }
        let request = Unsigned {
            method: Method::PUT,
            key: to.as_ref(),
            headers: &[("x-ms-copy-source", &source)],
            ..Unsigned::default()
        };
        self.send(request, CopyState::of).await
    }

    /// How far the last copy to a blob has got (Get Blob Properties).
    pub(super) async fn copy_state(&self, of: &Path) -> Result<CopyState> {
        let request = Unsigned {
            method: Method::HEAD,
            key: of.as_ref(),
            ..Unsigned::default()
        };
        // One that was written since says nothing of a copy.
        let read = |answer: &Answer| CopyState::of(answer).or(Some(CopyState::Done));
        self.send(request, read).await
    }

    /// Ends a copy that is not done (Abort Copy Blob).
    pub(super) async fn abort_copy(&self, to: &Path, id: &str) -> Result<()> {
        let request = Unsigned {
            method: Method::PUT,
            key: to.as_ref(),
            query: &[("comp", "copy"), ("copyid", id)],
            headers: &[("x-ms-copy-action", "abort")],
            ..Unsigned::default()
        };
        self.send(request, |_| Some(())).await
    }

    /// Removes a blob (Delete Blob).
    pub(super) async fn delete(&self, key: &Path) -> Result<()> {
        let request = Unsigned {
            method: Method::DELETE,
            key: key.as_ref(),
            ..Unsigned::default()
        };
        self.send(request, |_| Some(())).await
    }

    /// Makes a blob of blocks (Put Block List), whether it has been made of them before or not.
    pub(super) async fn put_block_list(&self, key: &Path, blocks: &[String]) -> Result<()> {
        let mut list = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
        for block in blocks {
            // `object_store` names blocks by texts, which stand in requests encoded.
            list.push_str(&format!("<Latest>{}</Latest>", STANDARD.encode(block)));
        }
        list.push_str("</BlockList>");
        let request = Unsigned {
            method: Method::PUT,
            key: key.as_ref(),
            query: &[("comp", "blocklist")],
            headers: &[("x-ms-blob-content-type", "application/octet-stream")],
            body: &list,
            ..Unsigned::default()
        };
        self.send(request, |_| Some(())).await
    }

    /// The address of a blob, or without a name of the container.
    fn address_of(&self, key: &str) -> String {
        let slash = if key.is_empty() { "" } else { "/" };
        let key = utf8_percent_encode(key, KEY);
        format!("{}{slash}{key}", self.address)
    }

    async fn send<T>(
        &self,
        request: Unsigned<'_>,
        read: impl Fn(&Answer) -> Option<T>,
    ) -> Result<T> {
        let make = async || self.sign(&request).await;
        self.requests.send(request.key, make, read).await
    }

    async fn sign(&self, unsigned: &Unsigned<'_>) -> Result<HttpRequest> {
        let pairs = unsigned.query.iter().map(|(name, value)| pair(name, value));
        let query = pairs.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        let place = match unsigned.is_of_account {
            true => self.service.clone(),
            false => self.address_of(unsigned.key),
        };
        let address = format!("{place}{mark}{query}");
        let wrong = |error: http::Error| self.requests.error(error);
        let mut request = HttpRequest::new(HttpRequestBody::from(unsigned.body.to_owned()));
        *request.method_mut() = unsigned.method.clone();
        *request.uri_mut() = address
            .parse()
            .map_err(|error: http::uri::InvalidUri| wrong(error.into()))?;
        let length = HeaderValue::from(unsigned.body.len());
        let headers = request.headers_mut();
        headers.insert(http::header::CONTENT_LENGTH, length);
        for (name, value) in unsigned.headers {
            let value = HeaderValue::from_str(value).map_err(|error| wrong(error.into()))?;
            headers.insert(*name, value);
        }
        let credential = self.credentials.get_credential().await?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        Ok(request)
    }
}

fn pair(name: &str, value: &str) -> String {
    format!("{name}={}", utf8_percent_encode(value, VALUE))
}
