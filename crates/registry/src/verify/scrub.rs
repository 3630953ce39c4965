//! Reading all blobs in the background, again and again.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// When blobs are read in the background (`storage.maintenance.scrub`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubSchedule {
    /// The time between the end of reading all of them and the next beginning, on whichever node.
    pub interval: Duration,
    /// How many bytes are read in a second at the most.
    pub rate: Option<u64>,
}

/// What verifications of this process have come to.
#[derive(Debug, Default)]
pub(crate) struct VerifyCounts {
    /// How many blobs were put aside.
    pub(crate) quarantined: AtomicU64,
}
