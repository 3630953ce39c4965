//! Files whose bytes the kernel sends by itself (sendfile(2)), so that they are not copied through
//! this process.
//!
//! hyper takes bytes, and nothing else. So it is given a part of a file as the memory that the file
//! is mapped to. Nobody reads that memory: the connection knows its addresses again, and has the
//! kernel send the part of the file instead. Should it not know how, the kernel copies from there,
//! which fails in an orderly way even where the file has become shorter.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Mappings begin at multiples of this, in bytes: no architecture has larger pages.
const LARGEST_PAGE: u64 = 64 * 1024;

/// A part of a file that is mapped.
#[derive(Debug)]
struct Mapping {
    file: Arc<File>,
    /// Where in the file it begins.
    start: u64,
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is never written to, and stays where it is until this is dropped, whichever
// thread does that.
unsafe impl Send for Mapping {}
// SAFETY: as above; all that is shared is read-only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// # Errors
    /// What the operating system says: not every filesystem can do it, and there is a bound on how
    /// many there may be.
    fn new(file: Arc<File>, start: u64, length: usize) -> io::Result<Self> {
        let (protection, flags) = (ProtFlags::READ, MapFlags::SHARED);
        // SAFETY: the kernel chooses the place, so nothing that is there is mapped over.
        let address = unsafe { mmap(ptr::null_mut(), length, protection, flags, &file, start)? };
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self {
            file,
            start,
            address,
            length,
        })
    }

    /// Where in the file a slice of this mapping lies.
    fn position(&self, slice: &[u8]) -> Option<u64> {
        let distance = (slice.as_ptr() as usize).checked_sub(self.address.as_ptr() as usize)?;
        let fits = distance < self.length && slice.len() <= self.length - distance;
        (fits && !slice.is_empty()).then_some(self.start + distance as u64)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new` at this address and with this length, and all slices of it
        // borrow from an owner of this.
        let unmapped = unsafe { munmap(self.address.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

/// Who keeps a mapping while bytes of it are on their way.
struct Owner(Arc<Mapping>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        let mapping = &*self.0;
        // SAFETY: the memory is mapped, readable, for as long as `self` lives. Files of the store are
        // never written to once they are served, and this memory is only passed to the kernel.
        unsafe { slice::from_raw_parts(mapping.address.as_ptr(), mapping.length) }
    }
}

/// What a connection has to know of the files that are mapped for its answers. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mappings(Arc<Mutex<Vec<Weak<Mapping>>>>);

/// A part of a file that is to be sent.
#[derive(Debug)]
pub(crate) struct FilePart {
    pub(crate) file: Arc<File>,
    pub(crate) start: u64,
    pub(crate) length: usize,
}

impl Mappings {
    /// A part of a file as bytes that must go to this connection and nowhere else. The part must
    /// not be empty.
    ///
    /// # Errors
    /// What the operating system says; the file must be read otherwise then.
    pub(crate) fn map(&self, file: &Arc<File>, part: Range<u64>) -> io::Result<Bytes> {
        let start = part.start - part.start % LARGEST_PAGE;
        let length = usize::try_from(part.end - start).map_err(io::Error::other)?;
        let mapping = Arc::new(Mapping::new(Arc::clone(file), start, length)?);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|mapping| mapping.strong_count() > 0);
        known.push(Arc::downgrade(&mapping));
        drop(known);
        let mut bytes = Bytes::from_owner(Owner(mapping));
        // Less than the largest page.
        Ok(bytes.split_off((part.start - start) as usize))
    }

    /// The first of the slices that is a part of a file, and how many there are before it.
    pub(crate) fn find(&self, slices: &[IoSlice<'_>]) -> Option<(usize, FilePart)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let part = |slice: &IoSlice<'_>| {
            known.iter().find_map(|mapping| {
                let mapping = mapping.upgrade()?;
                Some(FilePart {
                    start: mapping.position(slice)?,
                    file: Arc::clone(&mapping.file),
                    length: slice.len(),
                })
            })
        };
        let mut slices = slices.iter().enumerate();
        slices.find_map(|(before, slice)| Some((before, part(slice)?)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn parts_of_files_are_known_by_their_addresses() {
        let content: Vec<u8> = (0..100_000u32).map(|at| (at % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&content).unwrap();
        let file = Arc::new(file);
        let mappings = Mappings::default();
        let first = mappings.map(&file, 10_000..90_000).unwrap();
        let second = mappings.map(&file, 0..5).unwrap();
        assert_eq!(first, content[10_000..90_000]);
        assert_eq!(second, content[..5]);

        let other = content[..7].to_vec();
        let slices = [&other, &first[50_000..], &second[..]].map(IoSlice::new);
        let (before, part) = mappings.find(&slices).unwrap();
        assert_eq!((before, part.start, part.length), (1, 60_000, 30_000));
        let (before, part) = mappings.find(&slices[2..]).unwrap();
        assert_eq!((before, part.start, part.length), (0, 0, 5));
        assert!(mappings.find(&slices[..1]).is_none());

        drop((first, second));
        let gone = mappings.map(&file, 0..1).map(drop);
        assert!(gone.is_ok());
        assert_eq!(
            mappings.0.lock().unwrap().len(),
            1,
            "what is gone is forgotten"
        );
    }
}
