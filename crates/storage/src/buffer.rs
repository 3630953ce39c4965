//! Memory for bytes on their way into a file, laid out as direct writing wants it, and used again:
//! fresh memory for every megabyte would cost more than to copy it.

mod piece;

use bytes::Bytes;
use piece::Piece;

/// What offsets, lengths and addresses are multiples of where a file is written past the page
/// cache, in bytes: what most devices want at the most.
pub(crate) const BLOCK: usize = 4096;

/// Up to this length in bytes, memory is of the heap in any case, and may be kept for long.
const SMALL: usize = 256 * 1024;

/// Room for bytes that begin at a block.
#[derive(Debug)]
enum Memory {
    /// Of the heap; there is a block more, as it may begin anywhere.
    Heap(Box<[u8]>),
    Piece(Piece),
}

impl Memory {
    /// For `length` bytes; for more than [`SMALL`] it is what `piece` gives, if that gives any.
    fn take(length: usize, piece: fn() -> Option<Piece>) -> Self {
        match (length > SMALL).then(piece).flatten() {
            Some(piece) => Self::Piece(piece),
            None => Self::Heap(vec![0; length + BLOCK].into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Piece(piece) => piece.bytes(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Piece(piece) => piece.bytes_mut(),
        }
    }

    /// Where the first block begins.
    fn start(&self) -> usize {
        self.bytes().as_ptr().align_offset(BLOCK).min(BLOCK)
    }
}

/// Takes bytes that go to one place of a file, and gives them as one piece, whose whole blocks a
/// [`FilesystemDriver`](crate::FilesystemDriver) can write past the page cache without a copy.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    begin: usize,
    end: usize,
    most: usize,
}

impl Buffer {
    /// How many bytes one takes at the most.
    pub const SIZE: usize = Piece::SIZE;

    /// How many bytes one takes at the least when enough are expected.
    pub const LEAST: usize = Self::SIZE - BLOCK;

    /// A buffer for bytes that go to `offset` of a file, of which `expected` come at the most, both
    /// in bytes. It takes memory as they come, who may never come.
    pub fn new(offset: u64, expected: u64) -> Self {
        Self::with(offset, expected, Piece::kept)
    }

    /// The same for who has just filled one: it takes all memory at once, which costs less.
    pub fn another(offset: u64, expected: u64) -> Self {
        Self::with(offset, expected, Piece::take)
    }

    fn with(offset: u64, expected: u64, piece: fn() -> Option<Piece>) -> Self {
        let before = (offset % BLOCK as u64) as usize;
        let expected = usize::try_from(expected).unwrap_or(usize::MAX);
        let length = before.saturating_add(expected).min(Self::SIZE);
        let memory = Memory::take(length, piece);
        let start = memory.start();
        Self {
            memory,
            begin: start + before,
            end: start + before,
            most: start + length,
        }
    }

    /// Where the next bytes go.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[self.end..self.most]
    }

    /// Says that so many bytes were put into the [`room`](Self::room). What it has no room for
    /// cannot have been.
    pub fn advance(&mut self, count: usize) {
        self.end = self.most.min(self.end + count);
    }

    /// Copies as many bytes as there is room for, and tells how many.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let length = bytes.len().min(room.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.advance(length);
        length
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.end - self.begin
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no more room.
    pub fn is_full(&self) -> bool {
        self.end == self.most
    }

    /// What it has. The memory is used again when that is dropped; of little bytes in much memory a
    /// copy is made, as they may be kept for long.
    pub fn freeze(self) -> Bytes {
        if self.len() <= SMALL && self.memory.bytes().len() > SMALL + BLOCK {
            return Bytes::copy_from_slice(self.as_ref());
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.memory.bytes()[self.begin..self.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_lie_as_far_from_a_block_as_in_the_file() {
        for (offset, expected, size) in [
            (0, u64::MAX, Buffer::SIZE),
            (8192, 10, 10),
            (1, u64::MAX, Buffer::SIZE - 1),
            (4097, 5000, 5000),
            (4095, Buffer::SIZE as u64, Buffer::SIZE - 4095),
            (7, 0, 0),
        ] {
            let mut buffer = Buffer::new(offset, expected);
            assert_eq!(buffer.room().len(), size, "{offset} {expected}");
            let distance = buffer.room().as_ptr() as usize % BLOCK;
            assert_eq!(distance as u64, offset % BLOCK as u64);
            assert!(buffer.is_empty());
            assert_eq!(buffer.put(&vec![7; size + 3]), size);
            assert!(buffer.is_full());
            assert_eq!(buffer.freeze(), vec![7; size]);
        }
    }

    #[test]
    fn little_bytes_do_not_keep_much_memory() {
        for (make, memory) in [
            ("of the heap", Memory::take(Buffer::SIZE, || None)),
            ("a piece", Memory::take(Buffer::SIZE, Piece::take)),
        ] {
            let place = memory.bytes().as_ptr_range();
            let start = memory.start();
            let mut buffer = Buffer {
                memory,
                begin: start,
                end: start,
                most: start + Buffer::SIZE,
            };
            assert_eq!(buffer.put(b"few"), 3);
            let bytes = buffer.freeze();
            assert_eq!(bytes, "few");
            assert!(!place.contains(&bytes.as_ptr()), "{make}");
        }
    }
}
