//! Logging in: passwords from a file, tokens of a token service, with the clients that people have.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wharfinger_e2e::clients::{ContainersStorage, copy};
use wharfinger_e2e::containerd::Containerd;
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::docker::Docker;
use wharfinger_e2e::image::small_image;
use wharfinger_e2e::token::{Issuer, TokenService, User};
use wharfinger_e2e::{Config, Http, Wharfinger, folder, output, run};

/// Runs a command that must fail, and because its user may not do what it does.
fn refused(command: &mut Command) {
    let output = output(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{command:?} is let in: {said}");
    let reasons = [
        "unauthorized",
        "authentication required",
        "denied",
        "invalid username",
        "no basic auth credentials",
    ];
    let lower = said.to_lowercase();
    let named = reasons.iter().any(|reason| lower.contains(reason));
    assert!(named, "{command:?} failed for another reason: {said}");
}

/// What a person who knows a name and a password does to log in, and what follows.
trait Person {
    fn name(&self) -> &'static str;

    fn login(&self, server: &Wharfinger, user: &str, password: &str) -> Command;

    fn logout(&self, server: &Wharfinger) -> Command;

    fn pull(&self, image: &str) -> Command;

    /// Pushes what was pulled as `from`.
    fn push(&self, from: &str, to: &str) -> Command;
}

struct SkopeoPerson {
    home: PathBuf,
}

impl SkopeoPerson {
    fn authfile(&self) -> PathBuf {
        self.home.join("skopeo-auth.json")
    }

    /// Where a pulled image is kept. A pull that fails leaves nothing there.
    fn kept(&self, image: &str) -> String {
        let folder = image.replace(['/', ':'], "_");
        format!("dir:{}", self.home.join("skopeo").join(folder).display())
    }

    fn copy(&self, from: &str, to: &str) -> Command {
        let mut command = copy(from, to);
        command.arg("--authfile").arg(self.authfile());
        command
    }
}

fn login(program: &str, authfile: &Path, server: &Wharfinger, who: (&str, &str)) -> Command {
    let mut command = Command::new(program);
    command
        .args(["login", "--tls-verify=false", "--authfile"])
        .arg(authfile);
    command
        .args(["-u", who.0, "-p", who.1])
        .arg(server.addr.to_string());
    command
}

fn logout(program: &str, authfile: &Path, server: &Wharfinger) -> Command {
    let mut command = Command::new(program);
    command.args(["logout", "--authfile"]).arg(authfile);
    command.arg(server.addr.to_string());
    command
}

impl Person for SkopeoPerson {
    fn name(&self) -> &'static str {
        "skopeo"
    }

    fn login(&self, server: &Wharfinger, user: &str, password: &str) -> Command {
        login("skopeo", &self.authfile(), server, (user, password))
    }

    fn logout(&self, server: &Wharfinger) -> Command {
        logout("skopeo", &self.authfile(), server)
    }

    fn pull(&self, image: &str) -> Command {
        self.copy(&format!("docker://{image}"), &self.kept(image))
    }

    fn push(&self, from: &str, to: &str) -> Command {
        self.copy(&self.kept(from), &format!("docker://{to}"))
    }
}

struct PodmanPerson {
    home: PathBuf,
    podman: ContainersStorage,
}

impl PodmanPerson {
    fn authfile(&self) -> PathBuf {
        self.home.join("podman-auth.json")
    }

    fn command(&self, action: &str) -> Command {
        let mut command = self.podman.command();
        command.args([action, "--quiet", "--tls-verify=false", "--authfile"]);
        command.arg(self.authfile());
        command
    }
}

impl Person for PodmanPerson {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn login(&self, server: &Wharfinger, user: &str, password: &str) -> Command {
        login("podman", &self.authfile(), server, (user, password))
    }

    fn logout(&self, server: &Wharfinger) -> Command {
        logout("podman", &self.authfile(), server)
    }

    fn pull(&self, image: &str) -> Command {
        let mut command = self.command("pull");
        command.arg(image);
        command
    }

    fn push(&self, from: &str, to: &str) -> Command {
        let mut command = self.command("push");
        command.args([from, &format!("docker://{to}")]);
        command
    }
}

struct DockerPerson {
    home: PathBuf,
    docker: Docker,
}

impl DockerPerson {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.docker.command();
        command
            .arg("--config")
            .arg(self.home.join("docker-config"))
            .args(arguments);
        command
    }
}

impl Person for DockerPerson {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn login(&self, server: &Wharfinger, user: &str, password: &str) -> Command {
        let addr = server.addr.to_string();
        self.command(&["login", "-u", user, "-p", password, &addr])
    }

    fn logout(&self, server: &Wharfinger) -> Command {
        self.command(&["logout", &server.addr.to_string()])
    }

    fn pull(&self, image: &str) -> Command {
        self.command(&["pull", image])
    }

    fn push(&self, from: &str, to: &str) -> Command {
        run(&mut self.command(&["tag", from, to]));
        self.command(&["push", to])
    }
}

fn people(home: &Path) -> Vec<Box<dyn Person>> {
    fs::create_dir(home.join("skopeo")).unwrap();
    // podman does not start without it.
    fs::write(home.join("podman-auth.json"), "{}").unwrap();
    let home = || home.to_owned();
    vec![
        Box::new(SkopeoPerson { home: home() }),
        Box::new(PodmanPerson {
            podman: ContainersStorage::podman(&home()),
            home: home(),
        }),
        Box::new(DockerPerson {
            docker: Docker::start(&home()),
            home: home(),
        }),
    ]
}

fn basic(user: &str, password: &str) -> String {
    let encoded = STANDARD.encode(format!("{user}:{password}"));
    format!("Basic {encoded}")
}

/// A line for a file of users, as people make it.
fn htpasswd(user: &str, password: &str) -> String {
    run(Command::new("htpasswd").args(["-nbB", user, password]))
}

#[test]
fn people_log_in_with_passwords_of_a_file() {
    let home = folder();
    let users = home.path().join("htpasswd");
    fs::write(&users, htpasswd("ada", "correct horse")).unwrap();
    let server = Config::new(home.path())
        .set(
            "auth",
            json!({"htpasswd": {"realm": "the harbour", "path": users}}),
        )
        .start();
    let credentials = "--dest-creds=ada:correct horse";
    let seed = format!("docker://{}", server.image("seed:t"));
    refused(&mut copy(&small_image(home.path(), 1), &seed));
    run(copy(&small_image(home.path(), 1), &seed).arg(credentials));

    for person in people(home.path()) {
        let name = person.name();
        let seed = server.image("seed:t");
        let target = server.image(&format!("by/{name}:1"));
        refused(&mut person.pull(&seed));
        refused(&mut person.login(&server, "ada", "wrong horse"));
        run(&mut person.login(&server, "ada", "correct horse"));
        run(&mut person.pull(&seed));
        run(&mut person.push(&seed, &target));
        run(&mut person.logout(&server));
        refused(&mut person.push(&seed, &server.image(&format!("by/{name}:2"))));
    }
    let containerd = Containerd::start(home.path());
    let pull = ["images", "pull", "--plain-http", "--snapshotter", "native"];
    let seed = server.image("seed:t");
    refused(containerd.command().args(pull).arg(&seed));
    run(containerd
        .command()
        .args(pull)
        .args(["--user", "ada:correct horse", &seed]));

    // A user who is taken out of the file is out at once.
    let tags = |password: &str| {
        let shown = basic("ada", password);
        let path = "/v2/seed/tags/list";
        let headers = [("Authorization", shown.as_str())];
        server.http().send("GET", path, &headers, b"").status
    };
    assert_eq!(tags("correct horse"), 200);
    fs::write(&users, htpasswd("ada", "battery staple")).unwrap();
    assert_eq!((tags("correct horse"), tags("battery staple")), (401, 200));

    let log = server.log();
    for secret in [
        "correct horse",
        "wrong horse",
        "battery staple",
        &basic("ada", "correct horse"),
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    // Who it was stands in the access log, whoever was refused stands there without a name.
    assert!(log.contains(" - ada ["), "{log}");
    assert!(log.contains("\"GET /v2/ HTTP/1.1\" 401 "), "{log}");
}

#[test]
fn a_missing_file_of_users_is_made_and_its_password_is_not_in_the_log() {
    let home = folder();
    let users = home.path().join("new/htpasswd");
    let mut server = Config::new(home.path())
        .set("auth", json!({"htpasswd": {"realm": "r", "path": users}}))
        .start();
    let log = server.log();
    let kept = home.path().join("new/htpasswd.password");
    let where_it_is = format!("the password is in {}", kept.display());
    assert!(log.contains(&where_it_is), "{log}");
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o600);
    let password = fs::read_to_string(&kept).unwrap();
    let password = password.trim_end();
    assert!(password.len() > 40);
    let base = |http: Http, shown: &str| {
        let headers = [("Authorization", shown)];
        http.send("GET", "/v2/", &headers, b"").status
    };
    let right = basic("docker", password);
    assert_eq!(base(server.http(), &right), 200);
    assert_eq!(base(server.http(), &basic("docker", "docker")), 401);
    server.stop();
    server.start_again();
    assert_eq!(base(server.http(), &right), 200);
    assert!(!server.log().contains(password), "{}", server.log());
}

/// Reading a pipe that nobody writes to hangs, as a file system may.
#[test]
fn a_file_of_users_that_hangs_holds_up_nobody() {
    let home = folder();
    let users = home.path().join("htpasswd");
    fs::write(&users, htpasswd("ada", "correct horse")).unwrap();
    let config =
        Config::new(home.path()).set("auth", json!({"htpasswd": {"realm": "r", "path": users}}));
    let mut server = config.start();
    fs::remove_file(&users).unwrap();
    run(Command::new("mkfifo").arg(&users));
    let base = |password: &str| {
        let shown = basic("ada", password);
        let headers = [("Authorization", shown.as_str())];
        server.http().send("GET", "/v2/", &headers, b"").status
    };
    for _ in 0..10 {
        assert_eq!((base("correct horse"), base("wrong horse")), (200, 401));
    }
    let log = server.log();
    let told = "the file system does not answer; the users stay as they were";
    assert_eq!(log.matches(told).count(), 1, "{log}");
    assert!(server.stop().success());
    // Nor can it be started with, and says so.
    let mut refused = config.spawn();
    assert!(!refused.wait().success());
    let log = refused.log();
    assert!(
        log.contains("htpasswd: the file system has not answered for 10 s"),
        "{log}"
    );
}

/// A registry and the token service it trusts.
fn with_tokens(home: &Path, users: Vec<(&'static str, User)>) -> (TokenService, Wharfinger) {
    let service = TokenService::start(home, users);
    let server = Config::new(home)
        .set("auth", json!({"token": service.section()}))
        .start();
    (service, server)
}

#[test]
fn people_get_tokens_for_what_they_may_do() {
    let home = folder();
    let writer = User::new("w").may("*", "pull,push");
    let reader = User::new("r").may("team/*", "pull");
    let anyone = User::new("").may("public/*", "pull");
    let (service, server) = with_tokens(
        home.path(),
        vec![("writer", writer), ("reader", reader), ("", anyone)],
    );
    let image = small_image(home.path(), 1);
    for name in ["team/app:t", "public/app:t"] {
        let target = format!("docker://{}", server.image(name));
        refused(&mut copy(&image, &target));
        run(copy(&image, &target).arg("--dest-creds=writer:w"));
    }
    let asked = service.asked();
    assert!(
        asked.contains(&"repository:team/app:pull,push".to_owned()),
        "{asked:?}"
    );

    for person in people(home.path()) {
        let name = person.name();
        let [team, public] = ["team/app:t", "public/app:t"].map(|name| server.image(name));
        // Anybody may read what is public, and nothing else.
        run(&mut person.pull(&public));
        refused(&mut person.pull(&team));
        refused(&mut person.push(&public, &server.image(&format!("public/{name}:1"))));
        refused(&mut person.login(&server, "reader", "w"));
        run(&mut person.login(&server, "reader", "r"));
        run(&mut person.pull(&team));
        refused(&mut person.push(&team, &server.image(&format!("team/{name}:1"))));
        run(&mut person.logout(&server));
        run(&mut person.login(&server, "writer", "w"));
        // The layers are those of another repository, which the writer may read: they are mounted.
        run(&mut person.pull(&team));
        run(&mut person.push(&team, &server.image(&format!("team/{name}:1"))));
        run(&mut person.logout(&server));
    }
    let log = server.log();
    assert!(
        log.contains(" - writer [") && log.contains(" - reader ["),
        "{log}"
    );
    assert!(!log.contains("eyJ"), "a token is in the log:\n{log}");
}

#[test]
fn tokens_that_are_not_good_are_refused_with_the_right_challenge() {
    let home = folder();
    let (service, server) = with_tokens(home.path(), vec![("", User::new(""))]);
    let access = json!([{"type": "repository", "name": "a", "actions": ["pull", "push"]}]);
    let claims = || Issuer::claims("ada", &access);
    let with = |key: &str, value: Value| {
        let mut claims = claims();
        claims[key] = value;
        claims
    };
    let send = |method: &str, path: &str, token: &str| {
        let shown = format!("Bearer {token}");
        let headers = [("Authorization", shown.as_str())];
        server.http().send(method, path, &headers, b"")
    };
    let good = service.issuer().sign(&claims());
    assert_eq!(send("GET", "/v2/", &good).status, 200);
    assert_eq!(send("POST", "/v2/a/blobs/uploads/", &good).status, 202);
    let none = {
        use wharfinger_oci::key::base64url::encode;
        let header = encode(br#"{"alg":"none"}"#);
        format!("{header}.{}.", encode(claims().to_string().as_bytes()))
    };
    let bad = [
        (
            "expired",
            service.issuer().sign(&with("exp", json!(1_000_000))),
        ),
        (
            "good in",
            service
                .issuer()
                .sign(&with("nbf", json!(4_000_000_000_u64))),
        ),
        (
            "it is for",
            service.issuer().sign(&with("aud", json!("another.test"))),
        ),
        (
            "issued by",
            service.issuer().sign(&with("iss", json!("somebody"))),
        ),
        ("not trusted", Issuer::new().sign(&claims())),
        ("not accepted", none),
        ("form of a token", "nonsense".to_owned()),
    ];
    for (reason, token) in &bad {
        let answer = send("GET", "/v2/a/manifests/t", token);
        assert_eq!(
            answer.outcome(),
            (401, "UNAUTHORIZED".to_owned()),
            "{reason}"
        );
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer realm=\"http://127.0.0.1:"),
            "{challenge}"
        );
        let end = ",service=\"registry.test\",scope=\"repository:a:pull\",error=\"invalid_token\"";
        assert!(challenge.ends_with(end), "{challenge}");
    }
    let beyond = send("DELETE", "/v2/a/manifests/t", &good);
    let challenge = beyond.header("www-authenticate").unwrap();
    assert!(
        challenge.ends_with("scope=\"repository:a:delete\",error=\"insufficient_scope\""),
        "{challenge}"
    );
    let log = server.log();
    for (reason, token) in &bad {
        assert!(log.contains(reason), "{reason}: {log}");
        let (_, signature) = token.rsplit_once('.').unwrap_or_default();
        assert!(signature.is_empty() || !log.contains(signature), "{log}");
    }
}

/// What Distribution's users have asked of both: the same challenge in both.
/// A challenge whose scopes, and their actions, stand in alphabetical order: Distribution tells
/// them in any.
fn in_order(challenge: &str) -> String {
    let Some((before, rest)) = challenge.split_once("scope=\"") else {
        return challenge.to_owned();
    };
    let (scopes, after) = rest.split_once('"').expect("the scope ends");
    let scope = |scope: &str| {
        let (resource, actions) = scope.rsplit_once(':').expect("a scope has actions");
        let mut actions: Vec<_> = actions.split(',').collect();
        actions.sort_unstable();
        format!("{resource}:{}", actions.join(","))
    };
    let mut scopes: Vec<_> = scopes.split(' ').map(scope).collect();
    scopes.sort_unstable();
    format!("{before}scope=\"{}\"{after}", scopes.join(" "))
}

#[test]
fn challenges_are_distributions() {
    let home = folder();
    let service = TokenService::start(home.path(), [("", User::new(""))]);
    let auth = json!({"token": service.section()});
    let server = Config::new(home.path()).set("auth", auth.clone()).start();
    let other = Distribution::start_with(
        home.path(),
        &home.path().join("other"),
        &json!({"auth": auth}),
    );
    let digest = wharfinger_e2e::digest(b"x");
    let requests = [
        ("GET", "/v2/".to_owned()),
        ("GET", "/v2/_catalog".to_owned()),
        ("GET", "/v2/a/b/manifests/t".to_owned()),
        ("HEAD", format!("/v2/a/b/blobs/{digest}")),
        ("PUT", "/v2/a/b/manifests/t".to_owned()),
        ("DELETE", format!("/v2/a/b/manifests/{digest}")),
        ("POST", "/v2/a/b/blobs/uploads/".to_owned()),
        (
            "POST",
            format!("/v2/a/b/blobs/uploads/?mount={digest}&from=c/d"),
        ),
    ];
    for (method, path) in requests {
        for token in [None, Some("Bearer nonsense")] {
            let headers: Vec<_> = token
                .map(|token| ("Authorization", token))
                .into_iter()
                .collect();
            let told = |http: Http| {
                let answer = http.send(method, &path, &headers, b"");
                let challenge = answer.header("www-authenticate").map(in_order);
                let detail = serde_json::from_slice::<Value>(&answer.body);
                let detail = detail.map(|body| body["errors"][0]["detail"].clone());
                (answer.status, challenge, detail.unwrap_or_default())
            };
            let (ours, theirs) = (told(server.http()), told(other.http()));
            assert_eq!(ours, theirs, "{method} {path} {token:?}");
        }
    }
}
