//! Ways to listen besides a port of one's own: a Unix socket, and a socket that systemd hands over.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use wharfinger_e2e::certificates::Authority;
use wharfinger_e2e::distribution::free_address;
use wharfinger_e2e::process::PATIENCE;
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Http, Service, eventually, folder, output, run};

fn over_socket(socket: &Path, url: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--insecure"]);
    curl.arg("--unix-socket").arg(socket).arg(url);
    curl
}

/// Starts a server on a Unix socket and waits for it.
fn on_socket(config: &Config) -> Service {
    // An earlier one may have logged into the same file.
    let before = fs::read_to_string(config.log()).map_or(0, |log| log.len());
    let mut service = config.spawn();
    service.wait_until(|service| {
        let log = service.log();
        log[before..].contains("listening on unix:").then_some(())
    });
    service
}

#[test]
fn a_unix_socket_is_for_its_group_replaces_a_dead_one_and_goes_with_the_server() {
    let home = folder();
    let home = home.path();
    let socket = home.join("registry.sock");
    let config = Config::new(home)
        .set("http.net", "unix")
        .addr(socket.to_str().unwrap());

    let mut server = on_socket(&config);
    let file = fs::metadata(&socket).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o660);
    let url = "http://registry.example/v2/";
    assert_eq!(run(&mut over_socket(&socket, url)).trim(), "{}");
    let mut post = over_socket(&socket, &format!("{url}a/blobs/uploads/"));
    post.args(["--request", "POST", "--write-out", "%header{location}"]);
    let location = run(&mut post);
    assert!(
        location.starts_with("http://registry.example/v2/a/blobs/uploads/"),
        "{location}"
    );
    let line = "unix - - [";
    eventually("the peer is logged as one without an address", || {
        server.log().contains(line)
    });

    // A second server leaves the first one's socket alone.
    fs::create_dir(home.join("second")).unwrap();
    let second = Config::new(&home.join("second")).addr(socket.to_str().unwrap());
    let mut second = second.spawn();
    assert!(!second.wait().success());
    assert!(
        second.log().contains("http.addr: cannot listen on"),
        "{}",
        second.log()
    );
    run(&mut over_socket(&socket, url));

    server.kill();
    assert!(socket.exists());
    let mut server = on_socket(&config);
    run(&mut over_socket(&socket, url));
    assert!(server.stop().success());
    assert!(!socket.exists());

    // TLS goes over it too.
    let authority = Authority::new(home, "authority");
    let secured = config.secured(&authority.server(home, "server"));
    let _server = on_socket(&secured);
    run(&mut over_socket(&socket, "https://localhost/v2/"));
    assert!(!output(&mut over_socket(&socket, url)).status.success());
}

#[test]
fn a_socket_that_is_handed_over_is_used_in_place_of_the_address() {
    let home = folder();
    let home = home.path();
    let address = free_address();
    let config = Config::new(home);
    let mut command = Command::new("systemd-socket-activate");
    command.arg(format!("--listen={address}"));
    command.arg(binary()).arg("serve").arg(config.write());
    let mut service = Service::start(&mut command, &home.join("activated.log"));
    // The first connection starts it, and is answered.
    service.wait_until(|_| TcpStream::connect(address).ok());
    let answer = Http(address).get("/v2/");
    assert_eq!(answer.status, 200);
    let log = service.log();
    assert!(log.contains("handed over"), "{log}");
    assert!(
        log.contains(&format!("listening on http://{address}")),
        "{log}"
    );
    assert!(service.stop().success());

    let socket = home.join("handed.sock");
    let mut command = Command::new("systemd-socket-activate");
    command.arg(format!("--listen={}", socket.display()));
    command.arg(binary()).arg("serve").arg(config.write());
    let mut service = Service::start(&mut command, &home.join("unix.log"));
    eventually("the socket is there", || socket.exists());
    run(&mut over_socket(&socket, "http://localhost/v2/"));
    assert!(service.stop().success());
    assert!(socket.exists(), "the file is not the registry's to remove");
}

#[test]
fn systemd_is_told_of_start_life_and_stop() {
    let home = folder();
    let home = home.path();
    let socket = home.join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut note = [0; 4096];
        let length = systemd
            .recv(&mut note)
            .expect("the registry says something");
        String::from_utf8(note[..length].to_vec()).unwrap()
    };
    let mut server = Config::new(home)
        .set("http.draintimeout", "70s")
        .env("NOTIFY_SOCKET", socket.to_str().unwrap())
        .env("WATCHDOG_USEC", "200000")
        .start();
    assert_eq!(heard(), "READY=1");
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    // The first comes at once, the others in half the time that is allowed.
    assert!(began.elapsed() >= Duration::from_millis(250));
    assert!(server.stop().success());
    let last = loop {
        match heard() {
            note if note == "WATCHDOG=1" => {}
            note => break note,
        }
    };
    assert_eq!(last, "STOPPING=1\nEXTEND_TIMEOUT_USEC=90000000");
}
