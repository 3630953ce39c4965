//! Serving HTTP on a listener: accepting connections, speaking HTTP over them, and ending well.
//! What is answered is a [`Service`]'s business.

mod pulse;

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use http::{Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::intake::Intake;
use crate::listen::{Listener, Stream};
use crate::mapping::Mappings;
use crate::peer::Peer;
use crate::tls::Tls;
use pulse::{Counted, Lapse, Pulse, Watched};

/// How long to wait before accepting again when the process has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a client that speaks HTTP/2 is asked whether it is still there, and how long it may
/// take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(30));

/// Answers requests.
pub(crate) trait Service: Clone + Send + Sync + 'static {
    /// The bodies of its answers.
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// A connection's place among the others, for as long as it is kept.
    type Place: Send;

    /// Ready when another connection may be accepted.
    ///
    /// # Cancel safety
    /// Dropping this while it waits loses nothing.
    fn room(&self) -> impl Future<Output = ()> + Send;

    /// The place of a connection with `peer`; `None` closes it on the spot.
    fn place(&self, peer: Peer) -> Option<Self::Place>;

    /// What holds for the connections that are accepted now.
    fn settings(&self) -> Settings;

    /// Answers one request.
    fn answer(
        &self,
        client: &Arc<Client>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;
}

/// Whom a connection is with.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    /// The peer as text: every request is logged with it.
    pub(crate) name: String,
    /// Whether nobody can listen in: TLS is spoken.
    pub(crate) secure: bool,
    /// By what files are sent without being read, where that is possible.
    pub(crate) files: Option<Mappings>,
    /// By what large bodies are received, where that is possible.
    pub(crate) intake: Option<Intake>,
}

/// What is spoken with clients, and how patiently.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long a TLS handshake, and each request's line and headers, may take.
    pub(crate) header_timeout: Duration,
    /// How long a connection may be open without a request, and without a client's reading what it
    /// is sent.
    pub(crate) idle_timeout: Duration,
    /// How long requests may take to finish at the end.
    pub(crate) drain_timeout: Duration,
    /// How large a request's line and headers may be together, in bytes.
    pub(crate) max_header_size: usize,
    /// Whether HTTP/2 is spoken without TLS.
    pub(crate) http2_cleartext: bool,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more requests; those under way finish.
    Finishing,
    /// Connections end on the spot.
    Cut,
}

/// Accepts connections until `stop` is ready, then lets the requests under way finish, for as long
/// as [`Settings::drain_timeout`] allows, and cuts off those that do not.
pub(crate) async fn serve(
    listener: Listener,
    service: impl Service,
    stop: impl Future<Output = ()>,
) {
    // Connections hold receivers: they learn of the end, and show that they have not ended.
    let (phase, phases) = watch::channel(Phase::Open);
    let tls = listener.tls().cloned();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = accept(&listener, &service) => match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = service.place(peer) else {
                        continue;
                    };
                    let connection = Connection {
                        settings: service.settings(),
                        service: service.clone(),
                        peer,
                        phase: phases.clone(),
                    };
                    let tls = tls.clone();
                    tokio::spawn(async move {
                        let _place = place;
                        connection.run(stream, tls).await;
                    });
                }
                Err(error) => accept_failed(&error).await,
            },
        }
    }
    drop((listener, phases));
    info!("no more connections are accepted; requests under way finish");
    phase.send_replace(Phase::Finishing);
    let drain_timeout = service.settings().drain_timeout;
    if tokio::time::timeout(drain_timeout, phase.closed())
        .await
        .is_err()
    {
        phase.send_replace(Phase::Cut);
        phase.closed().await;
        warn!("some requests did not finish in time and were cut off");
    }
}

/// The next connection, once there may be another one.
///
/// # Cancel safety
/// Dropping this while it waits loses no connection.
async fn accept(listener: &Listener, service: &impl Service) -> io::Result<(Stream, Peer)> {
    service.room().await;
    listener.accept().await
}

/// # Cancel safety
/// Dropping this while it waits loses nothing.
async fn accept_failed(error: &io::Error) {
    // A connection that ended in the queue concerns nobody else; being out of file descriptors
    // does, and passes only with time.
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        warn!(%error, "a connection cannot be accepted");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// The versions of HTTP that can come over a connection.
enum Versions {
    One,
    Two,
    /// The client's first bytes tell.
    Either,
}

/// One connection.
struct Connection<S> {
    service: S,
    settings: Settings,
    peer: Peer,
    phase: watch::Receiver<Phase>,
}

impl<S: Service> Connection<S> {
    async fn run(mut self, stream: Stream, tls: Option<Tls>) {
        let peer = self.peer;
        if let Err(error) = stream.do_not_delay() {
            debug!(%peer, %error, "the connection broke before its first request");
            return;
        }
        let Some(tls) = tls else {
            let versions = match self.settings.http2_cleartext {
                true => Versions::Either,
                false => Versions::One,
            };
            return self.speak_http(stream, versions, false).await;
        };
        let timeout = self.settings.header_timeout;
        let secured = tokio::select! {
            secured = tokio::time::timeout(timeout, tls.accept(stream)) => secured,
            // No request has begun: there is nothing to finish.
            _ = self.phase.changed() => return,
        };
        match secured {
            Ok(Ok(Some(stream))) => {
                let versions = match stream.get_ref().1.alpn_protocol() {
                    Some(b"h2") => Versions::Two,
                    _ => Versions::One,
                };
                let stream = Stream::Tls(Box::new(stream));
                self.speak_http(stream, versions, true).await;
            }
            Ok(Ok(None)) => {}
            // Somebody is kept out and wonders why; other failures are mostly those of scanners.
            Ok(Err(error)) if is_about_certificate(&error) => {
                info!(%peer, %error, "a client's certificate is refused");
            }
            Ok(Err(error)) => debug!(%peer, %error, "a TLS handshake failed"),
            Err(_) => debug!(%peer, "a TLS handshake took too long"),
        }
    }

    async fn speak_http(mut self, stream: Stream, versions: Versions, secure: bool) {
        let Settings {
            header_timeout,
            idle_timeout,
            max_header_size,
            ..
        } = self.settings;
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            // How long headers may take is for the pulse to say.
            .header_read_timeout(None)
            .max_buf_size(max_header_size.max(8 * 1024));
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .max_header_list_size(u32::try_from(max_header_size).unwrap_or(u32::MAX));
        let builder = match versions {
            Versions::One => builder.http1_only(),
            Versions::Two => builder.http2_only(),
            Versions::Either => builder,
        };
        let is_one = !matches!(versions, Versions::Two);
        // Over TLS bytes are encrypted here, and HTTP/2 puts them into frames.
        let files = (is_one && !secure).then(Mappings::default);
        let intake = is_one.then(Intake::default);
        let client = Client {
            peer: self.peer,
            name: self.peer.to_string(),
            secure,
            files: files.clone(),
            intake: intake.clone(),
        };
        let of_two = Arc::new(Client {
            files: None,
            intake: None,
            ..client.clone()
        });
        let of_one = Arc::new(client);
        let pulse = Arc::new(Pulse::new(header_timeout, idle_timeout));
        let service = service_fn(|request: Request<Incoming>| {
            let under_way = pulse.begin(request.version());
            let client = match request.version() {
                Version::HTTP_2 => &of_two,
                _ => &of_one,
            };
            let answer = self.service.answer(client, request);
            async move {
                let response = answer.await;
                let under_way = under_way.answered();
                Ok::<_, Infallible>(response.map(|body| Counted::new(body, under_way)))
            }
        });
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&pulse), files, intake));
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut lapse = pulse.lapse();
        let mut idle = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                changed = changed(&mut self.phase) => match *self.phase.borrow_and_update() {
                    Phase::Finishing => connection.as_mut().graceful_shutdown(),
                    Phase::Open if changed.is_ok() => {}
                    // Or the server is gone.
                    Phase::Open | Phase::Cut => return,
                },
                lapse = &mut lapse, if !idle => match lapse {
                    Lapse::Idle => {
                        idle = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Lapse::Headers => {
                        debug!(peer = %self.peer, "a request's headers took too long");
                        return;
                    }
                    Lapse::Stalled => {
                        debug!(peer = %self.peer, "an answer is not read");
                        return;
                    }
                },
            }
        };
        if let Err(error) = ended {
            debug!(peer = %self.peer, error, "a connection ended badly");
        }
    }
}

/// Waits for another phase. That takes a lock that connections share, so it is taken once, and not again
/// each time that the connection's task wakes up for a request.
///
/// # Errors
/// When the server is gone.
///
/// # Cancel safety
/// Dropping this while it waits loses nothing.
async fn changed(phase: &mut watch::Receiver<Phase>) -> Result<(), watch::error::RecvError> {
    let seen = phase.clone();
    let mut changed = pin!(phase.changed());
    let mut waiting: Option<Waker> = None;
    poll_fn(|context| {
        let waits = waiting.as_ref();
        if waits.is_some_and(|waker| waker.will_wake(context.waker()))
            && seen.has_changed().is_ok_and(|changed| !changed)
        {
            return Poll::Pending;
        }
        let polled = changed.as_mut().poll(context);
        waiting = polled.is_pending().then(|| context.waker().clone());
        polled
    })
    .await
}

/// Whether a handshake failed because of what the client showed, or did not.
fn is_about_certificate(error: &io::Error) -> bool {
    use rustls::Error::{InvalidCertificate, NoCertificatesPresented};
    let error = error.get_ref().and_then(|error| error.downcast_ref());
    matches!(error, Some(InvalidCertificate(_) | NoCertificatesPresented))
}
