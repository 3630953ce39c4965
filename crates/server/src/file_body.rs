//! A part of a file as a body: what the kernel has in memory is read on the spot, the rest on
//! threads that may block.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};

/// How much of a file is read at once: little enough to be still in the processor's cache when it
/// goes to the socket.
const PIECE: usize = 256 * 1024;

/// The body.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    /// What has not been handed on yet.
    rest: Range<u64>,
    buffers: Buffers,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Whether the filesystem can read without waiting.
    at_once: bool,
}

impl FileBody {
    pub(crate) fn new(file: File, range: Range<u64>) -> Self {
        Self {
            file: Arc::new(file),
            rest: range,
            buffers: Buffers::default(),
            reading: None,
            at_once: true,
        }
    }

    /// How many bytes have not been handed on yet.
    pub(crate) fn left(&self) -> u64 {
        self.rest.end - self.rest.start
    }

    /// The next piece.
    ///
    /// # Errors
    /// `UnexpectedEof` for a file that has become shorter: the connection must break then, so that
    /// the client does not take a part for the whole.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        if self.left() == 0 {
            return Poll::Ready(None);
        }
        if self.reading.is_none() {
            let wanted = usize::try_from(self.left()).map_or(PIECE, |left| left.min(PIECE));
            let mut buffer = self.buffers.take(wanted);
            match self.read_at_once(&mut buffer[..wanted]) {
                Some(Ok(length)) => {
                    let piece = self.buffers.lend(buffer, length);
                    self.rest.start += length as u64;
                    return Poll::Ready(Some(Ok(piece)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {}
            }
            let (file, at) = (Arc::clone(&self.file), self.rest.start);
            let buffers = self.buffers.clone();
            self.reading = Some(spawn_blocking(move || {
                let length = read(&file, at, &mut buffer[..wanted])?;
                Ok(buffers.lend(buffer, length))
            }));
        }
        let reading = self.reading.as_mut().expect("it was just begun");
        let piece = ready!(Pin::new(reading).poll(context))
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.reading = None;
        if let Ok(bytes) = &piece {
            self.rest.start += bytes.len() as u64;
        }
        Poll::Ready(Some(piece))
    }

    /// Reads what is in memory; `None` when a thread must wait for it.
    fn read_at_once(&mut self, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        if !self.at_once {
            return None;
        }
        let mut slices = [IoSliceMut::new(buffer)];
        match preadv2(
            &self.file,
            &mut slices,
            self.rest.start,
            ReadWriteFlags::NOWAIT,
        ) {
            Ok(0) => Some(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(length) => Some(Ok(length)),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.at_once = false;
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }
}

fn read(file: &File, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match pread(file, &mut *buffer, at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => return Ok(length),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The buffer of a body, which comes back when its bytes have been sent: fresh memory for every
/// piece would cost more than the copying.
#[derive(Clone, Debug, Default)]
struct Buffers(Arc<Mutex<Option<Box<[u8]>>>>);

impl Buffers {
    /// A buffer of at least `wanted` bytes, which never grows from piece to piece.
    fn take(&self, wanted: usize) -> Box<[u8]> {
        let back = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        back.unwrap_or_else(|| vec![0; wanted].into())
    }

    /// The first `length` bytes of a buffer, which comes back afterwards.
    fn lend(&self, buffer: Box<[u8]>, length: usize) -> Bytes {
        let lent = Lent {
            buffer,
            length,
            home: self.clone(),
        };
        Bytes::from_owner(lent)
    }
}

/// A buffer on its way to a client.
struct Lent {
    buffer: Box<[u8]>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        *self.home.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(buffer);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    async fn all(body: &mut FileBody) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(piece) = std::future::poll_fn(|context| body.poll_next(context)).await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(bytes)
    }

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_read_on_the_spot_and_on_threads() {
        let content: Vec<u8> = (0..3 * PIECE + 7).map(|at| (at % 251) as u8).collect();
        for at_once in [true, false] {
            for range in [
                0..content.len(),
                1..2,
                PIECE..2 * PIECE,
                5..3 * PIECE + 6,
                9..9,
            ] {
                let part = range.start as u64..range.end as u64;
                let mut body = FileBody::new(file(&content), part);
                body.at_once = at_once;
                assert_eq!(all(&mut body).await.unwrap(), content[range]);
                assert_eq!(body.left(), 0);
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error() {
        for at_once in [true, false] {
            let mut body = FileBody::new(file(b"short"), 0..6);
            body.at_once = at_once;
            let error = all(&mut body).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn pieces_that_are_kept_are_not_overwritten() {
        let content: Vec<u8> = (0..3 * PIECE).map(|at| (at / PIECE) as u8).collect();
        let mut body = FileBody::new(file(&content), 0..content.len() as u64);
        let mut kept = Vec::new();
        while let Some(piece) = std::future::poll_fn(|context| body.poll_next(context)).await {
            kept.push(piece.unwrap());
        }
        assert_eq!(kept.concat(), content);
    }
}
