//! Passing a large body from its connection to the handler, which runs on another thread: each piece
//! wakes that thread, so pieces are large.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use tokio::sync::{mpsc, oneshot};
use wharfinger_storage::Buffer;

use super::BodyError;
use super::source::Source;
use crate::intake::{Heard, Intake};

/// Of how many bytes on it is worth while to receive them without hyper's memory.
const WORTH: u64 = 256 * 1024;

/// What is passed on at once.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    /// How the body ends with it, if it does.
    end: Option<Result<(), BodyError>>,
}

impl Piece {
    fn new(buffer: Option<Buffer>, end: Option<Result<(), BodyError>>) -> Self {
        let bytes = buffer.map(Buffer::freeze).unwrap_or_default();
        Self { bytes, end }
    }
}

/// What a handler gets of a body that is passed on to it.
#[derive(Debug)]
pub(super) struct Fed {
    /// Says that the body is wanted, and where in a file it begins.
    wanted: Option<oneshot::Sender<u64>>,
    pieces: mpsc::Receiver<Piece>,
    is_over: bool,
    /// What comes behind the last bytes.
    failed: Option<BodyError>,
}

impl Fed {
    /// What comes next of a body that begins at the offset `at` of a file.
    pub(super) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
        at: u64,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(wanted) = self.wanted.take() {
            // Where nobody feeds any more, the pieces tell.
            let _ = wanted.send(at);
        }
        while !self.is_over {
            match self.pieces.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    self.is_over = true;
                    self.failed = Some(BodyError::Gone);
                }
                Poll::Ready(Some(piece)) => {
                    self.is_over = piece.end.is_some();
                    self.failed = piece.end.and_then(Result::err);
                    if !piece.bytes.is_empty() {
                        return Poll::Ready(Some(Ok(piece.bytes)));
                    }
                }
            }
        }
        Poll::Ready(self.failed.take().map(Err))
    }
}

/// What passes a body on. It must run as a part of the service that answers the request, so that
/// nothing reads from the connection while it looks at what has come.
#[derive(Debug)]
pub(crate) struct Feeder {
    source: Source,
    /// What can be claimed, and what was.
    intake: Option<Intake>,
    claimed: Option<Intake>,
    wanted: oneshot::Receiver<u64>,
    pieces: mpsc::Sender<Piece>,
    /// Where the next piece goes.
    place: Option<mpsc::OwnedPermit<Piece>>,
    /// What has come and was not passed on, where the connection has not claimed it.
    buffer: Option<Buffer>,
    /// What had no room there.
    over: Bytes,
    /// Where in the file the next bytes go.
    at: u64,
    /// Whether a buffer has become full.
    has_filled: bool,
    /// Whether anything has come: then hyper has nothing of the body that it has not passed on, or
    /// on its way.
    has_begun: bool,
}

impl Feeder {
    pub(super) fn new(source: Source, intake: Option<Intake>) -> (Self, Fed) {
        let (want, wanted) = oneshot::channel();
        let (pieces, passed_on) = mpsc::channel(1);
        let feeder = Self {
            source,
            intake,
            claimed: None,
            wanted,
            pieces,
            place: None,
            buffer: None,
            over: Bytes::new(),
            at: 0,
            has_filled: false,
            has_begun: false,
        };
        let fed = Fed {
            wanted: Some(want),
            pieces: passed_on,
            is_over: false,
            failed: None,
        };
        (feeder, fed)
    }

    /// Passes the body on, once it is wanted, to its end or until nobody wants it.
    pub(crate) async fn run(mut self) {
        match (&mut self.wanted).await {
            Ok(at) => self.at = at,
            Err(_) => return,
        }
        loop {
            match self.pieces.clone().reserve_owned().await {
                Ok(place) => self.place = Some(place),
                Err(_) => return,
            }
            let piece = poll_fn(|context| self.poll_fill(context)).await;
            let is_over = piece.end.is_some();
            self.pass_on(piece);
            if is_over {
                return;
            }
        }
    }

    fn pass_on(&mut self, piece: Piece) {
        if let Some(place) = self.place.take() {
            place.send(piece);
        }
    }

    /// A full buffer, or what has come when the body ends.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        loop {
            let over = std::mem::take(&mut self.over);
            let piece = match over.is_empty() {
                false => Some(Ok(over)),
                true => match self.source.poll_next(context) {
                    Poll::Ready(piece) => piece,
                    Poll::Pending => {
                        self.claim();
                        return Poll::Pending;
                    }
                },
            };
            let (full, end) = match piece {
                None => (None, Some(Ok(()))),
                Some(Err(error)) => (None, Some(Err(error))),
                Some(Ok(bytes)) => {
                    let full = self.take(bytes);
                    let is_over = self.over.is_empty() && self.source.is_over();
                    (full, is_over.then_some(Ok(())))
                }
            };
            let buffer = match end {
                Some(_) => full.or_else(|| self.rest()),
                None => full,
            };
            if buffer.is_some() || end.is_some() {
                return Poll::Ready(Piece::new(buffer, end));
            }
        }
    }

    /// Takes a piece, and gives the buffer that is full with it.
    fn take(&mut self, mut bytes: Bytes) -> Option<Buffer> {
        self.has_begun = true;
        if let Some(claimed) = &self.claimed {
            match claimed.hear(&bytes) {
                Heard::Part => return None,
                Heard::Last(buffer) => return Some(buffer),
                Heard::Piece => {}
            }
        }
        let left = self.source.left().unwrap_or(u64::MAX);
        let expected = left.saturating_add(bytes.len() as u64);
        let make = match self.has_filled {
            true => Buffer::another,
            false => Buffer::new,
        };
        let buffer = self.buffer.get_or_insert_with(|| make(self.at, expected));
        let taken = buffer.put(&bytes);
        bytes.advance(taken);
        self.at += taken as u64;
        self.over = bytes;
        let full = self.buffer.take_if(|buffer| buffer.is_full());
        self.has_filled |= full.is_some();
        full
    }

    /// Has the connection read what is still to come into buffers, when it is much. Nothing of the
    /// body is on its way now: all that had come has been taken, and the connection, which runs this
    /// future, does nothing meanwhile.
    fn claim(&mut self) {
        let Some(left) = self.source.left().filter(|left| *left >= WORTH) else {
            return;
        };
        if let Some(intake) = self.intake.take_if(|_| self.has_begun) {
            let buffer = self.buffer.take();
            let buffer = buffer.unwrap_or_else(|| Buffer::new(self.at, left));
            intake.claim(buffer, self.at, left);
            self.claimed = Some(intake);
        }
    }

    /// What has come and was not passed on.
    fn rest(&mut self) -> Option<Buffer> {
        let claimed = self.claimed.as_ref().and_then(Intake::release);
        claimed.or_else(|| self.buffer.take())
    }
}

impl Drop for Feeder {
    /// The connection has ended: what has come counts all the same.
    fn drop(&mut self) {
        let rest = self.rest();
        self.pass_on(Piece::new(rest, Some(Err(BodyError::Gone))));
    }
}
