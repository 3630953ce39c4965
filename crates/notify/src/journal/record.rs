//! How records and marks lie in files.
//!
//! A record is the length of its content and a checksum, four bytes each, and the content. A mark
//! is a record's number, in eight bytes, and a checksum. All numbers are little-endian. A record's
//! checksum covers its number too, so that a record never passes for another.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;

const HEAD: usize = 8;

/// How many bytes a mark has.
pub(super) const MARK: usize = 12;

fn checksum(number: u64, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(content);
    hasher.finalize()
}

/// The record of some content, which must not be empty and have less than 4 GiB.
pub(super) fn record(number: u64, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("an event is small");
    let mut record = Vec::with_capacity(HEAD + content.len());
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&checksum(number, content).to_le_bytes());
    record.extend_from_slice(content);
    record
}

/// How many bytes the record of some content has.
pub(super) fn size_of(content: &[u8]) -> u64 {
    (HEAD + content.len()) as u64
}

/// The content of the record with this number, which begins at `offset` of a segment that ends at
/// `end`; `None` when no such record stands there whole.
pub(super) fn read(file: &File, end: u64, offset: u64, number: u64) -> io::Result<Option<Bytes>> {
    let Some(room) = end.checked_sub(offset + HEAD as u64) else {
        return Ok(None);
    };
    let mut head = [0; HEAD];
    file.read_exact_at(&mut head, offset)?;
    let [a, b, c, d, sum @ ..] = head;
    let length = u32::from_le_bytes([a, b, c, d]);
    // Zeros are what a filesystem can leave after a crash.
    if length == 0 || u64::from(length) > room {
        return Ok(None);
    }
    let mut content = vec![0; length as usize];
    file.read_exact_at(&mut content, offset + HEAD as u64)?;
    let whole = checksum(number, &content) == u32::from_le_bytes(sum);
    Ok(whole.then(|| content.into()))
}

/// Says that a record is at the front.
pub(super) fn mark(number: u64) -> [u8; MARK] {
    let mut mark = [0; MARK];
    mark[..8].copy_from_slice(&number.to_le_bytes());
    mark[8..].copy_from_slice(&checksum(number, b"").to_le_bytes());
    mark
}

/// The record that a mark says is at the front, if it is a mark.
pub(super) fn read_mark(mark: &[u8; MARK]) -> Option<u64> {
    let [n @ .., a, b, c, d] = *mark;
    let number = u64::from_le_bytes(n);
    (checksum(number, b"") == u32::from_le_bytes([a, b, c, d])).then_some(number)
}
