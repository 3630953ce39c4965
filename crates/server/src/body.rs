//! The bodies of answers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use wharfinger_registry::Content;
use wharfinger_storage::Reader;

use crate::file_body::FileBody;
use crate::mapping::Mappings;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// Bytes in memory.
    Full(Bytes),
    /// A part of a file.
    File(FileBody),
    /// A part of a stream.
    Stream(StreamBody),
}

impl Body {
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        Self::Full(bytes.into())
    }

    /// The bytes of a blob's part, for a connection that can send `files`, or cannot.
    pub(crate) fn content(content: Content, files: Option<&Mappings>) -> Self {
        match content {
            Content::Bytes(bytes) => Self::Full(bytes),
            Content::File { file, range } => Self::File(FileBody::new(file, range, files)),
            Content::Stream { reader, length } => Self::Stream(StreamBody { reader, length }),
        }
    }

    fn left(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Full(bytes) => bytes.len() as u64,
            Self::File(file) => file.left(),
            Self::Stream(stream) => stream.length,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut *self {
            Self::Empty => None,
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                if bytes.is_empty() {
                    None
                } else {
                    Some(Ok(bytes))
                }
            }
            Self::File(file) => ready!(file.poll_next(context)),
            Self::Stream(stream) => ready!(stream.poll_next(context)),
        };
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

/// The first `length` bytes of a stream.
#[derive(derive_more::Debug)]
pub(crate) struct StreamBody {
    #[debug(skip)]
    reader: Reader,
    length: u64,
}

impl StreamBody {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.length == 0 {
            return Poll::Ready(None);
        }
        let piece = match ready!(self.reader.as_mut().poll_next(context)) {
            None => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Err(error)) => Err(io::Error::other(error)),
            Some(Ok(mut bytes)) => {
                bytes.truncate(usize::try_from(self.length).unwrap_or(usize::MAX));
                self.length -= bytes.len() as u64;
                Ok(bytes)
            }
        };
        Poll::Ready(Some(piece))
    }
}
