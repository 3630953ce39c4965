//! Mirroring with real registries on the other side.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use wharfinger_e2e::clients::copy;
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::gate::Gate;
use wharfinger_e2e::image::{Layout, MANIFEST};
use wharfinger_e2e::token::{TokenService, User};
use wharfinger_e2e::torn::torn;
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, eventually, folder, noise, output, run};

fn below(home: &Path, name: &str) -> PathBuf {
    let folder = home.join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// `wharfinger sync` with these arguments before the configuration file.
fn sync(config: &Config, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("sync").args(arguments).arg(config.write());
    command
}

/// The status of the command and all that it said.
fn told(command: &mut Command) -> (bool, String) {
    let output = output(command);
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.success(), said.join(""))
}

/// Pulls an image as it is, for this machine's platform.
fn pull(image: &str, to: &Path) {
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet", "--src-tls-verify=false"]);
    command.args(["--override-arch", "amd64"]);
    run(command
        .arg(format!("docker://{image}"))
        .arg(format!("dir:{}", to.display())));
}

/// A repository's tags, with what they stand for. One that is being pushed has its folder, and so a
/// place in the list, a moment before it stands for anything.
fn tags(http: Http, name: &str) -> Value {
    let list = http.get(&format!("/v2/{name}/tags/list"));
    let mut all = json!({});
    if list.status == 200 {
        for tag in list.json()["tags"].as_array().into_iter().flatten() {
            let tag = tag.as_str().unwrap();
            let manifest = http.head(&format!("/v2/{name}/manifests/{tag}"));
            assert!(matches!(manifest.status, 200 | 404), "{manifest:?}");
            if let Some(digest) = manifest.header("docker-content-digest") {
                all[tag] = json!(digest);
            }
        }
    }
    all
}

#[test]
fn versions_and_platforms_come_from_distribution_and_go_with_it() {
    let home = folder();
    let home = home.path();
    let upstream = Distribution::start(home, &below(home, "upstream"));
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let mut other = None;
    for (seed, tag) in [(1, "v1.1.0"), (2, "v1.2.0"), (3, "v1.3.0"), (4, "v2.0.0")] {
        let images = [("amd64", seed), ("arm64", seed + 10)].map(|(architecture, seed)| {
            let layer = layout.layer(&[(seed, 20_000)]).unwrap();
            layout.image(architecture, &[layer]).unwrap()
        });
        other = Some(images[1]["digest"].as_str().unwrap().to_owned());
        let index = layout.index(&images).unwrap();
        let source = layout.tag(&index, tag).unwrap();
        let to = format!(
            "docker://{}",
            upstream.image(&format!("library/multi:{tag}"))
        );
        run(&mut copy(&source, &to));
    }
    let other = other.unwrap();
    let job = json!({
        "name": "in", "from": {"remoteurl": format!("http://{}", upstream.addr)},
        "images": ["library/*"], "versions": ">=1.2, <2", "platforms": ["linux/amd64"],
        "prefix": "m/", "delete": "tags",
    });
    // The registry is in use meanwhile.
    let config = Config::new(&below(home, "mirror")).set("sync.jobs", json!([job]));
    let server = config.start();
    let http = server.http();
    let name = "m/library/multi";

    let (is_well, said) = told(&mut sync(&config, &["--dry-run"]));
    assert!(is_well, "{said}");
    assert!(said.contains("m/library/multi:v1.2.0 sha256:"), "{said}");
    assert!(
        said.contains("in: 2 tags would be copied, with 4 blobs"),
        "{said}"
    );
    assert_eq!(tags(http, name), json!({}));

    let (is_well, said) = told(&mut sync(&config, &[]));
    assert!(is_well && said.contains("4 blobs copied"), "{said}");
    let there = tags(upstream.http(), "library/multi");
    let expected = json!({"v1.2.0": there["v1.2.0"], "v1.3.0": there["v1.3.0"]});
    assert_eq!(tags(http, name), expected);
    pull(
        &server.image("m/library/multi:v1.3.0"),
        &home.join("pulled"),
    );
    let left_away = http.get(&format!("/v2/{name}/manifests/{other}"));
    assert_eq!(left_away.status, 404);
    let (is_well, said) = told(&mut sync(&config, &["--job", "in"]));
    assert!(is_well && said.contains("0 blobs copied"), "{said}");

    let path = format!(
        "/v2/library/multi/manifests/{}",
        there["v1.2.0"].as_str().unwrap()
    );
    let removed = upstream.http().send("DELETE", &path, &[], b"");
    assert_eq!(removed.status, 202);
    let (is_well, said) = told(&mut sync(&config, &["--dry-run"]));
    assert!(
        is_well && said.contains("m/library/multi:v1.2.0 would be removed"),
        "{said}"
    );
    assert_eq!(tags(http, name), expected);
    let (is_well, said) = told(&mut sync(&config, &[]));
    assert!(
        is_well && said.contains("m/library/multi:v1.2.0 removed"),
        "{said}"
    );
    assert_eq!(tags(http, name), json!({"v1.3.0": there["v1.3.0"]}));
    // Nothing in the store is amiss.
    run(Command::new(binary()).arg("verify").arg(config.write()));

    let (is_well, said) = told(&mut sync(&config, &["--job", "out"]));
    assert!(
        !is_well && said.contains("none is called \"out\""),
        "{said}"
    );
}

#[test]
fn signatures_come_from_behind_tokens_and_go_on_to_distribution_and_back() {
    let home = folder();
    let home = home.path();
    let users = [("reader", User::new("r-s-e-cret").may("team/*", "pull"))];
    let service = TokenService::start(home, users);
    let upstream = Config::new(&below(home, "upstream"));
    let open = upstream.start();
    let [subject, ..] = open.http().push_image("team/app", "1.0", 5);
    open.http().push_image("other/app", "1.0", 6);
    let blob = open.http().push_blob("team/app", b"{}");
    let signature = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": blob, "size": 2},
        "layers": [],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
    });
    let signature = signature.to_string().into_bytes();
    let signed = digest(&signature);
    let put = open
        .http()
        .push_manifest("team/app", &signed, MANIFEST, &signature);
    assert_eq!(put.status, 201, "{put:?}");
    drop(open);
    let upstream = upstream.set("auth.token", service.section()).start();

    let between = Distribution::start(home, &below(home, "between"));
    let from = |addr: std::net::SocketAddr| json!({"remoteurl": format!("http://{addr}")});
    let mut private = from(upstream.addr);
    private["username"] = json!("reader");
    private["password"] = json!("r-s-e-cret");
    let jobs = json!([
        {"name": "in", "from": private, "images": ["team/app", "other/app"]},
        {"name": "out", "to": from(between.addr), "images": ["*"], "prefix": "copies"},
    ]);
    let first = Config::new(&below(home, "first")).set("sync.jobs", jobs);
    let (is_well, said) = told(&mut sync(&first, &["--job", "in"]));
    // One repository that may not be read is no reason to leave the other.
    assert!(!is_well && said.contains("error: other/app: "), "{said}");
    assert!(!said.contains("r-s-e-cret"), "{said}");
    let server = first.start();
    let expected = json!({"1.0": subject});
    assert_eq!(tags(server.http(), "team/app"), expected);
    let referrers = |server: &Wharfinger, name: &str| {
        let path = format!("/v2/{name}/referrers/{subject}");
        server.http().get(&path).json()["manifests"][0]["digest"].clone()
    };
    assert_eq!(referrers(&server, "team/app"), json!(signed));

    // Distribution lists no referrers: they are noted under a tag.
    for blobs in ["3 blobs copied", "0 blobs copied"] {
        let (is_well, said) = told(&mut sync(&first, &["--job", "out"]));
        assert!(is_well && said.contains(blobs), "{said}");
    }
    let fallback = subject.replace(':', "-");
    let there = tags(between.http(), "copies/team/app");
    assert_eq!(there["1.0"], json!(subject));
    let list = format!("/v2/copies/team/app/manifests/{fallback}");
    assert_eq!(
        between.http().get(&list).json()["manifests"][0]["digest"],
        json!(signed)
    );

    let job = json!({
        "name": "back", "from": from(between.addr), "images": ["copies/team/app:1.0"],
    });
    let second = Config::new(&below(home, "second")).set("sync.jobs", json!([job]));
    run(&mut sync(&second, &[]));
    let back = second.start();
    assert_eq!(tags(back.http(), "copies/team/app"), expected);
    assert_eq!(referrers(&back, "copies/team/app"), json!(signed));
    let images = [
        (between.image("copies/team/app:1.0"), "there"),
        (server.image("team/app:1.0"), "here"),
        (back.image("copies/team/app:1.0"), "back"),
    ];
    let [there, here, back] = images.map(|(image, name)| {
        let folder = home.join(name);
        pull(&image, &folder);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|file| {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                (path.file_name().unwrap().to_owned(), digest(&bytes))
            })
            .collect();
        files.sort();
        files
    });
    assert!(here == there && here == back);
}

#[test]
fn large_layers_are_sent_in_chunks_that_go_on_where_a_connection_broke() {
    let home = folder();
    let home = home.path();
    let there = Config::new(&below(home, "there")).start();
    // In the midst of the first chunk, between two, and in the midst of a later one.
    let way = torn(there.addr, &[3 << 20, 7 << 20, 12 << 20]);
    let here = Config::new(&below(home, "here"));
    let server = here.start();
    let layer = noise(1, 25 << 20);
    let config = b"{}";
    for name in ["a/one", "a/two"] {
        let blobs = [config.as_slice(), &layer].map(|blob| server.http().push_blob(name, blob));
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": blobs[0], "size": 2},
            "layers": [{
                "mediaType": "application/octet-stream", "digest": blobs[1], "size": layer.len(),
            }],
        });
        let manifest = manifest.to_string().into_bytes();
        let put = server.http().push_manifest(name, "1", MANIFEST, &manifest);
        assert_eq!(put.status, 201, "{put:?}");
    }
    let job = json!({
        "name": "out", "to": {"remoteurl": format!("http://{way}")}, "images": ["*"], "parallelism": 1,
    });
    let here = here.set("sync.jobs", json!([job]));
    let (is_well, said) = told(&mut sync(&here, &[]));
    assert!(is_well, "{said}");
    for name in ["a/one", "a/two"] {
        assert_eq!(tags(there.http(), name), tags(server.http(), name));
        let got = there
            .http()
            .get(&format!("/v2/{name}/blobs/{}", digest(&layer)));
        assert!(got.body == layer, "{name}");
    }
    let log = there.log();
    let requests = |method: &str, part: &str| {
        let asked = log
            .lines()
            .filter(|line| line.contains(&format!("\"{method} /v2/")));
        asked.filter(|line| line.contains(part)).count()
    };
    // Four chunks, and three that go on; where each of those is, is asked for.
    assert!(requests("PATCH", "/blobs/uploads/") >= 5, "{log}");
    assert!(requests("GET", "/blobs/uploads/") >= 2, "{log}");
    // The second repository has it without another upload.
    assert_eq!(requests("POST", "mount=sha256"), 2, "{log}");
}

#[test]
fn what_was_killed_goes_on_where_it_was() {
    let home = folder();
    let home = home.path();
    let upstream = Config::new(&below(home, "upstream")).start();
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let small = layout.layer(&[(1, 1000)]).unwrap();
    let layers: Vec<Value> = [2, 3, 4, 5, 6, 7, 8]
        .map(|seed| layout.layer(&[(seed, 8 << 20)]).unwrap())
        .into();
    let layers = [vec![small.clone()], layers].concat();
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "t").unwrap();
    run(&mut copy(
        &source,
        &format!("docker://{}", upstream.image("a/large:1")),
    ));
    let job = json!({
        "name": "in", "images": ["a/large"],
        "from": {"remoteurl": format!("http://{}", upstream.addr)},
    });
    let mirror = Config::new(&below(home, "mirror")).set("sync.jobs", json!([job]));
    let mut command = sync(&mirror, &[]);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let small = small["digest"].as_str().unwrap().replace("sha256:", "");
    let layers = "docker/registry/v2/repositories/a/large/_layers/sha256";
    let link = mirror.data.join(layers).join(&small).join("link");
    while !link.exists() && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let server = mirror.start();
    assert_eq!(
        tags(server.http(), "a/large"),
        json!({}),
        "not a part of it"
    );
    let (is_well, said) = told(&mut sync(&mirror, &[]));
    assert!(is_well && !said.contains(" 0 were there"), "{said}");
    assert_eq!(
        tags(server.http(), "a/large"),
        json!({"1": image["digest"]})
    );
    pull(&server.image("a/large:1"), &home.join("pulled"));
}

/// On a terminal each image that is being copied has a line, and none of them stays there.
#[test]
fn images_on_a_terminal_have_lines_that_go() {
    let home = folder();
    let home = home.path();
    let upstream = Config::new(&below(home, "upstream")).start();
    for seed in 1..=12 {
        let tag = format!("{seed:02}");
        upstream
            .http()
            .push_image("a/long-name-of-a-repository", &tag, seed);
    }
    let gate = Gate::before(upstream.addr, 40_000);
    let job = json!({
        "name": "in", "images": ["a/*"], "prefix": "mirror/", "parallelism": 12,
        "from": {"remoteurl": format!("http://{}", gate.addr)},
    });
    let mirror = Config::new(&below(home, "mirror")).set("sync.jobs", json!([job]));
    let shown = home.join("shown");
    let on_terminal = || {
        let file = mirror.write();
        let sync = format!(
            "stty cols 60 rows 24; exec {} sync {}",
            binary().display(),
            file.display()
        );
        let mut command = Command::new("script");
        command
            .args(["-qfec", &sync, "/dev/null"])
            .stdin(Stdio::piped());
        let out = fs::File::create(&shown).unwrap();
        command.stdout(out).spawn().unwrap()
    };
    let read = || fs::read_to_string(&shown).unwrap_or_default();
    let is_shown = || {
        let shown = read();
        let has_line = |tag: &u32| {
            let line = format!("KiB of   97.7 KiB …long-name-of-a-repository:{tag:02}");
            shown.contains(&line)
        };
        shown.contains("and 2 more") && (1..=12).filter(has_line).count() == 10
    };

    let mut broken_off = on_terminal();
    eventually("ten images have a line", is_shown);
    assert!(read().contains("% of 1.14 MiB"), "the sum: {}", read());
    let mut keyboard = broken_off.stdin.take().unwrap();
    keyboard.write_all(b"\x03").unwrap();
    assert_eq!(broken_off.wait().unwrap().code(), Some(130));
    assert_eq!(left_of(&read()), "");

    let mut whole = on_terminal();
    eventually("ten images have a line again", is_shown);
    gate.open();
    assert!(whole.wait().unwrap().success(), "{}", read());
    let shown = read();
    let left = left_of(&shown);
    assert!(
        left.starts_with("in: 12 tags and 0 manifests without one; "),
        "{left}"
    );
    for tag in 1..=12 {
        let line = format!("mirror/a/long-name-of-a-repository:{tag:02} sha256:");
        let lines: Vec<_> = shown.lines().filter(|text| text.contains(&line)).collect();
        let [line] = lines[..] else {
            panic!("{tag}: {lines:?}");
        };
        let (before, _) = line.split_once("mirror/").unwrap();
        assert_eq!(left_of(before), "", "{line:?}");
    }
    // Nothing is left to be copied, so that only the sum is told.
    let mut again = on_terminal();
    assert!(again.wait().unwrap().success());
    assert!(!read().contains("…long-name"), "{}", read());
}

/// What stays on the terminal behind the last line that was wiped out.
fn left_of(shown: &str) -> &str {
    let wiped = shown.rsplit_once("\u{1b}[2K");
    let left = wiped.map_or(shown, |(_, left)| left);
    // The cursor goes back to where that was.
    let up = |letter: char| letter.is_ascii_digit() || "\u{1b}[A".contains(letter);
    left.trim_start_matches(up)
}

#[test]
fn a_schedule_keeps_the_mirror_up_to_date() {
    let home = folder();
    let home = home.path();
    let upstream = Config::new(&below(home, "upstream")).start();
    let [first, ..] = upstream.http().push_image("a/b", "1", 1);
    let job = json!({
        "name": "in", "images": ["a/*"], "interval": "1s",
        "from": {"remoteurl": format!("http://{}", upstream.addr)},
    });
    let data = home.join("shared");
    let nodes = ["one", "two"].map(|name| {
        let config = Config::new(&below(home, name)).data(&data).watched();
        config.set("sync.jobs", json!([job])).start()
    });
    let [one, two] = &nodes;
    eventually("the first image is there", || {
        tags(one.http(), "a/b") == json!({"1": first})
    });
    let [second, ..] = upstream.http().push_image("a/b", "2", 2);
    eventually("the second image is there", || {
        tags(two.http(), "a/b") == json!({"1": first, "2": second})
    });
    let runs = || -> f64 {
        let of = |node: &Wharfinger| {
            let text = node.debug().get("/metrics").body;
            let text = String::from_utf8(text).unwrap();
            let series = "registry_sync_runs_total{job=\"in\",outcome=\"complete\"} ";
            let line = text.lines().find_map(|line| line.strip_prefix(series));
            line.map_or(0.0, |value| value.parse().unwrap())
        };
        of(one) + of(two)
    };
    eventually("two runs are counted", || runs() >= 2.0);
}
