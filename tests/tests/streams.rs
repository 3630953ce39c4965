//! Blobs of a bucket that go through the registry.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use wharfinger_e2e::bucket::Store;
use wharfinger_e2e::http::read_answer;
use wharfinger_e2e::s3::S3;
use wharfinger_e2e::store_proxy::{Fate, StoreProxy};
use wharfinger_e2e::{Config, Wharfinger, digest, folder, noise};

fn start(home: &Path, store: SocketAddr) -> Wharfinger {
    let mut config = Config::new(home);
    config.settings = S3::settings(store);
    config.set("storage.redirect.disable", true).start()
}

#[test]
fn a_connection_that_breaks_is_taken_up_where_it_was() {
    let home = folder();
    let store = S3::start(home.path());
    let proxy = StoreProxy::start(store.addr());
    let server = start(home.path(), proxy.addr);
    let blob = noise(1, 12_000_000);
    let digest = server.http().push_blob("torn", &blob);
    let path = format!("/v2/torn/blobs/{digest}");
    let get = |range: &str| server.http().send("GET", &path, &[("Range", range)], b"");

    // More often than the client of the store would try by itself.
    let torn = |asked: &_| is_read(asked).then_some(Fate::AnswerTorn(1_500_000));
    proxy.decide(move |asked| torn(asked).unwrap_or(Fate::Answered));
    proxy.count_anew();
    let whole = server.http().get(&path);
    assert_eq!(whole.status, 200);
    assert!(whole.body == blob);
    assert!(proxy.counts()["GetObject"] >= 8, "{:?}", proxy.counts());
    let part = get("bytes=3000000-4999999");
    assert_eq!(part.status, 206);
    assert!(part.body == blob[3_000_000..5_000_000]);

    // One that brings nothing more ends, and the client sees that something is missing.
    let reads = AtomicUsize::new(0);
    proxy.decide(move |asked| match is_read(asked) {
        true if reads.fetch_add(1, Ordering::Relaxed) == 0 => Fate::AnswerTorn(1_500_000),
        true => Fate::Refused(404, "NoSuchKey"),
        false => Fate::Answered,
    });
    let cut = server.http().try_send("GET", &path, &[], b"");
    assert_eq!(cut.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(server.log().contains("reading breaks off here"));
    proxy.decide(|_| Fate::Answered);
    assert!(server.http().get(&path).body == blob);
}

fn is_read(asked: &wharfinger_e2e::store_proxy::Asked) -> bool {
    asked.operation == "GetObject" && asked.path.ends_with("/data")
}

#[test]
fn slow_clients_hold_little() {
    const CLIENTS: usize = 16;
    let home = folder();
    let store = S3::start(home.path());
    let server = start(home.path(), store.addr());
    let blob = noise(2, 14_000_000);
    let digest_of_blob = server.http().push_blob("slow", &blob);
    let path = format!("/v2/slow/blobs/{digest_of_blob}");
    let before = server.peak_memory();
    // They read nothing of what they asked for.
    let begin = |_| server.http().begin("GET", &path, &[], 0).unwrap();
    let mut clients: Vec<_> = (0..CLIENTS).map(begin).collect();
    let mut peaks = BTreeSet::new();
    while peaks.insert(server.peak_memory()) || store.log().matches("GET").count() < CLIENTS {
        sleep(Duration::from_secs(1));
    }
    let grown = server.peak_memory() - before;
    // Each has 1 MiB ahead, a piece in hand, and the buffers of two connections.
    assert!(grown < CLIENTS as u64 * 3_000_000, "{grown} bytes");
    for client in &mut clients[..2] {
        let answer = read_answer(client, "GET").unwrap();
        assert_eq!(digest(&answer.body), digest_of_blob);
    }
}
