//! How a registry stops: in order when it can, at once when it must.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use wharfinger_e2e::http::{OCTETS, read_answer, with_digest};
use wharfinger_e2e::{Config, Wharfinger, digest, eventually, folder, noise};

/// Longer than any test waits.
const NEVER: &str = "1h";

fn start(home: &std::path::Path, draintimeout: &str) -> Wharfinger {
    Config::new(home)
        .set("http.draintimeout", draintimeout)
        .set("http.h2c.enabled", true)
        .start()
}

/// Sends a part of an upload's body, and waits until most of that is in the upload's file.
fn begin(server: &Wharfinger, method: &str, path: &str, body: &[u8], sent: usize) -> TcpStream {
    let length = body.len() as u64;
    let http = server.http();
    let mut upload = http.begin(method, path, &[OCTETS], length).unwrap();
    upload.write_all(&body[..sent]).unwrap();
    let uploads = server.repository("a").join("_uploads");
    eventually("most of it has come", || {
        let mut sessions = std::fs::read_dir(&uploads).into_iter().flatten();
        sessions.any(|session| {
            let data = session.unwrap().path().join("data").metadata();
            data.is_ok_and(|data| data.len() + (1 << 20) >= sent as u64)
        })
    });
    upload
}

/// Tells it to stop, and waits until it has understood.
fn told_to_stop(server: &mut Wharfinger) {
    server.signal(Signal::TERM);
    server.wait_until(|service| service.log().contains("msg=stopping").then_some(()));
}

#[test]
fn what_is_under_way_finishes() {
    let home = folder();
    let mut server = start(home.path(), NEVER);
    let http = server.http();
    let body = noise(1, 20_000_000);
    let blob = http.push_blob("a", &body);
    let mut download = http
        .begin("GET", &format!("/v2/a/blobs/{blob}"), &[], 0)
        .unwrap();
    let mut some = vec![0; 100_000];
    download.read_exact(&mut some).unwrap();

    let pushed = noise(2, 3_000_000);
    let path = with_digest(&http.open_upload("a"), &digest(&pushed));
    let mut upload = begin(&server, "PUT", &path, &pushed, 1_500_000);

    told_to_stop(&mut server);
    assert!(
        TcpStream::connect(server.addr).is_err(),
        "nothing new is let in"
    );
    upload.write_all(&pushed[1_500_000..]).unwrap();
    assert_eq!(read_answer(&mut upload, "PUT").unwrap().status, 201);
    assert!(server.ended().is_none(), "the download goes on");
    let mut all = some.as_slice().chain(download);
    let downloaded = read_answer(&mut all, "GET").unwrap();
    assert!(downloaded.body == body);
    assert_eq!(server.wait().code(), Some(0));
}

/// Neither kept connections nor such as have not begun are waited for.
#[test]
fn idle_connections_do_not_hold_it_up() {
    let home = folder();
    let mut server = start(home.path(), NEVER);
    let connect = |bytes: &[u8], answered: &[u8]| {
        let mut connection = TcpStream::connect(server.addr).unwrap();
        let patience = Some(Duration::from_secs(60));
        connection.set_read_timeout(patience).unwrap();
        connection.write_all(bytes).unwrap();
        let mut some = vec![0; answered.len()];
        connection.read_exact(&mut some).unwrap();
        assert_eq!(some, answered);
        connection
    };
    let kept = connect(b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK");
    // Neither HTTP/1.1 nor HTTP/2 yet.
    let undecided = connect(b"PRI * HT", b"");
    let silent = connect(b"", b"");
    eventually("all are taken", || {
        let sockets = server.open_files();
        let sockets = sockets
            .iter()
            .filter(|file| file.to_string_lossy().starts_with("socket:"));
        sockets.count() >= 4
    });
    assert_eq!(server.stop().code(), Some(0));
    for mut connection in [kept, undecided, silent] {
        match connection.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// What a client has sent of an upload is not lost when the time is over.
#[test]
fn an_upload_that_is_cut_off_goes_on_after_a_restart() {
    let home = folder();
    let mut server = start(home.path(), "1s");
    let http = server.http();
    let body = noise(3, 6_000_000);
    let location = http.open_upload("a");
    let _stalled = begin(&server, "PATCH", &location, &body, 3_333_333);
    let status = server.stop();
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(server.log().contains("were cut off"), "{}", server.log());
    server.start_again();
    let http = server.http();
    let progress = http.get(&location);
    assert_eq!(progress.status, 204, "{progress:?}");
    let range = progress.header("range").unwrap_or_default();
    let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
    assert!(last + 1 >= 2 << 20, "{range}");
    let path = with_digest(&progress.location(), &digest(&body));
    let done = http.send("PUT", &path, &[OCTETS], &body[last + 1..]);
    assert_eq!(done.outcome(), (201, String::new()), "{done:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let home = folder();
        let mut server = start(home.path(), NEVER);
        let http = server.http();
        let blob = http.push_blob("a", b"acknowledged");
        let location = http.open_upload("a");
        let _stuck = begin(&server, "PATCH", &location, &noise(4, 3_000_000), 2_500_000);
        told_to_stop(&mut server);
        assert!(server.ended().is_none());
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(code));
        server.start_again();
        let kept = server.http().get(&format!("/v2/a/blobs/{blob}"));
        assert_eq!(kept.body, b"acknowledged");
    }
}
