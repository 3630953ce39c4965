//! Connections: accepting them, speaking HTTP over them, and ending well.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tracing::{Instrument, debug, info, info_span, warn};
use uuid::Uuid;
use wharfinger_auth::Grant;
use wharfinger_registry::Registry;

use crate::Options;
use crate::access_log::Entry;
use crate::activity::Activity;
use crate::app::App;
use crate::body::Body;
use crate::call::Call;
use crate::drain::Connections;
use crate::handler::handle;
use crate::health::Health;
use crate::limits::Limiter;
use crate::upload_state::Secret;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long to wait before accepting again when the process has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers HTTP requests for a registry.
#[derive(Clone, Debug)]
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// A server for `registry`.
    pub fn new(registry: Registry, options: Options) -> Self {
        let secret = match &options.secret {
            Some(secret) => Secret::new(secret),
            None => Secret::generate(),
        };
        Self {
            app: Arc::new(App {
                registry,
                options: ArcSwap::from_pointee(options),
                secret,
                health: Health::default(),
                limiter: Limiter::default(),
            }),
        }
    }

    /// What decides whether requests are answered.
    pub fn health(&self) -> Health {
        self.app.health.clone()
    }

    /// Answers the requests from now on, and speaks on connections from now on, as these options
    /// say. [`Options::secret`] alone stays what it was: the uploads under way need it.
    pub fn set_options(&self, options: Options) {
        self.app.options.store(Arc::new(options));
        self.app.limiter.options_changed();
    }

    /// Accepts connections until `stop` is ready, then lets the requests under way finish, for as
    /// long as [`Options::drain_timeout`] allows. Those that do not are cut off. What has come of
    /// uploads by then is still being made durable on return; it is over when
    /// [`Registry::make_read_only`] is.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let connections = Connections::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = self.accept_from(&listener) => match accepted {
                    Ok((stream, peer)) => self.accept(stream, peer, &connections),
                    Err(error) => accept_failed(&error).await,
                },
            }
        }
        drop(listener);
        let drain_timeout = self.app.options.load().drain_timeout;
        info!("no more connections are accepted; requests under way finish");
        if !connections.end(drain_timeout).await {
            warn!("some requests did not finish in time and were cut off");
        }
    }

    /// The next connection, once there may be another one.
    async fn accept_from(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        let App {
            limiter, options, ..
        } = &*self.app;
        limiter.room_for_connection(options).await;
        listener.accept().await
    }

    fn accept(&self, stream: TcpStream, peer: SocketAddr, connections: &Connections) {
        // Answers are written whole; waiting for more to send would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "the connection broke before its first request");
            return;
        }
        let app = Arc::clone(&self.app);
        let options = self.app.options.load();
        let Ok(turn) = app.limiter.connect(&options, peer.ip()) else {
            return;
        };
        let activity = Arc::new(Activity::default());
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(activity.header_timer(options.header_timeout))
            .header_read_timeout(options.header_timeout)
            .max_buf_size(options.max_header_size.max(8 * 1024));
        let http2_headers = u32::try_from(options.max_header_size).unwrap_or(u32::MAX);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(http2_headers);
        if !options.http2_cleartext {
            builder = builder.http1_only();
        }
        let stream = activity.watch(stream);
        let at_work = Arc::clone(&activity);
        let service = service_fn(move |request| {
            let (app, at_work) = (Arc::clone(&app), at_work.at_work());
            async move {
                let _at_work = at_work;
                Ok::<_, Infallible>(respond(&app, peer, request).await)
            }
        });
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = connections.attend(connection, activity, &options);
        tokio::spawn(async move {
            let _turn = turn;
            if let Err(error) = connection.await {
                debug!(%peer, error, "a connection ended badly");
            }
        });
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

async fn respond(app: &Arc<App>, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let (request, body) = request.into_parts();
    let call = Call {
        app: Arc::clone(app),
        options: app.options.load_full(),
        id: request_id(&request.headers),
        request,
        peer,
        grant: Grant::default(),
    };
    let id = call.id.clone();
    let span = info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = %call.request.method,
        path = call.request.uri.path(),
        user = tracing::field::Empty,
    );
    let entry = call.options.access_log.then(|| Entry::new(&call));
    let mut response = handle(call, body).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    if let Some(entry) = entry {
        entry.write(&response);
    }
    response
}

/// The client's name for its request, when it is a sane one; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=64).contains(&bytes.len())
            && bytes
                .iter()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
    };
    headers
        .get(REQUEST_ID)
        .filter(sane)
        .cloned()
        .unwrap_or_else(|| {
            let mut text = [0; uuid::fmt::Simple::LENGTH];
            let id = Uuid::new_v4().simple().encode_lower(&mut text);
            HeaderValue::from_str(id).expect("a UUID is plain text")
        })
}
