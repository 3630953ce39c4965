//! When content was last used: in memory, and now and then in the store, as a note of each
//! repository. Every node adds what it knows; a later time counts more than an earlier one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Notify;
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_registry::{Note, Registry, Result};

use super::Room;
use super::survey::Survey;

/// For how many seconds more a use tells nothing new.
const SAME: i64 = 10;

/// What was used so many seconds before, or never, is written down soon: a crash must not make it look
/// as if it had not been used since.
const LONG_AGO: i64 = 3600;

/// The times of use, in seconds since 1970, by repository and digest. Clones share everything.
#[derive(Clone, Debug)]
pub struct Uses {
    registry: Registry,
    room: Arc<Room>,
    known: Arc<Mutex<HashMap<RepositoryName, OfRepository>>>,
    /// Told when something should be written down soon.
    pub(super) urgent: Arc<Notify>,
}

#[derive(Debug, Default)]
struct OfRepository {
    at: HashMap<Digest, i64>,
    /// Whether the store may not know all of it.
    is_new: bool,
}

impl Uses {
    pub(super) fn new(registry: Registry, room: Arc<Room>) -> Self {
        Self {
            registry,
            room,
            known: Arc::default(),
            urgent: Arc::default(),
        }
    }

    /// Something is used now.
    pub(crate) fn note(&self, name: &RepositoryName, digest: &Digest) {
        let at = Timestamp::now().as_second();
        let mut known = self.lock();
        let of_repository = match known.get_mut(name) {
            Some(of_repository) => of_repository,
            None => known.entry(name.clone()).or_default(),
        };
        let before = of_repository.at.entry(*digest).or_insert(i64::MIN);
        if at > before.saturating_add(SAME) {
            if at > before.saturating_add(LONG_AGO) {
                self.urgent.notify_one();
            }
            *before = at;
            of_repository.is_new = true;
        }
    }

    /// So many bytes are kept besides.
    pub(crate) fn keeps(&self, bytes: u64) {
        self.room.take(bytes);
    }

    /// When each of a repository's was used, after what the store says of it was read. What nobody
    /// knows of counts as used `now`: it was kept before times were noted, or a crash has taken them.
    pub(super) async fn of(
        &self,
        name: &RepositoryName,
        digests: impl IntoIterator<Item = Digest>,
        now: i64,
    ) -> Result<HashMap<Digest, i64>> {
        self.read(name).await?;
        let mut known = self.lock();
        let of_repository = known.entry(name.clone()).or_default();
        let times = digests.into_iter().map(|digest| {
            let at = of_repository.at.entry(digest).or_insert_with(|| {
                of_repository.is_new = true;
                now
            });
            (digest, *at)
        });
        Ok(times.collect())
    }

    /// Takes over what the store says of a repository.
    async fn read(&self, name: &RepositoryName) -> Result<()> {
        let noted = self.registry.repository(name).note(Note::Uses).await?;
        let noted = noted.as_deref().map(parse).unwrap_or_default();
        let mut known = self.lock();
        let of_repository = known.entry(name.clone()).or_default();
        let is_behind = |(digest, at): (&Digest, &i64)| noted.get(digest).is_none_or(|it| it < at);
        of_repository.is_new = of_repository.at.iter().any(is_behind);
        for (digest, at) in noted {
            let before = of_repository.at.entry(digest).or_insert(at);
            *before = at.max(*before);
        }
        Ok(())
    }

    /// Writes down what the store may not know. What two nodes write at once is one's only; so it is
    /// looked the next time whether it is there.
    pub(super) async fn write(&self) -> Result<()> {
        let names: Vec<_> = {
            let known = self.lock();
            let new = known.iter().filter(|(_, of)| of.is_new);
            new.map(|(name, _)| name.clone()).collect()
        };
        for name in names {
            self.read(&name).await?;
            let text = {
                let known = self.lock();
                let of_repository = known.get(&name).filter(|of| of.is_new);
                of_repository.map(|of_repository| print(&of_repository.at))
            };
            if let Some(text) = text {
                let repository = self.registry.repository(&name);
                repository.set_note(Note::Uses, Bytes::from(text)).await?;
            }
        }
        Ok(())
    }

    /// Forgets what is not there any more, in the store too.
    pub(super) async fn forget_all_but(&self, survey: &Survey) -> Result<()> {
        let mut changed = Vec::new();
        self.lock().retain(|name, of_repository| {
            let digests: HashSet<_> = survey.digests_of(name).collect();
            let before = of_repository.at.len();
            of_repository
                .at
                .retain(|digest, _| digests.contains(digest));
            if of_repository.at.len() != before {
                changed.push((name.clone(), print(&of_repository.at)));
            }
            !of_repository.at.is_empty()
        });
        for (name, text) in changed {
            let repository = self.registry.repository(&name);
            match text.is_empty() {
                true => repository.remove_notes().await?,
                false => repository.set_note(Note::Uses, Bytes::from(text)).await?,
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RepositoryName, OfRepository>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print(times: &HashMap<Digest, i64>) -> String {
    let times: BTreeMap<_, _> = times.iter().collect();
    let lines = times.iter().map(|(digest, at)| format!("{at} {digest}\n"));
    lines.collect()
}

/// The times that a note has. A line that says nothing, as of a write that was cut short, is passed
/// over: what it was about counts as used when it is looked at.
fn parse(note: &[u8]) -> HashMap<Digest, i64> {
    let text = String::from_utf8_lossy(note);
    let line = |line: &str| {
        let (at, digest) = line.split_once(' ')?;
        Some((digest.parse().ok()?, at.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}
