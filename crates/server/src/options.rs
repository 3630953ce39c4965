//! What an operator decides about the HTTP side.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri};
use wharfinger_auth::AccessController;
use wharfinger_notify::EventSink;

use crate::metrics::Metrics;
use crate::trace::ContinueTrace;

use crate::limits::{Limits, TrustedProxies};

/// How the server behaves. The defaults are CNCF Distribution's, where it has such a setting.
#[derive(Clone, Debug)]
pub struct Options {
    /// Signs the state of uploads that clients carry (`http.secret`). Nodes behind one load
    /// balancer must share it. `None` makes one up, which is good for a single node until it
    /// restarts.
    pub secret: Option<String>,
    /// Who may do what (`auth`); `None` lets everybody do everything.
    pub access: Option<Arc<dyn AccessController>>,
    /// The classes of content that may be pushed (`policy.repository.classes`); none is all.
    pub classes: Vec<String>,
    /// What all paths begin with (`http.prefix`): led and ended by a slash.
    pub prefix: String,
    /// The address clients are told (`http.host`), in place of what their requests say.
    pub host: Option<Uri>,
    /// Whether locations are told without scheme and host (`http.relativeurls`).
    pub relative_urls: bool,
    /// Headers for every answer (`http.headers`).
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether HTTP/2 without TLS is spoken with clients that begin with it.
    pub http2_cleartext: bool,
    /// How long requests under way may take to finish when the server stops
    /// (`http.draintimeout`).
    pub drain_timeout: Duration,
    /// How long a client may take for a TLS handshake, and for a request's headers from their first
    /// byte.
    pub header_timeout: Duration,
    /// How long a client may pause in the middle of a body.
    pub body_timeout: Duration,
    /// How long a connection may be kept without a request, and without a client's reading what it
    /// is sent. Proxies in front keep theirs for minutes, and must be the first to close: a request
    /// that meets a closing connection fails.
    pub idle_timeout: Duration,
    /// How large a request's line and headers may be together, in bytes.
    pub max_header_size: usize,
    /// What clients may take (`http.limits`).
    pub limits: Limits,
    /// Proxies that are believed whose requests they pass on (`http.trustedproxies`).
    pub trusted_proxies: TrustedProxies,
    /// The most repositories in one answer (`catalog.maxentries`).
    pub catalog_max: usize,
    /// The most tags in one answer to a request that says how many it wants (`tags.maxtags`); one
    /// that does not gets all of them.
    pub tags_max: usize,
    /// Whether requests are logged (`log.accesslog.disabled` turns it off).
    pub access_log: bool,
    /// Who is told what happens (`notifications`); `None` is nobody.
    pub notifications: Option<Notifications>,
    /// Where requests are counted (`http.debug.prometheus`), if they are.
    pub metrics: Option<Arc<Metrics>>,
    /// How spans for distributed traces go on with those of clients; `None` makes no such spans.
    pub continue_trace: Option<ContinueTrace>,
}

/// Who is told what happens.
#[derive(Clone, Debug)]
pub struct Notifications {
    /// Takes the events.
    pub sink: Arc<dyn EventSink>,
    /// Whether events of manifests list what those refer to
    /// (`notifications.events.includereferences`).
    pub include_references: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            secret: None,
            access: None,
            classes: Vec::new(),
            prefix: "/".to_owned(),
            host: None,
            relative_urls: false,
            headers: Vec::new(),
            http2_cleartext: false,
            drain_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(15 * 60),
            max_header_size: 64 * 1024,
            limits: Limits::default(),
            trusted_proxies: TrustedProxies::default(),
            catalog_max: 1000,
            tags_max: 1000,
            access_log: true,
            notifications: None,
            metrics: None,
            continue_trace: None,
        }
    }
}
