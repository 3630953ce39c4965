//! Serving HTTP on a listener: accepting connections, speaking HTTP over them, and ending well.
//! What is answered is a [`Service`]'s business.

mod pulse;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::listen::{Listener, Stream};
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

    /// What holds for the connections that are accepted now.
    fn limits(&self) -> Limits;

    /// Answers one request.
    fn answer(
        &self,
        client: Client,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Whom a connection is with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) peer: Peer,
    /// Whether nobody can listen in: TLS is spoken.
    pub(crate) secure: bool,
}

/// What clients may do, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How long a TLS handshake, and each request's line and headers, may take.
    pub(crate) header_timeout: Duration,
    /// How long a connection may be open without a request.
    pub(crate) idle_timeout: Duration,
    /// How long requests may take to finish at the end.
    pub(crate) drain_timeout: Duration,
    /// How large a request's line and headers may be together, in bytes.
    pub(crate) max_header_size: usize,
    /// Whether HTTP/2 is spoken without TLS.
    pub(crate) http2_cleartext: bool,
}

/// Accepts connections until `stop` is ready, then lets the requests under way finish, for as long
/// as [`Limits::drain_timeout`] allows.
pub(crate) async fn serve(
    listener: Listener,
    service: impl Service,
    stop: impl Future<Output = ()>,
) {
    // Connections hold receivers: they learn of the end, and show that they have not ended.
    let (ending, end) = watch::channel(());
    let tls = listener.tls().cloned();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let connection = Connection {
                        limits: service.limits(),
                        service: service.clone(),
                        peer,
                        end: end.clone(),
                    };
                    tokio::spawn(connection.run(stream, tls.clone()));
                }
                Err(error) => accept_failed(&error).await,
            },
        }
    }
    drop((listener, end));
    info!("no more connections are accepted; requests under way finish");
    // Without a connection there is nobody to tell.
    let _ = ending.send(());
    let drained = tokio::time::timeout(service.limits().drain_timeout, ending.closed());
    if drained.await.is_err() {
        warn!("some requests did not finish in time and are cut off");
    }
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
    limits: Limits,
    peer: Peer,
    end: watch::Receiver<()>,
}

impl<S: Service> Connection<S> {
    async fn run(mut self, stream: Stream, tls: Option<Tls>) {
        let peer = self.peer;
        if let Err(error) = stream.do_not_delay() {
            debug!(%peer, %error, "the connection broke before its first request");
            return;
        }
        let Some(tls) = tls else {
            let versions = match self.limits.http2_cleartext {
                true => Versions::Either,
                false => Versions::One,
            };
            return self.speak_http(stream, versions, false).await;
        };
        let timeout = self.limits.header_timeout;
        let secured = tokio::select! {
            secured = tokio::time::timeout(timeout, tls.accept(stream)) => secured,
            // No request has begun: there is nothing to finish.
            _ = self.end.changed() => return,
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
            Ok(Err(error)) => debug!(%peer, %error, "a TLS handshake failed"),
            Err(_) => debug!(%peer, "a TLS handshake took too long"),
        }
    }

    async fn speak_http(mut self, stream: Stream, versions: Versions, secure: bool) {
        let Limits {
            header_timeout,
            idle_timeout,
            max_header_size,
            ..
        } = self.limits;
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
        let client = Client {
            peer: self.peer,
            secure,
        };
        let pulse = Arc::new(Pulse::new(header_timeout, idle_timeout));
        let service = service_fn(|request: Request<Incoming>| {
            let under_way = pulse.begin(request.version());
            let service = self.service.clone();
            async move {
                let response = service.answer(client, request).await;
                Ok::<_, Infallible>(response.map(|body| Counted::new(body, under_way)))
            }
        });
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&pulse)));
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut lapse = pulse.lapse();
        let mut ending = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => break ended,
                _ = self.end.changed(), if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                }
                lapse = &mut lapse, if !ending => match lapse {
                    Lapse::Idle => {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Lapse::Headers => {
                        debug!(peer = %self.peer, "a request's headers took too long");
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
