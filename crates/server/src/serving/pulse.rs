//! Whether a connection is used: since when nothing goes on over it, since when a request's headers
//! are on their way, and since when an answer is not read.
//!
//! The clock is looked at between requests only, and there is one timer for the whole connection:
//! when it goes off, it finds out whether it must wait longer.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use http::Version;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::intake::Intake;
use crate::listen::Stream;
use crate::mapping::Mappings;

/// In milliseconds.
const YEAR: u64 = 365 * 24 * 3600 * 1000;

/// What has been going on over a connection.
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// Requests that are not answered to their last byte.
    under_way: AtomicU32,
    /// Those of them whose answers are being made, and not sent yet.
    at_work: AtomicU32,
    /// How often bytes have been sent.
    sent: AtomicU64,
    /// When the present wait ends, in milliseconds since the connection began.
    deadline: AtomicU64,
    /// Whether that wait is for the rest of a request's headers.
    headers: AtomicBool,
    /// HTTP/2 has frames without requests, so that bytes do not tell that headers are on their way.
    multiplexed: AtomicBool,
}

/// Why a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lapse {
    /// There was no request for too long.
    Idle,
    /// A request's headers did not come to their end in time.
    Headers,
    /// Nothing of an answer was taken for too long.
    Stalled,
}

impl Pulse {
    /// The pulse of a connection that begins now; its first request must come within the shorter of
    /// both times.
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration) -> Self {
        let pulse = Self {
            began: Instant::now(),
            header_timeout,
            idle_timeout,
            under_way: AtomicU32::new(0),
            at_work: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            headers: AtomicBool::new(true),
            multiplexed: AtomicBool::new(false),
        };
        pulse.wait(header_timeout.min(idle_timeout));
        pulse
    }

    fn wait(&self, length: Duration) {
        let deadline = self.now() + milliseconds(length);
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// Notes that a request has come; it is under way until what is returned, or what becomes of
    /// that, is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> AtWork {
        if version == Version::HTTP_2 {
            self.multiplexed.store(true, Ordering::Relaxed);
        }
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.at_work.fetch_add(1, Ordering::Relaxed);
        self.headers.store(false, Ordering::Relaxed);
        AtWork(Some(UnderWay(Arc::clone(self))))
    }

    /// Notes that bytes have come.
    fn received(&self) {
        if self.under_way.load(Ordering::Relaxed) == 0
            && !self.headers.load(Ordering::Relaxed)
            && !self.multiplexed.load(Ordering::Relaxed)
        {
            self.headers.store(true, Ordering::Relaxed);
            self.wait(self.header_timeout);
        }
    }

    /// What ends the connection when it is not used.
    pub(super) fn lapse(self: &Arc<Self>) -> Lapsing {
        Lapsing {
            pulse: Arc::clone(self),
            armed: u64::MAX,
            timer: Box::pin(sleep_until(self.began)),
            waiting: None,
            sent: 0,
            quiet_since: 0,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Ready when the connection is to end.
#[derive(Debug)]
pub(super) struct Lapsing {
    pulse: Arc<Pulse>,
    /// When the timer goes off, in milliseconds since the connection began.
    armed: u64,
    timer: Pin<Box<Sleep>>,
    /// Whom the timer wakes.
    waiting: Option<Waker>,
    /// How often bytes had been sent at the last look, and since when that is so.
    sent: u64,
    quiet_since: u64,
}

impl Lapsing {
    /// Whether answers are being sent and none has got any further for too long.
    fn is_stalled(&mut self, now: u64) -> bool {
        let sent = self.pulse.sent.load(Ordering::Relaxed);
        if sent != self.sent || self.pulse.at_work.load(Ordering::Relaxed) > 0 {
            (self.sent, self.quiet_since) = (sent, now);
        }
        now.saturating_sub(self.quiet_since) >= milliseconds(self.pulse.idle_timeout).max(1)
    }

    /// A connection looks here after every request: a timer that has been asked to wake it is asked
    /// again only when it goes off.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let waits = self.waiting.as_ref();
        if waits.is_some_and(|waker| waker.will_wake(context.waker())) && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        let gone_off = self.timer.as_mut().poll(context);
        self.waiting = gone_off.is_pending().then(|| context.waker().clone());
        gone_off
    }

    fn arm(&mut self, deadline: u64) {
        self.armed = deadline;
        let instant = self.pulse.began + Duration::from_millis(deadline);
        self.timer.as_mut().reset(instant);
        self.waiting = None;
    }
}

impl Future for Lapsing {
    type Output = Lapse;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Lapse> {
        loop {
            let pulse = Arc::clone(&self.pulse);
            let used = pulse.under_way.load(Ordering::Acquire) > 0;
            let deadline = pulse.deadline.load(Ordering::Relaxed);
            if !used && deadline < self.armed {
                self.arm(deadline);
            }
            ready!(self.poll_timer(context));
            let now = pulse.now();
            if used {
                if self.is_stalled(now) {
                    return Poll::Ready(Lapse::Stalled);
                }
                // No wait that can follow ends earlier.
                let shortest = pulse.header_timeout.min(pulse.idle_timeout);
                self.arm(now + milliseconds(shortest).max(1));
            } else if now < deadline {
                self.arm(deadline);
            } else if pulse.headers.load(Ordering::Relaxed) {
                return Poll::Ready(Lapse::Headers);
            } else {
                return Poll::Ready(Lapse::Idle);
            }
        }
    }
}

fn milliseconds(length: Duration) -> u64 {
    // No timer waits longer than years.
    u64::try_from(length.as_millis()).map_or(YEAR, |length| length.min(YEAR))
}

/// A request whose answer is being made.
#[derive(Debug)]
pub(super) struct AtWork(Option<UnderWay>);

impl AtWork {
    /// Goes on with the sending of the answer.
    pub(super) fn answered(mut self) -> UnderWay {
        let under_way = self.0.take().expect("only this takes it");
        under_way.0.at_work.fetch_sub(1, Ordering::Relaxed);
        under_way
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if let Some(under_way) = &self.0 {
            under_way.0.at_work.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Pulse>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        // The wait begins before the request is gone: whoever finds no request finds it.
        self.0.wait(self.0.idle_timeout);
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

/// A connection whose bytes are noted as they come and go, that has the kernel send files, and
/// receives large bodies by itself.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    pulse: Arc<Pulse>,
    /// The files that are sent over it, where that is possible.
    files: Option<Mappings>,
    /// Where bodies are received, where that is possible.
    intake: Option<Intake>,
}

impl Watched {
    pub(super) fn new(
        stream: Stream,
        pulse: Arc<Pulse>,
        files: Option<Mappings>,
        intake: Option<Intake>,
    ) -> Self {
        Self {
            stream,
            pulse,
            files,
            intake,
        }
    }
}

impl Watched {
    fn sent(&self, sent: io::Result<usize>) -> Poll<io::Result<usize>> {
        if matches!(sent, Ok(1..)) {
            self.pulse.sent.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(sent)
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, intake, .. } = &mut *self;
        if let Some(intake) = intake
            && let Some(read) = intake.poll_read(Pin::new(&mut *stream), context, buffer)
        {
            return read;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.pulse.received();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
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
        let file = self.files.as_ref().and_then(|files| files.find(slices));
        let sent = match file {
            None => ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices)),
            Some((0, part)) => match ready!(self.stream.poll_send_file(context, &part)) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    ready!(Pin::new(&mut self.stream).poll_write_vectored(context, slices))
                }
                sent => sent,
            },
            Some((before, _)) => ready!(self.stream.poll_write_more(context, &slices[..before])),
        };
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

/// A body of an answer, which keeps its request under way until it is sent or given up.
#[derive(Debug)]
pub(super) struct Counted<B> {
    body: B,
    _under_way: UnderWay,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, under_way: UnderWay) -> Self {
        Self {
            body,
            _under_way: under_way,
        }
    }
}

impl<B: Body + Unpin> Body for Counted<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: Duration = Duration::from_secs(30);
    const IDLE: Duration = Duration::from_secs(180);

    fn pulse() -> Arc<Pulse> {
        Arc::new(Pulse::new(HEADERS, IDLE))
    }

    /// How it ends, and after how many seconds.
    async fn end(lapsing: &mut Lapsing) -> (Lapse, u64) {
        let began = Instant::now();
        let lapse = lapsing.await;
        (lapse, began.elapsed().as_secs())
    }

    async fn pass(lapsing: &mut Lapsing, seconds: u64) {
        let waited = tokio::time::timeout(Duration::from_secs(seconds), lapsing).await;
        assert!(waited.is_err(), "it ended too early: {waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_must_come_in_time() {
        let lapsing = &mut pulse().lapse();
        assert_eq!(end(lapsing).await, (Lapse::Headers, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_ends_a_request_under_way_and_idling_begins_after_it() {
        let pulse = pulse();
        let lapsing = &mut pulse.lapse();
        let first = pulse.begin(Version::HTTP_11);
        pass(lapsing, 1000).await;
        let second = pulse.begin(Version::HTTP_11);
        drop(first);
        pass(lapsing, 1000).await;
        drop(second);
        assert_eq!(end(lapsing).await, (Lapse::Idle, 180));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_as_long_as_it_is_read() {
        let pulse = pulse();
        let lapsing = &mut pulse.lapse();
        let at_work = pulse.begin(Version::HTTP_11);
        pass(lapsing, 1000).await;
        let _under_way = at_work.answered();
        for _ in 0..10 {
            pulse.sent.fetch_add(1, Ordering::Relaxed);
            pass(lapsing, 140).await;
        }
        let (lapse, seconds) = end(lapsing).await;
        assert_eq!(lapse, Lapse::Stalled);
        assert!((40..=80).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn headers_that_begin_late_have_their_own_time() {
        let pulse = pulse();
        let lapsing = &mut pulse.lapse();
        drop(pulse.begin(Version::HTTP_11));
        pass(lapsing, 100).await;
        pulse.received();
        pass(lapsing, 20).await;
        // More of the same headers do not prolong it.
        pulse.received();
        assert_eq!(end(lapsing).await, (Lapse::Headers, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_http2_without_a_request_count_for_nothing() {
        let pulse = pulse();
        let lapsing = &mut pulse.lapse();
        drop(pulse.begin(Version::HTTP_2));
        pass(lapsing, 100).await;
        pulse.received();
        assert_eq!(end(lapsing).await, (Lapse::Idle, 80));
    }
}
