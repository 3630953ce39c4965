//! What is counted of requests, under the names, labels and types of CNCF Distribution's metrics,
//! and what is missing there.
//!
//! Every series is looked up once and then kept, so that counting a request takes neither an
//! allocation nor a lock that others wait for.

mod process;

use std::sync::OnceLock;
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::route::Route;

pub use process::register as register_process;

/// Upper ends of buckets in seconds: Distribution's, and smaller ones.
const SECONDS: [f64; 18] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 25.0, 60.0,
];

/// Upper ends of buckets in bytes: from 1 KiB to 2 GiB, as Distribution's.
fn bytes() -> impl Iterator<Item = f64> {
    (10..32).map(|power| f64::from(2u32.pow(power)))
}

/// What a request is about, as metrics call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    Base,
    Blob,
    BlobUpload,
    BlobUploadChunk,
    Catalog,
    Manifest,
    Referrers,
    Tags,
    /// Not a path of the API.
    Other,
}

impl Handler {
    const ALL: [Self; 9] = [
        Self::Base,
        Self::Blob,
        Self::BlobUpload,
        Self::BlobUploadChunk,
        Self::Catalog,
        Self::Manifest,
        Self::Referrers,
        Self::Tags,
        Self::Other,
    ];

    pub(crate) fn of(route: &Route) -> Self {
        match route {
            Route::Root => Self::Other,
            Route::Base => Self::Base,
            Route::Catalog => Self::Catalog,
            Route::Tags(_) => Self::Tags,
            Route::Manifest(..) => Self::Manifest,
            Route::Blob(..) => Self::Blob,
            Route::Uploads(_) => Self::BlobUpload,
            Route::Upload(..) => Self::BlobUploadChunk,
            Route::Referrers(..) => Self::Referrers,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Blob => "blob",
            Self::BlobUpload => "blob_upload",
            Self::BlobUploadChunk => "blob_upload_chunk",
            Self::Catalog => "catalog",
            Self::Manifest => "manifest",
            Self::Referrers => "referrers",
            Self::Tags => "tags",
            Self::Other => "other",
        }
    }
}

/// The methods that are told apart; the last stands for all others.
const METHODS: [&str; 8] = [
    "get", "head", "post", "put", "patch", "delete", "options", "unknown",
];

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        _ => 7,
    }
}

/// The statuses whose series are kept; others are looked up.
const CODES: [u16; 22] = [
    200, 201, 202, 204, 206, 304, 307, 400, 401, 403, 404, 405, 408, 412, 413, 416, 429, 431, 499,
    500, 503, 507,
];

/// The status under which a request is counted and logged whose client left before there was an
/// answer.
pub(crate) const ABANDONED: u16 = 499;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: u16,
    handler: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByMethod {
    handler: &'static str,
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByHandler {
    handler: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// What is counted of requests.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<ByCode, Counter>,
    duration: Histograms<ByMethod>,
    first_byte: Histograms<ByMethod>,
    handlers: [OfHandler; Handler::ALL.len()],
}

/// The series of a handler.
#[derive(Debug)]
struct OfHandler {
    in_flight: Gauge,
    request_size: Histogram,
    response_size: Histogram,
    received: Counter,
    sent: Counter,
    methods: [OfMethod; METHODS.len()],
}

/// The series of a handler and a method, there once they were asked for.
#[derive(Debug, Default)]
struct OfMethod {
    requests: [OnceLock<Counter>; CODES.len()],
    duration: OnceLock<Histogram>,
    first_byte: OnceLock<Histogram>,
}

/// What is known of a request when it is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) handler: Handler,
    pub(crate) method: &'a Method,
    /// `None` when the client left before there was an answer.
    pub(crate) status: Option<StatusCode>,
    pub(crate) took: Duration,
    /// How long it took until there was an answer.
    pub(crate) answered: Option<Duration>,
    /// The bytes of the request's line, headers and body.
    pub(crate) received: u64,
    /// The bytes of the answer's body.
    pub(crate) sent: u64,
}

impl Metrics {
    /// Metrics that are part of `registry`, whose prefix should be `registry`.
    pub fn new(registry: &mut Registry) -> Self {
        let requests = Family::<ByCode, Counter>::default();
        let seconds: fn() -> Histogram = || Histogram::new(SECONDS);
        let sizes: fn() -> Histogram = || Histogram::new(bytes());
        let duration = Histograms::new_with_constructor(seconds);
        let first_byte = Histograms::new_with_constructor(seconds);
        let in_flight = Family::<ByHandler, Gauge>::default();
        let request_size = Histograms::<ByHandler>::new_with_constructor(sizes);
        let response_size = Histograms::<ByHandler>::new_with_constructor(sizes);
        let received = Family::<ByHandler, Counter>::default();
        let sent = Family::<ByHandler, Counter>::default();
        let handlers = Handler::ALL.map(|handler| {
            let labels = ByHandler {
                handler: handler.name(),
            };
            OfHandler {
                in_flight: in_flight.get_or_create_owned(&labels),
                request_size: request_size.get_or_create_owned(&labels),
                response_size: response_size.get_or_create_owned(&labels),
                received: received.get_or_create_owned(&labels),
                sent: sent.get_or_create_owned(&labels),
                methods: Default::default(),
            }
        });
        let told = "Requests";
        registry.register("http_requests", told, requests.clone());
        let told = "How long requests took until the last byte of their answers was sent";
        registry.register("http_request_duration_seconds", told, duration.clone());
        let told = "How long requests took until their answers began";
        registry.register("http_response_start_seconds", told, first_byte.clone());
        let told = "Requests that are being answered";
        registry.register("http_in_flight_requests", told, in_flight);
        let told = "Bytes of requests: line, headers and body";
        registry.register("http_request_size_bytes", told, request_size);
        let told = "Bytes of answers' bodies that were sent";
        registry.register("http_response_size_bytes", told, response_size);
        let told = "Bytes of requests' bodies, as they come";
        registry.register("http_received_bytes", told, received);
        let told = "Bytes of answers' bodies, as they go";
        registry.register("http_sent_bytes", told, sent);
        Self {
            requests,
            duration,
            first_byte,
            handlers,
        }
    }

    /// Counts a request as in flight.
    pub(crate) fn begun(&self, handler: Handler) {
        self.handlers[handler as usize].in_flight.inc();
    }

    /// Counts bytes of a request's body.
    pub(crate) fn received(&self, handler: Handler, bytes: u64) {
        self.handlers[handler as usize].received.inc_by(bytes);
    }

    /// Counts bytes of an answer's body.
    pub(crate) fn sent(&self, handler: Handler, bytes: u64) {
        self.handlers[handler as usize].sent.inc_by(bytes);
    }

    /// Counts a request that is over, and was counted as in flight.
    pub(crate) fn ended(&self, request: Observed<'_>) {
        let of_handler = &self.handlers[request.handler as usize];
        of_handler.in_flight.dec();
        // As in Prometheus, numbers are floating point: beyond 2^53 bytes they lose the last one.
        of_handler.request_size.observe(request.received as f64);
        of_handler.response_size.observe(request.sent as f64);
        let index = method_index(request.method);
        let of_method = &of_handler.methods[index];
        let labels = || ByMethod {
            handler: request.handler.name(),
            method: METHODS[index],
        };
        of_method
            .duration
            .get_or_init(|| self.duration.get_or_create_owned(&labels()))
            .observe(request.took.as_secs_f64());
        if let Some(answered) = request.answered {
            of_method
                .first_byte
                .get_or_init(|| self.first_byte.get_or_create_owned(&labels()))
                .observe(answered.as_secs_f64());
        }
        let code = request.status.map_or(ABANDONED, |status| status.as_u16());
        let counter = || {
            self.requests.get_or_create_owned(&ByCode {
                code,
                handler: request.handler.name(),
                method: METHODS[index],
            })
        };
        match CODES.iter().position(|kept| *kept == code) {
            Some(kept) => of_method.requests[kept].get_or_init(counter).inc(),
            None => counter().inc(),
        };
    }
}

/// Adds what program this is to `registry`, whose prefix should be `registry`.
pub fn register_build_info(registry: &mut Registry, version: &'static str) {
    #[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
    struct Build {
        program: &'static str,
        version: &'static str,
    }
    let build = Family::<Build, Gauge>::default();
    let program = "wharfinger";
    build.get_or_create(&Build { program, version }).set(1);
    registry.register("build_info", "Which program this is", build);
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;

    use super::*;

    #[test]
    fn requests_are_counted_under_distributions_names_labels_and_buckets() {
        let mut registry = Registry::with_prefix("registry");
        let metrics = Metrics::new(&mut registry);
        register_build_info(&mut registry, "1.2.3");
        let mut request = Observed {
            handler: Handler::BlobUploadChunk,
            method: &Method::PATCH,
            status: Some(StatusCode::ACCEPTED),
            took: Duration::from_millis(30),
            answered: Some(Duration::from_millis(20)),
            received: 1500,
            sent: 0,
        };
        metrics.begun(Handler::BlobUploadChunk);
        metrics.ended(request);
        metrics.begun(Handler::BlobUploadChunk);
        request.status = Some(StatusCode::IM_A_TEAPOT);
        metrics.ended(request);
        metrics.begun(Handler::Blob);
        metrics.sent(Handler::Blob, 100);
        request.handler = Handler::Blob;
        request.method = &Method::TRACE;
        request.status = None;
        request.answered = None;
        metrics.begun(Handler::Blob);
        metrics.ended(request);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "# TYPE registry_http_requests_total counter",
            "registry_http_requests_total{code=\"202\",handler=\"blob_upload_chunk\",method=\"patch\"} 1",
            "registry_http_requests_total{code=\"418\",handler=\"blob_upload_chunk\",method=\"patch\"} 1",
            "registry_http_requests_total{code=\"499\",handler=\"blob\",method=\"unknown\"} 1",
            "registry_http_request_duration_seconds_bucket{handler=\"blob_upload_chunk\",method=\"patch\",le=\"0.025\"} 0",
            "registry_http_request_duration_seconds_bucket{handler=\"blob_upload_chunk\",method=\"patch\",le=\"0.05\"} 2",
            "registry_http_request_duration_seconds_bucket{handler=\"blob_upload_chunk\",method=\"patch\",le=\"60\"} 2",
            "registry_http_response_start_seconds_bucket{handler=\"blob_upload_chunk\",method=\"patch\",le=\"0.025\"} 2",
            "registry_http_in_flight_requests{handler=\"blob_upload_chunk\"} 0",
            "registry_http_in_flight_requests{handler=\"blob\"} 1",
            "registry_http_request_size_bytes_bucket{handler=\"blob_upload_chunk\",le=\"1024\"} 0",
            "registry_http_request_size_bytes_bucket{handler=\"blob_upload_chunk\",le=\"2048\"} 2",
            "registry_http_request_size_bytes_bucket{handler=\"blob_upload_chunk\",le=\"2.147483648e+09\"} 2",
            "registry_http_sent_bytes_total{handler=\"blob\"} 100",
            "registry_build_info{program=\"wharfinger\",version=\"1.2.3\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("response_start_seconds_count{handler=\"blob\""));
    }
}
