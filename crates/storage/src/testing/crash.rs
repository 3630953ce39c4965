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

use std::fs::File;
use std::future::ready;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;

use super::Random;
use crate::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Error, Fetch, Reader, Result, Stat,
    Steps, StoragePath, WriteMode, Writer,
};

mod platter;
mod survival;
mod writer;

use platter::{Content, Inode, ROOT, State};
use writer::CrashWriter;

/// The size of the pieces that a reader gives, in bytes.
const PIECE: usize = 256 * 1024;

/// A driver that can crash. Clones are one disk.
///
/// It promises what [`Driver`] says and not more: what another driver happens to make durable
/// besides, it loses.
#[derive(Clone, Debug)]
pub struct CrashDisk(Arc<Mutex<State>>);

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

    /// The disk as the end of the process alone leaves it: what was written is there, and what was
    /// not synced is as little safe as before. This disk stays as it is.
    pub fn restart(&self) -> Self {
        let mut disk = self.lock().clone();
        disk.cut_after = None;
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

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        let state = self.lock();
        let file = state.find_file(path);
        Fetch::Left(ready(
            file.map(|file| state.content(file).live.clone().into()),
        ))
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

    /// Within a step no name is durable before all are there.
    async fn put_all(&self, steps: Steps) -> Result<()> {
        let mut state = self.lock();
        for step in steps {
            for (path, content) in &step {
                state.step(path)?;
                let mut file = Content::new(content.to_vec());
                file.sync();
                let inode = state.add(Inode::File(file));
                state.place(path, inode)?;
            }
            for (path, _) in &step {
                state.step(path)?;
                state.sync_name(path);
                state.step(path)?;
            }
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
        self.discard(path).await?;
        let mut state = self.lock();
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

    async fn discard(&self, path: &StoragePath) -> Result<()> {
        let mut state = self.lock();
        state.step(path)?;
        state.find(path)?;
        state.unlink(path)
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

#[cfg(test)]
mod tests;
