//! The command line, as a person at a terminal meets it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn wharfinger(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharfinger"));
    // What the tests' own environment says must not count.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REGISTRY_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env_remove("RUST_LOG");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must fail, and gives what it says.
fn failure(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert_eq!(status.code(), Some(1), "{}", text(&stderr));
    text(&stderr)
}

/// A running registry, killed when it is no longer needed.
struct Running {
    child: Child,
    said: Vec<String>,
    address: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said: Vec<String> = lines.by_ref().take(3).map(Result::unwrap).collect();
        let address = said
            .first()
            .and_then(|line| line.rsplit_once("listening on http://"))
            .unwrap_or_else(|| panic!("{said:?}"))
            .1
            .to_owned();
        // The rest must be read, or the pipe fills up.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            said,
            address,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end, and gives the status and what was logged.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (status.code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_a_file_it_starts_and_says_where_things_are() {
    let folder = tempfile::tempdir().unwrap();
    let running =
        Running::start(wharfinger(folder.path()).args(["serve", "--addr", "127.0.0.1:0"]));
    let data = folder
        .path()
        .canonicalize()
        .unwrap()
        .join("wharfinger-data");
    assert_eq!(running.said[1], format!("storing in {}", data.display()));
    assert_eq!(
        running.said[2],
        format!("try: docker push {}/hello:latest", running.address)
    );
    assert!(running.get("/v2/").starts_with("HTTP/1.1 200 "));
    assert!(data.is_dir());
    running.signal("-TERM");
    let (status, log) = running.end();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("msg=stopping signal=SIGTERM"), "{log}");
    assert!(log.contains("http.secret is not set"), "{log}");
}

#[test]
fn it_ends_at_an_interrupt_too() {
    let folder = tempfile::tempdir().unwrap();
    let running =
        Running::start(wharfinger(folder.path()).args(["serve", "--addr", "127.0.0.1:0"]));
    running.signal("-INT");
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn the_file_and_the_environment_are_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yml");
    let config = "version: 0.1\nlog: {formatter: json, fields: {service: quay}}\nstorage: \
                  inmemory\nhttp: {addr: '127.0.0.1:0', prefix: /a/, secret: s, headers: {X-B: \
                  [c]}}\nhealth: {storagedriver: {enabled: true}}\n";
    fs::write(&file, config).unwrap();
    let running = Running::start(
        wharfinger(folder.path())
            .arg("serve")
            .env("REGISTRY_CONFIGURATION_PATH", &file)
            .env("REGISTRY_HTTP_PREFIX", "/b/")
            .env("REGISTRY_HTPP_ADDR", "x"),
    );
    assert!(
        running.said[1].starts_with("storing in memory"),
        "{:?}",
        running.said
    );
    let answer = running.get("/b/v2/");
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("x-b: c"),
        "{answer}"
    );
    assert!(running.get("/a/v2/").starts_with("HTTP/1.1 404 "));
    running.signal("-TERM");
    let (_, log) = running.end();
    assert!(log.contains("\"service\":\"quay\""), "{log}");
    assert!(log.contains("did you mean \\\"http\\\"?"), "{log}");
    assert!(!log.contains("http.secret is not set"), "{log}");
}

#[test]
fn what_stands_in_the_way_is_said_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let serve =
        |arguments: &[&str]| failure(wharfinger(folder.path()).arg("serve").args(arguments));

    let said = serve(&["missing.yml"]);
    assert!(
        said.contains("the configuration file missing.yml cannot be read"),
        "{said}"
    );

    fs::write(
        folder.path().join("later.yml"),
        "version: 0.1\nstorage: swift\nproxy: {remoteurl: 'https://x?', ttl: 1h}\n",
    )
    .unwrap();
    let said = serve(&["later.yml"]);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "wharfinger: later.yml:2:10: storage.swift: the driver swift does not exist, as in \
             Distribution 3",
            "wharfinger: later.yml:3:20: proxy.remoteurl: nothing may follow the path: no query, no \
             fragment",
        ]
    );

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = serve(&["--addr", &address, "--data", "x"]);
    assert!(
        said.contains(&format!("http.addr: cannot listen on \"{address}\"")),
        "{said}"
    );
    assert!(said.contains("choose another port"), "{said}");

    fs::write(folder.path().join("file"), "").unwrap();
    let said = serve(&["--addr", "127.0.0.1:0", "--data", "file"]);
    assert!(
        said.starts_with("wharfinger: argument --data: storage.filesystem.rootdirectory: "),
        "{said}"
    );

    fs::write(
        folder.path().join("key.yml"),
        "version: 0.1\nstorage: inmemory\ncompatibility: {schema1: {signingkeyfile: no.pem}}\n",
    )
    .unwrap();
    let said = serve(&["key.yml", "--addr", "127.0.0.1:0"]);
    assert!(
        said.contains(" key.yml:3:43: compatibility.schema1.signingkeyfile: "),
        "{said}"
    );
    assert!(said.contains("no.pem"), "{said}");
}

#[test]
fn access_control_that_cannot_work_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write(
        "users",
        "ada:$2y$05$abcdefghijklmnopqrstuuvNG3OZE4tHQVCDBZ1g7yCoB/2dOqdLe\nbob\n",
    );
    write("no-pem", "a secret that is no certificate");
    write(
        "keys.json",
        "{\"keys\": [{\"kty\": \"oct\", \"k\": \"s-e-cret\"}]}",
    );
    let token = "realm: https://a/t, service: s, issuer: i";
    let cases = [
        (
            "htpasswd: {realm: r, path: users}".to_owned(),
            "auth.yml:3:35: auth.htpasswd.path: users:2: a line is a user, a colon and a bcrypt hash",
        ),
        (
            "htpasswd: {realm: r}".to_owned(),
            "auth.yml:3:8: auth.htpasswd.path: it is missing",
        ),
        (
            format!("token: {{{token}}}"),
            "auth.token.rootcertbundle: there is no key to verify tokens with",
        ),
        (
            format!("token: {{{token}, rootcertbundle: none.pem}}"),
            "auth.yml:3:75: auth.token.rootcertbundle: none.pem: No such file",
        ),
        (
            format!("token: {{{token}, rootcertbundle: no-pem}}"),
            "auth.token.rootcertbundle: no-pem: there is no certificate in it",
        ),
        (
            format!("token: {{{token}, jwks: keys.json}}"),
            "auth.token.jwks: keys.json: key 1 in it has no kid to be found by",
        ),
        (
            format!("token: {{{token}, jwks: keys.json, signingalgorithms: [RS256, none]}}"),
            "auth.token.signingalgorithms: \"none\" is not known; there are EdDSA, ",
        ),
        (
            "silly: {realm: r, service: s}, htpasswd: {realm: r, path: users}".to_owned(),
            "auth.yml:3:1: auth: there can be one method only",
        ),
    ];
    for (auth, wanted) in cases {
        write(
            "auth.yml",
            &format!("version: 0.1\nstorage: inmemory\nauth: {{{auth}}}\n"),
        );
        let serve = ["serve", "auth.yml", "--addr", "127.0.0.1:0"];
        let said = failure(wharfinger(folder.path()).args(serve));
        assert!(said.contains(wanted), "{auth}\n{said}");
        assert!(
            !said.contains("e-cret") && !said.contains("a secret"),
            "{said}"
        );
    }
}

#[test]
fn config_check_prints_what_would_be_used_and_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let check = |file: &str| {
        let output = wharfinger(folder.path())
            .args(["config", "check", file])
            .env("REGISTRY_HTTP_SECRET", "s-e-cret")
            .output()
            .unwrap();
        assert!(!text(&output.stdout).contains("s-e-cret"));
        (
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    fs::write(
        folder.path().join("good.yml"),
        "version: 0.1\nstorage: filesystem\n",
    )
    .unwrap();
    let (good, printed, said) = check("good.yml");
    assert!(good, "{said}");
    assert!(
        printed.contains("rootdirectory: /var/lib/registry"),
        "{printed}"
    );
    assert!(printed.contains("secret: \"(hidden)\""), "{printed}");
    assert!(!folder.path().join("wharfinger-data").exists());

    fs::write(
        folder.path().join("bad.yml"),
        "version: 0.1\nstorage: swift\n",
    )
    .unwrap();
    let (good, _, said) = check("bad.yml");
    assert!(!good);
    assert!(
        said.contains("error: bad.yml:2:10: storage.swift: "),
        "{said}"
    );
    assert!(said.ends_with("the registry would not start\n"), "{said}");
}

#[test]
fn it_tells_its_version_and_completes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let output = wharfinger(folder.path()).arg("--version").output().unwrap();
    assert_eq!(
        text(&output.stdout),
        format!("wharfinger {}\n", env!("CARGO_PKG_VERSION"))
    );
    for shell in ["bash", "zsh", "fish"] {
        let output = wharfinger(folder.path())
            .args(["completions", shell])
            .output()
            .unwrap();
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("config"), "{shell}");
    }
    let output = wharfinger(folder.path()).arg("srve").output().unwrap();
    assert!(
        text(&output.stderr).contains("'serve'"),
        "{}",
        text(&output.stderr)
    );
}
