//! `/debug/gc`: begins a collection, and tells how far it has got.

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tracing::warn;
use wharfinger_registry::{Activity, CollectOptions, Registry};

use crate::answer::{empty, json_response};
use crate::body::Body;
use crate::query::Query;

pub(super) const PATH: &str = "/debug/gc";

/// Collects when an operator asks for it.
#[derive(Clone, Debug)]
pub struct Collector {
    /// What is collected in.
    pub registry: Registry,
    /// What is removed.
    pub options: CollectOptions,
}

impl Collector {
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        match *request.method() {
            Method::GET | Method::HEAD => json_response(&self.registry.collect_progress()),
            Method::POST => self.begin(request.uri().query().unwrap_or_default()),
            _ => {
                let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
                let allow = HeaderValue::from_static("GET, HEAD, POST");
                response.headers_mut().insert(header::ALLOW, allow);
                response
            }
        }
    }

    /// Begins a collection that goes on when the answer has been given.
    fn begin(&self, query: &str) -> Response<Body> {
        let status = match self.registry.collect_progress().activity {
            Activity::Idle => {
                let mut options = self.options;
                options.dry_run |= Query::new(query).get("dryrun").as_deref() == Some("true");
                let registry = self.registry.clone();
                tokio::spawn(async move {
                    if let Err(error) = registry.collect_and_log(options, |_| {}).await {
                        warn!(%error, "the collection failed");
                    }
                });
                StatusCode::ACCEPTED
            }
            _ => StatusCode::CONFLICT,
        };
        let mut response = json_response(&self.registry.collect_progress());
        *response.status_mut() = status;
        response
    }
}
