//! A part of a file as a body. A connection that can send files is given the file, piece by piece as
//! the kernel has it in memory. Others are given bytes: what the kernel has in memory is read on the
//! spot. What it has not is read on threads that may block.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::mapping::Mappings;

/// How much of a file is read at once: little enough to be still in the processor's cache when it
/// goes to the socket.
const PIECE: usize = 256 * 1024;

/// How much of a file the kernel is told to send at once: little enough for other connections not
/// to wait for it.
const SENT: usize = 2 * 1024 * 1024;

/// The body.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    /// What has not been handed on yet.
    rest: Range<u64>,
    way: Way,
    /// What a thread makes the next piece of.
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    /// Whether the filesystem can read without waiting.
    at_once: bool,
}

/// How pieces are made.
#[derive(derive_more::Debug)]
enum Way {
    /// They are read into a buffer.
    Read(Buffers),
    /// They are cut off what is mapped of the file.
    #[debug("Map")]
    Map(Bytes),
}

impl FileBody {
    /// A part of a file, for a connection that can send `files`, or cannot.
    pub(crate) fn new(file: File, range: Range<u64>, files: Option<&Mappings>) -> Self {
        let file = Arc::new(file);
        let mapped = files
            .filter(|_| !range.is_empty())
            .and_then(|files| files.map(&file, range.clone()).ok());
        Self {
            file,
            rest: range,
            way: match mapped {
                Some(mapped) => Way::Map(mapped),
                None => Way::Read(Buffers::default()),
            },
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
            match self.next_at_once() {
                Ok(piece) => return Poll::Ready(Some(self.handed_on(piece))),
                Err(reading) => self.reading = Some(reading),
            }
        }
        let reading = self.reading.as_mut().expect("it was just begun");
        let piece = ready!(Pin::new(reading).poll(context))
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        self.reading = None;
        Poll::Ready(Some(self.handed_on(piece)))
    }

    fn handed_on(&mut self, piece: io::Result<Bytes>) -> io::Result<Bytes> {
        if let Ok(bytes) = &piece {
            self.rest.start += bytes.len() as u64;
        }
        piece
    }

    /// A piece that is in memory, or else the thread that makes it.
    fn next_at_once(&mut self) -> Result<io::Result<Bytes>, JoinHandle<io::Result<Bytes>>> {
        let (most, at) = (self.left(), self.rest.start);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let file = Arc::clone(&self.file);
        match &mut self.way {
            Way::Read(buffers) => {
                let (wanted, buffers) = (most.min(PIECE), buffers.clone());
                let mut buffer = buffers.take(wanted);
                match self.read_at_once(at, &mut buffer[..wanted]) {
                    Some(Ok(length)) => Ok(Ok(buffers.lend(buffer, length))),
                    Some(Err(error)) => Ok(Err(error)),
                    None => Err(spawn_blocking(move || {
                        let length = read(&file, at, &mut buffer[..wanted])?;
                        Ok(buffers.lend(buffer, length))
                    })),
                }
            }
            Way::Map(mapped) => {
                let piece = mapped.split_to(most.min(SENT));
                let last = at + piece.len() as u64 - 1;
                // Between them it may have gone out of memory. Then whoever sends it waits for a
                // single piece, which is rare enough.
                let looks = [at, last].map(|at| self.read_at_once(at, &mut [0]));
                match looks {
                    [Some(Ok(_)), Some(Ok(_))] => Ok(Ok(piece)),
                    [Some(Err(error)), _] | [_, Some(Err(error))] => Ok(Err(error)),
                    _ => Err(spawn_blocking(move || {
                        fetch(&file, at..last + 1)?;
                        Ok(piece)
                    })),
                }
            }
        }
    }

    /// Reads what is in memory; `None` when a thread must wait for it.
    fn read_at_once(&mut self, at: u64, buffer: &mut [u8]) -> Option<io::Result<usize>> {
        if !self.at_once {
            return None;
        }
        let mut slices = [IoSliceMut::new(buffer)];
        match preadv2(&self.file, &mut slices, at, ReadWriteFlags::NOWAIT) {
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

/// Has the kernel read a part of a file into its memory.
fn fetch(file: &File, part: Range<u64>) -> io::Result<()> {
    let mut buffer = [0; 32 * 1024];
    let mut at = part.start;
    while at < part.end {
        at += read(file, at, &mut buffer)? as u64;
    }
    Ok(())
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

    /// Bodies of a file's part, made in every way there is.
    fn bodies(content: &[u8], part: Range<u64>) -> Vec<FileBody> {
        let ways = [(true, false), (false, false), (true, true), (false, true)];
        let body = |(at_once, mapped): (bool, bool)| {
            let files = mapped.then(Mappings::default);
            let mut body = FileBody::new(file(content), part.clone(), files.as_ref());
            assert_eq!(matches!(body.way, Way::Map(_)), mapped && !part.is_empty());
            body.at_once = at_once;
            body
        };
        ways.map(body).into()
    }

    #[tokio::test]
    async fn a_part_of_a_file_is_read_on_the_spot_and_on_threads() {
        let content: Vec<u8> = (0..3 * SENT + 7).map(|at| (at % 251) as u8).collect();
        for range in [
            0..content.len(),
            1..2,
            PIECE..2 * PIECE,
            5..3 * SENT + 6,
            9..9,
        ] {
            for mut body in bodies(&content, range.start as u64..range.end as u64) {
                assert!(all(&mut body).await.unwrap() == content[range.clone()]);
                assert_eq!(body.left(), 0);
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error() {
        for mut body in bodies(b"short", 0..6) {
            let error = all(&mut body).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn pieces_that_are_kept_are_not_overwritten() {
        let content: Vec<u8> = (0..3 * PIECE).map(|at| (at / PIECE) as u8).collect();
        let mut body = FileBody::new(file(&content), 0..content.len() as u64, None);
        let mut kept = Vec::new();
        while let Some(piece) = std::future::poll_fn(|context| body.poll_next(context)).await {
            kept.push(piece.unwrap());
        }
        assert_eq!(kept.concat(), content);
    }
}
