//! Sources of every form, and what is said of those that are damaged.

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flate2::write::GzEncoder;
use support::*;
use tempfile::TempDir;
use wharfinger_oci::Digest;
use wharfinger_transfer::{Images, ImportOptions, Report, import};

/// A layout of two images, `a:one` and `b/c:two`.
async fn layout() -> (TempDir, PathBuf) {
    let registry = registry();
    push_image(&registry, "a", 1, &["one"]).await;
    push_image(&registry, "b/c", 2, &["two"]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layout");
    export_to(&registry, &path).await.unwrap();
    (folder, path)
}

fn blob(layout: &Path, digest: &Digest) -> PathBuf {
    layout.join("blobs/sha256").join(digest.hex())
}

/// What opening a source is refused with.
async fn refusal(path: &Path, into: &str) -> String {
    let registry = registry();
    let error = import_from(path, &registry, into).await.unwrap_err();
    assert_eq!(seen(&registry).await, Seen::default());
    error.to_string()
}

/// What comes of importing a layout in which `a:one` is damaged, told as its one failure.
async fn failure(path: &Path) -> String {
    let registry = registry();
    let options = ImportOptions {
        dry_run: true,
        ..ImportOptions::default()
    };
    let images = Images::open(path, &options.naming).await.unwrap();
    import(&images, &registry, &options, &|_| ()).await.unwrap();
    assert_eq!(seen(&registry).await, Seen::default(), "it was only looked");
    let report = import_from(path, &registry, "").await.unwrap();
    let tags = seen(&registry).await.tags;
    assert!(tags.keys().eq(["b/c:two"]), "{tags:?}");
    let [failure] = &report.failures[..] else {
        panic!("{report:?}");
    };
    failure.to_string()
}

#[tokio::test]
async fn a_blob_that_is_damaged_is_named_and_its_image_left_out() {
    let layer = content(1, 1000);
    let digest = Digest::canonical(&layer);
    let (_folder, path) = layout().await;
    let file = blob(&path, &digest);
    let mut damaged = layer.to_vec();
    damaged[7] ^= 1;
    fs::write(&file, &damaged).unwrap();
    let told = failure(&path).await;
    assert!(
        told.starts_with(&format!("a:one: blobs/sha256/{}", digest.hex())),
        "{told}"
    );
    assert!(told.contains("its bytes have the digest sha256:"), "{told}");
    fs::write(&file, &layer[..100]).unwrap();
    let told = failure(&path).await;
    assert!(told.ends_with("it has 100 bytes, not 1000"), "{told}");
    fs::remove_file(&file).unwrap();
    let told = failure(&path).await;
    assert_eq!(told, format!("a:one: {digest} is not there"));
    fs::create_dir(&file).unwrap();
    let told = failure(&path).await;
    assert!(told.ends_with("it is not a file"), "{told}");

    // What the registry has need not be in the layout.
    fs::remove_dir(&file).unwrap();
    let registry = registry();
    push_image(&registry, "elsewhere", 1, &[]).await;
    let report = import_from(&path, &registry, "").await.unwrap();
    assert_eq!((report.tags, report.failures), (2, vec![]));
}

#[tokio::test]
async fn a_manifest_that_is_damaged_is_named() {
    let (_folder, path) = layout().await;
    let registry = registry();
    let digest = push_image(&registry, "a", 1, &[]).await;
    let file = blob(&path, &digest);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("layer.v1.tar", "layer.v1.bar")).unwrap();
    let told = failure(&path).await;
    assert!(told.contains("its bytes have the digest"), "{told}");
    fs::write(&file, "{}").unwrap();
    let told = failure(&path).await;
    assert!(told.contains(&digest.to_string()), "{told}");
    fs::remove_file(&file).unwrap();
    assert_eq!(
        failure(&path).await,
        format!("a:one: {digest} is not there")
    );
}

#[tokio::test]
async fn what_is_no_layout_is_refused() {
    let (folder, path) = layout().await;
    let index = path.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    for (wrong, told) in [
        ("not json", "index.json: not an index of images"),
        (
            r#"{"schemaVersion":2,"manifests":[{"digest":"x"}]}"#,
            "index.json: not an index",
        ),
        (&text.replace("\"a\"", "\"A\""), "not the name"),
        (&text.replace("a:one", "b:one"), "it is not REPOSITORY:TAG"),
        (&text.replace("a:one", "a:"), "it is not REPOSITORY:TAG"),
        (
            &text.replace("\"b/c\"", "\"a\"").replace("b/c:two", "a:one"),
            "a:one stands for",
        ),
    ] {
        fs::write(&index, wrong).unwrap();
        let error = refusal(&path, "").await;
        let told = match told {
            // The name's own error follows.
            "not the name" => "io.github.wharfinger.repository \"A\"",
            told => told,
        };
        assert!(error.contains(told), "{error}");
    }
    fs::remove_file(&index).unwrap();
    let error = refusal(&path, "").await;
    assert!(error.contains("index.json: it is missing"), "{error}");
    fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    let error = refusal(&path, "").await;
    assert!(
        error.contains("oci-layout: version 2.0.0 is not known"),
        "{error}"
    );
    let error = refusal(folder.path(), "").await;
    assert!(
        error.contains("neither an image layout (oci-layout) nor a registry's"),
        "{error}"
    );
    let error = refusal(&folder.path().join("nothing"), "").await;
    assert!(error.contains("nothing: open: No such file"), "{error}");
}

#[tokio::test]
async fn images_without_a_repository_are_given_one() {
    let (_folder, path) = layout().await;
    let index = path.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    // As skopeo writes it: a tag alone.
    let mut parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (at, tag) in ["one", "two"].iter().enumerate() {
        let name = serde_json::json!({"org.opencontainers.image.ref.name": tag});
        parsed["manifests"][at]["annotations"] = name;
    }
    fs::write(&index, parsed.to_string()).unwrap();
    let error = refusal(&path, "").await;
    assert!(
        error.contains("the image with the tag one") && error.contains("--into NAME"),
        "{error}"
    );
    let registry = registry();
    import_from(&path, &registry, "new/name").await.unwrap();
    let tags = seen(&registry).await.tags;
    assert!(tags.keys().eq(["new/name:one", "new/name:two"]), "{tags:?}");

    fs::write(&index, text).unwrap();
    let error = refusal(&path, "one/name").await;
    assert!(
        error.contains("a and b/c would both become one/name"),
        "{error}"
    );
    let registry = support::registry();
    import_from(&path, &registry, "backup/ a=x").await.unwrap();
    let tags = seen(&registry).await.tags;
    assert!(tags.keys().eq(["backup/b/c:two", "x:one"]), "{tags:?}");
}

#[tokio::test]
async fn what_is_damaged_in_the_registry_is_mended() {
    let (folder, path) = layout().await;
    let data = folder.path().join("data");
    let options = wharfinger_storage::FilesystemOptions::new(&data);
    let driver = wharfinger_storage::FilesystemDriver::new(options).unwrap();
    let registry = registry_on(std::sync::Arc::new(driver));
    import_from(&path, &registry, "").await.unwrap();
    let before = seen(&registry).await;
    let digest = Digest::canonical(&content(1, 1000));
    let file =
        |path: wharfinger_storage::StoragePath| data.join(path.as_str().trim_start_matches('/'));
    let blob = file(wharfinger_registry::layout::blob_data(&digest));
    let link = file(wharfinger_registry::layout::layer_link(&name("a"), &digest));
    for damage in [|| Bytes::new(), || Bytes::from_static(b"other bytes")] {
        fs::write(&blob, damage()).unwrap();
        fs::write(&link, damage()).unwrap();
        let report = import_from(&path, &registry, "").await.unwrap();
        assert_eq!((report.blobs, report.failures), (1, vec![]));
        assert_eq!(seen(&registry).await, before);
    }
}

/// A tar archive of some files, and of links.
fn tar(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let header = |length: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_size(length as u64);
        header.set_mode(0o644);
        header
    };
    for (path, to) in links {
        let mut header = header(0);
        header.set_entry_type(tar::EntryType::Symlink);
        archive.append_link(&mut header, path, to).unwrap();
    }
    for (path, content) in files {
        let mut header = header(content.len());
        // The checked way does not write paths that lead outside.
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(content).unwrap();
    out.finish().unwrap()
}

#[tokio::test]
async fn archives_are_read_in_every_form() {
    let registry = registry();
    push_image(&registry, "a", 1, &["one"]).await;
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    export_to(&registry, &layout).await.unwrap();
    let plain = folder.path().join("plain.tar");
    export_to(&registry, &plain).await.unwrap();
    let compressed = folder.path().join("compressed.tgz");
    fs::write(&compressed, gzip(&fs::read(&plain).unwrap())).unwrap();
    // As tar(1) makes it of a folder, from within and from outside.
    let mut archive = tar::Builder::new(File::create(folder.path().join("inside.tar")).unwrap());
    archive.append_dir_all(".", &layout).unwrap();
    archive.finish().unwrap();
    let mut archive = tar::Builder::new(File::create(folder.path().join("outside.tar")).unwrap());
    archive.append_dir_all("layout", &layout).unwrap();
    archive.finish().unwrap();
    for name in ["plain.tar", "compressed.tgz", "inside.tar", "outside.tar"] {
        let restored = support::registry();
        let path = folder.path().join(name);
        let report = import_from(&path, &restored, "").await.unwrap();
        assert_eq!((report.tags, report.failures), (1, vec![]), "{name}");
        assert_eq!(seen(&restored).await, seen(&registry).await, "{name}");
    }

    let whole = fs::read(&plain).unwrap();
    let cut = folder.path().join("cut");
    for (bytes, told) in [
        (&whole[..whole.len() / 2], "the archive ends before it does"),
        (&whole[..700], "cut: it is cut short"),
        (&gzip(&whole)[..300], "gzip: "),
        (&whole[..300], "not a whole tar archive"),
        (&b""[..], "cut: it is cut short"),
        (&whole[..1024], "cut: it is cut short"),
        (&content(1, 5000)[..], "not a whole tar archive"),
        (b"\x28\xb5\x2f\xfd rest", "compressed by zstd"),
        (
            &tar(&[("a/../../b", b"x")], &[]),
            "its path leads out of the archive",
        ),
        (
            &tar(&[("/etc/passwd", b"x")], &[]),
            "its path leads out of the archive",
        ),
        (&tar(&[("x", b"x")], &[]), "there are no images in it"),
        (
            &tar(&[], &[("x", "../../y")]),
            "a link that leads out of the archive",
        ),
    ] {
        fs::write(&cut, bytes).unwrap();
        let error = refusal(&cut, "").await;
        assert!(error.contains(told), "{told}: {error}");
    }
}

/// What `docker save` is made of: a configuration that names layers by their digests.
struct Saved {
    config: String,
    layers: [Bytes; 2],
}

impl Saved {
    fn new() -> Self {
        let layers = [content(1, 3000), content(2, 5000)];
        let diffs = layers.each_ref().map(|layer| Digest::canonical(layer));
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diffs},
        });
        Self {
            config: config.to_string(),
            layers,
        }
    }

    fn manifest(&self, tags: &[&str], layers: &[&str]) -> String {
        let image =
            serde_json::json!({"Config": "config.json", "RepoTags": tags, "Layers": layers});
        format!("[{image}]")
    }
}

async fn import_archive(archive: &[u8], into: &str) -> Result<(Seen, Report), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.tar");
    fs::write(&path, archive).unwrap();
    let registry = registry();
    match import_from(&path, &registry, into).await {
        Ok(report) => Ok((seen(&registry).await, report)),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn what_docker_saved_is_imported() {
    let saved = Saved::new();
    let [one, two] = &saved.layers;
    let zipped = gzip(one);
    let tags = ["debian:stable", "localhost:5000/a/b:1"];
    let manifest = saved.manifest(&tags, &["1/layer.tar", "2/layer.tar"]);
    // In any order, by links, and compressed.
    let files: [(&str, &[u8]); 4] = [
        ("manifest.json", manifest.as_bytes()),
        ("0/layer.tar", two),
        ("1/layer.tar", &zipped),
        ("config.json", saved.config.as_bytes()),
    ];
    let links = [("2/layer.tar", "../0/layer.tar")];
    let (seen, report) = import_archive(&tar(&files, &links), "").await.unwrap();
    assert_eq!(report.failures, []);
    assert!(
        seen.tags.keys().eq(["a/b:1", "debian:stable"]),
        "{:?}",
        seen.tags
    );
    let [one, two] = [Digest::canonical(&zipped), Digest::canonical(two)];
    for ((_, digest), (kind, bytes)) in &seen.manifests {
        assert_eq!(kind, "application/vnd.oci.image.manifest.v1+json");
        let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let kind = "application/vnd.oci.image.layer.v1.tar";
        let layers = serde_json::json!([
            {"mediaType": format!("{kind}+gzip"), "digest": one, "size": zipped.len()},
            {"mediaType": kind, "digest": two, "size": 5000},
        ]);
        assert_eq!(manifest["layers"], layers, "{digest}");
        let config = Digest::canonical(saved.config.as_bytes());
        assert_eq!(manifest["config"]["digest"], config.to_string());
    }
}

#[tokio::test]
async fn what_docker_saved_and_was_damaged_is_refused() {
    let saved = Saved::new();
    let [one, two] = saved.layers.clone();
    let names = ["1.tar", "2.tar"];
    let manifest = saved.manifest(&["a:1"], &names);
    let other = gzip(&two);
    let with = |manifest: &str, config: &str, one: Option<&[u8]>| {
        let mut files: Vec<(&str, &[u8])> = vec![
            ("manifest.json", manifest.as_bytes()),
            ("config.json", config.as_bytes()),
            ("2.tar", &two),
        ];
        files.extend(one.map(|one| ("1.tar", one)));
        tar(&files, &[])
    };
    let config = saved.config.as_str();
    for (archive, told) in [
        (
            with("x", config, Some(&one)),
            "manifest.json: not a list of images",
        ),
        (
            with(&manifest, "x", Some(&one)),
            "config.json: not an image's configuration",
        ),
        (
            with(&manifest, config, None),
            "1.tar: it is missing in the archive",
        ),
        (
            with(&manifest, config, Some(&other)),
            "1.tar: its content has the digest",
        ),
        (
            with(&saved.manifest(&["a:1"], &names[..1]), config, Some(&one)),
            "config.json: it has 2 layers, but manifest.json names 1",
        ),
        (
            with(&saved.manifest(&["A:1"], &names), config, Some(&one)),
            "\"A:1\" is no name",
        ),
        (
            with(&saved.manifest(&[], &names), config, Some(&one)),
            "--into NAME gives it one",
        ),
        (
            tar(
                &[
                    ("manifest.json", manifest.as_bytes()),
                    ("config.json", config.as_bytes()),
                ],
                &[("1.tar", "2.tar"), ("2.tar", "1.tar")],
            ),
            "1.tar: it is a link that leads nowhere",
        ),
    ] {
        let error = import_archive(&archive, "").await.unwrap_err();
        assert!(error.contains(told), "{told}: {error}");
    }
    // What is not compressed is hashed when it is copied.
    let (seen, report) = import_archive(&with(&manifest, config, Some(&two)), "")
        .await
        .unwrap();
    assert_eq!(seen.tags.len(), 0);
    let told = report.failures[0].to_string();
    assert!(
        told.starts_with("a:1: 1.tar: its bytes have the digest"),
        "{told}"
    );
    let nameless = with(&saved.manifest(&[], &names), config, Some(&one));
    let (seen, _) = import_archive(&nameless, "x").await.unwrap();
    assert_eq!((seen.tags.len(), seen.manifests.len()), (0, 1));
}

#[tokio::test]
async fn the_layout_that_docker_saves_today_is_named_by_its_annotations() {
    let (folder, path) = layout().await;
    let index = path.join("index.json");
    let text = fs::read_to_string(&index).unwrap();
    let mut parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (at, name, tag) in [
        (0, "docker.io/library/debian:stable", "stable"),
        (1, "registry.example.org/team/tool:v1", "v1"),
    ] {
        parsed["manifests"][at]["annotations"] = serde_json::json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        });
    }
    fs::write(&index, parsed.to_string()).unwrap();
    fs::write(path.join("manifest.json"), "[]").unwrap();
    let archive = folder.path().join("saved.tar");
    let mut saved = tar::Builder::new(File::create(&archive).unwrap());
    saved.append_dir_all("", &path).unwrap();
    saved.finish().unwrap();
    let registry = registry();
    import_from(&archive, &registry, "").await.unwrap();
    let tags = seen(&registry).await.tags;
    assert!(
        tags.keys().eq(["debian:stable", "team/tool:v1"]),
        "{tags:?}"
    );
}
