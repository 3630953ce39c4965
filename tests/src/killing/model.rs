//! What a repository must hold, by what its clients were told.

use std::collections::{BTreeMap, BTreeSet};

use super::content::{blob, manifest_of};
use crate::Http;

/// Whether something is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum May {
    /// Its deletion was acknowledged, or it never was.
    #[default]
    No,
    /// A request about it was cut off.
    Maybe,
    /// It was acknowledged.
    Yes,
}

/// An upload that goes on from one life of the server to the next.
#[derive(Clone, Debug)]
pub struct Open {
    /// Where it goes on.
    pub location: String,
    /// The blob that it will be.
    pub blob: usize,
    /// How many bytes were acknowledged.
    pub acknowledged: usize,
    /// How many were ever sent.
    pub sent: usize,
    /// Whether a request that ends it was cut off.
    pub may_have_ended: bool,
}

/// One repository. Only one client works on it.
#[derive(Clone, Debug)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// By their numbers.
    pub blobs: BTreeMap<usize, May>,
    /// By their numbers.
    pub manifests: BTreeMap<usize, May>,
    /// All that each tag may stand for.
    pub tags: BTreeMap<String, BTreeSet<Option<usize>>>,
    /// The upload that is under way.
    pub upload: Option<Open>,
}

impl Repository {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            tags: BTreeMap::new(),
            upload: None,
        }
    }

    /// Whether a blob is there as far as pushes and deletions go.
    pub fn blob(&self, number: usize) -> May {
        self.blobs.get(&number).copied().unwrap_or_default()
    }

    /// Whether a manifest is there.
    pub fn manifest(&self, number: usize) -> May {
        self.manifests.get(&number).copied().unwrap_or_default()
    }

    /// The manifests that must be there.
    pub fn acknowledged(&self) -> impl Iterator<Item = usize> {
        let all = self.manifests.iter();
        all.filter_map(|(number, may)| (*may == May::Yes).then_some(*number))
    }

    /// The blobs that its manifests need: no collection takes them.
    pub fn needed(&self) -> BTreeSet<usize> {
        let manifests = self.acknowledged();
        manifests
            .flat_map(|number| manifest_of(number).blobs.clone())
            .collect()
    }

    /// How many things there are to be checked.
    pub fn things(&self) -> usize {
        self.blobs.len()
            + self.manifests.len()
            + self.tags.len()
            + usize::from(self.upload.is_some())
    }

    /// Checks one of its things, and takes what is found for what it is from then on. A blob that no
    /// manifest of the repository needs may have been collected.
    ///
    /// # Panics
    /// When it is not what it must be.
    pub fn check(&mut self, http: Http, thing: usize) {
        let (blobs, manifests, tags) = (self.blobs.len(), self.manifests.len(), self.tags.len());
        if thing < blobs {
            let number = *self.blobs.keys().nth(thing).expect("it was counted");
            self.check_blob(http, number);
        } else if thing < blobs + manifests {
            let number = *self
                .manifests
                .keys()
                .nth(thing - blobs)
                .expect("it was counted");
            self.check_manifest(http, number);
        } else if thing < blobs + manifests + tags {
            let tag = self.tags.keys().nth(thing - blobs - manifests);
            self.check_tag(http, &tag.expect("it was counted").clone());
        } else if self.upload.is_some() {
            self.check_upload(http);
        }
    }

    fn check_blob(&mut self, http: Http, number: usize) {
        let blob = blob(number);
        let path = format!("/v2/{}/blobs/{}", self.name, blob.digest);
        let may = self.blob(number);
        let is_there = is_served(http, &path, &blob.bytes, "BLOB_UNKNOWN", may);
        let is_needed = may == May::Yes && self.needed().contains(&number);
        assert!(
            is_there || !is_needed,
            "{path} was acknowledged and is needed, and is gone"
        );
        self.blobs
            .insert(number, if is_there { May::Yes } else { May::No });
    }

    fn check_manifest(&mut self, http: Http, number: usize) {
        let manifest = manifest_of(number);
        let path = format!("/v2/{}/manifests/{}", self.name, manifest.digest);
        let may = self.manifest(number);
        let is_there = is_served(http, &path, &manifest.bytes, "MANIFEST_UNKNOWN", may);
        assert!(
            is_there || may != May::Yes,
            "{path} was acknowledged, and is gone"
        );
        self.manifests
            .insert(number, if is_there { May::Yes } else { May::No });
        if is_there {
            // Who pushed it was told of these before.
            for blob in &manifest.blobs {
                self.blobs.entry(*blob).or_insert(May::Maybe);
            }
        }
        if let Some(subject) = manifest.subject {
            let subject = &manifest_of(subject).digest;
            let path = format!("/v2/{}/referrers/{subject}", self.name);
            let listed = http.get(&path);
            assert_eq!(listed.status, 200, "{path}: {listed:?}");
            let listed = listed.json();
            let mut listed = listed["manifests"].as_array().into_iter().flatten();
            let is_listed = listed.any(|one| one["digest"] == manifest.digest);
            assert!(
                is_there || !is_listed,
                "{path} lists {}, which is gone",
                manifest.digest
            );
            // Of a push or deletion that was cut off, the record may be missing alone.
            assert!(
                is_listed || may != May::Yes,
                "{path} lacks {}",
                manifest.digest
            );
            if is_there && !is_listed {
                self.manifests.insert(number, May::Maybe);
            }
        }
    }

    fn check_tag(&mut self, http: Http, tag: &str) {
        let path = format!("/v2/{}/manifests/{tag}", self.name);
        let answer = http.get(&path);
        let allowed = &self.tags[tag];
        let found = allowed.iter().copied().find(|may| match may {
            None => answer.outcome() == (404, "MANIFEST_UNKNOWN".into()),
            Some(number) => answer.status == 200 && answer.body == manifest_of(*number).bytes,
        });
        let found = found.unwrap_or_else(|| {
            panic!("{path} must be one of the manifests {allowed:?}: {answer:?}")
        });
        self.tags.insert(tag.to_owned(), BTreeSet::from([found]));
    }

    fn check_upload(&mut self, http: Http) {
        let Some(open) = &mut self.upload else {
            return;
        };
        let answer = http.get(&open.location);
        let unknown = (404, "BLOB_UPLOAD_UNKNOWN".into());
        if open.may_have_ended && answer.outcome() == unknown {
            self.upload = None;
            return;
        }
        assert_eq!(answer.status, 204, "{open:?}: {answer:?}");
        // Of an upload that was being ended the bytes may have their place already.
        let least = if open.may_have_ended {
            0
        } else {
            open.acknowledged
        };
        let offset = offset(answer.header("range"));
        assert!(
            least <= offset && offset <= open.sent,
            "{open:?}: {answer:?}"
        );
        open.location = answer.location();
        open.acknowledged = offset;
    }

    /// Checks all of it, and that each tag that is listed is known.
    ///
    /// # Panics
    /// When something is not what it must be.
    pub fn check_all(&mut self, http: Http) {
        // Manifests may bring blobs to the list.
        for thing in (0..self.things()).rev() {
            self.check(http, thing);
        }
        let answer = http.get(&format!("/v2/{}/tags/list", self.name));
        if answer.status == 404 {
            assert!(
                self.tags.values().all(|may| may.contains(&None)),
                "{answer:?}"
            );
            return;
        }
        let listed: BTreeSet<String> = answer.json()["tags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|tag| tag.as_str().map(ToOwned::to_owned))
            .collect();
        for (tag, may) in &self.tags {
            let is_listed = listed.contains(tag);
            assert!(
                is_listed || may.contains(&None),
                "{}:{tag} is not listed",
                self.name
            );
        }
        assert!(
            listed.iter().all(|tag| self.tags.contains_key(tag)),
            "{listed:?}"
        );
    }
}

/// How many bytes a `Range` stands for. That of nothing is `0-0`, and nobody sends a single byte.
pub fn offset(range: Option<&str>) -> usize {
    let last = range.and_then(|range| range.strip_prefix("0-")?.parse().ok());
    match last {
        Some(0) | None => 0,
        Some(last) => last + 1,
    }
}

/// Whether content is there, which is then whole and may be there; else it is not known.
fn is_served(http: Http, path: &str, bytes: &[u8], unknown: &str, may: May) -> bool {
    let answer = http.get(path);
    if answer.status != 200 {
        assert_eq!(
            answer.outcome(),
            (404, unknown.to_owned()),
            "{path}: {answer:?}"
        );
        return false;
    }
    assert!(answer.body == bytes, "{path} has other bytes");
    assert!(may != May::No, "{path} was deleted, and is there");
    true
}
