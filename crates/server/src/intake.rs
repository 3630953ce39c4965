//! Bodies that are received where they are to lie, and not in hyper's memory.
//!
//! hyper reads from a connection into buffers of its own, at most as large as a request's headers may
//! be, and new ones as long as what came before is still being written. So the connection reads the
//! rest of a large body into a [`Buffer`], and only tells hyper that as many bytes have come. What
//! hyper then passes on as the body stands for them and is known again by its address, as the parts
//! of files are that go the other way ([`mapping`](crate::mapping)).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use wharfinger_storage::Buffer;

/// What a connection and the one request whose body is on its way know together. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Intake(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Whether there is anything to look at behind the lock.
    is_used: AtomicBool,
    taking: Mutex<Option<Taking>>,
}

#[derive(Debug)]
struct Taking {
    /// `None` when nobody wants the bytes any more.
    buffer: Option<Buffer>,
    /// Where in the file the next bytes go.
    at: u64,
    /// How many bytes of the body have not been read.
    left: u64,
    /// How many have been read that hyper has not been told of.
    owed: usize,
    /// The addresses and lengths of what stands for bytes and is on its way through hyper.
    told: VecDeque<(usize, usize)>,
}

/// What became of a piece of a body.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It is one itself.
    Piece,
    /// It stands for bytes in a buffer that goes on being filled.
    Part,
    /// It stands for the last bytes of this buffer.
    Last(Buffer),
}

impl Intake {
    /// Has the rest of a body, `left` bytes, put into `buffer` and others that follow it in the file,
    /// where the next byte goes to the offset `at`.
    ///
    /// Nothing of the body may be on its way from the connection through hyper: then that would
    /// count twice, and what comes behind the body would be taken for a part of it.
    pub(crate) fn claim(&self, buffer: Buffer, at: u64, left: u64) {
        *self.taking() = Some(Taking {
            buffer: Some(buffer),
            at,
            left,
            owed: 0,
            told: VecDeque::new(),
        });
        self.0.is_used.store(true, Ordering::Release);
    }

    /// Takes note of a piece that hyper has passed on.
    pub(crate) fn hear(&self, piece: &Bytes) -> Heard {
        let mut guard = self.taking();
        let Some(taking) = &mut *guard else {
            return Heard::Piece;
        };
        if taking.told.front() != Some(&(piece.as_ptr() as usize, piece.len())) {
            return Heard::Piece;
        }
        taking.told.pop_front();
        if taking.owed > 0 || !taking.told.is_empty() {
            return Heard::Part;
        }
        let is_last = taking.left == 0;
        let is_whole = |buffer: &mut Buffer| is_last || buffer.is_full();
        let Some(buffer) = taking.buffer.take_if(is_whole) else {
            return Heard::Part;
        };
        if is_last {
            self.end(&mut guard);
        } else {
            taking.buffer = Some(Buffer::another(taking.at, taking.left));
        }
        Heard::Last(buffer)
    }

    /// Leaves what is still to come to hyper. Gives what has come.
    pub(crate) fn release(&self) -> Option<Buffer> {
        let mut guard = self.taking();
        let taking = guard.as_mut()?;
        let buffer = taking.buffer.take();
        if taking.owed == 0 {
            self.end(&mut guard);
        }
        buffer
    }

    /// Reads from the connection, when it is a body's turn: what comes goes to its buffer, and into
    /// `told` as many bytes that mean nothing.
    ///
    /// # Errors
    /// What the connection fails with.
    pub(crate) fn poll_read(
        &self,
        stream: Pin<&mut impl AsyncRead>,
        context: &mut Context<'_>,
        told: &mut ReadBuf<'_>,
    ) -> Option<Poll<io::Result<()>>> {
        if !self.0.is_used.load(Ordering::Acquire) {
            return None;
        }
        let mut guard = self.taking();
        let taking = guard.as_mut()?;
        if taking.owed == 0 {
            let Some(buffer) = &mut taking.buffer else {
                self.end(&mut guard);
                return None;
            };
            if taking.left == 0 {
                // The next request may come before the end of this body has been heard of.
                return None;
            }
            // Of what hyper was told it passes on one piece before it reads the next, so that a full
            // buffer has gone.
            let room = buffer.room();
            debug_assert!(!room.is_empty());
            let most = usize::try_from(taking.left).unwrap_or(usize::MAX);
            let most = most.min(room.len());
            let mut read = ReadBuf::new(&mut room[..most]);
            match stream.poll_read(context, &mut read) {
                Poll::Ready(Ok(())) => {}
                other => return Some(other),
            }
            let length = read.filled().len();
            buffer.advance(length);
            taking.owed = length;
            taking.at += length as u64;
            taking.left -= length as u64;
        }
        let length = taking.owed.min(told.remaining());
        if length > 0 {
            let place = told.initialize_unfilled_to(length).as_ptr() as usize;
            told.advance(length);
            taking.told.push_back((place, length));
            taking.owed -= length;
        }
        Some(Poll::Ready(Ok(())))
    }

    fn end(&self, taking: &mut Option<Taking>) {
        *taking = None;
        self.0.is_used.store(false, Ordering::Release);
    }

    fn taking(&self) -> std::sync::MutexGuard<'_, Option<Taking>> {
        self.0.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
