//! Large pieces of memory, two to each huge page of the kernel's where it has some.
//!
//! Of each page that a device is written from, the kernel looks up where it is and holds on to it
//! meanwhile; of a huge one it does so once. And memory that was given back to the kernel is gone,
//! while the heap would keep much of what many pushes needed at once.

use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::{Advice, MmapMut, MmapRaw};

/// How many pieces are kept while nobody uses them.
const KEPT: usize = 4;

/// Of those the mappings, and where in them they begin.
static FREE: Mutex<Vec<(Arc<MmapRaw>, usize)>> = Mutex::new(Vec::new());

/// A piece of memory. It is kept for who needs one next when it is dropped, if few are; the kernel has
/// it back when that one is not used either which it shares a huge page with.
#[derive(Debug)]
pub(super) struct Piece {
    mapping: Arc<MmapRaw>,
    /// Where it begins in the mapping, in bytes. No other piece begins there.
    start: usize,
}

impl Piece {
    /// How many bytes it has: half of a huge page on most machines.
    pub(super) const SIZE: usize = 1 << 20;

    /// One of those that are kept, if any is.
    pub(super) fn kept() -> Option<Self> {
        let (mapping, start) = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
        Some(Self { mapping, start })
    }

    /// A piece, which is in memory as a whole from its first byte on; `None` where the kernel has none.
    pub(super) fn take() -> Option<Self> {
        if let Some(piece) = Self::kept() {
            return Some(piece);
        }
        let mapping = MmapMut::map_anon(2 * Self::SIZE).ok()?;
        // Where the kernel has no huge pages, small ones do.
        let _ = mapping.advise(Advice::HugePage);
        let mapping = Arc::new(MmapRaw::from(mapping));
        keep(Arc::clone(&mapping), Self::SIZE);
        Some(Self { mapping, start: 0 })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has two pieces, this is one, and it lasts as long as `self`. Its
        // memory was zeroed by the kernel. What is written goes through `bytes_mut`, and as no
        // other piece begins here, the borrow of `self` keeps that out.
        unsafe { slice::from_raw_parts(self.mapping.as_ptr().add(self.start), Self::SIZE) }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above; and the mapping may be written to.
        unsafe { slice::from_raw_parts_mut(self.mapping.as_mut_ptr().add(self.start), Self::SIZE) }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        keep(Arc::clone(&self.mapping), self.start);
    }
}

/// Keeps a piece that nobody has, unless enough are kept.
fn keep(mapping: Arc<MmapRaw>, start: usize) {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    if free.len() < KEPT {
        free.push((mapping, start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_few_are_kept() {
        let mut pieces: Vec<_> = (0..4 * KEPT).map(|_| Piece::take().unwrap()).collect();
        for (piece, mark) in pieces.iter_mut().zip(1..) {
            piece.bytes_mut().fill(mark);
        }
        for (piece, mark) in pieces.iter().zip(1..) {
            assert_eq!(piece.bytes().len(), Piece::SIZE);
            assert!(piece.bytes().iter().all(|byte| *byte == mark));
        }
        drop(pieces);
        assert!(FREE.lock().unwrap().len() <= KEPT);
    }
}
