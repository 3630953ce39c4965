//! Backup and restore with real clients: exports that they read, archives that they made, and a
//! registry that is used meanwhile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wharfinger_e2e::clients::{Client, ContainersStorage, Skopeo, copy};
use wharfinger_e2e::distribution::Distribution;
use wharfinger_e2e::docker::Docker;
use wharfinger_e2e::image::{Layout, MANIFEST, manifest, small_image};
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{Config, Http, Wharfinger, digest, folder, noise, output, run};

/// A server that keeps everything in a folder of its own.
fn server(home: &Path, name: &str) -> Wharfinger {
    let home = home.join(name);
    fs::create_dir(&home).unwrap();
    Config::new(&home).start()
}

fn config(server: &Wharfinger) -> PathBuf {
    server.data().with_file_name("wharfinger.yml")
}

fn export(config: &Path, destination: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("export").args(arguments);
    command.arg(config).arg(destination);
    command
}

fn import(config: &Path, source: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("import").args(arguments);
    command.arg(config).arg(source);
    command
}

/// Starts a command, and kills it after so many milliseconds.
fn kill_after(mut command: Command, pause: u64) {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(Duration::from_millis(pause));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All repositories, with what their tags stand for.
fn tags(http: Http) -> Value {
    let mut all = json!({});
    let catalog = http.get("/v2/_catalog?n=1000").json();
    for name in catalog["repositories"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        let list = http.get(&format!("/v2/{name}/tags/list")).json();
        for tag in list["tags"].as_array().into_iter().flatten() {
            let tag = tag.as_str().unwrap();
            let answer = http.get(&format!("/v2/{name}/manifests/{tag}"));
            if answer.outcome() == (404, "MANIFEST_UNKNOWN".to_owned()) {
                // Who made it was killed, and never told that it stands for something.
                continue;
            }
            assert_eq!(answer.status, 200, "{name}:{tag}");
            all[name][tag] = json!(answer.header("docker-content-digest"));
        }
    }
    all
}

#[test]
fn skopeo_reads_an_export_and_all_of_it_is_restored() {
    let home = folder();
    let home = home.path();
    let first = server(home, "first");
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let images = [(1, "amd64"), (2, "arm64")].map(|(seed, architecture)| {
        let layer = layout.layer(&[(seed, 300_000)]).unwrap();
        layout.image(architecture, &[layer]).unwrap()
    });
    let index = layout.index(&images).unwrap();
    let source = layout.tag(&index, "multi").unwrap();
    run(&mut copy(
        &source,
        &format!("docker://{}", first.image("library/multi:v1")),
    ));
    let http = first.http();
    let [subject, ..] = http.push_image("a/b", "latest", 3);
    let blob = http.push_blob("a/b", b"{}");
    let signature = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": blob, "size": 2},
        "layers": [],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
    });
    let signature = signature.to_string().into_bytes();
    let answer = http.push_manifest("a/b", &digest(&signature), MANIFEST, &signature);
    assert_eq!(answer.status, 201, "{answer:?}");

    let backup = home.join("backup");
    let told = output(&mut export(&config(&first), &backup, &[]));
    assert!(told.status.success(), "{}", said(&told));
    let told = output(&mut export(&config(&first), &backup, &["--prune"]));
    assert!(
        said(&told).contains("; 0 blobs copied (0 bytes)"),
        "{}",
        said(&told)
    );
    let archive = home.join("backup.tar");
    run(&mut export(&config(&first), &archive, &[]));
    // Pushed from the backup by skopeo alone.
    let second = server(home, "second");
    for (from, to) in [
        (
            format!("oci:{}:library/multi:v1", backup.display()),
            "by-folder/multi:v1",
        ),
        (
            format!("oci-archive:{}:a/b:latest", archive.display()),
            "by-archive/b:latest",
        ),
    ] {
        run(&mut copy(&from, &format!("docker://{}", second.image(to))));
    }
    let pushed = tags(second.http());
    assert_eq!(pushed["by-folder/multi"]["v1"], index["digest"]);
    assert_eq!(pushed["by-archive/b"]["latest"], *subject);

    let before = tags(http);
    for source in [&backup, &archive] {
        let restored = server(home, source.extension().map_or("third", |_| "fourth"));
        let told = run(&mut import(&config(&restored), source, &["--dry-run"]));
        assert!(told.contains("library/multi:v1 sha256:"), "{told}");
        assert_eq!(tags(restored.http()), json!({}));
        run(&mut import(&config(&restored), source, &[]));
        assert_eq!(tags(restored.http()), before);
        let referrers = restored.http().get(&format!("/v2/a/b/referrers/{subject}"));
        assert_eq!(
            referrers.json()["manifests"][0]["digest"],
            digest(&signature)
        );
        let pulled = Skopeo::new(&home.join("third")).pull(&restored.image("library/multi:v1"));
        assert_eq!(pulled, index["digest"]);
        let told = run(&mut import(&config(&restored), source, &[]));
        assert!(told.contains("; 0 blobs copied (0 bytes)"), "{told}");
    }

    // On standard output, compressed, and from standard input; only some of it, by another name.
    let compressed = home.join("backup.tgz");
    let script = "\"$0\" export --repository 'a/*:latest' \"$1\" - | gzip > \"$2\"";
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", script]).arg(binary());
    run(shell.arg(config(&first)).arg(&compressed));
    let mut command = import(&config(&second), Path::new("-"), &["--into", "piped/"]);
    command.stdin(File::open(&compressed).unwrap());
    let imported = command.output().unwrap();
    assert!(imported.status.success(), "{}", said(&imported));
    assert_eq!(tags(second.http())["piped/a/b"]["latest"], *subject);
    // What was written wrong is no backup.
    let told = output(&mut export(
        &config(&first),
        &home.join("none"),
        &["--repository", "a/c"],
    ));
    assert!(!told.status.success());
    assert!(
        said(&told).contains("a/c: there is nothing of this name"),
        "{}",
        said(&told)
    );
}

#[test]
fn what_engines_saved_is_imported_and_pulled() {
    let home = folder();
    let home = home.path();
    let server = server(home, "server");
    let image = server.image("library/small:v1");
    run(&mut copy(
        &small_image(home, 7),
        &format!("docker://{image}"),
    ));
    let docker = Docker::start(home);
    docker.pull(&image);
    run(docker.command().args(["tag", &image, "small:docker"]));
    let mut saved = vec![(home.join("docker.tar"), "small")];
    run(docker
        .command()
        .arg("save")
        .arg("-o")
        .arg(&saved[0].0)
        .arg("small:docker"));
    let podman = ContainersStorage::podman(home);
    podman.pull(&image);
    for (format, name) in [
        ("docker-archive", "by-podman"),
        ("oci-archive", "by-podman-too"),
    ] {
        let path = home.join(format!("{name}.tar"));
        let named = format!("localhost/{name}:podman");
        run(podman.command().args(["tag", &image, &named]));
        run(podman
            .command()
            .args(["save", "--quiet", "--format", format, "-o"])
            .arg(&path)
            .arg(&named));
        saved.push((path, name));
    }
    for (path, name) in saved {
        run(&mut import(&config(&server), &path, &["--into", "saved/"]));
        let list = server
            .http()
            .get(&format!("/v2/saved/{name}/tags/list"))
            .json();
        let tag = list["tags"][0].as_str().unwrap().to_owned();
        let image = server.image(&format!("saved/{name}:{tag}"));
        docker.forget();
        docker.pull(&image);
        let command = "{{.Config.Cmd}}";
        let inspected = run(docker
            .command()
            .args(["inspect", "--format", command, &image]));
        assert_eq!(inspected.trim(), "[/noise]", "{name}");
        run(&mut copy(
            &format!("docker://{image}"),
            &format!("dir:{}", home.join(name).display()),
        ));
    }
}

#[test]
fn a_store_of_distribution_is_imported_while_the_registry_serves() {
    let home = folder();
    let home = home.path();
    let data = home.join("distribution-data");
    let mut distribution = Distribution::start(home, &data);
    let old = distribution.http();
    for (name, tag, seed) in [("a", "1", 1), ("a", "2", 2), ("deep/er/b", "latest", 3)] {
        old.push_image(name, tag, seed);
    }
    // The tag moves, and its first image stays without one.
    let [untagged, ..] = old.push_image("a", "2", 4);
    old.push_image("a", "2", 5);
    let before = tags(old);
    distribution.service.stop();

    let server = server(home, "server");
    let http = server.http();
    let [own, ..] = http.push_image("own", "latest", 6);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut seed = 100;
            while !is_over.load(Ordering::Relaxed) {
                http.push_image("meanwhile", "latest", seed);
                seed += 1;
            }
        });
        let _over = Over(&is_over);
        let imported = output(&mut import(&config(&server), &data, &[]));
        assert!(imported.status.success(), "{}", said(&imported));
    });
    let after = tags(http);
    assert_eq!(after["own"]["latest"], *own);
    for name in ["a", "deep/er/b"] {
        assert_eq!(after[name], before[name]);
    }
    let path = format!("/v2/a/manifests/{untagged}");
    assert_eq!(http.get(&path).status, 200);
    let blob = server.blob_file(&digest(&noise(3, 100_000)));
    assert_eq!(digest(&fs::read(blob).unwrap()), digest(&noise(3, 100_000)));
}

/// Pushes an image that may be refused, as the registry is read-only at times; gives its digest.
fn try_push(http: Http, name: &str, tag: &str, seed: u64) -> Option<String> {
    let config = format!("{{\"seed\":{seed}}}").into_bytes();
    let layer = noise(seed, 100_000);
    for blob in [&config, &layer] {
        let answer = http.try_push_blob(name, blob).ok()?;
        (answer.status == 201).then_some(())?;
    }
    let text = manifest(&config, &[&layer]);
    let answer = http.push_manifest(name, tag, MANIFEST, &text);
    (answer.status == 201).then(|| digest(&text))
}

/// Moves one tag, and deletes what another stands for, until it is over.
fn push_and_delete(http: Http, is_over: &AtomicBool) {
    let mut last = None;
    for seed in (100..).take_while(|_| !is_over.load(Ordering::Relaxed)) {
        try_push(http, "moves", "latest", seed);
        let next = try_push(http, "moves", "other", seed + 50_000);
        if let Some(last) = std::mem::replace(&mut last, next) {
            let path = format!("/v2/moves/manifests/{last}");
            http.send("DELETE", &path, &[], b"");
        }
    }
}

/// Tells others that it is over when it is dropped, by a failure too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Collects what is not needed, at once, and gives how many blobs that were.
fn collect(server: &mut Wharfinger) -> usize {
    let mut collect = Command::new(binary());
    collect.args(["garbage-collect", "--delete-untagged"]);
    collect.arg(config(server));
    switch(server, Signal::USR1, "nothing is written any more");
    let told = run(&mut collect);
    switch(server, Signal::USR2, "writable: pushes and deletions");
    told.matches("blob eligible for deletion").count()
}

/// Sends a signal, and waits until the log tells once more what comes of it.
fn switch(server: &mut Wharfinger, signal: Signal, told: &str) {
    let before = server.log().matches(told).count();
    server.signal(signal);
    server.wait_until(|server| (server.log().matches(told).count() > before).then_some(()));
}

/// Exports again and again, every third one killed, while images are pushed, moved, deleted and
/// collected. Whatever is in the folder then can be restored whole.
#[test]
fn exports_are_whole_while_the_registry_is_used() {
    let home = folder();
    let home = home.path();
    let mut server = server(home, "server");
    let http = server.http();
    let settings = config(&server);
    http.push_image("stays", "latest", 1);
    let backup = home.join("backup");
    run(&mut export(&settings, &backup, &["--prune"]));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| push_and_delete(http, &is_over));
        let collecting = scope.spawn(|| {
            let _over = Over(&is_over);
            (0..8).map(|_| collect(&mut server)).sum::<usize>()
        });
        let mut rounds = 0;
        while rounds < 12 || !is_over.load(Ordering::Relaxed) {
            rounds += 1;
            if rounds % 3 == 0 {
                kill_after(export(&settings, &backup, &["--prune"]), rounds % 40);
            } else {
                let told = output(&mut export(&settings, &backup, &["--prune"]));
                assert!(told.status.success(), "{}", said(&told));
            }
            if rounds % 4 == 1 {
                let restored = home.join(format!("restored-{rounds}"));
                fs::create_dir(&restored).unwrap();
                let settings = Config::new(&restored).write();
                let imported = output(&mut import(&settings, &backup, &[]));
                assert!(imported.status.success(), "{}", said(&imported));
            }
        }
        assert!(collecting.join().unwrap() > 0, "nothing was collected");
    });
    run(&mut export(&settings, &backup, &["--prune"]));
    let restored = self::server(home, "restored");
    run(&mut import(&config(&restored), &backup, &[]));
    assert_eq!(tags(restored.http()), tags(http));
}

/// An import that is killed again and again ends where one ends that is not.
#[test]
fn an_import_that_is_killed_goes_on() {
    let home = folder();
    let home = home.path();
    let first = server(home, "first");
    for seed in 0..20 {
        first
            .http()
            .push_image(&format!("r{}", seed % 3), &format!("t{seed}"), seed);
    }
    let archive = home.join("backup.tar");
    run(&mut export(&config(&first), &archive, &[]));
    let second = server(home, "second");
    for pause in [5, 20, 50, 100] {
        kill_after(import(&config(&second), &archive, &[]), pause);
        // Each tag that is there is whole.
        tags(second.http());
    }
    run(&mut import(&config(&second), &archive, &[]));
    assert_eq!(tags(second.http()), tags(first.http()));
    for seed in 0..20 {
        let bytes = noise(seed, 100_000);
        let path = format!("/v2/r{}/blobs/{}", seed % 3, digest(&bytes));
        assert_eq!(second.http().get(&path).body, bytes);
    }
}

#[test]
fn large_blobs_are_copied_in_little_memory() {
    let home = folder();
    let home = home.path();
    let first = server(home, "first");
    let second = server(home, "second");
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let layer = layout.layer(&[(1, 500 << 20)]).unwrap();
    let image = layout.image("amd64", &[layer]).unwrap();
    let source = layout.tag(&image, "large").unwrap();
    let target = format!("docker://{}", first.image("large/image:1"));
    run(&mut copy(&source, &target));

    // More is refused: 200 MiB, most of it the program itself and what its threads might use.
    let bounded = |command: &Command| {
        let mut shell = Command::new("bash");
        let script = "ulimit -v 204800; exec \"$0\" \"$@\"";
        shell.arg("-c").arg(script).arg(command.get_program());
        shell.args(command.get_args()).env("MALLOC_ARENA_MAX", "1");
        shell
    };
    for backup in [home.join("backup"), home.join("backup.tar")] {
        run(&mut bounded(&export(&config(&first), &backup, &[])));
        let into = ["--into", "again/"];
        run(&mut bounded(&import(&config(&second), &backup, &into)));
        let pushed = &tags(second.http())["again/large/image"]["1"];
        assert_eq!(*pushed, image["digest"]);
    }
}
