//! What the last collection has counted, by which the next one guesses how long it takes.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wharfinger_storage::{Driver, Durability};

use crate::{Result, layout};

/// What a collection has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Last {
    pub(super) manifests: u64,
}

/// What the last one has counted; `None` where there was none, or it cannot be told, for which no
/// collection should fail.
pub(super) async fn read(driver: &dyn Driver) -> Option<Last> {
    let content = driver.get(&layout::gc_last()).await.ok()?;
    serde_json::from_slice(&content).ok()
}

pub(super) async fn write(driver: &dyn Driver, last: Last) -> Result<()> {
    let content = serde_json::to_vec(&last).expect("it has nothing that JSON has not");
    let path = layout::gc_last();
    Ok(driver
        .put(&path, Bytes::from(content), Durability::Process)
        .await?)
}
