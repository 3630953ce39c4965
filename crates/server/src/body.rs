//! The bodies of answers.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::buffer::spare_capacity;
use tokio::task::{JoinHandle, spawn_blocking};
use wharfinger_registry::Content;
use wharfinger_storage::Reader;

/// How much of a file is read at once. One piece is read ahead while another is sent.
const PIECE: u64 = 256 * 1024;

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

    /// The bytes of a blob's part.
    pub(crate) fn content(content: Content) -> Self {
        match content {
            Content::Bytes(bytes) => Self::Full(bytes),
            Content::File { file, range } => Self::File(FileBody::new(file, range)),
            Content::Stream { reader, length } => Self::Stream(StreamBody { reader, length }),
        }
    }

    fn left(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Full(bytes) => bytes.len() as u64,
            Self::File(file) => file.left,
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

/// A part of a file, read in pieces on threads that may block.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    /// What has not been asked for yet.
    ahead: Range<u64>,
    /// How many bytes have not been handed on yet.
    left: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    fn new(file: File, range: Range<u64>) -> Self {
        let left = range.end - range.start;
        let mut body = Self {
            file: Arc::new(file),
            ahead: range,
            left,
            reading: None,
        };
        body.read_ahead();
        body
    }

    fn read_ahead(&mut self) {
        let start = self.ahead.start;
        let length = PIECE.min(self.ahead.end - start);
        self.ahead.start += length;
        self.reading = (length > 0).then(|| {
            let file = Arc::clone(&self.file);
            spawn_blocking(move || read_piece(&file, start, length))
        });
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(None);
        };
        let piece = ready!(Pin::new(reading).poll(context))
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.reading = None;
        if let Ok(bytes) = &piece {
            self.left -= bytes.len() as u64;
            self.read_ahead();
        }
        Poll::Ready(Some(piece))
    }
}

/// # Errors
/// `UnexpectedEof` for a file that has become shorter: the connection must break then, so that the
/// client does not take a part for the whole.
fn read_piece(file: &File, start: u64, length: u64) -> io::Result<Bytes> {
    let mut piece = Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?);
    while (piece.len() as u64) < length {
        let at = start + piece.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut piece), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocation may be larger than was asked for.
    piece.truncate(usize::try_from(length).map_err(io::Error::other)?);
    Ok(piece.into())
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
