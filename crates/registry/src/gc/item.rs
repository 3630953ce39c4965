//! What a run condemns, one by one, and the lists and pardons that tell of it in the store.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_storage::{Driver, Durability};

use super::state::RunId;
use crate::{Error, Result, layout};

/// How many things a list's file has at most: it is read whole.
const LINES: usize = 20_000;

/// How many files are read or written at once.
const CONCURRENCY: usize = 8;

/// Something that can be condemned, and that others may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Item {
    /// A blob, by its canonical digest, and all links to it.
    Blob(Digest),
    /// A repository's link to a manifest.
    Manifest(RepositoryName, Digest),
}

impl Item {
    /// What it is known by in memory. Two things that share it are condemned and pardoned
    /// together, which does no harm but that one of them stays longer.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let first = |digest: &Digest| {
            let (first, _) = digest.raw().split_first_chunk().expect("a digest is long");
            Fingerprint(u64::from_be_bytes(*first))
        };
        match self {
            Self::Blob(digest) => first(digest),
            Self::Manifest(..) => first(&Digest::canonical(self.to_string().as_bytes())),
        }
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(f, "blob {digest}"),
            Self::Manifest(name, digest) => write!(f, "manifest {name} {digest}"),
        }
    }
}

impl FromStr for Item {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["blob", digest] => Ok(Self::Blob(digest.parse().map_err(drop)?)),
            ["manifest", name, digest] => Ok(Self::Manifest(
                name.parse().map_err(drop)?,
                digest.parse().map_err(drop)?,
            )),
            _ => Err(()),
        }
    }
}

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) item: Item,
    /// What its removal frees, in bytes.
    pub(super) size: u64,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.size, self.item)
    }
}

impl FromStr for Entry {
    type Err = ();

    fn from_str(line: &str) -> Result<Self, ()> {
        let (size, item) = line.split_once(' ').ok_or(())?;
        Ok(Self {
            item: item.parse()?,
            size: size.parse().map_err(drop)?,
        })
    }
}

/// The first 64 bits of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn bits(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Writes down what a run condemns; gives the number of files.
pub(super) async fn write_list(driver: &dyn Driver, run: RunId, list: &[Entry]) -> Result<u32> {
    let files: Vec<_> = list.chunks(LINES).zip(0_u32..).collect();
    let number = u32::try_from(files.len()).unwrap_or(u32::MAX);
    let writes = files.into_iter().map(|(list, n)| async move {
        let mut text = String::new();
        for entry in list {
            text.push_str(&entry.to_string());
            text.push('\n');
        }
        let path = layout::gc_condemned(&run.to_string(), n);
        driver
            .put(&path, Bytes::from(text), Durability::Machine)
            .await
    });
    let writes: Vec<_> = writes.collect();
    stream::iter(writes)
        .buffered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    Ok(number)
}

/// What a run has condemned, as far as one of its files lists it.
///
/// # Errors
/// [`Error::Damaged`] for what is no list.
pub(super) async fn read_list(driver: &dyn Driver, run: RunId, file: u32) -> Result<Vec<Entry>> {
    let path = layout::gc_condemned(&run.to_string(), file);
    let content = driver.get(&path).await?;
    let text = std::str::from_utf8(&content).unwrap_or("?");
    let entry = |line: &str| {
        line.parse().map_err(|()| Error::Damaged {
            path: path.clone(),
            reason: format!("{line:?} is nothing that can be condemned"),
        })
    };
    text.lines().map(entry).collect()
}

/// Writes down that something is needed after all.
pub(super) async fn write_pardon(driver: &dyn Driver, run: RunId, item: &Item) -> Result<()> {
    let key = item.fingerprint().to_string();
    let path = layout::gc_pardon(&run.to_string(), &key);
    let content = Bytes::from(item.to_string());
    Ok(driver.put(&path, content, Durability::Machine).await?)
}

/// What has been pardoned of a run.
///
/// # Errors
/// [`Error::Damaged`] for a pardon that does not say of what: nothing may be removed then.
pub(super) async fn read_pardons(driver: &dyn Driver, run: RunId) -> Result<Vec<Item>> {
    let run = run.to_string();
    let entries = match driver.list(&layout::gc_pardons(&run), None, None).await {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        entries => entries?,
    };
    let reads = entries.iter().map(|entry| {
        let path = layout::gc_pardon(&run, &entry.name);
        async move {
            let content = driver.get(&path).await?;
            let text = std::str::from_utf8(&content).unwrap_or_default();
            text.parse().map_err(|()| Error::Damaged {
                path,
                reason: "it does not say what is pardoned".to_owned(),
            })
        }
    });
    let reads: Vec<_> = reads.collect();
    stream::iter(reads)
        .buffered(CONCURRENCY)
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_what_they_are() {
        let digest = Digest::canonical(b"x");
        let other = Digest::of(wharfinger_oci::Algorithm::Sha512, b"x");
        let name: RepositoryName = "library/debian".parse().unwrap();
        for item in [
            Item::Blob(digest),
            Item::Manifest(name.clone(), digest),
            Item::Manifest(name, other),
        ] {
            assert_eq!(item.to_string().parse(), Ok(item.clone()));
            let entry = Entry { item, size: 5 };
            assert_eq!(entry.to_string().parse(), Ok(entry));
        }
        for line in ["", "blob", "blob sha256:00", "manifest a", "tag a b"] {
            assert_eq!(line.parse::<Item>(), Err(()));
        }
    }
}
