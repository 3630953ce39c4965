//! Traces by OpenTelemetry, set up by its standard variables of the environment and sent to a
//! collector by OTLP over HTTP.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use http::{HeaderMap, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{TraceContextExt as _, TraceId, TracerProvider as _};
use opentelemetry_http::{Bytes, HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tokio::runtime::Handle;
use tracing::{Level, Span, info, level_filters::LevelFilter, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::DynFilterFn;
use tracing_subscriber::{Layer, Registry};

/// The target of spans that are for traces.
const TARGET: &str = "trace";

/// What an answer of a collector may have, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Lets a new span go on with the trace that a request's headers tell of, if they do, and gives
/// the name of the trace that it belongs to.
pub type ContinueTrace = fn(&Span, &HeaderMap) -> Option<String>;

/// A variable of the environment that asks for what there is not.
#[derive(Debug, Error)]
#[error("environment variable {variable}: {reason}")]
pub struct TraceError {
    variable: &'static str,
    reason: String,
}

fn wrong(variable: &'static str, reason: impl Display) -> TraceError {
    let reason = reason.to_string();
    TraceError { variable, reason }
}

/// What the variables ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Settings {
    /// The variable that says where the collector is.
    endpoint: &'static str,
    timeout: Duration,
    certificate: Option<(&'static str, String)>,
    /// Whether the traces of clients are continued.
    propagate: bool,
    /// The name that nobody has chosen.
    name: Option<&'static str>,
}

impl Settings {
    /// Reads variables. `None` is the answer where nobody asks for traces: unlike Distribution 3,
    /// which then tries to reach a collector on its own machine.
    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, TraceError> {
        let text = |name| variable(name).filter(|value| !value.trim().is_empty());
        let either = |one, other| [one, other].into_iter().find_map(|n| Some((n, text(n)?)));
        if text("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let endpoint = either(
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        );
        match text("OTEL_TRACES_EXPORTER").as_deref() {
            None if endpoint.is_none() => return Ok(None),
            Some("none") => return Ok(None),
            None | Some("otlp") => {}
            Some(other) => {
                let reason = format!("{other:?} is no exporter that there is: otlp and none are");
                return Err(wrong("OTEL_TRACES_EXPORTER", reason));
            }
        }
        let protocol = either(
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        );
        if let Some((name, protocol)) = protocol
            && protocol != "http/protobuf"
        {
            let reason = format!(
                "{protocol:?} is not spoken: http/protobuf is, for which collectors listen at port \
                 4318"
            );
            return Err(wrong(name, reason));
        }
        let samplers = [
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ];
        if let Some(sampler) = text("OTEL_TRACES_SAMPLER") {
            if !samplers.contains(&sampler.as_str()) {
                let known = samplers.join(", ");
                let reason = format!("{sampler:?} is no sampler that there is: {known} are");
                return Err(wrong("OTEL_TRACES_SAMPLER", reason));
            }
            let ratio = text("OTEL_TRACES_SAMPLER_ARG").map(|ratio| ratio.parse::<f64>());
            let sane = matches!(ratio, None | Some(Ok(0.0..=1.0)));
            if sampler.ends_with("traceidratio") && !sane {
                let reason = "it must be a number from 0 to 1, the share of traces that are kept";
                return Err(wrong("OTEL_TRACES_SAMPLER_ARG", reason));
            }
        }
        let timeout = either(
            "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
            "OTEL_EXPORTER_OTLP_TIMEOUT",
        );
        let timeout = match timeout {
            None => 10_000,
            Some((name, timeout)) => timeout
                .parse()
                .map_err(|_| wrong(name, "it must be a number of milliseconds, like 10000"))?,
        };
        let propagators = text("OTEL_PROPAGATORS");
        let propagators = propagators.as_deref().unwrap_or("tracecontext,baggage");
        let mut propagate = false;
        for propagator in propagators.split(',').map(str::trim) {
            match propagator {
                "tracecontext" => propagate = true,
                // Baggage is for those further down, and nothing is.
                "baggage" | "none" => {}
                other => {
                    let reason = format!(
                        "{other:?} is no propagator that there is: tracecontext, \
                                          baggage and none are"
                    );
                    return Err(wrong("OTEL_PROPAGATORS", reason));
                }
            }
        }
        let attributes = text("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let named = text("OTEL_SERVICE_NAME").is_some() || attributes.contains("service.name=");
        Ok(Some(Self {
            endpoint: endpoint.map_or("OTEL_EXPORTER_OTLP_ENDPOINT", |(name, _)| name),
            timeout: Duration::from_millis(timeout),
            certificate: either(
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ),
            propagate,
            name: (!named).then_some("wharfinger"),
        }))
    }
}

/// Spans on their way to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    propagate: bool,
}

impl Traces {
    /// Collects traces as the variables of the environment say; `None` where they do not ask for
    /// it. It must be called within a runtime, where the sending is done.
    ///
    /// A collector that cannot be reached is a warning in the log. Nobody waits for it.
    ///
    /// # Errors
    /// [`TraceError`], naming the variable.
    pub fn from_environment(version: &'static str) -> Result<Option<Self>, TraceError> {
        let variable = |name: &str| std::env::var(name).ok();
        let Some(settings) = Settings::read(variable)? else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(&settings)?)
            .build()
            // The error repeats the URL, which may have a password in it.
            .map_err(|_| wrong(settings.endpoint, "it is no URL like http://10.0.0.1:4318"))?;
        let mut resource =
            Resource::builder().with_attribute(KeyValue::new("service.version", version));
        if let Some(name) = settings.name {
            resource = resource.with_service_name(name);
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self {
            provider,
            propagate: settings.propagate,
        }))
    }

    /// Takes up the spans that are for traces, and warnings and errors within them.
    pub(crate) fn layer(&self) -> Box<dyn Layer<Registry> + Send + Sync> {
        // What is below a request's span counts within one only: what the process does by itself,
        // again and again, is no trace.
        let wanted = DynFilterFn::new(|metadata, context| {
            if metadata.is_span() {
                metadata.target() == TARGET
                    && (*metadata.level() <= Level::INFO || context.lookup_current().is_some())
            } else {
                *metadata.level() <= Level::WARN && metadata.target().starts_with("wharfinger")
            }
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("wharfinger"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_context_activation(false)
            .with_filter(wanted.with_max_level_hint(LevelFilter::DEBUG))
            .boxed()
    }

    pub(crate) fn continue_trace(&self) -> ContinueTrace {
        if self.propagate {
            |span, headers| {
                let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
                if parent.span().span_context().is_valid() {
                    // It can fail only for a span that has begun, or that nobody collects.
                    let _ = span.set_parent(parent);
                }
                trace_id(span)
            }
        } else {
            |span, _| trace_id(span)
        }
    }

    /// Sends what there is, for at most `limit`, and ends.
    pub(crate) async fn flush(self, limit: Duration) {
        let flushed =
            tokio::task::spawn_blocking(move || self.provider.shutdown_with_timeout(limit));
        if let Ok(Err(error)) = flushed.await {
            warn!(%error, "the last traces could not be sent");
        }
    }
}

fn trace_id(span: &Span) -> Option<String> {
    let context = span.context();
    let id = context.span().span_context().trace_id();
    (id != TraceId::INVALID).then(|| id.to_string())
}

/// Sends requests to the collector, and says when that begins to fail and when it works again.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    /// The threads that send spans are not the runtime's.
    runtime: Handle,
    failing: AtomicBool,
}

impl Client {
    fn new(settings: &Settings) -> Result<Self, TraceError> {
        let authorities = match &settings.certificate {
            Some((variable, file)) => std::fs::read(file)
                .map_err(|error| error.to_string())
                .and_then(|pem| wharfinger_client::authorities_in(&pem))
                .map_err(|error| wrong(variable, format!("{file}: {error}")))?,
            None => wharfinger_client::authorities(),
        };
        let client = wharfinger_client::builder(authorities)
            .timeout(settings.timeout)
            .build()
            .map_err(|error| wrong("OTEL_EXPORTER_OTLP_ENDPOINT", error))?;
        Ok(Self {
            client,
            runtime: Handle::current(),
            failing: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sending = async move {
            let mut answer = client.execute(request.try_into()?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                *headers = std::mem::take(answer.headers_mut());
            }
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await? {
                let room = MAX_ANSWER - body.len();
                body.extend_from_slice(&piece[..piece.len().min(room)]);
            }
            Ok::<_, HttpError>(response.body(body.into())?)
        };
        let answer = self.runtime.spawn(sending).await?;
        let failure = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("the collector answers {}", response.status())),
            Err(error) => Some(wharfinger_client::cause(&**error).to_string()),
        };
        match failure {
            Some(error) => {
                if !self.failing.swap(true, Relaxed) {
                    warn!(error, "traces cannot be sent to the collector");
                }
            }
            None => {
                if self.failing.swap(false, Relaxed) {
                    info!("traces are sent to the collector again");
                }
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let found = |name: &str| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some((*value).to_owned())
        };
        Settings::read(found).map_err(|error| error.to_string())
    }

    #[test]
    fn traces_are_collected_only_where_somebody_asks_for_it() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        for variables in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[endpoint, ("OTEL_TRACES_EXPORTER", "none")],
            &[endpoint, ("OTEL_SDK_DISABLED", "True")],
        ] {
            assert_eq!(read(variables), Ok(None), "{variables:?}");
        }
        for variables in [
            &[endpoint][..],
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x/v1/traces")],
            &[("OTEL_TRACES_EXPORTER", "otlp")],
            &[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
            &[endpoint, ("OTEL_SDK_DISABLED", "false")],
        ] {
            let settings = read(variables).unwrap().unwrap();
            assert!(settings.propagate);
            assert_eq!(settings.timeout, Duration::from_secs(10));
            assert_eq!(settings.name, Some("wharfinger"));
        }
    }

    #[test]
    fn the_variables_count() {
        let settings = read(&[
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "500"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_PROPAGATORS", "none"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b,service.name=mine"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let certificate = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem".to_owned());
        let wanted = Settings {
            endpoint: "OTEL_EXPORTER_OTLP_ENDPOINT",
            timeout: Duration::from_millis(1500),
            certificate: Some(certificate),
            propagate: false,
            name: None,
        };
        assert_eq!(settings, Ok(Some(wanted)));
    }

    #[test]
    fn what_there_is_not_is_refused_by_name() {
        for (name, value) in [
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
            ("OTEL_TRACES_SAMPLER", "sometimes"),
            ("OTEL_PROPAGATORS", "tracecontext,b3"),
        ] {
            let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
            let error = read(&[endpoint, (name, value)]).unwrap_err();
            let begin = format!("environment variable {name}: ");
            assert!(error.starts_with(&begin), "{error}");
        }
        for ratio in ["2", "-1", "half"] {
            let error = read(&[
                ("OTEL_TRACES_EXPORTER", "otlp"),
                ("OTEL_TRACES_SAMPLER", "traceidratio"),
                ("OTEL_TRACES_SAMPLER_ARG", ratio),
            ]);
            assert!(
                error.unwrap_err().contains("OTEL_TRACES_SAMPLER_ARG: "),
                "{ratio}"
            );
        }
    }
}
