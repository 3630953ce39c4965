//! The purging of old uploads, on schedule.

use std::io::Write;
use std::path::PathBuf;

use wharfinger_e2e::http::{Answer, OCTETS};
use wharfinger_e2e::{Config, Wharfinger, eventually, folder};

const PURGING: &str = "storage.maintenance.uploadpurging";

/// A server that looks for uploads every second, and takes them for old after two.
fn start(config: Config) -> Wharfinger {
    config
        .set(&format!("{PURGING}.interval"), "1s")
        .set(&format!("{PURGING}.age"), "2s")
        .start()
}

/// Sends some of an upload, and gives the answer.
fn begin_upload(server: &Wharfinger) -> Answer {
    let http = server.http();
    let sent = http.send("PATCH", &http.open_upload("a"), &[OCTETS], b"some of it");
    assert_eq!(sent.status, 202, "{sent:?}");
    sent
}

fn uploads(server: &Wharfinger) -> Vec<PathBuf> {
    let sessions = std::fs::read_dir(server.repository("a").join("_uploads"));
    let sessions = sessions.into_iter().flatten();
    sessions.map(|session| session.unwrap().path()).collect()
}

/// Waits until a purge has come to its end behind what is logged now.
fn a_purge_later(server: &mut Wharfinger) {
    let before = server.log().len();
    for turn in 1..=2 {
        server.wait_until(|service| {
            let purges = service.log()[before..]
                .matches("old uploads were purged")
                .count();
            (purges >= turn).then_some(())
        });
    }
}

#[test]
fn old_uploads_go_and_others_stay() {
    let home = folder();
    let mut server = start(Config::new(home.path()));
    let http = server.http();
    let sent = begin_upload(&server);
    // One that a request is working on is not given up by anybody.
    let mut busy = http
        .begin("PATCH", &http.open_upload("a"), &[OCTETS], 4_000_000)
        .unwrap();
    busy.write_all(&vec![b'x'; 2_000_000]).unwrap();
    eventually("the idle one is gone", || {
        http.get(&sent.location()).status == 404
    });
    std::thread::sleep(std::time::Duration::from_secs(3));
    a_purge_later(&mut server);
    assert_eq!(uploads(&server).len(), 1);
    busy.write_all(&vec![b'x'; 2_000_000]).unwrap();
    let answer = wharfinger_e2e::http::read_answer(&mut busy, "PATCH").unwrap();
    assert_eq!(answer.status, 202, "{answer:?}");
    // Nobody goes on with it.
    eventually("that is gone too", || uploads(&server).is_empty());
    assert!(
        server.log().contains("an old upload was purged"),
        "{}",
        server.log()
    );
}

#[test]
fn a_dry_run_only_tells() {
    let home = folder();
    let config = Config::new(home.path()).set(&format!("{PURGING}.dryrun"), true);
    let mut server = start(config);
    begin_upload(&server);
    let told = "an old upload would be purged";
    server.wait_until(|service| service.log().contains(told).then_some(()));
    a_purge_later(&mut server);
    assert_eq!(uploads(&server).len(), 1);
}

#[test]
fn nothing_goes_where_it_is_switched_off_or_read_only() {
    let home = folder();
    let mut server = Config::new(home.path()).start();
    begin_upload(&server);
    server.stop();
    std::thread::sleep(std::time::Duration::from_secs(3));

    let mut config = Config::new(home.path());
    config.read_only = true;
    let mut server = start(config);
    let told = "old uploads stay in read-only mode";
    for turn in 1..=2 {
        server.wait_until(|service| (service.log().matches(told).count() >= turn).then_some(()));
    }
    assert_eq!(uploads(&server).len(), 1);
    server.stop();

    let config = Config::new(home.path()).set(&format!("{PURGING}.enabled"), false);
    let server = start(config);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(uploads(&server).len(), 1);
}
