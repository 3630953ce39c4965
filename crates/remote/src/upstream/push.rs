//! Pushing to another registry (OCI distribution specification, "Push").

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url};
use wharfinger_oci::{Digest, Reference, RepositoryName, Tag};

use super::{Question, Upstream, told_digest};
use crate::UpstreamError;

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const OCI_CHUNK_MIN_LENGTH: HeaderName = HeaderName::from_static("oci-chunk-min-length");

/// An upload that has begun at an upstream.
#[derive(Clone, Debug)]
pub struct RemoteUpload {
    location: Url,
    /// How many bytes it has, as far as was told.
    pub offset: u64,
    /// The least bytes that a chunk must have which is not the last; 0 for any.
    pub smallest_chunk: u64,
}

/// What became of a blob that another repository there may have.
#[derive(Clone, Debug)]
pub enum Mounted {
    /// It is there.
    Done,
    /// It is not, but this upload has begun.
    Not(RemoteUpload),
}

/// A manifest that was taken.
#[derive(Clone, Debug)]
pub struct PushedManifest {
    /// Whether the upstream has noted it among the referrers of its subject.
    pub is_noted: bool,
}

impl Upstream {
    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// When the upstream does not say.
    pub async fn has_blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, UpstreamError> {
        self.has(name, &format!("blobs/{digest}"), HeaderMap::new())
            .await
    }

    /// Whether a repository has a manifest.
    ///
    /// # Errors
    /// When the upstream does not say.
    pub async fn has_manifest(
        &self,
        name: &RepositoryName,
        digest: &Digest,
    ) -> Result<bool, UpstreamError> {
        let headers = super::accepting(&super::MANIFESTS);
        self.has(name, &format!("manifests/{digest}"), headers)
            .await
    }

    async fn has(
        &self,
        name: &RepositoryName,
        path: &str,
        headers: HeaderMap,
    ) -> Result<bool, UpstreamError> {
        match self.ask(name, Method::HEAD, path, headers).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_unknown() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Has a blob of another repository, or else begins an upload.
    ///
    /// # Errors
    /// When the upstream does neither.
    pub async fn mount(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: &RepositoryName,
    ) -> Result<Mounted, UpstreamError> {
        let pairs = [("mount", digest.to_string()), ("from", from.to_string())];
        let query = super::query(pairs.into_iter());
        let scope = format!("repository:{name}:pull,push repository:{from}:pull");
        let answer = self.begin(name, &query, &scope).await?;
        match answer.status() {
            StatusCode::CREATED => Ok(Mounted::Done),
            _ => self.upload_of(&answer).map(Mounted::Not),
        }
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// When the upstream takes none.
    pub async fn begin_upload(&self, name: &RepositoryName) -> Result<RemoteUpload, UpstreamError> {
        let scope = self.scope(name);
        let answer = self.begin(name, "", &scope).await?;
        self.upload_of(&answer)
    }

    async fn begin(
        &self,
        name: &RepositoryName,
        query: &str,
        scope: &str,
    ) -> Result<Response, UpstreamError> {
        self.send(Question {
            method: Method::POST,
            url: &format!("{}v2/{name}/blobs/uploads/{query}", self.base),
            scope,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })
        .await
    }

    fn upload_of(&self, answer: &Response) -> Result<RemoteUpload, UpstreamError> {
        let smallest = answer.headers().get(OCI_CHUNK_MIN_LENGTH);
        let smallest = smallest.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(RemoteUpload {
            location: self.location(answer)?,
            offset: 0,
            smallest_chunk: smallest.unwrap_or_default(),
        })
    }

    /// Appends bytes to an upload. After an error, [`Upstream::find_offset`] tells how many of them
    /// have come.
    ///
    /// # Errors
    /// When the upstream does not take them.
    pub async fn append(
        &self,
        name: &RepositoryName,
        upload: &mut RemoteUpload,
        bytes: Bytes,
    ) -> Result<(), UpstreamError> {
        let end = upload.offset + bytes.len() as u64;
        let range = format!("{}-{}", upload.offset, end.saturating_sub(1));
        let mut headers = octets();
        headers.extend(
            HeaderValue::from_str(&range)
                .ok()
                .map(|range| (header::CONTENT_RANGE, range)),
        );
        let answer = self
            .send(Question {
                method: Method::PATCH,
                url: upload.location.as_str(),
                scope: &self.scope(name),
                headers,
                body: bytes,
            })
            .await?;
        upload.location = self.location(&answer)?;
        upload.offset = end;
        Ok(())
    }

    /// Asks how many bytes of an upload have come.
    ///
    /// # Errors
    /// When the upstream does not know it any more, or does not say.
    pub async fn find_offset(
        &self,
        name: &RepositoryName,
        upload: &mut RemoteUpload,
    ) -> Result<(), UpstreamError> {
        let answer = self
            .send(Question {
                method: Method::GET,
                url: upload.location.as_str(),
                scope: &self.scope(name),
                headers: HeaderMap::new(),
                body: Bytes::new(),
            })
            .await?;
        let range = answer.headers().get(header::RANGE);
        let last: Option<u64> = range.and_then(|range| {
            let (_, last) = range.to_str().ok()?.rsplit_once('-')?;
            last.parse().ok()
        });
        // `0-0` stands for no byte as well as for one: nothing is lost by taking it for none, as
        // nobody sends chunks of one byte.
        upload.offset = match last {
            Some(0) => 0,
            Some(last) => last + 1,
            None => return Err(self.wrong("it does not say how much of an upload it has")),
        };
        if let Ok(location) = self.location(&answer) {
            upload.location = location;
        }
        Ok(())
    }

    /// Appends the last bytes, and has the blob.
    ///
    /// # Errors
    /// When the upstream does not take it: its bytes may not be those of the digest.
    pub async fn finish_upload(
        &self,
        name: &RepositoryName,
        upload: &RemoteUpload,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), UpstreamError> {
        let mut url = upload.location.clone();
        url.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let question = Question {
            method: Method::PUT,
            url: url.as_str(),
            scope: &self.scope(name),
            headers: octets(),
            body: bytes,
        };
        self.send(question).await.map(|_| ())
    }

    /// Puts a manifest, which has a digest, under that or a tag.
    ///
    /// # Errors
    /// When the upstream does not take it, or takes it for another.
    pub async fn push_manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        digest: &Digest,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<PushedManifest, UpstreamError> {
        let mut headers = HeaderMap::new();
        headers.extend(
            HeaderValue::from_str(media_type)
                .ok()
                .map(|media_type| (header::CONTENT_TYPE, media_type)),
        );
        let answer = self
            .send(Question {
                method: Method::PUT,
                url: &format!("{}v2/{name}/manifests/{reference}", self.base),
                scope: &self.scope(name),
                headers,
                body: bytes,
            })
            .await?;
        if let Some(told) = told_digest(&answer)
            && told.algorithm() == digest.algorithm()
            && told != *digest
        {
            let reason = format!("it keeps {name}, {reference} as {told}, not as {digest}");
            return Err(self.wrong(reason));
        }
        let is_noted = answer.headers().contains_key(OCI_SUBJECT);
        Ok(PushedManifest { is_noted })
    }

    /// Removes a tag.
    ///
    /// # Errors
    /// When the upstream does not: not every registry can.
    pub async fn remove_tag(&self, name: &RepositoryName, tag: &Tag) -> Result<(), UpstreamError> {
        self.send(Question {
            method: Method::DELETE,
            url: &format!("{}v2/{name}/manifests/{tag}", self.base),
            scope: &format!("repository:{name}:delete"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
        })
        .await
        .map(|_| ())
    }

    pub(super) fn scope(&self, name: &RepositoryName) -> String {
        format!("repository:{name}:{}", self.actions)
    }

    /// Where an upload goes on. It must be this upstream: bytes and credentials go there.
    fn location(&self, answer: &Response) -> Result<Url, UpstreamError> {
        let location = answer.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok());
        let location = location.and_then(|text| answer.url().join(text).ok());
        match location {
            Some(mut url) if url.host_str() == self.base.host_str() => {
                // One behind a proxy may not know by which scheme and port it is reached.
                if url.origin() != self.base.origin() {
                    let _ = url.set_scheme(self.base.scheme());
                    let _ = url.set_port(self.base.port());
                }
                Ok(url)
            }
            Some(_) => Err(self.wrong("an upload is to go on at another host")),
            None => Err(self.wrong("it does not say where an upload goes on")),
        }
    }
}

fn octets() -> HeaderMap {
    let octets = HeaderValue::from_static("application/octet-stream");
    HeaderMap::from_iter([(header::CONTENT_TYPE, octets)])
}
