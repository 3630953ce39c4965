//! What clients were told: what must be there, and what may be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use wharfinger_oci::manifest::Manifest;
use wharfinger_oci::{Digest, Tag};
use wharfinger_registry::{Told, UploadId};

/// Something that a request changes; the first part is its repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    Blob(&'static str, Digest),
    Manifest(&'static str, Digest),
    Tag(&'static str, Tag),
    /// By revision and signature.
    Signature(&'static str, Digest, Digest),
    /// The name of an upload, as text.
    Upload(&'static str, String),
}

/// What it is, or may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Absent,
    /// With these bytes.
    Bytes(Bytes),
    /// A manifest that clients get back as it came.
    Manifest(Comparable),
    /// A tag that stands for this.
    Digest(Digest),
    /// An upload that was opened, and has not received anything.
    Opened,
    /// An upload with so many of these bytes.
    Received(usize, Bytes),
    /// An upload of which there may be something left or not.
    Ended,
}

/// A manifest that can be compared.
#[derive(Clone, Debug)]
pub struct Comparable(pub Manifest);

impl PartialEq for Comparable {
    fn eq(&self, other: &Self) -> bool {
        self.0.payload() == other.0.payload()
    }
}

impl Eq for Comparable {}

/// What the client of an upload was told of it, by all that the upload may be.
pub fn told(allowed: &[State]) -> Option<Told> {
    let lengths = allowed.iter().filter_map(|state| match state {
        State::Received(length, _) => Some(*length),
        State::Opened => Some(0),
        _ => None,
    });
    let least = lengths.min().filter(|_| !allowed.contains(&State::Absent));
    least.map(|length| Told {
        offset: length as u64,
        started_at: Timestamp::UNIX_EPOCH,
    })
}

/// A change that a client asks for.
pub type Change = (Thing, State);

/// For each thing all that it may be. What is not in it is absent.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<Thing, Vec<State>>>>);

impl Ledger {
    /// A copy that goes its own way.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.all())))
    }

    pub fn all(&self) -> BTreeMap<Thing, Vec<State>> {
        self.0.lock().unwrap().clone()
    }

    /// All that a thing may be.
    pub fn of(&self, thing: &Thing) -> Vec<State> {
        let all = self.0.lock().unwrap();
        all.get(thing).cloned().unwrap_or(vec![State::Absent])
    }

    /// A request is under way: these things are what they were, or what they are to be.
    pub fn begin(&self, changes: &[Change]) {
        let mut all = self.0.lock().unwrap();
        for (thing, state) in changes {
            let allowed = all.entry(thing.clone()).or_insert(vec![State::Absent]);
            if !allowed.contains(state) {
                allowed.push(state.clone());
            }
        }
    }

    /// A request was acknowledged.
    pub fn acknowledge(&self, changes: &[Change]) {
        let mut all = self.0.lock().unwrap();
        for (thing, state) in changes {
            all.insert(thing.clone(), vec![state.clone()]);
        }
        for (thing, state) in changes {
            if let (Thing::Manifest(name, _), State::Manifest(manifest)) = (thing, state) {
                for reference in manifest.0.references() {
                    let blob = Thing::Blob(name, reference.digest);
                    if let Some(allowed) = all.get_mut(&blob) {
                        allowed.retain(|state| *state != State::Absent);
                    }
                }
            }
        }
    }

    /// The tags that stand, or may stand, for one of these.
    pub fn tags_of(&self, name: &'static str, digests: &[Digest]) -> Vec<Tag> {
        let is_of = |state: &State| matches!(state, State::Digest(d) if digests.contains(d));
        let all = self.all().into_iter();
        let tags = all.filter_map(|(thing, allowed)| match thing {
            Thing::Tag(of, tag) if of == name && allowed.iter().any(is_of) => Some(tag),
            _ => None,
        });
        tags.collect()
    }

    /// The signatures that were ever pushed for one of these.
    pub fn signatures_of(&self, name: &'static str, digests: &[Digest]) -> Vec<Thing> {
        let things = self.all().into_keys();
        let is_of = |thing: &Thing| matches!(thing, Thing::Signature(of, revision, _) if *of == name && digests.contains(revision));
        things.filter(is_of).collect()
    }

    /// The uploads that have not ended, with all that was ever sent of them.
    pub fn open_uploads(&self) -> Vec<(&'static str, UploadId, Bytes)> {
        let all = self.all().into_iter();
        let open = all.filter_map(|(thing, allowed)| {
            let Thing::Upload(name, id) = thing else {
                return None;
            };
            let ended = |state: &State| matches!(state, State::Ended | State::Absent);
            let sent = allowed.iter().filter_map(|state| match state {
                State::Received(length, bytes) => Some(bytes.slice(..*length)),
                _ => None,
            });
            let sent = sent.max_by_key(Bytes::len).unwrap_or_default();
            (!allowed.iter().any(ended)).then(|| (name, id.parse().unwrap(), sent))
        });
        open.collect()
    }

    /// What a collection removes, and whether it may be there: all blobs that no manifest
    /// mentions, with `untagged` also the manifests that no tag leads to.
    pub fn garbage(&self, untagged: bool) -> Garbage {
        let all = self.all();
        // Both for those manifests that must be there, and for those that may be.
        let reached = |may_be: bool| {
            let counts = |allowed: &Vec<State>| may_be || allowed.len() == 1;
            let mut manifests: BTreeMap<(&str, Digest), Manifest> = BTreeMap::new();
            let mut roots = BTreeSet::new();
            for (thing, allowed) in &all {
                for state in allowed.iter().filter(|_| counts(allowed)) {
                    match (thing, state) {
                        (Thing::Manifest(name, digest), State::Manifest(manifest)) => {
                            manifests.insert((name, *digest), manifest.0.clone());
                        }
                        (Thing::Tag(name, _), State::Digest(digest)) => {
                            roots.insert((*name, *digest));
                        }
                        _ => {}
                    }
                }
            }
            if !untagged {
                roots = manifests.keys().copied().collect();
            }
            let mut size = 0;
            while size != roots.len() {
                size = roots.len();
                for ((name, digest), manifest) in &manifests {
                    let subject = manifest.subject().map(|subject| (*name, subject.digest));
                    if roots.contains(&(*name, *digest)) {
                        let children = manifest.references();
                        roots.extend(children.iter().map(|child| (*name, child.digest)));
                        roots.extend(subject);
                    } else if subject.is_some_and(|subject| roots.contains(&subject)) {
                        roots.insert((*name, *digest));
                    }
                }
            }
            // Not only those of manifests: a blob is mentioned the same way.
            roots
        };
        let (needed, maybe) = (reached(false), reached(true));
        let is_in = |digests: &BTreeSet<(&str, Digest)>, thing: &Thing, states: &[State]| {
            let canonical = states.iter().find_map(|state| match state {
                State::Bytes(bytes) => Some(Digest::canonical(bytes)),
                _ => None,
            });
            match thing {
                Thing::Blob(_, digest) => digests
                    .iter()
                    .any(|(_, one)| one == digest || Some(*one) == canonical),
                Thing::Manifest(name, digest) => !untagged || digests.contains(&(*name, *digest)),
                _ => true,
            }
        };
        let mut garbage = Garbage::default();
        for (thing, states) in &all {
            if !is_in(&needed, thing, states) {
                garbage.may_go.push((thing.clone(), State::Absent));
                if !is_in(&maybe, thing, states) {
                    garbage.goes.push((thing.clone(), State::Absent));
                }
            }
        }
        garbage
    }
}

/// What is to go in a collection.
#[derive(Debug, Default)]
pub struct Garbage {
    /// What is gone after a collection that had the store alone.
    pub goes: Vec<Change>,
    /// What may be gone after any.
    pub may_go: Vec<Change>,
}
