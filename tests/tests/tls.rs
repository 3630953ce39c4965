//! TLS as clients meet it: certificates of both sides, versions, HTTP/2, and a change of
//! certificates under load.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::json;
use wharfinger_e2e::certificates::{Authority, Pair, client_folder};
use wharfinger_e2e::clients::{Client as _, Skopeo, all_over_tls};
use wharfinger_e2e::docker::Docker;
use wharfinger_e2e::image::small_image;
use wharfinger_e2e::network::{self, Network};
use wharfinger_e2e::{Config, Wharfinger, eventually, folder, output, run};

/// `curl` that trusts an authority, and shows a certificate if there is one.
fn curl(authority: &Authority, shown: Option<&Pair>) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--cacert"]);
    curl.arg(&authority.certificate);
    if let Some(pair) = shown {
        curl.arg("--cert").arg(&pair.certificate);
        curl.arg("--key").arg(&pair.key);
    }
    curl
}

fn base(server: &Wharfinger) -> String {
    format!("https://{}/v2/", server.addr)
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn every_client_pushes_and_pulls_with_certificates_on_both_sides() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let server = Config::new(home)
        .secured(&authority.server(home, "server"))
        .set("http.tls.clientcas", json!([authority.certificate]))
        .start();
    let shown = authority.client(home, "client");
    let certificates = client_folder(&home.join("certs"), &authority, Some(&shown));
    let origin = server.image("origin:1");
    let skopeo = Skopeo::new(&home.join("first")).over_tls(&certificates);
    run(&mut skopeo.copy(&small_image(home, 1), &format!("docker://{origin}")));
    let digest = |name: &str| {
        let mut head = curl(&authority, Some(&shown));
        head.args(["--head", "--fail", "--header", "Accept: */*"]);
        let answer = run(head.arg(format!("{}{name}/manifests/1", base(&server))));
        let mut lines = answer.lines();
        let digest = lines.find_map(|line| line.strip_prefix("docker-content-digest: "));
        digest
            .expect("every manifest has a digest")
            .trim()
            .to_owned()
    };

    for client in all_over_tls(home, &server.addr.to_string(), &certificates) {
        assert_eq!(client.pull(&origin), digest("origin"), "{client:?}");
        let name = client.name();
        let pushed = client.push(&origin, &server.image(&format!("{name}:1")));
        assert_eq!(pushed, digest(name), "{client:?}");
    }

    // Without a certificate of its own, or without knowing the registry's, nobody gets anywhere.
    let stranger = Authority::new(home, "stranger");
    for (folder, authority, shown) in [
        ("nothing-shown", &authority, None),
        ("nobody-known", &stranger, Some(&shown)),
    ] {
        let certificates = client_folder(&home.join(folder), authority, shown);
        let skopeo = Skopeo::new(&home.join("last")).over_tls(&certificates);
        let refused = output(&mut skopeo.copy(&format!("docker://{origin}"), "dir:/nowhere"));
        assert!(!refused.status.success(), "{folder}");
        let said = said(&refused);
        assert!(said.contains("tls: ") || said.contains("x509: "), "{said}");
    }
}

/// The Engine is a test of its own, because it neither checks nor shows certificates on the loopback
/// interface.
#[test]
fn the_engine_checks_the_registry_and_shows_its_own_certificate() {
    let home = folder();
    let home = home.path();
    let network = Network::new(home);
    let authority = Authority::new(home, "authority");
    let server = Config::new(home)
        .secured(&authority.server(home, "server"))
        .set("http.tls.clientcas", json!([authority.certificate]))
        .addr(&format!("{}:0", network::ADDRESS))
        .launched_by(&network.launcher())
        .start();
    let shown = authority.client(home, "client");
    let certificates = client_folder(&home.join("certs"), &authority, Some(&shown));
    let origin = server.image("origin:1");
    let mut skopeo = network.launcher();
    let copy = Skopeo::new(home)
        .over_tls(&certificates)
        .copy(&small_image(home, 1), &format!("docker://{origin}"));
    run(skopeo.arg(copy.get_program()).args(copy.get_args()));

    let docker = Docker::start_in(&network, home);
    let refused = output(docker.command().args(["pull", &origin]));
    assert!(!refused.status.success());
    assert!(said(&refused).contains("certificate"), "{}", said(&refused));
    let docker = docker.over_tls(&server.addr.to_string(), &certificates);
    let pulled = docker.pull(&origin);
    let pushed = docker.push(&origin, &server.image("pushed:1"));
    docker.forget();
    assert_eq!(docker.pull(&server.image("pushed:1")), pushed);
    assert!(pulled.starts_with("sha256:"), "{pulled}");
}

#[test]
fn what_clients_must_show_is_what_clientauth_says() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let of_server = authority.server(home, "server");
    let foreign = Authority::new(home, "foreign").client(home, "stranger");
    let own = openssl_pair(home, "own", &["genpkey", "-algorithm", "ED25519"]);
    let shown = [
        None,
        // One that stands in the list itself.
        Some(own.clone()),
        Some(authority.client(home, "client")),
        Some(foreign),
        Some(authority.expired_client(home, "late")),
        // Only servers may show this one.
        Some(of_server.clone()),
    ];
    for (mode, lets_in) in [
        ("request-client-cert", [true, true, true, true, true, true]),
        (
            "require-any-client-cert",
            [false, true, true, true, true, true],
        ),
        (
            "verify-client-cert-if-given",
            [true, true, true, false, false, false],
        ),
        (
            "require-and-verify-client-cert",
            [false, true, true, false, false, false],
        ),
        ("", [false, true, true, false, false, false]),
    ] {
        let home = home.join(format!("mode-{mode}"));
        fs::create_dir(&home).unwrap();
        let mut config = Config::new(&home).secured(&of_server).set(
            "http.tls.clientcas",
            json!([authority.certificate, own.certificate]),
        );
        if !mode.is_empty() {
            config = config.set("http.tls.clientauth", mode);
        }
        let server = config.start();
        for (pair, expected) in shown.iter().zip(lets_in) {
            for version in ["1.2", "1.3"] {
                let mut get = curl(&authority, pair.as_ref());
                get.args(["--tls-max", version]);
                let got = output(get.arg(base(&server)));
                let context = format!("{mode:?} {pair:?} {version}: {}", said(&got));
                assert_eq!(got.status.success(), expected, "{context}");
                assert_eq!(said(&got).contains("{}"), expected, "{context}");
            }
        }
        let told = server.log().contains("a client's certificate is refused");
        assert_eq!(told, lets_in.contains(&false), "{mode}: {}", server.log());
    }
}

/// What `openssl s_client` agrees on with a server: the version and the cipher suite.
fn agreed(server: &Wharfinger, arguments: &[&str]) -> Option<(String, String)> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &server.addr.to_string()]);
    let printed = said(&output(client.args(arguments)));
    let line = printed.lines().find(|line| line.starts_with("New, "))?;
    let (version, suite) = line["New, ".len()..].split_once(", Cipher is ")?;
    (version != "(NONE)").then(|| (version.to_owned(), suite.to_owned()))
}

#[test]
fn versions_and_cipher_suites_are_those_that_are_configured() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let config = Config::new(home).secured(&authority.server(home, "server"));
    let tls13 = || Some("TLSv1.3".to_owned());
    let version = |server: &Wharfinger, arguments: &[&str]| {
        agreed(server, arguments).map(|(version, _)| version)
    };
    // So that it is the server that refuses.
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];

    let server = config.start();
    assert_eq!(version(&server, &[]), tls13());
    assert_eq!(version(&server, &["-tls1_2"]).as_deref(), Some("TLSv1.2"));
    assert_eq!(version(&server, &old), None);
    drop(server);

    let server = config.clone().set("http.tls.minimumtls", "tls1.0").start();
    assert_eq!(version(&server, &["-tls1_2"]).as_deref(), Some("TLSv1.2"));
    assert_eq!(version(&server, &old), None);
    let log = server.log();
    assert!(log.contains("tls1.0 is not spoken"), "{log}");
    drop(server);

    let server = config.clone().set("http.tls.minimumtls", "tls1.3").start();
    assert_eq!(version(&server, &[]), tls13());
    assert_eq!(version(&server, &["-tls1_2"]), None);
    drop(server);

    let suites = json!(["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]);
    let server = config.set("http.tls.ciphersuites", suites).start();
    assert_eq!(
        agreed(&server, &["-tls1_2"]),
        Some(("TLSv1.2".into(), "ECDHE-ECDSA-AES128-GCM-SHA256".into()))
    );
    let other = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384"];
    assert_eq!(agreed(&server, &other), None);
    assert_eq!(version(&server, &[]), tls13());
}

#[test]
fn http2_is_spoken_with_clients_that_know_it_unless_it_is_switched_off() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let config = Config::new(home).secured(&authority.server(home, "server"));
    let version = |server: &Wharfinger, flag: &str| {
        let mut get = curl(&authority, None);
        get.args([
            flag,
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_version}",
        ]);
        run(get.arg(base(server)))
    };
    let server = config.start();
    assert_eq!(version(&server, "--http2"), "2");
    assert_eq!(version(&server, "--http1.1"), "1.1");
    assert_eq!(version(&server, "--no-alpn"), "1.1");

    // What clients are told begins with https, over both.
    for flag in ["--http2", "--http1.1"] {
        let mut post = curl(&authority, None);
        post.args([flag, "--request", "POST", "--output", "/dev/null"]);
        post.args(["--write-out", "%header{location}"]);
        let location = run(post.arg(format!("{}a/blobs/uploads/", base(&server))));
        assert!(location.starts_with(&base(&server)), "{location}");
    }
    drop(server);

    let server = config.set("http.http2.disabled", true).start();
    assert_eq!(version(&server, "--http2"), "1.1");
}

#[test]
fn who_speaks_plain_http_is_told() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let server = Config::new(home)
        .secured(&authority.server(home, "server"))
        .start();
    let answer = server.http().get("/v2/");
    assert_eq!(answer.outcome(), (400, "UNSUPPORTED".to_owned()));
    let message = answer.json()["errors"][0]["message"].to_string();
    assert!(message.contains("this is an HTTPS port"), "{message}");
}

/// A certificate that signs itself, for a key that `openssl` made by these arguments.
fn openssl_pair(home: &Path, name: &str, generate: &[&str]) -> Pair {
    let pair = Pair {
        certificate: home.join(format!("{name}.crt")),
        key: home.join(format!("{name}.key")),
    };
    run(Command::new("openssl")
        .args(generate)
        .arg("-out")
        .arg(&pair.key));
    run(Command::new("openssl")
        .args(["req", "-x509", "-days", "2", "-subj", "/CN=registry"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-key"])
        .arg(&pair.key)
        .arg("-out")
        .arg(&pair.certificate));
    pair
}

#[test]
fn keys_are_read_in_every_form_they_come_in() {
    let home = folder();
    for (name, begins, generate) in [
        (
            "pkcs8",
            "BEGIN PRIVATE KEY",
            &["genpkey", "-algorithm", "RSA"][..],
        ),
        (
            "pkcs1",
            "BEGIN RSA PRIVATE KEY",
            &["genrsa", "-traditional"],
        ),
        (
            "sec1",
            "BEGIN EC PRIVATE KEY",
            &["ecparam", "-name", "secp384r1", "-genkey", "-noout"],
        ),
        (
            "ed25519",
            "BEGIN PRIVATE KEY",
            &["genpkey", "-algorithm", "ED25519"],
        ),
    ] {
        let home = home.path().join(name);
        fs::create_dir(&home).unwrap();
        let pair = openssl_pair(&home, "server", generate);
        assert!(fs::read_to_string(&pair.key).unwrap().contains(begins));
        let server = Config::new(&home).secured(&pair).start();
        let mut get = Command::new("curl");
        get.args(["--silent", "--show-error", "--cacert"]);
        let body = run(get.arg(&pair.certificate).arg(base(&server)));
        assert_eq!(body.trim(), "{}", "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let good = authority.server(home, "server");
    let other = authority.server(home, "other");
    let file = |name: &str, content: &str| {
        let file = home.join(name);
        fs::write(&file, content).unwrap();
        file
    };
    let broken = fs::read_to_string(&good.certificate)
        .unwrap()
        .replace("-----END", "");
    let secret = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    let missing = home.join("missing");
    let (broken, empty) = (file("broken", &broken), file("empty", ""));
    let secret = file("secret", secret);
    let cases: [(&str, &PathBuf, &str); 9] = [
        ("http.tls.certificate", &missing, "No such file"),
        (
            "http.tls.certificate",
            &empty,
            "there is no certificate in it",
        ),
        (
            "http.tls.certificate",
            &good.key,
            "there is no certificate in it",
        ),
        ("http.tls.certificate", &broken, "this is not PEM"),
        ("http.tls.key", &missing, "No such file"),
        ("http.tls.key", &good.certificate, "there is no key in it"),
        ("http.tls.key", &secret, "the key has a passphrase"),
        (
            "http.tls.key",
            &other.key,
            "this is not the key of the certificate in",
        ),
        (
            "http.tls.clientcas[1]",
            &empty,
            "there is no certificate in it",
        ),
    ];
    for (number, (key, file, reason)) in cases.into_iter().enumerate() {
        let home = home.join(number.to_string());
        fs::create_dir(&home).unwrap();
        let mut config = Config::new(&home).secured(&good);
        config = match key.strip_suffix("[1]") {
            Some(list) => config.set(list, json!([authority.certificate, file])),
            None => config.set(key, json!(file)),
        };
        let mut service = config.spawn();
        assert!(!service.wait().success(), "{key} {file:?}");
        let log = service.log();
        assert!(log.contains("/wharfinger.yml:"), "{log}");
        let line = format!(": {key}: {}: {reason}", file.display());
        assert!(log.contains(&line), "{line}\n{log}");
    }
}

/// The number of the certificate that a server shows.
fn serial(server: &Wharfinger) -> String {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &server.addr.to_string()]);
    let shown = output(&mut client);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &shown.stdout).unwrap();
    run(Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(file.path()))
}

#[test]
fn a_new_certificate_is_used_without_a_failed_request_and_a_bad_one_is_not() {
    let home = folder();
    let home = home.path();
    let authority = Authority::new(home, "authority");
    let pair = authority.server(home, "server");
    let server = Config::new(home).secured(&pair).start();
    let first = serial(&server);

    let stop = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        // Old connections go on, new ones are made: each round begins one.
                        let mut get = curl(&authority, None);
                        get.args(["--fail", "--output", "/dev/null"]);
                        run(get.arg(format!("{}?[1-50]", base(&server))));
                        rounds.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        // A failed round must fail the test, and not only its thread.
        let more_rounds = || {
            let before = rounds.load(Ordering::Relaxed);
            eventually("requests go on", || {
                assert!(clients.iter().all(|client| !client.is_finished()));
                rounds.load(Ordering::Relaxed) > before + 3
            });
        };
        more_rounds();
        authority.server(home, "server");
        eventually("the new certificate is shown", || serial(&server) != first);
        more_rounds();
        let second = serial(&server);

        fs::write(&pair.key, "no key").unwrap();
        let complaint = "a file of TLS cannot be used; what was read before stays";
        eventually("the bad key is logged", || server.log().contains(complaint));
        let log = server.log();
        let line = log.lines().find(|line| line.contains(complaint)).unwrap();
        assert!(
            line.contains("server.key") && line.contains("there is no key in it"),
            "{line}"
        );
        assert_eq!(serial(&server), second);
        more_rounds();

        authority.server(home, "server");
        eventually("the third certificate is shown", || {
            serial(&server) != second
        });
        more_rounds();
        stop.store(true, Ordering::Relaxed);
    });
}
