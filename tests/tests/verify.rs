//! `wharfinger verify`, and damage that the registry finds by itself: found, named, put aside, and
//! brought back by the next push.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use wharfinger_e2e::bucket::{self, Store as _};
use wharfinger_e2e::clients::copy;
use wharfinger_e2e::image::{Layout, manifest};
use wharfinger_e2e::s3::S3;
use wharfinger_e2e::wharfinger::binary;
use wharfinger_e2e::{
    Config, Http, Service, Wharfinger, digest, eventually, folder, noise, output, run,
};

fn verifier(config: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("verify").args(flags).arg(config);
    command
}

/// Verifies; gives the status, the findings, and the summary.
fn verify(config: &Path, flags: &[&str]) -> (i32, Vec<Value>, Value) {
    let output = output(verifier(config, flags).arg("--json"));
    let printed = String::from_utf8(output.stdout).unwrap();
    let lines = printed.lines().map(serde_json::from_str);
    let mut lines: Vec<Value> = lines.map(Result::unwrap).collect();
    let summary = lines.pop().expect("a summary is printed");
    assert!(summary["summary"].is_object(), "{summary}");
    (
        output.status.code().unwrap(),
        lines,
        summary["summary"].clone(),
    )
}

fn kinds(findings: &[Value]) -> BTreeSet<&str> {
    findings
        .iter()
        .map(|f| f["damage"].as_str().unwrap())
        .collect()
}

/// Changes a byte of a file, and not its length.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(file, bytes).unwrap();
}

fn blobs_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(blobs_below(&path)),
            false => files.push(path),
        }
    }
    files
}

#[test]
fn a_damaged_layer_is_found_put_aside_pushed_again_and_pulled() {
    let home = folder();
    let home = home.path();
    let server = Wharfinger::start(home);
    let file = home.join("wharfinger.yml");
    let mut layout = Layout::create(&home.join("layout")).unwrap();
    let layers = [
        layout.layer(&[(1, 3000)]).unwrap(),
        layout.layer(&[(2, 2_000_000)]).unwrap(),
    ];
    let image = layout.image("amd64", &layers).unwrap();
    let source = layout.tag(&image, "t").unwrap();
    let target = format!("docker://{}", server.image("team/app:1"));
    run(&mut copy(&source, &target));
    assert_eq!(verify(&file, &[]).0, 0);

    let layer = layers[1]["digest"].as_str().unwrap();
    damage(&server.blob_file(layer));
    let (status, found, summary) = verify(&file, &[]);
    assert_eq!((status, found.len()), (3, 1), "{found:?}");
    assert_eq!(found[0]["damage"], "damaged-blob");
    assert_eq!(
        (&found[0]["digest"], &found[0]["outcome"]),
        (&layer.into(), &"found".into())
    );
    assert_eq!(found[0]["tags"], serde_json::json!(["team/app:1"]));
    assert_eq!(
        (&summary["blobs"], &summary["damage"]),
        (&4.into(), &1.into())
    );
    let path = format!("/v2/team/app/blobs/{layer}");
    assert_eq!(
        server.http().head(&path).status,
        200,
        "nothing was done about it"
    );

    let told = output(&mut verifier(&file, &["--repair"]));
    assert_eq!(told.status.code(), Some(3));
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("affects team/app:1"), "{told}");
    assert!(told.contains("the next push brings it back"), "{told}");
    let quarantine = server.data().join("docker/registry/v2/_quarantine");
    assert_eq!(blobs_below(&quarantine).len(), 1);
    let (status, found, _) = verify(&file, &["--repair"]);
    assert_eq!(
        (status, kinds(&found)),
        (3, BTreeSet::from(["missing-content"]))
    );

    assert_eq!(server.http().head(&path).status, 404);
    run(&mut copy(&source, &target));
    run(&mut copy(
        &target,
        &format!("dir:{}", home.join("pulled").display()),
    ));
    assert_eq!(verify(&file, &[]).0, 0);
}

#[test]
fn links_are_mended_when_nobody_writes() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let file = home.path().join("wharfinger.yml");
    let image = server.http().push_image("a", "latest", 1);
    server.http().push_image("a", "gone", 2);
    let hex = |digest: &str| digest.replace(':', "/");
    let repository = server.repository("a");
    let layer = repository.join("_layers").join(hex(&image[2]));
    let current = repository.join("_manifests/tags/latest/current/link");
    let gone = server.blob_file(&digest(&manifest(b"{\"seed\":2}", &[&noise(2, 100_000)])));
    fs::remove_dir_all(&layer).unwrap();
    fs::write(&current, "").unwrap();
    fs::remove_dir_all(gone.parent().unwrap()).unwrap();
    let promised = output(&mut verifier(&file, &["--repair", "--stopped"]));
    assert_eq!(promised.status.code(), Some(1));
    let (status, found, _) = verify(&file, &["--repair"]);
    assert_eq!(status, 3);
    assert_eq!(
        kinds(&found),
        BTreeSet::from(["broken-link", "dangling-link", "missing-link"])
    );
    assert!(
        layer.join("link").is_file(),
        "a link that is missing gets in nobody's way"
    );
    assert_eq!(fs::read(&current).unwrap(), b"");
    server.stop();
    let (status, found, summary) = verify(&file, &["--repair"]);
    assert_eq!(
        (status, &summary["damage"]),
        (4, &summary["repaired"]),
        "{found:?}"
    );
    assert_eq!(verify(&file, &[]).0, 0);
    server.start_again();
    let http = server.http();
    let tags = http.get("/v2/a/tags/list").json();
    assert_eq!(tags["tags"], serde_json::json!(["latest"]));
    assert_eq!(http.get("/v2/a/manifests/latest").status, 200);
    assert_eq!(http.get(&format!("/v2/a/blobs/{}", image[2])).status, 200);
}

#[test]
fn a_killed_verification_is_gone_on_with() {
    let home = folder();
    let server = Wharfinger::start(home.path());
    let file = home.path().join("wharfinger.yml");
    for seed in 0..60 {
        server.http().push_blob("a", &noise(seed, 20_000));
    }
    let state = home.path().join("state");
    let flags = ["--state", state.to_str().unwrap(), "--workers", "2"];
    let slow = [&flags[..], &["--rate", "200000"]].concat();
    let log = home.path().join("verifier.log");
    let mut killed = Service::start(&mut verifier(&file, &slow), &log);
    let so_far = killed.wait_until(|_| {
        let state: Value = serde_json::from_slice(&fs::read(&state).ok()?).ok()?;
        let blobs = state["position"]["blobs"].as_u64()?;
        (blobs > 5).then_some(blobs)
    });
    killed.kill();
    let (status, _, summary) = verify(&file, &flags);
    assert_eq!((status, &summary["blobs"]), (0, &60.into()));
    let resumed = summary["resumed"].as_u64().unwrap();
    assert!((so_far..60).contains(&resumed), "{summary}");
    assert!(!state.exists(), "it has read everything");
    fs::write(&state, "nonsense").unwrap();
    let refused = output(&mut verifier(&file, &flags));
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("remove it to begin anew"), "{said}");
}

#[test]
fn a_registry_finds_damage_by_itself() {
    let home = folder();
    let scrub = "storage.maintenance.scrub";
    let config = Config::new(home.path())
        .watched()
        .set(&format!("{scrub}.enabled"), true)
        .set(&format!("{scrub}.interval"), "100ms");
    let server = config.start();
    let http = server.http();
    let image = http.push_image("a", "latest", 1);
    let path = format!("/v2/a/blobs/{}", image[2]);
    let data = server.blob_file(&image[2]);
    damage(&data);
    eventually("it is put aside", || http.head(&path).status == 404);
    let log = server.log();
    assert!(
        log.contains(&image[2][7..]) && log.contains("put aside"),
        "{log}"
    );
    let metrics = || String::from_utf8(server.debug().get("/metrics").body).unwrap();
    let told = metrics();
    assert!(
        told.contains("registry_quarantined_blobs_total 1\n"),
        "{told}"
    );
    let zero = |name: &str| metrics().contains(&format!("{name} 0\n"));
    for name in [
        "registry_verify_blobs_total",
        "registry_verify_bytes_total",
        "registry_verify_damaged_blobs_total",
    ] {
        assert!(!zero(name), "{name}");
    }
    eventually("a pass is completed", || {
        !zero("registry_verify_last_pass_timestamp_seconds")
    });
    http.push_image("a", "latest", 1);
    assert_eq!(digest(&http.get(&path).body), image[2]);

    // What is small is checked whenever it is read.
    let config = server.blob_file(&image[1]);
    drop(server);
    let server = Config::new(home.path()).start();
    damage(&config);
    let http = server.http();
    let path = format!("/v2/a/blobs/{}", image[1]);
    assert_eq!(http.get(&path).status, 500);
    eventually("it is put aside", || http.get(&path).status == 404);
    http.push_image("a", "latest", 1);
    assert_eq!(digest(&http.get(&path).body), image[1]);
}

/// Nobody can be kept from a bucket, so that only who promises to be alone may move what is in it.
#[test]
fn in_a_bucket_a_damaged_blob_is_put_aside_when_nobody_writes() {
    let home = folder();
    let store = S3::start(home.path());
    let config = bucket::config::<S3>(home.path(), store.addr());
    let mut server = config.start();
    let file = config.write();
    let (source, _, layers) = bucket::image(home.path(), 60);
    let target = format!("docker://{}", server.image("team/app:1"));
    run(&mut copy(&source, &target));
    let key = S3::path(&bucket::blob_key(&layers[0]));
    // Moto wants to know whose key it is, and does not look at the signature.
    let somebody = "AWS4-HMAC-SHA256 Credential=wharfinger/20260101/us-east-1/s3/aws4_request, \
                    SignedHeaders=host, Signature=0";
    let headers = [("Authorization", somebody)];
    let damaged = Http(store.addr()).send("PUT", &key, &headers, &noise(61, 3000));
    assert_eq!(damaged.status, 200, "{damaged:?}");

    let (status, found, _) = verify(&file, &["--repair"]);
    assert_eq!(
        (status, kinds(&found)),
        (3, BTreeSet::from(["damaged-blob"]))
    );
    assert!(
        store.keys().contains(&bucket::blob_key(&layers[0])),
        "it stays"
    );
    server.stop();
    let (status, _, _) = verify(&file, &["--repair", "--stopped"]);
    assert_eq!(status, 3, "the image needs another push");
    let keys = store.keys();
    assert!(!keys.contains(&bucket::blob_key(&layers[0])));
    assert_eq!(
        keys.iter()
            .filter(|key| key.contains("/_quarantine/"))
            .count(),
        1
    );

    server.start_again();
    let target = format!("docker://{}", server.image("team/app:1"));
    run(&mut copy(&source, &target));
    assert_eq!(verify(&file, &[]).0, 0);
}
