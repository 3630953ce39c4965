//! The bytes of a blob on their way from an upstream.

use bytes::Bytes;
use http::{StatusCode, header};
use prometheus_client::metrics::counter::Counter;
use reqwest::Response;

use super::answer::Asked;
use crate::UpstreamError;

/// The bytes of a blob, from some offset on.
#[derive(Debug)]
pub struct BlobStream {
    upstream: String,
    response: Response,
    size: Option<u64>,
    /// How many bytes come that were not asked for.
    skip: u64,
    bytes: Counter,
}

impl BlobStream {
    /// What an upstream answers that was asked for all behind the first `from` bytes.
    pub(super) fn new(
        upstream: &str,
        response: Response,
        from: u64,
        bytes: Counter,
    ) -> Result<Self, UpstreamError> {
        let text = |name| response.headers().get(name)?.to_str().ok();
        let (size, skip) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let part = text(header::CONTENT_RANGE).and_then(|part: &str| {
                    let (range, size) = part.strip_prefix("bytes ")?.split_once('/')?;
                    let (start, _) = range.split_once('-')?;
                    Some((start.parse::<u64>().ok()?, size.parse().ok()))
                });
                match part {
                    Some((start, size)) if start == from => (size, 0),
                    _ => {
                        let asked = Asked { upstream };
                        return Err(asked.wrong("it gives another part than it was asked for"));
                    }
                }
            }
            // It knows no ranges.
            _ => (
                text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok()),
                from,
            ),
        };
        Ok(Self {
            upstream: upstream.to_owned(),
            size,
            skip,
            response,
            bytes,
        })
    }

    /// The size of the whole blob, where the upstream says it.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, UpstreamError> {
        let asked = Asked {
            upstream: &self.upstream,
        };
        loop {
            let piece = self.response.chunk().await;
            let Some(mut piece) = piece.map_err(|error| asked.failed(error))? else {
                return Ok(None);
            };
            self.bytes.inc_by(piece.len() as u64);
            let skipped = self.skip.min(piece.len() as u64);
            self.skip -= skipped;
            piece = piece.slice(usize::try_from(skipped).unwrap_or(piece.len())..);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
    }
}
