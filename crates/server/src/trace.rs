//! A request's span in a distributed trace, with OpenTelemetry's names for what is told of it
//! (semantic conventions, "HTTP server").
//!
//! Spans for traces have the target `trace`, so that lines of the log can do without what they tell.

use http::{HeaderMap, StatusCode, Version};
use tracing::{Span, field, info_span};

use crate::call::Call;
use crate::route::Route;

/// Lets a new span go on with the trace that a request's headers tell of, if they do, and gives
/// the name of the trace that it belongs to.
pub type ContinueTrace = fn(&Span, &HeaderMap) -> Option<String>;

/// The span of a request. The trace's name goes to the lines in the log, too.
pub(crate) fn span(call: &Call, route: Option<&Route>, continue_trace: ContinueTrace) -> Span {
    let request = &call.request;
    let method = request.method.as_str();
    let pattern = route.map(Route::pattern);
    let name = pattern.map(|pattern| format!("{method} {pattern}"));
    let repository = route.and_then(Route::repository);
    let text = |name| {
        request
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    let span = info_span!(
        target: "trace",
        parent: &call.span,
        "request",
        otel.kind = "server",
        otel.name = name.as_deref().unwrap_or(method),
        otel.status_code = field::Empty,
        http.request.method = method,
        http.request.id = call.id.to_str().unwrap_or_default(),
        http.route = pattern,
        http.response.status_code = field::Empty,
        http.response.body.size = field::Empty,
        url.path = request.uri.path(),
        server.address = request.uri.host().or_else(|| text(http::header::HOST)),
        client.address = %call.client.name(),
        network.protocol.version = version(request.version),
        user_agent.original = text(http::header::USER_AGENT),
        enduser.id = field::Empty,
        registry.repository = repository.map(|name| name.as_str()),
    );
    if let Some(trace) = continue_trace(&span, &request.headers) {
        call.span.record("trace_id", trace);
    }
    span
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// Tells how a request ended. Only what the registry is to blame for is an error of the server's.
pub(crate) fn ended(span: &Span, status: Option<StatusCode>, sent: u64) {
    if let Some(status) = status {
        span.record("http.response.status_code", status.as_u16());
        span.record("http.response.body.size", sent);
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
        }
    }
}
