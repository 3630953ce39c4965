//! One registry that caches several, with real upstreams and real clients.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use wharfinger_e2e::certificates::{ANYWHERE, Authority, path};
use wharfinger_e2e::clients::{Client as _, Skopeo, copy};
use wharfinger_e2e::containerd::Containerd;
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::docker::Docker;
use wharfinger_e2e::http::Http;
use wharfinger_e2e::image::small_image;
use wharfinger_e2e::network::ADDRESS;
use wharfinger_e2e::token::{TokenService, User};
use wharfinger_e2e::tunnel::TunnelProxy;
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Wharfinger, folder, output, run};

fn below(home: &Path, name: &str) -> PathBuf {
    let folder = home.join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

/// A registry with upstreams, which is reached by every loopback address.
fn caching(home: &Path, upstreams: &Value) -> Config {
    Config::new(&below(home, "cache"))
        .addr("0.0.0.0:0")
        .set("proxy.upstreams", upstreams.clone())
}

/// A host by which a registry is reached.
fn at(server: &Wharfinger, host: &str) -> String {
    format!("{host}:{}", server.addr.port())
}

fn http(server: &Wharfinger) -> Http {
    Http(at(server, "127.0.0.1").parse().unwrap())
}

/// A file of Docker's clients.
fn docker_config(home: &Path, text: &Value) -> Value {
    let file = home.join("config.json");
    fs::write(&file, text.to_string()).unwrap();
    path(&file)
}

/// A folder with a credential helper that knows a user.
fn helper(home: &Path, name: &str, username: &str, secret: &str) -> PathBuf {
    let answer = json!({ "Username": username, "Secret": secret });
    script(
        home,
        name,
        &format!("test \"$1\" = get && echo '{answer}'\n"),
    )
}

/// The same with one that does as a shell script says.
fn script(home: &Path, name: &str, script: &str) -> PathBuf {
    let folder = below(home, "helpers");
    let file = folder.join(format!("docker-credential-{name}"));
    fs::write(&file, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn every_client_pulls_by_its_own_way_and_one_copy_is_kept() {
    let home = folder();
    let hub = Distribution::start(home.path(), &below(home.path(), "hub"));
    let users = [("reader", User::new("s-e-cret").may("*", "pull,push"))];
    let service = TokenService::start(home.path(), users);
    let private = Config::new(&below(home.path(), "private"))
        .set("auth.token", service.section())
        .start();
    let images = [small_image(home.path(), 1), small_image(home.path(), 2)];
    for name in ["library/app:1", "library/sparse:1"] {
        let to = format!("docker://{}", hub.image(name));
        run(&mut copy(&images[0], &to));
    }
    let to = format!("docker://{}", private.image("team/app:1"));
    run(copy(&images[1], &to).arg("--dest-creds=reader:s-e-cret"));
    let helpers = helper(home.path(), "known", "reader", "s-e-cret");
    let search = format!("{}:{}", helpers.display(), env::var("PATH").unwrap());
    let known = json!({ "credHelpers": { private.addr.to_string(): "known" } });
    let config = caching(
        home.path(),
        &json!([
            {"name": "docker.io", "remoteurl": url(hub.addr), "hosts": ["127.0.0.2"]},
            {
                "name": "private",
                "ns": ["private.test:5000"],
                "remoteurl": url(private.addr),
                "dockerconfig": docker_config(home.path(), &known),
                "deny": ["*/hidden"],
            },
        ]),
    )
    .env("PATH", search)
    .watched();
    let mut server = config.start();
    let http = http(&server);
    let expected = hub.http().digest("library/app", "1");

    let skopeo = Skopeo::new(home.path());
    let local = at(&server, "127.0.0.1");
    for image in [
        format!("{local}/docker.io/library/app:1"),
        format!("{local}/docker.io/app:1"),
        format!("{}/library/app:1", at(&server, "127.0.0.2")),
    ] {
        assert_eq!(skopeo.pull(&image), expected, "{image}");
    }
    let docker =
        Docker::start_with_mirror(home.path(), &format!("http://{}", at(&server, "127.0.0.2")));
    assert_eq!(docker.pull("app:1"), expected);
    let mirror = format!("http://{local}");
    let containerd = Containerd::start(home.path())
        .mirrored("docker.io", &mirror)
        .mirrored("private.test:5000", &mirror);
    assert_eq!(containerd.pull("docker.io/library/app:1"), expected);
    let private_image = containerd.pull("private.test:5000/team/app:1");
    assert_eq!(private_image, http.digest("private/team/app", "1"));

    // Its own repositories are beside them, and nothing is pushed to the others.
    let own = format!("docker://{local}/team/own:1");
    run(&mut copy(&images[0], &own));
    let refused = http.send("POST", "/v2/private/team/app/blobs/uploads/", &[], b"");
    assert_eq!(refused.outcome(), (405, "UNSUPPORTED".to_owned()));
    let denied = http.get("/v2/team/hidden/tags/list?ns=private.test:5000");
    assert_eq!(denied.outcome(), (403, "DENIED".to_owned()));
    let unknown = http.get("/v2/team/own/tags/list?ns=elsewhere.test");
    assert_eq!(unknown.outcome(), (404, "NAME_UNKNOWN".to_owned()));
    let catalog = http.get("/v2/_catalog").json();
    let names = json!(["docker.io/library/app", "private/team/app", "team/own"]);
    assert_eq!(catalog["repositories"], names);

    let metrics = server.debug().get("/metrics").body;
    let metrics = String::from_utf8(metrics).unwrap();
    for upstream in ["docker.io", "private"] {
        let series = format!("registry_proxy_upstream_hits_total{{upstream=\"{upstream}\"");
        assert!(metrics.contains(&series), "{metrics}");
    }
    let log = server.log();
    assert!(
        log.contains("/v2/library/app/manifests/1?ns=docker.io"),
        "{log}"
    );
    assert!(!log.contains("s-e-cret"), "{log}");

    // What is kept outlives the upstreams; and what never came of it is no damage.
    let sparse = http.get("/v2/docker.io/library/sparse/manifests/1");
    assert_eq!(sparse.status, 200);
    drop((hub, private));
    assert_eq!(skopeo.pull(&format!("{local}/docker.io/app:1")), expected);
    server.stop();
    run(Command::new(binary()).arg("verify").arg(config.write()));
}

#[test]
fn a_cache_with_tokens_of_its_own_lets_in_by_the_names_that_it_has() {
    let home = folder();
    let users = [
        (
            "puller",
            User::new("p-s-e-cret").may("docker.io/library/*", "pull"),
        ),
        ("other", User::new("o-s-e-cret").may("library/*", "pull")),
        ("robot", User::new("r-s-e-cret").may("*", "pull,push")),
    ];
    let service = TokenService::start(home.path(), users);
    let hub = Config::new(&below(home.path(), "hub"))
        .set("auth.token", service.section())
        .start();
    let to = format!("docker://{}", hub.image("library/app:1"));
    let image = small_image(home.path(), 3);
    run(copy(&image, &to).arg("--dest-creds=robot:r-s-e-cret"));
    // A token that is exchanged for others, as a login at some registries leaves it.
    let token = json!({ "identitytoken": "robot:r-s-e-cret" });
    let known = json!({ "auths": { hub.addr.to_string(): token } });
    let upstream = json!([{
        "name": "docker.io",
        "remoteurl": url(hub.addr),
        "hosts": ["127.0.0.2"],
        "dockerconfig": docker_config(home.path(), &known),
    }]);
    let mut server = caching(home.path(), &upstream)
        .set("auth.token", service.section())
        .start();
    let mirror = format!("http://{}", at(&server, "127.0.0.1"));
    let containerd = Containerd::start(home.path()).mirrored("docker.io", &mirror);
    containerd.pull_as("docker.io/library/app:1", "puller:p-s-e-cret");
    let by_host = format!("docker://{}/library/app:1", at(&server, "127.0.0.2"));
    let kept = format!("dir:{}", below(home.path(), "pulled").display());
    run(copy(&by_host, &kept).arg("--src-creds=puller:p-s-e-cret"));
    // Who may pull what is called so among the registry's own may not pull this.
    let refused = output(copy(&by_host, &kept).arg("--src-creds=other:o-s-e-cret"));
    assert!(!refused.status.success());
    let challenge = http(&server).get("/v2/library/app/manifests/1?ns=docker.io");
    assert_eq!(challenge.status, 401);
    let challenge = challenge.header("www-authenticate").unwrap();
    assert!(
        challenge.contains("scope=\"repository:docker.io/library/app:pull\""),
        "{challenge}"
    );
    let log = server.log();
    assert!(!log.contains("s-e-cret"), "{log}");
    server.stop();
}

#[test]
fn an_upstream_is_reached_with_its_own_authorities_and_through_its_own_proxy() {
    let home = folder();
    let authority = Authority::new(home.path(), "authority");
    let secure = Config::new(&below(home.path(), "secure"))
        .secured(&authority.server(home.path(), "server"))
        .start();
    let to = format!("docker://{}", secure.image("team/app:1"));
    let image = small_image(home.path(), 4);
    run(&mut copy(&image, &to));
    let behind = Wharfinger::start(&below(home.path(), "behind"));
    let to = format!("docker://{}", behind.image("team/app:1"));
    run(&mut copy(&image, &to));
    let https = format!("https://{}", secure.addr);
    let mut server = caching(
        home.path(),
        &json!([
            {"name": "trusted", "remoteurl": https, "ca": path(&authority.certificate)},
            {"name": "unknown", "remoteurl": https},
            // What a registry is sent as a proxy, it answers.
            {"name": "behind", "remoteurl": "http://inner.invalid", "proxy": url(behind.addr)},
            {"name": "direct", "remoteurl": "http://inner.invalid", "proxy": "direct"},
        ]),
    )
    .env("HTTP_PROXY", url(behind.addr))
    .start();
    let http = http(&server);
    for name in ["trusted", "behind"] {
        let pulled = http.get(&format!("/v2/{name}/team/app/manifests/1"));
        assert_eq!(pulled.status, 200, "{name}: {}", server.log());
    }
    for name in ["unknown", "direct"] {
        let failed = http.get(&format!("/v2/{name}/team/app/manifests/1"));
        assert_eq!(failed.outcome(), (503, "UNAVAILABLE".to_owned()), "{name}");
        let text = String::from_utf8_lossy(&failed.body).into_owned();
        assert!(
            !text.contains("inner") && !text.contains("127.0.0.1"),
            "{text}"
        );
    }
    server.stop();
}

#[test]
fn helpers_of_dockers_clients_are_asked_for_the_upstream_and_their_failures_logged() {
    let home = folder();
    let users = home.path().join("users");
    let user = run(Command::new("htpasswd").args(["-nbB", "reader", "u-s-e-cret"]));
    fs::write(&users, user).unwrap();
    let login = json!({"auth": {"htpasswd": {"realm": "r", "path": path(&users)}}});
    let data = below(home.path(), "upstream");
    let upstream = Distribution::start_with(home.path(), &data, &login);
    let image = small_image(home.path(), 6);
    let to = format!("docker://{}", upstream.image("team/app:1"));
    run(copy(&image, &to).arg("--dest-creds=reader:u-s-e-cret"));

    let (host, asked) = (upstream.addr.to_string(), home.path().join("asked"));
    let answer = json!({ "Username": "reader", "Secret": "u-s-e-cret" });
    let knows = format!(
        "read host\necho $1 $host >> {}\n\
         test $host = {host} && echo '{answer}' && exit\n\
         echo credentials not found in native keychain\nexit 1\n",
        asked.display()
    );
    script(home.path(), "store", &knows);
    let helpers = script(home.path(), "broken", "echo s-e-cret is locked\nexit 3\n");
    let alias = format!("localhost:{}", upstream.addr.port());
    let upstreams = [
        ("store", &host, json!({"credsStore": "store"})),
        // What is named for the registry is before what is for all.
        (
            "own",
            &host,
            json!({"credsStore": "broken", "credHelpers": {&host: "store"}}),
        ),
        (
            "broken",
            &host,
            json!({"credsStore": "store", "credHelpers": {&host: "broken"}}),
        ),
        ("unknown", &alias, json!({"credsStore": "store"})),
    ];
    let upstreams = upstreams.map(|(name, host, config)| {
        let file = docker_config(&below(home.path(), name), &config);
        json!({"name": name, "remoteurl": format!("http://{host}"), "dockerconfig": file})
    });
    let search = format!("{}:{}", helpers.display(), env::var("PATH").unwrap());
    let mut server = caching(home.path(), &json!(upstreams))
        .env("PATH", search)
        .start();
    for name in ["store", "own"] {
        let from = format!("docker://{}/{name}/team/app:1", at(&server, "127.0.0.1"));
        let pulled = format!(
            "dir:{}",
            below(home.path(), &format!("of-{name}")).display()
        );
        run(&mut copy(&from, &pulled));
    }
    let log = server.log();
    assert!(!log.contains("nobody is known"), "{log}");
    for name in ["unknown", "broken"] {
        let refused = http(&server).get(&format!("/v2/{name}/team/app/manifests/1"));
        assert_eq!(
            refused.outcome(),
            (401, "UNAUTHORIZED".to_owned()),
            "{name}"
        );
        let told = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(
            told.contains(&format!("cached as \\\"{name}\\\" refuses")),
            "{told}"
        );
        for secret in ["s-e-cret", "helper", "credential-", &host] {
            assert!(!told.contains(secret), "{told}");
        }
        let log = server.log();
        // A helper that knows nobody does not fail.
        let fails = log.contains("docker-credential-broken: it ends with exit status: 3");
        assert_eq!(fails, name == "broken", "{log}");
    }
    let log = server.log();
    assert!(!log.contains("s-e-cret"), "{log}");
    // Each of them once for a whole image: what a helper knows holds for a minute.
    let asked = fs::read_to_string(asked).unwrap();
    let lines: Vec<_> = asked.lines().collect();
    let (get, other) = (format!("get {host}"), format!("get {alias}"));
    assert_eq!(lines, [&get, &get, &other]);
    server.stop();
}

#[test]
fn tunnels_lead_to_an_upstream_and_proxies_that_refuse_are_told_to_the_operator_alone() {
    let home = folder();
    let authority = Authority::new(home.path(), "authority");
    let users = home.path().join("users");
    let user = run(Command::new("htpasswd").args(["-nbB", "reader", "u-s-e-cret"]));
    fs::write(&users, user).unwrap();
    let upstream = Config::new(&below(home.path(), "upstream"))
        .secured(&authority.server(home.path(), "server"))
        .set("auth.htpasswd", json!({"realm": "r", "path": path(&users)}))
        .start();
    let image = small_image(home.path(), 5);
    let to = format!("docker://{}", upstream.image("team/app:1"));
    run(copy(&image, &to).arg("--dest-creds=reader:u-s-e-cret"));

    let proxy = TunnelProxy::start("p@user", "p-s-e-cret");
    let known = format!("http://p%40user:p-s-e-cret@{}", proxy.addr);
    let stranger = format!("http://p%40user:other-s-e-cret@{}", proxy.addr);
    let broken = TunnelProxy::refusing("502 Bad Gateway");
    let strict = TunnelProxy::refusing("407 Proxy Authentication Required");
    // Neither is a loopback address, to which the environment's proxy would not lead.
    let port = upstream.addr.port();
    let (excepted, other) = (format!("{ANYWHERE}:{port}"), format!("{ADDRESS}:{port}"));
    let reached = |name: &str, host: &str, proxy: &str| {
        json!({
            "name": name,
            "remoteurl": format!("https://{host}"),
            "username": "reader",
            "password": "u-s-e-cret",
            "ca": path(&authority.certificate),
            "proxy": proxy,
        })
    };
    let mut server = caching(
        home.path(),
        &json!([
            reached("named", &excepted, &known),
            reached("environment", &other, ""),
            reached("excepted", &excepted, ""),
            reached("stranger", "inner.invalid", &stranger),
            reached("broken", "inner.invalid", &url(broken.addr)),
            {"name": "strict", "remoteurl": "http://inner.invalid", "proxy": url(strict.addr)},
            reached("absent", "inner.invalid", "http://127.0.0.1:9"),
        ]),
    )
    .env("HTTPS_PROXY", known.clone())
    .env("NO_PROXY", ANYWHERE)
    .start();
    let http = http(&server);
    for (name, target) in [
        ("named", Some(&excepted)),
        ("environment", Some(&other)),
        ("excepted", None),
    ] {
        let from = format!("docker://{}/{name}/team/app:1", at(&server, "127.0.0.1"));
        let pulled = format!("dir:{}", below(home.path(), name).display());
        run(&mut copy(&from, &pulled));
        let mut asked = proxy.asked();
        asked.dedup();
        let tunnels: Vec<_> = target
            .iter()
            .map(|t| format!("CONNECT {t}: open"))
            .collect();
        assert_eq!(asked, tunnels, "{name}");
    }
    for (name, said) in [
        (
            "stranger",
            "its HTTP proxy wants a user and a password, or others",
        ),
        ("broken", "its HTTP proxy does not lead there: unsuccessful"),
        ("strict", "407 Proxy Authentication Required"),
        (
            "absent",
            "its HTTP proxy does not lead there: Connection refused",
        ),
    ] {
        let failed = http.get(&format!("/v2/{name}/team/app/manifests/1"));
        assert_eq!(failed.outcome(), (503, "UNAVAILABLE".to_owned()), "{name}");
        let told = String::from_utf8_lossy(&failed.body).into_owned();
        assert!(
            told.contains(&format!("cached as \\\"{name}\\\" cannot")),
            "{told}"
        );
        for secret in ["inner", "127.0.0.1", "s-e-cret", "user"] {
            assert!(!told.contains(secret), "{name}: {told}");
        }
        let log = server.log();
        let line = log.lines().find(|line| line.contains(said));
        let line = line.unwrap_or_else(|| panic!("{name}: not {said:?} in {log}"));
        assert!(line.contains(&format!("the upstream {name} ")), "{line}");
    }
    assert_eq!(
        [proxy.asked(), broken.asked(), strict.asked()].concat(),
        [
            "CONNECT inner.invalid:443: 407 Proxy Authentication Required",
            "CONNECT inner.invalid:443: 502 Bad Gateway",
            "GET http://inner.invalid/v2/team/app/manifests/1: 407 Proxy Authentication Required",
        ]
    );
    let log = server.log();
    assert!(!log.contains("s-e-cret"), "{log}");
    server.stop();
}

#[test]
fn what_is_wrong_with_an_upstream_is_named_at_the_start() {
    let home = folder();
    let missing = home.path().join("missing");
    for (upstream, key) in [
        (json!({"ca": path(&missing)}), "ca"),
        (json!({"dockerconfig": path(&missing)}), "dockerconfig"),
        (json!({"remoteurl": "https://[s-e-cret"}), "remoteurl"),
        (json!({"deny": ["Team"]}), "deny[0]"),
    ] {
        let mut wrong = json!({"name": "b", "remoteurl": "https://registry.invalid"});
        wrong
            .as_object_mut()
            .unwrap()
            .extend(upstream.as_object().unwrap().clone());
        let good = json!({"name": "a", "remoteurl": "https://registry.invalid"});
        let mut service = caching(home.path(), &json!([good, wrong])).spawn();
        assert!(!service.wait().success());
        let log = service.log();
        assert!(
            log.contains(&format!("proxy.upstreams[1].{key}: ")),
            "{key}: {log}"
        );
        assert!(!log.contains("s-e-cret"), "{log}");
    }
}
