//! Certificates from an authority: obtained, renewed, and kept as Go's autocert keeps them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use wharfinger_e2e::certificates::{Authority, path};
use wharfinger_e2e::distribution::free_address;
use wharfinger_e2e::pebble::Pebble;
use wharfinger_e2e::{Config, Wharfinger, eventually, folder, output, run};

/// Who issued the certificate that a server shows under a name; `None` when it shows none.
fn issuer(server: &Wharfinger, name: Option<&str>) -> Option<String> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &server.addr.to_string()]);
    match name {
        Some(name) => client.args(["-servername", name]),
        None => client.arg("-noservername"),
    };
    let shown = output(&mut client).stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let issuer = shown.lines().find_map(|line| line.strip_prefix("issuer="));
    issuer.map(str::to_owned)
}

#[test]
fn certificates_are_obtained_and_renewed_and_old_ones_last_while_nobody_answers() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let cache = home.join("cache");
    fs::create_dir(&cache).unwrap();
    // As autocert leaves them: a certificate with five days to go, and the account's key as SEC1.
    let old = authority.server_until("old.example", 5);
    fs::write(cache.join("old.example"), &old).unwrap();
    run(Command::new("openssl")
        .args([
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
        ])
        .arg(cache.join("acme_account+key")));
    let account = fs::read(cache.join("acme_account+key")).unwrap();
    fs::write(cache.join("unrelated"), "kept").unwrap();

    let shown = authority.client(home, "client");
    let address = free_address();
    let nobody = format!("https://{}/dir", free_address());
    let config = Config::new(home)
        .addr(&address.to_string())
        .set("http.tls.letsencrypt.cachefile", path(&cache))
        .set(
            "http.tls.letsencrypt.hosts",
            json!(["old.example", "New.example"]),
        )
        .set("http.tls.letsencrypt.email", "admin@example.org")
        .set("http.tls.letsencrypt.directoryurl", nobody)
        // The authority has no certificate to show when it checks.
        .set("http.tls.clientcas", json!([authority.certificate]))
        .env("SSL_CERT_FILE", authority.certificate.to_str().unwrap());

    let server = config.start();
    let complaint = "the certificate cannot be renewed; the old one stays in use";
    eventually("that nobody answers is logged", || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains(complaint));
        line.is_some_and(|line| line.contains("old.example") && line.contains("refused"))
    });
    let complaint = "there is no certificate, and none can be had";
    eventually("the other name too", || server.log().contains(complaint));
    assert!(
        issuer(&server, Some("old.example"))
            .unwrap()
            .contains("authority")
    );
    assert_eq!(issuer(&server, Some("new.example")), None);
    assert_eq!(fs::read_to_string(cache.join("old.example")).unwrap(), old);
    drop(server);

    let pebble = Pebble::start(home, &authority, address);
    let config = config.set("http.tls.letsencrypt.directoryurl", pebble.directory());
    let mut server = config.start();
    for name in ["old.example", "new.example"] {
        eventually("the authority's certificate is shown", || {
            assert!(server.ended().is_none(), "{}", server.log());
            issuer(&server, Some(name)).is_some_and(|issuer| issuer.contains("Pebble"))
        });
        let root = pebble.root(home);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--cacert"]);
        curl.arg(root).arg("--cert").arg(&shown.certificate);
        curl.arg("--key").arg(&shown.key);
        let port = address.port();
        curl.args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
        assert_eq!(
            run(curl.arg(format!("https://{name}:{port}/v2/"))).trim(),
            "{}"
        );
    }
    assert_eq!(issuer(&server, Some("other.example")), None);
    // A probe that knows the address only.
    assert!(issuer(&server, None).unwrap().contains("Pebble"));
    let requested = pebble.log().matches("Issued certificate").count();
    assert_eq!(requested, 2, "{}", pebble.log());

    let kept = |name: &str| fs::read(cache.join(name)).unwrap();
    assert_eq!(kept("acme_account+key"), account);
    assert_eq!(kept("unrelated"), b"kept");
    assert_ne!(kept("old.example"), old.as_bytes());
    let mode = fs::metadata(cache.join("new.example"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!cache.join("new.example+token").exists());

    // The next start asks for nothing.
    server.stop();
    drop(pebble);
    let server = config.start();
    assert!(
        issuer(&server, Some("new.example"))
            .unwrap()
            .contains("Pebble")
    );
    assert!(
        !server.log().contains("cannot be renewed, and"),
        "{}",
        server.log()
    );
}

#[test]
fn a_name_that_leads_elsewhere_gets_no_certificate_and_the_log_says_why() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    // The authority connects to a port where nobody listens.
    let pebble = Pebble::start(home, &authority, free_address());
    let server = registry(home, &pebble.directory(), &authority).start();
    let complaint = "the authority does not accept that this is new.example";
    eventually("the refusal is logged", || server.log().contains(complaint));
    let log = server.log();
    let line = log.lines().find(|line| line.contains(complaint)).unwrap();
    assert!(line.contains("tls-alpn-01"), "{line}");
    assert_eq!(issuer(&server, Some("new.example")), None);
}

#[test]
fn another_node_on_the_same_folder_gives_the_authority_its_answer() {
    let [home, other_home] = [folder(), folder()];
    let authority = Authority::new(home.path(), "authority");
    let address = free_address();
    let pebble = Pebble::start(home.path(), &authority, address);
    let nobody = format!("https://{}/dir", free_address());
    // The one that the authority reaches cannot reach the authority.
    let reached = registry(other_home.path(), &nobody, &authority)
        .set(
            "http.tls.letsencrypt.cachefile",
            path(&home.path().join("cache")),
        )
        .addr(&address.to_string())
        .start();
    eventually("its try fails", || {
        reached.log().contains("none can be had")
    });
    let asking = registry(home.path(), &pebble.directory(), &authority).start();
    eventually("the other one has a certificate", || {
        let log = asking.log();
        assert!(!log.contains("none can be had"), "{log}");
        issuer(&asking, Some("new.example")).is_some_and(|issuer| issuer.contains("Pebble"))
    });
}

fn registry(home: &Path, directory: &str, authority: &Authority) -> Config {
    Config::new(home)
        .set("http.tls.letsencrypt.cachefile", path(&home.join("cache")))
        .set("http.tls.letsencrypt.hosts", json!(["new.example"]))
        .set("http.tls.letsencrypt.directoryurl", directory)
        .env("SSL_CERT_FILE", authority.certificate.to_str().unwrap())
}
