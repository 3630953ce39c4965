//! What of the content that is kept has to go.
//!
//! What a manifest mentions counts as used when the manifest was, and so does what has it as its
//! subject: so an image stays whole, or goes whole. The bytes of a blob count as used when any of the
//! repositories used them that have them.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_registry::Eviction;

use super::survey::{Kept, Survey};
use crate::metrics::{Kind, Reason};

/// What was used so few seconds ago does not go for want of room: a client may be in the midst of it.
const BUSY: i64 = 600;

/// When what is pinned was used.
const ALWAYS: i64 = i64::MAX;

/// Something that goes.
#[derive(Debug)]
struct Leaving {
    repository: RepositoryName,
    digest: Digest,
    kind: Kind,
    reason: Reason,
    /// In bytes.
    size: u64,
}

/// What goes.
#[derive(Debug, Default)]
pub(super) struct Selection(Vec<Leaving>);

/// Something that goes as a whole: a manifest of a repository, or a blob in all of them.
#[derive(Debug)]
struct Unit<'a> {
    used: i64,
    kind: Kind,
    digest: Digest,
    size: u64,
    repositories: Vec<(&'a RepositoryName, &'a Kept)>,
}

/// Chooses what is due at `now`: what was not used for longer than its time to live, and where more
/// than `limit` bytes are kept, so much of what was not used for longest that a tenth of it gets free.
pub(super) fn select(survey: &Survey, limit: Option<u64>, now: Timestamp) -> Selection {
    let now = now.as_second();
    let mut units = units(survey);
    units.sort_by_key(|unit| (unit.used, unit.kind, unit.digest));
    let mut selection = Selection::default();
    let mut size = survey.size();
    let mut stay = Vec::new();
    for unit in units {
        let is_unused = |kept: &Kept| {
            let ttl = kept.retention.ttl.map(|ttl| ttl.as_secs());
            let end = ttl.map(|ttl| unit.used.saturating_add_unsigned(ttl));
            end.is_some_and(|end| end < now)
        };
        let (go, keep): (Vec<_>, Vec<_>) = unit
            .repositories
            .iter()
            .copied()
            .partition(|(_, kept)| is_unused(kept));
        if keep.is_empty() {
            size = size.saturating_sub(freed(survey, &unit));
        }
        selection.add(&unit, &go, Reason::Ttl);
        if !keep.is_empty() {
            stay.push(Unit {
                repositories: keep,
                ..unit
            });
        }
    }
    let Some(limit) = limit.filter(|limit| size > *limit) else {
        return selection;
    };
    let wanted = limit - limit / 10;
    let mut last = i64::MIN;
    for unit in stay {
        // What was used together goes together.
        if unit.used > last && size <= wanted || unit.used > now - BUSY {
            break;
        }
        // What another repository has too would be missed, and nothing gained.
        if unit.kind == Kind::Blob && survey.elsewhere.contains(&unit.digest) {
            continue;
        }
        size = size.saturating_sub(freed(survey, &unit));
        last = unit.used;
        selection.add(&unit, &unit.repositories, Reason::Size);
    }
    selection
}

fn freed(survey: &Survey, unit: &Unit<'_>) -> u64 {
    match survey.elsewhere.contains(&unit.digest) {
        true => 0,
        false => unit.size,
    }
}

fn units(survey: &Survey) -> Vec<Unit<'_>> {
    let mut units = Vec::new();
    let mut blobs: HashMap<Digest, Unit<'_>> = HashMap::new();
    let mut counted = HashSet::new();
    for (name, kept) in &survey.repositories {
        let used = used(kept);
        let at = |digest: &Digest| used.get(digest).copied().unwrap_or(ALWAYS);
        for (digest, manifest) in &kept.manifests {
            units.push(Unit {
                used: at(digest),
                kind: Kind::Manifest,
                digest: *digest,
                // The bytes are there once, whatever repositories have them.
                size: match counted.insert(*digest) {
                    true => manifest.size,
                    false => 0,
                },
                repositories: vec![(name, kept)],
            });
        }
        for (digest, size) in &kept.blobs {
            let unit = blobs.entry(*digest).or_insert(Unit {
                used: i64::MIN,
                kind: Kind::Blob,
                digest: *digest,
                size: match counted.contains(digest) {
                    true => 0,
                    false => *size,
                },
                repositories: Vec::new(),
            });
            unit.used = unit.used.max(at(digest));
            unit.repositories.push((name, kept));
        }
    }
    units.extend(blobs.into_values());
    units
}

/// When each manifest and blob of a repository counts as used.
fn used(kept: &Kept) -> HashMap<Digest, i64> {
    if kept.is_pinned {
        return HashMap::new();
    }
    let mut referrers: HashMap<Digest, Vec<Digest>> = HashMap::new();
    for (digest, manifest) in &kept.manifests {
        for subject in &manifest.subjects {
            referrers.entry(*subject).or_default().push(*digest);
        }
    }
    let own = |digest: &Digest| kept.used.get(digest).copied().unwrap_or(ALWAYS);
    let pinned = kept.pinned.iter().map(|digest| (ALWAYS, *digest));
    let mut roots: Vec<_> = kept.manifests.keys().map(|it| (own(it), *it)).collect();
    roots.extend(pinned);
    roots.sort_unstable();
    let mut used = HashMap::new();
    // The latest comes first, so that the first time that something is met is its latest.
    for (at, root) in roots.into_iter().rev() {
        let mut pending = vec![root];
        while let Some(digest) = pending.pop() {
            if used.contains_key(&digest) {
                continue;
            }
            // The pull of an image takes its time, and is one use.
            let later = kept.used.get(&digest).copied();
            let later = later.filter(|later| *later > at.saturating_add(BUSY));
            used.insert(digest, later.unwrap_or(at));
            if let Some(manifest) = kept.manifests.get(&digest) {
                pending.extend(&manifest.mentions);
                pending.extend(referrers.get(&digest).into_iter().flatten());
            }
        }
    }
    for digest in kept.blobs.keys() {
        used.entry(*digest).or_insert_with(|| own(digest));
    }
    used
}

impl Selection {
    fn add(&mut self, unit: &Unit<'_>, from: &[(&RepositoryName, &Kept)], reason: Reason) {
        self.0.extend(from.iter().map(|(repository, _)| Leaving {
            repository: (*repository).clone(),
            digest: unit.digest,
            kind: unit.kind,
            reason,
            size: unit.size,
        }));
    }

    /// How many manifests and blobs go for this reason.
    pub(super) fn number(&self, reason: Reason) -> usize {
        let all = self.0.iter();
        all.filter(|leaving| leaving.reason == reason).count()
    }

    /// All of them, if there are any.
    pub(super) fn leaving(&self) -> Option<Eviction> {
        let mut eviction = Eviction::default();
        for leaving in &self.0 {
            let all: &mut BTreeMap<_, Vec<_>> = match leaving.kind {
                Kind::Manifest => &mut eviction.manifests,
                Kind::Blob => &mut eviction.blobs,
            };
            let repository = leaving.repository.clone();
            all.entry(repository).or_default().push(leaving.digest);
        }
        (!self.0.is_empty()).then_some(eviction)
    }

    /// What of it is gone, if this is what there is now: how many of a kind went for a reason, and
    /// how many bytes that nobody has any more.
    pub(super) fn gone(&self, now: &Survey) -> BTreeMap<(Reason, Kind), (u64, u64)> {
        let is_there = |kept: &Kept, leaving: &Leaving| match leaving.kind {
            Kind::Manifest => kept.manifests.contains_key(&leaving.digest),
            Kind::Blob => kept.blobs.contains_key(&leaving.digest),
        };
        let mut gone: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        let mut counted = HashSet::new();
        let all = now.repositories.values();
        let needed: HashSet<(Kind, Digest)> = all
            .flat_map(|kept| {
                let manifests = kept.manifests.keys().map(|it| (Kind::Manifest, *it));
                manifests.chain(kept.blobs.keys().map(|it| (Kind::Blob, *it)))
            })
            .collect();
        for leaving in &self.0 {
            let kept = now.repositories.get(&leaving.repository);
            if kept.is_some_and(|kept| is_there(kept, leaving)) {
                continue;
            }
            let (number, bytes) = gone.entry((leaving.reason, leaving.kind)).or_default();
            *number += 1;
            let is_needed = now.elsewhere.contains(&leaving.digest)
                || needed.contains(&(leaving.kind, leaving.digest));
            if !is_needed && counted.insert(leaving.digest) {
                *bytes += leaving.size;
            }
        }
        gone
    }
}
