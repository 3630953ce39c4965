//! A queue of records in a folder, which outlives the process.
//!
//! Records are numbered from 0 on, without a gap. They lie in files called segments, each named
//! after the number of its first record; only the newest is written to, and always at its end.
//! What is at the front of the queue is kept in a file of its own, `delivered`; a segment whose
//! records have all been delivered is removed.
//!
//! A crash can leave half a record at the end of the newest segment. It was never told to be kept:
//! a segment ends at its first record that is not whole. The next process begins a new segment.
//! Were `delivered` lost or older than the segments, records would be delivered again, but none
//! would be left out.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tracing::warn;

mod record;

#[cfg(test)]
mod tests;

/// The file whose lock says that a process works on the folder.
const LOCK: &str = "lock";

/// The file that says which record is at the front.
const DELIVERED: &str = "delivered";

/// What the names of segments end in.
const SEGMENT: &str = "events";

/// How large a segment grows at most, in bytes, unless it has a single record.
const SEGMENT_SIZE: u64 = 8 * 1024 * 1024;

/// Segments that a full queue has at least: what is delivered makes room by segments.
const SEGMENTS: u64 = 16;

/// Why a folder cannot be worked on.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// Another process does.
    #[error("another process keeps its events there")]
    Taken,
    /// The filesystem does not let it.
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Whether a record was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// It was, and survives the process.
    Kept,
    /// There is no room for it.
    Full,
}

/// A queue of records in a folder.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    mark: Arc<File>,
    /// Oldest first. The newest is written to if this process made it.
    segments: VecDeque<Segment>,
    /// The number of the record at the front: the next to be delivered.
    front: u64,
    /// Where that record begins in the oldest segment.
    offset: u64,
    /// The number that the next record gets.
    next: u64,
    limit: u64,
    /// Whether the newest segment may be written to.
    writable: bool,
    /// Whether it has been written to since its last sync.
    dirty: bool,
    /// Whether the mark has.
    mark_dirty: bool,
    /// How many records were found damaged.
    lost: u64,
    _lock: File,
}

#[derive(Debug)]
struct Segment {
    /// The number of its first record.
    first: u64,
    /// Where its last whole record ends.
    size: u64,
    file: Arc<File>,
    path: PathBuf,
}

impl Journal {
    /// Goes on with the queue in `folder`, which is made when it is missing. Its files have at
    /// most `limit` bytes together.
    pub(crate) fn open(folder: &Path, limit: u64) -> Result<Self, OpenError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            |source| OpenError::Io { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(at(folder))?;
        let path = folder.join(LOCK);
        let lock = own_file().open(&path).map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Taken),
            Err(TryLockError::Error(error)) => return Err(at(&path)(error)),
        }
        let path = folder.join(DELIVERED);
        let mark = own_file().open(&path).map_err(at(&path))?;
        let mut journal = Self {
            folder: folder.to_owned(),
            mark: Arc::new(mark),
            segments: VecDeque::new(),
            front: 0,
            offset: 0,
            next: 0,
            limit,
            writable: false,
            dirty: false,
            mark_dirty: false,
            lost: 0,
            _lock: lock,
        };
        journal.find_segments().map_err(at(folder))?;
        journal.find_front().map_err(at(folder))?;
        Ok(journal)
    }

    fn find_segments(&mut self) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            if let (Some(first), true) = (number, path.extension() == Some(SEGMENT.as_ref())) {
                found.push((first, path));
            }
        }
        found.sort();
        for (first, path) in found {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            self.segments.push_back(Segment {
                first,
                size: file.metadata()?.len(),
                file: Arc::new(file),
                path,
            });
        }
        if let Some(newest) = self.segments.back_mut() {
            let (records, end) = newest.skip(u64::MAX)?;
            if end < newest.size {
                let bytes = newest.size - end;
                warn!(
                    segment = %newest.path.display(), bytes,
                    "the end of the events kept here is not whole, as a crash leaves it, and is \
                     left out"
                );
            }
            newest.size = end;
            self.next = newest.first + records;
            // The process that wrote it may have been killed before it synced.
            self.dirty = true;
        }
        Ok(())
    }

    /// Finds the record at the front, and removes the segments before it.
    fn find_front(&mut self) -> io::Result<()> {
        let mut mark = [0; record::MARK];
        let told = match self.mark.read_exact_at(&mut mark, 0) {
            Ok(()) => record::read_mark(&mark),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        let oldest = self
            .segments
            .front()
            .map_or(self.next, |segment| segment.first);
        self.front = told.unwrap_or(oldest).max(oldest);
        // A machine's crash can take records that were delivered already. Their numbers are not
        // given again: they would count as delivered.
        self.next = self.next.max(self.front);
        self.remove_delivered()?;
        if let Some(oldest) = self.segments.front() {
            (_, self.offset) = oldest.skip(self.front - oldest.first)?;
        }
        Ok(())
    }

    /// The number behind the last record of the oldest segment.
    fn end_of_oldest(&self) -> u64 {
        self.segments
            .get(1)
            .map_or(self.next, |second| second.first)
    }

    /// How many records wait.
    pub(crate) fn len(&self) -> u64 {
        self.next - self.front
    }

    /// How many bytes the segments have.
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Changes how many bytes the files may have together. What is there stays.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Takes a record in. After an error it is not in the queue, and the queue is as it was.
    pub(crate) fn append(&mut self, content: &[u8]) -> io::Result<Appended> {
        let record = record::record(self.next, content);
        let size = record.len() as u64;
        if self.bytes() + size > self.limit {
            // What was delivered makes room only with its segment.
            if self.len() > 0 || size > self.limit {
                return Ok(Appended::Full);
            }
            self.clear()?;
        }
        let largest = SEGMENT_SIZE.min(self.limit / SEGMENTS);
        let fits = self.segments.back().is_some_and(|newest| {
            self.writable && (newest.size == 0 || newest.size + size <= largest)
        });
        if !fits {
            self.begin_segment()?;
        }
        let newest = self.segments.back_mut().expect("there is one to write to");
        // Nothing is believed of a write that failed; the next one overwrites it.
        newest.file.write_all_at(&record, newest.size)?;
        newest.size += size;
        self.next += 1;
        self.dirty = true;
        Ok(Appended::Kept)
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        // Segments become durable in their order, so that no crash leaves a hole between them.
        self.sync()?;
        let path = self.folder.join(format!("{:020}.{SEGMENT}", self.next));
        let file = own_file().truncate(true).open(&path)?;
        File::open(&self.folder)?.sync_all()?;
        // One that got no record has the same name.
        if self
            .segments
            .back()
            .is_some_and(|newest| newest.first == self.next)
        {
            self.segments.pop_back();
        }
        if self.segments.is_empty() {
            self.offset = 0;
        }
        self.segments.push_back(Segment {
            first: self.next,
            size: 0,
            file: Arc::new(file),
            path,
        });
        self.writable = true;
        Ok(())
    }

    /// Removes all segments, whose records have all been delivered.
    fn clear(&mut self) -> io::Result<()> {
        while !self.segments.is_empty() {
            self.remove_oldest()?;
        }
        self.writable = false;
        Ok(())
    }

    /// Removes the segments whose records have all been delivered, but for the newest.
    fn remove_delivered(&mut self) -> io::Result<()> {
        while self.segments.len() > 1 && self.end_of_oldest() <= self.front {
            self.remove_oldest()?;
        }
        Ok(())
    }

    fn remove_oldest(&mut self) -> io::Result<()> {
        if let Some(oldest) = self.segments.pop_front() {
            fs::remove_file(&oldest.path)?;
        }
        self.offset = 0;
        Ok(())
    }

    /// The record at the front, which stays there.
    pub(crate) fn first(&mut self) -> io::Result<Option<Bytes>> {
        while self.front < self.next {
            self.remove_delivered()?;
            let end = self.end_of_oldest();
            let oldest = self.segments.front().expect("a record lies in a segment");
            let found = record::read(&oldest.file, oldest.size, self.offset, self.front)?;
            if let Some(found) = found {
                return Ok(Some(found));
            }
            // No crash does it; a disk or a hand has.
            let lost = end - self.front;
            warn!(
                segment = %oldest.path.display(), lost,
                "events kept here are damaged, and will not be delivered"
            );
            self.lost += lost;
            self.front = end;
            self.remove_oldest()?;
            self.writable &= !self.segments.is_empty();
        }
        Ok(None)
    }

    /// How many records were found damaged since this was last asked.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Takes the record at the front, which is `content`, off the queue.
    pub(crate) fn delivered(&mut self, content: &[u8]) -> io::Result<()> {
        self.front += 1;
        self.offset += record::size_of(content);
        self.mark.write_all_at(&record::mark(self.front), 0)?;
        self.mark_dirty = true;
        self.remove_delivered()
    }

    /// The files that must be synced for all of this to survive the machine.
    pub(crate) fn unsynced(&mut self) -> Vec<Arc<File>> {
        let newest = self.segments.back().filter(|_| self.dirty);
        let mut files: Vec<_> = newest
            .map(|newest| Arc::clone(&newest.file))
            .into_iter()
            .collect();
        if self.mark_dirty {
            files.push(Arc::clone(&self.mark));
        }
        (self.dirty, self.mark_dirty) = (false, false);
        files
    }

    /// Lets all of this survive the machine.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.unsynced().iter().try_for_each(|file| file.sync_data())
    }
}

impl Segment {
    /// Where the record behind the first `records` begins; where fewer are whole, how many are,
    /// and where they end.
    fn skip(&self, records: u64) -> io::Result<(u64, u64)> {
        let (mut number, mut offset) = (self.first, 0);
        while number - self.first < records
            && let Some(content) = record::read(&self.file, self.size, offset, number)?
        {
            number += 1;
            offset += record::size_of(&content);
        }
        Ok((number - self.first, offset))
    }
}

/// Opens a file that nobody else may read: events tell who did what.
fn own_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}
