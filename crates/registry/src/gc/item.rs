//! What a run condemns, one by one, and the lists and pardons that tell of it in the store.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use wharfinger_oci::{Digest, RepositoryName};
use wharfinger_storage::{Driver, Durability};

use super::state::RunId;
use crate::repository::Shared;
use crate::{Error, Result, layout};

/// How many things a list's file has at most: it is read whole.
const LINES: usize = 20_000;

/// How many files are read at once.
const CONCURRENCY: usize = 8;

/// How the names of files begin in which a collector tells what it has struck from its list.
const STRUCK: &str = "struck-";

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

/// The condemned of a run, in 16 bytes each: so many that nobody finds two that share them.
#[derive(Debug, Default)]
pub(super) struct Condemned(Vec<u128>);

impl Condemned {
    pub(super) fn insert(&mut self, item: &Item) {
        self.0.push(Self::key(item));
    }

    /// To be called when all are in it.
    pub(super) fn sort(&mut self) {
        self.0.sort_unstable();
    }

    pub(super) fn contains(&self, item: &Item) -> bool {
        self.0.binary_search(&Self::key(item)).is_ok()
    }

    fn key(item: &Item) -> u128 {
        let first = |digest: &Digest| {
            let (first, _) = digest.raw().split_first_chunk().expect("a digest is long");
            u128::from_be_bytes(*first)
        };
        match item {
            Item::Blob(digest) => first(digest),
            Item::Manifest(..) => first(&Digest::canonical(item.to_string().as_bytes())),
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

/// A list of what a run condemns, which is written down as it is found.
#[derive(Debug)]
pub(super) struct List<'a> {
    shared: &'a Shared,
    run: RunId,
    lines: String,
    len: usize,
    files: u32,
}

impl<'a> List<'a> {
    pub(super) fn new(shared: &'a Shared, run: RunId) -> Self {
        Self {
            shared,
            run,
            lines: String::new(),
            len: 0,
            files: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) async fn push(&mut self, entry: &Entry) -> Result<()> {
        self.lines.push_str(&entry.to_string());
        self.lines.push('\n');
        self.len += 1;
        match self.len.is_multiple_of(LINES) {
            true => self.write().await,
            false => Ok(()),
        }
    }

    /// Writes what is left; gives the run, and how many files tell of it.
    pub(super) async fn end(mut self) -> Result<(RunId, u32)> {
        if !self.lines.is_empty() {
            self.write().await?;
        }
        Ok((self.run, self.files))
    }

    async fn write(&mut self) -> Result<()> {
        let _writing = self.shared.writing()?;
        let path = layout::gc_condemned(&self.run.to_string(), self.files);
        let lines = Bytes::from(std::mem::take(&mut self.lines));
        let driver = &self.shared.driver;
        driver.put(&path, lines, Durability::Machine).await?;
        self.files += 1;
        Ok(())
    }
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

/// Writes down what one of the files of a list has that the collector itself found to be needed.
pub(super) async fn write_struck(
    driver: &dyn Driver,
    run: RunId,
    file: u32,
    items: &[Item],
) -> Result<()> {
    let path = layout::gc_pardon(&run.to_string(), &format!("{STRUCK}{file}"));
    let lines: Vec<_> = items.iter().map(Item::to_string).collect();
    let content = Bytes::from(lines.join("\n"));
    Ok(driver.put(&path, content, Durability::Machine).await?)
}

/// What a run's collector has struck, where that is asked for, and what others have pardoned, as
/// many items together as stand in one file.
///
/// # Errors
/// [`Error::Damaged`] for a pardon that does not say of what: nothing may be removed then.
pub(super) async fn pardons(
    driver: &dyn Driver,
    run: RunId,
    with_struck: bool,
) -> Result<impl Stream<Item = Result<Vec<Item>>>> {
    let run = run.to_string();
    let entries = match driver.list(&layout::gc_pardons(&run), None, None).await {
        Err(error) if error.is_not_found() => Vec::new(),
        entries => entries?,
    };
    let wanted = move |name: &str| with_struck || !name.starts_with(STRUCK);
    let names = entries.into_iter().map(|entry| entry.name);
    let paths = names
        .filter(move |name| wanted(name))
        .map(move |name| layout::gc_pardon(&run, &name));
    let reads = paths.map(move |path| async move {
        let content = driver.get(&path).await?;
        let text = std::str::from_utf8(&content).unwrap_or("?");
        let damaged = || Error::Damaged {
            path: path.clone(),
            reason: "it does not say what is pardoned".to_owned(),
        };
        if text.is_empty() {
            return Err(damaged());
        }
        let items = text
            .lines()
            .map(|line| line.parse().map_err(|()| damaged()));
        items.collect()
    });
    Ok(stream::iter(reads).buffered(CONCURRENCY))
}

/// Writes down of how many files of its list a run has removed all blobs.
pub(super) async fn write_removed(driver: &dyn Driver, run: RunId, files: u32) -> Result<()> {
    let path = layout::gc_removed(&run.to_string());
    let content = Bytes::from(files.to_string());
    Ok(driver.put(&path, content, Durability::Process).await?)
}

/// Of how many files of its list a run has removed all blobs, at least.
pub(super) async fn read_removed(driver: &dyn Driver, run: RunId) -> Result<u32> {
    match driver.get(&layout::gc_removed(&run.to_string())).await {
        Err(error) if error.is_not_found() => Ok(0),
        content => {
            let content = content?;
            let text = std::str::from_utf8(&content).unwrap_or_default();
            // Removing again what is gone does no harm.
            Ok(text.parse().unwrap_or(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use futures_util::TryStreamExt;
    use wharfinger_storage::MemoryDriver;

    use super::*;
    use crate::{Options, Registry};

    #[tokio::test]
    async fn a_long_list_takes_several_files_each_with_what_was_struck() {
        let driver = Arc::new(MemoryDriver::new());
        let registry = Registry::new(driver.clone(), Options::default()).unwrap();
        let run = RunId::generate();
        let mut list = List::new(&registry.shared, run);
        let item = |n: usize| Item::Blob(Digest::canonical(&n.to_be_bytes()));
        for n in 0..LINES + 5 {
            let entry = Entry {
                item: item(n),
                size: n as u64,
            };
            list.push(&entry).await.unwrap();
        }
        assert_eq!(list.len(), LINES + 5);
        assert_eq!(list.end().await.unwrap(), (run, 2));
        let last = read_list(&*driver, run, 1).await.unwrap();
        assert_eq!((last.len(), &last[0].item), (5, &item(LINES)));

        write_pardon(&*driver, run, &item(1)).await.unwrap();
        write_struck(&*driver, run, 1, &[item(2), item(3)])
            .await
            .unwrap();
        for (with_struck, wanted) in [
            (false, vec![item(1)]),
            (true, vec![item(1), item(2), item(3)]),
        ] {
            let pardons = pin!(pardons(&*driver, run, with_struck).await.unwrap());
            let mut items = pardons.try_concat().await.unwrap();
            items.sort_by_key(|found| wanted.iter().position(|item| item == found));
            assert_eq!(items, wanted);
        }
        assert_eq!(read_removed(&*driver, run).await.unwrap(), 0);
        write_removed(&*driver, run, 2).await.unwrap();
        assert_eq!(read_removed(&*driver, run).await.unwrap(), 2);
    }

    #[test]
    fn the_condemned_are_told_from_all_others() {
        let digest = Digest::canonical(b"x");
        let name: RepositoryName = "a".parse().unwrap();
        let items = [Item::Blob(digest), Item::Manifest(name, digest)];
        for (one, other) in [(0, 1), (1, 0)] {
            let mut condemned = Condemned::default();
            condemned.insert(&Item::Blob(Digest::canonical(b"y")));
            condemned.insert(&items[one]);
            condemned.sort();
            assert!(condemned.contains(&items[one]) && !condemned.contains(&items[other]));
        }
    }

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
