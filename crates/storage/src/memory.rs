//! The driver that keeps files in memory: for tests and for registries that may forget.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::future::ready;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::stream;

use crate::{
    Claim, ClaimError, Claimed, Driver, Durability, Entry, Error, Fetch, Reader, Result, Stat,
    StoragePath, WriteMode, Writer,
};

/// Buffers up to this size in bytes are copied together, so that a file written in small parts
/// does not keep the large buffers alive that they were cut from.
const COPIED: usize = 64 * 1024;

/// Keeps files in memory. Cheap to clone: clones are one driver.
#[derive(Clone, Debug, Default)]
pub struct MemoryDriver(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    root: Folder,
    /// The latest writer of each path that is being written.
    writers: HashMap<StoragePath, u64>,
    last_writer: u64,
    /// The folders that somebody has claimed.
    claimed: HashSet<StoragePath>,
}

/// A claimed folder.
#[derive(Debug)]
struct ClaimedFolder(MemoryDriver, StoragePath);

impl Drop for ClaimedFolder {
    fn drop(&mut self) {
        lock(&self.0.0).claimed.remove(&self.1);
    }
}

#[derive(Debug, Default)]
struct Folder {
    children: BTreeMap<String, Node>,
    modified: Option<SystemTime>,
}

#[derive(Debug)]
enum Node {
    File(FileNode),
    Folder(Folder),
}

/// A file apart from its name, as an inode is: who has it open keeps it.
type FileNode = Arc<Mutex<Content>>;

#[derive(Debug)]
struct Content {
    segments: Vec<Bytes>,
    size: u64,
    modified: SystemTime,
}

impl Content {
    fn new(bytes: Bytes) -> FileNode {
        let size = bytes.len() as u64;
        let segments = if bytes.is_empty() {
            Vec::new()
        } else {
            vec![bytes]
        };
        Arc::new(Mutex::new(Self {
            segments,
            size,
            modified: SystemTime::now(),
        }))
    }

    /// The segments from the offset on; `None` when it lies beyond the end.
    fn from(&self, offset: u64) -> Option<Vec<Bytes>> {
        let mut skip = offset;
        let mut rest = Vec::new();
        for segment in &self.segments {
            let length = segment.len() as u64;
            if skip < length {
                rest.push(segment.slice(skip as usize..));
            }
            skip = skip.saturating_sub(length);
        }
        (offset <= self.size).then_some(rest)
    }

    fn whole(&mut self) -> Bytes {
        if self.segments.len() > 1 {
            self.segments = vec![self.segments.concat().into()];
        }
        self.segments.first().cloned().unwrap_or_default()
    }

    fn truncate(&mut self, size: u64) {
        let mut left = size;
        for segment in &mut self.segments {
            let keep = left.min(segment.len() as u64);
            segment.truncate(keep as usize);
            left -= keep;
        }
        self.segments.retain(|segment| !segment.is_empty());
        self.size = size;
        self.modified = SystemTime::now();
    }

    fn append(&mut self, buffers: Vec<Bytes>) {
        for buffer in buffers.into_iter().filter(|buffer| !buffer.is_empty()) {
            self.size += buffer.len() as u64;
            let room = match self.segments.last() {
                Some(last) if last.len() + buffer.len() <= COPIED => self.segments.pop(),
                _ if buffer.len() <= COPIED => Some(Bytes::new()),
                _ => None,
            };
            self.segments.push(match room {
                Some(last) => {
                    // In place when nobody reads the segment, and copied otherwise.
                    let mut joined = last.try_into_mut().unwrap_or_else(|last| {
                        let mut copy = BytesMut::with_capacity(2 * (last.len() + buffer.len()));
                        copy.extend_from_slice(&last);
                        copy
                    });
                    joined.extend_from_slice(&buffer);
                    joined.freeze()
                }
                None => buffer,
            });
        }
        self.modified = SystemTime::now();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Folder {
    fn touch(&mut self) {
        self.modified = Some(SystemTime::now());
    }
}

/// What a path names.
enum Found<'a> {
    File(&'a FileNode),
    Folder(&'a Folder),
}

impl State {
    fn find(&self, path: &StoragePath) -> Result<Found<'_>> {
        let mut found = Found::Folder(&self.root);
        for part in path.parts() {
            found = match found {
                Found::Folder(folder) => match folder.children.get(part) {
                    Some(Node::File(file)) => Found::File(file),
                    Some(Node::Folder(folder)) => Found::Folder(folder),
                    None => return Err(Error::not_found(path)),
                },
                Found::File(_) => return Err(Error::not_found(path)),
            };
        }
        Ok(found)
    }

    fn file(&self, path: &StoragePath) -> Result<&FileNode> {
        match self.find(path)? {
            Found::File(file) => Ok(file),
            Found::Folder(_) => Err(Error::not_a_file(path)),
        }
    }

    /// The folder above `path`, made when missing.
    fn make_parent(&mut self, path: &StoragePath) -> Result<&mut Folder> {
        let parent = path.parent().ok_or_else(|| Error::not_a_file(path))?;
        // Whether a file stands in the way is known before anything is made: there is nothing
        // missing above a file.
        let mut place = StoragePath::root();
        let mut folder = &mut self.root;
        for part in parent.parts() {
            place = place.join(part).expect("a part of a path");
            if !folder.children.contains_key(part) {
                folder.touch();
                folder
                    .children
                    .insert(part.to_owned(), Node::Folder(Folder::default()));
            }
            folder = match folder.children.get_mut(part) {
                Some(Node::Folder(folder)) => folder,
                _ => return Err(Error::not_a_folder(&place)),
            };
        }
        Ok(folder)
    }

    /// Puts a file at a path, replacing one that is there.
    fn place(&mut self, path: &StoragePath, file: FileNode) -> Result<()> {
        let folder = self.make_parent(path)?;
        if let Some(Node::Folder(_)) = folder.children.get(path.name()) {
            return Err(Error::not_a_file(path));
        }
        folder
            .children
            .insert(path.name().to_owned(), Node::File(file));
        folder.touch();
        Ok(())
    }

    /// Takes what is at a path away; it must be there.
    fn take(&mut self, path: &StoragePath) -> Result<Node> {
        let parent = path.parent().ok_or_else(|| Error::not_found(path))?;
        let mut folder = &mut self.root;
        for part in parent.parts() {
            folder = match folder.children.get_mut(part) {
                Some(Node::Folder(folder)) => folder,
                _ => return Err(Error::not_found(path)),
            };
        }
        let node = folder
            .children
            .remove(path.name())
            .ok_or_else(|| Error::not_found(path))?;
        folder.touch();
        Ok(node)
    }
}

impl MemoryDriver {
    /// The driver's name in the configuration file.
    pub const NAME: &'static str = "inmemory";

    /// An empty driver.
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Driver for MemoryDriver {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn get<'a>(&'a self, path: &'a StoragePath) -> Fetch<'a> {
        let file = lock(&self.0).file(path).map(Arc::clone);
        Fetch::Left(ready(file.map(|file| lock(&file).whole())))
    }

    async fn put(&self, path: &StoragePath, content: Bytes, _durability: Durability) -> Result<()> {
        lock(&self.0).place(path, Content::new(content))
    }

    async fn reader(&self, path: &StoragePath, offset: u64) -> Result<Reader> {
        let file = Arc::clone(lock(&self.0).file(path)?);
        let segments = lock(&file).from(offset);
        match segments {
            Some(segments) => Ok(Box::pin(stream::iter(segments.into_iter().map(Ok)))),
            None => Err(Error::InvalidOffset {
                path: path.clone(),
                offset,
            }),
        }
    }

    async fn open(&self, path: &StoragePath) -> Result<Option<File>> {
        lock(&self.0).file(path).map(|_| None)
    }

    async fn writer(&self, path: &StoragePath, mode: WriteMode) -> Result<Box<dyn Writer>> {
        let mut state = lock(&self.0);
        let (file, size, replaces) = match mode {
            WriteMode::Create => {
                let file = Content::new(Bytes::new());
                let replaces = match state.find(path) {
                    Ok(Found::File(_)) => true,
                    Ok(Found::Folder(_)) => return Err(Error::not_a_file(path)),
                    Err(_) => {
                        state.place(path, Arc::clone(&file))?;
                        false
                    }
                };
                (file, 0, replaces)
            }
            WriteMode::Append { at } => {
                let file = Arc::clone(state.file(path)?);
                let mut content = lock(&file);
                if at > content.size {
                    return Err(Error::InvalidOffset {
                        path: path.clone(),
                        offset: at,
                    });
                }
                if at < content.size {
                    content.truncate(at);
                }
                drop(content);
                (file, at, false)
            }
        };
        state.last_writer += 1;
        let turn = state.last_writer;
        state.writers.insert(path.clone(), turn);
        let path = path.clone();
        Ok(Box::new(MemoryWriter {
            state: Arc::clone(&self.0),
            path,
            file,
            size,
            replaces,
            turn,
        }))
    }

    async fn stat(&self, path: &StoragePath) -> Result<Stat> {
        let state = lock(&self.0);
        Ok(match state.find(path)? {
            Found::File(file) => {
                let content = lock(file);
                Stat {
                    size: content.size,
                    modified: Some(content.modified),
                    is_dir: false,
                }
            }
            Found::Folder(folder) => Stat {
                size: 0,
                modified: folder.modified,
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
        let state = lock(&self.0);
        let Found::Folder(folder) = state.find(path)? else {
            return Err(Error::not_a_folder(path));
        };
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let entry = |(name, node): (&String, &Node)| Entry {
            name: name.clone(),
            is_dir: matches!(node, Node::Folder(_)),
        };
        let behind = folder.children.range::<str, _>((after, Bound::Unbounded));
        Ok(behind
            .take(limit.unwrap_or(usize::MAX))
            .map(entry)
            .collect())
    }

    async fn rename(&self, from: &StoragePath, to: &StoragePath) -> Result<()> {
        let mut state = lock(&self.0);
        let file = Arc::clone(state.file(from)?);
        state.place(to, file)?;
        if from != to {
            state.take(from)?;
        }
        Ok(())
    }

    async fn delete(&self, path: &StoragePath) -> Result<()> {
        if path.is_root() {
            let operation = "removing its root";
            return Err(Error::Unsupported {
                driver: Self::NAME,
                operation,
            });
        }
        // Freed when the lock is, for it may be much.
        let taken = lock(&self.0).take(path);
        taken.map(drop)
    }

    async fn remove_empty(&self, path: &StoragePath) -> Result<bool> {
        let mut state = lock(&self.0);
        let is_empty = match state.find(path) {
            Ok(Found::Folder(folder)) => folder.children.is_empty() && !path.is_root(),
            _ => false,
        };
        if is_empty {
            state.take(path)?;
        }
        Ok(is_empty)
    }

    fn claim(&self, claim: Claim<'_>) -> Result<Option<Claimed>, ClaimError> {
        let Claim::Folder(path) = claim else {
            return Ok(None);
        };
        match lock(&self.0).claimed.insert(path.clone()) {
            true => Ok(Some(Claimed::by(ClaimedFolder(self.clone(), path.clone())))),
            false => Err(ClaimError::Taken),
        }
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Every operation ends before its future gives way.
    async fn settled(&self) {}

    async fn remove_leftovers(&self, _older_than: Duration) -> Result<u64> {
        Ok(0)
    }
}

#[derive(Debug)]
struct MemoryWriter {
    state: Arc<Mutex<State>>,
    path: StoragePath,
    file: FileNode,
    size: u64,
    /// Whether the file takes another's place at the end.
    replaces: bool,
    turn: u64,
}

impl MemoryWriter {
    /// The state, while this is still the path's latest writer.
    fn turn(&self) -> Result<MutexGuard<'_, State>> {
        let state = lock(&self.state);
        match state.writers.get(&self.path) {
            Some(turn) if *turn == self.turn => Ok(state),
            _ => Err(Error::superseded(&self.path)),
        }
    }

    fn finish(&self) -> Result<()> {
        let mut state = self.turn()?;
        if self.replaces {
            state.place(&self.path, Arc::clone(&self.file))?;
        }
        Ok(())
    }
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn write(&mut self, buffers: Vec<Bytes>) -> Result<()> {
        if buffers.iter().all(Bytes::is_empty) {
            return Ok(());
        }
        let state = self.turn()?;
        let mut content = lock(&self.file);
        content.append(buffers);
        let size = content.size;
        drop(content);
        drop(state);
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
        let ours = matches!(state.find(&self.path),
            Ok(Found::File(file)) if Arc::ptr_eq(file, &self.file));
        if ours {
            state.take(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        if state.writers.get(&self.path) == Some(&self.turn) {
            state.writers.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::contract_tests!((MemoryDriver::new(), ()));

    #[test]
    fn the_table_of_writers_does_not_grow() {
        crate::testing::block_on(async {
            let driver = MemoryDriver::new();
            for i in 0..100 {
                let path = StoragePath::root().join(&format!("f{i}")).unwrap();
                driver
                    .writer(&path, WriteMode::Create)
                    .await
                    .unwrap()
                    .commit()
                    .await
                    .unwrap();
            }
            assert!(lock(&driver.0).writers.is_empty());
        });
    }

    #[test]
    fn small_buffers_are_copied_out_of_large_ones() {
        let large = Bytes::from(vec![7; 1024 * 1024]);
        let file = Content::new(Bytes::new());
        let mut content = lock(&file);
        content.append(vec![large.slice(..10), large.slice(10..30)]);
        assert!(large.is_unique(), "the file keeps a mebibyte for 30 bytes");
        assert_eq!(content.whole(), large.slice(..30));
    }
}
