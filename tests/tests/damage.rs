//! Files damaged by hand: what they held is refused by name, and nothing else suffers.

use std::fs::{self, OpenOptions};
use std::path::Path;

use wharfinger_e2e::clients::copy;
use wharfinger_e2e::http::Answer;
use wharfinger_e2e::image::{MANIFEST, manifest};
use wharfinger_e2e::{Wharfinger, digest, eventually, folder, noise, output};

/// A repository with one image in it.
struct Image {
    name: String,
    layer: Vec<u8>,
    manifest: Vec<u8>,
}

impl Image {
    fn push(server: &Wharfinger, name: &str, seed: u64) -> Self {
        // Larger than what is checked whenever it is read, so that its size is what tells.
        let layer = noise(seed, 300_000);
        let config = format!(r#"{{"seed":{seed}}}"#);
        let image = Self {
            name: name.to_owned(),
            manifest: manifest(config.as_bytes(), &[&layer]),
            layer,
        };
        let http = server.http();
        http.push_blob(name, config.as_bytes());
        http.push_blob(name, &image.layer);
        image.push_manifest(server);
        image
    }

    fn push_manifest(&self, server: &Wharfinger) {
        let http = server.http();
        let pushed = http.push_manifest(&self.name, "1", MANIFEST, &self.manifest);
        assert_eq!(pushed.status, 201, "{pushed:?}");
    }

    fn get_layer(&self, server: &Wharfinger) -> Answer {
        let path = format!("/v2/{}/blobs/{}", self.name, digest(&self.layer));
        server.http().get(&path)
    }

    fn get(&self, server: &Wharfinger) -> Answer {
        let path = format!("/v2/{}/manifests/1", self.name);
        server.http().get(&path)
    }

    fn get_revision(&self, server: &Wharfinger) -> Answer {
        let digest = digest(&self.manifest);
        let path = format!("/v2/{}/manifests/{digest}", self.name);
        server.http().get(&path)
    }

    fn link(&self, server: &Wharfinger, folder: &str, bytes: &[u8]) -> std::path::PathBuf {
        let folder = format!("{folder}/{}/link", digest(bytes).replace(':', "/"));
        server.repository(&self.name).join(folder)
    }

    fn assert_whole(&self, server: &Wharfinger) {
        let layer = self.get_layer(server);
        assert_eq!(layer.outcome(), (200, String::new()));
        assert!(layer.body == self.layer, "{} serves other bytes", self.name);
        for answer in [self.get(server), self.get_revision(server)] {
            assert_eq!(answer.outcome(), (200, String::new()), "{}", self.name);
            assert_eq!(answer.body, self.manifest);
        }
    }
}

/// A server with a sound image and one to damage; what `harm` does is done while it is stopped,
/// so that no cache hides it.
fn damaged(harm: impl FnOnce(&Wharfinger, &Image), then: impl FnOnce(&Wharfinger, &Image)) {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let sound = Image::push(&server, "sound", 1);
    let image = Image::push(&server, "library/harmed", 2);
    server.stop();
    harm(&server, &image);
    server.start_again();
    then(&server, &image);
    // What was mended is mended on disk, not in a cache.
    let served = image.get_layer(&server).status;
    server.stop();
    server.start_again();
    assert_eq!(image.get_layer(&server).status, served);
    if served == 200 {
        image.assert_whole(&server);
    }
    sound.assert_whole(&server);
    let catalog = server.http().get("/v2/_catalog").json();
    assert_eq!(
        catalog["repositories"].as_array().unwrap().len(),
        2,
        "{catalog}"
    );
    assert!(server.ended().is_none());
}

/// The log must say where the damage is.
fn assert_named(server: &Wharfinger, path: &Path) {
    let path = path.strip_prefix(server.data()).unwrap();
    let path = path.to_str().unwrap();
    let log = server.log();
    assert!(log.contains(path), "{path} is not in the log:\n{log}");
}

fn assert_refused(answer: &Answer) {
    assert_eq!(answer.outcome(), (500, "UNKNOWN".to_owned()), "{answer:?}");
}

#[test]
fn a_truncated_blob_is_refused_and_mended_by_a_push() {
    damaged(truncate(1000), |server, image| {
        assert_refused(&image.get_layer(server));
        assert_named(server, &server.blob_file(&digest(&image.layer)));
        server.http().push_blob(&image.name, &image.layer);
        image.assert_whole(server);
    });
}

/// A large blob's length is only written in the manifests that refer to it: there the client finds
/// that it was given too little.
#[test]
fn a_large_truncated_blob_is_found_by_the_client_and_mended_by_a_push() {
    damaged(truncate(200_000), |server, image| {
        let answer = image.get_layer(server);
        assert!(answer.status != 200 || answer.body.len() == 200_000);
        let folder = folder();
        let pull = || {
            let from = format!("docker://{}", server.image("library/harmed:1"));
            let to = format!("dir:{}", folder.path().join("pulled").display());
            output(&mut copy(&from, &to)).status
        };
        assert!(!pull().success());
        server.http().push_blob(&image.name, &image.layer);
        image.assert_whole(server);
        assert!(pull().success());
    });
}

fn truncate(length: u64) -> impl FnOnce(&Wharfinger, &Image) {
    move |server, image| {
        let file = server.blob_file(&digest(&image.layer));
        let file = OpenOptions::new().write(true).open(file).unwrap();
        file.set_len(length).unwrap();
    }
}

#[test]
fn an_empty_blob_is_refused_and_mended_by_a_push() {
    let harm = |server: &Wharfinger, image: &Image| {
        fs::write(server.blob_file(&digest(&image.layer)), b"").unwrap();
    };
    damaged(harm, |server, image| {
        assert_refused(&image.get_layer(server));
        assert_named(server, &server.blob_file(&digest(&image.layer)));
        server.http().push_blob(&image.name, &image.layer);
        image.assert_whole(server);
    });
}

#[test]
fn a_manifest_of_other_bytes_is_refused_and_mended_by_a_push() {
    let harm = |server: &Wharfinger, image: &Image| {
        let file = server.blob_file(&digest(&image.manifest));
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() = b' ';
        fs::write(file, bytes).unwrap();
    };
    damaged(harm, |server, image| {
        assert_refused(&image.get(server));
        assert_named(server, &server.blob_file(&digest(&image.manifest)));
        // Once it has been put aside, it is not there.
        eventually("it is put aside", || {
            image.get_revision(server).status == 404
        });
        assert_eq!(image.get(server).status, 404);
        image.push_manifest(server);
        image.assert_whole(server);
    });
}

#[test]
fn a_small_blob_of_other_bytes_is_refused_and_mended_by_a_push() {
    let config = br#"{"seed":2}"#;
    let harm = |server: &Wharfinger, _: &Image| {
        fs::write(server.blob_file(&digest(config)), br#"{"seed":3}"#).unwrap();
    };
    damaged(harm, |server, image| {
        let path = format!("/v2/{}/blobs/{}", image.name, digest(config));
        let answer = server.http().get(&path);
        assert_refused(&answer);
        assert_named(server, &server.blob_file(&digest(config)));
        server.http().push_blob(&image.name, config);
        assert_eq!(server.http().get(&path).body, config);
        image.assert_whole(server);
    });
}

#[test]
fn an_empty_layer_link_is_refused_and_mended_by_a_push() {
    let harm = |server: &Wharfinger, image: &Image| {
        fs::write(image.link(server, "_layers", &image.layer), b"").unwrap();
    };
    damaged(harm, |server, image| {
        assert_refused(&image.get_layer(server));
        assert_named(server, &image.link(server, "_layers", &image.layer));
        server.http().push_blob(&image.name, &image.layer);
        image.assert_whole(server);
    });
}

#[test]
fn a_cut_revision_link_is_refused_and_mended_by_a_push() {
    let harm = |server: &Wharfinger, image: &Image| {
        let link = image.link(server, "_manifests/revisions", &image.manifest);
        fs::write(link, b"sha256:0123").unwrap();
    };
    damaged(harm, |server, image| {
        assert_refused(&image.get_revision(server));
        let link = image.link(server, "_manifests/revisions", &image.manifest);
        assert_named(server, &link);
        image.push_manifest(server);
        image.assert_whole(server);
    });
}

#[test]
fn an_empty_tag_link_is_refused_and_mended_by_a_push() {
    let link = "_manifests/tags/1/current/link";
    let harm = |server: &Wharfinger, image: &Image| {
        fs::write(server.repository(&image.name).join(link), b"").unwrap();
    };
    damaged(harm, |server, image| {
        assert_refused(&image.get(server));
        assert_named(server, &server.repository(&image.name).join(link));
        assert_eq!(image.get_revision(server).status, 200);
        image.push_manifest(server);
        image.assert_whole(server);
    });
}

#[test]
fn a_folder_in_place_of_a_link_is_refused_by_name() {
    let harm = |server: &Wharfinger, image: &Image| {
        let link = image.link(server, "_layers", &image.layer);
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
    };
    damaged(harm, |server, image| {
        assert_refused(&image.get_layer(server));
        assert_named(server, &image.link(server, "_layers", &image.layer));
        assert_eq!(image.get(server).status, 200);
    });
}

#[test]
fn a_folder_in_place_of_a_blob_is_refused_by_name() {
    let harm = |server: &Wharfinger, image: &Image| {
        let file = server.blob_file(&digest(&image.layer));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
    };
    damaged(harm, |server, image| {
        assert_refused(&image.get_layer(server));
        assert_named(server, &server.blob_file(&digest(&image.layer)));
        assert_eq!(image.get(server).status, 200);
    });
}

#[test]
fn a_missing_blob_is_unknown_and_mended_by_a_push() {
    let harm = |server: &Wharfinger, image: &Image| {
        fs::remove_file(server.blob_file(&digest(&image.layer))).unwrap();
    };
    damaged(harm, |server, image| {
        let answer = image.get_layer(server);
        assert_eq!(answer.outcome(), (404, "BLOB_UNKNOWN".to_owned()));
        server.http().push_blob(&image.name, &image.layer);
        image.assert_whole(server);
    });
}

#[test]
fn an_upload_whose_state_is_damaged_is_hashed_again() {
    let home = folder();
    let mut server = Wharfinger::start(home.path());
    let http = server.http();
    let bytes = noise(9, 200_000);
    let location = http.open_upload("mended");
    let (first, rest) = bytes.split_at(120_000);
    let sent = http.send("PATCH", &location, &[("Content-Range", "0-119999")], first);
    assert_eq!(sent.status, 202, "{sent:?}");
    server.stop();
    let id = sent.header("docker-upload-uuid").unwrap();
    let states = server
        .repository("mended")
        .join(format!("_uploads/{id}/hashstates/sha256"));
    let mut harmed = 0;
    for state in fs::read_dir(states).unwrap() {
        fs::write(state.unwrap().path(), b"sha").unwrap();
        harmed += 1;
    }
    assert!(harmed > 0, "no hash state was kept");
    server.start_again();
    let path = wharfinger_e2e::http::with_digest(&sent.location(), &digest(&bytes));
    let done = server.http().send("PUT", &path, &[], rest);
    assert_eq!(done.outcome(), (201, String::new()), "{done:?}");
    let path = format!("/v2/mended/blobs/{}", digest(&bytes));
    assert!(server.http().get(&path).body == bytes);
}
