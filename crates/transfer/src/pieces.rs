//! Content as a stream of pieces of bounded size, wherever it lies.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::task::spawn_blocking;
use wharfinger_registry::Content;

use crate::Fault;

/// How many bytes a piece that is read here has at most.
const PIECE: u64 = 1 << 20;

/// Some content's bytes, in order.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// A part of a file.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) file: Arc<File>,
    pub(crate) range: Range<u64>,
}

impl Extent {
    pub(crate) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// All of it, which the caller knows to be small. Blocks.
    pub(crate) fn read(&self) -> io::Result<Bytes> {
        let length = usize::try_from(self.len()).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, self.range.start)?;
        Ok(bytes.into())
    }

    /// Its bytes; `place` is what errors call it.
    pub(crate) fn pieces(self, place: String) -> Pieces {
        Box::pin(stream::try_unfold(self, move |mut rest| {
            let place = place.clone();
            async move {
                if rest.range.is_empty() {
                    return Ok(None);
                }
                let end = rest.range.end.min(rest.range.start + PIECE);
                let piece = Self {
                    file: Arc::clone(&rest.file),
                    range: rest.range.start..end,
                };
                rest.range.start = end;
                let read = spawn_blocking(move || piece.read()).await;
                let bytes = read.map_err(io::Error::other).flatten();
                match bytes {
                    Ok(bytes) => Ok(Some((bytes, rest))),
                    Err(error) => Err(Fault::Unreadable {
                        place,
                        reason: error.to_string(),
                    }),
                }
            }
        }))
    }

    /// Reads it from its start on. Blocks.
    pub(crate) fn reader(&self) -> impl io::Read {
        ExtentReader(self.clone())
    }
}

struct ExtentReader(Extent);

impl io::Read for ExtentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Extent { file, range } = &mut self.0;
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let read = file.read_at(&mut buffer[..length], range.start)?;
        if read == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        range.start += read as u64;
        Ok(read)
    }
}

/// The bytes of a registry's content; `place` is what errors call it.
pub(crate) fn of_content(content: Content, place: String) -> Pieces {
    match content {
        Content::Bytes(bytes) => Box::pin(stream::iter([Ok(bytes)])),
        Content::File { file, range } => {
            let file = Arc::new(file);
            Extent { file, range }.pieces(place)
        }
        Content::Stream { reader, length } => {
            let state = (reader, length);
            Box::pin(stream::try_unfold(state, move |(mut reader, left)| {
                let place = place.clone();
                async move {
                    if left == 0 {
                        return Ok(None);
                    }
                    let unreadable = |reason: String| Fault::Unreadable { place, reason };
                    match reader.next().await {
                        Some(Ok(mut bytes)) => {
                            bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                            let left = left - bytes.len() as u64;
                            Ok(Some((bytes, (reader, left))))
                        }
                        Some(Err(error)) => Err(unreadable(error.to_string())),
                        None => Err(unreadable(format!("{left} bytes are missing at its end"))),
                    }
                }
            }))
        }
    }
}
