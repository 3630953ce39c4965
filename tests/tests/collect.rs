//! `wharfinger garbage-collect`: beside Distribution's, on what Distribution wrote, and never
//! where it could take something away that a push relies on.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};
use wharfinger_e2e::clients::copy;
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::image::{INDEX, Layout, MANIFEST, descriptor, manifest};
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, folder, legacy, noise, output, run};

fn collector(config: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("garbage-collect").args(flags).arg(config);
    command
}

fn collect(config: &Path, flags: &[&str]) -> String {
    run(&mut collector(config, flags))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn delete(http: Http, name: &str, digest: &str) {
    let path = format!("/v2/{name}/manifests/{digest}");
    assert_eq!(http.send("DELETE", &path, &[], b"").status, 202);
}

/// What a run says is to go, and in what numbers.
fn eligible(printed: &str) -> (BTreeSet<&str>, &str) {
    let blobs = printed
        .lines()
        .filter_map(|line| line.strip_prefix("blob eligible for deletion: "));
    let counts = printed.lines().find(|line| line.contains("blobs marked"));
    (blobs.collect(), counts.expect("the numbers are told"))
}

#[test]
fn the_same_goes_as_by_distributions_own_command() {
    let home = folder();
    let home = home.path();
    let config = Config::new(home);
    let mut theirs = Distribution::start(home, &config.data);
    let http = theirs.http();
    let stays = http.push_image("a/b", "latest", 1);
    let untagged = http.push_image("a/b", "moved", 2);
    let moved = http.push_image("a/b", "moved", 3);
    let deleted = http.push_image("c", "gone", 4);
    delete(http, "c", &deleted[0]);
    theirs.service.stop();
    let file = config.write();
    for flags in [&[][..], &["--delete-untagged"]] {
        let mut their_command = Command::new("docker-registry");
        their_command.arg("garbage-collect").args(flags);
        their_command.arg("--dry-run").arg(&file);
        let theirs = run(&mut their_command);
        let ours = collect(&file, &[flags, &["--dry-run"]].concat());
        assert_eq!(eligible(&ours), eligible(&theirs), "{ours}\n{theirs}");
    }

    let printed = collect(&file, &["-m"]);
    let (blobs, _) = eligible(&printed);
    let gone: BTreeSet<&str> = [&untagged, &deleted]
        .into_iter()
        .flatten()
        .map(|d| &**d)
        .collect();
    assert_eq!(blobs, gone);
    assert_eq!(collect(&file, &["-q"]), "");

    // And Distribution goes on with what is left.
    let theirs = Distribution::start(home, &config.data);
    for image in [&stays, &moved] {
        let to = format!("dir:{}", home.join(&image[0][7..]).display());
        let from = theirs.image(&format!("a/b@{}", image[0]));
        run(&mut copy(&format!("docker://{from}"), &to));
    }
    let path = format!("/v2/a/b/manifests/{}", untagged[0]);
    assert_eq!(theirs.http().get(&path).status, 404);
}

#[test]
fn what_went_what_stayed_and_why_is_told() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let http = server.http();
    let stays = http.push_image("a", "latest", 1);
    let goes = http.push_image("b", "gone", 2);
    delete(http, "b", &goes[0]);
    let file = home.path().join("wharfinger.yml");
    let explain = |digest: &str| {
        let mut command = Command::new(binary());
        command.args(["garbage-collect", "--explain", digest]);
        run(command.arg(&file))
    };
    let way = format!("a: tag latest -> manifest {} -> this\n", stays[0]);
    let told = explain(&stays[2]);
    assert!(told.contains(&way) && told.contains("it stays"), "{told}");
    let told = explain(&goes[2]);
    assert!(told.contains("b: has a link to it"), "{told}");
    assert!(told.contains("nothing needs it"), "{told}");
    server.stop();
    let printed = collect(&file, &[]);
    for line in [
        "b: empty repository eligible for deletion\n",
        "went: 2 links, 3 blobs, 1 empty repositories\n",
        "stayed: 3 blobs are needed\n",
    ] {
        assert!(printed.contains(line), "{line}{printed}");
    }
    assert!(printed.ends_with(" freed\n"), "{printed}");
    server.start_again();
    let catalog = server.http().get("/v2/_catalog").json();
    assert_eq!(catalog["repositories"], json!(["a"]));
}

/// On a terminal each line stands alone, whatever the bar does.
#[test]
fn lines_on_a_terminal_are_whole() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let blobs: BTreeSet<_> = (0..40)
        .map(|seed| server.http().push_blob("a", &noise(seed, 100)))
        .collect();
    server.stop();
    let file = home.path().join("wharfinger.yml");
    let collect = format!("{} garbage-collect {}", binary().display(), file.display());
    let shown = run(Command::new("script").args(["-qec", &collect, "/dev/null"]));
    let lines = shown.lines().filter_map(|line| {
        let (before, digest) = line.trim_end().split_once("blob eligible for deletion: ")?;
        // What the bar leaves is wiped out.
        assert!(
            before.is_empty() || before.ends_with("\u{1b}[2K"),
            "{line:?}"
        );
        Some(digest.to_owned())
    });
    assert_eq!(lines.collect::<BTreeSet<_>>(), blobs);
}

/// The digests of what lies below a folder in a file of this name.
fn digests_in(folder: &Path, file: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.join(file).is_file() {
                let hex = path.file_name().unwrap().to_string_lossy();
                found.insert(format!("sha256:{hex}"));
            }
            found.extend(digests_in(&path, file));
        }
    }
    found
}

fn blobs_in(data: &Path) -> BTreeSet<String> {
    digests_in(&data.join("docker/registry/v2/blobs"), "data")
}

fn revisions_in(data: &Path, name: &str) -> BTreeSet<String> {
    let repository = data.join("docker/registry/v2/repositories").join(name);
    digests_in(&repository.join("_manifests/revisions"), "link")
}

/// Both commands, each for real on a copy of the same folder. Ours keeps more in two cases that
/// Distribution 2.8 gets wrong: what a tagged index mentions, and referrers.
#[test]
fn the_same_is_left_as_by_distributions_own_command() {
    let home = folder();
    let home = home.path();
    let config = Config::new(home);
    let mut theirs = Distribution::start(home, &config.data);
    let http = theirs.http();
    http.push_image("a/b", "latest", 1);
    http.push_image("a/b", "moved", 2);
    http.push_image("a/b", "moved", 3);
    let shared = http.push_image("c", "shared", 3);
    delete(http, "c", &http.push_image("c", "gone", 4)[0]);
    delete(http, "c", &shared[0]);
    http.push_image("c", "stays", 5);
    // Blobs that no manifest ever mentioned, one of them in another repository too.
    http.push_blob("d", &noise(6, 1000));
    http.push_blob("d", &noise(1, 100_000));
    let children = [7, 8].map(|seed| http.push_image("multi", &format!("child{seed}"), seed));
    let entries: Vec<_> = children
        .iter()
        .map(|child| http.get(&format!("/v2/multi/manifests/{}", child[0])).body)
        .map(|text| descriptor(MANIFEST, &text))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries});
    let index = index.to_string().into_bytes();
    assert_eq!(http.push_manifest("multi", "1", INDEX, &index).status, 201);
    theirs.service.stop();
    let mut ours = config.start();
    let http = ours.http();
    for child in [7, 8] {
        let tag = format!("/v2/multi/manifests/child{child}");
        assert_eq!(http.send("DELETE", &tag, &[], b"").status, 202);
    }
    let image = http.push_image("signed", "1", 9);
    let subject = http.get(&format!("/v2/signed/manifests/{}", image[0])).body;
    let signature = noise(10, 5000);
    let mut referrer: Value = serde_json::from_slice(&manifest(b"{}", &[&signature])).unwrap();
    referrer["subject"] = descriptor(MANIFEST, &subject);
    let referrer = referrer.to_string().into_bytes();
    let kept = [b"{}".as_slice(), &signature].map(|blob| http.push_blob("signed", blob));
    let answer = http.push_manifest("signed", &digest(&referrer), MANIFEST, &referrer);
    assert_eq!(answer.status, 201, "{answer:?}");
    ours.stop();

    for flags in [&[][..], &["-m"]] {
        let copies = ["theirs", "ours"].map(|who| {
            let copy = home.join(format!("{who}{}", flags.len()));
            run(Command::new("cp").arg("-a").arg(&config.data).arg(&copy));
            copy
        });
        let [theirs, ours] = &copies;
        let file = config.clone().data(theirs).write();
        let mut command = Command::new("docker-registry");
        run(command.arg("garbage-collect").args(flags).arg(&file));
        collect(&config.clone().data(ours).write(), flags);

        let (by_them, by_us) = (blobs_in(theirs), blobs_in(ours));
        assert!(by_us.len() < blobs_in(&config.data).len());
        let mut more: BTreeSet<String> = BTreeSet::new();
        if !flags.is_empty() {
            more.extend(children.iter().flat_map(|child| child[1..].to_vec()));
            more.extend(kept.clone());
            more.insert(digest(&referrer));
        }
        assert_eq!(
            by_us.difference(&by_them).cloned().collect::<BTreeSet<_>>(),
            more
        );
        assert_eq!(by_them.difference(&by_us).count(), 0, "{flags:?}");
        for name in ["a/b", "c"] {
            assert_eq!(
                revisions_in(ours, name),
                revisions_in(theirs, name),
                "{name}"
            );
        }
        assert_eq!(revisions_in(ours, "multi").len(), 3, "{flags:?}");
        assert_eq!(revisions_in(ours, "signed").len(), 2, "{flags:?}");
    }
}

#[test]
fn what_real_clients_pushed_is_needed() {
    let home = folder();
    let home = home.path();
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let images = ["amd64", "arm64"].map(|architecture| {
        let layer = layout
            .layer(&[(architecture.len() as u64, 70_000)])
            .unwrap();
        layout.image(architecture, &[layer]).unwrap()
    });
    let index = layout.index(&images).unwrap();
    let source = layout.tag(&index, "index").unwrap();
    let mut server = Wharfinger::start(home);
    let image = format!("docker://{}", server.image("multi:1"));
    run(&mut copy(&source, &image));
    server.stop();
    let printed = collect(&home.join("wharfinger.yml"), &["--delete-untagged"]);
    let (blobs, counts) = eligible(&printed);
    assert_eq!(blobs, BTreeSet::new(), "{printed}");
    assert!(counts.ends_with("0 blobs and 0 manifests eligible for deletion"));
    server.start_again();
    let image = format!("docker://{}", server.image("multi:1"));
    run(&mut copy(
        &image,
        &format!("dir:{}", home.join("pulled").display()),
    ));
}

#[test]
fn signed_manifests_of_every_layout_keep_their_signatures() {
    let home = folder();
    let config = Config::new(home.path());
    let images = legacy::store(&config.data);
    for flags in [&[][..], &["--delete-untagged"]] {
        let printed = collect(&config.write(), flags);
        assert_eq!(eligible(&printed).0, BTreeSet::new(), "{printed}");
    }
    let server = config.start();
    for (image, signatures) in [("legacy/v2.0:latest", 2), ("legacy/v2.1.0:latest", 1)] {
        let (name, _) = image.split_once(':').unwrap();
        let path = format!("/v2/{name}/manifests/{}", images[image]);
        let manifest = server.http().get(&path).json();
        assert_eq!(manifest["signatures"].as_array().unwrap().len(), signatures);
    }
}

#[test]
fn a_folder_that_is_written_to_is_not_had_alone() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let image = server.http().push_image("a", "latest", 1);
    server.http().push_blob("a", &noise(2, 1000));
    let file = home.path().join("wharfinger.yml");
    for promise in [["--wait", "1s"].as_slice(), &["--stopped"]] {
        let refused = output(&mut collector(&file, promise));
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains("read-only"), "{}", said(&refused));
    }
    // Looking is harmless.
    assert_eq!(eligible(&collect(&file, &["-d"])).0.len(), 1);
    server.stop();

    let mut config = Config::new(home.path());
    config.read_only = true;
    let server = config.start();
    assert_eq!(eligible(&collect(&file, &[])).0.len(), 1);
    let pulled = server.http().get(&format!("/v2/a/blobs/{}", image[2]));
    assert_eq!(pulled.outcome(), (200, String::new()));
}

/// Killed at any time it leaves all that is needed, and the next run ends what it began.
#[test]
fn a_killed_run_is_ended_by_the_next() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let stays = server.http().push_image("a", "latest", 1);
    for round in 0..6_u64 {
        for seed in 0..8 {
            let goes = server
                .http()
                .push_image("a", "gone", 100 + round * 8 + seed);
            delete(server.http(), "a", &goes[0]);
        }
        server.stop();
        let file = home.path().join("wharfinger.yml");
        let log = home.path().join("collector.log");
        let mut killed = wharfinger_e2e::Service::start(&mut collector(&file, &[]), &log);
        std::thread::sleep(Duration::from_millis(5 * round));
        killed.kill();
        server.start_again();
        for blob in &stays[1..] {
            let path = format!("/v2/a/blobs/{blob}");
            assert_eq!(server.http().get(&path).status, 200);
        }
    }
    server.stop();
    let file = home.path().join("wharfinger.yml");
    collect(&file, &[]);
    let printed = collect(&file, &[]);
    let (blobs, counts) = eligible(&printed);
    assert_eq!(blobs, BTreeSet::new());
    assert!(counts.starts_with("3 blobs marked"), "{counts}");
}

#[test]
fn what_cannot_be_collected_is_said() {
    let home = folder();
    let missing = Config::new(home.path()).write();
    let refused = output(&mut collector(&missing, &[]));
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("there is no folder"));
    assert!(!home.path().join("data").exists());
    let memory = home.path().join("memory.yml");
    std::fs::write(&memory, "version: 0.1\nstorage: inmemory\n").unwrap();
    let refused = output(&mut collector(&memory, &[]));
    assert!(said(&refused).contains("in memory"), "{}", said(&refused));
}
