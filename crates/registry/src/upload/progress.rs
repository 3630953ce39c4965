//! How far uploads have got, as clients are told and bring back.

use jiff::Timestamp;

use super::state::{self, Found};
use super::{PATIENCE, UploadId};
use crate::Result;
use crate::link::LinkedBlobs;

/// How far an upload has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The upload's name.
    pub id: UploadId,
    /// How many bytes have been received.
    pub offset: u64,
    /// When the upload was begun.
    pub started_at: Timestamp,
}

/// What the client of an upload was told of it, and brings back: the store itself may know less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// How many bytes had been received, and are durable.
    pub offset: u64,
    /// When the upload was begun.
    pub started_at: Timestamp,
}

impl Progress {
    /// What its client is told.
    pub fn told(&self) -> Told {
        Told {
            offset: self.offset,
            started_at: self.started_at,
        }
    }

    pub(crate) async fn of(links: &LinkedBlobs, id: &UploadId, told: Option<Told>) -> Result<Self> {
        // A request whose client has just vanished keeps what it received: that should count.
        let working = links.shared.uploads.exclusive(id);
        let _held = tokio::time::timeout(PATIENCE, working).await;
        let begun = state::begun(links, id, told).await?;
        let offset = match begun.found {
            Found::Recorded => state::offset(links, id).await?,
            Found::Small(bytes) => bytes.len() as u64,
            Found::Nothing => 0,
        };
        Ok(Self {
            id: id.clone(),
            started_at: begun.at,
            offset,
        })
    }
}
