//! What a writer does with a file: small ones stay in the page cache, large ones pass it by.
//!
//! To copy gigabytes into the page cache costs more than to hash them, and drives out what others
//! read. So behind its beginning a file is written with `O_DIRECT`, as far as it fills whole
//! blocks, from a few buffers that are used again and again. Where the filesystem cannot do that,
//! everything goes the usual way.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::{Condvar, Mutex, PoisonError};

use bytes::{Buf as _, Bytes};
use rustix::io::{Errno, pwritev};

/// What comes before this offset, in bytes, stays in memory: who pushes an image often pulls it
/// soon, and most blobs are smaller.
const DIRECT_FROM: u64 = 8 << 20;

/// What offsets, lengths and addresses are multiples of, in bytes: what most devices want at the
/// most.
const BLOCK: usize = 4096;

/// The size of a buffer in bytes, which is that of an upload's batch.
const BUFFER: usize = 1 << 20;

/// How many buffers there are at most, which keep any device busy. Who wants another waits.
const MAX_BUFFERS: usize = 8;

/// How many buffers are kept while nobody uses them.
const KEPT_BUFFERS: usize = 2;

/// How many slices one system call takes.
const MAX_SLICES: usize = 1024;

/// The buffers for direct writing.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    state: Mutex<Pool>,
    given_back: Condvar,
}

#[derive(Debug, Default)]
struct Pool {
    free: Vec<Buffer>,
    lent: usize,
}

impl Buffers {
    /// A buffer, when one may be had.
    fn lend(&self) -> Lent<'_> {
        let pool = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pool = self
            .given_back
            .wait_while(pool, |pool| pool.lent >= MAX_BUFFERS)
            .unwrap_or_else(PoisonError::into_inner);
        pool.lent += 1;
        let free = pool.free.pop();
        drop(pool);
        Lent {
            buffer: free.unwrap_or_else(|| Buffer(vec![0; BUFFER + BLOCK])),
            buffers: self,
        }
    }
}

/// A buffer that is given back.
#[derive(Debug)]
struct Lent<'a> {
    buffer: Buffer,
    buffers: &'a Buffers,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut pool = self
            .buffers
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pool.lent -= 1;
        if pool.free.len() < KEPT_BUFFERS {
            pool.free.push(Buffer(std::mem::take(&mut self.buffer.0)));
        }
        self.buffers.given_back.notify_one();
    }
}

/// Memory in which a whole [`BUFFER`] can be aligned.
#[derive(Debug)]
struct Buffer(Vec<u8>);

impl Buffer {
    fn aligned(&mut self) -> &mut [u8] {
        // At most a block is left out, which is there for that.
        let start = self.0.as_ptr().align_offset(BLOCK).min(BLOCK);
        &mut self.0[start..start + BUFFER]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Through the page cache, at the beginning.
    Cached,
    /// Past it.
    Direct,
    /// Through the page cache to the end: the filesystem cannot do otherwise.
    OnlyCached,
}

/// How far a file has been written.
#[derive(Debug)]
pub(super) struct Output {
    /// Where the next bytes go in the file.
    at: u64,
    /// What does not fill a block yet and comes before all that follows.
    rest: Vec<u8>,
    way: Way,
}

impl Output {
    /// Goes on at an offset in bytes.
    pub(super) fn new(at: u64) -> Self {
        Self {
            at,
            rest: Vec::new(),
            way: Way::Cached,
        }
    }

    /// How many bytes the file has when all are written.
    pub(super) fn size(&self) -> u64 {
        self.at + self.rest.len() as u64
    }

    /// Writes all of these, except for what does not fill a block where blocks are written.
    pub(super) fn write(
        &mut self,
        file: &File,
        pool: &Buffers,
        mut bytes: Vec<Bytes>,
    ) -> io::Result<()> {
        if self.way == Way::Cached {
            let first = cut(&mut bytes, self.until_direct());
            self.write_cached(file, &first)?;
            if !bytes.is_empty() {
                self.way = match set_direct(file, true) {
                    Ok(()) => Way::Direct,
                    Err(_) => Way::OnlyCached,
                };
            }
        }
        match self.way {
            Way::Direct => self.write_blocks(file, pool, &mut bytes),
            Way::Cached | Way::OnlyCached => self.write_cached(file, &bytes),
        }
    }

    /// Writes what is left over, so that all of it is in the file.
    pub(super) fn flush(&mut self, file: &File) -> io::Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        set_direct(file, false)?;
        self.way = Way::Cached;
        let rest = std::mem::take(&mut self.rest);
        self.write_cached(file, &[rest.into()])
    }

    /// How many bytes still go through the page cache.
    fn until_direct(&self) -> u64 {
        self.at.next_multiple_of(BLOCK as u64).max(DIRECT_FROM) - self.at
    }

    fn write_cached(&mut self, file: &File, bytes: &[Bytes]) -> io::Result<()> {
        write_all(file, bytes, self.at)?;
        self.at += bytes.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        Ok(())
    }

    fn write_blocks(
        &mut self,
        file: &File,
        pool: &Buffers,
        bytes: &mut Vec<Bytes>,
    ) -> io::Result<()> {
        let mut lent = pool.lend();
        let mut bytes = bytes.drain(..);
        let mut next = bytes.next();
        while next.is_some() {
            let room = lent.buffer.aligned();
            let mut filled = self.rest.len();
            room[..filled].copy_from_slice(&self.rest);
            while let Some(piece) = &mut next
                && filled < BUFFER
            {
                let length = piece.len().min(BUFFER - filled);
                piece.copy_to_slice(&mut room[filled..filled + length]);
                filled += length;
                if piece.is_empty() {
                    next = bytes.next();
                }
            }
            let blocks = filled - filled % BLOCK;
            self.rest.clear();
            self.rest.extend_from_slice(&room[blocks..filled]);
            if blocks > 0 {
                write_direct(file, &room[..blocks], self.at)?;
                self.at += blocks as u64;
            }
        }
        Ok(())
    }
}

/// Cuts the first `length` bytes off.
fn cut(bytes: &mut Vec<Bytes>, mut length: u64) -> Vec<Bytes> {
    let mut first = Vec::new();
    let mut whole = 0;
    for piece in bytes.iter_mut() {
        if length < piece.len() as u64 {
            if length > 0 {
                // It fits: it is less than the length of what is in memory.
                first.push(piece.split_to(length as usize));
            }
            break;
        }
        length -= piece.len() as u64;
        first.push(piece.clone());
        whole += 1;
    }
    bytes.drain(..whole);
    first
}

/// Writes whole blocks; through the page cache where the filesystem wants larger ones, or cannot
/// write so in this place.
fn write_direct(file: &File, blocks: &[u8], mut at: u64) -> io::Result<()> {
    let mut left = blocks;
    while !left.is_empty() {
        match rustix::io::pwrite(file, left, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                left = &left[written..];
            }
            Err(Errno::INTR) => {}
            Err(Errno::INVAL) => {
                set_direct(file, false)?;
                let written = write_all(file, &[Bytes::copy_from_slice(left)], at);
                set_direct(file, true)?;
                return written;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

/// Elsewhere it is asked for in other ways.
#[cfg(not(target_os = "linux"))]
fn set_direct(_file: &File, direct: bool) -> io::Result<()> {
    match direct {
        true => Err(io::ErrorKind::Unsupported.into()),
        false => Ok(()),
    }
}

/// Writes all buffers at the offset.
fn write_all(file: impl AsFd, buffers: &[Bytes], mut offset: u64) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = buffers
        .iter()
        .filter(|b| !b.is_empty())
        .map(|b| IoSlice::new(b))
        .collect();
    let mut slices = slices.as_mut_slice();
    while !slices.is_empty() {
        match pwritev(&file, &slices[..slices.len().min(MAX_SLICES)], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                IoSlice::advance_slices(&mut slices, written);
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;
    use crate::testing::Random;

    /// Bytes of which no two blocks are alike.
    fn noise(length: usize) -> Bytes {
        Random::new(1).bytes(length).into()
    }

    fn pieces(mut content: Bytes, sizes: &[usize]) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if content.is_empty() {
                break;
            }
            pieces.push(content.split_to((*size).min(content.len())));
        }
        pieces
    }

    fn read(file: &File, length: usize) -> Vec<u8> {
        let mut read = vec![0; length];
        file.read_exact_at(&mut read, 0).unwrap();
        read
    }

    /// In a folder of the build, as temporary folders may be kept in memory.
    fn file() -> File {
        tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    #[test]
    fn whatever_the_pieces_are_the_file_has_all_bytes() {
        let content = noise(DIRECT_FROM as usize + 3 * BUFFER + 12_345);
        let pool = Buffers::default();
        let sizes: [&[usize]; 4] = [
            &[1 << 20],
            &[4096, 1, 8191, 0],
            &[300_001],
            &[BUFFER + 1, 4095],
        ];
        for sizes in sizes {
            let file = file();
            let mut output = Output::new(0);
            for batch in pieces(content.clone(), sizes).chunks(3) {
                output.write(&file, &pool, batch.to_vec()).unwrap();
            }
            assert_eq!(output.size(), content.len() as u64);
            output.flush(&file).unwrap();
            assert_eq!(output.size(), content.len() as u64);
            assert_eq!(file.metadata().unwrap().len(), content.len() as u64);
            assert!(read(&file, content.len()) == content, "{sizes:?}");
        }
    }

    #[test]
    fn buffers_are_bounded_and_come_back() {
        let buffers = Buffers::default();
        std::thread::scope(|scope| {
            let lent: Vec<_> = (0..MAX_BUFFERS).map(|_| buffers.lend()).collect();
            let one_more = scope.spawn(|| drop(buffers.lend()));
            // It cannot have got one: all are lent.
            assert_eq!(buffers.state.lock().unwrap().lent, MAX_BUFFERS);
            drop(lent);
            one_more.join().unwrap();
        });
        let pool = buffers.state.lock().unwrap();
        assert_eq!((pool.free.len(), pool.lent), (KEPT_BUFFERS, 0));
    }

    #[test]
    fn it_goes_on_at_any_offset() {
        let content = noise(DIRECT_FROM as usize + 2 * BUFFER);
        let pool = Buffers::default();
        let file = file();
        let mut at = 0;
        for end in [
            5,
            DIRECT_FROM as usize - 1,
            DIRECT_FROM as usize + 77,
            DIRECT_FROM as usize + 2 * BLOCK,
            content.len() - 3,
            content.len(),
        ] {
            let mut output = Output::new(at);
            let batch = pieces(content.slice(at as usize..end), &[50_000]);
            output.write(&file, &pool, batch).unwrap();
            output.flush(&file).unwrap();
            at = output.size();
            assert_eq!(at, end as u64);
        }
        assert!(read(&file, content.len()) == content);
    }

    #[test]
    fn a_file_that_cannot_be_written_directly_is_written_all_the_same() {
        let content = noise(3 * BLOCK);
        let file = file();
        set_direct(&file, true).unwrap();
        // No block begins here.
        write_direct(&file, &content, 100).unwrap();
        let mut read = vec![0; content.len()];
        set_direct(&file, false).unwrap();
        file.read_exact_at(&mut read, 100).unwrap();
        assert!(read == content);
    }
}
