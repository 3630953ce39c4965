//! What happens on a connection, for letting go of those on which nothing does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::Timer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

/// Into how many parts the time is cut for which nothing may happen: so much later than it is over
/// can its end be noticed.
const PARTS: u32 = 4;

/// What happens on a connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// How often something was received.
    reads: AtomicU64,
    /// How often something was sent.
    writes: AtomicU64,
    /// How many requests are being answered, apart from the sending of the answer.
    at_work: AtomicUsize,
    /// Whether a request has been waited for.
    awaited: AtomicBool,
}

impl Activity {
    /// Notes what is received and sent.
    pub(crate) fn watch<T>(self: &Arc<Self>, stream: T) -> Watched<T> {
        Watched {
            stream,
            activity: Arc::clone(self),
        }
    }

    /// Notes that a request is being answered, as long as what is returned is kept.
    pub(crate) fn at_work(self: &Arc<Self>) -> AtWork {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(Arc::clone(self))
    }

    /// What gives a request's headers this long, from their first byte on.
    pub(crate) fn header_timer(self: &Arc<Self>, patience: Duration) -> HeaderTimer {
        HeaderTimer {
            activity: Arc::clone(self),
            patience,
        }
    }

    /// Ready when nothing has been received within `first`, or nothing has happened for `idle`,
    /// or a quarter longer.
    pub(crate) async fn idle(&self, first: Duration, idle: Duration) {
        sleep(first).await;
        if self.reads.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut before = self.moved();
        let mut quiet = 0;
        while quiet < PARTS {
            sleep(idle / PARTS).await;
            let now = self.moved();
            let at_work = self.at_work.load(Ordering::Relaxed) > 0;
            quiet = match now == before && !at_work {
                true => quiet + 1,
                false => 0,
            };
            before = now;
        }
    }

    fn moved(&self) -> (u64, u64) {
        let moved = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (moved(&self.reads), moved(&self.writes))
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct AtWork(Arc<Activity>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that notes what moves.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    stream: T,
    activity: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.reads.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Watched<T> {
    fn sent(&self, sent: io::Result<usize>) -> Poll<io::Result<usize>> {
        if matches!(sent, Ok(1..)) {
            self.activity.writes.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(sent)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.sent(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices));
        self.sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Hyper's timer for a request's headers. Hyper starts it when it begins to wait for a request; this
/// one begins to count when something is received, so that waiting for a request is another matter
/// than waiting for the rest of one.
#[derive(Clone, Debug)]
pub(crate) struct HeaderTimer {
    activity: Arc<Activity>,
    patience: Duration,
}

impl Timer for HeaderTimer {
    fn sleep(&self, _duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        // Of the first one some bytes may be there, by which HTTP/1 was told from HTTP/2.
        let reads_before = match self.activity.awaited.swap(true, Ordering::Relaxed) {
            true => self.activity.reads.load(Ordering::Relaxed),
            false => 0,
        };
        Box::pin(HeaderSleep {
            reads_before,
            timer: self.clone(),
            sleep: None,
        })
    }

    fn sleep_until(&self, _deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        self.sleep(self.patience)
    }
}

struct HeaderSleep {
    timer: HeaderTimer,
    reads_before: u64,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Future for HeaderSleep {
    type Output = ();

    /// Hyper polls it again whenever it has received something.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let HeaderTimer { activity, patience } = &self.timer;
        if activity.reads.load(Ordering::Relaxed) == self.reads_before {
            return Poll::Pending;
        }
        let patience = *patience;
        let begun = self.sleep.get_or_insert_with(|| Box::pin(sleep(patience)));
        begun.as_mut().poll(context)
    }
}

impl hyper::rt::Sleep for HeaderSleep {}
