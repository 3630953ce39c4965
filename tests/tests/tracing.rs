//! Traces: what a collector gets to see of a push and a pull.

use wharfinger_e2e::collector::{Collector, Span};
use wharfinger_e2e::image::{MANIFEST, manifest};
use wharfinger_e2e::{Config, Wharfinger, eventually, folder, noise};

fn traced(config: Config, collector: &Collector) -> Config {
    config
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.addr),
        )
        .env("OTEL_BSP_SCHEDULE_DELAY", "50")
}

/// The span of the request with this name and path.
fn request<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found
        .next()
        .unwrap_or_else(|| panic!("no {name} in {spans:#?}"));
    assert_eq!(found.next(), None, "{name} is there twice");
    span
}

/// The names of the spans that are part of another, in the order they ended.
fn within<'a>(spans: &'a [Span], span: &Span) -> Vec<&'a str> {
    let parts = spans.iter().filter(|part| part.parent == span.id);
    parts
        .inspect(|part| assert_eq!(part.trace, span.trace))
        .map(|part| part.name.as_str())
        .collect()
}

const CLIENTS_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENTS_SPAN: &str = "b7ad6b7169203331";

#[test]
fn a_push_and_a_pull_are_traced_down_to_the_store() {
    let home = folder();
    let collector = Collector::start();
    let mut server = traced(Config::new(home.path()), &collector)
        .set("health.storagedriver.enabled", true)
        .set("health.storagedriver.interval", "10ms")
        .env("OTEL_SERVICE_NAME", "my-registry")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        .env(
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x-tenant=one,authorization=Bearer%20s-e-cret",
        )
        .start();
    let http = server.http();
    let layer = noise(1, 2_000_000);
    let blob = http.push_blob("a/b", &layer);
    http.push_blob("a/b", b"{}");
    let content = manifest(b"{}", &[&layer]);
    let path = "/v2/a/b/manifests/1";
    let parent = format!("00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01");
    let headers = [
        ("Content-Type", MANIFEST),
        ("traceparent", parent.as_str()),
        ("X-Request-ID", "request-one"),
        ("User-Agent", "tester/1"),
    ];
    assert_eq!(http.send("PUT", path, &headers, &content).status, 201);
    assert!(http.get(&format!("/v2/a/b/blobs/{blob}")).body == layer);
    assert_eq!(http.get("/v2/_catalog").status, 200);
    assert_eq!(http.get("/readyz").status, 200);
    // What is still to be sent is sent at the end.
    assert!(server.stop().success());
    let spans = collector.spans();

    let push = request(&spans, "PUT /v2/{name}/manifests/{reference}");
    assert_eq!(push.trace, CLIENTS_TRACE);
    assert_eq!(push.parent, CLIENTS_SPAN);
    assert_eq!(push.kind, 2);
    assert!(!push.failed);
    for (name, value) in [
        ("http.request.method", "PUT"),
        ("http.route", "/v2/{name}/manifests/{reference}"),
        ("http.response.status_code", "201"),
        ("http.response.body.size", "0"),
        ("http.request.id", "request-one"),
        ("url.path", path),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("user_agent.original", "tester/1"),
        ("registry.repository", "a/b"),
        ("server.address", &server.addr.to_string()),
    ] {
        assert_eq!(
            push.attributes.get(name).map(String::as_str),
            Some(value),
            "{push:#?}"
        );
    }
    for (name, value) in [
        ("service.name", "my-registry"),
        ("service.version", env!("CARGO_PKG_VERSION")),
        ("deployment.environment", "test"),
    ] {
        assert_eq!(
            push.resource.get(name).map(String::as_str),
            Some(value),
            "{push:#?}"
        );
    }
    let parts = within(&spans, push);
    assert!(
        parts.contains(&"Stat") && parts.contains(&"PutContent"),
        "{parts:?}"
    );
    let stored = spans
        .iter()
        .find(|span| span.parent == push.id && span.name == "PutContent");
    let stored = stored.unwrap();
    let attribute = |name: &str| {
        let name = format!("io.cncf.distribution.storage.{name}");
        stored.attributes.get(&name).map(String::as_str)
    };
    assert_eq!(attribute("driver.name"), Some("filesystem"));
    let tag = "/docker/registry/v2/repositories/a/b/_manifests/tags/1/current/link";
    assert_eq!(attribute("path"), Some(tag));

    // What goes on in tasks of its own is part of the request too.
    let uploads = spans
        .iter()
        .filter(|span| span.name == "PUT /v2/{name}/blobs/uploads/{uuid}");
    let large = uploads
        .map(|upload| within(&spans, upload))
        .find(|parts| parts.contains(&"Write"));
    let large = large.unwrap_or_else(|| panic!("{spans:#?}"));
    // With the file that is moved, the link is written.
    for part in ["Writer", "Write", "Commit", "Move", "Delete"] {
        assert!(large.contains(&part), "{part}: {large:?}");
    }

    let pull = request(&spans, "GET /v2/{name}/blobs/{digest}");
    assert_eq!(pull.parent, "", "it begins a trace of its own");
    assert_eq!(pull.attributes["http.response.body.size"], "2000000");
    assert!(within(&spans, pull).contains(&"Open"));
    assert!(within(&spans, request(&spans, "GET /v2/_catalog")).contains(&"List"));

    // What the process does by itself is no trace, nor are probes.
    for span in &spans {
        assert!(span.kind == 2 || !span.parent.is_empty(), "{span:#?}");
        let path = span.attributes.get("url.path");
        assert!(path.is_none_or(|path| path != "/readyz"), "{span:#?}");
    }

    let heads = collector.heads();
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        assert!(head.contains("x-tenant: one"), "{head}");
        assert!(head.contains("authorization: bearer s-e-cret"), "{head}");
    }
    assert!(!server.log().contains("s-e-cret"), "{}", server.log());
}

/// The spans of requests once there are some.
fn requests(collector: &Collector) -> Vec<Span> {
    let mut spans = Vec::new();
    eventually("spans come", || {
        spans = collector.spans();
        spans.retain(|span| span.kind == 2);
        !spans.is_empty()
    });
    spans
}

#[test]
fn failures_are_told_and_lines_of_the_log_name_the_trace() {
    let home = folder();
    let collector = Collector::start();
    let server = traced(Config::new(home.path()), &collector)
        .set("log.level", "debug")
        .start();
    let http = server.http();
    let blob = http.push_blob("a", &noise(2, 1000));
    std::fs::write(server.blob_file(&blob), "damaged").unwrap();
    let mut server = server;
    server.stop();
    server.start_again();
    assert_eq!(
        server.http().get(&format!("/v2/a/blobs/{blob}")).status,
        500
    );
    let failed = "GET /v2/{name}/blobs/{digest}";
    eventually("the failure is told", || {
        collector.spans().iter().any(|span| span.name == failed)
    });
    let spans = collector.spans();
    let span = request(&spans, failed);
    assert!(span.failed, "{span:#?}");
    assert_eq!(span.attributes["http.response.status_code"], "500");
    let log = server.log();
    let line = log
        .lines()
        .find(|line| line.contains("a request failed"))
        .unwrap();
    assert!(line.contains(&format!("trace_id={}", span.trace)), "{line}");
}

#[test]
fn a_trace_that_the_client_does_not_keep_is_not_sent() {
    let home = folder();
    let collector = Collector::start();
    let server = traced(Config::new(home.path()), &collector).start();
    let unkept = format!("00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-00");
    let headers = [("traceparent", unkept.as_str())];
    assert_eq!(server.http().send("GET", "/v2/", &headers, b"").status, 200);
    assert_eq!(server.http().get("/v2/_catalog").status, 200);
    let spans = requests(&collector);
    assert!(
        spans.iter().all(|span| span.trace != CLIENTS_TRACE),
        "{spans:#?}"
    );
}

#[test]
fn a_sampler_that_keeps_nothing_sends_nothing() {
    let home = folder();
    let collector = Collector::start();
    let mut server = traced(Config::new(home.path()), &collector)
        .env("OTEL_TRACES_SAMPLER", "traceidratio")
        .env("OTEL_TRACES_SAMPLER_ARG", "0")
        .start();
    assert_eq!(server.http().get("/v2/").status, 200);
    server.stop();
    assert_eq!(collector.spans(), []);
}

/// Starts it with these variables, uses it, stops it, and gives its log.
fn log_with(variables: &[(&str, String)]) -> String {
    let home = folder();
    let mut config = Config::new(home.path());
    for (name, value) in variables {
        config = config.env(name, value);
    }
    let mut server: Wharfinger = config.start();
    for _ in 0..20 {
        assert_eq!(server.http().get("/v2/").status, 200);
    }
    assert!(server.stop().success());
    server.log()
}

#[test]
fn without_a_collector_everything_works() {
    let nobody = wharfinger_e2e::distribution::free_address();
    let log = log_with(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{nobody}")),
        ("OTEL_BSP_SCHEDULE_DELAY", "10".to_owned()),
    ]);
    let warned = log
        .matches("traces cannot be sent to the collector")
        .count();
    assert_eq!(warned, 1, "{log}");
}

#[test]
fn nothing_is_sent_unless_it_is_asked_for() {
    let collector = Collector::start();
    let endpoint = (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        format!("http://{}", collector.addr),
    );
    for off in [
        ("OTEL_SDK_DISABLED", "true".to_owned()),
        ("OTEL_TRACES_EXPORTER", "none".to_owned()),
    ] {
        log_with(&[endpoint.clone(), off]);
    }
    log_with(&[("OTEL_SERVICE_NAME", "registry".to_owned())]);
    assert_eq!(collector.spans(), []);
}

#[test]
fn what_cannot_be_done_stops_the_start_by_name() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such.pem"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url"),
    ] {
        let home = folder();
        let endpoint = "http://127.0.0.1:9";
        let config = Config::new(home.path());
        let config = config.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        let mut service = config.env(name, value).spawn();
        assert!(!service.wait().success(), "{name}");
        let log = service.log();
        let told = format!("wharfinger: environment variable {name}: ");
        assert!(log.contains(&told), "{log}");
    }
}
