//! A disk in memory that loses what was not synced.
//!
//! It keeps for each file and folder what is on the platter and what is not yet. A crash keeps
//! the first, and of the second what a seed decides: a new name may be there or not, content may
//! be short, zero or old in places, a removed name may be back. So a test that cuts the power at
//! every step of what it tests, and looks at what several seeds leave, sees whether anything was
//! acknowledged too early.
//!
//! ```
//! # use wharfinger_storage::{Driver, Durability, testing::crash::CrashDisk};
//! # wharfinger_storage::testing::block_on(async {
//! let file = "/folder/file".parse().unwrap();
//! let run = async |disk: &CrashDisk| disk.put(&file, "new".into(), Durability::Machine).await;
//!
//! // Once to count the steps, then once for each of them.
//! let whole = CrashDisk::new();
//! run(&whole).await.unwrap();
//! for step in 0..=whole.steps() {
//!     let disk = CrashDisk::new();
//!     disk.cut_power_after(step);
//!     let acknowledged = run(&disk).await.is_ok();
//!     for seed in 0..10 {
//!         match disk.crash(seed).get(&file).await {
//!             Ok(content) => assert_eq!(content, "new"),
//!             Err(error) => assert!(error.is_not_found() && !acknowledged),
//!         }
//!     }
//! }
//! # });
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;

use super::Random;
use crate::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Error, Reader, Result, Stat,
    StoragePath, WriteMode, Writer,
};

/// What is written at once: a torn file is old, new or zero in whole blocks of this many bytes.
const BLOCK: usize = 512;

/// The size of the pieces that a reader gives, in bytes.
const PIECE: usize = 256 * 1024;

const ROOT: u64 = 0;

/// A driver that can crash. Clones are one disk.
///
/// It promises what [`Driver`] says and not more: what another driver happens to make durable
/// besides, it loses.
#[derive(Clone, Debug)]
pub struct CrashDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    inodes: HashMap<u64, Inode>,
    next_inode: u64,
    writers: HashMap<StoragePath, u64>,
    last_writer: u64,
    steps: u64,
    cut_after: Option<u64>,
}

#[derive(Debug)]
enum Inode {
    File(Content),
    Folder(Names),
}

#[derive(Debug)]
struct Content {
    live: Vec<u8>,
    /// What a crash leaves for sure; `None` when none of it was ever synced.
    durable: Option<Vec<u8>>,
    modified: SystemTime,
}

#[derive(Debug, Default)]
struct Names {
    live: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    modified: Option<SystemTime>,
}

fn power_off(path: &StoragePath) -> Error {
    Error::io(path, "reach", io::Error::other("the power is off"))
}

impl State {
    fn new() -> Self {
        Self {
            inodes: HashMap::from([(ROOT, Inode::Folder(Names::default()))]),
            next_inode: ROOT + 1,
            writers: HashMap::new(),
            last_writer: 0,
            steps: 0,
            cut_after: None,
        }
    }

    fn is_on(&self, path: &StoragePath) -> Result<()> {
        match self.cut_after {
            Some(last) if self.steps > last => Err(power_off(path)),
            _ => Ok(()),
        }
    }

    /// A point between two changes, where the power may go.
    fn step(&mut self, path: &StoragePath) -> Result<()> {
        self.is_on(path)?;
        self.steps += 1;
        self.is_on(path)
    }

    fn names(&self, inode: u64) -> Option<&Names> {
        match self.inodes.get(&inode) {
            Some(Inode::Folder(names)) => Some(names),
            _ => None,
        }
    }

    fn names_mut(&mut self, inode: u64) -> &mut Names {
        match self.inodes.get_mut(&inode) {
            Some(Inode::Folder(names)) => names,
            _ => panic!("inode {inode} is no folder"),
        }
    }

    fn content(&self, inode: u64) -> &Content {
        match self.inodes.get(&inode) {
            Some(Inode::File(content)) => content,
            _ => panic!("inode {inode} is no file"),
        }
    }

    fn content_mut(&mut self, inode: u64) -> &mut Content {
        match self.inodes.get_mut(&inode) {
            Some(Inode::File(content)) => content,
            _ => panic!("inode {inode} is no file"),
        }
    }

    fn add(&mut self, inode: Inode) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(number, inode);
        number
    }

    fn find(&self, path: &StoragePath) -> Result<u64> {
        self.is_on(path)?;
        path.parts().try_fold(ROOT, |inode, part| {
            let child = self.names(inode).and_then(|names| names.live.get(part));
            child.copied().ok_or_else(|| Error::not_found(path))
        })
    }

    fn find_file(&self, path: &StoragePath) -> Result<u64> {
        let inode = self.find(path)?;
        if self.names(inode).is_some() {
            Err(Error::not_a_file(path))
        } else {
            Ok(inode)
        }
    }

    /// The folder above `path`, made when missing; its name is then not durable.
    fn make_parent(&mut self, path: &StoragePath) -> Result<u64> {
        let parent = path.parent().ok_or_else(|| Error::not_a_file(path))?;
        let mut place = StoragePath::root();
        let mut inode = ROOT;
        for part in parent.parts() {
            place = place.join(part).expect("a part of a path");
            inode = match self.names_mut(inode).live.get(part) {
                Some(child) => *child,
                None => {
                    let child = self.add(Inode::Folder(Names::default()));
                    self.link(inode, part, child);
                    child
                }
            };
            if self.names(inode).is_none() {
                return Err(Error::not_a_folder(&place));
            }
        }
        Ok(inode)
    }

    fn link(&mut self, folder: u64, name: &str, inode: u64) {
        let names = self.names_mut(folder);
        names.live.insert(name.to_owned(), inode);
        names.modified = Some(SystemTime::now());
    }

    fn place(&mut self, path: &StoragePath, inode: u64) -> Result<()> {
        let parent = self.make_parent(path)?;
        let there = self.names_mut(parent).live.get(path.name()).copied();
        if there.is_some_and(|there| self.names(there).is_some()) {
            return Err(Error::not_a_file(path));
        }
        self.link(parent, path.name(), inode);
        Ok(())
    }

    fn unlink(&mut self, path: &StoragePath) -> Result<()> {
        let parent = self.find(&path.parent().ok_or_else(|| Error::not_found(path))?)?;
        let names = self.names_mut(parent);
        names.live.remove(path.name());
        names.modified = Some(SystemTime::now());
        Ok(())
    }

    /// Makes the name, or its absence, durable, and the names of the folders above it.
    fn sync_name(&mut self, path: &StoragePath) {
        let mut folder = ROOT;
        for part in path.parts() {
            if self.names(folder).is_none() {
                return;
            }
            let names = self.names_mut(folder);
            match names.live.get(part).copied() {
                Some(inode) => {
                    names.durable.insert(part.to_owned(), inode);
                    folder = inode;
                }
                None => {
                    names.durable.remove(part);
                    return;
                }
            }
        }
    }

    /// What a crash leaves of a file or folder, as an inode of the new disk.
    fn survive(&self, inode: u64, random: &mut Random, disk: &mut State) -> u64 {
        let survivor = match &self.inodes[&inode] {
            Inode::File(content) => {
                let left = content.survive(random);
                let modified = content.modified;
                Inode::File(Content {
                    live: left.clone(),
                    durable: Some(left),
                    modified,
                })
            }
            Inode::Folder(names) => {
                let mut left = BTreeMap::new();
                let all: BTreeSet<_> = names.live.keys().chain(names.durable.keys()).collect();
                for name in all {
                    let (live, durable) = (names.live.get(name), names.durable.get(name));
                    let kept = if live == durable || random.coin() {
                        live
                    } else {
                        durable
                    };
                    if let Some(&kept) = kept {
                        left.insert(name.clone(), self.survive(kept, random, disk));
                    }
                }
                Inode::Folder(Names {
                    live: left.clone(),
                    durable: left,
                    modified: names.modified,
                })
            }
        };
        disk.add(survivor)
    }
}

impl Content {
    fn new(live: Vec<u8>) -> Self {
        Self {
            live,
            durable: None,
            modified: SystemTime::now(),
        }
    }

    fn sync(&mut self) {
        self.durable = Some(self.live.clone());
    }

    fn survive(&self, random: &mut Random) -> Vec<u8> {
        let durable = self.durable.as_deref().unwrap_or_default();
        let live = self.live.as_slice();
        let same = durable.iter().zip(live).take_while(|(a, b)| a == b).count();
        let longest = durable.len().max(live.len());
        let length = same + random.up_to((longest - same) as u64) as usize;
        let mut left = live[..same].to_vec();
        left.resize(length, 0);
        let mut start = same;
        while start < length {
            let end = (start / BLOCK * BLOCK + BLOCK).min(length);
            let source = [live, durable, &[]][random.up_to(2) as usize];
            if let Some(written) = source.get(start..end.min(source.len())) {
                left[start..start + written.len()].copy_from_slice(written);
            }
            start = end;
        }
        left
    }
}

impl Default for CrashDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashDisk {
    /// The driver's name.
    pub const NAME: &'static str = "crashdisk";

    /// An empty disk.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State::new())))
    }

    /// How many steps have been done: points between two changes at which the power may go.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Cuts the power once this many steps are done, counted from the disk's first: the operation
    /// that is under way then fails halfway, and all later ones fail.
    pub fn cut_power_after(&self, steps: u64) {
        self.lock().cut_after = Some(steps);
    }

    /// The disk as a crash at this moment would leave it. The seed decides what becomes of all
    /// that was not synced. This disk stays as it is.
    pub fn crash(&self, seed: u64) -> Self {
        let old = self.lock();
        let mut disk = State::new();
        let root = old.survive(ROOT, &mut Random::new(seed), &mut disk);
        let root = disk.inodes.remove(&root).expect("what was just added");
        disk.inodes.insert(ROOT, root);
        Self(Arc::new(Mutex::new(disk)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Driver for CrashDisk {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    async fn get(&self, path: &StoragePath) -> Result<Bytes> {
        let state = self.lock();
        Ok(state.content(state.find_file(path)?).live.clone().into())
    }

    async fn put(&self, path: &StoragePath, content: Bytes, durability: Durability) -> Result<()> {
        let mut state = self.lock();
        state.step(path)?;
        let mut file = Content::new(content.to_vec());
        if durability == Durability::Machine {
            file.sync();
        }
        let inode = state.add(Inode::File(file));
        state.place(path, inode)?;
        state.step(path)?;
        if durability == Durability::Machine {
            state.sync_name(path);
            state.step(path)?;
        }
        Ok(())
    }

    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader> {
        let mut content = self.get(path).await?;
        if offset > content.len() as u64 {
            return Err(Error::InvalidOffset {
                path: path.clone(),
                offset,
            });
        }
        let mut rest = content.split_off(offset as usize);
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            pieces.push(Ok(rest.split_to(rest.len().min(PIECE))));
        }
        Ok(Box::pin(stream::iter(pieces)))
    }

    async fn open(&self, path: &StoragePath) -> Result<Option<File>> {
        self.lock().find_file(path).map(|_| None)
    }

    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>> {
        let mut state = self.lock();
        state.step(path)?;
        let (inode, size, replaces) = match mode {
            WriteMode::Create => {
                let replaces = match state.find_file(path) {
                    Ok(_) => true,
                    Err(Error::NotFound { .. }) => false,
                    Err(error) => return Err(error),
                };
                let inode = state.add(Inode::File(Content::new(Vec::new())));
                if !replaces {
                    state.place(path, inode)?;
                }
                (inode, 0, replaces)
            }
            WriteMode::Append { at } => {
                let inode = state.find_file(path)?;
                let content = state.content_mut(inode);
                if at > content.live.len() as u64 {
                    return Err(Error::InvalidOffset {
                        path: path.clone(),
                        offset: at,
                    });
                }
                content.live.truncate(at as usize);
                (inode, at, false)
            }
        };
        state.last_writer += 1;
        let turn = state.last_writer;
        state.writers.insert(path.clone(), turn);
        state.step(path)?;
        let disk = self.clone();
        Ok(Box::new(CrashWriter {
            disk,
            path: path.clone(),
            inode,
            size,
            replaces,
            turn,
        }))
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        let state = self.lock();
        Ok(match &state.inodes[&state.find(path)?] {
            Inode::File(Content { live, modified, .. }) => Stat {
                size: live.len() as u64,
                modified: Some(*modified),
                is_dir: false,
            },
            Inode::Folder(names) => Stat {
                size: 0,
                modified: names.modified,
                is_dir: true,
            },
        })
    }

    async fn list(
        &self,
        path: &StoragePath,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Vec<Entry>> {
        let state = self.lock();
        let names = state
            .names(state.find(path)?)
            .ok_or_else(|| Error::not_a_folder(path))?;
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = names.live.range::<str, _>((after, Bound::Unbounded));
        let entries = entries.map(|(name, inode)| Entry {
            name: name.clone(),
            is_dir: state.names(*inode).is_some(),
        });
        Ok(entries.take(limit.unwrap_or(usize::MAX)).collect())
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        let mut state = self.lock();
        state.step(from)?;
        let inode = state.find_file(from)?;
        state.place(to, inode)?;
        if from != to {
            state.unlink(from)?;
        }
        // In one step, for it is atomic over a crash, too.
        state.sync_name(to);
        state.sync_name(from);
        state.step(from)
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        if path.is_root() {
            let operation = "removing its root";
            return Err(Error::Unsupported {
                driver: Self::NAME,
                operation,
            });
        }
        let mut state = self.lock();
        state.step(path)?;
        state.find(path)?;
        state.unlink(path)?;
        state.step(path)?;
        state.sync_name(path);
        state.step(path)
    }

    async fn remove_empty(&self, path: &StoragePath) -> Result<bool> {
        let mut state = self.lock();
        state.step(path)?;
        let names = state.find(path).ok().and_then(|inode| state.names(inode));
        let is_empty = !path.is_root() && names.is_some_and(|names| names.live.is_empty());
        if is_empty {
            state.unlink(path)?;
        }
        Ok(is_empty)
    }

    fn claim(&self, _claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        Ok(None)
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn settled(&self) {}

    async fn remove_leftovers(&self, _older_than: Duration) -> Result<u64> {
        Ok(0)
    }
}

#[derive(Debug)]
struct CrashWriter {
    disk: CrashDisk,
    path: StoragePath,
    inode: u64,
    size: u64,
    replaces: bool,
    turn: u64,
}

impl CrashWriter {
    fn turn(&self) -> Result<MutexGuard<'_, State>> {
        let mut state = self.disk.lock();
        state.step(&self.path)?;
        match state.writers.get(&self.path) {
            Some(turn) if *turn == self.turn => Ok(state),
            _ => Err(Error::superseded(&self.path)),
        }
    }

    fn finish(&self) -> Result<()> {
        let mut state = self.turn()?;
        state.content_mut(self.inode).sync();
        state.step(&self.path)?;
        if self.replaces {
            state.place(&self.path, self.inode)?;
            state.step(&self.path)?;
        }
        state.sync_name(&self.path);
        state.step(&self.path)
    }
}

#[async_trait]
impl Writer for CrashWriter {
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        let size = {
            let mut state = self.turn()?;
            let content = state.content_mut(self.inode);
            buffers
                .iter()
                .for_each(|buffer| content.live.extend_from_slice(buffer));
            content.modified = SystemTime::now();
            let size = content.live.len() as u64;
            state.step(&self.path)?;
            size
        };
        self.size = size;
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    async fn close(self: Box<Self>) -> Result<()> {
        self.finish()
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        self.finish()
    }

    async fn cancel(self: Box<Self>) -> Result<()> {
        let mut state = self.turn()?;
        if state
            .find_file(&self.path)
            .is_ok_and(|inode| inode == self.inode)
        {
            state.unlink(&self.path)?;
        }
        state.step(&self.path)
    }
}

#[cfg(test)]
mod tests;
