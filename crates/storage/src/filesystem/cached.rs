//! Reading what is in memory already, without a thread that may block.
//!
//! Most small reads, of links above all, are of files that were read a moment ago. To hand those
//! to another thread costs more than the reading. Linux can be asked to open a file and to read
//! from it only if it need not wait; whatever it cannot answer so goes the usual way.

#[cfg(target_os = "linux")]
use std::io::IoSliceMut;

use bytes::Bytes;

use super::store::Store;
use crate::StoragePath;

/// The largest file that is read so, in bytes: more would keep other requests waiting.
#[cfg(target_os = "linux")]
const MAX: usize = 4096;

/// A small file's content, when its name and its bytes are in the kernel's memory. `None` says
/// nothing about the file.
#[cfg(target_os = "linux")]
pub(super) fn get(store: &Store, path: &StoragePath) -> Option<Bytes> {
    use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
    use rustix::io::{ReadWriteFlags, preadv2};

    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::CACHED;
    let file = openat2(CWD, store.full(path), flags, Mode::empty(), resolve).ok()?;
    let stat = fstat(&file).ok()?;
    let size = usize::try_from(stat.st_size).ok()?;
    if size > MAX || FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    // One byte more, which stays empty unless the file has grown.
    let mut content = vec![0; size + 1];
    let mut buffers = [IoSliceMut::new(&mut content)];
    let read = preadv2(&file, &mut buffers, 0, ReadWriteFlags::NOWAIT).ok()?;
    if read != size {
        return None;
    }
    content.truncate(size);
    Some(content.into())
}

/// Elsewhere nobody can be asked.
#[cfg(not(target_os = "linux"))]
pub(super) fn get(_store: &Store, _path: &StoragePath) -> Option<Bytes> {
    None
}
