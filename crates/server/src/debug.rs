//! The second listener: metrics and health, for those who operate the registry and no one else.

mod collection;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use tracing::error;
use wharfinger_health::Health;

use crate::answer::{empty, json_response};
use crate::body::Body;
use crate::listen::Listener;
use crate::peer::Peer;
use crate::probes;
use crate::serving::{self, Client, Service, Settings};
pub use collection::Collector;

/// The format that every Prometheus reads, as CNCF Distribution writes it.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Answers questions about the process: `/debug/health`, `/livez`, `/readyz`, and metrics where
/// they are enabled; and collects by `/debug/gc`.
#[derive(Debug)]
pub struct DebugServer {
    /// What decides whether requests are answered.
    pub health: Health,
    /// The path that metrics are served under, and the metrics.
    pub metrics: Option<(String, Registry)>,
    /// What collects when it is asked for.
    pub collector: Option<Collector>,
}

/// Few clients ask, and for little.
const SETTINGS: Settings = Settings {
    header_timeout: Duration::from_secs(30),
    idle_timeout: Duration::from_secs(180),
    drain_timeout: Duration::ZERO,
    max_header_size: 16 * 1024,
    http2_cleartext: false,
};

impl Service for Arc<DebugServer> {
    type Body = Body;

    type Place = ();

    async fn room(&self) {}

    fn place(&self, _: Peer) -> Option<()> {
        Some(())
    }

    fn settings(&self) -> Settings {
        SETTINGS
    }

    fn answer(
        &self,
        _: &Arc<Client>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Body>> + Send + 'static {
        ready(DebugServer::answer(self, &request))
    }
}

impl DebugServer {
    /// Accepts connections for as long as it is polled.
    pub fn serve(self, listener: Listener) -> BoxFuture<'static, ()> {
        // Compiled once, here: see `Server::serve`.
        Box::pin(serving::serve(
            listener,
            Arc::new(self),
            std::future::pending(),
        ))
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let (method, path) = (request.method(), request.uri().path());
        if let Some(response) = probes::answer(&self.health, method, path) {
            return without_body_for_head(method, response);
        }
        if let Some(collector) = self.collector.as_ref().filter(|_| path == collection::PATH) {
            return without_body_for_head(method, collector.answer(request));
        }
        let response = match &self.metrics {
            _ if !matches!(*method, Method::GET | Method::HEAD) => empty(StatusCode::NOT_FOUND),
            Some((place, metrics)) if place == path => scrape(metrics, request.headers()),
            _ if path == "/debug/health" => self.health(),
            _ => empty(StatusCode::NOT_FOUND),
        };
        without_body_for_head(method, response)
    }

    /// The checks that fail, each with the reason.
    fn health(&self) -> Response<Body> {
        let failing = self.health.failing();
        let mut response = json_response(&*failing);
        if !failing.is_empty() {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }
}

/// A HEAD's answer has the length of GET's. Hyper tells it from the body, and then sends none.
fn without_body_for_head(method: &Method, mut response: Response<Body>) -> Response<Body> {
    if *method == Method::HEAD {
        let length = http_body::Body::size_hint(response.body()).exact();
        let length = HeaderValue::from(length.unwrap_or(0));
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        *response.body_mut() = Body::Empty;
    }
    response
}

fn scrape(metrics: &Registry, headers: &HeaderMap) -> Response<Body> {
    let open_metrics = wants_open_metrics(headers);
    let mut body = String::new();
    let (encoded, content_type) = match open_metrics {
        true => (text::encode(&mut body, metrics), OPEN_METRICS),
        false => (prometheus_text::encode(&mut body, metrics), TEXT),
    };
    if let Err(error) = encoded {
        error!(%error, "metrics cannot be written down");
        return empty(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let mut response = Response::new(Body::full(body));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Whether a client takes nothing but OpenMetrics. Prometheus takes both and prefers it, but there
/// the bounds of buckets are written in another way (`1.0`, not `1`), so that a dashboard made for
/// Distribution would find other series.
fn wants_open_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let accepted = accepted.filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).map(|one| {
        let name = one.split(';').next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    });
    let mut open_metrics = false;
    let other = types.any(|name| match name.as_str() {
        "application/openmetrics-text" => {
            open_metrics = true;
            false
        }
        name => matches!(name, "text/plain" | "text/*" | "*/*"),
    });
    open_metrics && !other
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    async fn get(server: &DebugServer, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(path).header(header::ACCEPT, accept);
        let response = server.answer(&request.body(()).unwrap());
        let status = response.status().as_u16();
        let content_type = response.headers().get(header::CONTENT_TYPE);
        let content_type = content_type.map_or("", |value| value.to_str().unwrap());
        let content_type = content_type.to_owned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (
            status,
            content_type,
            String::from_utf8(body.into()).unwrap(),
        )
    }

    fn server() -> DebugServer {
        let mut metrics = Registry::default();
        metrics.register("things", "Things", Counter::<u64>::default());
        DebugServer {
            health: Health::default(),
            metrics: Some(("/m".to_owned(), metrics)),
            collector: None,
        }
    }

    #[tokio::test]
    async fn metrics_are_served_in_the_format_that_is_understood() {
        let server = server();
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*";
        for accept in ["", "*/*", "text/plain", prometheus] {
            let (status, content_type, body) = get(&server, "/m", accept).await;
            assert_eq!(
                (status, content_type.as_str()),
                (200, TEXT.to_str().unwrap())
            );
            assert!(body.contains("# TYPE things_total counter\n"), "{body}");
        }
        let (_, content_type, body) = get(&server, "/m", "application/openmetrics-text").await;
        assert_eq!(content_type, OPEN_METRICS.to_str().unwrap());
        assert!(body.contains("# TYPE things counter\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
    }

    #[tokio::test]
    async fn health_names_what_fails_and_why() {
        let server = server();
        let json = "application/json".to_owned();
        let health = async || get(&server, "/debug/health", "").await;
        assert_eq!(health().await, (200, json.clone(), "{}\n".to_owned()));
        server.health.fails("a check", "it is broken");
        let told = "{\"a check\":\"it is broken\"}\n".to_owned();
        assert_eq!(health().await, (503, json, told));
        assert_eq!(get(&server, "/readyz", "").await.0, 503);
        assert_eq!(get(&server, "/livez", "").await.0, 200);
    }

    #[tokio::test]
    async fn a_collection_is_begun_and_watched() {
        let driver = std::sync::Arc::new(wharfinger_storage::MemoryDriver::new());
        let registry = wharfinger_registry::Registry::new(driver, Default::default()).unwrap();
        let mut server = server();
        assert_eq!(get(&server, "/debug/gc", "").await.0, 404);
        server.collector = Some(Collector {
            registry: registry.clone(),
            options: Default::default(),
        });
        let (status, _, idle) = get(&server, "/debug/gc", "").await;
        assert_eq!(status, 200);
        assert!(idle.contains("\"activity\":\"idle\"") && idle.contains("\"succeeded\":0"));
        let post = Request::post("/debug/gc").body(()).unwrap();
        assert_eq!(server.answer(&post).status(), StatusCode::ACCEPTED);
        while registry.collect_progress().succeeded == 0 {
            tokio::task::yield_now().await;
        }
        let delete = Request::delete("/debug/gc").body(()).unwrap();
        let refused = server.answer(&delete);
        assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn there_is_nothing_else() {
        let server = server();
        for path in ["/", "/metrics", "/debug/", "/debug/vars", "/v2/"] {
            assert_eq!(get(&server, path, "").await.0, 404, "{path}");
        }
        let posted = server.answer(&Request::post("/debug/health").body(()).unwrap());
        assert_eq!(posted.status(), StatusCode::NOT_FOUND);
        let head = server.answer(&Request::head("/debug/health").body(()).unwrap());
        assert_eq!(head.headers()[header::CONTENT_LENGTH], "3");
        assert!(matches!(head.body(), Body::Empty));
        let without = DebugServer {
            health: Health::default(),
            metrics: None,
            collector: None,
        };
        assert_eq!(get(&without, "/metrics", "").await.0, 404);
    }
}
