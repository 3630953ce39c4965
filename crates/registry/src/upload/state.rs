//! What an upload leaves in the store so that any node can go on with it: when it was begun, and
//! the state of its hashes at the offset up to which its bytes are durable.

use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tracing::{debug, warn};
use wharfinger_oci::{Algorithm, Hasher};
use wharfinger_storage::{StoragePath, WriteMode};

use super::sink::IN_MEMORY;
use super::{Told, UploadId};
use crate::link::{LinkedBlobs, ignore_absent};
use crate::{Error, Result, layout};

/// RFC 3339 in UTC with whole seconds, as Distribution writes it.
pub(super) fn format_started_at(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// When an upload was begun.
///
/// # Errors
/// [`Error::UploadUnknown`] when there is no such upload, or its record is damaged.
pub(super) async fn started_at(links: &LinkedBlobs, id: &UploadId) -> Result<Timestamp> {
    let path = layout::upload_started_at(&links.name, id);
    let content = match links.shared.driver.get(&path).await {
        Err(error) if error.is_not_found() => return Err(Error::UploadUnknown(id.to_string())),
        content => content?,
    };
    let parsed = std::str::from_utf8(&content)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| {
        // The machine may tear the record of an upload that has not received anything.
        warn!(%path, "the record of an upload holds no time: the upload is taken for unknown");
        Error::UploadUnknown(id.to_string())
    })
}

/// When an upload was begun, and what the store has of it.
pub(super) struct Begun {
    pub(super) at: Timestamp,
    pub(super) found: Found,
}

/// What the store has of an upload.
pub(super) enum Found {
    /// A record, and what goes with it.
    Recorded,
    /// All its bytes, in a file of their own.
    Small(Bytes),
    /// Nothing: it was only opened.
    Nothing,
}

/// When an upload was begun, by the store or by what its client was `told`, and what there is of it.
///
/// # Errors
/// [`Error::UploadUnknown`] when nobody knows it, or it has ended.
pub(super) async fn begun(links: &LinkedBlobs, id: &UploadId, told: Option<Told>) -> Result<Begun> {
    let found_small = |at, bytes| Begun {
        at,
        found: Found::Small(bytes),
    };
    let offset = told.map_or(0, |told| told.offset);
    let is_little = (1..=IN_MEMORY as u64).contains(&offset);
    // Of one that had received little the small file is looked for first.
    if is_little
        && let Some(told) = told
        && let Some(bytes) = small(links, id).await?
    {
        return Ok(found_small(told.started_at, bytes));
    }
    let small = async {
        match offset {
            0 => small(links, id).await,
            _ => Ok(None),
        }
    };
    let (recorded, small) = futures_util::future::join(started_at(links, id), small).await;
    let unknown = match recorded {
        Err(unknown @ Error::UploadUnknown(_)) => unknown,
        at => {
            let found = Found::Recorded;
            return Ok(Begun { at: at?, found });
        }
    };
    if let Some(bytes) = small? {
        let at = match told {
            Some(told) => told.started_at,
            None => {
                let changed = changed_at(links, &layout::small_upload(&links.name, id)).await?;
                changed.unwrap_or_else(Timestamp::now)
            }
        };
        return Ok(found_small(at, bytes));
    }
    match told {
        Some(told) if told.offset == 0 && !links.shared.ended_uploads.has(id) => Ok(Begun {
            at: told.started_at,
            found: Found::Nothing,
        }),
        _ => Err(unknown),
    }
}

/// The bytes of an upload that has received little.
async fn small(links: &LinkedBlobs, id: &UploadId) -> Result<Option<Bytes>> {
    let path = layout::small_upload(&links.name, id);
    match links.shared.driver.get(&path).await {
        Err(error) if error.is_not_found() => Ok(None),
        bytes => Ok(Some(bytes?)),
    }
}

/// When a file or folder was last changed, where the store tells.
///
/// # Errors
/// When there is none, or the store fails.
pub(super) async fn changed_at(
    links: &LinkedBlobs,
    path: &StoragePath,
) -> Result<Option<Timestamp>> {
    let stat = links.shared.driver.stat(path).await?;
    Ok(stat
        .modified
        .and_then(|modified| Timestamp::try_from(modified).ok()))
}

/// The offset to go on at, as far as can be told without hashing anything.
pub(super) async fn offset(links: &LinkedBlobs, id: &UploadId) -> Result<u64> {
    let size = size(links, id).await?.unwrap_or(0);
    let offsets = offsets(links, id, Algorithm::CANONICAL).await?;
    let durable = offsets.into_iter().filter(|offset| *offset <= size).max();
    match durable {
        Some(durable) => Ok(durable),
        None => {
            let small = small(links, id).await?;
            Ok(small.map_or(size, |bytes| bytes.len() as u64))
        }
    }
}

/// How many bytes of an upload are in the store, or that there is no file.
async fn size(links: &LinkedBlobs, id: &UploadId) -> Result<Option<u64>> {
    let data = layout::upload_data(&links.name, id);
    match links.shared.driver.stat(&data).await {
        Err(error) if error.is_not_found() => Ok(None),
        stat => Ok(Some(stat?.size)),
    }
}

/// What there is of an upload.
pub(super) struct Restored {
    /// The offset to go on at.
    pub(super) offset: u64,
    /// Hashers that have taken up all before it.
    pub(super) hashers: Vec<Hasher>,
    /// Whether there is a file with its bytes, even if there are none.
    pub(super) has_file: bool,
    /// Whether the file ends at the offset, and all before survives the machine.
    pub(super) is_settled: bool,
    /// All before the offset, where that is little and in a file of its own.
    pub(super) small: Option<Bytes>,
}

impl Restored {
    /// An upload without a byte.
    pub(super) fn nothing(algorithm: Algorithm) -> Self {
        Self {
            offset: 0,
            hashers: hashers(algorithm),
            has_file: false,
            is_settled: false,
            small: None,
        }
    }

    /// All its bytes, which survive the machine.
    pub(super) fn small(bytes: Bytes, algorithm: Algorithm) -> Self {
        let mut restored = Self::nothing(algorithm);
        restored.offset = bytes.len() as u64;
        let hashers = restored.hashers.iter_mut();
        hashers.for_each(|hasher| hasher.update(&bytes));
        restored.small = Some(bytes);
        restored
    }
}

/// The offset to go on at, and hashers that have taken up all before it.
///
/// A saved state is trusted, and bytes behind it were never acknowledged. Where there is none, or
/// none can be read, all that is there is hashed again. A state of `algorithm`, where that is
/// another than the canonical one, is looked for too.
pub(super) async fn restore(
    links: &LinkedBlobs,
    id: &UploadId,
    algorithm: Algorithm,
) -> Result<Restored> {
    let size = size(links, id).await?;
    let has_file = size.is_some();
    let size = size.unwrap_or(0);
    let restored = |offset, hashers, has_state| Restored {
        offset,
        hashers,
        has_file,
        is_settled: has_state && offset == size,
        small: None,
    };
    let other = (algorithm != Algorithm::CANONICAL).then_some(algorithm);
    let mut offsets = match size {
        0 => Vec::new(),
        _ => offsets(links, id, Algorithm::CANONICAL).await?,
    };
    offsets.retain(|offset| *offset <= size);
    offsets.sort_unstable();
    while let Some(offset) = offsets.pop() {
        match load(links, id, Algorithm::CANONICAL, offset).await {
            Ok(canonical) => {
                let mut hashers = vec![canonical];
                if let Some(other) = other
                    && let Ok(other) = load(links, id, other, offset).await
                {
                    hashers.push(other);
                }
                return Ok(restored(offset, hashers, true));
            }
            // It may be as good as any: what lies behind it must not be taken for received.
            Err(Error::Storage(error)) if !error.is_not_found() => return Err(error.into()),
            Err(error) => warn!(upload = %id, offset, %error, "a hash state cannot be used"),
        }
    }
    if let Some(bytes) = small(links, id).await? {
        // Another request was cut off while it put more into a file.
        return Ok(Restored {
            has_file,
            ..Restored::small(bytes, algorithm)
        });
    }
    if size == 0 {
        return Ok(Restored {
            has_file,
            ..Restored::nothing(algorithm)
        });
    }
    debug!(upload = %id, size, "no hash state: hashing what is there");
    let mut hasher = Hasher::new(Algorithm::CANONICAL);
    let data = layout::upload_data(&links.name, id);
    // A store with parts has to put them together before they can be read.
    let driver = &links.shared.driver;
    let writer = driver.writer(&data, WriteMode::Append { at: size }).await?;
    writer.commit().await?;
    let mut reader = driver.reader(&data, 0).await?;
    let mut offset = 0;
    while let Some(bytes) = reader.next().await {
        let bytes = bytes?;
        offset += bytes.len() as u64;
        hasher = spawn_blocking(move || {
            hasher.update(&bytes);
            hasher
        })
        .await
        .map_err(|_| Error::UploadInvalid("hashing it was interrupted".to_owned()))?;
    }
    Ok(restored(offset, vec![hasher], false))
}

/// Hashers that have not taken up anything, the canonical algorithm's first.
pub(super) fn hashers(algorithm: Algorithm) -> Vec<Hasher> {
    let mut hashers = vec![Hasher::new(Algorithm::CANONICAL)];
    if algorithm != Algorithm::CANONICAL {
        hashers.push(Hasher::new(algorithm));
    }
    hashers
}

async fn offsets(links: &LinkedBlobs, id: &UploadId, algorithm: Algorithm) -> Result<Vec<u64>> {
    let folder = layout::hash_states(&links.name, id, algorithm);
    match links.shared.driver.list(&folder, None, None).await {
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        entries => Ok(entries?
            .iter()
            .filter_map(|entry| entry.name.parse().ok())
            .collect()),
    }
}

async fn load(
    links: &LinkedBlobs,
    id: &UploadId,
    algorithm: Algorithm,
    offset: u64,
) -> Result<Hasher> {
    let path = layout::hash_state(&links.name, id, algorithm, offset);
    let saved = links.shared.driver.get(&path).await?;
    let damaged = |reason: String| Error::Damaged {
        path: path.clone(),
        reason,
    };
    let hasher = Hasher::restore(algorithm, &saved).map_err(|error| damaged(error.to_string()))?;
    if hasher.length() == offset {
        Ok(hasher)
    } else {
        Err(damaged(format!(
            "it is the state after {} bytes",
            hasher.length()
        )))
    }
}

/// The files that keep the state of the hashes after `offset` bytes.
pub(super) fn files(
    links: &LinkedBlobs,
    id: &UploadId,
    offset: u64,
    hashers: &[Hasher],
) -> Vec<(StoragePath, Bytes)> {
    let file = |hasher: &Hasher| {
        let path = layout::hash_state(&links.name, id, hasher.algorithm(), offset);
        (path, Bytes::from(hasher.save()))
    };
    hashers.iter().map(file).collect()
}

/// Removes the state of an offset that a later one has replaced.
pub(super) async fn forget(links: &LinkedBlobs, id: &UploadId, offset: u64) {
    for algorithm in Algorithm::ALL {
        let path = layout::hash_state(&links.name, id, algorithm, offset);
        if let Err(error) = ignore_absent(links.shared.driver.delete(&path).await) {
            debug!(upload = %id, offset, %error, "an old hash state stays until the upload ends");
        }
    }
}
