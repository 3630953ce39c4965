//! Clients that send requests of every kind until the server is gone.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Random;
use super::content::{BLOBS, Blob, MANIFESTS, blob, manifest_of};
use super::model::{May, Open, Repository, offset};
use crate::Http;
use crate::http::{Answer, OCTETS, with_digest};

/// The tags of each repository.
const TAGS: [&str; 4] = ["latest", "1", "1.0", "edge"];

/// A client at work on its repository.
#[derive(Debug)]
pub struct Client<'a> {
    http: Http,
    repository: &'a mut Repository,
    names: &'a [String],
    random: Random,
    acknowledged: u64,
}

/// A request that was not answered, as the server is gone.
type Sent<T = ()> = io::Result<T>;

impl<'a> Client<'a> {
    /// A client that sends its requests to `http`, keeps in mind in `repository` what it is told,
    /// and mounts from repositories with these `names`.
    pub fn new(
        http: Http,
        repository: &'a mut Repository,
        names: &'a [String],
        random: Random,
    ) -> Self {
        Self {
            http,
            repository,
            names,
            random,
            acknowledged: 0,
        }
    }

    /// Works until the server is gone, or it is told to stop; gives how many requests that change
    /// something were acknowledged.
    ///
    /// # Panics
    /// When an answer is not one that it may get.
    pub fn work(&mut self, stop: &AtomicBool) -> u64 {
        while !stop.load(Ordering::Relaxed) {
            let done = match self.random.below(16) {
                0 | 1 => self.push_blob(),
                2 => self.push_at_once(),
                3..=5 => self.go_on_uploading(),
                6 => self.cancel_upload(),
                7 => self.mount(),
                8..=10 => self.push_manifest(),
                11 => self.move_tag(),
                12 => self.delete_tag(),
                13 => self.delete_manifest(),
                14 => self.delete_blob(),
                _ => self.look(),
            };
            if done.is_err() {
                break;
            }
        }
        self.acknowledged
    }

    fn path(&self, rest: &str) -> String {
        format!("/v2/{}/{rest}", self.repository.name)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Sent<Answer> {
        self.http.try_send(method, path, headers, body)
    }

    fn acknowledge(&mut self) {
        self.acknowledged += 1;
    }

    fn may_have(&mut self, number: usize) {
        let may = self.repository.blobs.entry(number).or_default();
        if *may == May::No {
            *may = May::Maybe;
        }
    }

    fn has(&mut self, number: usize) {
        self.repository.blobs.insert(number, May::Yes);
        self.acknowledge();
    }

    fn push_blob(&mut self) -> Sent {
        let number = self.random.below(BLOBS);
        self.push(number)
    }

    fn push(&mut self, number: usize) -> Sent {
        self.may_have(number);
        let answer = self
            .http
            .try_push_blob(&self.repository.name, &blob(number).bytes)?;
        assert_eq!(answer.outcome(), (201, String::new()), "{answer:?}");
        self.has(number);
        Ok(())
    }

    /// In a single request.
    fn push_at_once(&mut self) -> Sent {
        let number = self.random.below(BLOBS);
        self.may_have(number);
        let path = self.path(&format!("blobs/uploads/?digest={}", blob(number).digest));
        let answer = self.send("POST", &path, &[OCTETS], &blob(number).bytes)?;
        assert_eq!(answer.outcome(), (201, String::new()), "{answer:?}");
        self.has(number);
        Ok(())
    }

    /// Opens an upload, or sends another chunk of it, or ends it in a blob.
    fn go_on_uploading(&mut self) -> Sent {
        let Some(open) = self.find_upload()? else {
            let opened = self.send("POST", &self.path("blobs/uploads/"), &[], b"")?;
            assert_eq!(opened.outcome(), (202, String::new()), "{opened:?}");
            self.acknowledge();
            self.repository.upload = Some(Open {
                location: opened.location(),
                blob: self.random.below(BLOBS),
                acknowledged: 0,
                sent: 0,
                may_have_ended: false,
            });
            return Ok(());
        };
        let Blob { bytes, digest } = blob(open.blob);
        let rest = &bytes[open.acknowledged..];
        if rest.len() > 100 && self.random.below(3) > 0 {
            let chunk = &rest[..2 + self.random.below(rest.len() - 10)];
            let end = open.acknowledged + chunk.len();
            self.upload().sent = open.sent.max(end);
            let range = format!("{}-{}", open.acknowledged, end - 1);
            let headers = [OCTETS, ("Content-Range", range.as_str())];
            let answer = self.send("PATCH", &open.location, &headers, chunk)?;
            assert_eq!(
                answer.outcome(),
                (202, String::new()),
                "{open:?}: {answer:?}"
            );
            self.acknowledge();
            let upload = self.upload();
            upload.acknowledged = end;
            upload.location = answer.location();
            return Ok(());
        }
        self.may_have(open.blob);
        let upload = self.upload();
        upload.sent = bytes.len();
        upload.may_have_ended = true;
        let answer = self.send("PUT", &with_digest(&open.location, digest), &[OCTETS], rest)?;
        assert_eq!(
            answer.outcome(),
            (201, String::new()),
            "{open:?}: {answer:?}"
        );
        self.repository.upload = None;
        self.has(open.blob);
        Ok(())
    }

    fn upload(&mut self) -> &mut Open {
        self.repository.upload.as_mut().expect("it was found")
    }

    /// Asks where the upload stands, if there is one.
    fn find_upload(&mut self) -> Sent<Option<Open>> {
        let Some(open) = &mut self.repository.upload else {
            return Ok(None);
        };
        let answer = self.http.try_send("GET", &open.location, &[], b"")?;
        if open.may_have_ended && answer.outcome() == (404, "BLOB_UPLOAD_UNKNOWN".to_owned()) {
            self.repository.upload = None;
            return Ok(None);
        }
        assert_eq!(answer.status, 204, "{open:?}: {answer:?}");
        let known = offset(answer.header("range"));
        let least = if open.may_have_ended {
            0
        } else {
            open.acknowledged
        };
        assert!(least <= known && known <= open.sent, "{open:?}: {answer:?}");
        open.acknowledged = known;
        open.location = answer.location();
        Ok(Some(open.clone()))
    }

    fn cancel_upload(&mut self) -> Sent {
        let Some(open) = self.find_upload()? else {
            return Ok(());
        };
        self.upload().may_have_ended = true;
        let answer = self.send("DELETE", &open.location, &[], b"")?;
        assert_eq!(
            answer.outcome(),
            (204, String::new()),
            "{open:?}: {answer:?}"
        );
        self.acknowledge();
        self.repository.upload = None;
        Ok(())
    }

    fn mount(&mut self) -> Sent {
        let number = self.random.below(BLOBS);
        let from = &self.names[self.random.below(self.names.len())];
        self.may_have(number);
        let query = format!("blobs/uploads/?mount={}&from={from}", blob(number).digest);
        let answer = self.send("POST", &self.path(&query), &[], b"")?;
        match answer.status {
            201 => self.has(number),
            // The other repository has it not: an upload was opened in place of that.
            202 => {
                let answer = self.send("DELETE", &answer.location(), &[], b"")?;
                assert_eq!(answer.outcome(), (204, String::new()), "{answer:?}");
            }
            _ => panic!("{answer:?}"),
        }
        Ok(())
    }

    fn push_manifest(&mut self) -> Sent {
        let number = self.random.below(MANIFESTS);
        let tag = TAGS.get(self.random.below(2 * TAGS.len())).copied();
        self.push_with_all(number, tag)
    }

    /// Pushes a manifest as clients do, after all that it mentions.
    fn push_with_all(&mut self, number: usize, tag: Option<&str>) -> Sent {
        let manifest = manifest_of(number);
        for child in &manifest.children {
            self.push_with_all(*child, None)?;
        }
        for needed in &manifest.blobs {
            let path = self.path(&format!("blobs/{}", blob(*needed).digest));
            match self.send("HEAD", &path, &[], b"")?.status {
                200 => {}
                404 => self.push(*needed)?,
                status => panic!("HEAD {path}: {status}"),
            }
        }
        let may = self.repository.manifests.entry(number).or_default();
        if *may == May::No {
            *may = May::Maybe;
        }
        if let Some(tag) = tag {
            let may = self
                .repository
                .tags
                .entry(tag.to_owned())
                .or_insert([None].into());
            may.insert(Some(number));
        }
        let path = self.path(&format!("manifests/{}", tag.unwrap_or(&manifest.digest)));
        let headers = [("Content-Type", manifest.media_type)];
        let answer = self.send("PUT", &path, &headers, &manifest.bytes)?;
        if answer.outcome() == (503, "UNAVAILABLE".to_owned()) {
            return Ok(()); // a collection was in the way
        }
        assert_eq!(answer.outcome(), (201, String::new()), "{path}: {answer:?}");
        self.acknowledge();
        self.repository.manifests.insert(number, May::Yes);
        for needed in &manifest.blobs {
            self.repository.blobs.insert(*needed, May::Yes);
        }
        if let Some(tag) = tag {
            self.repository
                .tags
                .insert(tag.to_owned(), [Some(number)].into());
        }
        Ok(())
    }

    fn move_tag(&mut self) -> Sent {
        let all: Vec<_> = self.repository.acknowledged().collect();
        let Some(number) = all.get(self.random.below(all.len())) else {
            return Ok(());
        };
        let tag = TAGS[self.random.below(TAGS.len())];
        self.push_with_all(*number, Some(tag))
    }

    fn delete_tag(&mut self) -> Sent {
        let tag = TAGS[self.random.below(TAGS.len())];
        let Some(may) = self.repository.tags.get_mut(tag) else {
            return Ok(());
        };
        let before = may.clone();
        may.insert(None);
        let path = self.path(&format!("manifests/{tag}"));
        let answer = self.send("DELETE", &path, &[], b"")?;
        // An empty tag, of which a push that was cut off has left the name, can be deleted too.
        match answer.outcome() {
            (202, _) => {}
            (404, code) if code == "MANIFEST_UNKNOWN" && before.contains(&None) => {}
            _ => panic!("{path} of {before:?}: {answer:?}"),
        }
        self.acknowledge();
        self.repository.tags.insert(tag.to_owned(), [None].into());
        Ok(())
    }

    fn delete_manifest(&mut self) -> Sent {
        let number = self.random.below(MANIFESTS);
        let before = self.repository.manifest(number);
        if before == May::Yes {
            self.repository.manifests.insert(number, May::Maybe);
        }
        let of = |may: &BTreeSet<Option<usize>>| may.contains(&Some(number));
        for may in self.repository.tags.values_mut().filter(|may| of(may)) {
            may.insert(None);
        }
        let path = self.path(&format!("manifests/{}", manifest_of(number).digest));
        let answer = self.send("DELETE", &path, &[], b"")?;
        match answer.outcome() {
            (202, _) => assert_ne!(before, May::No, "{path} was there"),
            (404, code) => {
                assert!(
                    ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"].contains(&&*code),
                    "{answer:?}"
                );
                assert_ne!(before, May::Yes, "{path} was not there");
            }
            _ => panic!("{path}: {answer:?}"),
        }
        self.acknowledge();
        if before != May::No {
            self.repository.manifests.insert(number, May::No);
        }
        for may in self.repository.tags.values_mut() {
            may.remove(&Some(number));
            if may.is_empty() {
                may.insert(None);
            }
        }
        Ok(())
    }

    fn delete_blob(&mut self) -> Sent {
        let number = self.random.below(BLOBS);
        let before = self.repository.blob(number);
        // What manifests need stays, so that there is something to be lost.
        if self.repository.needed().contains(&number) {
            return Ok(());
        }
        if before == May::Yes {
            self.repository.blobs.insert(number, May::Maybe);
        }
        let path = self.path(&format!("blobs/{}", blob(number).digest));
        let answer = self.send("DELETE", &path, &[], b"")?;
        match answer.outcome() {
            (202, _) => assert_ne!(before, May::No, "{path} was there"),
            // A collection may have come first.
            (404, code) => assert!(
                ["BLOB_UNKNOWN", "NAME_UNKNOWN"].contains(&&*code),
                "{answer:?}"
            ),
            _ => panic!("{path}: {answer:?}"),
        }
        self.acknowledge();
        if before != May::No {
            self.repository.blobs.insert(number, May::No);
        }
        Ok(())
    }

    /// Looks whether something is there.
    fn look(&mut self) -> Sent {
        let number = self.random.below(MANIFESTS);
        let may = self.repository.manifest(number);
        let path = self.path(&format!("manifests/{}", manifest_of(number).digest));
        let status = self.send("HEAD", &path, &[], b"")?.status;
        match status {
            200 => assert_ne!(may, May::No, "{path} is there"),
            404 => assert_ne!(may, May::Yes, "{path} is not there"),
            _ => panic!("HEAD {path}: {status}"),
        }
        Ok(())
    }
}
