//! What is logged: what Distribution's lines carry, bytes that were really sent, mails, and never
//! a secret.

use std::fs;
use std::io::Read;

use serde_json::{Value, json};
use wharfinger_e2e::http::OCTETS;
use wharfinger_e2e::mail::MailServer;
use wharfinger_e2e::{Config, Wharfinger, digest, eventually, folder, noise};

/// The lines of JSON in a log that say `message`.
fn lines(server: &Wharfinger, message: &str) -> Vec<Value> {
    let log = server.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    lines
        .filter(|line: &Value| line["msg"] == message)
        .collect()
}

/// The first such line, once it is there.
fn line(server: &Wharfinger, message: &str) -> Value {
    let mut found = Vec::new();
    eventually(message, || {
        found = lines(server, message);
        !found.is_empty()
    });
    found.swap_remove(0)
}

#[test]
fn lines_can_be_asked_for_by_what_their_requests_are() {
    // Where nobody else wants to know of requests, too.
    for access_log in [true, false] {
        let home = folder();
        let mut server = Config::new(home.path())
            .set("log.formatter", "json")
            .set("log.accesslog.disabled", !access_log)
            .env("RUST_LOG", "warn,[request{http.request.method=PUT}]=debug")
            .start();
        let http = server.http();
        http.push_blob("a", b"content");
        assert_eq!(http.get("/v2/").status, 200);
        line(&server, "response completed");
        server.stop();
        let told = lines(&server, "response completed");
        let methods: Vec<_> = told
            .iter()
            .map(|line| &line["http.request.method"])
            .collect();
        assert_eq!(methods, ["PUT"]);
    }
}

#[test]
fn lines_about_requests_carry_what_distributions_carry() {
    let home = folder();
    let server = Config::new(home.path())
        .set(
            "log",
            json!({"formatter": "json", "levels": {"response": "debug", "wharfinger::serve": "error"}}),
        )
        .set("log.fields.service", "registry")
        .set("auth", json!({"silly": {"realm": "r", "service": "s"}}))
        .start();
    let headers = [
        ("Authorization", "anything"),
        ("User-Agent", "tester/1"),
        ("X-Request-ID", "number-one"),
    ];
    let path = "/v2/a/b/tags/list?n=5";
    assert_eq!(server.http().send("GET", path, &headers, b"").status, 404);
    let line = line(&server, "response completed");
    for (name, value) in [
        ("http.request.id", json!("number-one")),
        ("http.request.method", json!("GET")),
        ("http.request.host", json!(server.addr.to_string())),
        ("http.request.uri", json!(path)),
        ("http.request.useragent", json!("tester/1")),
        ("http.response.status", json!(404)),
        ("vars.name", json!("a/b")),
        ("auth.user.name", json!("silly")),
        ("service", json!("registry")),
        ("level", json!("debug")),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
    let peer = line["http.request.remoteaddr"].as_str().unwrap();
    assert!(peer.starts_with("127.0.0.1:"), "{line}");
    assert!(
        line["http.response.written"].as_u64().unwrap() > 0,
        "{line}"
    );
    assert!(
        line["http.response.duration"]
            .as_str()
            .unwrap()
            .ends_with('s'),
        "{line}"
    );
    // Levels are by module: nothing of the binary's own is said.
    let log = server.log();
    let said = log.lines().filter(|line| line.starts_with('{')).count();
    assert_eq!(said, 1, "{log}");
}

#[test]
fn lines_of_what_goes_on_in_tasks_name_their_request() {
    let home = folder();
    let server = Config::new(home.path())
        .set("log", json!({"formatter": "json", "level": "warn"}))
        .start();
    let http = server.http();
    let path = http.open_upload("a");
    let mut upload = http
        .begin("PATCH", &path, &[OCTETS, ("X-Request-ID", "broken")], 1000)
        .unwrap();
    std::io::Write::write_all(&mut upload, b"half").unwrap();
    upload.shutdown(std::net::Shutdown::Write).unwrap();
    let line = line(&server, "a request's body broke off");
    assert_eq!(line["http.request.id"], "broken", "{line}");
    assert_eq!(line["vars.name"], "a", "{line}");
}

#[test]
fn the_access_log_tells_when_it_is_over_and_how_much_was_sent() {
    let home = folder();
    let server = Config::new(home.path()).start();
    let http = server.http();
    let layer = noise(1, 64 << 20);
    let path = format!("/v2/a/blobs/{}", http.push_blob("a", &layer));
    let mut reader = http.begin("GET", &path, &[], 0).unwrap();
    let mut some = vec![0; 1 << 20];
    reader.read_exact(&mut some).unwrap();
    let find = || {
        let log = server.log();
        let found = log
            .lines()
            .find(|line| line.contains(&format!("GET {path} ")));
        found.map(str::to_owned)
    };
    // Another request is logged meanwhile, so the line could have been there.
    assert_eq!(http.get("/v2/").status, 200);
    eventually("the other line", || server.log().contains("GET /v2/ "));
    assert_eq!(find(), None);
    drop(reader);
    let mut line = None;
    eventually("the line", || {
        line = find();
        line.is_some()
    });
    let line = line.unwrap();
    let (_, rest) = line.split_once(" 200 ").unwrap();
    let bytes: u64 = rest.split(' ').next().unwrap().parse().unwrap();
    assert!((1 << 20..layer.len() as u64 / 2).contains(&bytes), "{line}");
    assert!(http.get(&path).body == layer);
    let whole = format!("\"GET {path} HTTP/1.1\" 200 {} ", layer.len());
    eventually("the whole download's line", || {
        server.log().contains(&whole)
    });
}

#[test]
fn errors_are_mailed() {
    let home = folder();
    let mails = MailServer::start();
    let down = home.path().join("down");
    let server = Config::new(home.path())
        .set(
            "log.hooks",
            json!([{
                "type": "mail", "levels": ["panic", "error"],
                "options": {
                    "smtp": {
                        "addr": mails.addr.to_string(), "username": "u", "password": "s-e-cret",
                    },
                    "from": "registry@example.org", "to": ["ops@example.org"],
                },
            }]),
        )
        .set(
            "health.file",
            json!([{"file": down, "interval": "20ms", "threshold": 2}]),
        )
        .start();
    fs::write(&down, "").unwrap();
    eventually("a mail comes", || !mails.mails().is_empty());
    let mail = mails.mails().swap_remove(0);
    let unfolded = mail.replace("\r\n ", " ").replace("=\r\n", "");
    for part in [
        "From: registry@example.org",
        "To: ops@example.org",
        "Subject: [error] ",
        "a health check fails: requests are not answered",
    ] {
        assert!(unfolded.contains(part), "{part}\n{mail}");
    }
    // The warnings before and after it are not mailed.
    assert!(
        !mail.contains("level=warning") && !mail.contains("level=3Dwarning"),
        "{mail}"
    );
    assert!(!server.log().contains("s-e-cret"), "{}", server.log());
}

/// A user `ada`, whose password this is.
const PASSWORD: &str = "s-e-cret-password";
const USERS: &str = "ada:$2y$05$vxYmcSx.kvKLPnZQgvGT6uHrZ7Ph.Mt8PzMyEV2tR/CkBULlxk4Gy\n";

/// `ada:s-e-cret-password` as a client sends it.
const BASIC: &str = "Basic YWRhOnMtZS1jcmV0LXBhc3N3b3Jk";

#[test]
fn secrets_are_never_logged() {
    let nobody = wharfinger_e2e::distribution::free_address();
    for formatter in ["text", "json", "logstash"] {
        for method in ["htpasswd", "token"] {
            let home = folder();
            let users = home.path().join("users");
            fs::write(&users, USERS).unwrap();
            let keys = home.path().join("keys");
            let key = json!({"kty": "oct", "kid": "k", "alg": "HS256",
                             "k": "cy1lLWNyZXQta2V5LW9mLXRoaXJ0eS10d28tYnl0ZXM"});
            fs::write(&keys, json!({"keys": [key]}).to_string()).unwrap();
            let auth = match method {
                "htpasswd" => json!({"htpasswd": {"realm": "r", "path": users}}),
                _ => json!({"token": {"realm": "http://x/token", "service": "s", "issuer": "i",
                                      "jwks": keys, "signingalgorithms": ["HS256"]}}),
            };
            let hook = json!({
                "type": "mail", "levels": ["debug", "info", "warn", "error"],
                "options": {
                    "smtp": {"addr": nobody.to_string(), "username": "u", "password": PASSWORD},
                    "from": "a@example.org", "to": ["b@example.org"],
                },
            });
            let probe = json!({
                "uri": format!("http://u:{PASSWORD}@{nobody}/"), "interval": "20ms",
                "threshold": 1_000_000, "headers": {"Authorization": ["Bearer s-e-cret-header"]},
            });
            let endpoint = json!({
                "name": "nobody", "url": format!("http://u:{PASSWORD}@{nobody}/?key=s-e-cret"),
                "timeout": "1s", "threshold": 1, "backoff": "20ms",
                "headers": {"Authorization": ["Bearer s-e-cret-header"]},
            });
            let mut server = Config::new(home.path())
                .watched()
                .set(
                    "log",
                    json!({"formatter": formatter, "level": "debug", "hooks": [hook]}),
                )
                .set("http.secret", "s-e-cret-of-uploads")
                .set("http.draintimeout", "5s")
                .set("auth", auth)
                .set("health.http", json!([probe]))
                .set("notifications.endpoints", json!([endpoint]))
                .set("redis", json!({"addr": "x:1", "password": PASSWORD}))
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{nobody}"))
                .env(
                    "OTEL_EXPORTER_OTLP_HEADERS",
                    "authorization=Bearer%20s-e-cret-collector",
                )
                .env("OTEL_BSP_SCHEDULE_DELAY", "20")
                .start();
            let http = server.http();
            let bearer =
                "Bearer eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.eyJzLWUtY3JldCI6MX0.cy1lLWNyZXQ";
            for value in [
                BASIC,
                "Basic czplLWNyZXQ=",
                "Basic s-e-cret",
                bearer,
                "Bearer s-e-cret",
                "s-e-cret",
            ] {
                let headers = [("Authorization", value), ("Cookie", "s-e-cret")];
                for (verb, path) in [
                    ("GET", "/v2/"),
                    ("GET", "/v2/a/manifests/1"),
                    ("POST", "/v2/a/blobs/uploads/"),
                    ("PUT", "/v2/a/manifests/1"),
                ] {
                    let answer = http.send(verb, path, &headers, b"");
                    let text = String::from_utf8_lossy(&answer.body).into_owned();
                    assert!(!text.contains("s-e-cret"), "{text}");
                }
            }
            if method == "htpasswd" {
                let headers = [("Authorization", BASIC)];
                let opened = http.send("POST", "/v2/a/blobs/uploads/", &headers, b"");
                assert_eq!(opened.status, 202, "{opened:?}");
                let chunk = http.send("PATCH", &opened.location(), &headers, b"content");
                assert_eq!(chunk.status, 202, "{chunk:?}");
                let path = format!("/v2/a/blobs/uploads/?digest={}", digest(b"content"));
                let pushed = http.send("POST", &path, &headers, b"content");
                assert_eq!(pushed.status, 201, "{pushed:?}");
                eventually("the endpoint was looked for", || {
                    server.log().contains("endpoint=nobody") || server.log().contains("\"nobody\"")
                });
            }
            eventually("the check has failed", || {
                server.log().contains("a health check fails")
            });
            eventually("the collector was looked for", || {
                server.log().contains("traces cannot be sent")
            });
            server.stop();
            let log = server.log();
            assert!(log.contains("response completed"), "{log}");
            assert!(log.contains("a mail cannot be sent"), "{log}");
            for secret in [
                "s-e-cret", "YWRhOn", "eyJhbG", "cy1lLWNy", "czplLWNy", "_state=",
            ] {
                let line = log.lines().find(|line| line.contains(secret));
                assert_eq!(line, None, "{formatter}, {method}: {secret}");
            }
        }
    }
}
