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

use crate::buffer::{BLOCK, Buffer};

/// What comes before this offset, in bytes, stays in memory: who pushes an image often pulls it
/// soon, and most blobs are smaller.
const DIRECT_FROM: u64 = 8 << 20;

/// How many buffers bytes are copied into at the most, which keep any device busy. Who wants
/// another waits.
const MAX_BUFFERS: usize = 8;

/// What is shorter than this in bytes is copied to what comes before and after it, as each write
/// waits for the device.
const WORTH: usize = 64 * 1024;

/// How many slices one system call takes.
const MAX_SLICES: usize = 1024;

/// The buffers for what does not lie in memory as it can be written directly.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    lent: Mutex<usize>,
    given_back: Condvar,
}

impl Buffers {
    /// A buffer, when one may be had.
    fn lend(&self) -> Lent<'_> {
        let lent = self.lent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lent = self
            .given_back
            .wait_while(lent, |lent| *lent >= MAX_BUFFERS)
            .unwrap_or_else(PoisonError::into_inner);
        *lent += 1;
        drop(lent);
        Lent {
            buffer: Buffer::another(0, Buffer::SIZE as u64),
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
        *self
            .buffers
            .lent
            .lock()
            .unwrap_or_else(PoisonError::into_inner) -= 1;
        self.buffers.given_back.notify_one();
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
        let mut bytes = bytes.drain(..);
        let mut next = bytes.next();
        while let Some(piece) = &mut next {
            if self.rest.is_empty() && is_aligned(piece) {
                self.write_whole(file, piece)?;
                next = bytes.next();
            } else {
                next = self.write_copies(file, pool, next, &mut bytes)?;
            }
        }
        Ok(())
    }

    /// Writes a piece that begins with a block, where it lies.
    fn write_whole(&mut self, file: &File, piece: &[u8]) -> io::Result<()> {
        let (blocks, rest) = piece.split_at(piece.len() - piece.len() % BLOCK);
        self.rest.extend_from_slice(rest);
        write_direct(file, blocks, self.at)?;
        self.at += blocks.len() as u64;
        Ok(())
    }

    /// Copies pieces into a buffer and writes that; gives what it had no room for, or what need not
    /// be copied.
    fn write_copies(
        &mut self,
        file: &File,
        pool: &Buffers,
        mut next: Option<Bytes>,
        bytes: &mut impl Iterator<Item = Bytes>,
    ) -> io::Result<Option<Bytes>> {
        let mut lent = pool.lend();
        let buffer = &mut lent.buffer;
        buffer.put(&self.rest);
        self.rest.clear();
        while let Some(piece) = &mut next
            && !buffer.is_full()
            && !(buffer.len().is_multiple_of(BLOCK) && is_aligned(piece))
        {
            piece.advance(buffer.put(piece));
            if piece.is_empty() {
                next = bytes.next();
            }
        }
        self.write_whole(file, buffer.as_ref())?;
        Ok(next)
    }
}

/// Whether it can be written from where it lies, and is not so little that to collect is better.
fn is_aligned(piece: &[u8]) -> bool {
    piece.len() >= WORTH && (piece.as_ptr() as usize).is_multiple_of(BLOCK)
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
        let content = noise(DIRECT_FROM as usize + 3 * Buffer::SIZE + 12_345);
        let pool = Buffers::default();
        let sizes: [&[usize]; 4] = [
            &[1 << 20],
            &[4096, 1, 8191, 0],
            &[300_001],
            &[Buffer::SIZE + 1, 4095],
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
            assert_eq!(*buffers.lent.lock().unwrap(), MAX_BUFFERS);
            drop(lent);
            one_more.join().unwrap();
        });
        assert_eq!(*buffers.lent.lock().unwrap(), 0);
    }

    #[test]
    fn what_lies_right_is_written_from_there() {
        let content = noise(DIRECT_FROM as usize + 3 * Buffer::SIZE + 77 * BLOCK + 777);
        let pool = Buffers::default();
        // All buffers are lent: whoever copies would wait for ever.
        let _lent: Vec<_> = (0..MAX_BUFFERS).map(|_| pool.lend()).collect();
        let file = file();
        let mut output = Output::new(0);
        let mut left = content.clone();
        while !left.is_empty() {
            let at = (content.len() - left.len()) as u64;
            let mut buffer = Buffer::new(at, u64::MAX);
            left.advance(buffer.put(&left));
            output.write(&file, &pool, vec![buffer.freeze()]).unwrap();
        }
        if output.way == Way::Direct {
            assert_eq!(output.rest.len(), 777);
        }
        output.flush(&file).unwrap();
        assert!(read(&file, content.len()) == content);
    }

    #[test]
    fn pieces_that_lie_right_come_among_others() {
        let content = noise(DIRECT_FROM as usize + 6 * Buffer::SIZE + 5);
        let pool = Buffers::default();
        let file = file();
        let mut output = Output::new(0);
        let mut left = content.clone();
        for size in [1000, 70_000, 4096 * 3, 200_000].into_iter().cycle() {
            if left.is_empty() {
                break;
            }
            let mut batch = vec![left.split_to(size.min(left.len()))];
            let at = (content.len() - left.len()) as u64;
            let mut buffer = Buffer::new(at, u64::MAX);
            left.advance(buffer.put(&left));
            batch.push(buffer.freeze());
            output.write(&file, &pool, batch).unwrap();
        }
        output.flush(&file).unwrap();
        assert!(read(&file, content.len()) == content);
    }

    #[test]
    fn it_goes_on_at_any_offset() {
        let content = noise(DIRECT_FROM as usize + 2 * Buffer::SIZE);
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
