//! Health checks of every kind, what Kubernetes asks, and the second listener.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;
use serde_json::json;
use wharfinger_e2e::http::{OCTETS, read_answer};
use wharfinger_e2e::{Config, Http, eventually, folder, noise};

/// A service that answers every request with a status, which may change.
fn service() -> (std::net::SocketAddr, Arc<AtomicU16>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let status = Arc::new(AtomicU16::new(204));
    let told = Arc::clone(&status);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]);
            let good = request.starts_with("HEAD /up HTTP/1.1\r\n") && request.contains("x-key: k");
            let status = if good {
                told.load(Ordering::Relaxed)
            } else {
                400
            };
            let answer = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (addr, status)
}

/// The statuses of what tells of health: the API, `/` and the probes, on both listeners.
fn statuses(http: Http, debug: Http) -> [u16; 7] {
    let (here, there) = (|path| http.get(path).status, |path| debug.get(path).status);
    [
        here("/v2/"),
        here("/"),
        here("/livez"),
        here("/readyz"),
        there("/livez"),
        there("/readyz"),
        there("/debug/health"),
    ]
}

const GOOD: [u16; 7] = [200; 7];
const BAD: [u16; 7] = [503, 200, 200, 503, 200, 503, 503];

#[test]
fn checks_of_every_kind_take_the_registry_out_of_service_and_put_it_back() {
    let home = folder();
    let maintenance = home.path().join("maintenance");
    let (web, status) = service();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_addr = tcp.local_addr().unwrap();
    let url = format!("http://user:s-e-cret@{web}/up");
    let server = Config::new(home.path())
        .watched()
        .set(
            "health",
            json!({
                "storagedriver": {"enabled": true, "interval": "50ms", "threshold": 3},
                "file": [{"file": maintenance, "interval": "50ms"}],
                "http": [{
                    "uri": url, "headers": {"x-key": ["k"]}, "statuscode": 204,
                    "interval": "50ms", "timeout": "30s", "threshold": 2,
                }],
                "tcp": [{"addr": tcp_addr.to_string(), "interval": "50ms", "timeout": "30s"}],
            }),
        )
        .start();
    let (http, debug) = (server.http(), server.debug());
    assert_eq!(statuses(http, debug), GOOD, "{}", server.log());
    assert_eq!(debug.get("/debug/health").json(), json!({}));

    let goes = |what: &str, wanted: [u16; 7]| {
        eventually(what, || statuses(http, debug) == wanted);
    };
    let failing = |name: &str| {
        let told = debug.get("/debug/health");
        let checks = told.json();
        let checks = checks.as_object().unwrap();
        assert_eq!(checks.keys().collect::<Vec<_>>(), [name], "{checks:?}");
        let type_ = told.header("content-type");
        assert_eq!(type_, Some("application/json"));
        checks[name].as_str().unwrap().to_owned()
    };

    fs::write(&maintenance, "").unwrap();
    goes("the file is noticed", BAD);
    let reason = failing(maintenance.to_str().unwrap());
    assert_eq!(reason, "the file is there");
    let refused = http.get("/v2/");
    assert_eq!(refused.outcome(), (503, "UNAVAILABLE".to_owned()));
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(!text.contains("maintenance"), "{text}");
    fs::remove_file(&maintenance).unwrap();
    goes("the file's removal is noticed", GOOD);

    status.store(500, Ordering::Relaxed);
    goes("the URL's status is noticed", BAD);
    let name = format!("http://(hidden)@{web}/up");
    let reason = failing(&name);
    assert!(reason.starts_with("it answers 500"), "{reason}");
    status.store(204, Ordering::Relaxed);
    goes("the URL's recovery is noticed", GOOD);

    drop(tcp);
    goes("the address is noticed", BAD);
    failing(&tcp_addr.to_string());
    let _tcp = TcpListener::bind(tcp_addr).unwrap();
    goes("the address's recovery is noticed", GOOD);

    let store = server.data().join("docker/registry/v2");
    http.push_blob("a", b"content");
    fs::rename(store.join("repositories"), store.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("repositories", store.join("repositories")).unwrap();
    goes("the store is noticed", BAD);
    failing("storagedriver_filesystem");
    fs::remove_file(store.join("repositories")).unwrap();
    fs::rename(store.join("elsewhere"), store.join("repositories")).unwrap();
    goes("the store's recovery is noticed", GOOD);

    let log = server.log();
    assert!(
        log.contains("a health check fails: requests are not answered"),
        "{log}"
    );
    assert!(log.contains("a health check passes again"), "{log}");
    assert!(!log.contains("s-e-cret"), "{log}");
}

#[test]
fn probes_need_no_login_and_are_no_paths_of_the_api() {
    let home = folder();
    let server = Config::new(home.path())
        .set("auth.silly.realm", "test")
        .set("auth.silly.service", "test")
        .set("http.prefix", "/some/where/")
        .start();
    let http = server.http();
    assert_eq!(http.get("/some/where/v2/").status, 401);
    assert_eq!(http.get("/livez").status, 200);
    assert_eq!(http.get("/readyz").status, 200);
    assert_eq!(http.head("/readyz").status, 200);
    assert_eq!(http.send("POST", "/readyz", &[], b"").status, 405);
    assert_eq!(http.get("/some/where/livez").status, 404);
}

#[test]
fn a_registry_that_is_about_to_end_lives_but_is_not_ready() {
    let home = folder();
    let mut server = Config::new(home.path())
        .watched()
        .set("http.draintimeout", "60s")
        .start();
    let (http, debug) = (server.http(), server.debug());
    let body = noise(1, 500_000);
    let path = http.open_upload("slow");
    let length = body.len() as u64;
    let mut upload = http.begin("PATCH", &path, &[OCTETS], length).unwrap();
    upload.write_all(&body[..100_000]).unwrap();
    eventually("the upload is being received", || {
        let metrics = debug.get("/metrics").body;
        String::from_utf8_lossy(&metrics).contains("registry_uploads_open 1\n")
    });
    assert_eq!(debug.get("/readyz").status, 200);
    server.signal(Signal::TERM);
    eventually("it says that it is not ready", || {
        debug.get("/readyz").status == 503
    });
    assert_eq!(debug.get("/livez").status, 200);
    assert_eq!(debug.get("/debug/health").status, 200);
    assert!(server.ended().is_none(), "it waits for the upload");
    upload.write_all(&body[100_000..]).unwrap();
    assert_eq!(read_answer(&mut upload, "PATCH").unwrap().status, 202);
    assert!(server.wait().success());
}

#[test]
fn an_address_that_is_taken_stops_the_start_by_name() {
    let home = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let config = Config::new(home.path()).set("http.debug.addr", addr);
    let mut service = config.spawn();
    assert!(!service.wait().success());
    let log = service.log();
    assert!(log.contains("http.debug.addr: cannot listen on "), "{log}");
    assert!(log.contains("wharfinger.yml:"), "{log}");
}

#[test]
fn there_is_no_second_listener_unless_it_is_asked_for() {
    let home = folder();
    let server = Config::new(home.path()).start();
    let log = server.log();
    assert!(!log.contains("can be looked at"), "{log}");
    assert_eq!(server.http().get("/metrics").status, 404);
    assert_eq!(server.http().get("/debug/health").status, 404);
}
