//! Whether a file has the digest under which it lies.

use std::io;

use futures_util::StreamExt;
use wharfinger_oci::{Digest, Hasher};
use wharfinger_storage::{Driver, Error as StorageError, StoragePath};

use crate::Result;
use crate::pace::Pace;

/// What `read(2)` says of a disk that cannot read a sector any more.
const EIO: i32 = 5;

/// What a file was found to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It has the digest, and so many bytes.
    Whole(u64),
    /// It has not, or its bytes cannot be had.
    Damaged(String),
    /// There is none.
    Missing,
}

/// Reads a file, which should have this digest; `told` hears of the bytes as they come.
///
/// # Errors
/// That the store failed.
pub(super) async fn check(
    driver: &dyn Driver,
    path: &StoragePath,
    digest: &Digest,
    pace: &Pace,
    told: impl Fn(u64),
) -> Result<Checked> {
    let mut reader = match driver.reader(path, 0).await {
        Err(StorageError::NotFound { .. }) => return Ok(Checked::Missing),
        Err(StorageError::WrongKind { .. }) => {
            let reason = "a folder lies where a blob's bytes belong";
            return Ok(Checked::Damaged(reason.to_owned()));
        }
        Err(error) => return unreadable(error),
        Ok(reader) => reader,
    };
    let mut hasher = Hasher::new(digest.algorithm());
    let mut size = 0;
    while let Some(bytes) = reader.next().await {
        let bytes = match bytes {
            Err(error) => return unreadable(error),
            Ok(bytes) => bytes,
        };
        pace.steps(bytes.len() as u64).await;
        size += bytes.len() as u64;
        hasher.update(&bytes);
        told(bytes.len() as u64);
    }
    Ok(match hasher.finish() == *digest {
        true => Checked::Whole(size),
        false => Checked::Damaged(format!("its {size} bytes have another digest")),
    })
}

/// A disk that lost a file's bytes has damaged it; whatever else fails says nothing about the file.
fn unreadable(error: StorageError) -> Result<Checked> {
    match &error {
        StorageError::Io { source, .. } if is_lost(source) => {
            Ok(Checked::Damaged(format!("it cannot be read: {source}")))
        }
        _ => Err(error.into()),
    }
}

/// Whether a file is there whose bytes are lost.
pub(super) fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}
