//! How long ago something was, whatever the machine did meanwhile.

use std::time::{Duration, Instant, SystemTime};

/// A moment by two clocks: the one that never goes back may stand still while a machine sleeps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self {
            steady: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// Whether less time has passed since, by either clock.
    pub(super) fn is_within(&self, time: Duration) -> bool {
        // A wall clock that was set back says nothing.
        let wall = self.wall.elapsed().unwrap_or_default();
        self.steady.elapsed() < time && wall < time
    }

    /// Whether it is not before another one.
    pub(super) fn is_since(&self, other: &Self) -> bool {
        self.steady >= other.steady
    }
}
