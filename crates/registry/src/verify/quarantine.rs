//! Putting damaged blobs aside, so that nobody gets them and the next push brings them back.
//!
//! A blob that others replace meanwhile must not be put aside for what was there before. So it is
//! taken out of its place by a rename, read once more, and put back if it turns out to be whole; a
//! crash in between leaves it among the suspects, which are looked at again. Object stores have no
//! rename that would take out just what it copies, so there nobody else may write.

use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex as Lock, PoisonError};

use jiff::Timestamp;
use tokio::sync::Mutex;
use tracing::{error, warn};
use wharfinger_oci::{Algorithm, Digest};

use super::check::{Checked, check};
use crate::link::ignore_absent;
use crate::pace::Pace;
use crate::repository::Shared;
use crate::{Error, Result, layout};

/// What became of a blob that was thought to be damaged.
#[derive(Debug)]
pub(super) enum Quarantined {
    /// It was put aside.
    Done,
    /// It is whole, or not there any more.
    NotDamaged,
    /// It stays, and why.
    Left(&'static str),
}

/// Blobs that were found damaged while they were served.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    known: Lock<HashSet<Digest>>,
    /// Held by whoever looks at one of them: it may be large, and others are served.
    looking: Mutex<()>,
}

impl Suspects {
    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a blob looked at by a task of its own, and put aside when it is damaged.
pub(crate) fn suspect(shared: &Arc<Shared>, canonical: &Digest) {
    if !shared.suspects.known().insert(*canonical) {
        return;
    }
    shared.verified.damaged.fetch_add(1, Relaxed);
    let (shared, canonical) = (Arc::clone(shared), *canonical);
    tokio::spawn(async move {
        let looking = shared.suspects.looking.lock().await;
        let path = layout::blob_data(&canonical);
        match quarantine(&shared, &canonical, false).await {
            Ok(Quarantined::Left(why)) => warn!(%path, why, "a damaged blob stays"),
            Err(error) => warn!(%path, %error, "a damaged blob cannot be put aside"),
            Ok(Quarantined::Done | Quarantined::NotDamaged) => {}
        }
        drop(looking);
        shared.suspects.known().remove(&canonical);
    });
}

/// Puts a blob aside if it is damaged.
///
/// # Errors
/// [`Error::ReadOnly`], and that the store failed.
pub(super) async fn quarantine(
    shared: &Arc<Shared>,
    digest: &Digest,
    is_alone: bool,
) -> Result<Quarantined> {
    let _writing = shared.writing()?;
    let driver = &*shared.driver;
    if driver.has_only_objects() && !is_alone {
        return Ok(Quarantined::Left(
            "others may write to the bucket; when nobody does, verify --repair --stopped puts it \
             aside",
        ));
    }
    // Nobody of this process writes it meanwhile.
    let _publishing = shared.publishing.exclusive(digest).await;
    let data = layout::blob_data(digest);
    let reason = match looked_at(shared, digest, &data).await? {
        Checked::Damaged(reason) => reason,
        Checked::Whole(_) | Checked::Missing => return Ok(Quarantined::NotDamaged),
    };
    let suspect = layout::suspect(digest);
    match driver.rename(&data, &suspect).await {
        Err(error) if error.is_not_found() => return Ok(Quarantined::NotDamaged),
        Err(wharfinger_storage::Error::WrongKind { .. }) => {
            return Ok(Quarantined::Left("it is a folder; remove it by hand"));
        }
        renamed => renamed?,
    }
    let done = settle(shared, digest).await?;
    if let Quarantined::Done = done {
        driver.remove_empty(&layout::blob(digest)).await?;
        shared.verified.quarantined.fetch_add(1, Relaxed);
        error!(path = %data, reason, "a damaged blob was put aside; the next push brings it back");
    }
    Ok(done)
}

/// Decides about the suspects that a crash has left behind.
///
/// # Errors
/// [`Error::ReadOnly`], and that the store failed.
pub(super) async fn settle_suspects(shared: &Arc<Shared>) -> Result<()> {
    let driver = &*shared.driver;
    let entries = match driver.list(&layout::suspects(), None, None).await {
        Err(error) if error.is_not_found() => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let Ok(digest) = Digest::from_hex(Algorithm::CANONICAL, &entry.name) else {
            continue;
        };
        let _writing = shared.writing()?;
        let _publishing = shared.publishing.exclusive(&digest).await;
        settle(shared, &digest).await?;
    }
    Ok(())
}

/// Puts a suspect back where it was if it is whole, else aside for good.
async fn settle(shared: &Shared, digest: &Digest) -> Result<Quarantined> {
    let suspect = layout::suspect(digest);
    let (to, done) = match looked_at(shared, digest, &suspect).await? {
        Checked::Whole(_) => (layout::blob_data(digest), Quarantined::NotDamaged),
        Checked::Damaged(_) => {
            let when = Timestamp::now().as_microsecond().to_string();
            (layout::quarantined(digest, &when), Quarantined::Done)
        }
        Checked::Missing => return Ok(Quarantined::NotDamaged),
    };
    // Another node may have decided about it.
    ignore_absent(shared.driver.rename(&suspect, &to).await)?;
    shared.blobs.content().remove(digest);
    if let Some(descriptors) = &shared.descriptors {
        // Whichever repositories grant access to it.
        descriptors.clear_all();
    }
    Ok(done)
}

async fn looked_at(
    shared: &Shared,
    digest: &Digest,
    path: &wharfinger_storage::StoragePath,
) -> Result<Checked, Error> {
    check(&*shared.driver, path, digest, &Pace::new(None), |_| ()).await
}
