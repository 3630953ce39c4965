//! What a journal's file looks like: batches, one behind the other, each beginning at a block.
//!
//! A batch has a head of 48 bytes, all numbers little endian: the letters `WHJ1`, the length of what
//! follows the head (4 bytes), the journal's key (16), the batch's number (8), the time at which it was
//! written, in nanoseconds since 1970 (8), the CRC-32 of what follows and of the head up to here (4),
//! and four zeros. Then come groups, each with a number (8 bytes), the count of its changes (4), and
//! those: one byte for the kind, and texts and contents led by their length (4). Zeros fill the last
//! block.
//!
//! What lies behind the last batch may be what a client has pushed before, in a batch whose place was
//! used again. So that nobody can push what looks like a batch, each has the key, which is made anew at
//! every start and which nobody is told.

use crate::StoragePath;

/// What batches begin at, in bytes: writing whole pages spares the kernel to read them first.
pub(super) const BLOCK: usize = 4096;

const LETTERS: &[u8; 4] = b"WHJ1";
const HEAD: usize = 48;
const SUM_AT: usize = 40;

/// What tells a journal's batches from other bytes.
pub(super) type Key = [u8; 16];

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const VOID: u8 = 3;

/// One change that is to survive the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::filesystem) enum Change<'a> {
    /// The file has this content.
    Put(&'a StoragePath, &'a [u8]),
    /// There is no such file, or no such folder with all below it.
    Remove(&'a StoragePath),
}

/// What an operation of the driver changes, all of it or nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// By which a later one can make it void.
    pub(super) number: u64,
    pub(super) changes: Vec<Read>,
}

/// A change as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Put(StoragePath, Vec<u8>),
    Remove(StoragePath),
    /// The group of this number did not come about.
    Void(u64),
}

/// What was made durable at once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) groups: Vec<Group>,
}

/// Groups that are to be written as one batch.
#[derive(Debug)]
pub(super) struct Collected(Vec<u8>);

impl Default for Collected {
    fn default() -> Self {
        Self(vec![0; HEAD])
    }
}

impl Collected {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == HEAD
    }

    /// How many bytes it has so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a group.
    pub(super) fn add(&mut self, number: u64, changes: &[Change<'_>]) {
        self.begin_group(number, changes.len());
        for change in changes {
            match change {
                Change::Put(path, content) => {
                    self.0.push(PUT);
                    self.add_bytes(path.as_str().as_bytes());
                    self.add_bytes(content);
                }
                Change::Remove(path) => {
                    self.0.push(REMOVE);
                    self.add_bytes(path.as_str().as_bytes());
                }
            }
        }
    }

    /// Adds that another group did not come about.
    pub(super) fn add_void(&mut self, number: u64, void: u64) {
        self.begin_group(number, 1);
        self.0.push(VOID);
        self.0.extend(void.to_le_bytes());
    }

    fn begin_group(&mut self, number: u64, changes: usize) {
        self.0.extend(number.to_le_bytes());
        self.add_length(changes);
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.add_length(bytes.len());
        self.0.extend(bytes);
    }

    /// What is longer than four bytes can say is no change for a journal, and no path.
    fn add_length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.0.extend(length.to_le_bytes());
    }

    /// The batch as it is written: whole blocks.
    pub(super) fn into_blocks(self, key: &Key, number: u64, time: u64) -> Vec<u8> {
        let mut bytes = self.0;
        let length = u32::try_from(bytes.len() - HEAD).unwrap_or(u32::MAX);
        bytes[..4].copy_from_slice(LETTERS);
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..24].copy_from_slice(key);
        bytes[24..32].copy_from_slice(&number.to_le_bytes());
        bytes[32..40].copy_from_slice(&time.to_le_bytes());
        let sum = checksum(&bytes[..SUM_AT], &bytes[HEAD..]);
        bytes[SUM_AT..][..4].copy_from_slice(&sum.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }
}

/// How many bytes a batch with just these changes takes at the most, without the rest of its blocks.
pub(in crate::filesystem) fn length(changes: &[Change<'_>]) -> usize {
    let one = |change: &Change<'_>| match change {
        Change::Put(path, content) => 9 + path.as_str().len() + content.len(),
        Change::Remove(path) => 5 + path.as_str().len(),
    };
    HEAD + 12 + changes.iter().map(one).sum::<usize>()
}

fn checksum(head: &[u8], rest: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(rest);
    sum.update(head);
    sum.finalize()
}

/// The batches that a file has, up to one that is torn or older than the one before it.
pub(super) fn batches(mut file: &[u8]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut first = None;
    while let Some((key, batch, length)) = batch(file) {
        let follows = batches
            .last()
            .is_none_or(|last| last.number + 1 == batch.number);
        if *first.get_or_insert(key) != key || !follows {
            break;
        }
        batches.push(batch);
        file = file.get(length.next_multiple_of(BLOCK)..).unwrap_or(&[]);
    }
    batches
}

/// The batch at the beginning of these bytes, and how many of them it has.
fn batch(bytes: &[u8]) -> Option<(&[u8], Batch, usize)> {
    let mut head = Bytes(bytes.get(..HEAD)?);
    if head.take(4)? != LETTERS {
        return None;
    }
    let length = head.length()?;
    let key = head.take(16)?;
    let (number, time, sum) = (head.number()?, head.number()?, head.length()?);
    let body = bytes.get(HEAD..HEAD.checked_add(length)?)?;
    if usize::try_from(checksum(&bytes[..SUM_AT], body)) != Ok(sum) {
        return None;
    }
    let mut body = Bytes(body);
    let mut groups = Vec::new();
    while !body.0.is_empty() {
        groups.push(body.group()?);
    }
    let batch = Batch {
        number,
        time,
        groups,
    };
    Some((key, batch, HEAD + length))
}

/// Bytes that are read from their beginning on.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        let length = u32::from_le_bytes(self.take(4)?.try_into().ok()?);
        usize::try_from(length).ok()
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    fn path(&mut self) -> Option<StoragePath> {
        std::str::from_utf8(self.bytes()?).ok()?.parse().ok()
    }

    fn group(&mut self) -> Option<Group> {
        let number = self.number()?;
        let count = self.length()?;
        let changes = (0..count).map(|_| self.change());
        Some(Group {
            number,
            changes: changes.collect::<Option<_>>()?,
        })
    }

    fn change(&mut self) -> Option<Read> {
        match *self.take(1)?.first()? {
            PUT => Some(Read::Put(self.path()?, self.bytes()?.to_vec())),
            REMOVE => Some(Read::Remove(self.path()?)),
            VOID => Some(Read::Void(self.number()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> StoragePath {
        text.parse().unwrap()
    }

    /// Two batches, as a file has them, and where the second begins.
    fn file() -> (Vec<u8>, usize) {
        let (a, b) = (path("/a/link"), path("/b"));
        let mut first = Collected::default();
        assert!(first.is_empty());
        let changes = [Change::Put(&a, b"sha256:1"), Change::Remove(&b)];
        first.add(7, &changes);
        assert!(!first.is_empty());
        assert_eq!(first.0.len(), length(&changes));
        let mut second = Collected::default();
        second.add_void(8, 7);
        second.add(9, &[Change::Put(&b, &[5; 9000])]);
        let mut bytes = first.into_blocks(&[1; 16], 3, 100);
        let begins = bytes.len();
        assert_eq!(begins, BLOCK);
        bytes.extend(second.into_blocks(&[1; 16], 4, 101));
        assert_eq!(bytes.len(), BLOCK * 4);
        (bytes, begins)
    }

    fn expected() -> Vec<Batch> {
        let group = |number, changes| Group { number, changes };
        let first = vec![
            Read::Put(path("/a/link"), b"sha256:1".to_vec()),
            Read::Remove(path("/b")),
        ];
        let last = vec![Read::Put(path("/b"), vec![5; 9000])];
        vec![
            Batch {
                number: 3,
                time: 100,
                groups: vec![group(7, first)],
            },
            Batch {
                number: 4,
                time: 101,
                groups: vec![group(8, vec![Read::Void(7)]), group(9, last)],
            },
        ]
    }

    #[test]
    fn what_was_written_is_read() {
        let (mut bytes, _) = file();
        assert_eq!(batches(&bytes), expected());
        // What was there before the file was used again is not taken for more.
        for (key, number) in [(1, 2), (2, 5)] {
            let mut other = bytes.clone();
            other.extend(Collected::default().into_blocks(&[key; 16], number, 50));
            assert_eq!(batches(&other), expected());
        }
        bytes.extend(Collected::default().into_blocks(&[1; 16], 5, 50));
        assert_eq!(batches(&bytes).len(), 3);
        assert_eq!(batches(&[]), []);
        assert_eq!(batches(&[0; 3 * BLOCK]), []);
    }

    proptest! {
        #[test]
        fn a_batch_is_there_whole_or_not_at_all(at in 0..file().0.len(), flip in 1_u8..) {
            let (whole, begins) = file();
            let mut torn = whole.clone();
            torn.truncate(at);
            let left = batches(&torn);
            prop_assert_eq!(&left[..], &expected()[..left.len()]);
            let mut damaged = whole;
            damaged[at] ^= flip;
            let left = batches(&damaged);
            prop_assert_eq!(&left[..], &expected()[..left.len()]);
            prop_assert!(at < begins || !left.is_empty());
        }
    }
}
